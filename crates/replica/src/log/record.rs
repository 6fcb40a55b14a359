//! The log's records, to the byte (key-log §4.1).
//!
//! ```text
//! kind  entry 1 · vote 2 · committed 3 · truncate 4 · purge 5 · checkpoint 6 · seen 7
//! entry = index u64 ‖ id ‖ payload    purge = index u64 ‖ id    truncate = 0 | 1 ‖ index u64 of the last that stays
//! checkpoint = index u64 ‖ digest 32 ‖ chain 32                 vote, committed, seen = the bytes
//! ```

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_journal::{Haste, Record};

use super::{Checkpoint, Command, IndexedId, LogEntry};

/// Longest encoded log id.
pub(super) const ID_LEN_MAX: usize = 64;
/// Longest encoded vote or committed id.
pub(super) const META_LEN_MAX: usize = 256;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE_AFTER: u8 = 4;
const PURGE: u8 = 5;
const CHECKPOINT: u8 = 6;
const SEEN: u8 = 7;

/// The record of a command.
pub(super) fn encode(command: &Command) -> Record {
    let w = Writer::new();
    let (kind, haste, body) = match command {
        Command::Entry(e) => (ENTRY, Haste::Syncs, w.u64(e.index).field(&e.id).raw(&e.payload).finish().into()),
        Command::Vote(bytes) => (VOTE, Haste::Marks, bytes.clone()),
        Command::Committed(bytes) => (COMMITTED, Haste::Rides, bytes.clone()),
        Command::TruncateAfter(None) => (TRUNCATE_AFTER, Haste::Syncs, w.u8(0).finish().into()),
        Command::TruncateAfter(Some(index)) => (TRUNCATE_AFTER, Haste::Syncs, w.u8(1).u64(*index).finish().into()),
        Command::Purge((index, id)) => (PURGE, Haste::Syncs, w.u64(*index).field(id).finish().into()),
        Command::Checkpoint(c) => (CHECKPOINT, Haste::Syncs, c.write(w).finish().into()),
        Command::Seen(bytes) => (SEEN, Haste::Rides, bytes.clone()),
    };
    Record { kind, body, haste, ticket: 0 }
}

/// Length of the body, without making it.
pub(super) fn body_len(command: &Command) -> usize {
    match command {
        Command::Entry(e) => 12 + e.id.len() + e.payload.len(),
        Command::Vote(bytes) | Command::Committed(bytes) | Command::Seen(bytes) => bytes.len(),
        Command::TruncateAfter(index) => 1 + if index.is_some() { 8 } else { 0 },
        Command::Purge((_, id)) => 12 + id.len(),
        Command::Checkpoint(_) => Checkpoint::LEN,
    }
}

/// The command of a record; an entry without its id and payload, which stay on disk.
pub(super) fn decode(kind: u8, body: &[u8]) -> Result<Command, Malformed> {
    let mut r = Reader::new("log record", body);
    let command = match kind {
        ENTRY => {
            let (index, _) = (r.u64()?, r.field(ID_LEN_MAX)?);
            return Ok(Command::Entry(LogEntry { index, id: Bytes::new(), payload: Bytes::new() }));
        }
        VOTE => return Ok(Command::Vote(Bytes::copy_from_slice(body))),
        COMMITTED => return Ok(Command::Committed(Bytes::copy_from_slice(body))),
        SEEN => return Ok(Command::Seen(Bytes::copy_from_slice(body))),
        TRUNCATE_AFTER => Command::TruncateAfter(match r.u8()? {
            0 => None,
            1 => Some(r.u64()?),
            _ => return Err(Malformed("log record: truncation")),
        }),
        PURGE => Command::Purge(read_indexed_id(&mut r)?),
        CHECKPOINT => Command::Checkpoint(Checkpoint::read(&mut r)?),
        _ => return Err(Malformed("log record: unknown kind, a newer version is needed")),
    };
    r.finish()?;
    Ok(command)
}

/// The index of an entry's record, if it is one.
pub(super) fn index_of(kind: u8, body: &[u8]) -> Option<u64> {
    let index = body.first_chunk().map(|index| u64::from_be_bytes(*index));
    index.filter(|_| kind == ENTRY)
}

/// The whole entry of a record, if it is one.
pub(super) fn decode_entry(kind: u8, body: &Bytes) -> Option<LogEntry> {
    let mut r = Reader::new("log entry", body);
    let (index, id_len) = (r.u64().ok()?, r.field(ID_LEN_MAX).ok()?.len());
    let id = body.slice(12..12 + id_len);
    (kind == ENTRY).then(|| LogEntry { index, id, payload: body.slice(12 + id_len..) })
}

pub(super) fn read_indexed_id(r: &mut Reader<'_>) -> Result<IndexedId, Malformed> {
    Ok((r.u64()?, Bytes::copy_from_slice(r.field(ID_LEN_MAX)?)))
}

impl Checkpoint {
    const LEN: usize = 72;
    pub(super) fn write(&self, w: Writer) -> Writer {
        w.u64(self.index).raw(&self.digest).raw(&self.chain)
    }
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { index: r.u64()?, digest: r.array()?, chain: r.array()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_read_back_as_written() {
        let id = Bytes::from_static(b"term 1");
        let entry = LogEntry { index: 9, id: id.clone(), payload: Bytes::from_static(b"abc") };
        let examples = [
            Command::Entry(entry.clone()),
            Command::Vote(Bytes::from_static(b"vote")),
            Command::Committed(Bytes::new()),
            Command::TruncateAfter(None),
            Command::TruncateAfter(Some(3)),
            Command::Purge((4, id)),
            Command::Checkpoint(Checkpoint { index: 5, digest: [2; 32], chain: [3; 32] }),
            Command::Seen(Bytes::from_static(b"words")),
        ];
        for command in examples {
            let record = encode(&command);
            assert_eq!(record.body.len(), body_len(&command));
            let read = decode(record.kind, &record.body).expect("reads back");
            match command {
                Command::Entry(_) => {
                    assert!(matches!(read, Command::Entry(e) if e.index == 9));
                    assert!(decode_entry(record.kind, &record.body) == Some(entry.clone()));
                }
                command => {
                    assert!(read == command);
                    assert!(decode_entry(record.kind, &record.body).is_none(), "kind {} is no entry", record.kind);
                }
            }
        }
    }

    proptest! {
        /// Whatever a disk holds: an error, never a panic.
        #[test]
        fn any_bytes_are_read_or_refused(kind: u8, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(kind, &bytes);
            let _ = decode_entry(kind, &bytes.into());
        }
    }
}
