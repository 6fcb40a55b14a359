//! A call, as every door hands it over.

use std::sync::Arc;
use std::time::Duration;

use quorate_core::access::Caller;
use quorate_core::action::Action;
use tokio::time::Instant;

use crate::error::Reason;

/// Who asks, and until when they wait for the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Who, from where, through which door.
    pub caller: Caller,
    /// When the caller has gone.
    pub deadline: Instant,
}

/// How long a caller waits who does not say (design §6).
const WAIT_DEFAULT: Duration = Duration::from_secs(10);
/// However long the caller is ready to wait, nothing is kept waiting longer.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Time left for the answer's way back, so that the caller hears what went wrong instead of giving up without a word.
const MARGIN_MAX: Duration = Duration::from_millis(200);

/// When work has to end for a caller who waits so long, as he said in his protocol's words, or did not.
pub fn deadline(wait: Option<Duration>) -> Instant {
    let wait = wait.unwrap_or(WAIT_DEFAULT).min(WAIT_MAX);
    Instant::now() + wait - (wait / 10).min(MARGIN_MAX)
}

/// Hears of each call that came to the desk, once, when it is answered; knows no protocol. (What is no request of its protocol,
/// or comes while the node is sealed, comes to no desk.)
pub trait Meter: Send + Sync {
    /// What was done, how it ended, and how long it took.
    fn answered(&self, action: Action, ended: Result<(), Reason>, took: Duration);
}

/// Nobody counts.
impl Meter for () {
    fn answered(&self, _: Action, _: Result<(), Reason>, _: Duration) {}
}

/// The meter of a node.
pub type Metered = Arc<dyn Meter>;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_said_is_ten_seconds_and_nobody_waits_for_ever() {
        let waits = |wait| deadline(wait).duration_since(Instant::now());
        assert_eq!(waits(None), WAIT_DEFAULT - MARGIN_MAX);
        assert_eq!(waits(Some(Duration::from_secs(9 * 3600))), WAIT_MAX - MARGIN_MAX);
        assert_eq!(waits(Some(Duration::from_millis(100))), Duration::from_millis(90), "a tenth, where that is little");
        assert_eq!(waits(Some(Duration::ZERO)), Duration::ZERO);
    }
}
