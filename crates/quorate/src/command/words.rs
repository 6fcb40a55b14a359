//! The domain's words on the command line: kinds, usages, algorithms, tags, dates.

use clap::builder::PossibleValuesParser;
use quorate_client::v1::Tag;
use quorate_core::key_spec::{Algorithm, KeySpec, Purpose};
use quorate_core::record::{GCM_USES_DUE, GCM_USES_MAX};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// Kinds of keys.
pub fn specs() -> PossibleValuesParser {
    PossibleValuesParser::new(KeySpec::ALL.iter().map(|spec| spec.as_str()))
}

/// What keys are for.
pub fn purposes() -> PossibleValuesParser {
    PossibleValuesParser::new(Purpose::ALL.iter().map(|purpose| purpose.as_str()))
}

/// By which algorithms.
pub fn algorithms() -> PossibleValuesParser {
    PossibleValuesParser::new(Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()))
}

/// How often a version may have encrypted by aes-gcm; empty = it does not.
pub fn gcm_uses(uses: Option<u64>) -> String {
    uses.map_or(String::new(), |uses| match uses {
        GCM_USES_MAX => "all 2^32, used up: rotate the key".into(),
        GCM_USES_DUE.. => format!("at most {uses} of 2^32: rotate the key"),
        _ => format!("at most {uses} of 2^32"),
    })
}

/// A tag.
pub fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, as in team=shop".into()),
    }
}

/// Tags, as requests have them.
pub fn to_proto(tags: Vec<(String, String)>) -> Vec<Tag> {
    tags.into_iter().map(|(name, value)| Tag { name, value }).collect()
}

/// Tags, for people.
pub fn tags(tags: &[Tag], between: &str) -> String {
    tags.iter().map(|tag| format!("{}={}", tag.name, tag.value)).collect::<Vec<_>>().join(between)
}

/// Tags, for programs.
pub fn tags_to_json(tags: &[Tag]) -> Map<String, Value> {
    tags.iter().map(|tag| (tag.name.clone(), tag.value.clone().into())).collect()
}

/// A date, as milliseconds since 1970; 0 = none.
pub fn date(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(0);
    }
    let day = format_description!("[year]-[month]-[day]");
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| time::Date::parse(text, &day).map(|day| day.midnight().assume_utc()));
    let ms = moment.ok().and_then(|moment| u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok());
    ms.filter(|ms| *ms != 0)
        .ok_or_else(|| "expected a day such as 2027-01-31, a moment such as 2027-01-31T09:30:00Z, or none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_or_moments() {
        assert_eq!(date("none"), Ok(0));
        assert_eq!(date("2000-02-29"), Ok(951_782_400_000));
        assert_eq!(date("2000-02-29T01:00:00+01:00"), Ok(951_782_400_000));
        assert_eq!(date("2000-02-29T00:00:00.25Z"), Ok(951_782_400_250));
        for bad in ["", "0", "tomorrow", "2001-02-29", "1969-12-31", "1970-01-01", "2000-02-29 00:00"] {
            assert!(date(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_is_split_at_the_first_equals_sign() {
        assert_eq!(tag("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(tag("a="), Ok(("a".into(), String::new())));
        assert!(tag("=b").is_err() && tag("ab").is_err());
    }
}
