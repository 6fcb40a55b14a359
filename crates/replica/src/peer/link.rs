//! Connections to other members: for control, for the log and for snapshots, made when first needed and made again when
//! broken; and one for read-index rounds, which is there before it is needed.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use quorate_core::id::{ClusterId, GroupId, NodeId};
use tokio::time::Instant;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::members::Members;
use super::pb::peer_client::PeerClient;
use super::preface::{self, Preface, Purpose, Stamp};
use super::rounds::Rounds;
use super::{CONNECT_LIMIT, KEEPALIVE_INTERVAL, KEEPALIVE_LIMIT, MESSAGE_LEN_MAX, WINDOW_BYTES};
use crate::member::Member;
use crate::net::{BoxStream, Net, PeerExpectation};
use crate::raft::{LeaderId, LogId, Vote};
use crate::word::Words;

/// The metadata key of the stamp.
pub(crate) const STAMP_KEY: &str = "quorate-peer-bin";
/// First pause after a failed connection; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause after a connection that could not be made: healing must be quick.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Longest pause after a refusal: each attempt costs both sides a signature in the HSM. The first ones are short, since
/// a peer that is about to apply the membership refuses too.
pub(crate) const PAUSE_REFUSED: Duration = Duration::from_secs(1);

/// Puts the stamp on each call.
#[derive(Clone)]
pub(crate) struct StampCalls(BinaryMetadataValue);

impl StampCalls {
    fn new(stamp: &Stamp) -> Self {
        Self(BinaryMetadataValue::from_bytes(&stamp.encode()))
    }
}

impl tonic::service::Interceptor for StampCalls {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert_bin(STAMP_KEY, self.0.clone());
        Ok(request)
    }
}

/// The stamp of a call.
pub(crate) fn stamp_of(metadata: &MetadataMap) -> Result<Stamp, preface::Refusal> {
    let value = metadata.get_bin(STAMP_KEY).ok_or(preface::Refusal::Format)?;
    Stamp::decode(&value.to_bytes().map_err(|_| preface::Refusal::Format)?)
}

/// A gRPC transport whose calls carry the stamp.
pub(crate) type Transport = InterceptedService<Channel, StampCalls>;

/// Makes streams of one kind to one node.
#[derive(Clone)]
pub(crate) struct Connector {
    net: Arc<dyn Net>,
    addr: String,
    expect: PeerExpectation,
    stamp: Stamp,
    purpose: Purpose,
    /// What was heard from the member that is called, among others.
    words: Arc<Words>,
    failures: Arc<Mutex<Failures>>,
}

/// What the last attempts came to.
#[derive(Default)]
struct Failures {
    count: u32,
    again_at: Option<Instant>,
    last: String,
    /// The peer's word, when it was one.
    refusal: Option<preface::Refusal>,
}

impl Failures {
    fn last(&self) -> io::Error {
        match self.refusal {
            Some(refusal) => io::Error::new(io::ErrorKind::PermissionDenied, refusal),
            None => io::Error::other(self.last.clone()),
        }
    }
}

impl Connector {
    pub(crate) fn new(
        net: Arc<dyn Net>,
        addr: &str,
        expect: PeerExpectation,
        stamp: Stamp,
        purpose: Purpose,
        words: Arc<Words>,
    ) -> Self {
        Self { net, addr: addr.into(), expect, stamp, purpose, words, failures: Arc::default() }
    }

    pub(super) async fn connect(self) -> io::Result<BoxStream> {
        {
            let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            if failures.again_at.is_some_and(|at| Instant::now() < at) {
                return Err(failures.last());
            }
        }
        let attempt = async {
            let mut stream = self.net.connect(&self.addr, &self.expect).await?;
            let about = self.words.newest(self.stamp.to);
            preface::offer(&mut stream, &Preface { stamp: self.stamp, purpose: self.purpose, about }).await?;
            Ok(stream)
        };
        let result = match tokio::time::timeout(CONNECT_LIMIT, attempt).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} does not answer", self.addr))),
        };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(_) => *failures = Failures::default(),
            Err(e) => {
                let refused = e.kind() == io::ErrorKind::PermissionDenied;
                let longest = if refused { PAUSE_REFUSED } else { PAUSE_MAX };
                let pause = longest.min(PAUSE_MIN * 2u32.saturating_pow(failures.count.min(8)));
                failures.count = failures.count.saturating_add(1);
                failures.again_at = Some(Instant::now() + pause);
                failures.last = e.to_string();
                failures.refusal = e.get_ref().and_then(|e| e.downcast_ref()).copied();
            }
        }
        result
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<BoxStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        // In a task, so that a connection goes on being made while the call that wanted it has run out of time.
        let connecting = tokio::spawn(self.clone().connect());
        Box::pin(async move { connecting.await.map_err(io::Error::other)?.map(TokioIo::new) })
    }
}

/// A transport over the seam; connects when first used. Must be called on the runtime that is to drive it.
pub(crate) fn transport(connector: Connector) -> Transport {
    let stamp = connector.stamp;
    let channel = Endpoint::from_static("http://peer.quorate")
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .connect_with_connector_lazy(connector);
    InterceptedService::new(channel, StampCalls::new(&stamp))
}

/// The client of one connection.
pub(crate) type Client = PeerClient<Transport>;

/// The connections to one member.
pub(crate) struct Link {
    pub(crate) id: NodeId,
    member: Member,
    control: Client,
    log: Client,
    snapshot: Client,
    rounds: Rounds,
    /// The newest entry that the member said to have, and under which vote.
    acked: Mutex<Option<(Vote, LogId)>>,
    /// The leadership that the member answered last: it has seen its grants.
    follows: Mutex<Option<LeaderId>>,
}

impl Link {
    /// Its pinned identity key.
    pub(crate) fn identity(&self) -> &[u8] {
        &self.member.identity_spki
    }

    /// Whether the member has answered this leadership, and needs no grants any more.
    pub(crate) fn follows(&self, leadership: LeaderId) -> bool {
        *self.follows.lock().unwrap_or_else(PoisonError::into_inner) == Some(leadership)
    }

    /// The member has answered a leadership; `None`: it may be another process now.
    pub(crate) fn note_follows(&self, leadership: Option<LeaderId>) {
        *self.follows.lock().unwrap_or_else(PoisonError::into_inner) = leadership;
    }

    /// The member said under this vote that it has this entry, and all before it.
    pub(crate) fn note_acked(&self, vote: Vote, id: LogId) {
        let mut acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *acked {
            Some((known, upto)) if *known == vote => *upto = id.max(*upto),
            _ => *acked = Some((vote, id)),
        }
    }

    /// The newest entry that the member said under this vote to have.
    pub(crate) fn acked(&self, vote: &Vote) -> Option<LogId> {
        let acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        acked.as_ref().filter(|(known, _)| known == vote).map(|(_, id)| *id)
    }

    /// Heartbeats, votes, Hello: small messages that must never wait behind large ones.
    pub(crate) fn control(&self) -> Client {
        self.control.clone()
    }

    /// Read-index rounds.
    pub(crate) fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// Snapshots: they may fill their connection.
    pub(crate) fn snapshot(&self) -> Client {
        self.snapshot.clone()
    }

    /// Entries, proposals, application calls.
    pub(crate) fn log(&self) -> Client {
        self.log.clone()
    }
}

/// The connections of this node to all others.
pub(crate) struct Links {
    net: Arc<dyn Net>,
    cluster: ClusterId,
    group: GroupId,
    me: NodeId,
    words: Arc<Words>,
    runtime: tokio::runtime::Handle,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
}

impl Links {
    pub(crate) fn new(
        net: Arc<dyn Net>,
        cluster: ClusterId,
        group: GroupId,
        me: NodeId,
        words: Arc<Words>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self { net, cluster, group, me, words, runtime, links: Mutex::default() }
    }

    /// The connections to one of these members.
    pub(crate) fn to_member(&self, members: &Members, id: NodeId) -> Option<Arc<Link>> {
        members.member(id).map(|member| self.to(id, &member))
    }

    /// The connections to a member; new ones when its address or keys have changed.
    pub(crate) fn to(&self, id: NodeId, member: &Member) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&id).filter(|link| link.member == *member) {
            return link.clone();
        }
        let _on = self.runtime.enter();
        let stamp = Stamp { cluster: self.cluster, group: self.group, from: self.me, to: id };
        let expect = || PeerExpectation {
            name: member.name.clone(),
            cluster: self.cluster,
            identity_spki: Some(member.identity_spki.clone()),
        };
        let connector =
            |purpose| Connector::new(self.net.clone(), &member.peer_addr, expect(), stamp, purpose, self.words.clone());
        let client = |purpose| {
            PeerClient::new(transport(connector(purpose)))
                .max_decoding_message_size(MESSAGE_LEN_MAX)
                .max_encoding_message_size(MESSAGE_LEN_MAX)
        };
        let link = Arc::new(Link {
            id,
            member: member.clone(),
            control: client(Purpose::Control),
            log: client(Purpose::Log),
            snapshot: client(Purpose::Snapshot),
            acked: Mutex::default(),
            follows: Mutex::default(),
            rounds: Rounds::new(connector(Purpose::Rounds)),
        });
        links.insert(id, link.clone());
        link
    }

    /// Forgets who is no member any more; their connections end with the last call.
    pub(crate) fn retain(&self, members: &[(NodeId, Member)]) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|id, _| members.iter().any(|(m, _)| m == id));
    }
}
