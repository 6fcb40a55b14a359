use proptest::prelude::*;

use super::*;
use crate::principal::Role;

fn key_id() -> impl Strategy<Value = KeyId> {
    any::<[u8; 16]>().prop_map(KeyId)
}
fn alias() -> impl Strategy<Value = AliasName> {
    "[a-zA-Z0-9][a-zA-Z0-9_./-]{0,40}".prop_filter_map("an alias", |s| s.parse().ok())
}
fn version() -> impl Strategy<Value = KeyVersion> {
    (1..=u32::MAX).prop_map(|n| KeyVersion::new(n).unwrap())
}
fn state() -> impl Strategy<Value = KeyState> {
    prop_oneof![
        Just(KeyState::Enabled),
        Just(KeyState::Disabled),
        any::<u64>().prop_map(|at_ms| KeyState::PendingDeletion { at_ms }),
        Just(KeyState::Destroyed)
    ]
}
fn key_record() -> impl Strategy<Value = KeyRecord> {
    let description = "[^\\p{C}]{0,60}".prop_map(|s| s.parse().unwrap());
    let aliases = proptest::collection::btree_set(alias(), 0..5);
    (key_id(), state(), version(), any::<(u32, u64, u64)>(), description, aliases).prop_map(
        |(id, state, current, (destroyed_through, created_ms, rotated_ms), description, aliases)| KeyRecord {
            id,
            state,
            algorithm: Algorithm::Aes256,
            current,
            destroyed_through,
            created_ms,
            rotated_ms,
            description,
            aliases,
        },
    )
}
fn record() -> impl Strategy<Value = Record> {
    let principal = ("[a-z][a-z/]{0,20}", 0..5usize)
        .prop_map(|(name, role)| Principal { role: Role::ALL[role], name: name.parse().unwrap() });
    let duty = prop_oneof![Just(Duty::Destroy), Just(Duty::Sweep)];
    prop_oneof![
        key_record().prop_map(Record::Key),
        (key_id(), version(), any::<u64>())
            .prop_map(|(key, version, created_ms)| Record::KeyVersion(KeyVersionRecord { key, version, created_ms })),
        (alias(), key_id(), any::<u64>()).prop_map(|(name, key, created_ms)| Record::Alias(AliasRecord {
            name,
            key,
            created_ms
        })),
        (key_id(), any::<u64>()).prop_map(|(key, at_ms)| Record::Due(DueRecord { key, at_ms })),
        (principal, any::<([u8; 16], [u8; 32], u64)>(), key_record(), proptest::collection::vec(key_record(), 0..4))
            .prop_map(|(principal, (token, request_hash, created_ms), first, more)| Record::Idempotency(Box::new(
                IdempotencyRecord {
                    principal,
                    token: Token(token),
                    request_hash,
                    created_ms,
                    answer: Answer { first, more }
                }
            ))),
        (duty, any::<(u64, u32, u64)>()).prop_map(|(duty, (holder, boot, until_ms))| Record::Duty(DutyRecord {
            duty,
            holder: NodeId(holder),
            boot,
            until_ms
        })),
    ]
}
/// As it would be opened: a version's body ends with material.
fn body(record: &Record) -> Vec<u8> {
    let mut body = record.encode();
    if matches!(record, Record::KeyVersion(_)) {
        body.extend_from_slice(&[7; MATERIAL_LEN]);
    }
    body
}

proptest! {
    #[test]
    fn a_record_reads_back_as_it_was_written(record in record()) {
        prop_assert_eq!(Record::decode(&record.name(), &body(&record)).unwrap(), record);
    }

    #[test]
    fn a_name_reads_back_from_key_and_true_name(record in record()) {
        let name = record.name();
        let key = name.key([9; 32]);
        prop_assert_eq!(RecordName::parse(&key, &name.true_name()).unwrap(), name);
    }

    #[test]
    fn a_cut_or_lengthened_record_is_refused(record in record(), cut in any::<proptest::sample::Index>()) {
        let body = body(&record);
        prop_assert!(Record::decode(&record.name(), &body[..cut.index(body.len())]).is_err());
        let mut longer = body.clone();
        longer.push(0);
        prop_assert!(Record::decode(&record.name(), &longer).is_err());
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(record in record(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Record::decode(&record.name(), &bytes);
        let mut bytes = bytes;
        bytes.insert(0, FORMAT);
        let _ = Record::decode(&record.name(), &bytes);
        let _ = RecordName::parse(&record.name().key([1; 32]), &bytes);
    }
}

#[test]
fn a_key_record_to_the_byte() {
    let record = KeyRecord {
        id: KeyId([1; 16]),
        state: KeyState::PendingDeletion { at_ms: 0x0102 },
        algorithm: Algorithm::Aes256,
        current: KeyVersion::new(3).unwrap(),
        destroyed_through: 0,
        created_ms: 4,
        rotated_ms: 5,
        description: "d".parse().unwrap(),
        aliases: BTreeSet::from(["b".parse().unwrap(), "a".parse().unwrap()]),
    };
    let mut expected = vec![1, 3];
    expected.extend_from_slice(&0x0102u64.to_be_bytes());
    expected.push(1);
    expected.extend_from_slice(&[0, 0, 0, 3, 0, 0, 0, 0]);
    expected.extend_from_slice(&4u64.to_be_bytes());
    expected.extend_from_slice(&5u64.to_be_bytes());
    expected.extend_from_slice(&[0, 0, 0, 1, b'd', 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 1, b'b']);
    assert_eq!(Record::Key(record).encode(), expected);
}

#[test]
fn names_in_different_tables_or_of_different_principals_differ() {
    let token = Token([3; 16]);
    let who = |role, name: &str| Principal { role, name: name.parse().unwrap() };
    let a = RecordName::Idempotency(who(Role::Admin, "a"), token).true_name();
    assert_ne!(a, RecordName::Idempotency(who(Role::User, "a"), token).true_name());
    assert_ne!(a, RecordName::Idempotency(who(Role::Admin, "b"), token).true_name());
}
