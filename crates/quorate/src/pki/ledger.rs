//! What the authority has issued: a line of JSON for each certificate, written before anybody gets it.
//!
//! It holds no secret, and nothing depends on it: it answers which certificates there are, and which end soon.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PkiError;

/// The file's name in the authority's folder.
pub const FILE: &str = "issued.jsonl";

/// One certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Issued {
    /// Whose it is: role and name, as in `admin/alice` or `node/n1`.
    pub principal: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate (DER), in hexadecimal.
    pub sha256: String,
    /// When it was made, ms since 1970.
    pub issued_ms: u64,
    /// Until when it is valid, ms since 1970.
    pub ends_ms: u64,
}

/// Adds a certificate; on disk when this returns.
#[expect(clippy::disallowed_methods, reason = "an operator's files, not a node's disk")]
pub fn add(path: &Path, issued: &Issued) -> Result<(), PkiError> {
    let mut line = serde_json::to_vec(issued).map_err(|e| damaged(path, 0, &e))?;
    line.push(b'\n');
    // One write: two commands at a time add two lines.
    let written = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(&line)?;
        file.sync_all()
    });
    written.map_err(|source| PkiError::Io { doing: "write", path: path.to_owned(), source })
}

/// All of them, the oldest first; none when the authority is from before there was a ledger.
#[expect(clippy::disallowed_methods, reason = "an operator's files, not a node's disk")]
pub fn read(path: &Path) -> Result<Vec<Issued>, PkiError> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| PkiError::Io { doing: "read", path: path.to_owned(), source })?,
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(n, line)| serde_json::from_str(line).map_err(|e| damaged(path, n + 1, &e))).collect()
}

fn damaged(path: &Path, line: usize, why: &serde_json::Error) -> PkiError {
    PkiError::Damaged { path: path.to_owned(), reason: format!("line {line}: {why}") }
}

/// What a certificate is good for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The newest of its principal, and valid.
    InForce,
    /// Valid, but its principal has a newer one.
    Replaced,
    /// No longer valid.
    Expired,
}

impl Standing {
    /// For people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Replaced => "replaced",
            Self::Expired => "expired",
        }
    }
}

/// What the certificate at `place` of all is good for.
pub fn standing(all: &[Issued], place: usize, now_ms: u64) -> Standing {
    let this = &all[place];
    if this.ends_ms <= now_ms {
        Standing::Expired
    } else if all[place + 1..].iter().any(|later| later.principal == this.principal) {
        Standing::Replaced
    } else {
        Standing::InForce
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write an operator's files")]
mod tests {
    use super::*;

    fn issued(principal: &str, ends_ms: u64) -> Issued {
        Issued { principal: principal.into(), serial: "01".into(), sha256: "ab".into(), issued_ms: 1, ends_ms }
    }

    #[test]
    fn what_was_issued_is_read_back_and_a_line_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(read(&path).unwrap(), []);
        let all = [issued("admin/a", 5), issued("node/n1", 50), issued("admin/a", 60)];
        for one in &all {
            add(&path, one).unwrap();
        }
        assert_eq!(read(&path).unwrap(), all);
        let standings: Vec<_> = (0..3).map(|n| standing(&all, n, 5).as_str()).collect();
        assert_eq!(standings, ["expired", "in force", "in force"]);
        assert_eq!(standing(&all, 0, 4), Standing::Replaced);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"prin").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 4"));
    }
}
