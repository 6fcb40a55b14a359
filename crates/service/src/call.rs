//! A call, as every door hands it over.

use std::sync::Arc;

use quorate_core::access::Caller;
use quorate_core::action::Action;
use tokio::time::{Duration, Instant};

use crate::error::Reason;

/// Who asks, and until when they wait for the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Who, from where, through which door.
    pub caller: Caller,
    /// When the caller has gone.
    pub deadline: Instant,
}

/// Hears of each call once, when it is answered; knows no protocol.
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
