//! Import tokens: the private key that unwraps material to be imported, boxed for the caller to bring back, so that nothing is
//! stored and any node takes it (key-model §5.4).
//!
//! ```text
//! token = ver u8 ‖ e u32 ‖ key id 16 ‖ wrapping spec u16 ‖ expires_ms u64
//!         ‖ box(kdf(E_e, "import", [e u32], 32), "import-token", hdr = [L, key id, wrapping spec u16, expires_ms u64], PKCS#8)
//! ```

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::decide::TokenFor;
use quorate_core::id::{Epoch, KeyId, Lineage};
use quorate_core::key_spec::KeySpec;
use quorate_core::seam::Entropy;

use crate::boxes::{self, NotOpened};
use crate::kdf::{Label, derive};
use crate::keyring::Keyring;
use crate::secret::{Secret, SecretBytes};

const VERSION: u8 = 1;
const WHAT: &str = "import token";

/// Longest import token, in bytes: one with an RSA-4096 key takes about 2500.
pub const IMPORT_TOKEN_LEN_MAX: usize = 3 * 1024;

/// An import token as it says of itself what it is; only opening it shows whether that is so.
pub struct ImportToken {
    epoch: Epoch,
    wrapping: KeySpec,
    of: TokenFor,
    boxed: Vec<u8>,
}

impl ImportToken {
    /// Reads one.
    ///
    /// # Errors
    /// When it has not that form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed(WHAT);
        let mut r = Reader::new(WHAT, bytes);
        if bytes.len() > IMPORT_TOKEN_LEN_MAX || r.u8()? != VERSION {
            return Err(BAD);
        }
        let (epoch, key) = (Epoch(r.u32()?), KeyId(r.array()?));
        let wrapping = KeySpec::from_code(r.u16()?).ok_or(BAD)?;
        let of = TokenFor { key, expires_ms: r.u64()? };
        Ok(Self { epoch, wrapping, of, boxed: r.rest().to_vec() })
    }

    /// The kind of the wrapping key.
    pub fn wrapping(&self) -> KeySpec {
        self.wrapping
    }
    /// For what it was made.
    pub fn of(&self) -> TokenFor {
        self.of
    }
}

fn key(epoch: Epoch, of_epoch: &Secret<32>) -> Secret<32> {
    derive(of_epoch.expose(), Label::Import, &Writer::new().u32(epoch.0).finish())
}

fn header(lineage: Lineage, of: TokenFor, wrapping: KeySpec) -> Vec<u8> {
    Writer::new().field(&lineage.0).field(&of.key.0).u16(wrapping.code()).u64(of.expires_ms).finish()
}

impl Keyring {
    /// Makes a token of the private half of a wrapping key, PKCS#8.
    pub fn seal_import_token(
        &self,
        lineage: Lineage,
        of: TokenFor,
        wrapping: KeySpec,
        pkcs8: &[u8],
        entropy: &dyn Entropy,
    ) -> Vec<u8> {
        let epoch = self.current_epoch();
        let key = key(epoch, self.epoch_key(epoch).expect("a keyring has its current epoch"));
        let clear = Writer::new().u8(VERSION).u32(epoch.0).raw(&of.key.0).u16(wrapping.code()).u64(of.expires_ms);
        let hdr = header(lineage, of, wrapping);
        boxes::seal_onto(clear.finish(), &key, Label::ImportToken, &hdr, b"", pkcs8, entropy)
    }

    /// The private key in a token.
    ///
    /// # Errors
    /// [`NotOpened`]: it is another cluster's, or was changed, or its epoch is gone.
    pub fn open_import_token(&self, lineage: Lineage, token: &ImportToken) -> Result<SecretBytes, NotOpened> {
        let key = key(token.epoch, self.epoch_key(token.epoch).ok_or(NotOpened)?);
        boxes::open(&key, Label::ImportToken, &header(lineage, token.of, token.wrapping), b"", &token.boxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEntropy;

    const LINEAGE: Lineage = Lineage([3; 16]);

    fn keyring(seed: u64) -> Keyring {
        Keyring::generate(&Secret::from_array([4; 32]), &TestEntropy::new(seed))
    }
    fn opened(keyring: &Keyring, lineage: Lineage, token: &[u8]) -> Option<Vec<u8>> {
        let token = ImportToken::parse(token).ok()?;
        keyring.open_import_token(lineage, &token).ok().map(|pkcs8| pkcs8.to_vec())
    }

    #[test]
    fn a_token_opens_where_it_was_made_and_only_whole() {
        let mut own = keyring(1);
        let of = TokenFor { key: KeyId([7; 16]), expires_ms: 0x0102 };
        let token = own.seal_import_token(LINEAGE, of, KeySpec::Rsa3072, b"private", &TestEntropy::new(2));
        let clear = [&[1, 0, 0, 0, 1][..], &[7; 16], &[0, 33, 0, 0, 0, 0, 0, 0, 1, 2]].concat();
        assert_eq!((&token[..clear.len()], token.len()), (&clear[..], clear.len() + boxes::BOX_OVERHEAD + 7));
        let read = ImportToken::parse(&token).unwrap();
        assert_eq!((read.of(), read.wrapping()), (of, KeySpec::Rsa3072));
        own.begin_epoch(9, &Secret::from_array([4; 32]), &TestEntropy::new(5)).unwrap();
        assert_eq!(opened(&own, LINEAGE, &token).as_deref(), Some(&b"private"[..]), "of an earlier epoch, too");
        assert_eq!(opened(&keyring(2), LINEAGE, &token), None, "another cluster's");
        assert_eq!(opened(&own, Lineage([4; 16]), &token), None, "before the state was put back");
        for i in 0..token.len() {
            let mut bad = token.clone();
            bad[i] ^= 1;
            assert_eq!(opened(&own, LINEAGE, &bad), None, "byte {i}");
            assert_eq!(opened(&own, LINEAGE, &token[..i]), None, "first {i}");
        }
        assert_eq!(opened(&own, LINEAGE, &[&token[..], &[0]].concat()), None);
        assert!(ImportToken::parse(&vec![1; IMPORT_TOKEN_LEN_MAX + 1]).is_err());
    }
}
