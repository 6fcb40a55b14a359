//! Port 7600: clients with and without certificates.

use futures::FutureExt;
use rustls::NamedGroup;
use rustls::client::Resumption;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::StreamExt;

use super::super::connection::STRANGERS;
use super::*;

struct Server {
    addr: std::net::SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells each connection whom it takes it for.
async fn serve(identity: TlsIdentity, cluster: &Cluster) -> Server {
    let listener =
        ApiListener::bind("127.0.0.1:0".parse().unwrap(), identity, cluster.trust.clone(), Arc::new(SystemClock))
            .await
            .unwrap();
    let addr = listener.local_addr();
    let mut incoming = listener.incoming();
    let task = tokio::spawn(async move {
        while let Some(Admitted { connection: mut tls, place: _place, .. }) = incoming.next().await {
            let leaf = tls.get_ref().get_ref().1.peer_certificates().and_then(|c| c.first());
            let who = leaf.map_or("nobody".to_owned(), |c| identity_of(c).unwrap().1.to_string());
            let _ = tls.write_all(who.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    });
    Server { addr, task }
}

async fn call(server: &Server, config: ClientConfig) -> io::Result<(String, TlsStream<TcpStream>)> {
    call_as(server, Arc::new(config), "localhost").await
}

async fn call_as(
    server: &Server,
    config: Arc<ClientConfig>,
    host: &'static str,
) -> io::Result<(String, TlsStream<TcpStream>)> {
    let tcp = TcpStream::connect(server.addr).await?;
    let mut tls = TlsConnector::from(config).connect(host.try_into().unwrap(), tcp).await?;
    let mut who = String::new();
    tls.read_to_string(&mut who).await?;
    Ok((who, tls))
}

fn only(group: &'static dyn rustls::crypto::SupportedKxGroup) -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.kx_groups = vec![group];
    Arc::new(provider)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_known_by_their_certificates_and_welcome_without() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    let server = serve(n1, &cluster).await;
    let anybody = stock_client(&cluster, api_provider(), None);
    let (who, tls) = call(&server, anybody).await.unwrap();
    assert_eq!(who, "nobody");
    let session = tls.get_ref().1;
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    for role in [Role::Admin, Role::User, Role::Custodian, Role::Auditor] {
        let client = cluster.client(role, 90, now_ms());
        let (who, _) = call(&server, stock_client(&cluster, api_provider(), Some(&client))).await.unwrap();
        assert_eq!(who, format!("{role}/alice"));
    }
}

#[tokio::test]
async fn older_clients_are_served_and_names_are_checked() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    let server = serve(n1, &cluster).await;
    for group in [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1] {
        call(&server, stock_client(&cluster, only(group), None)).await.unwrap();
    }
    let client = cluster.client(Role::User, 90, now_ms());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&cluster.root_pem).unwrap()).unwrap();
    let tls12 = ClientConfig::builder_with_provider(only(kx_group::SECP256R1))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(certs(&client.chain_pem), key(&client.key_pem))
        .unwrap();
    assert_eq!(call(&server, tls12).await.unwrap().0, "user/alice");
    let anybody = Arc::new(stock_client(&cluster, api_provider(), None));
    call_as(&server, anybody.clone(), "127.0.0.1").await.unwrap();
    call_as(&server, anybody, "elsewhere.example.com").await.expect_err("not its name");
}

#[tokio::test]
async fn certificates_that_are_expired_foreign_or_a_nodes_are_refused() {
    let (tokens, cluster, foreign) = (Tokens::new(), Cluster::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    let (_, n2) = cluster.node(&tokens, "n2", now_ms());
    let server = serve(n1, &cluster).await;
    let expired = cluster.client(Role::Admin, 30, now_ms() - 31 * DAY_MS);
    let not_yet = cluster.client(Role::Admin, 30, now_ms() + DAY_MS);
    let stranger = foreign.client(Role::Admin, 90, now_ms());
    for (what, client) in [("expired", &expired), ("not valid yet", &not_yet), ("foreign", &stranger)] {
        let error = call(&server, stock_client(&cluster, api_provider(), Some(client))).await.expect_err(what);
        assert!(error.to_string().contains("received fatal alert"), "{what}: {error}");
    }
    // A node's certificate is no client's: it never authorises a call.
    let mut node = stock_client(&cluster, api_provider(), None);
    node.client_auth_cert_resolver = Arc::new(n2);
    call(&server, node).await.expect_err("a node");
    let good = cluster.client(Role::Admin, 90, now_ms());
    call(&server, stock_client(&cluster, api_provider(), Some(&good))).await.expect("the port still serves");
}

#[tokio::test]
async fn no_session_brings_back_an_old_certificate() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    let server = serve(n1, &cluster).await;
    let client = cluster.client(Role::User, 90, now_ms());
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&cluster.root_pem).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(api_provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(certs(&client.chain_pem), key(&client.key_pem))
            .unwrap();
        config.resumption = Resumption::in_memory_sessions(16);
        let config = Arc::new(config);
        for _ in 0..3 {
            let (_, tls) = call_as(&server, config.clone(), "localhost").await.unwrap();
            assert_eq!(tls.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn silent_and_talkative_strangers_hold_up_nobody() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    let server = serve(n1, &cluster).await;
    let mut strangers = Vec::new();
    for i in 0..HANDSHAKES_MAX {
        let mut tcp = TcpStream::connect(server.addr).await.unwrap();
        if i % 2 == 0 {
            tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        }
        strangers.push(tcp);
    }
    // Meanwhile others are served: so many unfinished handshakes keep nobody out.
    let (who, _) = call(&server, stock_client(&cluster, api_provider(), None)).await.unwrap();
    assert_eq!(who, "nobody");
    // Those who say nothing are cut off at the deadline, which comes at once when nothing else happens.
    tokio::time::pause();
    for mut tcp in strangers {
        let mut said = Vec::new();
        let _ = tcp.read_to_end(&mut said).await;
    }
    tokio::time::resume();
    let (who, _) = call(&server, stock_client(&cluster, api_provider(), None)).await.unwrap();
    assert_eq!(who, "nobody");
}

/// A listening port, and how to reach it from any address of this machine.
struct Port {
    addr: std::net::SocketAddr,
    incoming: tokio_stream::wrappers::ReceiverStream<Admitted>,
}

impl Port {
    async fn open(identity: TlsIdentity, cluster: &Cluster) -> Self {
        let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
        let addr = "127.0.0.1:0".parse().unwrap();
        let listener = ApiListener::bind(addr, identity, cluster.trust.clone(), clock).await.unwrap();
        Self { addr: listener.local_addr(), incoming: listener.incoming() }
    }

    async fn tcp(&self, source: &str) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((source.parse::<std::net::Ipv4Addr>().unwrap(), 0).into()).unwrap();
        socket.connect(self.addr).await.unwrap()
    }

    /// Both ends of a connection that was taken in.
    async fn connect(&mut self, source: &str, config: &Arc<ClientConfig>) -> (TlsStream<TcpStream>, Admitted) {
        let tcp = self.tcp(source).await;
        let name = "localhost".try_into().unwrap();
        let theirs = TlsConnector::from(config.clone()).connect(name, tcp).await.unwrap();
        (theirs, self.incoming.next().await.unwrap())
    }
}

#[tokio::test]
async fn a_crowd_of_strangers_keeps_out_neither_other_strangers_nor_clients() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    let mut port = Port::open(n1, &cluster).await;
    let anybody = Arc::new(stock_client(&cluster, api_provider(), None));
    let mut crowd = Vec::new();
    for n in 0..STRANGERS.max {
        // Four addresses, each with all that one may have.
        crowd.push(port.connect(&format!("127.0.0.{}", 2 + n / STRANGERS.of_one_max), &anybody).await);
    }
    assert!(crowd.iter_mut().all(|(_, admitted)| admitted.place.sent_away().now_or_never().is_none()));
    let (_theirs, mut somebody_else) = port.connect("127.0.0.9", &anybody).await;
    assert_eq!(somebody_else.class, Class::Stranger);
    crowd[0].1.place.sent_away().await;
    let (_theirs, _again) = port.connect("127.0.0.5", &anybody).await;
    crowd[3 * STRANGERS.of_one_max].1.place.sent_away().await;
    let left = crowd.iter_mut().filter_map(|(_, a)| a.place.sent_away().now_or_never().xor(Some(()))).count();
    assert_eq!(left, STRANGERS.max - 2);
    assert!(somebody_else.place.sent_away().now_or_never().is_none(), "one that has one seat keeps it");

    let mut known = Vec::new();
    for (role, class) in [(Role::User, Class::User), (Role::Admin, Class::Operator), (Role::Auditor, Class::Operator)] {
        let client = Arc::new(stock_client(&cluster, api_provider(), Some(&cluster.client(role, 90, now_ms()))));
        let (mut theirs, mut ours) = port.connect("127.0.0.2", &client).await;
        assert_eq!(ours.class, class);
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(ours.connection.read_u8().await.unwrap(), b'x', "a client has its own places");
        known.push((theirs, ours));
    }

    // Time stands still but for what is waited for: silence ends each of them.
    tokio::time::pause();
    for (_theirs, mut silent) in crowd.into_iter().chain(known) {
        assert_eq!(silent.connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

#[tokio::test]
async fn an_unfinished_handshake_gives_way_to_newcomers() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    let mut port = Port::open(n1, &cluster).await;
    let mut halves = Vec::new();
    for n in 0..400 {
        halves.push(port.tcp(&format!("127.0.1.{}", 1 + n % 8)).await);
    }
    let admin = Arc::new(stock_client(&cluster, api_provider(), Some(&cluster.client(Role::Admin, 90, now_ms()))));
    // Long before those are cut off.
    let connecting = tokio::time::timeout(HANDSHAKE_DEADLINE / 2, port.connect("127.0.0.1", &admin));
    let (_theirs, ours) = connecting.await.expect("nobody waits for them");
    assert_eq!(ours.class, Class::Operator);
    // The oldest have gone.
    assert!(matches!(halves[0].read(&mut [0]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn the_port_closes_with_its_stream() {
    let (tokens, cluster) = (Tokens::new(), Cluster::new());
    let (_, n1) = cluster.node(&tokens, "n1", now_ms());
    let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
    let bind = |addr| ApiListener::bind(addr, n1.clone(), cluster.trust.clone(), clock.clone());
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr();
    assert!(bind(addr).await.is_err(), "the address is taken");
    drop(listener.incoming());
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
