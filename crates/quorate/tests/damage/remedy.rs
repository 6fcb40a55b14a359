//! What an operator is told to do about a damaged member does help.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use quorate_proto::v1::*;
use serde_json::Value;

use crate::support::{Dev, PATIENCE, Signal, await_status, node, signal};

/// Flips a byte of the first record in the journal.
fn damage(data: &std::path::Path) {
    let segment = data.join("journal/0000000000000001.seg");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(segment).expect("the first segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096 + 20).expect("the first record");
    file.write_all_at(&[byte[0] ^ 1], 4096 + 20).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_member_is_replaced_as_its_error_says() {
    let mut dev = Dev::start(3);
    let client = dev.client().await;
    let key = client.create_key(CreateKeyRequest::default()).await.expect("created").key.expect("a key").key_id;
    let request = EncryptRequest { key: key.clone(), plaintext: "before".into(), ..Default::default() };
    let ciphertext = client.encrypt(request).await.expect("encrypted").ciphertext;

    let victim = dev.json.nodes[2].clone();
    dev.kill(2);
    damage(&victim.data);
    dev.restart(2);
    let alone = client.node(2).expect("a node").with_deadline(PATIENCE);
    let status = await_status(&alone, "the damage to be named", |s| s.state == "damaged").await;
    let told = format!("{:?}", status.verdicts);
    for part in ["0000000000000001.seg", "must not vote", quorate_core::REPLACE_MEMBER] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // Another one knows it too, by the word of the damaged one.
    let another = client.node(0).expect("a node");
    await_status(&another, "the others to be told", |s| node(s, &victim.name).state == "damaged").await;
    let screen = dev.cli_at(&dev.json.nodes[0].api, &["operator", "status", "--output", "table"], "");
    let screen = String::from_utf8_lossy(&screen.stdout).into_owned();
    assert!(screen.contains(&format!("{} is damaged", victim.name)) && !screen.contains("does not answer"), "{screen}");
    // Whoever asks all of them is told it once, with the steps that follow here.
    let screen = dev.cli(&["operator", "status", "--output", "table"], "");
    let screen = String::from_utf8_lossy(&screen.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        format!("DEGRADED {} is damaged: ", victim.name),
        format!("`quorate operator members remove {}`", victim.name),
        format!("`quorate operator members invite --name {} > token`", victim.name),
        format!("`quorate operator members approve {} --fingerprint F`", victim.name),
        format!("`quorate operator members promote {}`", victim.name),
    ] {
        assert_eq!(screen.matches(&part).count(), 1, "{part}: {screen}");
    }
    assert!(!screen.contains("README") && !screen.contains("does not answer"), "{screen}");

    signal(dev.json.nodes[2].pid, Signal::KILL);
    std::fs::rename(&victim.data, victim.data.with_extension("damaged")).expect("moved away");
    let others = format!("{},{}", dev.json.nodes[0].api, dev.json.nodes[1].api);
    let cli = |dev: &Dev, args: &[&str]| -> Value {
        let output = dev.cli_at(&others, &[&["operator", "members"], args, &["--output", "json"]].concat(), "");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    cli(&dev, &["remove", &victim.name]);
    let token = cli(&dev, &["invite", "--name", &victim.name])["token"].as_str().expect("a token").to_owned();
    std::fs::write(victim.data.with_file_name("join-token"), token).expect("written");
    dev.restart(2);
    let end = Instant::now() + PATIENCE;
    let fingerprint = loop {
        let list = cli(&dev, &["list"]);
        let pending = list["pending"].as_array().into_iter().flatten();
        let found = pending.filter_map(|p| p["fingerprint"].as_str()).find(|f| !f.is_empty());
        if let Some(found) = found {
            break found.to_owned();
        }
        assert!(Instant::now() < end, "the new node does not introduce itself: {list}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    cli(&dev, &["approve", &victim.name, "--fingerprint", &fingerprint]);
    await_status(&client, "it to be unsealed", |s| {
        s.nodes.iter().any(|n| n.name == victim.name) && !node(s, &victim.name).sealed
    })
    .await;
    cli(&dev, &["promote", &victim.name]);
    let status = await_status(&alone, "it to serve", |s| s.state == "ok" && node(s, &victim.name).voter).await;
    assert_ne!(node(&status, &victim.name).id, victim.id, "an id that lost votes is never used again");
    let request = DecryptRequest { ciphertext, ..Default::default() };
    assert_eq!(alone.decrypt(request).await.expect("it has everything").plaintext, "before");
}
