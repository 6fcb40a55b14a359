//! What Prometheus scrapes: what is done with keys, through whatever door; requests as they come; the node's state when asked.
//! Names of calls, members and reasons, never of keys. Names and units follow Prometheus' conventions (`promtool check metrics`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};
use quorate_core::action::Action;
use quorate_core::level::LEVEL;
use quorate_core::principal::Principal;
use quorate_hsm::{HsmError, HsmMeter};
use quorate_proto::{REASON_KEY, v1};
use quorate_service::node::Node;
use quorate_service::seal::{Health, Status};
use quorate_service::{Meter, Reason};
use tokio::time::Instant;

/// From 100 µs, a use on the leader, to 13 s, above the longest deadline.
const LATENCY_BUCKETS_FROM: f64 = 100e-6;
const LATENCY_BUCKETS: usize = 18;

/// Makes metrics of one registry.
struct Maker(Registry);

impl Maker {
    fn add<T: Collector + Clone + 'static>(&self, made: prometheus::Result<T>) -> T {
        let metric = made.expect("the name is valid");
        self.0.register(Box::new(metric.clone())).expect("each name is registered once");
        metric
    }
    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(opts(name, help)))
    }
    fn moment(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(opts(name, help)))
    }
    fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.add(IntGaugeVec::new(opts(name, help), &[label]))
    }
    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(opts(name, help)))
    }
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }
    fn times(&self, name: &str, help: &str, label: &str) -> HistogramVec {
        self.add(HistogramVec::new(latencies(name, help), &[label]))
    }
    fn time(&self, name: &str, help: &str) -> Histogram {
        self.add(Histogram::with_opts(latencies(name, help)))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("quorate_{name}"), help)
}

fn latencies(name: &str, help: &str) -> HistogramOpts {
    let buckets = prometheus::exponential_buckets(LATENCY_BUCKETS_FROM, 2.0, LATENCY_BUCKETS).expect("valid");
    HistogramOpts::new(format!("quorate_{name}"), help).buckets(buckets)
}

/// The node's metrics.
pub struct Metrics {
    registry: Registry,
    /// Held while the state is put in and taken out: two scrapes at a time would see each other's gaps.
    rendering: Mutex<()>,
    operations: IntCounterVec,
    /// Of each action, as [`Action::ALL`] has them: what nearly every call needs is looked up once.
    done: Vec<Done>,
    requests: IntCounterVec,
    seconds: HistogramVec,
    refusals: IntCounterVec,
    fsync: Histogram,
    hsm: Histogram,
    hsm_errors: IntCounterVec,
    state: IntGaugeVec,
    leader: IntGaugeVec,
    has_majority: IntGauge,
    applied: IntGauge,
    term: IntGauge,
    cluster_time: Gauge,
    verified: Gauge,
    ceremony: IntGauge,
    rounds: IntCounter,
    rounds_shared: IntCounter,
    rounds_by_heartbeat: IntCounter,
    certificate: GaugeVec,
    keys: IntGaugeVec,
    keys_counted: Gauge,
    gcm_due: IntGauge,
    members: Members,
}

/// What is known of each member.
struct Members {
    sealed: IntGaugeVec,
    reachable: IntGaugeVec,
    lag: IntGaugeVec,
    free: IntGaugeVec,
    low_space: IntGaugeVec,
    damaged: IntGaugeVec,
}

/// What was done of one action.
struct Done {
    count: IntCounter,
    seconds: Histogram,
}

const DONE: &str = "OK";

impl Metrics {
    /// A fresh registry.
    pub fn new() -> Self {
        let m = Maker(Registry::new());
        m.0.register(Box::new(ProcessCollector::for_self())).expect("registered once");
        let build = opts("build_info", "1; the version, and the highest feature level that it speaks");
        let build = m.add(IntGaugeVec::new(build, &["version", "level"]));
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), &LEVEL.to_string()]).set(1);
        let hsm_errors = m.counters("hsm_errors_total", "Calls to the token that failed, by kind of error", &["error"]);
        // There from the start: a rate needs a value before the first error.
        HsmError::WORDS.iter().for_each(|word| _ = hsm_errors.with_label_values(&[word]));
        let refusals = m.counters("refusals_total", "Requests that were refused or failed, by reason", &["reason"]);
        let reasons = (1..).map_while(|n| v1::Reason::try_from(n).ok());
        reasons.for_each(|reason| _ = refusals.with_label_values(&[reason.word()]));
        let operations = m.counters(
            "operations_total",
            "What was done with keys, by action and reason of failure (OK = done)",
            &["action", "ended"],
        );
        let operation_seconds = m.times("operation_seconds", "Time to do it, by action", "action");
        let done = Action::ALL.iter().map(|action| Done {
            count: operations.with_label_values(&[action.as_str(), DONE]),
            seconds: operation_seconds.with_label_values(&[action.as_str()]),
        });
        Self {
            done: done.collect(),
            operations,
            requests: m.counters("requests_total", "Requests answered, by call and gRPC status", &["call", "status"]),
            seconds: m.times("request_seconds", "Time to answer, by call", "call"),
            refusals,
            fsync: m.time("fsync_seconds", "Time to make what was written durable, journal and state"),
            hsm: m.time("hsm_call_seconds", "Time for a call to the token, the wait for its turn included"),
            hsm_errors,
            state: m.gauges("state", "1 for the state the node is in", "state"),
            leader: m.gauges("leader", "1 for the member that this node takes for the leader", "node"),
            has_majority: m.gauge(
                "has_majority",
                "0 once a majority of the voters, or a leader, has been out of this node's reach for longer than elections take",
            ),
            applied: m.gauge("applied_index", "Last log entry applied here"),
            term: m.gauge("term", "Raft's term as this node knows it: each change of leader makes it greater"),
            cluster_time: m.moment("cluster_time_timestamp_seconds", "Cluster time, seconds since 1970"),
            verified: m.moment(
                "state_verified_timestamp_seconds",
                "When the whole state was last found to match its digest, seconds since 1970; 0 = not since the start",
            ),
            ceremony: m.gauge("ceremony_shares", "Shares entered in the open ceremony"),
            rounds: m.counter("read_rounds_total", "Read-index rounds begun for reads of this node"),
            rounds_shared: m.counter("read_rounds_shared_total", "Reads of this node that shared those rounds"),
            rounds_by_heartbeat: m.counter(
                "read_rounds_by_heartbeat_total",
                "Rounds this node confirmed as the leader by heartbeats, for want of a faster way",
            ),
            certificate: m.add(GaugeVec::new(
                opts(
                    "certificate_expiry_timestamp_seconds",
                    "When this member's certificate expires, seconds since 1970",
                ),
                &["node"],
            )),
            keys: m.gauges("keys", "Keys by state, as the leader counted them last; absent at other nodes", "state"),
            keys_counted: m.moment(
                "keys_counted_timestamp_seconds",
                "When the keys were counted, seconds since 1970 by the cluster's time; 0 = not here",
            ),
            gcm_due: m.gauge(
                "gcm_versions_due",
                "Versions that were given half of the 2^32 uses that they have by aes-gcm, as the leader counted them last: their keys are to be rotated",
            ),
            members: Members {
                sealed: m.gauges("node_sealed", "1 if this member is sealed; absent while it is not heard of", "node"),
                reachable: m.gauges("node_reachable", "1 if this member was heard of lately", "node"),
                lag: m.gauges("node_lag", "Log entries this member is behind", "node"),
                free: m.gauges("node_free_bytes", "Free bytes of this member's disk, when heard of last", "node"),
                low_space: m.gauges(
                    "node_low_space",
                    "1 if this member's disk is nearly full: it takes no changes",
                    "node",
                ),
                damaged: m.gauges("node_damaged", "1 if this member says that its own data are damaged", "node"),
            },
            rendering: Mutex::new(()),
            registry: m.0,
        }
    }

    /// A sync of the node's disk took so long.
    pub fn synced(&self, took: Duration) {
        self.fsync.observe(took.as_secs_f64());
    }

    /// The text format, with the node's state as it is now.
    pub fn render(&self, node: &Node, caller: &Principal) -> String {
        let _whole = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        for health in Health::ALL {
            self.state.with_label_values(&[health.as_str()]).set(i64::from(node.health() == health));
        }
        let rounds = node.read_rounds();
        for (counter, now) in [
            (&self.rounds, rounds.begun),
            (&self.rounds_shared, rounds.reads),
            (&self.rounds_by_heartbeat, rounds.by_heartbeat),
        ] {
            counter.reset();
            counter.inc_by(now);
        }
        self.has_majority.set(i64::from(node.quorum().is_present()));
        self.verified.set(seconds(node.state_verified_ms()));
        self.take_stock(node);
        // Before genesis there is no more to tell.
        if let Ok(status) = node.status(caller) {
            self.set(status);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("a Vec takes everything");
        String::from_utf8(text).expect("the text format is UTF-8")
    }

    fn take_stock(&self, node: &Node) {
        self.keys.reset();
        let stock = node.kms().ok().and_then(|kms| kms.stock());
        self.keys_counted.set(stock.map_or(0.0, |stock| seconds(stock.counted_ms)));
        self.gcm_due.set(stock.map_or(0, |stock| gauge(stock.gcm_due)));
        let Some(stock) = stock else { return };
        let by_state =
            [("enabled", stock.enabled), ("disabled", stock.disabled), ("pending-deletion", stock.pending_deletion)];
        for (state, count) in by_state {
            self.keys.with_label_values(&[state]).set(gauge(count));
        }
    }

    fn set(&self, status: Status) {
        self.cluster_time.set(seconds(status.cluster_time_ms));
        self.term.set(gauge(status.term));
        self.ceremony.set(status.ceremony.map_or(0, |c| i64::try_from(c.entered.len()).unwrap_or(0)));
        let of = &self.members;
        for gauges in [&self.leader, &of.sealed, &of.reachable, &of.lag, &of.free, &of.low_space, &of.damaged] {
            gauges.reset();
        }
        self.certificate.reset();
        for member in status.nodes {
            let label = &[member.name.as_str()];
            self.leader.with_label_values(label).set(i64::from(status.leader.is_some_and(|l| l.0 == member.id)));
            // Of one that is not heard of nothing else is known: what it was long ago would look like now.
            if member.reachable {
                of.sealed.with_label_values(label).set(i64::from(member.sealed));
                of.lag.with_label_values(label).set(gauge(member.lag));
                of.free.with_label_values(label).set(gauge(member.free_bytes));
                of.low_space.with_label_values(label).set(i64::from(member.low_space));
                of.damaged.with_label_values(label).set(i64::from(member.health == Some(Health::Damaged)));
            }
            of.reachable.with_label_values(label).set(i64::from(member.reachable));
            if member.certificate_ends_ms > 0 {
                self.certificate.with_label_values(label).set(seconds(member.certificate_ends_ms));
            }
            if member.name == status.answered_by {
                self.applied.set(gauge(member.applied_index));
            }
        }
    }
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Seconds of milliseconds since 1970.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

impl Meter for Metrics {
    fn answered(&self, action: Action, ended: Result<(), Reason>, took: Duration) {
        let done = &self.done[action as usize];
        match ended {
            Ok(()) => done.count.inc(),
            Err(reason) => self.operations.with_label_values(&[action.as_str(), reason.as_str()]).inc(),
        }
        done.seconds.observe(took.as_secs_f64());
    }
}

impl HsmMeter for Metrics {
    fn called(&self, took: Duration, ended: Result<(), &'static str>) {
        self.hsm.observe(took.as_secs_f64());
        if let Err(error) = ended {
            self.hsm_errors.with_label_values(&[error]).inc();
        }
    }
}

/// The words of gRPC's status codes, by their number.
const STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Counts a request and its outcome, by the call's name.
pub async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    // An unknown path is one label, or a stranger could make as many as he likes.
    let call = match request.uri().path().strip_prefix("/quorate.v1.") {
        Some(call) if call.len() < 64 && call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/') => {
            call.to_owned()
        }
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    // A refusal has its status in the head; a success has it in the trailer, after the body.
    let text = |name: &str| response.headers().get(name).map(HeaderValue::to_str)?.ok();
    let status = match text("grpc-status").map(str::parse::<usize>) {
        Some(number) => number.ok().and_then(|number| STATUS.get(number)).copied().unwrap_or("other"),
        None if response.status().is_success() => "OK",
        None => "other",
    };
    // Only words of ours: an answer of a library beneath has none.
    if let Some(reason) = text(REASON_KEY) {
        metrics.refusals.with_label_values(&[reason]).inc();
    }
    // Not implemented, or asked by nobody we know: then the name is not one of ours for certain.
    let call = if matches!(status, "UNIMPLEMENTED" | "UNAUTHENTICATED" | "other") { "other" } else { &call };
    metrics.requests.with_label_values(&[call, status]).inc();
    metrics.seconds.with_label_values(&[call]).observe(begun.elapsed().as_secs_f64());
    response
}
