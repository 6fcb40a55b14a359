//! What one node has done with a key: when last, and how often. Late, and lost when the node stops; never a base for decisions.

use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::action::Action;
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, NodeId};
use crate::record_key::Table;

/// Uses of a key, some or all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tally {
    /// How many.
    pub uses: u64,
    /// When the first was (display time, ms since 1970).
    pub first_ms: u64,
    /// When the last was (likewise).
    pub last_ms: u64,
    /// What the last did.
    pub last: Action,
}

impl Tally {
    /// One use.
    pub fn one(action: Action, now_ms: u64) -> Self {
        Self { uses: 1, first_ms: now_ms, last_ms: now_ms, last: action }
    }

    /// These and others together; of two last ones at one moment that of the others.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        let last = if self.last_ms > others.last_ms { self } else { others };
        Self {
            uses: self.uses.saturating_add(others.uses),
            first_ms: self.first_ms.min(others.first_ms),
            last_ms: last.last_ms,
            last: last.last,
        }
    }
}

/// What a node has done with a key: `format u8 ‖ uses u64 ‖ first_ms u64 ‖ last_ms u64 ‖ action field`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UseRecord {
    /// Which key.
    pub key: KeyId,
    /// Which node.
    pub node: NodeId,
    /// How often, and when last.
    pub tally: Tally,
}

/// Longest name of an action, in bytes.
const ACTION_LEN_MAX: usize = 64;

impl Kind for UseRecord {
    type Name = (KeyId, NodeId);
    const TABLE: Table = Table::Use;
    const WHAT: &'static str = "use record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> Self::Name {
        (self.key, self.node)
    }
    fn place((id, node): &Self::Name) -> Place {
        Place { prefix: id.time().into(), suffix: node.0.to_be_bytes().into(), ..Place::named(id.0) }
    }
    fn find(place: &Place) -> Result<Self::Name, Unreadable> {
        let id = place.true_name[..].try_into().map(KeyId).map_err(|_| BAD_NAME)?;
        let node = place.suffix[..].try_into().map(u64::from_be_bytes).map_err(|_| BAD_NAME)?;
        Ok((id, NodeId(node)))
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        let Tally { uses, first_ms, last_ms, last } = self.tally;
        to.u64(uses).u64(first_ms).u64(last_ms).field(last.as_str().as_bytes())
    }
    fn read((key, node): &Self::Name, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let (uses, first_ms, last_ms, action) = (from.u64()?, from.u64()?, from.u64()?, from.text(ACTION_LEN_MAX)?);
        let last = Action::ALL.iter().copied().find(|one| one.as_str() == action);
        let last = last.ok_or(Unreadable::Newer(Self::WHAT))?;
        if uses == 0 || first_ms > last_ms {
            return Err(Malformed(Self::WHAT).into());
        }
        Ok(Self { key: *key, node: *node, tally: Tally { uses, first_ms, last_ms, last } })
    }
}
