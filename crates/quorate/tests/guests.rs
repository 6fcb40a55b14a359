//! Strangers and heavy guests at the API port of a real process: whatever they do, the node keeps its size, and those who
//! run it get their answers.
#![allow(clippy::disallowed_methods, reason = "tests touch files, sockets and processes")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use quorate_proto::MESSAGE_LEN_MAX;
use quorate_proto::v1::*;
use support::{Dev, Pair, http, tls};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What the node may grow by, under everything at once.
const GROWTH_MAX_KIB: u64 = 64 * 1024;
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const ECHO: &str = "/quorate.v1.Keys/Echo";
/// An empty message.
const EMPTY: &[u8] = &[0; 5];

/// Somebody at one address of this machine.
#[derive(Clone)]
struct Guest {
    source: std::net::Ipv4Addr,
    node: std::net::SocketAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl Guest {
    fn new(dev: &Dev, identity: Option<&Pair>, source: [u8; 4]) -> Self {
        let node = dev.json.nodes[0].api.parse().expect("an address");
        Self { source: source.into(), node, tls: tls(dev, identity, b"h2") }
    }

    async fn tcp(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.source, 0).into())?;
        socket.connect(self.node).await
    }

    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let name = "127.0.0.1".try_into().expect("an address");
        let connecting = async { TlsConnector::from(self.tls.clone()).connect(name, self.tcp().await?).await };
        tokio::time::timeout(support::PATIENCE, connecting).await?
    }

    /// HTTP/2, with the server's settings known; and the end of the connection.
    async fn http2(&self) -> Option<(SendRequest<Bytes>, tokio::task::JoinHandle<()>)> {
        let (send, connection) = h2::client::handshake(self.connect().await.ok()?).await.ok()?;
        let end = tokio::spawn(async move { drop(connection.await) });
        let mut send = send.ready().await.ok()?;
        let (answer, mut body) = request(&mut send, CHECK).ok()?;
        body.send_data(EMPTY.into(), true).ok()?;
        answer.await.ok()?;
        Some((send, end))
    }
}

fn request(send: &mut SendRequest<Bytes>, path: &str) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    let request = http::Request::post(format!("https://127.0.0.1{path}")).header("content-type", "application/grpc");
    send.send_request(request.body(()).expect("a request"), false)
}

/// Asks for as many health watches on a connection as can be asked for, 400 at most.
async fn watch(guest: Guest) -> Option<(SendRequest<Bytes>, Vec<(ResponseFuture, SendStream<Bytes>)>)> {
    let (mut send, _) = guest.http2().await?;
    let mut open = Vec::new();
    while open.len() < 400 {
        match send.clone().ready().now_or_never() {
            Some(Ok(ready)) => send = ready,
            _ => break,
        }
        let Ok((answer, mut body)) = request(&mut send, WATCH) else { break };
        let _ = body.send_data(EMPTY.into(), true);
        open.push((answer, body));
        tokio::task::yield_now().await;
    }
    Some((send, open))
}

/// A request with all of its largest message but the last byte.
async fn unfinished(mut send: SendRequest<Bytes>) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    send = send.ready().await?;
    let (answer, mut body) = request(&mut send, ECHO)?;
    let mut message = vec![0; 5 + MESSAGE_LEN_MAX - 1];
    message[1..5].copy_from_slice(&u32::try_from(MESSAGE_LEN_MAX).expect("it fits").to_be_bytes());
    let mut message = Bytes::from(message);
    while !message.is_empty() {
        body.reserve_capacity(message.len());
        match std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
            Some(room) => body.send_data(message.split_to(room?.min(message.len())), false)?,
            None => break,
        }
    }
    Ok((answer, body))
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// The largest that a process has been since.
struct Size {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Size {
    fn watch(pid: u32) -> Self {
        let (most, stop) = (Arc::new(AtomicU64::new(0)), Arc::<AtomicBool>::default());
        let (of, end) = (most.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                of.fetch_max(resident_kib(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { most, stop, thread: Some(thread) }
    }
    fn most_kib(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Size {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_all_of_them_together_a_node_keeps_its_size_and_answers() {
    let dev = Dev::start(1);
    let node = dev.json.nodes[0].clone();
    let admin = dev.client().await;
    admin.create_key(CreateKeyRequest { alias: "k".into(), ..CreateKeyRequest::default() }).await.expect("created");
    let user = dev.issue("user", "heavy");
    let stranger = |n: u8| Guest::new(&dev, None, [127, 0, 1, n]);
    let idle = resident_kib(node.pid);
    let size = Size::watch(node.pid);
    let mut done = Vec::new();

    // Watches, from four addresses.
    let mut watches = JoinSet::new();
    (0..40).for_each(|n| drop(watches.spawn(watch(stranger(1 + n % 4)))));
    let watches: Vec<_> = watches.join_all().await.into_iter().flatten().collect();
    let open: usize = watches.iter().map(|(_, open)| open.len()).sum();
    done.push(format!("{open} watches asked for on {} connections", watches.len()));

    // Connections that say nothing, from two addresses; and such as don't even finish their handshake, from two others.
    let (mut silent, mut half) = (Vec::new(), Vec::new());
    for n in 0..256 {
        let guest = stranger(11 + n as u8 % 2);
        match tokio::time::timeout(Duration::from_secs(2), guest.connect()).await {
            Ok(Ok(tls)) => silent.push(tls),
            _ => break,
        }
    }
    for n in 0..400 {
        half.extend(tokio::time::timeout(Duration::from_secs(1), stranger(21 + n as u8 % 2).tcp()).await.ok());
    }
    done.push(format!("{} silent connections, {} without a handshake", silent.len(), half.len()));

    // Unfinished requests of somebody with a certificate.
    let heavy = Guest::new(&dev, Some(&user), [127, 0, 0, 1]);
    let mut bodies = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..4 {
        let Ok(Some((send, _))) = tokio::time::timeout(Duration::from_secs(30), heavy.http2()).await else { break };
        (0..125).for_each(|_| drop(bodies.spawn(unfinished(send.clone()))));
        connections.push(send);
    }
    let mut kept = Vec::new();
    while let Some(body) = bodies.join_next().await {
        kept.extend(body.expect("no panic"));
        // Those who run the cluster come in between, each time by a new connection.
        if kept.len() == 100 {
            admin.reconnected().expect("valid").status(StatusRequest {}).await.expect("answered in the middle of it");
        }
    }
    done.push(format!("{} bodies on {} connections", kept.len(), connections.len()));

    let began = std::time::Instant::now();
    let again = admin.reconnected().expect("valid settings");
    again.status(StatusRequest {}).await.unwrap_or_else(|e| panic!("an administrator, after {done:?}: {e}"));
    let took = began.elapsed();
    let plaintext = Bytes::from_static(b"x");
    again.encrypt(EncryptRequest { key: "k".into(), plaintext, ..Default::default() }).await.expect("keys are used");
    let healthy = tokio::task::block_in_place(|| http(&dev, &node.api, "/health", None, b"http/1.1"));
    let grown = size.most_kib().saturating_sub(idle);
    eprintln!("{done:?}: {idle} KiB when idle, {grown} KiB more; an administrator was answered after {took:?}");
    assert!(
        healthy.as_ref().is_ok_and(|text| text.starts_with("HTTP/1.1 200")),
        "/health, after {done:?}: {healthy:?}"
    );
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB more than the {idle} KiB when idle, after {done:?}");
    drop((watches, silent, half, kept, connections));
}

async fn next(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let data = tokio::time::timeout(support::PATIENCE, body.data()).await.expect("in time")?;
    Some(data.inspect(|data| drop(body.flow_control().release_capacity(data.len()))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_a_watch_ends_at_a_seal_like_every_other() {
    let dev = Dev::start(1);
    let (mut send, end) = Guest::new(&dev, None, [127, 0, 0, 1]).http2().await.expect("connected");
    let (answer, mut body) = request(&mut send, WATCH).expect("asked");
    body.send_data(EMPTY.into(), true).expect("asked");
    let mut health = answer.await.expect("answered").into_body();
    assert_eq!(next(&mut health).await.expect("news").expect("news")[..], [0, 0, 0, 0, 2, 8, 1], "serving");
    dev.seal(0).await;
    assert_eq!(next(&mut health).await.expect("news").expect("news")[..], [0, 0, 0, 0, 2, 8, 2], "not serving");
    assert!(next(&mut health).await.is_none(), "the watch ends");
    tokio::time::timeout(support::PATIENCE, end).await.expect("and so does its connection").expect("no panic");
}
