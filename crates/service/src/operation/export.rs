//! Export the material of a key.

use std::sync::Arc;

use quorate_core::access::{Access, Touch, Usable};
use quorate_core::action::Action;
use quorate_core::decide::export;
use quorate_core::facts::Of;
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::key_spec::{KeySpec, Usage};
use quorate_core::record::KeyVersionRecord;
use quorate_core::request::KeyHandle;
use quorate_crypto::SecretBytes;
use quorate_crypto::material::Material;

use super::wrap::only_key_wrap;
use super::{By, Used, failed};
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Gives out the material of a version of `key`: wrapped under another key, or as it is.
///
/// Refused: the key was not created for that; it is not found, or in a state in which it is not exported; the wrapping key is not
/// for that, or not by that algorithm, or is in a state in which it protects nothing; material that can't be wrapped so.
pub struct Export {
    /// The key.
    pub key: KeyHandle,
    /// The version; none = the current one.
    pub version: Option<KeyVersion>,
    /// What wraps it; none = nothing does.
    pub wrap: Option<By>,
}

/// Material that leaves; wiped when dropped.
pub struct Exported {
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
    /// Of what kind it is.
    pub spec: KeySpec,
    /// A symmetric or MAC key's bytes, or PKCS#8; these, or what they are wrapped as.
    pub material: SecretBytes,
    /// What wrapped it.
    pub wrapped_by: Option<Used>,
    /// Whether nobody has noted yet that it leaves.
    pub(crate) is_first: bool,
}

impl Use for Export {
    type Facts = (Of<KeyVersionRecord>, Arc<Material>, Touch, Option<Usable<Arc<Material>>>);
    type Answer = Exported;

    fn action(&self) -> Action {
        export(self.wrap.is_some())
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        let (head, material, touch) = at.exports(&self.key, self.version, self.wrap.is_some())?;
        let by = self.wrap.as_ref();
        let wrapping = by.map(|by| at.acting(Action::Wrap).usable(&by.key, by.want(Usage::Wrap))).transpose()?;
        Ok((head, material, touch, wrapping))
    }

    fn act(&self, (head, material, _, wrapping): Self::Facts, tools: &Tools) -> Result<Exported, Error> {
        let mut material = material.export();
        if let Some(by) = &wrapping {
            only_key_wrap(by.algorithm)?;
            let wrapped = by.material.wrap(by.algorithm, &material, &*tools.entropy).map_err(failed)?;
            material = SecretBytes::new(wrapped);
        }
        Ok(Exported {
            key: head.key,
            version: head.version,
            spec: head.spec,
            material,
            wrapped_by: wrapping.as_ref().map(Used::of),
            is_first: head.first_exported_ms == 0,
        })
    }
}
