//! Changing the signed roster, by a batch of its own or within another.

use quorate_core::decide::{Change, Write};
use quorate_core::facts::Facts;
use quorate_core::record::SealRecord;
use quorate_core::record_key::RecordKey;
use quorate_replica::{Roster, SignedRoster};
use tokio::time::Instant;

use super::{EngineFacts, Records, Secrets};
use crate::error::Error;
use crate::node::GROUP;

impl Records {
    /// Adds to `writes` what the roster becomes, if it becomes another one, signed; returns the serial to be carried out. Of a
    /// state that has no roster, it goes on from Raft's membership.
    pub fn change_roster(
        &self,
        facts: &mut EngineFacts<'_>,
        writes: &mut Vec<Write>,
        next: impl FnOnce(&Roster) -> Result<Option<Roster>, String>,
    ) -> Result<u64, Error> {
        let now = match facts.get::<SealRecord>(RecordKey::roster())? {
            Some(record) => {
                let signed = SignedRoster::decode(record.value.clone().into());
                signed.map_err(|e| Error::Damaged(e.to_string()))?.roster().clone()
            }
            None => Roster::before_the_first(self.cluster, GROUP, facts.view().membership()),
        };
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
