//! What is done to a stopped node: one byte of one file becomes another, or one file ends early.

use std::fmt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Kinds of files, for the table and for what has to be named.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Segment,
    Mark,
    State,
    Current,
    NodeFile,
    Token,
    Pin,
    Certificate,
    Config,
    Other,
}

impl Kind {
    fn of(path: &Path) -> Self {
        let text = path.to_string_lossy();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match &*name {
            "mark" => Self::Mark,
            "CURRENT" => Self::Current,
            "node" => Self::NodeFile,
            "pin" => Self::Pin,
            "node.pem" | "ca.pem" => Self::Certificate,
            "node.toml" => Self::Config,
            _ if name.ends_with(".seg") || name.ends_with(".next") => Self::Segment,
            _ if name.starts_with("state") => Self::State,
            _ if text.contains("/token/") => Self::Token,
            _ => Self::Other,
        }
    }

    /// Whether `text` lets an operator find what is wrong.
    pub fn is_named_in(self, text: &str) -> bool {
        let words: &[&str] = match self {
            Self::Segment => &["/journal/"],
            Self::Mark => &["/journal/mark"],
            Self::State => &["/data/state"],
            Self::Current => &["/data/CURRENT"],
            Self::NodeFile => &["/data/node"],
            Self::Token => &["token"],
            Self::Pin => &["PIN"],
            Self::Certificate => &["tls.cert", "tls.root_ca"],
            // Any complaint: it is about what the configuration now says.
            Self::Config => &[""],
            Self::Other => &["join-token"],
        };
        words.iter().any(|w| text.contains(w))
    }
}

/// What is done.
#[derive(Clone, Copy)]
enum Harm {
    Flip { at: u64, mask: u8 },
    Cut { at: u64 },
}

/// What is done to which file.
pub struct Plan {
    pub kind: Kind,
    file: PathBuf,
    harm: Harm,
    len: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.harm {
            Harm::Flip { at, mask } => write!(f, "byte {at} of {} of {file} xor {mask:#04x}", self.len),
            Harm::Cut { at } => write!(f, "{file} cut to {at} of {} bytes", self.len),
        }
    }
}

impl Plan {
    /// Chooses a file of the node in `node`, or its root certificate, and what to do to it; every file is as likely as
    /// any other, the journal and the state three times as likely.
    pub fn choose(seed: u64, node: &Path, ca: &Path) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut files = vec![ca.to_owned()];
        list(node, &mut files);
        files.sort();
        let weight = |f: &PathBuf| if matches!(Kind::of(f), Kind::Segment | Kind::State) { 3 } else { 1 };
        let file = files.choose_weighted(&mut rng, weight).expect("there are files").clone();
        let bytes = std::fs::read(&file).expect("readable");
        let len = bytes.len() as u64;
        let harm = if rng.random_ratio(1, 4) {
            Harm::Cut { at: rng.random_range(0..len) }
        } else {
            // Files are mostly zeros that were never written: look for a byte that means something, mostly.
            let mut at = rng.random_range(0..len);
            if rng.random_ratio(7, 8) {
                let written: Vec<u64> = (0..len).filter(|i| bytes[*i as usize] != 0).collect();
                at = *written.choose(&mut rng).unwrap_or(&at);
            }
            Harm::Flip { at, mask: rng.random_range(1..=255) }
        };
        Self { kind: Kind::of(&file), file, harm, len }
    }

    /// Does it.
    pub fn carry_out(&self) {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&self.file).expect("there").permissions();
        std::fs::set_permissions(&self.file, std::fs::Permissions::from_mode(0o600)).expect("ours");
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&self.file).expect("opens");
        match self.harm {
            Harm::Flip { at, mask } => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("within the file");
                file.write_all_at(&[byte[0] ^ mask], at).expect("written");
            }
            Harm::Cut { at } => file.set_len(at).expect("cut"),
        }
        std::fs::set_permissions(&self.file, mode).expect("ours");
    }
}

/// All files that have bytes, beside the node's own log, which nobody reads.
fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("readable") {
        let entry = entry.expect("readable");
        let path = entry.path();
        if entry.file_type().expect("known").is_dir() {
            list(&path, files);
        } else if entry.metadata().expect("readable").len() > 0 && !path.ends_with("node.log") {
            files.push(path);
        }
    }
}
