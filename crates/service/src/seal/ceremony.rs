//! The share ceremony: custodians' shares meet in one node's memory until they open the quorum key (key-hierarchy §5).
//!
//! A share is proven before it is kept, so strangers create no state and can't end a ceremony; what is kept is
//! forgotten on success, after 15 minutes, and when the process ends. Only progress is told to others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quorate_core::authorize::{EnterShares, ReadStatus, authorize};
use quorate_core::batch::Rev;
use quorate_core::id::{ClusterId, NodeId};
use quorate_core::principal::Principal;
use quorate_core::seam::Entropy;
use quorate_crypto::{
    Ceremony, CeremonyError, CeremonyId, ClusterFingerprint, Progress, QuorumSecretKey, Share, ShareError, verify_proof,
};
use quorate_replica::Replica;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::challenge::Challenges;
use super::flood::{FloodGuard, Verdict};
use super::open::{CompletedCeremony, SealState, hsm_half, no_envelope};
use super::operator_seal::OperatorSeal;
use super::pins::configurations;
use super::status::CeremonyStatus;
use crate::error::Error;
use crate::node::{Node, Sealed, State, Unsealed};

/// How soon the custodian of the last share has an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long entered shares are kept.
pub const SHARES_KEPT: Duration = Duration::from_secs(15 * 60);
/// What a custodian's proof key signs over.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Fresh; valid for two minutes.
    pub nonce: [u8; super::challenge::LEN],
    /// The node that asks.
    pub node_name: String,
    /// Its cluster.
    pub cluster: ClusterId,
}

/// What became of a share.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The ceremony as it stands; none once it is complete.
    pub ceremony: Option<CeremonyStatus>,
    /// Whether the node serves now. Complete and not yet: it is checking its state.
    pub unsealed: bool,
}

/// The ceremony's side of a node.
pub(crate) struct Ceremonies {
    challenges: Challenges,
    flood: Mutex<FloodGuard>,
    pub(super) open: Mutex<Option<OpenCeremony>>,
    /// One share at a time: the order of arrival is the order of entry.
    entering: tokio::sync::Mutex<()>,
    /// All shares are there, and this node opens itself.
    completing: AtomicBool,
}

/// For as long as a node opens itself.
struct Completing<'a>(&'a AtomicBool);

impl<'a> Completing<'a> {
    fn begin(completing: &'a AtomicBool) -> Self {
        completing.store(true, Ordering::Relaxed);
        Self(completing)
    }
}

impl Drop for Completing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

pub(super) struct OpenCeremony {
    pub(super) id: [u8; 16],
    pub(super) value: Ceremony,
    pub(super) expires: Instant,
    /// Shares entered before a cluster-wide seal do not undo it.
    seal_epoch: Rev,
    /// Who entered the first share, and may end it alone.
    pub(super) starter: String,
    /// The custodians who have signed that it is to end.
    pub(super) against: BTreeSet<u8>,
}

/// How far the ceremony is.
#[derive(Clone)]
pub(crate) struct OpenProgress {
    pub(crate) id: [u8; 16],
    pub(crate) threshold: u8,
    pub(crate) entered: Vec<u8>,
    pub(crate) expires: Instant,
}

impl Ceremonies {
    pub(crate) fn new(entropy: &dyn Entropy) -> Self {
        Self {
            challenges: Challenges::new(entropy),
            flood: Mutex::default(),
            open: Mutex::default(),
            entering: tokio::sync::Mutex::default(),
            completing: AtomicBool::default(),
        }
    }

    /// The ceremony open here, if one is.
    pub(crate) fn progress(&self) -> Option<OpenProgress> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let current = open.as_ref().filter(|c| Instant::now() < c.expires)?;
        let Progress { entered, threshold } = current.value.progress();
        Some(OpenProgress { id: current.id, threshold, entered, expires: current.expires })
    }

    /// Whether the ceremony open here, since the seal at `seal_epoch`, has share `x` and still needs others.
    fn has(&self, x: u8, seal_epoch: Rev) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().filter(|c| Instant::now() < c.expires && c.seal_epoch == seal_epoch).is_some_and(|c| {
            let progress = c.value.progress();
            !progress.is_complete() && progress.entered.contains(&x)
        })
    }

    /// Whether all shares are there and this node is opening itself.
    pub(crate) fn is_completing(&self) -> bool {
        self.completing.load(Ordering::Relaxed)
    }

    /// Forgets the shares that were entered before the cluster-wide seal at `rev`.
    pub(crate) fn forget_before(&self, rev: Rev) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take_if(|c| c.seal_epoch < rev);
    }

    /// Forgets the shares of ceremony `id`, or of any.
    pub(crate) fn forget(&self, id: Option<[u8; 16]>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|c| id.is_none_or(|id| c.id == id)) {
            *open = None;
        }
    }
}

impl Node {
    /// The public seal configurations, for custodians' own checks: every generation, the one in force last.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::Uninitialized`] before genesis; [`Error::Damaged`], as no share is to be typed there.
    pub fn seal_configs(&self, caller: &Principal) -> Result<Vec<Vec<u8>>, Error> {
        authorize::<ReadStatus>(caller)?;
        let state = self.current();
        let replica = match &*state {
            State::Uninitialized(_) => return Err(Error::Uninitialized),
            State::Stopped { why, .. } => return Err(why.clone().into()),
            State::Sealed(Sealed { replica, .. }) | State::Unsealed(Unsealed { replica, .. }) => replica,
        };
        let generation = self.seal_state(replica)?.config.generation;
        let view = replica.view().map_err(|e| Error::Unavailable(e.to_string()))?;
        configurations(&view, generation)
    }

    /// A challenge for a custodian's proof.
    ///
    /// # Errors
    /// [`Error::Denied`], and while there is nothing to unseal here.
    pub fn share_challenge(&self, caller: &Principal) -> Result<Challenge, Error> {
        authorize::<EnterShares>(caller)?;
        self.sealed_replica()?;
        Ok(Challenge {
            nonce: self.ceremony.challenges.make(&*self.world.entropy),
            node_name: self.config.name.to_string(),
            cluster: self.config.cluster,
        })
    }

    /// Takes one share; the one that completes the ceremony unseals this node and starts the hand-over to the others.
    /// `proof` is by the share's proof key over a [`Challenge`].
    ///
    /// # Errors
    /// [`Error::ShareRefused`] says exactly what is wrong with the share; nothing was kept then. [`Error::Busy`] after
    /// too many of those, which never holds up a valid share.
    pub async fn submit_share(
        &self,
        caller: &Principal,
        share: Zeroizing<String>,
        nonce: Vec<u8>,
        proof: Vec<u8>,
    ) -> Result<Submitted, Error> {
        authorize::<EnterShares>(caller)?;
        let node = self.this.upgrade().ok_or(Error::Internal("the node is stopping"))?;
        let source = caller.to_string();
        // In a task of its own: a custodian who hangs up does not leave the ceremony half done.
        let task = self.runtime.spawn(async move { node.enter_share(&source, &share, &nonce, &proof).await });
        task.await.map_err(|_| Error::Internal("entering a share failed"))?
    }

    async fn enter_share(&self, source: &str, text: &str, nonce: &[u8], proof: &[u8]) -> Result<Submitted, Error> {
        let replica = self.sealed_replica()?;
        let seal = self.seal_state(&replica)?;
        let share = match self.check_share(&seal, text, nonce, proof) {
            Ok(share) => share,
            Err(why) => return Err(self.refuse_share(source, why)),
        };
        let _one_at_a_time = self.ceremony.entering.lock().await;
        // The share before may have been the last one.
        let replica = self.sealed_replica()?;
        // Refused before it costs the HSM and the cluster anything: whoever repeats a share must not hold up the others.
        if self.ceremony.has(share.x(), seal.seal_epoch) {
            let label = seal.config.custodian(share.x()).map(|c| c.label.clone()).unwrap_or_default();
            return Err(self.refuse_share(source, ShareError::Duplicate { x: share.x(), label }.to_string()));
        }
        // Nobody types shares into a node that could not use them.
        self.prove_hsm(&seal).await.inspect_err(|e| self.note(e))?;
        self.set_problem(String::new());
        if seal.envelope.is_none() {
            return Err(no_envelope());
        }
        let seal = self.caught_up(&replica).await?;
        // Before the share counts: the ceremony came after these seals, if it is the last one.
        let operator_seals = self.peers.operator_seals();
        let (number, custodian) = (share.x(), seal.config.custodian(share.x()).map_or("", |c| &c.label));
        let progress = self.keep_share(&seal, share, source)?;
        replica.hello_now();
        if progress.entered.len() < usize::from(progress.threshold) {
            // A hand-over was faster, and had no share to forget yet: an open node keeps none.
            if let Err(e) = self.sealed_replica() {
                self.ceremony.forget(Some(progress.id));
                return Err(e);
            }
            let (entered, of) = (progress.entered.len(), progress.threshold);
            tracing::info!(
                share = number,
                custodian,
                by = source,
                "share entered: {entered} of the {of} that open this node"
            );
            let status = self.ceremony_status(&progress).labelled(&seal.config);
            return Ok(Submitted { ceremony: Some(status), unsealed: false });
        }
        tracing::info!(share = number, custodian, by = source, "last share entered: unsealing");
        let node = self.this.upgrade().ok_or(Error::Internal("the node is stopping"))?;
        let mut completing =
            self.runtime.spawn(async move { node.complete(&replica, progress.id, operator_seals).await });
        // With millions of records the check of the state may outlast the custodian's patience.
        match tokio::time::timeout(ANSWER_WITHIN, &mut completing).await {
            Ok(completed) => {
                completed.map_err(|_| Error::Internal("completing the ceremony failed"))??;
                Ok(Submitted { ceremony: None, unsealed: true })
            }
            Err(_) => {
                let this = self.this.clone();
                self.runtime.spawn(async move {
                    // The custodian has gone: what fails now is told by the status.
                    if let (Ok(Err(e)), Some(node)) = (completing.await, this.upgrade()) {
                        node.note(&e);
                    }
                });
                Ok(Submitted { ceremony: None, unsealed: false })
            }
        }
    }

    /// Everything that is decided without keeping anything.
    fn check_share(&self, seal: &SealState, text: &str, nonce: &[u8], proof: &[u8]) -> Result<Share, String> {
        let share = Share::parse(text.trim()).map_err(|e| e.to_string())?;
        let fingerprint = self.cluster_fingerprint();
        share.check(&seal.config, &fingerprint).map_err(|e| e.to_string())?;
        if !self.ceremony.challenges.is_current(nonce) {
            return Err("the challenge has expired or is not this node's; ask for a new one and try again".into());
        }
        let nonce: &[u8; super::challenge::LEN] =
            nonce.try_into().map_err(|_| "the challenge has a wrong length".to_owned())?;
        let name = self.config.name.as_str();
        if !verify_proof(&seal.config, share.x(), self.config.cluster, name, nonce, proof) {
            return Err(format!(
                "the proof of share {} does not hold for this node and challenge; try again",
                share.x()
            ));
        }
        Ok(share)
    }

    pub(super) fn refuse_share(&self, source: &str, why: String) -> Error {
        let verdict = {
            let mut flood = self.ceremony.flood.lock().unwrap_or_else(PoisonError::into_inner);
            flood.failed(source, Instant::now())
        };
        match verdict {
            Verdict::Answer => {
                tracing::warn!(by = source, why, "share refused");
                Error::ShareRefused(why)
            }
            Verdict::TooMany { retry_after } => Error::Busy(format!(
                "too many shares were refused lately; the next refusal is explained in {} s (a valid share is taken at any time)",
                retry_after.as_secs() + 1
            )),
        }
    }

    pub(super) fn keep_share(&self, seal: &SealState, share: Share, source: &str) -> Result<OpenProgress, Error> {
        let mut open = self.ceremony.open.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |c: &OpenCeremony| Instant::now() >= c.expires || c.seal_epoch != seal.seal_epoch;
        if open.as_ref().is_none_or(over) {
            let mut id = [0; 16];
            self.world.entropy.fill(&mut id);
            let expires = Instant::now() + SHARES_KEPT;
            *open = Some(OpenCeremony {
                id,
                value: Ceremony::new(CeremonyId(id), seal.config.clone(), self.cluster_fingerprint()),
                expires,
                seal_epoch: seal.seal_epoch,
                starter: source.to_owned(),
                against: BTreeSet::new(),
            });
            self.forget_at(expires, id);
        }
        let Some(ceremony) = open.as_mut() else { return Err(Error::Internal("no ceremony is open")) };
        // Complete already, but the HSM failed then: any good share tries again.
        let progress = match ceremony.value.progress() {
            complete if complete.is_complete() => complete,
            _ => ceremony.value.submit(share).map_err(|e| Error::ShareRefused(e.to_string()))?,
        };
        Ok(OpenProgress {
            id: ceremony.id,
            threshold: progress.threshold,
            entered: progress.entered,
            expires: ceremony.expires,
        })
    }

    fn forget_at(&self, expires: Instant, id: [u8; 16]) {
        let this = self.this.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep_until(expires).await;
            if let Some(node) = this.upgrade() {
                node.ceremony.forget(Some(id));
            }
        });
    }

    /// All shares are there: the HSM's half first, since it may fail without costing the custodians their shares.
    async fn complete(
        &self,
        replica: &Replica,
        id: [u8; 16],
        operator_seals: BTreeMap<NodeId, OperatorSeal>,
    ) -> Result<(), Error> {
        let _moving = self.transition.lock().await;
        if !matches!(&*self.current(), State::Sealed(_)) {
            // A hand-over was faster.
            self.ceremony.forget(Some(id));
            return if self.kms().is_ok() { Ok(()) } else { Err(self.damaged()) };
        }
        let _completing = Completing::begin(&self.ceremony.completing);
        let seal = self.caught_up(replica).await?;
        let envelope = seal.envelope.clone().ok_or_else(no_envelope)?;
        let half = hsm_half(&self.hsm, &envelope, &self.keys.kem.spki_der).await.map_err(|e| {
            Error::Unavailable(format!(
                "this node's HSM failed: {e}; the shares are kept, enter one again once it works"
            ))
        })?;
        let quorum = self.combine(id, &seal)?;
        let root_key = self.open_envelope(&seal, &half, &quorum).inspect_err(|e| self.note(e))?;
        drop((quorum, half));
        let keyring =
            seal.open_keyring(&root_key).map_err(|e| Error::Damaged(e.to_string())).inspect_err(|e| self.note(e))?;
        let ceremony = CompletedCeremony::new(id, seal.seal_epoch, operator_seals, Duration::ZERO);
        self.serve(replica, seal, root_key, keyring, ceremony).await?;
        // Those that came while the state was checked.
        self.ceremony.forget(None);
        self.offer_to_all();
        Ok(())
    }

    fn combine(&self, id: [u8; 16], seal: &SealState) -> Result<QuorumSecretKey, Error> {
        let mut open = self.ceremony.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ceremony) = open.take_if(|c| c.id == id) else {
            return Err(Error::ShareRefused(
                "the shares were forgotten meanwhile; all of them have to be entered again".into(),
            ));
        };
        if ceremony.seal_epoch != seal.seal_epoch {
            return Err(Error::ShareRefused(
                "the cluster was sealed while this ceremony was open, so its shares were forgotten; enter them again"
                    .into(),
            ));
        }
        ceremony.value.complete().map_err(|e: CeremonyError| Error::ShareRefused(e.to_string()))
    }

    fn cluster_fingerprint(&self) -> ClusterFingerprint {
        ClusterFingerprint::new(self.config.cluster, &self.config.root_spki)
    }

    pub(crate) fn ceremony_status(&self, progress: &OpenProgress) -> CeremonyStatus {
        let left = progress.expires.saturating_duration_since(Instant::now());
        CeremonyStatus {
            id: progress.id,
            node: self.config.name.to_string(),
            threshold: progress.threshold,
            entered: progress.entered.clone(),
            labels: Vec::new(),
            expires_ms: self.world.wall.now_ms().saturating_add(left.as_millis() as u64),
        }
    }
}
