//! A logged-in session with one token, kept alive: what fails is found again once, by label and id.

use std::sync::Arc;

use cryptoki::context::Function;
use cryptoki::error::{Error as Pkcs11Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use quorate_core::id::Name;
use quorate_crypto::{HsmAlg, Secret};

use crate::attributes::Usage;
use crate::error::Failure;
use crate::keys::{self, Handles, KemChoice, KeyRole, KeySelection, NodeKeys, Pair};
use crate::module::ModuleUse;
use crate::{HsmConfig, HsmError, Pin, TokenProfile, data, mechanism};

/// The token as the worker thread sees it.
pub(crate) struct Connection {
    config: Arc<HsmConfig>,
    pin: Pin,
    /// Set once the token refused the PIN. Tokens lock: no PIN is ever tried twice.
    pin_refused: bool,
    node: Option<Wanted>,
    /// Before `module`, so that the session closes while the module is held.
    live: Option<Live>,
    module: ModuleUse,
}

/// The keys to find again after a failure.
struct Wanted {
    node: Name,
    select: KeySelection,
    kem_alg: Option<HsmAlg>,
}

/// A session and the handles valid in it.
pub(crate) struct Live {
    session: Session,
    keys: Option<Handles>,
    slot: Slot,
}

/// Which of the node's signing keys.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signing {
    Identity,
    Audit,
}

impl Connection {
    /// Finds the token, opens a session and logs in: one attempt.
    pub(crate) fn open(config: Arc<HsmConfig>, pin: Pin) -> Result<Self, HsmError> {
        crate::environment::check(&config.environment)?;
        crate::crash::prepare_last_words(format!(
            "error: the PKCS#11 module {} crashed while it worked with the token {:?}\n  why: a token that is damaged can \
             make its module crash\n  do : restore the token from its backup, look for a newer version of the module, \
             or {}\n",
            config.module.display(),
            config.token_label,
            quorate_core::REPLACE_MEMBER
        ));
        let module = ModuleUse::load(&config.module)?;
        let mut this = Self { config, pin, pin_refused: false, node: None, live: None, module };
        this.live = Some(this.connect()?);
        Ok(this)
    }

    /// What the token says of itself.
    pub(crate) fn token_info(&mut self) -> Result<TokenInfo, HsmError> {
        let slot = self.module.slot(&self.config.token_label)?;
        Ok(self.module.pkcs11().get_token_info(slot)?)
    }

    fn connect(&mut self) -> Result<Live, HsmError> {
        let slot = self.module.slot(&self.config.token_label)?;
        let info = self.module.pkcs11().get_token_info(slot)?;
        self.check_pin_state(&info)?;
        let session = self.module.pkcs11().open_rw_session(slot)?;
        self.login(&session, slot)?;
        let keys = match &self.node {
            None => None,
            Some(w) => Some(keys::load(&session, &w.node, &w.select, w.kem_alg)?),
        };
        Ok(Live { session, keys, slot })
    }

    /// Everything that can be known to make a login futile or dangerous, before a try is spent.
    fn check_pin_state(&self, info: &TokenInfo) -> Result<(), HsmError> {
        let label = self.config.token_label.clone();
        let length = self.pin.expose().len();
        let (min, max) = (info.min_pin_length(), info.max_pin_length());
        if self.pin_refused {
            return Err(HsmError::PinWrong { label, last_try: info.user_pin_final_try() });
        }
        if !info.user_pin_initialized() {
            return Err(HsmError::PinNotInitialised { label });
        }
        if info.user_pin_locked() {
            return Err(HsmError::PinLocked { label });
        }
        if info.user_pin_final_try() {
            return Err(HsmError::PinFinalTry { label });
        }
        // Some tokens report 0 as the maximum, meaning none.
        if length < min || (max != 0 && length > max) {
            return Err(HsmError::PinLength { label, length, min, max });
        }
        if info.user_pin_count_low() {
            tracing::warn!(
                token = label,
                "a wrong PIN was given to this token since its last login; too many wrong PINs lock it"
            );
        }
        Ok(())
    }

    fn login(&mut self, session: &Session, slot: Slot) -> Result<(), HsmError> {
        let pin = RawAuthPin::new(Box::new(self.pin.expose().to_vec()));
        let result = session.login_with_raw(UserType::User, &pin);
        let label = || self.config.token_label.clone();
        match result {
            // Logins belong to the process: another session of it was first.
            Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Pkcs11Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinExpired,
                _,
            )) => {
                self.pin_refused = true;
                let now = self.module.pkcs11().get_token_info(slot).ok();
                if now.as_ref().is_some_and(TokenInfo::user_pin_locked) {
                    return Err(HsmError::PinLocked { label: label() });
                }
                Err(HsmError::PinWrong { label: label(), last_try: now.is_some_and(|i| i.user_pin_final_try()) })
            }
            Err(Pkcs11Error::Pkcs11(RvError::PinLocked, _)) => Err(HsmError::PinLocked { label: label() }),
            Err(Pkcs11Error::Pkcs11(RvError::UserPinNotInitialized, _)) => {
                Err(HsmError::PinNotInitialised { label: label() })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Drops the session and finds everything again; if the token does not come back, restarts the library once.
    fn reconnect(&mut self) -> Result<(), HsmError> {
        self.live = None;
        let first = match self.connect() {
            Ok(live) => {
                self.live = Some(live);
                return Ok(());
            }
            Err(e) => e,
        };
        let restart = match &first {
            // Never a second login after a first that failed.
            HsmError::Token { operation, .. } => *operation != format!("C_{:?}", Function::Login),
            HsmError::TokenAbsent { .. } | HsmError::KeyMissing { .. } | HsmError::KeyDamaged { .. } => true,
            _ => false,
        };
        // SoftHSM keeps a token that was taken away and came back as broken until it starts again.
        if !restart || !self.module.restart().unwrap_or(false) {
            return Err(first);
        }
        self.live = Some(self.connect()?);
        Ok(())
    }

    /// Runs `op`; after a failure that a new session may cure, once more on a new session.
    fn attempt<T>(&mut self, op: impl Fn(&Live) -> Result<T, Failure>) -> Result<T, HsmError> {
        let first = match &self.live {
            None => None,
            Some(live) => match op(live) {
                Ok(value) => return Ok(value),
                Err(f) if f.may_be_cured() => Some(HsmError::from(f)),
                Err(f) => return Err(f.into()),
            },
        };
        if let Some(e) = &first {
            tracing::warn!(error = %e, "the HSM session failed; opening a new one");
        }
        self.reconnect()?;
        match &self.live {
            Some(live) => op(live).map_err(HsmError::from),
            None => Err(HsmError::Stopped),
        }
    }

    /// Finds and checks the node's keys, and remembers which they are.
    pub(crate) fn load(
        &mut self,
        node: &Name,
        select: &KeySelection,
        kem_alg: Option<HsmAlg>,
    ) -> Result<NodeKeys, HsmError> {
        self.node = None;
        let handles = self.attempt(|live| keys::load(&live.session, node, select, kem_alg))?;
        let public = handles.public.clone();
        self.node = Some(Wanted { node: node.clone(), select: public.selection(), kem_alg: Some(public.kem.alg) });
        if let Some(live) = &mut self.live {
            live.keys = Some(handles);
        }
        Ok(public)
    }

    /// Makes those of the node's keys that are missing, then loads all three. Running it again changes nothing.
    pub(crate) fn generate(&mut self, node: &Name, choice: KemChoice) -> Result<NodeKeys, HsmError> {
        if choice == KemChoice::Only(HsmAlg::Rsa3072OaepSha1) && self.config.profile != TokenProfile::SoftHsm {
            return Err(HsmError::Sha1NotAllowed);
        }
        self.node = None;
        // A first harmless question, so that a stale session is replaced before keys are made on it.
        let label = |role: KeyRole| role.label(node);
        let kem = self.attempt(|live| keys::find(&live.session, &label(KeyRole::Kem), None))?;
        let live = self.live.as_ref().ok_or(HsmError::Stopped)?;
        let alg = match (kem, choice) {
            (Some(pair), KemChoice::Only(asked)) => {
                let found = pair.kem_alg(Some(asked));
                if found != asked {
                    return Err(HsmError::KeyExists {
                        label: label(KeyRole::Kem),
                        found: found.as_str(),
                        asked: asked.as_str(),
                    });
                }
                asked
            }
            (Some(pair), KemChoice::Probe) => pair.kem_alg(None),
            (None, choice) => {
                let alg = match choice {
                    KemChoice::Only(HsmAlg::Rsa3072OaepSha256) if !mechanism::opens_oaep_sha256(&live.session) => {
                        return Err(HsmError::Unsupported {
                            label: self.config.token_label.clone(),
                            what: "RSA-OAEP with SHA-256".into(),
                        });
                    }
                    KemChoice::Only(alg) => alg,
                    KemChoice::Probe => self.probe(live)?,
                };
                self.make(live, &label(KeyRole::Kem), Usage::of_kem(alg))?;
                alg
            }
        };
        for role in [KeyRole::Identity, KeyRole::Audit] {
            if keys::find(&live.session, &label(role), None)?.is_none() {
                self.make(live, &label(role), Usage::Sign)?;
            }
        }
        self.load(node, &KeySelection::default(), Some(alg))
    }

    fn make(&self, live: &Live, label: &str, usage: Usage) -> Result<Pair, HsmError> {
        if !self.has_mechanisms(live, usage)? {
            let [make, operate] = keys::mechanisms_of(usage);
            return Err(HsmError::Unsupported {
                label: self.config.token_label.clone(),
                what: format!("{make} and {operate}"),
            });
        }
        Ok(keys::generate(&live.session, label, usage)?)
    }

    fn has_mechanisms(&self, live: &Live, usage: Usage) -> Result<bool, HsmError> {
        let offered = self.module.pkcs11().get_mechanism_list(live.slot)?;
        Ok(keys::mechanisms_of(usage).iter().all(|m| offered.contains(m)))
    }

    /// The first algorithm that the token really does. OAEP has to be tried: tokens list the mechanism whatever hash
    /// they can use with it.
    fn probe(&self, live: &Live) -> Result<HsmAlg, HsmError> {
        if self.has_mechanisms(live, Usage::Decrypt)? && mechanism::opens_oaep_sha256(&live.session) {
            return Ok(HsmAlg::Rsa3072OaepSha256);
        }
        if self.has_mechanisms(live, Usage::Derive)? {
            return Ok(HsmAlg::P256Ecdh);
        }
        Err(HsmError::Unsupported {
            label: self.config.token_label.clone(),
            what: "RSA-OAEP with SHA-256 nor ECDH on P-256".into(),
        })
    }

    /// Opens ct_h with the kem key.
    pub(crate) fn decapsulate(&mut self, ct_h: &[u8]) -> Result<Secret<32>, HsmError> {
        let opened = self.attempt(|live| {
            let keys = live.keys()?;
            quorate_crypto::check_ciphertext(keys.public.kem.alg, ct_h)
                .map_err(|e| HsmError::Refused { reason: e.to_string() })?;
            mechanism::decapsulate(&live.session, keys.public.kem.alg, keys.kem, ct_h)
        });
        match opened {
            // SoftHSM calls a ciphertext of another key a general error; if the token still signs, it is the ciphertext.
            Err(HsmError::Token { operation, reason }) if operation.starts_with("C_De") => {
                match self.sign(Signing::Identity, b"is the token alive") {
                    Ok(_) => Err(HsmError::Refused { reason: format!("{operation}: {reason}") }),
                    Err(_) => Err(HsmError::Token { operation, reason }),
                }
            }
            other => other,
        }
    }

    /// ECDSA-P256-SHA256 over `message`, DER.
    pub(crate) fn sign(&mut self, key: Signing, message: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.attempt(|live| {
            let keys = live.keys()?;
            let key = match key {
                Signing::Identity => keys.identity,
                Signing::Audit => keys.audit,
            };
            mechanism::sign(&live.session, key, message)
        })
    }

    /// Fills `out` from the token's generator.
    pub(crate) fn random(&mut self, out: &mut [u8]) -> Result<(), HsmError> {
        let bytes = self.attempt(|live| {
            let len = u32::try_from(out.len()).map_err(|_| HsmError::Invalid("too many random bytes".into()))?;
            Ok(zeroize::Zeroizing::new(live.session.generate_random_vec(len)?))
        })?;
        if bytes.len() != out.len() {
            return Err(HsmError::Token {
                operation: "C_GenerateRandom".into(),
                reason: format!("{} bytes instead of {}", bytes.len(), out.len()),
            });
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    /// The values of the data objects with this label.
    pub(crate) fn read_data(&mut self, label: &str) -> Result<Vec<Vec<u8>>, HsmError> {
        self.attempt(|live| data::read(&live.session, label))
    }

    /// Keeps this value alone under this label.
    pub(crate) fn replace_data(&mut self, label: &str, value: &[u8]) -> Result<(), HsmError> {
        self.attempt(|live| data::replace(&live.session, label, value))
    }

    /// Reads the keys afresh from the token: they are there, whole and safe.
    pub(crate) fn check_keys(&mut self) -> Result<(), HsmError> {
        let Some(wanted) = &self.node else { return Err(HsmError::KeysNotLoaded) };
        let (node, select, alg) = (wanted.node.clone(), wanted.select, wanted.kem_alg);
        match self.attempt(|live| keys::load(&live.session, &node, &select, alg).map(drop)) {
            // A lost object shows as "not found", not as a failure: look again with new eyes before saying so.
            Err(HsmError::KeyMissing { .. } | HsmError::KeyDamaged { .. }) => self.reconnect(),
            other => other,
        }
    }
}

impl Live {
    fn keys(&self) -> Result<&Handles, HsmError> {
        self.keys.as_ref().ok_or(HsmError::KeysNotLoaded)
    }
}
