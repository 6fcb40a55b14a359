//! Port 7601: who gets in, who does not.

use futures::FutureExt;
use quorate_core::id::ClusterId;
use quorate_replica::net::{BoxStream, Net, PeerExpectation, PeerIdentity};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn net(identity: &TlsIdentity, cluster: &Cluster) -> TlsNet {
    pinning(identity, cluster, &Pins::default())
}

fn pinning(identity: &TlsIdentity, cluster: &Cluster, pins: &Pins) -> TlsNet {
    TlsNet::new(identity.clone(), cluster.trust.clone(), pins.clone(), Arc::new(SystemClock)).unwrap()
}

fn expect(node: &str, cluster: ClusterId, pinned: Option<&NodeCertificate>) -> PeerExpectation {
    PeerExpectation { name: node.into(), cluster, identity_spki: pinned.map(|c| c.spki.clone()) }
}

/// One connection to `server`: what each side sees of it. The connecting side says a word and hears it back, as in TLS 1.3
/// it learns only then that it was refused.
async fn meet(
    server: &TlsNet,
    client: &TlsNet,
    expect: &PeerExpectation,
) -> (io::Result<PeerIdentity>, io::Result<()>) {
    let mut listener = server.listen("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr();
    let accept = async {
        let (mut stream, peer) = listener.accept().await?.await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        stream.write_all(&word).await?;
        stream.flush().await?;
        Ok(peer)
    };
    let connect = async { say_a_word(client.connect(&addr, expect).await?).await };
    tokio::join!(accept, connect)
}

async fn say_a_word(mut stream: BoxStream) -> io::Result<()> {
    stream.write_all(b"word").await?;
    stream.flush().await?;
    let mut word = [0; 4];
    stream.read_exact(&mut word).await?;
    assert_eq!(&word, b"word");
    Ok(())
}

/// A stranger with its own TLS: it trusts anybody, and shows `identity`.
#[derive(Debug)]
struct TrustAnybody;

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

static ONLY_TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
static ONLY_TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

struct Stranger {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static rustls::SupportedProtocolVersion],
    alpn: &'static [u8],
    identity: Option<TlsIdentity>,
}

impl Stranger {
    fn like_a_peer(identity: &TlsIdentity) -> Self {
        Self {
            provider: peer_provider(),
            versions: ONLY_TLS13,
            alpn: b"quorate-peer/1",
            identity: Some(identity.clone()),
        }
    }

    fn config(self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(self.provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnybody));
        let mut config = match self.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = if self.alpn.is_empty() { vec![] } else { vec![self.alpn.to_vec()] };
        config
    }

    /// What the node and the stranger see of an attempt.
    async fn attempt(self, node: &TlsNet) -> (io::Result<PeerIdentity>, io::Result<()>) {
        let mut listener = node.listen("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr();
        let accept = async {
            let (mut stream, peer) = listener.accept().await?.await?;
            let mut word = [0; 4];
            stream.read_exact(&mut word).await?;
            stream.write_all(&word).await?;
            stream.flush().await?;
            Ok(peer)
        };
        let connect = async {
            let tcp = TcpStream::connect(&addr).await?;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(self.config()));
            let tls = connector.connect("localhost".try_into().unwrap(), tcp).await?;
            say_a_word(Box::new(tls)).await
        };
        tokio::join!(accept, connect)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_a_cluster_meet_and_know_each_other() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let ((c1, n1), (c2, n2)) = (cluster.node(&tokens, "n1", now_ms()), cluster.node(&tokens, "n2", now_ms()));
    let (server, client) = (net(&n1, &cluster), net(&n2, &cluster));
    for pinned in [None, Some(&c1)] {
        let (seen, said) = meet(&server, &client, &expect("n1", c1.cluster, pinned)).await;
        said.unwrap();
        let expected = PeerIdentity { name: "n2".into(), cluster: c2.cluster, identity_spki: c2.spki.clone() };
        assert_eq!(seen.unwrap(), expected);
    }
}

#[tokio::test]
async fn only_the_node_that_is_wanted_is_accepted() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let ((c1, n1), (c2, n2)) = (cluster.node(&tokens, "n1", now_ms()), cluster.node(&tokens, "n2", now_ms()));
    let (server, client) = (net(&n1, &cluster), net(&n2, &cluster));
    for (what, expect) in [
        ("another name", expect("n3", c1.cluster, None)),
        ("another key", expect("n1", c1.cluster, Some(&c2))),
        ("another cluster", expect("n1", ClusterId([7; 16]), None)),
    ] {
        let (seen, said) = meet(&server, &client, &expect).await;
        assert_eq!(said.unwrap_err().kind(), ErrorKind::PermissionDenied, "{what}");
        seen.unwrap_err();
    }
}

#[tokio::test]
async fn a_clients_certificate_never_opens_the_peer_port() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    for role in [Role::Admin, Role::User, Role::Custodian, Role::Auditor] {
        let client = cluster.client(role, 90, now_ms());
        let (seen, said) = Stranger::like_a_peer(&software_identity(&client)).attempt(&net(&n1, &cluster)).await;
        assert_eq!(seen.unwrap_err().kind(), ErrorKind::PermissionDenied, "{role}");
        said.unwrap_err();
    }
}

/// A client's certificate and key as an identity, past the check that it is a node's.
fn software_identity(client: &ClientIdentity) -> TlsIdentity {
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key(&client.key_pem)).unwrap();
    let chain = certs(&client.chain_pem);
    let spki = crate::tls::trust::spki_of(&chain[0]).unwrap();
    let (cluster, _) = identity_of(&chain[0]).unwrap();
    let certificate = NodeCertificate { chain, cluster, spki, not_after_s: 0 };
    TlsIdentity::new(&certificate, signing).unwrap()
}

#[tokio::test]
async fn a_foreign_cluster_is_refused_on_both_sides() {
    let (tokens, cluster, foreign) = (Tokens::new(), Cluster::new(), Cluster::new());
    let (c1, n1) = cluster.node(&tokens, "n1", now_ms());
    let (_, stranger) = foreign.node(&tokens, "n2", now_ms());
    // It connects to us.
    let (seen, said) = Stranger::like_a_peer(&stranger).attempt(&net(&n1, &cluster)).await;
    assert_eq!(seen.unwrap_err().kind(), ErrorKind::PermissionDenied);
    said.unwrap_err();
    // We connect to it, by name and even by key.
    let (seen, said) = meet(&net(&stranger, &foreign), &net(&n1, &cluster), &expect("n2", c1.cluster, None)).await;
    assert_eq!(said.unwrap_err().kind(), ErrorKind::PermissionDenied);
    seen.unwrap_err();
}

#[tokio::test]
async fn an_expired_certificate_passes_with_a_warning_for_a_pinned_key_only() {
    let log = Log::default();
    let _capture = log.capture();
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let long_ago = now_ms() - 200 * DAY_MS;
    let ((c1, n1), (c2, n2)) = (cluster.node(&tokens, "n1", long_ago), cluster.node(&tokens, "n2", long_ago));
    let pins = Pins::default();
    let (server, client) = (pinning(&n1, &cluster, &pins), net(&n2, &cluster));

    let (_, said) = meet(&server, &client, &expect("n1", c1.cluster, None)).await;
    assert_eq!(said.unwrap_err().kind(), ErrorKind::PermissionDenied, "the listening node is not pinned");
    let (seen, said) = meet(&server, &client, &expect("n1", c1.cluster, Some(&c1))).await;
    assert_eq!(seen.unwrap_err().kind(), ErrorKind::PermissionDenied, "the connecting node is not pinned");
    said.unwrap_err();
    pins.replace([("n2".to_owned(), c1.spki.clone())]);
    meet(&server, &client, &expect("n1", c1.cluster, Some(&c1))).await.0.expect_err("pinned with another key");
    assert!(!log.text().contains("let pass as its key is pinned node=\"n2\""), "{}", log.text());

    pins.replace([("n2".to_owned(), c2.spki.clone())]);
    let (seen, said) = meet(&server, &client, &expect("n1", c1.cluster, Some(&c1))).await;
    said.unwrap();
    assert_eq!(seen.unwrap().identity_spki, c2.spki);
    let text = log.text();
    for node in ["n1", "n2"] {
        let warned = |line: &str| line.contains("WARN") && line.contains("expired") && line.contains(node);
        assert!(text.lines().any(warned), "{node}: {text}");
    }
}

#[tokio::test]
async fn only_tls_1_3_with_hybrid_key_exchange_and_a_certificate_is_spoken() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let ((_, n1), (_, n2)) = (cluster.node(&tokens, "n1", now_ms()), cluster.node(&tokens, "n2", now_ms()));
    let node = net(&n1, &cluster);
    let peer = || Stranger::like_a_peer(&n2);
    let classical = |group| {
        let mut provider = default_provider();
        provider.kx_groups = vec![group];
        Arc::new(provider)
    };
    Stranger { ..peer() }.attempt(&node).await.0.expect("the stranger is a peer but for what follows");
    for (what, stranger) in [
        ("X25519", Stranger { provider: classical(kx_group::X25519), ..peer() }),
        ("P-256", Stranger { provider: classical(kx_group::SECP256R1), ..peer() }),
        ("TLS 1.2", Stranger { provider: api_provider(), versions: ONLY_TLS12, ..peer() }),
        ("no certificate", Stranger { identity: None, ..peer() }),
        ("HTTP", Stranger { alpn: b"h2", ..peer() }),
        ("no protocol", Stranger { alpn: b"", ..peer() }),
    ] {
        let (seen, said) = stranger.attempt(&node).await;
        assert_eq!(seen.unwrap_err().kind(), ErrorKind::PermissionDenied, "{what}");
        said.expect_err(what);
    }
}

#[tokio::test]
async fn no_session_is_ever_resumed() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let ((_, n1), (_, n2)) = (cluster.node(&tokens, "n1", now_ms()), cluster.node(&tokens, "n2", now_ms()));
    let node = net(&n1, &cluster);
    let mut config = Stranger::like_a_peer(&n2).config();
    config.resumption = Resumption::in_memory_sessions(16);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for _ in 0..3 {
        let mut listener = node.listen("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr();
        let accept = async {
            let (mut stream, _) = listener.accept().await?.await?;
            stream.write_all(b"w").await?;
            stream.shutdown().await
        };
        let connect = async {
            let tcp = TcpStream::connect(&addr).await?;
            let mut tls = connector.connect("localhost".try_into().unwrap(), tcp).await?;
            let mut all = Vec::new();
            tls.read_to_end(&mut all).await?;
            Ok::<_, io::Error>(tls.get_ref().1.handshake_kind())
        };
        let (accepted, kind) = tokio::join!(accept, connect);
        accepted.unwrap();
        assert_eq!(kind.unwrap(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let hsm = tokens.hsm("n1");
    let long_ago = now_ms() - 200 * DAY_MS;
    let old = cluster.certificate(&hsm, "n1", long_ago);
    let identity = TlsIdentity::new(&old, hsm.rustls_signing_key().unwrap()).unwrap();
    let (_, n2) = cluster.node(&tokens, "n2", now_ms());
    let (server, client) = (net(&identity, &cluster), net(&n2, &cluster));
    let unpinned = expect("n1", old.cluster, None);
    meet(&server, &client, &unpinned).await.1.expect_err("expired");
    identity.replace(&cluster.certificate(&hsm, "n1", now_ms())).unwrap();
    meet(&server, &client, &unpinned).await.1.expect("renewed");
}

#[tokio::test]
async fn silence_is_cut_off_at_the_deadline_and_holds_up_nobody() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let ((c1, n1), (_, n2)) = (cluster.node(&tokens, "n1", now_ms()), cluster.node(&tokens, "n2", now_ms()));
    let (server, client) = (net(&n1, &cluster), net(&n2, &cluster));
    let mut listener = server.listen("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr();
    // More than there are slots for handshakes, from several machines, by somebody who says nothing.
    let mut silent = Vec::new();
    for i in 0..2 * HANDSHAKES_MAX {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("127.0.0.{}:0", 2 + i % 6).parse().unwrap()).unwrap();
        let tcp = socket.connect(addr.parse().unwrap()).await.unwrap();
        silent.push((tcp, listener.accept().await.unwrap()));
    }
    let expect = expect("n1", c1.cluster, None);
    let accept = async {
        let (mut stream, _) = listener.accept().await.unwrap().await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word).await.unwrap();
        stream.flush().await.unwrap();
    };
    let ((), said) = tokio::join!(accept, async { say_a_word(client.connect(&addr, &expect).await.unwrap()).await });
    said.unwrap();
    // The oldest have had to go, at once; the latest go at their deadline, which comes when nothing else happens.
    let (_tcp, mut latest) = silent.pop().unwrap();
    let (_tcp, oldest) = silent.swap_remove(0);
    assert_eq!(oldest.now_or_never().unwrap().err().unwrap().kind(), ErrorKind::TimedOut);
    assert!((&mut latest).now_or_never().is_none());
    tokio::time::pause();
    assert_eq!(latest.await.err().unwrap().kind(), ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_peer_port_that_is_not_there_or_not_ours_is_told_apart_from_a_refusal() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    let client = net(&n1, &cluster);
    let expect = expect("n2", cluster.pki.cluster(), None);
    let port = {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        taken.local_addr().unwrap().port()
    };
    let error = client.connect(&format!("127.0.0.1:{port}"), &expect).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    for bad in ["", "n2", ":1", "a b:1"] {
        let error = client.connect(bad, &expect).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
    }
    assert!(client.listen("256.0.0.1:1").await.is_err());
}

/// The identity must sign through the token: a certified key made of nothing else.
#[test]
fn certified_keys_hold_no_private_key() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let hsm = tokens.hsm("n1");
    let certificate = cluster.certificate(&hsm, "n1", now_ms());
    let key = CertifiedKey::new(certificate.chain.clone(), hsm.rustls_signing_key().unwrap());
    key.keys_match().unwrap();
}
