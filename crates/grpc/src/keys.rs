//! The keys door: `quorate.v1.Keys`. It parses, asks the desk, and puts the answer into the protocol's words; it has no
//! rules of its own.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::keys_server::Keys;
use quorate_service::core::decide::{
    CancelDeletion, Create, CreateAlias, CreateMany, DeleteAlias, Disable, Enable, Rotate, ScheduleDeletion,
};
use quorate_service::core::key_spec::KeySpec;
use quorate_service::core::lifecycle::KeyState;
use quorate_service::core::request::{
    DeletionWindow, EncryptionContext, InvalidRequest, KeyCount, KeyStates, PageLen, Part, Token,
};
use quorate_service::core::views::{AliasView, KeyView};
use quorate_service::desk::{Kms, PageToken};
use quorate_service::node::Node;
use quorate_service::operation::{
    Decrypt, Describe, Encrypt, GenerateDataKey, GenerateRandom, ListAliases, ListKeys, echo,
};
use quorate_service::{Call, Error, SecretBytes};
use tonic::{Request, Response, Status};

use crate::caller::Callers;
use crate::deadline::deadline;
use crate::status::status;

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
fn refused(error: impl Into<Error>) -> Status {
    status(&error.into())
}

fn parse<T: std::str::FromStr<Err = InvalidRequest>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(refused)
}

fn optional<T: std::str::FromStr<Err = InvalidRequest>>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn token(bytes: &[u8]) -> Result<Option<Token>, Status> {
    Token::parse(bytes).map_err(refused)
}

fn context(pairs: Vec<v1::AssociatedData>) -> Result<EncryptionContext, Status> {
    EncryptionContext::new(pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()).map_err(refused)
}

fn key(view: KeyView) -> v1::Key {
    let (state, deletion_ms) = match view.state {
        KeyState::Enabled => (v1::KeyState::Enabled, 0),
        KeyState::Disabled => (v1::KeyState::Disabled, 0),
        KeyState::PendingDeletion { at_ms } => (v1::KeyState::PendingDeletion, at_ms),
        // The desk does not find destroyed keys; the protocol has no word for them.
        KeyState::Destroyed => (v1::KeyState::Unspecified, 0),
    };
    v1::Key {
        key_id: view.id.to_string(),
        state: state.into(),
        algorithm: view.spec.as_str().to_owned(),
        current_version: view.current.get(),
        created_ms: view.created_ms,
        deletion_ms,
        description: view.description.as_str().to_owned(),
        rotated_ms: view.rotated_ms,
        aliases: view.aliases.iter().map(ToString::to_string).collect(),
    }
}

/// The states that a list is of; none named = any.
fn key_states(asked: &v1::ListKeysRequest) -> Result<KeyStates, Status> {
    let mut states = KeyStates::default();
    for state in &asked.states {
        match v1::KeyState::try_from(*state) {
            Ok(v1::KeyState::Enabled) => states.enabled = true,
            Ok(v1::KeyState::Disabled) => states.disabled = true,
            Ok(v1::KeyState::PendingDeletion) => states.pending_deletion = true,
            Ok(v1::KeyState::Unspecified) | Err(_) => {
                let why = "a key is in none of the states asked for: enabled, disabled, pending deletion";
                return Err(refused(InvalidRequest::wrong(Part::State, why)));
            }
        }
    }
    Ok(if asked.states.is_empty() { KeyStates::ANY } else { states })
}

fn key_response(view: KeyView) -> Response<v1::KeyResponse> {
    Response::new(v1::KeyResponse { key: Some(key(view)) })
}

fn alias(view: AliasView) -> v1::Alias {
    v1::Alias { name: view.name.to_string(), key_id: view.key.to_string(), created_ms: view.created_ms }
}

fn next_page(token: Option<PageToken>) -> Bytes {
    token.map(|token| Bytes::copy_from_slice(token.as_bytes())).unwrap_or_default()
}

/// Plaintext on its way out to the caller who asked for it: moved, not copied. What the message holds is wiped when the
/// process's allocator gets it back.
fn released(mut secret: SecretBytes) -> Bytes {
    std::mem::take(&mut *secret).into()
}

#[tonic::async_trait]
impl Keys for KeysDoor {
    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (alias, description) = (optional(&asked.alias)?, parse(&asked.description)?);
        let wanted = Create { spec: KeySpec::Aes256, alias, description, token: token(&asked.token)? };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn create_keys(&self, request: Request<v1::CreateKeysRequest>) -> Answer<v1::CreateKeysResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (count, description) = (KeyCount::parse(asked.count).map_err(refused)?, parse(&asked.description)?);
        let wanted = CreateMany { spec: KeySpec::Aes256, count, description, token: token(&asked.token)? };
        let views = kms.create_many(&call, &wanted).await.map_err(refused)?;
        Ok(Response::new(v1::CreateKeysResponse { keys: views.into_iter().map(key).collect() }))
    }

    async fn describe_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.perform(&call, Describe { key: parse(&asked.key)? }).await.map(key_response).map_err(refused)
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Answer<v1::ListKeysResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (len, states) = (PageLen::parse(asked.limit).map_err(refused)?, key_states(&asked)?);
        let wanted = ListKeys { len, states, token: asked.page_token };
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

    async fn rotate_key(&self, request: Request<v1::RotateKeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = Rotate { key: parse(&asked.key)?, token: token(&asked.token)? };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn schedule_key_deletion(&self, request: Request<v1::ScheduleKeyDeletionRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let window = DeletionWindow::parse(asked.days, asked.dev_seconds).map_err(refused)?;
        let wanted = ScheduleDeletion { key: parse(&asked.key)?, window };
        kms.commit(&call, &wanted).await.map(key_response).map_err(refused)
    }

    async fn cancel_key_deletion(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.commit(&call, &CancelDeletion { key: parse(&asked.key)? }).await.map(key_response).map_err(refused)
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
        let (key, context) = (parse(&asked.key)?, context(asked.aad)?);
        let made = kms.perform(&call, Encrypt { key, plaintext: asked.plaintext, context }).await.map_err(refused)?;
        Ok(Response::new(v1::EncryptResponse {
            ciphertext: made.ciphertext.into(),
            key_id: made.key.to_string(),
            key_version: made.version.get(),
        }))
    }

    async fn decrypt(&self, request: Request<v1::DecryptRequest>) -> Answer<v1::DecryptResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, context) = (optional(&asked.key)?, context(asked.aad)?);
        let wanted = Decrypt::new(asked.ciphertext, context, key).map_err(refused)?;
        let made = kms.perform(&call, wanted).await.map_err(refused)?;
        Ok(Response::new(v1::DecryptResponse {
            plaintext: released(made.plaintext),
            key_id: made.key.to_string(),
            key_version: made.version.get(),
        }))
    }

    async fn generate_data_key(
        &self,
        request: Request<v1::GenerateDataKeyRequest>,
    ) -> Answer<v1::GenerateDataKeyResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, context) = (parse(&asked.key)?, context(asked.aad)?);
        let wanted = GenerateDataKey { key, len: asked.bytes, context, with_plaintext: !asked.without_plaintext };
        let made = kms.perform(&call, wanted).await.map_err(refused)?;
        Ok(Response::new(v1::GenerateDataKeyResponse {
            ciphertext: made.ciphertext.into(),
            plaintext: made.plaintext.map(released).unwrap_or_default(),
            key_id: made.key.to_string(),
            key_version: made.version.get(),
        }))
    }

    async fn generate_random(&self, request: Request<v1::GenerateRandomRequest>) -> Answer<v1::GenerateRandomResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let random = kms.perform(&call, GenerateRandom { len: asked.bytes }).await.map_err(refused)?;
        Ok(Response::new(v1::GenerateRandomResponse { random: released(random) }))
    }

    async fn echo(&self, request: Request<v1::EchoRequest>) -> Answer<v1::EchoResponse> {
        echo::echo(&self.callers.of(&request)?.principal).map_err(refused)?;
        Ok(Response::new(v1::EchoResponse { payload: request.into_inner().payload }))
    }
}
