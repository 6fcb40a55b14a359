//! The check before a node serves: its state adds up to its digest (key-log §5.4), and every batch it was made from
//! carries a MAC of the keyring (key-hierarchy §2). The digest alone says that nothing was changed since apply; what a
//! sealed node applied, it applied unverified.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_core::batch::{Batch, Entry};
use quorate_core::record_key::RecordKey;
use quorate_core::seam::WallClock;
use quorate_journal::Driver;
use tokio::time::Instant;

use crate::error::{Problem, ReadError, StateMismatch};
use crate::log::LogReader;
use crate::raft::codec::{decode_log_id, from_journal, invalid};
use crate::raft::settings::LOG_READ_BYTES_MAX;
use crate::raft::{Payload, RaftEntry};
use crate::replica::View;
use crate::shared::Shared;
use crate::space::is_near_low;
use crate::state::{self, BatchVerifier, Meta, StateError, StateFiles};

/// So much of the log is checked for forged batches before a node serves, the newest: what is older is held to the digest
/// alone, as if it were purged.
const UNFORGED_BYTES: u64 = 128 << 20;
/// After each segment of the log a scrub rests for so many times as long as it took.
const RESTS: u32 = 3;

/// A scan of the whole state; whoever needs one while it runs waits for it.
type Scan = futures::future::Shared<BoxFuture<'static, Result<(), StateMismatch>>>;

/// How the state is checked.
#[derive(Clone, Copy)]
enum Check {
    /// As it is applied, as fast as a few threads can: somebody waits for it.
    Now,
    /// As it is on the disk, beside other work.
    Beside,
}

/// Who checks the state, and what is known of it.
pub(crate) struct Checker {
    files: Arc<StateFiles>,
    journal: LogReader,
    shared: Arc<Shared>,
    wall: Arc<dyn WallClock>,
    driver: Driver,
    /// The scan that is under way, or the last one.
    last: Mutex<Option<Scan>>,
    /// When the whole state was last found to be good, by this machine's clock; 0 = not since the start.
    good_ms: AtomicU64,
}

impl Checker {
    pub(crate) fn new(
        files: Arc<StateFiles>,
        journal: LogReader,
        shared: Arc<Shared>,
        wall: Arc<dyn WallClock>,
        driver: Driver,
    ) -> Arc<Self> {
        Arc::new(Self { files, journal, shared, wall, driver, last: Mutex::default(), good_ms: AtomicU64::new(0) })
    }

    /// When the whole state was last found to be good.
    pub(crate) fn good_ms(&self) -> u64 {
        self.good_ms.load(Ordering::Relaxed)
    }

    /// Checks the whole state against its digest, off the runtime. A scan that runs already serves as well: it
    /// began after this start, and what was applied since this process applied itself. Damage ends this node's service,
    /// whether or not anybody waits for the answer.
    pub(crate) fn scan(self: &Arc<Self>) -> Scan {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scan) = last.as_ref().filter(|scan| scan.peek().is_none()) {
            return scan.clone();
        }
        let checker = self.clone();
        let scan = async move {
            let here = checker.clone();
            let started = checker.driver.start("verify", async move { here.check_digest(Check::Now).await });
            let checked = async { started?.await }.await;
            checked.unwrap_or_else(|e| Err(checker.mismatch(0, &e)))
        };
        let scan = scan.boxed().shared();
        *last = Some(scan.clone());
        scan
    }

    async fn check_digest(&self, how: Check) -> Result<(), StateMismatch> {
        let began = Instant::now();
        loop {
            let replaced = self.files.replaced();
            let view = match how {
                Check::Now => self.files.view(),
                // It is about the disk, and takes long: a view of what is durable keeps nothing in memory.
                Check::Beside => self.files.durable_view(),
            };
            let index = |view: &dyn state::View| Meta::read(view).ok().and_then(|meta| meta.applied).map_or(0, |a| a.0);
            let checked = match view {
                Ok(view) => self.check_view(&view, how).await.map_err(|e| self.mismatch(index(&*view), &e)),
                Err(e) => Err(self.mismatch(0, &e)),
            };
            match checked {
                Ok(None) => {
                    tracing::info!(
                        "the check of the state was given up: this node is stopping, or its disk nearly full"
                    );
                    return Ok(());
                }
                Ok(Some(records)) => {
                    let ms = began.elapsed().as_millis() as u64;
                    tracing::info!(records, ms, "the state adds up to its digest");
                    self.good_ms.store(self.wall.now_ms(), Ordering::Relaxed);
                    return Ok(());
                }
                // A snapshot took its place meanwhile.
                Err(_) if self.files.replaced() != replaced => {}
                Err(e) => {
                    if !self.shared.is_stopping() {
                        self.shared.set_problem(Problem::State(e.to_string()));
                    }
                    return Err(e);
                }
            }
        }
    }

    /// How many records are in a view that adds up; nothing when the check was given up.
    async fn check_view(&self, view: &Arc<dyn state::View>, how: Check) -> Result<Option<u64>, StateError> {
        let ends = || self.shared.is_stopping() || is_near_low(self.journal.space());
        match how {
            Check::Now => state::verify_on(&self.driver, view).await.map(Some),
            Check::Beside => match state::scrub_state(view, ends).await {
                Err(StateError::Io(e)) if e.kind() == io::ErrorKind::Interrupted => Ok(None),
                checked => checked.map(Some),
            },
        }
    }

    fn mismatch(&self, index: u64, what: &dyn std::fmt::Display) -> StateMismatch {
        StateMismatch::Digest { file: self.files.path(), index, what: what.to_string() }
    }

    /// Checks the state and the log again and again while the node runs: what nobody reads may rot (key-log §5.4). Damage ends
    /// this node's service. Runs as long as the replica.
    pub(crate) async fn scrub(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let here = self.clone();
            let scrub = self.driver.start("scrub", async move { here.scrub_once().await });
            match async { scrub?.await }.await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "state and log were not checked again; it is tried later"),
            }
        }
    }

    /// Whether it is to be done again.
    async fn scrub_once(&self) -> bool {
        let space = self.journal.space();
        if is_near_low(space) {
            let free_mib = space.free_bytes >> 20;
            tracing::warn!(
                free_mib,
                "the state was not checked, as its file grows meanwhile and the disk is nearly full; make room"
            );
        } else {
            if let Err(error) = self.files.drop_cached() {
                tracing::warn!(%error, "what the system has cached of the state can't be dropped, and is checked as cached");
            }
            if self.check_digest(Check::Beside).await.is_err() {
                return false;
            }
        }
        match self.scrub_log().await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // The state stands for that part: it is all the more to be looked at.
                self.shared.set_problem(Problem::Journal(error.to_string()));
            }
            Err(error) => tracing::warn!(%error, "the log was not checked again; it is tried later"),
        }
        true
    }

    /// All segments but the newest, which the last start has read.
    async fn scrub_log(&self) -> io::Result<()> {
        for segment in self.journal.segments() {
            let began = Instant::now();
            self.journal.check(segment)?;
            if self.shared.is_stopping() {
                break;
            }
            tokio::time::sleep(began.elapsed() * RESTS).await;
        }
        Ok(())
    }

    /// With a verifier, checks the newest of the log up to a view, off the runtime. What is older, or came in a
    /// snapshot, is held to the digest alone until signed anchors of digests vouch for it.
    pub(crate) async fn verify_batches(self: &Arc<Self>, view: Result<View, ReadError>) -> Result<(), StateMismatch> {
        let view = view.map_err(|e| self.mismatch(0, &e))?;
        let (index, here) = (view.applied(), self.clone());
        let forged = self.driver.run("verify", move || here.find_forged(&view)).await.flatten();
        match forged.map_err(|e| self.mismatch(index, &e))? {
            Some(index) => Err(StateMismatch::Forged(Problem::BadMac { index })),
            None => Ok(()),
        }
    }

    fn find_forged(&self, view: &View) -> io::Result<Option<u64>> {
        let Some(keys) = self.shared.keys() else { return Ok(None) };
        // A group that is being applied took up the verifier before it was set, perhaps; it is committed.
        let committed = self.journal.committed().map(|id| decode_log_id(&id).map_err(invalid)).transpose()?;
        let through = committed.map_or(view.applied(), |id| id.index.max(view.applied()));
        find_forged(&self.journal, UNFORGED_BYTES, through, view, &*keys)
    }
}

/// The first batch in the newest `bytes` of the log, up to and with index `through`, whose MAC is wrong.
fn find_forged(
    journal: &LogReader,
    bytes: u64,
    through: u64,
    view: &View,
    verifier: &dyn BatchVerifier,
) -> io::Result<Option<u64>> {
    let end = through.saturating_add(1);
    let mut next = journal.purge_keeping(bytes).map_or(0, |before| before + 1);
    loop {
        let entries = journal.entries(next..end, LOG_READ_BYTES_MAX)?;
        let Some(last) = entries.last() else { return Ok(None) };
        next = last.index + 1;
        for entry in &entries {
            if is_forged(&from_journal(entry).map_err(invalid)?, view, verifier)? {
                return Ok(Some(entry.index));
            }
        }
    }
}

fn is_forged(entry: &RaftEntry, view: &View, verifier: &dyn BatchVerifier) -> io::Result<bool> {
    let openraft::EntryPayload::Normal(Payload(bytes)) = &entry.payload else { return Ok(false) };
    let state = |key: &RecordKey| view.value(key);
    // What apply takes for malformed, or for another cluster's, has changed nothing.
    match Entry::decode(bytes) {
        Ok(Entry::Batch(batch)) if Batch::decode(&batch).is_ok_and(|(decoded, _)| view.meta().owns(&decoded)) => {
            Ok(!verifier.verify(&batch, &state)?)
        }
        Ok(Entry::Open(open)) if view.meta().is_of(open.lineage, open.cluster, open.group) => {
            Ok(!verifier.verify_open(&open, &state)?)
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::id::BatchId;

    use super::*;
    use crate::testing::{Cluster, TestKeys, forged};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_a_long_log_the_newest_part_is_searched_for_forged_batches() {
        let cluster = Cluster::founded(1).await;
        let (replica, node) = (&cluster.nodes[0], cluster.nodes[0].node());
        cluster.write(0, "before", b"1").await;
        // As it would be applied while the node is sealed.
        replica.set_keys(None);
        let id = BatchId { origin: node.base.me, boot: node.base.boot, seq: 9 };
        node.proposals.sequence_entry(&Entry::Batch(forged(id, "forged").to_vec())).await;
        let index = replica.status().last_log;
        replica.set_keys(Some(Arc::new(TestKeys)));
        for n in 0..40 {
            cluster.write(0, &format!("later {n}"), &vec![n; 48 << 10]).await;
        }
        let view = replica.view().expect("a view");
        let search =
            |bytes| find_forged(&node.base.journal, bytes, view.applied(), &view, &TestKeys).expect("readable");
        assert_eq!(search(4 << 20), Some(index));
        assert_eq!(search(1 << 20), None, "what is older is held to the digest alone");
        // This is what is searched before a node serves, whatever the log has.
        const { assert!(UNFORGED_BYTES == 128 << 20) };
        let found = replica.verify_state().await;
        assert_eq!(found, Err(StateMismatch::Forged(Problem::BadMac { index })));
        cluster.stop().await;
    }
}
