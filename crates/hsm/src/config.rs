//! What an operator says about a token, and its PIN.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use quorate_crypto::Secret;
use zeroize::Zeroizing;

/// Which token, and how to reach it (`hsm.*` in the node's configuration).
#[derive(Debug, Clone)]
pub struct HsmConfig {
    /// The vendor's PKCS#11 library.
    pub module: PathBuf,
    /// CKA label of the token. Slots are searched by label, never by number: slot numbers move.
    pub token_label: String,
    /// Variables the module must find when it starts (SoftHSM finds its tokens by `SOFTHSM2_CONF`). They are set by
    /// [`crate::set_environment`] before the process starts threads; [`crate::Hsm::open`] only checks them.
    pub environment: BTreeMap<String, String>,
    /// What is known of the token beyond what it says itself.
    pub profile: TokenProfile,
    /// How long one call may wait for the token before the caller is told so.
    pub deadline: Duration,
}

impl HsmConfig {
    /// The deadline of one token call unless configured: above the slowest network HSM, below a client's patience.
    pub const DEADLINE: Duration = Duration::from_secs(5);
}

/// What is known of a token beyond what it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenProfile {
    /// Only the algorithms every auditor accepts.
    #[default]
    Standard,
    /// SoftHSM2: OAEP with SHA-1 may be asked for by name, as SoftHSM knows no other OAEP (key-hierarchy §4.2).
    SoftHsm,
}

/// The user PIN of a token, kept for as long as its session may have to be opened again; printed nowhere.
pub struct Pin {
    bytes: Secret<{ Pin::LEN_MAX }>,
    len: usize,
}

impl Pin {
    /// The longest PIN, in bytes: more than any token takes.
    pub const LEN_MAX: usize = 256;

    /// A PIN from the bytes of its file or prompt; the line end is not part of it. `None`: it is too long to be one.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        let len = bytes.iter().rposition(|&b| b != b'\n' && b != b'\r').map_or(0, |i| i + 1);
        let mut padded = Zeroizing::new([0; Self::LEN_MAX]);
        padded.get_mut(..len)?.copy_from_slice(&bytes[..len]);
        Some(Self { bytes: Secret::from_slice(&*padded)?, len })
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.bytes.expose()[..self.len]
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_loses_its_line_end_and_nothing_else() {
        for (given, kept) in
            [("1234\n", "1234"), ("1234\r\n", "1234"), ("1234", "1234"), (" 12 34 ", " 12 34 "), ("\n", ""), ("", "")]
        {
            let pin = Pin::new(Zeroizing::new(given.as_bytes().to_vec())).expect("short enough");
            assert_eq!(pin.expose(), kept.as_bytes(), "{given:?}");
        }
        assert_eq!(format!("{:?}", Pin::new(Zeroizing::new(b"1234".to_vec()))), "Some(Pin)");
    }

    #[test]
    fn a_file_that_is_no_pin_is_refused() {
        assert_eq!(Pin::new(Zeroizing::new(vec![b'1'; 256])).expect("the longest").expose().len(), 256);
        assert!(Pin::new(Zeroizing::new(vec![b'1'; 257])).is_none());
    }
}
