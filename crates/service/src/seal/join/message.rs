//! The messages of a join, to the byte.

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_core::level::{Level, Levels};
use quorate_core::record::Statement;
use quorate_crypto::CT_H_LEN_MAX;
use quorate_replica::{MembershipView, SignedRoster};
use zeroize::Zeroizing;

const VERSION: u8 = 2;
const SEAL_CONFIG_LEN_MAX: usize = 512 * 1024;

/// What an applicant sends.
pub enum Request {
    /// I am, and I was invited.
    Introduce(Introduction),
    /// … and I hold the KEM key that I named.
    Prove {
        /// The same as before: the member keeps nothing but the challenge.
        introduction: Introduction,
        /// The challenge's.
        nonce: [u8; 32],
        /// Under the encapsulated secret, over the nonce and the statement.
        mac: [u8; 32],
    },
    /// Am I approved?
    Poll,
}

/// Who asks, by which invitation.
pub struct Introduction {
    /// The token's secret.
    pub secret: Zeroizing<[u8; 32]>,
    /// Canonical bytes of the statement.
    pub statement: Vec<u8>,
    /// The identity key's signature over [`signed`] of it.
    pub signature: Vec<u8>,
}

/// What the member answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// Show that you hold the KEM key.
    Challenge {
        /// To be repeated.
        nonce: [u8; 32],
        /// Opens with the KEM key.
        ct: Vec<u8>,
    },
    /// Wait for an operator, who compares fingerprints.
    Waiting {
        /// Who else can be asked meanwhile.
        membership: MembershipView,
    },
    /// You are a member.
    Approved {
        /// Your Raft id, for ever.
        id: NodeId,
        /// Your group.
        group: GroupId,
        /// All members, you among them, as signed by the anchor key: so you recognise them before your own log tells you.
        roster: Vec<u8>,
        /// Every seal configuration from the first to the one in force, encoded; they lead to the one in your token.
        configurations: Vec<Vec<u8>>,
    },
    /// You have not introduced yourself, or your invitation has ended.
    Unknown,
}

/// What the identity key signs.
pub fn signed(cluster: ClusterId, statement: &[u8]) -> Vec<u8> {
    Writer::new().field(b"quorate/v1/join-statement").raw(&cluster.0).field(statement).finish()
}

impl Request {
    /// Canonical bytes, with the feature levels that the applicant works at; they hold the token's secret.
    pub fn encode(&self, levels: Levels) -> Zeroizing<Vec<u8>> {
        let introduction = |w: Writer, i: &Introduction| w.raw(&i.secret[..]).field(&i.statement).field(&i.signature);
        let w = Writer::new().u8(VERSION).u32(levels.lowest.0).u32(levels.highest.0);
        Zeroizing::new(
            match self {
                Self::Introduce(i) => introduction(w.u8(1), i),
                Self::Prove { introduction: i, nonce, mac } => introduction(w.u8(2), i).raw(nonce).raw(mac),
                Self::Poll => w.u8(3),
            }
            .finish(),
        )
    }

    /// Reads what an applicant sent, and at which feature levels it works.
    pub fn decode(bytes: &[u8]) -> Result<(Levels, Self), Malformed> {
        const WHAT: &str = "join request";
        fn introduction(r: &mut Reader<'_>) -> Result<Introduction, Malformed> {
            Ok(Introduction {
                secret: Zeroizing::new(r.array()?),
                statement: r.field(Statement::LEN_MAX)?.to_vec(),
                signature: r.field(Statement::SIGNATURE_LEN_MAX)?.to_vec(),
            })
        }
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != VERSION {
            return Err(Malformed("join request: unknown version, update the older of the two nodes"));
        }
        let levels = Levels { lowest: Level(r.u32()?), highest: Level(r.u32()?) };
        let request = match r.u8()? {
            1 => Self::Introduce(introduction(&mut r)?),
            2 => Self::Prove { introduction: introduction(&mut r)?, nonce: r.array()?, mac: r.array()? },
            3 => Self::Poll,
            _ => return Err(Malformed(WHAT)),
        };
        r.finish()?;
        Ok((levels, request))
    }
}

impl Response {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let w = Writer::new().u8(VERSION);
        match self {
            Self::Challenge { nonce, ct } => w.u8(1).raw(nonce).field(ct),
            Self::Waiting { membership } => w.u8(2).field(&membership.encode()),
            Self::Approved { id, group, roster, configurations } => {
                let w = w.u8(3).u64(id.0).u32(group.0).field(roster).u16(configurations.len() as u16);
                configurations.iter().fold(w, |w, config| w.field(config))
            }
            Self::Unknown => w.u8(4),
        }
        .finish()
    }

    /// Reads a member's answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "answer to a join request";
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != VERSION {
            return Err(Malformed("answer to a join request: unknown version, update this node"));
        }
        let response =
            match r.u8()? {
                1 => Self::Challenge { nonce: r.array()?, ct: r.field(CT_H_LEN_MAX)?.to_vec() },
                2 => Self::Waiting { membership: MembershipView::decode(r.field(MembershipView::LEN_MAX)?)? },
                3 => Self::Approved {
                    id: NodeId(r.u64()?),
                    group: GroupId(r.u32()?),
                    roster: r.field(SignedRoster::LEN_MAX)?.to_vec(),
                    configurations: (0..r.u16()?)
                        .map(|_| Ok(r.field(SEAL_CONFIG_LEN_MAX)?.to_vec()))
                        .collect::<Result<_, Malformed>>()?,
                },
                4 => Self::Unknown,
                _ => return Err(Malformed(WHAT)),
            };
        r.finish()?;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction() -> Introduction {
        Introduction { secret: Zeroizing::new([1; 32]), statement: vec![2; 300], signature: vec![3; 64] }
    }

    #[test]
    fn requests_read_back_and_every_cut_is_an_error() {
        let requests = [
            Request::Introduce(introduction()),
            Request::Prove { introduction: introduction(), nonce: [4; 32], mac: [5; 32] },
            Request::Poll,
        ];
        for request in requests {
            let levels = Levels { lowest: Level(2), highest: Level(7) };
            let bytes = request.encode(levels);
            let (told, read) = Request::decode(&bytes).expect("whole");
            assert_eq!((told, read.encode(levels)), (levels, bytes.clone()));
            for n in 0..bytes.len() {
                assert!(Request::decode(&bytes[..n]).is_err(), "cut at {n}");
            }
        }
    }

    #[test]
    fn responses_read_back_and_every_cut_is_an_error() {
        let responses = [
            Response::Challenge { nonce: [1; 32], ct: vec![2; 65] },
            Response::Waiting { membership: MembershipView::default() },
            Response::Unknown,
            Response::Approved {
                id: NodeId(9),
                group: GroupId(0),
                roster: vec![5; 400],
                configurations: vec![vec![6; 3000], vec![7; 100]],
            },
        ];
        for response in responses {
            let bytes = response.encode();
            assert_eq!(Response::decode(&bytes), Ok(response));
            for n in 0..bytes.len() {
                assert!(Response::decode(&bytes[..n]).is_err(), "cut at {n}");
            }
        }
    }
}
