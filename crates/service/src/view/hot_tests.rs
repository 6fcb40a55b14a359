//! The hot view alone: what it takes, what it gives up, and the races between filling and applying.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use quorate_core::id::{KeyId, KeyVersion, Namespace};
use quorate_core::key_spec::{KeySpec, Mode, Usages};
use quorate_core::name::Named;
use quorate_core::record::{KeyVersionRecord, NameRecord};
use quorate_crypto::material::Material;

use super::*;

fn key(n: u8) -> RecordKey {
    let mut blind = [n; 32];
    blind[0] = n.wrapping_mul(31);
    RecordKey::new(Table::Name, blind)
}
/// The `n`th value of a record.
fn fact(at: u8, n: u64) -> Noted {
    let alias = NameRecord {
        namespace: Namespace::FIRST,
        named: Named::Alias("a".parse().unwrap()),
        key: KeyId([0; 16]),
        created_ms: n,
        updated_ms: n,
    };
    Noted { key: key(at), rev: n, known: Some(Known::Record(Arc::new(alias.into()))) }
}
fn value((rev, known): &(Rev, Known)) -> u64 {
    match known {
        Known::Record(record) => match &**record {
            Record::Name(alias) if alias.created_ms == *rev => *rev,
            _ => panic!("not one of ours"),
        },
        _ => panic!("not one of ours"),
    }
}
fn one() -> usize {
    len(&fact(0, 0).known.unwrap())
}
fn touch(hot: &HotView, index: u64, keys: &[u8]) {
    let touched: Vec<_> = keys.iter().map(|n| (key(*n), index, Some(Bytes::new()))).collect();
    hot.applied(index, &touched);
}
fn get(hot: &HotView, n: u8) -> Option<u64> {
    hot.read().get(&key(n)).as_ref().map(value)
}
fn view() -> HotView {
    HotView::with_limits(1 << 20, 8)
}

#[test]
fn nothing_is_kept_before_it_follows_the_log() {
    let hot = view();
    hot.offer(7, vec![fact(1, 1)]);
    assert_eq!((get(&hot, 1), hot.read().index()), (None, 0));
    touch(&hot, 8, &[]);
    hot.offer(7, vec![fact(1, 1)]);
    assert_eq!(get(&hot, 1), None, "what happened between 7 and 8 was not seen");
    hot.offer(8, vec![fact(1, 1)]);
    assert_eq!((get(&hot, 1), hot.read().index()), (Some(1), 8));
}

/// The race of key-log §1.9: a reader loads the old value, the change is applied, the reader offers the old value.
#[test]
fn an_old_value_is_not_taken_after_the_change_was_applied() {
    let hot = view();
    touch(&hot, 10, &[]);
    // The reader's view is at 10; entry 11 changes the record before the offer arrives.
    touch(&hot, 11, &[1]);
    hot.offer(10, vec![fact(1, 1), fact(2, 2)]);
    assert_eq!(get(&hot, 1), None);
    assert_eq!(get(&hot, 2), Some(2), "the other record was not touched");
    hot.offer(11, vec![fact(1, 11)]);
    assert_eq!(get(&hot, 1), Some(11));
}

/// The engine commits before the hot view hears of it: a value from the future must not stand beside older ones.
#[test]
fn a_view_ahead_of_the_hot_view_is_not_taken() {
    let hot = view();
    touch(&hot, 10, &[]);
    hot.offer(11, vec![fact(1, 11)]);
    assert_eq!(get(&hot, 1), None);
}

#[test]
fn what_is_no_longer_remembered_can_not_be_vouched_for() {
    let hot = view();
    touch(&hot, 10, &[]);
    for index in 11..=19 {
        touch(&hot, index, &[index as u8]);
    }
    // Eight changes are remembered, 12 to 19; a view at 10 might have missed the one at 11.
    hot.offer(10, vec![fact(11, 10), fact(99, 10)]);
    assert_eq!((get(&hot, 11), get(&hot, 99)), (None, None));
    hot.offer(11, vec![fact(99, 11)]);
    assert_eq!(get(&hot, 99), Some(11));
    let hot = hot.read();
    assert!(hot.0.touched.len() <= 8 && hot.0.last_touch.len() <= 8);
}

#[test]
fn a_change_drops_exactly_what_it_touched() {
    let hot = view();
    touch(&hot, 1, &[]);
    hot.offer(1, (1..=5).map(|n| fact(n, u64::from(n))).collect());
    touch(&hot, 2, &[2, 4, 77]);
    let here: Vec<_> = (1..=5).filter_map(|n| get(&hot, n)).collect();
    assert_eq!(here, [1, 3, 5]);
}

/// Material, made beside the key's first value.
fn material(n: u8, of: u8) -> Noted {
    let at = RecordKey::with(Table::KeyVersion, &[0; 6], [n; 32], &[0, 0, 0, 1]);
    let material = Arc::new(Material::read(KeySpec::Aes256, &[n; 32]).unwrap());
    let head =
        KeyVersionRecord::new(KeyId([n; 16]), KeyVersion::FIRST, KeySpec::Aes256, Mode::Blob, Usages::default(), 1);
    let known = Known::Version(Arc::new(head.into()), Some(material), Arc::new(key(of)), 1);
    Noted { key: at, rev: 1, known: Some(known) }
}
fn is_here(hot: &HotView, n: u8) -> bool {
    hot.read().0.map.contains_key(&material(n, 0).key)
}

/// Whatever else happens, material is of no use beside another value of its key than the one it was made from.
#[test]
fn material_counts_only_beside_the_revision_it_was_made_from() {
    let hot = view();
    touch(&hot, 1, &[]);
    hot.offer(1, vec![material(101, 1)]);
    let counts = |hot: &HotView| hot.read().get(&material(101, 1).key).is_some();
    assert!(is_here(&hot, 101) && !counts(&hot), "its key is not known");
    hot.offer(1, vec![fact(1, 2)]);
    assert!(is_here(&hot, 101) && !counts(&hot), "its key was changed");
    let hot = view();
    touch(&hot, 1, &[]);
    hot.offer(1, vec![material(101, 1), fact(1, 1)]);
    assert!(counts(&hot));
}

/// A key that is disabled, or to be destroyed, is changed; its versions' records are not (key-hierarchy §8).
#[test]
fn the_material_goes_with_any_change_of_its_key() {
    let hot = view();
    touch(&hot, 1, &[]);
    hot.offer(1, vec![material(101, 1), material(102, 1), material(103, 3)]);
    touch(&hot, 2, &[1]);
    assert_eq!([101, 102, 103].map(|n| is_here(&hot, n)), [false, false, true]);
    hot.offer(1, vec![material(101, 1)]);
    assert!(!is_here(&hot, 101), "read before the change");
    hot.offer(2, vec![material(101, 1)]);
    assert!(is_here(&hot, 101), "read after it");
    touch(&hot, 3, &[1, 3]);
    let hot = hot.read();
    assert_eq!((hot.0.materials.len(), hot.0.bytes), (0, 0));
}

#[test]
fn what_is_evicted_is_no_longer_known_of_its_key() {
    let one = len(&material(1, 1).known.unwrap());
    let hot = HotView::with_limits(4 * one, 64);
    touch(&hot, 1, &[]);
    for n in 100..140 {
        hot.offer(1, vec![material(n, n % 3)]);
        let hot = hot.read();
        assert_eq!(hot.0.materials.values().map(Vec::len).sum::<usize>(), hot.0.map.len());
        assert!(hot.0.map.len() <= 4);
    }
}

/// A snapshot replaces the state: no entry tells what it changed.
#[test]
fn after_a_gap_in_the_log_nothing_is_known() {
    let hot = view();
    touch(&hot, 1, &[]);
    hot.offer(1, vec![fact(1, 1), fact(2, 2)]);
    touch(&hot, 50, &[2]);
    assert_eq!((get(&hot, 1), get(&hot, 2), hot.read().index()), (None, None, 50));
    hot.offer(1, vec![fact(1, 1)]);
    hot.offer(49, vec![fact(1, 1)]);
    assert_eq!(get(&hot, 1), None, "a view from before the gap");
    hot.offer(50, vec![fact(1, 50)]);
    assert_eq!(get(&hot, 1), Some(50));
}

#[test]
fn it_is_bounded_by_bytes_and_keeps_what_is_used() {
    let one = one();
    let hot = HotView::with_limits(10 * one, 8);
    touch(&hot, 1, &[]);
    for n in 0..10 {
        hot.offer(1, vec![fact(n, u64::from(n))]);
    }
    for n in 10..100 {
        assert!(get(&hot, 3).is_some(), "used between all of these");
        hot.offer(1, vec![fact(n, u64::from(n))]);
        let guard = hot.read();
        assert!(guard.0.bytes <= 10 * one && guard.0.map.len() == 10);
    }
}

#[test]
fn closed_it_is_empty_and_stays_so() {
    let hot = view();
    touch(&hot, 1, &[]);
    hot.offer(1, vec![fact(1, 1)]);
    hot.close();
    assert_eq!(get(&hot, 1), None);
    hot.offer(1, vec![fact(1, 1)]);
    touch(&hot, 2, &[1]);
    hot.offer(2, vec![fact(1, 1)]);
    assert_eq!(get(&hot, 1), None);
}

#[test]
fn material_is_let_go_with_its_entry() {
    let hot = view();
    touch(&hot, 1, &[]);
    let noted = material(1, 2);
    let at = noted.key.clone();
    let Some(Known::Version(_, Some(material), ..)) = &noted.known else { panic!("not material") };
    let watch = Arc::downgrade(material);
    hot.offer(1, vec![noted]);
    assert!(watch.upgrade().is_some());
    hot.applied(2, &[(at, 2, Some(Bytes::new()))]);
    assert!(watch.upgrade().is_none(), "a change to the record wipes it at once");
}

/// One thing that happens, in any order: an entry is committed by the engine; the hot view hears of the next one; a
/// reader takes a view of the engine; an earlier reader's offer arrives.
#[derive(Clone, Debug)]
enum Event {
    Commit(Vec<u8>),
    Hear,
    Read(u8),
    Offer(prop::sample::Index),
}

proptest! {
    /// Whatever the order, every fact in the hot view is the one that was true at the hot view's index.
    #[test]
    fn facts_are_true_at_its_index(
        events in proptest::collection::vec(prop_oneof![
            2 => proptest::collection::vec(0..6u8, 0..3).prop_map(Event::Commit),
            3 => Just(Event::Hear),
            3 => (0..6u8).prop_map(Event::Read),
            3 => any::<prop::sample::Index>().prop_map(Event::Offer),
        ], 1..200)
    ) {
        let hot = HotView::with_limits(4 * one(), 6);
        // What is true at each index: record → value, the value being the index that wrote it (0 = never).
        let mut history = vec![BTreeMap::<u8, u64>::new()];
        let mut committed: Vec<Vec<u8>> = vec![Vec::new()];
        let mut heard = 0usize;
        let mut loaded: Vec<(u64, u8, u64)> = Vec::new();
        for event in events {
            match event {
                Event::Commit(keys) => {
                    let index = committed.len() as u64;
                    let mut state = history.last().unwrap().clone();
                    for key in &keys {
                        state.insert(*key, index);
                    }
                    history.push(state);
                    committed.push(keys);
                }
                Event::Hear if heard + 1 < committed.len() => {
                    heard += 1;
                    touch(&hot, heard as u64, &committed[heard]);
                }
                Event::Hear => {}
                Event::Read(n) => {
                    let at = history.len() as u64 - 1;
                    loaded.push((at, n, history.last().unwrap().get(&n).copied().unwrap_or(0)));
                }
                Event::Offer(which) if !loaded.is_empty() => {
                    let (at, n, value) = loaded.swap_remove(which.index(loaded.len()));
                    hot.offer(at, vec![fact(n, value)]);
                }
                Event::Offer(_) => {}
            }
            let guard = hot.read();
            prop_assert_eq!(guard.index(), heard as u64);
            for n in 0..6 {
                if let Some(fact) = guard.get(&key(n)) {
                    prop_assert_eq!(value(&fact), history[heard].get(&n).copied().unwrap_or(0), "record {}", n);
                }
            }
        }
    }
}

/// The same with threads: one applies, others fill and read; a pair of records that always change together is never
/// seen half changed.
#[test]
#[expect(clippy::disallowed_methods, reason = "a race needs threads")]
fn a_pair_that_changes_together_is_seen_together() {
    use std::sync::atomic::AtomicU64;
    const ENTRIES: u64 = 20_000;
    let hot = Arc::new(HotView::with_limits(1 << 20, 64));
    let engine = Arc::new(AtomicU64::new(1));
    touch(&hot, 1, &[1, 2]);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (hot, engine) = (hot.clone(), engine.clone());
            std::thread::spawn(move || {
                let mut hits = 0u64;
                while engine.load(Ordering::SeqCst) < ENTRIES {
                    let guard = hot.read();
                    if let (Some(a), Some(b)) = (guard.get(&key(1)), guard.get(&key(2))) {
                        assert_eq!(value(&a), value(&b));
                        // Whatever is here was written at or before its index, and by the last entry there.
                        assert_eq!(value(&a), guard.index());
                        hits += 1;
                    }
                    drop(guard);
                    let at = engine.load(Ordering::SeqCst);
                    hot.offer(at, vec![fact(1, at), fact(2, at)]);
                }
                hits
            })
        })
        .collect();
    for index in 2..=ENTRIES {
        engine.store(index, Ordering::SeqCst);
        touch(&hot, index, &[1, 2]);
        if index % 8 == 0 {
            std::thread::yield_now();
        }
    }
    let hits: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert!(hits > 0, "the readers never hit: the test tests nothing");
}

#[test]
fn a_replaced_state_leaves_nothing_of_the_old_one() {
    let hot = view();
    touch(&hot, 10, &[]);
    hot.offer(10, vec![fact(1, 1)]);
    assert_eq!(get(&hot, 1), Some(1));
    hot.replaced(90, &|_| Ok(None));
    assert_eq!((get(&hot, 1), hot.read().index()), (None, 90));
    // A reader still has a view of the old state.
    hot.offer(10, vec![fact(1, 1)]);
    hot.offer(89, vec![fact(1, 1)]);
    assert_eq!(get(&hot, 1), None);
    hot.offer(90, vec![fact(1, 90)]);
    assert_eq!(get(&hot, 1), Some(90));
    touch(&hot, 91, &[1]);
    assert_eq!((get(&hot, 1), hot.read().index()), (None, 91));
}
