//! Import and export: each a use and a change in one call.

use quorate_core::action::Action;
use quorate_core::decide::{ImportMaterial, MarkExported};
use quorate_core::views::VersionView;
use quorate_crypto::material::Material;

use super::{Kms, Use};
use crate::call::Call;
use crate::error::Error;
use crate::operation::{Export, Exported, Import, ImportParameters, Parameters, TakesMaterial, UnwrapMaterial};
use crate::records::Secrets;

impl Kms {
    /// Makes a wrapping key for material that is to be imported. Nothing is stored: its private half is in the token.
    ///
    /// # Errors
    /// [`Error::Denied`]; a wrapping key of another kind than RSA; the key takes no material.
    pub async fn import_parameters(&self, call: &Call, request: ImportParameters) -> Result<Parameters, Error> {
        self.metered(call, Action::ImportParameters, self.parameters(call, request)).await
    }

    async fn parameters(&self, call: &Call, request: ImportParameters) -> Result<Parameters, Error> {
        request.check()?;
        let wrapping = request.wrapping;
        let asked = TakesMaterial { key: request.key };
        // Judged before what takes long, and again by a round that is fresh after it.
        self.use_facts(call, asked.clone()).await?;
        let entropy = self.records.world.entropy.clone();
        let workers = self.records.workers.of(wrapping.takes_seconds_to_make());
        let made = workers.run(call.deadline, move || Material::fresh(wrapping, &*entropy)).await?;
        let of = self.use_facts(call, asked).await?;
        let keyring = self.records.barrier.keyring()?;
        let token =
            keyring.seal_import_token(self.lineage(), of, wrapping, &made.material, &*self.records.world.entropy);
        let public = made.public.unwrap_or_default();
        Ok(Parameters { key: of.key, wrapping, public, token, expires_ms: of.expires_ms })
    }

    /// Unwraps material and puts it into a key.
    ///
    /// # Errors
    /// [`Error::Denied`]; the token is not for this key, or too old; what does not unwrap, or is no key of that kind, or not the
    /// material that the key had before; those of every change.
    pub async fn import(&self, call: &Call, request: Import) -> Result<VersionView, Error> {
        self.metered(call, Action::ImportMaterial, self.unwrap_and_put(call, request)).await
    }

    async fn unwrap_and_put(&self, call: &Call, request: Import) -> Result<VersionView, Error> {
        let (key, expires_ms) = (request.key.clone(), request.expires_ms);
        let made = self.use_facts(call, UnwrapMaterial::new(request)).await?;
        let (into, token, material_id) = (made.into, made.token, made.material_id);
        let change = ImportMaterial { key, into, token, material_id, expires_ms };
        self.change(call, &change, Secrets::of_keys(std::slice::from_ref(&made.material))).await
    }

    /// Gives out the material of a key, wrapped or as it is.
    ///
    /// # Errors
    /// [`Error::Denied`]; the key is not for that, or in a state in which it is not exported; the wrapping key can't wrap it; the
    /// first time, those of every change.
    pub async fn export(&self, call: &Call, request: Export) -> Result<Exported, Error> {
        self.metered(call, request.action(), self.note_and_export(call, request)).await
    }

    async fn note_and_export(&self, call: &Call, request: Export) -> Result<Exported, Error> {
        let made = self.use_facts(call, request).await?;
        if made.is_first {
            // Before anybody has it, everybody knows.
            let (key, version, wrapped) = (made.key, made.version, made.wrapped_by.is_some());
            self.change(call, &MarkExported { key, version, wrapped }, Secrets::default()).await?;
        }
        Ok(made)
    }
}
