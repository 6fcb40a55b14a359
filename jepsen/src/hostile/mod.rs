//! A hostile member: a program that joins the nodes' own port with a member's certificate and the key in its token, while that
//! member's process is stopped, and brings to every door what its node never would. It says of each door whether it was open.

pub mod doors;
mod listener;
mod old_state;
mod wire;

/// Generated from the product's own description of the protocol.
#[allow(missing_docs, clippy::all)]
pub(crate) mod pb {
    tonic::include_proto!("quorate.peer.v1");
}

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper_util::rt::TokioIo;
use quorate_core::id::{ClusterId, Name, NodeId};
use quorate_hsm::{Hsm, HsmConfig, KeySelection, Pin, TokenProfile};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::BinaryMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use zeroize::Zeroizing;

use self::doors::{Door, Knock, STRANGER};
use self::listener::Claims;
use self::old_state::OldState;
use self::pb::peer_client::PeerClient;
use self::wire::{Purpose, Stamp, Wire};

/// The metadata key of the stamp.
const STAMP_KEY: &str = "quorate-peer-bin";
/// A call takes no longer.
const CALL_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two doors.
const PAUSE: Duration = Duration::from_millis(150);
/// So long it asks everybody once, before anything else.
const ACQUAINTANCE_TIME: Duration = Duration::from_secs(5);
/// What was said takes effect within this time, if at all.
const EFFECT_TIME: Duration = Duration::from_millis(50);

/// Whom it plays, and whom it attacks.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The member's folder
    #[arg(long)]
    pub folder: PathBuf,
    /// The member's id
    #[arg(long)]
    pub me: u64,
    /// The cluster
    #[arg(long)]
    pub cluster: String,
    /// Another member: its id, name and address, as `2=n2@10.0.0.2:7601`
    #[arg(long = "peer", value_parser = peer, required = true)]
    pub peers: Vec<Peer>,
    /// What to try
    #[arg(long = "door", value_enum, value_delimiter = ',', required = true)]
    pub doors: Vec<Door>,
}

/// A member that is attacked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where its port for nodes is.
    pub addr: SocketAddr,
}

impl Peer {
    /// As [`Args`] reads it.
    pub fn arg(&self) -> String {
        format!("{}={}@{}", self.id, self.name, self.addr)
    }
}

fn peer(text: &str) -> Result<Peer, String> {
    let parts = || {
        let (id, rest) = text.split_once('=')?;
        let (name, addr) = rest.split_once('@')?;
        Some(Peer { id: id.parse().ok()?, name: name.to_owned(), addr: addr.parse().ok()? })
    };
    parts().ok_or_else(|| "expected ID=NAME@ADDRESS:PORT".into())
}

/// Attacks until its standard input ends; each answer is a line of JSON.
///
/// # Errors
/// The member's token, key or address can't be had.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::read(&args.folder)?;
    // First: the module finds its token by it.
    quorate_hsm::set_environment(&config.hsm.environment)?;
    let cluster: ClusterId = args.cluster.parse().context("the cluster's id")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (wire, _hsm) = config.open()?;
        let me = NodeId(args.me);
        let has = |door| args.doors.contains(&door);
        let scratch = args.folder.join("impostor-state");
        let state = has(Door::Snapshot).then(|| OldState::read(&config.data, &scratch)).transpose()?;
        let member = Member { me, cluster, wire, claims: Claims::new(me, has(Door::Answer)), state };
        tokio::select! {
            done = member.attack(config.listen, &args.peers, &args.doors) => done,
            _ = end_of_input() => Ok(()),
        }
    })
}

async fn end_of_input() {
    let mut input = tokio::io::stdin();
    while input.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
}

/// What of the member's configuration is needed.
struct Config {
    name: Name,
    listen: SocketAddr,
    data: PathBuf,
    certificate: Vec<u8>,
    pin: PathBuf,
    hsm: HsmConfig,
}

impl Config {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("node.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let table: toml::Table = toml::from_str(&text)?;
        let of = |table: &toml::Table, field: &str| -> anyhow::Result<String> {
            let value = table.get(field).and_then(toml::Value::as_str);
            value.map(str::to_owned).with_context(|| format!("{} has no {field}", path.display()))
        };
        let part = |field: &str| table[field].as_table().with_context(|| format!("no {field}"));
        let hsm = part("hsm")?;
        let environment = hsm["environment"].as_table().context("no environment")?;
        let environment: BTreeMap<String, String> =
            environment.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        Ok(Self {
            name: of(&table, "name")?.parse().context("the name")?,
            listen: of(part("peer")?, "listen")?.parse()?,
            data: of(&table, "data_dir")?.into(),
            certificate: std::fs::read(of(part("tls")?, "cert")?)?,
            pin: of(hsm, "pin_file")?.into(),
            hsm: HsmConfig {
                module: of(hsm, "module")?.into(),
                token_label: of(hsm, "token_label")?,
                environment,
                profile: TokenProfile::SoftHsm,
                deadline: HsmConfig::DEADLINE,
            },
        })
    }

    /// As the node itself does.
    fn open(&self) -> anyhow::Result<(Wire, Hsm)> {
        let pin = Pin::new(Zeroizing::new(std::fs::read(&self.pin)?)).context("no PIN")?;
        let hsm = Hsm::open(&self.hsm, pin)?;
        hsm.load_node_keys(&self.name, &KeySelection::default(), None)?;
        Ok((Wire::new(&self.certificate, hsm.rustls_signing_key()?)?, hsm))
    }
}

struct Member {
    me: NodeId,
    cluster: ClusterId,
    wire: Wire,
    claims: Arc<Claims>,
    /// Its own, from before; when it is to be sent.
    state: Option<OldState>,
}

/// Puts the stamp on each call.
#[derive(Clone)]
struct Stamped(BinaryMetadataValue);

impl tonic::service::Interceptor for Stamped {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert_bin(STAMP_KEY, self.0.clone());
        Ok(request)
    }
}

type Calls = PeerClient<InterceptedService<Channel, Stamped>>;

impl Member {
    /// Every door of every peer, again and again.
    async fn attack(&self, listen: SocketAddr, peers: &[Peer], doors: &[Door]) -> anyhow::Result<()> {
        let mut calls: Vec<(&Peer, Calls)> =
            peers.iter().map(|peer| (peer, self.calls(peer, Purpose::Control))).collect();
        // Whatever the member was granted, it was before now, and the others know of it.
        let end = Instant::now() + ACQUAINTANCE_TIME;
        for (_, calls) in &mut calls {
            while self.hello(calls, pb::HelloMessage::default()).await.is_err() && Instant::now() < end {
                sleep(PAUSE).await;
            }
        }
        let granted = self.claims.known();
        listener::serve(listen, self.wire.clone(), self.claims.clone()).await?;
        loop {
            for door in doors.iter().copied() {
                for (peer, calls) in &calls {
                    if let Ok(knock) = self.knock(door, peer, calls.clone(), granted).await {
                        println!("{}", serde_json::to_string(&knock)?);
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn calls(&self, peer: &Peer, purpose: Purpose) -> Calls {
        let stamp = Stamp { cluster: self.cluster, from: self.me, to: NodeId(peer.id) };
        let (wire, addr) = (self.wire.clone(), peer.addr);
        let connector = tower::service_fn(move |_| {
            let wire = wire.clone();
            async move { wire.connect(addr, stamp, purpose).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://peer.quorate").connect_with_connector_lazy(connector);
        PeerClient::with_interceptor(channel, Stamped(BinaryMetadataValue::from_bytes(&stamp.encode())))
    }

    /// What a peer says of itself.
    async fn hello(&self, calls: &mut Calls, mut message: pb::HelloMessage) -> anyhow::Result<pb::HelloMessage> {
        message.wall_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as u64;
        let said = timeout(CALL_TIME_MAX, calls.hello(message)).await??.into_inner();
        self.claims.learn(said.vote.map_or(0, |vote| vote.term));
        Ok(said)
    }

    /// One door; an error when nobody answered there, which says nothing. In terms after `granted` the member was granted nothing.
    async fn knock(&self, door: Door, peer: &Peer, mut calls: Calls, granted: u64) -> anyhow::Result<Knock> {
        // Who knows no roster is told the newest.
        let before = match self.hello(&mut calls, pb::HelloMessage::default()).await {
            // It may have been removed meanwhile.
            Err(_) if door == Door::Told => return self.come_as(STRANGER, door, peer).await,
            before => before?,
        };
        let claim = self.claims.claim();
        let (mut open, mut said) = match door {
            Door::Append => {
                let answer =
                    answer(self.calls(peer, Purpose::Log).append(doors::append(claim, before.last_log_id))).await?;
                (answer.as_ref().is_ok_and(doors::took), told(&answer))
            }
            Door::Ballot => {
                let answer = answer(calls.vote(doors::ballot(claim))).await?;
                (answer.as_ref().is_ok_and(|a| a.granted), told(&answer))
            }
            Door::Transfer => {
                // No log is too short for it.
                let request = pb::TransferLeaderRequest { from_leader: Some(claim), to: peer.id, last_log_id: None };
                let answer = answer(calls.transfer_leader(request)).await?;
                (answer.as_ref().is_ok_and(|a| a.refused.is_empty()), told(&answer))
            }
            Door::Snapshot => {
                let state = self.state.as_ref().context("no state")?;
                let last = before.last_log_id.map_or(0, |id| id.index);
                let parts = tokio_stream::iter(state.stream(claim, last));
                let answer = answer(self.calls(peer, Purpose::Snapshot).install_snapshot(parts)).await?;
                (answer.as_ref().is_ok_and(|a| !doors::outbids(a.vote, claim)), told(&answer))
            }
            // What it has answered by itself meanwhile.
            Door::Answer => match self.claims.answered() {
                0 => bail!("nobody asked"),
                count => (false, format!("{count} answers")),
            },
            Door::Told => {
                if let Some(roster) = doors::told(&before.roster, self.me) {
                    let message = pb::HelloMessage { roster: roster.into(), ..pb::HelloMessage::default() };
                    self.hello(&mut calls, message).await?;
                }
                return self.come_as(STRANGER, door, peer).await;
            }
            Door::Word => {
                let about = vec![doors::word(NodeId(peer.id))];
                let after = self.hello(&mut calls, pb::HelloMessage { about, ..pb::HelloMessage::default() }).await?;
                (doors::is_lost_since(&before, &after), format!("stands at {}", after.standing))
            }
        };
        sleep(EFFECT_TIME).await;
        let after = self.hello(&mut calls, pb::HelloMessage::default()).await;
        let vote = after.ok().and_then(|hello| hello.vote);
        // What it believed before was told at another door, or in an answer.
        let is_news = door == Door::Answer || vote != before.vote;
        if is_news && doors::believes(vote, granted, self.me) {
            open = true;
            said = format!("{said}; believes {vote:?}");
        }
        Ok(Knock { door, at: peer.name.clone(), open, said })
    }

    /// A connection under another id.
    async fn come_as(&self, other: NodeId, door: Door, peer: &Peer) -> anyhow::Result<Knock> {
        let stamp = Stamp { cluster: self.cluster, from: other, to: NodeId(peer.id) };
        let (open, said) = match timeout(CALL_TIME_MAX, self.wire.connect(peer.addr, stamp, Purpose::Control)).await? {
            Ok(_) => (true, format!("welcomes node {other}")),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => (false, e.to_string()),
            Err(e) => return Err(e.into()),
        };
        Ok(Knock { door, at: peer.name.clone(), open, said })
    }
}

/// An answer, or a refusal in words; an error when there was none.
async fn answer<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> anyhow::Result<Result<T, String>> {
    match timeout(CALL_TIME_MAX, call).await? {
        Ok(answer) => Ok(Ok(answer.into_inner())),
        Err(status) if matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded) => {
            bail!("no answer: {status}")
        }
        Err(status) => Ok(Err(format!("{:?}: {}", status.code(), status.message()))),
    }
}

fn told<T: std::fmt::Debug>(answer: &Result<T, String>) -> String {
    answer.as_ref().map_or_else(Clone::clone, |answer| format!("{answer:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_read_as_it_is_written() {
        let of = Peer { id: 2, name: "n2".into(), addr: "10.0.0.2:7601".parse().unwrap() };
        assert_eq!(peer(&of.arg()), Ok(of));
        assert!(["", "2", "2=n2", "x=n2@10.0.0.2:7601", "2=n2@nowhere"].iter().all(|text| peer(text).is_err()));
    }
}
