//! One node's disk fails: it is full, slow, read-only or dead, it refuses writes, lies about syncs, or holds other bytes than
//! were written. A node may stop then, if it says why; it comes back, or is replaced, before anything else is taken from the
//! majority. So a lying or damaged disk harms a minority only: on a majority it rightly loses what was acknowledged.

use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

use super::{HOLD, Kind, World};
use crate::cluster::trace::{Injection, Trace, is_traced};

/// As much stays free on a full disk, bytes.
const LEFT: std::ops::Range<u64> = 0..(8 << 20);
/// A segment of the journal is called so; before it stands its number, so that the newest is last.
const SEGMENT: &str = "seg";
/// A torn tail is at most so long, bytes.
const TEAR_MAX: u64 = 64 << 10;

/// Writes and syncs that fail. What fails from the start on, and what fails now and then.
const ERRORS: [Injection; 4] = [
    Injection { calls: "fdatasync,fsync", what: "error=EIO" },
    Injection { calls: "pwrite64", what: "error=EIO:when=3+7" },
    Injection { calls: "fdatasync", what: "error=EIO:when=5" },
    Injection { calls: "pwrite64", what: "error=EIO" },
];
const NO_SPACE: [Injection; 2] = [
    Injection { calls: "pwrite64,fallocate", what: "error=ENOSPC" },
    Injection { calls: "fdatasync", what: "error=ENOSPC:when=4" },
];
const SLOW: [Injection; 2] = [
    Injection { calls: "fdatasync,fsync", what: "delay_enter=50000" },
    Injection { calls: "fdatasync,fsync", what: "delay_enter=400000" },
];
const LIE: Injection = Injection { calls: "fdatasync,fsync", what: "retval=0" };

/// A byte of a file that is changed, or from which on the file is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Where.
    pub offset: u64,
}

/// How much of a file is in use: what follows are zeros, which are room for later.
fn used(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last as u64 + 1)
}

/// A byte in use of any of these files; each file is as likely as any other, so that small ones are met too.
pub fn choose_byte(files: &[(PathBuf, Vec<u8>)], rng: &mut StdRng) -> Option<Place> {
    let full: Vec<_> = files.iter().filter(|(_, bytes)| used(bytes) > 0).collect();
    let (path, bytes) = full.get(rng.random_range(0..full.len().max(1)))?;
    Some(Place { path: path.clone(), offset: rng.random_range(0..used(bytes)) })
}

/// Where the newest journal segment is torn off. Segments are filled from the front.
pub fn choose_tear(segments: &[(PathBuf, Vec<u8>)], rng: &mut StdRng) -> Option<Place> {
    let is_segment = |path: &Path| path.extension().is_some_and(|e| e == SEGMENT);
    let mut filled: Vec<_> = segments.iter().filter(|(path, bytes)| is_segment(path) && used(bytes) > 0).collect();
    filled.sort_by_key(|(path, _)| path.clone());
    let (path, bytes) = filled.last()?;
    let used = used(bytes);
    Some(Place { path: path.clone(), offset: used - rng.random_range(1..=used.min(TEAR_MAX)) })
}

/// Every file under a folder, with its bytes.
fn files(dir: &Path) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push((path.clone(), std::fs::read(&path)?)),
        }
    }
    Ok(found)
}

fn flip(place: &Place, rng: &mut StdRng) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(&place.path)?;
    let (mut byte, bit) = ([0], 1 << rng.random_range(0..8));
    file.read_exact_at(&mut byte, place.offset)?;
    file.write_all_at(&[byte[0] ^ bit], place.offset)?;
    Ok(file.sync_all()?)
}

impl World<'_> {
    /// A fault of one node's disk; `kind` says which.
    pub(super) async fn disk(&self, kind: Kind, rng: &mut StdRng) -> anyhow::Result<()> {
        self.mend().await?;
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        self.excuse(node);
        let done = match kind {
            Kind::DiskFull => self.fill(node, rng).await,
            Kind::DiskError => self.inject(kind, node, &ERRORS[rng.random_range(0..ERRORS.len())], rng).await,
            Kind::DiskNoSpace => self.inject(kind, node, &NO_SPACE[rng.random_range(0..NO_SPACE.len())], rng).await,
            Kind::DiskSlow => self.inject(kind, node, &SLOW[rng.random_range(0..SLOW.len())], rng).await,
            Kind::DiskLie => self.lie(node, rng).await,
            Kind::DiskDead => self.die(node, rng).await,
            Kind::DiskReadOnly => self.read_only(node, rng).await,
            _ => self.damage(kind, node, rng).await,
        };
        if let Some(what) = done? {
            self.took_effect(kind, &format!("{words}: {what}"));
        }
        let replaced = self.bring_back(node).await?;
        self.tell(&format!("heal-{}", kind.name()), &format!("n{node}"));
        self.excuse_ends(node, kind == Kind::BitFlip, replaced);
        self.give(taken);
        Ok(())
    }

    /// Something else fills the disk within a moment, and goes away later.
    async fn fill(&self, node: u32, rng: &mut StdRng) -> anyhow::Result<Option<String>> {
        let Some(disk) = self.cluster.disk(node) else { return Ok(None) };
        let filler = disk.path().join("filler");
        let left = rng.random_range(LEFT);
        disk.fill(&filler, left)?;
        self.tell("disk-full", &format!("n{node}: {left} bytes left"));
        let end = rng.random_range(HOLD);
        // The node says so itself, or has stopped over it.
        let mut said = self.says_low_space(node).await;
        self.nap(end).await;
        said = said || self.says_low_space(node).await || !self.cluster.runs(node);
        std::fs::remove_file(&filler)?;
        // Else a power-off before the file system's own sync brings it back, and nothing takes it away again.
        std::fs::File::open(disk.path())?.sync_all()?;
        Ok(said.then(|| format!("{left} bytes were left")))
    }

    async fn says_low_space(&self, node: u32) -> bool {
        let own = self.cluster.status(node).await;
        own.is_some_and(|s| s.nodes.iter().any(|n| n.name == s.answered_by && n.low_space))
    }

    /// System calls of the running node fail, or take long.
    async fn inject(
        &self,
        kind: Kind,
        node: u32,
        injection: &Injection,
        rng: &mut StdRng,
    ) -> anyhow::Result<Option<String>> {
        let Some(trace) = self.trace(node, injection)? else { return Ok(None) };
        self.tell(kind.name(), &format!("n{node}: {} {}", injection.calls, injection.what));
        self.nap(rng.random_range(HOLD)).await;
        let count = trace.count();
        drop(trace);
        Ok((count > 0).then(|| format!("{} {}, {count} times", injection.calls, injection.what)))
    }

    /// Attaches to a node that runs, unless another fault has.
    fn trace(&self, node: u32, injection: &Injection) -> anyhow::Result<Option<Trace>> {
        let Some(pid) = self.cluster.pid(node).filter(|pid| !is_traced(*pid)) else { return Ok(None) };
        match Trace::attach(pid, injection, &self.cluster.node_dir(node).join("strace")) {
            Ok(trace) => Ok(Some(trace)),
            // It may have been ended by the first call that failed, or by another fault.
            Err(_) if !self.cluster.runs(node) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Syncs do nothing for a while; then the power goes.
    async fn lie(&self, node: u32, rng: &mut StdRng) -> anyhow::Result<Option<String>> {
        // Before it begins: what is acknowledged from now on may be forgotten.
        self.tell("disk-lie", &format!("n{node}"));
        let Some(trace) = self.trace(node, &LIE)? else { return Ok(None) };
        self.nap(rng.random_range(HOLD)).await;
        let killed = self.cluster.kill(node).is_ok();
        let count = trace.count();
        drop(trace);
        if !killed {
            return Ok(None);
        }
        self.cluster.forget_unsynced(node)?;
        Ok((count > 0).then(|| format!("{count} syncs did nothing, then the power went")))
    }

    /// From one moment to the next every access fails; the disk works again after a reset.
    async fn die(&self, node: u32, rng: &mut StdRng) -> anyhow::Result<Option<String>> {
        let Some(disk) = self.cluster.disk(node) else { return Ok(None) };
        disk.shut_down()?;
        self.tell("disk-dead", &format!("n{node}"));
        let dead = std::fs::write(disk.path().join("probe"), "x").is_err();
        self.nap(rng.random_range(HOLD)).await;
        let _ = self.cluster.kill(node);
        self.cluster.forget_unsynced(node)?;
        Ok(dead.then(|| "every access failed".to_owned()))
    }

    /// The node finds its disk read-only when it is started.
    async fn read_only(&self, node: u32, rng: &mut StdRng) -> anyhow::Result<Option<String>> {
        let Some(disk) = self.cluster.disk(node) else { return Ok(None) };
        if self.cluster.kill(node).is_err() {
            return Ok(None);
        }
        disk.set_read_only(true)?;
        self.tell("disk-read-only", &format!("n{node}"));
        let refused = std::fs::write(disk.path().join("probe"), "x").is_err();
        self.cluster.start_node(node)?;
        self.nap(rng.random_range(HOLD)).await;
        let _ = self.cluster.kill(node);
        disk.set_read_only(false)?;
        Ok(refused.then(|| "the node was started on it".to_owned()))
    }

    /// While the node is down, its files change.
    async fn damage(&self, kind: Kind, node: u32, rng: &mut StdRng) -> anyhow::Result<Option<String>> {
        if self.cluster.kill(node).is_err() {
            return Ok(None);
        }
        let data = self.cluster.data_dir(node);
        let place = match kind {
            Kind::TornTail => choose_tear(&files(&data.join("journal"))?, rng),
            _ => choose_byte(&files(&data)?, rng),
        };
        let Some(place) = place else { return Ok(None) };
        let name = place.path.strip_prefix(&data).unwrap_or(&place.path).display().to_string();
        let before = std::fs::read(&place.path)?;
        match kind {
            Kind::TornTail => std::fs::File::options().write(true).open(&place.path)?.set_len(place.offset)?,
            _ => flip(&place, rng)?,
        }
        let words = format!("{name}, byte {} of {} in use", place.offset, used(&before));
        self.tell(kind.name(), &format!("n{node}: {words}"));
        Ok((std::fs::read(&place.path)? != before).then_some(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::stream;

    fn file(name: &str, bytes: &[u8]) -> (PathBuf, Vec<u8>) {
        (PathBuf::from(name), bytes.to_vec())
    }

    #[test]
    fn any_byte_in_use_of_any_file_is_met_and_no_other() {
        let files = [file("a", &[1, 0, 2, 0, 0]), file("empty", &[]), file("zeros", &[0; 8]), file("b", &[7])];
        let mut rng = stream(1, "flip", 0);
        let met: std::collections::BTreeSet<_> =
            (0..200).filter_map(|_| choose_byte(&files, &mut rng)).map(|p| (p.path, p.offset)).collect();
        let wanted = [("a", 0), ("a", 1), ("a", 2), ("b", 0)].map(|(f, at)| (PathBuf::from(f), at));
        assert_eq!(met, wanted.into());
        assert_eq!(choose_byte(&files[1..3], &mut rng), None);
    }

    #[test]
    fn the_newest_segment_is_torn_within_what_is_written() {
        let name = |n: u32| format!("j/{n}.{SEGMENT}");
        let segments = [
            file(&name(2), &[5; 100]),
            file(&name(3), &[0; 100]),
            file(&name(1), &[5; 100]),
            file("j/mark", &[5; 100]),
        ];
        let mut rng = stream(1, "tear", 0);
        for _ in 0..100 {
            let place = choose_tear(&segments, &mut rng).unwrap();
            assert_eq!(place.path, PathBuf::from(name(2)));
            assert!(place.offset < 100);
        }
    }

    #[test]
    fn a_flip_changes_one_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [9; 16]).unwrap();
        flip(&Place { path: path.clone(), offset: 5 }, &mut stream(1, "flip", 1)).unwrap();
        let after = std::fs::read(&path).unwrap();
        assert_eq!(after.iter().enumerate().filter(|(_, b)| **b != 9).map(|(i, _)| i).collect::<Vec<_>>(), [5]);
    }
}
