//! Who the members are, signed (trust.md §3.4): a membership entry has no MAC, so members follow this list instead.
//!
//! ```text
//! roster = list ‖ Ed25519 64 (anchor key, "quorate/v1/roster", list)
//! list   = 1 ‖ C 16 ‖ g u32 ‖ serial u64 ‖ k u16 × {id u64 ‖ voter u8 ‖ member}
//! ```
//!
//! It is a record of table 0, written by the batch that approves, promotes or removes somebody, and always before the
//! entries that carry that out. Whole members stand in it, so that it can be told to who lags, and any later leader can go on.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_core::batch::{Batch, Entry, Op, VALUE_LEN_MAX};
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_core::record_key::{RecordKey, Table};

use crate::handler::SealCheck;
use crate::member::{Member, MembershipView};

const FORMAT: u8 = 1;
const SIGNATURE_LEN: usize = 64;

/// Who the members are, and which of them vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roster {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// Counts up; the first has 1.
    pub serial: u64,
    /// All members.
    pub members: BTreeMap<NodeId, Member>,
    /// Those of them that vote.
    pub voters: BTreeSet<NodeId>,
}

/// One with the anchor key's signature, good or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedRoster {
    roster: Roster,
    bytes: Bytes,
}

impl Roster {
    /// What the first one goes on from: the members of a cluster that has none yet.
    pub fn before_the_first(cluster: ClusterId, group: GroupId, membership: &MembershipView) -> Self {
        let (members, voters) = (membership.members.clone(), membership.voter_ids());
        Self { cluster, group, serial: 0, members, voters }
    }

    /// The first one, when there is none yet.
    pub fn first(&self) -> Option<Self> {
        (self.serial == 0).then(|| Self { serial: 1, ..self.clone() })
    }

    /// The next one, with a learner more; none when it is there already.
    ///
    /// # Errors
    /// When the id, the name or the identity key is another member's, or the list becomes too long.
    pub fn with(&self, id: NodeId, member: &Member) -> Result<Option<Self>, String> {
        member.check().map_err(|e| e.to_string())?;
        if let Some(known) = self.members.get(&id) {
            return match known == member {
                true => Ok(None),
                false => Err(format!("node id {id} belongs to {} already; ids are never reused", known.name)),
            };
        }
        let same = |known: &Member| known.name == member.name || known.identity_spki == member.identity_spki;
        if let Some((other, known)) = self.members.iter().find(|(_, known)| same(known)) {
            return Err(format!("{} is a member already, as node {other}; remove that node first", known.name));
        }
        let mut next = self.next()?;
        next.members.insert(id, member.clone());
        next.view().check().map_err(|e| e.to_string())?;
        match next.list().len() + SIGNATURE_LEN {
            len if len > SignedRoster::LEN_MAX => Err(format!(
                "the members' addresses and keys take {len} bytes together, more than the {} that any node reads",
                SignedRoster::LEN_MAX
            )),
            _ => Ok(Some(next)),
        }
    }

    /// The next one, in which these vote too; none when they do already.
    ///
    /// # Errors
    /// When one is no member; when two voters would be left to depend on each other, unless forced.
    pub fn promoting(&self, ids: &[NodeId], force: bool) -> Result<Option<Self>, String> {
        if let Some(id) = ids.iter().find(|id| !self.members.contains_key(id)) {
            return Err(format!("node {id} is no member; invite and approve it first"));
        }
        if ids.iter().all(|id| self.voters.contains(id)) {
            return Ok(None);
        }
        let mut next = self.next()?;
        next.voters.extend(ids);
        if next.voters.len() == 2 && !force {
            return Err(
                "with two voters the loss of either stops the cluster: promote two learners at once, or force it \
                        if you mean it"
                    .into(),
            );
        }
        Ok(Some(next))
    }

    /// The next one, in which a member has no vote; none when it has none.
    ///
    /// # Errors
    /// When nobody would be left to vote.
    pub fn demoting(&self, id: NodeId) -> Result<Option<Self>, String> {
        if !self.voters.contains(&id) {
            return Ok(None);
        }
        let mut next = self.next()?;
        next.voters.remove(&id);
        match next.voters.is_empty() {
            true => Err("it is the only voter: without it there is no cluster; promote others first".into()),
            false => Ok(Some(next)),
        }
    }

    /// The next one, without a member; none when it is not there. Whom a roster leaves out counts for nothing, while the
    /// change of voters that takes a vote away needs the old voters still: so the vote goes first.
    ///
    /// # Errors
    /// When it votes.
    pub fn without(&self, id: NodeId) -> Result<Option<Self>, String> {
        if self.voters.contains(&id) {
            return Err("it votes; its vote is to be taken first".into());
        }
        if !self.members.contains_key(&id) {
            return Ok(None);
        }
        let mut next = self.next()?;
        next.members.remove(&id);
        Ok(Some(next))
    }

    fn next(&self) -> Result<Self, String> {
        let serial = self.serial.checked_add(1).ok_or("the roster's serial has come to its end")?;
        Ok(Self { serial, ..self.clone() })
    }

    /// What is signed.
    pub fn list(&self) -> Vec<u8> {
        let w = Writer::new().u8(FORMAT).raw(&self.cluster.0).u32(self.group.0).u64(self.serial);
        let one =
            |w: Writer, (id, member): (&NodeId, &Member)| member.write(w.u64(id.0).u8(self.voters.contains(id).into()));
        self.members.iter().fold(w.u16(self.members.len() as u16), one).finish()
    }

    /// With its signature: the record's value.
    pub fn signed(&self, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN]) -> Vec<u8> {
        let list = self.list();
        [&list[..], &sign(&list)].concat()
    }

    /// As a membership with one set of voters.
    pub(crate) fn view(&self) -> MembershipView {
        MembershipView { index: 0, voters: vec![self.voters.clone()], members: self.members.clone() }
    }

    /// Whether a membership entry may make `next` of `now`: what it changes, it changes to what stands here, and nobody lets
    /// go of the old voters before the new ones are bound (joint consensus).
    pub(crate) fn permits(&self, now: &MembershipView, next: &MembershipView) -> bool {
        let known = |(id, member): (&NodeId, &Member)| {
            self.members.get(id) == Some(member) || now.members.get(id) == Some(member)
        };
        let kept = |id: &NodeId| !self.members.contains_key(id) || next.members.contains_key(id);
        let voters = |set: &BTreeSet<NodeId>| now.voters.contains(set) || *set == self.voters;
        let bound = next.voters.iter().any(|set| now.voters.contains(set));
        next.members.iter().all(known) && now.members.keys().all(kept) && next.voters.iter().all(voters) && bound
    }
}

impl SignedRoster {
    /// Longest one, with its signature, in bytes: it is a record's value.
    pub const LEN_MAX: usize = VALUE_LEN_MAX;

    /// Reads a record's value.
    ///
    /// # Errors
    /// When it is not what [`Roster::signed`] writes, or nobody votes in it.
    pub fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        const WHAT: &str = "roster";
        let list =
            bytes.len().checked_sub(SIGNATURE_LEN).filter(|_| bytes.len() <= Self::LEN_MAX).ok_or(Malformed(WHAT))?;
        let mut r = Reader::new(WHAT, &bytes[..list]);
        if r.u8()? != FORMAT {
            return Err(Malformed("roster: unknown format, a newer version is needed"));
        }
        let (cluster, group, serial) = (ClusterId(r.array()?), GroupId(r.u32()?), r.u64()?);
        let (mut members, mut voters) = (BTreeMap::new(), BTreeSet::new());
        for _ in 0..r.u16()? {
            let id = NodeId(r.u64()?);
            match r.u8()? {
                0 => {}
                1 => _ = voters.insert(id),
                _ => return Err(Malformed(WHAT)),
            }
            // In order, so that there is one way to write it.
            if members.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(Malformed(WHAT));
            }
            members.insert(id, Member::read(&mut r)?);
        }
        r.finish()?;
        if voters.is_empty() {
            return Err(Malformed("roster: nobody votes"));
        }
        Ok(Self { roster: Roster { cluster, group, serial, members, voters }, bytes })
    }

    /// The record's value.
    pub fn encode(&self) -> &Bytes {
        &self.bytes
    }

    /// The list.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Whether the anchor key of this seal configuration signed it, for this cluster and group.
    pub fn holds(&self, seals: &dyn SealCheck, seal_config: &[u8], cluster: ClusterId, group: GroupId) -> bool {
        let (list, signature) = self.bytes.split_at(self.bytes.len() - SIGNATURE_LEN);
        let signature = signature.first_chunk().expect("64 bytes");
        (self.roster.cluster, self.roster.group) == (cluster, group) && seals.lists(seal_config, list, signature)
    }
}

/// The roster that an entry of the log writes, if it does; its signature is not looked at.
pub(crate) fn roster_in(entry: &[u8]) -> Option<SignedRoster> {
    let Ok(Entry::Batch(batch)) = Entry::decode(entry) else { return None };
    roster_of(&Batch::decode(&batch).ok()?.0)
}

/// The same of a batch.
pub(crate) fn roster_of(batch: &Batch) -> Option<SignedRoster> {
    // A key of table 0 is a hash, and nearly no batch has one.
    let mut of_seal = batch.ops.iter().filter(|op| op.key().table() == Table::Seal).peekable();
    of_seal.peek()?;
    let key = RecordKey::roster();
    of_seal.find_map(|op| match op {
        Op::Put(at, value) if *at == key => SignedRoster::decode(Bytes::copy_from_slice(value)).ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestSeals, roster_signature};

    const CLUSTER: ClusterId = ClusterId([7; 16]);
    const CONFIG: &[u8] = crate::testing::SEAL_CONFIG;

    fn member(id: u64) -> Member {
        Member { name: format!("n{id}"), identity_spki: vec![id as u8; 4], ..Member::default() }
    }

    fn view(voters: &[&[u64]], all: &[u64]) -> MembershipView {
        MembershipView {
            index: 1,
            voters: voters.iter().map(|set| set.iter().map(|id| NodeId(*id)).collect()).collect(),
            members: all.iter().map(|id| (NodeId(*id), member(*id))).collect(),
        }
    }

    fn roster(voters: &[u64], all: &[u64]) -> Roster {
        Roster { serial: 5, ..Roster::before_the_first(CLUSTER, GroupId(0), &view(&[voters], all)) }
    }

    #[test]
    fn a_roster_comes_back_as_it_was_and_every_cut_and_every_change_is_found() {
        let bytes = Bytes::from(roster(&[1, 2], &[1, 2, 3]).signed(roster_signature));
        let read = |bytes: Bytes| SignedRoster::decode(bytes);
        let holds = |signed: &SignedRoster| signed.holds(&TestSeals, CONFIG, CLUSTER, GroupId(0));
        let good = read(bytes.clone()).expect("whole");
        assert_eq!((good.roster(), good.encode()), (&roster(&[1, 2], &[1, 2, 3]), &bytes));
        assert!(holds(&good));
        assert!(!good.holds(&TestSeals, b"another configuration", CLUSTER, GroupId(0)));
        assert!(!good.holds(&TestSeals, CONFIG, ClusterId([8; 16]), GroupId(0)), "of another cluster");
        assert!(!good.holds(&TestSeals, CONFIG, CLUSTER, GroupId(1)));
        for at in 0..bytes.len() {
            assert!(read(bytes.slice(..at)).is_err() || !holds(&read(bytes.slice(..at)).unwrap()), "cut at {at}");
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(!read(changed.into()).is_ok_and(|read| holds(&read)), "byte {at}");
        }
    }

    #[test]
    fn each_change_has_its_rules() {
        let now = roster(&[1], &[1, 2, 3]);
        let four = now.with(NodeId(4), &member(4)).unwrap().expect("the next");
        assert_eq!((four.serial, four.members.len(), four.voters.len()), (6, 4, 1));
        assert_eq!(now.with(NodeId(3), &member(3)), Ok(None), "said twice");
        assert!(now.with(NodeId(3), &member(9)).unwrap_err().contains("never reused"));
        assert!(now.with(NodeId(9), &Member { name: "n2".into(), ..member(9) }).unwrap_err().contains("node 2"));
        let same_key = Member { identity_spki: member(2).identity_spki, ..member(9) };
        assert!(now.with(NodeId(9), &same_key).unwrap_err().contains("node 2"));
        assert!(now.with(NodeId(9), &Member { name: String::new(), ..member(9) }).is_err());

        // A membership of more can't be read.
        let mut full = now.clone();
        full.members.extend((4..257).map(|id| (NodeId(id), member(id))));
        let last = Member { identity_spki: vec![0; 5], ..member(900) };
        assert!(full.with(NodeId(900), &last).unwrap_err().contains("too many members"));
        full.members.remove(&NodeId(256));
        assert!(full.with(NodeId(900), &last).unwrap().is_some());

        let three = now.promoting(&[NodeId(2), NodeId(3)], false).unwrap().expect("the next");
        assert_eq!((three.serial, three.voters.len()), (6, 3));
        assert_eq!(three.promoting(&[NodeId(2)], false), Ok(None));
        assert!(now.promoting(&[NodeId(2)], false).unwrap_err().contains("two voters"));
        assert!(now.promoting(&[NodeId(2)], true).unwrap().is_some());
        assert!(now.promoting(&[NodeId(7)], true).unwrap_err().contains("no member"));

        assert!(three.without(NodeId(1)).unwrap_err().contains("its vote"));
        let two = three.demoting(NodeId(1)).unwrap().expect("the next");
        assert_eq!((two.serial, two.members.len(), two.voters.len()), (7, 3, 2));
        assert_eq!(two.demoting(NodeId(1)), Ok(None));
        let gone = two.without(NodeId(1)).unwrap().expect("the next");
        assert_eq!((gone.serial, gone.members.len(), gone.without(NodeId(1))), (8, 2, Ok(None)));
        assert!(now.demoting(NodeId(1)).unwrap_err().contains("only voter"));
    }

    #[test]
    fn a_membership_entry_changes_only_what_the_roster_says_and_in_raft_s_steps() {
        let three = roster(&[1, 2, 3], &[1, 2, 3]);
        let (one, learners) = (view(&[&[1]], &[1]), view(&[&[1]], &[1, 2, 3]));
        let (joint, done) = (view(&[&[1], &[1, 2, 3]], &[1, 2, 3]), view(&[&[1, 2, 3]], &[1, 2, 3]));
        for (now, next) in
            [(&one, &learners), (&learners, &joint), (&joint, &done), (&done, &done), (&joint, &learners)]
        {
            assert!(three.permits(now, next), "{now:?} to {next:?}");
        }
        assert!(!three.permits(&learners, &done), "the old voters are let go of before the new ones are bound");
        let refused = [
            ("a stranger", view(&[&[1]], &[1, 9])),
            ("a stranger that votes", view(&[&[1], &[1, 9]], &[1, 9])),
            ("others vote", view(&[&[1], &[1, 2]], &[1, 2, 3])),
            ("nobody is bound", view(&[], &[1, 2, 3])),
            ("a member is missing", view(&[&[1]], &[1, 2])),
        ];
        for (why, next) in refused {
            assert!(!three.permits(&learners, &next), "{why}");
        }
        // Under its id, another key.
        let mut altered = learners.clone();
        altered.members.insert(NodeId(2), member(9));
        assert!(!three.permits(&one, &altered));

        // Who is left out may go, and need not go at once.
        let two = roster(&[1, 2], &[1, 2]);
        let joint = view(&[&[1, 2, 3], &[1, 2]], &[1, 2, 3]);
        for (now, next) in [
            (&done, &joint),
            (&joint, &view(&[&[1, 2]], &[1, 2, 3])),
            (&joint, &view(&[&[1, 2]], &[1, 2])),
            (&view(&[&[1, 2]], &[1, 2, 3]), &view(&[&[1, 2]], &[1, 2])),
        ] {
            assert!(two.permits(now, next), "{now:?} to {next:?}");
        }
        assert!(!two.permits(&view(&[&[1, 2]], &[1, 2]), &done), "and does not come back");
    }
}
