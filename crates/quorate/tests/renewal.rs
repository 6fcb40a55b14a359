//! A renewed certificate is taken by a running node on SIGHUP, since a restart would seal it.
#![allow(clippy::disallowed_methods, reason = "tests wait for processes")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_client::Client;
use quorate_proto::v1::StatusRequest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use support::{Dev, PATIENCE, Signal, node, signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection to the API port as a load balancer keeps it, without a certificate of its own.
struct Connection(TlsStream<tokio::net::TcpStream>);

impl Connection {
    async fn open(dev: &Dev) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = std::fs::read(&dev.json.ca).expect("the root certificate");
        roots.add(CertificateDer::from_pem_slice(&ca).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        let tcp = tokio::net::TcpStream::connect(&dev.json.nodes[0].api).await.expect("it listens");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        Self(TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("a good certificate"))
    }

    /// The certificate the node showed on it.
    fn certificate(&self) -> Vec<u8> {
        self.0.get_ref().1.peer_certificates().expect("the server's")[0].to_vec()
    }

    /// One more request on the same connection.
    async fn still_works(&mut self) {
        self.0.write_all(b"GET /health HTTP/1.1\r\nHost: n1\r\n\r\n").await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            let mut piece = [0; 512];
            let n = self.0.read(&mut piece).await.expect("an answer");
            assert!(n > 0, "the node closed it: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..n]);
        }
    }
}

/// Waits until the node has logged `words` for the `times`-th time.
async fn logged(dev: &Dev, words: &str, times: usize) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let log = std::fs::read_to_string(&dev.json.nodes[0].log).expect("its log");
        let lines: Vec<_> = log.lines().filter(|l| l.contains(words)).collect();
        if lines.len() >= times {
            return lines[times - 1].to_owned();
        }
        assert!(Instant::now() < end, "waited in vain for {words:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn expires_ms(client: &Client) -> u64 {
    let status = client.status(StatusRequest {}).await.expect("the status");
    node(&status, "n1").certificate_expires_ms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_taken_without_a_restart() {
    let dev = Dev::start(1);
    let (n1, client) = (&dev.json.nodes[0], dev.client().await);
    let folder: PathBuf = n1.data.parent().expect("the node's folder").to_owned();
    let (certificate, pki) = (folder.join("node.pem"), dev.dir().join("pki"));
    let path = |p: &Path| p.to_str().expect("a plain path").to_owned();
    let sign = ["pki", "sign", "--dir", &path(&pki), "--passphrase-file", &path(&pki.join("passphrase"))]
        .map(str::to_owned)
        .into_iter()
        .chain(["--request".into(), path(&folder.join("node.request")), "--out".into(), path(&certificate)])
        .collect::<Vec<_>>();
    let sign: Vec<&str> = sign.iter().map(String::as_str).collect();

    let mut before = Connection::open(&dev).await;
    let (first, first_expires) = (before.certificate(), expires_ms(&client).await);
    assert!(first_expires > 0);
    // Validity is counted in seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    dev.cli_ok(&sign, "");
    signal(n1.pid, Signal::HUP);
    logged(&dev, "the certificate was read again and is in use", 1).await;
    let second = Connection::open(&dev).await.certificate();
    assert!(second != first, "a new connection is shown the new certificate");
    before.still_works().await;
    assert!(before.certificate() == first && expires_ms(&client).await > first_expires);

    let good = std::fs::read(&certificate).expect("readable");
    // Cut short, of somebody else, and none at all.
    let stranger = std::fs::read(&dev.json.admin.cert).expect("readable");
    for (turn, bad) in [&good[..good.len() / 3], &stranger, b""].into_iter().enumerate() {
        std::fs::write(&certificate, bad).expect("written");
        signal(n1.pid, Signal::HUP);
        let line = logged(&dev, "can't be used; the old one stays", turn + 1).await;
        assert!(line.contains("tls.cert") && line.contains("pki sign"), "what is wrong, and what to do: {line}");
        assert!(Connection::open(&dev).await.certificate() == second, "the old one stays");
    }
    std::fs::remove_file(&certificate).expect("removed");
    signal(n1.pid, Signal::HUP);
    let line = logged(&dev, "can't be used; the old one stays", 4).await;
    assert!(line.contains("node.pem"), "{line}");
    before.still_works().await;

    // The status counts the days, in words and for scripts.
    let status: serde_json::Value =
        serde_json::from_slice(&dev.cli_ok(&["operator", "status", "--output", "json"], "")).expect("JSON");
    let days = status["nodes"][0]["certificate_days_left"].as_i64().expect("a number");
    assert!((1..=90).contains(&days), "{status}");
    let table = dev.cli_ok(&["operator", "status", "--output", "table"], "");
    assert!(String::from_utf8_lossy(&table).contains(&format!("{days} days")));
}
