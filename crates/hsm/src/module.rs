//! The vendor's library, loaded once per process and never unloaded.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::slot::Slot;

use crate::HsmError;

/// Every module this process has loaded. PKCS#11 knows one C_Initialize per process and library.
static LOADED: Mutex<Vec<Arc<Module>>> = Mutex::new(Vec::new());

struct Module {
    path: PathBuf,
    pkcs11: Pkcs11,
    users: AtomicUsize,
}

/// One user's hold on a module.
pub(crate) struct ModuleUse(Arc<Module>);

impl Drop for ModuleUse {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

impl ModuleUse {
    /// Loads and initialises the module, or joins those who use it already.
    pub(crate) fn load(path: &Path) -> Result<Self, HsmError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match loaded.iter().find(|m| m.path == path) {
            Some(module) => module.clone(),
            None => {
                let refused = |e: Error| HsmError::ModuleNotLoadable { module: path.to_owned(), reason: e.to_string() };
                let pkcs11 = Pkcs11::new(path).map_err(refused)?;
                initialise(&pkcs11).map_err(|e| match e {
                    Error::Pkcs11(rv, _) => {
                        HsmError::ModuleNotLoadable { module: path.to_owned(), reason: format!("C_Initialize: {rv:?}") }
                    }
                    other => refused(other),
                })?;
                let module = Arc::new(Module { path: path.to_owned(), pkcs11, users: AtomicUsize::new(0) });
                loaded.push(module.clone());
                module
            }
        };
        module.users.fetch_add(1, Ordering::AcqRel);
        Ok(Self(module))
    }

    pub(crate) fn pkcs11(&self) -> &Pkcs11 {
        &self.0.pkcs11
    }

    /// Stops and starts the library, which makes it look at its devices afresh. Every session and handle of this
    /// process is void afterwards, so that it is done only for the sole user; returns whether it was done.
    pub(crate) fn restart(&self) -> Result<bool, HsmError> {
        let _exclusive = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.users.load(Ordering::Acquire) != 1 {
            return Ok(false);
        }
        self.0.pkcs11.clone().finalize()?;
        initialise(&self.0.pkcs11)?;
        Ok(true)
    }

    /// The slot of the one initialised token with this label.
    pub(crate) fn slot(&self, label: &str) -> Result<Slot, HsmError> {
        let mut seen = Vec::new();
        let mut found = Vec::new();
        for slot in self.pkcs11().get_slots_with_token()? {
            // A slot whose token has just gone is not a reason to miss the others.
            let Ok(info) = self.pkcs11().get_token_info(slot) else { continue };
            if !info.token_initialized() {
                continue;
            }
            let this = info.label().trim_end();
            if this == label {
                found.push(slot);
            }
            seen.push(this.to_owned());
        }
        match found[..] {
            [slot] => Ok(slot),
            [] => Err(HsmError::TokenAbsent { label: label.to_owned(), seen }),
            _ => Err(HsmError::TokenAmbiguous { label: label.to_owned(), count: found.len() }),
        }
    }
}

fn initialise(pkcs11: &Pkcs11) -> Result<(), Error> {
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Someone else in this process (another library) uses the same module: that is fine.
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}
