//! The face of the token for everybody else.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cryptoki::slot::TokenInfo;
use quorate_core::id::Name;
use quorate_crypto::{HsmAlg, Secret, SecretBytes};
use tokio::time::Instant;

use crate::token::{Connection, Signing};
use crate::worker::{HsmMeter, Worker};
use crate::{HsmConfig, HsmError, KemChoice, KeySelection, NodeKeys, Pin};

/// Making keys may take a network HSM a minute.
const GENERATE_DEADLINE: Duration = Duration::from_secs(180);
/// The most bytes asked of a token's generator at once; a larger wish should go to the local one.
const RANDOM_LEN_MAX: usize = 1024;

/// How far a token's word about its keys can be believed (key-hierarchy §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assurance {
    /// The vendor's attestation was checked.
    Attested,
    /// The token says so; PKCS#11 has no portable proof.
    Asserted,
    /// The token is software: its files are its keys.
    Software,
}

impl Assurance {
    /// The word in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attested => "attested",
            Self::Asserted => "asserted",
            Self::Software => "software",
        }
    }
}

/// What the token says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenDescription {
    /// CKA label of the token.
    pub label: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
}

impl TokenDescription {
    fn of(info: &TokenInfo) -> Self {
        Self {
            label: info.label().trim_end().to_owned(),
            manufacturer: info.manufacturer_id().trim_end().to_owned(),
            model: info.model().trim_end().to_owned(),
            serial: info.serial_number().trim_end().to_owned(),
        }
    }

    fn assurance(&self) -> Assurance {
        let says = format!("{} {}", self.manufacturer, self.model).to_lowercase();
        if ["softhsm", "kryoptic", "opencryptoki soft", "nss"].iter().any(|soft| says.contains(soft)) {
            Assurance::Software
        } else {
            Assurance::Asserted
        }
    }
}

/// A token, logged in. Clones share it; it is let go when the last is dropped.
#[derive(Clone)]
pub struct Hsm {
    inner: Arc<Inner>,
}

struct Inner {
    worker: Worker,
    keys: OnceLock<NodeKeys>,
    token: TokenDescription,
    deadline: Duration,
}

impl fmt::Debug for Hsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hsm").field("token", &self.inner.token.label).finish_non_exhaustive()
    }
}

impl Hsm {
    /// Loads the module, finds the token by its label and logs in: one attempt. Blocks; for the start of a process.
    ///
    /// # Errors
    /// The environment is not set, the module can't be loaded, the token is absent (with the labels that are there) or
    /// ambiguous, the PIN is wrong, locked, or one try from it (then it is not tried).
    pub fn open(config: &HsmConfig, pin: Pin) -> Result<Self, HsmError> {
        let config = Arc::new(config.clone());
        let deadline = config.deadline;
        let worker = Worker::start(move || Connection::open(config, pin))?;
        let token = worker.call_blocking(Instant::now() + deadline, Connection::token_info)?;
        let token = TokenDescription::of(&token);
        Ok(Self { inner: Arc::new(Inner { worker, keys: OnceLock::new(), token, deadline }) })
    }

    /// Has every call from now on told to `meter`; the first one that is set stays.
    pub fn set_meter(&self, meter: Arc<dyn HsmMeter>) {
        self.inner.worker.set_meter(meter);
    }

    /// Logs out of the token, for the end of a process; every later call fails. Blocks, 2 s at most. Without it, a
    /// process that ends with clones of this in running tasks may crash within the module's exit handlers.
    pub fn close(&self) {
        self.inner.worker.end();
    }

    /// Makes the node's keys in the token, those that are missing, and loads them. Blocks; may take minutes.
    ///
    /// # Errors
    /// The token can do none of the algorithms, holds another kind of key already, or fails.
    pub fn generate_node_keys(&self, node: &Name, choice: KemChoice) -> Result<NodeKeys, HsmError> {
        let node = node.clone();
        let keys =
            self.inner.worker.call_blocking(Instant::now() + GENERATE_DEADLINE, move |c| c.generate(&node, choice))?;
        self.remember(keys)
    }

    /// Finds the node's keys by label and id, and checks that they are whole and can't leave the token. Blocks.
    /// `kem_alg` is the algorithm stored at enrolment; `None` takes an RSA key to be for OAEP-SHA-256.
    ///
    /// # Errors
    /// A key is missing, ambiguous, damaged or has an attribute that makes it unsafe.
    pub fn load_node_keys(
        &self,
        node: &Name,
        select: &KeySelection,
        kem_alg: Option<HsmAlg>,
    ) -> Result<NodeKeys, HsmError> {
        let (node, select) = (node.clone(), *select);
        let keys = self.inner.worker.call_blocking(self.soon(), move |c| c.load(&node, &select, kem_alg))?;
        self.remember(keys)
    }

    fn remember(&self, keys: NodeKeys) -> Result<NodeKeys, HsmError> {
        let first = self.inner.keys.get_or_init(|| keys.clone());
        if *first != keys {
            return Err(HsmError::Invalid("other keys of this token are already in use by this process".into()));
        }
        Ok(keys)
    }

    /// The public halves of the keys in use.
    ///
    /// # Errors
    /// [`HsmError::KeysNotLoaded`].
    pub fn node_keys(&self) -> Result<&NodeKeys, HsmError> {
        self.inner.keys.get().ok_or(HsmError::KeysNotLoaded)
    }

    /// The token's half of an envelope: Z (ECDH) or the plaintext (OAEP) of `ct_h`. [`quorate_crypto::kem_secret`] makes
    /// ss_h of it.
    ///
    /// # Errors
    /// [`HsmError::Refused`] if the token works but does not open it; else what failed.
    pub async fn decapsulate(&self, ct_h: &[u8]) -> Result<Secret<32>, HsmError> {
        let ct_h = ct_h.to_vec();
        self.inner.worker.call(self.soon(), move |c| c.decapsulate(&ct_h)).await
    }

    /// `n` bytes from the token's generator.
    ///
    /// # Errors
    /// `n` is above 1024, or the token fails.
    pub async fn random(&self, n: usize) -> Result<SecretBytes, HsmError> {
        if n > RANDOM_LEN_MAX {
            return Err(HsmError::Invalid(format!("{n} random bytes; at most {RANDOM_LEN_MAX} at once")));
        }
        let random = move |c: &mut Connection| {
            let mut out = SecretBytes::new(vec![0; n]);
            c.random(&mut out)?;
            Ok(out)
        };
        self.inner.worker.call(self.soon(), random).await
    }

    /// ECDSA-P256-SHA256 over `message` with the identity key, DER.
    ///
    /// # Errors
    /// The token fails or does not answer in time.
    pub async fn sign_identity(&self, message: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.sign(Signing::Identity, message).await
    }

    /// ECDSA-P256-SHA256 over `message` with the audit key, DER.
    ///
    /// # Errors
    /// The token fails or does not answer in time.
    pub async fn sign_audit(&self, message: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.sign(Signing::Audit, message).await
    }

    async fn sign(&self, key: Signing, message: &[u8]) -> Result<Vec<u8>, HsmError> {
        let message = message.to_vec();
        self.inner.worker.call(self.soon(), move |c| c.sign(key, &message)).await
    }

    /// [`Hsm::sign_identity`] for callers that are not async; on a multi-thread runtime other tasks go on meanwhile.
    ///
    /// # Errors
    /// The token fails or does not answer before `deadline`.
    pub fn sign_identity_blocking(&self, message: &[u8], deadline: Instant) -> Result<Vec<u8>, HsmError> {
        let message = message.to_vec();
        self.inner.worker.call_blocking(deadline, move |c| c.sign(Signing::Identity, &message))
    }

    /// What the token's data objects with this label hold: several where a crash kept [`Hsm::replace_data`] from its end.
    ///
    /// # Errors
    /// The token fails, keeps no data objects, or does not answer in time.
    pub async fn read_data(&self, label: &str) -> Result<Vec<Vec<u8>>, HsmError> {
        let label = label.to_owned();
        self.inner.worker.call(self.soon(), move |c| c.read_data(&label)).await
    }

    /// Keeps `value` in the token as the one data object with this label; only who logs in can read or destroy it.
    ///
    /// # Errors
    /// The token fails, keeps no data objects, or does not answer in time; then it may hold the old value, the new one or both.
    pub async fn replace_data(&self, label: &str, value: &[u8]) -> Result<(), HsmError> {
        let (label, value) = (label.to_owned(), value.to_vec());
        self.inner.worker.call(self.soon(), move |c| c.replace_data(&label, &value)).await
    }

    /// The deadline of a call made now.
    pub fn soon(&self) -> Instant {
        Instant::now() + self.inner.deadline
    }

    /// Reads the keys afresh from the token and checks them as at the start.
    pub(crate) async fn check_keys(&self) -> Result<(), HsmError> {
        self.inner.worker.call(self.soon(), Connection::check_keys).await
    }

    /// How far the token's word can be believed.
    pub fn assurance(&self) -> Assurance {
        self.inner.token.assurance()
    }

    /// What the token says of itself.
    pub fn token(&self) -> &TokenDescription {
        &self.inner.token
    }
}
