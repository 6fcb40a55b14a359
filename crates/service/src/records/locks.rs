//! A fair lock for each record that is changed, so that requests on one node queue instead of making each other conflict
//! (key-log §1.7). Between nodes the expectations decide; this only saves the attempts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use quorate_core::record_key::RecordKey;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// The locks that somebody holds or waits for.
#[derive(Default)]
pub struct Locks(Arc<Mutex<HashMap<RecordKey, Lock>>>);

/// Holds the locks of some records until dropped.
pub struct Held {
    keys: Vec<RecordKey>,
    guards: Vec<OwnedMutexGuard<()>>,
    table: Arc<Mutex<HashMap<RecordKey, Lock>>>,
    waited: bool,
}

impl Locks {
    /// Locks all `keys`, in their order so that nobody waits in a circle; waits first come, first served.
    /// `None` when the deadline passes first.
    pub async fn lock(&self, mut keys: Vec<RecordKey>, deadline: Instant) -> Option<Held> {
        keys.sort_unstable();
        keys.dedup();
        let guards = Vec::with_capacity(keys.len());
        let mut held = Held { keys, guards, table: self.0.clone(), waited: false };
        for i in 0..held.keys.len() {
            let lock = {
                let mut table = table(&self.0);
                table.entry(held.keys[i].clone()).or_default().clone()
            };
            let guard = match lock.clone().try_lock_owned() {
                Ok(guard) => guard,
                Err(_) => {
                    held.waited = true;
                    tokio::time::timeout_at(deadline, lock.lock_owned()).await.ok()?
                }
            };
            held.guards.push(guard);
        }
        Some(held)
    }
}

impl Held {
    /// Whether somebody else held one of them before: then what was read may be old.
    pub fn waited(&self) -> bool {
        self.waited
    }
    /// Whether these are held.
    pub fn covers(&self, keys: &[RecordKey]) -> bool {
        keys.iter().all(|key| self.keys.contains(key))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guards.clear();
        let mut table = table(&self.table);
        for key in &self.keys {
            // Only the table itself knows this lock: nobody holds it or waits for it.
            if table.get(key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
                table.remove(key);
            }
        }
    }
}

fn table(table: &Mutex<HashMap<RecordKey, Lock>>) -> std::sync::MutexGuard<'_, HashMap<RecordKey, Lock>> {
    table.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_core::record_key::Table;

    use super::*;

    fn key(n: u8) -> RecordKey {
        RecordKey::new(Table::Name, [n; 32])
    }
    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_goes_first_and_nothing_is_left_behind() {
        let locks = Arc::new(Locks::default());
        let first = locks.lock(vec![key(1), key(2)], soon()).await.unwrap();
        assert!(!first.waited() && first.covers(&[key(2), key(1)]) && !first.covers(&[key(3)]));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiters = Vec::new();
        for n in 0..10 {
            let (locks, order) = (locks.clone(), order.clone());
            waiters.push(tokio::spawn(async move {
                let held = locks.lock(vec![key(2), key(1)], soon()).await.unwrap();
                assert!(held.waited());
                order.lock().unwrap().push(n);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
        assert!(locks.0.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_the_deadline_and_leaves_the_lock_to_others() {
        let locks = Locks::default();
        let first = locks.lock(vec![key(1)], soon()).await.unwrap();
        assert!(locks.lock(vec![key(1)], Instant::now() + Duration::from_millis(5)).await.is_none());
        drop(first);
        assert!(!locks.lock(vec![key(1)], soon()).await.unwrap().waited());
        assert!(locks.0.lock().unwrap().is_empty());
    }
}
