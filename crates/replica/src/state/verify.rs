//! The check of a whole state against its digest (key-log §5.4).

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_journal::Driver;
use tokio::time::Instant;

use super::digest::LtHash;
use super::engine::View;
use super::meta::{Meta, RECORDS_END};
use super::writer::StateError;

/// Records read at a time by each thread: its memory, whatever the state's size.
pub(super) const SCAN_STEP: usize = 256;
/// More threads would take the machine from everybody else.
const THREADS_MAX: usize = 4;

/// A scrub rests for so many times as long as it has worked …
const RESTS: u32 = 3;
/// … at most for so long.
const REST_MAX: Duration = Duration::from_millis(200);

/// Scans a whole view against its own digest; returns the number of records. This is what catches lost, added,
/// changed and rolled-back records, on any engine, in constant memory.
///
/// # Errors
/// [`StateError::Mismatch`], or the engine failed.
pub fn verify_state(view: &dyn View) -> Result<u64, StateError> {
    let (pages, mut sum) = (Pages::default(), Sum::default());
    while pages.add_next(view, &mut sum)? {}
    compare(view, &sum)
}

/// The same on a few of the driver's threads: it takes seconds for a million records.
///
/// # Errors
/// As [`verify_state`].
pub(crate) async fn verify_on(driver: &Driver, view: &Arc<dyn View>) -> Result<u64, StateError> {
    let pages = Arc::new(Pages::default());
    let part = || {
        let (view, pages, mut sum) = (view.clone(), pages.clone(), Sum::default());
        async move {
            while pages.add_next(&*view, &mut sum)? {}
            Ok::<_, io::Error>(sum)
        }
    };
    let others: Vec<_> =
        (1..driver.parallelism(THREADS_MAX)).map(|_| driver.start("verify", part())).collect::<io::Result<_>>()?;
    let mut sum = part().await?;
    for other in others {
        sum.merge(&other.await??);
    }
    compare(&**view, &sum)
}

/// The same beside other work: on one thread, which rests most of the time, and ends early once `stopping` says so. Not
/// slower than that, since the file can reuse nothing that is given up while it is looked at.
///
/// # Errors
/// As [`verify_state`]; `Interrupted` when it ended early.
pub(crate) async fn scrub_state(view: &Arc<dyn View>, stopping: impl Fn() -> bool) -> Result<u64, StateError> {
    let (pages, mut sum) = (Pages::default(), Sum::default());
    loop {
        let began = Instant::now();
        if !pages.add_next(&**view, &mut sum)? {
            return compare(&**view, &sum);
        }
        if stopping() {
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        tokio::time::sleep((began.elapsed() * RESTS).min(REST_MAX)).await;
    }
}

/// Whether that is what the view's own digest says; how many records it is.
fn compare(view: &dyn View, sum: &Sum) -> Result<u64, StateError> {
    let (meta, stored) = (Meta::read(view)?, Meta::read_digest(view)?);
    match sum.digest == stored {
        true => Ok(sum.records),
        false => Err(StateError::Mismatch { index: meta.applied.map(|(index, _)| index), records: sum.records }),
    }
}

/// What some of the records add up to.
#[derive(Default)]
struct Sum {
    digest: LtHash,
    records: u64,
}

impl Sum {
    fn merge(&mut self, other: &Self) {
        self.digest.merge(&other.digest);
        self.records += other.records;
    }
}

/// Everything before what is no record, page by page, each handed out once: whatever stands between tables counts too. Who
/// takes a page reads it and then hashes it, which takes longer, so that threads hardly wait for one another; nothing is
/// assumed of how keys are spread. The last key that was handed out.
#[derive(Default)]
struct Pages(Mutex<Option<Vec<u8>>>);

impl Pages {
    fn next(&self, view: &dyn View) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut after = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let page = view.scan((from, Bound::Excluded(&RECORDS_END)), SCAN_STEP)?;
        if let Some((last, _)) = page.last() {
            *after = Some(last.clone());
        }
        Ok(page)
    }

    /// Adds the next page; false: there is none.
    fn add_next(&self, view: &dyn View, sum: &mut Sum) -> io::Result<bool> {
        let page = self.next(view)?;
        page.iter().for_each(|(key, value)| sum.digest.add(key, value));
        sum.records += page.len() as u64;
        Ok(!page.is_empty())
    }
}
