//! One run: a cluster, a load, faults, healing, a power-off, the last reads, the verdict.

mod capture;
mod collect;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::checker::coverage::{Demand, Event};
use crate::checker::secrets::Canaries;
use crate::checker::{Evidence, Finding};
use crate::cluster::{Cluster, Gear};
use crate::history::{History, Recorder};
use crate::nemesis::partition::minority;
use crate::nemesis::{Kind, World};
use crate::net::{Backend, Net, Recording};
use crate::workload::{CALL_TIME_MAX, Context, Load, Workload, last_reads};
pub use store::{Results, Store, judge, judge_stored};

/// The load runs so long before the first fault, and after the last.
const CALM: Duration = Duration::from_secs(3);
/// Faults go on for so much longer when a kind that was asked for has not happened yet.
const GRACE: Duration = Duration::from_secs(120);
/// The longest time to come back after every fault is healed; a deadline against hanging, no measure.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(120);
/// The longest time for the last reads; of a cluster that did not come back they would mostly wait.
const LAST_READS_TIME_MAX: Duration = Duration::from_secs(600);
const LAST_READS_TIME_BROKEN: Duration = Duration::from_secs(60);
/// The longest time for everything before and after the faults.
const OVERHEAD_TIME_MAX: Duration = Duration::from_secs(1200);

/// What to run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Test {
    /// Name of the workload.
    pub workload: String,
    /// Names of the nemeses.
    pub nemeses: Vec<String>,
    /// How many nodes.
    pub nodes: u32,
    /// How long faults and load go on, seconds.
    pub seconds: u64,
    /// Calls per second that the clients aim at.
    pub rate: u32,
    /// Logical clients.
    pub clients: u32,
    /// Chooses everything that is chosen.
    pub seed: u64,
    /// What `quorate version` said.
    pub version: String,
    /// Name of the network's back end.
    #[serde(default)]
    pub net: String,
}

impl Test {
    /// Any, for tests.
    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        Self {
            workload: "revoke".into(),
            nemeses: vec!["kill".into(), "pause".into()],
            nodes: 3,
            seconds: 30,
            rate: 100,
            clients: 8,
            seed: 42,
            version: "0.1".into(),
            net: "tap".into(),
        }
    }

    /// The arguments of `jepsen run` that run it.
    pub fn args(&self) -> Vec<String> {
        let Self { workload, nemeses, nodes, seconds, rate, clients, seed, version: _, net } = self;
        let mut args = vec!["--workload".to_owned(), workload.clone()];
        if !nemeses.is_empty() {
            args.extend(["--nemesis".to_owned(), nemeses.join(",")]);
        }
        let numbers = [("nodes", nodes.to_string()), ("time", format!("{seconds}s")), ("rate", rate.to_string())];
        let more = [("clients", clients.to_string()), ("seed", seed.to_string())];
        args.extend(numbers.into_iter().chain(more).flat_map(|(name, value)| [format!("--{name}"), value]));
        if !net.is_empty() {
            args.extend(["--net".to_owned(), net.clone()]);
        }
        args
    }
}

/// The parts of a test that are not text.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The workload.
    pub workload: Workload,
    /// The nemeses.
    pub nemeses: Vec<Kind>,
    /// The binary under test.
    pub quorate: PathBuf,
    /// Keep the nodes' folders, also when nothing was found.
    pub keep: bool,
    /// The longest search for one key's order.
    pub per_key: Duration,
    /// How the network is built.
    pub net: Backend,
    /// At most so much of what nodes send is recorded, MiB.
    pub capture_mib: u64,
}

/// Somebody stopped the run: that says nothing about anything.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Runs it; what it found is in the store. Must be called on the process's main thread, before any other exists.
///
/// # Errors
/// A failure of the harness, which is no verdict on the cluster.
pub fn run(test: &Test, plan: &Plan, store: &Store) -> anyhow::Result<Vec<Finding>> {
    let recording = (plan.capture_mib > 0 && plan.net.records())
        .then(|| Recording { file: store.capture(), limit: plan.capture_mib << 20 });
    let net = plan
        .net
        .build(test.nodes, test.seed, recording)
        .context("can't build the network; `jepsen doctor` says what this machine lacks")?;
    net.enter()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (history, mut evidence, canaries) = runtime.block_on(async {
        let limit = OVERHEAD_TIME_MAX + Duration::from_secs(test.seconds);
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => bail!(Interrupted),
            done = timeout(limit, attack(test, plan, store, &*net)) => done.context("the run hangs")?,
        }
    })?;
    if let Some(recorded) = net.recorded()? {
        capture::search_file(&store.capture(), &recorded, &canaries, &mut evidence)?;
    }
    drop(net);
    judge(store, test, &history, &evidence, plan.per_key)
}

async fn attack(
    test: &Test,
    plan: &Plan,
    store: &Store,
    net: &dyn Net,
) -> anyhow::Result<(History, Evidence, Canaries)> {
    let say = |text: &str| eprintln!("jepsen: {text}");
    say(&format!("making a cluster of {} with certificates, tokens and a ceremony of its own", test.nodes));
    let gear = Gear { dev: plan.workload.is_for_development(), ..Gear::of(&plan.nemeses) };
    let cluster = Cluster::start(&plan.quorate, &store.cluster(), net, test.nodes, gear)
        .await
        .context("the cluster did not start")?;

    let (stop_load, load_stops) = watch::channel(false);
    let (stop_faults, faults_stop) = watch::channel(false);
    let context =
        Arc::new(Context::new(Recorder::create(&store.history())?, test.seed, cluster.operator(), load_stops));
    for node in cluster.members() {
        context.joined(node, cluster.clients_of(node, CALL_TIME_MAX)?);
    }
    let mut evidence =
        Evidence { demands: demands(test, plan), began_ms: context.recorder.began_ms(), ..Evidence::default() };

    say(&format!(
        "{} for {} s, with {}",
        test.workload,
        test.seconds,
        if test.nemeses.is_empty() { "no faults".into() } else { test.nemeses.join(", ") }
    ));
    let mut tasks = plan.workload.start(&context, Load { clients: test.clients, rate: test.rate });
    sleep(CALM).await;
    let world = World::new(&cluster, net, &context, faults_stop);
    let faults = world.run(&plan.nemeses);
    let clock = async {
        let begun = Instant::now();
        let (time, grace) = (Duration::from_secs(test.seconds), GRACE);
        // A slow machine gets more time for what was demanded, so that no latency decides the verdict.
        while begun.elapsed() < time || !world.saw(&plan.nemeses) && begun.elapsed() < time + grace {
            sleep(Duration::from_millis(500)).await;
            evidence.log_faults.extend(cluster.died());
            take_samples(&cluster, &mut evidence).await;
        }
        let _ = stop_faults.send(true);
    };
    let (faults, ()) = tokio::join!(faults, clock);
    faults.context("a fault could not be made or healed")?;
    context.recorder.nemesis("healed", "every fault");
    sleep(CALM).await;
    let _ = stop_load.send(true);
    while let Some(done) = tasks.join_next().await {
        done.context("a client broke")?;
    }

    say("healed; waiting until every node serves");
    evidence.not_recovered = match world.unfinished() {
        Some(why) => Some(why),
        None => recover(&world, "after the faults").await,
    };
    if evidence.not_recovered.is_none() {
        say("power-off: every node is killed at once, started again, and opened by a ceremony");
        let members = cluster.members();
        members.iter().try_for_each(|node| cluster.kill(*node))?;
        members.iter().try_for_each(|node| cluster.forget_unsynced(*node))?;
        context.recorder.nemesis("power-off", "every node");
        members.iter().try_for_each(|node| cluster.start_node(*node))?;
        evidence.not_recovered = recover(&world, "after the power-off").await;
    }
    compare_digests(&cluster, &mut evidence).await;
    say("the last reads: every key on every node, every ciphertext");
    let limit = if evidence.not_recovered.is_none() { LAST_READS_TIME_MAX } else { LAST_READS_TIME_BROKEN };
    // What was not read stays unread, which the durability checker reports.
    if let Ok(read) = timeout(limit, last_reads(&context)).await {
        read?;
    }
    evidence.members = cluster.members();
    evidence.log_faults.extend(cluster.died());
    let canaries = collect::canaries(test.seed, &store.cluster(), &context.learned())?;
    if evidence.not_recovered.is_none() {
        collect::metrics(&cluster, &canaries, &mut evidence).await?;
        say("sealed; searching the memory of every node; one is aborted, and must leave no core dump");
        collect::memory(&cluster, &canaries, &mut evidence).await?;
    }
    cluster.stop().await;
    collect::files(&cluster, &canaries, &mut evidence)?;
    Ok((context.recorder.history()?, evidence, canaries))
}

/// Opens what is sealed and waits; why it did not come back.
async fn recover(world: &World<'_>, when: &str) -> Option<String> {
    let (cluster, context) = (world.cluster, world.context);
    let opened = async {
        world.mend().await?;
        // Peers open a restarted node; only when that does not happen are custodians called.
        if cluster.converge(Duration::from_secs(10)).await.is_err() {
            world.mend().await?;
            for node in cluster.members() {
                for _ in 0..30 {
                    if cluster.serves(node).await || context.ceremony(node, cluster.ceremony(node)).await.is_ok() {
                        break;
                    }
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
        cluster.converge(RECOVERY_TIME_MAX).await
    };
    opened.await.err().map(|e| format!("{when}: {e:#}"))
}

async fn take_samples(cluster: &Cluster<'_>, evidence: &mut Evidence) {
    let (times, digests) = cluster.samples().await;
    evidence.times.extend(times);
    evidence.digests.extend(digests);
}

/// Asks a quiet cluster until all nodes tell of the same index; a tick of the cluster's clock may come between.
async fn compare_digests(cluster: &Cluster<'_>, evidence: &mut Evidence) {
    for _ in 0..50 {
        let before = evidence.digests.len();
        take_samples(cluster, evidence).await;
        let samples = &evidence.digests[before..];
        if samples.len() == cluster.size() as usize && samples.iter().all(|s| s.index == samples[0].index) {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn demands(test: &Test, plan: &Plan) -> Vec<Demand> {
    let faults = plan.nemeses.iter().map(|kind| Demand { what: Event::Fault(kind.name().into()), at_least: 1 });
    let asked = plan.nemeses.contains(&Kind::Membership).then_some(Demand { what: Event::AskedRemoved, at_least: 1 });
    // With one node every fault takes all there is; a power loss may take every node at once.
    let all_at_once = plan.nemeses.iter().any(|kind| matches!(kind, Kind::Power | Kind::Blackout));
    let survives = minority(test.nodes) > 0 && !all_at_once;
    plan.workload.demands(test.seconds, survives).into_iter().chain(faults).chain(asked).collect()
}
