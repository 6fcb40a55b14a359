//! What a key is narrowed to: the versions that still protect and process, and whether its material may leave.

use quorate_core::decide::{Changes, Update};
use quorate_core::id::KeyVersion;
use quorate_core::record::Exportable;
use quorate_core::views::KeyView;

use super::*;
use crate::operation::{Binding, By, Encrypt, Export};

impl Rig {
    async fn update(&self, key: &KeyHandle, changes: Changes) -> Result<KeyView, Error> {
        self.kms.commit(&call(&admin(), soon()), &Update { key: key.clone(), changes }).await
    }
}

/// Every pair of floors of a key with three versions: what is taken, and which versions then protect and process.
#[tokio::test(flavor = "multi_thread")]
async fn the_floors_say_which_versions_protect_and_process() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let encrypts = async |version: u32| {
        let by = By { version: KeyVersion::new(version), ..By::key(key.clone()) };
        let bound = Binding { context: no_aad(), aad: Bytes::new() };
        let wanted = Encrypt { by, plaintext: Bytes::from_static(b"x"), bound };
        rig.kms.perform(&call(&user(), soon()), wanted).await.map(|made| made.ciphertext)
    };
    let mut blobs = Vec::new();
    for version in 1..=3 {
        blobs.push(encrypts(version).await.unwrap());
        if version < 3 {
            rig.kms.rotate_key(&admin(), &Rotate { key: key.clone(), token: None }, soon()).await.unwrap();
        }
    }
    let now = rig.kms.describe_key(&user(), &key, soon()).await.unwrap();
    assert_eq!((now.protect_floor.get(), now.process_floor.get()), (3, 1), "a rotation that nobody notices raises one");

    for (protect, process) in (1..=4).flat_map(|protect| (1..=4).map(move |process| (protect, process))) {
        let (protect_floor, process_floor) = (KeyVersion::new(protect), KeyVersion::new(process));
        let before = rig.records();
        let changed = rig.update(&key, Changes { protect_floor, process_floor, ..Changes::default() }).await;
        if protect > 3 || process > protect {
            let error = changed.unwrap_err();
            let told = (error.reason(), error.part().map(|part| part.word()));
            assert_eq!(told, (Reason::InvalidArgument, Some("version")), "{protect} {process}: {error}");
            assert_eq!(rig.records(), before, "nothing was changed");
            continue;
        }
        changed.unwrap();
        for (version, blob) in (1..).zip(&blobs) {
            match encrypts(version).await {
                Ok(_) => assert!(version >= protect, "{version} protects below {protect}"),
                Err(e) => assert_eq!((e.reason(), version < protect), (Reason::NoLongerValid, true), "{e}"),
            }
            for kms in [rig.kms.clone(), rig.other()] {
                match kms.decrypt(&user(), blob, &no_aad(), None, soon()).await {
                    Ok(_) => assert!(version >= process, "{version} processes below {process}"),
                    Err(e) => assert_eq!((e.reason(), version < process), (Reason::Retired, true), "{e}"),
                }
            }
        }
    }
    // What is not named stays.
    let same = rig.update(&key, Changes { process_floor: KeyVersion::new(2), ..Changes::default() }).await.unwrap();
    assert_eq!((same.protect_floor.get(), same.process_floor.get(), &same.description), (3, 2, &now.description));
    let changes = Changes { description: Some("other".parse().unwrap()), ..Changes::default() };
    let said = rig.update(&key, changes).await.unwrap();
    assert_eq!((said.description.as_str(), said.process_floor.get()), ("other", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_material_may_leave_is_only_ever_lowered() {
    let rig = Rig::new().await;
    let exports = async |key: &KeyHandle| {
        let wanted = Export { key: key.clone(), version: None, wrap: None };
        rig.kms.export(&call(&admin(), soon()), wanted).await
    };
    for from in Exportable::ALL {
        for to in Exportable::ALL {
            let wanted = Create { exportable: from, ..wanted(None, None) };
            let key = id(rig.kms.create_key(&admin(), &wanted, soon()).await.unwrap().id);
            let before = rig.records();
            match rig.update(&key, Changes { exportable: Some(to), ..Changes::default() }).await {
                Ok(key) => assert!(to <= from && key.exportable == to),
                Err(e) => {
                    let reason = if from == Exportable::No { Reason::NotExportable } else { Reason::WrappedOnly };
                    assert_eq!((e.reason(), to > from), (reason, true), "{e}");
                    assert_eq!(rig.records(), before);
                }
            }
            assert_eq!(exports(&key).await.is_ok(), from.min(to) == Exportable::Plain);
        }
    }
}
