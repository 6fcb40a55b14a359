//! Who is a member, by an operator's approval.
//!
//! These, not Raft's membership, are what key material is entrusted by: they are written by MACed batches only, so a
//! hostile sealed leader, which can propose a membership, can't make anybody an approved member.

use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{Name, NodeId};
use crate::record_key::Table;

const VERSION: u8 = 1;
pub(super) const TEXT_LEN_MAX: usize = 128;

/// What a node says of itself when it asks to join, signed by its identity key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Its name; the one in its certificate.
    pub name: Name,
    /// `host:port` for the other nodes.
    pub peer_addr: String,
    /// `host:port` for clients.
    pub api_addr: String,
    /// Identity key (SPKI, DER).
    pub identity_spki: Vec<u8>,
    /// Mechanism of the KEM key.
    pub kem_alg: u8,
    /// KEM key (SPKI, DER).
    pub kem_spki: Vec<u8>,
    /// Audit key (SPKI, DER).
    pub audit_spki: Vec<u8>,
    /// `software`, `asserted` or `attested`: the node's own word.
    pub assurance: String,
}

impl Statement {
    /// Longest address (`host:port`) of a node, in bytes.
    pub const ADDR_LEN_MAX: usize = 255;
    /// Longest public key of a node (SPKI, DER), in bytes: one of RSA-4096 has 550.
    pub const SPKI_LEN_MAX: usize = 1024;
    /// Longest statement, in bytes.
    pub const LEN_MAX: usize = 8 * Self::SPKI_LEN_MAX;
    /// Longest signature of one, in bytes.
    pub const SIGNATURE_LEN_MAX: usize = 128;

    /// Canonical bytes; what the identity key signs, after a label and the cluster.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new()
            .u8(VERSION)
            .field(self.name.as_str().as_bytes())
            .field(self.peer_addr.as_bytes())
            .field(self.api_addr.as_bytes())
            .field(&self.identity_spki)
            .u8(self.kem_alg)
            .field(&self.kem_spki)
            .field(&self.audit_spki)
            .field(self.assurance.as_bytes())
            .finish()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// When they are not canonical.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "statement of a node";
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != VERSION {
            return Err(Malformed(WHAT));
        }
        let statement = Self {
            name: r.text(Name::LEN_MAX)?.parse().map_err(|_| Malformed(WHAT))?,
            peer_addr: r.text(Self::ADDR_LEN_MAX)?.to_owned(),
            api_addr: r.text(Self::ADDR_LEN_MAX)?.to_owned(),
            identity_spki: r.field(Self::SPKI_LEN_MAX)?.to_vec(),
            kem_alg: r.u8()?,
            kem_spki: r.field(Self::SPKI_LEN_MAX)?.to_vec(),
            audit_spki: r.field(Self::SPKI_LEN_MAX)?.to_vec(),
            assurance: r.text(TEXT_LEN_MAX)?.to_owned(),
        };
        r.finish()?;
        // They are shown on operators' terminals, where control characters would be commands.
        let texts = [&statement.peer_addr, &statement.api_addr, &statement.assurance];
        if texts.into_iter().any(|text| text.contains(char::is_control)) {
            return Err(Malformed(WHAT));
        }
        Ok(statement)
    }
}

/// An approved member: `format u8 ‖ id u64 ‖ statement field ‖ approved by field ‖ approved_ms u64`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberRecord {
    /// Its Raft id.
    pub id: NodeId,
    /// What it said of itself, as approved; its name is the record's.
    pub statement: Statement,
    /// The principal who approved it.
    pub approved_by: String,
    /// When, milliseconds since 1970; for display.
    pub approved_ms: u64,
}

impl Kind for MemberRecord {
    type Name = Name;
    const TABLE: Table = Table::Member;
    const WHAT: &'static str = "record of a member";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> Name {
        self.statement.name.clone()
    }
    fn place(name: &Name) -> Place {
        Place::named(name.as_str())
    }
    fn find(place: &Place) -> Result<Name, Unreadable> {
        let text = std::str::from_utf8(&place.true_name).map_err(|_| BAD_NAME)?;
        text.parse().map_err(|_| BAD_NAME)
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.u64(self.id.0).field(&self.statement.encode()).field(self.approved_by.as_bytes()).u64(self.approved_ms)
    }
    fn read(name: &Name, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let record = Self {
            id: NodeId(from.u64()?),
            statement: Statement::decode(from.field(Statement::LEN_MAX)?)?,
            approved_by: from.text(TEXT_LEN_MAX)?.to_owned(),
            approved_ms: from.u64()?,
        };
        if record.statement.name == *name { Ok(record) } else { Err(Malformed(Self::WHAT).into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::statement;

    #[test]
    fn what_a_node_says_of_itself_can_not_command_a_terminal() {
        assert_eq!(Statement::decode(&statement().encode()), Ok(statement()));
        for hostile in [
            Statement { peer_addr: "\u{1b}]0;".into(), ..statement() },
            Statement { api_addr: "a\nb".into(), ..statement() },
            Statement { assurance: "\u{9b}2J".into(), ..statement() },
        ] {
            assert!(Statement::decode(&hostile.encode()).is_err());
        }
    }
}
