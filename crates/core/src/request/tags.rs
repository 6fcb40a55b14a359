//! What is put on keys and versions.

use std::collections::BTreeMap;

use super::{InvalidRequest, Part};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::quoted;

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
