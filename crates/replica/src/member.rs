//! Members: what committed membership pins of each node, and a view of the whole membership.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{Name, NodeId};
use quorate_core::record::Statement;

/// One node as committed membership pins it: who it is, where it is, and its HSM's public keys.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// The node's name; envelopes and certificates bind to it.
    pub name: String,
    /// Where other nodes reach it, `host:port`.
    pub peer_addr: String,
    /// Where clients reach it, `host:port`.
    pub api_addr: String,
    /// Its TLS identity key (SubjectPublicKeyInfo, DER). Whoever speaks for this node must prove to hold it.
    pub identity_spki: Vec<u8>,
    /// Algorithm of its HSM KEM key (key-hierarchy §1: 1 = RSA-OAEP-SHA-256, 2 = ECDH P-256, 3 = RSA-OAEP-SHA-1).
    pub kem_alg: u8,
    /// Its HSM KEM key (SubjectPublicKeyInfo, DER).
    pub kem_spki: Vec<u8>,
    /// Its audit signing key (SubjectPublicKeyInfo, DER).
    pub audit_spki: Vec<u8>,
}

impl Member {
    /// Appends the canonical bytes.
    pub fn write(&self, w: Writer) -> Writer {
        w.field(self.name.as_bytes())
            .field(self.peer_addr.as_bytes())
            .field(self.api_addr.as_bytes())
            .field(&self.identity_spki)
            .u8(self.kem_alg)
            .field(&self.kem_spki)
            .field(&self.audit_spki)
    }

    /// Reads the canonical bytes.
    ///
    /// # Errors
    /// When they are not what [`Member::write`] writes.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: r.text(Name::LEN_MAX)?.to_owned(),
            peer_addr: r.text(Statement::ADDR_LEN_MAX)?.to_owned(),
            api_addr: r.text(Statement::ADDR_LEN_MAX)?.to_owned(),
            identity_spki: r.field(Statement::SPKI_LEN_MAX)?.to_vec(),
            kem_alg: r.u8()?,
            kem_spki: r.field(Statement::SPKI_LEN_MAX)?.to_vec(),
            audit_spki: r.field(Statement::SPKI_LEN_MAX)?.to_vec(),
        })
    }

    /// Whether it can be encoded and read back: lengths within their limits, a name that is one.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn check(&self) -> Result<(), Malformed> {
        if self.name.parse::<Name>().is_err() {
            return Err(Malformed("member: name"));
        }
        if self.peer_addr.len() > Statement::ADDR_LEN_MAX || self.api_addr.len() > Statement::ADDR_LEN_MAX {
            return Err(Malformed("member: address too long"));
        }
        if [&self.identity_spki, &self.kem_spki, &self.audit_spki].iter().any(|k| k.len() > Statement::SPKI_LEN_MAX) {
            return Err(Malformed("member: public key too long"));
        }
        Ok(())
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.peer_addr)
    }
}

/// Committed membership as one node has applied it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MembershipView {
    /// Index of the entry that set it; the founding one is the log's first, at 0.
    pub index: u64,
    /// The voters; two sets while a change is under way (joint consensus).
    pub voters: Vec<BTreeSet<NodeId>>,
    /// All members, voters and learners.
    pub members: BTreeMap<NodeId, Member>,
}

impl MembershipView {
    /// Most members that are read: a limit of the format, far above any sensible size.
    pub const MEMBERS_MAX: usize = 256;
    /// Longest encoding, in bytes: as an entry it must fit the journal, beside the state its header, and into a Hello.
    pub const LEN_MAX: usize = 512 * 1024;

    /// Format of the encoded form.
    const FORMAT: u8 = 1;

    /// Whether `id` votes.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.iter().any(|set| set.contains(&id))
    }

    /// All voters, of both sets while a change is under way.
    pub fn voter_ids(&self) -> BTreeSet<NodeId> {
        self.voters.iter().flatten().copied().collect()
    }

    /// Whether `ids` contains a majority of each set of voters.
    pub fn is_majority(&self, ids: &BTreeSet<NodeId>) -> bool {
        !self.voters.is_empty()
            && self.voters.iter().all(|set| set.iter().filter(|id| ids.contains(id)).count() > set.len() / 2)
    }

    /// Whether every node could read it back: what enters the log must not be more than any of them takes.
    ///
    /// # Errors
    /// Says what there is too much of.
    pub fn check(&self) -> Result<(), Malformed> {
        if self.members.len() > Self::MEMBERS_MAX {
            return Err(Malformed("membership: too many members"));
        }
        if self.encode().len() > Self::LEN_MAX {
            return Err(Malformed("membership: the members' addresses and keys are too long together"));
        }
        Ok(())
    }

    /// The member called `name`.
    pub fn by_name(&self, name: &str) -> Option<(NodeId, &Member)> {
        self.members.iter().find(|(_, m)| m.name == name).map(|(id, m)| (*id, m))
    }

    /// Appends voters and members without the index: what a membership entry holds.
    pub(crate) fn write_config(&self, mut w: Writer) -> Writer {
        w = w.u8(self.voters.len() as u8);
        for set in &self.voters {
            w = w.u16(set.len() as u16);
            for id in set {
                w = w.u64(id.0);
            }
        }
        w = w.u16(self.members.len() as u16);
        for (id, member) in &self.members {
            w = member.write(w.u64(id.0));
        }
        w
    }

    /// Reads what [`MembershipView::write_config`] wrote.
    pub(crate) fn read_config(index: u64, r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut view = Self { index, ..Self::default() };
        for _ in 0..r.u8()? {
            let count = r.u16()? as usize;
            if count > Self::MEMBERS_MAX {
                return Err(Malformed("membership: too many voters"));
            }
            view.voters.push((0..count).map(|_| Ok(NodeId(r.u64()?))).collect::<Result<_, Malformed>>()?);
        }
        let count = r.u16()? as usize;
        if count > Self::MEMBERS_MAX {
            return Err(Malformed("membership: too many members"));
        }
        for _ in 0..count {
            view.members.insert(NodeId(r.u64()?), Member::read(r)?);
        }
        Ok(view)
    }

    /// Canonical bytes: what a join answer carries to the new node.
    pub fn encode(&self) -> Vec<u8> {
        self.write_config(Writer::new().u8(Self::FORMAT).u64(self.index)).finish()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// When they are malformed or of a newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("membership", bytes);
        if r.u8()? != Self::FORMAT {
            return Err(Malformed("membership: unknown format, a newer version is needed"));
        }
        let index = r.u64()?;
        let view = Self::read_config(index, &mut r)?;
        r.finish()?;
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> MembershipView {
        let member = |name: &str| Member {
            name: name.into(),
            peer_addr: format!("{name}:7601"),
            api_addr: format!("{name}:7600"),
            identity_spki: vec![1, 2, 3],
            kem_alg: 2,
            kem_spki: vec![4; 91],
            audit_spki: vec![5; 91],
        };
        MembershipView {
            index: 17,
            voters: vec![[NodeId(1)].into(), [NodeId(1), NodeId(9)].into()],
            members: [(NodeId(1), member("n1")), (NodeId(9), member("n2")), (NodeId(12), member("n3"))].into(),
        }
    }

    #[test]
    fn membership_comes_back_as_it_was() {
        let view = sample();
        assert_eq!(MembershipView::decode(&view.encode()), Ok(view));
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert!(MembershipView::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        assert!(MembershipView::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(MembershipView::decode(&[&[2], &bytes[1..]].concat()).is_err(), "a newer format");
    }

    #[test]
    fn a_membership_that_passes_its_check_can_be_read_back_and_the_next_larger_is_refused() {
        let small = |id: u64| Member { name: format!("n{id}"), ..Member::default() };
        let large = |id: u64| Member {
            peer_addr: "p".repeat(Statement::ADDR_LEN_MAX),
            api_addr: "a".repeat(Statement::ADDR_LEN_MAX),
            identity_spki: vec![1; Statement::SPKI_LEN_MAX],
            kem_spki: vec![2; Statement::SPKI_LEN_MAX],
            audit_spki: vec![3; Statement::SPKI_LEN_MAX],
            ..small(id)
        };
        for (member, bound) in [(&small as &dyn Fn(u64) -> Member, "too many"), (&large, "too long")] {
            let mut view = MembershipView::default();
            let refused = (0..).find_map(|id| {
                let fits = view.clone();
                view.members.insert(NodeId(id), member(id));
                view.check().err().map(|refused| (fits, refused))
            });
            let (fits, refused) = refused.expect("some is too large");
            assert!(refused.to_string().contains(bound), "{refused} after {}", fits.members.len());
            assert!(MembershipView::decode(&fits.encode()).is_ok_and(|read| read == fits));
        }
    }

    #[test]
    fn a_majority_must_hold_in_both_sets() {
        let view = sample();
        assert!(!view.is_majority(&[NodeId(9)].into()));
        assert!(!view.is_majority(&[NodeId(1)].into()));
        assert!(view.is_majority(&[NodeId(1), NodeId(9)].into()));
        assert!(!MembershipView::default().is_majority(&[NodeId(1)].into()));
    }
}
