//! Values of replicated records (key-hierarchy §1a).
//!
//! ```text
//! value = ver u8 ‖ suite u8 ‖ epoch u32 ‖ writer{origin u64, boot u32, seq u64, op u16} ‖ box0(K_rec(epoch), "record", hdr, pt)
//! hdr   = [L, g u32, key, epoch u32, writer]
//! pt    = len u32, true name ‖ len u32, body ‖ zeros
//! ```
//!
//! pt is padded to a multiple of 64 B; above 1 KiB by Padmé's rule, at most 12 % longer. The true name is inside: at
//! open it must give the blind that stands in the record's key, so a record is never taken for another one.
//!
//! The revision is the log index, which is unknown when a record is encrypted; the writer's batch id stands in for it.
//! That a disk returns an *older* value, or none, is for the state digest to find.

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{BatchId, Epoch, GroupId, Lineage};
use quorate_core::record_key::RecordKey;
use quorate_core::seam::Entropy;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::boxes;
use crate::kdf::Label;
use crate::keyring::Keyring;
use crate::secret::SecretBytes;
use crate::suite::{HashSuite, UnknownSuite};

const VERSION: u8 = 1;
/// Length of a value before its box, in bytes.
const HEADER_LEN: usize = 2 + 4 + BatchId::LEN + 2;
const PAD_BLOCK: usize = 64;

/// Which operation of which batch wrote a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WriterId {
    /// The batch.
    pub batch: BatchId,
    /// Place of the operation in the batch, from 0.
    pub op: u16,
}

impl WriterId {
    fn write(self, w: Writer) -> Writer {
        self.batch.write(w).u16(self.op)
    }
}

/// A record, opened.
pub struct OpenedRecord {
    /// Its true name.
    pub name: Vec<u8>,
    /// What was sealed.
    pub body: SecretBytes,
    /// Who wrote it.
    pub writer: WriterId,
}

/// Why a record does not open. Whatever the cause, its bytes must not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RecordError {
    /// Not the format.
    #[error("{0}: the record was damaged; {todo}", todo = quorate_core::REPLACE_MEMBER)]
    Malformed(#[from] Malformed),
    /// A version this build does not know.
    #[error("record version {0} is unknown: it was written by a newer version; upgrade this node")]
    UnknownVersion(u8),
    /// A hash suite this build does not have.
    #[error(transparent)]
    Suite(#[from] UnknownSuite),
    /// The keyring does not have its epoch.
    #[error("the record needs epoch {}, which this node's keyring does not have: the keyring is too old, or the record is", .0.0)]
    UnknownEpoch(Epoch),
    /// Moved, renamed, edited, or of another cluster's data.
    #[error("the record does not open: it was moved, renamed or changed; {todo}", todo = quorate_core::REPLACE_MEMBER)]
    NotOpened,
}

impl Keyring {
    /// Seals a record's value under the current epoch. `true_name` is what [`Keyring::blind`] was given for `key`.
    ///
    /// # Panics
    /// When `key` is not that of `true_name`: the record could never be opened again, so this bug must show at once.
    #[expect(clippy::too_many_arguments, reason = "everything a record is bound to, each of its own type")]
    pub fn seal_record(
        &self,
        lineage: Lineage,
        group: GroupId,
        key: &RecordKey,
        writer: WriterId,
        true_name: &[u8],
        body: &[u8],
        entropy: &dyn Entropy,
    ) -> Vec<u8> {
        assert!(key.blind() == self.blind(key.table(), true_name), "{key:?}: the key is not that of the true name");
        let epoch = self.current_epoch();
        let record_key = self.record_key_of(epoch).expect("the current epoch is in the keyring");
        let w = Writer::new().u8(VERSION).u8(self.suite() as u8).u32(epoch.0);
        let before = writer.write(w).finish();
        let hdr = header_fields(lineage, group, key, epoch, writer);
        boxes::seal0_onto(before, record_key, Label::Record, &hdr, b"", &pad(true_name, body), entropy)
    }

    /// Opens a record's value: it must be the one written for `key`, and (where given) for `expected_name`.
    ///
    /// # Errors
    /// [`RecordError::NotOpened`] when it was moved, renamed or changed; others say what this node lacks.
    pub fn open_record(
        &self,
        lineage: Lineage,
        group: GroupId,
        key: &RecordKey,
        expected_name: Option<&[u8]>,
        value: &[u8],
    ) -> Result<OpenedRecord, RecordError> {
        let mut r = Reader::new("record", value);
        match r.u8()? {
            VERSION => {}
            other => return Err(RecordError::UnknownVersion(other)),
        }
        HashSuite::from_byte(r.u8()?)?;
        let epoch = Epoch(r.u32()?);
        let writer = WriterId { batch: BatchId::read(&mut r)?, op: r.u16()? };
        let record_key = self.record_key_of(epoch).ok_or(RecordError::UnknownEpoch(epoch))?;
        let hdr = header_fields(lineage, group, key, epoch, writer);
        let pt = boxes::open0(record_key, Label::Record, &hdr, b"", &value[HEADER_LEN..])
            .map_err(|_| RecordError::NotOpened)?;
        let (name, body) = unpad(&pt)?;
        if self.blind(key.table(), name) != key.blind() || expected_name.is_some_and(|n| n != name) {
            return Err(RecordError::NotOpened);
        }
        Ok(OpenedRecord { name: name.to_vec(), body: Zeroizing::new(body.to_vec()), writer })
    }
}

fn header_fields(lineage: Lineage, group: GroupId, key: &RecordKey, epoch: Epoch, writer: WriterId) -> Vec<u8> {
    writer.write(Writer::new().field(&lineage.0).u32(group.0).field(key.as_bytes()).u32(epoch.0)).finish()
}

/// Length of a padded plaintext: a multiple of 64 B; above 1 KiB by Padmé (only the first `log2 log2 len` bits of the
/// length survive), which is one rule, since Padmé's blocks begin at 64 B there.
fn padded_len(len: usize) -> usize {
    let block = if len <= 1024 {
        PAD_BLOCK
    } else {
        let exponent = len.ilog2();
        1 << (exponent - (exponent.ilog2() + 1))
    };
    len.max(1).next_multiple_of(block)
}

fn pad(name: &[u8], body: &[u8]) -> SecretBytes {
    let len = padded_len(4 + name.len() + 4 + body.len());
    // Reserved at once: growing would leave plaintext behind in the old allocation.
    let mut pt = Zeroizing::new(Vec::with_capacity(len));
    for field in [name, body] {
        pt.extend_from_slice(&u32::try_from(field.len()).expect("a record is far below 4 GiB").to_be_bytes());
        pt.extend_from_slice(field);
    }
    pt.resize(len, 0);
    pt
}

fn unpad(pt: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut r = Reader::new("record", pt);
    let name = r.field(pt.len())?;
    let body = r.field(pt.len())?;
    let canonical = padded_len(pt.len() - r.rest().len()) == pt.len() && r.rest().iter().all(|b| *b == 0);
    if canonical { Ok((name, body)) } else { Err(Malformed("record: padding")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_core::id::NodeId;
    use quorate_core::record_key::Table;

    use super::*;
    use crate::secret::Secret;
    use crate::testing::TestEntropy;

    const L: Lineage = Lineage([1; 16]);
    const G: GroupId = GroupId(0);

    fn keyring() -> Keyring {
        Keyring::generate(&Secret::from_array([4; 32]), &TestEntropy::new(1))
    }
    fn version(k: &Keyring, name: &[u8], n: u32) -> RecordKey {
        RecordKey::with(Table::KeyVersion, &[0; 6], k.blind(Table::KeyVersion, name), &n.to_be_bytes())
    }
    fn writer() -> WriterId {
        WriterId { batch: BatchId { origin: NodeId(1), boot: 2, seq: 3 }, op: 4 }
    }

    #[test]
    fn opens_to_what_it_was() {
        let k = keyring();
        let key = k.record_key(Table::Name, b"alias/a");
        let value = k.seal_record(L, G, &key, writer(), b"alias/a", b"body", &TestEntropy::new(2));
        assert_eq!(value.len(), HEADER_LEN + 64 + boxes::BOX0_OVERHEAD);
        for expected in [None, Some(&b"alias/a"[..])] {
            let r = k.open_record(L, G, &key, expected, &value).ok().unwrap();
            assert_eq!((&r.name[..], &r.body[..], r.writer), (&b"alias/a"[..], &b"body"[..], writer()));
        }
    }

    #[test]
    fn an_older_epoch_is_still_read() {
        let mut k = keyring();
        let key = k.record_key(Table::Name, b"a");
        let value = k.seal_record(L, G, &key, writer(), b"a", b"old", &TestEntropy::new(2));
        let before = keyring();
        k.begin_epoch(5, &Secret::from_array([4; 32]), &TestEntropy::new(3)).unwrap();
        assert_eq!(k.open_record(L, G, &key, None, &value).ok().unwrap().body[..], b"old"[..]);
        let newer = k.seal_record(L, G, &key, writer(), b"a", b"new", &TestEntropy::new(2));
        assert_eq!(before.open_record(L, G, &key, None, &newer).err(), Some(RecordError::UnknownEpoch(Epoch(2))));
    }

    #[test]
    fn moved_renamed_and_edited_records_do_not_open() {
        let k = keyring();
        let key = version(&k, b"id", 1);
        let value = k.seal_record(L, G, &key, writer(), b"id", b"material", &TestEntropy::new(2));
        let open = |l, g, key: &RecordKey, name: Option<&[u8]>, v: &[u8]| k.open_record(l, g, key, name, v).err();
        assert_eq!(open(L, G, &key, Some(b"id"), &value), None);
        let moved = [
            version(&k, b"id", 2),
            version(&k, b"other", 1),
            RecordKey::with(Table::KeyVersion, &[1; 6], key.blind(), key.suffix()),
            RecordKey::with(Table::Due, &[0; 4], k.blind(Table::Due, b"id"), &[]),
            k.record_key(Table::Name, b"id"),
        ];
        for other in &moved {
            assert_eq!(open(L, G, other, None, &value), Some(RecordError::NotOpened), "{other:?}");
        }
        assert_eq!(open(Lineage([2; 16]), G, &key, None, &value), Some(RecordError::NotOpened));
        assert_eq!(open(L, GroupId(1), &key, None, &value), Some(RecordError::NotOpened));
        assert_eq!(open(L, G, &key, Some(b"renamed"), &value), Some(RecordError::NotOpened));
        assert_eq!(open(L, G, &key, None, &[&[2], &value[1..]].concat()), Some(RecordError::UnknownVersion(2)));
        for i in 1..value.len() {
            let mut bad = value.clone();
            bad[i] ^= 1;
            assert!(open(L, G, &key, None, &bad).is_some(), "byte {i}");
            assert!(open(L, G, &key, None, &value[..i]).is_some(), "first {i}");
        }
    }

    #[test]
    fn a_record_whose_name_is_not_its_keys_does_not_open() {
        // Sealed with all the right keys by a faulty writer.
        let k = keyring();
        let key = k.record_key(Table::Name, b"a");
        let epoch = k.current_epoch();
        let before = writer().write(Writer::new().u8(VERSION).u8(1).u32(epoch.0)).finish();
        let hdr = header_fields(L, G, &key, epoch, writer());
        let e = TestEntropy::new(1);
        let seal = |pt: &[u8]| {
            boxes::seal0_onto(before.clone(), k.record_key_of(epoch).unwrap(), Label::Record, &hdr, b"", pt, &e)
        };
        assert!(k.open_record(L, G, &key, None, &seal(&pad(b"a", b"x"))).is_ok());
        assert_eq!(k.open_record(L, G, &key, None, &seal(&pad(b"b", b"x"))).err(), Some(RecordError::NotOpened));
        // And padding is canonical.
        let padding = Some(RecordError::Malformed(Malformed("record: padding")));
        let mut pt = pad(b"a", b"x").to_vec();
        *pt.last_mut().unwrap() = 1;
        assert_eq!(k.open_record(L, G, &key, None, &seal(&pt)).err(), padding);
        let long = [&pad(b"a", b"x")[..], &[0; 64]].concat();
        assert_eq!(k.open_record(L, G, &key, None, &seal(&long)).err(), padding);
    }

    #[test]
    #[should_panic(expected = "not that of the true name")]
    fn sealing_under_anothers_key_is_refused() {
        let k = keyring();
        k.seal_record(L, G, &k.record_key(Table::Name, b"a"), writer(), b"b", b"", &TestEntropy::new(1));
    }

    #[test]
    fn padding_hides_lengths_within_its_bounds() {
        for (len, padded) in [
            (8, 64),
            (64, 64),
            (65, 128),
            (1024, 1024),
            (1025, 1088),
            (2048, 2048),
            (2049, 2176),
            (5000, 5120),
            (65536, 65536),
            (65537, 67584),
        ] {
            assert_eq!(padded_len(len), padded, "{len}");
        }
        for len in 1024..70_000 {
            assert!((padded_len(len) - len) * 100 <= len * 12, "{len}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(name: Vec<u8>, body in prop::collection::vec(any::<u8>(), 0..3000)) {
            let k = keyring();
            let key = k.record_key(Table::Name, &name);
            let value = k.seal_record(L, G, &key, writer(), &name, &body, &TestEntropy::new(2));
            let r = k.open_record(L, G, &key, Some(&name), &value).ok().unwrap();
            prop_assert_eq!((&r.name, &r.body[..]), (&name, &body[..]));
        }

        #[test]
        fn random_values_never_open_and_never_panic(bytes: Vec<u8>, head in prop::bool::ANY) {
            let k = keyring();
            let bytes = if head { [&[1, 1, 0, 0, 0, 1], &bytes[..]].concat() } else { bytes };
            prop_assert!(k.open_record(L, G, &k.record_key(Table::Name, b"a"), None, &bytes).is_err());
            let _ = unpad(&bytes);
        }
    }
}
