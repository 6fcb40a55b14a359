//! A key is replaced by a new one.

use quorate_core::decide::{CreateAlias, Purge, Rekey, ScheduleDeletion, SetRotation};
use quorate_core::request::RotationPeriod;
use quorate_core::views::KeyView;

use super::import::external;
use super::*;

impl Rig {
    async fn rekey(&self, key: &KeyHandle, token: Option<Token>) -> Result<KeyView, Error> {
        self.other().commit(&call(&admin(), soon()), &Rekey { key: key.clone(), token }).await
    }
    async fn described(&self, key: KeyId) -> KeyView {
        self.kms.describe_key(&user(), &id(key), soon()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_takes_over_the_names_and_each_names_the_other() {
    let rig = Rig::new().await;
    let period = RotationPeriod::parse(30, 0).unwrap();
    let description = "to pay with".parse().unwrap();
    let old = rig.made(Create { description, ..wanted(Some("pay"), None) }).await;
    rig.commit(CreateAlias { name: "cards".parse().unwrap(), key: old.clone() }).await.unwrap();
    rig.commit(SetRotation { key: old.clone(), period }).await.unwrap();
    let blob = rig.uses(&named("pay")).await.unwrap();
    let before = match old {
        KeyHandle::Id(id) => rig.described(id).await,
        _ => panic!("an id"),
    };
    refused(rig.kms.commit(&call(&user(), soon()), &Rekey { key: old.clone(), token: None }).await, Reason::Denied);

    let token = Some(rig.token(1));
    let new = rig.rekey(&named("pay"), token).await.unwrap();
    assert_eq!(rig.rekey(&named("pay"), token).await.unwrap(), new, "of a retry the name is the new key's");
    refused(rig.rekey(&named("cards"), token).await, Reason::TokenReused);
    assert_eq!((new.replaces, new.current.get(), &new.aliases), (Some(before.id), 1, &before.aliases));
    assert_eq!(
        (new.spec, new.description.as_str(), new.rotation.map(|r| r.period_ms)),
        (before.spec, "to pay with", before.rotation.map(|r| r.period_ms))
    );
    let left = rig.described(before.id).await;
    assert_eq!((left.replaced_by, left.aliases.len(), left.rotation), (Some(new.id), 0, None));
    assert_eq!((left.state, left.current), (before.state, before.current), "it stays as it is");
    assert_eq!(rig.count(Table::Due), 1, "one of both is rotated unasked");

    // By name the new key protects, and by its ciphertexts the old one goes on opening.
    for name in ["pay", "cards"] {
        let made = rig.other().encrypt(&user(), &named(name), b"y", &no_aad(), soon()).await.unwrap();
        assert_eq!(made.used.key, new.id);
    }
    assert_eq!(rig.other().decrypt(&user(), &blob, &no_aad(), None, soon()).await.unwrap().plaintext[..], b"x"[..]);

    let said = refused(rig.rekey(&old, None).await, Reason::WrongState);
    assert!(said.contains(&new.id.to_string()), "{said}");
    let third = rig.rekey(&id(new.id), None).await.unwrap();
    assert_eq!(third.replaces, Some(new.id));
    // What took its place is gone: something else may.
    let window = DeletionWindow::from_days(7).unwrap();
    rig.commit(ScheduleDeletion { key: id(new.id), window }).await.unwrap();
    refused(rig.rekey(&old, None).await, Reason::WrongState);
    rig.commit(Purge { key: id(new.id) }).await.unwrap();
    let again = rig.rekey(&old, None).await.unwrap();
    assert_eq!((again.replaces, rig.described(before.id).await.replaced_by), (Some(before.id), Some(again.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_imported_is_not_replaced_by_what_is_made_here() {
    let rig = Rig::new().await;
    let key = rig.made(external(KeySpec::Aes256)).await;
    let said = refused(rig.rekey(&key, None).await, Reason::Unsupported);
    assert!(said.contains("give it the names"), "{said}");
    let waiting = rig.made(Create { activation: Some(0), ..wanted(None, None) }).await;
    let new = id(rig.rekey(&waiting, None).await.unwrap().id);
    refused(rig.uses(&new).await, Reason::NotYetValid);
}
