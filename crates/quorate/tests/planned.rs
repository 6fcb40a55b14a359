//! Planned changes on real processes: restarts and hand-overs of leadership that clients do not notice.
#![allow(clippy::disallowed_methods, reason = "tests wait for processes")]

mod support;

use std::process::Command;

use bytes::Bytes;
use quorate_client::{Client, ClientError};
use quorate_proto::v1::*;
use support::load::Load;
use support::{Dev, PATIENCE, QUORATE, Signal, await_status, complaint, node, run, signal};

/// A new key, used once; every answer has to be a good one.
async fn create_and_use(client: Client) -> Result<String, ClientError> {
    let key = client.create_key(CreateKeyRequest::default()).await?.key.expect("a key").key_id;
    let plaintext = Bytes::copy_from_slice(key.as_bytes());
    let request = EncryptRequest { key: key.clone(), plaintext: plaintext.clone(), ..Default::default() };
    let ciphertext = client.encrypt(request).await?.ciphertext;
    let request = DecryptRequest { ciphertext, ..Default::default() };
    assert_eq!(client.decrypt(request).await?.plaintext, plaintext);
    Ok(key)
}

/// SIGTERM, and the node's last words.
async fn terminate(dev: &Dev, place: usize) {
    let node = &dev.json.nodes[place];
    let stops = || std::fs::read_to_string(&node.log).unwrap_or_default().matches("stopped").count();
    let before = stops();
    signal(node.pid, Signal::TERM);
    let stopped = async {
        while stops() == before {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped).await.expect("SIGTERM stops a node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_restarts_under_load_and_no_client_sees_an_error() {
    let mut dev = Dev::start(3);
    let client = dev.client().await;
    let load = Load::start(&client, 6, create_and_use);
    load.go_on(20).await;
    // A follower, then whoever leads, then the one that is left.
    let leader = dev.leader().await;
    for place in [(leader + 1) % 3, leader, (leader + 2) % 3] {
        let name = dev.json.nodes[place].name.clone();
        terminate(&dev, place).await;
        load.go_on(20).await;
        dev.restart(place);
        await_status(&client, "the node to be back", |s| {
            s.leader != 0 && node(s, &name).reachable && node(s, &name).lag < 100
        })
        .await;
        dev.await_handed_over(&name).await;
        load.go_on(20).await;
    }
    let keys = load.finish().await;
    for key in keys {
        client.describe_key(KeyRequest { key }).await.expect("an acknowledged key is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_hands_on_to_an_unsealed_voter() {
    let dev = Dev::start(3);
    let client = dev.client().await;
    let leader = dev.leader().await;
    let (sealed, serving) = ((leader + 1) % 3, (leader + 2) % 3);
    dev.seal(sealed).await;
    let name = dev.json.nodes[sealed].name.clone();
    await_status(&client.node(leader).expect("a node"), "the leader to know", |s| node(s, &name).sealed).await;
    terminate(&dev, leader).await;
    let one = client.node(serving).expect("a node");
    let status = one.status(StatusRequest {}).await.expect("status");
    assert_eq!(status.leader, dev.json.nodes[serving].id, "handed over, not lost and elected anew: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_where_the_operator_says() {
    let dev = Dev::start(3);
    let client = dev.client().await;
    let load = Load::start(&client, 4, create_and_use);
    load.go_on(10).await;
    let leader = dev.leader().await;
    let to = &dev.json.nodes[(leader + 1) % 3];
    let told = dev.cli_ok(&["operator", "members", "transfer-leader", &to.name, "--output", "json"], "");
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    assert_eq!((told["leader"].as_u64(), told["name"].as_str()), (Some(to.id), Some(to.name.as_str())));
    await_status(&client, "everybody to know", |s| s.leader == to.id).await;
    load.go_on(10).await;

    // To the one that leads already: done. To nobody in particular: another one.
    dev.cli_ok(&["operator", "members", "transfer-leader", &to.id.to_string()], "");
    let told = dev.cli_ok(&["operator", "members", "transfer-leader", "--output", "json"], "");
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    assert!(told["leader"].as_u64().is_some_and(|id| id != to.id), "{told}");
    load.go_on(10).await;
    load.finish().await;

    let unknown = complaint(&dev.cli(&["operator", "members", "transfer-leader", "99"], ""));
    assert!(unknown.contains("no member has the id 99"), "{unknown}");
    let said = complaint(&dev.cli(&["operator", "members", "transfer-leader", "n9"], ""));
    assert!(said.contains("nobody called n9"), "{said}");
    // A voter that is down can't take over; asking for it changes nothing.
    let leader = dev.leader().await;
    let down = (leader + 1) % 3;
    dev.kill(down);
    let name = dev.json.nodes[down].name.clone();
    let said = complaint(&dev.cli(&["operator", "members", "transfer-leader", &name], ""));
    assert!(said.contains("can't take over"), "{said}");
    assert_eq!(dev.leader().await, leader);
    client.create_key(CreateKeyRequest::default()).await.expect("it still leads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_removed_under_load_and_no_client_sees_an_error() {
    let mut dev = Dev::start(3);
    let client = dev.client().await;
    let leader = dev.leader().await;
    let stay: Vec<String> = (0..3).filter(|p| *p != leader).map(|p| dev.json.nodes[p].api.clone()).collect();
    let first = client.create_key(CreateKeyRequest::default()).await.expect("created").key.expect("a key").key_id;
    let others = client.node((leader + 1) % 3).expect("a node");
    let load = Load::start(&others, 4, create_and_use);
    load.go_on(10).await;
    let name = dev.json.nodes[leader].name.clone();
    let id = dev.json.nodes[leader].id.to_string();
    let args = ["operator", "members", "remove", &id, "--compromised", "--output", "json"];
    let told: serde_json::Value = serde_json::from_slice(&dev.cli_ok(&args, "")).expect("JSON");
    assert_eq!(
        (told["id"].as_u64(), told["voters"].as_array().map(Vec::len)),
        (Some(dev.json.nodes[leader].id), Some(2))
    );
    assert_eq!(told["root_key_generation"].as_u64(), Some(2));
    let keys = told["keys_to_rotate"].as_array().expect("a list");
    assert!(keys.iter().any(|key| key.as_str() == Some(&first)));
    load.go_on(20).await;
    load.finish().await;
    let request = EncryptRequest { key: first, plaintext: Bytes::from_static(b"x"), ..Default::default() };
    let removed = client.node(leader).expect("a node").with_deadline(PATIENCE / 20).encrypt(request).await;
    assert!(removed.is_err(), "{removed:?}");

    // Nobody could tell it in its log; it finds out, and says so, also after a restart.
    let at = dev.json.nodes[leader].api.clone();
    for restarted in [false, true] {
        if restarted {
            dev.kill(leader);
            dev.restart(leader);
        }
        let alone = client.node(leader).expect("a node");
        await_status(&alone, "it knows that it was removed", |s| node(s, &name).problem.contains("removed")).await;
        let said = dev.cli_at(&at, &["operator", "status"], "");
        assert!(String::from_utf8_lossy(&said.stdout).contains("join anew"), "{said:?}");
    }

    // Two are left; without the other, neither may go.
    let place = (leader + 1) % 3;
    dev.kill(place);
    let gone = dev.json.nodes[place].name.clone();
    let said = complaint(&dev.cli_at(&stay.join(","), &["operator", "members", "remove", &gone], ""));
    assert!(said.contains("can't remove the member"), "{said}");
}

/// What three nodes state of a destruction, checked by nothing but the root certificate.
fn prove(dev: &Dev, key: &str, file: &str) -> serde_json::Value {
    let (file, ca) = (dev.dir().join(file), dev.json.ca.to_str().expect("UTF-8"));
    let file = file.to_str().expect("UTF-8");
    dev.cli_ok(&["keys", "destruction", key, "--out", file, "--force"], "");
    let verified = run(Command::new(QUORATE).args(["evidence", "verify", file, "--ca", ca, "--output", "json"]), "");
    assert!(verified.status.success(), "{}", complaint(&verified));
    let told: serde_json::Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    assert_eq!((&told["key_id"], &told["cause"], &told["complete"]), (&key.into(), &"purge".into(), &true.into()));
    assert_eq!(
        told["members"].as_array().map(Vec::len).unwrap_or(0) + told["missing"].as_array().map_or(0, Vec::len),
        3
    );
    told
}

/// Of each member that has made a statement: whether its log may hold what was destroyed.
fn may_hold(told: &serde_json::Value) -> Vec<bool> {
    let members = told["members"].as_array().expect("a list");
    members.iter().map(|member| member["log_may_hold"].as_bool().expect("yes or no")).collect()
}

/// A key that was destroyed, which is proved; and what was changed proves nothing.
fn destroyed_and_proved(dev: &Dev) -> String {
    let made = dev.cli_ok(&["keys", "create", "--alias", "doomed", "--output", "json"], "");
    let made: serde_json::Value = serde_json::from_slice(&made).expect("JSON");
    let key = made["key_id"].as_str().expect("an id").to_owned();
    dev.cli_ok(&["keys", "schedule-deletion", "doomed"], "");
    dev.cli_ok(&["keys", "purge", "doomed"], "");
    let told = prove(dev, &key, "gone.json");
    assert_eq!((may_hold(&told), &told["aliases"][0]), (vec![true; 3], &"doomed".into()), "{told}");

    let file = dev.dir().join("gone.json");
    let genuine = std::fs::read_to_string(&file).expect("written");
    let (ca, other) = (dev.json.ca.to_str().expect("UTF-8"), dev.dir().join("changed.json"));
    let verify = |text: &str| {
        std::fs::write(&other, text).expect("written");
        let file = other.to_str().expect("UTF-8");
        run(Command::new(QUORATE).args(["evidence", "verify", file, "--ca", ca]), "")
    };
    assert!(verify(&genuine).status.success());
    let at = genuine.find("\"statement\":\"").expect("a statement") + 200;
    let letter = if genuine.as_bytes()[at] == b'A' { "B" } else { "A" };
    let changed = [&genuine[..at], letter, &genuine[at + 1..]].concat();
    for (text, why) in [(&changed[..], "statement 1"), (&genuine[..genuine.len() / 2], "holds no evidence")] {
        let refused = verify(text);
        assert_eq!(refused.status.code(), Some(1));
        assert!(complaint(&refused).contains(why), "{}", complaint(&refused));
    }
    key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_away_for_longer_than_the_log_is_sent_the_state() {
    let small = "segment_mib = 1\nkeep_kib = 128\nstep_kib = 64\ncompact_seconds = 1\nstream_kib = 4096";
    let mut dev = Dev::start_with_log(3, small);
    let client = dev.client().await;
    let away = (dev.leader().await + 1) % 3;
    let name = dev.json.nodes[away].name.clone();
    let log = dev.json.nodes[away].log.clone();
    let gone = destroyed_and_proved(&dev);
    dev.kill(away);
    let load = Load::start(&client, 8, create_and_use);
    // Both others, more than once since it went: whoever leads no longer has what it lacks.
    let compacted = |place: usize| {
        let log = std::fs::read_to_string(&dev.json.nodes[place].log).expect("its log");
        log.matches("compacting the log").count()
    };
    let others = [(away + 1) % 3, (away + 2) % 3];
    let before = others.map(compacted);
    while others.iter().zip(before).any(|(place, before)| compacted(*place) < before + 2) {
        load.go_on(50).await;
    }
    dev.restart(away);
    // The others serve all the while.
    load.go_on(20).await;
    // The status alone may still be that of the process that was killed.
    let installed = || std::fs::read_to_string(&log).expect("its log").contains("a snapshot was installed");
    await_status(&client, "the node to be back", |s| installed() && node(s, &name).reachable && !node(s, &name).sealed)
        .await;
    // Nobody keeps the log from before for ever: then none of them holds what was destroyed.
    while may_hold(&prove(&dev, &gone, "later.json")).iter().any(|held| *held) {
        load.go_on(100).await;
    }
    let keys = load.finish().await;
    let back = client.node(away).expect("a node");
    for key in &keys {
        let request =
            EncryptRequest { key: key.clone(), plaintext: Bytes::from_static(b"caught up"), ..Default::default() };
        back.encrypt(request).await.unwrap_or_else(|e| panic!("{key} is not on the node that was away: {e}"));
    }
}
