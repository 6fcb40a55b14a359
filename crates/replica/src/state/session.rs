//! Sessions: at most once (key-log §1.4). They are records of table 1, so they are in the digest and in snapshots.
//!
//! ```text
//! session/origin        → boot u32 ‖ process 16
//! session/origin/slot   → boot u32 ‖ seq u64 ‖ outcome u8 (1 applied, 2 conflict) ‖ index u64
//! ```
//!
//! Only an `Open` entry begins a session; a batch of any other start is fenced. A slot names its boot: when a newer boot
//! takes over, the old slots are void without being touched. A repeated conflict is answered without the list of
//! mismatches: its origin decides again from a newer view anyway.

use std::io;

use bytes::Bytes;
use quorate_core::batch::{Outcome, Rev};
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{BatchId, NodeId};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::session::Session;

use super::apply::{Overlay, damaged};
use super::engine::{View, get_record};

/// Slots of one origin; its newest and oldest open batch are less than this apart.
pub(super) const SLOTS: u64 = 4096;

/// What the session table says about a batch.
pub(super) enum Verdict {
    /// Never seen: apply it.
    New,
    /// Nothing is to be done; this is the answer.
    Settled(Outcome),
}

struct Slot {
    boot: u32,
    seq: u64,
    applied: bool,
    index: u64,
}

impl Slot {
    fn encode(&self) -> Vec<u8> {
        let outcome = if self.applied { 1 } else { 2 };
        Writer::new().u32(self.boot).u64(self.seq).u8(outcome).u64(self.index).finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("session slot", bytes);
        let (boot, seq) = (r.u32()?, r.u64()?);
        let applied = match r.u8()? {
            1 => true,
            2 => false,
            _ => return Err(Malformed("session slot")),
        };
        let index = r.u64()?;
        r.finish()?;
        Ok(Self { boot, seq, applied, index })
    }

    fn outcome(&self) -> Outcome {
        match self.applied {
            true => Outcome::Applied(self.index),
            false => Outcome::Conflict { index: self.index, mismatches: Vec::new() },
        }
    }
}

fn slot_key(id: &BatchId) -> RecordKey {
    RecordKey::session(id.origin, Some((id.seq % SLOTS) as u16))
}

/// Reads a record's revision and value.
type Read<'a> = &'a dyn Fn(&RecordKey) -> io::Result<Option<(Rev, Bytes)>>;

/// What is known about a batch. Its origin is a member.
pub(super) fn judge(read: Read<'_>, id: &BatchId) -> io::Result<Verdict> {
    if stored(read, id.origin)?.is_none_or(|session| session.boot != id.boot) {
        return Ok(Verdict::Settled(Outcome::Fenced));
    }
    let Some((_, bytes)) = read(&slot_key(id))? else { return Ok(Verdict::New) };
    let slot = Slot::decode(&bytes).map_err(damaged)?;
    Ok(if slot.boot != id.boot || slot.seq < id.seq {
        Verdict::New
    } else if slot.seq == id.seq {
        Verdict::Settled(slot.outcome())
    } else {
        Verdict::Settled(Outcome::TooOld)
    })
}

/// What a state says became of a batch; `None`: it has not met it.
///
/// # Errors
/// When the engine fails, or its bytes are damaged.
pub fn outcome_of(view: &dyn View, id: &BatchId) -> io::Result<Option<Outcome>> {
    Ok(match judge(&|key| get_record(view, key), id)? {
        Verdict::Settled(outcome) => Some(outcome),
        Verdict::New => None,
    })
}

/// The session of an origin.
///
/// # Errors
/// When the engine fails, or its bytes are damaged.
pub fn session_of(view: &dyn View, origin: NodeId) -> io::Result<Option<Session>> {
    stored(&|key| get_record(view, key), origin)
}

/// Begins a session; false when that of a newer start, or of another process under the same number, exists.
pub(super) fn begin(overlay: &mut Overlay<'_>, session: &Session, index: u64) -> io::Result<bool> {
    match stored(&|key| overlay.record(key), session.origin)? {
        Some(now) if now == *session => return Ok(true),
        Some(now) if now.boot >= session.boot => return Ok(false),
        _ => {}
    }
    let value = Writer::new().u32(session.boot).raw(&session.process).finish();
    overlay.put(&RecordKey::session(session.origin, None), index, &value)?;
    Ok(true)
}

/// Remembers the outcome of a new batch.
pub(super) fn settle(overlay: &mut Overlay<'_>, id: &BatchId, index: u64, applied: bool) -> io::Result<()> {
    let slot = Slot { boot: id.boot, seq: id.seq, applied, index };
    overlay.put(&slot_key(id), index, &slot.encode())
}

/// Forgets a removed member; its id never comes back.
pub(super) fn forget(overlay: &mut Overlay<'_>, origin: NodeId) -> io::Result<()> {
    let mut prefix = vec![Table::Session as u8];
    prefix.extend_from_slice(&origin.0.to_be_bytes());
    overlay.remove_prefix(&prefix)
}

fn stored(read: Read<'_>, origin: NodeId) -> io::Result<Option<Session>> {
    let Some((_, bytes)) = read(&RecordKey::session(origin, None))? else { return Ok(None) };
    let mut r = Reader::new("session", &bytes);
    let session = Session { origin, boot: r.u32().map_err(damaged)?, process: r.array().map_err(damaged)? };
    r.finish().map_err(damaged)?;
    Ok(Some(session))
}
