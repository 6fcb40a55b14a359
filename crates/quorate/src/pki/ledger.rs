//! What the authority has issued: a line of JSON for each certificate, written before anybody gets it.
//!
//! It holds no secret, and nothing depends on it: it answers which certificates there are, and which end soon.

use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
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
    /// SHA-256 of its public key (SPKI, DER), in hexadecimal: what it is revoked by. Empty where an earlier version has written it.
    #[serde(default)]
    pub credential: String,
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
    let mut options = std::fs::OpenOptions::new();
    let written = options.read(true).append(true).create(true).mode(0o600).open(path).and_then(|mut file| {
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        // A line that was cut off stays one line, and takes no other with it.
        let len = file.metadata()?.len();
        let mut last = [b'\n'];
        if len > 0 {
            file.read_exact_at(&mut last, len - 1)?;
        }
        if last != [b'\n'] {
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        file.sync_all()
    });
    written.map_err(|source| PkiError::Io { doing: "write", path: path.to_owned(), source })
}

/// The ledger as far as it can be read.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ledger {
    /// The certificates, the oldest first.
    pub issued: Vec<Issued>,
    /// Lines that are none, from 1: a command that was cut off.
    pub unreadable: Vec<usize>,
}

/// All of it; nothing when the authority is from before there was a ledger.
#[expect(clippy::disallowed_methods, reason = "an operator's files, not a node's disk")]
pub fn read(path: &Path) -> Result<Ledger, PkiError> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Ledger::default()),
        other => other.map_err(|source| PkiError::Io { doing: "read", path: path.to_owned(), source })?,
    };
    let mut ledger = Ledger::default();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_str(line) {
            Ok(issued) => ledger.issued.push(issued),
            Err(_) => ledger.unreadable.push(n + 1),
        }
    }
    Ok(ledger)
}

fn damaged(path: &Path, line: usize, why: &serde_json::Error) -> PkiError {
    PkiError::Damaged { path: path.to_owned(), reason: format!("line {line}: {why}") }
}

/// What a certificate is good for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The newest of its principal, and valid.
    InForce,
    /// Valid, and nodes take it; its principal has a newer one.
    Superseded,
    /// No longer valid.
    Expired,
}

impl Standing {
    /// For people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Superseded => "superseded",
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
        Standing::Superseded
    } else {
        Standing::InForce
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write an operator's files")]
mod tests {
    use super::*;

    fn issued(principal: &str, ends_ms: u64) -> Issued {
        Issued {
            principal: principal.into(),
            serial: "01".into(),
            sha256: "ab".into(),
            credential: "cd".into(),
            issued_ms: 1,
            ends_ms,
        }
    }

    #[test]
    fn what_was_issued_is_read_back_and_a_line_that_was_cut_off_takes_no_other_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(read(&path).unwrap(), Ledger::default());
        let all = [issued("admin/a", 5), issued("node/n1", 50), issued("admin/a", 60)];
        add(&path, &all[0]).unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"prin").unwrap();
        for one in &all[1..] {
            add(&path, one).unwrap();
        }
        assert_eq!(read(&path).unwrap(), Ledger { issued: all.to_vec(), unreadable: vec![2] });
        let standings: Vec<_> = (0..3).map(|n| standing(&all, n, 5).as_str()).collect();
        assert_eq!(standings, ["expired", "in force", "in force"]);
        assert_eq!(standing(&all, 0, 4), Standing::Superseded);
    }
}
