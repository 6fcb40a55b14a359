//! Secrets on the wire.

use quorate_proto::v1::secrets_client::SecretsClient;

use super::*;

async fn secrets(node: &Arc<Node>, role: Role) -> SecretsClient<Channel> {
    SecretsClient::new(connect(node, Some(principal(role, "somebody"))).await)
}
fn set(name: &str, value: &[u8]) -> v1::SetSecretRequest {
    v1::SetSecretRequest { name: name.into(), value: value.to_vec().into(), ..Default::default() }
}
fn get(name: &str, version: u32) -> v1::GetSecretRequest {
    v1::GetSecretRequest { name: name.into(), version }
}
fn named(name: &str) -> v1::SecretRequest {
    v1::SecretRequest { name: name.into() }
}

/// Every call, as somebody with nothing else wrong would make it.
async fn every_call(client: &mut SecretsClient<Channel>) -> Vec<Result<(), Status>> {
    let versions = v1::ListSecretVersionsRequest { name: "a".into(), ..Default::default() };
    vec![
        client.set_secret(set("a", b"x")).await.map(drop),
        client.get_secret(get("a", 0)).await.map(drop),
        client.describe_secret(named("a")).await.map(drop),
        client.list_secrets(v1::ListSecretsRequest::default()).await.map(drop),
        client.list_secret_versions(versions).await.map(drop),
        client.update_secret(v1::UpdateSecretRequest { name: "a".into(), ..Default::default() }).await.map(drop),
        client.delete_secret(v1::DeleteSecretRequest { name: "a".into(), ..Default::default() }).await.map(drop),
        client.recover_secret(named("a")).await.map(drop),
        client.purge_secret(named("a")).await.map(drop),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_on_the_wire() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let (mut admin, mut user) = (secrets(&node, Role::Admin).await, secrets(&node, Role::User).await);
    let wanted = v1::SetSecretRequest {
        content_type: "text/plain".into(),
        expires_ms: 7_000_000_000_000,
        tags: vec![v1::Tag { name: "team".into(), value: "shop".into() }],
        token: token(7),
        ..set("Db-Main", b"s3cret")
    };
    let made = admin.set_secret(wanted.clone()).await.unwrap().into_inner().secret.unwrap();
    assert_eq!((made.name.as_str(), made.state(), made.current_version), ("Db-Main", KeyState::Enabled, 1));
    assert_eq!(admin.set_secret(wanted.clone()).await.unwrap().into_inner().secret.unwrap(), made, "the same token");
    let other = v1::SetSecretRequest { value: b"other".to_vec().into(), ..wanted };
    refused(admin.set_secret(other).await, Code::InvalidArgument, "TOKEN_REUSED");
    let long = vec![7; 32 * 1024];
    assert_eq!(admin.set_secret(set("db-main", &long)).await.unwrap().into_inner().secret.unwrap().current_version, 2);
    let read = user.get_secret(get("DB-MAIN", 0)).await.unwrap().into_inner();
    assert_eq!((&read.value[..], read.name.as_str(), &read.secret_id), (&long[..], "Db-Main", &made.secret_id));
    let first = user.get_secret(get("db-main", 1)).await.unwrap().into_inner();
    let version = first.version.unwrap();
    assert_eq!((&first.value[..], version.version, version.state()), (&b"s3cret"[..], 1, v1::VersionState::Active));
    assert_eq!((version.content_type.as_str(), version.expires_ms), ("text/plain", 7_000_000_000_000));

    let update = v1::UpdateSecretRequest {
        name: "db-main".into(),
        version: 1,
        enabled: Some(false),
        untag: vec!["team".into()],
        ..Default::default()
    };
    let updated = admin.update_secret(update).await.unwrap().into_inner();
    assert!(updated.secret.unwrap().tags.is_empty() && !updated.version.unwrap().enabled);
    let off = user.get_secret(get("db-main", 1)).await.unwrap_err();
    assert_eq!(off.message(), "version 1 of secret db-main is disabled; enable it first");
    refused(Err::<(), _>(off), Code::FailedPrecondition, "KEY_DISABLED");
    let told = user.describe_secret(named("db-main")).await.unwrap().into_inner();
    assert_eq!(told.version.unwrap().version, 2);
    let list = v1::ListSecretVersionsRequest { name: "db-main".into(), limit: 1, ..Default::default() };
    let versions = user.list_secret_versions(list).await.unwrap().into_inner();
    assert_eq!((versions.versions.len(), versions.versions[0].version, versions.next_before), (1, 2, 2));
    let listed = user.list_secrets(v1::ListSecretsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.secrets, [told.secret.unwrap()]);
    assert!(
        keys(&node, Role::User)
            .await
            .list_keys(v1::ListKeysRequest::default())
            .await
            .unwrap()
            .into_inner()
            .keys
            .is_empty()
    );
    let as_key = keys(&node, Role::Admin).await.describe_key(key(&made.secret_id)).await;
    refused(as_key, Code::InvalidArgument, "WRONG_KIND");

    let delete = |days| v1::DeleteSecretRequest { name: "db-main".into(), days, ..Default::default() };
    refused(admin.delete_secret(delete(6)).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let deleted = admin.delete_secret(delete(7)).await.unwrap().into_inner().secret.unwrap();
    assert_eq!(deleted.state(), KeyState::PendingDeletion);
    refused(user.get_secret(get("db-main", 0)).await, Code::FailedPrecondition, "KEY_PENDING_DELETION");
    refused(admin.set_secret(set("db-main", b"x")).await, Code::FailedPrecondition, "KEY_PENDING_DELETION");
    let recovered = admin.recover_secret(named("db-main")).await.unwrap().into_inner().secret.unwrap();
    assert_eq!((recovered.state(), recovered.deletion_ms), (KeyState::Enabled, 0));
    refused(admin.purge_secret(named("db-main")).await, Code::FailedPrecondition, "WRONG_STATE");
    admin.delete_secret(delete(0)).await.unwrap();
    assert_eq!(admin.purge_secret(named("db-main")).await.unwrap().into_inner().secret_id, made.secret_id);
    refused(user.get_secret(get("db-main", 0)).await, Code::NotFound, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_for_secrets_are_refused_and_name_what_is_wrong() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let mut admin = secrets(&node, Role::Admin).await;
    let cases = [
        (admin.set_secret(set("under_score", b"x")).await.map(drop), "INVALID_ARGUMENT", "name"),
        (admin.get_secret(get("", 0)).await.map(drop), "INVALID_ARGUMENT", "name"),
        (admin.get_secret(get("nobody", 0)).await.map(drop), "NOT_FOUND", "name"),
        (admin.set_secret(set("a", b"")).await.map(drop), "INVALID_ARGUMENT", "value"),
        (admin.set_secret(set("a", &[b's'; 32 * 1024 + 1])).await.map(drop), "TOO_LARGE", "value"),
        (
            admin.set_secret(v1::SetSecretRequest { content_type: "x".repeat(256), ..set("a", b"x") }).await.map(drop),
            "INVALID_ARGUMENT",
            "content-type",
        ),
        (
            admin
                .set_secret(v1::SetSecretRequest { not_before_ms: 2, expires_ms: 1, ..set("a", b"x") })
                .await
                .map(drop),
            "INVALID_ARGUMENT",
            "date",
        ),
        (
            admin.list_secrets(v1::ListSecretsRequest { limit: 1001, ..Default::default() }).await.map(drop),
            "INVALID_ARGUMENT",
            "page-length",
        ),
    ];
    for (n, (result, reason, part)) in cases.into_iter().enumerate() {
        let status = result.expect_err("refused");
        let given = [REASON_KEY, PART_KEY].map(|key| status.metadata().get(key).unwrap().to_str().unwrap().to_owned());
        assert_eq!(given, [reason, part].map(str::to_owned), "case {n}: {}", status.message());
        assert!(!status.message().contains("sss"), "{}", status.message());
    }
    let listed = admin.list_secrets(v1::ListSecretsRequest::default()).await.unwrap().into_inner();
    assert!(listed.secrets.is_empty(), "nothing was changed");
    for refusal in every_call(&mut secrets(&node, Role::Custodian).await).await {
        refused(refusal, Code::PermissionDenied, "DENIED");
    }
    let denied: Vec<_> = every_call(&mut secrets(&node, Role::User).await)
        .await
        .into_iter()
        .map(|done| done.err().and_then(|e| e.metadata().get(REASON_KEY).map(|r| r.to_str().unwrap().to_owned())))
        .collect();
    let (no, none, yes) = (Some("DENIED"), Some("NOT_FOUND"), None);
    assert_eq!(denied.iter().map(Option::as_deref).collect::<Vec<_>>(), [no, none, none, yes, none, no, no, no, no]);
}
