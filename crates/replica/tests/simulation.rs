//! Three replicas on one thread: what a seed gave once, it gives again.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::future::join_all;
use quorate_core::id::NodeId;
use quorate_journal::testing::{Rng, seed};
use quorate_replica::Replica;
use support::identity::SoftIdentity;
use support::sim::{self, SimNode, SimSite};
use support::{key, soon, write};
use tokio::time::{Instant, sleep};

/// How often it is looked what has happened.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const SITES: u64 = 3;

/// They are in the state, and an HSM makes them: the same ones in each run.
static IDENTITIES: LazyLock<Vec<Arc<SoftIdentity>>> = LazyLock::new(|| (0..SITES).map(|_| Arc::default()).collect());

/// What is seen of a node: nothing while it is down.
#[derive(Clone, PartialEq, Debug)]
struct Seen {
    term: u64,
    leader: Option<NodeId>,
    applied: u64,
    digest: [u8; 32],
}

fn seen(replica: &Replica) -> Option<Seen> {
    let status = replica.status();
    let view = replica.view().ok()?;
    let digest = view.digest().ok()?;
    Some(Seen { term: status.term, leader: status.leader, applied: view.applied(), digest })
}

#[derive(Clone, PartialEq, Debug)]
enum Event {
    /// Each with microseconds since the beginning, and the place of the node.
    Seen(u64, usize, Option<Seen>),
    Written(u64, usize, String, Result<u64, String>),
    Did(u64, usize, &'static str),
}

/// One run.
struct Run {
    begun: Instant,
    sites: Vec<SimSite>,
    nodes: RefCell<Vec<Option<SimNode>>>,
    events: RefCell<Vec<Event>>,
}

impl Run {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    fn tell(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }

    fn replica(&self, place: usize) -> Option<Replica> {
        self.nodes.borrow().get(place)?.as_ref().map(|node| node.replica.clone())
    }

    /// Notes whatever changes.
    async fn look(&self) {
        let mut last = vec![None; self.sites.len()];
        loop {
            for (place, last) in last.iter_mut().enumerate() {
                let now = self.replica(place).and_then(|replica| seen(&replica));
                if now != *last {
                    self.tell(Event::Seen(self.now(), place, now.clone()));
                    *last = now;
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn write(&self, place: usize, name: String, value: Vec<u8>) {
        let Some(replica) = self.replica(place) else { return };
        let written = write(&replica, &name, &value).await;
        self.tell(Event::Written(self.now(), place, name, written));
    }

    /// The place of the leader that most know, once there is one.
    async fn leader(&self) -> usize {
        loop {
            let known: Vec<_> = (0..self.sites.len()).filter_map(|p| self.replica(p)?.status().leader).collect();
            let leader =
                known.iter().find(|id| known.iter().filter(|other| other == id).count() > self.sites.len() / 2);
            if let Some(place) = leader.map(|id| id.0 as usize - 1).filter(|place| self.replica(*place).is_some()) {
                return place;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn take(&self, place: usize, did: &'static str) -> SimNode {
        self.tell(Event::Did(self.now(), place, did));
        self.nodes.borrow_mut()[place].take().expect("it runs")
    }

    async fn restart(&self, place: usize) {
        self.tell(Event::Did(self.now(), place, "start"));
        let node = self.sites[place].start(false, None).await;
        self.nodes.borrow_mut()[place] = Some(node);
    }

    /// A while of writes through any node.
    async fn load(&self, rng: &mut Rng) {
        for n in 0..4 + rng.below(8) {
            let some: Vec<_> = (0..1 + rng.below(4))
                .map(|m| {
                    let (place, len) = (rng.below(SITES) as usize, 1 + rng.below(6000) as usize);
                    self.write(place, format!("{}", (n * 5 + m) % 12), rng.bytes(len))
                })
                .collect();
            join_all(some).await;
            sleep(Duration::from_millis(rng.below(30))).await;
        }
    }

    async fn all(&self, mut rng: Rng) {
        let first = sim::voters(&self.sites).await;
        *self.nodes.borrow_mut() = first.into_iter().map(Some).collect();
        for _ in 0..2 {
            self.load(&mut rng).await;
            let leader = self.leader().await;
            let node = self.take(leader, "stop");
            self.sites[leader].stop(node).await;
            self.load(&mut rng).await;
            self.restart(leader).await;
            self.load(&mut rng).await;
            let leader = self.leader().await;
            let node = self.take(leader, "cut power");
            self.sites[leader].cut_power(node, &mut rng);
            self.load(&mut rng).await;
            let ended = std::mem::take(&mut *self.sites[leader].ended.lock().expect("lock"));
            assert_eq!(ended.len(), 1, "it is told to end, once: {ended:?}");
            self.restart(leader).await;
        }
        self.load(&mut rng).await;
        self.agree().await;
    }

    /// All come to the same.
    async fn agree(&self) {
        let replicas: Vec<_> = (0..self.sites.len()).map(|place| self.replica(place).expect("it runs")).collect();
        let mut through = 0;
        for replica in &replicas {
            through = through.max(replica.read_index(soon()).await.expect("a read index"));
        }
        for replica in &replicas {
            replica.applied().wait_for(|applied| *applied >= through).await.expect("running");
            replica.verify_state().await.expect("adds up");
            assert!(replica.problem().is_none(), "{:?}", replica.problem());
        }
        let revision = |replica: &Replica, name: &str| {
            let found = replica.view().expect("a view").get(&key(name)).expect("readable");
            found.map(|(rev, _)| rev)
        };
        let mut acknowledged = BTreeMap::new();
        for event in &*self.events.borrow() {
            if let Event::Written(_, _, name, Ok(index)) = event {
                acknowledged
                    .entry(name.clone())
                    .and_modify(|newest: &mut u64| *newest = (*newest).max(*index))
                    .or_insert(*index);
            }
        }
        assert!(acknowledged.len() > 5);
        for (name, index) in acknowledged {
            let revisions: Vec<_> = replicas.iter().map(|replica| revision(replica, &name)).collect();
            assert!(
                revisions.iter().all(|rev| *rev >= Some(index) && *rev == revisions[0]),
                "{name} {index} {revisions:?}"
            );
        }
    }
}

/// Everything that was seen of a run with that seed.
fn run(seed: u64) -> Vec<Event> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("one");
    runtime.block_on(async {
        let run = Run {
            begun: Instant::now(),
            sites: sim::sites(seed, &IDENTITIES),
            nodes: RefCell::new((0..SITES).map(|_| None).collect()),
            events: RefCell::default(),
        };
        tokio::select! {
            biased;
            () = run.all(Rng(seed)) => {}
            () = run.look() => {}
        }
        run.events.into_inner()
    })
}

/// The first event in which two runs differ.
fn difference(one: &[Event], other: &[Event]) -> Option<String> {
    let at = (0..one.len().max(other.len())).find(|n| one.get(*n) != other.get(*n))?;
    Some(format!("event {at} of {}: {:?} is not {:?}", one.len(), one.get(at), other.get(at)))
}

/// Who led, as seen by whom, from when on.
fn leaders(events: &[Event]) -> Vec<(u64, usize, NodeId)> {
    let mut known = BTreeMap::new();
    let led = events.iter().filter_map(|event| match event {
        Event::Seen(at, place, Some(Seen { leader: Some(leader), .. })) => {
            (known.insert(*place, *leader) != Some(*leader)).then_some((*at, *place, *leader))
        }
        _ => None,
    });
    led.collect()
}

#[test]
fn a_seed_repeats_a_run_event_by_event_and_another_gives_another() {
    let seed = seed(12);
    let first = run(seed);
    assert_eq!(difference(&first, &run(seed)), None);
    let (led, other) = (leaders(&first), leaders(&run(seed + 1)));
    assert!(led.len() > 4 && led != other, "{led:?} {other:?}");
}
