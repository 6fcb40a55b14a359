//! The keys door over a real node: what a client sees on the wire, in order and in trouble. TLS is the binary's; here a
//! connection is a pipe in memory whose caller the test chooses.
#![allow(clippy::disallowed_methods, reason = "a test's own world")]

#[path = "../../service/src/testing/node.rs"]
mod support;

#[path = "door/destruction.rs"]
mod destruction;
#[path = "door/namespaces.rs"]
mod namespaces;
#[path = "door/principals.rs"]
mod principals;
#[path = "door/public.rs"]
mod public;
#[path = "door/secrets.rs"]
mod secrets;
#[path = "door/states.rs"]
mod states;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quorate_core::credential::Presented;
use quorate_core::id::KeyId;
use quorate_core::key_spec::Algorithm;
use quorate_core::principal::{Principal, Role};
use quorate_core::request::PLAINTEXT_LEN_MAX;
use quorate_grpc::{Caller, Door, WatchSeat, router};
use quorate_proto::v1::keys_client::KeysClient;
use quorate_proto::v1::{self, KeyState};
use quorate_proto::{MESSAGE_LEN_MAX, PART_KEY, REASON_KEY};
use quorate_service::node::Node;
use support::{Rig, certificate, principal, unseal};
use tokio::io::DuplexStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// The `n`th token of this process.
fn token(n: u64) -> Bytes {
    static STARTED: LazyLock<u64> =
        LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64);
    Bytes::copy_from_slice(&KeyId::new(*STARTED, n, [0; 4]).0)
}

/// Somebody with the one certificate that he has: another for each.
fn caller_of(principal: Principal) -> Caller {
    let presented = Presented { id: certificate(&principal), ends_ms: 0 };
    Caller { principal, presented, source: None, door: Door::Native, namespace: None }
}

/// A connection to the node, of somebody or of nobody.
async fn connect(node: &Arc<Node>, caller: Option<Principal>) -> Channel {
    let (client, server) = tokio::io::duplex(1 << 20);
    let nobody = Arc::new(|_: &[_]| Err("these connections have no certificates".into()));
    let service = router(node.clone(), nobody, Arc::default());
    let caller = caller.map(caller_of);
    let seat = WatchSeat::default();
    let put_caller = tower::util::MapRequestLayer::new(move |mut request: http::Request<tonic::body::Body>| {
        request.extensions_mut().insert(seat.clone());
        if let Some(caller) = caller.clone() {
            request.extensions_mut().insert(caller);
        }
        request
    });
    let incoming = tokio_stream::once(Ok::<DuplexStream, std::io::Error>(server));
    tokio::spawn(Server::builder().layer(put_caller).add_routes(service.into()).serve_with_incoming(incoming));
    let mut client = Some(hyper_util::rt::TokioIo::new(client));
    let connector = tower::service_fn(move |_| {
        let client = client.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected));
        async move { client }
    });
    Endpoint::from_static("http://node.test").connect_with_connector(connector).await.expect("connects")
}

async fn keys(node: &Arc<Node>, role: Role) -> KeysClient<Channel> {
    KeysClient::new(connect(node, Some(principal(role, "somebody"))).await)
}

#[track_caller]
fn refused<T>(result: Result<T, Status>, code: Code, reason: &str) -> String {
    let status = result.err().expect("refused");
    let given = status.metadata().get(REASON_KEY).map(|value| value.to_str().expect("text"));
    assert_eq!((status.code(), given), (code, Some(reason)), "{}", status.message());
    assert!(status.message().len() > 20, "says what, why, and what to do: {}", status.message());
    status.message().to_owned()
}

fn key(name: &str) -> v1::KeyRequest {
    v1::KeyRequest { key: name.into() }
}
fn plain(key: &str, plaintext: &[u8]) -> v1::EncryptRequest {
    v1::EncryptRequest { key: key.into(), plaintext: plaintext.to_vec().into(), ..Default::default() }
}
fn cipher(ciphertext: &[u8]) -> v1::DecryptRequest {
    v1::DecryptRequest { ciphertext: ciphertext.to_vec().into(), ..Default::default() }
}
fn pair(key: &str, value: &str) -> v1::AssociatedData {
    v1::AssociatedData { key: key.into(), value: value.into() }
}

/// Every keys call, as a user with nothing else wrong would make it.
async fn every_call(client: &mut KeysClient<Channel>) -> Vec<Result<(), Status>> {
    let id = "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab";
    let aliased = v1::CreateAliasRequest { name: "a".into(), key: id.into() };
    let data_key = v1::GenerateDataKeyRequest { key: id.into(), ..Default::default() };
    let deletion = v1::ScheduleKeyDeletionRequest { key: id.into(), days: 7, ..Default::default() };
    let rotation = v1::RotateKeyRequest { key: id.into(), ..Default::default() };
    vec![
        client.create_key(v1::CreateKeyRequest::default()).await.map(drop),
        client.describe_key(key(id)).await.map(drop),
        client.list_keys(v1::ListKeysRequest::default()).await.map(drop),
        client.enable_key(key(id)).await.map(drop),
        client.disable_key(key(id)).await.map(drop),
        client.rotate_key(rotation).await.map(drop),
        client.schedule_key_deletion(deletion).await.map(drop),
        client.cancel_key_deletion(cancel(id, false)).await.map(drop),
        client.create_alias(aliased).await.map(drop),
        client.delete_alias(v1::DeleteAliasRequest { name: "a".into() }).await.map(drop),
        client.list_aliases(v1::ListAliasesRequest::default()).await.map(drop),
        client.encrypt(plain(id, b"x")).await.map(drop),
        client.decrypt(cipher(&[0; 200])).await.map(drop),
        client.generate_data_key(data_key).await.map(drop),
        client.generate_random(v1::GenerateRandomRequest { bytes: 8 }).await.map(drop),
        client.create_keys(v1::CreateKeysRequest { count: 2, ..Default::default() }).await.map(drop),
        client.update_key(v1::UpdateKeyRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.tag_key(v1::TagKeyRequest { key: id.into(), tags: vec![] }).await.map(drop),
        client.untag_key(v1::UntagKeyRequest { key: id.into(), names: vec![] }).await.map(drop),
        client.list_versions(v1::ListVersionsRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.update_version(v1::UpdateVersionRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.activate_version(version(id, 1)).await.map(drop),
        client.revoke_version(v1::RevokeVersionRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.destroy_version(version(id, 1)).await.map(drop),
        client
            .re_encrypt(v1::ReEncryptRequest { ciphertext: blob(), to: id.into(), ..Default::default() })
            .await
            .map(drop),
        client.generate_data_key_pair(data_key_pair(id)).await.map(drop),
        client.wrap(v1::WrapRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.unwrap(v1::UnwrapRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.sign(sign(id, b"m")).await.map(drop),
        client.verify(verify(id, b"m", b"s")).await.map(drop),
        client.mac(v1::MacRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.verify_mac(v1::VerifyMacRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.agree(v1::AgreeRequest { key: id.into(), peer: spki(), ..Default::default() }).await.map(drop),
        client.encapsulate(v1::EncapsulateRequest { key: id.into(), version: 0 }).await.map(drop),
        client.decapsulate(v1::DecapsulateRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.get_public_key(v1::GetPublicKeyRequest { key: id.into(), version: 0 }).await.map(drop),
        client.purge_key(key(id)).await.map(drop),
        client.set_key_rotation(v1::SetKeyRotationRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.derive_key(v1::DeriveKeyRequest { key: id.into(), bytes: 32, ..Default::default() }).await.map(drop),
        client.make_digest(v1::MakeDigestRequest::default()).await.map(drop),
        client.encrypt_many(v1::EncryptManyRequest { parts: vec![plain(id, b"x")] }).await.map(drop),
        client.decrypt_many(v1::DecryptManyRequest { parts: vec![cipher(&blob())] }).await.map(drop),
        client.sign_many(v1::SignManyRequest { parts: vec![sign(id, b"m")] }).await.map(drop),
        client.get_import_parameters(parameters(id)).await.map(drop),
        client.import_material(v1::ImportMaterialRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.delete_material(version(id, 0)).await.map(drop),
        client.export_key(v1::ExportKeyRequest { key: id.into(), ..Default::default() }).await.map(drop),
        client.archive_key(key(id)).await.map(drop),
        client.recover_key(key(id)).await.map(drop),
        client.get_last_use(key(id)).await.map(drop),
        client.backup_key(key(id)).await.map(drop),
        client.restore_key(v1::RestoreKeyRequest::default()).await.map(drop),
        client.rekey_key(v1::RekeyKeyRequest { key: id.into(), ..Default::default() }).await.map(drop),
    ]
}

fn cancel(key: &str, as_before: bool) -> v1::CancelKeyDeletionRequest {
    v1::CancelKeyDeletionRequest { key: key.into(), as_before }
}
fn parameters(key: &str) -> v1::GetImportParametersRequest {
    v1::GetImportParametersRequest { key: key.into(), wrapping_spec: "rsa-2048".into() }
}
fn version(key: &str, version: u32) -> v1::VersionRequest {
    v1::VersionRequest { key: key.into(), version }
}
fn data_key_pair(key: &str) -> v1::GenerateDataKeyPairRequest {
    v1::GenerateDataKeyPairRequest { key: key.into(), spec: "p-256".into(), ..Default::default() }
}
fn sign(key: &str, message: &[u8]) -> v1::SignRequest {
    let input = Some(v1::sign_request::Input::Message(message.to_vec().into()));
    v1::SignRequest { key: key.into(), input, ..Default::default() }
}
fn verify(key: &str, message: &[u8], signature: &[u8]) -> v1::VerifyRequest {
    let input = Some(v1::verify_request::Input::Message(message.to_vec().into()));
    v1::VerifyRequest { key: key.into(), input, signature: signature.to_vec().into(), ..Default::default() }
}
/// What looks like a ciphertext.
fn blob() -> bytes::Bytes {
    let mut blob = vec![0; 200];
    blob[..4].copy_from_slice(&[0x51, 1, 1, 1]);
    blob[27] = 1;
    blob.into()
}
/// A public key of nobody.
fn spki() -> bytes::Bytes {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    let key = aws_lc_rs::agreement::PrivateKey::generate(&aws_lc_rs::agreement::ECDH_P256).unwrap();
    let spki: PublicKeyX509Der<'_> = key.compute_public_key().unwrap().as_der().unwrap();
    spki.as_ref().to_vec().into()
}

async fn health(node: &Arc<Node>, service: &str) -> Result<ServingStatus, Status> {
    let mut client = HealthClient::new(connect(node, None).await);
    let answer = client.check(HealthCheckRequest { service: service.into() }).await?;
    Ok(answer.into_inner().status())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_before_a_byte_of_the_request_is_waited_for() {
    let rig = Rig::new();
    let node = rig.node("n1").await;
    for path in ["/quorate.v1.Keys/Encrypt", "/quorate.v1.Operator/SubmitShare", "/quorate.v1.Keys/NoSuchCall"] {
        let mut stranger = tonic::client::Grpc::new(connect(&node, None).await);
        stranger.ready().await.expect("connected");
        // A body that never begins: whoever waits for it waits for ever, and keeps what has come so far.
        let body = Request::new(tokio_stream::pending::<v1::EchoRequest>());
        let codec = tonic_prost::ProstCodec::<v1::EchoRequest, v1::EchoResponse>::default();
        let asked = stranger.client_streaming(body, path.parse().expect("a path"), codec);
        let answer = tokio::time::timeout(Duration::from_secs(10), asked).await.expect("answered at once");
        refused(answer, Code::Unauthenticated, "UNAUTHENTICATED");
    }
}

/// Sends these bytes as a request's body, in pieces.
async fn raw(node: &Arc<Node>, who: Option<Role>, path: &str, pieces: &[&[u8]]) -> Result<(), Status> {
    let mut channel = connect(node, who.map(|role| principal(role, "somebody"))).await;
    let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, Status>(bytes::Bytes::copy_from_slice(piece))).collect();
    let body = tonic::body::Body::new(http_body_util::StreamBody::new(tokio_stream::StreamExt::map(
        tokio_stream::iter(pieces),
        |piece| piece.map(http_body::Frame::data),
    )));
    let request = http::Request::post(format!("http://node.test{path}"))
        .header("content-type", "application/grpc")
        .body(body)
        .expect("a request");
    let answer = tower::Service::call(tower::ServiceExt::ready(&mut channel).await.expect("connected"), request).await;
    let answer = answer.expect("an answer");
    Status::from_header_map(answer.headers()).map_or(Ok(()), Err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_no_message_is_refused_in_words() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let encrypt = "/quorate.v1.Keys/Encrypt";
    let admin = async |path, pieces: &[&[u8]]| raw(&node, Some(Role::Admin), path, pieces).await;
    let cases: [(&str, &[&[u8]]); 9] = [
        ("nothing", &[]),
        ("half a prefix", &[&[0, 0, 0]]),
        ("less than announced", &[&[0, 0, 0, 0, 9], &[1; 8]]),
        ("more than announced", &[&[0, 0, 0, 0, 1], &[1; 8]]),
        ("two messages", &[&[0, 0, 0, 0, 0], &[0, 0, 0, 0, 0]]),
        ("compressed", &[&[1, 0, 0, 0, 0]]),
        ("no protobuf", &[&[0, 0, 0, 0, 4, 0xFF, 0xFF, 0xFF, 0xFF]]),
        ("text that is none", &[&[0, 0, 0, 0, 3, 0x0A, 1, 0xFF]]),
        ("a field of another kind", &[&[0, 0, 0, 0, 2, 0x08, 1]]),
    ];
    for (what, pieces) in cases {
        let refusal = admin(encrypt, pieces).await.expect_err(what);
        println!("{what}: {}", refusal.message());
        refused(Err::<(), _>(refusal), Code::InvalidArgument, "INVALID_ARGUMENT");
    }
    refused(admin(encrypt, &[&[0, 0xFF, 0xFF, 0xFF, 0xFF]]).await, Code::InvalidArgument, "TOO_LARGE");
    assert_eq!(admin("/quorate.v1.Keys/NoSuchCall", &[&[0; 5]]).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(admin("/quorate.v2.Keys/Encrypt", &[&[0; 5]]).await.unwrap_err().code(), Code::Unimplemented);
    // Whole, in the smallest pieces.
    let pieces: Vec<&[u8]> = [0u8; 5].chunks(1).map(|_| &[0u8][..]).collect();
    raw(&node, None, "/grpc.health.v1.Health/Check", &pieces).await.expect("the empty question");
    let long = [&[0, 0, 0, 4, 1][..], &[0x0A; 0x401]].concat();
    refused(raw(&node, None, "/grpc.health.v1.Health/Check", &[&long]).await, Code::InvalidArgument, "TOO_LARGE");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_is_refused_before_a_byte_of_the_request_is_waited_for() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    for (role, path) in [
        (Role::Auditor, "/quorate.v1.Keys/Encrypt"),
        (Role::User, "/quorate.v1.Keys/CreateKey"),
        (Role::User, "/quorate.v1.Operator/SubmitShare"),
        (Role::Custodian, "/quorate.v1.Operator/Seal"),
    ] {
        let who = Some(principal(role, "somebody"));
        let mut client = tonic::client::Grpc::new(connect(&node, who).await);
        client.ready().await.expect("connected");
        let body = Request::new(tokio_stream::pending::<v1::EchoRequest>());
        let codec = tonic_prost::ProstCodec::<v1::EchoRequest, v1::EchoResponse>::default();
        let asked = client.client_streaming(body, path.parse().expect("a path"), codec);
        let answer = tokio::time::timeout(Duration::from_secs(10), asked).await.expect("answered at once");
        refused(answer, Code::PermissionDenied, "DENIED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_has_too_much_under_way_is_told_and_the_others_go_on() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    // One guard: connections of one listener.
    let service = router(node.clone(), Arc::new(|_: &[_]| Err("no certificates".into())), Arc::default());
    let ask = |name: &str, body: tonic::body::Body| {
        let mut request = http::Request::post("http://node.test/quorate.v1.Keys/Echo")
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .body(axum::body::Body::new(body))
            .expect("a request");
        request.extensions_mut().insert(caller_of(principal(Role::User, name)));
        let answer = tower::ServiceExt::oneshot(service.clone(), request);
        async move {
            let answer = answer.await.expect("infallible");
            Status::from_header_map(answer.headers()).map_or(Ok(()), Err)
        }
    };
    let begun = |len: u32| {
        let prefix = bytes::Bytes::copy_from_slice(&[&[0][..], &len.to_be_bytes()].concat());
        let first = tokio_stream::once(Ok::<_, Status>(http_body::Frame::data(prefix)));
        let body = tokio_stream::StreamExt::chain(first, tokio_stream::pending());
        tonic::body::Body::new(http_body_util::StreamBody::new(body))
    };
    let whole = || tonic::body::Body::new(http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5])));
    let mut under_way = Vec::new();
    let refusal = loop {
        let mut asked = Box::pin(ask("heavy", begun(MESSAGE_LEN_MAX as u32)));
        match futures::FutureExt::now_or_never(&mut asked) {
            None => under_way.push(asked),
            Some(answer) => break answer,
        }
        assert!(under_way.len() < 100, "nothing stops it");
    };
    refused(refusal, Code::ResourceExhausted, "BUSY");
    assert_eq!(under_way.len(), 7, "each takes its length twice");
    ask("heavy", whole()).await.expect("a small one still has room");
    assert!(futures::FutureExt::now_or_never(Box::pin(ask("light", begun(MESSAGE_LEN_MAX as u32)))).is_none());
    ask("light", whole()).await.expect("others go on");
    under_way.clear();
    assert!(futures::FutureExt::now_or_never(Box::pin(ask("heavy", begun(MESSAGE_LEN_MAX as u32)))).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_watches_once_and_its_watch_ends_when_the_node_is_sealed() {
    let rig = Rig::new();
    let (node, shares) = rig.unsealed().await;
    let mut client = HealthClient::new(connect(&node, None).await);
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    refused(client.watch(HealthCheckRequest::default()).await, Code::ResourceExhausted, "BUSY");
    client.check(HealthCheckRequest::default()).await.expect("questions are answered meanwhile");
    drop(watch);
    let mut watch = client.watch(HealthCheckRequest::default()).await.expect("the seat is free again").into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    node.seal(&support::admin(), false, support::soon()).await.expect("sealed");
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none(), "it ends as the connection does");
    drop(shares);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_before_and_after_the_ceremony() {
    let rig = Rig::new();
    let node = rig.node("n1").await;
    for result in every_call(&mut keys(&node, Role::Admin).await).await {
        refused(result, Code::Unavailable, "UNINITIALIZED");
    }
    let founded = support::init(&node, 3, 2).await.expect("founded");
    let shares: Vec<String> = founded.shares.iter().map(|share| share.to_string()).collect();
    let mut admin = keys(&node, Role::Admin).await;
    for result in every_call(&mut admin).await {
        refused(result, Code::Unavailable, "SEALED");
    }
    let payload = bytes::Bytes::from_static(b"ping");
    let echo = || v1::EchoRequest { payload: payload.clone() };
    assert_eq!(admin.echo(echo()).await.expect("also while sealed").into_inner().payload, payload);
    assert_eq!(health(&node, "").await.unwrap(), ServingStatus::NotServing);
    assert_eq!(health(&node, "quorate.v1.Operator").await.unwrap(), ServingStatus::Serving);
    assert_eq!(health(&node, "else").await.unwrap_err().code(), Code::NotFound);

    let mut watch = HealthClient::new(connect(&node, None).await);
    let mut watch = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    unseal(&node, &shares[..2]).await;
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(health(&node, "quorate.v1.Keys").await.unwrap(), ServingStatus::Serving);

    // Nobody, and somebody of another trade.
    let mut nobody = KeysClient::new(connect(&node, None).await);
    for result in every_call(&mut nobody).await {
        refused(result, Code::Unauthenticated, "UNAUTHENTICATED");
    }
    refused(nobody.echo(echo()).await, Code::Unauthenticated, "UNAUTHENTICATED");
    for role in [Role::Custodian, Role::Auditor, Role::Node] {
        for result in every_call(&mut keys(&node, role).await).await {
            refused(result, Code::PermissionDenied, "DENIED");
        }
    }
    refused(keys(&node, Role::Node).await.echo(echo()).await, Code::PermissionDenied, "DENIED");
    for (n, result) in every_call(&mut keys(&node, Role::User).await).await.into_iter().enumerate() {
        let denied = result.err().is_some_and(|status| status.code() == Code::PermissionDenied);
        assert_eq!(denied, matches!(n, 0 | 3..=9 | 15..=18 | 20..=23 | 36..=37 | 43..=48 | 50..=52), "call {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_on_the_wire() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let (mut admin, mut user) = (keys(&node, Role::Admin).await, keys(&node, Role::User).await);
    let request =
        v1::CreateKeysRequest { count: 130, description: "tenant".into(), token: token(7), ..Default::default() };
    let made = admin.create_keys(request.clone()).await.unwrap().into_inner().keys;
    assert_eq!(made.len(), 130);
    assert!(made.iter().all(|key| key.state() == KeyState::Enabled && key.description == "tenant"));
    assert_eq!(admin.create_keys(request.clone()).await.unwrap().into_inner().keys, made, "the same token");
    let other = v1::CreateKeysRequest { count: 129, ..request };
    refused(admin.create_keys(other).await, Code::InvalidArgument, "TOKEN_REUSED");
    let last = &made[129].key_id;
    let sealed = user.encrypt(plain(last, b"secret")).await.unwrap().into_inner();
    assert_eq!(user.decrypt(cipher(&sealed.ciphertext)).await.unwrap().into_inner().plaintext[..], b"secret"[..]);
    let all = user.list_keys(v1::ListKeysRequest { limit: 1000, ..Default::default() }).await.unwrap().into_inner();
    let ids = |keys: &[v1::Key]| keys.iter().map(|key| key.key_id.clone()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(ids(&all.keys), ids(&made));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_on_the_wire() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let (mut admin, mut user) = (keys(&node, Role::Admin).await, keys(&node, Role::User).await);
    let request = v1::CreateKeyRequest {
        alias: "db".into(),
        name: "Main-DB".into(),
        description: "the database's".into(),
        token: token(7),
        ..Default::default()
    };
    let made = admin.create_key(request.clone()).await.unwrap().into_inner().key.unwrap();
    assert_eq!((made.state(), made.spec.as_str(), made.current_version), (KeyState::Enabled, "aes-256", 1));
    assert_eq!((made.name.as_str(), &made.aliases[..]), ("Main-DB", &["db".to_owned()][..]));
    assert_eq!(user.describe_key(key("key/main-db")).await.unwrap().into_inner().key.unwrap(), made);
    assert_eq!((made.description.as_str(), made.deletion_ms, made.rotated_ms), ("the database's", 0, 0));
    assert_eq!(made.key_id.len(), 36);
    assert_eq!(admin.create_key(request.clone()).await.unwrap().into_inner().key.unwrap(), made, "the same token");
    let other = v1::CreateKeyRequest { description: "another".into(), ..request };
    refused(admin.create_key(other).await, Code::InvalidArgument, "TOKEN_REUSED");
    let taken = v1::CreateKeyRequest { alias: "db".into(), ..Default::default() };
    refused(admin.create_key(taken).await, Code::AlreadyExists, "ALREADY_EXISTS");

    let bound = vec![pair("b", "2"), pair("a", "1")];
    let encrypt = v1::EncryptRequest { aad: bound.clone(), ..plain("alias/db", b"secret") };
    let sealed = user.encrypt(encrypt).await.unwrap().into_inner();
    assert_eq!((&sealed.key_id, sealed.key_version), (&made.key_id, 1));
    let rotation = v1::RotateKeyRequest { key: "db".into(), token: token(8), ..Default::default() };
    let rotated = admin.rotate_key(rotation).await.unwrap().into_inner().key.unwrap();
    assert_eq!(rotated.current_version, 2);
    let decrypt = v1::DecryptRequest {
        aad: vec![pair("a", "1"), pair("b", "2")],
        key: vec!["db".into()],
        ..cipher(&sealed.ciphertext)
    };
    let opened = user.decrypt(decrypt.clone()).await.unwrap().into_inner();
    assert_eq!((&opened.plaintext[..], opened.key_version), (&b"secret"[..], 1));
    refused(user.decrypt(cipher(&sealed.ciphertext)).await, Code::InvalidArgument, "TAMPERED");

    let data_key =
        v1::GenerateDataKeyRequest { key: "db".into(), bytes: 0, aad: bound.clone(), without_plaintext: false };
    let data_key = user.generate_data_key(data_key).await.unwrap().into_inner();
    assert_eq!((data_key.plaintext.len(), data_key.key_version), (32, 2));
    let back = v1::DecryptRequest { aad: bound.clone(), ..cipher(&data_key.ciphertext) };
    assert_eq!(user.decrypt(back).await.unwrap().into_inner().plaintext, data_key.plaintext);
    let without = v1::GenerateDataKeyRequest { key: "db".into(), without_plaintext: true, ..Default::default() };
    assert!(user.generate_data_key(without).await.unwrap().into_inner().plaintext.is_empty());

    admin.disable_key(key("db")).await.unwrap();
    refused(user.decrypt(decrypt.clone()).await, Code::FailedPrecondition, "KEY_DISABLED");
    admin.enable_key(key("db")).await.unwrap();
    let deletion = v1::ScheduleKeyDeletionRequest { key: "db".into(), ..Default::default() };
    let doomed = admin.schedule_key_deletion(deletion).await.unwrap().into_inner().key.unwrap();
    assert_eq!(doomed.state(), KeyState::PendingDeletion);
    assert!(doomed.deletion_ms > doomed.created_ms + 29 * 86_400_000);
    refused(user.decrypt(decrypt).await, Code::FailedPrecondition, "KEY_PENDING_DELETION");
    let spared = admin.cancel_key_deletion(cancel("db", false)).await.unwrap().into_inner().key.unwrap();
    assert_eq!((spared.state(), spared.deletion_ms), (KeyState::Disabled, 0));
    refused(admin.cancel_key_deletion(cancel("db", false)).await, Code::FailedPrecondition, "WRONG_STATE");

    let second = v1::CreateAliasRequest { name: "alias/second".into(), key: made.key_id.clone() };
    let alias = admin.create_alias(second).await.unwrap().into_inner().alias.unwrap();
    assert_eq!((alias.name.as_str(), &alias.key_id), ("second", &made.key_id));
    let listed =
        user.list_aliases(v1::ListAliasesRequest { limit: 1, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(listed.aliases.len(), 1);
    let next = v1::ListAliasesRequest { limit: 1, page_token: listed.next_page_token };
    let last = user.list_aliases(next).await.unwrap().into_inner();
    assert_eq!((last.aliases.len(), last.next_page_token.len()), (1, 0));
    admin.delete_alias(v1::DeleteAliasRequest { name: "second".into() }).await.unwrap();
    let all = user.list_keys(v1::ListKeysRequest::default()).await.unwrap().into_inner();
    let described = user.describe_key(key("db")).await.unwrap().into_inner().key.unwrap();
    assert_eq!(all.keys, [v1::Key { description: String::new(), ..described }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_the_part_of_the_request_that_is_wrong() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let mut admin = keys(&node, Role::Admin).await;
    let made = v1::CreateKeyRequest { alias: "db".into(), ..Default::default() };
    admin.create_key(made.clone()).await.unwrap();
    let part = |result: Result<(), Status>| {
        let status = result.expect_err("refused");
        status.metadata().get(PART_KEY).map(|part| part.to_str().expect("text").to_owned())
    };
    let alias = v1::CreateKeyRequest { alias: "no spaces".into(), ..Default::default() };
    let token = v1::CreateKeyRequest { token: vec![1; 15].into(), ..Default::default() };
    let called = |name: &str| v1::CreateKeyRequest { name: name.into(), ..Default::default() };
    admin.create_key(called("Main")).await.unwrap();
    let cases = [
        (admin.create_key(alias).await.map(drop), Some("alias")),
        (admin.create_key(made).await.map(drop), Some("alias")),
        (admin.create_key(called("under_score")).await.map(drop), Some("name")),
        (admin.create_key(called("mAIN")).await.map(drop), Some("name")),
        (admin.describe_key(key("key/db")).await.map(drop), Some("key")),
        (admin.describe_key(key("key/no spaces")).await.map(drop), Some("key")),
        (admin.create_key(token).await.map(drop), Some("token")),
        (admin.describe_key(key("nobody")).await.map(drop), Some("key")),
        (admin.describe_key(key("no spaces")).await.map(drop), Some("key")),
        (admin.encrypt(plain("db", &[0; PLAINTEXT_LEN_MAX + 1])).await.map(drop), Some("plaintext")),
        (admin.decrypt(cipher(&[7; 500])).await.map(drop), Some("ciphertext")),
        (keys(&node, Role::Auditor).await.describe_key(key("db")).await.map(drop), None),
    ];
    for (n, (result, named)) in cases.into_iter().enumerate() {
        assert_eq!(part(result).as_deref(), named, "case {n}");
    }
}

/// What every protocol door will rest on, once through the wire.
#[tokio::test(flavor = "multi_thread")]
async fn kinds_and_versions_on_the_wire() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let (mut admin, mut user) = (keys(&node, Role::Admin).await, keys(&node, Role::User).await);
    let tag = |name: &str, value: &str| v1::Tag { name: name.into(), value: value.into() };
    let made = v1::CreateKeyRequest {
        alias: "s".into(),
        spec: "p-384".into(),
        tags: vec![tag("a", "b")],
        ..Default::default()
    };
    let made = admin.create_key(made).await.unwrap().into_inner().key.unwrap();
    assert_eq!(
        (made.spec.as_str(), made.usage, made.tags),
        ("p-384", vec!["sign".to_owned(), "verify".into()], vec![tag("a", "b")])
    );
    let signed = user.sign(sign("s", b"m")).await.unwrap().into_inner();
    assert_eq!((signed.key_version, signed.algorithm.as_str()), (1, "ecdsa-sha384"));
    let valid = async |user: &mut KeysClient<Channel>, message: &[u8]| {
        user.verify(verify("s", message, &signed.signature)).await.unwrap().into_inner().valid
    };
    assert!(valid(&mut user, b"m").await && !valid(&mut user, b"n").await);
    let public =
        user.get_public_key(v1::GetPublicKeyRequest { key: "s".into(), version: 0 }).await.unwrap().into_inner();
    assert_eq!((public.spec.as_str(), public.key_version, public.public_key.len()), ("p-384", 1, 120));

    // Every cell of the table is tried at the desk; here, that each word of a refusal comes through.
    let revoke = |compromised| v1::RevokeVersionRequest { key: "s".into(), version: 0, compromised, since_ms: 0 };
    let state = |answer: v1::VersionResponse| answer.version.unwrap().state();
    let now = state(admin.revoke_version(revoke(false)).await.unwrap().into_inner());
    assert_eq!(now, v1::VersionState::Deactivated);
    refused(user.sign(sign("s", b"m")).await, Code::FailedPrecondition, "NO_LONGER_VALID");
    assert!(valid(&mut user, b"m").await);
    let now = state(admin.revoke_version(revoke(true)).await.unwrap().into_inner());
    assert_eq!(now, v1::VersionState::Compromised);
    refused(user.sign(sign("s", b"m")).await, Code::FailedPrecondition, "COMPROMISED");
    refused(user.verify(verify("s", b"m", b"")).await, Code::FailedPrecondition, "COMPROMISED");
    assert!(valid(&mut admin, b"m").await);
    let now = state(admin.destroy_version(version("s", 1)).await.unwrap().into_inner());
    assert_eq!(now, v1::VersionState::DestroyedCompromised);
    refused(admin.verify(verify("s", b"m", b"")).await, Code::FailedPrecondition, "DESTROYED");
    let later = v1::CreateKeyRequest { alias: "later".into(), activation_ms: Some(0), ..Default::default() };
    admin.create_key(later).await.unwrap();
    refused(user.encrypt(plain("later", b"x")).await, Code::FailedPrecondition, "NOT_YET_VALID");
    admin.activate_version(version("later", 0)).await.unwrap();
    user.encrypt(plain("later", b"x")).await.unwrap();
    refused(admin.activate_version(version("later", 0)).await, Code::FailedPrecondition, "WRONG_STATE");
    let off = v1::UpdateVersionRequest { key: "later".into(), enabled: Some(false), ..Default::default() };
    admin.update_version(off).await.unwrap();
    refused(user.encrypt(plain("later", b"x")).await, Code::FailedPrecondition, "KEY_DISABLED");

    let parts = vec![plain("later", b"x"), plain("s", b"x")];
    let mixed = user.encrypt_many(v1::EncryptManyRequest { parts }).await;
    refused(mixed, Code::FailedPrecondition, "KEY_DISABLED");
    let parts = vec![sign("s", b"m"), v1::SignRequest { input: None, ..sign("s", b"") }];
    refused(user.sign_many(v1::SignManyRequest { parts }).await, Code::InvalidArgument, "INVALID_ARGUMENT");

    for _ in 0..3 {
        admin.rotate_key(v1::RotateKeyRequest { key: "later".into(), ..Default::default() }).await.unwrap();
    }
    let page = |limit, before| v1::ListVersionsRequest { key: "later".into(), limit, before };
    let first = user.list_versions(page(3, 0)).await.unwrap().into_inner();
    let numbers = |page: &v1::ListVersionsResponse| page.versions.iter().map(|v| v.version).collect::<Vec<_>>();
    assert_eq!((numbers(&first), first.next_before), (vec![4, 3, 2], 2));
    let last = user.list_versions(page(3, 2)).await.unwrap().into_inner();
    assert_eq!((numbers(&last), last.next_before), (vec![1], 0));
    assert!(!last.versions[0].enabled && first.versions[0].enabled, "a new version is a new start");
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_and_versions_that_can_not_be_meant() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let mut admin = keys(&node, Role::Admin).await;
    let create = |spec: &str, usage: &str, algorithm: &str| {
        let (spec, usage, algorithm) = (spec.into(), usage.into(), algorithm.into());
        v1::CreateKeyRequest { spec, usage, algorithm, ..Default::default() }
    };
    let part = |result: Result<(), Status>| {
        let status = result.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
        status.metadata().get(PART_KEY).map(|part| part.to_str().expect("text").to_owned()).unwrap_or_default()
    };
    let signer = admin.create_key(create("ed25519", "", "")).await.unwrap().into_inner().key.unwrap();
    let agreer = admin.create_key(create("x25519", "", "")).await.unwrap().into_inner().key.unwrap();
    let all = admin.list_keys(v1::ListKeysRequest::default()).await.unwrap().into_inner();
    let (s, a) = (signer.key_id.as_str(), agreer.key_id.as_str());
    let long = vec![0; 65537];
    let tags = |n: usize| (0..n).map(|n| v1::Tag { name: n.to_string(), value: String::new() }).collect::<Vec<_>>();
    let cases = [
        (admin.create_key(create("des", "", "")).await.map(drop), "spec"),
        (admin.create_key(create("AES_256", "", "")).await.map(drop), "spec"),
        (admin.create_key(create("p-256", "encrypt", "")).await.map(drop), "usage"),
        (admin.create_key(create("p-256", "signing", "")).await.map(drop), "usage"),
        (admin.create_key(create("p-256", "", "ecdsa-sha384")).await.map(drop), "algorithm"),
        (admin.create_key(v1::CreateKeyRequest { tags: tags(51), ..Default::default() }).await.map(drop), "tags"),
        (admin.tag_key(v1::TagKeyRequest { key: s.into(), tags: vec![v1::Tag::default()] }).await.map(drop), "tags"),
        (admin.sign(sign(s, &long)).await.map(drop), "input"),
        (admin.sign(v1::SignRequest { key: s.into(), ..Default::default() }).await.map(drop), "input"),
        (admin.sign(v1::SignRequest { algorithm: "rsa".into(), ..sign(s, b"") }).await.map(drop), "algorithm"),
        (admin.sign(v1::SignRequest { algorithm: "ml-dsa".into(), ..sign(s, b"") }).await.map(drop), "algorithm"),
        (admin.sign(v1::SignRequest { context: vec![1; 9].into(), ..sign(s, b"") }).await.map(drop), "context"),
        (admin.mac(v1::MacRequest { key: s.into(), ..Default::default() }).await.map(drop), "key"),
        (admin.get_public_key(v1::GetPublicKeyRequest { key: String::new(), version: 0 }).await.map(drop), "key"),
        (
            admin.agree(v1::AgreeRequest { key: a.into(), peer: spki(), ..Default::default() }).await.map(drop),
            "public-key",
        ),
        (
            admin
                .agree(v1::AgreeRequest { key: a.into(), peer: long.clone().into(), ..Default::default() })
                .await
                .map(drop),
            "public-key",
        ),
        (admin.destroy_version(version(s, 0)).await.map(drop), "version"),
        (
            admin
                .revoke_version(v1::RevokeVersionRequest { key: s.into(), since_ms: 5, ..Default::default() })
                .await
                .map(drop),
            "date",
        ),
        (
            admin
                .revoke_version(v1::RevokeVersionRequest {
                    key: s.into(),
                    compromised: true,
                    since_ms: u64::MAX,
                    version: 0,
                })
                .await
                .map(drop),
            "date",
        ),
        (
            admin
                .generate_data_key_pair(v1::GenerateDataKeyPairRequest { spec: "aes-256".into(), ..data_key_pair(s) })
                .await
                .map(drop),
            "spec",
        ),
        (admin.re_encrypt(v1::ReEncryptRequest { to: s.into(), ..Default::default() }).await.map(drop), "ciphertext"),
        (admin.decrypt(v1::DecryptRequest { key: vec![s.into(); 17], ..cipher(&blob()) }).await.map(drop), "key"),
    ];
    for (n, (result, named)) in cases.into_iter().enumerate() {
        assert_eq!(part(result), named, "case {n}");
    }
    refused(admin.sign(v1::SignRequest { version: 9, ..sign(s, b"m") }).await, Code::NotFound, "NOT_FOUND");
    let now = admin.list_keys(v1::ListKeysRequest::default()).await.unwrap().into_inner();
    assert_eq!(now, all, "none of this changed anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_can_not_be_meant() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let mut admin = keys(&node, Role::Admin).await;
    let made = admin.create_key(v1::CreateKeyRequest::default()).await.unwrap().into_inner().key.unwrap();
    let id = made.key_id.as_str();
    let invalid = |result: Result<(), Status>| refused(result, Code::InvalidArgument, "INVALID_ARGUMENT");

    assert!(admin.encrypt(plain(id, &[0; PLAINTEXT_LEN_MAX])).await.is_ok());
    refused(admin.encrypt(plain(id, &[0; PLAINTEXT_LEN_MAX + 1])).await, Code::InvalidArgument, "TOO_LARGE");
    refused(admin.encrypt(plain("nobody", b"x")).await, Code::NotFound, "NOT_FOUND");
    for name in ["", "a b", "-", &"x".repeat(65), "alias/", "\u{0}"] {
        invalid(admin.encrypt(plain(name, b"x")).await.map(drop));
    }
    for aad in [vec![pair("a", "1"), pair("a", "2")], vec![pair("", "1")], vec![pair("a", "1"); 65]] {
        invalid(admin.encrypt(v1::EncryptRequest { aad, ..plain(id, b"x") }).await.map(drop));
    }
    let aad = vec![pair("a", &"v".repeat(8 * 1024))];
    refused(admin.encrypt(v1::EncryptRequest { aad, ..plain(id, b"x") }).await, Code::InvalidArgument, "TOO_LARGE");
    invalid(admin.decrypt(cipher(b"")).await.map(drop));
    invalid(admin.decrypt(cipher(&[7; 500])).await.map(drop));
    for request in [
        v1::CreateKeyRequest { token: vec![1; 15].into(), ..Default::default() },
        v1::CreateKeyRequest { description: "d".repeat(8193), ..Default::default() },
        v1::CreateKeyRequest { alias: id.into(), ..Default::default() },
        v1::CreateKeyRequest { alias: "no spaces".into(), ..Default::default() },
    ] {
        invalid(admin.create_key(request).await.map(drop));
    }
    for (count, token) in [(0, 16), (1001, 16), (u32::MAX, 0), (1, 15)] {
        let request = v1::CreateKeysRequest { count, token: vec![1; token].into(), ..Default::default() };
        invalid(admin.create_keys(request).await.map(drop));
    }
    for days in [1, 6, 91, u32::MAX] {
        let request = v1::ScheduleKeyDeletionRequest { key: id.into(), days, ..Default::default() };
        invalid(admin.schedule_key_deletion(request).await.map(drop));
    }
    for (limit, token) in [(1001, vec![]), (1, vec![1, 2, 3])] {
        invalid(
            admin
                .list_keys(v1::ListKeysRequest { limit, page_token: token.into(), ..Default::default() })
                .await
                .map(drop),
        );
    }
    for bytes in [0, 1025] {
        invalid(admin.generate_random(v1::GenerateRandomRequest { bytes }).await.map(drop));
    }

    // Above the message limit nothing is read at all.
    refused(admin.encrypt(plain(id, &vec![0; MESSAGE_LEN_MAX])).await, Code::InvalidArgument, "TOO_LARGE");

    // What a caller wrote comes back cut.
    let long = admin.encrypt(plain(&"\u{1}".repeat(1 << 19), b"x")).await.unwrap_err();
    assert!(long.message().len() < 1000, "{} bytes", long.message().len());

    // A caller that does not wait gets no answer, and changes nothing.
    let mut hasty = Request::new(key(id));
    hasty.set_timeout(Duration::from_nanos(1));
    assert!(matches!(
        admin.disable_key(hasty).await.unwrap_err().code(),
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded
    ));
    let all = admin.list_keys(v1::ListKeysRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.keys, [made], "none of this changed anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn material_comes_and_leaves_on_the_wire() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let (mut admin, mut user) = (keys(&node, Role::Admin).await, keys(&node, Role::User).await);
    let (alias, origin, exportable) = ("mine".into(), "external".into(), "plain".into());
    let made = v1::CreateKeyRequest { alias, origin, exportable, ..Default::default() };
    let made = admin.create_key(made).await.unwrap().into_inner().key.unwrap();
    assert_eq!((&made.origin[..], made.material_missing, &made.exportable[..]), ("external", true, "plain"));
    refused(user.encrypt(plain("mine", b"x")).await, Code::FailedPrecondition, "MATERIAL_MISSING");

    let with = admin.get_import_parameters(parameters("mine")).await.unwrap().into_inner();
    assert_eq!((&with.key_id, &with.wrapping_spec[..]), (&made.key_id, "rsa-2048"));
    let public = quorate_service::PublicKey::parse(&with.wrapping_key).unwrap();
    let wrap = |key: [u8; 32]| {
        let wrapped = public.encrypt(Algorithm::RsaOaepSha256, &key).unwrap().into();
        let (token, algorithm) = (with.token.clone(), "rsa-oaep-sha256".into());
        v1::ImportMaterialRequest {
            key: "mine".into(),
            token,
            wrapped,
            algorithm,
            expires_ms: Some(u64::MAX),
            ..Default::default()
        }
    };
    let foreign = v1::ImportMaterialRequest { token: Bytes::from_static(b"x"), ..wrap([7; 32]) };
    refused(admin.import_material(foreign).await, Code::InvalidArgument, "TOKEN_FOREIGN");
    let other_way = v1::ImportMaterialRequest { algorithm: String::new(), ..wrap([7; 32]) };
    refused(admin.import_material(other_way).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let version_1 = admin.import_material(wrap([7; 32])).await.unwrap().into_inner().version.unwrap();
    assert_eq!((version_1.has_material, version_1.material_expires_ms), (true, u64::MAX));
    user.encrypt(plain("mine", b"x")).await.unwrap();
    refused(admin.import_material(wrap([8; 32])).await, Code::InvalidArgument, "WRONG_MATERIAL");
    let export = v1::ExportKeyRequest { key: "mine".into(), ..Default::default() };
    let out = admin.export_key(export.clone()).await.unwrap().into_inner();
    assert_eq!((&out.material[..], &out.spec[..], &out.wrapped_with[..]), (&[7; 32][..], "aes-256", ""));
    let unnamed = v1::ExportKeyRequest { algorithm: "aes-kwp".into(), ..export.clone() };
    refused(admin.export_key(unnamed).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let listed = v1::ListVersionsRequest { key: "mine".into(), ..Default::default() };
    let listed = admin.list_versions(listed).await.unwrap().into_inner().versions;
    assert!(listed[0].first_exported_ms >= made.created_ms);
    let gone = admin.delete_material(version("mine", 0)).await.unwrap().into_inner().version.unwrap();
    assert_eq!((gone.has_material, gone.material_id), (false, version_1.material_id));
    let rotation = v1::RotateKeyRequest { key: "mine".into(), ..Default::default() };
    refused(admin.rotate_key(rotation.clone()).await, Code::FailedPrecondition, "MATERIAL_MISSING");
    admin.import_material(wrap([7; 32])).await.unwrap();
    refused(admin.rotate_key(rotation.clone()).await, Code::FailedPrecondition, "WRONG_STATE");
    let next = v1::ImportMaterialRequest { new_version: true, ..wrap([9; 32]) };
    let both = v1::ImportMaterialRequest { version: 1, ..next.clone() };
    refused(admin.import_material(both).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let waiting = admin.import_material(next).await.unwrap().into_inner().version.unwrap();
    assert_eq!((waiting.version, waiting.state()), (2, v1::VersionState::PreActive));
    let rotated = admin.rotate_key(rotation).await.unwrap().into_inner().key.unwrap();
    assert_eq!((rotated.current_version, rotated.newest_version), (2, 2));

    let none = |origin: &str, exportable: &str| {
        let (origin, exportable) = (origin.into(), exportable.into());
        v1::CreateKeyRequest { origin, exportable, ..Default::default() }
    };
    for (wrong, part) in [(none("here", ""), "origin"), (none("", "maybe"), "exportable")] {
        let status = admin.create_key(wrong).await.unwrap_err();
        assert_eq!(status.metadata().get(PART_KEY).unwrap(), part, "{}", status.message());
    }
    let kept = admin.create_key(none("", "")).await.unwrap().into_inner().key.unwrap();
    assert_eq!((&kept.origin[..], kept.material_missing, &kept.exportable[..]), ("quorate", false, "no"));
    let export = v1::ExportKeyRequest { key: kept.key_id.clone(), ..export };
    refused(admin.export_key(export).await, Code::FailedPrecondition, "NOT_EXPORTABLE");
    let made = v1::CreateKeyRequest { alias: "wrapped".into(), ..none("", "wrapped") };
    admin.create_key(made).await.unwrap();
    let export = v1::ExportKeyRequest { key: "wrapped".into(), ..Default::default() };
    refused(admin.export_key(export).await, Code::FailedPrecondition, "WRAPPED_ONLY");
    refused(admin.get_import_parameters(parameters("wrapped")).await, Code::FailedPrecondition, "UNSUPPORTED");

    // A backup opens here alone, and only whole; a pair comes back beside itself, under a new id.
    let pair = v1::CreateKeyRequest { spec: "p-256".into(), ..none("", "") };
    let pair = admin.create_key(pair).await.unwrap().into_inner().key.unwrap().key_id;
    let made = admin.backup_key(key(&pair)).await.unwrap().into_inner();
    assert_eq!((&made.key_id, made.versions), (&pair, 1));
    let restore = |backup: &[u8]| v1::RestoreKeyRequest { backup: backup.to_vec().into(), ..Default::default() };
    let back = admin.restore_key(restore(&made.backup)).await.unwrap().into_inner().key.unwrap();
    assert_eq!((back.restored_from, back.state), (pair, KeyState::Disabled.into()));
    refused(admin.restore_key(restore(&made.backup[1..])).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    refused(admin.restore_key(restore(&made.backup[..200])).await, Code::InvalidArgument, "TAMPERED");
    let blob = admin.backup_key(key(&kept.key_id)).await.unwrap().into_inner();
    refused(admin.restore_key(restore(&blob.backup)).await, Code::AlreadyExists, "ALREADY_EXISTS");
}
