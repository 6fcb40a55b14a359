//! Real nodes made small: a SoftHSM2 token, a temporary folder, plain TCP in place of TLS.

#![allow(dead_code, clippy::disallowed_methods, reason = "a test's own world, and not every test uses all of it")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_core::access::{Caller, Door};
use quorate_core::credential::{CredentialId, Presented};
use quorate_core::id::ClusterId;
use quorate_core::level::{Level, Levels};
use quorate_core::principal::{Principal, Role};
use quorate_core::seam::{BootClock, Entropy, WallClock};
use quorate_crypto::Share;
use quorate_hsm::soft_token::SoftToken;
use quorate_hsm::{Hsm, KemChoice};
use quorate_journal::disk::RealDisk;
use quorate_replica::{
    BoxStream, CompactionConfig, Handshake, Listener, Net, PeerExpectation, PeerIdentity, Profile, World,
};
use quorate_service::node::{JoinConfig, Node, NodeConfig, StartError};
use quorate_service::seal::{Founded, Health, InitRequest, JoinToken, Submitted};
use quorate_service::{Call, Error, HsmIdentity, HsmMarks, HsmOwnKeys};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub const CLUSTER: ClusterId = ClusterId([0xC1; 16]);
pub const ROOT_SPKI: &[u8] = b"public key of the root certificate";

/// A machine room: tokens and folders of several nodes.
pub struct Rig {
    pub started: Started,
    pub dir: TempDir,
    pub cluster: ClusterId,
    /// Every node's clock.
    pub clock: Arc<ShiftedClock>,
}

/// Nodes that end before their folder does: a journal that finds its folder gone ends the process, as it should.
#[derive(Default)]
pub struct Started(Mutex<Vec<Arc<Node>>>);

impl Drop for Started {
    fn drop(&mut self) {
        let nodes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if let Ok(runtime) = Handle::try_current() {
            tokio::task::block_in_place(|| {
                runtime.block_on(futures::future::join_all(nodes.iter().map(|node| node.shutdown())))
            });
        }
    }
}

/// How a node differs from the usual one.
#[derive(Default)]
pub struct Options {
    pub dev: bool,
    pub join: Option<JoinConfig>,
    /// A token other than the node's own.
    pub token: Option<&'static str>,
    /// A folder other than the node's own.
    pub folder: Option<&'static str>,
    pub kem: KemChoice,
    /// The highest feature level that it speaks, if not this build's.
    pub level: Option<u32>,
    /// The lowest that it works at, likewise.
    pub lowest: Option<u32>,
    /// When it compacts its log, if not as usual.
    pub compaction: Option<CompactionConfig>,
}

pub struct OsEntropy;
impl Entropy for OsEntropy {
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("random bytes");
    }
}

/// The machine's clock, put forward by some milliseconds.
#[derive(Default)]
pub struct ShiftedClock(pub AtomicU64);
impl WallClock for ShiftedClock {
    fn now_ms(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        now.as_millis() as u64 + self.0.load(Ordering::SeqCst)
    }
}

/// Goes as the machine does, whatever its clock says.
pub struct SteadyClock(std::time::Instant);
impl BootClock for SteadyClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Plain TCP that begins with both sides' identities. Its handshake does what the real one does, without the proof.
struct PlainNet(PeerIdentity);

async fn exchange(mut stream: TcpStream, me: &PeerIdentity) -> io::Result<(BoxStream, PeerIdentity)> {
    let mut hello = Vec::new();
    for part in [me.name.as_bytes(), &me.cluster.0, &me.identity_spki] {
        hello.extend_from_slice(&(part.len() as u32).to_be_bytes());
        hello.extend_from_slice(part);
    }
    stream.set_nodelay(true)?;
    stream.write_all(&hello).await?;
    let mut parts = Vec::new();
    for _ in 0..3 {
        let len = stream.read_u32().await? as usize;
        let mut part = vec![0; len.min(4096)];
        stream.read_exact(&mut part).await?;
        parts.push(part);
    }
    let identity_spki = parts.pop().unwrap_or_default();
    let cluster = ClusterId(parts.pop().unwrap_or_default().try_into().map_err(|_| io::ErrorKind::InvalidData)?);
    let name = String::from_utf8(parts.pop().unwrap_or_default()).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((Box::new(stream), PeerIdentity { name, cluster, identity_spki }))
}

impl Net for PlainNet {
    fn connect<'a>(&'a self, addr: &'a str, expect: &'a PeerExpectation) -> BoxFuture<'a, io::Result<BoxStream>> {
        async move {
            let (stream, peer) = exchange(TcpStream::connect(addr).await?, &self.0).await?;
            let pinned = expect.identity_spki.as_ref().is_none_or(|spki| *spki == peer.identity_spki);
            if peer.name == expect.name && peer.cluster == expect.cluster && pinned {
                Ok(stream)
            } else {
                Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{addr} is {}, not the expected node", peer.name),
                ))
            }
        }
        .boxed()
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        async move {
            let listener: Box<dyn Listener> = Box::new(PlainListener(TcpListener::bind(addr).await?, self.0.clone()));
            Ok(listener)
        }
        .boxed()
    }
}

struct PlainListener(TcpListener, PeerIdentity);

impl Listener for PlainListener {
    fn local_addr(&self) -> String {
        self.0.local_addr().expect("bound").to_string()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Handshake>> {
        let me = self.1.clone();
        async move {
            let (stream, _) = self.0.accept().await?;
            Ok(async move { exchange(stream, &me).await }.boxed())
        }
        .boxed()
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

impl Rig {
    /// Call it first in a test: it sets the process's environment for SoftHSM, and makes every token a test may use,
    /// as the module looks for tokens only once.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let rig = Self { started: Started::default(), dir, cluster: CLUSTER, clock: Arc::default() };
        for label in ["n1", "n2", "n3", "n4", "thief"] {
            let token = SoftToken::create(&rig.hsm_dir(), label, "123456").expect("SoftHSM2 is installed");
            token.danger_set_test_environment();
        }
        rig
    }

    fn hsm_dir(&self) -> PathBuf {
        self.dir.path().join("hsm")
    }

    /// Opens a token; makes the node's keys when they are not there.
    pub fn hsm(&self, token: &str, node: &str, kem: KemChoice) -> Hsm {
        let soft = SoftToken { dir: self.hsm_dir(), label: token.into(), pin: "123456".into() };
        let hsm = Hsm::open(&soft.config().expect("the module is there"), soft.pin()).expect("the token opens");
        hsm.generate_node_keys(&node.parse().expect("a name"), kem).expect("keys");
        hsm
    }

    pub fn data_dir(&self, node: &str) -> PathBuf {
        self.dir.path().join(node).join("data")
    }

    /// Starts a node, new or again.
    pub async fn start(&self, name: &str, options: Options) -> Result<Arc<Node>, StartError> {
        let hsm = self.hsm(options.token.unwrap_or(name), name, options.kem);
        let identity_spki = hsm.node_keys().expect("loaded").identity.clone();
        let me = PeerIdentity { name: name.into(), cluster: self.cluster, identity_spki };
        let world = World {
            disk: Arc::new(RealDisk),
            net: Arc::new(PlainNet(me)),
            entropy: Arc::new(OsEntropy),
            wall: self.clock.clone(),
            seals: Arc::new(quorate_service::seal::PublicSeals),
            own_keys: Arc::new(HsmOwnKeys::new(
                hsm.clone(),
                self.cluster,
                name.parse().expect("a name"),
                Arc::new(OsEntropy),
            )),
            marks: Arc::new(HsmMarks::new(hsm.clone())),
            identity: Arc::new(HsmIdentity::new(hsm.clone()).expect("loaded")),
            boot_clock: Arc::new(SteadyClock(std::time::Instant::now())),
            driver: quorate_journal::Driver::Process,
        };
        let peer = self.address(name);
        let mut levels = Levels::default();
        levels.highest = options.level.map_or(levels.highest, Level);
        levels.lowest = options.lowest.map_or(levels.lowest, Level);
        let config = NodeConfig {
            name: name.parse().expect("a name"),
            data_dir: self.data_dir(options.folder.unwrap_or(name)),
            api_addr: format!("{name}.test:7600"),
            peer_addr: peer.clone(),
            peer_listen: peer,
            cluster: self.cluster,
            root_spki: ROOT_SPKI.to_vec(),
            dev: options.dev,
            profile: Profile::Lan,
            segment_bytes: 1024 * 1024,
            low_space_bytes: 0,
            compaction: options.compaction.unwrap_or_default(),
            state_cache_bytes: 64 << 20,
            hot_bytes: 64 << 20,
            levels,
            join: options.join,
            version: "0.0.0-test".into(),
            meter: Arc::new(()),
        };
        let node = Node::start(config, world, hsm).await?;
        self.started.0.lock().unwrap_or_else(PoisonError::into_inner).push(node.clone());
        Ok(node)
    }

    /// A node's peer address: the same at each start.
    pub fn address(&self, name: &str) -> String {
        let file = self.dir.path().join(format!("{name}.port"));
        if let Ok(address) = std::fs::read_to_string(&file) {
            return address;
        }
        let address = format!("127.0.0.1:{}", free_port());
        std::fs::write(&file, &address).expect("written");
        address
    }

    /// A new node, started.
    pub async fn node(&self, name: &str) -> Arc<Node> {
        self.start(name, Options::default()).await.expect("starts")
    }

    /// A founded one-node cluster, sealed, and its shares.
    pub async fn founded(&self, shares: u32, threshold: u32) -> (Arc<Node>, Vec<String>) {
        let node = self.node("n1").await;
        let founded = init(&node, shares, threshold).await.expect("founded");
        (node, founded.shares.iter().map(|s| s.to_string()).collect())
    }

    /// A founded and unsealed one-node cluster.
    pub async fn unsealed(&self) -> (Arc<Node>, Vec<String>) {
        let (node, shares) = self.founded(3, 2).await;
        unseal(&node, &shares[..2]).await;
        (node, shares)
    }

    /// Starts a node that joins by `token`.
    pub async fn joining(&self, name: &str, token: &str) -> Result<Arc<Node>, StartError> {
        let token = JoinToken::parse(token).expect("a token");
        self.start(name, Options { join: Some(JoinConfig { addresses: vec![], token }), ..Options::default() }).await
    }

    /// Starts a node, new or again, of a build that speaks this feature level.
    pub async fn speaking(&self, name: &str, level: u32) -> Arc<Node> {
        self.start(name, Options { level: Some(level), ..Options::default() }).await.expect("starts")
    }

    /// Takes a node in: invited, started, approved.
    pub async fn take_in(&self, member: &Node, name: &str) -> (Arc<Node>, bool) {
        let invited = member.invite(&admin(), name, 0, soon()).await.expect("invited");
        let node = self.joining(name, &invited.token).await.expect("starts");
        let fingerprint = pending_fingerprint(member, name).await;
        let approved = member.approve(&admin(), name, &fingerprint, soon()).await.expect("approved");
        (node, approved.unsealed)
    }
}

pub fn principal(role: Role, name: &str) -> Principal {
    Principal::certificate(role, name.parse().expect("a name"))
}

pub fn admin() -> Principal {
    principal(Role::Admin, "root")
}

pub fn custodian() -> Principal {
    principal(Role::Custodian, "ada")
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub async fn init(node: &Node, shares: u32, threshold: u32) -> Result<Founded, Error> {
    let request =
        InitRequest { shares, threshold, custodians: vec![], insecure_single_share: (shares, threshold) == (1, 1) };
    node.init(&admin(), request).await
}

/// Enters a share as the CLI does: challenge, proof, share.
pub async fn submit_as(node: &Node, caller: &Principal, share: &str) -> Result<Submitted, Error> {
    let challenge = node.share_challenge(caller)?;
    let proof = Share::parse(share)
        .map(|share| share.prove(challenge.cluster, &challenge.node_name, &challenge.nonce).to_vec())
        .unwrap_or_default();
    node.submit_share(caller, Zeroizing::new(share.to_owned()), challenge.nonce.to_vec(), proof).await
}

pub async fn submit(node: &Node, share: &str) -> Result<Submitted, Error> {
    submit_as(node, &custodian(), share).await
}

pub async fn unseal(node: &Node, shares: &[String]) {
    for (i, share) in shares.iter().enumerate() {
        let submitted = submit(node, share).await.expect("a good share");
        assert_eq!(submitted.unsealed, i + 1 == shares.len());
    }
    assert_eq!(node.health(), Health::Ok);
}

/// What a node says of the cluster, to look for words in.
pub fn said(node: &Node) -> String {
    format!("{:?}", node.status(&admin()).expect("status").verdicts)
}

/// Waits until a node waits for approval under this name.
pub async fn pending_fingerprint(member: &Node, name: &str) -> String {
    within(30, async {
        loop {
            let members = member.list_members(&admin(), soon()).await.expect("listed");
            let waiting = members.pending.into_iter().find(|p| p.name == name).and_then(|p| p.fingerprint);
            if let Some(fingerprint) = waiting {
                return fingerprint;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// Waits for a condition that nothing announces.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn within<T>(seconds: u64, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), work).await.unwrap_or_else(|_| panic!("not within {seconds} s"))
}

/// All regular files under a folder.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// A call, as a door would hand it over, by somebody who waits so long.
pub fn call(who: &Principal, deadline: Instant) -> Call {
    let presented = Presented { id: certificate(who), ends_ms: 0 };
    let caller = Caller { principal: who.clone(), presented, source: None, door: Door::Native, namespace: None };
    Call { caller, deadline }
}

/// The one certificate that everybody has, unless a test says otherwise.
pub fn certificate(who: &Principal) -> CredentialId {
    let who = who.encode();
    CredentialId::Certificate(std::array::from_fn(|i| who.get(i).copied().unwrap_or_default()))
}

/// The same in the namespace of that name.
pub fn call_in(namespace: &str, who: &Principal, deadline: Instant) -> Call {
    let mut call = call(who, deadline);
    call.caller.namespace = Some(namespace.parse().expect("a name"));
    call
}
