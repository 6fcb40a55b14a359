//! Three replicas on one thread: what a seed gave once, it gives again.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use futures::future::join_all;
use quorate_core::id::NodeId;
use quorate_journal::testing::{Rng, seed};
use quorate_replica::Replica;
use support::sim::{self, SimNode, SimSite};
use support::{key, soon, write};
use tokio::time::{Instant, sleep};

/// How often it is looked what has happened.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const SITES: u8 = 3;
/// Of records that are written, again and again.
const NAMES: u64 = 12;
const FAULTS: usize = 4;

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

    /// A while of writes through any node but one.
    async fn load(&self, rng: &mut Rng, but: Option<usize>) {
        for n in 0..4 + rng.below(8) {
            let some: Vec<_> = (0..1 + rng.below(4))
                .map(|m| {
                    let (place, len) = (rng.below(SITES.into()) as usize, 1 + rng.below(6000) as usize);
                    (place, self.write(place, format!("{}", (n * 5 + m) % NAMES), rng.bytes(len)))
                })
                .collect();
            join_all(some.into_iter().filter(|(place, _)| Some(*place) != but).map(|(_, write)| write)).await;
            sleep(Duration::from_millis(rng.below(30))).await;
        }
    }

    /// Something goes wrong, and ends again.
    async fn fault(&self, rng: &mut Rng) {
        let leader = self.leader().await;
        match rng.below(4) {
            0 => {
                let node = self.take(leader, "stop");
                self.sites[leader].stop(node).await;
                self.load(rng, None).await;
                self.restart(leader).await;
            }
            1 => {
                let node = self.take(leader, "cut power");
                let ended = self.sites[leader].cut_power(node, rng);
                self.load(rng, None).await;
                let ended = std::mem::take(&mut *ended.lock().expect("lock"));
                assert_eq!(ended.len(), 1, "it is told to end, once: {ended:?}");
                self.restart(leader).await;
            }
            2 => {
                let nodes: Vec<_> = (0..self.sites.len()).map(|place| self.take(place, "cut power")).collect();
                for (site, node) in self.sites.iter().zip(nodes) {
                    site.cut_power(node, rng);
                }
                for place in 0..self.sites.len() {
                    sleep(Duration::from_millis(rng.below(500))).await;
                    self.restart(place).await;
                }
            }
            _ => {
                self.tell(Event::Did(self.now(), leader, "cut off"));
                self.sites[leader].cut_off(true);
                let meanwhile = async {
                    self.load(rng, Some(leader)).await;
                    self.sites[leader].cut_off(false);
                };
                // Nobody hears of this one before that.
                tokio::join!(self.write(leader, "0".into(), b"in vain".to_vec()), meanwhile);
            }
        }
    }

    async fn all(&self, mut rng: Rng) {
        let first = sim::voters(&self.sites).await;
        *self.nodes.borrow_mut() = first.into_iter().map(Some).collect();
        for _ in 0..FAULTS {
            self.load(&mut rng, None).await;
            self.fault(&mut rng).await;
        }
        self.load(&mut rng, None).await;
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
        assert!(acknowledged.len() as u64 > NAMES / 2);
        for (name, index) in acknowledged {
            let revisions: Vec<_> = replicas.iter().map(|replica| revision(replica, &name)).collect();
            assert!(
                revisions.iter().all(|rev| *rev >= Some(index) && *rev == revisions[0]),
                "{name} {index} {revisions:?}"
            );
        }
    }
}

/// What the standard library would take the keys of its hash maps from, and tokio, from these, in which order it wakes tasks and
/// tries the branches of a `select!`. The library looks for this symbol, so that who wants repeatable runs can put his own here.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "a foreign interface")]
unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, _flags: u32) -> isize {
    // SAFETY: so long is the buffer that the caller hands over, as getrandom(2) says.
    unsafe { std::ptr::write_bytes(buffer, 7, len) };
    len as isize
}

/// What begins a line that tells of an event.
const EVENT: &str = "event ";
/// The same for who leads, as seen by whom.
const LEADS: &str = "leads ";

/// One run, which tells what was seen. Of a process of its own: what is counted in one goes on from run to run.
#[ignore = "the other test runs it"]
#[test]
fn one_run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("one");
    let seed = seed(12);
    let events = runtime.block_on(async {
        let run = Run {
            begun: Instant::now(),
            sites: sim::sites(seed, SITES),
            nodes: RefCell::new((0..SITES).map(|_| None).collect()),
            events: RefCell::default(),
        };
        tokio::select! {
            biased;
            () = run.all(Rng(seed)) => {}
            () = run.look() => {}
        }
        run.events.into_inner()
    });
    let mut known = BTreeMap::new();
    for event in events {
        if let Event::Seen(at, place, Some(Seen { leader: Some(leader), .. })) = &event
            && known.insert(*place, *leader) != Some(*leader)
        {
            println!("{LEADS}{at} {place} {leader}");
        }
        println!("{EVENT}{event:?}");
    }
}

/// What a run with that seed tells.
fn run(seed: u64) -> Vec<String> {
    let mut process = Command::new(std::env::current_exe().expect("this test"));
    process.args(["--ignored", "--exact", "--nocapture", "one_run"]).env("QUORATE_TEST_SEED", seed.to_string());
    let output = process.output().expect("it runs");
    let told = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    told.lines().filter(|line| [EVENT, LEADS].iter().any(|kind| line.starts_with(kind))).map(str::to_owned).collect()
}

/// The first line in which two runs differ.
fn difference(one: &[String], other: &[String]) -> Option<String> {
    let at = (0..one.len().max(other.len())).find(|n| one.get(*n) != other.get(*n))?;
    Some(format!("line {at} of {}:\n{:?}\nis not\n{:?}", one.len(), one.get(at), other.get(at)))
}

#[test]
fn a_seed_repeats_a_run_event_by_event_and_another_gives_another() {
    let seed = seed(12);
    let [first, again, other] = [seed, seed, seed + 1].map(run);
    if let Some(difference) = difference(&first, &again) {
        panic!("{difference}");
    }
    let leads = |told: &[String]| told.iter().filter(|line| line.starts_with(LEADS)).cloned().collect::<Vec<_>>();
    assert!(leads(&first).len() > 4 && leads(&first) != leads(&other), "{:?}", leads(&first));
}
