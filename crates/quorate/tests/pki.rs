//! `quorate pki` as an operator runs it: real processes, a real token.
#![allow(clippy::disallowed_methods, reason = "tests prepare and inspect an operator's files")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use quorate_hsm::soft_token::SoftToken;
use serde_json::Value;

fn quorate(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .current_dir(dir)
        .env_remove("SOFTHSM2_CONF")
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn done(dir: &Path, args: &[&str]) -> Value {
    let output = quorate(dir, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit code and what was said.
fn refused(dir: &Path, args: &[&str]) -> (i32, String) {
    let output = quorate(dir, args);
    assert!(output.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

#[test]
fn from_nothing_to_a_clients_and_a_nodes_certificate() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    private(&dir.join("passphrase"), "correct horse battery staple\n");
    let authority = ["--dir", "pki", "--passphrase-file", "passphrase"];
    let pki = |rest: &[&'static str]| -> Vec<&str> { [&["pki"], rest, &authority].concat() };

    let made = done(dir, &pki(&["init"]));
    let cluster = made["cluster"].as_str().unwrap().to_owned();
    let (code, said) = refused(dir, &pki(&["init"]));
    assert!(code == 1 && said.contains("never overwritten"), "{said}");

    let client = done(dir, &pki(&["client", "--role", "admin", "--name", "alice"]));
    assert_eq!(client["principal"], "admin/alice");
    assert_eq!(mode(Path::new(client["key"].as_str().unwrap())), 0o600);
    let (code, said) = refused(dir, &pki(&["client", "--role", "admin", "--name", "alice"]));
    assert!(code == 1 && said.contains("is there already"), "{said}");
    let key = Path::new(client["key"].as_str().unwrap());
    let before = std::fs::read(key).unwrap();
    let (code, said) = refused(dir, &pki(&["client", "--role", "user", "--name", "alice", "--renew"]));
    assert!(code == 1 && said.contains("is no certificate of quorate://"), "another client's files stay: {said}");
    assert_eq!(std::fs::read(key).unwrap(), before);
    std::fs::write(key, "the passphrase of something else").unwrap();
    let (code, said) = refused(dir, &pki(&["client", "--role", "admin", "--name", "alice", "--renew"]));
    assert!(code == 1 && said.contains("is not the key of"), "{said}");
    std::fs::write(key, &before).unwrap();
    done(dir, &pki(&["client", "--role", "admin", "--name", "alice", "--renew", "--days", "20"]));
    assert_eq!(done(dir, &pki(&["client", "--role", "admin", "--name", "alice", "--renew"]))["days"], 20, "as before");
    assert!(std::fs::read(key).unwrap() != before && mode(key) == 0o600, "a new key over the old one");
    let listed = done(dir, &["pki", "list", "--dir", "pki"]);
    let states = |listed: &Value| {
        let all = listed["certificates"].as_array().unwrap().iter();
        all.map(|c| (c["principal"].as_str().unwrap().to_owned(), c["state"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let alice = |state: &str| ("admin/alice".to_owned(), state.to_owned());
    assert_eq!(states(&listed), [alice("in force"), alice("superseded"), alice("superseded")]);
    assert_eq!(states(&done(dir, &["pki", "list", "--dir", "pki", "--ends-within", "30"])), [alice("in force")]);
    assert_eq!(states(&done(dir, &["pki", "list", "--dir", "pki", "--ends-within", "10"])), []);
    private(&dir.join("short"), "horse\n");
    let (code, said) = refused(dir, &["pki", "init", "--dir", "other", "--passphrase-file", "short"]);
    assert!(code == 1 && said.contains("at least 12 characters") && !dir.join("other").exists(), "{said}");
    private(&dir.join("wrong"), "incorrect horse battery");
    let (code, said) = refused(
        dir,
        &["pki", "client", "--role", "user", "--name", "bob", "--dir", "pki", "--passphrase-file", "wrong"],
    );
    assert!(code == 1 && said.contains("the passphrase does not open"), "{said}");
    assert!(!dir.join("pki/bob.key").exists());
    for usage in [
        &["--role", "node", "--name", "n1"][..],
        &["--role", "admin", "--name", "a b"],
        &["--role", "admin", "--name", "a", "--days", "0"],
        &["--role", "admin", "--name", "a", "--days", "100000"],
    ] {
        let (code, said) = refused(dir, &[&["pki", "client"], usage, &authority].concat());
        assert!(code == 2, "{usage:?}: {said}");
    }

    let token = SoftToken::create(&dir.join("token"), "quorate-n1", "123456").unwrap();
    private(&dir.join("pin"), "123456\n");
    let config = format!(
        "name = \"n1\"\ndata_dir = \"data\"\n[api]\nlisten = \"127.0.0.1:7600\"\n[peer]\nlisten = \"127.0.0.1:7601\"\n\
         [tls]\ncert = \"n1.pem\"\nroot_ca = \"pki/ca.pem\"\n[hsm]\nmodule = {:?}\ntoken_label = \"quorate-n1\"\n\
         pin_file = \"pin\"\n[hsm.environment]\nSOFTHSM2_CONF = {:?}\n",
        SoftToken::module().unwrap(),
        token.dir.join("softhsm2.conf"),
    );
    std::fs::write(dir.join("n1.toml"), &config).unwrap();
    let asked = done(dir, &["pki", "request", "--config", "n1.toml"]);
    assert_eq!((&asked["name"], &asked["assurance"]), (&"n1".into(), &"software".into()));
    let fingerprint = asked["fingerprint"].as_str().unwrap();
    let again = done(dir, &["pki", "request", "--config", "n1.toml", "--out", "again.request"]);
    assert_eq!(again["fingerprint"], fingerprint, "no new keys");

    let sign = |request: &str, rest: &[&str]| -> Vec<String> {
        let args = [&["pki", "sign", "--request", request], rest, &authority].concat();
        args.into_iter().map(str::to_owned).collect()
    };
    let run = |args: Vec<String>| refused(dir, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let (code, said) = run(sign("n1.request", &["--fingerprint", "0000"]));
    assert!(code == 1 && said.contains("do not sign it") && !dir.join("n1.pem").exists(), "{said}");
    std::fs::copy(dir.join("pki/alice.pem"), dir.join("other.pem")).unwrap();
    let (code, said) = run(sign("n1.request", &["--out", "other.pem"]));
    assert!(code == 1 && said.contains("no certificate of this node"), "{said}");
    std::fs::write(dir.join("bad.request"), "{}").unwrap();
    let (code, said) = run(sign("bad.request", &[]));
    assert!(code == 1 && said.contains("the request is not usable"), "{said}");

    for _ in 0..2 {
        let args = sign("n1.request", &["--fingerprint", fingerprint]);
        let signed = done(dir, &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((&signed["fingerprint"], &signed["name"]), (&fingerprint.into(), &"n1".into()));
    }
    let pem = std::fs::read(dir.join("n1.pem")).unwrap();
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let leaf = block.parse_x509().unwrap();
    let names = format!("{:?}", leaf.subject_alternative_name().unwrap().unwrap().value.general_names);
    assert!(names.contains(&format!("quorate://{cluster}/node/n1")), "{names}");
}

#[test]
fn what_keeps_a_node_from_its_request_is_told_precisely() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let token = SoftToken::create(&dir.join("token"), "quorate-n1", "123456").unwrap();
    let config = |module: &str, label: &str, pin: &str| {
        private(&dir.join("pin"), pin);
        let text = format!(
            "name = \"n1\"\ndata_dir = \"data\"\n[api]\nlisten = \"127.0.0.1:7600\"\n[peer]\nlisten = \"127.0.0.1:7601\"\n\
             [tls]\ncert = \"n1.pem\"\nroot_ca = \"ca.pem\"\n[hsm]\nmodule = {module:?}\ntoken_label = {label:?}\n\
             pin_file = \"pin\"\n[hsm.environment]\nSOFTHSM2_CONF = {:?}\n",
            token.dir.join("softhsm2.conf"),
        );
        std::fs::write(dir.join("n1.toml"), text).unwrap();
        refused(dir, &["pki", "request", "--config", "n1.toml"])
    };
    let module = SoftToken::module().unwrap();
    let module = module.to_str().unwrap();
    for (case, expected) in [
        (config("/nonexistent.so", "quorate-n1", "123456"), "can't load the PKCS#11 module /nonexistent.so"),
        (config(module, "quorate-n2", "123456"), "the module shows [\"quorate-n1\"]"),
        (config(module, "quorate-n1", "654321"), "refused the PIN"),
    ] {
        assert!(case.0 == 1 && case.1.contains(expected), "{expected}: {}", case.1);
        assert!(!case.1.contains("654321"));
    }
    std::fs::set_permissions(dir.join("pin"), PermissionsExt::from_mode(0o644)).unwrap();
    let (code, said) = refused(dir, &["pki", "request", "--config", "n1.toml"]);
    assert!(code == 1 && said.contains("chmod 0400"), "{said}");
    assert!(!dir.join("n1.request").exists());
}
