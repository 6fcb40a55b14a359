//! The authority on real files and a real token.
#![allow(clippy::disallowed_methods, reason = "tests edit the authority's files on purpose")]

use std::os::unix::fs::PermissionsExt;

use quorate_core::id::Name;
use quorate_core::principal::{Principal, Role};
use quorate_core::seam::WallClock;
use quorate_hsm::soft_token::SoftToken;
use quorate_hsm::{Hsm, KemChoice};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use webpki::KeyUsage;
use zeroize::Zeroizing;

use super::*;
use crate::tls::{CaKind, ChainError, Trust, identity_of};
use crate::wiring::{OsEntropy, SystemClock};

const DAY_MS: u64 = 86_400_000;

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(&Zeroizing::new(text.to_owned())).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn authority() -> (TempDir, Pki, Passphrase) {
    let dir = tempfile::tempdir().unwrap();
    let passphrase = passphrase("a passphrase for tests");
    let pki = Pki::init(&dir.path().join("pki"), &passphrase, WorkFactor::Random, now_ms(), &OsEntropy).unwrap();
    (dir, pki, passphrase)
}

fn trust_of(pki: &Pki) -> Trust {
    Trust::new(&std::fs::read(pki.root_file()).unwrap(), pki.cluster()).unwrap()
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn unix(ms: u64) -> rustls::pki_types::UnixTime {
    rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_millis(ms))
}

#[test]
fn an_authority_is_made_once_and_its_private_keys_are_never_in_clear() {
    let (_dir, pki, passphrase) = authority();
    let mut files = 0;
    for entry in std::fs::read_dir(pki.dir()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("PRIVATE KEY"), "{}", path.display());
        if path.extension().is_some_and(|e| e == "age") {
            assert!(text.starts_with("age-encryption.org/v1\n-> scrypt "), "{}", path.display());
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            files += 1;
        }
    }
    assert_eq!(files, 3);
    assert_eq!(std::fs::metadata(pki.dir()).unwrap().permissions().mode() & 0o777, 0o700);
    let again = Pki::init(pki.dir(), &passphrase, WorkFactor::Random, now_ms(), &OsEntropy);
    assert!(matches!(again, Err(PkiError::Exists(_))));
    let opened = Pki::open(pki.dir()).unwrap();
    assert_eq!((opened.cluster(), opened.root_file()), (pki.cluster(), pki.root_file()));
}

#[test]
fn an_unfinished_authority_is_not_overwritten() {
    let (_dir, pki, passphrase) = authority();
    std::fs::remove_file(pki.dir().join("pki.toml")).unwrap();
    assert!(matches!(Pki::open(pki.dir()), Err(PkiError::NotFound(_))));
    let again = Pki::init(pki.dir(), &passphrase, WorkFactor::Random, now_ms(), &OsEntropy);
    assert!(matches!(again, Err(PkiError::Exists(_))));
}

#[test]
fn passphrases_that_are_wrong_or_short_are_refused() {
    let (_dir, pki, _) = authority();
    let wrong = passphrase("another passphrase");
    assert!(matches!(pki.node_ca(&wrong), Err(PkiError::Passphrase(_))));
    assert!(matches!(pki.client_ca(&wrong), Err(PkiError::Passphrase(_))));
    for short in ["", "short", "eleven char\n"] {
        let error = Passphrase::new(&Zeroizing::new(short.to_owned())).unwrap_err();
        assert!(matches!(error, PkiError::PassphraseTooShort(12)), "{short:?}");
    }
}

#[test]
fn damaged_files_are_named() {
    let (_dir, pki, passphrase) = authority();
    let edit = |file: &str, bytes: &[u8]| {
        let path = pki.dir().join(file);
        let kept = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        move || std::fs::write(&path, &kept).unwrap()
    };
    let marker = std::fs::read_to_string(pki.dir().join("pki.toml")).unwrap();
    for bad in ["", "format = 1", "format = 1\ncluster = \"x\"", &format!("{marker}more = 1\n"), "\u{0}"] {
        let restore = edit("pki.toml", bad.as_bytes());
        assert!(matches!(Pki::open(pki.dir()), Err(PkiError::Damaged { .. })), "{bad:?}");
        restore();
    }
    let restore = edit("pki.toml", marker.replace("format = 1", "format = 2").as_bytes());
    assert!(matches!(Pki::open(pki.dir()), Err(PkiError::Newer(_))));
    restore();

    let other = std::fs::read(pki.dir().join("client-ca.key.age")).unwrap();
    let mut flipped = std::fs::read(pki.dir().join("node-ca.key.age")).unwrap();
    *flipped.last_mut().unwrap() ^= 1;
    for bad in [&other[..], &flipped, b"", b"not age"] {
        let restore = edit("node-ca.key.age", bad);
        let error = pki.node_ca(&passphrase).map(drop).unwrap_err();
        assert!(error.to_string().contains("node-ca.key.age"), "{error}");
        restore();
    }
    let restore = edit("node-ca.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(matches!(pki.node_ca(&passphrase), Err(PkiError::Damaged { .. })));
    restore();
    pki.node_ca(&passphrase).unwrap();
}

#[test]
fn a_client_gets_what_was_asked_for() {
    let (_dir, pki, passphrase) = authority();
    let ca = pki.client_ca(&passphrase).unwrap();
    let trust = trust_of(&pki);
    for role in [Role::Admin, Role::User, Role::Custodian, Role::Auditor] {
        let issued = ca.client(role, &name("team/web-1"), 30, now_ms(), &OsEntropy).unwrap();
        let certs = chain(&issued.chain_pem);
        assert_eq!(certs.len(), 2, "the certificate and the client CA");
        let verify =
            |at: u64| trust.verify(&certs[0], &certs[1..], CaKind::Client, KeyUsage::client_auth(), unix(at), false);
        let holder = verify(now_ms()).unwrap();
        assert_eq!((holder.principal.role(), holder.principal.name.as_str()), (role, "team/web-1"));
        verify(now_ms() + 29 * DAY_MS).unwrap();
        assert!(matches!(verify(now_ms() + 31 * DAY_MS), Err(ChainError::Chain(webpki::Error::CertExpired { .. }))));
        KeyPair::from_pem(&issued.key_pem).unwrap();
    }
    let refused = |role, days| ca.client(role, &name("a"), days, now_ms(), &OsEntropy).map(drop).unwrap_err();
    assert!(matches!(refused(Role::Node, 30), PkiError::RoleIsNotAClient(Role::Node)));
    for days in [0, CLIENT_DAYS_MAX + 1, u32::MAX] {
        assert!(matches!(refused(Role::User, days), PkiError::Days { .. }), "{days}");
    }
    let late = ca.client(Role::User, &name("a"), 90, now_ms() + 3600 * DAY_MS, &OsEntropy).map(drop).unwrap_err();
    assert!(matches!(late, PkiError::CaExpires("client")), "{late}");
    let absurd = ca.client(Role::User, &name("a"), 90, u64::MAX, &OsEntropy).map(drop).unwrap_err();
    assert!(matches!(absurd, PkiError::Clock), "{absurd}");
}

#[test]
fn serial_numbers_never_repeat() {
    let (_dir, pki, passphrase) = authority();
    let ca = pki.client_ca(&passphrase).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let issued = ca.client(Role::User, &name("a"), 90, now_ms(), &OsEntropy).unwrap();
        let certs = chain(&issued.chain_pem);
        let (_, parsed) = x509_parser::parse_x509_certificate(&certs[0]).unwrap();
        assert!(parsed.raw_serial().len() == 16 && seen.insert(parsed.raw_serial().to_vec()));
    }
}

#[test]
fn neither_ca_can_vouch_for_what_is_the_others() {
    let (_dir, pki, passphrase) = authority();
    let trust = trust_of(&pki);
    let (nodes, clients) = (pki.node_ca(&passphrase).unwrap(), pki.client_ca(&passphrase).unwrap());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let both = || vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    // A CA that was taken over issues the other kind.
    let forged = |ca: &super::authority::OpenCa, id: String| {
        let uri = super::authority::uri(&id).unwrap();
        chain(
            &ca.issue(
                &key,
                &Principal::certificate(Role::User, name("x")),
                vec![uri],
                both(),
                90,
                now_ms(),
                &OsEntropy,
            )
            .unwrap(),
        )
    };
    let c = pki.cluster();
    let node_by_client_ca = forged(&clients.0, format!("quorate://{c}/node/n1"));
    let admin_by_node_ca = forged(&nodes.0, format!("quorate://{c}/admin/mallory"));
    let verify = |certs: &[CertificateDer<'static>], kind| {
        trust.verify(&certs[0], &certs[1..], kind, KeyUsage::client_auth(), unix(now_ms()), true).map(drop)
    };
    for certs in [&node_by_client_ca, &admin_by_node_ca] {
        for kind in [CaKind::Node, CaKind::Client] {
            assert!(matches!(verify(certs, kind), Err(ChainError::WrongCa(_))), "{:?}", identity_of(&certs[0]));
        }
    }
    // The client CA can't even make a server: its own certificate does not allow it.
    let usage = KeyUsage::server_auth();
    let server =
        trust.verify(&node_by_client_ca[0], &node_by_client_ca[1..], CaKind::Node, usage, unix(now_ms()), true);
    assert!(matches!(server, Err(ChainError::Chain(webpki::Error::RequiredEkuNotFoundContext(_)))), "{server:?}");

    let foreign = forged(&clients.0, "quorate://6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab/admin/a".into());
    assert!(matches!(verify(&foreign, CaKind::Client), Err(ChainError::ForeignCluster(_))));
    for odd in ["https://example.org", "quorate://x/admin/a"] {
        assert!(matches!(verify(&forged(&clients.0, odd.into()), CaKind::Client), Err(ChainError::Identity(_))));
    }
    let uris = ["admin/a", "user/a"].map(|id| super::authority::uri(&format!("quorate://{c}/{id}")).unwrap());
    let two = clients
        .0
        .issue(&key, &Principal::certificate(Role::User, name("x")), uris.to_vec(), both(), 90, now_ms(), &OsEntropy)
        .unwrap();
    assert!(matches!(verify(&chain(&two), CaKind::Client), Err(ChainError::Identity(_))), "two identities");
    let none = clients
        .0
        .issue(&key, &Principal::certificate(Role::User, name("x")), vec![], both(), 90, now_ms(), &OsEntropy)
        .unwrap();
    assert!(matches!(verify(&chain(&none), CaKind::Client), Err(ChainError::Identity(_))), "no identity");
    // A leaf that issues, and a chain without its CA.
    let mut longer = node_by_client_ca.clone();
    longer.insert(0, forged(&clients.0, format!("quorate://{c}/user/a"))[0].clone());
    verify(&longer[1..], CaKind::Node).unwrap_err();
    let alone = &admin_by_node_ca[..1];
    assert!(matches!(verify(alone, CaKind::Client), Err(ChainError::Chain(webpki::Error::UnknownIssuer))));
}

fn node_hsm(node: &str) -> (TempDir, Hsm) {
    let dir = tempfile::tempdir().unwrap();
    let token = SoftToken::create(dir.path(), "t", "123456").unwrap();
    token.danger_set_test_environment();
    let hsm = Hsm::open(&token.config().unwrap(), token.pin()).unwrap();
    hsm.generate_node_keys(&name(node), KemChoice::Probe).unwrap();
    (dir, hsm)
}

#[test]
fn a_node_gets_a_certificate_for_its_key_in_the_token() {
    let (_token, hsm) = node_hsm("n1");
    let (_dir, pki, passphrase) = authority();
    let made = NodeRequest::make(&hsm, &name("n1"), &["n1.example.com:7600".into(), "10.0.0.1:7601".into()]).unwrap();
    let request = NodeRequest::parse(made.to_text().unwrap().as_bytes()).unwrap();
    let keys = hsm.node_keys().unwrap();
    assert_eq!(request.fingerprint(), keys.fingerprint(), "both sides show the same");
    assert_eq!((request.name().as_str(), request.kem_alg()), ("n1", "p256-ecdh"));

    let shown = keys.fingerprint();
    for good in [shown.clone(), shown.to_lowercase(), shown.replace('-', ""), shown.replace('-', ":")] {
        request.expect_fingerprint(&good).unwrap();
    }
    for bad in ["", "1234", &shown[..shown.len() - 1], &format!("{shown}0")] {
        assert!(matches!(request.expect_fingerprint(bad), Err(PkiError::Fingerprint { .. })), "{bad:?}");
    }

    let pem = pki.node_ca(&passphrase).unwrap().node(&request, now_ms(), &OsEntropy).unwrap();
    let certs = chain(&pem);
    let trust = trust_of(&pki);
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let holder = trust.verify(&certs[0], &certs[1..], CaKind::Node, usage, unix(now_ms()), false).unwrap();
        assert_eq!((holder.principal.role(), holder.principal.name.as_str()), (Role::Node, "n1"));
        assert_eq!(holder.spki, keys.identity);
    }
    let leaf = webpki::EndEntityCert::try_from(&certs[0]).unwrap();
    for host in ["n1.example.com", "10.0.0.1"] {
        leaf.verify_is_valid_for_subject_name(&host.try_into().unwrap()).unwrap();
    }
    leaf.verify_is_valid_for_subject_name(&"n2.example.com".try_into().unwrap()).unwrap_err();
}

#[test]
fn requests_that_are_not_a_nodes_are_refused() {
    let (_token, hsm) = node_hsm("n1");
    let good = NodeRequest::make(&hsm, &name("n1"), &["127.0.0.1:7600".into()]).unwrap().to_text().unwrap();
    let refused = |text: &str| match NodeRequest::parse(text.as_bytes()) {
        Err(e @ (PkiError::Request(_) | PkiError::NodeName(_))) => e.to_string(),
        other => panic!("{other:?}: {text}"),
    };
    let value: serde_json::Value = serde_json::from_str(&good).unwrap();
    let with = |field: &str, new: serde_json::Value| {
        let mut value = value.clone();
        value[field] = new;
        value.to_string()
    };
    for (field, new, expected) in [
        ("format", 2.into(), "format is 2"),
        ("name", "n2".into(), "another node name"),
        ("name", "a b".into(), "not a valid name"),
        ("name", "a/b".into(), "must not contain '/'"),
        ("csr", "x".into(), ""),
        ("kem", "%".into(), "not base64"),
        ("kem", "AAAA".into(), "malformed"),
        ("audit", "".into(), "malformed"),
        ("more", 1.into(), "unknown field"),
    ] {
        let error = refused(&with(field, new));
        assert!(error.contains(expected), "{field}: {error}");
    }
    for text in ["", "{", "[]", &good[..good.len() / 2], &" ".repeat(65 * 1024)] {
        refused(text);
    }

    // CSRs by other keys and for other names.
    let csr = |key: &KeyPair, common_name: &str, names: Vec<rcgen::SanType>| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        params.serialize_request(key).unwrap().pem().unwrap()
    };
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let dns = |s: &str| rcgen::SanType::DnsName(s.try_into().unwrap());
    let uri = super::authority::uri("quorate://6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab/admin/a").unwrap();
    for (csr, expected) in [
        (csr(&p384, "n1", vec![]), "not P-256"),
        (csr(&p256, "n2", vec![]), "another node name"),
        (csr(&p256, "n1", vec![dns("*.example.com")]), "nodes do not get"),
        (csr(&p256, "n1", vec![uri]), "nodes do not get"),
    ] {
        let error = refused(&with("csr", csr.into()));
        assert!(error.contains(expected), "{error}");
    }
    // One bit of the signature.
    let pem = value["csr"].as_str().unwrap();
    let mut block = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents;
    *block.last_mut().unwrap() ^= 1;
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(&block);
    let altered = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    assert!(refused(&with("csr", altered.into())).contains("signature does not verify"));
}

#[test]
fn a_request_needs_loaded_keys_and_a_nameable_node() {
    let (_token, hsm) = node_hsm("n1");
    let slash = NodeRequest::make(&hsm, &name("a/b"), &[]).unwrap_err();
    assert!(matches!(slash, PkiError::NodeName(_)), "{slash}");
    let address = NodeRequest::make(&hsm, &name("n1"), &["0.0.0.0:1".into()]).unwrap_err();
    assert!(matches!(address, PkiError::Address(_)), "{address}");
}
