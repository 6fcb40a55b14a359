//! Why there is no certificate.

use std::path::PathBuf;

use quorate_core::principal::Role;
use quorate_hsm::HsmError;
use thiserror::Error;

/// Why a command of the cluster's certificate authority was refused or failed.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file of the authority can't be read or written.
    #[error("can't {doing} {path}: {source}")]
    Io {
        /// `read`, `write`, `make`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is an authority in the folder already.
    #[error("{0} holds a certificate authority already; name another folder (an authority is never overwritten)")]
    Exists(PathBuf),
    /// There is none in the folder.
    #[error("{0} holds no certificate authority; name the folder of `quorate pki init`")]
    NotFound(PathBuf),
    /// A file of the authority is not what it should be.
    #[error("{path} is damaged: {reason}; restore it from the backup of the authority's folder")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A newer version made it.
    #[error("{0} was made by a newer version of quorate; use that version")]
    Newer(PathBuf),
    /// The passphrase does not open the key.
    #[error("the passphrase does not open {0}")]
    Passphrase(PathBuf),
    /// Too short to protect a root.
    #[error(
        "the passphrase is too short: at least {0} characters, as whoever has the folder can try passphrases at leisure"
    )]
    PassphraseTooShort(usize),
    /// The key derivation failed.
    #[error("can't encrypt a private key: {0}")]
    Encrypt(String),
    /// A certificate could not be made.
    #[error("can't make the {what}: {reason}")]
    Make {
        /// What was made.
        what: &'static str,
        /// What the library said.
        reason: String,
    },
    /// Out of the permitted range.
    #[error("a certificate for {asked} days is not issued; 1 to {max} days are possible")]
    Days {
        /// Asked for.
        asked: u32,
        /// The most.
        max: u32,
    },
    /// The CA would expire before its certificate.
    #[error("the {0} CA expires before the certificate would; ask for fewer days, or make a new authority")]
    CaExpires(&'static str),
    /// Nodes get their certificates otherwise.
    #[error(
        "a {0} certificate is not made by `pki client`: a node's key is in its HSM; use `pki request` and `pki sign`"
    )]
    RoleIsNotAClient(Role),
    /// A node's name with a slash.
    #[error("the node name {0:?} must not contain '/'")]
    NodeName(String),
    /// An address no certificate can name.
    #[error(
        "{0:?} is not host:port with a DNS name or IP address that a certificate can name; correct api.advertise or peer.advertise"
    )]
    Address(String),
    /// The request file can't be used.
    #[error("the request is not usable: {0}; make it again with `quorate pki request`")]
    Request(String),
    /// The operator compared, and it differs.
    #[error(
        "the request has the fingerprint {found}, not the expected {expected}: it is not the one that the node made; do not sign it"
    )]
    Fingerprint {
        /// Given by the operator.
        expected: String,
        /// Of the request.
        found: String,
    },
    /// The machine's clock.
    #[error("the clock of this machine is out of range; set it")]
    Clock,
    /// The token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
}

impl PkiError {
    pub(super) fn make(what: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |e| Self::Make { what, reason: e.to_string() }
    }
}
