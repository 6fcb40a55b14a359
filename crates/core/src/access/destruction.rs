//! What may be known of what was destroyed, and what takes its place.

use super::{Access, Resource};
use crate::decide::Refusal;
use crate::facts::{Facts, Of};
use crate::id::{KeyId, KeyVersion};
use crate::record::{DestructionRecord, KeyRecord, KeyVersionRecord};

/// What is under the id of an object that comes back.
pub(crate) enum Under {
    /// Nothing.
    Nothing,
    /// The empty record of one that was destroyed young: it gives way.
    Remains,
    /// An object, which may be on its way out.
    Object(Of<KeyRecord>),
}

impl<F: Facts> Access<'_, F> {
    /// The destruction of that object, or of that version of it, if the caller may know of it. The object need not be there any
    /// more: what is known of whose it was is in the record.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NamespaceNotFound`]; [`Refusal::NotDestroyed`], to who may do it in the caller's namespace.
    pub fn destruction(&mut self, id: KeyId, version: Option<KeyVersion>) -> Result<Of<DestructionRecord>, F::Error> {
        self.within()?;
        match self.facts.get::<DestructionRecord>((id, version))? {
            Some(found) => {
                self.judge(Resource::Namespace(found.namespace))?;
                self.granted.namespace = true;
                Ok(found)
            }
            None => self.refuse(Refusal::NotDestroyed(id, version)),
        }
    }

    /// What is under that id; what remains there of an object of the namespace that was granted as a home may be written over.
    pub(crate) fn under(&mut self, id: KeyId) -> Result<Under, F::Error> {
        Ok(match self.facts.get::<KeyRecord>(id)? {
            None => Under::Nothing,
            Some(left) if left.is_emptied() => {
                if self.granted.home == Some(left.namespace) {
                    self.granted.add(id);
                }
                Under::Remains
            }
            Some(object) => Under::Object(object),
        })
    }

    /// Whether that object, or that version of it with its material, is here.
    ///
    /// # Errors
    /// When storage fails or the record can't be opened.
    pub fn is_here(&mut self, id: KeyId, version: Option<KeyVersion>) -> Result<bool, F::Error> {
        let lives = self.live(id)?.is_some();
        match version {
            Some(version) if lives => {
                Ok(self.facts.get::<KeyVersionRecord>((id, version))?.is_some_and(|head| head.has_material))
            }
            _ => Ok(lives),
        }
    }
}
