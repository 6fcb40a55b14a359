//! Retries: the same request, with the same token, does not act twice (key-model §5.4). Done once, for every verb.

use super::{Change, Decide, Refusal, Write};
use crate::access::Access;
use crate::facts::Basis;
use crate::id::{KeyId, Namespace};
use crate::record::{DetailsRecord, IdempotencyRecord, KeyRecord, KeyVersionRecord, Kind, request_hash};
use crate::request::Token;
use crate::seam::NewIds;
use crate::time::Time;
use crate::views::ShowsKeys;

/// How a retry of a request is told from a new request.
pub enum Retry<A> {
    /// It is not: doing it again does no harm, or the caller gave no token.
    Again,
    /// The id of what it makes is made from the token: a retry finds that itself.
    Id(Token),
    /// What was answered is filed under the token.
    Filed(Filed<A>),
}

/// An answer to be filed.
pub struct Filed<A> {
    /// The client's token.
    pub token: Token,
    /// Hash of the request's parameters: the same token with others is refused.
    pub request_hash: [u8; 32],
    /// The key that the answer is about.
    pub key_of: fn(&A) -> KeyId,
    /// The answer to a retry, from that key as it is now.
    pub answer: fn(&KeyRecord) -> A,
}

/// Decides `request`, which says that `retry` of itself; a retry is answered as it was, from what is there now. The keys in the
/// answer are shown with their current versions, and with what is told about them.
///
/// # Errors
/// [`Refusal::TokenReused`], [`Refusal::TokenTime`]; those of the verb.
pub fn decide<D: Decide, F: Basis>(
    request: &D,
    retry: &Retry<D::Answer>,
    at: &mut Access<'_, F>,
    ids: &dyn NewIds,
) -> Result<Change<D::Answer>, F::Error> {
    let mut change = decide_once(request, retry, at, ids)?;
    for key in change.answer.keys() {
        let written = change
            .writes
            .iter()
            .find_map(|write| write.written().filter(|made: &&KeyVersionRecord| made.name() == key.current()));
        match written {
            Some(head) => key.seen(Some(head), at.time()),
            None => {
                let head = at.get::<KeyVersionRecord>(key.current())?;
                key.seen(head.as_deref(), at.time());
            }
        }
        if key.has_details {
            let written = change
                .writes
                .iter()
                .find_map(|write| write.written().filter(|told: &&DetailsRecord| told.key == key.id));
            key.description = match written {
                Some(told) => told.description.clone(),
                None => at.get::<DetailsRecord>(key.id)?.map(|told| told.description.clone()).unwrap_or_default(),
            };
        }
    }
    Ok(change)
}

fn decide_once<D: Decide, F: Basis>(
    request: &D,
    retry: &Retry<D::Answer>,
    at: &mut Access<'_, F>,
    ids: &dyn NewIds,
) -> Result<Change<D::Answer>, F::Error> {
    let token = match retry {
        Retry::Again => None,
        Retry::Id(token) => Some(*token),
        Retry::Filed(filed) => Some(filed.token),
    };
    if let Some(Err(late)) = token.map(|token| timely(token, at.time())) {
        return at.refuse(late);
    }
    let Retry::Filed(filed) = retry else { return request.decide(at, ids) };
    let (name, request_hash) = ((at.principal().clone(), filed.token), within(at, filed.request_hash)?);
    if let Some(earlier) = at.get::<IdempotencyRecord>(name.clone())? {
        if earlier.request_hash != request_hash {
            return at.refuse(Refusal::TokenReused);
        }
        let key = at.by_id(earlier.key)?;
        return Ok(Change::none((filed.answer)(&key)));
    }
    let mut change = request.decide(at, ids)?;
    let (principal, token) = name;
    let key = (filed.key_of)(&change.answer);
    let answered = IdempotencyRecord { principal, token, request_hash, key };
    change.writes.push(Write::Create(answered.into()));
    Ok(change)
}

/// The hash of a request that is made in the caller's namespace: elsewhere it is another request.
fn within<F: Basis>(at: &mut Access<'_, F>, of: [u8; 32]) -> Result<[u8; 32], F::Error> {
    Ok(match at.within()? {
        Namespace::FIRST => of,
        Namespace(number) => request_hash("in a namespace", &[&number.to_be_bytes(), &of]),
    })
}

/// Whether a token's time is one that a request of now may have.
///
/// # Errors
/// [`Refusal::TokenTime`]: much later nobody could tell whether the request was carried out.
fn timely(token: Token, time: Time) -> Result<(), Refusal> {
    let at_ms = token.time_ms();
    let ahead = time.cluster_ms.max(time.local_ms).saturating_add(Token::AHEAD_MS_MAX);
    let behind = time.cluster_ms.saturating_sub(Token::BEHIND_MS_MAX);
    if (behind..=ahead).contains(&at_ms) { Ok(()) } else { Err(Refusal::TokenTime { now_ms: time.stamp_ms() }) }
}
