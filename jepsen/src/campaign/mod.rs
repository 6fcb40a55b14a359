//! `test-all`: every workload with every kind of fault, then random combinations, until the time is used. Each run is a process
//! of its own, with a network and disks named after it, so that several run side by side.

mod drive;
mod plan;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

pub use drive::{Job, once, test_all};
pub use plan::{Item, Settings, combination, singles};

/// The file's name.
const FILE: &str = "test-all.json";

/// How far a campaign has come; kept in the store, so that it goes on where it was interrupted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct State {
    /// Its settings.
    pub settings: Settings,
    /// Seconds of the budget that are used.
    pub spent: u64,
    /// Runs of one kind of fault that ended, here or elsewhere, by name.
    pub singles: BTreeSet<String>,
    /// How many combinations ended.
    pub combinations: u64,
    /// The worst exit code so far.
    pub worst: u8,
}

impl State {
    /// Nothing done yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, spent: 0, singles: BTreeSet::new(), combinations: 0, worst: 0 }
    }

    /// What the store holds. `seed` and the rest must be those of the campaign in the store; without a seed it is taken
    /// from there.
    ///
    /// # Errors
    /// When the store holds a campaign with other settings.
    pub fn resume(root: &Path, seed: Option<u64>, wanted: Settings) -> anyhow::Result<Self> {
        let path = root.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::new(wanted)),
            read => read.with_context(|| format!("can't read {}", path.display()))?,
        };
        let state: Self = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let wanted = Settings { seed: seed.unwrap_or(state.settings.seed), ..wanted };
        if wanted != state.settings {
            bail!(
                "{} holds a campaign with other settings ({:?}); name another --store, or begin anew with --fresh",
                root.display(),
                state.settings
            );
        }
        Ok(state)
    }

    /// The first `count` runs of one kind of fault are not to be run here.
    pub fn skip(&mut self, count: usize) {
        self.singles.extend(singles(&self.settings).0.iter().take(count).map(Item::name));
    }

    /// Keeps it: whole, or as it was before.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save(&self, root: &Path) -> anyhow::Result<()> {
        let (path, new) = (root.join(FILE), root.join(format!("{FILE}.new")));
        std::fs::write(&new, serde_json::to_string_pretty(self)?)
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| format!("can't write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_goes_on_where_it_was_and_only_with_its_own_settings() {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings {
            seed: 5,
            sizes: vec![3],
            seconds: 60,
            rate: 150,
            clients: 12,
            nets: vec![crate::net::Backend::Tap],
        };
        let mut state = State::resume(root.path(), None, settings.clone()).unwrap();
        assert_eq!(state, State::new(settings.clone()));
        state.spent = 77;
        state.singles.insert("revoke kill n3".into());
        state.save(root.path()).unwrap();
        let other_clock = Settings { seed: 6, ..settings.clone() };
        assert_eq!(State::resume(root.path(), None, other_clock.clone()).unwrap(), state, "no seed was asked for");
        assert_eq!(State::resume(root.path(), Some(5), settings.clone()).unwrap(), state);
        let refused = State::resume(root.path(), Some(6), other_clock).unwrap_err().to_string();
        assert!(refused.contains("--fresh"), "{refused}");
        assert!(State::resume(root.path(), None, Settings { seconds: 30, ..settings }).is_err());
    }

    #[test]
    fn what_another_machine_ran_is_not_run_here() {
        let nets = vec![crate::net::Backend::Tap];
        let settings = Settings { seed: 5, sizes: vec![1], seconds: 60, rate: 150, clients: 12, nets };
        let (mut state, all) = (State::new(settings.clone()), singles(&settings).0);
        state.skip(7);
        assert!(all[..7].iter().all(|item| state.singles.contains(&item.name())));
        assert!(all[7..].iter().all(|item| !state.singles.contains(&item.name())));
    }
}
