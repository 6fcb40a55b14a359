//! Bad input at the doors of real processes: a precise refusal, nothing changed, nothing secret in the words.
#![allow(clippy::disallowed_methods, reason = "tests touch files, sockets and processes")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use quorate_client::{Client, ClientError};
use quorate_proto::v1::*;
use support::{Dev, DevNode, Pair, QUORATE, complaint, http, run};

fn aad(pairs: &[(&str, &str)]) -> Vec<AssociatedData> {
    pairs.iter().map(|(k, v)| AssociatedData { key: (*k).into(), value: (*v).into() }).collect()
}

fn encrypt(key: &str, plaintext: &[u8], pairs: &[(&str, &str)]) -> EncryptRequest {
    EncryptRequest {
        key: key.into(),
        plaintext: Bytes::copy_from_slice(plaintext),
        aad: aad(pairs),
        ..Default::default()
    }
}

fn decrypt(ciphertext: &[u8], pairs: &[(&str, &str)], key: &str) -> DecryptRequest {
    DecryptRequest {
        ciphertext: Bytes::copy_from_slice(ciphertext),
        aad: aad(pairs),
        key: (!key.is_empty()).then(|| key.into()).into_iter().collect(),
        ..Default::default()
    }
}

fn cancel(key: &str) -> CancelKeyDeletionRequest {
    CancelKeyDeletionRequest { key: key.into(), as_before: false }
}

fn named(key: &str) -> KeyRequest {
    KeyRequest { key: key.into() }
}

/// The refusal has this reason, says something, and none of it is secret.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>, reason: &str) -> String {
    let error = answer.expect_err(reason);
    assert!(error.is(reason), "expected {reason}: {error:?}");
    assert!(error.message.len() > 20 && !error.message.contains("s3cret"), "{error:?}");
    error.message
}

async fn create(client: &Client, alias: &str) -> String {
    let request = CreateKeyRequest { alias: alias.into(), ..CreateKeyRequest::default() };
    client.create_key(request).await.expect("created").key.expect("a key").key_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_wrong_are_refused_precisely() {
    let (dev, other) = (Dev::start(1), Dev::start(1));
    let client = dev.client().await;
    let (key, second) = (create(&client, "first").await, create(&client, "second").await);
    let pairs = [("tenant", "blue"), ("purpose", "test")];
    let good = client.encrypt(encrypt("first", b"s3cret", &pairs)).await.expect("encrypted").ciphertext;

    refused(client.encrypt(encrypt("first", &[0; 4097], &[])).await, "TOO_LARGE");
    client.encrypt(encrypt("first", &[0; 4096], &[])).await.expect("4096 bytes are allowed");
    let huge = client.encrypt(encrypt("first", &vec![0; 2 * 1024 * 1024], &[])).await;
    assert!(huge.is_err_and(|e| e.message.len() < 1000), "above the message limit");
    refused(client.encrypt(encrypt("nobody", b"s3cret", &[])).await, "NOT_FOUND");
    refused(client.describe_key(named("00000000-0000-0000-0000-000000000000")).await, "NOT_FOUND");
    for malformed in ["", "a b", "-x", &"x".repeat(65)] {
        refused(client.describe_key(named(malformed)).await, "INVALID_ARGUMENT");
    }
    // However long it is, what comes back of it is short.
    let long = refused(client.describe_key(named(&"\u{1}".repeat(900_000))).await, "INVALID_ARGUMENT");
    assert!(long.len() < 1000 && long.contains("900000 bytes"), "{long}");
    refused(client.encrypt(encrypt("first", b"s3cret", &[("a", "1"), ("a", "2")])).await, "INVALID_ARGUMENT");
    refused(client.generate_random(GenerateRandomRequest { bytes: 1025 }).await, "INVALID_ARGUMENT");
    let days = |days| ScheduleKeyDeletionRequest { key: key.clone(), days, ..Default::default() };
    for wrong in [1, 6, 91, u32::MAX] {
        refused(client.schedule_key_deletion(days(wrong)).await, "INVALID_ARGUMENT");
    }
    let taken = CreateKeyRequest { alias: "first".into(), ..CreateKeyRequest::default() };
    refused(client.create_key(taken).await, "ALREADY_EXISTS");

    // Ciphertexts: every wrong thing about one has its own reason, and the order of pairs is none.
    let opened = client.decrypt(decrypt(&good, &[pairs[1], pairs[0]], "")).await.expect("decrypted");
    assert_eq!(opened.plaintext, &b"s3cret"[..]);
    refused(client.decrypt(decrypt(&good, &pairs[..1], "")).await, "TAMPERED");
    refused(client.decrypt(decrypt(&good, &pairs, &second)).await, "WRONG_KEY");
    refused(other.client().await.decrypt(decrypt(&good, &pairs, "")).await, "WRONG_LINEAGE");
    for malformed in [&b""[..], b"not a ciphertext", &good[..27], &[0x51; 300]] {
        refused(client.decrypt(decrypt(malformed, &pairs, "")).await, "INVALID_ARGUMENT");
    }
    for at in 0..good.len() {
        let mut flipped = good.to_vec();
        flipped[at] ^= 1;
        let error = client.decrypt(decrypt(&flipped, &pairs, "")).await.expect_err("tampered");
        let known = ["TAMPERED", "INVALID_ARGUMENT", "WRONG_LINEAGE", "UNKNOWN_KEY"];
        assert!(known.contains(&error.reason.as_str()), "byte {at}: {error:?}");
    }

    // States.
    client.disable_key(named(&key)).await.expect("disabled");
    refused(client.encrypt(encrypt("first", b"s3cret", &[])).await, "KEY_DISABLED");
    refused(client.decrypt(decrypt(&good, &pairs, "")).await, "KEY_DISABLED");
    refused(client.rotate_key(RotateKeyRequest { key: key.clone(), ..Default::default() }).await, "KEY_DISABLED");
    client.enable_key(named(&key)).await.expect("enabled");
    client.schedule_key_deletion(days(7)).await.expect("scheduled");
    refused(client.encrypt(encrypt("first", b"s3cret", &[])).await, "KEY_PENDING_DELETION");
    refused(client.enable_key(named(&key)).await, "KEY_PENDING_DELETION");
    let cancelled = client.cancel_key_deletion(cancel(&key)).await.expect("cancelled").key.expect("a key");
    assert_eq!(cancelled.state, KeyState::Disabled as i32, "cancelling leaves the key disabled");
    client.enable_key(named(&key)).await.expect("enabled");
    client.decrypt(decrypt(&good, &pairs, "")).await.expect("nothing that was refused has changed anything");
    refused(
        client.init(InitRequest { shares: 5, threshold: 3, ..InitRequest::default() }).await,
        "ALREADY_INITIALIZED",
    );
    assert!(!dev.logs().contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_that_needs_keys_is_refused_while_sealed() {
    let dev = Dev::start(1);
    let c = dev.client().await;
    let key = create(&c, "k").await;
    let blob = c.encrypt(encrypt("k", b"s3cret", &[])).await.expect("encrypted").ciphertext;
    dev.seal(0).await;
    let days = ScheduleKeyDeletionRequest { key: key.clone(), days: 7, ..Default::default() };
    let rotate = RotateKeyRequest { key: key.clone(), ..Default::default() };
    let data_key = GenerateDataKeyRequest { key: key.clone(), ..GenerateDataKeyRequest::default() };
    let alias = CreateAliasRequest { name: "other".into(), key: key.clone() };
    let invite = InviteRequest { name: "n2".into(), valid_minutes: 5 };
    refused(c.create_key(CreateKeyRequest::default()).await, "SEALED");
    refused(c.describe_key(named(&key)).await, "SEALED");
    refused(c.list_keys(ListKeysRequest::default()).await, "SEALED");
    refused(c.enable_key(named(&key)).await, "SEALED");
    refused(c.disable_key(named(&key)).await, "SEALED");
    refused(c.rotate_key(rotate).await, "SEALED");
    refused(c.schedule_key_deletion(days).await, "SEALED");
    refused(c.cancel_key_deletion(cancel(&key)).await, "SEALED");
    refused(c.create_alias(alias).await, "SEALED");
    refused(c.delete_alias(DeleteAliasRequest { name: "k".into() }).await, "SEALED");
    refused(c.list_aliases(ListAliasesRequest::default()).await, "SEALED");
    refused(c.encrypt(encrypt("k", b"s3cret", &[])).await, "SEALED");
    refused(c.decrypt(decrypt(&blob, &[], "")).await, "SEALED");
    refused(c.generate_data_key(data_key).await, "SEALED");
    refused(c.generate_random(GenerateRandomRequest { bytes: 16 }).await, "SEALED");
    refused(c.invite(invite).await, "SEALED");
    refused(c.seal(SealRequest { cluster: true }).await, "SEALED");
    // What custodians and operators need then still works.
    c.status(StatusRequest {}).await.expect("status");
    c.seal_config(SealConfigRequest {}).await.expect("the public seal configuration");
    dev.enter_shares(&[0, 1, 2]);
    let described = c.describe_key(named(&key)).await.expect("there").key.expect("a key");
    assert_eq!((described.state, described.current_version), (KeyState::Enabled as i32, 1), "nothing has changed");
    c.decrypt(decrypt(&blob, &[], "")).await.expect("decrypted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_opens_what_its_role_allows_and_no_more() {
    let (dev, other) = (Dev::start(1), Dev::start(1));
    let admin = dev.client().await;
    let key = create(&admin, "app").await;

    let user = dev.client_as(&dev.issue("user", "billing")).await;
    user.encrypt(encrypt("app", b"s3cret", &[])).await.expect("a user uses keys");
    user.list_keys(ListKeysRequest::default()).await.expect("and lists them");
    for answer in [user.disable_key(named(&key)).await, user.create_key(CreateKeyRequest::default()).await] {
        refused(answer, "DENIED");
    }
    refused(user.seal(SealRequest { cluster: true }).await, "DENIED");
    for role in ["custodian", "auditor"] {
        let client = dev.client_as(&dev.issue(role, role)).await;
        client.status(StatusRequest {}).await.expect("status");
        refused(client.encrypt(encrypt("app", b"s3cret", &[])).await, "DENIED");
        refused(client.list_keys(ListKeysRequest::default()).await, "DENIED");
    }
    assert_eq!(
        admin.describe_key(named(&key)).await.expect("there").key.expect("a key").state,
        KeyState::Enabled as i32,
        "nothing has changed"
    );

    // Certificates of another cluster are no good here, nor is its root for a client of ours.
    let foreign = Command::new(QUORATE)
        .args(["keys", "list", "--addr", &dev.json.nodes[0].api, "--cacert"])
        .arg(&dev.json.ca)
        .arg("--client-cert")
        .arg(&other.json.admin.cert)
        .arg("--client-key")
        .arg(&other.json.admin.key)
        .output()
        .expect("it runs");
    assert!(complaint(&foreign).contains("certificate"), "{}", complaint(&foreign));
    let mistaken = other.cli_at(&dev.json.nodes[0].api, &["keys", "list"], "");
    assert!(complaint(&mistaken).contains("UNTRUSTED_SERVER"), "{}", complaint(&mistaken));
    // A node's certificate authorises no call. Its key can't leave the token, so the refusal is that of the CA.
    let nobody = Command::new(QUORATE)
        .args(["keys", "list", "--addr", &dev.json.nodes[0].api, "--cacert"])
        .arg(&dev.json.ca)
        .output()
        .expect("it runs");
    assert_eq!(nobody.status.code(), Some(1), "{}", complaint(&nobody));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_was_revoked_opens_nothing_at_any_node_on_any_connection() {
    let dev = Dev::start(3);
    let (web, bob) = (dev.issue("user", "web"), dev.issue("admin", "bob"));
    let cert = |pair: &Pair| pair.cert.display().to_string();
    let admin = dev.client().await;
    let key = create(&admin, "pay").await;
    let webs = dev.client_as(&web).await;
    let webs: Vec<_> = (0..3).map(|place| webs.node(place).expect("one of them")).collect();
    for web in &webs {
        web.encrypt(encrypt(&key, b"x", &[])).await.expect("it may");
    }
    let bobs = dev.client_as(&bob).await;
    bobs.list_members(ListMembersRequest::default()).await.expect("he may");

    let said = dev.cli_ok(&["credential", "revoke", "--cert", &cert(&web), "--reason", "key-compromise"], "");
    let said: serde_json::Value = serde_json::from_slice(&said).expect("JSON");
    assert_eq!((&said["principal"], &said["state"]), (&"user/web".into(), &"revoked".into()));
    for web in &webs {
        let said = refused(web.encrypt(encrypt(&key, b"x", &[])).await, "UNAUTHENTICATED");
        assert!(said.contains("key-compromise"), "{said}");
    }
    let metrics = http(&dev, &dev.json.nodes[0].api, "/metrics", Some(&web), b"http/1.1").expect("answered");
    assert!(metrics.starts_with("HTTP/1.1 401") && metrics.contains("was revoked"), "{metrics}");
    // Another key for the same name is another credential, until its holder is disabled.
    let again = dev.client_as(&dev.issue("user", "web2")).await;
    again.encrypt(encrypt(&key, b"x", &[])).await.expect("it may");
    dev.cli_ok(&["principal", "disable", "user/web2"], "");
    refused(again.encrypt(encrypt(&key, b"x", &[])).await, "UNAUTHENTICATED");
    dev.cli_ok(&["principal", "enable", "user/web2"], "");
    again.encrypt(encrypt(&key, b"x", &[])).await.expect("it may again");

    dev.cli_ok(&["credential", "revoke", "--cert", &cert(&bob)], "");
    refused(bobs.list_members(ListMembersRequest::default()).await, "UNAUTHENTICATED");
    refused(bobs.seal(SealRequest { cluster: true }).await, "UNAUTHENTICATED");
    refused(bobs.enable_key(named(&key)).await, "UNAUTHENTICATED");
    let own = dev.cli(&["credential", "revoke", "--cert", &cert(&dev.json.admin)], "");
    assert!(complaint(&own).contains("another administrator"));
    let pem = dev.dir().join("n1/node.pem").display().to_string();
    let node = dev.cli(&["credential", "revoke", "--cert", &pem], "");
    assert!(complaint(&node).contains("operator members remove"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_open_metrics_are_not_and_7601_is_for_nodes() {
    let dev = Dev::start(1);
    let node = &dev.json.nodes[0];
    let client = dev.client().await;
    let alias = "very-private-alias";
    create(&client, alias).await;
    let get = |path: &str, identity| http(&dev, &node.api, path, identity, b"http/1.1").expect("an answer");
    let healthy = get("/health", None);
    assert!(healthy.starts_with("HTTP/1.1 200") && healthy.ends_with("ok\n"), "{healthy}");
    assert!(get("/metrics", None).starts_with("HTTP/1.1 401"));
    let missing = quorate_client::v1::KeyRequest { key: "nobody".into() };
    refused(client.describe_key(missing).await, "NOT_FOUND");
    let metrics = loop {
        // The leader counts the keys soon after it has been unsealed, and at its first look there may have been none.
        let metrics = get("/metrics", Some(&dev.json.admin));
        if metrics.contains("quorate_keys{") {
            break metrics;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    for line in [
        "quorate_state{state=\"ok\"} 1",
        "quorate_gcm_versions_due 0",
        "quorate_requests_total{call=\"Keys/CreateKey\",status=\"OK\"} 1",
        "quorate_operations_total{action=\"Create\",ended=\"OK\"} 1",
        "quorate_operation_seconds_count{action=\"Create\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in: {metrics}");
    }
    assert!(!metrics.contains(alias));
    let body = metrics.split("\r\n\r\n").nth(1).expect("a body");
    // It comes in chunks, whose lengths stand on lines of their own.
    conventional(&body.lines().filter(|line| line.contains(' ')).fold(String::new(), |all, line| all + line + "\n"));
    let nothing = |when: &str| {
        for path in
            ["/healthz", "/", "/health/", "/metrics/x", "/quorate.v1.Keys/Encrypt", "/grpc.health.v1.Health/Check"]
        {
            let answer = get(path, None);
            assert!(answer.starts_with("HTTP/1.1 404"), "{path}, {when}: {answer}");
        }
    };
    nothing("unsealed");

    for identity in [None, Some(&dev.json.admin)] {
        let answer = http(&dev, &node.cluster, "/", identity, b"quorate-peer/1");
        assert!(answer.is_err(), "a client got an answer from the peers' port: {answer:?}");
    }
    dev.seal(0).await;
    let sealed = get("/health", None);
    assert!(sealed.starts_with("HTTP/1.1 503") && sealed.ends_with("sealed\n"), "{sealed}");
    nothing("sealed");
}

/// Names, help and units are as Prometheus has them; rules and dashboard are well-formed and ask for nothing that is not there.
fn conventional(metrics: &str) {
    let promtool = |args: &[&str], input: &str| {
        let mut command = std::process::Command::new("promtool");
        command.args(args);
        let output = support::run(command, input);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}");
        said
    };
    assert_eq!(promtool(&["check", "metrics"], metrics), "");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cluster-config");
    let rules = folder.join("alerts.yml");
    promtool(&["check", "rules", rules.to_str().expect("text")], "");
    promtool(&["test", "rules", folder.join("alerts_test.yml").to_str().expect("text")], "");
    let there: std::collections::BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for file in ["alerts.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(folder.join(file)).expect("there");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for word in words.filter(|word| word.starts_with("quorate_") || word.starts_with("process_")) {
            let family = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(there.contains(family), "{file} asks for {word}, which no node has");
        }
    }
    let dashboard = std::fs::read_to_string(folder.join("dashboard.json")).expect("there");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}

/// A configuration like the node's, changed.
fn changed(node: &DevNode, name: &str, change: impl Fn(String) -> String) -> std::path::PathBuf {
    let text = std::fs::read_to_string(&node.config).expect("its configuration");
    let after = change(text.clone());
    assert_ne!(text, after, "{name} changes something");
    let path = node.config.with_file_name(format!("{name}.toml"));
    std::fs::write(&path, after).expect("written");
    path
}

/// Starts a node that must refuse to start; it is given up on after a while.
fn start(config: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["30", QUORATE, "server"]).args(flags).arg("--config").arg(config);
    run(command, "")
}

#[test]
fn a_node_that_can_not_be_right_does_not_start_and_says_why() {
    let (mut dev, mut other) = (Dev::start(1), Dev::start(1));
    dev.stop();
    other.stop();
    let (node, foreign) = (dev.json.nodes[0].clone(), other.json.nodes[0].clone());
    let replace = |from: String, to: String| move |text: String| text.replace(&from, &to);
    let path = |p: &Path| p.display().to_string();

    let cases = [
        ("unknown-field", changed(&node, "unknown-field", |t| format!("colour = \"red\"\n{t}")), "colour"),
        ("no-name", changed(&node, "no-name", |t| t.replace("name = \"n1\"", "")), "name"),
        (
            "impossible",
            changed(&node, "impossible", |t| t.replace("segment_mib = 64", "segment_mib = 0")),
            "segment_mib",
        ),
        ("no-cert", changed(&node, "no-cert", |t| t.replace("node.pem", "gone.pem")), "gone.pem"),
        ("no-module", changed(&node, "no-module", |t| t.replace("libsofthsm2.so", "libgone.so")), "libgone.so"),
        ("no-token", changed(&node, "no-token", |t| t.replace("quorate-n1", "quorate-n9")), "quorate-n9"),
        ("other-name", changed(&node, "other-name", |t| t.replace("name = \"n1\"", "name = \"n2\"")), "n2"),
        (
            "foreign-data",
            changed(&node, "foreign-data", replace(path(&node.data), path(&foreign.data))),
            "belongs to node n1 of cluster",
        ),
        (
            "foreign-root",
            changed(&node, "foreign-root", replace(path(&dev.json.ca), path(&other.json.ca))),
            "certificate",
        ),
    ];
    for (what, config, told) in cases {
        let said = complaint(&start(&config, &["--dev"]));
        assert!(said.contains(told), "{what}: expected {told:?} in: {said}");
    }
    let gone = complaint(&start(Path::new("/nonexistent/n.toml"), &[]));
    assert!(gone.contains("/nonexistent/n.toml"), "{gone}");
    let plain = complaint(&start(&node.config, &[]));
    assert!(plain.contains("--dev"), "a development cluster is refused without --dev: {plain}");

    // The PIN is tried once and never shown.
    let pin = node.config.with_file_name("pin");
    let right = std::fs::read(&pin).expect("the PIN");
    let wrong = node.config.with_file_name("wrong-pin");
    std::fs::write(&wrong, "87654321").expect("written");
    let open = complaint(&start(&changed(&node, "open-pin", replace(path(&pin), path(&wrong))), &["--dev"]));
    assert!(open.contains("open to others"), "a PIN file that others can read: {open}");
    let mut private = std::fs::metadata(&wrong).expect("there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut private, 0o400);
    std::fs::set_permissions(&wrong, private).expect("changed");
    let refused = complaint(&start(&changed(&node, "wrong-pin", replace(path(&pin), path(&wrong))), &["--dev"]));
    assert!(refused.contains("PIN") && !refused.contains("87654321"), "{refused}");
    assert!(!refused.contains(String::from_utf8_lossy(&right).trim()));
}

#[test]
fn wrong_usage_is_exit_code_2_and_refusal_is_1() {
    let code = |args: &[&str]| run(cli(args), "").status.code();
    fn cli(args: &[&str]) -> Command {
        let mut command = Command::new(QUORATE);
        command.args(args).env_remove("QUORATE_ADDR");
        command
    }
    assert_eq!(code(&["no-such-command"]), Some(2));
    assert_eq!(code(&["encrypt"]), Some(2));
    assert_eq!(code(&["version"]), Some(0));
    assert_eq!(code(&["server", "--config", "/nonexistent"]), Some(1));
    assert_eq!(code(&["keys", "list", "--addr", "127.0.0.1:1", "--cacert", "/nonexistent"]), Some(1));
}
