//! Create many keys at once, without aliases: one part of a request, which one batch holds.
//!
//! A request for more keys than fit into a batch is several parts. Each part is all or nothing, and has a token of its
//! own that follows from the request's: a retry finds the parts that were done, and does the others.

use std::collections::BTreeSet;

use super::create::{answered, fresh};
use super::{Change, View, replay};
use crate::authorize::{Authorized, ManageKeys};
use crate::batch::OPS_MAX;
use crate::record::{Answer, KeyRecord, RecordName, request_hash};
use crate::request::{Description, KeyCount, Token};
use crate::seam::Entropy;
use crate::time::Time;

/// Most keys of one part: each is two records, and there is one for the answer.
pub const PART_LEN_MAX: u32 = (OPS_MAX as u32 - 1) / 2;

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
    /// How many, 1 to [`PART_LEN_MAX`].
    len: u32,
    description: Description,
    token: Option<Token>,
    hash: [u8; 32],
}

impl Request {
    /// Its parts, always the same ones.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        let count = self.count.get();
        (0..count.div_ceil(PART_LEN_MAX)).map(move |n| Part {
            len: PART_LEN_MAX.min(count - n * PART_LEN_MAX),
            description: self.description.clone(),
            token: self.token.map(|token| token.part(n)),
            hash: request_hash(
                "create many",
                &[&count.to_be_bytes(), &n.to_be_bytes(), self.description.as_str().as_bytes()],
            ),
        })
    }
}

/// Decides the creation of a part's keys; the answer is the new keys, or those that the same token made before.
///
/// # Errors
/// [`super::Refusal::TokenReused`].
pub fn decide<V: View>(
    view: &mut V,
    by: &Authorized<ManageKeys>,
    part: &Part,
    time: Time,
    entropy: &dyn Entropy,
) -> Result<Change<Vec<KeyRecord>>, V::Error> {
    let idempotency = part.token.map(|token| (token, RecordName::Idempotency(by.principal().clone(), token)));
    if let Some((_, name)) = &idempotency
        && let Some(earlier) = replay(view, name, part.hash)?
    {
        return Ok(Change::none(earlier.iter().cloned().collect()));
    }
    let mut one = || fresh(view, part.description.clone(), BTreeSet::new(), time, entropy);
    let (first, mut writes) = one()?;
    let mut more = Vec::with_capacity(part.len as usize - 1);
    for _ in 1..part.len {
        let (key, of_it) = one()?;
        more.push(key);
        writes.extend(of_it);
    }
    let answer = Answer { first, more };
    let keys = answer.iter().cloned().collect();
    if let Some((token, _)) = idempotency {
        writes.push(answered(by, token, part.hash, time, answer));
    }
    Ok(Change { writes, answer: keys })
}
