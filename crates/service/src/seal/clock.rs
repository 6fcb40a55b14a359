//! An operator vouches for the time, where too few clocks witness it, or where cluster time is wrong (trust.md §6).

use quorate_core::authorize::{ManageCluster, authorize};
use quorate_core::decide::{Change, Write};
use quorate_core::facts::Facts;
use quorate_core::principal::Principal;
use quorate_core::record::{Record, SealRecord};
use quorate_core::record_key::RecordKey;
use quorate_core::time::{ConfirmedTime, utc};
use quorate_replica::OUTRUN_MAX_MS;
use tokio::time::Instant;

use crate::error::Error;
use crate::node::Node;
use crate::records::{Done, EngineFacts, Secrets};

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
        let decide = |facts: &mut EngineFacts<'_>| {
            let time_ms = opened.records.replica.reference_ms().ok_or_else(|| {
                Error::Unavailable("the clocks of no majority of voters are known to this node".into())
            })?;
            if time_ms.abs_diff(operator_ms) > OUTRUN_MAX_MS {
                return Err(Error::InvalidArgument(format!(
                    "the nodes' clocks say {}, and yours {}: find out which is wrong, and set it right (chrony, ntpd)",
                    utc(time_ms),
                    utc(operator_ms)
                )));
            }
            if time_ms.abs_diff(facts.view().cluster_time_ms()) <= OUTRUN_MAX_MS {
                return Err(Error::WrongState(
                    "cluster time is within a minute of the nodes' clocks: there is nothing to confirm".into(),
                ));
            }
            let key = RecordKey::clock();
            facts.get::<SealRecord>(key.clone())?;
            let value = ConfirmedTime { time_ms, by: caller.to_string() }.encode();
            Ok(Change { writes: vec![Write::Update(Record::Seal(SealRecord { key, value }))], answer: time_ms })
        };
        let Done { index, answer: time_ms } = opened.records.change(deadline, Secrets::default(), decide).await?;
        tracing::warn!(by = %caller, time_ms, index, "an operator confirmed the time: cluster time goes on from there");
        Ok(time_ms)
    }
}
