//! That a node may ask to become a member.

use super::member::{Statement, TEXT_LEN_MAX};
use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{Name, NodeId};
use crate::level::{Level, Levels};
use crate::record_key::Table;

/// The hash of a join token's secret: the state does not hold the secret.
pub type TokenHash = [u8; 32];

/// An invitation: `format u8 ‖ for field ‖ by field ‖ expires_ms u64 ‖ 0 | 1 ‖ id u64 ‖ statement field ‖ signature field
/// ‖ lowest level u32 ‖ highest level u32`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    /// Of its token.
    pub token: TokenHash,
    /// Who may use it.
    pub for_name: Name,
    /// The principal who made it.
    pub invited_by: String,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: u64,
    /// Who has used it.
    pub applicant: Option<Applicant>,
}

/// Who has used an invitation and waits for approval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applicant {
    /// Index of the entry that committed the invitation: the Raft id it will get.
    pub id: NodeId,
    /// What it says of itself.
    pub statement: Statement,
    /// Its identity key's signature over that.
    pub signature: Vec<u8>,
    /// The feature levels that it said to work at, last.
    pub levels: Levels,
}

impl Kind for Invitation {
    type Name = TokenHash;
    const TABLE: Table = Table::Invitation;
    const WHAT: &'static str = "record of an invitation";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> TokenHash {
        self.token
    }
    fn place(token: &TokenHash) -> Place {
        Place::named(*token)
    }
    fn find(place: &Place) -> Result<TokenHash, Unreadable> {
        place.true_name[..].try_into().map_err(|_| BAD_NAME)
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        let w = to.field(self.for_name.as_str().as_bytes()).field(self.invited_by.as_bytes()).u64(self.expires_ms);
        match &self.applicant {
            None => w.u8(0),
            Some(a) => {
                let w = w.u8(1).u64(a.id.0).field(&a.statement.encode()).field(&a.signature);
                w.u32(a.levels.lowest.0).u32(a.levels.highest.0)
            }
        }
    }
    fn read(token: &TokenHash, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        const BAD: Malformed = Malformed(Invitation::WHAT);
        Ok(Self {
            token: *token,
            for_name: from.text(Name::LEN_MAX)?.parse().map_err(|_| BAD)?,
            invited_by: from.text(TEXT_LEN_MAX)?.to_owned(),
            expires_ms: from.u64()?,
            applicant: match from.u8()? {
                0 => None,
                1 => Some(Applicant {
                    id: NodeId(from.u64()?),
                    statement: Statement::decode(from.field(Statement::LEN_MAX)?)?,
                    signature: from.field(Statement::SIGNATURE_LEN_MAX)?.to_vec(),
                    levels: Levels { lowest: Level(from.u32()?), highest: Level(from.u32()?) },
                }),
                _ => return Err(BAD.into()),
            },
        })
    }
}
