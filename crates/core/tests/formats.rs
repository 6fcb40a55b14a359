//! The clear formats: what is written reads back, what is malformed is refused, nothing panics.

use proptest::prelude::*;
use quorate_core::batch::{Batch, ENTRY_LEN_MAX, Entry, Expect, FORMAT, Genesis, MAC_LEN, OPS_MAX, Op, VALUE_LEN_MAX};
use quorate_core::id::{BatchId, ClusterId, Epoch, GroupId, KeyId, Lineage, Name, NodeId};
use quorate_core::record_key::{RecordKey, Table};

fn record_key() -> impl Strategy<Value = RecordKey> {
    (2u8..=9, any::<[u8; 32]>(), any::<[u8; 16]>()).prop_map(|(table, blind, clear)| {
        let table = Table::from_byte(table).expect("a table");
        let (prefix, suffix) = (&clear[..table.prefix_len()], &clear[..table.suffix_len()]);
        let key = RecordKey::with(table, prefix, blind, suffix);
        assert_eq!((key.table(), key.prefix(), key.blind(), key.suffix()), (table, prefix, blind, suffix));
        key
    })
}

fn batch() -> impl Strategy<Value = Batch> {
    let keys = prop::collection::btree_set(record_key(), 0..12);
    (
        keys,
        any::<(u64, u32, u64, u64)>(),
        any::<[u8; 32]>(),
        prop::collection::vec(any::<(u64, Option<Vec<u8>>, bool)>(), 12),
    )
        .prop_map(|(keys, (origin, boot, seq, stamp_ms), hash, facts)| {
            let expects: Vec<_> =
                keys.iter().zip(&facts).map(|(key, f)| Expect { key: key.clone(), rev: f.0 }).collect();
            // BTreeSet: ascending.
            let ops = (keys.into_iter().zip(facts))
                .filter(|(_, f)| f.2)
                .map(|(key, f)| f.1.map_or(Op::Delete(key.clone()), |value| Op::Put(key, value)))
                .collect();
            Batch {
                lineage: Lineage(hash[..16].try_into().expect("16 bytes")),
                cluster: ClusterId(hash[16..].try_into().expect("16 bytes")),
                group: GroupId(0),
                epoch: Epoch(boot),
                id: BatchId { origin: NodeId(origin), boot, seq },
                stamp_ms,
                audit: hash,
                expects,
                ops,
            }
        })
}

/// With a stand-in for the MAC: this crate neither makes nor checks it.
fn with_mac(batch: &Batch) -> Vec<u8> {
    let mut bytes = batch.encode().expect("a valid batch");
    bytes.extend_from_slice(&[7; MAC_LEN]);
    bytes
}

proptest! {
    #[test]
    fn a_batch_reads_back(batch in batch()) {
        let bytes = with_mac(&batch);
        let (read, mac_at) = Batch::decode(&bytes).expect("valid");
        prop_assert_eq!(mac_at, bytes.len() - MAC_LEN);
        prop_assert_eq!(read, batch);
    }

    #[test]
    fn a_truncated_or_longer_batch_is_refused(batch in batch(), cut in any::<prop::sample::Index>()) {
        let mut bytes = with_mac(&batch);
        prop_assert!(Batch::decode(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert!(Batch::decode(&bytes).is_err());
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0u8..10) {
        let _ = Batch::decode(&bytes);
        let _ = RecordKey::parse(&bytes);
        if bytes.len() > 1 {
            bytes[0] = FORMAT;
            bytes[1] = kind;
        }
        let _ = Batch::decode(&bytes);
        let _ = Entry::decode(&bytes);
    }

    #[test]
    fn a_record_key_reads_back_and_orders_as_its_bytes(a in record_key(), b in record_key()) {
        prop_assert_eq!(RecordKey::parse(a.as_bytes()).expect("valid"), a.clone());
        prop_assert_eq!(a.cmp(&b), a.as_bytes().cmp(b.as_bytes()));
    }

    #[test]
    fn a_key_id_reads_back_from_its_text(bytes in any::<[u8; 16]>()) {
        prop_assert_eq!(KeyId(bytes).to_string().parse::<KeyId>().expect("valid"), KeyId(bytes));
    }
}

fn small_batch() -> Batch {
    let key = RecordKey::new(Table::Name, [1; 32]);
    Batch {
        lineage: Lineage([1; 16]),
        cluster: ClusterId([2; 16]),
        group: GroupId(0),
        epoch: Epoch(1),
        id: BatchId { origin: NodeId(1), boot: 1, seq: 1 },
        stamp_ms: 0,
        audit: [0; 32],
        expects: vec![Expect { key: key.clone(), rev: 0 }],
        ops: vec![Op::Put(key, vec![1, 2, 3])],
    }
}

#[test]
fn a_batch_that_breaks_a_rule_is_neither_written_nor_read() {
    let other = RecordKey::new(Table::Name, [9; 32]);
    type Breach = fn(&mut Batch, RecordKey);
    let breaches: [(&str, Breach); 7] = [
        ("expectations in no order", |b, other| b.expects.insert(0, Expect { key: other, rev: 1 })),
        ("an op without expectation", |b, other| b.ops.push(Op::Delete(other))),
        ("two ops on one record", |b, _| b.ops.push(b.ops[0].clone())),
        ("two expectations on one record", |b, _| b.expects.push(b.expects[0].clone())),
        ("a session record", |b, _| b.expects[0].key = RecordKey::session(NodeId(1), None)),
        ("too many ops", |b, _| {
            let keys = (0..=OPS_MAX as u32).map(|n| RecordKey::with(Table::Due, &n.to_be_bytes(), [3; 32], &[]));
            b.expects = keys.clone().map(|key| Expect { key, rev: 0 }).collect();
            b.ops = keys.map(Op::Delete).collect();
        }),
        ("too long a value", |b, _| b.ops[0] = Op::Put(b.expects[0].key.clone(), vec![0; VALUE_LEN_MAX + 1])),
    ];
    for (what, breach) in breaches {
        let mut batch = small_batch();
        breach(&mut batch, other.clone());
        assert!(batch.encode().is_err(), "{what}");
    }
    let mut long = small_batch();
    for n in 0..8 {
        let key = RecordKey::new(Table::Member, [n; 32]);
        long.expects.push(Expect { key: key.clone(), rev: 0 });
        long.ops.push(Op::Put(key, vec![0; VALUE_LEN_MAX]));
    }
    assert!(long.encode().is_err(), "an entry above {ENTRY_LEN_MAX} B");
}

#[test]
fn entries_read_back_and_reserved_kinds_are_refused() {
    let genesis = Genesis {
        lineage: Lineage([1; 16]),
        cluster: ClusterId([2; 16]),
        time_ms: 1_700_000_000_000,
        seal_config: vec![3; 700],
        node_name: "n1".into(),
        envelope: vec![4; 1400],
        keyring: vec![5; 300],
        level: b"level".to_vec(),
    };
    for entry in [Entry::Tick(42), Entry::Genesis(Box::new(genesis)), Entry::Batch(with_mac(&small_batch()))] {
        let bytes = entry.encode();
        assert!(Entry::decode(&bytes).expect("valid") == entry, "{entry:?}");
        let mut newer = bytes.clone();
        newer[0] = FORMAT + 1;
        assert!(Entry::decode(&newer).is_err(), "an unknown format");
    }
    for kind in (0..=255).filter(|k| !(1..=3).contains(k)) {
        assert!(Entry::decode(&[FORMAT, kind, 0, 0]).is_err(), "kind {kind}");
    }
    assert!(Entry::decode(&[]).is_err());
}

#[test]
fn names_and_ids_are_parsed_strictly() {
    for good in ["n1", "a", "Payments/card-keys.v2", &"x".repeat(64)] {
        assert!(good.parse::<Name>().is_ok(), "{good}");
    }
    for bad in ["", "-a", "/a", "a b", "ä", "a\n", &"x".repeat(65)] {
        assert!(bad.parse::<Name>().is_err(), "{bad}");
    }
    for bad in ["", "6f1c", "6f1c1c9e1c9e1c9e1c9e1c9e1c9e1c9e", "{6f1c1c9e-1c9e-1c9e-1c9e-1c9e1c9e1c9e}"] {
        assert!(bad.parse::<KeyId>().is_err(), "{bad}");
    }
}

#[test]
fn tables_are_told_apart_and_keys_of_wrong_length_refused() {
    for byte in 0..=255u8 {
        let table = Table::from_byte(byte);
        assert_eq!(table.map(|t| t as u8).unwrap_or(byte), byte);
        for len in 0..50usize {
            let mut bytes = vec![0; len];
            if let Some(first) = bytes.first_mut() {
                *first = byte;
            }
            let valid = table.is_some_and(|t| t.key_len() == len);
            assert_eq!(RecordKey::parse(&bytes).is_ok(), valid, "table {byte}, {len} B");
        }
    }
    let sealed =
        [RecordKey::seal_config(1), RecordKey::seal_config(2), RecordKey::keyring(), RecordKey::seal_generation()];
    for (i, a) in sealed.iter().enumerate() {
        assert!(sealed.iter().skip(i + 1).all(|b| a != b));
    }
    assert_ne!(RecordKey::session(NodeId(1), None), RecordKey::session(NodeId(1), Some(0)));
}
