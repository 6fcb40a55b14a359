//! Rotate a key: a fresh version becomes the one that encrypts; all before it go on decrypting.

use super::create::answered;
use super::{Change, Refusal, View, Write, replay, resolve, step};
use crate::authorize::{Authorized, ManageKeys};
use crate::lifecycle::Transition;
use crate::record::{KeyRecord, KeyVersionRecord, Record, RecordName, handle_bytes, request_hash};
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

/// Decides it; the answer is the key with its new current version.
///
/// # Errors
/// The key is not found, disabled, or waits for its destruction; [`Refusal::VersionsMax`], [`Refusal::TokenReused`].
pub fn decide<V: View>(
    view: &mut V,
    by: &Authorized<ManageKeys>,
    request: &Request,
    time: Time,
) -> Result<Change<KeyRecord>, V::Error> {
    let hash = request_hash("rotate", &[&handle_bytes(&request.key)]);
    let idempotency = request.token.map(|token| (token, RecordName::Idempotency(by.principal().clone(), token)));
    if let Some((_, name)) = &idempotency
        && let Some(earlier) = replay(view, name, hash)?
    {
        return Ok(Change::none(earlier.first));
    }

    let mut key = resolve(view, &request.key)?;
    key.state = step(&key, Transition::Rotate)?;
    key.current = key.current.next().ok_or(Refusal::VersionsMax(key.id))?;
    // The node of the last rotation may have had a faster clock.
    key.rotated_ms = time.stamp_ms().max(key.rotated_ms).max(key.created_ms);
    let version = KeyVersionRecord { key: key.id, version: key.current, created_ms: key.rotated_ms };
    view.read(&RecordName::KeyVersion(key.id, key.current))?;

    let mut writes = vec![Write::Put(Record::Key(key.clone())), Write::Put(Record::KeyVersion(version))];
    if let Some((token, _)) = idempotency {
        writes.push(answered(by, token, hash, time, key.clone().into()));
    }
    Ok(Change { writes, answer: key })
}
