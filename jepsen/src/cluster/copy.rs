//! Copies of what a node keeps, and putting them in the place of the newest: what a restored virtual machine, a backup of a disk or
//! an operator who moves folders does to it.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::{Cluster, found};

/// The folder of the journal in a node's data.
const JOURNAL: &str = "journal";
/// The file that only keeps room free: it is made anew, and no copy needs it.
const ROOM: &str = "state.reserve";

/// What of a copy is put in the place of the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of the node's data.
    Folder,
    /// That, and what its token holds.
    FolderAndToken,
    /// The journal: state and node file are the newest.
    Journal,
    /// The state: journal and node file are the newest.
    State,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Folder, Self::FolderAndToken, Self::Journal, Self::State];

    /// As a form of a fault is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::FolderAndToken => "token",
            Self::Journal => "journal",
            Self::State => "state",
        }
    }

    /// Whether an entry of the data folder is of this part.
    fn has(self, entry: &str) -> bool {
        match self {
            Self::Folder | Self::FolderAndToken => entry != ROOM,
            Self::Journal => entry == JOURNAL,
            Self::State => entry == "CURRENT" || entry.starts_with("state") && entry != ROOM,
        }
    }
}

/// What a node kept at one moment: its data, and what its token held. Removed when dropped.
pub struct Copy {
    dir: PathBuf,
}

impl Copy {
    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn token(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// It is kept, as a folder of that name.
    pub(super) fn keep(mut self, folder: &Path) -> anyhow::Result<()> {
        Ok(std::fs::rename(std::mem::take(&mut self.dir), folder)?)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Its name is gone when it is kept.
        if !self.dir.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Cluster<'_> {
    /// Copies what a node keeps, to a folder beside it that is called `name`. Its process must not run, or must stand still: then
    /// this is what it has written at one instant.
    ///
    /// # Errors
    /// What the system said.
    pub fn copy(&self, node: u32, name: &str) -> anyhow::Result<Copy> {
        let folder = self.node_dir(node);
        let copy = Copy { dir: folder.join(name) };
        copy_entries(&self.data_dir(node), &copy.data(), |entry| entry != ROOM)?;
        copy_entries(&folder.join("token"), &copy.token(), |_| true)?;
        Ok(copy)
    }

    /// Puts a part of a copy in the place of what a node has, whose process must not run; durably. Whether that was another one.
    ///
    /// # Errors
    /// What the system said.
    pub fn put_back(&self, node: u32, copy: &Copy, part: Part) -> anyhow::Result<bool> {
        ensure!(!self.runs(node), "n{node} runs");
        let data = self.data_dir(node);
        let mut changed = replace_entries(&copy.data(), &data, |entry| part.has(entry))?;
        if part == Part::FolderAndToken {
            changed |= replace_entries(&copy.token(), &self.node_dir(node).join("token"), |_| true)?;
        }
        Ok(changed)
    }
}

fn entries(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_wanted) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn copy_entries(from: &Path, to: &Path, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in entries(from, is_wanted)? {
        let to = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() {
            found::copy(&entry, &to)?;
        } else {
            std::fs::copy(&entry, &to).with_context(|| entry.display().to_string())?;
        }
    }
    Ok(())
}

/// The wanted entries of `to` become those of `from`; whether they were others.
fn replace_entries(from: &Path, to: &Path, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<bool> {
    let changed = contents(from, &is_wanted)? != contents(to, &is_wanted)?;
    for entry in entries(to, &is_wanted)? {
        if entry.is_dir() { std::fs::remove_dir_all(&entry) } else { std::fs::remove_file(&entry) }?;
    }
    copy_entries(from, to, is_wanted)?;
    // Else a loss of power takes it back again.
    rustix::fs::syncfs(std::fs::File::open(to)?)?;
    Ok(changed)
}

/// Every file of the wanted entries, with its bytes.
fn contents(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = vec![];
    let mut open = entries(dir, is_wanted)?;
    while let Some(path) = open.pop() {
        match path.is_dir() {
            true => open.extend(entries(&path, |_| true)?),
            false => found.push((path.strip_prefix(dir)?.to_owned(), std::fs::read(&path)?)),
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_files_and_room_is_never_copied() {
        let entries = ["node", "journal", "CURRENT", "state.redb", "state-12.redb", "state.reserve", "join"];
        let of = |part: Part| entries.into_iter().filter(|e| part.has(e)).collect::<Vec<_>>();
        assert_eq!(of(Part::Journal), ["journal"]);
        assert_eq!(of(Part::State), ["CURRENT", "state.redb", "state-12.redb"]);
        assert_eq!(of(Part::Folder), ["node", "journal", "CURRENT", "state.redb", "state-12.redb", "join"]);
        assert_eq!(of(Part::FolderAndToken), of(Part::Folder));
    }

    #[test]
    fn what_is_put_back_is_what_was_copied_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (now, copy) = (dir.path().join("now"), dir.path().join("copy"));
        std::fs::create_dir_all(now.join("journal")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(now.join(name), text).unwrap();
        let read = |name: &str| std::fs::read_to_string(now.join(name)).ok();
        write("node", "a");
        write("journal/1.seg", "old");
        write("state.redb", "old");
        copy_entries(&now, &copy, |_| true).unwrap();
        let is_journal = |entry: &str| Part::Journal.has(entry);
        assert!(!replace_entries(&copy, &now, is_journal).unwrap(), "nothing had changed");
        write("journal/1.seg", "new");
        write("journal/2.seg", "more");
        write("state.redb", "new");
        assert!(replace_entries(&copy, &now, is_journal).unwrap());
        assert_eq!((read("journal/1.seg"), read("journal/2.seg")), (Some("old".into()), None));
        assert_eq!((read("state.redb"), read("node")), (Some("new".into()), Some("a".into())));
    }
}
