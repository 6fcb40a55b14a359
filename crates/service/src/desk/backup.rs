//! Backup and restore of one key: each a use and a change in one call.

use quorate_core::action::Action;
use quorate_core::decide::{MarkBackedUp, Restore};
use quorate_core::record::{KeyRecord, request_hash};
use quorate_core::views::KeyView;

use super::Kms;
use crate::call::Call;
use crate::error::Error;
use crate::operation::{BackUp, BackedUp, OpenBackup, Opened, ReadWhole, RestoreKey};
use crate::records::Secrets;

impl Kms {
    /// Makes a backup of a key, which this cluster alone opens.
    ///
    /// # Errors
    /// [`Error::Denied`]; the key is in a state in which it is not backed up, or too long for it; those of every change.
    pub async fn back_up(&self, call: &Call, request: BackUp) -> Result<BackedUp, Error> {
        self.metered(call, Action::Backup, self.note_and_back_up(call, request)).await
    }

    async fn note_and_back_up(&self, call: &Call, request: BackUp) -> Result<BackedUp, Error> {
        loop {
            let whole = self.use_facts(call, ReadWhole(request.key.clone())).await?;
            let made = whole.seal(self.records.replica.level(), &self.tools())?;
            // Before anybody has it, everybody knows. What has changed meanwhile is read again, up to the call's deadline.
            let mark = MarkBackedUp { read: KeyRecord::clone(&whole.key) };
            if self.change(call, &mark, Secrets::default()).await? {
                return Ok(made);
            }
        }
    }

    /// Brings back what a backup holds.
    ///
    /// # Errors
    /// [`Error::Denied`]; it is no backup of this cluster's, whole and unchanged; the key's id is taken, and what it made names it;
    /// those of every change.
    pub async fn restore(&self, call: &Call, request: RestoreKey) -> Result<KeyView, Error> {
        self.metered(call, Action::Restore, self.open_and_restore(call, request)).await
    }

    async fn open_and_restore(&self, call: &Call, request: RestoreKey) -> Result<KeyView, Error> {
        let RestoreKey { backup, without_name, token } = request;
        let hash = request_hash("restore", &[&backup, &[u8::from(without_name)]]);
        let opened = self.use_facts(call, OpenBackup(backup)).await?;
        let Opened { key, description, versions, material } = opened;
        let change = Restore { key, description, versions, without_name, hash, token };
        self.change(call, &change, Secrets::of_keys(&material)).await
    }
}
