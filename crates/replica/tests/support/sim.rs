//! Replicas on one thread, with a disk, a network, clocks and random numbers that a seed repeats.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use quorate_core::id::NodeId;
use quorate_core::seam::{BootClock, Entropy, WallClock};
use quorate_journal::Driver;
use quorate_journal::testing::{Rng, SimDisk};
use quorate_replica::{
    CompactionConfig, Introduction, Member, NodeIdentity, PeerIdentity, Replica, ReplicaConfig, World,
};
use tokio::time::Instant;

use super::identity::SoftIdentity;
use super::sim_net::{SimBoard, SimNet};
use super::{
    CLUSTER, TestKeys, TestOwnKeys, TestSeals, TestService, TestToken, change_roster, genesis, introduction, promote,
    soon,
};

/// Random bytes of a seed.
pub struct SimEntropy(Mutex<Rng>);

impl Entropy for SimEntropy {
    fn fill(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.0.lock().expect("lock").bytes(out.len()));
    }
}

/// Both clocks of a machine, by the runtime's time.
pub struct SimClock(Instant);

impl BootClock for SimClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl WallClock for SimClock {
    fn now_ms(&self) -> u64 {
        1_800_000_000_000 + self.0.elapsed().as_millis() as u64
    }
}

/// The same one each time.
fn identity(secret: [u8; 32]) -> SoftIdentity {
    // RFC 5915: version, secret, the curve P-256.
    let head = [0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
    let curve = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let der = [&head[..], &secret, &curve].concat();
    SoftIdentity(EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).expect("a key"))
}

/// One machine: what survives the processes on it.
pub struct SimSite {
    id: NodeId,
    name: String,
    identity: Arc<SoftIdentity>,
    pub disk: SimDisk,
    board: Arc<SimBoard>,
    clock: Arc<SimClock>,
    entropy: Arc<SimEntropy>,
    token: Arc<TestToken>,
}

/// So many machines, as a seed has them.
pub fn sites(seed: u64, count: u8) -> Vec<SimSite> {
    super::log();
    let mut rng = Rng(seed);
    let (board, seed) = (Arc::new(SimBoard::new(rng.next_u64())), rng.next_u64());
    (1..=count).map(|id| SimSite::new(id, &board, seed)).collect()
}

/// Their first processes, all of them voters.
pub async fn voters(sites: &[SimSite]) -> Vec<SimNode> {
    let mut nodes = vec![sites[0].start(true, None).await];
    let founder = nodes[0].replica.clone();
    founder.found(sites[0].member(), genesis("n1", sites[0].clock.now_ms()), soon()).await.expect("founded");
    for site in &sites[1..] {
        nodes.push(site.start(true, Some(introduction(&founder).await)).await);
        change_roster(&founder, |now| now.with(site.id, &site.member())).await.expect("added");
    }
    promote(&founder, sites[1..].iter().map(|site| site.id).collect(), false).await.expect("promoted");
    nodes
}

/// A running process.
pub struct SimNode {
    pub replica: Replica,
    net: Arc<SimNet>,
    ended: Ended,
}

/// Why a process was told to end, each time that it was.
pub type Ended = Arc<Mutex<Vec<String>>>;

impl SimSite {
    fn new(id: u8, board: &Arc<SimBoard>, seed: u64) -> Self {
        Self {
            id: NodeId(id.into()),
            name: format!("n{id}"),
            identity: Arc::new(identity([id; 32])),
            disk: SimDisk::default(),
            board: board.clone(),
            clock: Arc::new(SimClock(Instant::now())),
            entropy: Arc::new(SimEntropy(Mutex::new(Rng(seed ^ u64::from(id))))),
            token: Arc::default(),
        }
    }

    fn addr(&self) -> String {
        format!("{}:7601", self.name)
    }

    fn member(&self) -> Member {
        Member {
            name: self.name.clone(),
            peer_addr: self.addr(),
            api_addr: format!("{}:7600", self.name),
            identity_spki: self.identity.public_key(),
            kem_alg: 2,
            kem_spki: vec![1; 91],
            audit_spki: vec![2; 91],
        }
    }

    /// Starts a process: the first one, which makes the node, or another.
    pub async fn start(&self, first: bool, introduction: Option<Introduction>) -> SimNode {
        let me = PeerIdentity { name: self.name.clone(), cluster: CLUSTER, identity_spki: self.identity.public_key() };
        let net = Arc::new(SimNet::new(self.board.clone(), me));
        let ended = Ended::default();
        let told = ended.clone();
        let world = World {
            disk: Arc::new(self.disk.clone()),
            net: net.clone(),
            entropy: self.entropy.clone(),
            wall: self.clock.clone(),
            seals: Arc::new(TestSeals),
            own_keys: Arc::new(TestOwnKeys),
            marks: self.token.clone(),
            identity: self.identity.clone(),
            boot_clock: self.clock.clone(),
            driver: Driver::Simulation(Arc::new(move |e| told.lock().expect("lock").push(e.to_string()))),
        };
        let dir = PathBuf::from("/").join(&self.name);
        let mut cfg = ReplicaConfig::new(self.id, self.name.clone(), CLUSTER, dir, self.addr());
        cfg.introduction = introduction;
        // Small, so that much happens in a short while.
        cfg.journal.segment_bytes = 256 << 10;
        cfg.journal.low_space_bytes = 0;
        cfg.cache_bytes = 4 << 20;
        cfg.compaction = CompactionConfig {
            keep_bytes: Some(16 << 10),
            step_bytes: 32 << 10,
            interval: Duration::from_millis(500),
            stream_bytes: 1 << 30,
        };
        cfg.scrub_interval = Duration::from_millis(700);
        let service = TestService { name: self.name.clone(), hellos: Mutex::default(), problems: Mutex::default() };
        let replica = match first {
            true => Replica::create(cfg, world, Arc::new(service)).await,
            false => Replica::open(cfg, world, Arc::new(service)).await,
        };
        let replica = replica.unwrap_or_else(|e| panic!("{} does not start: {e}", self.name));
        replica.set_keys(Some(Arc::new(TestKeys)));
        SimNode { replica, net, ended }
    }

    /// Ends the process in order.
    pub async fn stop(&self, node: SimNode) {
        node.replica.shutdown().await;
        self.board.end(&node.net);
    }

    /// The machine loses power, and what was not synced with it, or some of it. What still runs of the process finds its disk gone:
    /// it is told to end.
    pub fn cut_power(&self, node: SimNode, rng: &mut Rng) -> Ended {
        self.board.end(&node.net);
        self.disk.reboot(rng);
        node.ended
    }

    /// Cuts its network, or mends it.
    pub fn cut_off(&self, cut_off: bool) {
        self.board.cut_off(&self.name, cut_off);
    }
}
