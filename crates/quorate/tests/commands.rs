//! The command line against real nodes: what it prints, where it writes, how it fails. And the way by hand, from nothing
//! to a serving node.
#![allow(clippy::disallowed_methods, reason = "tests touch files and processes")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quorate_hsm::soft_token::SoftToken;
use serde_json::Value;
use support::{Dev, PATIENCE, Process, QUORATE, Signal, complaint, run, signal};

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn key_ids(keys: &Value) -> impl Iterator<Item = String> {
    keys["keys"].as_array().into_iter().flatten().filter_map(|key| Some(key["key_id"].as_str()?.to_owned()))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o777
}

/// A command in that namespace.
fn in_team_a<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--namespace", "team-a"]].concat()
}

#[test]
fn every_command_does_what_it_says() {
    let dev = Dev::start(1);
    let ok = |args: &[&str], stdin: &[u8]| dev.cli_ok(args, stdin);

    // Keys and names. Without a terminal the output is JSON.
    let made = json(&ok(&["keys", "create", "--alias", "pay", "--description", "d"], b""));
    let id = made["key_id"].as_str().expect("an id").to_owned();
    assert_eq!(
        (&made["aliases"], &made["state"], &made["current_version"]),
        (&Value::from(vec!["pay"]), &"enabled".into(), &1.into())
    );
    let made_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let token = uuid::Builder::from_unix_timestamp_millis(made_ms, &[7; 10]).into_uuid().to_string();
    let token = token.as_str();
    let late = uuid::Builder::from_unix_timestamp_millis(made_ms - 2 * 3_600_000, &[7; 10]).into_uuid().to_string();
    let twice: Vec<Value> = (0..2).map(|_| json(&ok(&["keys", "create", "--token", token], b""))).collect();
    assert_eq!(twice[0]["key_id"], twice[1]["key_id"], "the same token gives the same key");
    for (wrong, why) in [(late.as_str(), "TOKEN_TIME"), ("6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab", "INVALID_ARGUMENT")] {
        let refused = dev.cli(&["keys", "create", "--token", wrong], b"");
        assert!(!refused.status.success() && text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }
    assert_eq!(json(&ok(&["keys", "list", "--output", "json"], b""))["keys"].as_array().map(Vec::len), Some(2));
    assert_eq!(json(&ok(&["keys", "list", "--limit", "1"], b""))["keys"].as_array().map(Vec::len), Some(1));
    let many = json(&ok(&["keys", "create", "--count", "1100", "--description", "many"], b""));
    let many: BTreeSet<String> = key_ids(&many).collect();
    assert_eq!(many.len(), 1100);
    let listed: BTreeSet<String> = key_ids(&json(&ok(&["keys", "list"], b""))).collect();
    assert!(listed.len() == 1102 && many.is_subset(&listed));
    let table = text(&ok(&["keys", "list", "--output", "table"], b""));
    assert!(table.starts_with("KEY ") && table.lines().count() == 1103 && table.contains(&id));
    assert_eq!(json(&ok(&["keys", "list", "--limit", "1001"], b""))["keys"].as_array().map(Vec::len), Some(1001));
    assert!(text(&ok(&["keys", "describe", "alias/pay", "--output", "table"], b"")).contains(&id));
    // What is said is what was stored; a name that is none is refused before anything is asked.
    assert_eq!(json(&ok(&["keys", "create", "--alias", "alias/said"], b""))["aliases"][0], "said");
    for none in ["", "a b", &id] {
        assert_eq!(dev.cli(&["keys", "create", "--alias", none], "").status.code(), Some(2), "{none:?}");
    }
    ok(&["alias", "create", "cards", "--key", "pay"], b"");
    assert_eq!(json(&ok(&["alias", "list"], b""))["aliases"].as_array().map(Vec::len), Some(3));
    ok(&["alias", "delete", "cards"], b"");
    assert_eq!(json(&ok(&["keys", "rotate", "pay"], b""))["current_version"], 2);
    assert_eq!(json(&ok(&["keys", "disable", "pay"], b""))["state"], "disabled");
    assert!(complaint(&dev.cli(&["encrypt", "--key", "pay"], "x")).contains("KEY_DISABLED"));
    ok(&["keys", "enable", "pay"], b"");
    let doomed = json(&ok(&["keys", "schedule-deletion", twice[0]["key_id"].as_str().unwrap(), "--days", "7"], b""));
    assert!(doomed["state"] == "pending-deletion" && doomed["deletion_at"].as_str() > doomed["created_at"].as_str());
    // The same fields everywhere, but for what may be long; what is absent is null.
    let mut described = json(&ok(&["keys", "describe", "pay"], b""));
    let listed = json(&ok(&["keys", "list", "-o", "json"], b""));
    assert_eq!(described.as_object_mut().unwrap().remove("description"), Some("d".into()), "lists leave it out");
    assert!(listed["keys"].as_array().is_some_and(|keys| keys.contains(&described)), "{described}");
    assert!(described["deletion_at"].is_null() && described["rotated_at"].as_str().is_some_and(|t| t.ends_with('Z')));
    let doomed_only = json(&ok(&["keys", "list", "--state", "pending-deletion", "--limit", "5"], b""));
    assert_eq!(key_ids(&doomed_only).collect::<Vec<_>>(), [twice[0]["key_id"].as_str().unwrap()]);
    let yaml = text(&ok(&["keys", "list", "-o", "yaml"], b""));
    assert!(yaml.starts_with("keys:\n- ") && yaml.contains(&format!("key_id: {id}")), "{yaml}");
    assert_eq!(json(&ok(&["keys", "cancel-deletion", twice[0]["key_id"].as_str().unwrap()], b""))["state"], "disabled");

    // A name for life, in any case; bad ones are refused before anything is asked.
    let named = json(&ok(&["keys", "create", "--name", "Db-Main"], b""));
    assert_eq!((&named["name"], &named["aliases"]), (&"Db-Main".into(), &json(b"[]")));
    assert_eq!(json(&ok(&["keys", "describe", "key/DB-main"], b"")), named);
    assert_eq!(ok(&["decrypt", "--key", "key/db-main"], &ok(&["encrypt", "--key", "key/db-main"], b"x")), b"x");
    assert!(text(&ok(&["keys", "list", "--limit", "1", "-o", "table"], b"")).contains("Db-Main"));
    assert!(complaint(&dev.cli(&["keys", "create", "--name", "db-main"], "")).contains("ALREADY_EXISTS"));
    assert_eq!(dev.cli(&["keys", "create", "--name", "a_b"], "").status.code(), Some(2));

    // Secrets: raw by default, base64 in JSON.
    let set = json(&ok(&["secret", "set", "Db-Password", "--tag", "team=shop", "--content-type", "text"], b"s3cret\n"));
    assert_eq!(
        (&set["name"], &set["current_version"], &set["tags"]["team"]),
        (&"Db-Password".into(), &1.into(), &"shop".into())
    );
    let file = dev.dir().join("value");
    assert_eq!(ok(&["secret", "get", "db-password", "--out", file.to_str().unwrap()], b""), b"");
    assert_eq!((mode(&file), std::fs::read(&file).unwrap()), (0o600, b"s3cret\n".to_vec()));
    let set =
        json(&ok(&["secret", "set", "db-password", "--in", file.to_str().unwrap(), "--expires", "2099-12-31"], b""));
    assert_eq!(set["current_version"], 2);
    assert_eq!(ok(&["secret", "get", "db-password", "--version", "1"], b""), b"s3cret\n");
    let got = json(&ok(&["secret", "get", "DB-password", "--version", "1", "--output", "json"], b""));
    assert_eq!(
        (&got["value"], &got["content_type"], &got["version"]),
        (&"czNjcmV0Cg==".into(), &"text".into(), &1.into())
    );
    let off = json(&ok(&["secret", "update", "db-password", "--version", "1", "--enabled", "false"], b""));
    assert_eq!((&off["version"]["enabled"], &off["version"]["version"]), (&false.into(), &1.into()));
    let refused = complaint(&dev.cli(&["secret", "get", "db-password", "--version", "1"], ""));
    assert!(refused.contains("KEY_DISABLED") && refused.contains("secret db-password is disabled"), "{refused}");
    assert_eq!(json(&ok(&["secret", "versions", "db-password"], b""))["versions"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        json(&ok(&["secret", "describe", "db-password"], b""))["version"]["expires_at"],
        "2099-12-31T00:00:00.000Z"
    );
    assert_eq!(json(&ok(&["secret", "list"], b""))["secrets"].as_array().map(Vec::len), Some(1));
    assert_eq!(json(&ok(&["secret", "delete", "db-password", "--days", "7"], b""))["state"], "pending-deletion");
    assert!(complaint(&dev.cli(&["secret", "set", "db-password"], "x")).contains("recover it, or purge it, first"));
    assert_eq!(json(&ok(&["secret", "recover", "db-password"], b""))["state"], "enabled");
    ok(&["secret", "delete", "db-password"], b"");
    assert_eq!(json(&ok(&["secret", "purge", "db-password"], b""))["state"], "destroyed");
    assert!(complaint(&dev.cli(&["secret", "get", "db-password"], "")).contains("NOT_FOUND"));
    assert!(complaint(&dev.cli(&["secret", "set", "a"], vec![0; 32769])).contains("quorate file encrypt"));
    assert!(complaint(&dev.cli(&["secret", "set", "a"], "")).contains("value is empty"));

    // Namespaces: the same names, and lists of their own.
    let made = json(&ok(&["namespace", "create", "Team-A", "--exportable", "wrapped", "--no-usage-tracking"], b""));
    assert_eq!((&made["name"], &made["state"]), (&"team-a".into(), &"live".into()));
    assert_eq!((&made["exportable"], &made["usage_tracking"]), (&"wrapped".into(), &false.into()));
    let other = json(&ok(&in_team_a(&["keys", "create", "--alias", "pay"]), b""));
    assert!(other["key_id"] != id.as_str() && other["usage_tracking"] == false);
    assert_eq!(json(&ok(&in_team_a(&["keys", "describe", "pay"]), b""))["key_id"], other["key_id"]);
    assert_eq!(json(&ok(&["keys", "describe", "pay"], b""))["key_id"], id.as_str());
    assert_eq!(
        key_ids(&json(&ok(&in_team_a(&["keys", "list"]), b""))).collect::<Vec<_>>(),
        [other["key_id"].as_str().unwrap()]
    );
    assert_eq!(json(&ok(&in_team_a(&["alias", "list"]), b""))["aliases"].as_array().map(Vec::len), Some(1));
    ok(&in_team_a(&["secret", "set", "only-there"]), b"x");
    assert!(complaint(&dev.cli(&["secret", "get", "only-there"], "")).contains("NOT_FOUND"));
    let capped = complaint(&dev.cli(&in_team_a(&["keys", "create", "--exportable", "plain"]), ""));
    assert!(capped.contains("NOT_EXPORTABLE") && capped.contains("wrapped at most"), "{capped}");
    let lost = complaint(&dev.cli(&["keys", "list", "--namespace", "team-b"], ""));
    assert!(lost.contains("NAMESPACE_NOT_FOUND") && lost.contains("quorate namespace list"), "{lost}");
    assert!(complaint(&dev.cli(&["keys", "list", "--namespace", "a_b"], "")).contains("not a valid name"));
    let table = text(&ok(&["namespace", "list", "--output", "table"], b""));
    assert!(table.starts_with("NAME ") && table.contains("default ") && table.contains("team-a "), "{table}");
    let update = ["namespace", "update", "team-a", "--exportable", "no", "--usage-tracking", "on"];
    assert_eq!(json(&ok(&update, b"")), json(&ok(&["namespace", "describe", "team-a"], b"")));
    let full = complaint(&dev.cli(&["namespace", "delete", "team-a"], ""));
    assert!(full.contains("NOT_EMPTY") && full.contains("it has 1 key and 1 secret"), "{full}");
    assert!(full.contains("quorate keys list --namespace"), "{full}");
    for words in [["keys", "schedule-deletion", "pay"], ["keys", "purge", "pay"]] {
        ok(&in_team_a(&words), b"");
    }
    for words in [["secret", "delete", "only-there"], ["secret", "purge", "only-there"]] {
        ok(&in_team_a(&words), b"");
    }
    assert_eq!(json(&ok(&["namespace", "delete", "team-a"], b""))["deleted"], "team-a");
    assert_eq!(json(&ok(&["namespace", "list"], b""))["namespaces"].as_array().map(Vec::len), Some(1));

    // Uses: raw by default, base64 in JSON.
    let sealed = ok(&["encrypt", "--key", &id, "--aad", "a=1", "--aad", "b=2"], b"attack at dawn");
    assert_eq!(ok(&["decrypt", "--aad", "b=2", "--aad", "a=1"], &sealed), b"attack at dawn");
    let opened = json(&ok(&["decrypt", "--aad", "b=2", "--aad", "a=1", "--output", "json"], &sealed));
    assert_eq!((&opened["plaintext"], &opened["key_id"]), (&"YXR0YWNrIGF0IGRhd24=".into(), &id.as_str().into()));
    assert!(complaint(&dev.cli(&["decrypt", "--aad", "a=1"], &sealed)).contains("TAMPERED"));
    assert!(complaint(&dev.cli(&["encrypt", "--key", "pay"], vec![0; 4097])).contains("quorate file encrypt"));
    let out = dev.dir().join("secret");
    ok(&["encrypt", "--key", "pay", "--out", out.to_str().unwrap()], b"x");
    assert_eq!(ok(&["decrypt", "--in", out.to_str().unwrap()], b""), b"x");
    let data_key = json(&ok(&["data-key", "--key", "pay", "--bytes", "16"], b""));
    assert_eq!(data_key["plaintext"].as_str().map(str::len), Some(24), "16 bytes in base64");
    assert!(json(&ok(&["data-key", "--key", "pay", "--no-plaintext"], b""))["plaintext"].is_null());
    let armored = ok(&["encrypt", "--key", "pay", "--armor"], b"by mail");
    assert!(text(&armored).starts_with("-----BEGIN QUORATE CIPHERTEXT-----"));
    assert_eq!(ok(&["decrypt"], &armored), b"by mail");
    assert_eq!(ok(&["random", "--bytes", "33"], b"").len(), 33);
    assert_eq!(
        json(&ok(&["random", "--bytes", "3", "--output", "json"], b""))["random"].as_str().map(str::len),
        Some(4)
    );

    // Operators.
    let status = json(&ok(&["operator", "status"], b""));
    assert_eq!((&status["leader"], &status["nodes"][0]["sealed"]), (&status["nodes"][0]["id"], &false.into()));
    assert_eq!(json(&ok(&["operator", "members", "list"], b""))["members"].as_array().map(Vec::len), Some(1));
    let checked = json(&ok(&["operator", "share", "check"], dev.json.shares[4].as_bytes()));
    assert_eq!((&checked["valid"], &checked["share_number"]), (&true.into(), &5.into()));
    let invitation = text(&ok(&["operator", "members", "invite", "--name", "n2"], b""));
    assert!(
        invitation.trim().len() > 32 && !invitation.trim().contains(char::is_whitespace),
        "the token and nothing else"
    );
    let taken_back = json(&ok(&["operator", "members", "uninvite", "n2", "--output", "json"], b""));
    assert_eq!((&taken_back["uninvited"], &taken_back["waited"]), (&"n2".into(), &false.into()));
    let again = complaint(&dev.cli(&["operator", "members", "uninvite", "n2"], ""));
    assert!(again.contains("nobody called n2 is invited") && again.contains("operator members list"), "{again}");
    assert!(
        complaint(&dev.cli(&["operator", "init", "--shares", "5", "--threshold", "3", "--output", "json"], ""))
            .contains("ALREADY_INITIALIZED")
    );
    let unneeded = json(&ok(&["operator", "unseal"], dev.json.shares[0].as_bytes()));
    assert_eq!(unneeded["unsealed"], true, "and no share was sent");

    // Bench, version, completions.
    for what in ["echo", "encrypt", "decrypt", "data-key", "create-key"] {
        let args =
            ["bench", what, "--clients", "2", "--size", "64", "--seconds", "1", "--node", "1", "--output", "json"];
        let seen = json(&ok(&args, b""));
        assert!(seen["rate"].as_f64() > Some(0.0) && seen["errors"] == 0, "{seen}");
        assert!(
            seen["p50_us"].as_u64() <= seen["p99_us"].as_u64() && seen["p99_us"].as_u64() <= seen["p999_us"].as_u64()
        );
    }
    let version = json(&ok(&["version"], b""));
    assert_eq!((&version["version"], &version["level"]), (&env!("CARGO_PKG_VERSION").into(), &1.into()));
    assert!(text(&ok(&["completions", "bash"], b"")).contains("quorate"));

    // A program learns of failures as it learns of answers.
    let failure = |args: &[&str]| json(&dev.cli(args, b"").stderr);
    let unknown = failure(&["keys", "describe", "nobody", "--output", "json"]);
    assert_eq!((&unknown["reason"], unknown["hint"].is_string()), (&"NOT_FOUND".into(), true));
    assert_eq!(failure(&["keys", "describe", "--output", "json"])["reason"], "USAGE");
    let wrong_port = dev.cli_at(&dev.json.nodes[0].cluster, &["keys", "list"], b"");
    assert!(text(&wrong_port.stderr).contains("port for the other nodes"), "{}", text(&wrong_port.stderr));
    assert!(text(&ok(&["explain", "KEY_DISABLED", "-o", "table"], b"")).contains("keys enable"));
}

#[test]
fn files_are_encrypted_whole_or_not_at_all() {
    let dev = Dev::start(1);
    dev.cli_ok(&["keys", "create", "--alias", "k"], "");
    let path = |name: &str| dev.dir().join(name).to_str().expect("text").to_owned();
    let plaintext: Vec<u8> = (0..300_000u32).flat_map(|i| i.to_le_bytes()).collect();
    std::fs::write(path("plain"), &plaintext).expect("written");

    let encrypt = ["file", "encrypt", "--key", "k", "--aad", "of=test"];
    dev.cli_ok(&[&encrypt[..], &["--in", &path("plain"), "--out", &path("q")]].concat(), "");
    let file = std::fs::read(path("q")).expect("there");
    assert!(file.starts_with(b"quorate\x01"));
    let decrypt = ["file", "decrypt", "--aad", "of=test"];
    let done = json(&dev.cli_ok(&[&decrypt[..], &["--in", &path("q"), "--out", &path("back")]].concat(), ""));
    assert_eq!(
        (done["bytes"].as_u64(), std::fs::read(path("back")).expect("there")),
        (Some(1_200_000), plaintext.clone())
    );
    assert_eq!(mode(Path::new(&path("back"))), 0o600, "plaintext is the caller's alone");

    // What is there is not overwritten without a word, not even by itself.
    for out in ["q", "plain", "back"] {
        let refused = dev.cli(&[&encrypt[..], &["--in", &path("plain"), "--out", &path(out)]].concat(), "");
        assert!(complaint(&refused).contains("--force"), "{out}");
    }
    assert!(
        std::fs::read(path("plain")).expect("there") == plaintext && std::fs::read(path("q")).expect("there") == file
    );
    std::fs::copy(path("q"), path("twice")).expect("copied");
    dev.cli_ok(&[&decrypt[..], &["--in", &path("twice"), "--out", &path("twice"), "--force"]].concat(), "");
    assert!(std::fs::read(path("twice")).expect("there") == plaintext);

    // A signal in the middle leaves nothing of the plaintext.
    let listed =
        || std::fs::read_dir(dev.dir()).expect("there").map(|e| e.expect("entry").file_name()).collect::<BTreeSet<_>>();
    let before = listed();
    for ended_by in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut command =
            dev.command_at(&dev.json.nodes[0].api, &[&decrypt[..], &["--out", &path("broken-off")]].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let mut input = child.stdin.take().expect("a pipe");
        // All but the end: it has written what was genuine, and waits.
        input.write_all(&file[..file.len() - 1]).expect("taken");
        let opened = || {
            let fds = std::fs::read_dir(format!("/proc/{}/fd", child.id())).ok();
            let links = fds.into_iter().flatten().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
            links.into_iter().any(|link| link.to_string_lossy().contains("(deleted)"))
        };
        wait(opened);
        signal(child.id(), ended_by);
        assert!(!child.wait().expect("ended").success());
        drop(input);
        assert_eq!(listed(), before, "{ended_by:?}");
    }

    // Streams, an empty one too.
    let stream = dev.cli_ok(&encrypt, &plaintext);
    assert_eq!(dev.cli_ok(&decrypt, &stream), plaintext);
    let empty = dev.cli_ok(&encrypt, "");
    assert_eq!(dev.cli_ok(&decrypt, &empty), b"");

    // A truncated one: the file does not appear; a stream is a genuine beginning, and fails.
    let cut = &file[..file.len() - 70_000];
    std::fs::write(path("cut"), cut).expect("written");
    let refused = dev.cli(&[&decrypt[..], &["--in", &path("cut"), "--out", &path("none")]].concat(), "");
    assert!(complaint(&refused).contains("cut off") && !Path::new(&path("none")).exists());
    assert_eq!(refused.status.code(), Some(1));
    let streamed = dev.cli(&decrypt, cut);
    assert!(complaint(&streamed).contains("discard them"));
    assert!(!streamed.stdout.is_empty() && plaintext.starts_with(&streamed.stdout));
    let names: Vec<_> = std::fs::read_dir(dev.dir()).expect("there").map(|e| e.expect("entry").file_name()).collect();
    assert!(!names.iter().any(|n| n.to_string_lossy().contains("partial")), "{names:?}");

    // What else can be wrong with it.
    assert!(complaint(&dev.cli(&["file", "decrypt", "--aad", "of=other"], &stream)).contains("TAMPERED"));
    assert!(complaint(&dev.cli(&["file", "decrypt"], "no such file")).contains("no file that"));
    assert!(complaint(&dev.cli(&["decrypt"], &empty)).contains("quorate file decrypt"));
    dev.cli_ok(&["keys", "disable", "k"], "");
    assert!(complaint(&dev.cli(&decrypt, &stream)).contains("KEY_DISABLED"));
}

#[test]
fn dev_keeps_its_folder_and_its_nodes_in_order() {
    let mut dev = Dev::start(1);
    let dir = dev.dir().to_owned();
    assert_eq!((mode(&dir), mode(&dir.join("dev.json")), mode(&dir.join("shares"))), (0o700, 0o600, 0o700));
    let again = run(new_dev(&dir, &[]), "");
    assert!(complaint(&again).contains("another process works in"));
    let (before, key) = (dev.json.clone(), json(&dev.cli_ok(&["keys", "create"], ""))["key_id"].clone());

    // Interrupted, its nodes have ended; started again, it is the same cluster.
    dev.stop();
    assert!(!alive(before.nodes[0].pid));
    assert!(complaint(&run(new_dev(&dir, &["--nodes", "2"]), "")).contains("holds a cluster of 1"));
    dev.kill_all_and_restart(false);
    assert_eq!((&dev.json.shares, &dev.json.nodes[0].api), (&before.shares, &before.nodes[0].api));
    assert_eq!(json(&dev.cli_ok(&["keys", "describe", key.as_str().expect("an id")], ""))["key_id"], key);

    // What it wrote is enough to use it: as a client file, as what a shell sets, and as a context of one's own.
    let bare = |args: &[&str]| {
        let mut command = Command::new(QUORATE);
        command.args(args).env("HOME", &dir).env_remove("XDG_CONFIG_HOME").env("XDG_DATA_HOME", dir.join("data-home"));
        command
    };
    let sees_it = |mut command: Command| {
        let output = run(command.args(["keys", "list", "--output", "json"]), "");
        output.status.success() && key_ids(&json(&output.stdout)).any(|id| key == id.as_str())
    };
    let mut by_file = bare(&[]);
    by_file.env("QUORATE_CONFIG", dir.join("client.toml"));
    assert!(sees_it(by_file));
    let dir_text = dir.to_str().expect("text");
    let env = run(bare(&["dev", "env", "--dir", dir_text]), "");
    let script = format!("{}\nexec {QUORATE} keys list --output json", text(&env.stdout));
    let output = run(Command::new("sh").args(["-c", &script]), "");
    assert!(key_ids(&json(&output.stdout)).any(|id| key == id.as_str()), "{}", text(&output.stderr));
    assert!(
        complaint(&run(bare(&["dev", "env", "--dir", "/nonexistent"]), "")).contains("no cluster of `quorate dev`")
    );
    let add = ["context", "add", "mine", "--addr", &dev.json.nodes[0].api, "--cacert", "pki/ca.pem"];
    let with_me = ["--client-cert", "pki/admin.pem", "--client-key", "pki/admin.key"];
    let added = run(bare(&[&add[..], &with_me].concat()).current_dir(&dir), "");
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(complaint(&run(bare(&add).current_dir(&dir), "")).contains("--force"), "not over another");
    assert!(sees_it(bare(&["--context", "mine"])) && !sees_it(bare(&[])), "none is in use");
    run(bare(&["context", "use", "mine"]), "");
    assert!(sees_it(bare(&[])));
    assert_eq!(json(&run(bare(&["context", "list"]), "").stdout)["contexts"][0]["current"], true);
    assert!(complaint(&run(bare(&["context", "use", "other"]), "")).contains("there are: mine"));

    // The shell asks for names, and gets those that there are.
    dev.cli_ok(&["alias", "create", "cards", "--key", key.as_str().expect("an id")], "");
    let typed = |words: &[&str]| {
        let mut command = bare(&["--", "quorate"]);
        let place = words.len().to_string();
        command.args(words).env("COMPLETE", "bash").env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_INDEX", place);
        text(&run(command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "false"), "").stdout)
    };
    assert_eq!(typed(&["keys", "describe", "ca"]).trim(), "cards");
    assert_eq!(typed(&["operator", "seal", "--node", "n"]).trim(), "n1");
    let installed = json(&run(bare(&["completions", "bash", "--install"]), "").stdout);
    assert!(Path::new(installed["completions"].as_str().expect("a path")).starts_with(dir.join("data-home")));
    let page = dir.join("data-home/man/man1/quorate-keys-create.1");
    assert!(text(&std::fs::read(page).expect("a page")).contains("quorate keys create"));

    // A folder that holds something else is left as it is.
    let other = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(other.path().join("pki")).expect("made");
    assert!(complaint(&run(new_dev(other.path(), &[]), "")).contains("an earlier start did not finish"));
    assert_eq!(std::fs::read_dir(other.path()).expect("there").count(), 1);
}

#[test]
fn nodes_die_with_dev_and_not_with_each_other() {
    let temp = tempfile::tempdir().expect("a folder");
    let dir = temp.path().join("cluster");
    let mut command = new_dev(&dir, &["--nodes", "3", "--first-port", "0"]);
    let mut process = Process(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    let read = || std::fs::read(dir.join("dev.json")).ok();
    wait(|| read().is_some());
    let info = json(&read().expect("there"));
    let pids: Vec<u32> = (0..3).map(|i| info["nodes"][i]["pid"].as_u64().expect("a pid") as u32).collect();
    signal(pids[1], Signal::KILL);
    wait(|| !alive(pids[1]));
    assert!(process.0.try_wait().expect("ours").is_none() && alive(pids[0]) && alive(pids[2]));
    process.0.kill().expect("ours");
    process.0.wait().expect("ours");
    wait(|| pids.iter().all(|pid| !alive(*pid)));
}

/// One node: certificates, token, request, server, genesis, ceremony; what each step refuses.
#[test]
fn a_node_by_hand_from_nothing_to_serving() {
    let temp = tempfile::tempdir().expect("a folder");
    let dir = temp.path();
    let path = |name: &str| dir.join(name).to_str().expect("text").to_owned();
    let quorate = |args: &[&str]| {
        let mut command = Command::new(QUORATE);
        command.args(args).current_dir(dir);
        command
    };
    let done = |args: &[&str]| {
        let output = run(quorate(args), "");
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        json(&output.stdout)
    };
    std::fs::write(dir.join("passphrase"), "a passphrase for this test").expect("written");
    done(&["pki", "init", "--dir", "pki", "--passphrase-file", "passphrase"]);
    for role in ["admin", "custodian"] {
        done(&["pki", "client", "--dir", "pki", "--passphrase-file", "passphrase", "--role", role, "--name", role]);
    }
    let token = SoftToken::create(&dir.join("token"), "quorate-n1", "123456").expect("a token");
    std::fs::write(dir.join("pin"), "123456").expect("written");
    std::fs::set_permissions(dir.join("pin"), std::fs::Permissions::from_mode(0o400)).expect("ours");
    let (api, peer) = (free_port(), free_port());
    let environment = token.environment().into_iter().map(|(k, v)| format!("{k} = {v:?}\n")).collect::<String>();
    let module = SoftToken::module().expect("installed");
    let config = format!(
        "name = \"n1\"\ndata_dir = \"data\"\napi.listen = \"{api}\"\npeer.listen = \"{peer}\"\n\
         tls = {{ cert = \"n1.pem\", root_ca = \"pki/ca.pem\" }}\n\
         [hsm]\nmodule = {module:?}\ntoken_label = \"quorate-n1\"\npin_file = \"pin\"\n[hsm.environment]\n{environment}"
    );
    std::fs::write(dir.join("n1.toml"), config).expect("written");
    let requested = done(&["pki", "request", "--config", "n1.toml"]);
    let fingerprint = requested["fingerprint"].as_str().expect("one").to_owned();
    let sign = ["pki", "sign", "--dir", "pki", "--passphrase-file", "passphrase", "--request", "n1.request"];
    done(&[&sign[..], &["--fingerprint", &fingerprint]].concat());

    let log = std::fs::File::create(dir.join("log")).expect("made");
    let mut server = quorate(&["server", "--config", "n1.toml"]);
    let _server = Process(server.stdin(Stdio::null()).stderr(log).spawn().expect("it starts"));
    let client = |who: &str, args: &[&str], stdin: &str| -> Output {
        let mut command = quorate(args);
        command.env("QUORATE_ADDR", &api).env("QUORATE_CACERT", path("pki/ca.pem"));
        command.env("QUORATE_CLIENT_CERT", path(&format!("pki/{who}.pem")));
        command.env("QUORATE_CLIENT_KEY", path(&format!("pki/{who}.key")));
        command.env("XDG_STATE_HOME", path(&format!("state-of-{who}")));
        run(command, stdin)
    };
    wait(|| client("admin", &["operator", "status"], "").status.code() == Some(3));
    assert_eq!(json(&client("admin", &["operator", "status"], "").stdout)["state"], "uninitialized");
    assert!(complaint(&client("admin", &["keys", "create"], "")).contains("operator init"));

    // Genesis. Shares go to files of their own; never to a pipe unasked.
    let init = ["operator", "init", "--shares", "3", "--threshold", "2"];
    let unasked = client("admin", &init, "");
    assert!(unasked.status.code() == Some(2) && complaint(&unasked).contains("--shares-out"));
    let to_files = [&init[..], &["--shares-out", "shares"]].concat();
    assert!(complaint(&client("custodian", &to_files, "")).contains("DENIED"));
    assert!(!dir.join("shares/share-1.txt").exists(), "a genesis that was refused leaves no empty files");
    let founded = client("admin", &to_files, "");
    assert!(founded.status.success() && !text(&founded.stdout).contains("qs1"), "{}", text(&founded.stderr));
    let shares: Vec<String> = (1..=3)
        .map(|n| {
            let file = dir.join(format!("shares/share-{n}.txt"));
            assert_eq!(mode(&file), 0o600);
            std::fs::read_to_string(file).expect("there")
        })
        .collect();
    assert!(
        complaint(&client("admin", &[&init[..], &["--shares-out", "more"]].concat(), ""))
            .contains("ALREADY_INITIALIZED")
    );

    // The ceremony: a custodian each; bad shares never leave the terminal.
    wait(|| json(&client("admin", &["operator", "status"], "").stdout)["state"] == "sealed");
    assert!(complaint(&client("admin", &["keys", "create"], "")).contains("SEALED"));
    let typo = shares[0].replacen('q', "p", 3).replacen("ps1", "qs1", 1);
    let refused = complaint(&client("custodian", &["operator", "unseal"], &typo));
    assert!(refused.contains("mistyped") && refused.contains("nothing was sent"), "{refused}");
    assert!(complaint(&client("custodian", &["operator", "unseal"], "")).contains("no share was given"));
    let enter = |share: &str| json(&client("custodian", &["operator", "unseal"], share).stdout);
    let first = enter(&shares[2]);
    assert_eq!((&first["unsealed"], &first["ceremony"]["entered"]), (&false.into(), &1.into()));
    // Whoever began it may end it, a stranger to it may not.
    let foreign = client("admin", &["operator", "ceremony", "abort"], "");
    assert!(complaint(&foreign).contains("custodian/custodian began this ceremony"));
    let aborted = client("custodian", &["operator", "ceremony", "abort"], "");
    assert_eq!(json(&aborted.stdout)["aborted"], true, "{}", text(&aborted.stderr));
    assert!(complaint(&client("custodian", &["operator", "ceremony", "abort"], "")).contains("no ceremony is open"));
    assert_eq!(enter(&shares[2])["ceremony"]["entered"], 1);
    // A custodian who did not begin it signs: t of them end it, and no share is sent.
    let sign = |share: &str| client("admin", &["operator", "ceremony", "abort", "--sign"], share);
    assert_eq!(
        (&json(&sign(&shares[1]).stdout)["aborted"], json(&sign(&shares[1]).stdout)["signatures"].as_u64()),
        (&false.into(), Some(1))
    );
    assert_eq!(json(&sign(&shares[0]).stdout)["aborted"], true);
    let first = enter(&shares[2]);
    assert_eq!(first["ceremony"]["entered"], 1, "all begins anew");
    assert!(complaint(&client("custodian", &["operator", "unseal"], &shares[2])).contains("already entered"));
    assert_eq!(enter(&shares[0])["unsealed"], true);
    assert!(client("admin", &["keys", "create", "--alias", "by-hand"], "").status.success());
    assert!(complaint(&client("custodian", &["keys", "list"], "")).contains("DENIED"));
}

/// A hostile member tells of a ceremony at its place: a share goes to the address its custodian gave, and nowhere else.
#[test]
fn a_share_goes_to_the_address_that_was_given_and_to_no_other() {
    let dev = Dev::start_sealed(3);
    let [n1, n2, _] = [0, 1, 2].map(|place| &dev.json.nodes[place]);
    let unseal = |addrs: &str, more: &[&str], share: usize| {
        dev.cli_at(addrs, &[&["operator", "unseal"], more].concat(), &dev.json.shares[share])
    };
    let entered = |place: usize| {
        let status = json(&dev.cli_at(&dev.json.nodes[place].api, &["operator", "status"], "").stdout);
        (status["ceremony"]["node"].clone(), status["ceremony"]["share_numbers"].clone())
    };
    let told = unseal(&n1.api, &[], 0);
    wait(|| entered(1) == (n1.name.as_str().into(), serde_json::json!([1])));
    // Every node tells that a ceremony is open at n1; the custodian said n2.
    let second = unseal(&n2.api, &[], 1);
    let answer = json(&second.stdout);
    assert_eq!((&answer["node"], &answer["ceremony"]["node"]), (&n2.name.as_str().into(), &n2.name.as_str().into()));
    assert_eq!(entered(0), (n1.name.as_str().into(), serde_json::json!([1])));
    assert_eq!(entered(1), (n2.name.as_str().into(), serde_json::json!([2])));
    let warned = text(&second.stderr);
    let open = format!("A ceremony is open elsewhere: 1 of 3 shares entered at {}", n1.name);
    assert!(warned.contains(&open) && warned.contains(&format!("--node {}", n1.name)), "{warned}");
    let above = text(&told.stderr);
    let seal = json(&dev.cli_at(&n1.api, &["operator", "status"], "").stdout)["seal_fingerprint"].clone();
    for shown in [n1.name.as_str(), &n1.api, "fingerprint", seal.as_str().expect("one")] {
        assert!(above.contains(shown), "{shown} in: {above}");
    }
    // With several addresses it goes nowhere unless it is told where.
    let both = format!("{},{}", n1.api, n2.api);
    let unasked = unseal(&both, &[], 2);
    let said = complaint(&unasked);
    assert!(unasked.status.code() == Some(2) && said.contains("--node NAME") && said.contains(&n2.api), "{said}");
    assert_eq!(json(&unseal(&both, &["--node", "2"], 2).stdout)["ceremony"]["entered"], 2);
    let unknown = complaint(&unseal(&both, &["--node", "n9"], 3));
    assert!(unknown.contains("can't reach node n9") && unknown.contains(&n2.name), "{unknown}");
    assert_eq!(json(&unseal(&both, &["--node", &n1.name], 3).stdout)["ceremony"]["entered"], 2, "by its name");

    // Nodes go by their names.
    let bare = dev.cli(&["operator", "seal"], "");
    assert!(bare.status.code() == Some(2) && complaint(&bare).contains("--node NAME"));
    assert!(complaint(&dev.cli(&["operator", "seal", "--node", "nobody"], "")).contains(&n2.name));
    let one = json(&dev.cli_ok(&["operator", "seal", "--node", &n2.name], ""));
    assert_eq!(one["sealed_nodes"], serde_json::json!([n2.name]));
    wait(|| entered(1).0 != n2.name.as_str());

    // A sealed cluster can be sealed: that forgets entered shares, everywhere.
    let sealed = json(&dev.cli_ok(&["operator", "seal", "--cluster"], ""));
    assert_eq!(sealed["sealed_nodes"].as_array().map(Vec::len), Some(3), "{sealed}");
    for place in 0..3 {
        wait(|| entered(place).0.is_null());
    }
    let partly = dev.cli_at(&both, &["operator", "seal", "--cluster"], "");
    assert!(complaint(&partly).contains("not reached"), "it does not say that all are sealed");
}

/// What a custodian's machine remembers of a cluster is asked before a share is typed.
#[test]
fn a_cluster_that_is_not_the_one_remembered_gets_no_share() {
    let dev = Dev::start_sealed(1);
    let check = |more: &[&str]| dev.cli(&[&["operator", "share", "check"], more].concat(), &dev.json.shares[1]);
    let folder = dev.state_home().join("quorate/clusters");
    assert!(check(&[]).status.success() && !folder.exists(), "checking remembers nothing");
    dev.cli_ok(&["operator", "unseal"], &dev.json.shares[0]);
    let file = folder.join(format!(
        "{}.json",
        json(&dev.cli(&["operator", "status"], "").stdout)["cluster_id"].as_str().expect("one")
    ));
    assert_eq!(mode(&file), 0o600);

    // Who looks again and again sees it again and again, until he ends that.
    let mut watch = dev.command_at(&dev.json.nodes[0].api, &["operator", "status", "--watch"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(watch.stdout.take().expect("piped")).lines().take(2);
    for line in lines.collect::<Result<Vec<_>, _>>().expect("lines") {
        let seen = json(line.as_bytes());
        assert_eq!((&seen["severity"], &seen["verdicts"][0]["kind"]), (&"sealed".into(), &"sealed".into()), "{seen}");
        let hint = seen["hint"].as_str().expect("a text");
        assert!(hint.contains("1 of 3 shares entered") && hint.contains("(numbers 1 dev-1)"), "{hint}");
        assert!(hint.contains("minutes left") && hint.contains("2 more custodians"), "{hint}");
    }
    watch.kill().expect("ended");
    watch.wait().expect("ended");

    let known = json(&std::fs::read(&file).expect("remembered"));
    assert!(known["generation"] == 1 && known["index"].as_u64() > Some(0), "{known}");
    let remember = |name: &str, value: Value| {
        let mut other = known.clone();
        other[name] = value;
        std::fs::write(&file, other.to_string()).expect("written");
    };
    assert!(check(&[]).status.success());

    remember("seal_fingerprint", "0000-0000-0000-0000".into());
    for older in [&[][..], &["--older"]] {
        let said = complaint(&check(older));
        assert!(said.contains("fingerprint") && said.contains("enter no share"), "{said}");
    }
    let screen = dev.cli(&["operator", "status", "--output", "table"], "");
    assert_eq!(screen.status.code(), Some(3), "it is sealed");
    assert!(text(&screen.stdout).contains("NOT the one"));
    for (name, value) in
        [("generation", 2.into()), ("index", (known["index"].as_u64().expect("a number") + 1_000_000).into())]
    {
        remember(name, value);
        assert!(complaint(&check(&[])).contains("put back from a copy"), "{name}");
        assert!(check(&["--older"]).status.success(), "{name}");
    }
    std::fs::write(&file, "not what was written").expect("written");
    assert!(complaint(&check(&[])).contains("remembered"));
}

fn new_dev(dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(QUORATE);
    command.args(["dev", "--dir"]).arg(dir).args(more);
    command
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}

fn alive(pid: u32) -> bool {
    // A process that has ended and was not waited for yet is gone for us.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn wait(condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn bench_kills_the_leader_of_a_cluster_of_its_own_and_tells_how_long_it_took() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(QUORATE);
    command.args(["bench", "failover", "--kills", "2", "--clients", "2", "--every", "50", "--output", "json", "--dir"]);
    command.arg(dir.path().join("c"));
    let output = run(command, "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = json(&output.stdout);
    assert_eq!((&report["kills"], report["each"].as_array().map(Vec::len)), (&2.into(), Some(2)), "{report}");
    for kill in report["each"].as_array().expect("kills") {
        let of = |name: &str| kill[name].as_f64().unwrap_or_else(|| panic!("{name}: {kill}"));
        // Nothing can succeed before somebody leads, and nobody leads before the death is noticed.
        assert!(of("use_ms") > 0.0 && of("use_every_client_ms") >= of("use_ms"), "{kill}");
        assert!(of("write_every_client_ms") >= of("write_ms") && of("longest_request_ms") > 0.0, "{kill}");
        assert!(of("detection_ms") > 0.0 && of("election_ms") >= 0.0, "{kill}");
    }
    assert!(report["errors"].is_u64() && report["false_elections"].is_u64(), "{report}");
    assert!(report["steady_load"]["rate"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn bench_measures_everything_in_one_run() {
    let mut command = Command::new(QUORATE);
    command.args(["bench", "suite", "--seconds", "1", "--keys", "1", "--file", "1", "--output", "json"]);
    let output = run(command, "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = json(&output.stdout);
    let rows = report["rows"].as_array().expect("rows");
    let of = |load: &str, on: &str| rows.iter().filter(|r| r["load"] == load && r["on"] == on).count();
    assert_eq!((of("echo", "leader"), of("encrypt", "leader"), of("encrypt", "follower")), (2, 2, 2), "{report}");
    assert_eq!((of("create-key", "leader"), of("file encrypt", ""), of("AES-256-GCM", "")), (2, 1, 1), "{report}");
    assert!(rows.iter().all(|r| r["rate"].as_f64() > Some(0.0)), "{report}");
    assert!(report["unsealing"]["keys"].as_u64() > Some(0), "{report}");
}

/// Bugs on purpose (`jepsen selftest --bugs`) are in no binary that was not asked to have them.
#[cfg(not(feature = "seeded-bugs"))]
#[test]
fn the_binary_knows_nothing_of_seeded_bugs() {
    let binary = std::fs::read(QUORATE).expect("the binary");
    let holds = |word: &str| memchr::memmem::find(&binary, word.as_bytes()).is_some();
    assert!(holds("QUORATE_LOG_FORMAT"), "what it does know is found");
    for word in ["QUORATE_SEEDED_BUG", "skip-read-index", "BUG ON PURPOSE"] {
        assert!(!holds(word), "{word}");
    }
}

/// Rows as they were shown, pasted into a terminal: read as one share, seen nowhere, and nothing left for the shell.
#[test]
fn a_share_pasted_in_rows_is_read_whole_and_leaves_nothing_behind() {
    use std::os::fd::OwnedFd;
    let dev = Dev::start(1);
    let share = &dev.json.shares[0];
    let groups: Vec<&str> = (0..17).map(|n| &share[n * 5..n * 5 + 5]).collect();
    let rows: String = groups
        .chunks(5)
        .enumerate()
        .map(|(n, row)| format!("  {}     {}\n  {}\n\n", n * 5 + 1, n * 5 + 2, row.join(" ")))
        .collect();

    let master =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).expect("a terminal");
    rustix::pty::grantpt(&master).expect("ours");
    rustix::pty::unlockpt(&master).expect("ours");
    let name = rustix::pty::ptsname(&master, Vec::new()).expect("it has one").into_string().expect("text");
    let open =
        || -> OwnedFd { std::fs::OpenOptions::new().read(true).write(true).open(&name).expect("it opens").into() };
    let mut command = dev.command_at(&dev.json.nodes[0].api, &["operator", "share", "check", "--output", "json"]);
    let slave = open();
    let child = command.stdin(slave.try_clone().expect("a copy")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("it starts");
    // Only when it asks is the terminal quiet.
    let mut asked = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    while !asked.contains("(not shown)") {
        let mut byte = [0];
        assert_eq!(std::io::Read::read(&mut stderr, &mut byte).expect("it speaks"), 1, "{asked}");
        asked.push(byte[0] as char);
    }
    let mut master = std::fs::File::from(master);
    wait(|| {
        !rustix::termios::tcgetattr(&slave).expect("a terminal").local_modes.contains(rustix::termios::LocalModes::ECHO)
    });
    // In pieces, as a paste comes over a slow line; and more of it than the share.
    for piece in rows.as_bytes().chunks(40).chain([&b"echo not for the shell\n"[..]]) {
        master.write_all(piece).expect("typed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(json(&output.stdout)["share_number"], 1);
    let modes = rustix::termios::tcgetattr(&slave).expect("a terminal").local_modes;
    assert!(modes.contains(rustix::termios::LocalModes::ECHO), "typing is shown again");
    // What the terminal has shown, and what it still holds.
    rustix::fs::fcntl_setfl(&master, rustix::fs::OFlags::NONBLOCK).expect("ours");
    let mut shown = Vec::new();
    let _ = std::io::Read::read_to_end(&mut master, &mut shown);
    assert!(!text(&shown).contains(groups[1]), "{}", text(&shown));
    rustix::fs::fcntl_setfl(&slave, rustix::fs::OFlags::NONBLOCK).expect("ours");
    let left = rustix::io::read(&slave, &mut [0; 100]);
    assert!(left.is_err(), "a shell would have read {left:?} bytes");

    // As an argument it is exposed, and nothing else of the command counts.
    let exposed = dev.cli(&["operator", "unseal", share], "");
    let said = text(&exposed.stderr);
    assert!(said.contains("exposed") && !said.contains(groups[3]) && exposed.status.code() == Some(1), "{said}");
}
