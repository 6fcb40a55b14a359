//! The one-use token with which an invited node asks to join: text to carry from an operator's terminal to the new
//! node's `join.token_file` (key-hierarchy §4.3).
//!
//! It pins the cluster, the root certificate and the inviting node's identity key, so that the secret in it is never
//! told to anybody else, and the seal configuration, so that nobody else's custodians are believed later; it names the node
//! it was made for.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, Name};
use quorate_core::record::Statement;
use thiserror::Error;
use zeroize::Zeroizing;

/// What the text begins with.
pub const PREFIX: &str = "quorate-join-2.";
/// Longest token text this node reads, in bytes.
pub const TEXT_LEN_MAX: usize = 2048;
const CHECK_LEN: usize = 8;

/// An invitation's token. `PREFIX ‖ base64url(cluster 16 ‖ SHA-256(root SPKI) 32 ‖ for name ‖ inviter name ‖
/// inviter address ‖ inviter identity SPKI ‖ SHA-256(seal configuration) 32 ‖ roster serial u64 ‖ secret 32 ‖ check 8)`; check = SHA-256 of all before, cut.
#[derive(Clone)]
pub struct JoinToken {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// SHA-256 of the root certificate's public key.
    pub root_sha256: [u8; 32],
    /// The node that may use it.
    pub for_name: Name,
    /// The member that made it, and to whom it is shown.
    pub inviter_name: Name,
    /// That member's `host:port` for nodes.
    pub inviter_addr: String,
    /// That member's identity key (SPKI, DER).
    pub inviter_spki: Vec<u8>,
    /// Hash of the seal configuration in force: who the custodians are, whatever a member says later.
    pub seal_config_hash: [u8; 32],
    /// Serial of the members' roster at that time; 0 before there is one.
    pub roster_serial: u64,
    /// 32 random bytes; the cluster stores their hash only.
    pub secret: Zeroizing<[u8; 32]>,
}

/// Text that is no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It does not begin as a token does.
    #[error("not a join token: it should begin with {PREFIX:?}; paste the whole line of the invitation")]
    Form,
    /// Cut or mistyped.
    #[error("the join token is damaged (cut short or mistyped); paste the whole line of the invitation")]
    Damaged,
}

impl From<Malformed> for TokenError {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
}

impl JoinToken {
    /// The text; it holds the secret, so it goes to the new node and nowhere else.
    pub fn to_text(&self) -> Zeroizing<String> {
        let body = Writer::new()
            .raw(&self.cluster.0)
            .raw(&self.root_sha256)
            .field(self.for_name.as_str().as_bytes())
            .field(self.inviter_name.as_str().as_bytes())
            .field(self.inviter_addr.as_bytes())
            .field(&self.inviter_spki)
            .raw(&self.seal_config_hash)
            .u64(self.roster_serial)
            .raw(&self.secret[..])
            .finish();
        let check = check(&body);
        let mut body = Zeroizing::new(body);
        body.extend_from_slice(&check);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + body.len() * 4 / 3 + 4));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&body[..], &mut text);
        text
    }

    /// Reads a token; white space around it is ignored.
    ///
    /// # Errors
    /// When it is not a token, or not the whole of one. The text is never part of the error.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).ok_or(TokenError::Form)?;
        if text.len() > TEXT_LEN_MAX {
            return Err(TokenError::Damaged);
        }
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Damaged)?);
        let at = bytes.len().checked_sub(CHECK_LEN).ok_or(TokenError::Damaged)?;
        let (body, sum) = bytes.split_at(at);
        if check(body) != sum {
            return Err(TokenError::Damaged);
        }
        let mut r = Reader::new("join token", body);
        let token = Self {
            cluster: ClusterId(r.array()?),
            root_sha256: r.array()?,
            for_name: r.text(Name::LEN_MAX)?.parse().map_err(|_| TokenError::Damaged)?,
            inviter_name: r.text(Name::LEN_MAX)?.parse().map_err(|_| TokenError::Damaged)?,
            inviter_addr: r.text(Statement::ADDR_LEN_MAX)?.to_owned(),
            inviter_spki: r.field(Statement::SPKI_LEN_MAX)?.to_vec(),
            seal_config_hash: r.array()?,
            roster_serial: r.u64()?,
            secret: Zeroizing::new(r.array()?),
        };
        r.finish()?;
        Ok(token)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join token for {} of cluster {}", self.for_name, self.cluster)
    }
}

fn check(body: &[u8]) -> [u8; CHECK_LEN] {
    let mut sum = [0; CHECK_LEN];
    sum.copy_from_slice(&super::sha256(body)[..CHECK_LEN]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            cluster: ClusterId([3; 16]),
            root_sha256: [4; 32],
            for_name: "n2".parse().expect("name"),
            inviter_name: "n1".parse().expect("name"),
            inviter_addr: "127.0.0.1:7601".into(),
            inviter_spki: vec![5; 91],
            seal_config_hash: [7; 32],
            roster_serial: 8,
            secret: Zeroizing::new([6; 32]),
        }
    }

    #[test]
    fn reads_back_and_shows_no_secret() {
        let text = token().to_text();
        let back = JoinToken::parse(&format!("  {}\n", *text)).expect("whole");
        assert_eq!(back.to_text(), text);
        assert_eq!((back.for_name.as_str(), back.inviter_addr.as_str()), ("n2", "127.0.0.1:7601"));
        assert_eq!((back.seal_config_hash, back.roster_serial), ([7; 32], 8));
        assert_eq!(format!("{back:?}"), format!("join token for n2 of cluster {}", ClusterId([3; 16])));
    }

    #[test]
    fn cut_or_mistyped_tokens_are_named_so() {
        let text = token().to_text();
        for n in PREFIX.len()..text.len() {
            assert_eq!(JoinToken::parse(&text[..n]).map(|_| ()), Err(TokenError::Damaged), "cut at {n}");
            let mut typo = text.as_bytes().to_vec();
            typo[n] = if typo[n] == b'A' { b'B' } else { b'A' };
            let typo = String::from_utf8(typo).expect("ASCII");
            assert_eq!(JoinToken::parse(&typo).map(|_| ()), Err(TokenError::Damaged), "typo at {n}");
        }
        assert_eq!(JoinToken::parse("qs1abc").map(|_| ()), Err(TokenError::Form));
        assert_eq!(JoinToken::parse("").map(|_| ()), Err(TokenError::Form));
    }
}
