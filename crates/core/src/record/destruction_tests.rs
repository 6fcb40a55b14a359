//! Records of destructions, to the byte and beyond what is listed.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{key_record, key_version, principal};
use super::*;
use crate::id::{KeyId, KeyVersion, Namespace};
use crate::key_spec::{KeySpec, Mode, Purpose};
use crate::level::LEVEL;
use crate::lifecycle::KeyState;
use crate::principal::{Principal, Role};
use crate::record::Origin;
use crate::request::Tags;

/// Version 2 of an AES key, which somebody destroyed.
pub(crate) fn destroyed() -> DestructionRecord {
    DestructionRecord {
        key: KeyId([1; 16]),
        version: KeyVersion::new(2),
        cause: Cause::Version { by: Principal::certificate(Role::Admin, "al".parse().unwrap()) },
        namespace: Namespace(6),
        spec: KeySpec::Aes256,
        newest: 2,
        through: 2,
        created_ms: 4,
        began_ms: 5,
        ended_ms: 6,
        gone: vec![Gone {
            version: KeyVersion::new(2).unwrap(),
            material_id: [9; 32],
            had_material: true,
            first_exported_ms: 7,
        }],
        more: More::default(),
        name: Some("Nm".parse().unwrap()),
        aliases: BTreeSet::from(["a".parse().unwrap()]),
        backed_up_ms: 8,
        born_as: Some(KeyId([2; 16])),
        earlier: 1,
    }
}
fn scheduled() -> impl Strategy<Value = Scheduled> {
    (proptest::option::of(principal()), any::<(u64, u64)>()).prop_map(|(by, (since_ms, due_ms))| Scheduled {
        by,
        since_ms,
        due_ms,
    })
}
/// Of any number of versions that went one by one.
pub(super) fn destruction() -> impl Strategy<Value = DestructionRecord> {
    let cause = prop_oneof![
        principal().prop_map(|by| Cause::Version { by }),
        (principal(), scheduled()).prop_map(|(by, scheduled)| Cause::Purge { by, scheduled }),
        scheduled().prop_map(|scheduled| Cause::Due { scheduled }),
    ];
    let heads = proptest::collection::vec(key_version(), 1..140);
    let before = (proptest::option::of(0..u32::MAX), any::<[u64; 2]>());
    (key_record(), cause, heads, before).prop_map(|(key, cause, heads, (earlier, [began_ms, ended_ms]))| {
        if let Cause::Version { by } = cause {
            return DestructionRecord::of_version(&key, &heads[0], by, None, began_ms);
        }
        let record = DestructionRecord::of_key(&key, cause, None, began_ms);
        let mut record = DestructionRecord { earlier: earlier.unwrap_or(0), ..record };
        record.went(&heads, key.newest.get() / 2, ended_ms);
        record
    })
}
#[test]
fn a_destruction_to_the_byte() {
    let record = destroyed();
    let mut expected = vec![1, 1, 0, 0, 0, 6, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2];
    for at_ms in [4u64, 5, 6] {
        expected.extend_from_slice(&at_ms.to_be_bytes());
    }
    expected.extend_from_slice(&[0, 1, 0, 0, 0, 2]);
    expected.extend_from_slice(&[9; 32]);
    expected.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 7]);
    expected.extend_from_slice(&[0, 6, 1, 0, 0, 0, 11, 0, 0, 0, 0, 1, 0, 0, 0, 2, b'a', b'l']);
    expected.extend_from_slice(&[3, 0, 0, 0, 2, b'N', b'm', 4, 0, 0, 0, 5, 0, 0, 0, 1, b'a']);
    expected.extend_from_slice(&[5, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8, 6, 0, 0, 0, 16]);
    expected.extend_from_slice(&[2; 16]);
    expected.extend_from_slice(&[7, 0, 0, 0, 4, 0, 0, 0, 1]);
    let name = RecordName::Destruction(record.name());
    assert_eq!(Record::from(record.clone()).encode(LEVEL), expected);
    assert!(expected.len() < 220, "some 200 bytes: {}", expected.len());

    // A version is destroyed by somebody, at once, and wholly.
    let of_key = RecordName::Destruction((record.key, None));
    assert!(Record::decode(&of_key, &expected).is_err());
    let with = |at: usize, byte| [&expected[..at], &[byte], &expected[at + 1..]].concat();
    let malformed = Err(Malformed("record of a destruction").into());
    assert_eq!(Record::decode(&name, &with(1, 3)), malformed);
    assert_eq!(Record::decode(&name, &with(15, 1)), malformed);
    assert_eq!(Record::decode(&name, &with(1, 4)), Err(Unreadable::Newer("record of a destruction")));

    // Of many versions the first are listed, and the others counted.
    let key = KeyRecord { newest: KeyVersion::new(300).unwrap(), ..plain_key() };
    let head = |n| {
        let of = KeyVersion::new(n).unwrap();
        let head = KeyVersionRecord::new(key.id, of, key.spec, Mode::Blob, key.usage, 1);
        KeyVersionRecord { first_exported_ms: u64::from(n % 50), ..head }
    };
    let scheduled = Scheduled { by: None, since_ms: 1, due_ms: 2 };
    let mut many = DestructionRecord::of_key(&key, Cause::Due { scheduled }, Some(&record), 3);
    many.went(&(1..=100).map(head).collect::<Vec<_>>(), 100, 4);
    assert!(!many.is_complete());
    many.went(&(101..=300).map(head).collect::<Vec<_>>(), 300, 5);
    assert!(many.is_complete());
    assert_eq!((many.gone.len(), many.more), (LISTED_MAX, More { count: 188, first_exported_ms: 1 }));
    assert_eq!((many.first_exported_ms(), many.earlier, many.began_ms, many.ended_ms), (1, 2, 3, 5));
    let body = Record::from(many.clone()).encode(LEVEL);
    assert_eq!(Record::decode(&RecordName::Destruction(many.name()), &body), Ok(many.into()));
}

fn plain_key() -> KeyRecord {
    let (id, usage) = (KeyId([1; 16]), Purpose::Encrypt.usages());
    KeyRecord {
        id,
        namespace: Namespace(0),
        state: KeyState::Enabled,
        spec: KeySpec::Aes256,
        usage,
        birth: [9; 16],
        current: KeyVersion::FIRST,
        newest: KeyVersion::FIRST,
        protect_floor: KeyVersion::FIRST,
        process_floor: KeyVersion::FIRST,
        destroyed_through: 0,
        created_ms: 4,
        updated_ms: 6,
        rotated_ms: 5,
        has_details: false,
        aliases: BTreeSet::new(),
        tags: Tags::default(),
        rotation: None,
        purge_protected: false,
        origin: Origin::Here,
        exportable: Exportable::No,
        archived: false,
        name: None,
        tracked: true,
        backed_up_ms: 0,
        born_as: None,
        replaces: None,
        replaced_by: None,
        deletion_by: None,
    }
}
