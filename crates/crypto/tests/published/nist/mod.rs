//! NIST's known answers, and those of RFCs that Python's `cryptography` keeps beside them: fetched by `scripts/setup tools`.

mod agreement;
mod derivation;
mod ecdsa;
mod files;
mod post_quantum;
mod rsa;
mod symmetric;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use quorate_core::key_spec::KeySpec;
use quorate_crypto::material::PublicKey;

use crate::{coordinate, spki};

/// What a case says: names and values. Those of a section or a key stand for the cases that follow.
type Case = BTreeMap<String, String>;

#[allow(clippy::disallowed_methods, reason = "a test reads its vectors")]
fn raw(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cryptography_vectors").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; scripts/setup tools fetches it", path.display()))
}

fn file(name: &str) -> String {
    String::from_utf8_lossy(&raw(name)).into_owned()
}

/// The cases of a file in CAVS's form. A case is whole with the first of `last`; a line without a value is a name with an empty one.
fn cases(name: &str, last: &[&str]) -> Vec<Case> {
    let text = file(name);
    let (mut cases, mut now) = (Vec::new(), Case::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let inner = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        let (name, value) = match (inner, line.split_once('=')) {
            (Some(inner), _) => inner.split_once('=').unwrap_or(("section", inner)),
            (None, Some(parts)) => parts,
            (None, None) => (line, ""),
        };
        let name = name.trim();
        now.insert(name.to_owned(), value.trim().to_owned());
        if last.contains(&name) {
            cases.push(now.clone());
            last.iter().for_each(|name| _ = now.remove(*name));
        }
    }
    assert!(!cases.is_empty(), "{name}");
    cases
}

fn text<'a>(case: &'a Case, name: &str) -> &'a str {
    case.get(name).unwrap_or_else(|| panic!("no {name} in {case:?}"))
}

fn unhex(text: &str) -> Vec<u8> {
    // Numbers may have an odd number of digits.
    let text = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_owned() };
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn bytes(case: &Case, name: &str) -> Vec<u8> {
    unhex(text(case, name))
}

/// The kind of key that NIST's name of a curve means.
fn curve(name: &str) -> Option<KeySpec> {
    match name {
        "P-256" => Some(KeySpec::P256),
        "P-384" => Some(KeySpec::P384),
        "P-521" => Some(KeySpec::P521),
        _ => None,
    }
}

/// The public key with those coordinates; `None` = no point of the curve.
fn public(spec: KeySpec, x: &[u8], y: &[u8]) -> Option<PublicKey> {
    let point = [vec![4], coordinate(spec, x)?, coordinate(spec, y)?].concat();
    PublicKey::parse(&spki(spec, &point)).ok()
}
