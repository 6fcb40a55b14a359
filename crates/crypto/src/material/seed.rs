//! Seeds of post-quantum keys in PKCS#8: the seed form of RFC 9881 §6 (ML-DSA) and RFC 9935 §6 (ML-KEM).
//!
//! ```text
//! privateKey = [0] seed  |  SEQUENCE { seed OCTET STRING, expandedKey OCTET STRING }  |  expandedKey OCTET STRING
//! ```
//!
//! The last has no seed, and a key without seed can't be checked or kept: it is refused.

use quorate_core::key_spec::KeySpec;
use quorate_core::request::{InvalidRequest, Part};

use super::der::{self, Der, NotDer};
use super::encode;
use crate::secret::{Secret, SecretBytes};

/// The tag of a seed.
pub(super) const SEED: u8 = 0x80;

/// A seed as PKCS#8.
pub(super) fn encode(spec: KeySpec, seed: &[u8]) -> SecretBytes {
    encode::pkcs8(spec, &der::element(SEED, &[seed]))
}

/// The seed, and the expanded key if that stands beside it.
pub(super) fn read<const N: usize>(spec: KeySpec, pkcs8: &[u8]) -> Result<(Secret<N>, Option<&[u8]>), InvalidRequest> {
    let wrong = |why: String| InvalidRequest::wrong(Part::Material, why);
    let key = encode::read_pkcs8(spec, pkcs8)?;
    let read = || match Der::new(key).peek() {
        Some(der::SEQUENCE) => {
            let mut both = Der::only(der::SEQUENCE, key)?;
            let parts = (both.take(der::OCTET_STRING)?, Some(both.take(der::OCTET_STRING)?));
            both.finish().map(|()| parts)
        }
        _ => {
            let mut alone = Der::new(key);
            let seed = alone.take(SEED)?;
            alone.finish().map(|()| (seed, None))
        }
    };
    match (read(), Der::new(key).peek()) {
        (Ok((seed, expanded)), _) => match Secret::from_slice(seed) {
            Some(seed) => Ok((seed, expanded)),
            None => Err(wrong(format!("a seed of {} has {N} bytes, not {}", spec.as_str(), seed.len()))),
        },
        (Err(NotDer), Some(der::OCTET_STRING)) => {
            Err(wrong(format!("this {} key is in expanded form: give it in seed form", spec.as_str())))
        }
        (Err(NotDer), _) => Err(wrong(format!("the PKCS#8 holds no seed of a {} key", spec.as_str()))),
    }
}

/// The expanded key is not the seed's.
pub(super) fn differs() -> InvalidRequest {
    InvalidRequest::wrong(Part::Material, "the expanded key is not the one that the seed makes")
}
