//! Create a key, with an alias if wanted. Enabled at once; its first version is made with it.

use std::collections::BTreeSet;

use super::{Change, Refusal, View, Write, read, replay};
use crate::authorize::{Authorized, ManageKeys};
use crate::id::{KeyId, KeyVersion};
use crate::lifecycle::KeyState;
use crate::record::{
    Algorithm, AliasRecord, Answer, IdempotencyRecord, KeyRecord, KeyVersionRecord, Record, RecordName, request_hash,
};
use crate::request::{AliasName, Description, Token};
use crate::seam::Entropy;
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

/// Decides the creation; the answer is the new key, or the one that the same token made before.
///
/// # Errors
/// [`Refusal::AliasTaken`], [`Refusal::TokenReused`].
pub fn decide<V: View>(
    view: &mut V,
    by: &Authorized<ManageKeys>,
    request: &Request,
    time: Time,
    entropy: &dyn Entropy,
) -> Result<Change<KeyRecord>, V::Error> {
    let hash = request_hash(
        "create",
        &[request.alias.as_ref().map_or("", AliasName::as_str).as_bytes(), request.description.as_str().as_bytes()],
    );
    let idempotency = request.token.map(|token| (token, RecordName::Idempotency(by.principal().clone(), token)));
    if let Some((_, name)) = &idempotency
        && let Some(earlier) = replay(view, name, hash)?
    {
        return Ok(Change::none(earlier.first));
    }
    if let Some(name) = &request.alias
        && let Some(taken) = read::alias(view, &RecordName::Alias(name.clone()))?
    {
        return Err(Refusal::AliasTaken { name: name.clone(), key: taken.key }.into());
    }

    let aliases = request.alias.iter().cloned().collect::<BTreeSet<_>>();
    let (key, mut writes) = fresh(view, request.description.clone(), aliases, time, entropy)?;
    if let Some(name) = &request.alias {
        let alias = AliasRecord { name: name.clone(), key: key.id, created_ms: key.created_ms };
        writes.push(Write::Put(Record::Alias(alias)));
    }
    if let Some((token, _)) = idempotency {
        writes.push(answered(by, token, hash, time, key.clone().into()));
    }
    Ok(Change { writes, answer: key })
}

/// A new key with its first version, and what writes them.
pub(super) fn fresh<V: View>(
    view: &mut V,
    description: Description,
    aliases: BTreeSet<AliasName>,
    time: Time,
    entropy: &dyn Entropy,
) -> Result<(KeyRecord, Vec<Write>), V::Error> {
    let mut id = [0; 16];
    entropy.fill(&mut id);
    let key = KeyRecord {
        id: KeyId(id),
        state: KeyState::Enabled,
        algorithm: Algorithm::Aes256,
        current: KeyVersion::FIRST,
        destroyed_through: 0,
        created_ms: time.stamp_ms(),
        rotated_ms: 0,
        description,
        aliases,
    };
    let version = KeyVersionRecord { key: key.id, version: key.current, created_ms: key.created_ms };
    // Both are absent, unless 128 random bits repeat; then the expectation of absence fails and a new id is drawn.
    view.read(&RecordName::Key(key.id))?;
    view.read(&RecordName::KeyVersion(key.id, key.current))?;
    let writes = vec![Write::Put(Record::Key(key.clone())), Write::Put(Record::KeyVersion(version))];
    Ok((key, writes))
}

/// The record of an answer, written in the same batch.
pub(super) fn answered(
    by: &Authorized<ManageKeys>,
    token: Token,
    request_hash: [u8; 32],
    time: Time,
    answer: Answer,
) -> Write {
    Write::Put(Record::Idempotency(Box::new(IdempotencyRecord {
        principal: by.principal().clone(),
        token,
        request_hash,
        created_ms: time.cluster_ms,
        answer,
    })))
}
