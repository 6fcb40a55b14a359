//! AES keys, used as standards say: GCM, CBC, key wrap, CMAC. The blob, which names its key, is [`super::symmetric`].

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::cmac;
use aws_lc_rs::iv::FixedLength;
use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_core::request::Part;
use quorate_core::seam::Entropy;
use zeroize::Zeroizing;

use super::error::{UseError, wrong};
use super::lc::{self, KeyWrap};
use super::symmetric::SymmetricKey;
use crate::secret::{Secret, SecretBytes};

/// Length of GCM's IV, in bytes.
pub const GCM_IV_LEN: usize = 12;
/// Length of GCM's tag, in bytes.
pub const GCM_TAG_LEN: usize = 16;
/// Length of a block, and of CBC's IV, in bytes.
pub const BLOCK_LEN: usize = 16;

/// What was encrypted, its parts apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Encrypted {
    /// The IV; empty where there is none.
    pub iv: Vec<u8>,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// The tag; empty where there is none.
    pub tag: Vec<u8>,
}

/// A key of 128, 192 or 256 bits.
pub(super) enum AesKey {
    Aes128(Secret<16>),
    Aes192(Secret<24>),
    Aes256(SymmetricKey),
}

impl AesKey {
    /// `None` = not of that length.
    pub(super) fn read(spec: KeySpec, bytes: &[u8]) -> Option<Self> {
        match spec {
            KeySpec::Aes128 => Secret::from_slice(bytes).map(Self::Aes128),
            KeySpec::Aes192 => Secret::from_slice(bytes).map(Self::Aes192),
            KeySpec::Aes256 => SymmetricKey::from_slice(bytes).map(Self::Aes256),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Aes128(key) => key.expose(),
            Self::Aes192(key) => key.expose(),
            Self::Aes256(key) => key.bytes(),
        }
    }

    /// Encrypts, under a fresh random IV unless one is given.
    pub(super) fn encrypt(
        &self,
        algorithm: Algorithm,
        plaintext: &[u8],
        iv: Option<&[u8]>,
        aad: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Encrypted, UseError> {
        let iv = match iv {
            Some(iv) => iv.to_vec(),
            None => {
                let mut iv = vec![0; iv_len(algorithm)?];
                entropy.fill(&mut iv);
                iv
            }
        };
        let mut ciphertext = Zeroizing::new(Vec::with_capacity(plaintext.len() + BLOCK_LEN));
        ciphertext.extend_from_slice(plaintext);
        let tag = match algorithm {
            Algorithm::AesGcm => {
                let nonce = Nonce::assume_unique_for_key(fixed(&iv)?);
                self.gcm().seal_in_place_separate_tag(nonce, Aad::from(aad), &mut ciphertext[..])?.as_ref().to_vec()
            }
            Algorithm::AesCbc => {
                no_aad(algorithm, aad)?;
                check_blocks(Part::Plaintext, plaintext)?;
                let key = EncryptingKey::cbc(self.cipher())?;
                key.less_safe_encrypt(&mut ciphertext, EncryptionContext::Iv128(block(&iv)?))?;
                Vec::new()
            }
            Algorithm::AesCbcPad => {
                no_aad(algorithm, aad)?;
                let key = PaddedBlockEncryptingKey::cbc_pkcs7(self.cipher())?;
                key.less_safe_encrypt(&mut *ciphertext, EncryptionContext::Iv128(block(&iv)?))?;
                Vec::new()
            }
            _ => return Err(UseError::NotFitting),
        };
        Ok(Encrypted { iv, ciphertext: std::mem::take(&mut *ciphertext), tag })
    }

    /// Opens what [`Self::encrypt`] made.
    pub(super) fn decrypt(
        &self,
        algorithm: Algorithm,
        iv: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        aad: &[u8],
    ) -> Result<SecretBytes, UseError> {
        let mut opened = Zeroizing::new(ciphertext.to_vec());
        let len = match algorithm {
            Algorithm::AesGcm => {
                let nonce = Nonce::assume_unique_for_key(fixed(iv)?);
                if tag.len() != GCM_TAG_LEN {
                    return Err(wrong(Part::Tag, format!("the tag has {GCM_TAG_LEN} bytes, not {}", tag.len())));
                }
                let key = self.gcm();
                // In place would take tag and ciphertext as one.
                key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut opened)
                    .map_err(|_| UseError::Tampered)?;
                opened.len()
            }
            Algorithm::AesCbc | Algorithm::AesCbcPad => {
                no_aad(algorithm, aad)?;
                if !tag.is_empty() {
                    return Err(wrong(Part::Tag, format!("{} has no tag", algorithm.as_str())));
                }
                check_blocks(Part::Ciphertext, ciphertext)?;
                let context = DecryptionContext::Iv128(block(iv)?);
                let plaintext = if algorithm == Algorithm::AesCbc {
                    DecryptingKey::cbc(self.cipher())?.decrypt(&mut opened, context)
                } else {
                    PaddedBlockDecryptingKey::cbc_pkcs7(self.cipher())?.decrypt(&mut opened, context)
                };
                plaintext.map_err(|_| UseError::Tampered)?.len()
            }
            _ => return Err(UseError::NotFitting),
        };
        opened.truncate(len);
        Ok(opened)
    }

    pub(super) fn wrap(&self, algorithm: Algorithm, key: &[u8]) -> Result<Vec<u8>, UseError> {
        let by = wrapping(algorithm)?;
        match by {
            KeyWrap::Exact if key.len() < 16 || !key.len().is_multiple_of(8) => Err(wrong(
                Part::Material,
                format!("aes-kw wraps keys of 16, 24, 32, … bytes, not {}; aes-kwp takes any length", key.len()),
            )),
            KeyWrap::Padded if key.is_empty() => Err(wrong(Part::Material, "there is nothing to wrap")),
            _ => lc::wrap_key(by, self.bytes(), key).ok_or(UseError::Failed),
        }
    }

    pub(super) fn unwrap(&self, algorithm: Algorithm, wrapped: &[u8]) -> Result<SecretBytes, UseError> {
        lc::unwrap_key(wrapping(algorithm)?, self.bytes(), wrapped).ok_or(UseError::Tampered)
    }

    pub(super) fn mac(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, UseError> {
        Ok(cmac::sign(&self.cmac(algorithm)?, message)?.as_ref().to_vec())
    }

    /// In constant time.
    pub(super) fn verify_mac(&self, algorithm: Algorithm, message: &[u8], mac: &[u8]) -> Result<bool, UseError> {
        Ok(cmac::verify(&self.cmac(algorithm)?, message, mac).is_ok())
    }

    fn gcm(&self) -> LessSafeKey {
        let algorithm = match self {
            Self::Aes128(_) => &AES_128_GCM,
            Self::Aes192(_) => &AES_192_GCM,
            Self::Aes256(_) => &AES_256_GCM,
        };
        LessSafeKey::new(UnboundKey::new(algorithm, self.bytes()).expect("the key is as long as its kind says"))
    }

    fn cipher(&self) -> UnboundCipherKey {
        let algorithm = match self {
            Self::Aes128(_) => &cipher::AES_128,
            Self::Aes192(_) => &cipher::AES_192,
            Self::Aes256(_) => &cipher::AES_256,
        };
        UnboundCipherKey::new(algorithm, self.bytes()).expect("the key is as long as its kind says")
    }

    fn cmac(&self, algorithm: Algorithm) -> Result<cmac::Key, UseError> {
        if algorithm != Algorithm::AesCmac {
            return Err(UseError::NotFitting);
        }
        let algorithm = match self {
            Self::Aes128(_) => cmac::AES_128,
            Self::Aes192(_) => cmac::AES_192,
            Self::Aes256(_) => cmac::AES_256,
        };
        Ok(cmac::Key::new(algorithm, self.bytes())?)
    }
}

fn iv_len(algorithm: Algorithm) -> Result<usize, UseError> {
    match algorithm {
        Algorithm::AesGcm => Ok(GCM_IV_LEN),
        Algorithm::AesCbc | Algorithm::AesCbcPad => Ok(BLOCK_LEN),
        _ => Err(UseError::NotFitting),
    }
}

fn fixed<const N: usize>(iv: &[u8]) -> Result<[u8; N], UseError> {
    iv.try_into().map_err(|_| wrong(Part::Iv, format!("the IV has {N} bytes, not {}", iv.len())))
}

fn block(iv: &[u8]) -> Result<FixedLength<BLOCK_LEN>, UseError> {
    fixed::<BLOCK_LEN>(iv).map(FixedLength::from)
}

fn check_blocks(part: Part, bytes: &[u8]) -> Result<(), UseError> {
    if bytes.len().is_multiple_of(BLOCK_LEN) {
        return Ok(());
    }
    let why = format!("{} must be whole blocks of {BLOCK_LEN} bytes, not {} bytes", part.as_str(), bytes.len());
    Err(wrong(part, why))
}

fn no_aad(algorithm: Algorithm, aad: &[u8]) -> Result<(), UseError> {
    if aad.is_empty() {
        return Ok(());
    }
    Err(wrong(Part::Context, format!("{} can't bind associated data; aes-gcm does", algorithm.as_str())))
}

fn wrapping(algorithm: Algorithm) -> Result<KeyWrap, UseError> {
    match algorithm {
        Algorithm::AesKw => Ok(KeyWrap::Exact),
        Algorithm::AesKwp => Ok(KeyWrap::Padded),
        _ => Err(UseError::NotFitting),
    }
}
