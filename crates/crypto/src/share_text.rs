//! A share as text: bech32m, prefix `qs`, 85 characters, which is short enough for the code's guarantee that up to four
//! wrong characters are always found (key-hierarchy §5).
//!
//! People type it in groups of five: spaces, line ends and dashes are skipped, capitals accepted. A typing error is
//! located where the code can, but never corrected: a person compares it with the original.

use std::fmt;

use bech32::primitives::decode::UncheckedHrpstring;
use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use bech32::{Bech32m, Fe32, Hrp};
use zeroize::Zeroizing;

use crate::share::SHARE_LEN;

/// Length of a share's text without spaces, in characters.
pub const SHARE_TEXT_LEN: usize = 85;
const PREFIX: &str = "qs1";
const GROUP_LEN: usize = 5;

/// Where a typing error is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TypoHint {
    /// Too many or too few characters (spaces and dashes are not counted).
    Length {
        /// How many there are.
        got: usize,
    },
    /// One character is wrong: this one, both counted from 1, in groups of five.
    At {
        /// The group.
        group: usize,
        /// The character in it.
        place: usize,
    },
    /// Several characters are wrong, or exchanged; which, the code cannot tell.
    Several,
}

impl TypoHint {
    fn at(index: usize) -> Self {
        Self::At { group: index / GROUP_LEN + 1, place: index % GROUP_LEN + 1 }
    }
}

impl fmt::Display for TypoHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { got } => {
                write!(f, "it has {got} characters instead of {SHARE_TEXT_LEN} (spaces and dashes not counted)")
            }
            Self::At { group, place } => write!(f, "look at character {place} of group {group} (groups of five)"),
            Self::Several => f.write_str("more than one character is wrong"),
        }
    }
}

/// The text of a share's bytes, without spaces.
pub(crate) fn encode(bytes: &[u8; SHARE_LEN]) -> Zeroizing<String> {
    // Reserved at once, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(SHARE_TEXT_LEN));
    let hrp = Hrp::parse_unchecked("qs");
    // Character by character: the library's encoders leave the text in a buffer on the stack.
    text.extend(bytes.iter().copied().bytes_to_fes().with_checksum::<Bech32m>(&hrp).chars());
    text
}

/// What is wrong with a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TextError {
    /// It does not begin like a share.
    NotAShare,
    /// It was mistyped.
    Typo(TypoHint),
}

/// The bytes of a share's text.
pub(crate) fn decode(text: &str) -> Result<Zeroizing<[u8; SHARE_LEN]>, TextError> {
    let mut clean = Zeroizing::new(String::with_capacity(SHARE_TEXT_LEN + 4));
    let mut len = 0;
    let mut first_bad = None;
    for c in text.chars().filter(|c| !is_separator(*c)) {
        let c = c.to_ascii_lowercase();
        let good = PREFIX.chars().nth(len).map_or_else(|| Fe32::from_char(c).is_ok(), |p| p == c);
        if !good && first_bad.is_none() {
            first_bad = Some(len);
        }
        if len < SHARE_TEXT_LEN && c.is_ascii() {
            clean.push(c);
        }
        len += 1;
    }
    if first_bad.is_some_and(|at| at < PREFIX.len()) && len != SHARE_TEXT_LEN {
        return Err(TextError::NotAShare);
    }
    if len != SHARE_TEXT_LEN {
        return Err(TextError::Typo(TypoHint::Length { got: len }));
    }
    if let Some(at) = first_bad {
        return Err(TextError::Typo(TypoHint::at(at)));
    }
    let parsed = UncheckedHrpstring::new(&clean).map_err(|_| TextError::NotAShare)?;
    if !parsed.has_valid_checksum::<Bech32m>() {
        return Err(TextError::Typo(locate(&clean)));
    }
    let mut bytes = Zeroizing::new([0; SHARE_LEN]);
    for (byte, b) in bytes.iter_mut().zip(parsed.remove_checksum::<Bech32m>().byte_iter()) {
        *byte = b;
    }
    // One share has one text: the padding bits must be zero too.
    if *encode(&bytes) != *clean {
        return Err(TextError::Typo(TypoHint::Several));
    }
    Ok(bytes)
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}')
}

/// Which single character, exchanged for another, would make the text right. Tried one by one: the library's own
/// correction panics on some texts with three wrong characters.
fn locate(text: &str) -> TypoHint {
    let mut tried = Zeroizing::new(String::with_capacity(SHARE_TEXT_LEN));
    for i in PREFIX.len()..SHARE_TEXT_LEN {
        for other in Fe32::iter_alpha() {
            tried.clear();
            tried.push_str(&text[..i]);
            tried.push(other.to_char());
            tried.push_str(&text[i + 1..]);
            if UncheckedHrpstring::new(&tried).is_ok_and(|t| t.has_valid_checksum::<Bech32m>()) {
                return TypoHint::at(i);
            }
        }
    }
    TypoHint::Several
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grouped(text: &str, separator: &str) -> String {
        text.as_bytes().chunks(5).map(|c| std::str::from_utf8(c).unwrap()).collect::<Vec<_>>().join(separator)
    }

    fn sample() -> [u8; SHARE_LEN] {
        std::array::from_fn(|i| (i * 37 + 11) as u8)
    }

    #[test]
    fn the_text_has_85_characters_and_17_groups() {
        let text = encode(&sample());
        assert_eq!((text.len(), grouped(&text, " ").split(' ').count()), (SHARE_TEXT_LEN, 17));
        assert!(text.starts_with(PREFIX));
    }

    #[test]
    fn spaces_dashes_lines_and_capitals_are_accepted() {
        let text = encode(&sample());
        let shapes = [
            grouped(&text, " "),
            grouped(&text, "-"),
            grouped(&text, " \r\n\t"),
            grouped(&text, "\u{2011}").to_uppercase(),
            format!("  {}\n", text.to_uppercase()),
            format!("{}{}", text[..40].to_uppercase(), &text[40..]),
        ];
        for shape in shapes {
            assert_eq!(*decode(&shape).unwrap(), sample(), "{shape:?}");
        }
    }

    #[test]
    fn every_single_wrong_character_is_located() {
        let text = encode(&sample());
        for i in 0..SHARE_TEXT_LEN {
            // One that bech32 knows (in the prefix: any other), and one that it does not.
            for wrong in ['q', 'p', 'b', '!', 'é'] {
                if text.as_bytes()[i] as char == wrong {
                    continue;
                }
                let bad: String = text.chars().enumerate().map(|(k, c)| if k == i { wrong } else { c }).collect();
                assert_eq!(decode(&bad).err(), Some(TextError::Typo(TypoHint::at(i))), "{i} {wrong}");
            }
        }
        assert_eq!(TypoHint::at(84), TypoHint::At { group: 17, place: 5 });
    }

    #[test]
    fn lengths_and_foreign_texts_are_told_apart() {
        let text = encode(&sample());
        let length = |s: &str| decode(s).err();
        assert_eq!(length(&text[..84]), Some(TextError::Typo(TypoHint::Length { got: 84 })));
        assert_eq!(length(&format!("{}q", *text)), Some(TextError::Typo(TypoHint::Length { got: 86 })));
        for foreign in ["", "hello", "age1qqqqq", "AGE-SECRET-KEY-1QQQ"] {
            let expected =
                if foreign.is_empty() { TextError::Typo(TypoHint::Length { got: 0 }) } else { TextError::NotAShare };
            assert_eq!(length(foreign), Some(expected), "{foreign}");
        }
    }

    #[test]
    fn exchanged_neighbours_are_found() {
        let text = encode(&sample());
        for i in 3..SHARE_TEXT_LEN - 1 {
            let mut bad: Vec<char> = text.chars().collect();
            bad.swap(i, i + 1);
            if bad[i] != bad[i + 1] {
                assert!(matches!(decode(&bad.iter().collect::<String>()), Err(TextError::Typo(_))));
            }
        }
    }

    #[test]
    fn three_wrong_characters_that_make_the_library_panic_are_answered() {
        // bech32 0.12 says "error guaranteed to lie in base field" and panics if asked to correct this one.
        let mut bad: Vec<char> = encode(&sample()).chars().collect();
        for (at, delta) in [(39, 31), (49, 7), (78, 13)] {
            bad[at] = Fe32::try_from(Fe32::from_char(bad[at]).unwrap().to_u8() ^ delta).unwrap().to_char();
        }
        assert_eq!(decode(&bad.iter().collect::<String>()).err(), Some(TextError::Typo(TypoHint::Several)));
    }

    proptest! {
        #[test]
        fn round_trip(bytes in prop::array::uniform32(any::<u8>()), head in prop::array::uniform15(any::<u8>())) {
            let all: [u8; SHARE_LEN] = [&head[..], &bytes].concat().try_into().unwrap();
            prop_assert_eq!(*decode(&encode(&all)).unwrap(), all);
        }

        #[test]
        fn up_to_four_wrong_characters_never_pass(wrong in prop::collection::btree_map(3usize..85, 1u8..32, 1..=4)) {
            let text = encode(&sample());
            let mut bad: Vec<char> = text.chars().collect();
            for (at, delta) in wrong {
                let old = Fe32::from_char(bad[at]).unwrap().to_u8();
                bad[at] = Fe32::try_from(old ^ delta).unwrap().to_char();
            }
            prop_assert!(matches!(decode(&bad.iter().collect::<String>()), Err(TextError::Typo(_))));
        }

        #[test]
        fn any_text_is_answered(text: String) {
            prop_assert!(decode(&text).is_err());
        }
    }
}
