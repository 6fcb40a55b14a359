//! Create a key, with an alias if wanted. Enabled at once; its first version is made with it.
//!
//! With a token, the token makes the id: a retry finds the key itself, and no answer has to be kept.

use std::collections::BTreeSet;

use super::{Change, Decide, Refusal, Retry, Slot, Write};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::id::{KeyId, KeyVersion, Namespace};
use crate::key_spec::KeySpec;
use crate::lifecycle::KeyState;
use crate::record::{AliasRecord, KeyRecord, KeyVersionRecord, request_hash};
use crate::request::{AliasName, Description, KeyHandle, Token};
use crate::seam::NewIds;
use crate::time::Time;
use crate::views::KeyView;

/// Makes a key; the answer is the new key, or the one that the same token made before, as it is now.
///
/// Refused: [`Refusal::AliasTaken`], [`Refusal::TokenReused`]; the token's key is destroyed already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Create {
    /// The kind of its material.
    pub spec: KeySpec,
    /// An alias for it.
    pub alias: Option<AliasName>,
    /// Free text.
    pub description: Description,
    /// Makes a retry recognisable.
    pub token: Option<Token>,
}

impl Decide for Create {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Create
    }

    fn retry(&self) -> Retry<KeyView> {
        self.token.map_or(Retry::Again, Retry::Id)
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, ids: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let namespace = at.namespace()?;
        let alias = self.alias.as_ref().map_or("", AliasName::as_str);
        let birth =
            birth("create", &[&self.spec.code().to_be_bytes(), alias.as_bytes(), self.description.as_str().as_bytes()]);
        let id = match new_key(at, ids, self.token, 0, birth)? {
            NewKey::Made(earlier) => return Ok(Change::none(earlier)),
            NewKey::Free(id) => id,
        };
        if let Some(name) = &self.alias
            && let Some(taken) = at.get::<AliasRecord>(name.clone())?
        {
            return Err(Refusal::AliasTaken { name: name.clone(), key: taken.key }.into());
        }

        let mut key = fresh(id, namespace, self.spec, birth, self.description.clone(), at.time());
        key.aliases.extend(self.alias.clone());
        let mut writes = creation(&key, 0).to_vec();
        if let Some(name) = &self.alias {
            let alias = AliasRecord { name: name.clone(), key: key.id, created_ms: key.created_ms };
            writes.push(Write::Create(alias.into()));
        }
        Ok(Change { writes, answer: KeyView::from(&key) })
    }
}

/// What a key keeps of the request that made it.
pub(super) fn birth(verb: &str, fields: &[&[u8]]) -> [u8; 16] {
    let hash = request_hash(verb, fields);
    std::array::from_fn(|i| hash[i])
}

/// What there is under the id of a key to be made.
pub(super) enum NewKey {
    /// Nothing.
    Free(KeyId),
    /// The key that the same request made before.
    Made(KeyView),
}

/// The id of the `n`th key that a request makes.
///
/// # Errors
/// [`Refusal::TokenReused`] when another request made it, [`Refusal::KeyNotFound`] when it is being destroyed.
pub(super) fn new_key<F: Basis>(
    at: &mut Access<'_, F>,
    ids: &dyn NewIds,
    token: Option<Token>,
    n: u32,
    birth: [u8; 16],
) -> Result<NewKey, F::Error> {
    let Some(token) = token else {
        // Fresh ones nearly never meet: 42 random bits in one millisecond.
        loop {
            let id = ids.fresh(at.time().stamp_ms());
            if at.get::<KeyRecord>(id)?.is_none() {
                return Ok(NewKey::Free(id));
            }
        }
    };
    let id = ids.of_token(at.principal(), token, n);
    match at.get::<KeyRecord>(id)? {
        None => Ok(NewKey::Free(id)),
        Some(key) if key.birth != birth => Err(Refusal::TokenReused.into()),
        Some(key) if key.state == KeyState::Destroyed => Err(Refusal::KeyNotFound(KeyHandle::Id(id)).into()),
        Some(key) => Ok(NewKey::Made(KeyView::from(&*key))),
    }
}

/// A new key.
pub(super) fn fresh(
    id: KeyId,
    namespace: Namespace,
    spec: KeySpec,
    birth: [u8; 16],
    description: Description,
    time: Time,
) -> KeyRecord {
    KeyRecord {
        id,
        namespace,
        state: KeyState::Enabled,
        spec,
        birth,
        current: KeyVersion::FIRST,
        destroyed_through: 0,
        created_ms: time.stamp_ms(),
        rotated_ms: 0,
        description,
        aliases: BTreeSet::new(),
    }
}

/// What makes a new key, with its first version, of the change's `nth` fresh material.
pub(super) fn creation(key: &KeyRecord, nth: usize) -> [Write; 2] {
    let version = KeyVersionRecord { key: key.id, version: key.current, spec: key.spec, created_ms: key.created_ms };
    [Write::Create(key.clone().into()), Write::CreateWith(version.into(), Slot::Fresh(nth, key.spec))]
}
