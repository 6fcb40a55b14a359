//! Sessions: under which start an origin's batches count (key-log §1.4).
//!
//! ```text
//! session = origin u64 ‖ boot u32 ‖ process 16
//! Open    = 1 ‖ L 16 ‖ C 16 ‖ g u32 ‖ epoch u32 ‖ session ‖ Ed25519 64 by the anchor key ‖ HMAC-SHA-256 32 under K_mac(epoch)
//! claim   = C 16 ‖ g u32 ‖ leadership{term u64, node u64} ‖ session          what an origin signs for a sealed leader
//! ```
//!
//! A start's number stands in its journal, so a data directory that was put back from a copy starts with the number of
//! one that ran before: then the process, drawn at random, tells them apart. Signing and checking is `crypto`'s.

use crate::codec::{Malformed, Reader, Writer};
use crate::id::{ClusterId, Epoch, GroupId, Lineage, NodeId};

/// Format of what is written here.
const FORMAT: u8 = 1;

/// One start of one node, told from every other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// The node.
    pub origin: NodeId,
    /// Its start count.
    pub boot: u32,
    /// Drawn at random by the process.
    pub process: [u8; 16],
}

impl Session {
    /// Appends the canonical bytes.
    pub fn write(&self, w: Writer) -> Writer {
        w.u64(self.origin.0).u32(self.boot).raw(&self.process)
    }

    /// Reads the canonical bytes.
    ///
    /// # Errors
    /// When there are too few.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { origin: NodeId(r.u64()?), boot: r.u32()?, process: r.array()? })
    }
}

/// The log entry that begins a session: only an unsealed node can make one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// Identity of the data.
    pub lineage: Lineage,
    /// Identity of the cluster.
    pub cluster: ClusterId,
    /// Raft group.
    pub group: GroupId,
    /// Epoch of the MAC key.
    pub epoch: Epoch,
    /// What begins.
    pub session: Session,
    /// Of the anchor key over [`Self::head`]: every node, sealed or not, checks it.
    pub signature: [u8; 64],
    /// Under K_mac(epoch), over the head and the signature: unsealed nodes check it as well.
    pub mac: [u8; 32],
}

impl Open {
    /// What is signed: all before the signature.
    pub fn head(&self) -> Vec<u8> {
        let w = Writer::new().u8(FORMAT).raw(&self.lineage.0).raw(&self.cluster.0).u32(self.group.0).u32(self.epoch.0);
        self.session.write(w).finish()
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().raw(&self.head()).raw(&self.signature).raw(&self.mac).finish()
    }

    /// Reads the canonical bytes. Neither signature nor MAC is checked here.
    ///
    /// # Errors
    /// When they are not the format.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("session entry", bytes);
        if r.u8()? != FORMAT {
            return Err(Malformed("session entry: unknown format, a newer version is needed"));
        }
        let open = Self {
            lineage: Lineage(r.array()?),
            cluster: ClusterId(r.array()?),
            group: GroupId(r.u32()?),
            epoch: Epoch(r.u32()?),
            session: Session::read(&mut r)?,
            signature: r.array()?,
            mac: r.array()?,
        };
        r.finish()?;
        Ok(open)
    }
}

/// What an origin says to a leader that has no keys to check its batches by: that it has some, once a leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Identity of the cluster.
    pub cluster: ClusterId,
    /// Raft group.
    pub group: GroupId,
    /// The leadership it is said to: its term and its node.
    pub leadership: (u64, NodeId),
    /// Who says it.
    pub session: Session,
}

impl Claim {
    /// What is signed.
    pub fn encode(&self) -> Vec<u8> {
        let (term, node) = self.leadership;
        let w = Writer::new().raw(&self.cluster.0).u32(self.group.0).u64(term).u64(node.0);
        self.session.write(w).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Open {
        Open {
            lineage: Lineage([1; 16]),
            cluster: ClusterId([2; 16]),
            group: GroupId(3),
            epoch: Epoch(4),
            session: Session { origin: NodeId(5), boot: 6, process: [7; 16] },
            signature: [8; 64],
            mac: [9; 32],
        }
    }

    #[test]
    fn an_open_is_what_the_table_says_and_comes_back() {
        let bytes = open().encode();
        let head = [
            &[1][..],
            &[1; 16],
            &[2; 16],
            &3u32.to_be_bytes(),
            &4u32.to_be_bytes(),
            &5u64.to_be_bytes(),
            &6u32.to_be_bytes(),
            &[7; 16],
        ]
        .concat();
        assert_eq!(open().head(), head);
        assert_eq!(bytes, [&head[..], &[8; 64], &[9; 32]].concat());
        assert_eq!(Open::decode(&bytes), Ok(open()));
        for cut in 0..bytes.len() {
            assert!(Open::decode(&bytes[..cut]).is_err());
        }
        assert!(Open::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(Open::decode(&[&[2], &bytes[1..]].concat()).is_err());
    }

    #[test]
    fn a_claim_names_leadership_and_session() {
        let session = open().session;
        let claim = Claim { cluster: ClusterId([2; 16]), group: GroupId(3), leadership: (10, NodeId(11)), session };
        let bytes = claim.encode();
        assert_eq!(bytes.len(), 16 + 4 + 16 + 28);
        for other in [Claim { leadership: (11, NodeId(11)), ..claim }, Claim { leadership: (10, NodeId(5)), ..claim }] {
            assert_ne!(other.encode(), bytes);
        }
    }
}
