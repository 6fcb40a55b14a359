//! What is told about keys and their versions, apart from what uses look at.

use quorate_core::decide::{Changes, Purge, ScheduleDeletion, Update, UpdateVersion};
use quorate_core::request::TAGS_MAX;

use super::*;
use crate::operation::*;

fn described(text: &str) -> Create {
    Create { description: text.parse().unwrap(), ..wanted(None, None) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_is_kept_apart_and_goes_with_its_key() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let long = "ж".repeat(8192);
    let key = rig.made(described(&long)).await;
    let plain = rig.made(described("")).await;
    assert_eq!(rig.count(Table::Details), 1, "who says nothing, needs no record");
    let told = async |key: &KeyHandle| {
        let mine = kms.describe_key(&user(), key, soon()).await.unwrap().description;
        assert_eq!(rig.other().describe_key(&user(), key, soon()).await.unwrap().description, mine);
        mine.as_str().to_owned()
    };
    assert_eq!((told(&key).await, told(&plain).await), (long.clone(), String::new()));
    // Whatever changes a key shows it; a list does not.
    assert_eq!(kms.disable_key(&admin(), &key, soon()).await.unwrap().description.as_str(), long);
    kms.enable_key(&admin(), &key, soon()).await.unwrap();
    let listed = kms.list_keys(&user(), PageLen::parse(0).unwrap(), b"", soon()).await.unwrap();
    assert!(listed.items.iter().all(|key| key.description.is_empty()));

    let tell = async |key: &KeyHandle, text: &str| {
        let changes = Changes { description: Some(text.parse().unwrap()), ..Changes::default() };
        let answer = rig.commit(Update { key: key.clone(), changes }).await.unwrap();
        assert_eq!(answer.description.as_str(), text);
        answer
    };
    let (first, again) = (tell(&plain, "two\nlines").await, tell(&plain, "two\nlines").await);
    assert_eq!((first, rig.count(Table::Details)), (again, 2), "the same again changes nothing");
    assert_eq!(told(&plain).await, "two\nlines");
    tell(&plain, "").await;
    assert_eq!((told(&plain).await, rig.count(Table::Details)), (String::new(), 1));

    let window = DeletionWindow::from_days(7).unwrap();
    rig.commit(ScheduleDeletion { key: key.clone(), window }).await.unwrap();
    rig.commit(Purge { key: key.clone() }).await.unwrap();
    assert_eq!(rig.count(Table::Details), 0, "nobody reads any more what was told about it");
}

/// Many keys with long descriptions are made in as many batches as that takes.
#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_told_about_at_once() {
    let rig = Rig::new().await;
    let count = KeyCount::parse(50).unwrap();
    let description: quorate_core::request::Description = "d".repeat(8192).parse().unwrap();
    let many = CreateMany { kind: aes(), count, description: description.clone(), token: Some(rig.token(3)) };
    let made = rig.kms.create_keys(&admin(), &many, soon()).await.unwrap();
    assert!(made.len() == 50 && made.iter().all(|key| key.description == description));
    assert_eq!((rig.count(Table::Key), rig.count(Table::Details)), (50, 50));
    assert_eq!(rig.kms.create_keys(&admin(), &many, soon()).await.unwrap(), made, "a retry finds them");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_a_version_are_its_own() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    rig.commit(Rotate { key: key.clone(), token: None }).await.unwrap();
    let none = UpdateVersion {
        key: key.clone(),
        version: None,
        enabled: None,
        activation: None,
        protect_start: None,
        process_start: None,
        protect_stop: None,
        deactivation: None,
        tags: Tags::default(),
        untag: Vec::new(),
    };
    let tags = |tags: &[(&str, &str)]| Tags::new(tags.iter().map(|(n, v)| ((*n).into(), (*v).into()))).unwrap();
    let first = UpdateVersion { version: quorate_core::id::KeyVersion::new(1), ..none.clone() };
    let tagged = rig.commit(UpdateVersion { tags: tags(&[("a", "1"), ("b", "2")]), ..first.clone() }).await.unwrap();
    assert_eq!(tagged.tags, tags(&[("a", "1"), ("b", "2")]));
    let untag = vec!["b".to_owned(), "x".to_owned()];
    let changed = UpdateVersion { tags: tags(&[("a", "3")]), untag: untag.clone(), ..first.clone() };
    assert_eq!(rig.commit(changed.clone()).await.unwrap().tags, tags(&[("a", "3")]));
    let listed = ListVersions { key: key.clone(), len: PageLen::parse(0).unwrap(), before: None };
    let versions = rig.kms.perform(&call(&user(), soon()), listed).await.unwrap().versions;
    assert_eq!((&versions[0].tags, &versions[1].tags), (&Tags::default(), &tags(&[("a", "3")])));
    assert_eq!(rig.kms.describe_key(&user(), &key, soon()).await.unwrap().tags, Tags::default(), "not the key's");
    assert_eq!(rig.commit(changed).await.unwrap(), versions[1], "the same again changes nothing");
    rig.uses(&key).await.unwrap();

    let many = (0..TAGS_MAX).map(|n| (n.to_string(), String::new()));
    let too_many = UpdateVersion { tags: Tags::new(many).unwrap(), ..first };
    refused(rig.commit(too_many).await, Reason::InvalidArgument);
    refused(rig.kms.commit(&call(&user(), soon()), &none).await, Reason::Denied);
}
