//! Export: whether a key's material may leave, and the note that it has, which is there before it goes.

use super::version::changed;
use super::{Change, Decide, Refusal, version};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::id::{KeyId, KeyVersion};
use crate::lifecycle::Row;
use crate::record::{Exportable, KeyRecord, KeyVersionRecord, Origin};
use crate::request::KeyHandle;
use crate::seam::NewIds;

/// Whether a key's material may leave so.
///
/// # Errors
/// [`Refusal::NotExportable`], [`Refusal::WrappedOnly`], [`Refusal::PublicAlone`].
pub fn may_leave(key: &KeyRecord, wrapped: bool) -> Result<(), Refusal> {
    match key.exportable {
        Exportable::No if key.origin == Origin::Public => Err(Refusal::PublicAlone(key.id)),
        Exportable::No => Err(Refusal::NotExportable(key.id)),
        Exportable::Wrapped if !wrapped => Err(Refusal::WrappedOnly(key.id)),
        Exportable::Wrapped | Exportable::Plain => Ok(()),
    }
}

/// The right that an export takes.
pub const fn export(wrapped: bool) -> Action {
    if wrapped { Action::ExportWrapped } else { Action::ExportPlain }
}

/// Notes that the material of a version leaves, if nobody has before: from then on copies may live on.
///
/// Refused: as the export itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkExported {
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
    /// Whether it leaves wrapped.
    pub wrapped: bool,
}

impl Decide for MarkExported {
    type Answer = ();

    fn action(&self) -> Action {
        export(self.wrapped)
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<()>, F::Error> {
        let key = at.key(&KeyHandle::Id(self.key))?;
        may_leave(&key, self.wrapped)?;
        let mut head = KeyVersionRecord::clone(&*version(at, Row::Export, &key, Some(self.version))?);
        if head.first_exported_ms != 0 {
            return Ok(Change::none(()));
        }
        head.first_exported_ms = at.time().stamp_ms();
        Ok(Change { writes: changed(&key, head, at.time(), true).writes, answer: () })
    }
}
