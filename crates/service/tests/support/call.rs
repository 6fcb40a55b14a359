//! A call, as a door would hand it over.

use quorate_core::access::{Caller, Door};
use quorate_core::principal::Principal;
use quorate_service::Call;
use tokio::time::Instant;

/// By somebody who waits so long.
pub fn call(who: &Principal, deadline: Instant) -> Call {
    Call { caller: Caller { principal: who.clone(), source: None, door: Door::Native }, deadline }
}
