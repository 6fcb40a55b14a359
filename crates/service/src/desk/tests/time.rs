//! Clocks: rounds that grew old, keys that fall due, answers that are forgotten.

use std::sync::atomic::AtomicUsize;

use quorate_core::decide::{CancelDeletion, DestroyVersion, Purge, Revocation, Revoke, SetRotation, UpdateVersion};
use quorate_core::id::KeyVersion;
use quorate_core::lifecycle::KeyState;
use quorate_core::request::RotationPeriod;

use super::*;
use crate::operation::{Binding, By, Encrypt, Many};

/// Tells the times it was given, then the last one for ever.
struct Script(Mutex<Vec<u64>>);
impl BootClock for Script {
    fn now(&self) -> Duration {
        let mut times = self.0.lock().unwrap();
        let ms = if times.len() > 1 { times.remove(0) } else { times[0] };
        Duration::from_millis(ms)
    }
}

/// How often the facts were looked at, with a clock that tells these times: one before the first round, one after it and each other.
async fn looks(rig: &Rig, times: &[u64]) -> usize {
    let kms = rig.with_clock(Arc::new(Script(Mutex::new(times.to_vec()))));
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    let look = Box::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    kms.perform(&call(&user(), soon()), Looking { key: None, look }).await.unwrap();
    looks.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_rests_on_an_old_round_is_decided_again() {
    let rig = Rig::new().await;
    assert_eq!(looks(&rig, &[0, 1000]).await, 1);
    assert_eq!(looks(&rig, &[0, 1001, 1002]).await, 2, "stopped, or asleep, for more than a second");
    assert_eq!(looks(&rig, &[0, 5000, 9000, 9001]).await, 3);
}

/// A desk whose process sleeps for a minute in the middle of each use, while `key` is disabled.
fn asleep(rig: &Rig, key: &KeyHandle) -> Arc<Kms> {
    struct Asleep(Box<dyn Fn() + Send + Sync>, AtomicUsize);
    impl BootClock for Asleep {
        fn now(&self) -> Duration {
            let n = self.1.fetch_add(1, Ordering::SeqCst);
            if n == 1 {
                (self.0)();
            }
            Duration::from_secs(if n == 0 { 0 } else { 60 })
        }
    }
    let (other, handle, runtime) = (rig.kms.clone(), key.clone(), tokio::runtime::Handle::current());
    let disable = move || {
        let disabled = async { other.disable_key(&admin(), &handle, soon()).await };
        tokio::task::block_in_place(|| runtime.block_on(disabled)).unwrap();
    };
    rig.with_clock(Arc::new(Asleep(Box::new(disable), AtomicUsize::new(0))))
}

/// It is the *new* facts that decide, for each part of a request by itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_during_the_work_is_not_given_out() {
    let rig = Rig::new().await;
    let (gone, stays) = (id(rig.key().await), id(rig.key().await));
    refused(asleep(&rig, &gone).encrypt(&user(), &gone, b"x", &no_aad(), soon()).await, Reason::KeyDisabled);

    rig.kms.enable_key(&admin(), &gone, soon()).await.unwrap();
    let part = |key: &KeyHandle| Encrypt {
        by: By::key(key.clone()),
        plaintext: Bytes::from_static(b"x"),
        bound: Binding::default(),
    };
    let many = || Many::new(vec![part(&stays), part(&gone)]).unwrap();
    let mut done = asleep(&rig, &gone).perform(&call(&user(), soon()), many()).await.unwrap();
    refused(done.remove(1), Reason::KeyDisabled);
    let ciphertext = done.remove(0).unwrap().ciphertext;
    let opened = rig.kms.decrypt(&user(), &ciphertext, &no_aad(), None, soon()).await.unwrap();
    assert_eq!(opened.plaintext[..], b"x"[..]);
}

/// Waits until cluster time, or what follows from it, is there.
pub(super) async fn until(what: &str, there: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < limit, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// So much time goes by, on all clocks; the next tick moves cluster time, and the node sees it.
pub(super) async fn later(rig: &Rig, ms: u64) {
    let seen = |at| move || rig.replica.duty_time(Duration::ZERO).is_ok_and(|now| now.is_due(at));
    until("cluster time is seen", seen(rig.replica.view().unwrap().cluster_time_ms())).await;
    rig.boot.0.fetch_add(ms, Ordering::SeqCst);
    let then = rig.wall.0.fetch_add(ms, Ordering::SeqCst) + ms;
    until("cluster time follows", seen(then)).await;
}

pub(super) const MINUTE: u64 = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_destroyed_on_its_day_and_not_before() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let key = kms.create_key(&admin(), &wanted(Some("doomed"), Some(rig.token(1))), soon()).await.unwrap().id;
    let spared = rig.key().await;
    let first = Some(rig.token(1));
    for token in [first].into_iter().chain([None; 39]) {
        kms.rotate_key(&admin(), &Rotate { key: id(key), token }, soon()).await.unwrap();
    }
    let blob = kms.encrypt(&user(), &id(key), b"x", &no_aad(), soon()).await.unwrap().ciphertext;
    let window = DeletionWindow::from_days(7).unwrap();
    for key in [key, spared] {
        kms.schedule_key_deletion(&admin(), &id(key), window, soon()).await.unwrap();
    }
    kms.cancel_key_deletion(&admin(), &id(spared), soon()).await.unwrap();

    let why = refused(kms.duties.look_after(Duty::Destroy).await, Reason::Unavailable);
    assert!(why.contains("since its start"), "{why}");
    later(&rig, 6 * MINUTE).await;
    assert_eq!(kms.duties.look_after(Duty::Destroy).await.unwrap(), 0);
    assert_eq!((rig.count(Table::Key), rig.count(Table::KeyVersion)), (2, 42));

    // Cluster time that has only just come to it is not enough.
    later(&rig, 7 * 86_400_000 + MINUTE).await;
    assert_eq!(kms.duties.look_after(Duty::Destroy).await.unwrap(), 0);
    refused(kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::KeyPendingDeletion);
    later(&rig, 6 * MINUTE).await;
    assert_eq!(kms.duties.look_after(Duty::Destroy).await.unwrap(), 1);
    assert_eq!(kms.duties.look_after(Duty::Destroy).await.unwrap(), 0);
    refused(kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::UnknownKey);
    refused(kms.describe_key(&user(), &named("doomed"), soon()).await, Reason::NotFound);
    refused(kms.cancel_key_deletion(&admin(), &id(key), soon()).await, Reason::NotFound);
    assert_eq!(kms.describe_key(&user(), &id(spared), soon()).await.unwrap().id, spared);
    assert_eq!([Table::Key, Table::KeyVersion, Table::Name, Table::Due].map(|t| rig.count(t)), [1, 1, 0, 0]);
    // Its name is free again.
    kms.create_key(&admin(), &wanted(Some("doomed"), None), soon()).await.unwrap();

    // The answer to the first token is a week old. A retry would be refused whether it is remembered or not.
    kms.enable_key(&admin(), &id(spared), soon()).await.unwrap();
    let second = Rotate { key: id(spared), token: Some(rig.token(2)) };
    kms.rotate_key(&admin(), &second, soon()).await.unwrap();
    assert_eq!(rig.count(Table::Idempotency), 2);
    let late = Rotate { key: id(spared), token: first };
    refused(kms.rotate_key(&admin(), &late, soon()).await, Reason::TokenTime);
    assert_eq!(kms.duties.look_after(Duty::Sweep).await.unwrap(), 1);
    assert_eq!((kms.duties.look_after(Duty::Sweep).await.unwrap(), rig.count(Table::Idempotency)), (0, 1));
    refused(kms.rotate_key(&admin(), &late, soon()).await, Reason::TokenTime);
    assert_eq!(kms.rotate_key(&admin(), &second, soon()).await.unwrap().current.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_to_a_keys_day_destroys_nothing() {
    let rig = Rig::new().await;
    let key = rig.key().await;
    let window = DeletionWindow::from_days(7).unwrap();
    rig.kms.schedule_key_deletion(&admin(), &id(key), window, soon()).await.unwrap();
    later(&rig, 6 * MINUTE).await;
    rig.wall.0.fetch_add(8 * 86_400_000, Ordering::SeqCst);
    let why = refused(rig.kms.duties.look_after(Duty::Destroy).await, Reason::Unavailable);
    assert!(why.contains("was set"), "{why}");
    // However long it stays there: nobody has witnessed it, and cluster time stands still.
    until("it is held", || rig.replica.status().time_held_ms.is_some()).await;
    for _ in 0..10 {
        rig.boot.0.fetch_add(MINUTE, Ordering::SeqCst);
        rig.wall.0.fetch_add(MINUTE, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(matches!(rig.kms.duties.look_after(Duty::Destroy).await, Ok(0) | Err(Error::Unavailable(_))));
    }
    assert_eq!(rig.count(Table::Key), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_cluster_for_development_takes_a_brief_deletion() {
    let rig = Rig::new().await;
    let brief = DeletionWindow::parse(0, 3).unwrap();
    let key = id(rig.key().await);
    let why = refused(rig.kms.schedule_key_deletion(&admin(), &key, brief, soon()).await, Reason::InvalidArgument);
    assert!(why.contains("7 to 90 days"), "{why}");

    let kms = Kms::open(marked(&rig.replica, &rig.world, &rig.keyring, 0, true));
    kms.schedule_key_deletion(&admin(), &key, brief, soon()).await.unwrap();
    later(&rig, 2000).await;
    assert_eq!(kms.duties.look_after(Duty::Destroy).await.unwrap(), 0);
    later(&rig, 1000).await;
    assert_eq!(kms.duties.look_after(Duty::Destroy).await.unwrap(), 0, "just come to it");
    later(&rig, 2000).await;
    assert_eq!(kms.duties.look_after(Duty::Destroy).await.unwrap(), 1);
    refused(kms.describe_key(&user(), &key, soon()).await, Reason::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_every_so_often_and_its_old_ciphertexts_open() {
    const DAY: u64 = 86_400_000;
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let (key, off) = (rig.key().await, rig.key().await);
    let set = |key: KeyId, days: u32| SetRotation { key: id(key), period: RotationPeriod::parse(days, 0).unwrap() };
    let call = || call(&admin(), soon());
    for key in [key, off] {
        assert!(kms.commit(&call(), &set(key, 30)).await.unwrap().rotation.is_some());
    }
    kms.disable_key(&admin(), &id(off), soon()).await.unwrap();
    refused(kms.commit(&call(), &set(off, 31)).await, Reason::KeyDisabled);
    let brief = SetRotation { key: id(key), period: RotationPeriod::parse(0, 5).unwrap() };
    refused(kms.commit(&call(), &brief).await, Reason::InvalidArgument);
    assert_eq!(rig.count(Table::Due), 2);
    let blob = kms.encrypt(&user(), &id(key), b"old", &no_aad(), soon()).await.unwrap().ciphertext;
    let version = async |key| kms.describe_key(&user(), &id(key), soon()).await.unwrap().current.get();

    later(&rig, 6 * MINUTE).await;
    assert_eq!(kms.duties.look_after(Duty::Rotate).await.unwrap(), 0);
    for expected in [2, 3] {
        later(&rig, 30 * DAY).await;
        later(&rig, 6 * MINUTE).await;
        assert_eq!(kms.duties.look_after(Duty::Rotate).await.unwrap(), 1, "the disabled one is passed over");
        assert_eq!(kms.duties.look_after(Duty::Rotate).await.unwrap(), 0, "once a period");
        assert_eq!((version(key).await, version(off).await, rig.count(Table::Due)), (expected, 1, 2));
    }
    assert_eq!(kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await.unwrap().plaintext[..], b"old"[..]);
    kms.enable_key(&admin(), &id(off), soon()).await.unwrap();
    later(&rig, 30 * DAY + MINUTE).await;
    later(&rig, 6 * MINUTE).await;
    assert_eq!(kms.duties.look_after(Duty::Rotate).await.unwrap(), 2);
    assert!(kms.commit(&call(), &set(key, 0)).await.unwrap().rotation.is_none());
    assert_eq!(rig.count(Table::Due), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_waits_for_its_destruction_can_be_purged_unless_it_is_protected() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let call = || call(&admin(), soon());
    let protected = Create { purge_protected: true, ..wanted(None, None) };
    let protected = kms.create_key(&admin(), &protected, soon()).await.unwrap().id;
    kms.rotate_key(&admin(), &Rotate { key: id(protected), token: None }, soon()).await.unwrap();
    let one = DestroyVersion { key: id(protected), version: KeyVersion::FIRST };
    refused(kms.commit(&call(), &one).await, Reason::PurgeProtected);
    let (key, kept) = (rig.key().await, rig.key().await);
    let blob = kms.encrypt(&user(), &id(key), b"x", &no_aad(), soon()).await.unwrap().ciphertext;
    refused(kms.commit(&call(), &Purge { key: id(key) }).await, Reason::WrongState);
    let window = DeletionWindow::from_days(90).unwrap();
    for key in [key, protected, kept] {
        kms.schedule_key_deletion(&admin(), &id(key), window, soon()).await.unwrap();
    }
    refused(kms.commit(&call(), &Purge { key: id(protected) }).await, Reason::PurgeProtected);
    assert_eq!(kms.commit(&call(), &Purge { key: id(key) }).await.unwrap(), key);
    for desk in [kms.clone(), rig.other()] {
        refused(desk.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::UnknownKey);
        refused(desk.cancel_key_deletion(&admin(), &id(key), soon()).await, Reason::NotFound);
    }
    let back = CancelDeletion { key: id(kept), as_before: true };
    assert_eq!(kms.commit(&call(), &back).await.unwrap().state, KeyState::Enabled);
    // The rest of it goes with the duty's next look, long before its day.
    later(&rig, 6 * MINUTE).await;
    let records = || (rig.count(Table::Key), rig.count(Table::KeyVersion), rig.count(Table::Due));
    assert_eq!(records(), (3, 3, 2), "the material went with the change itself");
    assert_eq!((kms.duties.look_after(Duty::Destroy).await.unwrap(), records()), (1, (3, 3, 2)));
    // An empty record stays while the token that it may have been made with could come again.
    later(&rig, 2 * 60 * MINUTE).await;
    later(&rig, 6 * MINUTE).await;
    assert_eq!((kms.duties.look_after(Duty::Destroy).await.unwrap(), records()), (1, (2, 3, 1)));
}

/// A use whose work takes that long by the node's clock.
struct Long {
    key: KeyHandle,
    boot: Arc<TestBoot>,
    looks: Arc<AtomicUsize>,
    works: Arc<AtomicUsize>,
    /// What happens while it works.
    meanwhile: Box<dyn Fn() + Send + Sync>,
}
impl Use for Long {
    type Facts = ();
    type Answer = ();
    fn action(&self) -> Action {
        Action::Encrypt
    }
    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<(), F::Error> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        at.usable(&self.key, Want::new(Usage::Encrypt)).map(drop)
    }
    fn is_slow(&self, (): &()) -> bool {
        true
    }
    fn act(&self, (): (), _: &Tools) -> Result<(), Error> {
        self.works.fetch_add(1, Ordering::SeqCst);
        self.boot.0.fetch_add(5_000, Ordering::SeqCst);
        (self.meanwhile)();
        Ok(())
    }
}

/// Work that takes longer than a round stays fresh is done once, and looked after again before its answer goes out.
#[tokio::test(flavor = "multi_thread")]
async fn long_work_is_done_once_and_its_answer_given_out_only_if_it_still_may_be() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let long = |meanwhile: Box<dyn Fn() + Send + Sync>| {
        let (looks, works) = (Arc::default(), Arc::default());
        Long { key: key.clone(), boot: rig.boot.clone(), looks, works, meanwhile }
    };
    let quiet = long(Box::new(|| {}));
    let (looks, works) = (quiet.looks.clone(), quiet.works.clone());
    rig.kms.perform(&call(&user(), soon()), quiet).await.unwrap();
    assert_eq!((looks.load(Ordering::SeqCst), works.load(Ordering::SeqCst)), (2, 1));

    let (kms, of) = (rig.kms.clone(), key.clone());
    let disabling = long(Box::new(move || {
        let who = admin();
        let disabled = kms.disable_key(&who, &of, soon());
        tokio::runtime::Handle::current().block_on(disabled).map(drop).unwrap();
    }));
    refused(rig.kms.perform(&call(&user(), soon()), disabling).await, Reason::KeyDisabled);
}

/// What has ended by one node's clock alone is written down when it is revoked, so that it has ended everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_holds_whatever_other_clocks_say() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let at_ms = rig.wall.now_ms() + 60_000;
    let update = UpdateVersion {
        key: key.clone(),
        version: None,
        enabled: None,
        activation: None,
        protect_start: None,
        process_start: None,
        protect_stop: None,
        deactivation: Some(at_ms),
        tags: Default::default(),
        untag: Vec::new(),
    };
    rig.kms.commit(&call(&admin(), soon()), &update).await.unwrap();
    rig.wall.0.fetch_add(61_000, Ordering::SeqCst);
    let why = Revocation::Deactivate;
    rig.kms.commit(&call(&admin(), soon()), &Revoke { key: key.clone(), version: None, why }).await.unwrap();
    // The clock that had leapt is set right, and another node never followed it.
    rig.wall.0.fetch_sub(61_000, Ordering::SeqCst);
    for kms in [rig.kms.clone(), rig.other()] {
        refused(kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await, Reason::NoLongerValid);
    }
}
