//! Private keys under a passphrase: age with scrypt, the only form in which they touch a disk.

use std::path::Path;

use age::secrecy::SecretString;
use zeroize::Zeroizing;

use super::PkiError;

/// Fewer characters than this protect nothing from somebody who has the folder.
const LEN_MIN: usize = 12;

/// A passphrase; wiped when dropped, printed nowhere.
pub struct Passphrase(SecretString);

impl Passphrase {
    /// A passphrase from its text; line ends are not part of it.
    ///
    /// # Errors
    /// Shorter than 12 characters.
    pub fn new(text: &Zeroizing<String>) -> Result<Self, PkiError> {
        let text = text.trim_end_matches(['\r', '\n']);
        if text.chars().count() < LEN_MIN {
            return Err(PkiError::PassphraseTooShort(LEN_MIN));
        }
        Ok(Self(SecretString::from(text.to_owned())))
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}

/// What one try of a passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkFactor {
    /// About a second on this machine: for what a person can remember.
    Human,
    /// Little: for a random passphrase of 128 bits or more, which no try finds.
    Random,
}

/// scrypt's log2(N) for random passphrases.
const RANDOM_LOG_N: u8 = 10;
/// The most that is taken from a file: 2^22 costs minutes and gigabytes.
const LOG_N_MAX: u8 = 22;

pub(super) fn encrypt(passphrase: &Passphrase, work: WorkFactor, plaintext: &[u8]) -> Result<Vec<u8>, PkiError> {
    let mut recipient = age::scrypt::Recipient::new(passphrase.0.clone());
    if work == WorkFactor::Random {
        recipient.set_work_factor(RANDOM_LOG_N);
    }
    age::encrypt(&recipient, plaintext).map_err(|e| PkiError::Encrypt(e.to_string()))
}

pub(super) fn decrypt(passphrase: &Passphrase, path: &Path, ciphertext: &[u8]) -> Result<Zeroizing<String>, PkiError> {
    let mut identity = age::scrypt::Identity::new(passphrase.0.clone());
    identity.set_max_work_factor(LOG_N_MAX);
    let damaged = |reason: String| PkiError::Damaged { path: path.to_owned(), reason };
    let plaintext = age::decrypt(&identity, ciphertext).map_err(|e| match e {
        age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed => {
            PkiError::Passphrase(path.to_owned())
        }
        age::DecryptError::NoMatchingKeys => damaged("it is not encrypted with a passphrase".into()),
        other => damaged(other.to_string()),
    })?;
    String::from_utf8(plaintext).map(Zeroizing::new).map_err(|_| damaged("it does not hold a key".into()))
}
