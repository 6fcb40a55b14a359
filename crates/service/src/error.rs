//! The one outward error: what happened, why, what to do next; each door translates its [`Reason`] once, in one
//! exhaustive `match`, so that a new reason fails to compile until every door has words for it.

use quorate_core::authorize::{Denied, ReadStatus, authorize};
use quorate_core::decide::Refusal;
use quorate_core::id::ClusterId;
use quorate_core::lifecycle::VersionState;
use quorate_core::principal::Principal;
use quorate_core::record::Exportable;
use quorate_core::request::{InvalidRequest, ObjectName, Part};
use quorate_replica::{Problem, Quorum};
use thiserror::Error as ThisError;

pub use crate::reason::Reason;

/// Why a request was refused or failed. Messages hold no secret.
#[derive(Clone, PartialEq, Eq, Debug, ThisError)]
pub enum Error {
    /// The caller is nobody this cluster knows.
    #[error("not authenticated: {0}")]
    Unauthenticated(String),
    /// The caller may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// No genesis yet.
    #[error("this node belongs to no cluster yet: found one on it, or let it join one")]
    Uninitialized,
    /// Genesis has already happened.
    #[error(
        "already initialized: this node is part of cluster {0}; nothing was changed (only if the answer of that init, with \
         the shares, reached nobody: nothing can ever have been kept in it; stop the node, move its data_dir away, and \
         init again)"
    )]
    AlreadyInitialized(ClusterId),
    /// Custodians have to unseal first.
    #[error("this node is sealed, so it can't use keys: custodians unseal it; or ask another node")]
    Sealed,
    /// The node found its own data damaged: what, and what to do.
    #[error("this node is damaged: {0}")]
    Damaged(String),
    /// A newer version wrote what this node would have to read: what.
    #[error("this node is too old: there is a {0} of a newer version in its state; upgrade this node, or ask another")]
    Newer(&'static str),
    /// The node met what another version wrote, and has stopped before it: what, and which version is needed.
    #[error("{0}")]
    UpgradeNeeded(String),
    /// The request itself is wrong: what, and what is expected.
    #[error("{0}")]
    InvalidArgument(String),
    /// A part of the request can't be what was meant, or is too long.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// A thing other than a key or an alias does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A thing other than a key or an alias exists already.
    #[error("{0}")]
    AlreadyExists(String),
    /// A thing other than a key is in a state in which this can't be done.
    #[error("{0}")]
    WrongState(String),
    /// A decision about keys or aliases went against the request.
    #[error(transparent)]
    Refused(Refusal),
    /// The ciphertext is of another lineage.
    #[error("the ciphertext comes from another quorate (its lineage differs); ask the cluster that made it")]
    WrongLineage,
    /// Ciphertext or associated data differ from what was encrypted.
    #[error("the ciphertext can't be decrypted: it, or the associated data given with it, is not what was encrypted")]
    Tampered,
    /// A share was refused: why, and what to do.
    #[error("{0}")]
    ShareRefused(String),
    /// An invitation was refused: why, and what to do.
    #[error("{0}")]
    InvitationRefused(String),
    /// Too many failures, or too much load.
    #[error("{0}")]
    Busy(String),
    /// Too few nodes have disk space to store a change: which have not.
    #[error(
        "no change can be stored now: {0}; nothing was changed, and keys can be used meanwhile. Make room on those disks, \
         and try again: the cluster goes on by itself"
    )]
    NoSpace(String),
    /// Decided again too often.
    #[error(
        "others kept changing what this request depends on, {attempts} attempts conflicted; nothing was changed, try again"
    )]
    Contended {
        /// How often it was decided.
        attempts: u32,
    },
    /// It may or may not have happened.
    #[error(
        "the cluster did not confirm in time, so the change may or may not have happened; look before you repeat it, or repeat it with the same token"
    )]
    UnknownOutcome,
    /// A change of several steps has taken its first one, and has not come to its end.
    #[error("{what} was begun and is not finished: {why}; do it again, it goes on where it stopped")]
    Begun {
        /// The change.
        what: String,
        /// What stopped it.
        why: String,
    },
    /// The cluster can't answer now; nothing was changed.
    #[error("the cluster can't answer now: {0}; nothing was changed, try again")]
    Unavailable(String),
    /// There has been no majority of the voters, or none that leads, for longer than elections take.
    #[error("{0}; nothing was changed{then}", then = then(&.0.remedy()))]
    NoMajority(Quorum),
    /// A fault in quorate itself.
    #[error("internal fault: {0}; please report it")]
    Internal(&'static str),
}

fn then(todo: &str) -> String {
    if todo.is_empty() { String::new() } else { format!(". To do: {todo}") }
}

/// Why a node has stopped serving, and can't go on by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It is damaged: what is wrong, and what to do.
    Damaged(String),
    /// It is whole, and another version is needed: which, and why.
    UpgradeNeeded(String),
}

impl Fault {
    /// What is wrong, and what to do.
    pub(crate) fn what(&self) -> &str {
        match self {
            Self::Damaged(what) | Self::UpgradeNeeded(what) => what,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(what) => Self::Damaged(what),
            Fault::UpgradeNeeded(what) => Self::UpgradeNeeded(what),
        }
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::UpgradeNeeded(_) => Self::UpgradeNeeded(problem.to_string()),
            problem => Self::Damaged(problem.to_string()),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denied) => Self::Denied(denied),
            Refusal::NotAdmitted(why) => Self::Unauthenticated(why.to_string()),
            refusal => Self::Refused(refusal),
        }
    }
}

impl Error {
    /// What stopped `what` after its first step: whatever this error says of itself, something was changed then.
    pub(crate) fn begun(self, what: impl Into<String>) -> Self {
        let why = match self {
            Self::Unavailable(why) => why,
            Self::NoSpace(why) => format!("too few nodes have disk space ({why})"),
            Self::NoMajority(quorum) => format!("{quorum}{}", then(&quorum.remedy())),
            Self::Contended { .. } => "others kept changing what it depends on".into(),
            Self::UnknownOutcome => "the cluster did not confirm a step in time".into(),
            begun @ Self::Begun { .. } => return begun,
            other => other.to_string(),
        };
        Self::Begun { what: what.into(), why }
    }

    /// The same of the secret of that name, in the words that secrets have.
    pub fn of_secret(self, name: &ObjectName) -> Self {
        match self {
            Self::Refused(why) => Self::Refused(Refusal::OfSecret { name: name.clone(), why: Box::new(why) }),
            other => other,
        }
    }

    /// As `who` is told it: which members there are, whoever may read the status knows, and nobody else.
    pub(crate) fn told_to(self, who: &Principal) -> Self {
        match self {
            named @ (Self::NoMajority(_) | Self::NoSpace(_)) if authorize::<ReadStatus>(who).is_ok() => named,
            Self::NoMajority(quorum) => Self::NoMajority(quorum.unnamed()),
            Self::NoSpace(_) => Self::NoSpace("too few nodes have disk space".into()),
            other => other,
        }
    }

    /// The part of the request that is wrong, where one is.
    pub fn part(&self) -> Option<Part> {
        match self {
            Self::Invalid(invalid) => Some(invalid.part()),
            Self::Refused(refusal) => refusal.part(),
            Self::WrongLineage | Self::Tampered => Some(Part::Ciphertext),
            _ => None,
        }
    }

    /// The machine-readable half.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unauthenticated(_) => Reason::Unauthenticated,
            Self::Denied(_) => Reason::Denied,
            Self::Uninitialized => Reason::Uninitialized,
            Self::AlreadyInitialized(_) => Reason::AlreadyInitialized,
            Self::Sealed => Reason::Sealed,
            Self::Damaged(_) => Reason::Damaged,
            Self::Newer(_) | Self::UpgradeNeeded(_) => Reason::UpgradeNeeded,
            Self::InvalidArgument(_) => Reason::InvalidArgument,
            Self::Invalid(InvalidRequest::Wrong { .. }) => Reason::InvalidArgument,
            Self::Invalid(InvalidRequest::TooLarge { .. }) => Reason::TooLarge,
            Self::NotFound(_) => Reason::NotFound,
            Self::AlreadyExists(_) => Reason::AlreadyExists,
            Self::WrongState(_) => Reason::WrongState,
            Self::Refused(refusal) => match refusal {
                Refusal::OfSecret { why, .. } => Self::Refused((**why).clone()).reason(),
                Refusal::WrongKind { .. } => Reason::WrongKind,
                Refusal::Denied(_) | Refusal::Yourself => Reason::Denied,
                Refusal::NotAdmitted(_) => Reason::Unauthenticated,
                Refusal::WrongUsage { .. } | Refusal::PrivateElsewhere { .. } | Refusal::NoPublicKey(..) => {
                    Reason::WrongUsage
                }
                Refusal::WrongAlgorithm { .. } => Reason::WrongAlgorithm,
                Refusal::NoVersion(..) => Reason::NotFound,
                Refusal::VersionDisabled(..) => Reason::KeyDisabled,
                Refusal::NotYet { .. } => Reason::NotYetValid,
                Refusal::Ended { .. } => Reason::NoLongerValid,
                Refusal::Retired { .. } => Reason::Retired,
                Refusal::ExportableRaised { is: Exportable::No, .. } => Reason::NotExportable,
                Refusal::ExportableRaised { .. } => Reason::WrappedOnly,
                Refusal::VersionState(_, _, _, state) => match state {
                    VersionState::PreActive => Reason::NotYetValid,
                    VersionState::Active => Reason::WrongState,
                    VersionState::Deactivated => Reason::NoLongerValid,
                    VersionState::Compromised => Reason::Compromised,
                    VersionState::Destroyed | VersionState::DestroyedCompromised => Reason::Destroyed,
                },
                Refusal::Invalid(invalid) => match invalid {
                    InvalidRequest::Wrong { .. } => Reason::InvalidArgument,
                    InvalidRequest::TooLarge { .. } => Reason::TooLarge,
                },
                Refusal::BriefWindow => Reason::InvalidArgument,
                Refusal::WrongKey { .. } => Reason::WrongKey,
                Refusal::UnknownKey(_) | Refusal::UnknownVersion(..) => Reason::UnknownKey,
                Refusal::KeyNotFound(_) | Refusal::AliasNotFound(_) | Refusal::NotDestroyed(..) => Reason::NotFound,
                Refusal::AliasTaken { .. } | Refusal::NameTaken { .. } => Reason::AlreadyExists,
                Refusal::NamespaceNotFound(_) => Reason::NamespaceNotFound,
                Refusal::NamespaceTaken(_) => Reason::AlreadyExists,
                Refusal::NamespaceFirst | Refusal::NamespaceDeleting(_) => Reason::WrongState,
                Refusal::NamespaceNotEmpty { .. } => Reason::NotEmpty,
                Refusal::NamespacesMax => Reason::LimitExceeded,
                Refusal::ExportableCapped { .. } => Reason::NotExportable,
                Refusal::OtherNamespace(_) | Refusal::RestoreElsewhere { .. } => Reason::InvalidArgument,
                Refusal::Disabled(_) => Reason::KeyDisabled,
                Refusal::Archived(_) => Reason::Archived,
                Refusal::PendingDeletion { .. } => Reason::KeyPendingDeletion,
                Refusal::NotPendingDeletion(_) | Refusal::NothingToRotateTo(_) => Reason::WrongState,
                Refusal::AlreadyReplaced { .. } => Reason::WrongState,
                Refusal::PendingRotation(..) => Reason::NotYetValid,
                Refusal::PurgeProtected(_) => Reason::PurgeProtected,
                Refusal::MaterialMissing(_) | Refusal::RotationLacksMaterial(_) => Reason::MaterialMissing,
                Refusal::WrongMaterial(..) => Reason::WrongMaterial,
                Refusal::NotRekeyed(_)
                | Refusal::PublicAlone(_)
                | Refusal::NotExternal(_)
                | Refusal::NotRotated(_)
                | Refusal::NotRotatedUnasked(_) => Reason::Unsupported,
                Refusal::BackupVersions(..) => Reason::LimitExceeded,
                Refusal::RestoreTaken(_) | Refusal::RestoreNamed { .. } => Reason::AlreadyExists,
                Refusal::BackupForeign => Reason::WrongLineage,
                Refusal::BackupNotOpened => Reason::Tampered,
                Refusal::TokenExpired { .. } => Reason::TokenExpired,
                Refusal::TokenForeign(_) => Reason::TokenForeign,
                Refusal::NotExportable(_) => Reason::NotExportable,
                Refusal::WrappedOnly(_) => Reason::WrappedOnly,
                Refusal::NotDue { .. } => Reason::WrongState,
                Refusal::AliasesMax(_) | Refusal::VersionsMax(_) => Reason::LimitExceeded,
                Refusal::Exhausted(..) => Reason::Exhausted,
                Refusal::TokenReused => Reason::TokenReused,
                Refusal::TokenTime { .. } => Reason::TokenTime,
            },
            Self::WrongLineage => Reason::WrongLineage,
            Self::Tampered => Reason::Tampered,
            Self::ShareRefused(_) => Reason::ShareRefused,
            Self::InvitationRefused(_) => Reason::InvitationRefused,
            Self::Busy(_) => Reason::Busy,
            Self::NoSpace(_) => Reason::NoSpace,
            Self::Contended { .. } => Reason::Contended,
            Self::UnknownOutcome | Self::Begun { .. } => Reason::UnknownOutcome,
            Self::Unavailable(_) => Reason::Unavailable,
            Self::NoMajority(_) => Reason::NoMajority,
            Self::Internal(_) => Reason::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::principal::Role;

    use super::*;

    #[test]
    fn what_was_begun_is_never_said_to_have_changed_nothing() {
        let quorum = Quorum::Missing { reachable: 1, voters: 2, missing: vec!["n2".into()] };
        for stopped in [
            Error::NoMajority(quorum),
            Error::Unavailable("no leader is known".into()),
            Error::NoSpace("n2".into()),
            Error::Contended { attempts: 8 },
            Error::UnknownOutcome,
            Error::Sealed,
        ] {
            let said = stopped.clone().begun("removing n3");
            assert_eq!(said.reason(), Reason::UnknownOutcome, "{stopped:?}");
            let text = said.to_string();
            assert!(text.starts_with("removing n3 was begun and is not finished: "), "{text}");
            assert!(text.ends_with("do it again, it goes on where it stopped"), "{text}");
            assert!(!text.contains("nothing was changed"), "{text}");
            assert_eq!(said.clone().begun("something else"), said, "the innermost word stands");
        }
    }

    #[test]
    fn members_are_named_to_whoever_may_read_the_status_alone() {
        let who = |role| Principal::certificate(role, "x".parse().expect("a name"));
        let missing = vec!["n2".into(), "n3".into()];
        for named in [
            Error::NoMajority(Quorum::Missing { reachable: 1, voters: 3, missing }),
            Error::NoSpace("n2 and n3 have too little".into()),
        ] {
            assert_eq!(named.clone().told_to(&who(Role::User)), named);
            let told = named.clone().told_to(&who(Role::Node));
            assert_eq!(told.reason(), named.reason());
            assert!(!told.to_string().contains("n2") && !told.to_string().contains("n3"), "{told}");
        }
        let counted = Error::NoMajority(Quorum::Missing { reachable: 1, voters: 3, missing: vec!["n2".into()] });
        assert!(counted.told_to(&who(Role::Node)).to_string().contains("1 of 3 voters reachable"));
    }
}
