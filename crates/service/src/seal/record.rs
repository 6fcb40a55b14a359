//! Bodies of the records about members: what an unsealed node encrypts into the tables Member and Invitation.
//!
//! These, not Raft's membership, are what key material is entrusted by: they are written by MACed batches only, so a
//! hostile sealed leader, which can propose a membership, can't make anybody an approved member.

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{Name, NodeId};
use quorate_replica::Member;

const VERSION: u8 = 1;
const SPKI_LEN_MAX: usize = 1024;
const ADDR_LEN_MAX: usize = 255;
const TEXT_LEN_MAX: usize = 128;
const SIGNATURE_LEN_MAX: usize = 128;

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
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "statement of a node";
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != VERSION {
            return Err(Malformed(WHAT));
        }
        let statement = Self {
            name: r.text(Name::LEN_MAX)?.parse().map_err(|_| Malformed(WHAT))?,
            peer_addr: r.text(ADDR_LEN_MAX)?.to_owned(),
            api_addr: r.text(ADDR_LEN_MAX)?.to_owned(),
            identity_spki: r.field(SPKI_LEN_MAX)?.to_vec(),
            kem_alg: r.u8()?,
            kem_spki: r.field(SPKI_LEN_MAX)?.to_vec(),
            audit_spki: r.field(SPKI_LEN_MAX)?.to_vec(),
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

    /// As Raft pins it in membership.
    pub fn member(&self) -> Member {
        Member {
            name: self.name.to_string(),
            peer_addr: self.peer_addr.clone(),
            api_addr: self.api_addr.clone(),
            identity_spki: self.identity_spki.clone(),
            kem_alg: self.kem_alg,
            kem_spki: self.kem_spki.clone(),
            audit_spki: self.audit_spki.clone(),
        }
    }
}

/// An approved member: the body of a record in table Member, by node name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberRecord {
    /// Its Raft id.
    pub id: NodeId,
    /// What it said of itself, as approved.
    pub statement: Statement,
    /// The principal who approved it.
    pub approved_by: String,
    /// When, milliseconds since 1970; for display.
    pub approved_ms: u64,
}

impl MemberRecord {
    /// Bytes of the record's body.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new()
            .u8(VERSION)
            .u64(self.id.0)
            .field(&self.statement.encode())
            .field(self.approved_by.as_bytes())
            .u64(self.approved_ms)
            .finish()
    }

    /// Reads the body.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "record of a member";
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != VERSION {
            return Err(Malformed(WHAT));
        }
        let record = Self {
            id: NodeId(r.u64()?),
            statement: Statement::decode(r.field(8 * SPKI_LEN_MAX)?)?,
            approved_by: r.text(TEXT_LEN_MAX)?.to_owned(),
            approved_ms: r.u64()?,
        };
        r.finish()?;
        Ok(record)
    }
}

/// An invitation: the body of a record in table Invitation, by the hash of its token's secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    /// Who may use it.
    pub for_name: Name,
    /// The principal who made it.
    pub invited_by: String,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: u64,
    /// Who has used it.
    pub applicant: Option<Applicant>,
}

/// Who has used an invitation and waits for approval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applicant {
    /// Index of the entry that committed the invitation: the Raft id it will get.
    pub id: NodeId,
    /// What it says of itself.
    pub statement: Statement,
    /// Its identity key's signature over that.
    pub signature: Vec<u8>,
}

impl Invitation {
    /// Bytes of the record's body.
    pub fn encode(&self) -> Vec<u8> {
        let w = Writer::new()
            .u8(VERSION)
            .field(self.for_name.as_str().as_bytes())
            .field(self.invited_by.as_bytes())
            .u64(self.expires_ms);
        match &self.applicant {
            None => w.u8(0),
            Some(a) => w.u8(1).u64(a.id.0).field(&a.statement.encode()).field(&a.signature),
        }
        .finish()
    }

    /// Reads the body.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "record of an invitation";
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != VERSION {
            return Err(Malformed(WHAT));
        }
        let invitation = Self {
            for_name: r.text(Name::LEN_MAX)?.parse().map_err(|_| Malformed(WHAT))?,
            invited_by: r.text(TEXT_LEN_MAX)?.to_owned(),
            expires_ms: r.u64()?,
            applicant: match r.u8()? {
                0 => None,
                1 => Some(Applicant {
                    id: NodeId(r.u64()?),
                    statement: Statement::decode(r.field(8 * SPKI_LEN_MAX)?)?,
                    signature: r.field(SIGNATURE_LEN_MAX)?.to_vec(),
                }),
                _ => return Err(Malformed(WHAT)),
            },
        };
        r.finish()?;
        Ok(invitation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        Statement {
            name: "n2".parse().expect("name"),
            peer_addr: "127.0.0.1:7611".into(),
            api_addr: "127.0.0.1:7610".into(),
            identity_spki: vec![1; 91],
            kem_alg: 2,
            kem_spki: vec![2; 91],
            audit_spki: vec![3; 91],
            assurance: "software".into(),
        }
    }

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

    #[test]
    fn bodies_read_back_and_every_cut_is_an_error() {
        let member =
            MemberRecord { id: NodeId(9), statement: statement(), approved_by: "admin/root".into(), approved_ms: 5 };
        let waiting = Invitation {
            for_name: "n2".parse().expect("name"),
            invited_by: "admin/root".into(),
            expires_ms: 77,
            applicant: Some(Applicant { id: NodeId(9), statement: statement(), signature: vec![8; 64] }),
        };
        let unused = Invitation { applicant: None, ..waiting.clone() };
        assert_eq!(MemberRecord::decode(&member.encode()), Ok(member.clone()));
        for invitation in [waiting, unused] {
            let bytes = invitation.encode();
            assert_eq!(Invitation::decode(&bytes), Ok(invitation));
            for n in 0..bytes.len() {
                assert!(Invitation::decode(&bytes[..n]).is_err(), "cut at {n}");
            }
        }
        let bytes = member.encode();
        for n in 0..bytes.len() {
            assert!(MemberRecord::decode(&bytes[..n]).is_err(), "cut at {n}");
        }
    }
}
