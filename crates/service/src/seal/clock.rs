//! Cluster time in a cluster too small to witness it: an operator vouches for the leader's clock (key-log §1.7).

use quorate_core::authorize::{ManageCluster, authorize};
use quorate_core::principal::Principal;

use crate::error::Error;
use crate::node::Node;

impl Node {
    /// Lets cluster time follow this node's clock, after a jump that no majority of clocks could witness. Answers where
    /// it goes on from, milliseconds since 1970.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::WrongState`] when nothing waits for confirmation at this node.
    pub fn confirm_time(&self, caller: &Principal) -> Result<u64, Error> {
        authorize::<ManageCluster>(caller)?;
        let state = self.current();
        let replica = state.replica().ok_or(Error::Uninitialized)?;
        let held_ms = replica.status().time_held_ms.ok_or_else(|| {
            Error::WrongState(
                "no jump of the clock waits for confirmation at this node; the leader of one or two voters asks for it, \
                 and `quorate operator status` says so"
                    .into(),
            )
        })?;
        replica.confirm_time();
        tracing::warn!(by = %caller, time_ms = held_ms, "an operator vouched for this node's clock");
        Ok(held_ms)
    }
}
