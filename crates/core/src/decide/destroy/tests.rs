//! What is known of a destruction.

use crate::decide::model::{Store, TestIds, admin, new_key};
use crate::decide::{CancelDeletion, DestroyVersion, Purge, Rotate, ScheduleDeletion};
use crate::id::KeyVersion;
use crate::record::{Cause, RecordName, Scheduled};
use crate::request::{DeletionWindow, KeyHandle};
use crate::time::Time;

/// What somebody destroyed is known by whom, and what comes back from a backup and goes again is known to have.
#[test]
fn who_destroyed_what_is_known_for_ever() {
    let (by, ids) = (admin(), TestIds::default());
    let mut store = Store::default();
    let time = Time { cluster_ms: 1_000_000_000, local_ms: 1_000_000_500 };
    let window = DeletionWindow::from_days(7).unwrap();
    let id = new_key(&mut store, time, &ids);
    let key = KeyHandle::Id(id);
    store.commit(&by, &ids, time, &Rotate { key: key.clone(), token: None }).unwrap();
    let version = KeyVersion::FIRST;
    let destroy = DestroyVersion { key: key.clone(), version };
    store.commit(&by, &ids, time, &destroy).unwrap();
    let told = store.destruction(id, Some(version)).unwrap();
    assert_eq!(told.cause, Cause::Version { by: by.principal.clone() });
    assert_eq!((told.began_ms, told.gone.len(), told.gone[0].had_material), (time.stamp_ms(), 1, true));
    assert_eq!(store.destruction(id, None), None);

    // Whoever asked for a day, and took it back, has destroyed nothing.
    let schedule = ScheduleDeletion { key: key.clone(), window };
    store.commit(&by, &ids, time, &schedule).unwrap();
    store.commit(&by, &ids, time, &CancelDeletion { key: key.clone(), as_before: true }).unwrap();
    store.check();
    assert_eq!(store.destruction(id, None), None);
    let saved = store.clone();
    for earlier in 0..2 {
        store.commit(&by, &ids, time, &schedule).unwrap();
        store.commit(&by, &ids, time, &Purge { key: key.clone() }).unwrap();
        store.check();
        let told = store.destruction(id, None).unwrap();
        let scheduled = Scheduled {
            by: Some(by.principal.clone()),
            since_ms: time.stamp_ms(),
            due_ms: time.cluster_ms + window.millis(),
        };
        assert_eq!(told.cause, Cause::Purge { by: by.principal.clone(), scheduled });
        let had: Vec<_> = told.gone.iter().map(|gone| (gone.version.get(), gone.had_material)).collect();
        assert_eq!((had, told.earlier, told.is_complete()), (vec![(1, false), (2, true)], earlier, true));
        // As a backup brings it back.
        let records = saved.0.iter().filter(|(name, _)| !matches!(name, RecordName::Destruction(_)));
        store.0.extend(records.map(|(name, body)| (name.clone(), body.clone())));
        store.0.retain(|name, _| !matches!(name, RecordName::Due(_)));
    }
}
