//! The one table of actions: what a caller may be allowed to do. An action's name is the same in policies, in the audit trail
//! and in metrics.

use crate::principal::Role;

/// What rights are commonly given together (key-model §7.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Group {
    /// Using keys.
    Use,
    /// Reading secrets.
    Secrets,
    /// Looking at what there is.
    Read,
    /// Making, changing and destroying keys and their names.
    Manage,
    /// Making, changing and destroying what keys are in.
    Namespaces,
    /// Seeing who may ask.
    ReadRights,
    /// Saying who may ask.
    Rights,
    /// Getting evidence of what was done.
    Evidence,
}

impl Group {
    /// What it allows, completing "may not …".
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Use => "use keys",
            Self::Secrets => "read secrets",
            Self::Read => "describe or list keys and secrets",
            Self::Manage => "manage keys and secrets",
            Self::Namespaces => "manage namespaces",
            Self::ReadRights => "see who may do what",
            Self::Rights => "say who may do what",
            Self::Evidence => "get evidence of what was done",
        }
    }
    /// The roles that have it by the fixed rule of design §6.
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::Use | Self::Secrets | Self::Read => &[Role::Admin, Role::User],
            Self::Manage | Self::Namespaces | Self::Rights => &[Role::Admin],
            Self::ReadRights | Self::Evidence => &[Role::Admin, Role::Auditor],
        }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident: $group:ident;)+) => {
        /// One action for each verb of the core; more where rights tell apart what one verb does.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Action {
            $($(#[$doc])* $action,)+
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$action,)+];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$action => stringify!($action),)+ }
            }
            /// The group it belongs to.
            pub const fn group(self) -> Group {
                match self { $(Self::$action => Group::$group,)+ }
            }
        }
    };
}

actions! {
    /// Encrypt under a key.
    Encrypt: Use;
    /// Decrypt what a key encrypted.
    Decrypt: Use;
    /// Make a data key, in clear and encrypted.
    DataKey: Use;
    /// Make a data key, encrypted only.
    DataKeyWithoutPlaintext: Use;
    /// Make a data key pair, its private key in clear and encrypted.
    DataKeyPair: Use;
    /// Make a data key pair, its private key encrypted only.
    DataKeyPairWithoutPlaintext: Use;
    /// Encrypt anew what a key encrypted.
    ReEncryptFrom: Use;
    /// Encrypt under a key what another had encrypted.
    ReEncryptTo: Use;
    /// Wrap another key.
    Wrap: Use;
    /// Unwrap another key.
    Unwrap: Use;
    /// Sign.
    Sign: Use;
    /// Verify a signature.
    Verify: Use;
    /// Make an authentication code.
    Mac: Use;
    /// Verify an authentication code.
    VerifyMac: Use;
    /// Agree on a secret with another's public key.
    Agree: Use;
    /// Make a shared secret and its encapsulation.
    Encapsulate: Use;
    /// Open an encapsulation.
    Decapsulate: Use;
    /// Derive another key.
    DeriveKey: Use;
    /// Make a digest, without a key.
    Digest: Use;
    /// Get a public key.
    PublicKey: Use;
    /// Process what a compromised version protected; asked besides the verb's own action.
    ProcessCompromised: Manage;
    /// Random bytes.
    Random: Use;
    /// Read a secret.
    ReadSecret: Secrets;
    /// See what is known of a key.
    Describe: Read;
    /// See when a key was used last.
    LastUse: Read;
    /// List a key's versions.
    ListVersions: Read;
    /// List keys.
    ListObjects: Read;
    /// List names.
    NameList: Read;
    /// Make a key.
    Create: Manage;
    /// Make many keys at once.
    CreateMany: Manage;
    /// Give a secret another value.
    AddVersion: Manage;
    /// Enable a key.
    Enable: Manage;
    /// Disable a key.
    Disable: Manage;
    /// Replace a key by a new one.
    Rekey: Manage;
    /// Put a key away.
    Archive: Manage;
    /// Get a key back that was put away.
    Recover: Manage;
    /// Give a key a new current version.
    Rotate: Manage;
    /// Change a key's description.
    Update: Manage;
    /// Put tags on a key.
    Tag: Manage;
    /// Take tags off a key.
    Untag: Manage;
    /// Change what belongs to a version.
    UpdateVersion: Manage;
    /// Activate a version.
    Activate: Manage;
    /// Deactivate a version, or tell that it is compromised.
    Revoke: Manage;
    /// Destroy a version at once.
    DestroyVersion: Manage;
    /// Have a key destroyed on a later day.
    ScheduleDeletion: Manage;
    /// Set how often a key is rotated without being asked.
    SetRotation: Manage;
    /// Have a key destroyed before its day.
    Purge: Manage;
    /// Spare a key its scheduled destruction.
    CancelDeletion: Manage;
    /// Get what wraps material that is to be imported.
    ImportParameters: Manage;
    /// Import a key's material.
    ImportMaterial: Manage;
    /// Delete a key's imported material.
    DeleteMaterial: Manage;
    /// Get a key's material, wrapped under another key.
    ExportWrapped: Manage;
    /// Get a key's material as it is.
    ExportPlain: Manage;
    /// Make a backup of a key.
    Backup: Manage;
    /// Restore a key from its backup.
    Restore: Manage;
    /// Get a signed statement of a destruction.
    ProveDestruction: Evidence;
    /// Give a key a name.
    NameCreate: Manage;
    /// Take a name off a key.
    NameDelete: Manage;
    /// Make a namespace.
    NamespaceCreate: Namespaces;
    /// See what is known of a namespace.
    NamespaceDescribe: Namespaces;
    /// List namespaces.
    NamespaceList: Namespaces;
    /// Change what may be made in a namespace.
    NamespaceUpdate: Namespaces;
    /// Delete a namespace.
    NamespaceDelete: Namespaces;
    /// List those of whom more is known than credentials say.
    PrincipalList: ReadRights;
    /// Let somebody in again.
    PrincipalEnable: Rights;
    /// Shut somebody out, whatever they present.
    PrincipalDisable: Rights;
    /// See what is known of a credential.
    CredentialDescribe: ReadRights;
    /// List credentials.
    CredentialList: ReadRights;
    /// Revoke a credential.
    CredentialRevoke: Rights;
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_name_one_action_each() {
        let mut names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_alphabetic())));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Action::ALL.len());
    }
}
