//! Data objects in a real SoftHSM token.

mod common;

use common::{PIN, Raw, fresh, open};
use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use quorate_hsm::HsmError;

const LABEL: &str = "quorate/c1/3";

#[tokio::test]
async fn a_value_is_kept_alone_for_who_logs_in_and_found_again() {
    let (_dir, token) = fresh("t");
    let hsm = open(&token);
    assert!(hsm.read_data(LABEL).await.expect("read").is_empty());
    for value in [&b"first"[..], b"second", &[0; 21]] {
        hsm.replace_data(LABEL, value).await.expect("kept");
        assert_eq!(hsm.read_data(LABEL).await.expect("read"), [value]);
    }
    hsm.replace_data("quorate/c1/30", b"another's").await.expect("kept");
    drop(hsm);
    // Another session, as of the next process.
    let hsm = open(&token);
    assert_eq!(hsm.read_data(LABEL).await.expect("read"), [[0; 21]]);
    drop(hsm);
    let raw = Raw::open_without_login(&token);
    assert_eq!(raw.count(LABEL), 0, "it takes the PIN {PIN} to see it, or to destroy it");
    raw.session.login(cryptoki::session::UserType::User, Some(&PIN.into())).expect("logged in");
    assert_eq!(raw.count(LABEL), 1);
}

/// As a crash leaves them between the new one and the end of the old.
#[tokio::test]
async fn several_copies_are_all_told_and_replaced_by_one() {
    let (_dir, token) = fresh("t");
    let raw = Raw::open(&token);
    let object = |label: &str, value: Option<&[u8]>| {
        let mut template = vec![
            Attribute::Class(ObjectClass::DATA),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Label(label.as_bytes().to_vec()),
        ];
        template.extend(value.map(|value| Attribute::Value(value.to_vec())));
        raw.session.create_object(&template).expect("made")
    };
    for value in [b"old", b"new"] {
        object(LABEL, Some(value));
    }
    let hsm = open(&token);
    let mut told = hsm.read_data(LABEL).await.expect("read");
    told.sort();
    assert_eq!(told, [b"new", b"old"]);
    hsm.replace_data(LABEL, b"newest").await.expect("kept");
    assert_eq!(hsm.read_data(LABEL).await.expect("read"), [b"newest"]);
    assert_eq!(raw.count(LABEL), 1);
    // One that somebody else made without a value holds none, and is no reason to fail.
    let empty = object("quorate/c1/4", None);
    assert_eq!(hsm.read_data("quorate/c1/4").await.expect("read"), [b""]);
    let kept = raw.session.get_attributes(empty, &[AttributeType::Token]).expect("readable");
    assert_eq!(kept, [Attribute::Token(true)]);
    hsm.close();
    assert!(matches!(hsm.read_data(LABEL).await, Err(HsmError::Stopped)));
}
