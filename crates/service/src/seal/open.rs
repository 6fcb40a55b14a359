//! From the sealed state on disk to a service: what table 0 holds, the proof that the HSM still opens this node's
//! envelope, and the last steps that ceremony and hand-over share (key-hierarchy §4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::REPLACE_MEMBER;
use quorate_core::batch::Rev;
use quorate_core::id::NodeId;
use quorate_core::record_key::RecordKey;
use quorate_crypto::{
    Envelope, EnvelopeContext, Keyring, KeyringContext, KeyringError, QuorumSecretKey, RootKey, SealConfig,
    SealConfigHash, Secret, kem_secret,
};
use quorate_hsm::{Hsm, HsmError};
use quorate_replica::{Replica, View};
use tokio::time::Instant;

use super::operator_seal::{self, OperatorSeal};
use super::peers::MacVerifier;
use super::pins::{is_believed, unpinned};
use super::sha256;
use crate::desk::Kms;
use crate::error::Error;
use crate::node::{GROUP, Node, State, Unsealed};
use crate::records::facts::{seal_epoch, unreadable};
use crate::records::{Records, RecordsConfig};

/// What an unsealed node holds; dropped as one when it is sealed.
pub(crate) struct Opened {
    /// RK: to make envelopes and hand-overs with.
    pub(crate) root_key: RootKey,
    /// The service for keys.
    pub(crate) kms: Arc<Kms>,
    /// The records of keys, members, invitations and seals.
    pub(crate) records: Arc<Records>,
    /// What the log stands at; the records may open with its successor already.
    pub(crate) keyring: Arc<Keyring>,
    /// Checks the MACs of batches.
    pub(crate) verifier: Arc<MacVerifier>,
    /// The seal configuration in force.
    pub(crate) seal: SealState,
    /// The ceremony that opened it, here or elsewhere.
    pub(crate) ceremony: CompletedCeremony,
}

/// A ceremony that brought the root key, and what it came after.
#[derive(Clone)]
pub(crate) struct CompletedCeremony {
    pub(crate) id: [u8; 16],
    /// The revision of the last cluster-wide seal when it completed: what it opened ends with the next one.
    pub(crate) seal_epoch: Rev,
    /// The operators' seals of other nodes that the node of the ceremony had heard of.
    pub(crate) operator_seals: Arc<BTreeMap<NodeId, OperatorSeal>>,
    /// How old it was when this node was opened, and when that was: no clock of two machines is compared.
    age_then: Duration,
    then: Instant,
}

impl CompletedCeremony {
    /// One that completed `age` ago.
    pub(crate) fn new(
        id: [u8; 16],
        seal_epoch: Rev,
        operator_seals: BTreeMap<NodeId, OperatorSeal>,
        age: Duration,
    ) -> Self {
        Self { id, seal_epoch, operator_seals: Arc::new(operator_seals), age_then: age, then: Instant::now() }
    }

    /// Whether it may open `node`: it was completed after an operator's seal of that node, for all that is known, if there
    /// is one.
    pub(crate) fn may_open(&self, node: NodeId, operator_seal: Option<OperatorSeal>) -> bool {
        operator_seal.is_none_or(|operator_seal| self.operator_seals.get(&node) == Some(&operator_seal))
    }

    /// How long ago it completed.
    pub(crate) fn age(&self) -> Duration {
        self.age_then.saturating_add(self.then.elapsed())
    }
}

/// Table 0 as this node sees it: all public, readable while sealed.
#[derive(Clone)]
pub(crate) struct SealState {
    pub(crate) config: SealConfig,
    pub(crate) keyring: Bytes,
    /// This node's envelope; none before approval has arrived here.
    pub(crate) envelope: Option<Arc<Envelope>>,
    pub(crate) seal_epoch: Rev,
}

impl SealState {
    /// Reads it from one view; `None` before genesis has arrived.
    ///
    /// # Errors
    /// When what is there can't be read or is not what it should be: a configuration that does not descend from `pins`
    /// too.
    pub(crate) fn read(view: &View, node_name: &str, pins: &[SealConfigHash]) -> Result<Option<Self>, Error> {
        let get = |key: RecordKey| view.value(&key).map_err(unreadable);
        let damaged =
            |what: &str| Error::Damaged(format!("the {what} in this node's state is not readable; {REPLACE_MEMBER}"));
        let Some(generation) = get(RecordKey::seal_generation())? else { return Ok(None) };
        let generation = generation.first_chunk().map(|b| u32::from_be_bytes(*b));
        let generation = generation.ok_or_else(|| damaged("seal generation"))?;
        let config = get(RecordKey::seal_config(generation))?.ok_or_else(|| damaged("seal configuration"))?;
        let config = SealConfig::decode(&config).map_err(|_| damaged("seal configuration"))?;
        if config.generation != generation || !is_believed(view, &config, pins)? {
            return Err(unpinned(&config));
        }
        let keyring = get(RecordKey::keyring())?.ok_or_else(|| damaged("keyring"))?;
        let envelope = get(RecordKey::envelope(node_name))?
            .map(|bytes| Envelope::decode(&bytes).map(Arc::new).map_err(|_| damaged("envelope of this node")))
            .transpose()?;
        Ok(Some(Self { config, keyring, envelope, seal_epoch: seal_epoch(view)? }))
    }

    /// Opens the keyring: shows that a root key is this cluster's, that keyring and seal configuration are whole, and that
    /// the keyring holds the configuration's anchor key. Ceremony, hand-over and rotation all come through here.
    pub(crate) fn open_keyring(&self, root_key: &RootKey) -> Result<Keyring, KeyringError> {
        Keyring::open(root_key, &self.keyring_context(), &self.keyring)
    }

    pub(crate) fn keyring_context(&self) -> KeyringContext {
        KeyringContext {
            lineage: self.config.lineage,
            cluster: self.config.cluster,
            group: GROUP,
            seal_config_hash: self.config.hash(),
            pk_anchor: self.config.pk_anchor,
        }
    }

    /// What an envelope of the node with these keys is bound to.
    pub(crate) fn envelope_context(
        &self,
        name: &str,
        kem_spki: &[u8],
        identity_spki: &[u8],
    ) -> Result<EnvelopeContext, Error> {
        let root_generation =
            Keyring::header(&self.keyring).map_err(|e| Error::Damaged(e.to_string()))?.root_generation;
        Ok(EnvelopeContext {
            lineage: self.config.lineage,
            cluster: self.config.cluster,
            generation: self.config.generation,
            set_id: self.config.set_id,
            root_generation,
            node_name: name.to_owned(),
            spki_hsm_sha256: sha256(kem_spki),
            spki_identity_sha256: sha256(identity_spki),
            pk_q_sha256: self.config.quorum_public_key.sha256(),
        })
    }
}

/// ss_h of this node's envelope: what its HSM, and nothing else, contributes.
///
/// # Errors
/// When the HSM doesn't answer, or does not open it.
pub(crate) async fn hsm_half(hsm: &Hsm, envelope: &Envelope, kem_spki: &[u8]) -> Result<Secret<32>, HsmError> {
    let raw = hsm.decapsulate(envelope.ct_h()).await?;
    Ok(kem_secret(envelope.alg(), raw, envelope.ct_h(), kem_spki))
}

impl Node {
    /// Proves, without any custodian, that this node's HSM still opens its envelope (key-hierarchy §4.1).
    ///
    /// # Errors
    /// [`Error::Damaged`] when it does not; [`Error::Unavailable`] when the HSM does not answer now.
    pub(crate) async fn prove_hsm(&self, seal: &SealState) -> Result<(), Error> {
        let Some(envelope) = &seal.envelope else { return Ok(()) };
        let context = self.own_context(seal)?;
        if envelope.alg() != self.keys.kem.alg {
            return Err(Error::Damaged(format!(
                "this node's envelope is for a {} key, but its HSM holds a {} key; connect the token this node was \
                 enrolled with, or enrol it again under a new name",
                envelope.alg().as_str(),
                self.keys.kem.alg.as_str()
            )));
        }
        let half = hsm_half(&self.hsm, envelope, &self.keys.kem.spki_der).await;
        match half {
            Ok(half) if envelope.check_hsm(&context, &half) => Ok(()),
            Ok(_) | Err(HsmError::Refused { .. }) => Err(Error::Damaged(
                "its HSM does not open this node's envelope: the token, the envelope or the node's identity is not the \
                 one that was enrolled; connect the right token, or enrol this node again under a new name"
                    .into(),
            )),
            Err(e) => Err(Error::Unavailable(format!("this node's HSM does not answer: {e}"))),
        }
    }

    /// What this node's own envelope is bound to.
    pub(crate) fn own_context(&self, seal: &SealState) -> Result<EnvelopeContext, Error> {
        seal.envelope_context(self.config.name.as_str(), &self.keys.kem.spki_der, &self.keys.identity)
    }

    /// Opens this node's envelope with both halves.
    pub(crate) fn open_envelope(
        &self,
        seal: &SealState,
        half: &Secret<32>,
        quorum: &QuorumSecretKey,
    ) -> Result<RootKey, Error> {
        let envelope = seal.envelope.as_ref().ok_or_else(no_envelope)?;
        envelope.open(&self.own_context(seal)?, half, quorum).map_err(|_| {
            Error::Damaged(format!(
                "the quorum's key and this node's HSM do not open its envelope together: the envelope was altered; \
                 {REPLACE_MEMBER}"
            ))
        })
    }

    /// The last steps of every unseal: the state matches its digest and nothing else is wrong, then the node serves. The
    /// keyring has opened, so the root key is the right one. The caller holds `transition`.
    ///
    /// # Errors
    /// When the state is not what was applied, or the replica has found a problem: then the node is damaged.
    pub(crate) async fn serve(
        &self,
        replica: &Replica,
        seal: SealState,
        root_key: RootKey,
        keyring: Keyring,
        ceremony: CompletedCeremony,
    ) -> Result<Arc<Opened>, Error> {
        let keyring = Arc::new(keyring);
        // From here on every batch is checked; the scan proves what was applied before.
        let verifier = Arc::new(MacVerifier::new(keyring.clone(), seal.config.lineage, seal.config.cluster));
        replica.set_keys(Some(verifier.clone()));
        let verified = replica.verify_state().await.map_err(|mismatch| mismatch.to_string());
        // What was found wrong before, nobody may have heard of yet.
        let sound = verified.and_then(|()| replica.problem().map_or(Ok(()), |problem| Err(problem.to_string())));
        if let Err(what) = sound {
            replica.set_keys(None);
            self.become_damaged(what.clone());
            return Err(Error::Damaged(what));
        }
        let records = Arc::new(Records::new(RecordsConfig {
            replica: replica.clone(),
            world: self.world.clone(),
            keyring: keyring.clone(),
            lineage: seal.config.lineage,
            cluster: seal.config.cluster,
            group: GROUP,
            seal_epoch: ceremony.seal_epoch,
            dev: seal.config.flags.dev,
        }));
        let kms = Kms::new(crate::desk::KmsConfig {
            records: records.clone(),
            keyring_box: seal.keyring.clone(),
            hot_bytes: self.config.hot_bytes,
            meter: self.config.meter.clone(),
        });
        // From here on the desk watches for rotations; one that came while the state was verified is seen here.
        let rotated = self.seal_state(replica).map(|now| now.keyring != seal.keyring);
        if !matches!(rotated, Ok(false)) {
            kms.close();
            replica.set_keys(None);
            return Err(Error::Unavailable("the root key was rotated in this moment; unseal this node again".into()));
        }
        let opened = Arc::new(Opened { root_key, kms, records, keyring, verifier, seal, ceremony });
        let unsealed = Arc::new(State::Unsealed(Unsealed { replica: replica.clone(), opened: opened.clone() }));
        // Damage found meanwhile stays.
        let still_sealed = self.state.send_if_modified(|state| {
            let sealed = matches!(**state, State::Sealed(_));
            if sealed {
                *state = unsealed;
            }
            sealed
        });
        if !still_sealed {
            opened.kms.close();
            replica.set_keys(None);
            return Err(self.damaged());
        }
        self.move_pin(opened.seal.config.hash());
        if let Err(e) = operator_seal::clear(&*self.world.disk, &self.config.data_dir) {
            tracing::warn!(%e, "the mark of an operator's seal can't be removed: after a restart this node needs custodians");
        }
        self.set_problem(String::new());
        tracing::info!(node = %self.config.name, "unsealed");
        replica.hello_now();
        self.watch_rotations(&opened.kms);
        Ok(opened)
    }
}

/// No envelope has arrived here yet.
pub(crate) fn no_envelope() -> Error {
    Error::Unavailable(
        "this node has no envelope yet: it has not caught up with the cluster, or was not approved".into(),
    )
}
