//! Create many keys at once, without aliases: one part of a request, which one batch holds.
//!
//! A request for more keys than fit into a batch is several parts. Each part is all or nothing. With a token each key's id
//! follows from it: a retry finds the parts that were done, and does the others.

use super::create::{birth, creation, fresh, made_before, unused};
use super::{Change, Slot, View, timely};
use crate::authorize::{Authorized, ManageKeys};
use crate::batch::OPS_MAX;
use crate::record::KeyRecord;
use crate::request::{Description, KeyCount, Token};
use crate::seam::NewIds;
use crate::time::Time;

/// Most keys of one part: each is two records.
pub const PART_LEN_MAX: u32 = OPS_MAX as u32 / 2;

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// How many.
    pub count: KeyCount,
    /// Free text, the same for each.
    pub description: Description,
    /// Makes a retry recognisable.
    pub token: Option<Token>,
}

/// One part of a request: [`Request::parts`] makes them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Which of the request's keys.
    keys: std::ops::Range<u32>,
    description: Description,
    token: Option<Token>,
    birth: [u8; 16],
}

impl Part {
    /// How many keys it makes, and materials it needs.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
    /// Whether it makes none; no part of a request does.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Request {
    /// Its parts, always the same ones.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        let count = self.count.get();
        let birth = birth("create many", &[&count.to_be_bytes(), self.description.as_str().as_bytes()]);
        (0..count).step_by(PART_LEN_MAX as usize).map(move |first| Part {
            keys: first..count.min(first + PART_LEN_MAX),
            description: self.description.clone(),
            token: self.token,
            birth,
        })
    }
}

/// Decides the creation of a part's keys, each with the material in its slot; the answer is the new keys, or those that the same token made before.
///
/// # Errors
/// [`super::Refusal::TokenReused`], [`super::Refusal::TokenTime`]; one of the token's keys is destroyed already.
pub fn decide<V: View>(
    view: &mut V,
    by: &Authorized<ManageKeys>,
    part: &Part,
    time: Time,
    ids: &dyn NewIds,
) -> Result<Change<Vec<KeyRecord>>, V::Error> {
    let token = part.token.map(|token| timely(token, time)).transpose()?;
    let (mut keys, mut writes) = (Vec::new(), Vec::new());
    for (slot, n) in part.keys.clone().enumerate() {
        let id = match token {
            None => unused(view, time, ids)?,
            Some(token) => ids.of_token(by.principal(), token, n),
        };
        keys.push(match made_before(view, id, part.birth)? {
            Some(earlier) => earlier,
            None => {
                let key = fresh(id, part.birth, part.description.clone(), time);
                writes.extend(creation(&key, Slot(slot)));
                key
            }
        });
    }
    Ok(Change { writes, answer: keys })
}
