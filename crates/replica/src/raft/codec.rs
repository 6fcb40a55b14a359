//! Log ids, votes, entries and membership to the byte: what the journal keeps and what peers send. Versioned, and
//! independent of how openraft would serialize its own types.
//!
//! ```text
//! log id     = term u64 ‖ leader u64 ‖ index u64
//! vote       = format u8 ‖ term u64 ‖ node u64 ‖ committed u8
//! payload    = format u8 ‖ kind u8 ‖ body          0 = blank | 1 = entry: core's bytes | 2 = membership: config
//! membership = format u8 ‖ flag u8 ‖ log id (when flag = 1) ‖ config          as stored beside the state
//! config     = n u8 × (n u16 × node u64) ‖ n u16 × (node u64 ‖ member)
//! wire entry = log id ‖ payload
//! ```

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::NodeId;

use super::{LeaderId, LogId, Membership, Payload, RaftEntry, StoredMembership, Vote, config_view};
use crate::log::LogEntry;
use crate::member::MembershipView;

/// Format of everything here that carries one.
const FORMAT: u8 = 1;
/// Length of an encoded log id.
const LOG_ID_LEN: usize = 24;

/// An error for storage calls: what is on disk is not what we wrote.
pub(crate) fn invalid(e: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}

fn format(r: &mut Reader<'_>, what: &'static str) -> Result<(), Malformed> {
    if r.u8()? == FORMAT { Ok(()) } else { Err(Malformed(what)) }
}

pub(crate) fn write_log_id(w: Writer, id: &LogId) -> Writer {
    w.u64(id.leader_id.term).u64(id.leader_id.node_id).u64(id.index)
}

pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    write_log_id(Writer::new(), id).finish().into()
}

fn read_log_id(r: &mut Reader<'_>) -> Result<LogId, Malformed> {
    let leader = LeaderId::new(r.u64()?, r.u64()?);
    Ok(LogId::new(leader, r.u64()?))
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, Malformed> {
    let mut r = Reader::new("log id", bytes);
    let id = read_log_id(&mut r)?;
    r.finish()?;
    Ok(id)
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    Writer::new()
        .u8(FORMAT)
        .u64(vote.leader_id.term)
        .u64(vote.leader_id.node_id)
        .u8(vote.committed.into())
        .finish()
        .into()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, Malformed> {
    let mut r = Reader::new("vote", bytes);
    format(&mut r, "vote: unknown format, a newer version is needed")?;
    let leader_id = LeaderId::new(r.u64()?, r.u64()?);
    let committed = match r.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Malformed("vote")),
    };
    r.finish()?;
    Ok(Vote { leader_id, committed })
}

fn encode_payload(w: Writer, payload: &EntryPayload<Payload, u64, crate::Member>) -> Writer {
    match payload {
        EntryPayload::Blank => w.u8(FORMAT).u8(0),
        EntryPayload::Normal(Payload(bytes)) => w.u8(FORMAT).u8(1).raw(bytes),
        EntryPayload::Membership(m) => config_view(m).write_config(w.u8(FORMAT).u8(2)),
    }
}

fn decode_payload(bytes: &Bytes) -> Result<EntryPayload<Payload, u64, crate::Member>, Malformed> {
    let mut r = Reader::new("log payload", bytes);
    format(&mut r, "log payload: unknown format, a newer version is needed")?;
    Ok(match r.u8()? {
        0 => {
            r.finish()?;
            EntryPayload::Blank
        }
        1 => EntryPayload::Normal(Payload(bytes.slice(2..))),
        2 => {
            let view = MembershipView::read_config(0, &mut r)?;
            r.finish()?;
            EntryPayload::Membership(to_membership(&view)?)
        }
        _ => return Err(Malformed("log payload: unknown kind, a newer version is needed")),
    })
}

fn to_membership(view: &MembershipView) -> Result<Membership, Malformed> {
    let configs: Vec<BTreeSet<u64>> = view.voters.iter().map(|set| set.iter().map(|id| id.0).collect()).collect();
    let nodes: std::collections::BTreeMap<_, _> = view.members.iter().map(|(id, m)| (id.0, m.clone())).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| Malformed("membership: a voter that is no member"))
}

/// An entry as the journal keeps it.
pub(crate) fn to_journal(entry: &RaftEntry) -> LogEntry {
    LogEntry {
        index: entry.log_id.index,
        id: encode_log_id(&entry.log_id),
        payload: encode_payload(Writer::new(), &entry.payload).finish().into(),
    }
}

/// An entry from the journal.
pub(crate) fn from_journal(entry: &LogEntry) -> Result<RaftEntry, Malformed> {
    let log_id = decode_log_id(&entry.id)?;
    if log_id.index != entry.index {
        return Err(Malformed("log entry: index and id differ"));
    }
    Ok(RaftEntry { log_id, payload: decode_payload(&entry.payload)? })
}

/// An entry as it is sent.
pub(crate) fn to_wire(entry: &RaftEntry) -> Bytes {
    encode_payload(write_log_id(Writer::new(), &entry.log_id), &entry.payload).finish().into()
}

/// An entry as it was received.
pub(crate) fn from_wire(bytes: &Bytes) -> Result<RaftEntry, Malformed> {
    if bytes.len() < LOG_ID_LEN {
        return Err(Malformed("log entry"));
    }
    Ok(RaftEntry { log_id: decode_log_id(&bytes[..LOG_ID_LEN])?, payload: decode_payload(&bytes.slice(LOG_ID_LEN..))? })
}

/// A membership with its log id, as kept beside the state.
pub(crate) fn encode_membership(log_id: Option<&LogId>, membership: &Membership) -> Vec<u8> {
    let w = Writer::new().u8(FORMAT);
    let w = match log_id {
        Some(id) => write_log_id(w.u8(1), id),
        None => w.u8(0),
    };
    config_view(membership).write_config(w).finish()
}

/// Reads it back; no bytes = none yet.
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<StoredMembership, Malformed> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let mut r = Reader::new("membership", bytes);
    format(&mut r, "membership: unknown format, a newer version is needed")?;
    let log_id = match r.u8()? {
        0 => None,
        1 => Some(read_log_id(&mut r)?),
        _ => return Err(Malformed("membership")),
    };
    let view = MembershipView::read_config(0, &mut r)?;
    r.finish()?;
    Ok(StoredMembership::new(log_id, to_membership(&view)?))
}

/// All nodes of a membership.
pub(crate) fn node_ids(membership: &Membership) -> BTreeSet<NodeId> {
    membership.nodes().map(|(id, _)| NodeId(*id)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Member;

    fn entry(term: u64, index: u64, payload: EntryPayload<Payload, u64, Member>) -> RaftEntry {
        RaftEntry { log_id: LogId::new(LeaderId::new(term, 3), index), payload }
    }

    fn membership() -> Membership {
        let member = |name: &str| Member { name: name.into(), peer_addr: "a:1".into(), ..Member::default() };
        Membership::new(
            vec![[1, 2].into(), [2, 9].into()],
            std::collections::BTreeMap::from([(1, member("a")), (2, member("b")), (9, member("c")), (12, member("d"))]),
        )
        .expect("valid")
    }

    /// The bytes themselves: a change of any of them is a change of the journal's format.
    #[test]
    fn the_bytes_are_as_written_down() {
        let id = LogId::new(LeaderId::new(5, 3), 77);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&encode_log_id(&id)), "00000000000000050000000000000003000000000000004d");
        let vote = Vote { leader_id: LeaderId::new(5, 3), committed: true };
        assert_eq!(hex(&encode_vote(&vote)), "010000000000000005000000000000000301");
        assert_eq!(hex(&to_journal(&entry(5, 77, EntryPayload::Blank)).payload), "0100");
        let normal = entry(5, 77, EntryPayload::Normal(Payload(Bytes::from_static(&[0xaa, 0xbb]))));
        assert_eq!(hex(&to_journal(&normal).payload), "0101aabb");
    }

    #[test]
    fn entries_and_membership_come_back() {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Payload(Bytes::from_static(b"any bytes"))),
            EntryPayload::Membership(membership()),
        ];
        for payload in payloads {
            let entry = entry(7, 41, payload);
            assert_eq!(from_journal(&to_journal(&entry)).as_ref(), Ok(&entry));
            assert_eq!(from_wire(&to_wire(&entry)).as_ref(), Ok(&entry));
        }
        let id = LogId::new(LeaderId::new(5, 3), 77);
        for log_id in [None, Some(id)] {
            let bytes = encode_membership(log_id.as_ref(), &membership());
            assert_eq!(decode_membership(&bytes), Ok(StoredMembership::new(log_id, membership())));
        }
        assert_eq!(decode_membership(&[]), Ok(StoredMembership::default()));
    }

    #[test]
    fn an_entry_under_another_index_is_refused() {
        let mut kept = to_journal(&entry(7, 41, EntryPayload::Blank));
        kept.index = 42;
        assert!(from_journal(&kept).is_err());
    }

    proptest! {
        /// Whatever a peer or a disk holds: an error, never a panic.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_vote(&bytes);
            let _ = decode_log_id(&bytes);
            let _ = decode_membership(&bytes);
            let _ = from_wire(&Bytes::from(bytes));
        }

        #[test]
        fn votes_come_back(term: u64, node: u64, committed: bool) {
            let vote = Vote { leader_id: LeaderId::new(term, node), committed };
            prop_assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        }
    }
}
