//! What was answered to a token, where the answer can't be found without: a key is found by its id, which its token made.

use super::{Formats, Kind, Place, Unreadable};
use crate::codec::{Reader, Writer};
use crate::id::KeyId;
use crate::principal::Principal;
use crate::record_key::Table;
use crate::request::Token;

/// That a token was used: `format u8 ‖ request hash 32 ‖ key id 16`. The answer is described anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdempotencyRecord {
    /// Whose token.
    pub principal: Principal,
    /// The token; its time says when this may go.
    pub token: Token,
    /// Hash of the request's parameters: the same token with others is refused.
    pub request_hash: [u8; 32],
    /// The key that was changed.
    pub key: KeyId,
}

impl Kind for IdempotencyRecord {
    type Name = (Principal, Token);
    const TABLE: Table = Table::Idempotency;
    const WHAT: &'static str = "idempotency record";
    const FORMATS: Formats = Formats::only(2);

    fn name(&self) -> Self::Name {
        (self.principal.clone(), self.token)
    }
    fn place((who, token): &Self::Name) -> Place {
        let name = [&who.encode()[..], &token.0].concat();
        Place { prefix: token.time().into(), ..Place::named(name) }
    }
    fn find(place: &Place) -> Result<Self::Name, Unreadable> {
        let mut r = Reader::new(Self::WHAT, &place.true_name);
        let principal = Principal::read(&mut r)?.ok_or(Unreadable::Newer(Self::WHAT))?;
        let token = Token(r.array()?);
        r.finish()?;
        Ok((principal, token))
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.raw(&self.request_hash).raw(&self.key.0)
    }
    fn read((principal, token): &Self::Name, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let (request_hash, key) = (from.array()?, KeyId(from.array()?));
        Ok(Self { principal: principal.clone(), token: *token, request_hash, key })
    }
}
