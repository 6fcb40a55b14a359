//! Clocks: rounds that grew old, keys that fall due, answers that are forgotten.

use std::sync::atomic::AtomicUsize;

use super::*;

/// Tells the times it was given, then the last one for ever.
struct Script(Mutex<Vec<u64>>);
impl BootClock for Script {
    fn now(&self) -> Duration {
        let mut times = self.0.lock().unwrap();
        let ms = if times.len() > 1 { times.remove(0) } else { times[0] };
        Duration::from_millis(ms)
    }
}

/// How often the facts were looked at, with a clock that tells these times: one before each round, one after the work.
async fn looks(rig: &Rig, times: &[u64]) -> usize {
    let kms = rig.with_clock(Arc::new(Script(Mutex::new(times.to_vec()))));
    let looks = AtomicUsize::new(0);
    let look = || {
        looks.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    kms.with_facts(soon(), |_| Ok(()), |()| look()).await.unwrap();
    looks.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_rests_on_an_old_round_is_decided_again() {
    let rig = Rig::new().await;
    assert_eq!(looks(&rig, &[0, 1000]).await, 1);
    assert_eq!(looks(&rig, &[0, 1001, 1001, 1002]).await, 2, "stopped, or asleep, for more than a second");
    assert_eq!(looks(&rig, &[0, 5000, 5000, 9000, 9000, 9001]).await, 3);

    // And it is the *new* facts that decide: the key is disabled while the process sleeps.
    struct Asleep(Arc<dyn Fn() + Send + Sync>, AtomicUsize);
    impl BootClock for Asleep {
        fn now(&self) -> Duration {
            let n = self.1.fetch_add(1, Ordering::SeqCst);
            if n == 1 {
                (self.0)();
            }
            Duration::from_secs(if n == 0 { 0 } else { 60 })
        }
    }
    let key = id(rig.key().await);
    let (other, handle, runtime) = (rig.kms.clone(), key.clone(), tokio::runtime::Handle::current());
    let disable = move || {
        let disabled = async { other.disable_key(&admin(), &handle, soon()).await };
        tokio::task::block_in_place(|| runtime.block_on(disabled)).unwrap();
    };
    let kms = rig.with_clock(Arc::new(Asleep(Arc::new(disable), AtomicUsize::new(0))));
    refused(kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await, Reason::KeyDisabled);
}

/// Moves the clocks on by `days`; cluster time follows once the operator has confirmed that the clock is right.
async fn days_later(rig: &Rig, days: u64) {
    let then = rig.wall.0.fetch_add(days * 86_400_000, Ordering::SeqCst) + days * 86_400_000;
    let mut changes = rig.replica.watch();
    let limit = Instant::now() + Duration::from_secs(30);
    while rig.replica.view().unwrap().cluster_time_ms() < then {
        assert!(Instant::now() < limit, "cluster time does not follow");
        if rig.replica.status().time_held_ms.is_some() {
            rig.replica.confirm_time();
        }
        let _ = tokio::time::timeout(Duration::from_millis(200), changes.changed()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_destroyed_on_its_day_and_not_before() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let key = kms.create_key(&admin(), &wanted(Some("doomed"), Some(1)), soon()).await.unwrap().id;
    let spared = rig.key().await;
    for _ in 0..40 {
        kms.rotate_key(&admin(), &rotate::Request { key: id(key), token: None }, soon()).await.unwrap();
    }
    let blob = kms.encrypt(&user(), &id(key), b"x", &no_aad(), soon()).await.unwrap().ciphertext;
    let window = DeletionWindow::from_days(7).unwrap();
    for key in [key, spared] {
        kms.schedule_key_deletion(&admin(), &id(key), window, soon()).await.unwrap();
    }
    kms.cancel_key_deletion(&admin(), &id(spared), soon()).await.unwrap();

    assert_eq!(kms.destroy_due().await.unwrap(), 0);
    // The node's own clock alone is not enough.
    let today = rig.wall.0.swap(u64::MAX / 2, Ordering::SeqCst);
    assert_eq!(kms.destroy_due().await.unwrap(), 0);
    rig.wall.0.store(today, Ordering::SeqCst);
    assert_eq!((rig.count(Table::Key), rig.count(Table::KeyVersion)), (2, 42));

    days_later(&rig, 7).await;
    // Nor is cluster time without the node's own clock.
    let now = rig.wall.0.swap(today, Ordering::SeqCst);
    assert_eq!(kms.destroy_due().await.unwrap(), 0);
    rig.wall.0.store(now, Ordering::SeqCst);
    refused(kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::KeyPendingDeletion);

    assert_eq!(kms.destroy_due().await.unwrap(), 1);
    assert_eq!(kms.destroy_due().await.unwrap(), 0);
    refused(kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::UnknownKey);
    refused(kms.describe_key(&user(), &named("doomed"), soon()).await, Reason::NotFound);
    refused(kms.cancel_key_deletion(&admin(), &id(key), soon()).await, Reason::NotFound);
    assert_eq!(kms.describe_key(&user(), &id(spared), soon()).await.unwrap().id, spared);
    assert_eq!([Table::Key, Table::KeyVersion, Table::Alias, Table::Due].map(|t| rig.count(t)), [1, 1, 0, 0]);
    // Its name is free again.
    kms.create_key(&admin(), &wanted(Some("doomed"), None), soon()).await.unwrap();

    // The answer to the first token is a week old.
    kms.create_key(&admin(), &wanted(None, Some(2)), soon()).await.unwrap();
    assert_eq!(rig.count(Table::Idempotency), 2);
    assert_eq!(kms.sweep_answers().await.unwrap(), 1);
    assert_eq!((kms.sweep_answers().await.unwrap(), rig.count(Table::Idempotency)), (0, 1));
    let fresh = kms.create_key(&admin(), &wanted(Some("again"), Some(1)), soon()).await.unwrap();
    assert_ne!(fresh.id, key, "a token is worth a day");
}
