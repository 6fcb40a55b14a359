//! Material of key versions: its bytes are looked at in this room only, a file for each family. To everybody else it is opaque.
//!
//! Records hold a symmetric or MAC key as its bytes, a pair as PKCS#8 (RFC 5208), post-quantum ones in seed form, and its public
//! key as SubjectPublicKeyInfo. Here a key is read and checked once, then used many times. What a key may be used for is decided
//! before, by `core`'s table; here it is only made sure that it can be.

pub mod derive;
pub mod digest;
pub mod symmetric;

mod aes;
mod der;
mod ec;
mod ed25519;
mod encode;
mod error;
mod jwk;
mod lc;
mod mac;
mod ml_dsa;
mod ml_kem;
mod pair;
mod public;
mod rsa;
mod seed;
mod x25519;

use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_core::request::{InvalidRequest, Part};
use quorate_core::seam::Entropy;
use zeroize::Zeroizing;

use self::aes::AesKey;
pub use self::aes::{BLOCK_LEN, Encrypted, GCM_IV_LEN, GCM_TAG_LEN};
pub use self::derive::Derivation;
pub use self::ec::{der_signature, raw_signature};
pub use self::encode::{is_private_key, private_der};
pub use self::error::UseError;
pub use self::jwk::Members;
use self::mac::MacKey;
use self::pair::Pair;
pub use self::public::PublicKey;
use self::symmetric::SymmetricKey;
use crate::secret::SecretBytes;

/// What is signed.
#[derive(Clone, Copy)]
pub enum SignInput<'a> {
    /// A message.
    Message(&'a [u8]),
    /// Its digest by the algorithm's hash function; for ML-DSA, mu.
    Digest(&'a [u8]),
}

/// A key as records hold it.
pub struct Encoded {
    /// Its secret part.
    pub material: SecretBytes,
    /// Its public part, if it has one: SubjectPublicKeyInfo.
    pub public: Option<Vec<u8>>,
}

/// The material of one key version, ready for use; wiped when dropped.
pub struct Material(Kind);

enum Kind {
    Aes(AesKey),
    Mac(MacKey),
    Pair(Box<Pair>),
    Public(Box<PublicKey>),
    Secret(SecretBytes),
}

impl Material {
    /// Fresh material of that kind. RSA takes up to seconds.
    pub fn fresh(spec: KeySpec, entropy: &dyn Entropy) -> Encoded {
        match spec.material_len() {
            Some(len) => {
                let mut material = Zeroizing::new(vec![0; len]);
                entropy.fill(&mut material);
                Encoded { material, public: None }
            }
            None => Pair::fresh(spec, entropy),
        }
    }

    /// Material that was brought along, as records hold it: the bytes of a symmetric or MAC key, or PKCS#8 of exactly that kind.
    ///
    /// # Errors
    /// Which says what is wrong with it: another length, another kind, not canonical, not a valid key.
    pub fn import(spec: KeySpec, bytes: &[u8]) -> Result<Encoded, InvalidRequest> {
        let Some(lens) = spec.material_lens() else { return Pair::import(spec, bytes) };
        if lens.contains(&bytes.len()) {
            return Ok(Encoded { material: Zeroizing::new(bytes.to_vec()), public: None });
        }
        let (least, most, len) = (lens.start(), lens.end(), bytes.len());
        let expected = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let why = format!("a key of kind {} has {expected} bytes, not {len}", spec.as_str());
        Err(InvalidRequest::wrong(Part::Material, why))
    }

    /// Reads material as a record holds it; `None` = it is none of that kind.
    pub fn read(spec: KeySpec, bytes: &[u8]) -> Option<Self> {
        use quorate_core::key_spec::Kind as Of;
        Some(Self(match spec.kind() {
            Of::Symmetric => Kind::Aes(AesKey::read(spec, bytes)?),
            Of::Mac => Kind::Mac(MacKey::read(spec, bytes)?),
            Of::Pair => Kind::Pair(Box::new(Pair::parse(spec, bytes).ok()?)),
            Of::Public => return None,
            Of::Secret => Kind::Secret(Zeroizing::new(bytes.to_vec())),
        }))
    }

    /// A public key alone, of which a record holds nothing else: it does what the public half of a pair does. `None` = it is none of
    /// that kind.
    pub fn public_alone(spec: KeySpec, spki: &[u8]) -> Option<Self> {
        let public = PublicKey::parse(spki).ok().filter(|public| public.spec() == spec)?;
        Some(Self(Kind::Public(Box::new(public))))
    }

    /// The key's bytes, or PKCS#8, as [`Self::import`] takes it, or a secret's value: for whoever may export or read it. A public key
    /// alone has none.
    pub fn export(&self) -> SecretBytes {
        match &self.0 {
            Kind::Aes(key) => Zeroizing::new(key.bytes().to_vec()),
            Kind::Mac(key) => Zeroizing::new(key.bytes().to_vec()),
            Kind::Pair(pair) => pair.pkcs8(),
            Kind::Public(_) => SecretBytes::default(),
            Kind::Secret(value) => value.clone(),
        }
    }

    /// Whether the private key's work takes a tenth of a millisecond, or more: RSA, ML-DSA and the larger curves.
    pub fn is_slow(&self) -> bool {
        let fast = |spec| {
            use KeySpec::{Ed25519, MlKem512, MlKem768, MlKem1024, P256, X25519};
            matches!(spec, P256 | Ed25519 | X25519 | MlKem512 | MlKem768 | MlKem1024)
        };
        self.public().is_some_and(|public| !fast(public.spec()))
    }

    /// Whether verifying with its public key takes a tenth of a millisecond, or more.
    pub fn verifies_slowly(&self) -> bool {
        let slow = [KeySpec::P384, KeySpec::P521, KeySpec::Secp256k1];
        self.public().is_some_and(|key| slow.contains(&key.spec()))
    }

    /// Bytes that it takes in memory, about.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Kind::Aes(_) | Kind::Mac(_) => 0,
                Kind::Pair(pair) => pair.size(),
                Kind::Public(public) => size_of::<PublicKey>() + 2 * public.spki().len(),
                Kind::Secret(value) => value.len(),
            }
    }

    /// The key that blobs are made with, if it is such a one. What fits was asked of `core`'s table before: to find another here
    /// is a fault.
    pub fn symmetric(&self) -> Option<&SymmetricKey> {
        match &self.0 {
            Kind::Aes(AesKey::Aes256(key)) => Some(key),
            _ => None,
        }
    }

    /// The public key of a pair, or alone.
    pub fn public(&self) -> Option<&PublicKey> {
        match &self.0 {
            Kind::Pair(pair) => Some(pair.public()),
            Kind::Public(public) => Some(public),
            Kind::Aes(_) | Kind::Mac(_) | Kind::Secret(_) => None,
        }
    }

    fn half(&self) -> Result<&PublicKey, UseError> {
        self.public().ok_or(UseError::NotFitting)
    }

    fn pair(&self) -> Result<&Pair, UseError> {
        match &self.0 {
            Kind::Pair(pair) => Ok(pair),
            _ => Err(UseError::NotFitting),
        }
    }

    /// Signs; `context` is ML-DSA's or Ed25519ph's, else empty. Signatures of curves are DER.
    ///
    /// # Errors
    /// [`UseError::Invalid`]: the digest's length, or the context; [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn sign(&self, by: Algorithm, input: SignInput<'_>, context: &[u8]) -> Result<Vec<u8>, UseError> {
        self.pair()?.sign(by, input, context)
    }

    /// Makes an authentication code.
    ///
    /// # Errors
    /// [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn mac(&self, by: Algorithm, message: &[u8]) -> Result<Vec<u8>, UseError> {
        match &self.0 {
            Kind::Aes(key) => key.mac(by, message),
            Kind::Mac(key) => key.mac(by, message),
            Kind::Pair(_) | Kind::Public(_) | Kind::Secret(_) => Err(UseError::NotFitting),
        }
    }

    /// Whether that is the code of the message, whole; in constant time.
    ///
    /// # Errors
    /// [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn verify_mac(&self, by: Algorithm, message: &[u8], mac: &[u8]) -> Result<bool, UseError> {
        match &self.0 {
            Kind::Aes(key) => key.verify_mac(by, message, mac),
            Kind::Mac(key) => key.verify(by, message, mac),
            Kind::Pair(_) | Kind::Public(_) | Kind::Secret(_) => Err(UseError::NotFitting),
        }
    }

    /// Encrypts by a standard's mode, under a fresh random IV unless one is given (who gives one may decrypt all that was encrypted
    /// under it before). A pair encrypts with its public key. Blobs are [`symmetric::encrypt`].
    ///
    /// # Errors
    /// [`UseError::Invalid`]: the IV's length, associated data where it can't be bound, half blocks, too much plaintext;
    /// [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn encrypt(
        &self,
        by: Algorithm,
        plaintext: &[u8],
        iv: Option<&[u8]>,
        aad: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Encrypted, UseError> {
        match &self.0 {
            Kind::Aes(key) => key.encrypt(by, plaintext, iv, aad, entropy),
            _ => {
                let public = self.half()?;
                bare(by, iv.unwrap_or_default(), &[], aad)?;
                Ok(Encrypted { ciphertext: public.encrypt(by, plaintext)?, ..Encrypted::default() })
            }
        }
    }

    /// Decrypts what [`Self::encrypt`] made.
    ///
    /// # Errors
    /// [`UseError::Tampered`], for all that does not open; [`UseError::Invalid`]: a part's length, associated data where it can't be
    /// bound; [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn decrypt(&self, by: Algorithm, encrypted: &Encrypted, aad: &[u8]) -> Result<SecretBytes, UseError> {
        let Encrypted { iv, ciphertext, tag } = encrypted;
        match &self.0 {
            Kind::Aes(key) => key.decrypt(by, iv, ciphertext, tag, aad),
            _ => {
                let pair = self.pair()?;
                bare(by, iv, tag, aad)?;
                pair.decrypt(by, ciphertext)
            }
        }
    }

    /// Wraps another key's bytes: key wrap (RFC 3394, RFC 5649), or for a pair's owner by RSA.
    ///
    /// # Errors
    /// [`UseError::Invalid`]: a key of a length that can't be wrapped so; [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn wrap(&self, by: Algorithm, key: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, UseError> {
        match &self.0 {
            Kind::Aes(kek) => kek.wrap(by, key),
            _ => self.half()?.wrap(by, key, entropy),
        }
    }

    /// Unwraps what [`Self::wrap`] made.
    ///
    /// # Errors
    /// [`UseError::Tampered`], for all that does not open; [`UseError::NotFitting`].
    pub fn unwrap(&self, by: Algorithm, wrapped: &[u8]) -> Result<SecretBytes, UseError> {
        match &self.0 {
            Kind::Aes(kek) => kek.unwrap(by, wrapped),
            _ => self.pair()?.unwrap(by, wrapped),
        }
    }

    /// The secret that this key and another's public key come to: the raw x coordinate, to be put through a key derivation.
    ///
    /// # Errors
    /// [`UseError::Invalid`]: a public key of another kind, or of small order; [`UseError::NotFitting`].
    pub fn agree(&self, peer: &PublicKey) -> Result<SecretBytes, UseError> {
        self.pair()?.agree(peer)
    }

    /// Derives `len` bytes of another key.
    ///
    /// # Errors
    /// As [`derive::derive`]; [`UseError::NotFitting`].
    pub fn derive(&self, by: &Derivation<'_>, len: usize) -> Result<SecretBytes, UseError> {
        match &self.0 {
            Kind::Aes(key) => derive::derive(key.bytes(), by, len),
            Kind::Mac(key) => derive::derive(key.bytes(), by, len),
            Kind::Pair(_) | Kind::Public(_) | Kind::Secret(_) => Err(UseError::NotFitting),
        }
    }

    /// The secret in what was encapsulated to this key.
    ///
    /// # Errors
    /// [`UseError::Invalid`]: a ciphertext of another length; [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<SecretBytes, UseError> {
        self.pair()?.decapsulate(ciphertext)
    }
}

/// Pairs encrypt without IV, tag and associated data.
fn bare(by: Algorithm, iv: &[u8], tag: &[u8], aad: &[u8]) -> Result<(), UseError> {
    for (part, bytes) in [(Part::Iv, iv), (Part::Tag, tag), (Part::Context, aad)] {
        if !bytes.is_empty() {
            return Err(error::wrong(
                part,
                format!("{} takes no {}", by.as_str(), part.as_str().trim_start_matches("the ")),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
