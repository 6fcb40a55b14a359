//! The check of a whole state against its digest (key-log §5.4).

use std::io;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

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
/// changed and rolled-back records, on any engine; it takes seconds for a million records, on a few threads, in
/// constant memory.
///
/// # Errors
/// [`StateError::Mismatch`], or the engine failed.
pub fn verify_state(view: &dyn View) -> Result<u64, StateError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    compare(view, threads, &|_| Ok(()))
}

/// The same beside other work: on one thread, which rests most of the time, and ends early once `stopping` says so. Not
/// slower than that, since the file can reuse nothing that is given up while it is looked at.
///
/// # Errors
/// As [`verify_state`]; `Interrupted` when it ended early.
pub fn scrub_state(view: &dyn View, stopping: &(dyn Fn() -> bool + Sync)) -> Result<u64, StateError> {
    compare(view, 1, &|worked| {
        if stopping() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        thread::sleep((worked * RESTS).min(REST_MAX));
        Ok(())
    })
}

/// What happens between two steps of a scan; it is told how long the last one took.
type Pause<'a> = &'a (dyn Fn(Duration) -> io::Result<()> + Sync);

fn compare(view: &dyn View, threads: usize, pause: Pause<'_>) -> Result<u64, StateError> {
    let (meta, stored) = (Meta::read(view)?, Meta::read_digest(view)?);
    let pages = Pages { view, after: Mutex::default() };
    let work = || -> io::Result<(LtHash, u64)> {
        let (mut digest, mut records) = (LtHash::default(), 0);
        loop {
            let began = Instant::now();
            let page = pages.next()?;
            if page.is_empty() {
                return Ok((digest, records));
            }
            records += page.len() as u64;
            for (key, value) in &page {
                digest.add(key, value);
            }
            pause(began.elapsed())?;
        }
    };
    let (mut digest, mut records) = (LtHash::default(), 0);
    thread::scope(|scope| -> io::Result<()> {
        // Those of the one scan; they end with it.
        let others: Vec<_> = (1..threads)
            .map(|_| thread::Builder::new().name("verify".into()).spawn_scoped(scope, work))
            .collect::<io::Result<_>>()?;
        let mut parts = vec![work()?];
        for other in others {
            parts.push(other.join().map_err(|_| io::Error::other("a scanning thread ended early"))??);
        }
        for (part, n) in parts {
            digest.merge(&part);
            records += n;
        }
        Ok(())
    })?;
    if digest == stored {
        Ok(records)
    } else {
        Err(StateError::Mismatch { index: meta.applied.map(|(index, _)| index), records })
    }
}

/// Everything before what is no record, page by page, each handed out once: whatever stands between tables counts too. Who
/// takes a page reads it and then hashes it, which takes longer, so that threads hardly wait for one another; nothing is
/// assumed of how keys are spread.
struct Pages<'a> {
    view: &'a dyn View,
    after: Mutex<Option<Vec<u8>>>,
}

impl Pages<'_> {
    fn next(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut after = self.after.lock().unwrap_or_else(PoisonError::into_inner);
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let page = self.view.scan((from, Bound::Excluded(&RECORDS_END)), SCAN_STEP)?;
        if let Some((last, _)) = page.last() {
            *after = Some(last.clone());
        }
        Ok(page)
    }
}
