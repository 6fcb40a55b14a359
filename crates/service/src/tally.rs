//! What this node has done with keys since it was written down last: noted in memory by every use, written down at most once an
//! hour for each key, and not many at a time (key-model §6). Lost when the node stops or is sealed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use quorate_core::action::Action;
use quorate_core::decide::tally::{self, KEYS_MAX};
use quorate_core::id::KeyId;
use quorate_core::record::Tally;
use tokio::time::Instant;

use crate::error::Error;
use crate::records::{Records, Secrets};

/// How long nothing more is written of a key; the first use after that is soon.
const REST: Duration = Duration::from_secs(60 * 60);
/// How often it is looked what is to be written.
const LOOK: Duration = Duration::from_secs(5);
/// How long one change may take.
const WITHIN: Duration = Duration::from_secs(10);
/// So many parts, so that uses of different keys seldom wait for each other.
const SHARDS: usize = 16;
/// Keys in one part, at most: some 30 MB in all. What is used besides is not noted.
const KEYS_PER_SHARD: usize = 1 << 14;

/// What this node has done, and has not written down.
#[derive(Default)]
pub struct Uses {
    shards: [Mutex<HashMap<KeyId, Noted>>; SHARDS],
}

/// Of one key.
#[derive(Default)]
struct Noted {
    /// Not written down yet.
    pending: Option<Tally>,
    /// When something was written last, by the clock that nobody sets.
    written: Option<Duration>,
}

impl Noted {
    fn rests(&self, now: Duration) -> bool {
        self.written.is_some_and(|written| now.saturating_sub(written) < REST)
    }
}

impl Uses {
    /// Notes a use of now (display time, ms since 1970).
    pub fn note(&self, key: KeyId, action: Action, now_ms: u64) {
        self.add(key, Tally::one(action, now_ms));
    }

    fn add(&self, key: KeyId, tally: Tally) {
        let mut keys = self.shard(key);
        let there = keys.len();
        let noted = match keys.get_mut(&key) {
            Some(noted) => noted,
            None if there >= KEYS_PER_SHARD => return,
            None => keys.entry(key).or_default(),
        };
        noted.pending = Some(noted.pending.map_or(tally, |pending| pending.and(tally)));
    }

    /// What is noted of a key and not written down.
    pub fn pending(&self, key: KeyId) -> Option<Tally> {
        self.shard(key).get(&key)?.pending
    }

    /// Takes out what is to be written down now, those that have waited longest first; what rests and has rested is forgotten.
    fn take(&self, now: Duration, max: usize) -> Vec<(KeyId, Tally)> {
        let mut ready = Vec::new();
        for shard in &self.shards {
            let mut keys = locked(shard);
            keys.retain(|_, noted| noted.pending.is_some() || noted.rests(now));
            ready.extend(
                keys.iter()
                    .filter(|(_, noted)| !noted.rests(now))
                    .filter_map(|(key, noted)| Some((*key, noted.pending?))),
            );
        }
        ready.sort_unstable_by_key(|(key, tally)| (tally.first_ms, *key));
        ready.truncate(max);
        for (key, tally) in &mut ready {
            let mut keys = self.shard(*key);
            let noted = keys.entry(*key).or_default();
            // Used again meanwhile, perhaps.
            *tally = noted.pending.take().unwrap_or(*tally);
            noted.written = Some(now);
        }
        ready
    }

    /// It could not be written down: it is for the next time.
    fn put_back(&self, tallies: Vec<(KeyId, Tally)>) {
        for (key, tally) in tallies {
            if let Some(noted) = self.shard(key).get_mut(&key) {
                noted.written = None;
            }
            self.add(key, tally);
        }
    }

    fn shard(&self, key: KeyId) -> MutexGuard<'_, HashMap<KeyId, Noted>> {
        // Of the random bits of an id.
        locked(&self.shards[usize::from(key.0[11]) % SHARDS])
    }

    /// Writes down what is to be written, of so many keys at most; the answer is of how many there was something.
    ///
    /// # Errors
    /// Those of every change; what was not written is there for the next time.
    pub async fn write(&self, records: &Records, max: usize) -> Result<usize, Error> {
        let (taken, node) = (self.take(records.world.boot_clock.now(), max.min(KEYS_MAX)), records.replica.status().id);
        if taken.is_empty() {
            return Ok(0);
        }
        let deadline = Instant::now() + WITHIN;
        let written = records.change(deadline, Secrets::default(), |facts| tally::decide(facts, node, &taken)).await;
        match written {
            Ok(_) => Ok(taken.len()),
            // It may have been written: late and lossy is promised, twice is not.
            Err(Error::UnknownOutcome) => Ok(taken.len()),
            // Damaged records of one key must not keep the others' for ever.
            Err(e @ (Error::Damaged(_) | Error::Newer(_) | Error::Internal(_))) => Err(e),
            Err(e) => {
                self.put_back(taken);
                Err(e)
            }
        }
    }
}

/// Writes down from time to time, until the records close or nobody holds on to these.
pub fn keep(uses: &Arc<Uses>, records: &Arc<Records>) {
    let (uses, records) = (Arc::downgrade(uses), Arc::downgrade(records));
    tokio::spawn(async move { while look(&uses, &records).await {} });
}

/// Whether to look again.
async fn look(uses: &Weak<Uses>, records: &Weak<Records>) -> bool {
    tokio::time::sleep(LOOK).await;
    for _ in 0..LOOK.as_secs() {
        let (Some(uses), Some(records)) = (uses.upgrade(), records.upgrade()) else { return false };
        if records.check_open().is_err() {
            return false;
        }
        match uses.write(&records, KEYS_MAX).await {
            Ok(KEYS_MAX) => {}
            Ok(_) => break,
            Err(e) => {
                tracing::debug!(reason = e.reason().as_str(), "uses will be written down later");
                break;
            }
        }
    }
    true
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(n: u8) -> KeyId {
        KeyId([n; 16])
    }
    fn taken(uses: &Uses, now: Duration, max: usize) -> Vec<(u8, u64)> {
        uses.take(now, max).into_iter().map(|(key, tally)| (key.0[0], tally.uses)).collect()
    }

    #[test]
    fn the_first_is_for_now_and_others_wait_for_an_hour() {
        let uses = Uses::default();
        uses.note(key(1), Action::Encrypt, 5);
        uses.note(key(1), Action::Sign, 7);
        let tally = Tally { uses: 2, first_ms: 5, last_ms: 7, last: Action::Sign };
        assert_eq!(uses.pending(key(1)), Some(tally));
        assert_eq!(taken(&uses, SECOND, 9), [(1, 2)]);
        assert_eq!(uses.pending(key(1)), None);
        uses.note(key(1), Action::Decrypt, 8);
        uses.note(key(2), Action::Decrypt, 9);
        assert_eq!(taken(&uses, REST, 9), [(2, 1)], "not within the hour");
        assert_eq!(taken(&uses, SECOND + REST, 9), [(1, 1)]);
        assert_eq!(taken(&uses, SECOND + 9 * REST, 9), []);
        assert!(uses.shards.iter().all(|shard| locked(shard).is_empty()), "what has rested is forgotten");
    }

    #[test]
    fn who_has_waited_longest_goes_first_and_what_is_put_back_is_not_lost() {
        let uses = Uses::default();
        for n in 1..=5 {
            uses.note(key(n), Action::Encrypt, 100 - u64::from(n));
        }
        assert_eq!(taken(&uses, SECOND, 2), [(5, 1), (4, 1)]);
        uses.note(key(3), Action::Encrypt, 101);
        let three = uses.take(SECOND, 1);
        uses.note(key(3), Action::Encrypt, 102);
        uses.put_back(three);
        assert_eq!(taken(&uses, SECOND, 9), [(3, 3), (2, 1), (1, 1)]);
    }

    #[test]
    fn memory_has_its_bounds() {
        let uses = Uses::default();
        for n in 0..KEYS_PER_SHARD as u64 + 5 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            uses.note(KeyId(id), Action::Encrypt, 1);
        }
        assert_eq!(locked(&uses.shards[0]).len(), KEYS_PER_SHARD);
        // What is known already is noted all the same.
        uses.note(KeyId([0; 16]), Action::Encrypt, 2);
        assert_eq!(uses.pending(KeyId([0; 16])).map(|tally| tally.uses), Some(2));
    }
}
