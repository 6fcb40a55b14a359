//! What a hostile member may put into the state, or say, to have sealed nodes opened under keys of its own; with real tokens.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::id::NodeId;
use quorate_core::record_key::RecordKey;
use quorate_crypto::{
    CeremonyId, Envelope, EnvelopeKind, HandoverContext, Keyring, KeyringContext, RootKey, SealConfig, Secret, Share,
};
use quorate_replica::{PeerHandler as _, Replica};

use super::handover::Offer;
use super::message::Message;
use super::open::{CompletedCeremony, SealState};
use super::support::*;
use super::tests::{key_and_blob, opened, opens, put_seal_value, three};
use crate::error::Error;
use crate::node::{JoinConfig, Node};
use crate::seal::{Health, JoinToken};

/// Keys that somebody made who has none of the cluster's, but knows all that is public.
struct Stranger {
    root_key: RootKey,
    keyring: Keyring,
    boxed: Vec<u8>,
}

impl Stranger {
    fn new(seal: &SealState) -> Self {
        let random = Secret::from_array([0xE1; 32]);
        let generation = Keyring::header(&seal.keyring).expect("readable").root_generation;
        let root_key = RootKey::generate(generation, &random, &OsEntropy);
        let keyring = Keyring::generate(&random, &OsEntropy);
        let context = KeyringContext { pk_anchor: keyring.anchor_public_key(), ..seal.keyring_context() };
        let boxed = keyring.seal(&root_key, &context, &OsEntropy);
        Self { root_key, keyring, boxed }
    }

    /// The state as it would have it: its keyring, and an envelope of its root key for each of these nodes.
    async fn write(&self, writer: &Node, seal: &SealState, nodes: &[&Node]) {
        let seal = SealState { keyring: self.boxed.clone().into(), ..seal.clone() };
        let envelope = |node: &&Node| {
            let (kem, name) = (&node.keys.kem, node.name().as_str());
            let context = seal.envelope_context(name, &kem.spki_der, &node.keys.identity).expect("readable");
            let quorum = &seal.config.quorum_public_key;
            let sealed = Envelope::seal(
                EnvelopeKind::Node,
                &context,
                kem.alg,
                &kem.spki_der,
                quorum,
                &self.root_key,
                &OsEntropy,
            );
            (RecordKey::envelope(name), sealed.expect("from public keys").encode())
        };
        let mut records: Vec<_> = nodes.iter().map(envelope).collect();
        records.push((RecordKey::keyring(), self.boxed.clone()));
        put_seal(writer, &records).await;
    }

    /// An offer of its root key to `to`, without a signature.
    fn offer(&self, seal: &SealState, sender: &str, to: &Node, nonce: [u8; 32]) -> (CompletedCeremony, Vec<u8>) {
        let seal = SealState { keyring: self.boxed.clone().into(), ..seal.clone() };
        let kem = &to.keys.kem;
        let envelope = seal.envelope_context(to.name().as_str(), &kem.spki_der, &to.keys.identity).expect("readable");
        let context = HandoverContext { envelope, sender: sender.into(), nonce, ceremony: CeremonyId([3; 16]) };
        let sealed = Envelope::seal_handover(&context, kem.alg, &kem.spki_der, &self.root_key, &OsEntropy);
        let ceremony = CompletedCeremony::new([3; 16], 0, Default::default(), Duration::ZERO);
        (ceremony, sealed.expect("from public keys").encode())
    }
}

/// Writes records of table 0: what only an unsealed member may, and whoever leads might while all are sealed.
async fn put_seal(writer: &Node, records: &[(RecordKey, Vec<u8>)]) {
    try_put_seal(writer, records).await.expect("written");
}

async fn try_put_seal(writer: &Node, records: &[(RecordKey, Vec<u8>)]) -> Result<(), Error> {
    put_seal_value(writer, records).await
}

/// At a ceremony, all shares right: the envelope opens, and the keyring does, and both are a stranger's.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_opens_no_keyring_that_a_stranger_made() {
    let rig = Rig::new();
    let (node, shares) = rig.unsealed().await;
    let seal = opened(&node).seal.clone();
    Stranger::new(&seal).write(&node, &seal, &[&node]).await;
    within(30, node.wait_for(Health::Sealed)).await;
    submit(&node, &shares[0]).await.expect("taken");
    let error = submit(&node, &shares[1]).await.expect_err("no service under a stranger's keys");
    assert!(matches!(&error, Error::Damaged(what) if what.contains("anchor key")), "{error}");
    assert_eq!(node.health(), Health::Damaged);
    assert!(node.kms().is_err() && node.ceremony.progress().is_none());
}

/// The whole attack: the state of a cold cluster is a stranger's, who then hands out "the" root key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_a_cold_start_nobody_is_opened_under_a_strangers_root_key() {
    let rig = Rig::new();
    let (n1, n2, n3, shares) = three(&rig).await;
    let seal = opened(&n1).seal.clone();
    let stranger = Stranger::new(&seal);
    stranger.write(&n1, &seal, &[&n1, &n2, &n3]).await;
    for node in [n1, n2, n3] {
        within(30, node.wait_for(Health::Sealed)).await;
        node.shutdown().await;
    }
    let (n1, n2, n3) = (rig.node("n1").await, rig.node("n2").await, rig.node("n3").await);
    eventually("a leader", || n1.status(&admin()).expect("status").leader.is_some()).await;

    // n3 is hostile: sealed like all, it calls itself unsealed.
    let hostile = n3.current().replica().expect("a member").clone();
    let victim = n1.current().replica().expect("a member").id();
    let ask = async |message: Message| message.ask(&hostile, victim, Duration::from_secs(10)).await;
    for signed in [false, true] {
        let nonce = ask(Message::HandoverNonce).await.expect("sealed nodes give one");
        let nonce: [u8; 32] = nonce[..].try_into().expect("32 bytes");
        let (ceremony, envelope) = stranger.offer(&seal, "n3", &n1, nonce);
        let offer = Offer::sign(&stranger.keyring, "n1", &nonce, ceremony, envelope).encode();
        // As it was before offers were signed, or signed by the keyring that is in the state.
        let offer = if signed { offer } else { [&offer[..offer.len() - 64], &[0; 64]].concat().into() };
        let error = ask(Message::Handover(offer)).await.expect_err("refused").to_string();
        assert!(error.contains("anchor key"), "{error}");
        assert_eq!(n1.health(), Health::Sealed, "somebody else's word damages nothing");
    }
    // Nor do the custodians open it for them.
    submit(&n2, &shares[0]).await.expect("taken");
    let error = submit(&n2, &shares[1]).await.expect_err("refused");
    assert!(matches!(&error, Error::Damaged(what) if what.contains("anchor key")), "{error}");
    assert!([&n1, &n2, &n3].iter().all(|node| node.kms().is_err()));
}

/// Each word that the recipient acts on is under the signature; and nothing reaches the HSM before it is checked.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_altered_in_any_part_is_refused() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let real = opened(&node);
    node.seal(&admin(), true, soon()).await.expect("sealed");
    let link = node.link();
    let sealed = real.seal.envelope.as_ref().expect("its own").encode();
    let handle = async |message: Message| {
        let (kind, body) = message.encode();
        link.handle(crate::node::FOUNDER, kind, body).await
    };
    let ask = async |recipient: &str, alter: &dyn Fn(&mut Vec<u8>)| {
        let nonce: [u8; 32] = handle(Message::HandoverNonce).await.expect("sealed")[..].try_into().expect("32 bytes");
        let operator_seals = [(NodeId(1), super::operator_seal::OperatorSeal([9; 16]))].into();
        let ceremony = CompletedCeremony::new([3; 16], 1 << 40, operator_seals, Duration::from_secs(1));
        let mut offer = Offer::sign(&real.keyring, recipient, &nonce, ceremony, sealed.clone()).encode().to_vec();
        alter(&mut offer);
        handle(Message::Handover(offer.into())).await.expect_err("refused")
    };
    let good = ask("n1", &|_| {}).await;
    assert!(good.contains("different seals"), "this one is looked at: {good}");
    assert!(ask("n2", &|_| {}).await.contains("anchor key"), "meant for another");
    // Ceremony, age, seal epoch, number of operators' seals, one of them, the envelope, the signature.
    for at in [0, 23, 31, 41, 50, 80, 300] {
        let error = ask("n1", &|offer| offer[at] ^= 1).await;
        assert!(error.contains("anchor key") || error.contains("hand-over"), "byte {at}: {error}");
    }
    assert!(ask("n1", &|offer| *offer.last_mut().expect("long") ^= 1).await.contains("anchor key"));
    assert!(ask("n1", &|offer| offer.truncate(offer.len() - 64)).await.contains("hand-over"));
    assert_eq!(node.health(), Health::Sealed);
}

/// An unsealed member takes the next root key from whoever holds the keys, and from nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rotation_that_a_stranger_offers_is_refused() {
    let rig = Rig::new();
    let (n1, _) = rig.unsealed().await;
    let (n2, _) = rig.take_in(&n1, "n2").await;
    within(30, n2.wait_for(Health::Ok)).await;
    let seal = opened(&n1).seal.clone();
    let stranger = Stranger::new(&seal);
    let replica = n1.current().replica().expect("a member").clone();
    let to = n2.current().replica().expect("a member").id();
    let ask = async |message: Message| message.ask(&replica, to, Duration::from_secs(10)).await;
    let nonce = ask(Message::RotationNonce).await.expect("unsealed nodes give one");
    let nonce: [u8; 32] = nonce[..].try_into().expect("32 bytes");
    let (ceremony, envelope) = stranger.offer(&seal, "n1", &n2, nonce);
    let offer = Offer::sign(&stranger.keyring, "n2", &nonce, ceremony, envelope).encode();
    let keyring = Bytes::copy_from_slice(&stranger.boxed);
    let error = ask(Message::Rotation { offer, keyring }).await.expect_err("refused").to_string();
    assert!(error.contains("anchor key"), "{error}");
    let blob = key_and_blob(&n1, b"text").await;
    opens(&n2, &blob, b"text").await;
}

/// A state whose custodians are a stranger's, on the disk of a node that was founded with others.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_believes_no_custodians_but_those_it_was_introduced_to() {
    let rig = Rig::new();
    let (node, shares) = rig.founded(3, 2).await;
    let pinned = node.pins.get();
    let config = SealConfig::decode(&node.seal_configs(&admin()).expect("public")[0]).expect("readable");
    assert_eq!(pinned, [config.hash()]);
    node.shutdown().await;
    drop(node);

    let evil = rig.start("n1", Options { folder: Some("evil"), ..Options::default() }).await.expect("starts");
    let theirs = init(&evil, 3, 2).await.expect("founded");
    evil.shutdown().await;
    drop(evil);
    let own_file = rig.data_dir("n1").join("node");
    std::fs::copy(own_file, rig.data_dir("evil").join("node")).expect("whose folder it is stays");
    let node = rig.start("n1", Options { folder: Some("evil"), ..Options::default() }).await.expect("starts");
    assert_eq!(node.health(), Health::Damaged);
    let unpinned = |e: Error| assert!(matches!(&e, Error::Damaged(what) if what.contains("unpinned")), "{e}");
    unpinned(node.seal_configs(&admin()).expect_err("no share is typed there"));
    unpinned(submit(&node, &theirs.shares[0]).await.map(|_| ()).expect_err("nor taken"));
    let status = node.status(&admin()).expect("status");
    assert!(status.seal.is_none() && said(&node).contains("unpinned"), "{}", said(&node));
    node.shutdown().await;
    drop(node);

    // The token knows of a start with that node file, which the own folder does not know of.
    let hsm = rig.hsm("n1", "n1", Options::default().kem);
    hsm.replace_data(&format!("quorate/{}/1", rig.cluster), &[]).await.expect("forgotten");
    hsm.close();
    let node = rig.node("n1").await;
    unseal(&node, &shares[..2]).await;
    assert_eq!(node.pins.get(), pinned);
}

/// There is no re-share yet, but what one would leave in the state is believed, and nothing less.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_leads_on_from_the_pin_only_by_the_custodians_signatures() {
    let rig = Rig::new();
    let (node, shares) = rig.unsealed().await;
    let replica = node.current().replica().expect("a member").clone();
    let first = opened(&node).seal.config.clone();
    let share = |i: usize| Share::parse(&shares[i]).expect("good");
    let mut next = SealConfig {
        generation: 2,
        previous_hash: first.hash(),
        pk_anchor: [7; 32],
        signatures: vec![],
        ..first.clone()
    };
    let generation = (RecordKey::seal_generation(), 2u32.to_be_bytes().to_vec());
    // With one signature, or none, no node applies it, sealed or not.
    next.signatures = vec![share(0).sign_successor(&next)];
    let unsigned = SealConfig { signatures: vec![], ..next.clone() };
    for (key, config) in [(2, &next), (2, &unsigned), (1, &unsigned)] {
        let records = [(RecordKey::seal_config(key), config.encode()), generation.clone()];
        assert!(try_put_seal(&node, &records).await.is_err());
        assert_eq!(node.seal_state(&replica).expect("as it was").config, first);
    }
    next.signatures = [0, 2].map(|i| share(i).sign_successor(&next)).into();
    put_seal(&node, &[(RecordKey::seal_config(2), next.encode()), generation]).await;
    assert_eq!(node.seal_state(&replica).expect("signed by two of three").config, next);
    let chain = node.seal_configs(&admin()).expect("public");
    assert_eq!(chain, [first.encode(), next.encode()]);
    assert_eq!(node.pins.get(), [first.hash()], "no keyring of that configuration has been opened");
    // A node that believes in other custodians, as one that was introduced to them would.
    node.set_pins(vec![[9; 32]]).expect("written");
    assert!(matches!(node.seal_state(&replica), Err(Error::Damaged(_))));
    assert_eq!(node.health(), Health::Damaged);
}

/// Who joins is told the seal by the token, and believes no member that shows another.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_joiner_believes_the_token_and_not_the_member() {
    let rig = Rig::new();
    let (n1, _) = rig.unsealed().await;
    let hash = opened(&n1).seal.config.hash();
    let invited = n1.invite(&admin(), "n2", 0, soon()).await.expect("invited");
    let token = JoinToken::parse(&invited.token).expect("a token");
    assert_eq!((token.seal_config_hash, token.roster_serial), (hash, 1));
    let misled = JoinToken { seal_config_hash: [9; 32], ..token.clone() };
    let join = |token| Options { join: Some(JoinConfig { addresses: vec![], token }), ..Options::default() };
    let n2 = rig.start("n2", join(misled)).await.expect("starts");
    let fingerprint = pending_fingerprint(&n1, "n2").await;
    n1.approve(&admin(), "n2", &fingerprint, soon()).await.expect("approved");
    eventually("it refuses", || n2.problem().contains("seal configuration is not the one that the token names")).await;
    assert_eq!(n2.health(), Health::Uninitialized);
    n2.shutdown().await;
    drop(n2);

    // A list of members from before the token is no introduction, nor is any that n2 is not in.
    let later = JoinToken { roster_serial: 99, ..token.clone() };
    let n2 = rig.start("n2", join(later)).await.expect("starts");
    eventually("it refuses", || n2.problem().contains("is older than the token")).await;
    assert_eq!(n2.health(), Health::Uninitialized);
    n2.shutdown().await;
    drop(n2);

    let n2 = rig.start("n2", join(token)).await.expect("starts");
    within(30, n2.wait_for(Health::Ok)).await;
    let file = Replica::node_file(&quorate_journal::disk::RealDisk, &rig.data_dir("n2")).expect("readable");
    assert_eq!(file.expect("a member's").pins, [hash]);
}
