//! Rotate a key: a fresh version becomes the one that encrypts; all before it go on decrypting.

use super::{Change, Refusal, Slot, View, Write, read, resolve, step, timely};
use crate::authorize::{Authorized, ManageKeys};
use crate::lifecycle::Transition;
use crate::record::{IdempotencyRecord, KeyRecord, KeyVersionRecord, Record, RecordName, handle_bytes, request_hash};
use crate::request::{KeyHandle, Token};
use crate::time::Time;

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Which key.
    pub key: KeyHandle,
    /// Makes a retry recognisable; without one, a retry rotates again.
    pub token: Option<Token>,
}

/// Decides it, with the material in slot 0; the answer is the key with its new current version, or as it is now if the same token rotated it before.
///
/// # Errors
/// The key is not found, disabled, or waits for its destruction; [`Refusal::VersionsMax`], [`Refusal::TokenReused`],
/// [`Refusal::TokenTime`].
pub fn decide<V: View>(
    view: &mut V,
    by: &Authorized<ManageKeys>,
    request: &Request,
    time: Time,
) -> Result<Change<KeyRecord>, V::Error> {
    let hash = request_hash("rotate", &[&handle_bytes(&request.key)]);
    let token = request.token.map(|token| timely(token, time)).transpose()?;
    if let Some(token) = token
        && let Some(earlier) = read::idempotency(view, &RecordName::Idempotency((by.principal().clone(), token)))?
    {
        let done = if earlier.request_hash == hash {
            resolve(view, &KeyHandle::Id(earlier.key))
        } else {
            Err(Refusal::TokenReused.into())
        };
        return done.map(Change::none);
    }

    let mut key = resolve(view, &request.key)?;
    key.state = step(&key, Transition::Rotate)?;
    key.current = key.current.next().ok_or(Refusal::VersionsMax(key.id))?;
    // The node of the last rotation may have had a faster clock.
    key.rotated_ms = time.stamp_ms().max(key.rotated_ms).max(key.created_ms);
    let version = KeyVersionRecord { key: key.id, version: key.current, created_ms: key.rotated_ms };

    let mut writes =
        vec![Write::Update(Record::Key(key.clone())), Write::CreateWith(Record::KeyVersion(version), Slot(0))];
    if let Some(token) = token {
        let principal = by.principal().clone();
        let answered = IdempotencyRecord { principal, token, request_hash: hash, key: key.id };
        writes.push(Write::Create(Record::Idempotency(answered)));
    }
    Ok(Change { writes, answer: key })
}
