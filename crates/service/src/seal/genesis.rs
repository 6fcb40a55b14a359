//! Genesis: one node founds a cluster with itself as the only member (design §6, step 3).

use std::sync::Arc;
use std::time::Duration;

use quorate_core::authorize::{ManageCluster, authorize};
use quorate_core::batch::Genesis;
use quorate_core::decide::{Change, Slot, Write};
use quorate_core::id::{ClusterId, Lineage, NodeId};
use quorate_core::level::Level;
use quorate_core::principal::Principal;
use quorate_core::record::{InternalRecord, Record};
use quorate_crypto::{
    AuditSecretKey, Envelope, EnvelopeContext, EnvelopeKind, FoundingParams, Keyring, KeyringContext, SealConfigHash,
    SealSignature, Secret, SignerKind, found,
};
use quorate_replica::{FoundError, Introduction, OpenError, Replica, SignedLevel};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::peers::MacVerifier;
use super::sha256;
use super::statement::as_member;
use crate::error::Error;
use crate::node::{FOUNDER, GROUP, Node, Sealed, State};
use crate::records::{EngineFacts, Records, RecordsConfig, Secrets};

/// Name of the record that holds SK_aud, the key that opens audit segments.
const AUDIT_SECRET: &str = "audit-secret-key";
/// What an init does, in words.
const FOUNDING: &str = "founding the cluster";
/// How long founding may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// What an administrator asks for.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// n: how many shares.
    pub shares: u32,
    /// t: how many of them unseal.
    pub threshold: u32,
    /// What people call the holders; none, or n of them.
    pub custodians: Vec<String>,
    /// One share of one: no split knowledge.
    pub insecure_single_share: bool,
}

/// What genesis answers, once.
pub struct Founded {
    /// The shares' text, in order of x. They exist nowhere else.
    pub shares: Vec<Zeroizing<String>>,
    /// C.
    pub cluster: ClusterId,
    /// L.
    pub lineage: Lineage,
    /// The public seal configuration.
    pub seal_config: Vec<u8>,
}

impl Node {
    /// Founds the cluster. The node is left sealed, so that the first ceremony proves the shares.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialized`] with the cluster's id when there is one; [`Error::InvalidArgument`] for numbers that
    /// make no share set. Nothing is left behind then.
    pub async fn init(&self, caller: &Principal, request: InitRequest) -> Result<Founded, Error> {
        authorize::<ManageCluster>(caller)?;
        let node = self.this.upgrade().ok_or(Error::Internal("the node is stopping"))?;
        let caller = caller.clone();
        // In a task of its own: a caller who hangs up does not leave half a cluster.
        let task = self.runtime.spawn(async move { node.found_cluster(&caller, request).await });
        task.await.map_err(|_| Error::Internal("founding the cluster failed"))?
    }

    async fn found_cluster(&self, caller: &Principal, request: InitRequest) -> Result<Founded, Error> {
        let _moving = self.transition.lock().await;
        let unfinished = match &*self.current() {
            State::Uninitialized(replica) => replica.clone(),
            State::Stopped { why, replica: None } => return Err(why.clone().into()),
            _ => return Err(Error::AlreadyInitialized(self.config.cluster)),
        };
        if self.config.join.is_some() {
            return Err(Error::WrongState(
                "this node is configured to join a cluster ([join]); remove that section to found one here".into(),
            ));
        }
        let (Ok(shares), Ok(threshold)) = (u8::try_from(request.shares), u8::try_from(request.threshold)) else {
            return Err(Error::InvalidArgument(format!(
                "{} of {} shares are too many; at most 255 shares are possible",
                request.threshold, request.shares
            )));
        };
        let hsm_random = self.hsm.random(32).await.map_err(|e| self.hsm_failed(&e))?;
        let hsm_random = Secret::<32>::from_slice(&hsm_random).ok_or(Error::Internal("the HSM gave too few bytes"))?;
        let entropy = &*self.world.entropy;
        let mut lineage = Lineage([0; 16]);
        entropy.fill(&mut lineage.0);
        let params = FoundingParams {
            shares,
            threshold,
            labels: request.custodians,
            lineage,
            cluster: self.config.cluster,
            root_spki: &self.config.root_spki,
            hsm_random: &hsm_random,
            single_share: request.insecure_single_share,
            dev: self.config.dev,
        };
        let mut founding = found(params, entropy).map_err(|e| Error::InvalidArgument(e.to_string()))?;
        let config = &mut founding.seal_config;
        let signature = self.hsm.sign_identity(&config.signing_message()).await.map_err(|e| self.hsm_failed(&e))?;
        config.signatures.push(SealSignature {
            kind: SignerKind::Node,
            signer: self.config.name.to_string(),
            signature,
        });
        let config = &founding.seal_config;
        let keys = &self.keys;
        let context = EnvelopeContext {
            lineage,
            cluster: config.cluster,
            generation: config.generation,
            set_id: config.set_id,
            root_generation: founding.root_key.generation(),
            node_name: self.config.name.to_string(),
            spki_hsm_sha256: sha256(&keys.kem.spki_der),
            spki_identity_sha256: sha256(&keys.identity),
            pk_q_sha256: config.quorum_public_key.sha256(),
        };
        let envelope = Envelope::seal(
            EnvelopeKind::Node,
            &context,
            keys.kem.alg,
            &keys.kem.spki_der,
            &config.quorum_public_key,
            &founding.root_key,
            entropy,
        )
        .map_err(|e| Error::WrongState(e.to_string()))?;
        let keyring_context = KeyringContext {
            lineage,
            cluster: config.cluster,
            group: GROUP,
            seal_config_hash: config.hash(),
            pk_anchor: config.pk_anchor,
        };
        let genesis = Genesis {
            lineage,
            cluster: config.cluster,
            time_ms: self.world.wall.now_ms(),
            seal_config: config.encode(),
            node_name: self.config.name.to_string(),
            envelope: envelope.encode(),
            keyring: founding.keyring.seal(&founding.root_key, &keyring_context, entropy),
            level: self.first_level(&founding.keyring),
        };
        let replica = match unfinished {
            Some(replica) => replica,
            None => self.create_replica(FOUNDER, None, Vec::new()).await.map_err(|e| not_created(&e))?,
        };
        // Whichever attempt is applied: this node knows its own by these.
        let pin = config.hash();
        let pins = self.pins.get().into_iter().chain([pin]).collect();
        if let Err(e) = self.set_pins(pins) {
            self.state.send_replace(Arc::new(State::Uninitialized(Some(replica))));
            return Err(not_created(&e));
        }
        let answer = Founded {
            shares: founding.shares.iter().map(|share| share.to_text()).collect(),
            cluster: config.cluster,
            lineage,
            seal_config: genesis.seal_config.clone(),
        };
        match replica.found(as_member(&self.own_statement()), genesis, Instant::now() + DEADLINE).await {
            Ok(_) => self.move_pin(pin),
            Err(FoundError::AlreadyFounded(cluster)) => return Err(Error::AlreadyInitialized(cluster)),
            Err(e) => {
                self.state.send_replace(Arc::new(State::Uninitialized(Some(replica))));
                return Err(match e {
                    FoundError::Begun(why) => Error::Begun { what: FOUNDING.into(), why },
                    e => Error::Unavailable(e.to_string()),
                });
            }
        }
        let written = self.write_first_records(&replica, lineage, founding.keyring, &founding.audit_secret_key).await;
        self.watch_problems(replica.clone());
        self.watch_cluster_seal(&replica);
        self.state.send_replace(Arc::new(State::Sealed(Sealed { replica, operator_seal: None })));
        // What they hold is made from keys that end here. Nothing can have been kept in a cluster whose shares nobody has seen.
        written.map_err(|e| {
            tracing::error!(%e, "the first records of the cluster were not written");
            Error::WrongState(format!(
                "the cluster was founded, but its first records were not written ({e}), so its shares are shown to nobody and \
                 nothing can ever be kept in it: stop the node, move its data_dir away, and init again"
            ))
        })?;
        tracing::info!(by = %caller, cluster = %self.config.cluster, "cluster founded; this node is sealed");
        Ok(answer)
    }

    /// The level that a cluster of this build begins at, if it does not work at the first any more.
    fn first_level(&self, keyring: &Keyring) -> Vec<u8> {
        match self.config.levels.lowest {
            Level::FIRST => Vec::new(),
            lowest => SignedLevel::new(self.config.cluster, GROUP, lowest, |said| keyring.sign_level(said)).encode(),
        }
    }

    /// While the keyring is still at hand: this node's own Member record, the first roster, and the key that opens audit
    /// segments.
    async fn write_first_records(
        &self,
        replica: &Replica,
        lineage: Lineage,
        keyring: Keyring,
        audit: &AuditSecretKey,
    ) -> Result<(), Error> {
        let keyring = Arc::new(keyring);
        replica.set_keys(Some(Arc::new(MacVerifier::new(keyring.clone(), lineage, self.config.cluster))));
        let (cluster, group, seal_epoch) = (self.config.cluster, GROUP, 0);
        let (replica, world) = (replica.clone(), self.world.clone());
        let records = Records::new(RecordsConfig {
            replica,
            world,
            keyring,
            lineage,
            cluster,
            group,
            dev: self.config.dev,
            seal_epoch,
        });
        let audit = [audit.encode()];
        let decide = |facts: &mut EngineFacts<'_>| {
            let mut writes = vec![
                Write::Create(Record::Member(self.founder_record())),
                Write::CreateWith(InternalRecord { name: AUDIT_SECRET.into() }.into(), Slot::Given(0)),
            ];
            records.change_roster(facts, &mut writes, |now| Ok(now.first()))?;
            Ok(Change { writes, answer: () })
        };
        let written = records.change(Instant::now() + DEADLINE, Secrets::given(&audit), decide).await;
        records.replica.set_keys(None);
        written.map(|_| ())
    }

    pub(crate) async fn create_replica(
        &self,
        id: NodeId,
        introduction: Option<Introduction>,
        pins: Vec<SealConfigHash>,
    ) -> Result<Replica, OpenError> {
        let config = self.replica_config(id, introduction, pins);
        Replica::create(config, self.world.clone(), Arc::new(self.link())).await
    }

    pub(crate) fn hsm_failed(&self, e: &quorate_hsm::HsmError) -> Error {
        Error::Unavailable(format!("this node's HSM failed: {e}"))
    }
}

fn not_created(e: &OpenError) -> Error {
    match e {
        OpenError::AlreadyExists(_) | OpenError::WrongNode { .. } | OpenError::Config(_) => {
            Error::WrongState(e.to_string())
        }
        _ => Error::Unavailable(e.to_string()),
    }
}
