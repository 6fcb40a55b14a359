//! The client: several nodes, one deadline a call, another node when one can't.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_core::request::NamespaceName;
use quorate_proto::NAMESPACE_KEY;
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::config::{Address, ClientConfig};
use crate::error::{ClientError, reason};
use crate::retry::{Effect, Safety, classify, late, unknown_outcome};
use crate::tls::{Connector, ServerIdentity, Tls, Watch};
use crate::tokens::TokenClock;

/// A node is asked for a sign of life this often on an open connection …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// … and counts as gone when it gives none for this long, so that one that hangs silently costs a call 3 s at most.
const KEEPALIVE_TIME_MAX: Duration = Duration::from_secs(2);
/// First pause after every node was tried in vain; doubles each time.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// A wait no longer than this is nothing to tell of: a leader is succeeded in less.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// Longest pause between rounds: an election takes a second or two.
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// An attempt that had less time would end without an answer, and hide what the node said before.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// One node and the connection to it.
struct Endpoint {
    connector: Connector,
    address: String,
    channel: Channel,
}

impl Endpoint {
    fn new(connector: Connector) -> Result<Self, ClientError> {
        let address = connector.address.to_string();
        let config = |e: &dyn std::fmt::Display| ClientError::config(format!("{address}: {e}"));
        // The scheme of the endpoint tells tonic that TLS is not its business; requests name the true one.
        let origin = format!("https://{address}").parse().map_err(|e| config(&e))?;
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| config(&e))?
            .origin(origin)
            .user_agent(concat!("quorate/", env!("CARGO_PKG_VERSION")))
            .map_err(|e| config(&e))?
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIME_MAX)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector.clone());
        Ok(Self { connector, address, channel })
    }
}

/// How long a call is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Patience {
    /// Until its deadline.
    Deadline,
    /// Likewise, as long as any node can be reached.
    WhileReachable,
    /// Every node once, and no second time.
    OneRound,
}

/// Hears, once for each call, that no node could answer it yet, and why not.
pub type OnWait = Arc<dyn Fn(&ClientError) + Send + Sync>;

/// A client of one cluster; cheap to clone, clones share connections.
#[derive(Clone)]
pub struct Client {
    endpoints: Arc<Vec<Arc<Endpoint>>>,
    /// The endpoint that answered last; calls begin there.
    preferred: Arc<AtomicUsize>,
    deadline: Duration,
    namespace: Option<AsciiMetadataValue>,
    patience: Patience,
    on_wait: Option<OnWait>,
    pub(crate) clock: Arc<TokenClock>,
}

impl Client {
    /// Checks the settings. Connections are made when they are first needed, and again when they break.
    ///
    /// # Errors
    /// [`reason::INVALID_CONFIG`], with the setting that can't work.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let tls = Arc::new(Tls::new(&config)?);
        let endpoints = Address::parse_all(&config.addrs)?
            .into_iter()
            .map(|address| {
                let connector = Connector { address, tls: tls.clone(), pinned: None, watch: Watch::default() };
                Endpoint::new(connector).map(Arc::new)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            endpoints: Arc::new(endpoints),
            preferred: Arc::default(),
            deadline: config.deadline,
            namespace: config.namespace.as_deref().map(namespace).transpose()?,
            patience: Patience::Deadline,
            on_wait: None,
            clock: Arc::default(),
        })
    }

    /// The nodes' addresses, in the order given.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|e| e.address.as_str())
    }

    /// Longest time for one call.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The same client for one node alone, by its place among the addresses (from 0); no fail-over.
    pub fn node(&self, place: usize) -> Option<Self> {
        let one = self.endpoints.get(place)?.clone();
        Some(Self { endpoints: Arc::new(vec![one]), preferred: Arc::default(), ..self.clone() })
    }

    /// The same client with another deadline per call.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The same client in another namespace.
    ///
    /// # Errors
    /// [`reason::INVALID_CONFIG`], when that is no name of one.
    pub fn within(&self, name: &str) -> Result<Self, ClientError> {
        Ok(Self { namespace: Some(namespace(name)?), ..self.clone() })
    }

    /// The same client, which takes the first round of failures as the answer instead of trying until the deadline: for
    /// looking whether a node is there.
    pub fn impatient(&self) -> Self {
        Self { patience: Patience::OneRound, ..self.clone() }
    }

    /// The same client, which says when it waits: for somebody who waits as well.
    pub fn telling(&self, on_wait: OnWait) -> Self {
        Self { on_wait: Some(on_wait), ..self.clone() }
    }

    /// The same client, which gives up at once when no node can be reached at all: for somebody who waits at a terminal. (A
    /// program that starts with its cluster would rather wait.)
    pub fn while_reachable(&self) -> Self {
        Self { patience: Patience::WhileReachable, ..self.clone() }
    }

    /// The same client, beginning at another place among the addresses: spreads load.
    pub fn starting_at(&self, place: usize) -> Self {
        Self { preferred: Arc::new(AtomicUsize::new(place % self.endpoints.len())), ..self.clone() }
    }

    /// The same client over new connections of its own.
    pub fn reconnected(&self) -> Result<Self, ClientError> {
        self.rebuilt(|connector| connector)
    }

    /// The same client, over new connections that accept only that node, of that cluster and root: what a share travels on.
    pub fn pinned(&self, identity: &ServerIdentity) -> Result<Self, ClientError> {
        self.rebuilt(|connector| Connector { pinned: Some(identity.clone()), ..connector })
    }

    fn rebuilt(&self, change: impl Fn(Connector) -> Connector) -> Result<Self, ClientError> {
        let fresh = |e: &Arc<Endpoint>| {
            let connector = Connector { watch: Watch::default(), ..e.connector.clone() };
            Endpoint::new(change(connector)).map(Arc::new)
        };
        let endpoints = self.endpoints.iter().map(fresh).collect::<Result<Vec<_>, _>>()?;
        let preferred = Arc::new(AtomicUsize::new(self.preferred.load(Ordering::Relaxed)));
        Ok(Self { endpoints: Arc::new(endpoints), preferred, ..self.clone() })
    }

    /// Who answered the last handshake at the preferred address; `None` before the first call.
    pub fn server_identity(&self) -> Option<ServerIdentity> {
        let endpoint = self.endpoints.get(self.preferred.load(Ordering::Relaxed))?;
        endpoint.connector.watch.identity()
    }

    /// Runs one call: at the preferred node, then at the others, round after round until the deadline, as far as
    /// `safety` allows.
    pub(crate) async fn call<Req, Resp, F>(
        &self,
        safety: Safety,
        request: Req,
        rpc: impl Fn(Channel, tonic::Request<Req>) -> F,
    ) -> Result<Resp, ClientError>
    where
        Req: Clone,
        F: Future<Output = Result<Response<Resp>, Status>>,
    {
        let begun = Instant::now();
        let deadline = begun + self.deadline;
        let count = self.endpoints.len();
        let mut pause = PAUSE_FIRST;
        let (mut doubt, mut told_of_waiting) = (false, false);
        loop {
            let first = self.preferred.load(Ordering::Relaxed);
            let mut failures: Vec<(Effect, ClientError)> = Vec::with_capacity(count);
            for place in (0..count).map(|i| (first + i) % count) {
                let endpoint = &self.endpoints[place];
                let left = deadline.saturating_duration_since(Instant::now());
                let mut attempt = tonic::Request::new(request.clone());
                attempt.set_timeout(left);
                if let Some(namespace) = &self.namespace {
                    attempt.metadata_mut().insert(NAMESPACE_KEY, namespace.clone());
                }
                let answer = tokio::time::timeout(left, rpc(endpoint.channel.clone(), attempt)).await;
                let (effect, error) = match answer {
                    Ok(Ok(response)) => {
                        self.preferred.store(place, Ordering::Relaxed);
                        return Ok(response.into_inner());
                    }
                    Ok(Err(status)) => classify(&status, &endpoint.address, endpoint.connector.watch.alert()),
                    Err(_) => (Effect::Unknown, late(&endpoint.address)),
                };
                match (effect, safety) {
                    // What an earlier attempt did, this answer doesn't say.
                    (Effect::Answered, _) if doubt && error.node_time_ms.is_some() => {
                        return Err(unknown_outcome(&error));
                    }
                    (Effect::Answered, _) => return Err(error),
                    (Effect::Unknown, Safety::Once) => return Err(unknown_outcome(&error)),
                    (Effect::Unknown, Safety::Token) => doubt = true,
                    _ => {}
                }
                failures.push((effect, error));
                if Instant::now() >= deadline {
                    return Err(self.give_up(failures, doubt));
                }
            }
            // Sealed stays sealed until custodians come: waiting out the deadline would only hide it. But while some
            // node is merely busy or electing, it may be the one that serves.
            let settled = failures.iter().all(|(effect, error)| {
                matches!(effect, Effect::NoneForNow | Effect::NotThere)
                    || error.is(reason::UNREACHABLE) && *effect == Effect::None
            });
            let told = failures.iter().any(|(effect, _)| *effect == Effect::NoneForNow);
            // A connection that broke may have been a refusal that did not come through: the next one tells.
            let nobody = failures.iter().all(|(effect, _)| *effect == Effect::NotThere);
            let enough = match self.patience {
                Patience::Deadline => false,
                Patience::WhileReachable => nobody,
                Patience::OneRound => true,
            };
            if settled && told || enough || Instant::now() + pause + ATTEMPT_MIN > deadline {
                return Err(self.give_up(failures, doubt));
            }
            if let Some(on_wait) = &self.on_wait
                && !told_of_waiting
                && begun.elapsed() > SILENT_MAX
            {
                told_of_waiting = true;
                on_wait(&self.give_up(failures, doubt));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The most telling of a round's failures.
    fn give_up(&self, failures: Vec<(Effect, ClientError)>, doubt: bool) -> ClientError {
        if let [(_, first), _, ..] = &failures[..]
            && !doubt
            && failures.iter().all(|(_, error)| error.is(reason::UNREACHABLE))
        {
            let each: Vec<_> = failures.iter().map(|(_, error)| error.message.as_str()).collect();
            let message = format!("no node can be reached: {}", each.join("; "));
            return ClientError { message, endpoint: None, ..first.clone() };
        }
        let weight = |error: &ClientError| match error.reason.as_str() {
            reason::UNKNOWN_OUTCOME | reason::NO_SPACE | reason::NO_MAJORITY => 0,
            reason::SEALED => 1,
            reason::UNAVAILABLE | reason::CONTENDED | reason::BUSY => 2,
            reason::UNINITIALIZED => 3,
            reason::DAMAGED => 4,
            reason::UNTRUSTED_SERVER | reason::CERTIFICATE_REFUSED => 5,
            reason::DEADLINE_EXCEEDED => 6,
            _ => 7,
        };
        let best = failures.into_iter().map(|(_, e)| e).min_by_key(weight);
        let best = best.unwrap_or_else(|| late("any node"));
        if doubt { unknown_outcome(&best) } else { best }
    }
}

/// A namespace, as calls name it.
fn namespace(name: &str) -> Result<AsciiMetadataValue, ClientError> {
    let wrong = |e: &dyn std::fmt::Display| ClientError::config(e.to_string());
    let name: NamespaceName = name.parse().map_err(|e| wrong(&e))?;
    name.as_str().parse().map_err(|e| wrong(&e))
}
