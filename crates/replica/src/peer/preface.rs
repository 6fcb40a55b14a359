//! The first bytes of a connection, and the stamp each call repeats.
//!
//! ```text
//! stamp   = format u8 ‖ C 16 ‖ group u32 ‖ from u64 ‖ to u64
//! preface = "QRPEER" ‖ stamp ‖ purpose u8 ‖ word 85 (what was last heard from the one that is called; zeros: nothing)
//! ```

use std::io;

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, GroupId, NodeId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::closed::Closed;
use crate::net::BoxStream;
use crate::word::WORD_LEN;

/// Format of stamp, preface and every message of this build.
pub(crate) const FORMAT: u8 = 1;
const MAGIC: &[u8; 6] = b"QRPEER";
const STAMP_LEN: usize = 37;
const PREFACE_LEN: usize = MAGIC.len() + STAMP_LEN + 1 + WORD_LEN;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// Heartbeats, votes, Hello.
    Control = 1,
    /// Appends, proposals, application calls.
    Log = 2,
    /// Snapshot streams.
    Snapshot = 3,
    /// A node that is no member yet.
    Join = 4,
    /// Read-index rounds: no gRPC, see [`super::rounds`].
    Rounds = 5,
}

/// Who speaks to whom, in which cluster and group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) cluster: ClusterId,
    pub(crate) group: GroupId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
}

impl Stamp {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Writer::new().u8(FORMAT).raw(&self.cluster.0).u32(self.group.0).u64(self.from.0).u64(self.to.0).finish()
    }

    /// Reads a stamp; the error says which refusal it is.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.first() != Some(&FORMAT) {
            return Err(Refusal::Format);
        }
        let read = || {
            let mut r = Reader::new("stamp", &bytes[1..]);
            let stamp = Self {
                cluster: ClusterId(r.array()?),
                group: GroupId(r.u32()?),
                from: NodeId(r.u64()?),
                to: NodeId(r.u64()?),
            };
            r.finish()?;
            Ok::<_, Malformed>(stamp)
        };
        read().map_err(|_| Refusal::Format)
    }
}

/// Why a node does not talk to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("this node does not speak that version of the peer protocol; run versions no further than one apart")]
    Format,
    #[error(
        "that node belongs to another cluster; check the addresses of the peers and the cluster id in the certificates"
    )]
    ForeignCluster,
    #[error("that group is not served here")]
    Group,
    #[error(
        "the sender's name or identity key is not the one pinned for its node id, or it was removed; a new node has to be approved first"
    )]
    NotPinned,
    #[error("another node answers at this address; check the peer addresses of the members")]
    NotThisNode,
    #[error("that connection is not for this call")]
    Purpose,
    #[error("{0}")]
    Closed(Closed),
}

impl Refusal {
    /// Each by its byte, which never changes.
    const ALL: [(u8, Self); 8] = [
        (1, Self::Format),
        (2, Self::ForeignCluster),
        (3, Self::Group),
        (4, Self::NotPinned),
        (5, Self::NotThisNode),
        (6, Self::Purpose),
        (7, Self::Closed(Closed::Damaged)),
        (8, Self::Closed(Closed::UpgradeNeeded)),
    ];

    fn from_byte(b: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|(byte, _)| *byte == b).map(|(_, refusal)| refusal)
    }

    /// Format's where there is none: which there is, says a test.
    fn byte(self) -> u8 {
        Self::ALL.into_iter().find(|(_, refusal)| *refusal == self).map_or(1, |(byte, _)| byte)
    }
}

/// What is said first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Preface {
    pub(crate) stamp: Stamp,
    pub(crate) purpose: Purpose,
    /// The newest word of the one that is called, as the caller knows it; empty: it knows none. Who is called reads it
    /// whoever calls: its folder may be older than the caller's membership.
    pub(crate) about: Bytes,
}

/// The connecting side: says who it is and waits for the welcome.
pub(crate) async fn offer(stream: &mut BoxStream, preface: &Preface) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(PREFACE_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&preface.stamp.encode());
    bytes.push(preface.purpose as u8);
    bytes.extend_from_slice(&preface.about);
    bytes.resize(PREFACE_LEN, 0);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    match stream.read_u8().await? {
        0 => Ok(()),
        b => Err(match Refusal::from_byte(b) {
            Some(refusal) => io::Error::new(io::ErrorKind::PermissionDenied, refusal),
            None => io::Error::new(io::ErrorKind::PermissionDenied, "refused for a reason this version does not know"),
        }),
    }
}

/// The accepting side: reads the preface; the caller answers with [`answer`].
pub(crate) async fn read(stream: &mut BoxStream) -> io::Result<Result<Preface, Refusal>> {
    let mut bytes = [0; PREFACE_LEN];
    stream.read_exact(&mut bytes).await?;
    let (magic, rest) = bytes.split_at(MAGIC.len());
    let (stamp, rest) = rest.split_at(STAMP_LEN);
    let (purpose, about) = rest.split_at(1);
    if magic != MAGIC {
        return Ok(Err(Refusal::Format));
    }
    Ok(Stamp::decode(stamp).and_then(|stamp| {
        let purposes = [Purpose::Control, Purpose::Log, Purpose::Snapshot, Purpose::Join, Purpose::Rounds];
        let purpose = purposes.into_iter().find(|p| *p as u8 == purpose[0]).ok_or(Refusal::Purpose)?;
        let about = if about == [0; WORD_LEN] { Bytes::new() } else { Bytes::copy_from_slice(about) };
        Ok(Preface { stamp, purpose, about })
    }))
}

/// Welcomes or refuses.
pub(crate) async fn answer(stream: &mut BoxStream, refusal: Option<Refusal>) -> io::Result<()> {
    stream.write_all(&[refusal.map_or(0, Refusal::byte)]).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp { cluster: ClusterId([7; 16]), group: GroupId(0), from: NodeId(3), to: NodeId(9) }
    }

    #[test]
    fn a_stamp_comes_back_and_anything_else_is_refused() {
        let bytes = stamp().encode();
        assert_eq!(bytes.len(), STAMP_LEN);
        assert_eq!(Stamp::decode(&bytes), Ok(stamp()));
        for len in 0..bytes.len() {
            assert_eq!(Stamp::decode(&bytes[..len]), Err(Refusal::Format));
        }
        assert_eq!(Stamp::decode(&[&bytes[..], &[0]].concat()), Err(Refusal::Format));
        assert_eq!(Stamp::decode(&[&[2], &bytes[1..]].concat()), Err(Refusal::Format));
    }

    async fn exchange(about: &'static [u8], refusal: Option<Refusal>) -> io::Result<()> {
        let (a, b) = tokio::io::duplex(256);
        let (mut a, mut b): (BoxStream, BoxStream) = (Box::new(a), Box::new(b));
        let said = || Preface { stamp: stamp(), purpose: Purpose::Log, about: Bytes::from_static(about) };
        let accept = async {
            assert_eq!(read(&mut b).await?, Ok(said()));
            answer(&mut b, refusal).await
        };
        let said = said();
        let (offered, accepted) = tokio::join!(offer(&mut a, &said), accept);
        accepted?;
        offered
    }

    #[tokio::test]
    async fn a_refusal_reaches_the_other_side_in_words() {
        for about in [&[][..], &[7; WORD_LEN]] {
            assert!(exchange(about, None).await.is_ok());
        }
        for (byte, refusal) in Refusal::ALL {
            assert_eq!((Refusal::from_byte(byte), refusal.byte()), (Some(refusal), byte));
            let e = exchange(&[], Some(refusal)).await.expect_err("refused");
            assert_eq!((e.kind(), e.to_string()), (io::ErrorKind::PermissionDenied, refusal.to_string()));
        }
    }

    #[tokio::test]
    async fn a_stranger_s_first_bytes_are_refused() {
        let (a, b) = tokio::io::duplex(256);
        let (mut a, mut b): (BoxStream, BoxStream) = (Box::new(a), Box::new(b));
        a.write_all(&b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n".repeat(3)).await.expect("written");
        assert_eq!(read(&mut b).await.expect("read"), Err(Refusal::Format));
    }
}
