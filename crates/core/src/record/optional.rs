//! Fields that most records of a kind do not have: `n u16 × {tag u8 ‖ field}`, tags ascending.
//!
//! A version that does not know a tag can't tell what it would lose, so such a record is a newer one's.

use super::Unreadable;
use crate::codec::{Malformed, Reader, Writer};
use crate::id::KeyId;
use crate::principal::Principal;

/// Collects what is there.
#[derive(Default)]
pub(super) struct Present(Vec<(u8, Vec<u8>)>);

impl Present {
    /// The field of that tag, above all before it, unless it is empty.
    pub fn field(mut self, tag: u8, value: Vec<u8>) -> Self {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < tag), "tags ascend");
        if !value.is_empty() {
            self.0.push((tag, value));
        }
        self
    }

    pub fn write(self, to: Writer) -> Writer {
        let n = to.u16(self.0.len() as u16);
        self.0.iter().fold(n, |to, (tag, value)| to.u8(*tag).field(value))
    }
}

/// Hands out each field once, in the order of tags; whoever has asked for all knows whether any was left over.
pub(super) struct Fields<'a> {
    left: std::vec::IntoIter<(u8, &'a [u8])>,
    next: Option<(u8, &'a [u8])>,
}

impl<'a> Fields<'a> {
    /// # Errors
    /// When it is not canonical; `len_max` bounds each field.
    pub fn read(from: &mut Reader<'a>, len_max: usize, what: &'static str) -> Result<Self, Malformed> {
        let mut fields: Vec<(u8, &[u8])> = Vec::new();
        for _ in 0..from.u16()? {
            let (tag, value) = (from.u8()?, from.field(len_max)?);
            if value.is_empty() || fields.last().is_some_and(|(last, _)| *last >= tag) {
                return Err(Malformed(what));
            }
            fields.push((tag, value));
        }
        let mut left = fields.into_iter();
        let next = left.next();
        Ok(Self { left, next })
    }

    /// The field of that tag; empty = it is not there.
    pub fn take(&mut self, tag: u8) -> &'a [u8] {
        match self.next {
            Some((of, value)) if of == tag => {
                self.next = self.left.next();
                value
            }
            _ => &[],
        }
    }

    /// # Errors
    /// When there is one that nobody asked for.
    pub fn finish(self, what: &'static str) -> Result<(), Unreadable> {
        self.next.map_or(Ok(()), |_| Err(Unreadable::Newer(what)))
    }
}

/// When something happened, ms since 1970, if it did.
pub(super) fn moment(at_ms: u64) -> Vec<u8> {
    if at_ms == 0 { Vec::new() } else { at_ms.to_be_bytes().into() }
}

pub(super) fn read_moment(field: &[u8], what: &'static str) -> Result<u64, Malformed> {
    match field.try_into().map(u64::from_be_bytes) {
        Ok(at_ms) if at_ms != 0 => Ok(at_ms),
        Err(_) if field.is_empty() => Ok(0),
        _ => Err(Malformed(what)),
    }
}

/// Another key, if there is one.
pub(super) fn other(key: Option<KeyId>) -> Vec<u8> {
    key.map_or(Vec::new(), |id| id.0.into())
}

pub(super) fn read_other(field: &[u8], what: &'static str) -> Result<Option<KeyId>, Malformed> {
    match field.try_into() {
        Ok(id) => Ok(Some(KeyId(id))),
        Err(_) if field.is_empty() => Ok(None),
        Err(_) => Err(Malformed(what)),
    }
}

/// A principal, if there is one.
pub(super) fn read_principal(field: &[u8], what: &'static str) -> Result<Option<Principal>, Unreadable> {
    if field.is_empty() {
        return Ok(None);
    }
    let mut r = Reader::new(what, field);
    let principal = Principal::read(&mut r)?.ok_or(Unreadable::Newer(what))?;
    r.finish()?;
    Ok(Some(principal))
}
