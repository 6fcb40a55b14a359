//! Decrypt what any version of a key encrypted. A blob names its key; for what other algorithms made, the caller does.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable, Want};
use quorate_core::action::Action;
use quorate_core::id::KeyVersion;
use quorate_core::key_spec::{Algorithm, Usage};
use quorate_core::request::{EXPECTED_KEYS_MAX, InvalidRequest, KeyHandle, PLAINTEXT_LEN_MAX, Part};
use quorate_crypto::SecretBytes;
use quorate_crypto::material::symmetric::{BLOB_OVERHEAD, BlobHeader, ContextHash, decrypt};
use quorate_crypto::material::{BLOCK_LEN, Encrypted, GCM_IV_LEN, GCM_TAG_LEN, Material};

use super::encrypt::Binding;
use super::{By, NOT_FITTING, Used, failed};
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Decrypts a ciphertext, to which something may be bound.
///
/// Refused, before any cryptography: [`Error::WrongLineage`], a key that is wrong, unknown, not for that, or in the wrong state;
/// after it only [`Error::Tampered`].
pub struct Decrypt {
    form: Form,
    ciphertext: Bytes,
    bound: Binding,
}

/// What is to be decrypted.
enum Form {
    /// A blob, of one of the keys that are expected, if any are.
    Blob { header: BlobHeader, expected: Vec<KeyHandle> },
    /// What another algorithm made under that key; what is apart of it stands here.
    Standard { by: By, iv: Bytes, tag: Bytes },
}

/// A ciphertext as it is given.
#[derive(Default)]
pub struct Given {
    /// The blob; or the ciphertext, with the IV before and the tag after it, unless they are apart.
    pub ciphertext: Bytes,
    /// The IV, if it is apart.
    pub iv: Bytes,
    /// The tag, if it is apart.
    pub tag: Bytes,
    /// What was bound to it.
    pub bound: Binding,
    /// Of a blob: the only keys that are expected, if there are any. Else: the one key that made it.
    pub keys: Vec<KeyHandle>,
    /// By which version of the key, if that is no blob; none = the current one.
    pub version: Option<KeyVersion>,
    /// By which algorithm; none = a blob, or the key's default.
    pub algorithm: Option<Algorithm>,
}

/// A plaintext, wiped when dropped, and what had encrypted it.
pub struct Plaintext {
    /// The bytes.
    pub plaintext: SecretBytes,
    /// What had encrypted them.
    pub used: Used,
}

impl Decrypt {
    /// Reads what the ciphertext says of itself.
    ///
    /// # Errors
    /// When it is too long; no blob of ours, and no key is named that could have made it otherwise.
    pub fn new(given: Given) -> Result<Self, InvalidRequest> {
        const MAX: usize = PLAINTEXT_LEN_MAX + BLOB_OVERHEAD;
        let Given { ciphertext, iv, tag, bound, keys, version, algorithm } = given;
        let wrong = |part, why: String| Err(InvalidRequest::wrong(part, why));
        if ciphertext.len() > MAX {
            return Err(InvalidRequest::TooLarge { part: Part::Ciphertext, len: ciphertext.len(), max: MAX });
        }
        if keys.len() > EXPECTED_KEYS_MAX {
            return wrong(Part::Key, format!("at most {EXPECTED_KEYS_MAX} keys can be expected, not {}", keys.len()));
        }
        let is_standard = algorithm.is_some_and(|by| by != Algorithm::Blob);
        let header = if is_standard { None } else { Some(BlobHeader::parse(&ciphertext)) };
        let form = match (header, &keys[..]) {
            (Some(Ok(header)), _) if version.is_some_and(|version| version != header.version) => {
                let why = format!(
                    "version {} made this ciphertext, as it says itself; name that one, or none",
                    header.version
                );
                return wrong(Part::Version, why);
            }
            (Some(Ok(_)), _) if !iv.is_empty() => return wrong(Part::Iv, "this ciphertext has its IV inside".into()),
            (Some(Ok(_)), _) if !tag.is_empty() => {
                return wrong(Part::Tag, "this ciphertext has its tag inside".into());
            }
            (Some(Ok(header)), _) => Form::Blob { header, expected: keys },
            (Some(Err(e)), _) if algorithm.is_some() || keys.len() != 1 => {
                let why = format!("this is no ciphertext that quorate made ({e}); give the whole of one");
                return wrong(Part::Ciphertext, why);
            }
            (_, [key]) => {
                let by = By { key: key.clone(), version, algorithm };
                Form::Standard { by, iv, tag }
            }
            (_, _) => return wrong(Part::Key, "name the one key that made this ciphertext: it does not".into()),
        };
        Ok(Self { form, ciphertext, bound })
    }
}

impl Decrypt {
    /// The header of the blob that this is of.
    ///
    /// # Errors
    /// When it is of none.
    pub(super) fn header(self) -> Result<BlobHeader, InvalidRequest> {
        match self.form {
            Form::Blob { header, .. } => Ok(header),
            Form::Standard { .. } => Err(InvalidRequest::wrong(Part::Ciphertext, "this names no key")),
        }
    }
}

impl Use for Decrypt {
    type Facts = Usable<Arc<Material>>;
    type Answer = Plaintext;

    fn action(&self) -> Action {
        Action::Decrypt
    }

    fn check(&self, tools: &Tools) -> Result<(), Error> {
        match &self.form {
            Form::Blob { header, .. } if !header.is_of(&tools.lineage) => Err(Error::WrongLineage),
            Form::Blob { .. } => Ok(self.bound.check(Algorithm::Blob)?),
            Form::Standard { .. } => Ok(()),
        }
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        match &self.form {
            Form::Blob { header, expected } => {
                let want = Want { algorithm: Some(Algorithm::Blob), ..Want::new(Usage::Decrypt) };
                at.opens(header.key_id, header.version, expected, want)
            }
            Form::Standard { by, .. } => at.usable(&by.key, by.want(Usage::Decrypt)),
        }
    }

    fn is_slow(&self, usable: &Self::Facts) -> bool {
        usable.material.is_slow()
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Plaintext, Error> {
        let used = Used::of(&usable);
        self.bound.check(used.algorithm)?;
        let plaintext = match &self.form {
            Form::Standard { iv, tag, .. } if used.algorithm != Algorithm::Blob => {
                let encrypted = apart(used.algorithm, &self.ciphertext, iv, tag)?;
                usable.material.decrypt(used.algorithm, &encrypted, &self.bound.aad).map_err(failed)?
            }
            Form::Standard { .. } => {
                let why = "this is no ciphertext that quorate made, and the key named makes no others";
                return Err(InvalidRequest::wrong(Part::Ciphertext, why).into());
            }
            Form::Blob { .. } => {
                let material = usable.material.symmetric().ok_or(NOT_FITTING)?;
                let context = ContextHash::of(&self.bound.context);
                decrypt(material, &context, &self.ciphertext).map_err(|_| Error::Tampered)?
            }
        };
        Ok(Plaintext { plaintext, used })
    }
}

/// The parts of a ciphertext: what is not given apart stands before and after it.
fn apart(by: Algorithm, ciphertext: &[u8], iv: &[u8], tag: &[u8]) -> Result<Encrypted, InvalidRequest> {
    let (iv_len, tag_len) = match by {
        Algorithm::AesGcm => (GCM_IV_LEN, GCM_TAG_LEN),
        Algorithm::AesCbc | Algorithm::AesCbcPad => (BLOCK_LEN, 0),
        _ => (0, 0),
    };
    let (before, after) = (if iv.is_empty() { iv_len } else { 0 }, if tag.is_empty() { tag_len } else { 0 });
    if ciphertext.len() < before + after {
        let why = format!("a ciphertext by {} has an IV and a tag; this one is too short for them", by.as_str());
        return Err(InvalidRequest::wrong(Part::Ciphertext, why));
    }
    let (head, rest) = ciphertext.split_at(before);
    let (body, tail) = rest.split_at(rest.len() - after);
    let given = |given: &[u8], within: &[u8]| if given.is_empty() { within.to_vec() } else { given.to_vec() };
    Ok(Encrypted { iv: given(iv, head), ciphertext: body.to_vec(), tag: given(tag, tail) })
}
