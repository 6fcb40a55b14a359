//! The parts of requests, parsed once at the door into types that cannot be wrong.

mod context;
mod filter;
mod handle;
mod number;
mod part;
mod tags;
mod text;
mod token;

pub use self::context::EncryptionContext;
pub use self::filter::{KeyFilter, KeyStates};
pub use self::handle::KeyHandle;
pub use self::number::{DeletionWindow, KeyCount, PageLen, RotationPeriod};
pub use self::part::{InvalidRequest, Part};
pub use self::tags::{TAG_NAME_LEN_MAX, TAG_VALUE_LEN_MAX, TAGS_LEN_MAX, TAGS_MAX, Tags};
pub use self::text::{ContentType, Description};
pub use self::token::Token;
pub use crate::name::{AliasName, NamespaceName, ObjectName};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Reader, Writer};
    use crate::id::KeyId;

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
