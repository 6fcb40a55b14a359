//! Write down what a node has done with keys since it did so last (key-model §6).

use super::{Change, Write};
use crate::facts::Facts;
use crate::id::{KeyId, NodeId};
use crate::lifecycle::KeyState;
use crate::record::{KeyRecord, Tally, UseRecord};

/// Keys of one change, at most: what a node writes in a second.
pub const KEYS_MAX: usize = 50;

/// Decides it for some keys; of those that are gone, or are not to be watched any more, nothing is written. No principal: each
/// use was granted by itself.
///
/// # Errors
/// None of its own.
pub fn decide<F: Facts>(facts: &mut F, node: NodeId, of: &[(KeyId, Tally)]) -> Result<Change<()>, F::Error> {
    let mut writes = Vec::new();
    for (key, tally) in of.iter().take(KEYS_MAX).copied() {
        // Read, and so expected: no record outlives its key.
        if facts.get::<KeyRecord>(key)?.is_none_or(|key| key.state == KeyState::Destroyed || !key.tracked) {
            continue;
        }
        let before = facts.get::<UseRecord>((key, node))?;
        let tally = before.map_or(tally, |before| before.tally.and(tally));
        writes.push(Write::Update(UseRecord { key, node, tally }.into()));
    }
    Ok(Change { writes, answer: () })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;
    use crate::decide::model::{Store, TestIds, admin, duty, new_key};
    use crate::decide::{Changes, Purge, ScheduleDeletion, Update, destroy};
    use crate::record::{Record, RecordName};
    use crate::request::{DeletionWindow, KeyHandle};
    use crate::time::Time;

    const NOW: Time = Time { cluster_ms: 1_000_000_000, local_ms: 1_000_000_000 };
    const NODE: NodeId = NodeId(3);

    fn written(store: &Store, key: KeyId) -> Option<Tally> {
        let name = RecordName::Use((key, NODE));
        match Record::decode(&name, store.0.get(&name)?) {
            Ok(Record::Use(record)) => Some(record.tally),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_comes_is_added_and_of_what_is_gone_or_not_watched_nothing_is_written() {
        let (mut store, ids, by) = (Store::default(), TestIds::default(), admin());
        let [kept, quiet, gone] = [0; 3].map(|_| new_key(&mut store, NOW, &ids));
        let unwatch =
            Update { key: KeyHandle::Id(quiet), changes: Changes { tracked: Some(false), ..Changes::default() } };
        store.commit(&by, &ids, NOW, &unwatch).unwrap();
        let window = DeletionWindow::from_days(7).unwrap();
        store.commit(&by, &ids, NOW, &ScheduleDeletion { key: KeyHandle::Id(gone), window }).unwrap();
        let all = |action, at| [kept, quiet, gone, KeyId([9; 16])].map(|key| (key, Tally::one(action, at)));
        store.run(|facts| decide(facts, NODE, &all(Action::Sign, 9))).unwrap();
        assert_eq!(written(&store, gone), Some(Tally::one(Action::Sign, 9)), "it may be spared yet");
        store.commit(&by, &ids, NOW, &Purge { key: KeyHandle::Id(gone) }).unwrap();
        store.run(|facts| decide(facts, NODE, &all(Action::Mac, 7))).unwrap();
        assert_eq!(written(&store, kept), Some(Tally { uses: 2, first_ms: 7, last_ms: 9, last: Action::Sign }));
        assert_eq!(written(&store, quiet), None);
        assert_eq!(written(&store, gone), Some(Tally::one(Action::Sign, 9)), "marked: nothing is added");
        loop {
            if store.destroy(0, gone, duty(NOW.cluster_ms)).unwrap() == destroy::Progress::Done {
                break;
            }
        }
        assert_eq!(written(&store, gone), None);
    }
}
