//! A short run against real nodes, and the command's manners.
#![allow(clippy::disallowed_methods, reason = "tests start processes")]

use std::path::Path;
use std::process::{Command, Output};

const JEPSEN: &str = env!("CARGO_BIN_EXE_jepsen");

fn jepsen(args: &[&str]) -> Output {
    Command::new(JEPSEN).args(args).output().expect("it starts")
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Half a minute of leader kills, cuts and pauses while keys are revoked and raced. It takes root: set JEPSEN_SKIP_REAL=1
/// where namespaces are not to be had, knowingly.
#[test]
fn revocation_holds_on_real_nodes_under_faults() {
    if std::env::var_os("JEPSEN_SKIP_REAL").is_some() {
        return;
    }
    let quorate = Path::new(JEPSEN).with_file_name("quorate");
    assert!(quorate.exists(), "{} is not built; run cargo build --package quorate", quorate.display());
    let doctor = jepsen(&["doctor"]);
    assert!(doctor.status.success(), "this machine can't run it (JEPSEN_SKIP_REAL=1 skips): {}", said(&doctor));

    let nets = ["tap", "veth", "proxy"].map(|net| format!("ok       --net {net}"));
    assert!(nets.iter().all(|net| said(&doctor).contains(net)), "{}", said(&doctor));

    let store = tempfile::tempdir().expect("a folder");
    let folder = store.path().to_str().expect("UTF-8");
    let test = ["--workload", "revoke", "--nemesis", "partition,kill,pause", "--nodes", "3", "--time", "15s"];
    let run = Command::new(JEPSEN)
        .arg("run")
        .args(test)
        .args(["--seed", "11", "--store", folder])
        .output()
        .expect("it starts");
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));

    let latest = store.path().join("latest");
    let results = std::fs::read_to_string(latest.join("results.json")).expect("results");
    let results: serde_json::Value = serde_json::from_str(&results).expect("JSON");
    assert_eq!(results["verdict"], "valid");
    assert!(["partition", "kill", "pause"].iter().all(|kind| results["faults"][kind].as_u64() >= Some(1)), "{results}");

    // The stored history gives the same verdict, and another one once a line is forged.
    let check = || jepsen(&["check", latest.to_str().expect("UTF-8")]);
    assert_eq!(check().status.code(), Some(0), "{}", said(&check()));
    let history = latest.join("history.edn");
    let text = std::fs::read_to_string(&history).expect("a history");
    let forged = text.replacen(":error \"KEY_DISABLED\"", ":forged true", 1);
    let line = forged.lines().find(|l| l.contains(":forged")).expect("a use was denied");
    let version = if line.contains(":f :decrypt") { ":exact true, :version 1" } else { ":version 1" };
    let lie = line.replace(":type :fail", ":type :ok").replace(":text", &format!("{version}, :text"));
    std::fs::write(&history, forged.replace(line, &lie)).expect("written");
    assert_eq!(check().status.code(), Some(1), "{}", said(&check()));
}

#[test]
fn a_wrong_command_line_is_no_verdict() {
    assert_eq!(jepsen(&["run", "--workload", "nonsense"]).status.code(), Some(3));
    assert_eq!(jepsen(&["check", "/nowhere"]).status.code(), Some(3));
    let cut_two =
        jepsen(&["run", "--workload", "revoke", "--nemesis", "partition", "--nodes", "2", "--store", "/nowhere"]);
    assert_eq!(cut_two.status.code(), Some(3));
    assert!(said(&cut_two).contains("3 or more"), "{}", said(&cut_two));
}

#[test]
fn a_fault_that_the_network_can_not_make_is_refused_and_not_passed_over() {
    for (nemesis, net) in [("packet", "veth"), ("packet", "proxy"), ("stream", "tap"), ("power", "proxy")] {
        let args = ["run", "--workload", "revoke", "--nemesis", nemesis, "--net", net, "--store", "/nowhere"];
        let refused = jepsen(&args);
        assert_eq!(refused.status.code(), Some(3));
        let words = format!("nemesis {nemesis} can't be had on --net {net}: it takes ");
        assert!(said(&refused).contains(&words), "{}", said(&refused));
    }
}

#[test]
fn the_selftest_and_the_list_say_what_there_is() {
    let selftest = jepsen(&["selftest"]);
    assert_eq!(selftest.status.code(), Some(0), "{}", said(&selftest));
    let list = said(&jepsen(&["list"]));
    assert!(["revoke", "partition", "linear"].iter().all(|word| list.contains(word)), "{list}");
}
