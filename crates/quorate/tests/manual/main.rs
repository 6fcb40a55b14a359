//! The operator's manual, by the letter: what stands in the fenced blocks of "A cluster on three machines", of "Replacing a
//! damaged member" and of "Planned changes" is typed, block by block, on a terminal, by the people and at the machines that the
//! pages name.
#![allow(clippy::disallowed_methods, reason = "tests touch files and processes")]

mod machines;
mod page;
#[path = "../support/mod.rs"]
mod support;
mod terminal;

use std::process::Command;

use quorate_hsm::soft_token::SoftToken;

use machines::{CUSTODIANS, Machines, NODES, OPERATOR};
use page::blocks;
use support::QUORATE;

#[test]
fn a_cluster_by_the_letter_a_member_replaced_and_changes_planned_by_the_letter() {
    let (cluster, replace) = (include_str!("../../manual/cluster.md"), include_str!("../../manual/replace.md"));
    let planned = include_str!("../../manual/planned.md");
    let not_typed = |page| blocks(page, &NODES).into_iter().filter(|b| b.machines.is_empty()).map(|b| b.text);
    let not_typed: Vec<_> = [cluster, replace, planned].into_iter().flat_map(not_typed).collect();
    let [build, credential] = not_typed.as_slice() else { panic!("everything but two is typed here: {not_typed:?}") };
    assert!(build.starts_with("scripts/release") && credential.starts_with("systemd-ask-password "));

    let mut machines = Machines::new();
    let seen = machines.follow(cluster, |machines, block| {
        if block.contains("share check") {
            for custodian in CUSTODIANS {
                machines.carry(&format!("for-{custodian}"), OPERATOR, custodian);
            }
        }
        if block.contains("members approve") {
            // What it shows is what was written down when it made its keys.
            for node in ["n2", "n3"] {
                machines.wait_for(node, &machines.fingerprints[node]);
            }
        }
        if block.contains("members promote") {
            machines.await_open(&["n2", "n3"]);
        }
    });
    assert!(seen.contains("uninitialized") && seen.contains("attack at dawn"), "{seen}");
    assert_eq!((machines.fingerprints.len(), machines.shares.len()), (NODES.len(), CUSTODIANS.len()), "all were shown");
    let accepted = CUSTODIANS.iter().filter(|custodian| seen.contains(&format!("{custodian}, accepted")));
    assert_eq!(accepted.copied().collect::<Vec<_>>(), ["ada", "grace", "joan"], "labels go with shares");
    let before = machines.members();
    assert!(before.len() == 3 && before.iter().all(|m| m["voter"] == true && m["sealed"] == false), "{before:?}");

    machines.follow(replace, |machines, block| {
        if block.contains("members approve") {
            machines.wait_for("n3", &machines.fingerprints["n3"]);
        }
        if block.contains("members promote") {
            machines.await_open(&["n3"]);
        }
    });
    let after = machines.members();
    let id =
        |members: &[serde_json::Value]| members.iter().find(|m| m["name"] == "n3").expect("a member")["id"].as_u64();
    assert!(after.len() == 3 && after.iter().all(|m| m["voter"] == true) && id(&after) > id(&before), "{after:?}");
    let screen = machines.type_at(OPERATOR, "quorate decrypt --aad tenant=blue --addr n3.example.com:7600 < secret\n");
    assert!(screen.contains("attack at dawn"), "{screen}");

    machines.follow(planned, |machines, block| {
        // One node after the other, and the next thing when all are back.
        if ["systemctl restart", "transfer-leader"].iter().any(|words| block.contains(words)) {
            machines.await_open(&NODES);
        }
    });
    let left = machines.members();
    let names: Vec<_> = left.iter().filter_map(|m| m["name"].as_str()).collect();
    assert_eq!(names, ["n1", "n2"], "n3 was removed: {left:?}");
    let screen = machines.type_at(OPERATOR, "quorate decrypt --aad tenant=blue < secret\n");
    assert!(screen.contains("attack at dawn"), "{screen}");
}

/// The unit keeps a node from what it does not need, as systemd itself rates it: 0 is best and 10 worst (here in tenths).
#[test]
fn the_unit_is_hardened() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../cluster-config/quorate.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=20", unit])
        .output()
        .expect("THIS TEST NEEDS systemd-analyze (package systemd)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The unit under systemd itself, with all that it takes away from the node: started, reloaded, restarted, stopped. Needs root,
/// systemd and overlayfs; without them it fails and says so.
#[test]
fn the_unit_serves_under_systemd() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a temporary folder");
    let module = SoftToken::module().expect("SoftHSM2");
    let booted = Command::new("bash")
        .arg(here.join("tests/manual/boot.sh"))
        .args([QUORATE.as_ref(), here.join("../../cluster-config/quorate.service").as_path(), &module, out.path()])
        .output()
        .expect("bash");
    let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap_or_default();
    let (seen, journal) = (read("seen"), read("journal"));
    let told = format!(
        "THIS TEST MUST BE ALLOWED TO BOOT SYSTEMD IN A NAMESPACE (root, overlayfs)\n--- seen:\n{seen}\n--- journal:\n{journal}\n---\n{}{}",
        String::from_utf8_lossy(&booted.stdout),
        String::from_utf8_lossy(&booted.stderr)
    );
    assert!(seen.contains("attack at dawn"), "{told}");
    for line in ["Result=success", "ExecMainStatus=0", "ActiveState=inactive"] {
        assert!(seen.lines().any(|said| said == line), "{line}: {told}");
    }
    let warned: Vec<_> = journal.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert!(warned.is_empty(), "it lacks nothing that it needs: {warned:?}");
}
