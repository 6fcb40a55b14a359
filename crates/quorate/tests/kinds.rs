//! Every kind of key through the command line of a real cluster, and both ways between it and `openssl`.
#![allow(clippy::disallowed_methods, reason = "tests touch files and processes")]

#[path = "support/scan.rs"]
mod scan;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_core::key_spec::{KeySpec, Purpose};
use scan::Needle;
use serde_json::Value;
use support::{Dev, complaint, run};

struct Desk {
    dev: Dev,
    dir: tempfile::TempDir,
}

impl Desk {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).expect("a file");
        self.at(name)
    }
    fn at(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }
    fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    /// Runs `quorate` with these words.
    fn q(&self, words: &str) -> Vec<u8> {
        self.dev.cli_ok(&words.split_whitespace().collect::<Vec<_>>(), b"")
    }
    fn json(&self, words: &str) -> Value {
        serde_json::from_slice(&self.q(&format!("{words} --output json"))).expect("JSON")
    }
    fn refused(&self, words: &str) -> String {
        let output = self.dev.cli(&words.split_whitespace().collect::<Vec<_>>(), b"");
        assert_eq!(output.status.code(), Some(1), "{words}");
        complaint(&output)
    }
    fn create(&self, spec: &str, usage: &str) -> String {
        let name = format!("{spec}-{usage}");
        self.q(&format!("keys create --alias {name} --spec {spec} --usage {usage}"));
        name
    }
    /// Runs `openssl` in the folder.
    fn openssl(&self, words: &str) -> Vec<u8> {
        let mut command = Command::new("openssl");
        let output = run(command.args(words.split_whitespace()).current_dir(self.dir.path()), b"");
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
    fn public(&self, key: &str) -> String {
        self.q(&format!("public-key {key} --out {}", self.at(&format!("{key}.pem"))));
        format!("{key}.pem")
    }
}

fn dev_ca(desk: &Desk) -> String {
    desk.dev.json.ca.to_str().expect("UTF-8").to_owned()
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[test]
fn every_kind_of_key_on_the_command_line_and_with_openssl() {
    let desk = Desk { dev: Dev::start(1), dir: tempfile::tempdir().expect("a folder") };
    let message = desk.put("m", "a message\n");
    let long = desk.put("long", vec![7; 300_000]);

    // Signatures: openssl verifies what quorate signed.
    for (spec, algorithm, verify) in [
        ("rsa-2048", "rsa-pss-sha256", "dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest"),
        ("rsa-3072", "rsa-pkcs1-sha384", "dgst -sha384"),
        ("rsa-4096", "rsa-pss-sha512", "dgst -sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest"),
        ("p-256", "ecdsa-sha256", "dgst -sha256"),
        ("p-384", "ecdsa-sha384", "dgst -sha384"),
        ("p-521", "ecdsa-sha512", "dgst -sha512"),
        ("secp256k1", "ecdsa-sha256", "dgst -sha256"),
    ] {
        let key = desk.create(spec, "sign");
        let public = desk.public(&key);
        for input in [&message, &long] {
            let signature = desk.at(&format!("{key}.sig"));
            desk.q(&format!("sign --key {key} --algorithm {algorithm} --in {input} --out {signature} --force"));
            desk.q(&format!("verify --key {key} --algorithm {algorithm} --in {input} --signature {signature}"));
            desk.openssl(&format!("{verify} -verify {public} -signature {signature} {input}"));
        }
    }
    let ed = desk.create("ed25519", "sign");
    let public = desk.public(&ed);
    desk.q(&format!("sign --key {ed} --in {message} --out {}", desk.at("ed.sig")));
    desk.openssl(&format!("pkeyutl -verify -pubin -inkey {public} -rawin -in m -sigfile ed.sig"));
    assert!(desk.refused(&format!("sign --key {ed} --in {long} --out {}", desk.at("x"))).contains("ed25519ph"));
    desk.q(&format!("sign --key {ed} --algorithm ed25519ph --in {long} --out {}", desk.at("ph.sig")));
    desk.q(&format!("verify --key {ed} --algorithm ed25519ph --in {long} --signature {}", desk.at("ph.sig")));
    let ml = desk.create("ml-dsa-65", "sign");
    desk.q(&format!("sign --key {ml} --context-string app --in {message} --out {}", desk.at("ml.sig")));
    desk.q(&format!("verify --key {ml} --context-string app --in {message} --signature {}", desk.at("ml.sig")));
    let other = format!("verify --key {ml} --in {message} --signature {}", desk.at("ml.sig"));
    assert!(desk.refused(&other).contains("not right"), "another context");
    assert!(!exists(&desk.path("x")), "a refusal leaves no file");

    // RSA-OAEP, both ways.
    let rsa = desk.create("rsa-2048", "encrypt");
    let public = desk.public(&rsa);
    desk.openssl(&format!("pkeyutl -encrypt -pubin -inkey {public} -in m -out m.oaep -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256"));
    assert_eq!(desk.q(&format!("decrypt --key {rsa} --in {}", desk.at("m.oaep"))), desk.get("m"));
    desk.q(&format!("encrypt --key {rsa} --algorithm rsa-oaep-sha1 --in {message} --out {}", desk.at("m.sha1")));
    let back = desk.q(&format!("decrypt --key {rsa} --algorithm rsa-oaep-sha1 --in {}", desk.at("m.sha1")));
    assert_eq!(back, desk.get("m"));

    // Diffie-Hellman: both come to the same secret.
    for (spec, curve) in [("x25519", "X25519"), ("p-256", "EC -pkeyopt ec_paramgen_curve:P-256")] {
        let key = desk.create(spec, "agree");
        let public = desk.public(&key);
        desk.openssl(&format!("genpkey -algorithm {curve} -out peer.key"));
        desk.openssl("pkey -in peer.key -pubout -out peer.pem");
        desk.openssl(&format!("pkeyutl -derive -inkey peer.key -peerkey {public} -out theirs"));
        let ours = desk.q(&format!("agree --key {key} --peer {}", desk.at("peer.pem")));
        assert_eq!(ours, desk.get("theirs"), "{spec}");
    }

    // What openssl has no word for here goes round by itself.
    for spec in ["ml-kem-512", "ml-kem-768", "ml-kem-1024"] {
        let key = desk.create(spec, "encapsulate");
        let secret = desk.q(&format!("encapsulate --key {key} --out {} --force", desk.at("ct")));
        assert_eq!(desk.q(&format!("decapsulate --key {key} --in {}", desk.at("ct"))), secret);
        assert_eq!(secret.len(), 32);
    }
    for spec in ["aes-128", "aes-192", "aes-256"] {
        let key = desk.create(spec, "wrap");
        desk.put("secret", [5; 32]);
        desk.q(&format!("wrap --key {key} --in {} --out {} --force", desk.at("secret"), desk.at("wrapped")));
        assert_eq!(desk.q(&format!("unwrap --key {key} --in {}", desk.at("wrapped"))), [5; 32]);
        let mac = desk.create(spec, "mac");
        desk.q(&format!("mac --key {mac} --in {message} --out {} --force", desk.at("mac")));
        desk.q(&format!("verify-mac --key {mac} --in {message} --mac {}", desk.at("mac")));
        let wrong = desk.refused(&format!("verify-mac --key {mac} --in {long} --mac {}", desk.at("mac")));
        assert!(wrong.contains("at most") || wrong.contains("longer"), "{wrong}");
    }
    for spec in KeySpec::ALL.iter().filter(|spec| spec.purpose() == Some(Purpose::Mac)) {
        let key = desk.create(spec.as_str(), "mac");
        let mac = desk.q(&format!("mac --key {key} --in {message}"));
        assert_eq!(mac.len(), spec.material_len().expect("as long as its hash"));
    }
    desk.q("keys create --alias gcm --spec aes-256 --algorithm aes-gcm");
    desk.q(&format!("encrypt --key gcm --associated-data a --in {message} --out {}", desk.at("gcm")));
    let back = desk.q(&format!("decrypt --key gcm --associated-data a --in {}", desk.at("gcm")));
    assert_eq!((back, desk.get("gcm").len()), (desk.get("m"), 12 + 10 + 16));
    assert!(desk.refused(&format!("decrypt --key gcm --in {}", desk.at("gcm"))).contains("TAMPERED"));

    // Lists and the rest of a key's life.
    let listed = desk.json("keys list --spec ed25519");
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(1));
    desk.q("keys tag gcm team=shop stage=test");
    desk.q("keys untag gcm stage");
    assert_eq!(desk.json("keys list --tag team=shop")["keys"][0]["tags"], serde_json::json!({ "team": "shop" }));
    assert_eq!(desk.json("keys update gcm --description why")["description"], "why");
    let floors = desk.json("keys update gcm --min-encryption-version 1 --min-decryption-version 1");
    assert_eq!((&floors["min_decryption_version"], &floors["description"]), (&1.into(), &"why".into()));
    assert!(desk.refused("keys update gcm --min-encryption-version 2").contains("the current one is 1"));
    assert_eq!(desk.json("keys archive gcm")["archived"], true);
    assert!(desk.refused("keys update gcm --description x").contains("ARCHIVED"));
    assert_eq!(desk.json("keys recover gcm")["archived"], false);
    let gcm = desk.json("keys describe gcm");
    assert_eq!((&gcm["gcm_uses"], &gcm["gcm_uses_max"]), (&(1u64 << 14).into(), &(1u64 << 32).into()));
    let used = desk.json("keys last-use gcm");
    assert_eq!((&used["last_action"], &used["usage_tracking"]), (&"Decrypt".into(), &true.into()));
    assert!(used["last_used_at"].is_string() && used["uses"].as_u64() >= Some(2), "{used}");
    assert_eq!(desk.json("keys update gcm --usage-tracking off")["usage_tracking"], false);
    desk.q("keys rotate gcm");
    assert_eq!(desk.json("keys revoke gcm --version 1")["state"], "deactivated");
    // Without a version it is the current one, for ever: nobody is taken at his word by accident.
    let unsaid = desk.dev.cli(&["keys", "revoke", "p-256-sign"], b"");
    assert_eq!(unsaid.status.code(), Some(2));
    assert!(complaint(&unsaid).contains("--version 1, or --yes"), "{}", complaint(&unsaid));
    assert_eq!(desk.json("keys revoke p-256-sign --compromised --yes")["state"], "compromised");
    let standing = desk.json("keys describe p-256-sign");
    assert_eq!(standing["current_version_state"], "compromised");
    assert_eq!((&standing["state"], &standing["default_algorithm"]), (&"enabled".into(), &"ecdsa-sha256".into()));
    let table = String::from_utf8(desk.q("keys list --spec p-256 --output table")).expect("text");
    assert!(table.lines().any(|line| line.contains("compromised") && line.contains("p-256-sign")), "{table}");
    let signature = desk.at("p-256-sign.sig");
    let verify = format!("verify --key p-256-sign --in {long} --signature {signature}");
    assert_eq!(desk.json(&verify)["version_state"], "compromised");
    let verified = desk.dev.cli(&verify.split_whitespace().collect::<Vec<_>>(), b"");
    let warning = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && warning.contains("is compromised"), "{warning}");
    assert_eq!(desk.json("keys destroy-version gcm --version 1")["state"], "destroyed");
    let gone = desk.refused(&format!("decrypt --key gcm --version 1 --associated-data a --in {}", desk.at("gcm")));
    assert!(gone.contains("DESTROYED"), "{gone}");
    let states: Vec<_> = desk.json("keys versions gcm")["versions"].as_array().expect("a list").clone();
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&"active".into(), &"destroyed".into()));
    let stopped = desk.json("keys update-version gcm --protect-stop 2999-01-01");
    assert_eq!(stopped["protect_stop_at"], "2999-01-01T00:00:00.000Z");
    assert!(desk.refused("keys update-version gcm --protect-stop 2001-01-01").contains("before it begins"));

    let (old, new) = (desk.json("keys describe p-521-sign"), desk.json("keys rekey p-521-sign"));
    assert_eq!((&new["replaces"], &new["aliases"]), (&old["key_id"], &old["aliases"]));
    assert_eq!(desk.json("keys describe p-521-sign")["key_id"], new["key_id"]);
    // A key of one's own: wrapped by openssl, or by the command; it goes, and the same comes back.
    desk.openssl("rand -out key.bin 32");
    let made = desk.json("keys create --alias mine --origin external --exportable plain");
    assert_eq!((&made["origin"], &made["material_missing"]), (&"external".into(), &true.into()));
    assert!(desk.refused(&format!("encrypt --key mine --in {message}")).contains("MATERIAL_MISSING"));
    desk.q("keys create --alias ec-mine --spec p-256 --origin external");
    let (wrap, token) = (desk.at("wrap.pem"), desk.at("token"));
    desk.q(&format!("keys import-parameters mine --wrapping-spec rsa-2048 --public-key {wrap} --token {token}"));
    desk.openssl("pkeyutl -encrypt -pubin -inkey wrap.pem -in key.bin -out key.wrapped -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256");
    let import = format!("keys import mine --token {token} --wrapped {}", desk.at("key.wrapped"));
    assert!(desk.refused(&import).contains("does not unwrap by rsa-aes-kwp-sha256"));
    assert_eq!(desk.json(&format!("{import} --algorithm rsa-oaep-sha256"))["has_material"], true);
    desk.q(&format!("encrypt --key mine --in {message} --out {}", desk.at("mine")));
    // An error does not show it either: it is the right one, and does not fit.
    let unfit = desk.refused(&format!("keys import ec-mine --in {}", desk.at("key.bin")));
    assert!(!Needle::new("imported", &desk.get("key.bin")).is_in(unfit.as_bytes()), "{unfit}");
    desk.q("keys delete-material mine");
    assert!(desk.refused(&format!("decrypt --in {}", desk.at("mine"))).contains("MATERIAL_MISSING"));
    desk.put("other.bin", [7; 32]);
    assert!(desk.refused(&format!("keys import mine --in {}", desk.at("other.bin"))).contains("WRONG_MATERIAL"));
    desk.q(&format!("keys import mine --in {} --expires 2999-01-01", desk.at("key.bin")));
    assert_eq!(desk.json("keys describe mine")["material_expires_at"], "2999-01-01T00:00:00.000Z");
    assert_eq!(desk.q(&format!("decrypt --in {}", desk.at("mine"))), desk.get("m"));
    desk.q(&format!("keys import mine --in {}", desk.at("key.bin")));
    assert_eq!(desk.json("keys describe mine")["material_expires_at"], "2999-01-01T00:00:00.000Z", "it stays");
    assert_eq!(desk.q("keys export mine"), desk.get("key.bin"));
    assert!(desk.json("keys versions mine")["versions"][0]["first_exported_at"].is_string());
    assert!(desk.refused("keys export gcm").contains("NOT_EXPORTABLE"));
    // The next material waits until the key is rotated.
    let next = format!("keys import mine --in {} --new-version", desk.at("other.bin"));
    assert_eq!(desk.json(&next)["state"], "pre-active");
    assert_eq!(desk.json("keys describe mine")["newest_version"], 2);
    assert_eq!(desk.json("keys rotate mine")["current_version"], 2);
    assert_eq!(desk.q("keys export mine"), [7; 32]);
    assert_eq!(desk.q(&format!("decrypt --in {}", desk.at("mine"))), desk.get("m"));
    // What is backed up comes back beside itself, or where it was.
    let backup = format!("--in {}", desk.at("mac.backup"));
    desk.q(&format!("keys backup hmac-sha256-mac --out {}", desk.at("mac.backup")));
    let back = desk.json(&format!("keys restore {backup}"));
    assert_eq!((&back["state"], &back["aliases"]), (&"disabled".into(), &serde_json::json!([])));
    assert_eq!(back["restored_from"], desk.json("keys describe hmac-sha256-mac")["key_id"]);
    desk.q(&format!("keys enable {}", back["key_id"].as_str().expect("an id")));
    let both = ["hmac-sha256-mac", back["key_id"].as_str().expect("an id")]
        .map(|key| desk.q(&format!("mac --key {key} --in {message}")));
    assert_eq!(both[0], both[1]);
    desk.q(&format!("keys backup mine --out {}", desk.at("mine.backup")));
    let taken = desk.refused(&format!("keys restore --in {}", desk.at("mine.backup")));
    assert!(taken.contains("ALREADY_EXISTS") && taken.contains("names its id"), "{taken}");
    assert!(desk.refused(&format!("keys restore --in {message}")).contains("no backup of a key"));
    // A private key comes as PEM, and leaves wrapped as PKCS#8.
    desk.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key");
    desk.openssl("pkey -in ec.key -pubout -out ec.pub");
    desk.q("keys create --alias ec --spec p-256 --origin external --exportable wrapped");
    desk.q(&format!("keys import ec --in {}", desk.at("ec.key")));
    desk.q(&format!("sign --key ec --in {message} --out {}", desk.at("ec.sig")));
    desk.openssl("dgst -sha256 -verify ec.pub -signature ec.sig m");
    assert!(desk.refused("keys export ec").contains("WRAPPED_ONLY"));
    let kek = "aes-256-wrap";
    desk.q(&format!("keys export ec --wrap-with {kek} --out {}", desk.at("ec.wrapped")));
    let back = desk.q(&format!("unwrap --key {kek} --in {}", desk.at("ec.wrapped")));
    let ec = desk.openssl("pkcs8 -topk8 -nocrypt -in ec.key -outform DER");
    assert_eq!(back, ec);

    // Somebody else's public keys: what openssl signed they verify; what takes the private half is not to be had.
    for (name, make, by, sign) in [
        (
            "their-rsa",
            "RSA -pkeyopt rsa_keygen_bits:2048",
            "rsa-pss-sha256",
            "dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -sign",
        ),
        ("their-pkcs1", "RSA -pkeyopt rsa_keygen_bits:3072", "rsa-pkcs1-sha384", "dgst -sha384 -sign"),
        ("their-p256", "EC -pkeyopt ec_paramgen_curve:P-256", "ecdsa-sha256", "dgst -sha256 -sign"),
        ("their-p521", "EC -pkeyopt ec_paramgen_curve:P-521", "ecdsa-sha512", "dgst -sha512 -sign"),
        ("their-ed", "ED25519", "ed25519", "pkeyutl -sign -rawin -in m -inkey"),
    ] {
        desk.openssl(&format!("genpkey -algorithm {make} -out {name}.key"));
        desk.openssl(&format!("pkey -in {name}.key -pubout -out {name}.pub"));
        let input = if name == "their-ed" { "" } else { "m" };
        desk.openssl(&format!("{sign} {name}.key -out {name}.sig {input}"));
        let made = desk.json(&format!("keys create --alias {name} --public-key {}", desk.at(&format!("{name}.pub"))));
        assert_eq!((&made["kind"], &made["usage"]), (&"public".into(), &serde_json::json!(["verify"])), "{name}");
        let verify = format!("verify --key {name} --algorithm {by} --signature {}", desk.at(&format!("{name}.sig")));
        desk.q(&format!("{verify} --in {message}"));
        desk.put("changed", "another message\n");
        assert!(desk.refused(&format!("{verify} --in {}", desk.at("changed"))).contains("not right"), "{name}");
        desk.q(&format!("public-key {name} --out {} --force", desk.at("back.pem")));
        assert_eq!(desk.get("back.pem"), desk.get(&format!("{name}.pub")), "{name}");
        assert!(
            desk.refused(&format!("sign --key {name} --in {message} --out {}", desk.at("x"))).contains("WRONG_USAGE")
        );
    }
    let mistaken = desk.refused(&format!("keys create --public-key {}", desk.at("their-ed.key")));
    assert!(mistaken.contains("private key; it was not sent"), "{mistaken}");
    let stays = desk.refused(&format!("agree --key p-256-agree --peer {}", desk.at("their-p256.key")));
    assert!(stays.contains("private key; it was not sent"), "{stays}");
    // What is encrypted, or leaves, under it, its owner opens.
    let rsa_pub = desk.at("their-rsa.pub");
    desk.q(&format!("keys create --alias to-them --public-key {rsa_pub} --usage encrypt"));
    desk.q(&format!("encrypt --key to-them --in {message} --out {}", desk.at("to-them")));
    desk.openssl("pkeyutl -decrypt -inkey their-rsa.key -in to-them -out opened -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256");
    assert_eq!(desk.get("opened"), desk.get("m"));
    desk.q(&format!("keys create --alias wraps --public-key {rsa_pub} --usage wrap"));
    desk.q(&format!("keys export mine --wrap-with wraps --out {}", desk.at("left")));
    desk.openssl("pkeyutl -decrypt -inkey their-rsa.key -in left -out opened -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256");
    assert_eq!(desk.get("opened"), [7; 32]);
    // Its owner has another.
    desk.openssl("genpkey -algorithm ED25519 -out next.key");
    desk.openssl("pkey -in next.key -pubout -out next.pub");
    assert!(desk.refused("keys rotate their-ed").contains("UNSUPPORTED"));
    let rotated = desk.json(&format!("keys rotate their-ed --public-key {}", desk.at("next.pub")));
    assert_eq!(rotated["current_version"], 2);
    let by_the_first = format!("verify --key their-ed --in {message} --signature {}", desk.at("their-ed.sig"));
    assert!(desk.refused(&by_the_first).contains("not right"));
    desk.q(&format!("{by_the_first} --version 1"));
    let tagged = desk.json("keys update-version their-ed --version 1 --tag until=2027 --tag by=post");
    assert_eq!(tagged["tags"], serde_json::json!({ "until": "2027", "by": "post" }));
    assert_eq!(desk.json("keys update-version their-ed --version 1 --untag by")["tags"]["by"], Value::Null);
    assert_eq!(desk.json("keys versions their-ed")["versions"][1]["tags"]["until"], "2027");
    desk.q("keys archive their-ed");
    let away = desk.json("keys list --state archived");
    assert_eq!((away["keys"].as_array().map(Vec::len), &away["keys"][0]["aliases"][0]), (Some(1), &"their-ed".into()));

    // None of what came in, or went out, was written down anywhere, nor shown to who looks at the node.
    let data_key = desk.json("data-key --key mine --bytes 32")["plaintext"].as_str().expect("base64").to_owned();
    let data_key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data_key).expect("base64");
    let metrics =
        support::http(&desk.dev, &desk.dev.json.nodes[0].api, "/metrics", Some(&desk.dev.json.admin), b"http/1.1")
            .expect("metrics");
    // One version of it is destroyed: what proves that holds nothing of what it was.
    let mine = desk.json("keys describe mine")["key_id"].as_str().expect("an id").to_owned();
    let prove = format!("keys destruction {mine} --version 1 --out {}", desk.at("gone.json"));
    assert!(desk.refused(&prove).contains("nothing is known of a destruction of version 1"));
    desk.q("keys destroy-version mine --version 1");
    let told = desk.json(&prove);
    assert_eq!((&told["cause"], &told["destroyed_by"]), (&"destroy-version".into(), &"admin/admin".into()));
    assert!(told["first_exported_at"].is_string() && told["backed_up_at"].is_string(), "copies live on: {told}");
    assert_eq!((&told["aliases"], &told["versions"][0]["had_material"]), (&serde_json::json!(["mine"]), &true.into()));
    let written: Value = serde_json::from_slice(&desk.get("gone.json")).expect("JSON");
    let statement = written["statements"][0]["statement"].as_str().expect("base64");
    let statement = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, statement).expect("base64");
    let read = desk.q(&format!("evidence verify {} --ca {} --output table", desk.at("gone.json"), dev_ca(&desk)));
    let words = String::from_utf8(read.clone()).expect("text");
    assert!(words.contains("version 1 of key") && words.contains("No software can tell"), "{words}");
    let looks = ["keys versions mine", "keys describe mine", "keys list", "operator status"].map(|words| desk.q(words));
    let shown = [&looks[..], &[desk.get("gone.json"), statement, read]].concat();
    for (what, secret) in [("imported", desk.get("key.bin")), ("exported", ec), ("data key", data_key)] {
        let needle = Needle::new(what, &secret);
        desk.put("control", &secret);
        assert!(needle.below(desk.dir.path()).contains(&desk.path("control")), "it would be found");
        assert_eq!(needle.below(desk.dev.dir()), Vec::<PathBuf>::new(), "{what}: in a file, or a log");
        assert!(!needle.is_in(metrics.as_bytes()), "{what}: in the metrics");
        assert!(!shown.iter().any(|shown| needle.is_in(shown)), "{what}: in what is shown");
    }
}
