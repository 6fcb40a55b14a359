//! The parts of requests, parsed once at the door into types that cannot be wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, quoted};
use crate::key_spec::KeySpec;
use crate::lifecycle::KeyState;
pub use crate::name::{AliasName, NamespaceName, ObjectName};
use crate::name::{Class, of_class};
use crate::record::KeyRecord;

/// Longest description of a key, in characters.
pub const DESCRIPTION_LEN_MAX: usize = 8192;
/// Shortest time between scheduling a deletion and the destruction, in days.
pub const DELETION_DAYS_MIN: u32 = 7;
/// Longest, in days.
pub const DELETION_DAYS_MAX: u32 = 90;
/// What it is when the caller says nothing, in days.
pub const DELETION_DAYS_DEFAULT: u32 = 30;
/// Longest time between two rotations that nobody asks for, in days.
pub const ROTATION_DAYS_MAX: u32 = 3650;
/// Most aliases of one key: they are kept in its record.
pub const ALIASES_PER_KEY_MAX: usize = 64;
/// Most items on a page of a listing.
pub const PAGE_LEN_MAX: u32 = 1000;
/// Most keys created by one request.
pub const KEYS_PER_REQUEST_MAX: u32 = 1000;
/// Items on a page when the caller says nothing.
pub const PAGE_LEN_DEFAULT: u32 = 100;

macro_rules! parts {
    ($($(#[$doc:meta])* $part:ident: $word:literal, $text:literal;)+) => {
        /// A part of a request, as errors name it: each door has its own word for it.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Part {
            $($(#[$doc])* $part,)+
        }

        impl Part {
            /// Every part.
            pub const ALL: &'static [Self] = &[$(Self::$part,)+];

            /// For machines: stable, clients match on it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$part => $word,)+ }
            }
            /// For people.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$part => $text,)+ }
            }
        }
    };
}

parts! {
    /// What the key is called by.
    Key: "key", "the key";
    /// The name of an alias.
    Alias: "alias", "the alias";
    /// The name of an object.
    Name: "name", "the name";
    /// Which namespace.
    Namespace: "namespace", "the namespace";
    /// The value of a secret.
    Value: "value", "the value";
    /// What kind of content a value is.
    ContentType: "content-type", "the content type";
    /// The description.
    Description: "description", "the description";
    /// The tags.
    Tags: "tags", "the tags";
    /// Which version.
    Version: "version", "the version";
    /// A date.
    Date: "date", "the date";
    /// The client token.
    Token: "token", "the token";
    /// How many keys.
    Count: "count", "the number of keys";
    /// How long a deletion waits.
    Window: "window", "the time until the deletion";
    /// How often something is done.
    Period: "period", "the period";
    /// The states asked for.
    State: "state", "the state";
    /// The length of a page.
    PageLen: "page-length", "the length of the page";
    /// Where a page begins.
    PageToken: "page-token", "the page token";
    /// The encryption context, or associated data.
    Context: "context", "the associated data";
    /// The plaintext.
    Plaintext: "plaintext", "the plaintext";
    /// The ciphertext.
    Ciphertext: "ciphertext", "the ciphertext";
    /// What kind of key.
    Spec: "spec", "the key spec";
    /// What a key is for.
    Usage: "usage", "the usage";
    /// By which algorithm.
    Algorithm: "algorithm", "the algorithm";
    /// The bytes of a key that is brought along.
    Material: "material", "the key material";
    /// A public key that is brought along.
    PublicKey: "public-key", "the public key";
    /// Whether a key may be exported.
    Exportable: "exportable", "whether it may be exported";
    /// Where a key's material comes from.
    Origin: "origin", "the origin";
    /// The token of an import.
    ImportToken: "import-token", "the import token";
    /// The backup of a key.
    Backup: "backup", "the backup";
    /// A key that is wrapped.
    WrappedKey: "wrapped-key", "the wrapped key";
    /// What is to be signed or authenticated.
    Input: "input", "the input";
    /// A message's digest.
    Digest: "digest", "the digest";
    /// The signature.
    Signature: "signature", "the signature";
    /// The authentication code.
    Mac: "mac", "the authentication code";
    /// The initialisation vector.
    Iv: "iv", "the IV";
    /// The authentication tag.
    Tag: "tag", "the authentication tag";
    /// The salt.
    Salt: "salt", "the salt";
    /// How many iterations.
    Iterations: "iterations", "the number of iterations";
    /// How many bytes are wanted.
    Len: "length", "the number of bytes";
    /// The whole of it.
    Message: "message", "the request's message";
}

impl Part {
    /// For people, after "is no".
    pub(crate) fn noun(self) -> &'static str {
        self.as_str().trim_start_matches("the ")
    }
    /// What to do when it is too long; empty, or beginning with "; ".
    const fn hint(self) -> &'static str {
        match self {
            Self::Plaintext => "; encrypt larger data under a data key",
            Self::Input => "; sign its digest",
            Self::Value => "; encrypt it under a data key, and keep that as the secret",
            _ => "",
        }
    }
}

/// A part of a request is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidRequest {
    /// It can't be what was meant.
    #[error("{why}")]
    Wrong {
        /// Which part.
        part: Part,
        /// What is wrong, and what is expected.
        why: String,
    },
    /// It is too long.
    #[error("{} is too large: {len} bytes, at most {max} are allowed{}", part.as_str(), part.hint())]
    TooLarge {
        /// Which part.
        part: Part,
        /// Its length, bytes.
        len: usize,
        /// The limit, bytes.
        max: usize,
    },
}

impl InvalidRequest {
    /// That part can't be what was meant: what is wrong, and what is expected.
    pub fn wrong(part: Part, why: impl Into<String>) -> Self {
        Self::Wrong { part, why: why.into() }
    }

    /// The part that is wrong.
    pub fn part(&self) -> Part {
        match self {
            Self::Wrong { part, .. } | Self::TooLarge { part, .. } => *part,
        }
    }
}

/// Longest plaintext that is encrypted directly, in bytes; longer data goes under a data key.
pub const PLAINTEXT_LEN_MAX: usize = 4096;
/// Longest message that is signed or authenticated whole, in bytes; of a longer one, its digest is signed.
pub const INPUT_LEN_MAX: usize = 64 * 1024;
/// Most uses of one kind with one request.
pub const MANY_MAX: usize = 500;
/// Longest value of a secret, in bytes.
pub const SECRET_LEN_MAX: usize = 32 * 1024;
/// Longest content type of a secret's value, in characters.
pub const CONTENT_TYPE_LEN_MAX: usize = 255;
/// Most keys that whoever decrypts may say he expects.
pub const EXPECTED_KEYS_MAX: usize = 16;
/// Longest wrapped key, in bytes: what is wrapped, padded, and an RSA block before it.
pub const WRAPPED_LEN_MAX: usize = PLAINTEXT_LEN_MAX + 16 + 512;
/// Longest data key, in bytes.
pub const DATA_KEY_LEN_MAX: usize = 1024;
/// Length of a data key when the caller says nothing, in bytes.
pub const DATA_KEY_LEN_DEFAULT: usize = 32;
/// Most random bytes at once.
pub const RANDOM_LEN_MAX: usize = 1024;
/// Most pairs of an encryption context.
pub const CONTEXT_PAIRS_MAX: usize = 64;
/// Longest encryption context, keys and values together, in bytes.
pub const CONTEXT_LEN_MAX: usize = 8 * 1024;

/// Pairs that are bound to a ciphertext and not stored in it (the encryption context of AWS KMS; associated data). They are
/// no secret. Their order does not matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EncryptionContext(Vec<(String, String)>);

impl EncryptionContext {
    /// Checks the pairs.
    ///
    /// # Errors
    /// Too many, too long, an empty key, or one that stands twice.
    pub fn new(mut pairs: Vec<(String, String)>) -> Result<Self, InvalidRequest> {
        let wrong = |why: String| Err(InvalidRequest::wrong(Part::Context, why));
        if pairs.iter().any(|(key, _)| key.is_empty()) {
            return wrong("associated data has a pair without a key; give each as key=value".into());
        }
        if pairs.len() > CONTEXT_PAIRS_MAX {
            return wrong(format!("associated data has more than {CONTEXT_PAIRS_MAX} pairs, which is the limit"));
        }
        let len = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        if len > CONTEXT_LEN_MAX {
            return Err(InvalidRequest::TooLarge { part: Part::Context, len, max: CONTEXT_LEN_MAX });
        }
        // `str` is ordered by its UTF-8 bytes.
        pairs.sort_unstable();
        if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return wrong("the encryption context has the same key twice: give each key once".into());
        }
        Ok(Self(pairs))
    }

    /// The pairs, by the bytes of their keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

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

/// Free text that describes a key; at most [`DESCRIPTION_LEN_MAX`] characters, no control characters but line breaks and tabs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Description(String);

impl Description {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Description {
    type Err = InvalidRequest;
    fn from_str(s: &str) -> Result<Self, InvalidRequest> {
        let len = s.chars().count();
        let why = if len > DESCRIPTION_LEN_MAX {
            format!("the description is {len} characters long; at most {DESCRIPTION_LEN_MAX} are allowed")
        } else if s.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            "the description has a control character in it, and no line break or tab; leave it out".to_owned()
        } else {
            return Ok(Self(s.to_owned()));
        };
        Err(InvalidRequest::wrong(Part::Description, why))
    }
}

/// What kind of content a secret's value is, in whatever words its owner has for it: at most [`CONTENT_TYPE_LEN_MAX`] characters, no
/// control characters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContentType(String);

impl ContentType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContentType {
    type Err = InvalidRequest;
    fn from_str(s: &str) -> Result<Self, InvalidRequest> {
        let len = s.chars().count();
        let why = if len > CONTENT_TYPE_LEN_MAX {
            format!("the content type is {len} characters long; at most {CONTENT_TYPE_LEN_MAX} are allowed")
        } else if s.chars().any(char::is_control) {
            "the content type has a control character in it; leave it out".to_owned()
        } else {
            return Ok(Self(s.to_owned()));
        };
        Err(InvalidRequest::wrong(Part::ContentType, why))
    }
}

/// What people or programs have put on a key: names with values, no secret (AWS: tags).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tags(BTreeMap<String, String>);

/// Most tags of a key.
pub const TAGS_MAX: usize = 50;
/// Longest name of a tag, in characters.
pub const TAG_NAME_LEN_MAX: usize = 128;
/// Longest value of a tag, in characters.
pub const TAG_VALUE_LEN_MAX: usize = 256;
/// Most bytes of all tags of a key together.
pub const TAGS_LEN_MAX: usize = 16 * 1024;

impl Tags {
    /// Longest encoding.
    pub(crate) const ENCODED_LEN_MAX: usize = TAGS_LEN_MAX + 8 * TAGS_MAX;

    /// Checks them.
    ///
    /// # Errors
    /// Too many, too long, a name that is empty or stands twice, a control character.
    pub fn new(tags: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidRequest> {
        let mut checked = BTreeMap::new();
        for (name, value) in tags {
            check_tag(&name, &value)?;
            if checked.insert(name.clone(), value).is_some() {
                return Err(InvalidRequest::wrong(
                    Part::Tags,
                    format!("the tag {} is given twice; give each once", quoted(&name)),
                ));
            }
        }
        Self(checked).checked()
    }

    fn checked(self) -> Result<Self, InvalidRequest> {
        if self.0.len() > TAGS_MAX {
            let why = format!("a key has at most {TAGS_MAX} tags, not {}", self.0.len());
            return Err(InvalidRequest::wrong(Part::Tags, why));
        }
        let len = self.iter().map(|(name, value)| name.len() + value.len()).sum();
        if len > TAGS_LEN_MAX {
            return Err(InvalidRequest::TooLarge { part: Part::Tags, len, max: TAGS_LEN_MAX });
        }
        Ok(self)
    }

    /// These, with others put over them.
    ///
    /// # Errors
    /// Too many together.
    pub fn with(&self, others: &Self) -> Result<Self, InvalidRequest> {
        let mut tags = self.clone();
        tags.0.extend(others.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        tags.checked()
    }

    /// These, without those of such names.
    pub fn without(&self, names: &[String]) -> Self {
        let mut tags = self.clone();
        tags.0.retain(|name, _| !names.contains(name));
        tags
    }

    /// Whether all of `others` are among these.
    pub fn include(&self, others: &Self) -> bool {
        others.0.iter().all(|(name, value)| self.0.get(name) == Some(value))
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn write(&self, to: Writer) -> Writer {
        self.iter().fold(to, |to, (name, value)| to.field(name.as_bytes()).field(value.as_bytes()))
    }

    /// All of what is left to read: names ascend, so that there is one encoding.
    pub(crate) fn read(mut from: Reader<'_>) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed("tags");
        let mut tags = BTreeMap::new();
        while !from.rest().is_empty() {
            let (name, value) = (from.text(4 * TAG_NAME_LEN_MAX)?, from.text(4 * TAG_VALUE_LEN_MAX)?);
            if tags.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= name) {
                return Err(BAD);
            }
            check_tag(name, value).map_err(|_| BAD)?;
            tags.insert(name.to_owned(), value.to_owned());
        }
        Self(tags).checked().map_err(|_| BAD)
    }
}

fn check_tag(name: &str, value: &str) -> Result<(), InvalidRequest> {
    let why = if name.is_empty() {
        "a tag has no name; give each as NAME=VALUE".to_owned()
    } else if name.chars().count() > TAG_NAME_LEN_MAX || value.chars().count() > TAG_VALUE_LEN_MAX {
        format!(
            "the tag {} is too long: a name has at most {TAG_NAME_LEN_MAX} characters, a value {TAG_VALUE_LEN_MAX}",
            quoted(name)
        )
    } else if name.chars().chain(value.chars()).any(char::is_control) {
        format!("the tag {} has a control character in it; leave it out", quoted(name))
    } else {
        return Ok(());
    };
    Err(InvalidRequest::wrong(Part::Tags, why))
}

/// A client token: a UUIDv7 (RFC 9562), which makes a retry recognisable, through any node (key-model §5.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub [u8; 16]);

impl Token {
    /// How far its time may lie behind: a retry later than this is refused, before what it did is forgotten.
    pub const BEHIND_MS_MAX: u64 = crate::time::HOUR_MS;
    /// How far it may lie ahead.
    pub const AHEAD_MS_MAX: u64 = 10 * 60 * 1000;
    /// What it did is remembered for so long after its time.
    pub const KEPT_MS: u64 = 2 * crate::time::HOUR_MS;

    /// Parses the field of a request: empty means none.
    ///
    /// # Errors
    /// Anything but 16 bytes that are a UUIDv7.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, InvalidRequest> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let token = bytes.try_into().ok().map(uuid::Uuid::from_bytes);
        let is_v7 = |id: &uuid::Uuid| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122;
        let wrong = || {
            InvalidRequest::wrong(
                Part::Token,
                "the token is no UUIDv7: it must be the 16 bytes of one, or absent".to_owned(),
            )
        };
        token.filter(is_v7).map(|id| Some(Self(id.into_bytes()))).ok_or_else(wrong)
    }
    /// The time in it, 6 bytes.
    pub fn time(&self) -> &[u8] {
        &self.0[..6]
    }
    /// The time in it, milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.time().iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte))
    }
}

/// How many keys one request creates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyCount(u32);

impl KeyCount {
    /// From the field of a request: 1 to [`KEYS_PER_REQUEST_MAX`].
    ///
    /// # Errors
    /// Any other number.
    pub fn parse(count: u32) -> Result<Self, InvalidRequest> {
        match count {
            1..=KEYS_PER_REQUEST_MAX => Ok(Self(count)),
            _ => Err(InvalidRequest::wrong(
                Part::Count,
                format!("one request creates 1 to {KEYS_PER_REQUEST_MAX} keys, not {count}"),
            )),
        }
    }
    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// How long a key waits between scheduling its deletion and its destruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeletionWindow {
    millis: u64,
    brief: bool,
}

impl DeletionWindow {
    /// From a number of days, [`DELETION_DAYS_MIN`] to [`DELETION_DAYS_MAX`]; 0 = [`DELETION_DAYS_DEFAULT`].
    ///
    /// # Errors
    /// Any other number.
    pub fn from_days(days: u32) -> Result<Self, InvalidRequest> {
        match days {
            0 => Self::from_days(DELETION_DAYS_DEFAULT),
            DELETION_DAYS_MIN..=DELETION_DAYS_MAX => {
                Ok(Self { millis: u64::from(days) * crate::time::DAY_MS, brief: false })
            }
            _ => Err(InvalidRequest::wrong(
                Part::Window,
                format!(
                    "what is deleted is destroyed {DELETION_DAYS_MIN} to {DELETION_DAYS_MAX} days later, not {days}"
                ),
            )),
        }
    }
    /// From the fields of a request: days, or a number of seconds, which only a cluster marked for development takes.
    ///
    /// # Errors
    /// Both, or another number of days.
    pub fn parse(days: u32, dev_seconds: u32) -> Result<Self, InvalidRequest> {
        match (days, dev_seconds) {
            (days, 0) => Self::from_days(days),
            (0, seconds) => Ok(Self { millis: u64::from(seconds) * 1000, brief: true }),
            _ => Err(InvalidRequest::wrong(
                Part::Window,
                "a deletion waits for days or for seconds, not for both".to_owned(),
            )),
        }
    }
    /// In milliseconds.
    pub fn millis(self) -> u64 {
        self.millis
    }
    /// Whether it is shorter than anybody needs who keeps keys: for development only.
    pub fn is_brief(self) -> bool {
        self.brief
    }
}

/// How often a key is rotated without being asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RotationPeriod {
    millis: u64,
    brief: bool,
}

impl RotationPeriod {
    /// From the fields of a request: 1 to [`ROTATION_DAYS_MAX`] days, or a number of seconds, which only a cluster marked for
    /// development takes; none of both = never.
    ///
    /// # Errors
    /// Both, or another number of days.
    pub fn parse(days: u32, dev_seconds: u32) -> Result<Option<Self>, InvalidRequest> {
        match (days, dev_seconds) {
            (0, 0) => Ok(None),
            (days @ 1..=ROTATION_DAYS_MAX, 0) => {
                Ok(Some(Self { millis: u64::from(days) * crate::time::DAY_MS, brief: false }))
            }
            (0, seconds) => Ok(Some(Self { millis: u64::from(seconds) * 1000, brief: true })),
            (_, 0) => {
                let why = format!("a key is rotated every 1 to {ROTATION_DAYS_MAX} days, not every {days}");
                Err(InvalidRequest::wrong(Part::Period, why))
            }
            _ => Err(InvalidRequest::wrong(Part::Period, "a period is of days or of seconds, not of both")),
        }
    }
    /// In milliseconds.
    pub fn millis(self) -> u64 {
        self.millis
    }
    /// Whether it is for development only.
    pub fn is_brief(self) -> bool {
        self.brief
    }
}

/// Items on one page of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageLen(usize);

impl PageLen {
    /// From the field of a request: 1 to [`PAGE_LEN_MAX`], 0 = [`PAGE_LEN_DEFAULT`].
    ///
    /// # Errors
    /// Any other number.
    pub fn parse(limit: u32) -> Result<Self, InvalidRequest> {
        match limit {
            0 => Ok(Self(PAGE_LEN_DEFAULT as usize)),
            1..=PAGE_LEN_MAX => Ok(Self(limit as usize)),
            _ => {
                Err(InvalidRequest::wrong(Part::PageLen, format!("a page has 1 to {PAGE_LEN_MAX} items, not {limit}")))
            }
        }
    }
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

/// The states that a list of keys is of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KeyStates {
    /// Keys that may be used.
    pub enabled: bool,
    /// Keys that may not.
    pub disabled: bool,
    /// Keys that wait for their destruction.
    pub pending_deletion: bool,
    /// Keys that are put away, enabled or disabled: they stand under neither.
    pub archived: bool,
}

impl KeyStates {
    /// Every state in which a key is shown.
    pub const ANY: Self = Self { enabled: true, disabled: true, pending_deletion: true, archived: true };

    /// Whether that key is listed; one that is being destroyed is shown to nobody.
    pub const fn hold(self, key: &KeyRecord) -> bool {
        match key.state {
            KeyState::Enabled | KeyState::Disabled if key.archived => self.archived,
            KeyState::Enabled => self.enabled,
            KeyState::Disabled => self.disabled,
            KeyState::PendingDeletion { .. } => self.pending_deletion,
            KeyState::Destroyed => false,
        }
    }
}

/// Which keys a list is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFilter {
    /// In one of these states.
    pub states: KeyStates,
    /// Of one of these kinds; none = of any.
    pub specs: Vec<KeySpec>,
    /// With all of these tags.
    pub tags: Tags,
}

impl KeyFilter {
    /// Every key that is shown at all.
    pub fn any() -> Self {
        Self { states: KeyStates::ANY, specs: Vec::new(), tags: Tags::default() }
    }

    /// Whether that key is listed.
    pub fn holds(&self, key: &KeyRecord) -> bool {
        let of_kind = self.specs.is_empty() || self.specs.contains(&key.spec);
        of_kind && self.states.hold(key) && key.tags.include(&self.tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab";

    #[test]
    fn a_key_is_called_by_id_by_name_or_by_alias() {
        assert_eq!(ID.parse(), Ok(KeyHandle::Id(ID.parse().unwrap())));
        let alias = Ok(KeyHandle::Alias("team/db".parse().unwrap()));
        assert_eq!("team/db".parse(), alias);
        assert_eq!("alias/team/db".parse(), alias);
        assert_eq!("key/Team-DB".parse(), Ok(KeyHandle::Key("Team-DB".parse().unwrap())));
        assert_eq!(format!("key/{ID}").parse(), Ok(KeyHandle::Key(ID.parse().unwrap())));
        for bad in ["", " ", "a b", "alias/", "ключ", "-x", "key/", "key/a/b", "key/a_b", "alias/key/a", "secret/a"]
        {
            assert_eq!(bad.parse::<KeyHandle>().unwrap_err().part(), Part::Key, "{bad:?}");
        }
    }

    fn context(pairs: &[(&str, &str)]) -> Result<EncryptionContext, InvalidRequest> {
        EncryptionContext::new(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
    }

    #[test]
    fn a_context_is_its_pairs_in_no_order() {
        assert_eq!(context(&[("a", "1"), ("b", "2")]), context(&[("b", "2"), ("a", "1")]));
        // By bytes, not by UTF-16 units as some languages sort: U+FF61 comes before U+10000.
        let keys = ["\u{10000}", "\u{ff61}"];
        let sorted = context(&[(keys[0], "x"), (keys[1], "y")]).unwrap();
        assert_eq!(sorted.pairs().collect::<Vec<_>>(), [(keys[1], "y"), (keys[0], "x")]);
        for bad in [&[("a", "1"), ("a", "1")][..], &[("a", "1"), ("a", "2")], &[("", "1")]] {
            assert_eq!(context(bad).unwrap_err().part(), Part::Context);
        }
    }

    #[test]
    fn tags_are_checked_and_have_one_encoding() {
        let new = |tags: &[(&str, &str)]| Tags::new(tags.iter().map(|(n, v)| ((*n).into(), (*v).into())));
        let (a, b) = (new(&[("a", "1"), ("b", "")]).unwrap(), new(&[("b", "2"), ("c", "3")]).unwrap());
        let both = a.with(&b).unwrap();
        assert_eq!(both.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("c", "3")]);
        assert!(both.include(&b) && !both.include(&a) && both.include(&Tags::default()));
        assert_eq!(both.without(&["b".into(), "x".into()]), new(&[("a", "1"), ("c", "3")]).unwrap());
        let bytes = both.write(Writer::new()).finish();
        assert_eq!(Tags::read(Reader::new("x", &bytes)), Ok(both));
        let twice = Writer::new().field(b"a").field(b"1").field(b"a").field(b"1").finish();
        assert!(Tags::read(Reader::new("x", &twice)).is_err());
        let long = "n".repeat(TAG_NAME_LEN_MAX + 1);
        for bad in [&[("", "v")][..], &[("a", "1"), ("a", "1")], &[("a", "x\n")], &[(&long, "")]] {
            assert_eq!(new(bad).unwrap_err().part(), Part::Tags);
        }
        assert!(new(&[(&long[1..], &"ж".repeat(TAG_VALUE_LEN_MAX))]).is_ok());
        let many = |n: usize| Tags::new((0..n).map(|n| (n.to_string(), String::new())));
        assert!(many(TAGS_MAX).is_ok() && many(TAGS_MAX + 1).is_err());
        assert!(many(TAGS_MAX).unwrap().with(&a).is_err());
        let wide = |n: usize| Tags::new((0..n).map(|n| (n.to_string(), "\u{10000}".repeat(TAG_VALUE_LEN_MAX))));
        assert!(wide(15).is_ok() && wide(17).is_err(), "16 KiB are the limit");
    }

    #[test]
    fn limits_are_limits() {
        let many: Vec<_> = (0..=CONTEXT_PAIRS_MAX).map(|n| (n.to_string(), String::new())).collect();
        assert!(EncryptionContext::new(many[1..].to_vec()).is_ok() && EncryptionContext::new(many).is_err());
        let long = "v".repeat(CONTEXT_LEN_MAX);
        assert!(context(&[("k", &long[1..])]).is_ok());
        let len = CONTEXT_LEN_MAX + 1;
        let refused = InvalidRequest::TooLarge { part: Part::Context, len, max: CONTEXT_LEN_MAX };
        assert_eq!(context(&[("k", &long)]), Err(refused));
        assert!("ж".repeat(8192).parse::<Description>().is_ok() && "d".repeat(8193).parse::<Description>().is_err());
        assert!("a\n\tb".parse::<Description>().is_ok() && "a\x1b[2J".parse::<Description>().is_err());
        assert!("ж".repeat(255).parse::<ContentType>().is_ok() && "x".repeat(256).parse::<ContentType>().is_err());
        assert_eq!("a\nb".parse::<ContentType>().unwrap_err().part(), Part::ContentType);
        assert_eq!(Token::parse(&[]), Ok(None));
        let token = "0192f000-abcd-7000-8000-000000000000".parse::<KeyId>().unwrap().0;
        assert_eq!(Token::parse(&token), Ok(Some(Token(token))));
        assert_eq!(Token(token).time_ms(), 0x0192_f000_abcd);
        assert!(Token::parse(&token[1..]).is_err() && Token::parse(&[1; 16]).is_err());
        assert!(DeletionWindow::from_days(6).is_err() && DeletionWindow::from_days(91).is_err());
        assert_eq!(DeletionWindow::from_days(0), DeletionWindow::from_days(30));
        assert_eq!(RotationPeriod::parse(0, 0), Ok(None));
        assert_eq!(RotationPeriod::parse(365, 0).unwrap().unwrap().millis(), 365 * crate::time::DAY_MS);
        assert!(RotationPeriod::parse(0, 3).unwrap().unwrap().is_brief());
        assert!(RotationPeriod::parse(3651, 0).is_err() && RotationPeriod::parse(1, 1).is_err());
        assert_eq!(DeletionWindow::parse(7, 0), DeletionWindow::from_days(7));
        let brief = DeletionWindow::parse(0, 3).unwrap();
        assert!(brief.is_brief() && brief.millis() == 3000 && !DeletionWindow::parse(0, 0).unwrap().is_brief());
        assert!(DeletionWindow::parse(7, 3).is_err() && DeletionWindow::parse(6, 0).is_err());
        assert!(KeyCount::parse(0).is_err() && KeyCount::parse(1001).is_err());
        assert_eq!(KeyCount::parse(1000).unwrap().get(), 1000);
        assert!(PageLen::parse(1001).is_err());
        assert_eq!(PageLen::parse(0).unwrap().get(), 100);
    }
}
