//! K_self: the secret by which a node knows its own word again (what it said it had, told by others). It is made with the
//! node and boxed to the node's own HSM, so that who writes the disk can put an older word back, but make none.
//!
//! ```text
//! boxed = 1 ‖ alg u8 ‖ len u32, ct_h ‖ box(kdf(ss_h, "own-key", [C, name, SHA-256(SPKI_kem)], 32), "own-key-box", hdr = [C, name], K_self)
//! tag   = HMAC-SHA-256(K_self, "quorate/v1/own-word" ‖ 0 ‖ word), first 16 bytes
//! ```

use aws_lc_rs::hmac;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, Name};
use quorate_core::seam::Entropy;
use thiserror::Error;

use crate::boxes;
use crate::hsm_kem::{HsmAlg, KemError, check_ciphertext, encapsulate, kem_secret};
use crate::kdf::{Label, derive, message, sha256};
use crate::secret::Secret;

const VERSION: u8 = 1;
/// Length of a tag, in bytes.
pub const OWN_TAG_LEN: usize = 16;

/// Why a boxed K_self can't be read or opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum OwnKeyError {
    /// Not the format.
    #[error("{0}: the node file was damaged")]
    Malformed(#[from] Malformed),
    /// The token's half.
    #[error(transparent)]
    Kem(#[from] KemError),
    /// Another token's, node's or cluster's, or changed.
    #[error("this node's own key does not open: it belongs to another token or node, or was changed")]
    NotOpened,
}

/// K_self, in use.
pub struct OwnKey(hmac::Key);

impl OwnKey {
    fn new(secret: &Secret<32>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
    }

    /// The tag of a word.
    pub fn tag(&self, word: &[u8]) -> [u8; OWN_TAG_LEN] {
        let mac = hmac::sign(&self.0, &message(Label::OwnWord, word));
        mac.as_ref()[..OWN_TAG_LEN].try_into().expect("HMAC-SHA-256 returns 32 bytes")
    }
}

/// K_self as the node file holds it.
#[derive(Debug)]
pub struct BoxedOwnKey {
    alg: HsmAlg,
    ct_h: Vec<u8>,
    boxed: Vec<u8>,
}

impl BoxedOwnKey {
    /// Makes K_self for a node, boxed to its KEM key (SPKI, DER).
    ///
    /// # Errors
    /// When the public key is not one for `alg`.
    pub fn make(
        alg: HsmAlg,
        kem_spki: &[u8],
        cluster: ClusterId,
        name: &Name,
        entropy: &dyn Entropy,
    ) -> Result<(Self, OwnKey), KemError> {
        let secret = Secret::generate(entropy);
        let (ct_h, ss_h) = encapsulate(alg, kem_spki, entropy)?;
        let key = box_key(&ss_h, kem_spki, cluster, name);
        let boxed = boxes::seal(&key, Label::OwnKeyBox, &header(cluster, name), b"", secret.expose(), entropy);
        Ok((Self { alg, ct_h, boxed }, OwnKey::new(&secret)))
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().u8(VERSION).u8(self.alg as u8).field(&self.ct_h).raw(&self.boxed).finish()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// When they are not the format.
    pub fn decode(bytes: &[u8]) -> Result<Self, OwnKeyError> {
        let mut r = Reader::new("own key", bytes);
        if r.u8()? != VERSION {
            return Err(Malformed("own key: unknown version, a newer version is needed").into());
        }
        let alg = HsmAlg::from_byte(r.u8()?)?;
        let ct_h = r.field(alg.ciphertext_len())?.to_vec();
        check_ciphertext(alg, &ct_h)?;
        Ok(Self { alg, ct_h, boxed: r.rest().to_vec() })
    }

    /// What the token is to decapsulate.
    pub fn ct_h(&self) -> &[u8] {
        &self.ct_h
    }

    /// Opens it with what the token returned.
    ///
    /// # Errors
    /// [`OwnKeyError::NotOpened`].
    pub fn open(
        &self,
        raw: Secret<32>,
        kem_spki: &[u8],
        cluster: ClusterId,
        name: &Name,
    ) -> Result<OwnKey, OwnKeyError> {
        let ss_h = kem_secret(self.alg, raw, &self.ct_h, kem_spki);
        let key = box_key(&ss_h, kem_spki, cluster, name);
        let opened = boxes::open(&key, Label::OwnKeyBox, &header(cluster, name), b"", &self.boxed);
        let opened = opened.map_err(|_| OwnKeyError::NotOpened)?;
        Secret::from_slice(&opened).map(|secret| OwnKey::new(&secret)).ok_or(OwnKeyError::NotOpened)
    }
}

fn header(cluster: ClusterId, name: &Name) -> Vec<u8> {
    Writer::new().field(&cluster.0).field(name.as_str().as_bytes()).finish()
}

fn box_key(ss_h: &Secret<32>, kem_spki: &[u8], cluster: ClusterId, name: &Name) -> Secret<32> {
    let fields = Writer::new().raw(&header(cluster, name)).field(&sha256(kem_spki)).finish();
    derive(ss_h.expose(), Label::OwnKey, &fields)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};

    use super::*;
    use crate::testing::TestEntropy;

    /// A token of the second choice.
    struct Token(PrivateKey);

    impl Token {
        fn new() -> Self {
            Self(PrivateKey::generate(&ECDH_P256).unwrap())
        }
        fn spki(&self) -> Vec<u8> {
            let public = self.0.compute_public_key().unwrap();
            let der: PublicKeyX509Der<'_> = public.as_der().unwrap();
            der.as_ref().to_vec()
        }
        fn decapsulate(&self, ct_h: &[u8]) -> Secret<32> {
            let peer = UnparsedPublicKey::new(&ECDH_P256, ct_h);
            agreement::agree(&self.0, peer, (), |z| Secret::from_slice(z).ok_or(())).unwrap()
        }
    }

    const CLUSTER: ClusterId = ClusterId([3; 16]);

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn only_its_own_token_opens_it_and_only_for_its_node() {
        let (mine, other) = (Token::new(), Token::new());
        let made = BoxedOwnKey::make(HsmAlg::P256Ecdh, &mine.spki(), CLUSTER, &name("n1"), &TestEntropy::new(1));
        let (boxed, key) = made.unwrap();
        let read = BoxedOwnKey::decode(&boxed.encode()).unwrap();
        let open = |token: &Token, cluster, node: &str| {
            read.open(token.decapsulate(read.ct_h()), &token.spki(), cluster, &name(node))
        };
        let again = open(&mine, CLUSTER, "n1").ok().unwrap();
        assert_eq!(again.tag(b"word"), key.tag(b"word"));
        assert_ne!(again.tag(b"word"), key.tag(b"Word"));
        for opened in [open(&other, CLUSTER, "n1"), open(&mine, ClusterId([4; 16]), "n1"), open(&mine, CLUSTER, "n2")] {
            assert_eq!(opened.err(), Some(OwnKeyError::NotOpened));
        }
    }

    #[test]
    fn changed_bytes_do_not_open() {
        let token = Token::new();
        let made = BoxedOwnKey::make(HsmAlg::P256Ecdh, &token.spki(), CLUSTER, &name("n1"), &TestEntropy::new(1));
        let bytes = made.unwrap().0.encode();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            for bad in [&bad[..], &bytes[..at]] {
                // What is no ciphertext of the token's is refused before it is asked.
                let opened = BoxedOwnKey::decode(bad)
                    .and_then(|b| b.open(token.decapsulate(b.ct_h()), &token.spki(), CLUSTER, &name("n1")));
                assert!(opened.is_err(), "byte {at}");
            }
        }
    }
}
