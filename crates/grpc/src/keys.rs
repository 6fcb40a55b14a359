//! The keys door: `quorate.v1.Keys`. It parses, asks the desk, and puts the answer into the protocol's words; it has no
//! rules of its own.

use std::sync::Arc;

use quorate_proto::v1;
use quorate_proto::v1::keys_server::Keys;
use quorate_service::core::decide::{
    Activate, Archive, CancelDeletion, Changes, Create, CreateAlias, CreateMany, DeleteAlias, DeleteMaterial,
    DestroyVersion, Disable, Enable, ImportInto, Purge, Recover, Rekey, Revocation, Revoke, Rotate, RotateTo,
    ScheduleDeletion, SetRotation, Tag, Untag, Update, UpdateVersion,
};
use quorate_service::core::key_spec::{Digest, KeySpec};
use quorate_service::core::name::Class;
use quorate_service::core::request::{DeletionWindow, InvalidRequest, KeyCount, PageLen, Part, RotationPeriod};
use quorate_service::desk::Kms;
use quorate_service::node::Node;
use quorate_service::operation::{
    Agree, BackUp, Binding, Ciphertext, Decapsulate, Decrypt, DeriveKey, Describe, Encapsulate, Encrypt, Export,
    GenerateDataKey, GenerateDataKeyPair, GenerateRandom, GetPublicKey, Given, Import, ImportParameters, Input,
    ListAliases, ListObjects, ListVersions, MakeDigest, MakeMac, Many, Plaintext, ReEncrypt, RestoreKey, Sign,
    Signature, Unwrap, Verified, Verify, VerifyMac, Wrap, echo,
};
use quorate_service::{Call, Error, PublicKey, Signed};
use tonic::{Request, Response, Status};

use crate::caller::Callers;
use crate::deadline::deadline;
use crate::status::status;
use crate::words::{
    alias, by, context, exported, filter, key, key_response, keys, kind, last_use, next_page, number, object_id,
    optional, parameters, parse, public, released, source, tags, token, usage, used, version_response, version_state,
    versions_response,
};

/// The keys door of one node.
pub(crate) struct KeysDoor {
    node: Arc<Node>,
    callers: Arc<Callers>,
}

type Answer<T> = Result<Response<T>, Status>;

impl KeysDoor {
    pub(crate) fn new(node: Arc<Node>, callers: Arc<Callers>) -> Self {
        Self { node, callers }
    }
    /// The call, the desk that answers it, and what it says.
    fn asked<T>(&self, request: Request<T>) -> Result<(Call, Arc<Kms>, T), Status> {
        let call = Call { caller: self.callers.of(&request)?, deadline: deadline(&request) };
        Ok((call, self.node.kms().map_err(refused)?, request.into_inner()))
    }
}

/// The error as a status: of the desk, or of a part of the request.
pub(crate) fn refused(error: impl Into<Error>) -> Status {
    status(&error.into())
}

fn to_encrypt(asked: v1::EncryptRequest) -> Result<Encrypt, Status> {
    let by = by(&asked.key, asked.version, &asked.algorithm)?;
    let bound = Binding { context: context(asked.aad)?, aad: asked.associated_data };
    Ok(Encrypt { by, plaintext: asked.plaintext, bound })
}

fn encrypted(made: Ciphertext) -> v1::EncryptResponse {
    let (key_id, key_version, algorithm) = used(made.used);
    let (ciphertext, iv, tag) = (made.ciphertext.into(), made.iv.into(), made.tag.into());
    v1::EncryptResponse { ciphertext, key_id, key_version, algorithm, iv, tag }
}

fn to_decrypt(asked: v1::DecryptRequest) -> Result<Decrypt, Status> {
    let given = Given {
        ciphertext: asked.ciphertext,
        iv: asked.iv,
        tag: asked.tag,
        bound: Binding { context: context(asked.aad)?, aad: asked.associated_data },
        keys: keys(&asked.key)?,
        version: number(asked.version),
        algorithm: optional(&asked.algorithm)?,
    };
    Decrypt::new(given).map_err(refused)
}

fn decrypted(made: Plaintext) -> v1::DecryptResponse {
    let (key_id, key_version, algorithm) = used(made.used);
    v1::DecryptResponse { plaintext: released(made.plaintext), key_id, key_version, algorithm }
}

fn to_sign(asked: v1::SignRequest) -> Result<Sign, Status> {
    let by = by(&asked.key, asked.version, &asked.algorithm)?;
    let input = match asked.input {
        Some(v1::sign_request::Input::Digest(digest)) => Input::Digest(digest),
        Some(v1::sign_request::Input::Message(message)) => Input::Message(message),
        None => return Err(nothing()),
    };
    Ok(Sign { by, input, context: asked.context })
}

fn signed(made: Signature) -> v1::SignResponse {
    let (key_id, key_version, algorithm) = used(made.used);
    v1::SignResponse { signature: made.signature.into(), key_id, key_version, algorithm }
}

/// Parts that can't be meant are told of before anything is done.
fn many<A, U>(asked: Vec<A>, part: impl Fn(A) -> Result<U, Status>) -> Result<Many<U>, Status> {
    let parts = asked.into_iter().map(part).collect::<Result<_, _>>()?;
    Many::new(parts).map_err(refused)
}

/// Why one of many was not done.
fn told(error: &Error) -> v1::Refused {
    v1::Refused { reason: error.reason().as_str().to_owned(), message: error.to_string() }
}

/// A hash function by its name; empty = SHA-256.
fn digest(name: &str) -> Result<Digest, Status> {
    Ok(optional(name)?.unwrap_or(Digest::Sha256))
}

fn verified(answer: Verified) -> Response<v1::VerifyResponse> {
    let (key_id, key_version, algorithm) = used(answer.used);
    let version_state = version_state(answer.state).into();
    Response::new(v1::VerifyResponse { valid: answer.valid, key_id, key_version, algorithm, version_state })
}

fn nothing() -> Status {
    refused(InvalidRequest::wrong(Part::Input, "there is nothing to sign: give a message or a digest"))
}

#[tonic::async_trait]
impl Keys for KeysDoor {
    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (alias, name, description) = (optional(&asked.alias)?, optional(&asked.name)?, parse(&asked.description)?);
        let source = source(&asked.origin, &asked.public_key)?;
        let kind = kind(source.spec(), &asked.spec, &asked.usage, &asked.algorithm)?;
        let (tags, activation, token) = (tags(asked.tags)?, asked.activation_ms, token(&asked.token)?);
        let exportable = optional(&asked.exportable)?.unwrap_or_default();
        let (purge_protected, tracked) = (asked.purge_protected, !asked.untracked);
        let wanted = Create {
            kind,
            alias,
            name,
            description,
            tags,
            activation,
            purge_protected,
            source,
            exportable,
            tracked,
            token,
        };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn create_keys(&self, request: Request<v1::CreateKeysRequest>) -> Answer<v1::CreateKeysResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (count, description) = (KeyCount::parse(asked.count).map_err(refused)?, parse(&asked.description)?);
        let kind = kind(KeySpec::DEFAULT, &asked.spec, &asked.usage, &asked.algorithm)?;
        let wanted = CreateMany { kind, count, description, token: token(&asked.token)? };
        let views = kms.create_many(&call, &wanted).await.map_err(refused)?;
        Ok(Response::new(v1::CreateKeysResponse { keys: views.into_iter().map(key).collect() }))
    }

    async fn describe_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.perform(&call, Describe { key: parse(&asked.key)? }).await.map(key_response).map_err(refused)
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Answer<v1::ListKeysResponse> {
        let (call, kms, mut asked) = self.asked(request)?;
        let (len, filter) = (PageLen::parse(asked.limit).map_err(refused)?, filter(&mut asked)?);
        let wanted = ListObjects { class: Class::Key, len, filter, token: asked.page_token };
        let page = kms.page(&call, wanted).await.map_err(refused)?;
        let keys = page.items.into_iter().map(key).collect();
        Ok(Response::new(v1::ListKeysResponse { keys, next_page_token: next_page(page.next) }))
    }

    async fn enable_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.commit(&call, &Enable { key: parse(&asked.key)? }).await.map(key_response).map_err(refused)
    }

    async fn disable_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.commit(&call, &Disable { key: parse(&asked.key)? }).await.map(key_response).map_err(refused)
    }

    async fn archive_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.commit(&call, &Archive { key: parse(&asked.key)? }).await.map(key_response).map_err(refused)
    }

    async fn recover_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.commit(&call, &Recover { key: parse(&asked.key)? }).await.map(key_response).map_err(refused)
    }

    async fn rotate_key(&self, request: Request<v1::RotateKeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, token) = (parse(&asked.key)?, token(&asked.token)?);
        let rotated = match &asked.public_key[..] {
            [] => kms.commit(&call, &Rotate { key, token }).await,
            spki => kms.commit(&call, &RotateTo { key, public: public(spki)?, token }).await,
        };
        rotated.map(key_response).map_err(refused)
    }

    async fn rekey_key(&self, request: Request<v1::RekeyKeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = Rekey { key: parse(&asked.key)?, token: token(&asked.token)? };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn schedule_key_deletion(&self, request: Request<v1::ScheduleKeyDeletionRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let window = DeletionWindow::parse(asked.days, asked.dev_seconds).map_err(refused)?;
        let wanted = ScheduleDeletion { key: parse(&asked.key)?, window };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn cancel_key_deletion(&self, request: Request<v1::CancelKeyDeletionRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = CancelDeletion { key: parse(&asked.key)?, as_before: asked.as_before };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn purge_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::PurgeKeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let key = kms.commit(&call, &Purge { key: parse(&asked.key)? }).await.map_err(refused)?;
        Ok(Response::new(v1::PurgeKeyResponse { key_id: key.to_string() }))
    }

    async fn set_key_rotation(&self, request: Request<v1::SetKeyRotationRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let period = RotationPeriod::parse(asked.days, asked.dev_seconds).map_err(refused)?;
        kms.commit(&call, &SetRotation { key: parse(&asked.key)?, period }).await.map(key_response).map_err(refused)
    }

    async fn update_key(&self, request: Request<v1::UpdateKeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let changes = Changes {
            description: asked.description.as_deref().map(parse).transpose()?,
            protect_floor: number(asked.min_encryption_version),
            process_floor: number(asked.min_decryption_version),
            exportable: optional(&asked.exportable)?,
            tracked: asked.tracked,
        };
        let wanted = Update { key: parse(&asked.key)?, changes };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn get_last_use(&self, request: Request<v1::KeyRequest>) -> Answer<v1::LastUseResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.last_use(&call, &parse(&asked.key)?).await.map(last_use).map_err(refused)
    }

    async fn get_destruction(&self, request: Request<v1::GetDestructionRequest>) -> Answer<v1::DestructionResponse> {
        let call = Call { caller: self.callers.of(&request)?, deadline: deadline(&request) };
        let v1::GetDestructionRequest { key_id, version } = request.into_inner();
        let key = object_id(&key_id)?;
        let signed = self.node.prove_destruction(&call, key, number(version)).await.map_err(refused)?;
        let Signed { statement, signature, certificates } = signed;
        Ok(Response::new(v1::DestructionResponse {
            statement: statement.into(),
            signature: signature.into(),
            certificates,
        }))
    }

    async fn tag_key(&self, request: Request<v1::TagKeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = Tag { key: parse(&asked.key)?, tags: tags(asked.tags)? };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn untag_key(&self, request: Request<v1::UntagKeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = Untag { key: parse(&asked.key)?, names: asked.names };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn list_versions(&self, request: Request<v1::ListVersionsRequest>) -> Answer<v1::ListVersionsResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, len) = (parse(&asked.key)?, PageLen::parse(asked.limit).map_err(refused)?);
        let wanted = ListVersions { key, len, before: number(asked.before) };
        kms.perform(&call, wanted).await.map(versions_response).map_err(refused)
    }

    async fn update_version(&self, request: Request<v1::UpdateVersionRequest>) -> Answer<v1::VersionResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = UpdateVersion {
            key: parse(&asked.key)?,
            version: number(asked.version),
            enabled: asked.enabled,
            activation: asked.activation_ms,
            protect_start: asked.protect_start_ms,
            process_start: asked.process_start_ms,
            protect_stop: asked.protect_stop_ms,
            deactivation: asked.deactivation_ms,
            tags: tags(asked.tags)?,
            untag: asked.untag,
        };
        kms.commit(&call, &wanted).await.map(version_response).map_err(refused)
    }

    async fn activate_version(&self, request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = Activate { key: parse(&asked.key)?, version: number(asked.version) };
        kms.commit(&call, &wanted).await.map(version_response).map_err(refused)
    }

    async fn revoke_version(&self, request: Request<v1::RevokeVersionRequest>) -> Answer<v1::VersionResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let why = match (asked.compromised, asked.since_ms) {
            (true, since_ms) => Revocation::Compromise { since_ms },
            (false, 0) => Revocation::Deactivate,
            (false, _) => return Err(refused(InvalidRequest::wrong(Part::Date, "only a compromise has a since"))),
        };
        let wanted = Revoke { key: parse(&asked.key)?, version: number(asked.version), why };
        kms.commit(&call, &wanted).await.map(version_response).map_err(refused)
    }

    async fn destroy_version(&self, request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let named = "name the version that is to be destroyed: there is no way back";
        let version = number(asked.version).ok_or_else(|| refused(InvalidRequest::wrong(Part::Version, named)))?;
        let wanted = DestroyVersion { key: parse(&asked.key)?, version };
        kms.commit(&call, &wanted).await.map(version_response).map_err(refused)
    }

    async fn get_import_parameters(
        &self,
        request: Request<v1::GetImportParametersRequest>,
    ) -> Answer<v1::GetImportParametersResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wrapping = optional(&asked.wrapping_spec)?.unwrap_or(ImportParameters::WRAPPING_DEFAULT);
        let made = kms.import_parameters(&call, ImportParameters { key: parse(&asked.key)?, wrapping }).await;
        made.map(|made| Response::new(parameters(made))).map_err(refused)
    }

    async fn import_material(&self, request: Request<v1::ImportMaterialRequest>) -> Answer<v1::VersionResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, algorithm) = (parse(&asked.key)?, optional(&asked.algorithm)?.unwrap_or(Import::ALGORITHM_DEFAULT));
        let (token, wrapped, expires_ms) = (asked.token, asked.wrapped, asked.expires_ms);
        let into = match (asked.new_version, number(asked.version)) {
            (false, version) => ImportInto::Version(version),
            (true, None) => ImportInto::New,
            (true, Some(_)) => {
                let why = "material goes into a version that there is, or into a new one, not into both";
                return Err(refused(InvalidRequest::wrong(Part::Version, why)));
            }
        };
        let wanted = Import { key, into, token, wrapped, algorithm, expires_ms };
        kms.import(&call, wanted).await.map(version_response).map_err(refused)
    }

    async fn delete_material(&self, request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = DeleteMaterial { key: parse(&asked.key)?, version: number(asked.version) };
        kms.commit(&call, &wanted).await.map(version_response).map_err(refused)
    }

    async fn export_key(&self, request: Request<v1::ExportKeyRequest>) -> Answer<v1::ExportKeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wrap = match &asked.wrap_with[..] {
            "" if asked.algorithm.is_empty() => None,
            key => Some(by(key, 0, &asked.algorithm)?),
        };
        let wanted = Export { key: parse(&asked.key)?, version: number(asked.version), wrap };
        kms.export(&call, wanted).await.map(|made| Response::new(exported(made))).map_err(refused)
    }

    async fn backup_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::BackupKeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let made = kms.back_up(&call, BackUp { key: parse(&asked.key)? }).await.map_err(refused)?;
        let (backup, key_id, versions) = (made.backup.into(), made.key.to_string(), made.versions);
        Ok(Response::new(v1::BackupKeyResponse { backup, key_id, versions }))
    }

    async fn restore_key(&self, request: Request<v1::RestoreKeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (backup, without_name) = (asked.backup, asked.without_name);
        let wanted = RestoreKey { backup, without_name, token: token(&asked.token)? };
        kms.restore(&call, wanted).await.map(key_response).map_err(refused)
    }

    async fn create_alias(&self, request: Request<v1::CreateAliasRequest>) -> Answer<v1::AliasResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = CreateAlias { name: parse(&asked.name)?, key: parse(&asked.key)? };
        let made = kms.commit(&call, &wanted).await.map_err(refused)?;
        Ok(Response::new(v1::AliasResponse { alias: Some(alias(made)) }))
    }

    async fn delete_alias(&self, request: Request<v1::DeleteAliasRequest>) -> Answer<v1::DeleteAliasResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.commit(&call, &DeleteAlias { name: parse(&asked.name)? }).await.map_err(refused)?;
        Ok(Response::new(v1::DeleteAliasResponse {}))
    }

    async fn list_aliases(&self, request: Request<v1::ListAliasesRequest>) -> Answer<v1::ListAliasesResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = ListAliases { len: PageLen::parse(asked.limit).map_err(refused)?, token: asked.page_token };
        let page = kms.page(&call, wanted).await.map_err(refused)?;
        let aliases = page.items.into_iter().map(alias).collect();
        Ok(Response::new(v1::ListAliasesResponse { aliases, next_page_token: next_page(page.next) }))
    }

    async fn encrypt(&self, request: Request<v1::EncryptRequest>) -> Answer<v1::EncryptResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let made = kms.perform(&call, to_encrypt(asked)?).await.map_err(refused)?;
        Ok(Response::new(encrypted(made)))
    }

    async fn decrypt(&self, request: Request<v1::DecryptRequest>) -> Answer<v1::DecryptResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let made = kms.perform(&call, to_decrypt(asked)?).await.map_err(refused)?;
        Ok(Response::new(decrypted(made)))
    }

    async fn re_encrypt(&self, request: Request<v1::ReEncryptRequest>) -> Answer<v1::ReEncryptResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (expected, to) = (keys(&asked.key)?, parse(&asked.to)?);
        let wanted = ReEncrypt::new(asked.ciphertext, context(asked.aad)?, expected, to, context(asked.to_aad)?);
        let made = kms.perform(&call, wanted.map_err(refused)?).await.map_err(refused)?;
        let ((key_id, key_version, _), (from_key_id, from_key_version, _)) = (used(made.to), used(made.from));
        let ciphertext = made.ciphertext.into();
        Ok(Response::new(v1::ReEncryptResponse { ciphertext, key_id, key_version, from_key_id, from_key_version }))
    }

    async fn generate_data_key(
        &self,
        request: Request<v1::GenerateDataKeyRequest>,
    ) -> Answer<v1::GenerateDataKeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, context) = (parse(&asked.key)?, context(asked.aad)?);
        let wanted = GenerateDataKey { key, len: asked.bytes, context, with_plaintext: !asked.without_plaintext };
        let made = kms.perform(&call, wanted).await.map_err(refused)?;
        let (key_id, key_version, _) = used(made.used);
        let plaintext = made.plaintext.map(released).unwrap_or_default();
        let ciphertext = made.ciphertext.into();
        Ok(Response::new(v1::GenerateDataKeyResponse { ciphertext, plaintext, key_id, key_version }))
    }

    async fn generate_data_key_pair(
        &self,
        request: Request<v1::GenerateDataKeyPairRequest>,
    ) -> Answer<v1::GenerateDataKeyPairResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, spec, context) = (parse(&asked.key)?, parse(&asked.spec)?, context(asked.aad)?);
        let wanted = GenerateDataKeyPair { key, spec, context, with_plaintext: !asked.without_plaintext };
        let made = kms.perform(&call, wanted).await.map_err(refused)?;
        let (key_id, key_version, _) = used(made.used);
        Ok(Response::new(v1::GenerateDataKeyPairResponse {
            public_key: made.public.into(),
            ciphertext: made.ciphertext.into(),
            plaintext: made.plaintext.map(released).unwrap_or_default(),
            key_id,
            key_version,
        }))
    }

    async fn wrap(&self, request: Request<v1::WrapRequest>) -> Answer<v1::WrapResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let by = by(&asked.key, asked.version, &asked.algorithm)?;
        let made = kms.perform(&call, Wrap { by, key: asked.plaintext }).await.map_err(refused)?;
        let (key_id, key_version, algorithm) = used(made.used);
        Ok(Response::new(v1::WrapResponse { wrapped: made.wrapped.into(), key_id, key_version, algorithm }))
    }

    async fn unwrap(&self, request: Request<v1::UnwrapRequest>) -> Answer<v1::UnwrapResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let by = by(&asked.key, asked.version, &asked.algorithm)?;
        let made = kms.perform(&call, Unwrap { by, wrapped: asked.wrapped }).await.map_err(refused)?;
        let (key_id, key_version, algorithm) = used(made.used);
        Ok(Response::new(v1::UnwrapResponse { plaintext: released(made.key), key_id, key_version, algorithm }))
    }

    async fn generate_random(&self, request: Request<v1::GenerateRandomRequest>) -> Answer<v1::GenerateRandomResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let random = kms.perform(&call, GenerateRandom { len: asked.bytes }).await.map_err(refused)?;
        Ok(Response::new(v1::GenerateRandomResponse { random: released(random) }))
    }

    async fn sign(&self, request: Request<v1::SignRequest>) -> Answer<v1::SignResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let made = kms.perform(&call, to_sign(asked)?).await.map_err(refused)?;
        Ok(Response::new(signed(made)))
    }

    async fn derive_key(&self, request: Request<v1::DeriveKeyRequest>) -> Answer<v1::DeriveKeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (by, digest) = (by(&asked.key, asked.version, &asked.algorithm)?, digest(&asked.digest)?);
        let (info, iterations, len) = (asked.info, asked.iterations, asked.bytes);
        let made = kms.perform(&call, DeriveKey { by, digest, info, iterations, len }).await.map_err(refused)?;
        let (key_id, key_version, algorithm) = used(made.used);
        Ok(Response::new(v1::DeriveKeyResponse { derived: released(made.key), key_id, key_version, algorithm }))
    }

    async fn make_digest(&self, request: Request<v1::MakeDigestRequest>) -> Answer<v1::MakeDigestResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = MakeDigest { by: digest(&asked.digest)?, message: asked.message };
        let digest = kms.perform(&call, wanted).await.map_err(refused)?.into();
        Ok(Response::new(v1::MakeDigestResponse { digest }))
    }

    async fn encrypt_many(&self, request: Request<v1::EncryptManyRequest>) -> Answer<v1::EncryptManyResponse> {
        use v1::encrypt_many_response::{Part, part::Answer};
        let (call, kms, asked) = self.asked(request)?;
        let parts = many(asked.parts, to_encrypt)?;
        let part =
            |made: Result<_, _>| made.map_or_else(|e| Answer::Refused(told(&e)), |made| Answer::Done(encrypted(made)));
        let made = kms.perform(&call, parts).await.map_err(refused)?;
        let parts = made.into_iter().map(|made| Part { answer: Some(part(made)) }).collect();
        Ok(Response::new(v1::EncryptManyResponse { parts }))
    }

    async fn decrypt_many(&self, request: Request<v1::DecryptManyRequest>) -> Answer<v1::DecryptManyResponse> {
        use v1::decrypt_many_response::{Part, part::Answer};
        let (call, kms, asked) = self.asked(request)?;
        let parts = many(asked.parts, to_decrypt)?;
        let part =
            |made: Result<_, _>| made.map_or_else(|e| Answer::Refused(told(&e)), |made| Answer::Done(decrypted(made)));
        let made = kms.perform(&call, parts).await.map_err(refused)?;
        let parts = made.into_iter().map(|made| Part { answer: Some(part(made)) }).collect();
        Ok(Response::new(v1::DecryptManyResponse { parts }))
    }

    async fn sign_many(&self, request: Request<v1::SignManyRequest>) -> Answer<v1::SignManyResponse> {
        use v1::sign_many_response::{Part, part::Answer};
        let (call, kms, asked) = self.asked(request)?;
        let parts = many(asked.parts, to_sign)?;
        let part =
            |made: Result<_, _>| made.map_or_else(|e| Answer::Refused(told(&e)), |made| Answer::Done(signed(made)));
        let made = kms.perform(&call, parts).await.map_err(refused)?;
        let parts = made.into_iter().map(|made| Part { answer: Some(part(made)) }).collect();
        Ok(Response::new(v1::SignManyResponse { parts }))
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Answer<v1::VerifyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let by = by(&asked.key, asked.version, &asked.algorithm)?;
        let input = match asked.input {
            Some(v1::verify_request::Input::Digest(digest)) => Input::Digest(digest),
            Some(v1::verify_request::Input::Message(message)) => Input::Message(message),
            None => return Err(nothing()),
        };
        let wanted = Verify { by, input, context: asked.context, signature: asked.signature };
        kms.perform(&call, wanted).await.map(verified).map_err(refused)
    }

    async fn mac(&self, request: Request<v1::MacRequest>) -> Answer<v1::MacResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let by = by(&asked.key, asked.version, &asked.algorithm)?;
        let made = kms.perform(&call, MakeMac { by, message: asked.message }).await.map_err(refused)?;
        let (key_id, key_version, algorithm) = used(made.used);
        Ok(Response::new(v1::MacResponse { mac: made.mac.into(), key_id, key_version, algorithm }))
    }

    async fn verify_mac(&self, request: Request<v1::VerifyMacRequest>) -> Answer<v1::VerifyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let by = by(&asked.key, asked.version, &asked.algorithm)?;
        let wanted = VerifyMac { by, message: asked.message, mac: asked.mac };
        kms.perform(&call, wanted).await.map(verified).map_err(refused)
    }

    async fn agree(&self, request: Request<v1::AgreeRequest>) -> Answer<v1::AgreeResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let by = by(&asked.key, asked.version, "")?;
        let peer = PublicKey::parse(&asked.peer).map_err(refused)?;
        let made = kms.perform(&call, Agree { by, peer }).await.map_err(refused)?;
        let (key_id, key_version, _) = used(made.used);
        Ok(Response::new(v1::AgreeResponse { secret: released(made.secret), key_id, key_version }))
    }

    async fn encapsulate(&self, request: Request<v1::EncapsulateRequest>) -> Answer<v1::EncapsulateResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let by = by(&asked.key, asked.version, "")?;
        let made = kms.perform(&call, Encapsulate { by }).await.map_err(refused)?;
        let (key_id, key_version, _) = used(made.used);
        let ciphertext = made.ciphertext.into();
        Ok(Response::new(v1::EncapsulateResponse { ciphertext, secret: released(made.secret), key_id, key_version }))
    }

    async fn decapsulate(&self, request: Request<v1::DecapsulateRequest>) -> Answer<v1::DecapsulateResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let by = by(&asked.key, asked.version, "")?;
        let made = kms.perform(&call, Decapsulate { by, ciphertext: asked.ciphertext }).await.map_err(refused)?;
        let (key_id, key_version, _) = used(made.used);
        Ok(Response::new(v1::DecapsulateResponse { secret: released(made.secret), key_id, key_version }))
    }

    async fn get_public_key(&self, request: Request<v1::GetPublicKeyRequest>) -> Answer<v1::GetPublicKeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = GetPublicKey { key: parse(&asked.key)?, version: number(asked.version) };
        let found = kms.perform(&call, wanted).await.map_err(refused)?;
        Ok(Response::new(v1::GetPublicKeyResponse {
            public_key: found.spki.into(),
            key_id: found.key.to_string(),
            key_version: found.version.get(),
            spec: found.spec.as_str().to_owned(),
            usage: usage(found.usage),
        }))
    }

    async fn echo(&self, request: Request<v1::EchoRequest>) -> Answer<v1::EchoResponse> {
        echo::echo(&self.callers.of(&request)?.principal).map_err(refused)?;
        Ok(Response::new(v1::EchoResponse { payload: request.into_inner().payload }))
    }
}
