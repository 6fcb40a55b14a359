//! Names in their spaces, through the desk.

use quorate_core::decide::{Purge, ScheduleDeletion};

use super::*;
use crate::operation::{Binding, By, Describe, Encrypt};

fn called(name: &str) -> Create {
    Create { name: Some(name.parse().unwrap()), ..wanted(None, None) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_found_by_the_name_that_it_has_for_life_and_by_no_other() {
    let rig = Rig::new().await;
    let described = async |handle: &str| rig.kms.perform(&call(&user(), soon()), Describe { key: named(handle) }).await;
    let made = rig.kms.create_key(&admin(), &called("Db-Main"), soon()).await.unwrap();
    assert_eq!(made.name.as_ref().unwrap().as_str(), "Db-Main");
    assert_eq!(
        (described("key/db-main").await.unwrap(), described("key/DB-MAIN").await.unwrap()),
        (made.clone(), made.clone())
    );
    let by = By::key(named("key/dB-mAIN"));
    let encrypt = Encrypt { by, plaintext: Bytes::from_static(b"x"), bound: Binding::default() };
    assert_eq!(rig.kms.perform(&call(&user(), soon()), encrypt).await.unwrap().used.key, made.id);

    // An alias of the same letters is another name, and of another key.
    let said = refused(described("Db-Main").await, Reason::NotFound);
    assert!(said.contains("no alias Db-Main"), "{said}");
    let other = rig.kms.create_key(&admin(), &wanted(Some("Db-Main"), None), soon()).await.unwrap();
    assert_ne!(other.id, made.id);
    assert_eq!(described("Db-Main").await.unwrap(), other);
    let said = refused(described("key/other").await, Reason::NotFound);
    assert!(said.contains("no key named other"), "{said}");
    refused(
        rig.kms.perform(&call(&as_role(Role::Custodian), soon()), Describe { key: named("key/db-main") }).await,
        Reason::Denied,
    );

    // Whatever case it is written in, it is taken, until the key is destroyed.
    let before = rig.records();
    let said = refused(rig.kms.create_key(&admin(), &called("DB-main"), soon()).await, Reason::AlreadyExists);
    assert!(said.contains("the key name DB-main is taken") && said.contains(&made.id.to_string()), "{said}");
    assert_eq!(rig.records(), before);
    let (key, window) = (id(made.id), DeletionWindow::from_days(7).unwrap());
    rig.kms.commit(&call(&admin(), soon()), &ScheduleDeletion { key: key.clone(), window }).await.unwrap();
    refused(rig.kms.create_key(&admin(), &called("DB-main"), soon()).await, Reason::AlreadyExists);
    rig.kms.commit(&call(&admin(), soon()), &Purge { key }).await.unwrap();
    let next = rig.kms.create_key(&admin(), &called("DB-main"), soon()).await.unwrap();
    assert_eq!(described("key/Db-Main").await.unwrap(), next, "and what was known of it is forgotten");
}

/// With the same token it is the same key; another name is another request.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_part_of_what_a_token_stands_for() {
    let rig = Rig::new().await;
    let token = Some(rig.token(1));
    let wanted = Create { token, ..called("a") };
    let made = rig.kms.create_key(&admin(), &wanted, soon()).await.unwrap();
    assert_eq!(rig.kms.create_key(&admin(), &wanted, soon()).await.unwrap(), made);
    refused(rig.kms.create_key(&admin(), &Create { token, ..called("b") }, soon()).await, Reason::TokenReused);
    refused(
        rig.kms.create_key(&admin(), &Create { token, ..super::wanted(None, None) }, soon()).await,
        Reason::TokenReused,
    );
}
