//! Namespaces on the wire.

use quorate_proto::NAMESPACE_KEY;
use quorate_proto::v1::namespaces_client::NamespacesClient;
use quorate_proto::v1::secrets_client::SecretsClient;

use super::*;

async fn namespaces(node: &Arc<Node>, role: Role) -> NamespacesClient<Channel> {
    NamespacesClient::new(connect(node, Some(principal(role, "somebody"))).await)
}
fn named(name: &str) -> v1::NamespaceRequest {
    v1::NamespaceRequest { name: name.into() }
}
fn new(name: &str) -> v1::CreateNamespaceRequest {
    v1::CreateNamespaceRequest { name: name.into(), ..Default::default() }
}
/// A request in that namespace.
fn within<T>(namespace: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAMESPACE_KEY, namespace.parse().unwrap());
    request
}

/// Every call, as somebody with nothing else wrong would make it.
async fn every_call(client: &mut NamespacesClient<Channel>) -> Vec<Result<(), Status>> {
    let update = v1::UpdateNamespaceRequest { name: "a".into(), tracked: Some(true), ..Default::default() };
    vec![
        client.create_namespace(new("a")).await.map(drop),
        client.describe_namespace(named("a")).await.map(drop),
        client.list_namespaces(v1::ListNamespacesRequest::default()).await.map(drop),
        client.update_namespace(update).await.map(drop),
        client.delete_namespace(named("a")).await.map(drop),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_made_in_the_namespace_that_its_metadata_name() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let (mut admin, mut keys_of) = (namespaces(&node, Role::Admin).await, keys(&node, Role::Admin).await);
    for role in [Role::User, Role::Custodian] {
        for refusal in every_call(&mut namespaces(&node, role).await).await {
            refused(refusal, Code::PermissionDenied, "DENIED");
        }
    }
    let wanted = v1::CreateNamespaceRequest { exportable: "wrapped".into(), untracked: true, ..new("Team-A") };
    let made = admin.create_namespace(wanted).await.unwrap().into_inner().namespace.unwrap();
    assert_eq!((made.name.as_str(), made.state()), ("team-a", v1::NamespaceState::Live));
    assert_eq!((made.exportable.as_str(), made.untracked, made.created_ms > 0), ("wrapped", true, true));
    let told = admin.describe_namespace(within("nowhere", named("TEAM-A"))).await.unwrap().into_inner().namespace;
    assert_eq!(told, Some(made.clone()), "that of the call itself does not matter");

    let create = || v1::CreateKeyRequest { alias: "pay".into(), ..Default::default() };
    let first = keys_of.create_key(create()).await.unwrap().into_inner().key.unwrap();
    let second = keys_of.create_key(within("team-a", create())).await.unwrap().into_inner().key.unwrap();
    assert!(first.key_id != second.key_id && second.untracked);
    for (namespace, of) in [("default", &first), ("Team-A", &second)] {
        let found = keys_of.describe_key(within(namespace, key("pay"))).await.unwrap().into_inner().key.unwrap();
        assert_eq!(found.key_id, of.key_id);
        let listed = keys_of.list_keys(within(namespace, v1::ListKeysRequest::default())).await.unwrap().into_inner();
        assert_eq!(listed.keys.iter().map(|key| &key.key_id).collect::<Vec<_>>(), [&of.key_id]);
        let aliases = keys_of.list_aliases(within(namespace, v1::ListAliasesRequest::default())).await.unwrap();
        assert_eq!(aliases.into_inner().aliases.iter().map(|a| &a.key_id).collect::<Vec<_>>(), [&of.key_id]);
    }
    let mut secrets = SecretsClient::new(connect(&node, Some(principal(Role::Admin, "somebody"))).await);
    let set = v1::SetSecretRequest { name: "s".into(), value: b"x".to_vec().into(), ..Default::default() };
    secrets.set_secret(within("team-a", set)).await.unwrap();
    let read = v1::GetSecretRequest { name: "s".into(), version: 0 };
    refused(secrets.get_secret(read.clone()).await, Code::NotFound, "NOT_FOUND");
    assert_eq!(&secrets.get_secret(within("team-a", read)).await.unwrap().into_inner().value[..], b"x");

    let plain = v1::CreateKeyRequest { exportable: "plain".into(), ..Default::default() };
    refused(keys_of.create_key(within("team-a", plain)).await, Code::FailedPrecondition, "NOT_EXPORTABLE");
    let across = v1::CreateAliasRequest { name: "b".into(), key: second.key_id.clone() };
    refused(keys_of.create_alias(across).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let lost = keys_of.describe_key(within("nowhere", key(&first.key_id))).await;
    refused(lost, Code::NotFound, "NAMESPACE_NOT_FOUND");

    let update = v1::UpdateNamespaceRequest { name: "team-a".into(), exportable: "no".into(), tracked: Some(true) };
    let updated = admin.update_namespace(update).await.unwrap().into_inner().namespace.unwrap();
    assert_eq!((updated.exportable.as_str(), updated.untracked), ("no", false));
    refused(admin.delete_namespace(named("team-a")).await, Code::FailedPrecondition, "NOT_EMPTY");
    admin.create_namespace(new("b")).await.unwrap();
    admin.delete_namespace(named("b")).await.unwrap();
    let listed = admin.list_namespaces(v1::ListNamespacesRequest::default()).await.unwrap().into_inner();
    let names: Vec<_> = listed.namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
    assert_eq!((names, listed.next_page_token.len()), (vec!["default", "team-a"], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_about_namespaces_name_what_is_wrong() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let (mut admin, mut keys_of) = (namespaces(&node, Role::Admin).await, keys(&node, Role::Admin).await);
    let odd = v1::CreateNamespaceRequest { exportable: "perhaps".into(), ..new("a") };
    let describe = || key("pay");
    let mut twice = within("a", describe());
    twice.metadata_mut().append(NAMESPACE_KEY, "b".parse().unwrap());
    let cases = [
        (admin.create_namespace(new("a_b")).await.map(drop), "INVALID_ARGUMENT", "namespace"),
        (admin.create_namespace(new("")).await.map(drop), "INVALID_ARGUMENT", "namespace"),
        (admin.create_namespace(new("Default")).await.map(drop), "ALREADY_EXISTS", "namespace"),
        (admin.create_namespace(odd).await.map(drop), "INVALID_ARGUMENT", "exportable"),
        (admin.delete_namespace(named("default")).await.map(drop), "WRONG_STATE", "namespace"),
        (admin.delete_namespace(named("x")).await.map(drop), "NAMESPACE_NOT_FOUND", "namespace"),
        (keys_of.describe_key(within("a b", describe())).await.map(drop), "INVALID_ARGUMENT", "namespace"),
        (keys_of.describe_key(within("-a", describe())).await.map(drop), "INVALID_ARGUMENT", "namespace"),
        (keys_of.describe_key(twice).await.map(drop), "INVALID_ARGUMENT", "namespace"),
        (keys_of.describe_key(within("none", describe())).await.map(drop), "NAMESPACE_NOT_FOUND", "namespace"),
    ];
    for (n, (result, reason, part)) in cases.into_iter().enumerate() {
        let status = result.expect_err("refused");
        let given = [REASON_KEY, PART_KEY].map(|key| status.metadata().get(key).unwrap().to_str().unwrap().to_owned());
        assert_eq!(given, [reason, part].map(str::to_owned), "case {n}: {}", status.message());
    }
    let listed = admin.list_namespaces(v1::ListNamespacesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.namespaces.len(), 1, "nothing was changed");
    let nobody = NamespacesClient::new(connect(&node, None).await).create_namespace(within("a b", new("a"))).await;
    refused(nobody, Code::Unauthenticated, "UNAUTHENTICATED");
}
