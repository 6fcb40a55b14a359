//! What is counted of a use, before it is done: its facts tell by which versions it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_core::access::{Touch, Usable, WholeKey};
use quorate_core::decide::{Refusal, TokenFor, lease};
use quorate_core::facts::Of;
use quorate_core::record::{CredentialRecord, KeyRecord, KeyVersionRecord};
use quorate_core::views::{KeyView, NamespaceView, SecretView};
use quorate_crypto::material::Material;

use super::Kms;
use crate::call::Call;
use crate::error::Error;
use crate::operation::Versions;

/// The facts of a use: they tell which versions of keys it has in its hands.
pub trait Gathered: Send + 'static {
    /// Tells of each.
    fn touches(&self, _: &mut dyn FnMut(Touch)) {}

    /// Lets go of what `why` refuses.
    ///
    /// # Errors
    /// The refusal, where nothing is left.
    fn refuse(&mut self, why: &dyn Fn(Touch) -> Option<Refusal>) -> Result<(), Error> {
        let mut refused = None;
        self.touches(&mut |touch| refused = refused.take().or_else(|| why(touch)));
        refused.map_or(Ok(()), |refusal| Err(refusal.into()))
    }
}

// These have no material.
impl Gathered for () {}
impl Gathered for KeyView {}
impl Gathered for SecretView {}
impl Gathered for NamespaceView {}
impl Gathered for Option<CredentialRecord> {}
impl Gathered for Versions {}
impl Gathered for TokenFor {}
impl Gathered for Of<KeyVersionRecord> {}
impl Gathered for (Of<KeyRecord>, Of<KeyVersionRecord>) {}
// A backup has all of a key's material, and uses none of it.
impl Gathered for WholeKey<Arc<Material>> {}

impl Gathered for Usable<Arc<Material>> {
    fn touches(&self, each: &mut dyn FnMut(Touch)) {
        each(self.touch());
    }
}

// That a secret is read is not noted.
impl Gathered for (SecretView, Arc<Material>) {}

impl Gathered for (Usable<Arc<Material>>, Usable<Arc<Material>>) {
    fn touches(&self, each: &mut dyn FnMut(Touch)) {
        each(self.0.touch());
        each(self.1.touch());
    }
}

impl Gathered for (Of<KeyVersionRecord>, Arc<Material>, Touch, Option<Usable<Arc<Material>>>) {
    fn touches(&self, each: &mut dyn FnMut(Touch)) {
        each(self.2);
        if let Some(wrapping) = &self.3 {
            each(wrapping.touch());
        }
    }
}

impl<F: Gathered> Gathered for Vec<Result<F, Error>> {
    fn touches(&self, each: &mut dyn FnMut(Touch)) {
        self.iter().flatten().for_each(|part| part.touches(each));
    }

    fn refuse(&mut self, why: &dyn Fn(Touch) -> Option<Refusal>) -> Result<(), Error> {
        for part in self.iter_mut() {
            if let Err(refused) = part.as_mut().map_or(Ok(()), |facts| facts.refuse(why)) {
                *part = Err(refused);
            }
        }
        match self.iter().all(Result::is_err).then(|| self.remove(0)) {
            Some(Err(first)) => Err(first),
            _ => Ok(()),
        }
    }
}

fn limit(touch: Touch) -> lease::Of {
    lease::Of { key: touch.key, version: touch.version, material: touch.material }
}

impl Kms {
    /// Counts a use that was granted and is to be done now; what is left of its facts.
    ///
    /// # Errors
    /// [`Refusal::Exhausted`] where a version has not so many uses any more; where this node has to be given more first, those
    /// of every change.
    pub(super) async fn counted<F: Gathered>(&self, call: &Call, mut facts: F) -> Result<F, Error> {
        let mut limited = BTreeMap::new();
        facts.touches(&mut |touch| {
            if touch.is_limited {
                *limited.entry(limit(touch)).or_insert(0) += 1;
            }
        });
        let mut refused = BTreeMap::new();
        for (of, uses) in limited {
            match self.allowances.spend(of, uses, call.deadline).await {
                Ok(()) => {}
                Err(Error::Refused(refusal)) => drop(refused.insert(of, refusal)),
                Err(e) => return Err(e),
            }
        }
        if !refused.is_empty() {
            facts.refuse(&|touch| refused.get(&limit(touch)).filter(|_| touch.is_limited).cloned())?;
        }
        let mut now_ms = None;
        facts.touches(&mut |touch| {
            if touch.tracked {
                let now_ms = *now_ms.get_or_insert_with(|| self.records.now().stamp_ms());
                self.uses.note(touch.key, touch.action, now_ms);
            }
        });
        Ok(facts)
    }
}
