//! The desk over a real one-node replica: real journal, real engine, real Raft; no HSM, and the clocks are the test's own.

#![allow(clippy::disallowed_methods, reason = "a test's own world")]

#[path = "../../../replica/tests/support/identity.rs"]
mod identity;

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_core::batch::{Genesis, Rev};
use quorate_core::decide::{Create, NewKind, Source};
use quorate_core::id::{ClusterId, GroupId, KeyId, Lineage, NodeId};
use quorate_core::key_spec::KeySpec;
use quorate_core::level::{LEVEL, Level};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::request::{Tags, Token};
use quorate_core::seam::{BootClock, WallClock};
use quorate_core::session::{Claim, Open, Session};
use quorate_crypto::{Keyring, Secret};
use quorate_journal::disk::RealDisk;
use quorate_replica::{
    BatchVerifier, BoxStream, Handshake, KeyHolder, Listener, MadeOwnKey, Marks, Member, Net, OwnKey, OwnKeys,
    PeerExpectation, PeerHandler, PeerIdentity, ReadRecord, Replica, ReplicaConfig, SealCheck, World,
};
use tempfile::TempDir;

use self::identity::SoftIdentity;
use super::node::{OsEntropy, admin, soon};
use crate::desk::{Kms, KmsConfig};
use crate::records::{Records, RecordsConfig};
use crate::seal::peers::MacVerifier;

pub(crate) const CLUSTER: ClusterId = ClusterId([0xC1; 16]);
pub(crate) const LINEAGE: Lineage = Lineage([0x11; 16]);

/// A wall clock that the test moves.
pub(crate) struct TestWall(pub(crate) AtomicU64);
impl WallClock for TestWall {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A boot clock that the test moves, as it does the wall clock; milliseconds.
pub(crate) struct TestBoot(pub(crate) AtomicU64);
impl BootClock for TestBoot {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Right when a batch is proposed (by its origin, then by the leader), wrong when it is applied. Sessions are begun as ever.
pub(crate) struct Turning(AtomicU64, Arc<dyn KeyHolder>);
impl Turning {
    pub(crate) fn new(keys: Arc<dyn KeyHolder>) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(0), keys))
    }
}
impl BatchVerifier for Turning {
    fn verify(&self, _: &[u8], _: ReadRecord<'_>) -> std::io::Result<bool> {
        Ok(self.0.fetch_add(1, Ordering::SeqCst) < 2)
    }
    fn verify_open(&self, open: &Open, state: ReadRecord<'_>) -> std::io::Result<bool> {
        self.1.verify_open(open, state)
    }
}
impl KeyHolder for Turning {
    fn open(&self, session: Session) -> Open {
        self.1.open(session)
    }
    fn claim(&self, claim: &Claim) -> [u8; 64] {
        self.1.claim(claim)
    }
}

/// A node's own secret that is none.
struct PlainOwnKeys;
impl OwnKey for PlainOwnKeys {
    fn tag(&self, _: &[u8]) -> [u8; 16] {
        [0; 16]
    }
}
impl OwnKeys for PlainOwnKeys {
    fn make(&self) -> BoxFuture<'_, io::Result<MadeOwnKey>> {
        async { Ok((Vec::new(), Arc::new(Self) as Arc<dyn OwnKey>)) }.boxed()
    }
    fn open<'a>(&'a self, _: &'a [u8]) -> BoxFuture<'a, io::Result<Arc<dyn OwnKey>>> {
        async { Ok(Arc::new(Self) as Arc<dyn OwnKey>) }.boxed()
    }
}

/// A token that keeps nothing.
struct NoMarks;
impl Marks for NoMarks {
    fn read<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<Vec<u8>>>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn replace<'a>(&'a self, _: &'a str, _: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        async { Ok(()) }.boxed()
    }
}

/// This rig's genesis has no seal configuration: what its keyring made is what it takes.
struct OfKeyring(Arc<Keyring>);
impl SealCheck for OfKeyring {
    fn opens(&self, _: &[u8], open: &Open) -> bool {
        self.0.verify_open(open)
    }
    fn claims(&self, _: &[u8], _: &Claim, _: &[u8; 64]) -> bool {
        false
    }
    fn lists(&self, _: &[u8], _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
    fn levels(&self, _: &[u8], said: &[u8], signature: &[u8; 64]) -> bool {
        self.0.sign_level(said) == *signature
    }
    fn succeeds(&self, _: &[u8], _: &[u8]) -> bool {
        false
    }
}

/// Nobody else is there.
struct NoNet;
impl Net for NoNet {
    fn connect<'a>(&'a self, _: &'a str, _: &'a PeerExpectation) -> BoxFuture<'a, io::Result<BoxStream>> {
        async { Err(io::ErrorKind::ConnectionRefused.into()) }.boxed()
    }
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let listener: Box<dyn Listener> = Box::new(Silence(addr.to_owned()));
        async { Ok(listener) }.boxed()
    }
}
struct Silence(String);
impl Listener for Silence {
    fn local_addr(&self) -> String {
        self.0.clone()
    }
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Handshake>> {
        std::future::pending().boxed()
    }
}
struct NoPeers;
impl PeerHandler for NoPeers {
    fn hello(&self) -> Bytes {
        Bytes::new()
    }
    fn on_hello(&self, _: NodeId, _: Bytes) {}
    fn handle(&self, _: NodeId, _: u8, _: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        async { Err("nobody".into()) }.boxed()
    }
    fn join(&self, _: PeerIdentity, _: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        async { Err("nobody".into()) }.boxed()
    }
}

/// A founded, unsealed node and its desk.
pub(crate) struct Rig {
    pub(crate) kms: Arc<Kms>,
    pub(crate) replica: Replica,
    pub(crate) world: World,
    pub(crate) wall: Arc<TestWall>,
    pub(crate) boot: Arc<TestBoot>,
    pub(crate) keyring: Arc<Keyring>,
    _dir: TempDir,
}

impl Drop for Rig {
    /// The folder goes last: a journal that loses it ends the process.
    fn drop(&mut self) {
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| handle.block_on(self.replica.shutdown()));
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::speaking(LEVEL).await
    }

    /// Of a build that speaks this feature level.
    pub(crate) async fn speaking(highest: Level) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let wall = Arc::new(TestWall(AtomicU64::new(now)));
        let keyring = Arc::new(Keyring::generate(&Secret::from_array([5; 32]), &OsEntropy));
        let boot = Arc::new(TestBoot(AtomicU64::new(3_600_000)));
        let world = World {
            disk: Arc::new(RealDisk),
            net: Arc::new(NoNet),
            entropy: Arc::new(OsEntropy),
            wall: wall.clone(),
            seals: Arc::new(OfKeyring(keyring.clone())),
            own_keys: Arc::new(PlainOwnKeys),
            marks: Arc::new(NoMarks),
            identity: Arc::new(SoftIdentity::default()),
            boot_clock: boot.clone(),
            driver: quorate_journal::Driver::Process,
        };
        let mut config =
            ReplicaConfig::new(NodeId(1), "n1".into(), CLUSTER, dir.path().join("data"), "127.0.0.1:1".into());
        config.journal.segment_bytes = 4 << 20;
        config.journal.low_space_bytes = 0;
        config.levels.highest = highest;
        config.tick_interval = Duration::from_millis(500);
        let replica = Replica::create(config, world.clone(), Arc::new(NoPeers)).await.unwrap();
        let member = Member {
            name: "n1".into(),
            peer_addr: "127.0.0.1:1".into(),
            api_addr: "127.0.0.1:2".into(),
            identity_spki: vec![1; 91],
            kem_alg: 2,
            kem_spki: vec![2; 91],
            audit_spki: vec![3; 91],
        };
        let genesis = Genesis {
            lineage: LINEAGE,
            cluster: CLUSTER,
            time_ms: now,
            seal_config: vec![1],
            node_name: "n1".into(),
            envelope: vec![2],
            keyring: vec![3],
            level: Vec::new(),
        };
        replica.found(member, genesis, soon()).await.unwrap();
        let kms = Kms::open(desk(&replica, &world, &keyring, 0));
        let rig = Self { kms, replica, world, wall, boot, keyring, _dir: dir };
        rig.replica.set_keys(Some(rig.keys()));
        rig
    }

    /// The `n`th token of now, by the rig's clock.
    pub(crate) fn token(&self, n: u64) -> Token {
        Token(KeyId::new(self.wall.now_ms(), n, [0; 4]).0)
    }

    /// Another desk over the same state, with locks and a hot view of its own: as good as another node.
    pub(crate) fn other(&self) -> Arc<Kms> {
        self.with_clock(self.boot.clone())
    }

    pub(crate) fn with_clock(&self, boot_clock: Arc<dyn BootClock>) -> Arc<Kms> {
        let world = World { boot_clock, ..self.world.clone() };
        Kms::open(desk(&self.replica, &world, &self.keyring, 0))
    }

    /// Every record that is not a session's, as it is stored.
    pub(crate) fn records(&self) -> Vec<(RecordKey, Rev, Bytes)> {
        let view = self.replica.view().unwrap();
        (0..=u8::MAX)
            .filter_map(Table::from_byte)
            .filter(|table| *table != Table::Session)
            .flat_map(|table| view.scan(table, Bound::Unbounded, 100_000).unwrap())
            .collect()
    }

    pub(crate) fn keys(&self) -> Arc<dyn KeyHolder> {
        Arc::new(MacVerifier::new(self.keyring.clone(), LINEAGE, CLUSTER))
    }

    pub(crate) fn count(&self, table: Table) -> usize {
        self.replica.view().unwrap().scan(table, Bound::Unbounded, 100_000).unwrap().len()
    }

    pub(crate) async fn key(&self) -> KeyId {
        let wanted = Create {
            kind: NewKind::new(KeySpec::Aes256, None, None).unwrap(),
            alias: None,
            name: None,
            description: Default::default(),
            tags: Tags::default(),
            activation: None,
            purge_protected: false,
            source: Source::Fresh,
            exportable: Default::default(),
            tracked: true,
            token: None,
        };
        self.kms.create_key(&admin(), &wanted, soon()).await.unwrap().id
    }
}

pub(crate) fn desk(replica: &Replica, world: &World, keyring: &Arc<Keyring>, seal_epoch: Rev) -> KmsConfig {
    marked(replica, world, keyring, seal_epoch, false)
}

pub(crate) fn marked(
    replica: &Replica,
    world: &World,
    keyring: &Arc<Keyring>,
    seal_epoch: Rev,
    dev: bool,
) -> KmsConfig {
    let (replica, world, keyring) = (replica.clone(), world.clone(), keyring.clone());
    let (lineage, cluster, group) = (LINEAGE, CLUSTER, GroupId(0));
    let config = RecordsConfig { replica, world, keyring, lineage, cluster, group, dev, seal_epoch };
    KmsConfig {
        records: Arc::new(Records::new(config)),
        keyring_box: bytes::Bytes::from_static(&[3]),
        hot_bytes: 64 << 20,
        meter: Arc::new(()),
    }
}
