//! Every label `quorate/v1/<purpose>` in the workspace is used in exactly one place, whichever crate it stands in: two
//! purposes under one label would share keys or hashes.

#![allow(clippy::disallowed_methods, reason = "a test reads the sources")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use quorate_crypto::kdf::Label;

const PREFIX: &str = "quorate/v1/";

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn every_label_is_used_in_one_place() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for entry in fs::read_dir(crates).unwrap() {
        let src = entry.unwrap().path().join("src");
        if src.is_dir() {
            sources(&src, &mut files);
        }
    }
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for label in Label::ALL {
        places.entry(label.as_str().into()).or_default().push(format!("Label::{label:?}"));
    }
    let mut seen = 0;
    for file in &files {
        for (i, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
            // Comments may speak of a label; code quotes it whole.
            for literal in line.split('"').skip(1).step_by(2).filter(|_| !line.trim_start().starts_with("//")) {
                let purpose = literal.strip_prefix(PREFIX).unwrap_or_default();
                if !purpose.is_empty()
                    && purpose.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                {
                    seen += 1;
                    places.entry(literal.into()).or_default().push(format!("{}:{}", file.display(), i + 1));
                }
            }
        }
    }
    assert!(seen > 0, "the search finds the labels of core and replica");
    for (label, places) in places {
        assert_eq!(places.len(), 1, "{label} is used in {places:?}");
    }
}
