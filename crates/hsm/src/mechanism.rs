//! The token's half of each operation, in PKCS#11 mechanisms.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use quorate_crypto::{HsmAlg, Secret};
use zeroize::{Zeroize, Zeroizing};

use crate::attributes::Usage;
use crate::error::Failure;
use crate::public_key::{ecdsa_der, sha256};
use crate::{HsmError, keys};

/// Opens ct_h: ECDH returns Z, OAEP its plaintext. `quorate_crypto::kem_secret` makes ss_h of either.
pub(crate) fn decapsulate(
    session: &Session,
    alg: HsmAlg,
    key: ObjectHandle,
    ct_h: &[u8],
) -> Result<Secret<32>, Failure> {
    match alg {
        HsmAlg::P256Ecdh => derive(session, key, ct_h),
        HsmAlg::Rsa3072OaepSha256 | HsmAlg::Rsa3072OaepSha1 => {
            let mut plaintext = session.decrypt(&oaep(alg), key, ct_h)?;
            let secret = to_secret(&plaintext, false);
            plaintext.zeroize();
            secret
        }
    }
}

fn oaep(alg: HsmAlg) -> Mechanism<'static> {
    let (hash, mgf) = match alg {
        HsmAlg::Rsa3072OaepSha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        _ => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty()))
}

/// Whether the token really opens OAEP with SHA-256, tried with a key that lives as long as the try.
pub(crate) fn opens_oaep_sha256(session: &Session) -> bool {
    // Shorter than real kem keys: only the padding is in question, and key generation is the cost.
    const PROBE_BITS: u64 = 2048;
    let Ok((public, private, spki)) = keys::generate_for_session(session, Usage::Decrypt, PROBE_BITS) else {
        return false;
    };
    let opened = oaep_round_trip(session, private, &spki);
    for object in [public, private] {
        // Session objects: they go with the session in any case.
        let _ = session.destroy_object(object);
    }
    opened.is_some()
}

fn oaep_round_trip(session: &Session, private: ObjectHandle, spki: &[u8]) -> Option<()> {
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(spki).ok()?).ok()?;
    let mut buffer = vec![0; key.ciphertext_size()];
    let sent = b"quorate/v1/probe";
    let ciphertext = key.encrypt(&OAEP_SHA256_MGF1SHA256, sent, &mut buffer, None).ok()?;
    let opened = session.decrypt(&oaep(HsmAlg::Rsa3072OaepSha256), private, ciphertext).ok()?;
    (opened == sent).then_some(())
}

/// CKM_ECDH1_DERIVE with CKD_NULL, then Z is read: it is per envelope, and the host gets RK anyway (§4.2).
fn derive(session: &Session, key: ObjectHandle, point: &[u8]) -> Result<Secret<32>, Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::ValueLen(32.into()),
    ];
    let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), point));
    let derived = session.derive_key(&mechanism, key, &template)?;
    let value = session.get_attributes(derived, &[AttributeType::Value]);
    // A session object: it would go with the session, but sessions live long.
    let destroyed = session.destroy_object(derived);
    let mut z = match value?.pop() {
        Some(Attribute::Value(z)) => z,
        _ => {
            return Err(HsmError::Refused {
                reason: "the token does not let an ECDH result be read; use a key for rsa3072-oaep-sha256".into(),
            }
            .into());
        }
    };
    let secret = to_secret(&z, true);
    z.zeroize();
    destroyed?;
    secret
}

/// Exactly 32 bytes. Z is a field element of fixed length (SEC 1 §3.3.1), but some tokens drop its leading zeros, so
/// that `left_pad` puts them back.
fn to_secret(bytes: &[u8], left_pad: bool) -> Result<Secret<32>, Failure> {
    if bytes.len() > 32 || bytes.is_empty() || (bytes.len() < 32 && !left_pad) {
        return Err(HsmError::Refused { reason: format!("it holds {} bytes, not 32", bytes.len()) }.into());
    }
    let mut array = Zeroizing::new([0u8; 32]);
    array[32 - bytes.len()..].copy_from_slice(bytes);
    Ok(Secret::from_slice(&*array).expect("32 bytes"))
}

/// ECDSA-P256-SHA256 over `message`, DER. Hashed here and signed raw: SoftHSM knows no CKM_ECDSA_SHA256.
pub(crate) fn sign(session: &Session, key: ObjectHandle, message: &[u8]) -> Result<Vec<u8>, Failure> {
    let raw = session.sign(&Mechanism::Ecdsa, key, &sha256(message))?;
    ecdsa_der(&raw).ok_or_else(|| {
        HsmError::Token { operation: "C_Sign".into(), reason: format!("a signature of {} bytes", raw.len()) }.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_field_elements_are_padded_and_short_plaintexts_are_not() {
        let padded = to_secret(&[9; 31], true).ok().expect("padded");
        assert_eq!(padded.expose()[..2], [0, 9]);
        for (bytes, pad) in [(&[9; 31][..], false), (&[9; 33][..], true), (&[][..], true)] {
            assert!(to_secret(bytes, pad).is_err());
        }
    }
}
