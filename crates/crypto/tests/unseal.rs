//! From nothing to an opened record and back, with the public interface alone: found a cluster, seal envelopes, hold a
//! ceremony, hand over, open the keyring; and everything that must not open.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use quorate_core::id::{BatchId, ClusterId, GroupId, Lineage, NodeId};
use quorate_core::record_key::Table;
use quorate_core::seam::Entropy;
use quorate_crypto::*;

const LINEAGE: Lineage = Lineage([1; 16]);
const CLUSTER: ClusterId = ClusterId([2; 16]);
const ROOT_SPKI: &[u8] = b"SPKI of the root CA";

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

/// A counter in place of randomness: no two draws are alike, every run is.
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let n = self.0.fetch_add(1, Ordering::Relaxed);
            chunk.copy_from_slice(&sha256(&n.to_be_bytes())[..chunk.len()]);
        }
    }
}

/// A node as seen from here: its name, its token's KEM key.
struct Node {
    name: &'static str,
    key: PrivateKey,
    spki: Vec<u8>,
}

impl Node {
    fn new(name: &'static str) -> Self {
        let key = PrivateKey::generate(&ECDH_P256).unwrap();
        let spki: PublicKeyX509Der<'_> = key.compute_public_key().unwrap().as_der().unwrap();
        Self { name, spki: spki.as_ref().to_vec(), key }
    }
    fn hsm_half(&self, envelope: &Envelope) -> Secret<32> {
        let point = UnparsedPublicKey::new(&ECDH_P256, envelope.ct_h());
        let z = agreement::agree(&self.key, point, (), |z| Secret::from_slice(z).ok_or(())).ok().unwrap();
        kem_secret(envelope.alg(), z, envelope.ct_h(), &self.spki)
    }
    fn context(&self, config: &SealConfig, root_generation: u32) -> EnvelopeContext {
        EnvelopeContext {
            lineage: config.lineage,
            cluster: config.cluster,
            generation: config.generation,
            set_id: config.set_id,
            root_generation,
            node_name: self.name.into(),
            spki_hsm_sha256: sha256(&self.spki),
            spki_identity_sha256: [7; 32],
            pk_q_sha256: config.quorum_public_key.sha256(),
        }
    }
}

struct Cluster {
    entropy: Counter,
    /// The state that every disk holds.
    config: SealConfig,
    keyring: Vec<u8>,
    envelopes: Vec<Vec<u8>>,
    record: Vec<u8>,
    /// What only people and tokens hold.
    shares: Vec<String>,
    nodes: Vec<Node>,
    blind: [u8; 32],
}

fn keyring_context(config: &SealConfig) -> KeyringContext {
    KeyringContext {
        lineage: config.lineage,
        cluster: config.cluster,
        group: GroupId(0),
        seal_config_hash: config.hash(),
        pk_anchor: config.pk_anchor,
    }
}

fn cluster() -> Cluster {
    let entropy = Counter(AtomicU64::new(0));
    let hsm_random = Secret::from_array([9; 32]);
    let founding = found(
        FoundingParams {
            shares: 5,
            threshold: 3,
            labels: vec![],
            lineage: LINEAGE,
            cluster: CLUSTER,
            root_spki: ROOT_SPKI,
            hsm_random: &hsm_random,
            single_share: false,
            dev: false,
        },
        &entropy,
    );
    let Founding { shares, mut seal_config, root_key, keyring, .. } = founding.ok().unwrap();
    seal_config.signatures.push(SealSignature { kind: SignerKind::Node, signer: "n1".into(), signature: vec![1] });
    let nodes = vec![Node::new("n1"), Node::new("n2")];
    let envelopes = nodes
        .iter()
        .map(|n| {
            let (ctx, pk_q) = (n.context(&seal_config, 1), &seal_config.quorum_public_key);
            Envelope::seal(EnvelopeKind::Node, &ctx, HsmAlg::P256Ecdh, &n.spki, pk_q, &root_key, &entropy)
                .ok()
                .unwrap()
                .encode()
        })
        .collect();
    let key = keyring.record_key(Table::Name, b"alias/shop");
    let writer = WriterId { batch: BatchId { origin: NodeId(1), boot: 1, seq: 1 }, op: 0 };
    Cluster {
        record: keyring.seal_record(LINEAGE, GroupId(0), &key, writer, b"alias/shop", b"secret", &entropy),
        blind: key.blind(),
        keyring: keyring.seal(&root_key, &keyring_context(&seal_config), &entropy),
        shares: shares.iter().map(|s| s.to_text().to_string()).collect(),
        config: seal_config,
        envelopes,
        nodes,
        entropy,
    }
}

impl Cluster {
    fn quorum_key(&self, shares: &[usize]) -> Result<QuorumSecretKey, CeremonyError> {
        // As a node does: everything from bytes.
        let config = SealConfig::decode(&self.config.encode()).unwrap();
        let fingerprint = ClusterFingerprint::new(CLUSTER, ROOT_SPKI);
        let mut ceremony = Ceremony::new(CeremonyId::generate(&self.entropy), config, fingerprint);
        for i in shares {
            let share = Share::parse(&self.shares[*i]).ok().unwrap();
            let nonce = [4; 32];
            let proof = share.prove(CLUSTER, "n1", &nonce);
            assert!(verify_proof(ceremony.config(), share.x(), CLUSTER, "n1", &nonce, &proof));
            ceremony.submit(share).unwrap();
        }
        ceremony.complete()
    }
    fn envelope(&self, node: usize) -> Envelope {
        Envelope::decode(&self.envelopes[node]).ok().unwrap()
    }
    fn read_record(&self, root: &RootKey) {
        let keyring = Keyring::open(root, &keyring_context(&self.config), &self.keyring).ok().unwrap();
        let key = keyring.record_key(Table::Name, b"alias/shop");
        assert_eq!(key.blind(), self.blind);
        let record = keyring.open_record(LINEAGE, GroupId(0), &key, Some(b"alias/shop"), &self.record).ok().unwrap();
        assert_eq!(record.body[..], b"secret"[..]);
    }
}

#[test]
fn a_quorum_and_an_hsm_open_everything() {
    let c = cluster();
    for (shares, node) in [([0, 1, 2], 0), ([4, 2, 0], 1)] {
        let quorum = c.quorum_key(&shares).ok().unwrap();
        let (envelope, n) = (c.envelope(node), &c.nodes[node]);
        let root_generation = Keyring::header(&c.keyring).unwrap().root_generation;
        let ctx = n.context(&c.config, root_generation);
        let ss_h = n.hsm_half(&envelope);
        assert!(envelope.check_hsm(&ctx, &ss_h));
        c.read_record(&envelope.open(&ctx, &ss_h, &quorum).ok().unwrap());
    }
}

#[test]
fn an_unsealed_node_hands_over_to_another() {
    let c = cluster();
    let quorum = c.quorum_key(&[1, 3, 4]).ok().unwrap();
    let envelope = c.envelope(0);
    let ss_h = c.nodes[0].hsm_half(&envelope);
    let root = envelope.open(&c.nodes[0].context(&c.config, 1), &ss_h, &quorum).ok().unwrap();
    let recipient = &c.nodes[1];
    let ctx = HandoverContext {
        envelope: recipient.context(&c.config, 1),
        sender: "n1".into(),
        nonce: [5; 32],
        ceremony: CeremonyId([6; 16]),
    };
    let sent =
        Envelope::seal_handover(&ctx, HsmAlg::P256Ecdh, &recipient.spki, &root, &c.entropy).ok().unwrap().encode();
    let received = Envelope::decode(&sent).ok().unwrap();
    let opened = received.open_handover(&ctx, &recipient.hsm_half(&received)).ok().unwrap();
    c.read_record(&opened);
    // Its answer shows that it has the key, for this hand-over only.
    assert_eq!(received.handover_ack(&ctx, &opened), received.handover_ack(&ctx, &root));
    let other = HandoverContext { nonce: [0; 32], ..ctx.clone() };
    assert_ne!(received.handover_ack(&other, &opened), received.handover_ack(&ctx, &root));
    // Another's HSM does not.
    let ss_h = kem_secret(HsmAlg::P256Ecdh, Secret::from_array([0; 32]), received.ct_h(), &recipient.spki);
    assert!(received.open_handover(&ctx, &ss_h).is_err());
}

#[test]
fn shares_without_the_hsm_open_nothing() {
    let c = cluster();
    let quorum = c.quorum_key(&[0, 1, 2]).ok().unwrap();
    let envelope = c.envelope(0);
    let ctx = c.nodes[0].context(&c.config, 1);
    // Another enrolled HSM, and no HSM at all.
    for ss_h in [c.nodes[1].hsm_half(&envelope), Secret::from_array([0; 32])] {
        assert!(!envelope.check_hsm(&ctx, &ss_h));
        assert!(matches!(envelope.open(&ctx, &ss_h, &quorum), Err(EnvelopeError::NotOpened)));
    }
    // Nor one node's envelope on another, whatever context that one believes in.
    for ctx in [&ctx, &c.nodes[1].context(&c.config, 1)] {
        assert!(envelope.open(ctx, &c.nodes[1].hsm_half(&envelope), &quorum).is_err());
    }
}

#[test]
fn the_hsm_without_enough_shares_opens_nothing() {
    let c = cluster();
    assert!(matches!(c.quorum_key(&[0, 1]), Err(CeremonyError::NotYet { entered: 2, threshold: 3 })));
    // The HSM with the quorum of another cluster that was founded the same way.
    let other = cluster().quorum_key(&[0, 1, 2]).ok().unwrap();
    let envelope = c.envelope(0);
    let (ctx, ss_h) = (c.nodes[0].context(&c.config, 1), c.nodes[0].hsm_half(&envelope));
    assert!(envelope.check_hsm(&ctx, &ss_h), "the HSM's half is right");
    assert!(matches!(envelope.open(&ctx, &ss_h, &other), Err(EnvelopeError::NotOpened)));
}

#[test]
fn a_signature_added_after_the_keyring_was_sealed_keeps_it_shut() {
    let c = cluster();
    let quorum = c.quorum_key(&[0, 1, 2]).ok().unwrap();
    let envelope = c.envelope(0);
    let root = envelope.open(&c.nodes[0].context(&c.config, 1), &c.nodes[0].hsm_half(&envelope), &quorum).ok().unwrap();
    let mut config = c.config.clone();
    config.signatures.clear();
    assert!(matches!(Keyring::open(&root, &keyring_context(&config), &c.keyring), Err(KeyringError::NotOpened)));
}
