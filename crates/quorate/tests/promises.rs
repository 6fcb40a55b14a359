//! The promises of the README, attacked on real processes.
#![allow(clippy::disallowed_methods, reason = "tests wait for processes")]

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_client::{Client, ClientError, reason};
use quorate_proto::v1::*;
use support::load::Load;
use support::{Dev, PATIENCE, Signal, await_status, complaint, freeze, node, signal};

fn encrypt_request(key: &str, plaintext: &[u8]) -> EncryptRequest {
    EncryptRequest { key: key.into(), plaintext: Bytes::copy_from_slice(plaintext), ..Default::default() }
}

fn decrypt_request(ciphertext: &Bytes) -> DecryptRequest {
    DecryptRequest { ciphertext: ciphertext.clone(), ..Default::default() }
}

/// A key whose creation was acknowledged, and a ciphertext it made of its own id.
struct Acknowledged {
    key_id: String,
    ciphertext: Option<Bytes>,
}

/// Only what is acknowledged is a promise: what is not may exist or not.
async fn create_and_encrypt(client: Client) -> Result<Acknowledged, ClientError> {
    let key_id = client.create_key(CreateKeyRequest::default()).await?.key.expect("a key").key_id;
    let ciphertext = client.encrypt(encrypt_request(&key_id, key_id.as_bytes())).await.ok().map(|r| r.ciphertext);
    Ok(Acknowledged { key_id, ciphertext })
}

/// Checks each key, one by one: it is there, and opens what it made.
async fn check_each(client: &Client, keys: &[Acknowledged]) {
    let mut seen = BTreeSet::new();
    for key in keys {
        assert!(seen.insert(&key.key_id), "{} was given twice", key.key_id);
        let described = client.describe_key(KeyRequest { key: key.key_id.clone() }).await;
        described.unwrap_or_else(|e| panic!("the acknowledged key {} is lost: {e}", key.key_id));
        if let Some(ciphertext) = &key.ciphertext {
            let opened = client.decrypt(decrypt_request(ciphertext)).await;
            let opened = opened.unwrap_or_else(|e| panic!("{} does not open what it made: {e}", key.key_id));
            assert_eq!(opened.plaintext, key.key_id.as_bytes());
        }
    }
    let opened = keys.iter().filter(|k| k.ciphertext.is_some()).count();
    assert!(opened * 10 >= keys.len() * 9, "{opened} of {} keys had a ciphertext to open", keys.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_under_load_loses_no_acknowledged_key() {
    let dev = Dev::start(3);
    let client = dev.client().await;
    let load = Load::through_errors(&client, 12, create_and_encrypt);
    load.go_on(400).await;
    let leader = dev.leader().await;
    dev.kill(leader);
    load.go_on(800).await;
    let keys = load.finish().await;
    assert!(keys.len() >= 1000);
    for place in (0..3).filter(|p| *p != leader) {
        check_each(&client.node(place).expect("a node"), &keys).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_killed_at_once_lose_no_acknowledged_key() {
    let mut dev = Dev::start(3);
    let client = dev.client().await;
    let load = Load::through_errors(&client, 12, create_and_encrypt);
    load.go_on(1000).await;
    // Under load: some requests are between proposal and answer at this moment.
    for node in &dev.json.nodes {
        signal(node.pid, Signal::KILL);
    }
    let keys = load.finish().await;
    assert!(keys.len() >= 1000);
    dev.kill_all_and_restart(false);
    let client = dev.client().await;
    for place in 0..3 {
        check_each(&client.node(place).expect("a node"), &keys).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_disable_returns_no_node_encrypts() {
    let dev = Dev::start(3);
    let client = dev.client().await;
    let nodes: Vec<_> = (0..3).map(|p| client.node(p).expect("a node")).collect();
    let key = client.create_key(CreateKeyRequest::default()).await.expect("created").key.expect("a key").key_id;
    let request = KeyRequest { key: key.clone() };
    for round in 0..1000 {
        let (at, others) = (round % 3, [(round + 1) % 3, (round + 2) % 3]);
        nodes[at].disable_key(request.clone()).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
        let use_at = |p: usize| nodes[p].encrypt(encrypt_request(&key, b"too late"));
        let (a, b) = tokio::join!(use_at(others[0]), use_at(others[1]));
        for (answer, place) in [(a, others[0]), (b, others[1])] {
            match answer {
                Err(e) if e.is("KEY_DISABLED") => {}
                other => panic!("round {round}: node {place} after disable at node {at}: {other:?}"),
            }
        }
        nodes[others[round % 2]].enable_key(request.clone()).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
        let again = nodes[at].encrypt(encrypt_request(&key, b"in time")).await;
        again.unwrap_or_else(|e| panic!("round {round}: enabled, and refused: {e}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_unsealed_node_serves_under_a_sealed_leader() {
    let dev = Dev::start(3);
    let client = dev.client().await;
    let key = client.create_key(CreateKeyRequest::default()).await.expect("created").key.expect("a key").key_id;
    let leader = dev.leader().await;
    let (sealed_follower, serving) = ((leader + 1) % 3, (leader + 2) % 3);
    dev.seal(sealed_follower).await;
    dev.seal(leader).await;

    let status = client.status(StatusRequest {}).await.expect("status works while sealed");
    assert_eq!(status.leader, dev.json.nodes[leader].id, "sealing moves no leadership");
    for sealed in [leader, sealed_follower] {
        let refused = client.node(sealed).expect("a node").encrypt(encrypt_request(&key, b"x")).await;
        assert!(refused.as_ref().is_err_and(|e| e.is(reason::SEALED)), "{refused:?}");
    }
    let one = client.node(serving).expect("a node");
    for n in 0..50u32 {
        let created = one.create_key(CreateKeyRequest::default()).await.expect("created under a sealed leader");
        let id = created.key.expect("a key").key_id;
        let made = one.encrypt(encrypt_request(&id, &n.to_be_bytes())).await.expect("encrypted");
        let opened = one.decrypt(decrypt_request(&made.ciphertext)).await.expect("decrypted");
        assert_eq!(opened.plaintext, n.to_be_bytes()[..]);
    }
    // And the client, given all three, finds the one that serves.
    client.encrypt(encrypt_request(&key, b"anywhere")).await.expect("fail-over to the unsealed node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_share_short_never_opens_and_each_bad_share_is_named() {
    let dev = Dev::start_sealed(3);
    let other = Dev::start_sealed(1);
    let client = dev.client().await;
    let shares = &dev.json.shares;
    let sealed = |what: &'static str| {
        let client = client.clone();
        async move {
            let refused = client.create_key(CreateKeyRequest::default()).await;
            assert!(refused.as_ref().is_err_and(|e| e.is(reason::SEALED)), "{what}: {refused:?}");
        }
    };
    sealed("no share").await;
    dev.enter_shares(&[0, 3]);
    sealed("two of three shares").await;
    let status = client.status(StatusRequest {}).await.expect("status");
    let ceremony = status.ceremony.expect("a ceremony is open");
    assert_eq!((ceremony.entered, ceremony.threshold), (2, 3));

    let mut typo = shares[1].clone().into_bytes();
    typo[40] = if typo[40] == b'q' { b'p' } else { b'q' };
    let typo = String::from_utf8(typo).expect("ASCII");
    for (share, told) in [(&shares[0], "already"), (&typo, "typ"), (&other.json.shares[1], "cluster")] {
        let said = complaint(&dev.cli(&["operator", "unseal", "--node", "1"], share)).to_lowercase();
        assert!(said.contains(told), "expected {told:?} in: {said}");
        assert!(!said.contains(&share[20..60]), "the share itself is not repeated");
        sealed(told).await;
    }
    let status = client.status(StatusRequest {}).await.expect("status");
    assert_eq!(status.ceremony.expect("still open").entered, 2, "a bad share neither counts nor cancels");
    dev.enter_shares(&[4]);
    dev.await_serving().await;
    client.create_key(CreateKeyRequest::default()).await.expect("three shares open all nodes");
    let logs = dev.logs();
    assert!(shares.iter().all(|s| !logs.contains(&s[4..40])), "no share in a log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_comes_up_sealed_and_catches_up() {
    let mut dev = Dev::start(3);
    let client = dev.client().await;
    let follower = (dev.leader().await + 1) % 3;
    dev.kill(follower);
    let mut last = String::new();
    for _ in 0..50 {
        last = client.create_key(CreateKeyRequest::default()).await.expect("created").key.expect("a key").key_id;
    }
    dev.restart(follower);
    let name = dev.json.nodes[follower].name.clone();
    await_status(&client, "the node to be back", |s| node(s, &name).reachable && node(s, &name).lag == 0).await;
    // Within ten minutes of the ceremony its peers hand it the root key.
    dev.await_handed_over(&name).await;
    let at = client.node(follower).expect("a node");
    at.encrypt(encrypt_request(&last, b"caught up")).await.expect("it knows the key made while it was away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_node_hangs_no_client() {
    let dev = Dev::start(3);
    let client = dev.client().await;
    let key = client.create_key(CreateKeyRequest::default()).await.expect("created").key.expect("a key").key_id;
    let leader = dev.leader().await;
    freeze(dev.json.nodes[leader].pid);
    for place in (0..3).filter(|p| *p != leader) {
        let one = client.node(place).expect("a node").with_deadline(PATIENCE / 2);
        one.encrypt(encrypt_request(&key, b"while the leader hangs")).await.expect("served by the majority");
    }
    signal(dev.json.nodes[leader].pid, Signal::CONT);
    // The deposed leader comes back and answers with what is true now.
    client.disable_key(KeyRequest { key: key.clone() }).await.expect("disabled");
    let late = client.node(leader).expect("a node").encrypt(encrypt_request(&key, b"stale")).await;
    assert!(late.as_ref().is_err_and(|e| !e.is("UNKNOWN")), "{late:?}");
}
