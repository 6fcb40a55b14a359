//! The seams for simulation that more than one crate needs; made in one place, the binary's `World` (key-log §7).

use std::time::Duration;

use crate::id::{KeyId, Namespace};
use crate::name::Class;
use crate::principal::Principal;
use crate::request::Token;

/// Where random bytes come from. Production: the operating system by way of aws-lc's DRBG.
pub trait Entropy: Send + Sync {
    /// Fills `out` with bytes nobody can predict.
    fn fill(&self, out: &mut [u8]);
}

/// The machine's idea of the time. Rules use cluster time; this feeds it, and shows dates to people.
pub trait WallClock: Send + Sync {
    /// Milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> u64;
}

/// A clock that nobody sets and no suspension stops. It carries other clocks forward, and tells how old an answer is.
pub trait BootClock: Send + Sync {
    /// Time since some fixed point, counting while the process is stopped and while the machine sleeps.
    fn now(&self) -> Duration;
}

/// Where the ids of new keys come from (key-model §1.2).
pub trait NewIds {
    /// An id of that time (display time, ms since 1970) for an object of that class and namespace, which nobody can predict.
    fn fresh(&self, namespace: Namespace, class: Class, time_ms: u64) -> KeyId;
    /// The id of the `n`th key that a principal's token makes in that namespace: always the same, so that a retry finds the key itself.
    fn of_token(&self, by: &Principal, namespace: Namespace, token: Token, n: u32) -> KeyId;
}
