//! Create a key, with an alias if wanted. Enabled at once; its first version is made with it.
//!
//! With a token, the token makes the id: a retry finds the key itself, and no answer has to be kept.

use std::collections::BTreeSet;

use super::{Change, Refusal, Slot, View, Write, read, timely};
use crate::authorize::{Authorized, ManageKeys};
use crate::id::{KeyId, KeyVersion, Namespace};
use crate::lifecycle::KeyState;
use crate::record::{Algorithm, AliasRecord, KeyRecord, KeyVersionRecord, Record, RecordName, request_hash};
use crate::request::{AliasName, Description, KeyHandle, Token};
use crate::seam::NewIds;
use crate::time::Time;

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// An alias for it.
    pub alias: Option<AliasName>,
    /// Free text.
    pub description: Description,
    /// Makes a retry recognisable.
    pub token: Option<Token>,
}

/// Decides the creation, with the material in slot 0; the answer is the new key, or the one that the same token made before,
/// as it is now.
///
/// # Errors
/// [`Refusal::AliasTaken`], [`Refusal::TokenReused`], [`Refusal::TokenTime`]; the token's key is destroyed already.
pub fn decide<V: View>(
    view: &mut V,
    by: &Authorized<ManageKeys>,
    request: &Request,
    time: Time,
    ids: &dyn NewIds,
) -> Result<Change<KeyRecord>, V::Error> {
    let alias = request.alias.as_ref().map_or("", AliasName::as_str);
    let birth = birth("create", &[alias.as_bytes(), request.description.as_str().as_bytes()]);
    let id = match request.token {
        None => unused(view, time, ids)?,
        Some(token) => ids.of_token(by.principal(), timely(token, time)?, 0),
    };
    if let Some(earlier) = made_before(view, id, birth)? {
        return Ok(Change::none(earlier));
    }
    if let Some(name) = &request.alias
        && let Some(taken) = read::alias(view, &RecordName::Alias(name.clone()))?
    {
        return Err(Refusal::AliasTaken { name: name.clone(), key: taken.key }.into());
    }

    let mut key = fresh(id, birth, request.description.clone(), time);
    key.aliases.extend(request.alias.clone());
    let mut writes = creation(&key, Slot(0)).to_vec();
    if let Some(name) = &request.alias {
        let alias = AliasRecord { name: name.clone(), key: key.id, created_ms: key.created_ms };
        writes.push(Write::Create(Record::Alias(alias)));
    }
    Ok(Change { writes, answer: key })
}

/// What a key keeps of the request that made it.
pub(super) fn birth(verb: &str, fields: &[&[u8]]) -> [u8; 16] {
    let hash = request_hash(verb, fields);
    std::array::from_fn(|i| hash[i])
}

/// An id that no key has. Fresh ones nearly never meet: 42 random bits in one millisecond.
pub(super) fn unused<V: View>(view: &mut V, time: Time, ids: &dyn NewIds) -> Result<KeyId, V::Error> {
    loop {
        let id = ids.fresh(time.stamp_ms());
        if read::key(view, &RecordName::Key(id))?.is_none() {
            return Ok(id);
        }
    }
}

/// The key of that id, if the same request made it before.
///
/// # Errors
/// [`Refusal::TokenReused`] when another did, [`Refusal::KeyNotFound`] when it is being destroyed.
pub(super) fn made_before<V: View>(view: &mut V, id: KeyId, birth: [u8; 16]) -> Result<Option<KeyRecord>, V::Error> {
    match read::key(view, &RecordName::Key(id))? {
        None => Ok(None),
        Some(key) if key.birth != birth => Err(Refusal::TokenReused.into()),
        Some(key) if key.state == KeyState::Destroyed => Err(Refusal::KeyNotFound(KeyHandle::Id(id)).into()),
        Some(key) => Ok(Some(key)),
    }
}

/// A new key.
pub(super) fn fresh(id: KeyId, birth: [u8; 16], description: Description, time: Time) -> KeyRecord {
    KeyRecord {
        id,
        namespace: Namespace::FIRST,
        state: KeyState::Enabled,
        algorithm: Algorithm::Aes256,
        birth,
        current: KeyVersion::FIRST,
        destroyed_through: 0,
        created_ms: time.stamp_ms(),
        rotated_ms: 0,
        description,
        aliases: BTreeSet::new(),
    }
}

/// What makes a new key, with its first version of that material.
pub(super) fn creation(key: &KeyRecord, material: Slot) -> [Write; 2] {
    let version = KeyVersionRecord { key: key.id, version: key.current, created_ms: key.created_ms };
    [Write::Create(Record::Key(key.clone())), Write::CreateWith(Record::KeyVersion(version), material)]
}
