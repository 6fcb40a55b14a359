//! Data objects: a few bytes that the token keeps where the node's disk is not, for who has its PIN.

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::HsmError;
use crate::attributes;
use crate::error::Failure;

/// CKA_APPLICATION of every data object.
const APPLICATION: &[u8] = b"quorate";

fn find(session: &Session, label: &str) -> Result<Vec<ObjectHandle>, Failure> {
    Ok(session.find_objects(&attributes::search(ObjectClass::DATA, label))?)
}

/// The values of all data objects with this label, in no order.
pub(crate) fn read(session: &Session, label: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let value = |object| match session.get_attributes(object, &[AttributeType::Value])?.pop() {
        Some(Attribute::Value(value)) => Ok(value),
        _ => Err(HsmError::DataUnreadable { label: label.to_owned() }.into()),
    };
    find(session, label)?.into_iter().map(value).collect()
}

/// Keeps `value` under this label in the place of all that was there. The new one first: a crash in between leaves both.
pub(crate) fn replace(session: &Session, label: &str, value: &[u8]) -> Result<(), Failure> {
    let old = find(session, label)?;
    session.create_object(&[
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Application(APPLICATION.to_vec()),
        Attribute::Value(value.to_vec()),
    ])?;
    for object in old {
        session.destroy_object(object)?;
    }
    Ok(())
}
