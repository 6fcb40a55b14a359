//! Material that clients bring and secrets that they are given: what they must be again, and what must be found nowhere.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use bytes::Bytes;
use quorate_client::v1::ImportMaterialRequest;

/// As many secrets of one kind are searched for: the search takes them all at once.
const SEARCHED_MAX: usize = 200;

/// What wraps the material of a key.
#[derive(Clone, Debug, Default)]
pub struct Wrapping {
    /// RSA: SubjectPublicKeyInfo, DER.
    pub public: Bytes,
    /// Comes with what is imported.
    pub token: Bytes,
}

impl Wrapping {
    /// The request that imports `material` into `key`, to be erased after so many seconds; 0 = never. A node refuses what could
    /// not be wrapped.
    pub fn request(self, key: &str, material: &[u8], seconds: u32) -> ImportMaterialRequest {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        ImportMaterialRequest {
            key: key.to_owned(),
            wrapped: self.wrapped(material).unwrap_or_default(),
            token: self.token,
            algorithm: "rsa-oaep-sha256".into(),
            expires_ms: Some(if seconds == 0 { 0 } else { now_ms + u64::from(seconds) * 1000 }),
            ..Default::default()
        }
    }

    fn wrapped(&self, material: &[u8]) -> Option<Bytes> {
        let public = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&self.public).ok()?).ok()?;
        let mut wrapped = vec![0; public.ciphertext_size()];
        let len = public.encrypt(&OAEP_SHA256_MGF1SHA256, material, &mut wrapped, None).ok()?.len();
        wrapped.truncate(len);
        Some(wrapped.into())
    }
}

/// Secrets that clients know.
#[derive(Default)]
pub struct Learned {
    /// Material that quorate made and let out, with the number that it has here.
    exported: BTreeMap<Bytes, u64>,
    data_keys: Vec<Bytes>,
}

impl Learned {
    /// Every imported material of the run with this seed begins so.
    pub fn canary(seed: u64) -> String {
        format!("jepsen-material-{:08x}", seed as u32)
    }

    /// The imported material of that number: an AES-256 key.
    pub fn imported(seed: u64, number: u64) -> Vec<u8> {
        [Self::canary(seed).as_bytes(), &number.to_be_bytes()].concat()
    }

    /// The number of a material that was let out; `fresh` gives one to what was never seen.
    pub fn number(&mut self, seed: u64, material: &Bytes, fresh: impl FnOnce() -> u64) -> u64 {
        let number = material.strip_prefix(Self::canary(seed).as_bytes()).and_then(|rest| rest.try_into().ok());
        number.map_or_else(|| *self.exported.entry(material.clone()).or_insert_with(fresh), u64::from_be_bytes)
    }

    /// A data key was given out.
    pub fn data_key(&mut self, plaintext: &Bytes) {
        if self.data_keys.len() < SEARCHED_MAX {
            self.data_keys.push(plaintext.clone());
        }
    }

    /// What quorate made and gave out, and what to call it.
    pub fn secrets(&self) -> Vec<(&'static str, Bytes)> {
        let exported = self.exported.keys().take(SEARCHED_MAX).map(|material| ("exported material", material.clone()));
        exported.chain(self.data_keys.iter().map(|plaintext| ("a data key", plaintext.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_material_keeps_its_number() {
        let mut learned = Learned::default();
        let seven = Bytes::from(Learned::imported(0x1_2345_6789, 7));
        assert_eq!(seven.len(), 32, "an AES-256 key");
        let mut next = 100;
        let mut number = |material: &Bytes| {
            learned.number(0x1_2345_6789, material, || {
                next += 1;
                next
            })
        };
        let (one, other) = (Bytes::from(vec![1; 32]), Bytes::from(vec![2; 32]));
        assert_eq!([&seven, &one, &other, &one].map(&mut number), [7, 101, 102, 101]);
        learned.data_key(&other);
        assert_eq!(learned.secrets().len(), 3, "the imported material is searched for as what all of them begin with");
    }

    #[test]
    fn what_can_not_be_wrapped_is_left_to_the_node() {
        let request = Wrapping::default().request("k", b"material", 0);
        assert!(request.wrapped.is_empty() && request.expires_ms == Some(0));
    }
}
