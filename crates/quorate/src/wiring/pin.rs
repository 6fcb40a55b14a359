//! Where the token's user PIN comes from. It is tried once: tokens lock after a few wrong ones.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use quorate_hsm::Pin;
use zeroize::Zeroizing;

use crate::command::failure::{CommandResult, Failure};

/// Name of the systemd credential (`LoadCredential=hsm-pin:…`).
const CREDENTIAL: &str = "hsm-pin";

/// Reads the PIN: from `file` if one is configured, else the systemd credential `hsm-pin`, else at a prompt.
///
/// # Errors
/// The file can't be read or is readable by others; or there is no credential and no terminal to ask at.
pub fn read(file: Option<&Path>, token_label: &str) -> CommandResult<Pin> {
    if let Some(file) = file {
        return from_file(file);
    }
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join(CREDENTIAL));
    if let Some(credential) = credential.filter(|c| c.exists()) {
        return from_file(&credential);
    }
    let none = |why: String| {
        let todo = "set hsm.pin_file, or the systemd credential hsm-pin, or start at a terminal";
        Failure::failed("no PIN for the token", why, todo)
    };
    if !std::io::stdin().is_terminal() {
        return Err(none("no file is configured, and there is no terminal to ask at".into()));
    }
    let pin = rpassword::prompt_password(format!("PIN of token {token_label}: ")).map_err(|e| none(e.to_string()))?;
    Ok(Pin::new(Zeroizing::new(pin.into_bytes())))
}

#[expect(clippy::disallowed_methods, reason = "read once at start, before there is a World")]
fn from_file(path: &Path) -> CommandResult<Pin> {
    use std::os::unix::fs::PermissionsExt;
    let unreadable = |e: std::io::Error| {
        let todo = "hsm.pin_file must name a file with the token's user PIN, mode 0400";
        Failure::failed(format!("can't read the PIN file {}", path.display()), e, todo)
    };
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::failed(
            format!("the PIN file {} is open to others (mode {:04o})", path.display(), mode & 0o7777),
            "whoever reads it can use the token",
            format!("chmod 0400 {}", path.display()),
        ));
    }
    Ok(Pin::new(Zeroizing::new(std::fs::read(path).map_err(unreadable)?)))
}
