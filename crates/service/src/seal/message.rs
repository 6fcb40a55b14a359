//! What members ask of each other beside Raft: one enum, encoded by who asks and answered in one match (`Node::answer`). Joining
//! has its own, open to nodes that are no members ([`super::join`]).

use std::time::Duration;

use bytes::Bytes;
use quorate_core::batch::{Rev, VALUE_LEN_MAX};
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::NodeId;
use quorate_replica::{CallError, Replica};

/// Longest offer, in bytes: an envelope, and an operator's seal of each member.
const OFFER_LEN_MAX: usize = 16 * 1024;
/// A boxed keyring is a record's value.
const KEYRING_LEN_MAX: usize = VALUE_LEN_MAX;

/// A message to a member: `kind u8`, and its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// Kind 1, no body: give me a nonce, I want to hand you the root key. Answered with 32 bytes.
    HandoverNonce,
    /// Kind 2, `offer`: here it is, sealed to your HSM. Answered with a MAC under it.
    Handover(Bytes),
    /// Kind 3, `rev u64`: the cluster was sealed at this revision; forget your keys now rather than at your next use.
    ClusterSealed(Rev),
    /// Kind 4, no body: give me a nonce, I am about to rotate the root key. Answered with 32 bytes.
    RotationNonce,
    /// Kind 5, `offer field ‖ keyring field`: here is the next root key, sealed to your HSM, and the keyring that it opens.
    /// Answered with a MAC under it.
    Rotation {
        /// The root key.
        offer: Bytes,
        /// The keyring, as the log will hold it.
        keyring: Bytes,
    },
}

impl Message {
    /// Kind and body.
    pub(crate) fn encode(self) -> (u8, Bytes) {
        match self {
            Self::HandoverNonce => (1, Bytes::new()),
            Self::Handover(offer) => (2, offer),
            Self::ClusterSealed(rev) => (3, Writer::new().u64(rev).finish().into()),
            Self::RotationNonce => (4, Bytes::new()),
            Self::Rotation { offer, keyring } => (5, Writer::new().field(&offer).field(&keyring).finish().into()),
        }
    }

    /// What a member sent; none when this version does not know the kind.
    ///
    /// # Errors
    /// When the body is not one of that kind.
    pub(crate) fn decode(kind: u8, body: &Bytes) -> Result<Option<Self>, Malformed> {
        const WHAT: &str = "message of a member";
        if kind == 2 {
            // The nonce is spent before it is looked into.
            return Ok(Some(Self::Handover(body.clone())));
        }
        let mut r = Reader::new(WHAT, body);
        let message = match kind {
            1 => Self::HandoverNonce,
            3 => Self::ClusterSealed(r.u64()?),
            4 => Self::RotationNonce,
            5 => Self::Rotation {
                offer: body.slice_ref(r.field(OFFER_LEN_MAX)?),
                keyring: body.slice_ref(r.field(KEYRING_LEN_MAX)?),
            },
            _ => return Ok(None),
        };
        r.finish()?;
        Ok(Some(message))
    }

    /// Asks a member; its answer.
    pub(crate) async fn ask(self, replica: &Replica, of: NodeId, limit: Duration) -> Result<Bytes, CallError> {
        let (kind, body) = self.encode();
        replica.call_peer(of, kind, body, limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_by_kinds_that_stay_and_what_is_cut_or_more_is_refused() {
        let bytes = Bytes::from_static;
        for (n, message) in [
            Message::HandoverNonce,
            Message::Handover(bytes(b"an offer")),
            Message::ClusterSealed(u64::MAX - 1),
            Message::RotationNonce,
            Message::Rotation { offer: bytes(b"an offer"), keyring: bytes(b"a keyring") },
        ]
        .into_iter()
        .enumerate()
        {
            let (kind, body) = message.clone().encode();
            assert_eq!(usize::from(kind), n + 1, "{message:?}");
            assert_eq!(Message::decode(kind, &body), Ok(Some(message.clone())));
            // An offer is signed as a whole.
            if !matches!(message, Message::Handover(_)) {
                for len in 0..body.len() {
                    assert!(Message::decode(kind, &body.slice(..len)).is_err(), "{message:?} cut at {len}");
                }
                assert!(Message::decode(kind, &[&body[..], &[0]].concat().into()).is_err(), "{message:?} and more");
            }
        }
        for unknown in [0, 6, 200] {
            assert_eq!(Message::decode(unknown, &Bytes::new()), Ok(None));
        }
        let long = Message::Rotation { offer: vec![0; OFFER_LEN_MAX + 1].into(), keyring: Bytes::new() }.encode();
        assert!(Message::decode(long.0, &long.1).is_err());
    }
}
