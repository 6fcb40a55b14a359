//! What keys are called by.

use std::fmt;
use std::str::FromStr;

use super::{AliasName, InvalidRequest, ObjectName, Part};
use crate::id::KeyId;
use crate::name::{Class, of_class};

/// What a caller calls a key by: its id, its own name as `key/NAME`, an alias `NAME`, or `alias/NAME`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeyHandle {
    /// By id.
    Id(KeyId),
    /// By alias.
    Alias(AliasName),
    /// By the name that it has for life.
    Key(ObjectName),
    /// No key, but the secret of that name.
    Secret(ObjectName),
}

impl KeyHandle {
    /// What it names: who has an id alone means a key.
    pub const fn class(&self) -> Class {
        match self {
            Self::Id(_) | Self::Alias(_) | Self::Key(_) => Class::Key,
            Self::Secret(_) => Class::Secret,
        }
    }
}

impl FromStr for KeyHandle {
    type Err = InvalidRequest;
    fn from_str(s: &str) -> Result<Self, InvalidRequest> {
        if s.is_empty() {
            return Err(InvalidRequest::wrong(Part::Key, "no key was named; give its id, or a name".to_owned()));
        }
        let of_key = |e: InvalidRequest| InvalidRequest::wrong(Part::Key, e.to_string());
        if let Some((Class::Key, name)) = of_class(s) {
            return name.parse().map(Self::Key).map_err(of_key);
        }
        match s.parse::<KeyId>() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => s.parse().map(Self::Alias).map_err(of_key),
        }
    }
}

impl fmt::Display for KeyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "key {id}"),
            Self::Alias(name) => write!(f, "alias {name}"),
            Self::Key(name) => write!(f, "key named {name}"),
            Self::Secret(name) => write!(f, "secret {name}"),
        }
    }
}
