//! What a member says, under its own signature, for who was not there (key-model §1.4): a file of such statements is checked with
//! nothing but the cluster's root certificate.

use crate::codec::{Malformed, Reader, Writer};
use crate::id::{ClusterId, GroupId, KeyId, KeyVersion, Lineage, Name, NodeId};
use crate::level::LEVEL;
use crate::record::{DestructionRecord, Record, RecordName, Unreadable};

const VERSION: u8 = 1;
const WHAT: &str = "statement of a destruction";
const BAD: Malformed = Malformed(WHAT);

/// What the identity key signs is this, a zero byte, and the statement as a field.
const LABEL: &[u8] = b"quorate/v1/destruction";

/// Longest statement, in bytes.
pub const STATEMENT_LEN_MAX: usize = 64 * 1024;
/// Most members that a statement names.
const MEMBERS_MAX: usize = 256;

/// A member, as a statement names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its Raft id.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// Whether it votes.
    pub voter: bool,
}

/// What one member states of a destruction: what it knows of it, and how far its own files are.
///
/// ```text
/// version u8 ‖ C 16 ‖ L 16 ‖ g u32 ‖ node id u64 ‖ node name field ‖ SHA-256(certificate) 32 ‖ stated_ms u64 ‖ applied u64
///   ‖ destroyed at u64 ‖ log from u64 ‖ state at u64 ‖ is here u8 ‖ n u16 × {id u64 ‖ name field ‖ voter u8}
///   ‖ object id 16 ‖ version u32 (0 = the object as a whole) ‖ record of the destruction, as a field
/// signed = "quorate/v1/destruction" ‖ 0 ‖ statement as a field
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DestructionStatement {
    /// The cluster.
    pub cluster: ClusterId,
    /// The data.
    pub lineage: Lineage,
    /// The Raft group.
    pub group: GroupId,
    /// The id of the member that states it.
    pub node: NodeId,
    /// Its name, which its certificate has too.
    pub name: Name,
    /// SHA-256 of its certificate (DER).
    pub certificate: [u8; 32],
    /// When (display time, ms since 1970).
    pub stated_ms: u64,
    /// The last entry that it had applied.
    pub applied: u64,
    /// The entry that took away what was destroyed: the last of them, where it took several.
    pub destroyed_at: u64,
    /// The first entry whose bytes the files of its log may still hold.
    pub log_from: u64,
    /// The entry up to which the state is on its disk: after a crash it begins there.
    pub state_at: u64,
    /// Whether what was destroyed was there again by then, from a backup.
    pub is_here: bool,
    /// All members, by its knowledge.
    pub members: Vec<Listed>,
    /// What was destroyed, by whom, when.
    pub destruction: DestructionRecord,
}

impl DestructionStatement {
    /// Whether its log may still hold the boxed bytes of what was destroyed: whatever wrote them came before.
    pub fn log_may_hold(&self) -> bool {
        self.log_from < self.destroyed_at
    }

    /// Whether the state on its disk still holds them.
    pub fn state_holds(&self) -> bool {
        self.state_at < self.destroyed_at
    }

    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let head = Writer::new()
            .u8(VERSION)
            .raw(&self.cluster.0)
            .raw(&self.lineage.0)
            .u32(self.group.0)
            .u64(self.node.0)
            .field(self.name.as_str().as_bytes())
            .raw(&self.certificate)
            .u64(self.stated_ms)
            .u64(self.applied)
            .u64(self.destroyed_at)
            .u64(self.log_from)
            .u64(self.state_at)
            .u8(self.is_here.into())
            .u16(self.members.len() as u16);
        let member = |w: Writer, listed: &Listed| {
            w.u64(listed.id.0).field(listed.name.as_str().as_bytes()).u8(listed.voter.into())
        };
        let (key, version) = (self.destruction.key, self.destruction.version.map_or(0, KeyVersion::get));
        let record = Record::from(self.destruction.clone()).encode(LEVEL);
        self.members.iter().fold(head, member).raw(&key.0).u32(version).field(&record).finish()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// When they are not, or a newer version wrote them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut r = Reader::new(WHAT, bytes);
        match r.u8()? {
            VERSION => {}
            0 => return Err(BAD.into()),
            _ => return Err(Unreadable::Newer(WHAT)),
        }
        let (cluster, lineage, group) = (ClusterId(r.array()?), Lineage(r.array()?), GroupId(r.u32()?));
        let (node, name) = (NodeId(r.u64()?), read_name(&mut r)?);
        let certificate = r.array()?;
        let (stated_ms, applied, destroyed_at) = (r.u64()?, r.u64()?, r.u64()?);
        let (log_from, state_at, is_here) = (r.u64()?, r.u64()?, read_flag(&mut r)?);
        let count = usize::from(r.u16()?);
        if count > MEMBERS_MAX {
            return Err(BAD.into());
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let (id, name, voter) = (NodeId(r.u64()?), read_name(&mut r)?, read_flag(&mut r)?);
            members.push(Listed { id, name, voter });
        }
        let of = RecordName::Destruction((KeyId(r.array()?), KeyVersion::new(r.u32()?)));
        let Record::Destruction(destruction) = Record::decode(&of, r.field(STATEMENT_LEN_MAX)?)? else {
            return Err(BAD.into());
        };
        r.finish()?;
        Ok(Self {
            cluster,
            lineage,
            group,
            node,
            name,
            certificate,
            stated_ms,
            applied,
            destroyed_at,
            log_from,
            state_at,
            is_here,
            members,
            destruction,
        })
    }

    /// What is signed of a statement with these bytes.
    pub fn signed(statement: &[u8]) -> Vec<u8> {
        Writer::new().raw(LABEL).u8(0).field(statement).finish()
    }
}

fn read_name(r: &mut Reader<'_>) -> Result<Name, Malformed> {
    r.text(Name::LEN_MAX)?.parse().map_err(|_| BAD)
}

fn read_flag(r: &mut Reader<'_>) -> Result<bool, Malformed> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(BAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::destruction_tests::destroyed;

    fn statement() -> DestructionStatement {
        let listed = |id, name: &str| Listed { id: NodeId(id), name: name.parse().unwrap(), voter: id == 1 };
        DestructionStatement {
            cluster: ClusterId([1; 16]),
            lineage: Lineage([2; 16]),
            group: GroupId(0),
            node: NodeId(1),
            name: "n1".parse().unwrap(),
            certificate: [3; 32],
            stated_ms: 4,
            applied: 9,
            destroyed_at: 8,
            log_from: 5,
            state_at: 8,
            is_here: false,
            members: vec![listed(1, "n1"), listed(7, "n2")],
            destruction: destroyed(),
        }
    }

    #[test]
    fn a_statement_reads_back_and_every_cut_is_an_error() {
        let bytes = statement().encode();
        assert_eq!(DestructionStatement::decode(&bytes), Ok(statement()));
        assert!((0..bytes.len()).all(|cut| DestructionStatement::decode(&bytes[..cut]).is_err()));
        assert!(DestructionStatement::decode(&[&bytes[..], &[0]].concat()).is_err());
        let newer = DestructionStatement::decode(&[&[2], &bytes[1..]].concat());
        assert_eq!(newer, Err(Unreadable::Newer(WHAT)));
    }

    #[test]
    fn what_is_signed_to_the_byte() {
        assert_eq!(DestructionStatement::signed(b"abc"), b"quorate/v1/destruction\0\0\0\0\x03abc");
        let bytes = statement().encode();
        assert_eq!(bytes[..2], [1, 1]);
        let fixed = 1 + 16 + 16 + 4 + 8 + (4 + 2) + 32 + 5 * 8 + 1 + 2;
        let members = 2 * (8 + 4 + 2 + 1);
        assert_eq!(bytes[fixed + members..][..20], [&[1; 16][..], &[0, 0, 0, 2]].concat());
    }

    #[test]
    fn what_came_before_is_held_until_it_is_let_go() {
        let of = |log_from, state_at| {
            let statement = DestructionStatement { log_from, state_at, ..statement() };
            (statement.log_may_hold(), statement.state_holds())
        };
        assert_eq!((of(7, 7), of(8, 8), of(0, 9)), ((true, true), (false, false), (true, false)));
    }
}
