//! What clients ask.

/// What a client asks. `text` numbers a plaintext; each encrypt has its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// Creates a key; the same token means the same key.
    Create {
        /// Number of the client token.
        token: u64,
        /// What is special about it.
        form: Form,
    },
    /// Reads state and current version.
    Describe,
    /// Reads all that is known about the key.
    Inspect,
    /// Lets the key be used.
    Enable,
    /// Forbids every use.
    Disable,
    /// Schedules its deletion.
    Schedule,
    /// Schedules its deletion for so soon that it is destroyed within the run; only a cluster for development does that.
    ScheduleSoon {
        /// How long it waits.
        seconds: u32,
    },
    /// Cancels that; the key is disabled then.
    Cancel,
    /// Cancels that; the key is as it was before.
    Recover,
    /// Destroys a key that waits for its deletion, at once.
    Purge,
    /// Makes a backup of the key.
    BackUp,
    /// Brings the key back from the backup that was made when that was its version.
    Restore {
        /// The version.
        version: u32,
    },
    /// Makes a new version.
    Rotate,
    /// Reads the state of each version.
    ListVersions,
    /// Tells that somebody else may know a version's material.
    Compromise {
        /// The version.
        version: u32,
    },
    /// Destroys a version's material.
    DestroyVersion {
        /// The version.
        version: u32,
    },
    /// Gets what wraps material to be imported, and the token to import it with; kept for the imports that follow, at any node.
    ImportParameters,
    /// Imports a material.
    Import {
        /// Its number.
        material: u64,
        /// After how long it is erased; 0 = never.
        seconds: u32,
    },
    /// Erases imported material.
    DeleteMaterial,
    /// Gets the material.
    Export,
    /// Encrypts a text.
    Encrypt {
        /// Its number.
        text: u64,
    },
    /// Decrypts what an earlier encrypt made.
    Decrypt {
        /// Number of its text.
        text: u64,
    },
    /// Encrypts a text by that version.
    EncryptBy {
        /// Number of the text.
        text: u64,
        /// The version.
        version: u32,
    },
    /// Decrypts what that version made.
    DecryptBy {
        /// Number of its text.
        text: u64,
        /// The version.
        version: u32,
    },
    /// Encrypts anew what that version made.
    ReEncrypt {
        /// Number of its text.
        from: u64,
        /// The version.
        version: u32,
        /// Number that it has from then on.
        text: u64,
    },
    /// Makes a data key: its ciphertext is a text, to be decrypted like any other.
    DataKey {
        /// Number of the text.
        text: u64,
        /// Whether the data key itself is told, too.
        plain: bool,
    },
    /// Makes an alias stand for the key: done when it stood for nothing, or for this key.
    CreateAlias {
        /// Its number.
        alias: u64,
    },
    /// Takes an alias away.
    DeleteAlias {
        /// Its number.
        alias: u64,
    },
    /// Describes the key that an alias stands for.
    DescribeAlias {
        /// Its number.
        alias: u64,
    },
    /// Encrypts a text under the key that an alias stands for.
    EncryptAlias {
        /// Number of the alias.
        alias: u64,
        /// Number of the text.
        text: u64,
    },
    /// Creates a key with a name that it has for life; the same token means the same key.
    CreateNamed {
        /// Number of the name.
        name: u64,
        /// Number of the client token.
        token: u64,
    },
    /// Describes the key of that name.
    DescribeNamed {
        /// Its number.
        name: u64,
    },
    /// Schedules the deletion of the key of that name.
    ScheduleNamed {
        /// Its number.
        name: u64,
    },
    /// Destroys the key of that name, which waits for its deletion, at once: another may have the name then.
    PurgeNamed {
        /// Its number.
        name: u64,
    },
    /// Gives a secret a value, its first or another.
    SetSecret {
        /// Number of the secret.
        secret: u64,
        /// Number of the value.
        value: u64,
    },
    /// Reads a secret.
    GetSecret {
        /// Its number.
        secret: u64,
        /// Which version; 0 = the current one.
        version: u32,
    },
    /// Deletes a secret; it can be recovered.
    DeleteSecret {
        /// Its number.
        secret: u64,
    },
    /// Gets a deleted secret back.
    RecoverSecret {
        /// Its number.
        secret: u64,
    },
    /// Destroys a deleted secret at once.
    PurgeSecret {
        /// Its number.
        secret: u64,
    },
    /// Seals the node.
    Seal,
    /// A whole ceremony: the shares that open a node, one after the other.
    Unseal,
    /// Enters one share at a node.
    EnterShare {
        /// Number of its custodian, from 1.
        share: u32,
        /// What is wrong with it: it must be refused then.
        flaw: Option<Flaw>,
    },
    /// Removes a member for good.
    Remove {
        /// Its number.
        member: u32,
    },
    /// A node that lost its data is taken out by its operator and joins anew, under its name: another node from here on.
    Replace,
}

/// What is special about a key from its creation on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Nothing.
    Usual,
    /// It can't be purged, nor any of its versions destroyed.
    PurgeProtected,
    /// Its material is imported, and may leave.
    External,
    /// Its material may leave.
    Exportable,
}

/// What is wrong with a share as it is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// One character is another.
    Mistyped,
    /// The proof is not by the share's proof key.
    Unproven,
    /// The proof is over a challenge that the node never gave.
    Unchallenged,
    /// The share is whole, and of another cluster.
    Foreign,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mistyped, Self::Unproven, Self::Unchallenged, Self::Foreign];
}

impl Call {
    /// Creates a key that nothing is special about.
    pub const fn create(token: u64) -> Self {
        Self::Create { token, form: Form::Usual }
    }

    /// Whether it uses key material, which only an enabled key allows.
    pub fn is_use(&self) -> bool {
        self.encrypts().is_some() || matches!(self, Self::Decrypt { .. } | Self::DecryptBy { .. } | Self::Export)
    }

    /// The text that it encrypts.
    pub fn encrypts(&self) -> Option<u64> {
        match self {
            Self::Encrypt { text } | Self::EncryptAlias { text, .. } | Self::EncryptBy { text, .. } => Some(*text),
            Self::ReEncrypt { text, .. } | Self::DataKey { text, .. } => Some(*text),
            _ => None,
        }
    }

    /// Whether it changes a key, or what an alias stands for.
    pub fn is_change(&self) -> bool {
        !self.is_use() && !self.is_read() && !self.is_operators()
    }

    /// Whether it only asks.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Describe
                | Self::Inspect
                | Self::DescribeAlias { .. }
                | Self::DescribeNamed { .. }
                | Self::GetSecret { .. }
                | Self::ListVersions
                | Self::ImportParameters
        )
    }

    /// Whether it is about nodes, not about keys.
    pub fn is_operators(&self) -> bool {
        matches!(self, Self::Seal | Self::Unseal | Self::EnterShare { .. } | Self::Remove { .. } | Self::Replace)
    }

    /// The alias it is about.
    pub fn alias(&self) -> Option<u64> {
        match self {
            Self::CreateAlias { alias }
            | Self::DeleteAlias { alias }
            | Self::DescribeAlias { alias }
            | Self::EncryptAlias { alias, .. } => Some(*alias),
            _ => None,
        }
    }

    /// The name that a key has for life, which it is about.
    pub fn key_name(&self) -> Option<u64> {
        match self {
            Self::CreateNamed { name, .. }
            | Self::DescribeNamed { name }
            | Self::ScheduleNamed { name }
            | Self::PurgeNamed { name } => Some(*name),
            _ => None,
        }
    }

    /// The secret it is about.
    pub fn secret(&self) -> Option<u64> {
        match self {
            Self::SetSecret { secret, .. }
            | Self::GetSecret { secret, .. }
            | Self::DeleteSecret { secret }
            | Self::RecoverSecret { secret }
            | Self::PurgeSecret { secret } => Some(*secret),
            _ => None,
        }
    }

    /// Whether it spares the key its scheduled deletion.
    pub fn spares(&self) -> bool {
        matches!(self, Self::Cancel | Self::Recover)
    }

    /// Whether the uses of the key are forbidden from its acknowledgement on.
    pub fn revokes(&self) -> bool {
        matches!(self, Self::Disable | Self::Schedule | Self::ScheduleSoon { .. })
    }
}
