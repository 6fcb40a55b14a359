//! The token's half of an envelope, seen from outside: encapsulation to its public key (key-hierarchy §4.2).
//!
//! ```text
//! rsa3072-oaep-*: raw = 32 random B, ct_h = OAEP(raw), no label        p256-ecdh: raw = Z, ct_h = ephemeral point 65 B
//! ss_h = kdf(raw, "hsm-kem", [alg u8, ct_h, SPKI_hsm], 32)
//! ```
//!
//! The token returns `raw` (`quorate-hsm`); [`kem_secret`] finishes both sides alike, bound to both public keys.

use aws_lc_rs::agreement::{self, ECDH_P256, ParsedPublicKey, ParsedPublicKeyFormat, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsBigEndian, EcPublicKeyUncompressedBin};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use quorate_core::codec::Writer;
use quorate_core::seam::Entropy;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::kdf::{Label, derive};
use crate::secret::Secret;

/// Longest ct_h, in bytes.
pub const CT_H_LEN_MAX: usize = 1024;
const RSA_LEN_BITS: usize = 3072;
const P256_POINT_LEN: usize = 65;

/// How a token opens its half; probed when the node enrols, stored with the envelope as `hsm_alg`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum HsmAlg {
    /// `rsa3072-oaep-sha256`: encrypted outside, `C_Decrypt` inside. The first choice.
    Rsa3072OaepSha256 = 1,
    /// `p256-ecdh`: `CKM_ECDH1_DERIVE` inside. The second.
    P256Ecdh = 2,
    /// `rsa3072-oaep-sha1`: only for SoftHSM; sound here, but shown in the status.
    Rsa3072OaepSha1 = 3,
}

impl HsmAlg {
    /// The algorithm with this id.
    ///
    /// # Errors
    /// For ids that are not assigned.
    pub fn from_byte(id: u8) -> Result<Self, KemError> {
        match id {
            1 => Ok(Self::Rsa3072OaepSha256),
            2 => Ok(Self::P256Ecdh),
            3 => Ok(Self::Rsa3072OaepSha1),
            other => Err(KemError::UnknownAlgorithm(other)),
        }
    }
    /// The name that people see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa3072OaepSha256 => "rsa3072-oaep-sha256",
            Self::P256Ecdh => "p256-ecdh",
            Self::Rsa3072OaepSha1 => "rsa3072-oaep-sha1",
        }
    }
    /// Length of ct_h, in bytes.
    pub const fn ciphertext_len(self) -> usize {
        match self {
            Self::P256Ecdh => P256_POINT_LEN,
            Self::Rsa3072OaepSha256 | Self::Rsa3072OaepSha1 => RSA_LEN_BITS / 8,
        }
    }
    pub(crate) fn oaep(self) -> Option<&'static OaepAlgorithm> {
        match self {
            Self::Rsa3072OaepSha256 => Some(&OAEP_SHA256_MGF1SHA256),
            Self::Rsa3072OaepSha1 => Some(&OAEP_SHA1_MGF1SHA1),
            Self::P256Ecdh => None,
        }
    }
}

/// Encapsulation to a token's public key failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum KemError {
    /// An algorithm id that is not assigned.
    #[error("HSM algorithm {0} is unknown: the data was written by a newer version; upgrade this node")]
    UnknownAlgorithm(u8),
    /// The public key is not one for this algorithm.
    #[error("the node's HSM public key is not a valid {} key: enrol the node again", .0.as_str())]
    InvalidPublicKey(HsmAlg),
    /// ct_h cannot come from this algorithm: wrong length, or a point that is not on the curve.
    #[error("the HSM ciphertext is not a valid {} ciphertext: it was damaged or forged", .0.as_str())]
    InvalidCiphertext(HsmAlg),
    /// The cryptographic library refused.
    #[error("encapsulation to the node's HSM public key failed in the cryptographic library")]
    Failed,
}

/// Encapsulates to a token's public key (SPKI, DER): returns ct_h for the token, and ss_h.
///
/// # Errors
/// When the public key is not a valid one for `alg` (RSA: exactly 3072 bits; P-256: a point on the curve).
pub fn encapsulate(alg: HsmAlg, spki_der: &[u8], entropy: &dyn Entropy) -> Result<(Vec<u8>, Secret<32>), KemError> {
    let (ct_h, raw) = match alg.oaep() {
        Some(oaep) => {
            let raw = Secret::<32>::generate(entropy);
            let key = PublicEncryptingKey::from_der(spki_der).map_err(|_| KemError::InvalidPublicKey(alg))?;
            if key.key_size_bits() != RSA_LEN_BITS {
                return Err(KemError::InvalidPublicKey(alg));
            }
            let key = OaepPublicEncryptingKey::new(key).map_err(|_| KemError::Failed)?;
            let mut ct_h = vec![0; key.ciphertext_size()];
            let len = key.encrypt(oaep, raw.expose(), &mut ct_h, None).map_err(|_| KemError::Failed)?.len();
            ct_h.truncate(len);
            (ct_h, raw)
        }
        None => {
            let token = p256_point(spki_der, ParsedPublicKeyFormat::X509).ok_or(KemError::InvalidPublicKey(alg))?;
            let ephemeral = p256_ephemeral(entropy)?;
            let public = ephemeral.compute_public_key().map_err(|_| KemError::Failed)?;
            let point: EcPublicKeyUncompressedBin<'_> = public.as_be_bytes().map_err(|_| KemError::Failed)?;
            let raw = agreement::agree(&ephemeral, token, KemError::Failed, |z| {
                Secret::from_slice(z).ok_or(KemError::Failed)
            })?;
            (point.as_ref().to_vec(), raw)
        }
    };
    let ss_h = kem_secret(alg, raw, &ct_h, spki_der);
    Ok((ct_h, ss_h))
}

/// ss_h from what the token returned for `ct_h` (Z, or the decrypted bytes) and from its public key (SPKI, DER).
pub fn kem_secret(alg: HsmAlg, raw: Secret<32>, ct_h: &[u8], spki_der: &[u8]) -> Secret<32> {
    let fields = Writer::new().u8(alg as u8).field(ct_h).field(spki_der).finish();
    derive(raw.expose(), Label::HsmKem, &fields)
}

/// Checks a ciphertext before it is given to a token: its length, and that a point is on the curve. Tokens differ in
/// what they check themselves.
///
/// # Errors
/// [`KemError::InvalidCiphertext`].
pub fn check_ciphertext(alg: HsmAlg, ct_h: &[u8]) -> Result<(), KemError> {
    let good = ct_h.len() == alg.ciphertext_len()
        && (alg != HsmAlg::P256Ecdh || p256_point(ct_h, ParsedPublicKeyFormat::Uncompressed).is_some());
    if good { Ok(()) } else { Err(KemError::InvalidCiphertext(alg)) }
}

fn p256_point(bytes: &[u8], format: ParsedPublicKeyFormat) -> Option<ParsedPublicKey> {
    let key = ParsedPublicKey::try_from(UnparsedPublicKey::new(&ECDH_P256, bytes)).ok()?;
    (key.format() == format).then_some(key)
}

fn p256_ephemeral(entropy: &dyn Entropy) -> Result<PrivateKey, KemError> {
    // A uniform scalar below the group order is found at the first try but once in 2^32.
    for _ in 0..8 {
        let mut scalar = Zeroizing::new([0; 32]);
        entropy.fill(&mut *scalar);
        if let Ok(key) = PrivateKey::from_private_key(&ECDH_P256, &*scalar) {
            return Ok(key);
        }
    }
    Err(KemError::Failed)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};

    use super::*;
    use crate::testing::TestEntropy;

    #[test]
    fn p256_both_sides_agree() {
        let token = PrivateKey::generate(&ECDH_P256).unwrap();
        let spki: PublicKeyX509Der<'_> = token.compute_public_key().unwrap().as_der().unwrap();
        let (ct_h, ss_h) = encapsulate(HsmAlg::P256Ecdh, spki.as_ref(), &TestEntropy::new(1)).unwrap();
        assert_eq!((ct_h.len(), ct_h[0]), (65, 4));
        check_ciphertext(HsmAlg::P256Ecdh, &ct_h).unwrap();
        let raw = agreement::agree(&token, UnparsedPublicKey::new(&ECDH_P256, &ct_h), (), |z| {
            Ok(Secret::from_slice(z).unwrap())
        });
        assert!(kem_secret(HsmAlg::P256Ecdh, raw.ok().unwrap(), &ct_h, spki.as_ref()).ct_eq(&ss_h));
    }

    #[test]
    fn oaep_both_sides_agree() {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
        let spki: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        for alg in [HsmAlg::Rsa3072OaepSha256, HsmAlg::Rsa3072OaepSha1] {
            let (ct_h, ss_h) = encapsulate(alg, spki.as_ref(), &TestEntropy::new(1)).unwrap();
            check_ciphertext(alg, &ct_h).unwrap();
            let mut raw = vec![0; private.min_output_size()];
            let raw = private.decrypt(alg.oaep().unwrap(), &ct_h, &mut raw, None).unwrap();
            assert!(kem_secret(alg, Secret::from_slice(raw).unwrap(), &ct_h, spki.as_ref()).ct_eq(&ss_h));
        }
    }

    #[test]
    fn bad_public_keys_are_refused() {
        let p256 = PrivateKey::generate(&ECDH_P256).unwrap().compute_public_key().unwrap();
        let spki: PublicKeyX509Der<'_> = p256.as_der().unwrap();
        let mut off_curve = spki.as_ref().to_vec();
        *off_curve.last_mut().unwrap() ^= 1;
        let small = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap().public_key();
        let small: PublicKeyX509Der<'_> = small.as_der().unwrap();
        let e = TestEntropy::new(1);
        for (alg, spki) in [
            (HsmAlg::P256Ecdh, &off_curve[..]),
            (HsmAlg::P256Ecdh, p256.as_ref()), // the bare point: no SPKI
            (HsmAlg::P256Ecdh, small.as_ref()),
            (HsmAlg::P256Ecdh, b""),
            (HsmAlg::Rsa3072OaepSha256, small.as_ref()),
            (HsmAlg::Rsa3072OaepSha256, spki.as_ref()),
            (HsmAlg::Rsa3072OaepSha1, b"\x30\x00"),
        ] {
            assert_eq!(encapsulate(alg, spki, &e).err(), Some(KemError::InvalidPublicKey(alg)));
        }
    }

    #[test]
    fn bad_ciphertexts_are_refused() {
        let point = PrivateKey::generate(&ECDH_P256).unwrap().compute_public_key().unwrap().as_ref().to_vec();
        let mut off_curve = point.clone();
        off_curve[64] ^= 1;
        let mut hybrid = point.clone();
        hybrid[0] = 6 | (point[64] & 1);
        for ct in [&off_curve[..], &hybrid, &point[..64], &[0], &[]] {
            assert!(check_ciphertext(HsmAlg::P256Ecdh, ct).is_err());
        }
        assert!(check_ciphertext(HsmAlg::Rsa3072OaepSha256, &[0; 383]).is_err());
        assert_eq!(HsmAlg::from_byte(4), Err(KemError::UnknownAlgorithm(4)));
    }
}
