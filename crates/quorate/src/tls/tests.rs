//! Real handshakes on loopback, with identity keys in a real token.
#![allow(clippy::disallowed_methods, reason = "tests play clients and peers that are not behind the seam")]

mod api;
mod peers;

use std::io;
use std::sync::Mutex;

use quorate_core::id::Name;
use quorate_core::principal::Role;
use quorate_hsm::soft_token::SoftToken;
use quorate_hsm::{Hsm, KemChoice};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::certificate::CertificateError;
use super::*;
use crate::pki::{ClientIdentity, NodeRequest, Passphrase, Pki, WorkFactor};
use crate::wiring::{OsEntropy, SystemClock};

const DAY_MS: u64 = 86_400_000;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// An authority and, in one token, the nodes it certifies.
pub(crate) struct Cluster {
    _dir: TempDir,
    pub(crate) pki: Pki,
    pub(crate) passphrase: Passphrase,
    pub(crate) root_pem: Vec<u8>,
    trust: Arc<Trust>,
}

/// A token for this process; every node of every cluster in the test has its keys in it.
pub(crate) struct Tokens {
    _dir: TempDir,
    token: SoftToken,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = SoftToken::create(dir.path(), "t", "123456").unwrap();
        token.danger_set_test_environment();
        Self { _dir: dir, token }
    }

    pub(crate) fn hsm(&self, node: &str) -> Hsm {
        let hsm = Hsm::open(&self.token.config().unwrap(), self.token.pin()).unwrap();
        hsm.generate_node_keys(&name(node), KemChoice::Probe).unwrap();
        hsm
    }
}

impl Cluster {
    /// Made long enough ago for certificates that have expired since.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let passphrase = Passphrase::new(&Zeroizing::new("a passphrase for tests".into())).unwrap();
        let then = now_ms() - 400 * DAY_MS;
        let pki = Pki::init(&dir.path().join("pki"), &passphrase, WorkFactor::Random, then, &OsEntropy).unwrap();
        let root_pem = std::fs::read(pki.root_file()).unwrap();
        let trust = Arc::new(Trust::new(&root_pem, pki.cluster()).unwrap());
        Self { _dir: dir, pki, passphrase, root_pem, trust }
    }

    pub(crate) fn certificate(&self, hsm: &Hsm, node: &str, issued_ms: u64) -> NodeCertificate {
        let request = NodeRequest::make(hsm, &name(node), &["127.0.0.1:1".into()]).unwrap();
        let pem = self.pki.node_ca(&self.passphrase).unwrap().node(&request, issued_ms, &OsEntropy).unwrap();
        NodeCertificate::from_pem(pem.as_bytes(), &name(node)).unwrap()
    }

    fn node(&self, tokens: &Tokens, node: &str, issued_ms: u64) -> (NodeCertificate, TlsIdentity) {
        let hsm = tokens.hsm(node);
        let certificate = self.certificate(&hsm, node, issued_ms);
        certificate.check(&self.trust, now_ms()).unwrap();
        let identity = TlsIdentity::new(&certificate, hsm.rustls_signing_key().unwrap()).unwrap();
        (certificate, identity)
    }

    pub(crate) fn client(&self, role: Role, days: u32, issued_ms: u64) -> ClientIdentity {
        let ca = self.pki.client_ca(&self.passphrase).unwrap();
        ca.client(role, &name("alice"), days, issued_ms, &OsEntropy).unwrap()
    }
}

pub(crate) fn certs(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A stock client, as an SDK is: it knows `ca.pem` and checks names.
fn stock_client(cluster: &Cluster, provider: Arc<CryptoProvider>, identity: Option<&ClientIdentity>) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&cluster.root_pem).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        Some(id) => builder.with_client_auth_cert(certs(&id.chain_pem), key(&id.key_pem)).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// What the log says while the guard lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_certificate_file_must_be_this_nodes() {
    let (tokens, cluster, foreign) = (Tokens::new(), Cluster::new(), Cluster::new());
    let hsm = tokens.hsm("n1");
    let request = NodeRequest::make(&hsm, &name("n1"), &[]).unwrap();
    let pem = cluster.pki.node_ca(&cluster.passphrase).unwrap().node(&request, now_ms(), &OsEntropy).unwrap();
    let certificate = NodeCertificate::from_pem(pem.as_bytes(), &name("n1")).unwrap();
    assert_eq!(certificate.cluster, cluster.pki.cluster());
    assert_eq!(certificate.spki, hsm.node_keys().unwrap().identity);
    let days = (certificate.not_after_s - i64::try_from(now_ms() / 1000).unwrap()) / 86_400;
    assert!((88..=90).contains(&days), "{days}");
    certificate.check(&cluster.trust, now_ms()).unwrap();
    certificate.check(&cluster.trust, now_ms() + 200 * DAY_MS).expect("an expired one serves: the others pin the key");
    assert!(matches!(certificate.check(&foreign.trust, now_ms()), Err(CertificateError::Chain(_))));

    let refused = |pem: &str, node: &str| NodeCertificate::from_pem(pem.as_bytes(), &name(node)).unwrap_err();
    assert!(matches!(refused(&pem, "n2"), CertificateError::OtherName { .. }));
    assert!(matches!(refused("", "n1"), CertificateError::Empty));
    assert!(matches!(
        refused("-----BEGIN CERTIFICATE-----\nA%\n-----END CERTIFICATE-----\n", "n1"),
        CertificateError::Malformed(_)
    ));
    let client = cluster.client(Role::Admin, 90, now_ms());
    assert!(matches!(refused(&client.chain_pem, "alice"), CertificateError::OtherName { .. }));
    assert!(
        matches!(refused(std::str::from_utf8(&cluster.root_pem).unwrap(), "n1"), CertificateError::Chain(_)),
        "the root names nobody"
    );

    let other = tokens.hsm("n2");
    let other_key = TlsIdentity::new(&certificate, other.rustls_signing_key().unwrap());
    assert!(matches!(other_key, Err(CertificateError::OtherKey)));
    let identity = TlsIdentity::new(&certificate, hsm.rustls_signing_key().unwrap()).unwrap();
    let of_n2 = cluster.certificate(&other, "n2", now_ms());
    assert!(matches!(identity.replace(&of_n2), Err(CertificateError::OtherKey)));
}
