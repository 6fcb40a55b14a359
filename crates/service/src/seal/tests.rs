//! What a hostile disk, leader or peer may try against seals, with real tokens. Ceremonies and members as their users
//! see them are tested in `tests/`.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::decide::{Change, Write};
use quorate_core::facts::Facts;
use quorate_core::id::{ClusterId, Lineage, NodeId};
use quorate_core::record::{Record, SealRecord};
use quorate_core::record_key::RecordKey;
use quorate_crypto::{
    CeremonyId, Envelope, EnvelopeContext, EnvelopeKind, HandoverContext, RootKey, Secret, SetId, Share,
};
use quorate_replica::{Member, PeerHandler as _};
use tokio::time::Instant;

use super::handover::Offer;
use super::message::Message;
use super::open::{CompletedCeremony, Opened, SealState, hsm_half};
use super::operator_seal::OperatorSeal;
use super::statement::as_member;
use super::support::*;
use crate::error::Error;
use crate::node::{Node, Sealed, State};
use crate::records::{EngineFacts, Secrets};
use crate::seal::{Health, Verdict};
use crate::testing::desk::Turning;

pub(super) fn opened(node: &Node) -> Arc<Opened> {
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
    put_envelope(node, node.name().as_str(), envelope).await;
}

/// Writes records of table 0.
pub(super) async fn put_seal_value(node: &Node, records: &[(RecordKey, Vec<u8>)]) -> Result<(), Error> {
    let decide = |facts: &mut EngineFacts<'_>| {
        let mut writes = Vec::new();
        for (key, value) in records {
            facts.get::<SealRecord>(key.clone())?;
            writes.push(Write::Update(Record::Seal(SealRecord { key: key.clone(), value: value.clone() })));
        }
        Ok(Change { writes, answer: () })
    };
    opened(node).records.change(soon(), Secrets::default(), decide).await.map(|_| ())
}

async fn put_envelope(node: &Node, name: &str, envelope: &Envelope) {
    let key = RecordKey::envelope(name);
    put_seal_value(node, &[(key, envelope.encode())]).await.expect("written");
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
    let error = node.seal_configs(&admin()).expect_err("a ceremony does not even begin here");
    assert!(matches!(&error, Error::Damaged(what) if what.contains("envelope")), "{error}");
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
    let rogue = Member {
        name: "n2".into(),
        peer_addr: rig.address("n2"),
        identity_spki: vec![7; 91],
        ..as_member(&node.own_statement())
    };
    let opened = opened(&node);
    // Listed, by whoever could sign that, with an envelope, and made a member; but no administrator has approved it.
    let good = node.own_context(&opened.seal).expect("readable");
    put_envelope(&node, "n2", &own_envelope(&node, &opened, &good)).await;
    let serial = opened.records.commit_roster(soon(), |now| now.with(NodeId(99), &rogue)).await.expect("written");
    opened.records.replica.carry_out(serial, soon()).await.expect("Raft takes it");
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

    let me = node.sealed_replica().expect("sealed").id();
    let operator_seal = node.app_hello().operator_seal.expect("an operator sealed it");
    let handle = async |message: Message| {
        let (kind, body) = message.encode();
        link.handle(crate::node::FOUNDER, kind, body).await
    };
    let offer_of = async |root: &RootKey, nonce: [u8; 32], operator_seal: Option<OperatorSeal>, epoch: u64| {
        let context = HandoverContext {
            envelope: node.own_context(&seal).expect("readable"),
            sender: "n1".into(),
            nonce,
            ceremony: CeremonyId([3; 16]),
        };
        let envelope =
            Envelope::seal_handover(&context, kem.alg, &kem.spki_der, root, &OsEntropy).expect("sealed").encode();
        let operator_seals = operator_seal.into_iter().map(|operator_seal| (me, operator_seal)).collect();
        let ceremony = CompletedCeremony::new([3; 16], epoch, operator_seals, std::time::Duration::ZERO);
        let offer = Offer::sign(&real.0.keyring, "n1", &nonce, ceremony, envelope).encode();
        handle(Message::Handover(offer)).await
    };
    let offer = async |root: &RootKey, nonce, epoch| offer_of(root, nonce, Some(operator_seal), epoch).await;
    let nonce = async || -> [u8; 32] {
        let nonce = handle(Message::HandoverNonce).await.expect("sealed");
        nonce[..].try_into().expect("32 bytes")
    };
    let refused = |answer: Result<Bytes, String>, why: &str| {
        let error = answer.expect_err(why);
        assert!(error.contains(why), "{error}");
        assert_eq!(node.health(), Health::Sealed);
    };

    refused(offer(&real.0.root_key, [7; 32], 0).await, "nonce");
    let used = nonce().await;
    refused(offer(&real.0.root_key, [7; 32], 0).await, "anchor key");
    refused(offer(&real.0.root_key, used, 0).await, "nonce");
    // However young the sender says that its ceremony is: clocks run at different rates.
    for unknown in [None, Some(OperatorSeal([5; 16]))] {
        let answer = offer_of(&real.0.root_key, nonce().await, unknown, 0).await;
        refused(answer, "sealed by an operator after");
    }
    refused(offer(&real.0.root_key, nonce().await, 77).await, "different seals");
    let other = RootKey::generate(1, &Secret::from_array([1; 32]), &OsEntropy);
    refused(offer(&other, nonce().await, 0).await, "does not open");
    refused(handle(Message::Handover(Bytes::from_static(b"junk"))).await, "nonce");
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
async fn a_share_that_comes_with_the_last_one_is_not_kept_at_an_open_node() {
    let rig = Rig::new();
    let (node, shares) = rig.founded(4, 2).await;
    submit(&node, &shares[0]).await.expect("taken");
    let ends = tokio::join!(submit(&node, &shares[1]), submit(&node, &shares[2]), submit(&node, &shares[3]));
    let unsealed = |end: &Result<super::ceremony::Submitted, Error>| end.as_ref().is_ok_and(|done| done.unsealed);
    let ends = [ends.0, ends.1, ends.2];
    assert_eq!(ends.iter().filter(|end| unsealed(end)).count(), 1, "{ends:?}");
    assert!(ends.iter().all(|end| unsealed(end) || matches!(end, Err(Error::WrongState(_)))), "{ends:?}");
    assert!(
        node.ceremony.progress().is_none(),
        "entered shares are wiped on success, not kept for a quarter of an hour"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_of_the_hsm_any_share_completes_the_ceremony() {
    let rig = Rig::new();
    let (node, shares) = rig.founded(2, 2).await;
    let seal = node.seal_state(&node.sealed_replica().expect("sealed")).expect("there");
    // As if the HSM had failed at the second share: both are kept, nothing was combined.
    for share in &shares {
        node.keep_share(&seal, Share::parse(share).expect("good"), "custodian/ada").expect("kept");
    }
    assert_eq!(node.health(), Health::Sealed);
    assert!(submit(&node, &shares[0]).await.expect("not a duplicate now").unsealed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_replica_found_a_problem_before_anybody_watched_is_not_opened() {
    let rig = Rig::new();
    let (node, shares) = rig.unsealed().await;
    let replica = opened(&node).records.replica.clone();
    replica.set_keys(Some(Turning::new(opened(&node).verifier.clone())));
    let key = RecordKey::cluster_seal();
    let committed = put_seal_value(&node, &[(key, vec![1])]).await;
    assert!(
        matches!(committed, Err(Error::UnknownOutcome)),
        "nobody is told that a forged batch was applied: {committed:?}"
    );
    let mut state = node.state.subscribe();
    state.wait_for(|state| state.health() == Health::Damaged).await.expect("told");
    // As at a start, while which the replica finds out what it lost.
    node.state.send_replace(Arc::new(State::Sealed(Sealed { replica, operator_seal: None })));
    submit(&node, &shares[0]).await.expect("taken");
    let opened = submit(&node, &shares[1]).await;
    assert!(matches!(&opened, Err(Error::Damaged(what)) if what.contains("forged")), "{opened:?}");
    assert_eq!(node.health(), Health::Damaged);
}

/// A key made at one node and a ciphertext of it.
pub(super) async fn key_and_blob(node: &Node, text: &[u8]) -> Vec<u8> {
    let kms = node.kms().expect("unsealed");
    let wanted = quorate_core::decide::Create {
        kind: quorate_core::decide::NewKind::new(quorate_core::key_spec::KeySpec::Aes256, None, None).unwrap(),
        tags: Default::default(),
        activation: None,
        purge_protected: false,
        source: quorate_core::decide::Source::Fresh,
        exportable: Default::default(),
        tracked: true,
        alias: None,
        name: None,
        description: Default::default(),
        token: None,
    };
    let key = kms.create_key(&admin(), &wanted, soon()).await.expect("created").id;
    let key = quorate_core::request::KeyHandle::Id(key);
    kms.encrypt(&admin(), &key, text, &no_aad(), soon()).await.expect("encrypted").ciphertext
}

fn no_aad() -> quorate_core::request::EncryptionContext {
    quorate_core::request::EncryptionContext::default()
}

pub(super) async fn opens(node: &Node, blob: &[u8], text: &[u8]) {
    let kms = node.kms().expect("unsealed");
    let opened = kms.decrypt(&admin(), blob, &no_aad(), None, soon()).await;
    assert_eq!(*opened.unwrap_or_else(|e| panic!("{}: {e}", node.name())).plaintext, text.to_vec());
}

/// Three unsealed voters.
pub(super) async fn three(rig: &Rig) -> (Arc<Node>, Arc<Node>, Arc<Node>, Vec<String>) {
    let (n1, shares) = rig.unsealed().await;
    let (n2, _) = rig.take_in(&n1, "n2").await;
    let (n3, _) = rig.take_in(&n1, "n3").await;
    for node in [&n2, &n3] {
        within(30, node.wait_for(Health::Ok)).await;
    }
    n1.promote(&admin(), &["n2".into(), "n3".into()], false, soon()).await.expect("promoted");
    eventually("everybody knows everybody", || {
        [&n1, &n2, &n3].iter().all(|n| {
            let nodes = n.status(&admin()).expect("status").nodes;
            nodes.iter().filter(|n| n.voter && !n.sealed && n.reachable).count() == 3
        })
    })
    .await;
    (n1, n2, n3, shares)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(clippy::disallowed_methods, reason = "as somebody with access to the disk")]
async fn an_operators_seal_outlives_its_mark_on_the_nodes_disk() {
    let rig = Rig::new();
    let (n1, n2, n3, shares) = three(&rig).await;
    let id = n2.current().replica().expect("a member").id();
    n2.seal(&admin(), false, soon()).await.expect("sealed");
    let heard = |n: &Arc<Node>| n.peers.operator_seals().contains_key(&id);
    eventually("the others hear of it", || heard(&n1) && heard(&n3)).await;
    n2.shutdown().await;
    drop(n2);
    std::fs::remove_file(rig.data_dir("n2").join("sealed-by-operator")).expect("it was there");
    let n2 = rig.node("n2").await;
    let told = |n: &Arc<Node>| {
        n.peers.hello(id).is_some_and(|(hello, _)| hello.health == Health::Sealed && hello.operator_seal.is_none())
    };
    eventually("it says that it is sealed, and not by whom", || told(&n1) && told(&n3)).await;
    for n in [&n1, &n3] {
        assert!(!n.wants_handover(id, &opened(n).ceremony));
    }
    assert_eq!(n2.health(), Health::Sealed);
    unseal(&n2, &shares[..2]).await;
    assert_eq!(n2.health(), Health::Ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removed_member_is_out_and_the_others_never_stop_serving() {
    let rig = Rig::new();
    let (n1, n2, n3, shares) = three(&rig).await;
    let before = key_and_blob(&n1, b"before").await;
    let old = opened(&n3);
    let old_envelope = old.seal.envelope.clone().expect("it had one");
    let old_id = n3.current().replica().expect("a member").id();

    // Uses go on at both others all the while.
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let users: Vec<_> = [&n1, &n2]
        .map(|node| {
            let (node, stop, before) = (node.clone(), stop.clone(), before.clone());
            tokio::spawn(async move {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    opens(&node, &before, b"before").await;
                    key_and_blob(&node, b"meanwhile").await;
                }
            })
        })
        .into();
    let myself = n3.remove_member(&admin(), "n3", soon()).await;
    assert!(matches!(&myself, Err(Error::WrongState(why)) if why.contains("another")), "{myself:?}");
    assert!(matches!(n1.remove_member(&custodian(), "n3", soon()).await, Err(Error::Denied(_))));
    assert!(matches!(n1.remove_member(&admin(), "n9", soon()).await, Err(Error::NotFound(_))));
    let removed = n1.remove_member(&admin(), "n3", soon()).await.expect("removed");
    assert_eq!((removed.id, removed.voters.len(), removed.root_generation), (old_id, 2, 2));
    let gone = n1.remove_member(&admin(), "n3", soon()).await;
    assert!(matches!(gone, Err(Error::NotFound(_))), "{gone:?}");
    let after = key_and_blob(&n2, b"after").await;
    eventually("n2 has rotated", || opened(&n2).root_key.generation() == 2).await;
    opens(&n1, &after, b"after").await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for user in users {
        user.await.expect("nobody who uses keys notices");
    }

    // It can neither use a key, nor is it handed one; its old keys open nothing of what is now.
    let now = opened(&n1);
    assert!(now.keyring.current_epoch() > old.keyring.current_epoch());
    assert!(now.seal.open_keyring(&old.root_key).is_err(), "the old root key");
    let context = now.seal.envelope_context("n3", &n3.keys.kem.spki_der, &n3.keys.identity).expect("readable");
    let half = hsm_half(&n3.hsm, &old_envelope, &n3.keys.kem.spki_der).await.expect("its HSM still works");
    assert!(!old_envelope.check_hsm(&context, &half), "the old envelope");
    let view = now.records.fresh_view(soon()).await.expect("a view");
    assert!(view.get(&RecordKey::envelope("n3")).expect("readable").is_none());
    drop((view, old));
    let brief = Instant::now() + std::time::Duration::from_secs(2);
    if let Ok(kms) = n3.kms() {
        assert!(kms.decrypt(&admin(), &before, &no_aad(), None, brief).await.is_err());
    }
    assert!(n1.hand_over(&now, old_id).await.is_err());
    n3.shutdown().await;
    drop((n3, now));

    // Those that stay restart sealed; a ceremony opens their new envelopes, and old ciphertexts still open.
    for node in [n1, n2] {
        node.shutdown().await;
    }
    let (n1, n2) = (rig.node("n1").await, rig.node("n2").await);
    assert_eq!((n1.health(), n2.health()), (Health::Sealed, Health::Sealed));
    eventually("a leader", || n2.status(&admin()).expect("status").leader.is_some()).await;
    unseal(&n2, &shares[..2]).await;
    within(30, n1.wait_for(Health::Ok)).await;
    for node in [&n1, &n2] {
        opens(node, &before, b"before").await;
        opens(node, &after, b"after").await;
    }

    // The same name joins again, as another node.
    let token = n1.invite(&admin(), "n3", 0, soon()).await.expect("invited").token;
    let join =
        crate::node::JoinConfig { addresses: vec![], token: crate::seal::JoinToken::parse(&token).expect("a token") };
    let options = Options { folder: Some("n3-again"), join: Some(join), ..Options::default() };
    let n3 = rig.start("n3", options).await.expect("starts");
    let fingerprint = pending_fingerprint(&n1, "n3").await;
    let approved = n1.approve(&admin(), "n3", &fingerprint, soon()).await.expect("approved");
    assert!(approved.id > old_id);
    within(30, n3.wait_for(Health::Ok)).await;
    opens(&n3, &before, b"before").await;
}

/// Any member can ask the leader to change membership; it comes to what stands in the signed roster, and to nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hostile_member_changes_no_membership() {
    let rig = Rig::new();
    let (n1, n2, n3, _) = three(&rig).await;
    n1.transfer_leader(&admin(), Some("n1"), soon()).await.expect("n1 leads");
    let replica = |node: &Node| node.current().replica().expect("a member").clone();
    let hostile = replica(&n3);
    let now = hostile.view().expect("a view").roster().expect("readable").expect("one").1.roster().serial;
    n1.seal(&admin(), false, soon()).await.expect("sealed");
    for (asked, done) in [(now, true), (now + 1, false), (u64::MAX, false)] {
        let answer = hostile.carry_out(asked, soon()).await;
        assert_eq!(answer.is_ok(), done, "{asked}: {answer:?}");
    }
    let status = replica(&n1).status();
    assert_eq!((status.members().len(), status.voters().count()), (3, 3));
    for node in [n1, n2, n3] {
        node.shutdown().await;
    }
}

/// The node that removes another dies between the batch that takes its keys and the change of membership.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removal_that_was_cut_off_is_finished_at_any_node() {
    let rig = Rig::new();
    let (n1, n2, n3, _) = three(&rig).await;
    let blob = key_and_blob(&n1, b"text").await;
    let id = n3.current().replica().expect("a member").id();
    let serial = opened(&n1).records.commit_roster(soon(), |now| now.demoting(id)).await.expect("written");
    opened(&n1).records.replica.carry_out(serial, soon()).await.expect("it votes no more");
    n1.rotate_without(&opened(&n1), "n3", id, soon()).await.expect("the batch");
    n1.shutdown().await;
    drop(n1);
    eventually("n2 has rotated", || opened(&n2).root_key.generation() == 2).await;
    assert!(n2.hand_over(&opened(&n2), id).await.is_err(), "a member still, but it gets nothing");
    // Whom the roster leaves out is listened to no more, so the first has to come back.
    let n1 = rig.node("n1").await;
    // Whoever leads has to know.
    let heard = |by: &Node, name: &str| {
        by.status(&admin()).expect("status").nodes.iter().any(|n| n.name == name && n.reachable)
    };
    eventually("they hear of each other", || heard(&n2, "n1") && heard(&n1, "n2")).await;
    // An operator calls again until it is done; on a busy machine a majority may not answer at once.
    let mut removed = n2.remove_member(&admin(), "n3", soon()).await;
    for _ in 0..5 {
        if matches!(removed, Err(Error::Unavailable(_) | Error::Begun { .. })) {
            removed = n2.remove_member(&admin(), "n3", soon()).await;
        }
    }
    let removed = removed.expect("goes on where it stopped");
    assert_eq!((removed.id, removed.voters.len(), removed.root_generation), (id, 2, 2), "not rotated twice");
    opens(&n2, &blob, b"text").await;
    for node in [n1, n2, n3] {
        node.shutdown().await;
    }
}

/// The majority goes once the vote is taken: the answer says that it was begun, and the same call again ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removal_that_loses_the_majority_says_that_it_was_begun_and_goes_on() {
    let rig = Rig::new();
    let (n1, n2, n3, _) = three(&rig).await;
    n1.transfer_leader(&admin(), Some("n1"), soon()).await.expect("n1 leads");
    let id = n3.current().replica().expect("a member").id();
    let serial = opened(&n1).records.commit_roster(soon(), |now| now.demoting(id)).await.expect("written");
    n2.shutdown().await;
    n3.shutdown().await;
    drop(n2);
    let brief = Instant::now() + std::time::Duration::from_secs(5);
    let stopped = n1.finish_removal(&opened(&n1), "n3", (id, true), serial, brief).await.expect_err("no majority");
    assert!(matches!(&stopped, Error::Begun { what, .. } if what == "removing n3"), "{stopped}");
    assert_eq!(opened(&n1).root_key.generation(), 1);
    let n2 = rig.node("n2").await;
    within(30, n2.wait_for(Health::Ok)).await;
    let removed = loop {
        match n1.remove_member(&admin(), "n3", soon()).await {
            Ok(removed) => break removed,
            // As an operator would.
            Err(Error::Unavailable(_) | Error::NoMajority(_) | Error::Begun { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!((removed.id, removed.voters.len(), removed.root_generation), (id, 2, 2));
    n2.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sealed_member_opens_its_new_envelope_at_the_next_ceremony_and_the_leader_can_be_removed() {
    let rig = Rig::new();
    let (n1, n2, n3, shares) = three(&rig).await;
    let blob = key_and_blob(&n1, b"text").await;
    n2.seal(&admin(), false, soon()).await.expect("sealed");
    eventually("n3 knows", || n3.status(&admin()).expect("status").nodes.iter().any(|n| n.name == "n2" && n.sealed))
        .await;
    n3.transfer_leader(&admin(), Some("n1"), soon()).await.expect("n1 leads");
    n3.remove_member(&admin(), "n1", soon()).await.expect("it hands on its leadership first");
    assert_ne!(n3.status(&admin()).expect("status").leader, Some(NodeId(1)));
    opens(&n3, &blob, b"text").await;
    assert_eq!(n2.health(), Health::Sealed);
    unseal(&n2, &shares[1..]).await;
    opens(&n2, &blob, b"text").await;
    assert_eq!(opened(&n2).root_key.generation(), 2);

    // Of two voters one is down: the quorum would be lost, and nothing is changed.
    n3.shutdown().await;
    eventually("n2 notices", || {
        n2.status(&admin()).expect("status").nodes.iter().any(|n| n.name == "n3" && !n.reachable)
    })
    .await;
    let brief = Instant::now() + std::time::Duration::from_secs(5);
    assert!(n2.remove_member(&admin(), "n3", brief).await.is_err());
    assert_eq!(opened(&n2).root_key.generation(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_missed_the_rotation_stops_serving_and_is_handed_the_key_when_it_asks() {
    let rig = Rig::new();
    let (n1, n2, n3, _) = three(&rig).await;
    let blob = key_and_blob(&n1, b"text").await;
    // The next root key does not reach n2: its HSM's door is held by a transition that does not end.
    let moving = n2.transition.lock().await;
    n1.remove_member(&admin(), "n3", soon()).await.expect("removed");
    let used = n2.kms().expect("still open").decrypt(&admin(), &blob, &no_aad(), None, soon()).await;
    assert!(matches!(used, Err(Error::Sealed)), "from the acknowledgement on it uses no key");
    drop(moving);
    within(30, n2.wait_for(Health::Sealed)).await;
    within(30, n2.wait_for(Health::Ok)).await;
    assert_eq!(opened(&n2).root_key.generation(), 2);
    opens(&n2, &blob, b"text").await;
    n3.shutdown().await;
}

/// A member that can't open its journal says so to the others: asked alone, they name it as damaged, and not as silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(clippy::disallowed_methods, reason = "as a disk that forgets")]
async fn a_member_whose_journal_is_damaged_is_named_so_by_the_others() {
    let rig = Rig::new();
    let (n1, _) = rig.unsealed().await;
    let (n2, _) = rig.take_in(&n1, "n2").await;
    within(30, n2.wait_for(Health::Ok)).await;
    n2.shutdown().await;
    drop(n2);
    let journal = files(&rig.data_dir("n2")).into_iter().filter(|path| path.to_string_lossy().contains("journal"));
    for file in journal {
        let mut bytes = std::fs::read(&file).expect("readable");
        let middle = 64.min(bytes.len());
        bytes[..middle].fill(0xA5);
        std::fs::write(&file, bytes).expect("written");
    }
    // Again: the address is free once it has stopped.
    for _ in 0..2 {
        let n2 = rig.node("n2").await;
        assert_eq!(n2.health(), Health::Damaged);
        let named = || n1.verdicts().iter().any(|v| matches!(v, Verdict::Damaged { node, .. } if node == "n2"));
        eventually("n1 knows", named).await;
        let verdicts = n1.verdicts();
        assert!(!verdicts.iter().any(|v| matches!(v, Verdict::Unreachable { .. })), "named once: {verdicts:?}");
        let status = n1.status(&admin()).expect("status");
        let row = status.nodes.iter().find(|n| n.name == "n2").expect("a member");
        assert!(!row.reachable && row.problem.contains("can't open its journal"), "{row:?}");
        n2.shutdown().await;
        eventually("and no longer than it does", || !named()).await;
    }
}
