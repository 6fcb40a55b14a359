//! The file `node` in a data directory: whose it is, and whom a joining node was introduced to.
//!
//! ```text
//! format u8 ‖ complete u8 ‖ C 16 ‖ node u64 ‖ name ‖ introduction? {seal configuration ‖ signed roster} ‖ n u16 × pin 32
//!   ‖ own key (K_self, boxed to the node's HSM) ‖ lost u8 ‖ BLAKE3 of all before 32
//! ```
//!
//! It is written first, as incomplete, and again once journal and state are made. So an interrupted creation is told
//! from a node that has lost its journal: the first never ran and is made again, the second must never vote again.

use std::path::Path;

use bytes::Bytes;
use quorate_core::REPLACE_MEMBER;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, Name, NodeId};
use quorate_journal::disk::{Disk, read_small, replace_small};

use crate::error::OpenError;
use crate::roster::SignedRoster;

const FORMAT: u8 = 2;
const NAME: &str = "node";
const LEN_MAX: usize = 1024 * 1024;
const HASH_LEN: usize = 32;
const OWN_KEY_LEN_MAX: usize = 4096;

/// What a joining node was told, and has checked against its token: it holds until its own log tells more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// The seal configuration in force, canonical bytes: whose anchor key signs rosters.
    pub seal_config: Vec<u8>,
    /// Who the members are.
    pub roster: SignedRoster,
}

/// What a data directory says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeFile {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node's id.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    /// Whom it was introduced to, for a node that joined.
    pub introduction: Option<Introduction>,
    /// SHA-256 of the seal configurations from which whatever the state says of custodians must descend: one, or of a
    /// founder one for each attempt until one is applied.
    pub pins: Vec<[u8; 32]>,
    /// K_self, boxed to the node's HSM.
    pub(crate) own_key: Vec<u8>,
    /// It was found to have less than it said: it never takes part again.
    pub(crate) lost: bool,
    /// Journal and state have been made.
    pub(crate) complete: bool,
}

impl NodeFile {
    fn encode(&self) -> Vec<u8> {
        let w = Writer::new()
            .u8(FORMAT)
            .u8(self.complete.into())
            .raw(&self.cluster.0)
            .u64(self.node.0)
            .field(self.name.as_bytes());
        let w = match &self.introduction {
            None => w.u8(0),
            Some(told) => w.u8(1).field(&told.seal_config).field(told.roster.encode()),
        }
        .u16(self.pins.len() as u16);
        let w = self.pins.iter().fold(w, |w, pin| w.raw(pin));
        let mut bytes = w.field(&self.own_key).u8(self.lost.into()).finish();
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let at = bytes.len().checked_sub(HASH_LEN).ok_or(Malformed("node file"))?;
        let (body, hash) = bytes.split_at(at);
        if body.first() != Some(&FORMAT) {
            return Err(Malformed("node file: unknown format, a newer version is needed"));
        }
        if blake3::hash(body).as_bytes() != hash {
            return Err(Malformed("node file: its checksum does not hold"));
        }
        let mut r = Reader::new("node file", &body[1..]);
        let complete = match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("node file")),
        };
        let mut file = Self {
            complete,
            cluster: ClusterId(r.array()?),
            node: NodeId(r.u64()?),
            name: r.text(Name::LEN_MAX)?.to_owned(),
            introduction: None,
            pins: Vec::new(),
            own_key: Vec::new(),
            lost: false,
        };
        file.introduction = match r.u8()? {
            0 => None,
            1 => Some(Introduction {
                seal_config: r.field(LEN_MAX)?.to_vec(),
                roster: SignedRoster::decode(Bytes::copy_from_slice(r.field(LEN_MAX)?))?,
            }),
            _ => return Err(Malformed("node file")),
        };
        file.pins = (0..r.u16()?).map(|_| r.array()).collect::<Result<_, _>>()?;
        file.own_key = r.field(OWN_KEY_LEN_MAX)?.to_vec();
        file.lost = match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("node file")),
        };
        r.finish()?;
        Ok(file)
    }

    /// Reads the file; `None`: the folder is nobody's.
    pub(crate) fn read(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = data_dir.join(NAME);
        let Some(bytes) = read_small(disk, &path, LEN_MAX).map_err(OpenError::io("reading the node file"))? else {
            return Ok(None);
        };
        Self::decode(&bytes).map(Some).map_err(|e| {
            OpenError::Damaged(format!(
                "{} can't be read ({e}): whose folder this is, is not known; restore that file from a copy, or \
                 {REPLACE_MEMBER}",
                path.display()
            ))
        })
    }

    /// Writes the file, durably.
    pub(crate) fn write(&self, disk: &dyn Disk, data_dir: &Path) -> Result<(), OpenError> {
        replace_small(disk, &data_dir.join(NAME), &self.encode()).map_err(OpenError::io("writing the node file"))
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::id::GroupId;

    use super::*;
    use crate::member::{Member, MembershipView};
    use crate::roster::Roster;

    #[test]
    fn a_node_file_comes_back_and_every_flipped_bit_is_noticed() {
        let founder = MembershipView {
            index: 0,
            voters: vec![[NodeId(1)].into()],
            members: [(NodeId(1), Member::default())].into(),
        };
        let roster = Roster::before_the_first(ClusterId([1; 16]), GroupId(0), &founder).signed(|_| [3; 64]);
        let roster = SignedRoster::decode(roster.into()).expect("well formed");
        for introduction in [None, Some(Introduction { seal_config: b"config".to_vec(), roster })] {
            let (cluster, node, name) = (ClusterId([1; 16]), NodeId(4), "n4".to_owned());
            let file = NodeFile {
                cluster,
                node,
                name,
                introduction,
                pins: vec![[7; 32], [8; 32]],
                own_key: vec![9; 200],
                lost: true,
                complete: true,
            };
            let bytes = file.encode();
            assert_eq!(NodeFile::decode(&bytes), Ok(file));
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 4;
                assert!(NodeFile::decode(&flipped).is_err(), "byte {at}");
                assert!(NodeFile::decode(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }
}
