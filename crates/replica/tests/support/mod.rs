//! Replicas in one process over loopback: a network that can hang silently, clocks that can be wrong, batches with a
//! stand-in MAC. Test only: identities travel in clear.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "each test file uses a part of it; this is a seam's test half"
)]

pub mod disk;
pub mod identity;
pub mod net;
pub mod sim;
pub mod sim_net;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::BoxFuture;
use quorate_core::batch::{Batch, Expect, Genesis, Op, Outcome};
use quorate_core::id::{BatchId, ClusterId, Epoch, GroupId, Lineage, NodeId};
use quorate_core::level::{Level, Levels};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::seam::{BootClock, Entropy, WallClock};
use quorate_core::session::{Claim, Open, Session};
use quorate_core::time::ConfirmedTime;
use quorate_journal::Driver;
use quorate_replica::{
    BatchVerifier, CompactionConfig, Introduction, KeyHolder, MadeOwnKey, Marks, Member, MembershipError, NodeIdentity,
    OwnKey, OwnKeys, PeerHandler, PeerIdentity, Problem, ReadRecord, Replica, ReplicaConfig, Roster, SealCheck, World,
};
use tokio::time::Instant;

use disk::TestDisk;
use identity::SoftIdentity;
use net::{Switchboard, TestNet};

pub const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
pub const LINEAGE: Lineage = Lineage([0x11; 16]);
pub const SEAL_CONFIG: &[u8] = b"seal config";
/// Long enough for a loaded machine: nothing waits for it when things work.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

pub struct TestEntropy(AtomicU64);

impl Entropy for TestEntropy {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let n = self.0.fetch_add(1, Ordering::Relaxed);
            chunk.copy_from_slice(&blake3::hash(&n.to_be_bytes()).as_bytes()[..chunk.len()]);
        }
    }
}

/// The machine's clock, moved by what a test says.
#[derive(Default)]
pub struct TestWall(pub AtomicI64);

impl WallClock for TestWall {
    fn now_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        now.saturating_add_signed(self.0.load(Ordering::Relaxed))
    }
}

/// A clock that nobody sets, put forward by what a test says, milliseconds.
pub struct TestBoot {
    start: std::time::Instant,
    pub ahead_ms: AtomicU64,
}

impl Default for TestBoot {
    fn default() -> Self {
        Self { start: std::time::Instant::now(), ahead_ms: AtomicU64::new(0) }
    }
}

impl BootClock for TestBoot {
    fn now(&self) -> Duration {
        self.start.elapsed() + Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }
}

/// Records what the replica told its service.
pub struct TestService {
    name: String,
    pub hellos: Mutex<Vec<(NodeId, Bytes)>>,
    pub problems: Mutex<Vec<Problem>>,
}

impl PeerHandler for TestService {
    fn hello(&self) -> Bytes {
        Bytes::from(format!("hello from {}", self.name))
    }
    fn on_hello(&self, from: NodeId, app: Bytes) {
        self.hellos.lock().expect("lock").push((from, app));
    }
    fn handle(&self, from: NodeId, kind: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let name = self.name.clone();
        Box::pin(async move {
            match kind {
                0 => Err(format!("{name} refuses")),
                1 => std::future::pending().await,
                _ => Ok(Bytes::from(format!("{name} to {from}: {kind} {}", String::from_utf8_lossy(&body)))),
            }
        })
    }
    fn join(&self, from: PeerIdentity, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(
            async move { Ok(Bytes::from(format!("{} may join with {}", from.name, String::from_utf8_lossy(&body)))) },
        )
    }
    fn on_problem(&self, problem: &Problem) {
        self.problems.lock().expect("lock").push(problem.clone());
    }
}

/// A MAC that anyone who has read this file can make: its place in the protocol is tested, not its strength.
pub fn mac(bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&[7; 32], bytes).as_bytes()
}

/// Signatures and MACs that anyone who has read this file can make.
pub struct TestKeys;

impl BatchVerifier for TestKeys {
    fn verify(&self, batch: &[u8], _: ReadRecord<'_>) -> std::io::Result<bool> {
        let (body, tag) = batch.split_at(batch.len() - 32);
        Ok(tag == mac(body))
    }
    fn verify_open(&self, open: &Open, _: ReadRecord<'_>) -> std::io::Result<bool> {
        Ok(open.mac == mac(&open.head()))
    }
}

impl KeyHolder for TestKeys {
    fn open(&self, session: Session) -> Open {
        open(session)
    }
    fn claim(&self, claim: &Claim) -> [u8; 64] {
        signature(&claim.encode())
    }
}

/// A stand-in for what the anchor key signs.
pub fn signature(message: &[u8]) -> [u8; 64] {
    [mac(message), mac(message)].concat().try_into().expect("64 bytes")
}

pub fn roster_signature(list: &[u8]) -> [u8; 64] {
    signature(&[b"roster", list].concat())
}

pub fn level_signature(said: &[u8]) -> [u8; 64] {
    signature(&[b"level", said].concat())
}

pub fn open(session: Session) -> Open {
    let (group, epoch) = (GroupId(0), Epoch(1));
    let mut open = Open { lineage: LINEAGE, cluster: CLUSTER, group, epoch, session, signature: [0; 64], mac: [0; 32] };
    (open.signature, open.mac) = (signature(&open.head()), mac(&open.head()));
    open
}

/// A node's own secret: the box is open.
pub struct TestOwnKeys;

struct TestOwnKey(Vec<u8>);

impl OwnKey for TestOwnKey {
    fn tag(&self, word: &[u8]) -> [u8; 16] {
        mac(&[&self.0, word].concat())[..16].try_into().expect("16 bytes")
    }
}

impl OwnKeys for TestOwnKeys {
    fn make(&self) -> BoxFuture<'_, std::io::Result<MadeOwnKey>> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let boxed = MADE.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec();
        Box::pin(async move { Ok((boxed.clone(), Arc::new(TestOwnKey(boxed)) as Arc<dyn OwnKey>)) })
    }
    fn open<'a>(&'a self, boxed: &'a [u8]) -> BoxFuture<'a, std::io::Result<Arc<dyn OwnKey>>> {
        Box::pin(async move { Ok(Arc::new(TestOwnKey(boxed.to_vec())) as Arc<dyn OwnKey>) })
    }
}

/// What a node's token keeps: it outlives the node's folder.
#[derive(Default)]
pub struct TestToken {
    pub objects: Mutex<BTreeMap<String, Vec<Vec<u8>>>>,
    /// It keeps nothing, as some do.
    pub refuses: AtomicBool,
}

impl TestToken {
    fn with<T>(
        &self,
        f: impl FnOnce(&mut BTreeMap<String, Vec<Vec<u8>>>) -> T,
    ) -> BoxFuture<'static, std::io::Result<T>>
    where
        T: Send + 'static,
    {
        let answer = match self.refuses.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("CKR_FUNCTION_NOT_SUPPORTED")),
            false => Ok(f(&mut self.objects.lock().expect("lock"))),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Marks for TestToken {
    fn read<'a>(&'a self, label: &'a str) -> BoxFuture<'a, std::io::Result<Vec<Vec<u8>>>> {
        self.with(|objects| objects.get(label).cloned().unwrap_or_default())
    }
    fn replace<'a>(&'a self, label: &'a str, value: &'a [u8]) -> BoxFuture<'a, std::io::Result<()>> {
        self.with(|objects| drop(objects.insert(label.to_owned(), vec![value.to_vec()])))
    }
}

/// Checks them.
pub struct TestSeals;

impl SealCheck for TestSeals {
    fn opens(&self, seal_config: &[u8], open: &Open) -> bool {
        seal_config == SEAL_CONFIG && open.signature == signature(&open.head())
    }
    fn claims(&self, seal_config: &[u8], claim: &Claim, told: &[u8; 64]) -> bool {
        seal_config == SEAL_CONFIG && *told == signature(&claim.encode())
    }
    fn lists(&self, seal_config: &[u8], list: &[u8], told: &[u8; 64]) -> bool {
        seal_config == SEAL_CONFIG && *told == roster_signature(list)
    }
    fn levels(&self, seal_config: &[u8], said: &[u8], told: &[u8; 64]) -> bool {
        seal_config == SEAL_CONFIG && *told == level_signature(said)
    }
    fn succeeds(&self, _: &[u8], _: &[u8]) -> bool {
        false
    }
}

/// One that a hostile member wrote for itself: it takes every batch, and is taken for sealed by who asks for its claim.
pub struct Forger;

impl BatchVerifier for Forger {
    fn verify(&self, _: &[u8], _: ReadRecord<'_>) -> std::io::Result<bool> {
        Ok(true)
    }
    fn verify_open(&self, _: &Open, _: ReadRecord<'_>) -> std::io::Result<bool> {
        Ok(true)
    }
}

impl KeyHolder for Forger {
    fn open(&self, session: Session) -> Open {
        Open { signature: [1; 64], ..open(session) }
    }
    fn claim(&self, _: &Claim) -> [u8; 64] {
        [1; 64]
    }
}

pub fn key(name: &str) -> RecordKey {
    RecordKey::new(Table::Name, *blake3::hash(name.as_bytes()).as_bytes())
}

/// A batch that puts `value` under `name`, last seen at `rev`.
pub fn put(id: BatchId, name: &str, rev: u64, value: &[u8]) -> Bytes {
    put_at(id, key(name), rev, value)
}

/// A batch by which an operator confirms that it is so late, for the first time.
pub fn confirm(id: BatchId, time_ms: u64) -> Bytes {
    put_at(id, RecordKey::clock(), 0, &ConfirmedTime { time_ms, by: "admin/root".into() }.encode())
}

pub fn put_at(id: BatchId, key: RecordKey, rev: u64, value: &[u8]) -> Bytes {
    put_all(id, vec![Op::Put(key, value.to_vec())], rev)
}

/// A batch of these, in any order, of records last seen at `rev`.
pub fn put_all(id: BatchId, mut ops: Vec<Op>, rev: u64) -> Bytes {
    ops.sort_by(|a, b| a.key().cmp(b.key()));
    let batch = Batch {
        lineage: LINEAGE,
        cluster: CLUSTER,
        group: GroupId(0),
        epoch: Epoch(1),
        id,
        stamp_ms: 0,
        audit: [0; 32],
        expects: ops.iter().map(|op| Expect { key: op.key().clone(), rev }).collect(),
        ops,
    };
    let mut bytes = batch.encode().expect("a valid batch");
    let tag = mac(&bytes);
    bytes.extend_from_slice(&tag);
    bytes.into()
}

/// The same with a MAC that does not hold.
pub fn forged(id: BatchId, name: &str) -> Bytes {
    let mut bytes = put(id, name, 0, b"forged").to_vec();
    *bytes.last_mut().expect("a MAC") ^= 1;
    bytes.into()
}

/// One node of a test: what survives its restarts.
pub struct Site {
    pub id: NodeId,
    pub name: String,
    pub identity: Arc<SoftIdentity>,
    pub spki: Vec<u8>,
    pub dir: PathBuf,
    pub disk: Arc<TestDisk>,
    pub board: Arc<Switchboard>,
    pub wall: Arc<TestWall>,
    /// Goes on over restarts, as a real one does.
    pub entropy: Arc<TestEntropy>,
    pub boot: Arc<TestBoot>,
    pub service: Arc<TestService>,
    pub token: Arc<TestToken>,
    /// Changes what the next start is told.
    pub compaction: Mutex<CompactionConfig>,
    /// Likewise.
    pub listening: Mutex<Duration>,
    /// Likewise: what a newer or an older build works at.
    pub levels: Mutex<Levels>,
    addr: Mutex<String>,
}

impl Site {
    pub fn world(&self) -> World {
        World {
            disk: self.disk.clone(),
            net: Arc::new(TestNet::new(self.board.clone(), &self.name, CLUSTER, &self.spki)),
            entropy: self.entropy.clone(),
            wall: self.wall.clone(),
            seals: Arc::new(TestSeals),
            own_keys: Arc::new(TestOwnKeys),
            marks: self.token.clone(),
            identity: self.identity.clone(),
            boot_clock: self.boot.clone(),
            driver: Driver::Process,
        }
    }

    pub fn config(&self) -> ReplicaConfig {
        let addr = self.addr.lock().expect("lock").clone();
        let mut cfg = ReplicaConfig::new(self.id, self.name.clone(), CLUSTER, self.dir.clone(), addr);
        cfg.compaction = *self.compaction.lock().expect("lock");
        // Small segments go sooner.
        cfg.journal.segment_bytes =
            if cfg.compaction.keep_bytes.is_some_and(|keep| keep < 1 << 20) { 256 << 10 } else { 4 << 20 };
        cfg.journal.low_space_bytes = 0;
        cfg.cache_bytes = 4 << 20;
        cfg.listening = *self.listening.lock().expect("lock");
        cfg.levels = *self.levels.lock().expect("lock");
        // Beside everything that is tested.
        cfg.scrub_interval = Duration::from_millis(300);
        cfg
    }

    /// From the next start on it speaks this level.
    pub fn speak(&self, highest: u32) {
        self.levels.lock().expect("lock").highest = Level(highest);
    }

    pub fn member(&self) -> Member {
        Member {
            name: self.name.clone(),
            peer_addr: self.addr.lock().expect("lock").clone(),
            api_addr: "127.0.0.1:1".into(),
            identity_spki: self.spki.clone(),
            kem_alg: 2,
            kem_spki: vec![1; 91],
            audit_spki: vec![2; 91],
        }
    }

    pub async fn create(&self, introduction: Option<Introduction>) -> Replica {
        let cfg = ReplicaConfig { introduction, ..self.config() };
        let replica = Replica::create(cfg, self.world(), self.service.clone()).await.expect("created");
        *self.addr.lock().expect("lock") = replica.peer_addr();
        replica.set_keys(Some(Arc::new(TestKeys)));
        replica
    }

    pub async fn open(&self) -> Replica {
        let replica = Replica::open(self.config(), self.world(), self.service.clone()).await.expect("opened");
        replica.set_keys(Some(Arc::new(TestKeys)));
        replica
    }
}

/// Some sites, and the replicas that run there.
pub struct Cluster {
    pub sites: Vec<Site>,
    pub nodes: Vec<Replica>,
    pub board: Arc<Switchboard>,
    _dir: tempfile::TempDir,
}

pub fn genesis(name: &str, time_ms: u64) -> Genesis {
    Genesis {
        lineage: LINEAGE,
        cluster: CLUSTER,
        time_ms,
        seal_config: SEAL_CONFIG.to_vec(),
        node_name: name.into(),
        envelope: b"envelope".to_vec(),
        keyring: b"keyring".to_vec(),
        level: Vec::new(),
    }
}

/// `RUST_LOG=…` shows the replicas' log lines in a test's output.
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

impl Cluster {
    /// Sites 1 to `n`; nothing runs yet.
    pub fn sites(n: u64) -> Self {
        log();
        let dir = tempfile::tempdir().expect("a folder");
        let board = Arc::new(Switchboard::default());
        let sites = (1..=n)
            .map(|i| (i, Arc::new(SoftIdentity::default())))
            .map(|(i, identity)| Site {
                id: NodeId(i),
                name: format!("n{i}"),
                spki: identity.public_key(),
                identity,
                dir: dir.path().join(format!("n{i}")),
                disk: Arc::default(),
                board: board.clone(),
                wall: Arc::default(),
                entropy: Arc::new(TestEntropy(AtomicU64::new(i << 32))),
                boot: Arc::default(),
                service: Arc::new(TestService {
                    name: format!("n{i}"),
                    hellos: Mutex::default(),
                    problems: Mutex::default(),
                }),
                token: Arc::default(),
                compaction: Mutex::default(),
                listening: Mutex::default(),
                levels: Mutex::default(),
                addr: Mutex::new("127.0.0.1:0".into()),
            })
            .collect();
        Self { sites, nodes: Vec::new(), board, _dir: dir }
    }

    /// One founded voter.
    pub async fn founded(sites: u64) -> Self {
        Self::sites(sites).found().await
    }

    async fn found(self) -> Self {
        let mut cluster = self;
        let first = cluster.sites[0].create(None).await;
        let now = cluster.sites[0].wall.now_ms();
        first.found(cluster.sites[0].member(), genesis("n1", now), soon()).await.expect("founded");
        cluster.nodes.push(first);
        cluster
    }

    /// Adds the next site as a learner, the way a join does.
    pub async fn add(&mut self) -> NodeId {
        let site = &self.sites[self.nodes.len()];
        // Its address is known once it listens, so it is introduced to the roster before the one that it is in.
        let replica = site.create(Some(introduction(&self.nodes[0]).await)).await;
        let member = site.member();
        change_roster(&self.nodes[0], |now| now.with(site.id, &member)).await.expect("added");
        self.nodes.push(replica);
        site.id
    }

    /// `n` voters: one founds, the others join and are promoted at once.
    pub async fn voters(n: u64) -> Self {
        Self::sites(n).start(n).await
    }

    /// `n` voters on the first sites.
    pub async fn start(self, n: u64) -> Self {
        let mut cluster = self.found().await;
        let mut learners = Vec::new();
        for _ in 1..n {
            learners.push(cluster.add().await);
        }
        if !learners.is_empty() {
            promote(&cluster.nodes[0], learners, n == 2).await.expect("promoted");
        }
        cluster
    }

    /// The leader that all of `among` agree on, as a place in `nodes`.
    pub async fn leader(&self, among: &[usize]) -> usize {
        let agreed = async {
            loop {
                let mut watches: Vec<_> = among.iter().map(|i| self.nodes[*i].leader()).collect();
                let leaders: Vec<_> = watches.iter_mut().map(|w| *w.borrow_and_update()).collect();
                let place = |id: NodeId| self.sites.iter().position(|s| s.id == id);
                if let Some(place) = leaders[0].filter(|l| leaders.iter().all(|o| o == &Some(*l))).and_then(place)
                    && among.contains(&place)
                {
                    return place;
                }
                let changes = watches.iter_mut().map(|w| Box::pin(w.changed()));
                let _ = futures::future::select_all(changes).await;
            }
        };
        tokio::time::timeout(PATIENCE, agreed).await.expect("a leader")
    }

    /// Puts a value through a node, as its service would: read index, view, decide, propose; again on a conflict.
    pub async fn write(&self, node: usize, name: &str, value: &[u8]) -> u64 {
        write(&self.nodes[node], name, value).await.expect("written")
    }

    /// Reads through a node.
    pub async fn read(&self, node: usize, name: &str) -> Option<(u64, Bytes)> {
        self.nodes[node].read_index(soon()).await.expect("a read index");
        self.nodes[node].view().expect("a view").get(&key(name)).expect("readable")
    }

    pub async fn stop(&self) {
        futures::future::join_all(self.nodes.iter().map(Replica::shutdown)).await;
    }
}

/// What a joining node is told: the newest roster; the first one is written for it, if there is none.
pub async fn introduction(by: &Replica) -> Introduction {
    change_roster(by, |now| Ok(now.first())).await.expect("a roster");
    let (_, roster) = by.view().expect("a view").roster().expect("readable").expect("one");
    Introduction { seal_config: SEAL_CONFIG.to_vec(), roster }
}

/// As the service changes members: first the roster, by a batch, then the entries.
pub async fn change_roster(
    node: &Replica,
    change: impl Fn(&Roster) -> Result<Option<Roster>, String>,
) -> Result<u64, MembershipError> {
    let failed = |e: &dyn std::fmt::Display| MembershipError::Unavailable(e.to_string());
    for _ in 0..8 {
        node.read_index(soon()).await.map_err(|e| failed(&e))?;
        let view = node.view().map_err(|e| failed(&e))?;
        let (rev, now) = match view.roster().map_err(|e| failed(&e))? {
            Some((rev, signed)) => (rev, signed.roster().clone()),
            None => (0, Roster::before_the_first(CLUSTER, GroupId(0), view.membership())),
        };
        let Some(next) = change(&now).map_err(MembershipError::Refused)? else {
            return node.carry_out(now.serial, soon()).await;
        };
        let seq = node.open_seq(soon()).await.map_err(|e| failed(&e))?;
        let batch = put_at(seq.id(), RecordKey::roster(), rev, &next.signed(roster_signature));
        match node.propose(batch, soon()).await.map_err(|e| failed(&e))? {
            Outcome::Applied(_) => return node.carry_out(next.serial, soon()).await,
            Outcome::Conflict { .. } => {}
            other => return Err(failed(&format!("{other:?}"))),
        }
    }
    Err(failed(&"contended"))
}

pub async fn promote(by: &Replica, ids: Vec<NodeId>, force: bool) -> Result<u64, MembershipError> {
    by.may_promote(ids.clone(), soon()).await?;
    change_roster(by, |now| now.promoting(&ids, force)).await
}

pub async fn remove(by: &Replica, id: NodeId) -> Result<u64, MembershipError> {
    by.may_remove(id, soon()).await?;
    change_roster(by, |now| now.demoting(id)).await?;
    change_roster(by, |now| now.without(id)).await
}

/// What a node finds wrong with itself, once it does.
pub async fn problem(node: &Replica) -> Problem {
    let mut changed = node.watch();
    let found = async {
        loop {
            if let Some(problem) = node.problem() {
                return problem;
            }
            changed.changed().await.expect("running");
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it finds out")
}

/// Copies a folder with all that is in it: of a running node, what a process that is killed right now leaves behind.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("readable");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("known").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

pub async fn write(node: &Replica, name: &str, value: &[u8]) -> Result<u64, String> {
    for _ in 0..8 {
        node.read_index(soon()).await.map_err(|e| e.to_string())?;
        let view = node.view().map_err(|e| e.to_string())?;
        let rev = view.get(&key(name)).map_err(|e| e.to_string())?.map_or(0, |(rev, _)| rev);
        let seq = node.open_seq(soon()).await.map_err(|e| e.to_string())?;
        match node.propose(put(seq.id(), name, rev, value), soon()).await.map_err(|e| e.to_string())? {
            Outcome::Applied(index) => return Ok(index),
            Outcome::Conflict { .. } => {}
            other => return Err(format!("{other:?}")),
        }
    }
    Err("contended".into())
}

/// Waits for a condition that nothing announces.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
