//! What Prometheus scrapes: what is done with keys, through whatever door; requests as they come; the node's state when asked. Names of calls and nodes, never of keys.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use quorate_core::action::Action;
use quorate_core::principal::Principal;
use quorate_service::node::Node;
use quorate_service::seal::Health;
use quorate_service::{Meter, Reason};
use tokio::time::Instant;

/// From 100 µs, a use on the leader, to 13 s, above the longest deadline.
const LATENCY_BUCKETS_FROM: f64 = 100e-6;
const LATENCY_BUCKETS: usize = 18;

/// The node's metrics.
pub struct Metrics {
    registry: Registry,
    operations: IntCounterVec,
    /// Of each action, as [`Action::ALL`] has them: what nearly every call needs is looked up once.
    done: Vec<Done>,
    requests: IntCounterVec,
    seconds: HistogramVec,
    state: IntGaugeVec,
    leader: IntGauge,
    applied: IntGauge,
    cluster_time: IntGauge,
    verified: IntGauge,
    ceremony: IntGauge,
    rounds: IntCounter,
    rounds_shared: IntCounter,
    rounds_by_heartbeat: IntCounter,
    certificate: IntGaugeVec,
    sealed: IntGaugeVec,
    reachable: IntGaugeVec,
    lag: IntGaugeVec,
    free: IntGaugeVec,
    low_space: IntGaugeVec,
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
        let registry = Registry::new();
        fn add<T: prometheus::core::Collector + Clone + 'static>(
            registry: &Registry,
            made: prometheus::Result<T>,
        ) -> T {
            let metric = made.expect("the name is valid");
            registry.register(Box::new(metric.clone())).expect("each name is registered once");
            metric
        }
        let opts = |name: &str, help: &str| Opts::new(format!("quorate_{name}"), help);
        let buckets = prometheus::exponential_buckets(LATENCY_BUCKETS_FROM, 2.0, LATENCY_BUCKETS).expect("valid");
        let seconds = HistogramOpts::new("quorate_request_seconds", "Time to answer, by call").buckets(buckets.clone());
        let operation_seconds = HistogramOpts::new("quorate_operation_seconds", "Time to do it, by action");
        let operations = add(
            &registry,
            IntCounterVec::new(
                opts("operations_total", "What was done with keys, by action and reason of failure (OK = done)"),
                &["action", "ended"],
            ),
        );
        let operation_seconds = HistogramVec::new(operation_seconds.buckets(buckets.clone()), &["action"]);
        let operation_seconds = add(&registry, operation_seconds);
        let done = Action::ALL.iter().map(|action| Done {
            count: operations.with_label_values(&[action.as_str(), DONE]),
            seconds: operation_seconds.with_label_values(&[action.as_str()]),
        });
        Self {
            done: done.collect(),
            operations,
            requests: add(
                &registry,
                IntCounterVec::new(
                    opts("requests_total", "Requests answered, by call and gRPC status"),
                    &["call", "status"],
                ),
            ),
            seconds: add(&registry, HistogramVec::new(seconds, &["call"])),
            state: add(&registry, IntGaugeVec::new(opts("state", "1 for the state the node is in"), &["state"])),
            leader: add(
                &registry,
                IntGauge::with_opts(opts("leader_id", "Raft id of the leader this node knows; 0 = none")),
            ),
            applied: add(&registry, IntGauge::with_opts(opts("applied_index", "Last log entry applied here"))),
            cluster_time: add(
                &registry,
                IntGauge::with_opts(opts("cluster_time_ms", "Cluster time, milliseconds since 1970")),
            ),
            verified: add(
                &registry,
                IntGauge::with_opts(opts(
                    "state_verified_seconds",
                    "When the whole state was last found to match its digest, seconds since 1970; 0 = not since the start",
                )),
            ),
            ceremony: add(
                &registry,
                IntGauge::with_opts(opts("ceremony_shares", "Shares entered in the open ceremony")),
            ),
            rounds: add(
                &registry,
                IntCounter::with_opts(opts("read_rounds_total", "Read-index rounds begun for reads of this node")),
            ),
            rounds_shared: add(
                &registry,
                IntCounter::with_opts(opts("read_rounds_shared_total", "Reads of this node that shared those rounds")),
            ),
            rounds_by_heartbeat: add(
                &registry,
                IntCounter::with_opts(opts(
                    "read_rounds_by_heartbeat_total",
                    "Rounds this node confirmed as the leader by heartbeats, for want of a faster way",
                )),
            ),
            certificate: add(
                &registry,
                IntGaugeVec::new(
                    opts("certificate_expires_seconds", "When this member's certificate expires, seconds since 1970"),
                    &["node"],
                ),
            ),
            sealed: add(&registry, IntGaugeVec::new(opts("node_sealed", "1 if this member is sealed"), &["node"])),
            reachable: add(
                &registry,
                IntGaugeVec::new(opts("node_reachable", "1 if this member was heard of lately"), &["node"]),
            ),
            lag: add(&registry, IntGaugeVec::new(opts("node_lag", "Log entries this member is behind"), &["node"])),
            free: add(
                &registry,
                IntGaugeVec::new(
                    opts("node_free_bytes", "Free bytes of this member's disk, when heard of last"),
                    &["node"],
                ),
            ),
            low_space: add(
                &registry,
                IntGaugeVec::new(
                    opts("node_low_space", "1 if this member's disk is nearly full: it takes no changes"),
                    &["node"],
                ),
            ),
            registry,
        }
    }

    /// The text format, with the node's state as it is now.
    pub fn render(&self, node: &Node, caller: &Principal) -> String {
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
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.verified.set(gauge(node.state_verified_ms() / 1000));
        // Before genesis there is no more to tell.
        if let Ok(status) = node.status(caller) {
            self.leader.set(status.leader.map_or(0, |l| gauge(l.0)));
            self.cluster_time.set(gauge(status.cluster_time_ms));
            self.ceremony.set(status.ceremony.map_or(0, |c| i64::try_from(c.entered.len()).unwrap_or(0)));
            let of_members = [&self.sealed, &self.reachable, &self.lag, &self.free, &self.low_space, &self.certificate];
            for gauge in of_members {
                gauge.reset();
            }
            for member in status.nodes {
                let label = &[member.name.as_str()];
                self.sealed.with_label_values(label).set(i64::from(member.sealed));
                self.reachable.with_label_values(label).set(i64::from(member.reachable));
                self.lag.with_label_values(label).set(gauge(member.lag));
                self.free.with_label_values(label).set(gauge(member.free_bytes));
                self.low_space.with_label_values(label).set(i64::from(member.low_space));
                if member.certificate_ends_ms > 0 {
                    self.certificate.with_label_values(label).set(gauge(member.certificate_ends_ms / 1000));
                }
                if member.name == status.answered_by {
                    self.applied.set(gauge(member.applied_index));
                }
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("a Vec takes everything");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
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
    let otherwise = if response.status().is_success() { "0" } else { "other" };
    let status =
        response.headers().get("grpc-status").map_or(Ok(otherwise), HeaderValue::to_str).unwrap_or("other").to_owned();
    // Not implemented, or asked by nobody we know: then the name is not one of ours for certain.
    let call = if matches!(&*status, "12" | "16" | "other") { "other" } else { &call };
    metrics.requests.with_label_values(&[call, &status]).inc();
    metrics.seconds.with_label_values(&[call]).observe(begun.elapsed().as_secs_f64());
    response
}
