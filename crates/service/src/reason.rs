//! The machine-readable half of an error.

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $text:literal;)+) => {
        /// Why a request was refused or failed, for machines: its text is stable, clients and scripts match on it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reason {
            $($(#[$doc])* $reason,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)+];

            /// The stable text, such as `KEY_DISABLED`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$reason => $text,)+ }
            }
        }
    };
}

reasons! {
    /// No certificate, or one that names no principal of this cluster, or was shut out, or has ended.
    Unauthenticated = "UNAUTHENTICATED";
    /// The principal may not do that.
    Denied = "DENIED";
    /// No genesis yet.
    Uninitialized = "UNINITIALIZED";
    /// Genesis has already happened.
    AlreadyInitialized = "ALREADY_INITIALIZED";
    /// Keys can't be used until custodians unseal the node.
    Sealed = "SEALED";
    /// The node found its own data damaged.
    Damaged = "DAMAGED";
    /// A newer version wrote what this node would have to read.
    UpgradeNeeded = "UPGRADE_NEEDED";
    /// The request itself is wrong.
    InvalidArgument = "INVALID_ARGUMENT";
    /// Part of the request is longer than its limit.
    TooLarge = "TOO_LARGE";
    /// What the request names does not exist.
    NotFound = "NOT_FOUND";
    /// The name is taken.
    AlreadyExists = "ALREADY_EXISTS";
    /// The namespace that the request is made in, or is about, does not exist.
    NamespaceNotFound = "NAMESPACE_NOT_FOUND";
    /// There is something in the namespace that was to be deleted.
    NotEmpty = "NOT_EMPTY";
    /// The key is disabled.
    KeyDisabled = "KEY_DISABLED";
    /// The key is archived.
    Archived = "ARCHIVED";
    /// The key waits for its destruction.
    KeyPendingDeletion = "KEY_PENDING_DELETION";
    /// The key, or the thing, is in a state in which this can't be done.
    WrongState = "WRONG_STATE";
    /// A limit on how many there may be is reached.
    LimitExceeded = "LIMIT_EXCEEDED";
    /// The version has been used as often as a version may be.
    Exhausted = "EXHAUSTED";
    /// The token was used for another request.
    TokenReused = "TOKEN_REUSED";
    /// The token's time is too far off.
    TokenTime = "TOKEN_TIME";
    /// The key is of a kind that is not for that.
    WrongUsage = "WRONG_USAGE";
    /// It is a secret where a key is meant, or a key where a secret is.
    WrongKind = "WRONG_KIND";
    /// Such keys don't do it by that algorithm.
    WrongAlgorithm = "WRONG_ALGORITHM";
    /// The key, or the version, may do that only later.
    NotYetValid = "NOT_YET_VALID";
    /// The key, or the version, may not do that any more.
    NoLongerValid = "NO_LONGER_VALID";
    /// Somebody else may know the version's material.
    Compromised = "COMPROMISED";
    /// The version's material is gone.
    Destroyed = "DESTROYED";
    /// The version is below the floor from which on the key's versions process.
    Retired = "RETIRED";
    /// The key is protected from being destroyed before its day.
    PurgeProtected = "PURGE_PROTECTED";
    /// The key's material was not imported, was deleted, or its time is over.
    MaterialMissing = "MATERIAL_MISSING";
    /// The key had other material before, and takes only that again.
    WrongMaterial = "WRONG_MATERIAL";
    /// The import token is too old.
    TokenExpired = "TOKEN_EXPIRED";
    /// The import token is not one for this key.
    TokenForeign = "TOKEN_FOREIGN";
    /// Such a key does not do that.
    Unsupported = "UNSUPPORTED";
    /// The key's material never leaves.
    NotExportable = "NOT_EXPORTABLE";
    /// The key's material leaves only wrapped.
    WrappedOnly = "WRAPPED_ONLY";
    /// The key named by the caller is not the ciphertext's.
    WrongKey = "WRONG_KEY";
    /// The ciphertext is of another lineage.
    WrongLineage = "WRONG_LINEAGE";
    /// The ciphertext's key, or that version of it, does not exist here.
    UnknownKey = "UNKNOWN_KEY";
    /// Ciphertext, associated data or both are not what was encrypted.
    Tampered = "TAMPERED";
    /// A share was refused.
    ShareRefused = "SHARE_REFUSED";
    /// An invitation was refused.
    InvitationRefused = "INVITATION_REFUSED";
    /// Too many failures or too much load; later it works again.
    Busy = "BUSY";
    /// Too few nodes have disk space to store a change; nothing was changed, and uses are not concerned.
    NoSpace = "NO_SPACE";
    /// Others kept changing what this request depends on; nothing was changed.
    Contended = "CONTENDED";
    /// It may or may not have happened, or was begun and is not finished.
    UnknownOutcome = "UNKNOWN_OUTCOME";
    /// The cluster can't answer now; nothing was changed.
    Unavailable = "UNAVAILABLE";
    /// There has been no majority of the voters, or none that leads, for longer than elections take; nothing was changed.
    NoMajority = "NO_MAJORITY";
    /// A fault in quorate.
    Internal = "INTERNAL";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_stable_words_and_no_two_are_equal() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert!(codes.iter().all(|c| c.chars().all(|c| c.is_ascii_uppercase() || c == '_')));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
