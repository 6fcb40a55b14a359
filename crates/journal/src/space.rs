//! How much room the disk has, and how much of it the journal has already (key-log §4.6).

use std::io;
use std::sync::atomic::Ordering;

use tracing::{info, warn};

use crate::{Contents, Journal, Space};

impl<C: Contents> Journal<C> {
    pub(super) fn look_at_space(&mut self) -> io::Result<()> {
        let segment_bytes = self.shared.config.segment_bytes;
        let mut free = self.free_bytes()?;
        // What is short is not tried: until it failed, the attempt would take away what is left.
        if !self.spare.is_there() && free >= segment_bytes {
            self.start_spare()?;
            free = self.free_bytes()?;
        }
        self.note_room();
        let limit = self.shared.config.low_space_limit();
        let was_low = self.shared.space.borrow().low;
        let low = !self.spare.is_there() || free < if was_low { 2 * limit } else { limit };
        let now = Space { free_bytes: free, limit_bytes: limit, low };
        self.shared.space.send_if_modified(|space| std::mem::replace(space, now) != now);
        match (was_low, low) {
            (false, true) => warn!(
                dir = %self.dir.display(), free_bytes = free, limit_bytes = limit,
                "the disk is nearly full: nothing new is taken until there is twice the limit; make room"
            ),
            (true, false) => info!(dir = %self.dir.display(), free_bytes = free, "the disk has room again"),
            _ => {}
        }
        Ok(())
    }

    /// Of the journal's file system, or of that of the folder it lies in, where its owner keeps more: whichever has less.
    fn free_bytes(&self) -> io::Result<u64> {
        let here = self.disk.free_bytes(&self.dir)?;
        match self.dir.parent().filter(|beside| !beside.as_os_str().is_empty()) {
            Some(beside) => Ok(here.min(self.disk.free_bytes(beside)?)),
            None => Ok(here),
        }
    }

    pub(super) fn note_room(&self) {
        let config = &self.shared.config;
        let here = self.end.capacity.saturating_sub(config.reserve().min(self.end.capacity / 8) + self.end.at);
        let next = if self.spare.is_there() { config.room_max() } else { 0 };
        self.shared.room.store(here + next, Ordering::Relaxed);
    }
}
