use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::action::Action;
use crate::credential::{CredentialId, RevocationReason};
use crate::id::{KeyId, KeyVersion, Namespace, NodeId};
use crate::key_spec::{KeySpec, Kind as SpecKind, Mode, Purpose, Usage, Usages};
use crate::level::{LEVEL, Level, Levels};
use crate::lifecycle::{Dates, KeyState, Life};
use crate::name::{Class, Named, NamespaceName};
use crate::principal::{Principal, Role};
use crate::request::{AliasName, ObjectName, Tags, Token};

pub(super) fn statement() -> Statement {
    Statement {
        name: "n2".parse().unwrap(),
        peer_addr: "127.0.0.1:7611".into(),
        api_addr: "127.0.0.1:7610".into(),
        identity_spki: vec![1; 91],
        kem_alg: 2,
        kem_spki: vec![2; 91],
        audit_spki: vec![3; 91],
        assurance: "software".into(),
    }
}
fn key_id() -> impl Strategy<Value = KeyId> {
    any::<[u8; 16]>().prop_map(KeyId)
}
fn alias() -> impl Strategy<Value = AliasName> {
    "[a-zA-Z0-9][a-zA-Z0-9_./-]{0,40}".prop_filter_map("an alias", |s| s.parse().ok())
}
fn object_name() -> impl Strategy<Value = ObjectName> {
    "[a-zA-Z0-9-]{1,127}".prop_map(|s| s.parse().unwrap())
}
fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        alias().prop_map(Named::Alias),
        object_name().prop_map(|name| Named::Object(Class::Key, name)),
        object_name().prop_map(|name| Named::Object(Class::Secret, name)),
    ]
}
fn namespace_name() -> impl Strategy<Value = NamespaceName> {
    "[a-z0-9][a-z0-9-]{0,63}".prop_map(|s| s.parse().unwrap())
}
fn namespace_record() -> impl Strategy<Value = NamespaceRecord> {
    let most = proptest::sample::select(&Exportable::ALL[..]);
    (namespace_name(), any::<(u32, u32, u64, u64, bool, bool)>(), most).prop_map(|(name, numbers, exportable)| {
        let (number, marks, created_ms, updated_ms, live, tracked) = numbers;
        let state = if live { NamespaceState::Live } else { NamespaceState::Deleting };
        let settings = NamespaceSettings { exportable, tracked };
        NamespaceRecord { number: Namespace(number), name, state, marks, created_ms, updated_ms, settings }
    })
}
fn version() -> impl Strategy<Value = KeyVersion> {
    (1..=u32::MAX).prop_map(|n| KeyVersion::new(n).unwrap())
}
fn state() -> impl Strategy<Value = KeyState> {
    prop_oneof![
        Just(KeyState::Enabled),
        Just(KeyState::Disabled),
        any::<(u64, u64, bool)>().prop_map(|(at_ms, since_ms, was_enabled)| KeyState::PendingDeletion {
            at_ms,
            since_ms,
            was_enabled
        }),
        Just(KeyState::Destroyed)
    ]
}
fn usages() -> impl Strategy<Value = Usages> {
    any::<u16>().prop_map(|bits| Usage::ALL.iter().copied().filter(|usage| bits & *usage as u16 != 0).collect())
}
fn tags() -> impl Strategy<Value = Tags> {
    proptest::collection::btree_map("[^\\p{C}]{1,20}", "[^\\p{C}]{0,20}", 0..5)
        .prop_map(|tags| Tags::new(tags).unwrap())
}
fn dates() -> impl Strategy<Value = Dates> {
    any::<([Option<u32>; 8], u64)>().prop_map(|(at, high)| {
        let [
            activation,
            protect_start,
            process_start,
            protect_stop,
            deactivation,
            compromise,
            destroyed,
            material_expires,
        ] = at.map(|at| at.map_or(0, |at| u64::from(at) | high | 1));
        Dates {
            activation,
            protect_start,
            process_start,
            protect_stop,
            deactivation,
            compromise,
            destroyed,
            material_expires,
        }
    })
}
fn any_spec() -> impl Strategy<Value = KeySpec> {
    prop_oneof![20 => proptest::sample::select(KeySpec::ALL), 1 => Just(KeySpec::Secret)]
}
pub(super) fn key_version() -> impl Strategy<Value = KeyVersionRecord> {
    let spec = any_spec();
    let mode = proptest::sample::select(Mode::ALL);
    let public = proptest::collection::vec(any::<u8>(), 0..200);
    let content_type = "[^\\p{C}]{0,255}".prop_map(|s| s.parse().unwrap());
    let more = (usages(), dates(), any::<(u64, u64, bool, [u8; 32], u64)>(), public, content_type, tags());
    (key_id(), version(), spec, mode, usages(), more).prop_map(|(key, version, spec, mode, usage, more)| {
        let (ops, dates, (created_ms, updated_ms, enabled, material_id, first_exported_ms), public, content_type, tags) =
            more;
        let life = Life { dates, enabled, updated_ms };
        KeyVersionRecord {
            ops,
            life,
            material_id,
            public,
            first_exported_ms,
            content_type,
            tags,
            ..KeyVersionRecord::new(key, version, spec, mode, usage, created_ms)
        }
    })
}
pub(super) fn key_record() -> impl Strategy<Value = KeyRecord> {
    let names = (proptest::collection::btree_set(alias(), 0..5), proptest::option::of(object_name()));
    let spec = any_spec();
    let numbers = any::<([u8; 16], u32, u32, u64, u64, u64)>();
    let rotation = any::<Option<(u64, u64)>>()
        .prop_map(|rotation| rotation.map(|(period_ms, next_ms)| Rotation { period_ms, next_ms }));
    let origin = prop_oneof![
        2 => Just(Origin::Here),
        2 => any::<(u32, u64)>().prop_map(|(missing, expires_ms)| Origin::Imported(Imported { missing, expires_ms })),
        1 => Just(Origin::Public),
    ];
    let material = (origin, proptest::sample::select(&Exportable::ALL[..]), any::<(u64, [Option<[u8; 16]>; 3])>());
    let names = (names, proptest::option::of(principal()));
    let kind = (spec, usages(), tags(), rotation, any::<[bool; 4]>(), material);
    (key_id(), state(), (version(), version(), version()), numbers, kind, names).prop_map(
        |(id, state, (current, protect_floor, process_floor), numbers, kind, names)| {
            let ((aliases, name), deletion_by) = names;
            let (
                spec,
                usage,
                tags,
                rotation,
                [purge_protected, archived, tracked, has_details],
                (origin, exportable, (backed_up_ms, others)),
            ) = kind;
            let [born_as, replaces, replaced_by] = others.map(|id| id.map(KeyId));
            let (birth, namespace, destroyed_through, created_ms, updated_ms, rotated_ms) = numbers;
            KeyRecord {
                id,
                namespace: Namespace(namespace),
                state,
                spec,
                usage,
                birth,
                current,
                newest: current.max(process_floor),
                protect_floor,
                process_floor,
                destroyed_through,
                created_ms,
                updated_ms,
                rotated_ms,
                has_details,
                aliases,
                tags,
                rotation,
                purge_protected,
                // Of nothing but a pair there is a public key.
                origin: if spec.kind() == SpecKind::Pair || origin != Origin::Public { origin } else { Origin::Here },
                exportable,
                archived,
                name,
                tracked,
                backed_up_ms,
                born_as,
                replaces,
                replaced_by,
                deletion_by,
            }
        },
    )
}
pub(super) fn principal() -> impl Strategy<Value = Principal> {
    ("[a-z][a-z/]{0,20}", 0..5usize)
        .prop_map(|(name, role)| Principal::certificate(Role::ALL[role], name.parse().unwrap()))
}
fn credential() -> impl Strategy<Value = CredentialRecord> {
    let reason = proptest::sample::select(RevocationReason::ALL);
    let revoked = (any::<u64>(), reason, principal()).prop_map(|(at_ms, reason, by)| Revoked { at_ms, reason, by });
    let options = (proptest::option::of(principal()), proptest::option::of(revoked));
    (any::<([u8; 32], u64, u64)>(), options).prop_map(|((hash, created_ms, updated_ms), (whose, revoked))| {
        CredentialRecord { id: CredentialId::Certificate(hash), whose, created_ms, updated_ms, revoked }
    })
}
fn record() -> impl Strategy<Value = Record> {
    let duty = proptest::sample::select(Duty::ALL);
    prop_oneof![
        key_record().prop_map(Record::Key),
        key_version().prop_map(Record::KeyVersion),
        (named(), key_id(), any::<(u32, u64, u64)>()).prop_map(|(named, key, (namespace, created_ms, updated_ms))| {
            Record::Name(NameRecord { namespace: Namespace(namespace), named, key, created_ms, updated_ms })
        }),
        namespace_record().prop_map(Record::Namespace),
        (namespace_name(), any::<u32>())
            .prop_map(|(name, n)| Record::NamespaceName(NamespaceNameRecord { name, number: Namespace(n) })),
        any::<u32>().prop_map(|n| Record::NamespaceCount(NamespaceCountRecord { last: Namespace(n) })),
        (principal(), principal(), any::<(bool, u64, u64)>()).prop_map(
            |(principal, updated_by, (enabled, created_ms, updated_ms))| {
                Record::Principal(PrincipalRecord { principal, enabled, created_ms, updated_ms, updated_by })
            }
        ),
        credential().prop_map(Record::Credential),
        (key_id(), any::<u64>()).prop_map(|(key, at_ms)| Record::Due(DueRecord { what: Due::Deletion(key), at_ms })),
        (key_id(), any::<u64>()).prop_map(|(key, at_ms)| Record::Due(DueRecord { what: Due::Rotation(key), at_ms })),
        (key_id(), version(), any::<u64>())
            .prop_map(|(key, n, at_ms)| Record::Due(DueRecord { what: Due::Material(key, n), at_ms })),
        (principal(), any::<([u8; 16], [u8; 32])>(), key_id()).prop_map(|(principal, (token, request_hash), key)| {
            Record::Idempotency(IdempotencyRecord { principal, token: Token(token), request_hash, key })
        }),
        any::<(u64, u64)>().prop_map(|(id, approved_ms)| Record::Member(MemberRecord {
            id: NodeId(id),
            statement: statement(),
            approved_by: "admin/root".into(),
            approved_ms
        })),
        (any::<([u8; 32], u64, u64, Option<(u32, u32)>)>()).prop_map(|(token, expires_ms, id, used)| {
            let applicant = used.map(|(lowest, highest)| Applicant {
                id: NodeId(id),
                statement: statement(),
                signature: vec![8; 64],
                levels: Levels { lowest: Level(lowest), highest: Level(highest) },
            });
            let (for_name, invited_by) = ("n2".parse().unwrap(), "admin/root".into());
            Record::Invitation(Invitation { token, for_name, invited_by, expires_ms, applicant })
        }),
        (key_id(), "[^\\p{C}]{0,60}").prop_map(|(key, description)| {
            Record::Details(DetailsRecord { key, description: description.parse().unwrap() })
        }),
        (key_id(), version(), 0..=GCM_USES_MAX).prop_map(|(key, version, gcm)| Record::Allowance(AllowanceRecord {
            key,
            version,
            gcm
        })),
        (key_id(), any::<u64>(), (1u64.., any::<u64>(), any::<u64>()), proptest::sample::select(Action::ALL)).prop_map(
            |(key, node, (uses, one, other), last)| {
                let (first_ms, last_ms) = (one.min(other), one.max(other));
                Record::Use(UseRecord { key, node: NodeId(node), tally: Tally { uses, first_ms, last_ms, last } })
            }
        ),
        super::destruction_tests::destruction().prop_map(Record::Destruction),
        "[a-z ]{1,20}".prop_map(|name| Record::Internal(InternalRecord { name })),
        (duty, any::<(u64, u32, u64)>()).prop_map(|(duty, (holder, boot, until_ms))| Record::Duty(DutyRecord {
            duty,
            holder: NodeId(holder),
            boot,
            until_ms
        })),
    ]
}
/// As it would be opened: some bodies end with a secret.
fn body(record: &Record) -> Vec<u8> {
    let mut body = record.encode(LEVEL);
    let len = match record {
        Record::KeyVersion(version) => version.spec.material_len().unwrap_or(1000),
        Record::Internal(_) => 32,
        _ => return body,
    };
    body.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
    body.resize(body.len() + len, 7);
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
        let key = name.key(|_, _| [9; 32]);
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
        bytes.insert(0, record.encode(LEVEL)[0]);
        let _ = Record::decode(&record.name(), &bytes);
        let _ = RecordName::parse(&record.name().key(|_, _| [1; 32]), &bytes);
    }
}

#[test]
fn a_key_record_to_the_byte() {
    let record = KeyRecord {
        id: KeyId([1; 16]),
        namespace: Namespace(6),
        state: KeyState::PendingDeletion { at_ms: 0x0102, since_ms: 7, was_enabled: true },
        spec: KeySpec::Aes256,
        usage: Purpose::Encrypt.usages(),
        birth: [9; 16],
        current: KeyVersion::new(3).unwrap(),
        newest: KeyVersion::new(4).unwrap(),
        protect_floor: KeyVersion::new(2).unwrap(),
        process_floor: KeyVersion::new(2).unwrap(),
        destroyed_through: 0,
        created_ms: 4,
        updated_ms: 6,
        rotated_ms: 5,
        has_details: true,
        aliases: BTreeSet::from(["b".parse().unwrap(), "a".parse().unwrap()]),
        tags: Tags::new([("t".into(), "u".into())]).unwrap(),
        rotation: Some(Rotation { period_ms: 0x0304, next_ms: 0x0506 }),
        purge_protected: true,
        origin: Origin::Imported(Imported { missing: 1, expires_ms: 8 }),
        exportable: Exportable::Plain,
        archived: true,
        name: Some("Nm".parse().unwrap()),
        tracked: false,
        backed_up_ms: 7,
        born_as: Some(KeyId([2; 16])),
        replaces: Some(KeyId([3; 16])),
        replaced_by: Some(KeyId([4; 16])),
        deletion_by: Some(Principal::certificate(Role::Admin, "al".parse().unwrap())),
    };
    let mut expected = vec![4, 0, 0, 0, 6, 3];
    expected.extend_from_slice(&0x0102u64.to_be_bytes());
    expected.extend_from_slice(&7u64.to_be_bytes());
    expected.extend_from_slice(&[0, 1, 0, 0, 0, 0xc]);
    expected.extend_from_slice(&[9; 16]);
    expected.extend_from_slice(&[0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0]);
    expected.extend_from_slice(&4u64.to_be_bytes());
    expected.extend_from_slice(&6u64.to_be_bytes());
    expected.extend_from_slice(&5u64.to_be_bytes());
    expected.extend_from_slice(&[0, 17, 1, 0, 0, 0, 1, 1, 2, 0, 0, 0, 10, 0, 0, 0, 1, b'a', 0, 0, 0, 1, b'b']);
    expected.extend_from_slice(&[3, 0, 0, 0, 10, 0, 0, 0, 1, b't', 0, 0, 0, 1, b'u']);
    expected.extend_from_slice(&[4, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 5, 6]);
    expected.extend_from_slice(&[5, 0, 0, 0, 1, 1]);
    expected.extend_from_slice(&[6, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8]);
    expected.extend_from_slice(&[7, 0, 0, 0, 1, 2]);
    expected.extend_from_slice(&[8, 0, 0, 0, 1, 1]);
    expected.extend_from_slice(&[9, 0, 0, 0, 4, 0, 0, 0, 2]);
    expected.extend_from_slice(&[10, 0, 0, 0, 4, 0, 0, 0, 4]);
    expected.extend_from_slice(&[11, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7]);
    for (tag, id) in [(12, [2; 16]), (13, [3; 16]), (14, [4; 16])] {
        expected.extend_from_slice(&[tag, 0, 0, 0, 16]);
        expected.extend_from_slice(&id);
    }
    expected.extend_from_slice(&[15, 0, 0, 0, 2, b'N', b'm']);
    expected.extend_from_slice(&[16, 0, 0, 0, 1, 1]);
    expected.extend_from_slice(&[17, 0, 0, 0, 11, 0, 0, 0, 0, 1, 0, 0, 0, 2, b'a', b'l']);
    let name = RecordName::Key(record.id);
    assert_eq!(Record::Key(record.clone()).encode(LEVEL), expected);

    // Fields that most keys do not have take no room; what this version does not know is a newer one's.
    let (rotation, origin, process_floor, newest) = (None, Origin::Here, KeyVersion::FIRST, record.current);
    let (has_details, aliases, tags, exportable, purge_protected, archived) = Default::default();
    let plain = KeyRecord {
        has_details,
        aliases,
        tags,
        rotation,
        purge_protected,
        origin,
        exportable,
        archived,
        process_floor,
        name: None,
        tracked: true,
        newest,
        backed_up_ms: 0,
        born_as: None,
        replaces: None,
        replaced_by: None,
        deletion_by: None,
        ..record
    };
    let bytes = Record::Key(plain).encode(LEVEL);
    assert_eq!(bytes[bytes.len() - 2..], [0, 0]);
    let newer = Err(Unreadable::Newer("key record"));
    let with = |optional: &[u8]| [&bytes[..bytes.len() - 2], optional].concat();
    assert_eq!(Record::decode(&name, &with(&[0, 1, 77, 0, 0, 0, 1, 5])), newer);
    assert_eq!(Record::decode(&name, &[&[5], &bytes[1..]].concat()), newer);
    let spec = 1 + 4 + 1 + 8 + 8;
    assert_eq!(Record::decode(&name, &[&bytes[..spec], &[0, 200], &bytes[spec + 2..]].concat()), newer);
    // Somebody else's public key is of a pair.
    assert_eq!(Record::decode(&name, &with(&[0, 1, 6, 0, 0, 0, 1, 1])), Err(Malformed("key record").into()));
    // What says what is so anyway is not said.
    for said in [&[0, 1, 9, 0, 0, 0, 4, 0, 0, 0, 1], &[0, 1, 10, 0, 0, 0, 4, 0, 0, 0, 3]] {
        assert_eq!(Record::decode(&name, &with(said)), Err(Malformed("key record").into()));
    }
    for malformed in [&[0, 1, 1, 0, 0, 0, 0][..], &[0, 2, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1], &[0, 1]] {
        assert_eq!(Record::decode(&name, &with(malformed)), Err(Malformed("key record").into()));
    }
    assert_eq!(Record::decode(&name, &[&[1], &bytes[1..]].concat()), Err(Malformed("key record").into()));
}

#[test]
fn a_version_without_material_reads_and_one_of_a_wrong_length_does_not() {
    let (id, version) = (KeyId([1; 16]), KeyVersion::FIRST);
    let usage = Purpose::Mac.usages();
    let record = KeyVersionRecord::new(id, version, KeySpec::HmacSha256, Mode::Free, usage, 5);
    let with = |material: &[u8]| {
        let body = Writer::new().raw(&Record::from(record.clone()).encode(LEVEL)).field(material).finish();
        KeyVersionRecord::split(id, version, &body).map(|(read, material)| (read, material.to_vec()))
    };
    let without = KeyVersionRecord { has_material: false, ..record.clone() };
    assert_eq!(with(&[]), Ok((without, vec![])));
    assert_eq!(with(&[7; 20]), Ok((record.clone(), vec![7; 20])));
    assert!(with(&[7; 13]).is_err() && with(&[7; 129]).is_err());
}

/// What stands in clear in a key follows from the name: a record can't be filed under another time or list.
#[test]
fn clear_parts_that_are_not_the_name_s_are_refused() {
    let id = KeyId::new(0x0102_0304_0506, 7, [0xa, 0xb, 0xc, 0xd]);
    let token = Token(KeyId::new(99, 1, [0; 4]).0);
    let who = Principal::certificate(Role::User, "a".parse().unwrap());
    let names = [
        (RecordName::Key(id), &[0xa, 0xb, 0xc, 0xd, 1, 2, 3, 4, 5, 6][..], &[][..]),
        (RecordName::KeyVersion((id, KeyVersion::new(9).unwrap())), &[1, 2, 3, 4, 5, 6], &[0, 0, 0, 9]),
        (RecordName::Details(id), &[1, 2, 3, 4, 5, 6], &[]),
        (RecordName::Allowance((id, KeyVersion::new(9).unwrap())), &[1, 2, 3, 4, 5, 6], &[0, 0, 0, 9]),
        (RecordName::Use((id, NodeId(9))), &[1, 2, 3, 4, 5, 6], &[0, 0, 0, 0, 0, 0, 0, 9]),
        (RecordName::Destruction((id, KeyVersion::new(9))), &[1, 2, 3, 4, 5, 6], &[0, 0, 0, 9]),
        (RecordName::Destruction((id, None)), &[1, 2, 3, 4, 5, 6], &[0, 0, 0, 0]),
        (RecordName::Due((5, Due::Deletion(id))), &[0, 0, 0, 5], &[]),
        (RecordName::Idempotency((who, token)), &[0, 0, 0, 0, 0, 99], &[]),
    ];
    for (name, prefix, suffix) in names {
        let key = name.key(|_, _| [9; 32]);
        assert_eq!((key.prefix(), key.suffix()), (prefix, suffix));
        assert_eq!(RecordName::parse(&key, &name.true_name()), Ok(name.clone()));
        let mut moved = key.as_bytes().to_vec();
        moved[1] ^= 1;
        let moved = RecordName::parse(&RecordKey::parse(&moved).unwrap(), &name.true_name());
        // A due record's hour is in its body, too; everything else is in its name.
        assert_eq!(moved.is_ok(), matches!(name, RecordName::Due(_)));
    }
}

#[test]
fn names_in_different_tables_or_of_different_principals_differ() {
    let token = Token([3; 16]);
    let who = |role, name: &str| Principal::certificate(role, name.parse().unwrap());
    let a = RecordName::Idempotency((who(Role::Admin, "a"), token)).true_name();
    assert_ne!(a, RecordName::Idempotency((who(Role::User, "a"), token)).true_name());
    assert_ne!(a, RecordName::Idempotency((who(Role::Admin, "b"), token)).true_name());
}

#[test]
fn a_name_record_to_the_byte() {
    let named = Named::Object(Class::Key, "Db-1".parse().unwrap());
    let record = NameRecord { namespace: Namespace(6), named, key: KeyId([1; 16]), created_ms: 2, updated_ms: 3 };
    let name = RecordName::Name(record.name());
    assert_eq!(name.true_name(), b"\0\0\0\x06\x02db-1");
    let mut expected = vec![2];
    expected.extend_from_slice(&[1; 16]);
    expected.extend_from_slice(&[[0, 0, 0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 3]].concat());
    expected.extend_from_slice(b"\0\0\0\x04Db-1");
    assert_eq!(Record::Name(record).encode(LEVEL), expected);
    // What is written there has to be what it is found by.
    let of_another = [&expected[..33], b"\0\0\0\x04Db-2"].concat();
    assert_eq!(Record::decode(&name, &of_another), Err(Malformed("name record").into()));
    let key = name.key(|_, _| [9; 32]);
    assert_eq!(RecordName::parse(&key, b"\0\0\0\x06\x02Db-1"), Err(BAD_NAME), "names are found folded");
    assert_eq!(RecordName::parse(&key, b"\0\0\0\x06\x09db-1"), Err(Unreadable::Newer("name record")));
}

#[test]
fn credentials_and_principals_to_the_byte() {
    let by = Principal::certificate(Role::Admin, "al".parse().unwrap());
    let bob = Principal::certificate(Role::User, "bob".parse().unwrap());
    let record = CredentialRecord {
        id: CredentialId::Certificate([7; 32]),
        whose: Some(bob.clone()),
        created_ms: 2,
        updated_ms: 3,
        revoked: Some(Revoked { at_ms: 3, reason: RevocationReason::KeyCompromise, by: by.clone() }),
    };
    let name = RecordName::Credential(record.id);
    assert_eq!(name.true_name(), [&[1][..], &[7; 32]].concat());
    let mut expected = [&[1][..], &[0, 0, 0, 0, 0, 0, 0, 2], &[0, 0, 0, 0, 0, 0, 0, 3], &[0, 2]].concat();
    expected.extend_from_slice(b"\x01\0\0\0\x0c\0\0\0\0\x02\0\0\0\x03bob");
    expected.extend_from_slice(b"\x02\0\0\0\x14\0\0\0\0\0\0\0\x03\x01\0\0\0\0\x01\0\0\0\x02al");
    assert_eq!(Record::Credential(record).encode(LEVEL), expected);
    let at = |name: &RecordName, true_name: &[u8]| RecordName::parse(&name.key(|_, _| [9; 32]), true_name);
    let newer = [&[2][..], &[7; 32]].concat();
    assert_eq!(at(&name, &newer), Err(Unreadable::Newer("credential record")));
    assert!(at(&name, &[1; 40]).is_err() && at(&name, b"").is_err());

    let record = PrincipalRecord { principal: bob, enabled: false, created_ms: 2, updated_ms: 3, updated_by: by };
    let name = RecordName::Principal(record.principal.clone());
    assert_eq!(name.true_name(), b"\0\0\0\0\x02\0\0\0\x03bob");
    let expected = [&[1, 0][..], &[0, 0, 0, 0, 0, 0, 0, 2], &[0, 0, 0, 0, 0, 0, 0, 3], b"\0\0\0\0\x01\0\0\0\x02al"];
    assert_eq!(Record::Principal(record).encode(LEVEL), expected.concat());
    assert_eq!(at(&name, b"\0\0\0\0\x09\0\0\0\x03bob"), Err(Unreadable::Newer("principal record")));
    assert!(at(&name, b"\0\0\0\0\x02\0\0\0\x03bobb").is_err());
}

#[test]
fn namespace_records_to_the_byte() {
    let record = NamespaceRecord {
        number: Namespace(6),
        name: "a-1".parse().unwrap(),
        state: NamespaceState::Deleting,
        marks: 5,
        created_ms: 2,
        updated_ms: 3,
        settings: NamespaceSettings { exportable: Exportable::Wrapped, tracked: false },
    };
    let (number, name) = (RecordName::Namespace(record.number), RecordName::NamespaceName(record.name.clone()));
    assert_eq!((number.true_name(), name.true_name()), (b"\x01\0\0\0\x06".to_vec(), b"\x02a-1".to_vec()));
    assert_eq!(RecordName::NamespaceCount(()).true_name(), b"\x03");
    let mut expected = vec![1, 2, 0, 0, 0, 5];
    expected.extend_from_slice(&[[0, 0, 0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, 0, 0, 3]].concat());
    expected.extend_from_slice(b"\0\0\0\x03a-1\0\x02\x01\0\0\0\x01\x01\x02\0\0\0\x01\x01");
    assert_eq!(Record::Namespace(record).encode(LEVEL), expected);
    let at = |name: &[u8]| RecordName::parse(&number.key(|_, _| [9; 32]), name);
    assert_eq!((at(b"\x01\0\0\0\x06"), at(b"\x02a-1")), (Ok(number.clone()), Ok(name)));
    for none in [&b"\x01\0\0\x06"[..], b"\x02A-1", b"\x02", b"\x03\0", b"\x04", b""] {
        assert_eq!(at(none), Err(BAD_NAME), "{none:?}");
    }
}

/// A kind that has got a second field, and with it a second format.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Invented {
    first: u8,
    /// 7 in the first format, which can't say anything else.
    second: u8,
}

impl Kind for Invented {
    type Name = ();
    const TABLE: Table = Table::Name;
    const WHAT: &'static str = "invented record";
    const FORMATS: Formats = Formats { oldest: 3, later: &[Level(5)] };

    fn name(&self) {}
    fn place((): &()) -> Place {
        Place::default()
    }
    fn find(_: &Place) -> Result<(), Unreadable> {
        Ok(())
    }
    fn write(&self, format: u8, to: Writer) -> Writer {
        let to = to.u8(self.first);
        if format == 3 { to } else { to.u8(self.second) }
    }
    fn read((): &(), format: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok(Self { first: from.u8()?, second: if format == 3 { 7 } else { from.u8()? } })
    }
}

#[test]
fn a_newer_format_is_written_from_its_level_on_and_every_known_one_is_read() {
    let record = Invented { first: 1, second: 2 };
    let written = |level| encode(&record, Level(level));
    assert_eq!([1, 4, 5, 9].map(written), [vec![3, 1], vec![3, 1], vec![4, 1, 2], vec![4, 1, 2]]);
    let read = |body: &[u8]| decode::<Invented>(&(), body);
    assert_eq!(read(&[4, 1, 2]), Ok(record));
    assert_eq!(read(&[3, 1]), Ok(Invented { first: 1, second: 7 }));
    assert_eq!(read(&[5, 1, 2, 3]), Err(Unreadable::Newer("invented record")));
    for malformed in [&[2, 1][..], &[4, 1], &[3, 1, 2], &[]] {
        assert_eq!(read(malformed), Err(Malformed("invented record").into()), "{malformed:?}");
    }
}
