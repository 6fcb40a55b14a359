//! When a key was used last, and how often: what the nodes have written down, and what this one has not yet.

use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::id::KeyId;
use quorate_core::record::Tally;
use quorate_core::request::KeyHandle;

use super::Kms;
use crate::call::Call;
use crate::error::Error;

/// What is known of a key's uses. Nodes write it down within a minute after an hour of rest, else once an hour; what they have
/// not written when they stop is lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastUse {
    /// The key.
    pub key: KeyId,
    /// Whether uses are noted now.
    pub tracked: bool,
    /// Those that were noted; none = none were.
    pub tally: Option<Tally>,
}

impl Kms {
    /// Tells when `key` was used last, and how often.
    ///
    /// # Errors
    /// [`Error::Denied`]; the key is not found; [`Error::Sealed`], [`Error::Unavailable`] and [`Error::Damaged`].
    pub async fn last_use(&self, call: &Call, key: &KeyHandle) -> Result<LastUse, Error> {
        self.metered(call, Action::LastUse, self.read_uses(call, key)).await
    }

    async fn read_uses(&self, call: &Call, key: &KeyHandle) -> Result<LastUse, Error> {
        let view = self.records.fresh_view(call.deadline).await?;
        let mut facts = self.records.facts(&view)?;
        let key = Access::admit(&mut facts, &*self.policies, &call.caller, Action::LastUse)?.key(key)?;
        let written = facts.uses(key.id)?.into_iter().map(|record| record.tally);
        let tally = written.chain(self.uses.pending(key.id)).reduce(Tally::and);
        Ok(LastUse { key: key.id, tracked: key.tracked, tally })
    }
}
