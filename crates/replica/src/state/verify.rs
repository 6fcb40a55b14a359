//! The check of a whole state against its digest (key-log §5.4).

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use quorate_core::record_key::Table;
use tokio::time::Instant;

use super::digest::LtHash;
use super::engine::View;
use super::meta::{Meta, RECORDS_END};
use super::writer::StateError;

/// Records read at a time by each thread: its memory, whatever the state's size.
pub(super) const SCAN_STEP: usize = 256;
/// More threads would take the machine from everybody else.
const THREADS_MAX: usize = 4;
/// Each table is cut into so many pieces by the first byte of its blinded names, which are spread evenly.
const PIECES_PER_TABLE: usize = 16;

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
    let pieces = pieces();
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<(LtHash, u64)> {
        let (mut digest, mut records) = (LtHash::default(), 0);
        while let Some((from, to)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            records += scan(view, from, to, &mut digest, pause)?;
        }
        Ok((digest, records))
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

type Piece = (Vec<u8>, Vec<u8>);

/// Everything before what is no record, in pieces without gaps: whatever stands between tables counts too.
fn pieces() -> Vec<Piece> {
    let cuts = (0..RECORDS_END[0])
        .filter(|table| Table::from_byte(*table).is_some())
        .flat_map(|table| (0..PIECES_PER_TABLE).map(move |n| vec![table, (n * 256 / PIECES_PER_TABLE) as u8]));
    let mut cuts: Vec<Vec<u8>> = std::iter::once(Vec::new()).chain(cuts).collect();
    cuts.push(RECORDS_END.to_vec());
    cuts.windows(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn scan(view: &dyn View, from: &[u8], to: &[u8], digest: &mut LtHash, pause: Pause<'_>) -> io::Result<u64> {
    let mut records = 0;
    let mut after = Bound::Included(from.to_vec());
    loop {
        let began = Instant::now();
        let page = view.scan((after.as_ref().map(|k| &k[..]), Bound::Excluded(to)), SCAN_STEP)?;
        records += page.len() as u64;
        for (key, value) in &page {
            digest.add(key, value);
        }
        match page.into_iter().next_back() {
            Some((last, _)) => after = Bound::Excluded(last),
            None => return Ok(records),
        }
        pause(began.elapsed())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_leave_nothing_out() {
        let pieces = pieces();
        assert!(pieces[0].0.is_empty() && pieces.last().is_some_and(|(_, to)| *to == RECORDS_END));
        assert!(pieces.iter().all(|(from, to)| from < to));
        assert!(pieces.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert!(pieces.len() > 100);
    }
}
