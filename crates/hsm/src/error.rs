//! What can go wrong with a token, told so that an operator knows what to do.

use std::path::PathBuf;

use cryptoki::context::Function;
use cryptoki::error::{Error as Pkcs11Error, RvError};
use thiserror::Error;

/// Why the token did not do what it was asked.
#[derive(Debug, Error)]
pub enum HsmError {
    /// The module needs a variable that this process does not have.
    #[error("the HSM's environment variable {variable} {reason}")]
    Environment {
        /// The variable.
        variable: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The PKCS#11 library can't be loaded or does not start.
    #[error(
        "can't load the PKCS#11 module {module}: {reason}; check hsm.module and that the vendor's software is installed"
    )]
    ModuleNotLoadable {
        /// The library.
        module: PathBuf,
        /// What the loader or C_Initialize said.
        reason: String,
    },
    /// No token has this label.
    #[error(
        "no token is labelled {label:?}; the module shows {}; check hsm.token_label, hsm.environment and that the token is connected and initialised",
        list(seen)
    )]
    TokenAbsent {
        /// The label asked for.
        label: String,
        /// The labels of the initialised tokens that are there.
        seen: Vec<String>,
    },
    /// Several tokens have this label.
    #[error("{count} tokens are labelled {label:?}; give each token its own label")]
    TokenAmbiguous {
        /// The label asked for.
        label: String,
        /// How many have it.
        count: usize,
    },
    /// The token's user PIN was never set.
    #[error("the token {label:?} has no user PIN yet; initialise it with the vendor's tool")]
    PinNotInitialised {
        /// The token.
        label: String,
    },
    /// The PIN can't be this token's PIN; it was not tried.
    #[error(
        "the PIN given for the token {label:?} has {length} bytes, the token takes {min} to {max}; it was not tried; correct the PIN"
    )]
    PinLength {
        /// The token.
        label: String,
        /// Length of the PIN given.
        length: usize,
        /// Shortest the token takes.
        min: usize,
        /// Longest the token takes.
        max: usize,
    },
    /// The token refused the PIN. It is not tried again by this process.
    #[error("the token {label:?} refused the PIN{}; it is not tried again; correct the PIN, then start again", tries_left(*last_try))]
    PinWrong {
        /// The token.
        label: String,
        /// The token says that one more wrong PIN locks it.
        last_try: bool,
    },
    /// The token says that a wrong PIN would lock it, so that none is tried.
    #[error(
        "one more wrong PIN would lock the token {label:?}, so it was not tried; log in once with the vendor's tool and the right PIN, then start again"
    )]
    PinFinalTry {
        /// The token.
        label: String,
    },
    /// The user PIN is locked.
    #[error(
        "the user PIN of the token {label:?} is locked after too many wrong tries; have the security officer set it again with the vendor's tool"
    )]
    PinLocked {
        /// The token.
        label: String,
    },
    /// The token has no such key.
    #[error(
        "the token holds no key {label:?}{}: the node's keys were not made in it, or another token has them",
        with_id(id)
    )]
    KeyMissing {
        /// Its label.
        label: String,
        /// Its CKA_ID in hex, when one certain key was asked for.
        id: Option<String>,
    },
    /// Several keys have the label and none was named.
    #[error("the token holds {} keys {label:?} ({}); name one by its id, or destroy those that are not in use", ids.len(), ids.join(", "))]
    KeyAmbiguous {
        /// Their label.
        label: String,
        /// Their CKA_IDs in hex.
        ids: Vec<String>,
    },
    /// The key is there, but not what it was.
    #[error(
        "the key {label:?} in the token is damaged: {reason}; restore the token from its backup, or replace the node"
    )]
    KeyDamaged {
        /// Its label.
        label: String,
        /// What does not fit.
        reason: String,
    },
    /// A key attribute has a value that makes the key unsafe or useless.
    #[error(
        "the key {label:?} in the token has {attribute} = {found}, but it must be {expected}: it can't be relied on to exist only in this token; make new node keys"
    )]
    AttributeWrong {
        /// Its label.
        label: String,
        /// The PKCS#11 attribute.
        attribute: &'static str,
        /// The value it must have.
        expected: &'static str,
        /// The value it has.
        found: String,
    },
    /// A data object is there whose value the token does not tell.
    #[error("the token does not tell the value of its data object {label:?}; destroy it with the vendor's tool")]
    DataUnreadable {
        /// Its label.
        label: String,
    },
    /// There is a key already, of another kind than asked for.
    #[error(
        "the token already holds a key {label:?} for {found}, not {asked}; use it, or destroy it with the vendor's tool"
    )]
    KeyExists {
        /// Its label.
        label: String,
        /// What it can do.
        found: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// The token can't do any algorithm that quorate needs.
    #[error("the token {label:?} can't do {what}; use another token")]
    Unsupported {
        /// The token.
        label: String,
        /// What it can't do.
        what: String,
    },
    /// OAEP with SHA-1 without the profile that permits it.
    #[error("rsa3072-oaep-sha1 is only for SoftHSM: ask for p256-ecdh, or set the token profile softhsm")]
    Sha1NotAllowed,
    /// The node's keys were not loaded before one was used.
    #[error("the node's keys are not loaded from the token")]
    KeysNotLoaded,
    /// The token, working otherwise, does not open what it was given.
    #[error(
        "the token does not open this ciphertext ({reason}): it was not made for this token's key, or it was altered"
    )]
    Refused {
        /// What the token or our own check said.
        reason: String,
    },
    /// A request that can't be sent to a token.
    #[error("invalid request to the token: {0}")]
    Invalid(String),
    /// The token failed, and did not recover.
    #[error("the token failed in {operation}: {reason}; check its connection and the vendor's log")]
    Token {
        /// The PKCS#11 function.
        operation: String,
        /// The PKCS#11 return value.
        reason: String,
    },
    /// The self test found the token to compute wrongly.
    #[error("the token fails its self test: {0}; do not use it")]
    SelfTest(&'static str),
    /// Too many calls wait for the token.
    #[error("too many calls wait for the token; try again")]
    Busy,
    /// The token did not answer in time.
    #[error("the token did not answer in time; check its connection")]
    TimedOut,
    /// The thread that owns the session is gone.
    #[error("the HSM thread has stopped; restart the node")]
    Stopped,
}

impl HsmError {
    /// Every [`HsmError::word`].
    pub const WORDS: [&str; 10] =
        ["setup", "absent", "pin", "key", "data", "refused", "token", "busy", "timed-out", "stopped"];

    /// For machines, as metrics count errors: one of a few words.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Environment { .. }
            | Self::ModuleNotLoadable { .. }
            | Self::Unsupported { .. }
            | Self::Sha1NotAllowed
            | Self::Invalid(_) => "setup",
            Self::TokenAbsent { .. } | Self::TokenAmbiguous { .. } => "absent",
            Self::PinNotInitialised { .. }
            | Self::PinLength { .. }
            | Self::PinWrong { .. }
            | Self::PinFinalTry { .. }
            | Self::PinLocked { .. } => "pin",
            Self::KeyMissing { .. }
            | Self::KeyAmbiguous { .. }
            | Self::KeyDamaged { .. }
            | Self::AttributeWrong { .. }
            | Self::KeyExists { .. }
            | Self::KeysNotLoaded => "key",
            Self::DataUnreadable { .. } => "data",
            Self::Refused { .. } => "refused",
            Self::Token { .. } | Self::SelfTest(_) => "token",
            Self::Busy => "busy",
            Self::TimedOut => "timed-out",
            Self::Stopped => "stopped",
        }
    }
    /// Whether it says nothing about the token's keys: the token was slow, and may do the same well the next time.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Busy | Self::TimedOut)
    }
}

fn list(seen: &[String]) -> String {
    if seen.is_empty() { "no initialised token".into() } else { format!("{seen:?}") }
}

fn tries_left(last_try: bool) -> &'static str {
    if last_try { ", and one more wrong PIN locks it" } else { "" }
}

fn with_id(id: &Option<String>) -> String {
    id.as_ref().map(|id| format!(" with id {id}")).unwrap_or_default()
}

/// A failed PKCS#11 call, before it is known whether the token recovers.
pub(crate) enum Failure {
    /// The library's own word.
    Pkcs11(Pkcs11Error),
    /// Already told.
    Told(HsmError),
}

impl From<Pkcs11Error> for Failure {
    fn from(e: Pkcs11Error) -> Self {
        Self::Pkcs11(e)
    }
}

impl From<HsmError> for Failure {
    fn from(e: HsmError) -> Self {
        Self::Told(e)
    }
}

impl From<Failure> for HsmError {
    fn from(f: Failure) -> Self {
        match f {
            Failure::Told(e) => e,
            Failure::Pkcs11(e) => e.into(),
        }
    }
}

impl From<Pkcs11Error> for HsmError {
    fn from(e: Pkcs11Error) -> Self {
        match e {
            // RvError's Display is the standard's paragraph; its Debug is the name an operator can look up.
            Pkcs11Error::Pkcs11(rv, function) => {
                Self::Token { operation: format!("C_{}", name(function)), reason: format!("{rv:?}") }
            }
            other => Self::Token { operation: "the PKCS#11 library".into(), reason: other.to_string() },
        }
    }
}

fn name(function: Function) -> String {
    format!("{function:?}")
}

impl Failure {
    /// Whether a new session (after a login) may cure it. Tokens report a lost object or device in many ways
    /// (dependencies.md §4), so that everything that does not clearly speak of our arguments counts.
    pub(crate) fn may_be_cured(&self) -> bool {
        let Self::Pkcs11(Pkcs11Error::Pkcs11(rv, _)) = self else { return false };
        matches!(
            rv,
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::ObjectHandleInvalid
                | RvError::KeyHandleInvalid
                | RvError::DeviceError
                | RvError::DeviceMemory
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent
                | RvError::TokenNotRecognized
                | RvError::SlotIdInvalid
                | RvError::UserNotLoggedIn
                | RvError::GeneralError
                | RvError::FunctionFailed
                | RvError::OperationActive
                | RvError::OperationNotInitialized
                | RvError::CryptokiNotInitialized
        )
    }
}
