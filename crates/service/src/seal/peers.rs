//! What peers say and ask: this node's half of Hello, what it remembers of theirs, and the application messages.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_core::batch::{Batch, Op};
use quorate_core::id::{ClusterId, Epoch, Lineage, NodeId};
use quorate_core::record_key::RecordKey;
use quorate_core::seeded::{self, Bug};
use quorate_core::session::{Claim, Open, Session};
use quorate_crypto::Keyring;
use quorate_replica::{BatchVerifier, KeyHolder, PeerHandler, PeerIdentity, ReadRecord};
use tokio::sync::watch;
use tokio::time::Instant;

use super::hello::{AppHello, HelloCeremony};
use super::message::Message;
use super::open::CompletedCeremony;
use super::operator_seal::OperatorSeal;
use super::status::Health;
use crate::node::{GROUP, Node, State};

/// What this node remembers of its peers; gone with the process.
#[derive(Default)]
pub(crate) struct Peers {
    hellos: Mutex<HashMap<NodeId, (AppHello, Instant)>>,
    /// The last operator's seal of each, until it is seen open. A sealed node that does not speak of it any more takes
    /// nothing back: its disk may have forgotten the seal, or have been made to by whom the operator locked out.
    operator_seals: Mutex<BTreeMap<NodeId, OperatorSeal>>,
    heard: watch::Sender<()>,
}

impl Peers {
    /// What `id` said last, and when.
    pub(crate) fn hello(&self, id: NodeId) -> Option<(AppHello, Instant)> {
        self.hellos.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The operators' seals of peers that this node has heard of.
    pub(crate) fn operator_seals(&self) -> BTreeMap<NodeId, OperatorSeal> {
        self.operator_seals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The operator's seal of one of them.
    fn operator_seal(&self, id: NodeId) -> Option<OperatorSeal> {
        self.operator_seals.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// Changes whenever a peer says Hello.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.heard.subscribe()
    }

    fn heard(&self, id: NodeId, hello: AppHello) {
        let mut operator_seals = self.operator_seals.lock().unwrap_or_else(PoisonError::into_inner);
        match hello.operator_seal {
            Some(operator_seal) => _ = operator_seals.insert(id, operator_seal),
            None if hello.health == Health::Ok => _ = operator_seals.remove(&id),
            None => {}
        }
        drop(operator_seals);
        self.hellos.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (hello, Instant::now()));
        self.heard.send_replace(());
    }
}

/// The node, as its replica sees it; weak, since the node owns the replica.
#[derive(Clone)]
pub(crate) struct NodeLink(pub(crate) Weak<Node>);

impl PeerHandler for NodeLink {
    fn hello(&self) -> Bytes {
        self.0.upgrade().map(|node| node.app_hello().encode()).unwrap_or_default().into()
    }

    fn on_hello(&self, from: NodeId, app: Bytes) {
        let (Some(node), Ok(hello)) = (self.0.upgrade(), AppHello::decode(&app)) else { return };
        node.peers.heard(from, hello);
        node.offer_to(from);
    }

    fn handle(&self, from: NodeId, kind: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let link = self.clone();
        self.on_own_runtime(async move {
            let node = link.0.upgrade().ok_or("this node is stopping")?;
            match Message::decode(kind, &body).map_err(|e| e.to_string())? {
                Some(message) => node.answer(from, message).await.map(Bytes::from),
                None => {
                    Err(format!("node {} does not know message kind {kind}: it is older than the sender", node.name()))
                }
            }
        })
    }

    fn serves(&self, id: NodeId) -> bool {
        self.0.upgrade().is_some_and(|node| node.peers.hello(id).is_some_and(|(hello, _)| hello.health == Health::Ok))
    }

    fn join(&self, from: PeerIdentity, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let link = self.clone();
        self.on_own_runtime(async move {
            let node = link.0.upgrade().ok_or("this node is stopping")?;
            node.answer_join(&from, &body).await.map(Bytes::from).map_err(|e| e.to_string())
        })
    }
}

impl NodeLink {
    /// The replica's runtime carries heartbeats and must not be kept waiting: work moves to the service's.
    fn on_own_runtime(
        &self,
        work: impl Future<Output = Result<Bytes, String>> + Send + 'static,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let Some(node) = self.0.upgrade() else {
            return futures::future::ready(Err("this node is stopping".to_owned())).boxed();
        };
        let task = node.runtime.spawn(work);
        async move { task.await.unwrap_or_else(|_| Err("this node is stopping".to_owned())) }.boxed()
    }
}

/// Checks the log, and speaks in it, under the keyring of one unsealed period.
pub(crate) struct MacVerifier {
    keyring: ArcSwap<Keyring>,
    lineage: Lineage,
    cluster: ClusterId,
    /// The newest epoch that a batch with a good MAC has begun: keys that only the next keyring holds.
    begun: AtomicU32,
}

impl MacVerifier {
    pub(crate) fn new(keyring: Arc<Keyring>, lineage: Lineage, cluster: ClusterId) -> Self {
        Self { keyring: ArcSwap::new(keyring), lineage, cluster, begun: AtomicU32::new(0) }
    }

    /// Checks with a successor of the keyring from now on.
    pub(crate) fn succeed(&self, successor: &Arc<Keyring>) {
        self.keyring.store(successor.clone());
    }

    /// Whether what does not hold under this keyring's epochs may hold under those of a later one.
    fn may_be_later(&self, epoch: Epoch, keyring: &Keyring, state: ReadRecord<'_>) -> io::Result<bool> {
        let newest = keyring.current_epoch().0;
        if epoch.0 <= newest {
            return Ok(false);
        }
        // This node missed a rotation, which was genuine: it closes at that entry ([`crate::view::KeyringWatch`]), and scans what
        // followed once it has the keys. Until then it can't tell, like any sealed node.
        if self.begun.load(Ordering::SeqCst) > newest {
            return Ok(true);
        }
        // So too when the rotation came in a snapshot, or before this verifier was set. Who forged that keyring has won
        // nothing: this node closes all the same, and a forged keyring opens under no root key.
        let header = state(&RecordKey::keyring())?.map(|boxed| Keyring::header(&boxed));
        Ok(header.is_some_and(|header| header.is_ok_and(|header| header.version > keyring.version())))
    }
}

impl BatchVerifier for MacVerifier {
    fn verify(&self, batch_with_mac: &[u8], state: ReadRecord<'_>) -> io::Result<bool> {
        let Ok((batch, mac_at)) = Batch::decode(batch_with_mac) else { return Ok(false) };
        // Seeded bug: whatever a leader made of the batch is accepted.
        if seeded::is(Bug::AcceptBadMac) {
            return Ok(true);
        }
        let keyring = self.keyring.load_full();
        if keyring.verify_batch(batch_with_mac, batch.epoch, mac_at) {
            let rotates = |op: &Op| matches!(op, Op::Put(key, _) if *key == RecordKey::keyring());
            if batch.ops.iter().any(rotates) {
                self.begun.fetch_max(batch.epoch.0.saturating_add(1), Ordering::SeqCst);
            }
            return Ok(true);
        }
        self.may_be_later(batch.epoch, &keyring, state)
    }

    fn verify_open(&self, open: &Open, state: ReadRecord<'_>) -> io::Result<bool> {
        let keyring = self.keyring.load_full();
        Ok(keyring.verify_open(open) || self.may_be_later(open.epoch, &keyring, state)?)
    }
}

impl KeyHolder for MacVerifier {
    fn open(&self, session: Session) -> Open {
        self.keyring.load().open_session(self.lineage, self.cluster, GROUP, session)
    }

    fn claim(&self, claim: &Claim) -> [u8; 64] {
        self.keyring.load().sign_claim(claim)
    }
}

impl Node {
    /// Answers a member.
    async fn answer(&self, from: NodeId, message: Message) -> Result<Vec<u8>, String> {
        match message {
            Message::HandoverNonce => self.handover_nonce(from),
            Message::Handover(offer) => self.take_handover(from, &offer).await,
            Message::ClusterSealed(rev) => self.hear_cluster_seal(rev).await,
            Message::RotationNonce => self.rotation_nonce(from),
            Message::Rotation { offer, keyring } => self.take_rotation(from, &offer, keyring).await,
        }
    }

    /// What this node tells its peers.
    pub(crate) fn app_hello(&self) -> AppHello {
        let state = self.current();
        let (operator_seal, problem) = match &*state {
            State::Sealed(s) => {
                let problem = self.problem();
                // Else people wonder why another node's ceremony has not opened this one.
                let told = s.operator_seal.is_some() && problem.is_empty();
                (
                    s.operator_seal,
                    if told { "sealed by an operator: only a new ceremony opens it".into() } else { problem },
                )
            }
            State::Stopped { why, .. } => (None, why.what().to_owned()),
            _ => (None, self.problem()),
        };
        AppHello {
            health: state.health(),
            operator_seal,
            hsm_alg: self.keys.kem.alg as u8,
            assurance: self.hsm.assurance().as_str().to_owned(),
            version: self.config.version.clone(),
            problem,
            ceremony: self.ceremony.progress().map(|p| HelloCeremony {
                id: p.id,
                threshold: p.threshold,
                left: p.expires.saturating_duration_since(Instant::now()),
                entered: p.entered,
            }),
            certificate_ends_ms: self.certificate_ends_ms.load(Ordering::Relaxed),
        }
    }

    /// Whether `id` said lately that it is sealed, and that ceremony may open it for all that this node has heard.
    pub(crate) fn wants_handover(&self, id: NodeId, ceremony: &CompletedCeremony) -> bool {
        let sealed = self.peers.hello(id).is_some_and(|(hello, _)| hello.health == Health::Sealed);
        sealed && ceremony.may_open(id, self.peers.operator_seal(id))
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::batch::Expect;
    use quorate_core::id::BatchId;
    use quorate_crypto::{KeyringContext, RootKey, Secret};

    use super::super::support::OsEntropy;
    use super::*;

    const LINEAGE: Lineage = Lineage([1; 16]);
    const CLUSTER: ClusterId = ClusterId([2; 16]);

    #[test]
    fn what_an_operator_sealed_a_peer_for_is_not_forgotten_by_the_peers_own_word() {
        let hello = |health, operator_seal| AppHello {
            health,
            operator_seal,
            hsm_alg: 1,
            assurance: String::new(),
            version: String::new(),
            problem: String::new(),
            ceremony: None,
            certificate_ends_ms: 0,
        };
        let (peers, id) = (Peers::default(), NodeId(7));
        let [first, second] = [OperatorSeal([1; 16]), OperatorSeal([2; 16])];
        let says = |health, operator_seal| {
            peers.heard(id, hello(health, operator_seal));
            peers.operator_seal(id)
        };
        assert_eq!(says(Health::Ok, None), None);
        assert_eq!(says(Health::Sealed, Some(first)), Some(first));
        assert_eq!(says(Health::Sealed, None), Some(first));
        assert_eq!(says(Health::Damaged, None), Some(first));
        assert_eq!(says(Health::Sealed, Some(second)), Some(second));
        assert_eq!(says(Health::Ok, None), None, "custodians have opened it");
    }

    /// The keyrings before and after a rotation, and the boxes in which they lie in the state.
    fn rotation() -> [(Arc<Keyring>, Bytes); 2] {
        let random = Secret::from_array([4; 32]);
        let root = RootKey::generate(1, &random, &OsEntropy);
        let earlier = Keyring::generate(&random, &OsEntropy);
        let context = KeyringContext {
            lineage: LINEAGE,
            cluster: CLUSTER,
            group: GROUP,
            seal_config_hash: [3; 32],
            pk_anchor: earlier.anchor_public_key(),
        };
        let earlier_box = earlier.seal(&root, &context, &OsEntropy);
        let mut later = Keyring::open(&root, &context, &earlier_box).expect("its own root key");
        later.begin_epoch(9, &random, &OsEntropy).expect("the second epoch");
        let later_box = later.seal(&root, &context, &OsEntropy);
        [(Arc::new(earlier), earlier_box.into()), (Arc::new(later), later_box.into())]
    }

    /// A batch under a keyring's newest epoch that writes a record.
    fn batch(keyring: &Keyring, key: RecordKey, value: &[u8]) -> Vec<u8> {
        let batch = Batch {
            lineage: LINEAGE,
            cluster: CLUSTER,
            group: GROUP,
            epoch: keyring.current_epoch(),
            id: BatchId { origin: NodeId(1), boot: 1, seq: 1 },
            stamp_ms: 0,
            audit: [0; 32],
            expects: vec![Expect { key: key.clone(), rev: 0 }],
            ops: vec![Op::Put(key, value.to_vec())],
        };
        keyring.seal_batch(&batch).expect("within the format")
    }

    /// A node that is opened while the root key is rotated without it must not call what follows forged: the rotation
    /// may have come before its verifier was set, or in a snapshot, so that it never checked the batch that made it.
    #[test]
    fn what_follows_a_rotation_that_was_missed_is_not_called_forged() {
        let [(earlier, earlier_box), (later, later_box)] = rotation();
        let follows = batch(&later, RecordKey::envelope("n2"), b"value");
        let rotation = batch(&earlier, RecordKey::keyring(), &later_box);
        let before = |_: &RecordKey| Ok(Some(earlier_box.clone()));
        let after = |key: &RecordKey| Ok(Some(later_box.clone()).filter(|_| *key == RecordKey::keyring()));
        let opened = || MacVerifier::new(earlier.clone(), LINEAGE, CLUSTER);

        assert!(opened().verify(&follows, &after).unwrap(), "the state shows the rotation");
        let checked_it = opened();
        assert!(checked_it.verify(&rotation, &before).unwrap() && checked_it.verify(&follows, &before).unwrap());

        assert!(!opened().verify(&follows, &before).unwrap(), "there was no rotation");
        assert!(!opened().verify(&follows, &|_| Ok(None)).unwrap());
        assert!(!opened().verify(&follows, &|_| Ok(Some(Bytes::from_static(b"no keyring")))).unwrap());
        let mut forged = batch(&earlier, RecordKey::envelope("n2"), b"value");
        *forged.last_mut().expect("a MAC") ^= 1;
        assert!(!opened().verify(&forged, &after).unwrap(), "of an epoch that this node has the key of");
        assert!(opened().verify(&follows, &|_| Err(io::Error::other("the disk is gone"))).is_err());
    }
}
