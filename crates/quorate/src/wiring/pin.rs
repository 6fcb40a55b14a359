//! Where the token's user PIN comes from. It is tried once: tokens lock after a few wrong ones.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use quorate_hsm::Pin;
use zeroize::Zeroizing;

use crate::command::failure::{CommandResult, Failure};
use crate::prompt;

/// Name of the systemd credential (`LoadCredential=hsm-pin:…`).
const CREDENTIAL: &str = "hsm-pin";

/// Reads the PIN: from `file` if one is configured, else the systemd credential `hsm-pin`, else at a prompt.
///
/// # Errors
/// The file can't be read or is readable by others; or there is no credential and no terminal to ask at.
pub fn read(file: Option<&Path>, token_label: &str) -> CommandResult<Pin> {
    if let Some(file) = file {
        return from_file(file, 0o077);
    }
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join(CREDENTIAL));
    if let Some(credential) = credential.filter(|c| c.exists()) {
        // systemd grants it to the service by an ACL, which shows as rights of the group.
        return from_file(&credential, 0o007);
    }
    let none = |why: String| {
        let todo = "set hsm.pin_file, or the systemd credential hsm-pin, or start at a terminal";
        Failure::failed("no PIN for the token", why, todo)
    };
    if !std::io::stdin().is_terminal() {
        return Err(none("no file is configured, and there is no terminal to ask at".into()));
    }
    let prompt = format!("PIN of token {token_label}: ");
    let mut pin = prompt::read_secret(&prompt, Pin::LEN_MAX + 1).map_err(|e| none(e.to_string()))?;
    let pin = Zeroizing::new(std::mem::take(&mut *pin).into_bytes());
    Pin::new(pin).ok_or_else(|| too_long("what was typed"))
}

#[expect(clippy::disallowed_methods, reason = "read once at start, before there is a World")]
fn from_file(path: &Path, forbidden: u32) -> CommandResult<Pin> {
    use std::os::unix::fs::PermissionsExt;
    let unreadable = |e: std::io::Error| {
        let todo = "hsm.pin_file must name a file with the token's user PIN, mode 0400";
        Failure::failed(format!("can't read the PIN file {}", path.display()), e, todo)
    };
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & forbidden != 0 {
        return Err(Failure::failed(
            format!("the PIN file {} is open to others (mode {:04o})", path.display(), mode & 0o7777),
            "whoever reads it can use the token",
            format!("chmod 0400 {}", path.display()),
        ));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
    Pin::new(bytes).ok_or_else(|| too_long(&path.display().to_string()))
}

fn too_long(what: &str) -> Failure {
    let why = format!("{what} is longer than {} bytes", Pin::LEN_MAX);
    Failure::failed("that is no PIN", why, "hsm.pin_file must name a file with the token's user PIN alone, mode 0400")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pin_that_others_can_read_is_refused_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        std::fs::write(&path, "s3cret-pin\n").unwrap();
        for (mode, file, credential) in
            [(0o400, true, true), (0o600, true, true), (0o440, false, true), (0o444, false, false)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            for (forbidden, taken) in [(0o077, file), (0o007, credential)] {
                let read = from_file(&path, forbidden);
                assert_eq!(read.is_ok(), taken, "{mode:o}");
                let shown = read.map_or_else(|e| e.to_string(), |pin| format!("{pin:?}"));
                assert!(!shown.contains("s3cret"), "{shown}");
            }
        }
        assert!(from_file(&dir.path().join("none"), 0o077).is_err());
    }
}
