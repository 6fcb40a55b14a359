//! An operator vouches for the time, where too few clocks witness it, or where cluster time is wrong (trust.md §6).

use quorate_core::authorize::{ManageCluster, authorize};
use quorate_core::principal::Principal;
use quorate_core::record_key::RecordKey;
use quorate_core::time::{ConfirmedTime, utc};
use quorate_replica::OUTRUN_MAX_MS;
use tokio::time::Instant;

use super::ledger::{Change, unreadable};
use crate::error::Error;
use crate::node::Node;

impl Node {
    /// Sets cluster time, back too, to what the clocks say: a majority's median, or in a cluster of one or two voters this
    /// node's own clock. `operator_ms`, the clock that the operator goes by, must agree with it to a minute. Answers where
    /// cluster time goes on from; all in milliseconds since 1970.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::Sealed`] on a sealed node; [`Error::InvalidArgument`] when the operator's clock is another;
    /// [`Error::WrongState`] when cluster time is right; what getting a batch through can end in.
    pub async fn confirm_time(&self, caller: &Principal, operator_ms: u64, deadline: Instant) -> Result<u64, Error> {
        authorize::<ManageCluster>(caller)?;
        let opened = self.opened()?;
        let decide = |view: &quorate_replica::View| {
            let time_ms = opened.ledger.replica.reference_ms().ok_or_else(|| {
                Error::Unavailable("the clocks of no majority of voters are known to this node".into())
            })?;
            if time_ms.abs_diff(operator_ms) > OUTRUN_MAX_MS {
                return Err(Error::InvalidArgument(format!(
                    "the nodes' clocks say {}, and yours {}: find out which is wrong, and set it right (chrony, ntpd)",
                    utc(time_ms),
                    utc(operator_ms)
                )));
            }
            if time_ms.abs_diff(view.cluster_time_ms()) <= OUTRUN_MAX_MS {
                return Err(Error::WrongState(
                    "cluster time is within a minute of the nodes' clocks: there is nothing to confirm".into(),
                ));
            }
            let key = RecordKey::clock();
            let rev = view.get(&key).map_err(unreadable)?.map_or(0, |(rev, _)| rev);
            let value = ConfirmedTime { time_ms, by: caller.to_string() }.encode();
            Ok((vec![Change::PutSeal { key, value, rev }], time_ms))
        };
        let (index, time_ms) = opened.ledger.commit(deadline, decide).await?;
        tracing::warn!(by = %caller, time_ms, index, "an operator confirmed the time: cluster time goes on from there");
        Ok(time_ms)
    }
}
