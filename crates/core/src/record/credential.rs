//! What is known of a credential, besides what it says itself.

use super::optional::{Fields, Present, read_principal};
use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::credential::{CredentialId, RevocationReason};
use crate::principal::Principal;
use crate::record_key::Table;

/// A credential of which more is known than it says itself; one that nobody has entered has no record, and is good until it ends.
/// `format u8 ‖ created_ms u64 ‖ updated_ms u64 ‖ optional fields`: 1 = whose (principal), 2 = revoked (at_ms u64 ‖ reason u8 ‖ by,
/// principal). True name: kind and hash ([`CredentialId::encode`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CredentialRecord {
    /// Which.
    pub id: CredentialId,
    /// Whose it is, as who entered it said.
    pub whose: Option<Principal>,
    /// When it was entered (display time, ms since 1970).
    pub created_ms: u64,
    /// When the record was last changed (display time, ms since 1970).
    pub updated_ms: u64,
    /// That it is good for nothing any more, for ever.
    pub revoked: Option<Revoked>,
}

/// That a credential was revoked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoked {
    /// When (display time, ms since 1970).
    pub at_ms: u64,
    /// Why.
    pub reason: RevocationReason,
    /// Who did it.
    pub by: Principal,
}

const WHOSE: u8 = 1;
const REVOKED: u8 = 2;
const BAD: Malformed = Malformed(CredentialRecord::WHAT);

impl Kind for CredentialRecord {
    type Name = CredentialId;
    const TABLE: Table = Table::Credential;
    const WHAT: &'static str = "credential record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> CredentialId {
        self.id
    }
    fn place(id: &CredentialId) -> Place {
        Place::named(id.encode())
    }
    fn find(place: &Place) -> Result<CredentialId, Unreadable> {
        let mut from = Reader::new(Self::WHAT, &place.true_name);
        let id = CredentialId::read(&mut from)?.ok_or(Unreadable::Newer(Self::WHAT))?;
        from.finish()?;
        Ok(id)
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        let revoked = |Revoked { at_ms, reason, by }: &Revoked| {
            Writer::new().u64(*at_ms).u8(reason.code()).raw(&by.encode()).finish()
        };
        Present::default()
            .field(WHOSE, self.whose.as_ref().map_or(Vec::new(), Principal::encode))
            .field(REVOKED, self.revoked.as_ref().map_or(Vec::new(), revoked))
            .write(to.u64(self.created_ms).u64(self.updated_ms))
    }
    fn read(id: &CredentialId, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let (created_ms, updated_ms) = (from.u64()?, from.u64()?);
        let mut fields = Fields::read(from, 512, Self::WHAT)?;
        let whose = read_principal(fields.take(WHOSE), Self::WHAT)?;
        let revoked = match fields.take(REVOKED) {
            [] => None,
            bytes => {
                let mut from = Reader::new(Self::WHAT, bytes);
                let (at_ms, code) = (from.u64()?, from.u8()?);
                let reason = RevocationReason::ALL.iter().copied().find(|reason| reason.code() == code);
                let by = Principal::read(&mut from)?.ok_or(Unreadable::Newer(Self::WHAT))?;
                from.finish()?;
                Some(Revoked { at_ms, reason: reason.ok_or(BAD)?, by })
            }
        };
        fields.finish(Self::WHAT)?;
        Ok(Self { id: *id, whose, created_ms, updated_ms, revoked })
    }
}

/// Somebody of whom more is known than a credential says; who holds a certificate of the cluster needs no record, and is enabled.
/// `format u8 ‖ enabled u8 ‖ created_ms u64 ‖ updated_ms u64 ‖ updated by (principal)`. True name: [`Principal::encode`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrincipalRecord {
    /// Who.
    pub principal: Principal,
    /// Whether they may do anything at all, whatever they present.
    pub enabled: bool,
    /// When they were entered (display time, ms since 1970).
    pub created_ms: u64,
    /// When the record was last changed (display time, ms since 1970).
    pub updated_ms: u64,
    /// By whom.
    pub updated_by: Principal,
}

impl Kind for PrincipalRecord {
    type Name = Principal;
    const TABLE: Table = Table::Principal;
    const WHAT: &'static str = "principal record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> Principal {
        self.principal.clone()
    }
    fn place(principal: &Principal) -> Place {
        Place::named(principal.encode())
    }
    fn find(place: &Place) -> Result<Principal, Unreadable> {
        let mut from = Reader::new(Self::WHAT, &place.true_name);
        let principal = Principal::read(&mut from)?.ok_or(Unreadable::Newer(Self::WHAT))?;
        from.finish().map_err(|_| BAD_NAME)?;
        Ok(principal)
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.u8(self.enabled.into()).u64(self.created_ms).u64(self.updated_ms).raw(&self.updated_by.encode())
    }
    fn read(principal: &Principal, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let enabled = match from.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed(Self::WHAT).into()),
        };
        let (created_ms, updated_ms) = (from.u64()?, from.u64()?);
        let updated_by = Principal::read(from)?.ok_or(Unreadable::Newer(Self::WHAT))?;
        Ok(Self { principal: principal.clone(), enabled, created_ms, updated_ms, updated_by })
    }
}
