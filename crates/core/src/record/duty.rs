//! Work that one unsealed node at a time does for the cluster (key-log §2).

use super::{Formats, Kind, Place, Unreadable};
use crate::codec::{Reader, Writer};
use crate::id::NodeId;
use crate::record_key::Table;

/// A piece of such work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Duty {
    /// Destroys keys that are due.
    Destroy,
    /// Rotates keys that are due.
    Rotate,
    /// Erases imported material whose time is over.
    Expire,
    /// Removes old answers to client tokens.
    Sweep,
    /// Raises the feature level once all members speak a higher one.
    RaiseLevel,
}

impl Duty {
    /// Every duty.
    pub const ALL: &'static [Self] = &[Self::Destroy, Self::Rotate, Self::Expire, Self::Sweep, Self::RaiseLevel];

    /// Its name in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Rotate => "rotate",
            Self::Expire => "expire",
            Self::Sweep => "sweep",
            Self::RaiseLevel => "raise-level",
        }
    }
}

/// The lease of a duty: `format u8 ‖ holder u64 ‖ boot u32 ‖ until_ms u64`. Correctness never rests on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DutyRecord {
    /// Which duty.
    pub duty: Duty,
    /// The node that does it.
    pub holder: NodeId,
    /// That node's boot: after a restart it has to claim again.
    pub boot: u32,
    /// Until when, cluster time, ms since 1970.
    pub until_ms: u64,
}

impl Kind for DutyRecord {
    type Name = Duty;
    const TABLE: Table = Table::Duty;
    const WHAT: &'static str = "duty record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> Duty {
        self.duty
    }
    fn place(duty: &Duty) -> Place {
        Place::named(duty.as_str())
    }
    fn find(place: &Place) -> Result<Duty, Unreadable> {
        let known = Duty::ALL.iter().copied().find(|duty| duty.as_str().as_bytes() == place.true_name);
        known.ok_or(Unreadable::Newer(Self::WHAT))
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.u64(self.holder.0).u32(self.boot).u64(self.until_ms)
    }
    fn read(duty: &Duty, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok(Self { duty: *duty, holder: NodeId(from.u64()?), boot: from.u32()?, until_ms: from.u64()? })
    }
}
