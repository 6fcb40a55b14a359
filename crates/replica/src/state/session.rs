//! Sessions: at most once (key-log §1.4). They are records of table 1, so they are in the digest and in snapshots.
//!
//! ```text
//! session/origin        → boot u32
//! session/origin/slot   → boot u32 ‖ seq u64 ‖ outcome u8 (1 applied, 2 conflict) ‖ index u64
//! ```
//!
//! A slot names its boot: when a newer boot takes over, the old slots are void without being touched. A repeated
//! conflict is answered without the list of mismatches: its origin decides again from a newer view anyway.

use std::io;

use quorate_core::batch::Outcome;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{BatchId, NodeId};
use quorate_core::record_key::{RecordKey, Table};

use super::apply::Overlay;

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

/// What is known about a batch. Its origin is a member.
pub(super) fn judge(overlay: &Overlay<'_>, id: &BatchId) -> io::Result<Verdict> {
    match stored_boot(overlay, id.origin)? {
        Some(boot) if id.boot < boot => return Ok(Verdict::Settled(Outcome::Fenced)),
        Some(boot) if id.boot == boot => {}
        // A newer boot: whatever the slots say is void.
        _ => return Ok(Verdict::New),
    }
    let Some((_, bytes)) = overlay.record(&slot_key(id))? else { return Ok(Verdict::New) };
    let slot = Slot::decode(&bytes).map_err(damaged)?;
    Ok(if slot.boot != id.boot || slot.seq < id.seq {
        Verdict::New
    } else if slot.seq == id.seq {
        Verdict::Settled(slot.outcome())
    } else {
        Verdict::Settled(Outcome::TooOld)
    })
}

/// Remembers the outcome of a new batch.
pub(super) fn settle(overlay: &mut Overlay<'_>, id: &BatchId, index: u64, applied: bool) -> io::Result<()> {
    if stored_boot(overlay, id.origin)? != Some(id.boot) {
        let value = Writer::new().u32(id.boot).finish();
        overlay.put(&RecordKey::session(id.origin, None), index, &value)?;
    }
    let slot = Slot { boot: id.boot, seq: id.seq, applied, index };
    overlay.put(&slot_key(id), index, &slot.encode())
}

/// Forgets a removed member; its id never comes back.
pub(super) fn forget(overlay: &mut Overlay<'_>, origin: NodeId) -> io::Result<()> {
    let mut prefix = vec![Table::Session as u8];
    prefix.extend_from_slice(&origin.0.to_be_bytes());
    overlay.remove_prefix(&prefix)
}

fn stored_boot(overlay: &Overlay<'_>, origin: NodeId) -> io::Result<Option<u32>> {
    let Some((_, bytes)) = overlay.record(&RecordKey::session(origin, None))? else { return Ok(None) };
    let mut r = Reader::new("session", &bytes);
    let boot = r.u32().map_err(damaged)?;
    r.finish().map_err(damaged)?;
    Ok(Some(boot))
}

fn damaged(e: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{e}: the state is damaged; {}", quorate_core::REPLACE_MEMBER))
}
