//! `quorate policy` as somebody runs it who writes policies: real files, no cluster.
#![allow(clippy::disallowed_methods, reason = "tests write an author's files")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const TEAM: &str =
    "permit(principal in Q::Group::\"g\", action in Q::Action::\"CryptoUser\", resource in Q::Namespace::\"3\");\n";
const DESTROY: &str = "@approvals(\"2\")\nforbid(principal, action == Q::Action::\"Purge\", resource)\nunless { context has ip && context.ip.isLoopback() };\n";

fn quorate(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.current_dir(dir).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(dir: &Path, args: &[&str]) -> String {
    let output = quorate(dir, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_schema_is_printed_as_it_is_and_names_every_action() {
    let temp = tempfile::tempdir().unwrap();
    let schema = done(temp.path(), &["policy", "schema"]);
    assert!(schema.contains("namespace Q {") && schema.contains("action \"Encrypt\" in [\"Use\", \"CryptoUser\""));
    let json: Value = serde_json::from_str(&done(temp.path(), &["policy", "schema", "--output", "json"])).unwrap();
    assert_eq!(json["schema"].as_str(), Some(schema.as_str()));
}

#[test]
fn roles_are_a_table() {
    let temp = tempfile::tempdir().unwrap();
    let table = done(temp.path(), &["policy", "roles", "--output", "table"]);
    assert!(table.starts_with("ACTION ") && table.contains("Administrator"), "{table}");
    let json: Value = serde_json::from_str(&done(temp.path(), &["policy", "roles"])).unwrap();
    let purge = json["actions"].as_array().unwrap().iter().find(|row| row["action"] == "Purge").unwrap();
    let expected = json!({
        "action": "Purge", "roles": ["CryptoOfficer", "SecretsOfficer", "Administrator"], "certificates": ["admin"],
    });
    assert_eq!(*purge, expected);
}

#[test]
fn good_policies_are_told_in_words() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("team-a.cedar"), TEAM).unwrap();
    std::fs::write(temp.path().join("destroy.cedar"), DESTROY).unwrap();
    let check = ["policy", "check", "team-a.cedar", "destroy.cedar"];
    let json: Value = serde_json::from_str(&done(temp.path(), &check)).unwrap();
    let [team, destroy] = json["policies"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!((&team["id"], &team["effect"], &team["approvals"]), (&"team-a".into(), &"permit".into(), &Value::Null));
    assert_eq!((&team["who"], &team["does"]), (&"who is in Q::Group::\"g\"".into(), &"CryptoUser".into()));
    assert!(team["actions"].as_array().unwrap().contains(&"Decrypt".into()) && team["reads_context"] == json!([]));
    assert_eq!((&destroy["approvals"], &destroy["reads_context"]), (&2.into(), &json!(["ip"])));
    assert_eq!(destroy["actions"], json!(["Purge"]));
    let table = done(temp.path(), &[&check[..], &["--output", "table"]].concat());
    assert!(table.contains("destroy") && table.contains("everybody"), "{table}");
}

#[test]
fn what_is_wrong_is_told_by_file_line_and_column() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("good.cedar"), TEAM).unwrap();
    std::fs::write(
        temp.path().join("bad.cedar"),
        "permit(principal, action == Q::Action::\"Encript\",\n resource)\nwhen { context.ip.isLoopback() };",
    )
    .unwrap();
    let output = quorate(temp.path(), &["policy", "check", "bad.cedar", "good.cedar", "--output", "table"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("bad.cedar:1:29: there is no such action")
            && said.contains("did you mean Q::Action::\"Encrypt\"?"),
        "{said}"
    );
    assert!(said.contains("error: 1 of 2 files hold no policy that can be taken"), "{said}");
    assert!(text(&output.stdout).contains("good"), "the others are checked all the same");

    let output = quorate(temp.path(), &["policy", "check", "bad.cedar", "--output", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fault = &json["policies"][0]["faults"][0];
    assert_eq!(
        (&json["policies"][0]["file"], &fault["line"], &fault["column"]),
        (&"bad.cedar".into(), &1.into(), &29.into())
    );
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((output.status.code(), &failure["reason"]), (Some(1), &"FAILED".into()));

    std::fs::write(temp.path().join("two words.cedar"), TEAM).unwrap();
    std::fs::write(temp.path().join("bytes.cedar"), [0xff, 0xfe]).unwrap();
    std::fs::write(temp.path().join("long.cedar"), " ".repeat(33 * 1024)).unwrap();
    for (file, why) in [
        ("none.cedar", "none.cedar"),
        ("two words.cedar", "not a valid name"),
        ("bytes.cedar", "no text"),
        ("long.cedar", "split the policy"),
    ] {
        let output = quorate(temp.path(), &["policy", "check", file, "--output", "table"]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{file}: {said}");
    }
    assert_eq!(quorate(temp.path(), &["policy", "check"]).status.code(), Some(2));
}
