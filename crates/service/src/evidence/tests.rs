//! What a node signs of a destruction.

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use quorate_core::decide::{
    Create, DestroyVersion, NewKind, Purge, Revocation, Revoke, Rotate, ScheduleDeletion, SetSecret,
};
use quorate_core::key_spec::KeySpec;
use quorate_core::name::Class;
use quorate_core::principal::{Principal, Role};
use quorate_core::record::Cause;
use quorate_core::request::{DeletionWindow, KeyHandle, SECRET_LEN_MAX, Tags};
use quorate_crypto::SecretBytes;
use quorate_replica::CompactionConfig;

use super::*;
use crate::desk::Kms;
use crate::error::Reason;
use crate::seal::support::{Options, Rig, admin, call, eventually, init, principal, soon, unseal};

/// The log is let go of as soon as a segment is full.
const TINY: CompactionConfig = CompactionConfig {
    keep_bytes: Some(0),
    step_bytes: 1,
    interval: Duration::from_millis(50),
    stream_bytes: u64::MAX,
};

struct Desk {
    node: Arc<Node>,
    kms: Arc<Kms>,
    shares: Vec<String>,
}

impl Desk {
    async fn open(rig: &Rig) -> Self {
        let options = Options { compaction: Some(TINY), ..Options::default() };
        let node = rig.start("n1", options).await.expect("starts");
        let founded = init(&node, 1, 1).await.expect("founded");
        let shares: Vec<String> = founded.shares.iter().map(|share| share.to_string()).collect();
        unseal(&node, &shares).await;
        node.set_certificate(vec![Bytes::from_static(b"a certificate")], 0);
        Self { kms: node.kms().expect("unsealed"), node, shares }
    }

    async fn commit<D: quorate_core::decide::Decide>(&self, request: D) -> D::Answer {
        self.kms.commit(&call(&admin(), soon()), &request).await.expect("done")
    }

    /// A key with two versions, the first of which is out of use.
    async fn key(&self) -> KeyId {
        let kind = NewKind::new(KeySpec::Aes256, None, None).expect("a kind");
        let wanted = Create {
            kind,
            alias: Some("payments".parse().expect("an alias")),
            name: None,
            description: "for tests".parse().expect("a description"),
            tags: Tags::default(),
            activation: None,
            purge_protected: false,
            source: quorate_core::decide::Source::Fresh,
            exportable: Default::default(),
            tracked: true,
            token: None,
        };
        let id = self.commit(wanted).await.id;
        self.commit(Rotate { key: KeyHandle::Id(id), token: None }).await;
        let (key, version) = (KeyHandle::Id(id), Some(KeyVersion::FIRST));
        self.commit(Revoke { key, version, why: Revocation::Deactivate }).await;
        id
    }

    async fn set(&self, name: &str, value: Vec<u8>) -> KeyId {
        let wanted = SetSecret {
            name: name.parse().expect("a name"),
            content_type: Default::default(),
            not_before_ms: 0,
            expires_ms: 0,
            enabled: true,
            tags: Tags::default(),
            purge_protected: false,
            value_tag: [0; 32],
            token: None,
        };
        self.kms.set_secret(&call(&admin(), soon()), wanted, SecretBytes::new(value)).await.expect("set").id
    }

    async fn purge(&self, key: KeyHandle) {
        let window = DeletionWindow::from_days(7).expect("a week");
        self.commit(ScheduleDeletion { key: key.clone(), window }).await;
        self.commit(Purge { key }).await;
    }

    async fn asks(&self, who: &Principal, key: KeyId, version: Option<KeyVersion>) -> Result<Signed, Error> {
        self.node.prove_destruction(&call(who, soon()), key, version).await
    }

    /// What it states, once its signature was found to be good.
    async fn states(&self, key: KeyId, version: Option<KeyVersion>) -> DestructionStatement {
        let auditor = principal(Role::Auditor, "ann");
        let Signed { statement, signature, certificates } = self.asks(&auditor, key, version).await.expect("stated");
        let identity = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.node.keys.identity);
        identity.verify(&DestructionStatement::signed(&statement), &signature).expect("signed by the HSM");
        let stated = DestructionStatement::decode(&statement).expect("canonical");
        assert_eq!((stated.certificate, certificates.len()), (sha256(b"a certificate"), 1));
        stated
    }

    async fn refuses(&self, who: Role, key: KeyId, version: Option<KeyVersion>) -> Reason {
        self.asks(&principal(who, "bob"), key, version).await.expect_err("refused").reason()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_states_what_was_destroyed_until_nothing_of_it_is_left() {
    let rig = Rig::new();
    let desk = Desk::open(&rig).await;
    let (id, first) = (desk.key().await, KeyVersion::FIRST);
    assert_eq!(desk.refuses(Role::Admin, id, None).await, Reason::NotFound, "it is there");
    assert_eq!(desk.refuses(Role::Admin, id, Some(first)).await, Reason::NotFound);

    // One version: its key lives on.
    desk.commit(DestroyVersion { key: KeyHandle::Id(id), version: first }).await;
    let said = desk.states(id, Some(first)).await;
    assert_eq!(said.destruction.cause, Cause::Version { by: admin() });
    assert_eq!((said.destruction.gone.len(), said.is_here, said.log_may_hold()), (1, false, true));
    assert!(said.destroyed_at <= said.applied && said.log_from < said.destroyed_at, "{said:?}");
    let members: Vec<_> = said.members.iter().map(|member| (member.name.as_str(), member.voter)).collect();
    assert_eq!((members, said.name.as_str(), said.cluster), (vec![("n1", true)], "n1", rig.cluster));
    assert_eq!(desk.refuses(Role::Admin, id, None).await, Reason::NotFound);

    // The whole key, and a secret, whose value is nowhere in what is said of it.
    desk.purge(KeyHandle::Id(id)).await;
    let said = desk.states(id, None).await;
    let of = &said.destruction;
    assert!(matches!(&of.cause, Cause::Purge { by, scheduled } if *by == admin() && scheduled.by == Some(admin())));
    let had: Vec<_> = of.gone.iter().map(|gone| (gone.version.get(), gone.had_material)).collect();
    assert_eq!((had, of.is_complete(), of.aliases.len()), (vec![(1, false), (2, true)], true, 1));
    let value = [7; 64];
    let secret = desk.set("db-password", value.to_vec()).await;
    desk.purge(KeyHandle::Secret("db-password".parse().expect("a name"))).await;
    let stated = desk.states(secret, None).await;
    assert_eq!(stated.destruction.class(), Class::Secret);
    assert!(!stated.encode().windows(16).any(|part| part == &value[..16]));

    for role in [Role::User, Role::Custodian, Role::Node] {
        assert_eq!(desk.refuses(role, id, None).await, Reason::Denied, "{role}");
        assert_eq!(desk.refuses(role, KeyId([9; 16]), None).await, Reason::Denied, "{role}: nor whether it was here");
    }

    // Segments fill up, and are let go of; the state on disk has moved on.
    for n in 0..40 {
        desk.set(&format!("filler-{n}"), vec![n; SECRET_LEN_MAX]).await;
    }
    let replica = desk.node.opened().expect("unsealed").records.replica.clone();
    eventually("the log to be compacted", || {
        let retained = replica.retained().expect("it runs");
        retained.log_from > said.destroyed_at && retained.state_at >= said.destroyed_at
    })
    .await;
    let later = desk.states(id, None).await;
    assert_eq!((later.log_may_hold(), later.state_holds()), (false, false), "{later:?}");
    assert_eq!((later.destroyed_at, &later.destruction), (said.destroyed_at, &said.destruction));

    // What a start finds of the log is what it had.
    desk.node.shutdown().await;
    let again = rig.start("n1", Options { compaction: Some(TINY), ..Options::default() }).await.expect("starts again");
    unseal(&again, &desk.shares).await;
    let retained = again.opened().expect("unsealed").records.replica.retained().expect("it runs");
    assert!(retained.log_from > said.destroyed_at && retained.state_at >= said.destroyed_at, "{retained:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_states_nothing() {
    let rig = Rig::new();
    let desk = Desk::open(&rig).await;
    let id = desk.key().await;
    desk.purge(KeyHandle::Id(id)).await;
    desk.node.set_certificate(Vec::new(), 0);
    assert_eq!(desk.refuses(Role::Admin, id, None).await, Reason::Internal);
    desk.node.seal(&admin(), false, soon()).await.expect("sealed");
    assert_eq!(desk.refuses(Role::Admin, id, None).await, Reason::Sealed);
}

#[tokio::test(start_paused = true)]
async fn a_node_signs_no_more_statements_than_its_hsm_has_time_for() {
    let pace = Pace::default();
    (0..STATEMENTS_MAX).for_each(|_| pace.take(Instant::now()).unwrap());
    let busy = pace.take(Instant::now()).unwrap_err();
    assert!(matches!(&busy, Error::Busy(why) if why.contains("try again in 10 s")), "{busy}");
    tokio::time::advance(WINDOW).await;
    pace.take(Instant::now()).unwrap();
}
