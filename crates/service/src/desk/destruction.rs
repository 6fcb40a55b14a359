//! What was destroyed: read on a view of now, also once the object itself is long gone.

use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::evidence::Listed;
use quorate_core::facts::Basis;
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::record::{DestructionRecord, RecordName};
use quorate_replica::View;

use super::Kms;
use crate::call::Call;
use crate::error::Error;

/// What this node knows of a destruction, at one index.
pub(crate) struct Destroyed {
    pub(crate) record: DestructionRecord,
    /// The entry that wrote that: the newest one that took something away.
    pub(crate) destroyed_at: u64,
    /// The index.
    pub(crate) applied: u64,
    /// Display time, ms since 1970.
    pub(crate) now_ms: u64,
    /// Whether it is here again, from a backup.
    pub(crate) is_here: bool,
    pub(crate) members: Vec<Listed>,
}

impl Kms {
    /// Tells of the destruction of an object, or of a version of it.
    ///
    /// # Errors
    /// [`Error::Denied`]; none is known; [`Error::Sealed`], [`Error::Unavailable`] and [`Error::Damaged`].
    pub(crate) async fn destruction(
        &self,
        call: &Call,
        key: KeyId,
        version: Option<KeyVersion>,
    ) -> Result<Destroyed, Error> {
        self.metered(call, Action::ProveDestruction, self.read_destruction(call, key, version)).await
    }

    async fn read_destruction(&self, call: &Call, key: KeyId, version: Option<KeyVersion>) -> Result<Destroyed, Error> {
        let view = self.records.fresh_view(call.deadline).await?;
        let mut facts = self.records.facts(&view)?;
        let mut at = Access::admit(&mut facts, &*self.policies, &call.caller, Action::ProveDestruction)?;
        let record = DestructionRecord::clone(&*at.destruction(key, version)?);
        let is_here = at.is_here(key, version)?;
        let (destroyed_at, _) = facts.at(&RecordName::Destruction((key, version)))?;
        let (applied, now_ms, members) = (view.applied(), facts.time().stamp_ms(), listed(&view));
        Ok(Destroyed { record, destroyed_at, applied, now_ms, is_here, members })
    }
}

fn listed(view: &View) -> Vec<Listed> {
    let membership = view.membership();
    let members = membership.members.iter();
    // Nobody is a member under a name that is none.
    let listed = members.filter_map(|(id, member)| {
        Some(Listed { id: *id, name: member.name.parse().ok()?, voter: membership.is_voter(*id) })
    });
    listed.collect()
}
