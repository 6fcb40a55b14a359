//! The secrets door: `quorate.v1.Secrets`. As that of keys; what is refused it says of the secret by its name.

use std::sync::Arc;

use quorate_proto::v1;
use quorate_proto::v1::secrets_server::Secrets;
use quorate_service::core::decide::{CancelDeletion, Purge, ScheduleDeletion, SetSecret, UpdateSecret};
use quorate_service::core::name::Class;
use quorate_service::core::request::{DeletionWindow, KeyFilter, KeyHandle, ObjectName, PageLen};
use quorate_service::core::views::{KeyView, SecretView, VersionView};
use quorate_service::desk::Kms;
use quorate_service::node::Node;
use quorate_service::operation::{DescribeSecret, ListObjects, ListVersions, ReadSecret};
use quorate_service::{Call, Error, SecretBytes};
use tonic::{Request, Response, Status};

use crate::caller::Callers;
use crate::deadline::deadline;
use crate::keys::refused;
use crate::words::{next_page, number, parse, released, state, states, tags, tags_of, token, version_state};

/// The secrets door of one node.
pub(crate) struct SecretsDoor {
    node: Arc<Node>,
    callers: Arc<Callers>,
}

type Answer<T> = Result<Response<T>, Status>;

impl SecretsDoor {
    pub(crate) fn new(node: Arc<Node>, callers: Arc<Callers>) -> Self {
        Self { node, callers }
    }
    /// The call, the desk that answers it, and what it says.
    fn asked<T>(&self, request: Request<T>) -> Result<(Call, Arc<Kms>, T), Status> {
        let call = Call { caller: self.callers.of(&request)?, deadline: deadline(&request) };
        Ok((call, self.node.kms().map_err(refused)?, request.into_inner()))
    }
}

/// The secret of that name, and how a refusal speaks of it.
fn named(name: &str) -> Result<(KeyHandle, impl Fn(Error) -> Status), Status> {
    let name: ObjectName = parse(name)?;
    Ok((KeyHandle::Secret(name.clone()), move |error: Error| refused(error.of_secret(&name))))
}

fn secret(view: &KeyView) -> v1::Secret {
    let (state, deletion_ms) = state(view.state);
    v1::Secret {
        secret_id: view.id.to_string(),
        name: view.name.as_ref().map_or("", ObjectName::as_str).to_owned(),
        state: state.into(),
        current_version: view.current.get(),
        created_ms: view.created_ms,
        updated_ms: view.updated_ms,
        set_ms: if view.rotated_ms == 0 { view.created_ms } else { view.rotated_ms },
        deletion_ms,
        tags: tags_of(&view.tags),
        purge_protected: view.purge_protected,
    }
}

fn version(view: &VersionView) -> v1::SecretVersion {
    v1::SecretVersion {
        version: view.version.get(),
        state: version_state(view.state).into(),
        enabled: view.enabled,
        content_type: view.content_type.as_str().to_owned(),
        not_before_ms: view.dates.protect_start,
        expires_ms: view.dates.protect_stop,
        created_ms: view.created_ms,
        updated_ms: view.updated_ms,
    }
}

fn told(view: KeyView) -> Response<v1::SecretResponse> {
    Response::new(v1::SecretResponse { secret: Some(secret(&view)), version: None })
}

fn told_with_version(view: SecretView) -> Response<v1::SecretResponse> {
    Response::new(v1::SecretResponse { secret: Some(secret(&view.secret)), version: Some(version(&view.version)) })
}

#[tonic::async_trait]
impl Secrets for SecretsDoor {
    async fn set_secret(&self, request: Request<v1::SetSecretRequest>) -> Answer<v1::SecretResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (_, refused) = named(&asked.name)?;
        let wanted = SetSecret {
            name: parse(&asked.name)?,
            content_type: parse(&asked.content_type)?,
            not_before_ms: asked.not_before_ms,
            expires_ms: asked.expires_ms,
            enabled: !asked.disabled,
            tags: tags(asked.tags)?,
            purge_protected: asked.purge_protected,
            value_tag: [0; 32],
            token: token(&asked.token)?,
        };
        let value = SecretBytes::new(asked.value.into());
        kms.set_secret(&call, wanted, value).await.map(told).map_err(refused)
    }

    async fn get_secret(&self, request: Request<v1::GetSecretRequest>) -> Answer<v1::GetSecretResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (handle, refused) = named(&asked.name)?;
        let wanted = ReadSecret { secret: handle, version: number(asked.version) };
        let read = kms.perform(&call, wanted).await.map_err(refused)?;
        let v1::Secret { secret_id, name, .. } = secret(&read.of.secret);
        let version = Some(version(&read.of.version));
        Ok(Response::new(v1::GetSecretResponse { value: released(read.value), secret_id, name, version }))
    }

    async fn describe_secret(&self, request: Request<v1::SecretRequest>) -> Answer<v1::SecretResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (handle, refused) = named(&asked.name)?;
        kms.perform(&call, DescribeSecret { secret: handle }).await.map(told_with_version).map_err(refused)
    }

    async fn list_secrets(&self, request: Request<v1::ListSecretsRequest>) -> Answer<v1::ListSecretsResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let filter = KeyFilter { states: states(&asked.states, false)?, specs: Vec::new(), tags: tags(asked.tags)? };
        let wanted = ListObjects {
            class: Class::Secret,
            len: PageLen::parse(asked.limit).map_err(refused)?,
            filter,
            token: asked.page_token,
        };
        let page = kms.page(&call, wanted).await.map_err(refused)?;
        let secrets = page.items.iter().map(secret).collect();
        Ok(Response::new(v1::ListSecretsResponse { secrets, next_page_token: next_page(page.next) }))
    }

    async fn list_secret_versions(
        &self,
        request: Request<v1::ListSecretVersionsRequest>,
    ) -> Answer<v1::ListSecretVersionsResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, of_secret) = named(&asked.name)?;
        let len = PageLen::parse(asked.limit).map_err(refused)?;
        let wanted = ListVersions { key, len, before: number(asked.before) };
        let page = kms.perform(&call, wanted).await.map_err(of_secret)?;
        let last = page.versions.last().map(|last| last.version.get());
        Ok(Response::new(v1::ListSecretVersionsResponse {
            secret_id: page.key.to_string(),
            next_before: last.filter(|_| page.more).unwrap_or(0),
            versions: page.versions.iter().map(version).collect(),
        }))
    }

    async fn update_secret(&self, request: Request<v1::UpdateSecretRequest>) -> Answer<v1::SecretResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (handle, refused) = named(&asked.name)?;
        let wanted = UpdateSecret {
            secret: handle,
            version: number(asked.version),
            enabled: asked.enabled,
            content_type: asked.content_type.as_deref().map(parse).transpose()?,
            not_before: asked.not_before_ms,
            expires: asked.expires_ms,
            tags: tags(asked.tags)?,
            untag: asked.untag,
        };
        kms.commit(&call, &wanted).await.map(told_with_version).map_err(refused)
    }

    async fn delete_secret(&self, request: Request<v1::DeleteSecretRequest>) -> Answer<v1::SecretResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, of_secret) = named(&asked.name)?;
        let window = DeletionWindow::parse(asked.days, asked.dev_seconds).map_err(refused)?;
        kms.commit(&call, &ScheduleDeletion { key, window }).await.map(told).map_err(of_secret)
    }

    async fn recover_secret(&self, request: Request<v1::SecretRequest>) -> Answer<v1::SecretResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, refused) = named(&asked.name)?;
        kms.commit(&call, &CancelDeletion { key, as_before: true }).await.map(told).map_err(refused)
    }

    async fn purge_secret(&self, request: Request<v1::SecretRequest>) -> Answer<v1::PurgeSecretResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (key, refused) = named(&asked.name)?;
        let purged = kms.commit(&call, &Purge { key }).await.map_err(refused)?;
        Ok(Response::new(v1::PurgeSecretResponse { secret_id: purged.to_string() }))
    }
}
