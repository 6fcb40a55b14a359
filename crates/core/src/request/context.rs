//! What is bound to a ciphertext.

use super::{CONTEXT_LEN_MAX, CONTEXT_PAIRS_MAX, InvalidRequest, Part};

/// Pairs that are bound to a ciphertext and not stored in it (the encryption context of AWS KMS; associated data). They are
/// no secret. Their order does not matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EncryptionContext(Vec<(String, String)>);

impl EncryptionContext {
    /// Checks the pairs.
    ///
    /// # Errors
    /// Too many, too long, an empty key, or one that stands twice.
    pub fn new(mut pairs: Vec<(String, String)>) -> Result<Self, InvalidRequest> {
        let wrong = |why: String| Err(InvalidRequest::wrong(Part::Context, why));
        if pairs.iter().any(|(key, _)| key.is_empty()) {
            return wrong("associated data has a pair without a key; give each as key=value".into());
        }
        if pairs.len() > CONTEXT_PAIRS_MAX {
            return wrong(format!("associated data has more than {CONTEXT_PAIRS_MAX} pairs, which is the limit"));
        }
        let len = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        if len > CONTEXT_LEN_MAX {
            return Err(InvalidRequest::TooLarge { part: Part::Context, len, max: CONTEXT_LEN_MAX });
        }
        // `str` is ordered by its UTF-8 bytes.
        pairs.sort_unstable();
        if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return wrong("the encryption context has the same key twice: give each key once".into());
        }
        Ok(Self(pairs))
    }

    /// The pairs, by the bytes of their keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
