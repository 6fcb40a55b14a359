//! Free text.

use std::str::FromStr;

use super::{CONTENT_TYPE_LEN_MAX, DESCRIPTION_LEN_MAX, InvalidRequest, Part};

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
