//! Names of objects: each is unique in its space, and no name of one space is found in another (key-model §1.3).

use std::fmt;
use std::str::FromStr;

use crate::id::{InvalidId, KeyId, Name, Namespace, quoted};
use crate::request::{InvalidRequest, Part};

/// What an object is: in which list it stands, and in which space it has a name of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Class {
    /// A key.
    Key = 1,
    /// A secret.
    Secret = 2,
}

impl Class {
    /// As shown to people, and what may stand before the name of such an object, with a slash.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Secret => "secret",
        }
    }
}

/// Where a name is unique, within a namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Space {
    /// Names that come and go, and stand for a key meanwhile.
    Alias,
    /// The names that objects of that class have for life.
    Of(Class),
}

impl Space {
    const ALL: [Self; 3] = [Self::Alias, Self::Of(Class::Key), Self::Of(Class::Secret)];

    /// Its number in records, which never changes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Alias => 1,
            Self::Of(Class::Key) => 2,
            Self::Of(Class::Secret) => 3,
        }
    }
    /// The space of that number; none when a newer version made it.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|space| space.code() == code)
    }
}

/// The name of an alias: a [`Name`] that can't be taken for a key id, nor for the forms `alias/NAME`, `key/NAME`, `secret/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AliasName(Name);

impl AliasName {
    /// What may stand before an alias to say that it is one.
    pub const PREFIX: &'static str = "alias/";
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for AliasName {
    type Err = InvalidRequest;
    fn from_str(s: &str) -> Result<Self, InvalidRequest> {
        let bare = s.strip_prefix(Self::PREFIX).unwrap_or(s);
        let wrong = |why: String| Err(InvalidRequest::wrong(Part::Alias, format!("not a valid alias: {why}")));
        if bare.parse::<KeyId>().is_ok() {
            return wrong(format!("{} reads like a key id; choose another name", quoted(bare)));
        }
        if bare.starts_with(Self::PREFIX) {
            return wrong(format!("{} begins with \"alias/\" twice", quoted(s)));
        }
        if let Some((class, _)) = of_class(bare) {
            let class = class.as_str();
            return wrong(format!("what begins with \"{class}/\", as {}, is the name of a {class}", quoted(bare)));
        }
        bare.parse().map(Self).map_err(|e: InvalidId| InvalidRequest::wrong(Part::Alias, e.0))
    }
}

impl fmt::Display for AliasName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Of which class that names an object, and by which name, if it is written `key/NAME` or `secret/NAME`.
pub(crate) fn of_class(text: &str) -> Option<(Class, &str)> {
    [Class::Key, Class::Secret].into_iter().find_map(|class| {
        let rest = text.strip_prefix(class.as_str())?.strip_prefix('/')?;
        Some((class, rest))
    })
}

/// The name that an object has for life: 1 to [`ObjectName::LEN_MAX`] of `A-Z a-z 0-9 -`. Shown as it was first written; case
/// tells no two apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectName(String);

impl ObjectName {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 127;
    /// The text, as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// What it is told from others by.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for ObjectName {
    type Err = InvalidRequest;
    fn from_str(s: &str) -> Result<Self, InvalidRequest> {
        let good = s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if s.is_empty() || s.len() > Self::LEN_MAX || !good {
            let why = format!("not a valid name: {} (1 to 127 characters from a-z A-Z 0-9 -)", quoted(s));
            return Err(InvalidRequest::wrong(Part::Name, why));
        }
        Ok(Self(s.to_owned()))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a namespace is called: 1 to [`NamespaceName::LEN_MAX`] of `a-z 0-9 -`, beginning with a letter or digit; upper case is taken
/// for lower.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NamespaceName(String);

impl NamespaceName {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 64;
    /// What the first namespace is called.
    pub const FIRST: &'static str = "default";

    /// The name of the first namespace.
    pub fn first() -> Self {
        Self(Self::FIRST.to_owned())
    }
    /// Whether it is that of the first.
    pub fn is_first(&self) -> bool {
        self.0 == Self::FIRST
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NamespaceName {
    type Err = InvalidRequest;
    fn from_str(s: &str) -> Result<Self, InvalidRequest> {
        let good = s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if s.is_empty() || s.len() > Self::LEN_MAX || !good || s.starts_with('-') {
            let why = format!(
                "not a valid name of a namespace: {} (1 to 64 characters from a-z 0-9 -, beginning with a letter or digit)",
                quoted(s)
            );
            return Err(InvalidRequest::wrong(Part::Namespace, why));
        }
        Ok(Self(s.to_ascii_lowercase()))
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name in its space, as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Named {
    /// An alias.
    Alias(AliasName),
    /// The name of an object of that class.
    Object(Class, ObjectName),
}

impl Named {
    /// The text, as it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Alias(name) => name.as_str(),
            Self::Object(_, name) => name.as_str(),
        }
    }
    /// A name of that space.
    ///
    /// # Errors
    /// When it is none there.
    pub fn parse(space: Space, text: &str) -> Result<Self, InvalidRequest> {
        match space {
            Space::Alias => text.parse().map(Self::Alias),
            Space::Of(class) => Ok(Self::Object(class, text.parse()?)),
        }
    }
    /// What it is found by in that namespace.
    pub fn folded(&self, namespace: Namespace) -> FoldedName {
        match self {
            Self::Alias(name) => FoldedName::alias(namespace, name),
            Self::Object(class, name) => FoldedName::object(namespace, *class, name),
        }
    }
}

/// What tells a name from all others: two that are written differently, and mean the same, are one here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FoldedName {
    pub(crate) namespace: Namespace,
    pub(crate) space: Space,
    pub(crate) text: String,
}

impl FoldedName {
    /// Of an alias, which is taken as it is written.
    pub fn alias(namespace: Namespace, name: &AliasName) -> Self {
        Self { namespace, space: Space::Alias, text: name.as_str().to_owned() }
    }
    /// Of the name of an object.
    pub fn object(namespace: Namespace, class: Class, name: &ObjectName) -> Self {
        Self { namespace, space: Space::Of(class), text: name.folded() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab";

    #[test]
    fn an_alias_is_never_mistaken_for_anything_else() {
        for bad in [ID, &format!("alias/{ID}"), "alias/alias/x", &"x".repeat(65)] {
            assert_eq!(bad.parse::<AliasName>().unwrap_err().part(), Part::Alias, "{bad}");
        }
        for (of_another, class) in [("key/x", "key"), ("alias/secret/x", "secret"), ("key/", "key")] {
            let why = of_another.parse::<AliasName>().unwrap_err().to_string();
            assert!(why.ends_with(&format!("is the name of a {class}")), "{why}");
        }
        for good in ["key", "keys/x", "a/key/x", "alias/key", "secrets"] {
            good.parse::<AliasName>().unwrap_or_else(|e| panic!("{e}"));
        }
    }

    #[test]
    fn the_name_of_an_object_is_shown_as_written_and_found_in_any_case() {
        let name = |text: &str| text.parse::<ObjectName>();
        assert_eq!(name("Db-Main").unwrap().as_str(), "Db-Main");
        let folded = |class, text: &str| FoldedName::object(Namespace::FIRST, class, &name(text).unwrap());
        assert_eq!(folded(Class::Key, "Db-Main"), folded(Class::Key, "dB-mAIN"));
        assert_ne!(folded(Class::Key, "a"), folded(Class::Secret, "a"));
        let alias = |n, text: &str| FoldedName::alias(Namespace(n), &text.parse().unwrap());
        assert_ne!(alias(0, "a"), folded(Class::Key, "a"));
        assert_ne!(alias(0, "A"), alias(0, "a"));
        assert_ne!(alias(0, "a"), alias(1, "a"));
        for good in [ID, "1", "-", &"x".repeat(127)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a_b", "a/b", "a.b", "schlüssel", "a\n", &"x".repeat(128)] {
            assert_eq!(name(bad).unwrap_err().part(), Part::Name, "{bad:?}");
        }
    }

    #[test]
    fn a_namespace_is_called_alike_in_any_case() {
        let name = |text: &str| text.parse::<NamespaceName>();
        assert_eq!(name("Team-1").unwrap().as_str(), "team-1");
        assert!(name("Default").unwrap().is_first() && !name("default-2").unwrap().is_first());
        assert!(name(&"x".repeat(64)).is_ok());
        for bad in ["", "-a", "a b", "a_b", "a/b", "schlüssel", "a\n", &"x".repeat(65)] {
            assert_eq!(name(bad).unwrap_err().part(), Part::Namespace, "{bad:?}");
        }
    }

    #[test]
    fn a_space_has_one_number() {
        for space in Space::ALL {
            assert_eq!(Space::from_code(space.code()), Some(space));
        }
        assert_eq!((Space::from_code(0), Space::from_code(4)), (None, None));
    }
}
