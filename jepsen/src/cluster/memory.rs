//! Searches the memory of a process, as root with a debugger would (promise P3 after a seal).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::Context;

use crate::checker::secrets::Canaries;

/// Read at once; a multiple of the page.
const PIECE_LEN: usize = 1 << 20;
const PAGE_LEN: usize = 4096;

/// What was read of a process, and what was found.
#[derive(Debug, Default)]
pub struct Searched {
    /// What was found, where.
    pub found: Vec<String>,
    /// Bytes read.
    pub read: u64,
}

/// Searches everything that process `pid` has written: every mapping but the unchanged pages of files. Pages that even root
/// can't read (`memfd_secret`) are passed over.
///
/// # Errors
/// The process has ended, or this one may not read it.
pub fn search(pid: u32, canaries: &Canaries) -> anyhow::Result<Searched> {
    let memory = File::open(format!("/proc/{pid}/mem")).with_context(|| format!("the memory of process {pid}"))?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut searched = Searched::default();
    for (range, name) in maps.lines().filter_map(mapping) {
        let mut at = range.start;
        let mut buffer = vec![0; PIECE_LEN + canaries.longest()];
        // The end of the piece before, for what lies across the border.
        let mut kept = 0;
        while at < range.end {
            let want = PIECE_LEN.min(range.end - at);
            match memory.read_at(&mut buffer[kept..kept + want], at as u64) {
                Ok(got) if got > 0 => {
                    let len = kept + got;
                    searched.read += got as u64;
                    // Most of what a process has room for was never used.
                    if buffer[kept..len].iter().any(|b| *b != 0) {
                        let hits = canaries.find(&buffer[..len]);
                        searched.found.extend(hits.iter().map(|hit| format!("{hit} from {:#x} in {name}", at - kept)));
                    }
                    let keep = canaries.longest().min(len);
                    buffer.copy_within(len - keep..len, 0);
                    (kept, at) = (keep, at + got);
                }
                _ => (kept, at) = (0, at + PAGE_LEN),
            }
        }
    }
    Ok(searched)
}

/// The addresses and the name of a line of `/proc/PID/maps`, if it is to be searched.
fn mapping(line: &str) -> Option<(Range<usize>, &str)> {
    let mut words = line.split_whitespace();
    let (range, access) = (words.next()?, words.next()?);
    let name = words.nth(3).unwrap_or("anonymous memory");
    let changed = access.contains('w') || !name.starts_with('/');
    let (start, end) = range.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    (access.starts_with('r') && changed).then_some(address(start)?..address(end)?).map(|range| (range, name))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_secret_in_a_process_is_found_and_another_is_not() {
        let secret = "a secret of the child, 7f3a9c";
        let mut child =
            Command::new("sleep").arg("600").env("SECRET", secret).stdin(Stdio::null()).spawn().expect("it starts");
        let known = [("the secret", secret.as_bytes()), ("another", b"something else, 51bd20".as_slice())];
        let canaries = Canaries::new(known).unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        // The environment is there once the program has been loaded.
        let searched = loop {
            let searched = search(child.id(), &canaries).unwrap();
            if !searched.found.is_empty() || std::time::Instant::now() > end {
                break searched;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(searched.found.iter().all(|hit| hit.starts_with("the secret as it is")), "{:?}", searched.found);
        assert!(searched.found.iter().any(|hit| hit.ends_with("[stack]")), "{:?}", searched.found);
        assert!(search(child.id(), &canaries).is_err(), "it has ended");
    }

    #[test]
    fn unchanged_files_and_unreadable_memory_are_passed_over() {
        let line = "55d0-55e0 r--p 00000000 fe:00 123    /usr/bin/quorate";
        assert_eq!(mapping(line), None);
        assert_eq!(mapping(&line.replace("r--p", "rw-p")), Some((0x55d0..0x55e0, "/usr/bin/quorate")));
        assert_eq!(mapping("10-20 rw-p 0 00:00 0"), Some((0x10..0x20, "anonymous memory")));
        assert_eq!(mapping("10-20 ---p 0 00:00 0"), None);
    }
}
