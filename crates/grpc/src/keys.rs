//! The keys door: `quorate.v1.Keys`. It parses, asks the desk, and puts the answer into the protocol's words; it has no
//! rules of its own.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::keys_server::Keys;
use quorate_service::Error;
use quorate_service::core::decide::{create, create_many, rotate};
use quorate_service::core::lifecycle::KeyState;
use quorate_service::core::principal::Principal;
use quorate_service::core::record::{AliasRecord, KeyRecord};
use quorate_service::core::request::{
    DeletionWindow, Description, InvalidRequest, KeyCount, KeyHandle, PageLen, Token,
};
use quorate_service::desk::aad::AssociatedData;
use quorate_service::desk::{Kms, PageToken, SecretBytes, echo};
use quorate_service::node::Node;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::caller::Callers;
use crate::deadline::deadline;
use crate::status::{invalid, status};

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
    /// Who asks, until when an answer is wanted, and the desk that gives it.
    fn asked<T>(&self, request: &Request<T>) -> Result<(Principal, Instant, Arc<Kms>), Status> {
        let who = self.callers.of(request)?.principal;
        Ok((who, deadline(request), self.node.kms().map_err(refused)?))
    }
}

fn refused(error: Error) -> Status {
    status(&error)
}

fn parse<T: std::str::FromStr<Err = InvalidRequest>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(invalid)
}

fn optional<T: std::str::FromStr<Err = InvalidRequest>>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn aad(pairs: &[v1::AssociatedData]) -> Result<AssociatedData, Status> {
    AssociatedData::new(pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str()))).map_err(refused)
}

fn key(record: &KeyRecord) -> v1::Key {
    let (state, deletion_ms) = match record.state {
        KeyState::Enabled => (v1::KeyState::Enabled, 0),
        KeyState::Disabled => (v1::KeyState::Disabled, 0),
        KeyState::PendingDeletion { at_ms } => (v1::KeyState::PendingDeletion, at_ms),
        // The desk does not find destroyed keys; the protocol has no word for them.
        KeyState::Destroyed => (v1::KeyState::Unspecified, 0),
    };
    v1::Key {
        key_id: record.id.to_string(),
        state: state.into(),
        algorithm: record.algorithm.as_str().to_owned(),
        current_version: record.current.get(),
        created_ms: record.created_ms,
        deletion_ms,
        description: record.description.as_str().to_owned(),
        rotated_ms: record.rotated_ms,
    }
}

fn key_response(record: &KeyRecord) -> Response<v1::KeyResponse> {
    Response::new(v1::KeyResponse { key: Some(key(record)) })
}

fn alias(record: &AliasRecord) -> v1::Alias {
    v1::Alias { name: record.name.to_string(), key_id: record.key.to_string(), created_ms: record.created_ms }
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
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let wanted = create::Request {
            alias: optional(&request.alias)?,
            description: parse::<Description>(&request.description)?,
            token: Token::parse(&request.token).map_err(invalid)?,
        };
        kms.create_key(&who, &wanted, until).await.map(|record| key_response(&record)).map_err(refused)
    }

    async fn create_keys(&self, request: Request<v1::CreateKeysRequest>) -> Answer<v1::CreateKeysResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let wanted = create_many::Request {
            count: KeyCount::parse(request.count).map_err(invalid)?,
            description: parse::<Description>(&request.description)?,
            token: Token::parse(&request.token).map_err(invalid)?,
        };
        let records = kms.create_keys(&who, &wanted, until).await.map_err(refused)?;
        Ok(Response::new(v1::CreateKeysResponse { keys: records.iter().map(key).collect() }))
    }

    async fn describe_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let handle = parse(&request.get_ref().key)?;
        kms.describe_key(&who, &handle, until).await.map(|record| key_response(&record)).map_err(refused)
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Answer<v1::ListKeysResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let len = PageLen::parse(request.limit).map_err(invalid)?;
        let page = kms.list_keys(&who, len, &request.page_token, until).await.map_err(refused)?;
        Ok(Response::new(v1::ListKeysResponse {
            keys: page.items.iter().map(key).collect(),
            next_page_token: next_page(page.next),
        }))
    }

    async fn enable_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let handle = parse(&request.get_ref().key)?;
        kms.enable_key(&who, &handle, until).await.map(|record| key_response(&record)).map_err(refused)
    }

    async fn disable_key(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let handle = parse(&request.get_ref().key)?;
        kms.disable_key(&who, &handle, until).await.map(|record| key_response(&record)).map_err(refused)
    }

    async fn rotate_key(&self, request: Request<v1::RotateKeyRequest>) -> Answer<v1::KeyResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let wanted =
            rotate::Request { key: parse(&request.key)?, token: Token::parse(&request.token).map_err(invalid)? };
        kms.rotate_key(&who, &wanted, until).await.map(|record| key_response(&record)).map_err(refused)
    }

    async fn schedule_key_deletion(&self, request: Request<v1::ScheduleKeyDeletionRequest>) -> Answer<v1::KeyResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let handle = parse(&request.key)?;
        let window = DeletionWindow::parse(request.days, request.dev_seconds).map_err(invalid)?;
        let record = kms.schedule_key_deletion(&who, &handle, window, until).await.map_err(refused)?;
        Ok(key_response(&record))
    }

    async fn cancel_key_deletion(&self, request: Request<v1::KeyRequest>) -> Answer<v1::KeyResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let handle = parse(&request.get_ref().key)?;
        kms.cancel_key_deletion(&who, &handle, until).await.map(|record| key_response(&record)).map_err(refused)
    }

    async fn create_alias(&self, request: Request<v1::CreateAliasRequest>) -> Answer<v1::AliasResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let (name, handle) = (parse(&request.name)?, parse(&request.key)?);
        let record = kms.create_alias(&who, &name, &handle, until).await.map_err(refused)?;
        Ok(Response::new(v1::AliasResponse { alias: Some(alias(&record)) }))
    }

    async fn delete_alias(&self, request: Request<v1::DeleteAliasRequest>) -> Answer<v1::DeleteAliasResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let name = parse(&request.get_ref().name)?;
        kms.delete_alias(&who, &name, until).await.map_err(refused)?;
        Ok(Response::new(v1::DeleteAliasResponse {}))
    }

    async fn list_aliases(&self, request: Request<v1::ListAliasesRequest>) -> Answer<v1::ListAliasesResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let len = PageLen::parse(request.limit).map_err(invalid)?;
        let page = kms.list_aliases(&who, len, &request.page_token, until).await.map_err(refused)?;
        Ok(Response::new(v1::ListAliasesResponse {
            aliases: page.items.iter().map(alias).collect(),
            next_page_token: next_page(page.next),
        }))
    }

    async fn encrypt(&self, request: Request<v1::EncryptRequest>) -> Answer<v1::EncryptResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let (handle, aad) = (parse(&request.key)?, aad(&request.aad)?);
        let made = kms.encrypt(&who, &handle, &request.plaintext, &aad, until).await.map_err(refused)?;
        Ok(Response::new(v1::EncryptResponse {
            ciphertext: made.ciphertext.into(),
            key_id: made.key.to_string(),
            key_version: made.version.get(),
        }))
    }

    async fn decrypt(&self, request: Request<v1::DecryptRequest>) -> Answer<v1::DecryptResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let (handle, aad) = (optional::<KeyHandle>(&request.key)?, aad(&request.aad)?);
        let made = kms.decrypt(&who, &request.ciphertext, &aad, handle.as_ref(), until).await.map_err(refused)?;
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
        let (who, until, kms) = self.asked(&request)?;
        let request = request.into_inner();
        let (handle, aad) = (parse(&request.key)?, aad(&request.aad)?);
        let made = kms
            .generate_data_key(&who, &handle, request.bytes, &aad, !request.without_plaintext, until)
            .await
            .map_err(refused)?;
        Ok(Response::new(v1::GenerateDataKeyResponse {
            ciphertext: made.ciphertext.into(),
            plaintext: made.plaintext.map(released).unwrap_or_default(),
            key_id: made.key.to_string(),
            key_version: made.version.get(),
        }))
    }

    async fn generate_random(&self, request: Request<v1::GenerateRandomRequest>) -> Answer<v1::GenerateRandomResponse> {
        let (who, until, kms) = self.asked(&request)?;
        let random = kms.generate_random(&who, request.get_ref().bytes, until).await.map_err(refused)?;
        Ok(Response::new(v1::GenerateRandomResponse { random: released(random) }))
    }

    async fn echo(&self, request: Request<v1::EchoRequest>) -> Answer<v1::EchoResponse> {
        echo::echo(&self.callers.of(&request)?.principal).map_err(refused)?;
        Ok(Response::new(v1::EchoResponse { payload: request.into_inner().payload }))
    }
}
