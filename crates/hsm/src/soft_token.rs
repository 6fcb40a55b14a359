//! A real SoftHSM2 token in a folder, for development and tests. Its files are its keys: never for production.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use zeroize::Zeroizing;

use crate::{HsmConfig, Pin, TokenProfile};

/// Where Debian, Fedora and others put the module.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// A SoftHSM2 token and how to reach it.
#[derive(Debug, Clone)]
pub struct SoftToken {
    /// Its folder: `softhsm2.conf` and `tokens/`.
    pub dir: PathBuf,
    /// Its label.
    pub label: String,
    /// Its user PIN: not a secret worth the name, as the folder holds the keys.
    pub pin: String,
}

impl SoftToken {
    /// Makes the folder, the configuration and an initialised token. The PINs pass through the tool's arguments, which
    /// is one more reason why this is for development only.
    ///
    /// # Errors
    /// SoftHSM2 is not installed, or the tool failed (its words are in the error).
    pub fn create(dir: &Path, label: &str, pin: &str) -> io::Result<Self> {
        let this = Self { dir: std::path::absolute(dir)?, label: label.to_owned(), pin: pin.to_owned() };
        std::fs::create_dir_all(this.tokens())?;
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            this.tokens().display()
        );
        #[expect(clippy::disallowed_methods, reason = "a tool's configuration file, not state behind the Disk seam")]
        std::fs::write(this.conf(), conf)?;
        let output = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--so-pin", pin, "--pin", pin])
            .envs(this.environment())
            .output()
            .map_err(|e| io::Error::new(e.kind(), format!("can't run softhsm2-util: {e}; install SoftHSM2")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(io::Error::other(format!("softhsm2-util could not make the token {label:?}: {said}")));
        }
        Ok(this)
    }

    fn conf(&self) -> PathBuf {
        self.dir.join("softhsm2.conf")
    }

    /// The folder of the token's object files.
    pub fn tokens(&self) -> PathBuf {
        self.dir.join("tokens")
    }

    /// What the module must find in its environment.
    pub fn environment(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("SOFTHSM2_CONF".to_owned(), self.conf().display().to_string())])
    }

    /// The SoftHSM2 module of this machine.
    ///
    /// # Errors
    /// It is in none of the usual places.
    pub fn module() -> io::Result<PathBuf> {
        MODULES.iter().map(PathBuf::from).find(|p| p.exists()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("libsofthsm2.so is in none of {MODULES:?}; install SoftHSM2"),
            )
        })
    }

    /// The configuration that opens it.
    ///
    /// # Errors
    /// SoftHSM2 is not installed.
    pub fn config(&self) -> io::Result<HsmConfig> {
        Ok(HsmConfig {
            module: Self::module()?,
            token_label: self.label.clone(),
            environment: self.environment(),
            profile: TokenProfile::SoftHsm,
            deadline: HsmConfig::DEADLINE,
        })
    }

    /// The user PIN.
    pub fn pin(&self) -> Pin {
        Pin::new(Zeroizing::new(self.pin.as_bytes().to_vec())).expect("a short PIN")
    }

    /// Sets the environment of a *test* process, whose harness has threads already. Each test must have a process of
    /// its own (nextest), and call this before anything else.
    #[cfg(any(test, feature = "test-environment"))]
    pub fn danger_set_test_environment(&self) {
        for (name, value) in self.environment() {
            // SAFETY: the test's own process; its other thread (the harness) waits for this one and reads no variables.
            #[allow(unsafe_code)]
            unsafe {
                std::env::set_var(name, value);
            }
        }
    }
}
