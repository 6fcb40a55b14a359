//! The feature level, raised by a duty.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_level_is_raised_once_however_many_try_and_work_goes_on() {
    let rig = Rig::speaking(Level(3)).await;
    let (key, other) = (rig.key().await, rig.other());
    assert_eq!(rig.replica.level(), Level(1));
    let (mine, theirs) =
        tokio::join!(rig.kms.duties.look_after(Duty::RaiseLevel), other.duties.look_after(Duty::RaiseLevel));
    assert_eq!(mine.unwrap() + theirs.unwrap(), 1);
    let (raised, _) = rig.replica.view().unwrap().get(&RecordKey::level()).unwrap().expect("a record");
    assert_eq!((rig.replica.level(), rig.replica.view().unwrap().level().unwrap()), (Level(3), Level(3)));

    for kms in [&rig.kms, &other] {
        assert_eq!(kms.duties.look_after(Duty::RaiseLevel).await.unwrap(), 0, "it is there");
    }
    let blob = rig.kms.encrypt(&user(), &id(key), b"x", &no_aad(), soon()).await.unwrap().ciphertext;
    rig.kms.rotate_key(&admin(), &Rotate { key: id(key), token: None }, soon()).await.unwrap();
    rig.kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await.unwrap();
    assert_eq!(rig.replica.view().unwrap().get(&RecordKey::level()).unwrap().map(|(rev, _)| rev), Some(raised));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_speaks_no_more_raises_nothing() {
    let rig = Rig::new().await;
    assert_eq!(rig.kms.duties.look_after(Duty::RaiseLevel).await.unwrap(), 0);
    assert_eq!(rig.count(Table::Duty), 0, "and claims nothing");
}
