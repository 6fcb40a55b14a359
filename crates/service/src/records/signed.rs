//! Changing what the anchor key signs for all, by a batch of its own or within another: the roster and the feature level.

use quorate_core::decide::{Change, Write};
use quorate_core::facts::Facts;
use quorate_core::level::Level;
use quorate_core::record::SealRecord;
use quorate_core::record_key::RecordKey;
use quorate_replica::{Roster, SignedLevel, SignedRoster};
use tokio::time::Instant;

use super::facts::unreadable;
use super::{EngineFacts, Records, Secrets};
use crate::error::Error;
use crate::node::GROUP;

impl Records {
    /// The roster; of a state that has none, the one that goes on from Raft's membership.
    fn roster(&self, facts: &mut EngineFacts<'_>) -> Result<Roster, Error> {
        let Some(record) = facts.get::<SealRecord>(RecordKey::roster())? else {
            return Ok(Roster::before_the_first(self.cluster, GROUP, facts.view().membership()));
        };
        let signed = SignedRoster::decode(record.value.clone().into());
        Ok(signed.map_err(|e| Error::Damaged(e.to_string()))?.roster().clone())
    }

    /// The feature level in force; a change that was decided at it stands only while it is.
    pub fn level(&self, facts: &mut EngineFacts<'_>) -> Result<Level, Error> {
        facts.get::<SealRecord>(RecordKey::level())?;
        facts.view().level().map_err(unreadable)
    }

    /// Adds to `writes` the feature level that the members of the roster rise to, if they rise, signed. It is decided again when
    /// either has changed meanwhile: who was approved last is asked too.
    pub fn raise_level(
        &self,
        facts: &mut EngineFacts<'_>,
        writes: &mut Vec<Write>,
        next: impl FnOnce(Level, &Roster) -> Option<Level>,
    ) -> Result<Option<Level>, Error> {
        let roster = self.roster(facts)?;
        let next = next(self.level(facts)?, &roster);
        if let Some(level) = next {
            let signed = SignedLevel::new(self.cluster, GROUP, level, |said| facts.keyring().sign_level(said));
            writes.push(Write::Update(SealRecord { key: RecordKey::level(), value: signed.encode() }.into()));
        }
        Ok(next)
    }

    /// Adds to `writes` what the roster becomes, if it becomes another one, signed; returns the serial to be carried out.
    pub fn change_roster(
        &self,
        facts: &mut EngineFacts<'_>,
        writes: &mut Vec<Write>,
        next: impl FnOnce(&Roster) -> Result<Option<Roster>, String>,
    ) -> Result<u64, Error> {
        let now = self.roster(facts)?;
        let Some(next) = next(&now).map_err(Error::WrongState)? else { return Ok(now.serial) };
        let value = next.signed(|list| facts.keyring().sign_roster(list));
        writes.push(Write::Update(SealRecord { key: RecordKey::roster(), value }.into()));
        Ok(next.serial)
    }

    /// Writes what the roster becomes, and nothing else, if it becomes another one; returns the serial to be carried out.
    pub async fn commit_roster(
        &self,
        deadline: Instant,
        next: impl Fn(&Roster) -> Result<Option<Roster>, String>,
    ) -> Result<u64, Error> {
        let decide = |facts: &mut EngineFacts<'_>| {
            let mut writes = Vec::new();
            let answer = self.change_roster(facts, &mut writes, &next)?;
            Ok(Change { writes, answer })
        };
        Ok(self.change(deadline, Secrets::default(), decide).await?.answer)
    }
}
