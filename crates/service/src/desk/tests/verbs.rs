//! The verbs as tests say them: who asks, for what; each is one request to the desk.

use quorate_core::decide::{
    CancelDeletion, Create, CreateAlias, CreateMany, DeleteAlias, Disable, Enable, Rotate, ScheduleDeletion,
};
use quorate_core::name::Class;
use quorate_core::principal::Principal;
use quorate_core::request::{AliasName, DeletionWindow, EncryptionContext, KeyFilter, KeyHandle, PageLen};
use quorate_core::views::{AliasView, KeyView};
use tokio::time::Instant;

use crate::desk::{Kms, Page};
use crate::error::Error;
use crate::operation::*;
use crate::seal::support::call;

type Answer<T> = Result<T, Error>;

impl Kms {
    pub(crate) async fn create_key(&self, who: &Principal, wanted: &Create, until: Instant) -> Answer<KeyView> {
        self.commit(&call(who, until), wanted).await
    }
    pub(crate) async fn create_keys(
        &self,
        who: &Principal,
        wanted: &CreateMany,
        until: Instant,
    ) -> Answer<Vec<KeyView>> {
        self.create_many(&call(who, until), wanted).await
    }
    pub(crate) async fn describe_key(&self, who: &Principal, key: &KeyHandle, until: Instant) -> Answer<KeyView> {
        self.perform(&call(who, until), Describe { key: key.clone() }).await
    }
    pub(crate) async fn list_keys(
        &self,
        who: &Principal,
        len: PageLen,
        token: &[u8],
        until: Instant,
    ) -> Answer<Page<KeyView>> {
        self.page(
            &call(who, until),
            ListObjects { class: Class::Key, len, filter: KeyFilter::any(), token: token.to_vec().into() },
        )
        .await
    }
    pub(crate) async fn list_aliases(
        &self,
        who: &Principal,
        len: PageLen,
        token: &[u8],
        until: Instant,
    ) -> Answer<Page<AliasView>> {
        self.page(&call(who, until), ListAliases { len, token: token.to_vec().into() }).await
    }
    pub(crate) async fn enable_key(&self, who: &Principal, key: &KeyHandle, until: Instant) -> Answer<KeyView> {
        self.commit(&call(who, until), &Enable { key: key.clone() }).await
    }
    pub(crate) async fn disable_key(&self, who: &Principal, key: &KeyHandle, until: Instant) -> Answer<KeyView> {
        self.commit(&call(who, until), &Disable { key: key.clone() }).await
    }
    pub(crate) async fn rotate_key(&self, who: &Principal, wanted: &Rotate, until: Instant) -> Answer<KeyView> {
        self.commit(&call(who, until), wanted).await
    }
    pub(crate) async fn schedule_key_deletion(
        &self,
        who: &Principal,
        key: &KeyHandle,
        window: DeletionWindow,
        until: Instant,
    ) -> Answer<KeyView> {
        self.commit(&call(who, until), &ScheduleDeletion { key: key.clone(), window }).await
    }
    pub(crate) async fn cancel_key_deletion(
        &self,
        who: &Principal,
        key: &KeyHandle,
        until: Instant,
    ) -> Answer<KeyView> {
        self.commit(&call(who, until), &CancelDeletion { key: key.clone(), as_before: false }).await
    }
    pub(crate) async fn create_alias(
        &self,
        who: &Principal,
        name: &AliasName,
        key: &KeyHandle,
        until: Instant,
    ) -> Answer<AliasView> {
        self.commit(&call(who, until), &CreateAlias { name: name.clone(), key: key.clone() }).await
    }
    pub(crate) async fn delete_alias(&self, who: &Principal, name: &AliasName, until: Instant) -> Answer<()> {
        self.commit(&call(who, until), &DeleteAlias { name: name.clone() }).await
    }
    pub(crate) async fn encrypt(
        &self,
        who: &Principal,
        key: &KeyHandle,
        plaintext: &[u8],
        context: &EncryptionContext,
        until: Instant,
    ) -> Answer<Ciphertext> {
        let bound = Binding { context: context.clone(), ..Binding::default() };
        let wanted = Encrypt { by: By::key(key.clone()), plaintext: plaintext.to_vec().into(), bound };
        self.perform(&call(who, until), wanted).await
    }
    pub(crate) async fn decrypt(
        &self,
        who: &Principal,
        ciphertext: &[u8],
        context: &EncryptionContext,
        key: Option<&KeyHandle>,
        until: Instant,
    ) -> Answer<Plaintext> {
        let bound = Binding { context: context.clone(), ..Binding::default() };
        let keys = key.cloned().into_iter().collect();
        let wanted = Decrypt::new(Given { ciphertext: ciphertext.to_vec().into(), bound, keys, ..Given::default() })?;
        self.perform(&call(who, until), wanted).await
    }
    pub(crate) async fn generate_data_key(
        &self,
        who: &Principal,
        key: &KeyHandle,
        len: u32,
        context: &EncryptionContext,
        with_plaintext: bool,
        until: Instant,
    ) -> Answer<DataKey> {
        let wanted = GenerateDataKey { key: key.clone(), len, context: context.clone(), with_plaintext };
        self.perform(&call(who, until), wanted).await
    }
    pub(crate) async fn generate_random(
        &self,
        who: &Principal,
        len: u32,
        until: Instant,
    ) -> Answer<quorate_crypto::SecretBytes> {
        self.perform(&call(who, until), GenerateRandom { len }).await
    }
}
