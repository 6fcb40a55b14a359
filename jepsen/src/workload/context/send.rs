//! How each call is put to a node, and what its answer means.

use bytes::Bytes;
use quorate_client::v1::*;
use quorate_client::{Client, ClientError};

use super::{Context, FOREIGN_SHARE, PARAMETERS_TIME_MAX, PROOF_LEN, REMOVAL_TIME_MAX, Text};
use crate::history::{Answer, Call, Flaw, Form, State};
use crate::workload::material::{Learned, Wrapping};

impl Context {
    pub(super) async fn send(
        &self,
        client: &Client,
        key: &str,
        call: &Call,
    ) -> Result<(Answer, Option<String>), ClientError> {
        let of_key = || KeyRequest { key: key.to_owned() };
        let key_answer = |response: KeyResponse| {
            let key = response.key.unwrap_or_default();
            (Answer::Key { state: state_of(&key), version: key.current_version }, Some(key.key_id))
        };
        let done = (Answer::Done, None);
        let of_version = |version: &u32| VersionRequest { key: key.to_owned(), version: *version };
        match call {
            Call::Create { token, form } => {
                let leaves = matches!(form, Form::External | Form::Exportable);
                let request = CreateKeyRequest {
                    description: format!("{}{token}", Self::name_canary(self.seed)),
                    token: self.token(*token),
                    purge_protected: *form == Form::PurgeProtected,
                    origin: if *form == Form::External { "external" } else { "" }.into(),
                    exportable: if leaves { "plain" } else { "" }.into(),
                    ..Default::default()
                };
                client.create_key(request).await.map(key_answer)
            }
            Call::Describe => client.describe_key(of_key()).await.map(key_answer),
            Call::Inspect => client.describe_key(of_key()).await.map(|response| {
                let id = response.key.as_ref().map(|key| key.key_id.clone());
                (self.metadata(response.key.unwrap_or_default()), id)
            }),
            Call::Enable => client.enable_key(of_key()).await.map(key_answer),
            Call::Disable => client.disable_key(of_key()).await.map(key_answer),
            Call::Cancel | Call::Recover => client
                .cancel_key_deletion(CancelKeyDeletionRequest { key: of_key().key, as_before: *call == Call::Recover })
                .await
                .map(key_answer),
            Call::Purge => client.purge_key(of_key()).await.map(|_| done),
            Call::BackUp => {
                let made = client.backup_key(of_key()).await?;
                self.kept().backups.entry((key.to_owned(), made.versions)).or_insert(made.backup);
                Ok((Answer::Made { version: made.versions }, None))
            }
            Call::Restore { version } => {
                let backup = self.kept().backups.get(&(key.to_owned(), *version)).cloned().unwrap_or_default();
                client.restore_key(RestoreKeyRequest { backup, ..Default::default() }).await.map(key_answer)
            }
            Call::CreateNamed { name, token } => {
                let (name, token) = (self.object_name(*name), self.token(*token));
                client.create_key(CreateKeyRequest { name, token, ..Default::default() }).await.map(key_answer)
            }
            Call::DescribeNamed { name } => client.describe_key(self.named(*name)).await.map(key_answer),
            Call::ScheduleNamed { name } => {
                let key = self.named(*name).key;
                let request = ScheduleKeyDeletionRequest { key, days: 7, ..Default::default() };
                client.schedule_key_deletion(request).await.map(key_answer)
            }
            Call::PurgeNamed { name } => {
                client.purge_key(self.named(*name)).await.map(|purged| (Answer::Done, Some(purged.key_id)))
            }
            Call::SetSecret { secret, value } => {
                let (name, value) = (self.object_name(*secret), self.secret_value(*value));
                let set = client.set_secret(SetSecretRequest { name, value, ..Default::default() }).await?;
                Ok((Answer::Made { version: set.secret.unwrap_or_default().current_version }, None))
            }
            Call::GetSecret { secret, version } => {
                let request = GetSecretRequest { name: self.object_name(*secret), version: *version };
                let read = client.get_secret(request).await?;
                let (value, version) = (self.value_number(&read.value), read.version.unwrap_or_default().version);
                Ok((Answer::Value { value, version }, None))
            }
            Call::DeleteSecret { secret } => {
                let request = DeleteSecretRequest { name: self.object_name(*secret), days: 7, ..Default::default() };
                client.delete_secret(request).await.map(|_| done)
            }
            Call::RecoverSecret { secret } => {
                client.recover_secret(SecretRequest { name: self.object_name(*secret) }).await.map(|_| done)
            }
            Call::PurgeSecret { secret } => {
                client.purge_secret(SecretRequest { name: self.object_name(*secret) }).await.map(|_| done)
            }
            Call::Schedule => {
                let request = ScheduleKeyDeletionRequest { key: key.to_owned(), days: 7, ..Default::default() };
                client.schedule_key_deletion(request).await.map(key_answer)
            }
            Call::ScheduleSoon { seconds } => {
                let request =
                    ScheduleKeyDeletionRequest { key: key.to_owned(), dev_seconds: *seconds, ..Default::default() };
                let key = client.schedule_key_deletion(request).await?.key.unwrap_or_default();
                Ok((Answer::Due { at: key.deletion_ms, version: key.current_version }, None))
            }
            Call::Rotate => {
                client.rotate_key(RotateKeyRequest { key: key.to_owned(), ..Default::default() }).await.map(key_answer)
            }
            Call::ListVersions => {
                let request = ListVersionsRequest { key: key.to_owned(), ..Default::default() };
                let mut versions = client.list_versions(request).await?.versions;
                versions.reverse();
                let ends = versions.iter().map(|version| version.material_expires_ms).max().unwrap_or(0);
                Ok((Answer::Versions { states: versions.iter().map(letter).collect(), ends }, None))
            }
            Call::Compromise { version } => {
                let request =
                    RevokeVersionRequest { key: key.to_owned(), version: *version, compromised: true, since_ms: 0 };
                client.revoke_version(request).await.map(|_| done)
            }
            Call::DestroyVersion { version } => client.destroy_version(of_version(version)).await.map(|_| done),
            Call::ImportParameters => {
                let request = GetImportParametersRequest { key: key.to_owned(), wrapping_spec: "rsa-2048".into() };
                let told = client.with_deadline(PARAMETERS_TIME_MAX).get_import_parameters(request).await?;
                let wrapping = Wrapping { public: told.wrapping_key, token: told.token };
                self.kept().wrappings.insert(key.to_owned(), wrapping);
                Ok(done)
            }
            Call::Import { material, seconds } => {
                let wrapping = self.kept().wrappings.get(key).cloned().unwrap_or_default();
                let request = wrapping.request(key, &Learned::imported(self.seed, *material), *seconds);
                let version = client.import_material(request).await?.version.unwrap_or_default();
                Ok((Answer::Material { material: *material, ends: version.material_expires_ms }, None))
            }
            Call::DeleteMaterial => client.delete_material(of_version(&0)).await.map(|_| done),
            Call::Export => {
                let request = ExportKeyRequest { key: key.to_owned(), ..Default::default() };
                let told = client.export_key(request).await?;
                let number = || self.number();
                let material = self.kept().learned.number(self.seed, &told.material, number);
                Ok((Answer::Material { material, ends: 0 }, None))
            }
            Call::Encrypt { text } => self.encrypt(client, key.to_owned(), 0, *text).await,
            Call::EncryptBy { text, version } => self.encrypt(client, key.to_owned(), *version, *text).await,
            Call::EncryptAlias { alias, text } => self.encrypt(client, self.alias(*alias), 0, *text).await,
            Call::ReEncrypt { from, text, .. } => {
                let before = self.kept().texts.get(from).cloned();
                let (ciphertext, plaintext) = before.map(|text| (text.ciphertext, text.plaintext)).unwrap_or_default();
                let request = ReEncryptRequest { ciphertext, to: key.to_owned(), ..Default::default() };
                let made = client.re_encrypt(request).await?;
                Ok(self.keep(*text, made.key_id, made.key_version, made.ciphertext, plaintext))
            }
            Call::DataKey { text, plain } => {
                let request =
                    GenerateDataKeyRequest { key: key.to_owned(), without_plaintext: !plain, ..Default::default() };
                let made = client.generate_data_key(request).await?;
                let plaintext = plain.then_some(made.plaintext);
                if let Some(plaintext) = &plaintext {
                    self.kept().learned.data_key(plaintext);
                }
                Ok(self.keep(*text, made.key_id, made.key_version, made.ciphertext, plaintext))
            }
            Call::CreateAlias { alias } => {
                let request = CreateAliasRequest { name: self.alias(*alias), key: key.to_owned() };
                client.create_alias(request).await.map(|_| done)
            }
            Call::DeleteAlias { alias } => {
                let request = DeleteAliasRequest { name: self.alias(*alias) };
                client.delete_alias(request).await.map(|_| done)
            }
            Call::DescribeAlias { alias } => {
                client.describe_key(KeyRequest { key: self.alias(*alias) }).await.map(key_answer)
            }
            Call::Decrypt { text } | Call::DecryptBy { text, .. } => {
                let ciphertext = self.kept().texts.get(text).map(|t| t.ciphertext.clone()).unwrap_or_default();
                let opened = client.decrypt(DecryptRequest { ciphertext, ..Default::default() }).await?;
                let exact = self.is_plaintext(*text, &opened.plaintext) && opened.key_id == key;
                Ok((Answer::Decrypted { version: opened.key_version, exact }, None))
            }
            Call::Seal => client.seal(SealRequest { cluster: false }).await.map(|_| done),
            Call::Remove { member } => {
                let request = RemoveMemberRequest { name: format!("n{member}") };
                let patient = client.with_deadline(REMOVAL_TIME_MAX);
                patient.remove_member(request).await.map(|_| done)
            }
            Call::EnterShare { share, flaw: Some(flaw) } => self.enter_flawed(client, *share, *flaw).await,
            // What people do by hand: it does not come here.
            Call::Unseal | Call::Replace | Call::EnterShare { flaw: None, .. } => Ok(done),
        }
    }

    /// The key that has that name for life.
    fn named(&self, number: u64) -> KeyRequest {
        KeyRequest { key: format!("key/{}", self.object_name(number)) }
    }

    fn metadata(&self, key: Key) -> Answer {
        let token = key.description.strip_prefix(&Self::name_canary(self.seed)).and_then(|token| token.parse().ok());
        Answer::Metadata {
            state: state_of(&key),
            version: key.current_version,
            token: token.unwrap_or(0),
            created: key.created_ms,
            rotated: key.rotated_ms,
        }
    }

    /// What the command would not send: a share that is not right.
    async fn enter_flawed(
        &self,
        client: &Client,
        share: u32,
        flaw: Flaw,
    ) -> Result<(Answer, Option<String>), ClientError> {
        let mut text = self.operator.share(share as usize).unwrap_or_default().trim().to_owned();
        let mut nonce = client.share_challenge(ShareChallengeRequest {}).await?.nonce;
        match flaw {
            Flaw::Mistyped => {
                let last = text.pop();
                text.push(if last == Some('q') { 'p' } else { 'q' });
            }
            Flaw::Unproven => {}
            Flaw::Foreign => text = FOREIGN_SHARE.to_owned(),
            Flaw::Unchallenged => nonce = Bytes::from(vec![share as u8; nonce.len()]),
        }
        let request = SubmitShareRequest { share: text, nonce, proof: Bytes::from(vec![share as u8; PROOF_LEN]) };
        let complete = client.submit_share(request).await?.ceremony.is_none();
        Ok((Answer::Share { complete }, None))
    }

    /// By id or by alias; the ciphertext is kept under the id of the key that the answer names.
    async fn encrypt(
        &self,
        client: &Client,
        key: String,
        version: u32,
        text: u64,
    ) -> Result<(Answer, Option<String>), ClientError> {
        let plaintext = self.plaintext(text);
        let request = EncryptRequest { key, version, plaintext: plaintext.clone(), ..Default::default() };
        let made = client.encrypt(request).await?;
        Ok(self.keep(text, made.key_id, made.key_version, made.ciphertext, Some(plaintext)))
    }

    fn keep(
        &self,
        number: u64,
        key: String,
        version: u32,
        ciphertext: Bytes,
        plaintext: Option<Bytes>,
    ) -> (Answer, Option<String>) {
        let kept = Text { number, key: key.clone(), version, ciphertext, plaintext };
        self.kept().texts.insert(number, kept);
        (Answer::Encrypted { version }, Some(key))
    }

    /// Whether a text is that; what nobody was told yet is what it is the first time.
    fn is_plaintext(&self, text: u64, opened: &Bytes) -> bool {
        let kept = &mut *self.kept();
        let Some(text) = kept.texts.get_mut(&text) else { return false };
        let known = text.plaintext.get_or_insert_with(|| {
            kept.learned.data_key(opened);
            opened.clone()
        });
        known == opened
    }
}

/// As in [`Answer::Versions`].
fn letter(version: &Version) -> char {
    match version.state() {
        VersionState::Destroyed => 'x',
        VersionState::DestroyedCompromised => 'X',
        _ if !version.has_material => '-',
        VersionState::Compromised => 'c',
        VersionState::Deactivated => 'd',
        VersionState::Active => 'a',
        VersionState::PreActive | VersionState::Unspecified => '?',
    }
}

fn state_of(key: &Key) -> State {
    match key.state() {
        KeyState::Enabled => State::Enabled,
        KeyState::PendingDeletion => State::PendingDeletion,
        KeyState::Disabled | KeyState::Unspecified => State::Disabled,
    }
}
