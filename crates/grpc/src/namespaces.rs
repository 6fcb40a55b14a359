//! The namespaces door: `quorate.v1.Namespaces`. As that of keys.

use std::sync::Arc;

use quorate_proto::v1;
use quorate_proto::v1::namespaces_server::Namespaces;
use quorate_service::Call;
use quorate_service::core::decide::{CreateNamespace, UpdateNamespace};
use quorate_service::core::record::{NamespaceSettings, NamespaceState};
use quorate_service::core::request::PageLen;
use quorate_service::core::views::NamespaceView;
use quorate_service::desk::Kms;
use quorate_service::node::Node;
use quorate_service::operation::{DescribeNamespace, ListNamespaces};
use tonic::{Request, Response, Status};

use crate::caller::Callers;
use crate::deadline::deadline;
use crate::keys::refused;
use crate::words::{next_page, optional, parse};

/// The namespaces door of one node.
pub(crate) struct NamespacesDoor {
    node: Arc<Node>,
    callers: Arc<Callers>,
}

type Answer<T> = Result<Response<T>, Status>;

impl NamespacesDoor {
    pub(crate) fn new(node: Arc<Node>, callers: Arc<Callers>) -> Self {
        Self { node, callers }
    }
    /// The call, the desk that answers it, and what it says.
    fn asked<T>(&self, request: Request<T>) -> Result<(Call, Arc<Kms>, T), Status> {
        let call = Call { caller: self.callers.of(&request)?, deadline: deadline(&request) };
        Ok((call, self.node.kms().map_err(refused)?, request.into_inner()))
    }
}

fn namespace(view: NamespaceView) -> v1::Namespace {
    let state = match view.state {
        NamespaceState::Live => v1::NamespaceState::Live,
        NamespaceState::Deleting => v1::NamespaceState::Deleting,
    };
    v1::Namespace {
        name: view.name.to_string(),
        state: state.into(),
        created_ms: view.created_ms,
        updated_ms: view.updated_ms,
        exportable: view.settings.exportable.as_str().to_owned(),
        untracked: !view.settings.tracked,
    }
}

fn told(view: NamespaceView) -> Response<v1::NamespaceResponse> {
    Response::new(v1::NamespaceResponse { namespace: Some(namespace(view)) })
}

#[tonic::async_trait]
impl Namespaces for NamespacesDoor {
    async fn create_namespace(&self, request: Request<v1::CreateNamespaceRequest>) -> Answer<v1::NamespaceResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let most = optional(&asked.exportable)?.unwrap_or(NamespaceSettings::default().exportable);
        let settings = NamespaceSettings { exportable: most, tracked: !asked.untracked };
        let wanted = CreateNamespace { name: parse(&asked.name)?, settings };
        kms.commit(&call, &wanted).await.map(told).map_err(refused)
    }

    async fn describe_namespace(&self, request: Request<v1::NamespaceRequest>) -> Answer<v1::NamespaceResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.perform(&call, DescribeNamespace { name: parse(&asked.name)? }).await.map(told).map_err(refused)
    }

    async fn list_namespaces(&self, request: Request<v1::ListNamespacesRequest>) -> Answer<v1::ListNamespacesResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let wanted = ListNamespaces { len: PageLen::parse(asked.limit).map_err(refused)?, token: asked.page_token };
        let page = kms.page(&call, wanted).await.map_err(refused)?;
        let namespaces = page.items.into_iter().map(namespace).collect();
        Ok(Response::new(v1::ListNamespacesResponse { namespaces, next_page_token: next_page(page.next) }))
    }

    async fn update_namespace(&self, request: Request<v1::UpdateNamespaceRequest>) -> Answer<v1::NamespaceResponse> {
        let (call, kms, asked) = self.asked(request)?;
        let (name, exportable, tracked) = (parse(&asked.name)?, optional(&asked.exportable)?, asked.tracked);
        kms.commit(&call, &UpdateNamespace { name, exportable, tracked }).await.map(told).map_err(refused)
    }

    async fn delete_namespace(&self, request: Request<v1::NamespaceRequest>) -> Answer<v1::DeleteNamespaceResponse> {
        let (call, kms, asked) = self.asked(request)?;
        kms.delete_namespace(&call, parse(&asked.name)?).await.map_err(refused)?;
        Ok(Response::new(v1::DeleteNamespaceResponse {}))
    }
}
