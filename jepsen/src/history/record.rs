//! Writes a history while it happens: each event gets its time and its place under one lock, and goes to the file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::{Call, Event, History, Outcome, What, line};

/// An invocation that waits for its end.
#[must_use]
#[derive(Debug)]
pub struct Ticket {
    process: u64,
    node: u32,
    key: Option<String>,
    last: bool,
    call: Call,
}

/// The one clock and the one order of a run.
pub struct Recorder {
    inner: Mutex<Inner>,
    start: Instant,
    began_ms: u64,
}

struct Inner {
    file: BufWriter<File>,
    failed: Option<std::io::Error>,
    events: Vec<Event>,
    last_time: u64,
}

impl Recorder {
    /// Begins a history in a new file.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create_new(path).with_context(|| format!("can't make {}", path.display()))?;
        let inner = Inner { file: BufWriter::new(file), failed: None, events: Vec::new(), last_time: 0 };
        let began_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        Ok(Self { inner: Mutex::new(inner), start: Instant::now(), began_ms })
    }

    /// Before anything is sent.
    pub fn invoke(&self, process: u64, node: u32, key: Option<&str>, last: bool, call: Call) -> Ticket {
        let ticket = Ticket { process, node, key: key.map(str::to_owned), last, call };
        self.push(&ticket, None);
        ticket
    }

    /// After the answer was received. `key` is the id of a key that the call made.
    pub fn end(&self, mut ticket: Ticket, key: Option<&str>, outcome: Outcome) {
        ticket.key = key.map(str::to_owned).or(ticket.key);
        self.push(&ticket, Some(outcome));
    }

    /// What the nemesis did.
    pub fn nemesis(&self, f: &str, value: impl Into<String>) {
        self.add(What::Nemesis { f: f.to_owned(), value: value.into() });
    }

    /// The time of day at the start, ms since 1970.
    pub fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// Seconds since the start.
    pub fn elapsed(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// The history so far.
    ///
    /// # Errors
    /// When the file could not be written: then the stored history is not the one that was judged.
    pub fn history(&self) -> anyhow::Result<History> {
        let mut inner = self.lock();
        if let Some(e) = inner.failed.take() {
            return Err(e).context("the history could not be written");
        }
        inner.file.flush().context("the history could not be written")?;
        Ok(History { events: inner.events.clone() })
    }

    fn push(&self, ticket: &Ticket, outcome: Option<Outcome>) {
        let Ticket { process, node, key, last, call } = ticket;
        self.add(What::Client {
            process: *process,
            node: *node,
            key: key.clone(),
            last: *last,
            call: call.clone(),
            outcome,
        });
    }

    fn add(&self, what: What) {
        let mut inner = self.lock();
        // Strictly rising, so that the order of lines and the order of times never disagree.
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX - 1).max(inner.last_time + 1);
        inner.last_time = now;
        let event = Event { index: inner.events.len() as u64, time: now, what };
        if let Err(e) = writeln!(inner.file, "{}", line(&event)) {
            inner.failed.get_or_insert(e);
        }
        inner.events.push(event);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Answer, from_text};

    #[test]
    fn what_is_recorded_is_what_is_read_back_and_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.edn");
        let recorder = Recorder::create(&path).unwrap();
        let create = recorder.invoke(0, 1, None, false, Call::create(5));
        let open = recorder.invoke(1, 2, Some("k"), true, Call::Rotate);
        recorder.nemesis("kill", "n1");
        let answer = Answer::Key { state: crate::history::State::Enabled, version: 1 };
        recorder.end(create, Some("k"), Outcome::Ok(answer));
        let history = recorder.history().unwrap();
        assert_eq!(from_text(&std::fs::read_to_string(&path).unwrap()).unwrap(), history);
        let ops = history.ops().unwrap();
        assert_eq!(ops.len(), 2);
        assert_eq!(ops[0].key.as_deref(), Some("k"), "the key a create made is known at its end");
        assert!(ops[0].invoked < ops[1].invoked && ops[1].invoked < ops[0].ended);
        assert!(ops[1].last && ops[1].ended == u64::MAX && ops[1].may_have_happened(), "a call that never ended");
        assert_eq!(history.nemesis().map(|(_, f, v)| (f, v)).collect::<Vec<_>>(), [("kill", "n1")]);
        drop(open);
        assert!(Recorder::create(&path).is_err(), "a history is never overwritten");
    }

    #[test]
    fn a_history_that_no_harness_writes_is_refused() {
        let client =
            |outcome| What::Client { process: 0, node: 1, key: None, last: false, call: Call::Rotate, outcome };
        let event = |index, time, what| Event { index, time, what };
        for (events, complaint) in [
            (vec![event(0, 1, client(None)), event(1, 2, client(None))], "two calls open"),
            (vec![event(0, 1, client(Some(Outcome::Fail("x".into()))))], "never began"),
            (vec![event(0, 1, client(None)), event(1, 1, client(Some(Outcome::Fail("x".into()))))], "time runs back"),
        ] {
            let error = History { events }.ops().unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
