//! Page tokens: where the next page of a list begins, boxed for the caller to bring back, so that nothing is stored and any node
//! goes on (key-model §4.3). It opens for the list and the caller that it was made for, and for nobody else.
//!
//! ```text
//! token = ver u8 ‖ e u32 ‖ box(kdf(E_e, "page", [e u32], 32), "page-token", hdr = [L, list, caller], key of the last record)
//! ```

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{Epoch, Lineage};
use quorate_core::seam::Entropy;

use crate::boxes::{self, NotOpened};
use crate::kdf::{Label, derive};
use crate::keyring::Keyring;
use crate::secret::Secret;

const VERSION: u8 = 1;

/// For what a page token is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageOf<'a> {
    /// Identity of the data.
    pub lineage: Lineage,
    /// Of which list: its name.
    pub list: &'a str,
    /// Who asked, encoded.
    pub caller: &'a [u8],
}

impl PageOf<'_> {
    fn header(&self) -> Vec<u8> {
        Writer::new().field(&self.lineage.0).field(self.list.as_bytes()).field(self.caller).finish()
    }
}

fn key(epoch: Epoch, of_epoch: &Secret<32>) -> Secret<32> {
    derive(of_epoch.expose(), Label::Page, &Writer::new().u32(epoch.0).finish())
}

impl Keyring {
    /// Makes a token of the key of a page's last record.
    pub fn seal_page_token(&self, of: PageOf<'_>, last: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        let epoch = self.current_epoch();
        let key = key(epoch, self.epoch_key(epoch).expect("a keyring has its current epoch"));
        let clear = Writer::new().u8(VERSION).u32(epoch.0).finish();
        boxes::seal_onto(clear, &key, Label::PageToken, &of.header(), b"", last, entropy)
    }

    /// The key of the last record that is in a token.
    ///
    /// # Errors
    /// [`NotOpened`]: it is none, or of another list, caller or cluster, or its epoch is gone.
    pub fn open_page_token(&self, of: PageOf<'_>, token: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let mut r = Reader::new("page token", token);
        let epoch = match (r.u8(), r.u32()) {
            (Ok(VERSION), Ok(epoch)) => Epoch(epoch),
            (_, Ok(_) | Err(Malformed(_))) => return Err(NotOpened),
        };
        let key = key(epoch, self.epoch_key(epoch).ok_or(NotOpened)?);
        boxes::open(&key, Label::PageToken, &of.header(), b"", r.rest()).map(|last| last.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEntropy;

    const OF: PageOf<'static> = PageOf { lineage: Lineage([3; 16]), list: "keys", caller: b"alice" };

    fn keyring(seed: u64) -> Keyring {
        Keyring::generate(&Secret::from_array([4; 32]), &TestEntropy::new(seed))
    }

    #[test]
    fn a_page_token_opens_for_whom_it_was_made_and_only_whole() {
        let mut own = keyring(1);
        let token = own.seal_page_token(OF, b"last", &TestEntropy::new(2));
        assert_eq!((&token[..5], token.len()), (&[1, 0, 0, 0, 1][..], 5 + boxes::BOX_OVERHEAD + 4));
        own.begin_epoch(9, &Secret::from_array([4; 32]), &TestEntropy::new(5)).unwrap();
        assert_eq!(own.open_page_token(OF, &token).unwrap(), b"last", "of an earlier epoch, too");
        let others = [
            PageOf { lineage: Lineage([4; 16]), ..OF },
            PageOf { list: "aliases", ..OF },
            PageOf { caller: b"bob", ..OF },
            PageOf { list: "keysa", caller: b"lice", ..OF },
        ];
        for other in others {
            assert!(own.open_page_token(other, &token).is_err(), "{other:?}");
        }
        assert!(keyring(2).open_page_token(OF, &token).is_err(), "another cluster's");
        for i in 0..token.len() {
            let mut bad = token.clone();
            bad[i] ^= 1;
            assert!(own.open_page_token(OF, &bad).is_err(), "byte {i}");
            assert!(own.open_page_token(OF, &token[..i]).is_err(), "first {i}");
        }
        assert!(own.open_page_token(OF, &[&token[..], &[0]].concat()).is_err());
    }
}
