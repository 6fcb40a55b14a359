use proptest::prelude::*;

use super::*;
use crate::decide::model::{Store, TestIds, admin, duty, new_key};
use crate::decide::{DestroyVersion, Purge, Revocation, Revoke, Rotate, ScheduleDeletion, Write, destroy};
use crate::record::{Record, RecordName};
use crate::request::DeletionWindow;
use crate::time::Time;

const NOW: Time = Time { cluster_ms: 1_000_000_000, local_ms: 1_000_000_000 };

fn version(n: u32) -> KeyVersion {
    KeyVersion::new(n).unwrap()
}
fn given(store: &Store, key: KeyId, of: KeyVersion) -> Option<u64> {
    let name = RecordName::Allowance((key, of));
    match Record::decode(&name, store.0.get(&name)?) {
        Ok(Record::Allowance(record)) => Some(record.gcm),
        other => panic!("{other:?}"),
    }
}
/// As if nodes had been given so many.
fn give(store: &mut Store, key: KeyId, version: KeyVersion, gcm: u64) {
    let written = store.run(|facts| {
        facts.get::<AllowanceRecord>((key, version))?;
        Ok(Change { writes: vec![Write::Update(AllowanceRecord { key, version, gcm }.into())], answer: () })
    });
    written.unwrap();
}
fn lease(store: &mut Store, key: KeyId, of: KeyVersion, wanted: u64) -> Result<Given, Refusal> {
    store.run(|facts| decide(facts, Of { key, version: of, material: [0; 32] }, wanted, true))
}

#[test]
fn a_block_is_small_at_first_and_the_last_is_what_is_left() {
    let (mut store, first) = (Store::default(), KeyVersion::FIRST);
    let key = new_key(&mut store, NOW, &TestIds::default());
    let uses = |store: &mut Store, wanted| lease(store, key, first, wanted).map(|given| given.uses);
    assert_eq!(uses(&mut store, 1), Ok(BLOCK_OF_FEW));
    assert_eq!(uses(&mut store, BLOCK_OF_FEW + 5), Ok(BLOCK_OF_FEW + 5), "as many as one request wants");
    let before = given(&store, key, first).unwrap();
    let exactly = store.run(|facts| decide(facts, Of { key, version: first, material: [0; 32] }, 3, false));
    assert_eq!((exactly.map(|given| given.uses), given(&store, key, first)), (Ok(3), Some(before + 3)));
    give(&mut store, key, first, FEW - 1);
    assert_eq!(uses(&mut store, 1), Ok(BLOCK_OF_FEW));
    assert_eq!(uses(&mut store, 1), Ok(BLOCK));
    give(&mut store, key, first, GCM_USES_MAX - 10);
    assert_eq!(uses(&mut store, 11), Err(Refusal::Exhausted(key, first)));
    assert_eq!(uses(&mut store, 4), Ok(10));
    assert_eq!(uses(&mut store, 1), Err(Refusal::Exhausted(key, first)));
    assert_eq!(given(&store, key, first), Some(GCM_USES_MAX));
}

#[test]
fn half_way_is_told_once() {
    let (mut store, first) = (Store::default(), KeyVersion::FIRST);
    let key = new_key(&mut store, NOW, &TestIds::default());
    give(&mut store, key, first, GCM_USES_DUE - BLOCK - 1);
    let due: Vec<bool> = (0..4).map(|_| lease(&mut store, key, first, 1).unwrap().falls_due).collect();
    assert_eq!(due, [false, true, false, false]);
}

#[test]
fn no_allowance_outlives_its_version_and_none_comes_after_it() {
    let (mut store, ids, by) = (Store::default(), TestIds::default(), admin());
    let key = new_key(&mut store, NOW, &ids);
    let handle = KeyHandle::Id(key);
    for _ in 1..40 {
        store.commit(&by, &ids, NOW, &Rotate { key: handle.clone(), token: None }).unwrap();
    }
    for n in 1..=40 {
        lease(&mut store, key, version(n), 1).unwrap();
    }
    assert_eq!(lease(&mut store, key, version(41), 1), Err(Refusal::NoVersion(key, version(41))));
    let other = Of { key, version: version(40), material: [1; 32] };
    let refused = store.run(|facts| decide(facts, other, 1, true));
    assert_eq!(refused, Err(Refusal::NoVersion(key, version(40))), "its number is another's by now");

    let revoke = Revoke { key: handle.clone(), version: Some(version(2)), why: Revocation::Deactivate };
    store.commit(&by, &ids, NOW, &revoke).unwrap();
    store.commit(&by, &ids, NOW, &DestroyVersion { key: handle.clone(), version: version(2) }).unwrap();
    assert_eq!(given(&store, key, version(2)), None);
    let destroyed = Err(Refusal::VersionState(key, version(2), Row::Protect, VersionState::Destroyed));
    assert_eq!(lease(&mut store, key, version(2), 1), destroyed);

    let window = DeletionWindow::from_days(7).unwrap();
    store.commit(&by, &ids, NOW, &ScheduleDeletion { key: handle.clone(), window }).unwrap();
    store.commit(&by, &ids, NOW, &Purge { key: handle.clone() }).unwrap();
    assert_eq!((given(&store, key, version(1)), given(&store, key, version(40))), (None, Some(BLOCK_OF_FEW)));
    assert_eq!(lease(&mut store, key, version(40), 1), Err(Refusal::KeyNotFound(handle)));
    while store.run(|facts| destroy::decide(facts, 0, key, &[], duty(NOW.cluster_ms))).unwrap()
        == destroy::Progress::More
    {}
    assert!(!store.0.keys().any(|name| matches!(name, RecordName::Allowance(_))), "{:?}", store.0.keys());
}

/// What nodes do with two versions of one key.
#[derive(Clone, Debug)]
enum Step {
    /// A node encrypts so often, and asks for more ahead, or not.
    Spend { node: usize, version: u32, uses: u64, ahead: bool },
    /// A node stops, and starts anew.
    Crash { node: usize },
    /// A node gets some that it never hears of.
    Lost { version: u32 },
    /// Many were used up elsewhere.
    Elsewhere { version: u32, left: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3usize, 1..=2u32, prop_oneof![1..4u64, 1..40_000u64], any::<bool>())
            .prop_map(|(node, version, uses, ahead)| Step::Spend { node, version, uses, ahead }),
        1 => (0..3usize).prop_map(|node| Step::Crash { node }),
        1 => (1..=2u32).prop_map(|version| Step::Lost { version }),
        1 => (1..=2u32, prop_oneof![0..200u64, GCM_USES_DUE - 100..GCM_USES_DUE + 100, 0..2 * BLOCK])
            .prop_map(|(version, left)| Step::Elsewhere { version, left }),
    ]
}

proptest! {
    /// Whatever nodes do, the record says no less than they have used, and none uses more than there is.
    #[test]
    fn no_more_is_used_than_was_given_and_no_more_is_given_than_there_is(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut store, ids) = (Store::default(), TestIds::default());
        let key = new_key(&mut store, NOW, &ids);
        store.commit(&admin(), &ids, NOW, &Rotate { key: KeyHandle::Id(key), token: None }).unwrap();
        let mut nodes: [[Lease; 2]; 3] = Default::default();
        let mut used = [0; 2];
        for step in steps {
            match step {
                Step::Spend { node, version: n, uses, ahead } => {
                    let lease_of = &mut nodes[node][n as usize - 1];
                    let done = lease_of.spend(uses) || match lease(&mut store, key, version(n), uses) {
                        Ok(given) => {
                            lease_of.add(given);
                            prop_assert!(lease_of.spend(uses), "what was asked for was given");
                            true
                        }
                        Err(e) => {
                            prop_assert_eq!(e, Refusal::Exhausted(key, version(n)));
                            let before = given(&store, key, version(n)).unwrap_or(0);
                            prop_assert!(GCM_USES_MAX - before < uses, "refused although there was enough");
                            false
                        }
                    };
                    used[n as usize - 1] += if done { uses } else { 0 };
                    if ahead && lease_of.is_low() {
                        match lease(&mut store, key, version(n), 1) {
                            Ok(given) => lease_of.add(given),
                            Err(_) => lease_of.ends(),
                        }
                    }
                }
                Step::Crash { node } => nodes[node] = Default::default(),
                Step::Lost { version: n } => drop(lease(&mut store, key, version(n), 1)),
                Step::Elsewhere { version: n, left } => {
                    let before = given(&store, key, version(n)).unwrap_or(0);
                    let gcm = before.max(GCM_USES_MAX - left);
                    used[n as usize - 1] += gcm - before;
                    give(&mut store, key, version(n), gcm);
                }
            }
            for n in [1, 2] {
                let given = given(&store, key, version(n)).unwrap_or(0);
                let held: u64 = nodes.iter().map(|node| node[n as usize - 1].left).sum();
                prop_assert!(used[n as usize - 1] + held <= given && given <= GCM_USES_MAX);
            }
        }
    }
}
