//! What a hostile disk, leader or peer may try against seals, with real tokens. Ceremonies and members as their users
//! see them are tested in `tests/`.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::id::{ClusterId, Lineage, NodeId};
use quorate_core::record_key::RecordKey;
use quorate_crypto::{
    CeremonyId, Envelope, EnvelopeContext, EnvelopeKind, HandoverContext, RootKey, Secret, SetId, Share,
};
use quorate_replica::{Member, PeerHandler as _};
use tokio::time::Instant;

use super::ledger::Change;
use super::open::{Opened, SealState, hsm_half};
use super::peers::{KIND_HANDOVER, KIND_HANDOVER_NONCE};
use super::support::*;
use crate::error::Error;
use crate::node::Node;
use crate::seal::Health;

fn opened(node: &Node) -> Arc<Opened> {
    node.opened().expect("unsealed")
}

fn own_envelope(node: &Node, opened: &Opened, context: &EnvelopeContext) -> Envelope {
    let kem = &node.keys.kem;
    let quorum = &opened.seal.config.quorum_public_key;
    Envelope::seal(EnvelopeKind::Node, context, kem.alg, &kem.spki_der, quorum, &opened.root_key, &OsEntropy)
        .expect("sealed")
}

/// Writes this node's envelope anew, as only an unsealed (or, without the MAC, a hostile) member could.
async fn replace_envelope(node: &Node, envelope: &Envelope) {
    let key = RecordKey::envelope(node.name().as_str());
    let decide = |view: &quorate_replica::View| {
        let rev = view.get(&key).expect("readable").map_or(0, |(rev, _)| rev);
        Ok((vec![Change::PutSeal { key: key.clone(), value: envelope.encode(), rev }], ()))
    };
    opened(node).ledger.commit(soon(), decide).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_with_any_bound_field_altered_never_passes_the_hsms_proof() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let opened = opened(&node);
    let good = node.own_context(&opened.seal).expect("readable");
    let with = |envelope: Envelope| SealState { envelope: Some(Arc::new(envelope)), ..opened.seal.clone() };
    node.prove_hsm(&with(own_envelope(&node, &opened, &good))).await.expect("the unaltered one");

    let altered: [(&str, EnvelopeContext); 6] = [
        ("lineage", EnvelopeContext { lineage: Lineage([9; 16]), ..good.clone() }),
        ("cluster", EnvelopeContext { cluster: ClusterId([9; 16]), ..good.clone() }),
        ("generation", EnvelopeContext { generation: good.generation + 1, ..good.clone() }),
        ("share set", EnvelopeContext { set_id: SetId([9; 4]), ..good.clone() }),
        ("node name", EnvelopeContext { node_name: "n2".into(), ..good.clone() }),
        ("identity key", EnvelopeContext { spki_identity_sha256: [9; 32], ..good.clone() }),
    ];
    for (field, context) in altered {
        let refused = node.prove_hsm(&with(own_envelope(&node, &opened, &context))).await;
        assert!(matches!(refused, Err(Error::Damaged(_))), "{field}");
    }
    // Every byte of the envelope itself, sampled: damaged bytes are no envelope, or one that the HSM's proof refuses,
    // or one whose quorum half no longer opens.
    let bytes = own_envelope(&node, &opened, &good).encode();
    for at in (0..bytes.len()).step_by(41) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        let Ok(envelope) = Envelope::decode(&bytes) else { continue };
        let half = hsm_half(&node.hsm, &envelope, &node.keys.kem.spki_der).await;
        let proven = half.is_ok_and(|half| envelope.check_hsm(&good, &half));
        let boxed = at >= bytes.len() - 108;
        assert!(!proven || boxed, "byte {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_envelope_is_found_before_a_share_is_taken_and_at_start() {
    let rig = Rig::new();
    let (node, shares) = rig.unsealed().await;
    let context =
        EnvelopeContext { spki_identity_sha256: [9; 32], ..node.own_context(&opened(&node).seal).expect("readable") };
    replace_envelope(&node, &own_envelope(&node, &opened(&node), &context)).await;
    node.seal(&admin(), false, soon()).await.expect("sealed");
    let error = submit(&node, &shares[0]).await.expect_err("refused");
    assert!(matches!(&error, Error::Damaged(what) if what.contains("envelope")), "{error}");
    assert_eq!(node.health(), Health::Damaged);
    node.shutdown().await;
    drop(node);
    let node = rig.node("n1").await;
    assert_eq!(node.health(), Health::Damaged, "the proof needs no custodian");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_whose_quorum_half_was_altered_does_not_open_with_all_shares() {
    let rig = Rig::new();
    let (node, shares) = rig.unsealed().await;
    let opened_ = opened(&node);
    let context = node.own_context(&opened_.seal).expect("readable");
    let mut bytes = own_envelope(&node, &opened_, &context).encode();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    replace_envelope(&node, &Envelope::decode(&bytes).expect("well formed")).await;
    drop(opened_);
    node.seal(&admin(), false, soon()).await.expect("sealed");
    assert!(!submit(&node, &shares[0]).await.expect("the HSM's half is whole").unsealed);
    let error = submit(&node, &shares[1]).await.expect_err("refused");
    assert!(matches!(error, Error::Damaged(_)), "{error}");
    assert!(node.kms().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn membership_alone_entitles_nobody_to_the_root_key() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    // What a hostile sealed leader can do: put a node of its own into Raft's membership.
    let rogue = Member {
        name: "n2".into(),
        peer_addr: rig.address("n2"),
        identity_spki: vec![7; 91],
        ..node.own_statement().member()
    };
    let opened = opened(&node);
    opened.ledger.replica.add_learner(NodeId(99), rogue, soon()).await.expect("Raft takes it");
    let error = node.hand_over(&opened, NodeId(99)).await.expect_err("refused");
    assert!(matches!(&error, Error::WrongState(why) if why.contains("no approved member")), "{error}");
    let error = node.promote(&admin(), &["n2".into()], true, soon()).await.expect_err("refused");
    assert!(matches!(error, Error::NotFound(_)), "nor to a vote: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn approving_a_member_again_is_no_way_around_its_custodians() {
    let rig = Rig::new();
    let (n1, _) = rig.unsealed().await;
    let (n2, _) = rig.take_in(&n1, "n2").await;
    within(30, n2.wait_for(Health::Ok)).await;
    let (id, fingerprint) = (n2.current().replica().expect("a member").id(), n2.keys.fingerprint());
    eventually("the hand-over is done", || !n1.handover.is_newly_approved(id)).await;
    // Restarted and long after the ceremony, n2 would be opened by nothing but such an offer.
    assert_eq!(n1.approve(&admin(), "n2", &fingerprint, soon()).await.expect("as before").id, id);
    assert!(!n1.handover.is_newly_approved(id), "one administrator opens no sealed node");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_hand_overs_are_refused_and_damage_nothing() {
    let rig = Rig::new();
    let (node, shares) = rig.unsealed().await;
    let seal = opened(&node).seal.clone();
    let real = RootKeyOf(opened(&node));
    node.seal(&admin(), false, soon()).await.expect("sealed");
    let link = node.link();
    let kem = &node.keys.kem;

    let offer = async |root: &RootKey, nonce: [u8; 32], age_ms: u64, epoch: u64| {
        let context = HandoverContext {
            envelope: node.own_context(&seal).expect("readable"),
            sender: "n1".into(),
            nonce,
            ceremony: CeremonyId([3; 16]),
        };
        let envelope =
            Envelope::seal_handover(&context, kem.alg, &kem.spki_der, root, &OsEntropy).expect("sealed").encode();
        let body = quorate_core::codec::Writer::new().raw(&[3; 16]).u64(age_ms).u64(epoch).field(&envelope).finish();
        link.handle(crate::node::FOUNDER, KIND_HANDOVER, body.into()).await
    };
    let nonce = async || -> [u8; 32] {
        let nonce = link.handle(crate::node::FOUNDER, KIND_HANDOVER_NONCE, Bytes::new()).await.expect("sealed");
        nonce[..].try_into().expect("32 bytes")
    };
    let refused = |answer: Result<Bytes, String>, why: &str| {
        let error = answer.expect_err(why);
        assert!(error.contains(why), "{error}");
        assert_eq!(node.health(), Health::Sealed);
    };

    refused(offer(&real.0.root_key, [7; 32], 0, 0).await, "nonce");
    let used = nonce().await;
    refused(offer(&real.0.root_key, [7; 32], 0, 0).await, "does not open");
    refused(offer(&real.0.root_key, used, 0, 0).await, "nonce");
    refused(offer(&real.0.root_key, nonce().await, 60_000, 0).await, "sealed by an operator after");
    refused(offer(&real.0.root_key, nonce().await, 0, 77).await, "different seals");
    let other = RootKey::generate(1, &Secret::from_array([1; 32]), &OsEntropy);
    refused(offer(&other, nonce().await, 0, 0).await, "does not open");
    refused(link.handle(crate::node::FOUNDER, KIND_HANDOVER, Bytes::from_static(b"junk")).await, "nonce");
    refused(link.handle(crate::node::FOUNDER, 200, Bytes::new()).await, "does not know");
    unseal(&node, &shares[..2]).await;
}

/// Keeps what a hostile former member might have kept.
struct RootKeyOf(Arc<Opened>);

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_forgotten_after_a_quarter_of_an_hour_and_by_nobodys_word() {
    let rig = Rig::new();
    let (node, shares) = rig.founded(3, 2).await;
    submit(&node, &shares[0]).await.expect("taken");
    let progress = node.ceremony.progress().expect("open");
    let left = progress.expires.saturating_duration_since(Instant::now());
    assert!(left <= super::ceremony::SHARES_KEPT && left > super::ceremony::SHARES_KEPT * 9 / 10);
    node.ceremony.forget(Some([0; 16]));
    assert!(node.ceremony.progress().is_some(), "only its own timer ends it");
    node.ceremony.forget(Some(progress.id));
    assert!(node.ceremony.progress().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_of_the_hsm_any_share_completes_the_ceremony() {
    let rig = Rig::new();
    let (node, shares) = rig.founded(2, 2).await;
    let seal = node.seal_state(&node.sealed_replica().expect("sealed")).expect("there");
    // As if the HSM had failed at the second share: both are kept, nothing was combined.
    for share in &shares {
        node.keep_share(&seal, Share::parse(share).expect("good")).expect("kept");
    }
    assert_eq!(node.health(), Health::Sealed);
    assert!(submit(&node, &shares[0]).await.expect("not a duplicate now").unsealed);
}
