//! How many, how long, how often.

use super::{
    DELETION_DAYS_DEFAULT, DELETION_DAYS_MAX, DELETION_DAYS_MIN, InvalidRequest, KEYS_PER_REQUEST_MAX,
    PAGE_LEN_DEFAULT, PAGE_LEN_MAX, Part, ROTATION_DAYS_MAX,
};

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
