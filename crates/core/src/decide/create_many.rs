//! Create many keys at once, without aliases: one part of a request, which one batch holds.
//!
//! A request for more keys than fit into a batch is several parts. Each part is all or nothing. With a token each key's id
//! follows from it: a retry finds the parts that were done, and does the others.

use super::create::{NewKey, NewKind, Source, birth, creation, fresh, new_key};
use super::details::told;
use super::{Change, Decide, Retry};
use crate::access::Access;
use crate::action::Action;
use crate::batch::{ENTRY_LEN_MAX, OPS_MAX};
use crate::facts::Basis;
use crate::request::{Description, KeyCount, Token};
use crate::seam::NewIds;
use crate::views::KeyView;

/// Most keys of one part: each is two records, and one more where something is told about it.
pub const PART_LEN_MAX: u32 = OPS_MAX as u32 / 2;
/// Most bytes of what is told in one part: half of what a batch holds.
const TOLD_LEN_MAX: usize = ENTRY_LEN_MAX / 2;

/// Makes that many keys, as [`CreateMany::parts`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateMany {
    /// What kind of keys.
    pub kind: NewKind,
    /// How many.
    pub count: KeyCount,
    /// Free text, the same for each.
    pub description: Description,
    /// Makes a retry recognisable.
    pub token: Option<Token>,
}

impl CreateMany {
    /// Its parts, always the same ones.
    pub fn parts(&self) -> impl Iterator<Item = CreatePart> {
        let count = self.count.get();
        let birth =
            birth("create many", &[&self.kind.encode(), &count.to_be_bytes(), self.description.as_str().as_bytes()]);
        let part = match self.description.as_str().len() {
            0 => PART_LEN_MAX,
            len => (OPS_MAX / 3).min(TOLD_LEN_MAX / len) as u32,
        };
        let part = self.kind.spec().made_at_once(part);
        (0..count).step_by(part as usize).map(move |first| CreatePart {
            kind: self.kind,
            keys: first..count.min(first + part),
            description: self.description.clone(),
            token: self.token,
            birth,
        })
    }
}

/// Makes a part's keys; the answer is the new keys, or those that the same token made before.
///
/// Refused: [`super::Refusal::TokenReused`]; one of the token's keys is destroyed already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatePart {
    kind: NewKind,
    /// Which of the request's keys.
    keys: std::ops::Range<u32>,
    description: Description,
    token: Option<Token>,
    birth: [u8; 16],
}

impl Decide for CreatePart {
    type Answer = Vec<KeyView>;

    fn action(&self) -> Action {
        Action::CreateMany
    }

    fn retry(&self) -> Retry<Vec<KeyView>> {
        self.token.map_or(Retry::Again, Retry::Id)
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, ids: &dyn NewIds) -> Result<Change<Vec<KeyView>>, F::Error> {
        let home = at.home()?;
        let (mut keys, mut writes, mut made) = (Vec::new(), Vec::new(), 0);
        for n in self.keys.clone() {
            keys.push(match new_key(at, ids, home.namespace, self.token, n, self.birth)? {
                NewKey::Made(earlier) => *earlier,
                NewKey::Free(id) => {
                    let kind = (self.kind.spec(), self.kind.usage());
                    let mut key = fresh(id, home, kind, self.birth, at.time());
                    writes.extend(told(&mut key, &self.description));
                    writes.extend(creation(&key, self.kind, &Source::Fresh, None, made));
                    made += 1;
                    KeyView::from(&key)
                }
            });
        }
        Ok(Change { writes, answer: keys })
    }
}
