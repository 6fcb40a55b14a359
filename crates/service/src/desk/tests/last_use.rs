//! When a key was used last: noted by every use, written down now and then, and gone with the key.

use quorate_core::decide::{Change, Changes, Purge, Update, Write};
use quorate_core::facts::Facts;
use quorate_core::id::NodeId;
use quorate_core::record::{Tally, UseRecord};

use super::time::{MINUTE, later};
use super::*;
use crate::operation::{Binding, By, Encrypt, Many};
use crate::records::Secrets;

impl Rig {
    async fn used(&self, kms: &Kms, key: KeyId) -> Option<(u64, Action)> {
        let told = kms.last_use(&call(&user(), soon()), &id(key)).await.unwrap();
        assert_eq!(told.key, key);
        told.tally.map(|tally| (tally.uses, tally.last))
    }
    async fn write_down(&self, max: usize) -> usize {
        self.kms.uses.write(&self.kms.records, max).await.unwrap()
    }
    fn an_hour_later(&self) {
        self.boot.0.fetch_add(3_600_000, Ordering::SeqCst);
    }
    async fn tracking(&self, key: KeyId, tracked: bool) {
        let changes = Changes { tracked: Some(tracked), ..Changes::default() };
        let wanted = Update { key: id(key), changes };
        assert_eq!(self.kms.commit(&call(&admin(), soon()), &wanted).await.unwrap().tracked, tracked);
    }
}

fn one(key: KeyId) -> Encrypt {
    Encrypt { by: By::key(id(key)), plaintext: Bytes::from_static(b"secret"), bound: Binding::default() }
}
async fn encrypt(kms: &Kms, key: KeyId) -> Bytes {
    kms.perform(&call(&user(), soon()), one(key)).await.unwrap().ciphertext.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_are_noted_at_once_and_written_down_once_an_hour() {
    let rig = Rig::new().await;
    let (kms, key, other) = (&rig.kms, rig.key().await, rig.other());
    assert_eq!(rig.used(kms, key).await, None);
    assert_eq!(rig.write_down(50).await, 0);
    let made = encrypt(kms, key).await;
    kms.decrypt(&user(), &made, &no_aad(), None, soon()).await.unwrap();
    assert_eq!(rig.used(kms, key).await, Some((2, Action::Decrypt)));
    assert_eq!((rig.used(&other, key).await, rig.count(Table::Use)), (None, 0), "so far only this node knows");
    assert_eq!(rig.write_down(50).await, 1);
    assert_eq!((rig.used(&other, key).await, rig.count(Table::Use)), (Some((2, Action::Decrypt)), 1));
    encrypt(kms, key).await;
    assert_eq!((rig.write_down(50).await, rig.used(&other, key).await), (0, Some((2, Action::Decrypt))));
    rig.an_hour_later();
    assert_eq!((rig.write_down(50).await, rig.used(&other, key).await), (1, Some((3, Action::Encrypt))));
    refused(kms.last_use(&call(&as_role(Role::Auditor), soon()), &id(key)).await, Reason::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_several_nodes_have_done_is_the_sum_and_the_latest() {
    let rig = Rig::new().await;
    let key = rig.key().await;
    encrypt(&rig.kms, key).await;
    let own = rig.kms.last_use(&call(&user(), soon()), &id(key)).await.unwrap().tally.unwrap();
    for (node, last_ms, last) in [(7, own.last_ms - 9, Action::Sign), (300, own.last_ms + 9, Action::Mac)] {
        let tally = Tally { uses: 1000, first_ms: 5, last_ms, last };
        let written = rig.kms.records.change(soon(), Secrets::default(), |facts| {
            facts.get::<UseRecord>((key, NodeId(node)))?;
            let record = UseRecord { key, node: NodeId(node), tally };
            Ok(Change { writes: vec![Write::Update(record.into())], answer: () })
        });
        written.await.unwrap();
    }
    // Of a key that was made before and after it nothing is seen.
    encrypt(&rig.kms, rig.key().await).await;
    rig.write_down(50).await;
    let told = rig.kms.last_use(&call(&user(), soon()), &id(key)).await.unwrap().tally.unwrap();
    assert_eq!(told, Tally { uses: 2001, first_ms: 5, last_ms: own.last_ms + 9, last: Action::Mac });
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_and_each_key_of_a_use_is_noted_for_itself() {
    let rig = Rig::new().await;
    let (kms, a, b) = (&rig.kms, rig.key().await, rig.key().await);
    let parts = vec![one(a), one(b), one(a)];
    kms.perform(&call(&user(), soon()), Many::new(parts).unwrap()).await.unwrap();
    assert_eq!(rig.used(kms, a).await, Some((2, Action::Encrypt)));
    let made = encrypt(kms, b).await;
    let wanted = crate::operation::ReEncrypt::new(made, no_aad(), vec![], id(a), no_aad()).unwrap();
    kms.perform(&call(&user(), soon()), wanted).await.unwrap();
    assert_eq!(rig.used(kms, a).await, Some((3, Action::ReEncryptTo)));
    assert_eq!(rig.used(kms, b).await, Some((3, Action::ReEncryptFrom)));
    // What is refused is no use.
    kms.disable_key(&admin(), &id(a), soon()).await.unwrap();
    refused(kms.perform(&call(&user(), soon()), one(a)).await, Reason::KeyDisabled);
    assert_eq!(rig.used(kms, a).await, Some((3, Action::ReEncryptTo)));
    assert_eq!((rig.write_down(1).await, rig.write_down(50).await, rig.count(Table::Use)), (1, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_watched_leaves_no_trace() {
    let rig = Rig::new().await;
    let quiet = Create { tracked: false, ..wanted(None, None) };
    let key = rig.kms.create_key(&admin(), &quiet, soon()).await.unwrap().id;
    encrypt(&rig.kms, key).await;
    assert_eq!((rig.used(&rig.kms, key).await, rig.write_down(50).await), (None, 0));
    rig.tracking(key, true).await;
    encrypt(&rig.kms, key).await;
    assert_eq!(rig.used(&rig.kms, key).await, Some((1, Action::Encrypt)));
    // Noted, and not to be written down any more.
    rig.tracking(key, false).await;
    rig.write_down(50).await;
    assert_eq!((rig.used(&rig.kms, key).await, rig.count(Table::Use)), (None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_of_uses_outlives_its_key() {
    let rig = Rig::new().await;
    let (gone, purged) = (rig.key().await, rig.key().await);
    for key in [gone, purged] {
        encrypt(&rig.kms, key).await;
    }
    assert_eq!((rig.write_down(50).await, rig.count(Table::Use)), (2, 2));
    // Used again, which is to be written when the key is gone.
    later(&rig, 61 * MINUTE).await;
    encrypt(&rig.kms, purged).await;
    for key in [gone, purged] {
        rig.kms.schedule_key_deletion(&admin(), &id(key), DeletionWindow::from_days(7).unwrap(), soon()).await.unwrap();
    }
    rig.kms.commit(&call(&admin(), soon()), &Purge { key: id(purged) }).await.unwrap();
    rig.write_down(50).await;
    later(&rig, 7 * 86_400_000 + MINUTE).await;
    later(&rig, 6 * MINUTE).await;
    assert_eq!(rig.kms.duties.look_after(Duty::Destroy).await.unwrap(), 2);
    assert_eq!(rig.count(Table::Use), 0);
}
