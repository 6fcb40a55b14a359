//! What is to go wrong: one line in a file, read at every call.
//!
//! ```text
//! none | device-error | session-invalid | delay MILLISECONDS | hang | wrong
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is done to the calls that use the token's keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Nothing.
    None,
    /// They fail with CKR_DEVICE_ERROR.
    DeviceError,
    /// They fail with CKR_SESSION_HANDLE_INVALID.
    SessionInvalid,
    /// They take so much longer.
    Delay(Duration),
    /// They do not return for as long as the order stands.
    Hang,
    /// What they return has one bit wrong.
    Wrong,
}

impl Order {
    /// Reads it; what can't be read orders nothing.
    pub fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().map(str::parse)) {
            (Some("device-error"), None) => Self::DeviceError,
            (Some("session-invalid"), None) => Self::SessionInvalid,
            (Some("delay"), Some(Ok(ms))) => Self::Delay(Duration::from_millis(ms)),
            (Some("hang"), None) => Self::Hang,
            (Some("wrong"), None) => Self::Wrong,
            _ => Self::None,
        }
    }

    /// As it is written.
    pub fn words(self) -> String {
        match self {
            Self::None => "none".into(),
            Self::DeviceError => "device-error".into(),
            Self::SessionInvalid => "session-invalid".into(),
            Self::Delay(time) => format!("delay {}", time.as_millis()),
            Self::Hang => "hang".into(),
            Self::Wrong => "wrong".into(),
        }
    }
}

/// The file beside the orders that gets a line for each call to which something was done.
pub fn account(orders: &Path) -> PathBuf {
    orders.with_extension("done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        use Order::*;
        for order in [None, DeviceError, SessionInvalid, Delay(Duration::from_millis(70)), Hang, Wrong] {
            assert_eq!(Order::parse(&order.words()), order);
        }
        for nonsense in ["", "delay", "delay x", "wrong answer", "explode"] {
            assert_eq!(Order::parse(nonsense), None, "{nonsense:?}");
        }
    }
}
