//! Finds known secrets and names in bytes that must not hold them (promise P3): as they are, in hexadecimal, base64, reversed.

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The shortest secret that is searched for, in bytes: what is shorter may occur by chance.
const LEN_MIN: usize = 12;

/// What must not be found, in all its forms, searched for in one pass.
pub struct Canaries {
    forms: Vec<(String, &'static str)>,
    longest: usize,
    search: AhoCorasick,
}

impl Canaries {
    /// Of secrets and what to call them.
    ///
    /// # Errors
    /// When one is too short to be told from chance.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> anyhow::Result<Self> {
        let (mut forms, mut patterns) = (Vec::new(), Vec::new());
        for (name, secret) in secrets {
            anyhow::ensure!(secret.len() >= LEN_MIN, "{name} is shorter than {LEN_MIN} bytes");
            for (how, form) in all_forms(secret) {
                forms.push((name.to_owned(), how));
                patterns.push(form);
            }
        }
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(1);
        Ok(Self { forms, longest, search: AhoCorasick::new(patterns)? })
    }

    /// The length of the longest form, bytes, at least 1.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// What was found, how, and where; at most one place for each secret.
    pub fn find(&self, bytes: &[u8]) -> Vec<String> {
        let mut found: Vec<(&str, String)> = Vec::new();
        for hit in self.search.find_iter(bytes) {
            let (name, how) = &self.forms[hit.pattern().as_usize()];
            if found.iter().all(|(known, _)| known != name) {
                found.push((name, format!("{name} {how}, at byte {}", hit.start())));
            }
        }
        found.into_iter().map(|(_, words)| words).collect()
    }
}

fn all_forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    let mut forms = vec![
        ("as it is", secret.to_vec()),
        ("reversed", secret.iter().rev().copied().collect()),
        ("in hexadecimal", hex.to_uppercase().into_bytes()),
        ("in hexadecimal", hex.into_bytes()),
    ];
    // In base64 the text depends on where the secret begins: one form for each of the three phases, without the
    // characters that its neighbours would change.
    for (phase, begin) in [(0, 0), (1, 2), (2, 3)] {
        let padded = [&vec![0; phase][..], secret].concat();
        let text = STANDARD_NO_PAD.encode(&padded).into_bytes();
        forms.push(("in base64", text[begin..padded.len() / 3 * 4].to_vec()));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"attack at dawn!";

    fn found(bytes: &[u8]) -> Vec<String> {
        Canaries::new([("another", b"nothing like it".as_slice()), ("the plan", SECRET)]).unwrap().find(bytes)
    }

    #[test]
    fn every_form_is_found_wherever_it_begins() {
        let hex: String = SECRET.iter().map(|b| format!("{b:02x}")).collect();
        let mut reversed = SECRET.to_vec();
        reversed.reverse();
        for bytes in [SECRET.to_vec(), hex.clone().into_bytes(), hex.to_uppercase().into_bytes(), reversed] {
            assert_eq!(found(&[b"ab".as_slice(), &bytes, b"cd"].concat()).len(), 1);
        }
        for before in 0..5 {
            let text = STANDARD_NO_PAD.encode([&vec![7; before][..], SECRET, b"zz"].concat());
            let found = found(text.as_bytes());
            assert!(found[0].starts_with("the plan in base64"), "{before}: {found:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert!(found(b"attack at dusk! aaattack at dawn").is_empty());
        assert!(found(b"").is_empty());
        assert!(Canaries::new([("short", b"123".as_slice())]).is_err());
    }
}
