//! A lost majority shows, wherever one looks, and a use is told of it at once; and one that is back is there again.
#![allow(clippy::disallowed_methods, reason = "tests touch files and processes")]

mod support;

use std::time::{Duration, Instant};

use quorate_client::reason;
use quorate_proto::v1::verdict::{Kind, NoMajority};
use quorate_proto::v1::*;
use support::{Dev, Signal, await_status, http, signal};

fn encrypt(key: &str) -> EncryptRequest {
    EncryptRequest { key: key.into(), plaintext: "x".into(), ..Default::default() }
}

fn health(dev: &Dev, place: usize) -> String {
    http(dev, &dev.json.nodes[place].api, "/health", None, b"http/1.1").expect("an answer")
}

fn has_majority(dev: &Dev, place: usize) -> bool {
    let admin = Some(&dev.json.admin);
    let metrics = http(dev, &dev.json.nodes[place].api, "/metrics", admin, b"http/1.1").expect("metrics");
    let value = metrics.lines().find_map(|line| line.strip_prefix("quorate_has_majority ")).expect("told");
    value.trim() == "1"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_majority_is_told_at_once_and_everywhere() {
    let dev = Dev::start(3);
    let client = dev.client().await;
    let key = client.create_key(CreateKeyRequest::default()).await.expect("created").key.expect("a key").key_id;
    client.encrypt(encrypt(&key)).await.expect("encrypted");
    let well = dev.cli(&["operator", "status", "--output", "json"], "");
    assert_eq!(well.status.code(), Some(0), "{}", String::from_utf8_lossy(&well.stdout));
    assert!(health(&dev, 0).starts_with("HTTP/1.1 200") && has_majority(&dev, 0));

    // One is killed, one hangs: both are missed.
    dev.kill(1);
    signal(dev.json.nodes[2].pid, Signal::STOP);
    let alone = client.node(0).expect("a node");
    let names = [1, 2].map(|place: usize| dev.json.nodes[place].name.clone());
    let status = await_status(&alone, "the loss to be told", |s| s.severity() == Severity::NoMajority).await;
    let lost = Kind::NoMajority(NoMajority { reachable: 1, voters: 3, missing: names.to_vec() });
    assert_eq!(status.verdicts.first().and_then(|v| v.kind.clone()), Some(lost), "{:?}", status.verdicts);
    let said = health(&dev, 0);
    assert!(said.starts_with("HTTP/1.1 503") && said.ends_with("no majority\n1 of 3 voters reachable\n"), "{said}");
    assert!(!has_majority(&dev, 0));

    // Neither a use nor a change waits for its deadline.
    let begun = Instant::now();
    let used = alone.with_deadline(Duration::from_secs(30)).encrypt(encrypt(&key)).await.expect_err("refused");
    let changed = alone.with_deadline(Duration::from_secs(30)).create_key(CreateKeyRequest::default()).await;
    let changed = changed.expect_err("refused");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for error in [used, changed] {
        assert_eq!(error.reason, reason::NO_MAJORITY, "{error:?}");
        let todo = format!("start {} or {}", names[0], names[1]);
        assert!(error.message.contains("1 of 3 voters reachable") && error.message.contains(&todo), "{error:?}");
    }
    // Who speaks no protocol of ours is told by the command, on one screen and by its exit code.
    let screen = dev.cli_at(&dev.json.nodes[0].api, &["operator", "status", "--output", "table"], "");
    let text = String::from_utf8_lossy(&screen.stdout).into_owned();
    assert!(screen.status.code() == Some(3) && text.starts_with("NO MAJORITY  no majority: 1 of 3"), "{text}");

    // A sealed node misses it as well.
    dev.seal(0).await;
    assert!(health(&dev, 0).ends_with("no majority\n1 of 3 voters reachable\n"));

    signal(dev.json.nodes[2].pid, Signal::CONT);
    await_status(&alone, "the majority to be back", |s| s.severity() != Severity::NoMajority).await;
    assert!(has_majority(&dev, 0) && health(&dev, 0).ends_with("sealed\n"));
    let log = std::fs::read_to_string(&dev.json.nodes[0].log).expect("a log");
    let times = |words: &str| log.matches(words).count();
    assert_eq!((times("no majority: 1 of 3 voters reachable"), times("within reach again")), (1, 1), "{log}");
}
