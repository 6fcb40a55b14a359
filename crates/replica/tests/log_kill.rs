//! Kill −9 at random points: whatever was acknowledged is there again.
//!
//! A child process (this test binary, started again) writes through the production actor on a real disk and prints
//! what it is about to write and what was acknowledged; the parent kills it, opens the log and compares.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::id::{ClusterId, NodeId};
use quorate_journal::disk::RealDisk;
use quorate_journal::testing::{Rng, TestEntropy, seed};
use quorate_journal::{Driver, JournalConfig, JournalIds};
use quorate_replica::log::{Checkpoint, Command, Log, LogConfig, LogEntry, LogReader, LogWriter};

const IDS: JournalIds = JournalIds { cluster: ClusterId([1; 16]), node: NodeId(7), stream: 0 };
const DIR_VARIABLE: &str = "QUORATE_TEST_JOURNAL_DIR";
const KILLS: u64 = 300;

fn config() -> LogConfig {
    let journal = JournalConfig { segment_bytes: 128 << 10, low_space_bytes: 0 };
    LogConfig { journal, ring_bytes: 10_000, ..LogConfig::default() }
}

/// A command in one word of text, from which both sides make the same command.
#[derive(Clone, Debug, PartialEq)]
enum Word {
    Entry(u64, u64),
    Vote(u64),
    Truncate(u64),
    Purge(u64),
}

impl Word {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (kind, mut number) = (parts.next()?, || parts.next()?.parse().ok());
        match kind {
            "e" => Some(Self::Entry(number()?, number()?)),
            "v" => Some(Self::Vote(number()?)),
            "t" => Some(Self::Truncate(number()?)),
            "p" => Some(Self::Purge(number()?)),
            _ => None,
        }
    }
    fn text(&self) -> String {
        match self {
            Self::Entry(index, salt) => format!("e:{index}:{salt}"),
            Self::Vote(n) => format!("v:{n}"),
            Self::Truncate(index) => format!("t:{index}"),
            Self::Purge(index) => format!("p:{index}"),
        }
    }
    fn commands(&self) -> Vec<Command> {
        match self {
            Self::Entry(index, salt) => {
                let mut rng = Rng(*salt);
                let (id, len) = (rng.bytes(20).into(), rng.below(900) as usize);
                vec![Command::Entry(LogEntry { index: *index, id, payload: rng.bytes(len).into() })]
            }
            Self::Vote(n) => vec![Command::Vote(Bytes::copy_from_slice(&n.to_be_bytes()))],
            Self::Truncate(index) => vec![Command::TruncateAfter(Some(*index))],
            Self::Purge(index) => vec![
                Command::Checkpoint(Checkpoint { index: *index, digest: [1; 32], chain: [2; 32] }),
                Command::Purge((*index, Bytes::from_static(b"purged"))),
            ],
        }
    }
}

/// The fold of words.
#[derive(Clone, Default)]
struct Model {
    entries: BTreeMap<u64, u64>,
    next: u64,
    vote: Option<u64>,
    purged: Option<u64>,
}

impl Model {
    fn apply(&mut self, word: &Word) {
        match *word {
            Word::Entry(index, salt) => {
                self.entries.insert(index, salt);
                self.next = index + 1;
            }
            Word::Vote(n) => self.vote = Some(n),
            Word::Truncate(index) => {
                self.entries.split_off(&(index + 1));
                self.next = index + 1;
            }
            Word::Purge(index) => {
                self.entries = self.entries.split_off(&(index + 1));
                self.purged = Some(index);
            }
        }
    }
    fn is(&self, reader: &LogReader) -> bool {
        let entries = reader.entries(0..u64::MAX, usize::MAX).expect("readable");
        let expected = self.entries.iter().map(|(index, salt)| Word::Entry(*index, *salt).commands());
        entries.into_iter().map(|e| vec![Command::Entry(e)]).eq(expected)
            && reader.vote() == self.vote.map(|n| Bytes::copy_from_slice(&n.to_be_bytes()))
            && reader.purged().map(|(index, _)| index) == self.purged
    }
}

/// Not a test of its own: the child that gets killed.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR_VARIABLE) else { return };
    let (log, recovered) =
        Log::open(Path::new(&dir), IDS, config(), Arc::new(RealDisk), Arc::new(TestEntropy::default()))
            .expect("the child opens the log");
    let mut rng = Rng(u64::from(recovered.boot) * 7919);
    let reader = log.reader();
    let writer = LogWriter::spawn(log, &Driver::Process).expect("starts");
    let (mut next, mut purged) = (0, reader.purged().map(|(index, _)| index));
    if let Some((last, _)) = reader.state().expect("readable").last {
        next = last + 1;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("starts");
    runtime.block_on(async {
        loop {
            let oldest = purged.map_or(0, |p| p + 1);
            let word = match rng.below(40) {
                0 => Word::Vote(rng.below(1000)),
                1 if next > oldest + 10 => Word::Truncate(next - 1 - rng.below(5)),
                2 if next > oldest + 400 => Word::Purge(oldest + rng.below(300)),
                _ => Word::Entry(next, rng.next_u64()),
            };
            match word {
                Word::Entry(index, _) => next = index + 1,
                Word::Truncate(index) => next = index + 1,
                Word::Purge(index) => purged = Some(index),
                Word::Vote(_) => {}
            }
            say(&format!("\nwill {}\n", word.text()));
            let last = matches!(word, Word::Vote(_));
            if last {
                writer.append_synced(word.commands()).await.expect("synced");
                say("\nack\n");
            } else {
                let on_synced = Box::new(|result: std::io::Result<()>| {
                    result.expect("synced");
                    say("\nack\n");
                });
                writer.append(word.commands(), on_synced).await.expect("enqueued");
            }
        }
    });
}

/// One write to the pipe: lines of two threads do not mix.
fn say(text: &str) {
    // The parent may be gone: then this process is about to be as well.
    if std::io::stdout().lock().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()).is_err() {
        std::process::exit(1);
    }
}

#[test]
fn acknowledged_records_survive_hundreds_of_kills() {
    let mut rng = Rng(seed(0x5EED));
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("journal");
    let entropy = || Arc::new(TestEntropy::default());
    drop(Log::create(&dir, IDS, config(), Arc::new(RealDisk), entropy()).expect("creates"));
    let (mut model, mut boot, mut acknowledged, mut with_acks) = (Model::default(), 1, 0, 0);
    for kill in 0..KILLS {
        let mut child = Process::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DIR_VARIABLE, &dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdout = child.stdout.take().expect("piped");
        // Read on, or the pipe fills and the child is killed only where it waits for us.
        let (seen, acks) = mpsc::channel();
        let reading = std::thread::spawn(move || {
            let (mut words, mut acked) = (Vec::new(), 0usize);
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line == "ack" {
                    acked += 1;
                    // Nobody listens once the kill was sent.
                    _ = seen.send(acked);
                } else if let Some(word) = line.strip_prefix("will ") {
                    words.extend(Word::parse(word));
                }
            }
            (words, acked)
        });
        let wanted = rng.below(60) as usize;
        while wanted > 0 && acks.recv_timeout(Duration::from_secs(20)).is_ok_and(|acked| acked < wanted) {}
        // Some more, to hit the middle of a write and the preparation of segments.
        std::thread::sleep(Duration::from_micros(rng.below(1500)));
        child.kill().expect("killed");
        let output = child.wait_with_output().expect("ended");
        let (words, acked) = reading.join().expect("read");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "kill {kill}: the child failed by itself: {stderr}");

        let opened = Log::open(&dir, IDS, config(), Arc::new(RealDisk), entropy());
        let (log, recovered) = opened.unwrap_or_else(|e| panic!("kill {kill}: {e}"));
        assert!(recovered.boot > boot, "kill {kill}: boot {} after {boot}", recovered.boot);
        boot = recovered.boot;
        let reader = log.reader();
        words[..acked].iter().for_each(|word| model.apply(word));
        let mut unsure = words[acked..].iter();
        while !model.is(&reader) {
            let word = unsure.next().unwrap_or_else(|| {
                panic!("kill {kill}: after {acked} acknowledged words the log is none of its possible states")
            });
            model.apply(word);
        }
        acknowledged += acked;
        with_acks += u64::from(acked > 0);
        drop(log);
    }
    println!("{KILLS} kills, {acknowledged} acknowledged records, all there");
    assert!(with_acks > KILLS / 2, "only {with_acks} children got as far as an acknowledgement");
}
