//! Looks for secrets in the memory of a process, as root with a debugger would.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test file uses a part; tests read files of the kernel")]

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use memchr::memmem::Finder;

/// Read at once; a multiple of the page.
const PIECE_LEN: usize = 1 << 20;
const PAGE_LEN: usize = 4096;

/// A secret, and every form in which it is looked for.
pub struct Needle {
    what: String,
    finders: Vec<Finder<'static>>,
}

impl Needle {
    /// Raw, hexadecimal and base64. Of the raw bytes each half counts: what is left may have been overwritten in part.
    pub fn new(what: impl Into<String>, secret: &[u8]) -> Self {
        assert!(secret.len() >= 16, "too short to be told from chance");
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, secret);
        let upper = hex.to_uppercase();
        let (head, tail) = secret.split_at(secret.len() / 2);
        let forms = [head, tail, hex.as_bytes(), upper.as_bytes(), base64.as_bytes()];
        Self { what: what.into(), finders: forms.iter().map(|f| Finder::new(f).into_owned()).collect() }
    }

    /// Whether it is in there.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.finders.iter().any(|finder| finder.find(bytes).is_some())
    }

    /// The files below a folder in which it is.
    pub fn below(&self, dir: &std::path::Path) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => found.extend(self.below(&entry.path())),
                // One that has gone meanwhile holds nothing.
                Ok(kind) if kind.is_file() && std::fs::read(entry.path()).is_ok_and(|bytes| self.is_in(&bytes)) => {
                    found.push(entry.path());
                }
                _ => {}
            }
        }
        found
    }
}

/// Where a secret was found.
pub struct Hit {
    pub what: String,
    pub address: usize,
    pub mapping: String,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x} in {}", self.what, self.address, self.mapping)
    }
}

/// What was read of a process, and what was found.
#[derive(Default)]
pub struct Scan {
    pub hits: Vec<Hit>,
    /// Bytes read.
    pub read: usize,
    /// Mappings, by name and length, of which some page can't be read even by root.
    pub out_of_reach: Vec<(String, usize)>,
}

impl Scan {
    /// The names of what was found, each once.
    pub fn found(&self) -> Vec<&str> {
        let mut found: Vec<_> = self.hits.iter().map(|h| h.what.as_str()).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Bytes of `memfd_secret` mappings.
    pub fn secretmem(&self) -> usize {
        self.out_of_reach.iter().filter(|(name, _)| name.contains("secretmem")).map(|(_, len)| len).sum()
    }
}

/// Whether this test may read the memory of others: root may.
pub fn may_read(pid: u32) -> bool {
    File::open(format!("/proc/{pid}/mem")).is_ok()
}

/// Searches everything that process `pid` has written: every mapping but the unchanged pages of files.
///
/// # Errors
/// The process has ended, or this one may not read it.
pub fn scan(pid: u32, needles: &[Needle]) -> std::io::Result<Scan> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let overlap = needles.iter().flat_map(|n| &n.finders).map(|f| f.needle().len()).max().unwrap_or(1) - 1;
    let mut scan = Scan::default();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, access) = (words.next().expect("a range"), words.next().expect("access"));
        let name = words.nth(3).unwrap_or("anonymous memory");
        if !access.starts_with('r') || (!access.contains('w') && name.starts_with('/')) {
            continue;
        }
        let (start, end) = range.split_once('-').expect("two addresses");
        let address = |hex| usize::from_str_radix(hex, 16).expect("an address");
        let reached = scan.mapping(&memory, name, address(start)..address(end), overlap, needles);
        if !reached && std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().any(|now| now == line) {
            scan.out_of_reach.push((name.to_owned(), address(end) - address(start)));
        }
    }
    Ok(scan)
}

impl Scan {
    /// Whether all of it could be read: what is being unmapped meanwhile can't.
    fn mapping(
        &mut self,
        memory: &File,
        name: &str,
        range: std::ops::Range<usize>,
        overlap: usize,
        needles: &[Needle],
    ) -> bool {
        let mut reachable = true;
        let mut at = range.start;
        let mut buffer = vec![0; PIECE_LEN + overlap];
        // The end of the piece before, for what lies across the border.
        let mut kept = 0;
        while at < range.end {
            let want = PIECE_LEN.min(range.end - at);
            match memory.read_at(&mut buffer[kept..kept + want], at as u64) {
                Ok(got) if got > 0 => {
                    let len = kept + got;
                    self.search(&buffer[..len], at - kept, name, needles);
                    self.read += got;
                    let keep = overlap.min(len);
                    buffer.copy_within(len - keep..len, 0);
                    (kept, at) = (keep, at + got);
                }
                _ => {
                    reachable = false;
                    (kept, at) = (0, at + PAGE_LEN);
                }
            }
        }
        reachable
    }

    fn search(&mut self, bytes: &[u8], address: usize, name: &str, needles: &[Needle]) {
        static ZERO: [u8; PIECE_LEN] = [0; PIECE_LEN];
        if bytes.chunks(PIECE_LEN).all(|c| *c == ZERO[..c.len()]) {
            return;
        }
        for needle in needles {
            for found in needle.finders.iter().flat_map(|f| f.find_iter(bytes)) {
                self.hits.push(Hit { what: needle.what.clone(), address: address + found, mapping: name.to_owned() });
            }
        }
    }
}
