//! When nodes learned who leads, from what they log about it: tells detection, election and the rest of an outage
//! apart, and finds elections that nobody caused.

use std::path::{Path, PathBuf};

use quorate_replica::status::LEADER_EVENT;
use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::command::failure::{CommandResult, Failure};
use crate::command::files;

/// One node's word that it knows of another leader than before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    at: OffsetDateTime,
    /// `None`: it knows of none, since a vote is on.
    leader: Option<u64>,
}

/// A line of a node's log, as far as it matters here.
#[derive(Deserialize)]
struct Line<'a> {
    timestamp: &'a str,
    target: &'a str,
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    leader: Option<u64>,
}

/// The changes in a piece of a node's log, one JSON object a line; all other lines are left out.
pub fn changes(log: &str) -> Vec<Change> {
    log.lines().filter_map(change).collect()
}

fn change(line: &str) -> Option<Change> {
    let Line { timestamp, target, fields } = serde_json::from_str(line).ok()?;
    let at = OffsetDateTime::parse(timestamp, &Rfc3339).ok()?;
    (target == LEADER_EVENT).then_some(Change { at, leader: fields.leader })
}

/// Elections in these logs of one stretch of time: every node that takes part learns of each leader once.
pub fn elections(logs: &[Vec<Change>]) -> usize {
    logs.iter().map(|log| log.iter().filter(|c| c.leader.is_some()).count()).max().unwrap_or(0)
}

/// The parts of an outage before the cluster had a leader again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Parts {
    /// From the kill until the first survivor asked for votes.
    pub detection: std::time::Duration,
    /// From then until one of them led.
    pub election: std::time::Duration,
}

/// What the survivors' logs since the kill of node `dead` say. `None` when they do not tell.
pub fn parts(killed: OffsetDateTime, dead: u64, survivors: &[Vec<Change>]) -> Option<Parts> {
    let all = || survivors.iter().flatten();
    // A node that learns of the next leader without ever having seen the vote tells as much.
    let noticed = all().filter(|c| c.leader != Some(dead)).map(|c| c.at).min()?;
    let led = all().filter(|c| c.leader.is_some_and(|id| id != dead)).map(|c| c.at).min()?;
    let span = |span: Duration| span.max(Duration::ZERO).unsigned_abs();
    Some(Parts { detection: span(noticed - killed), election: span(led - noticed) })
}

/// The nodes' logs, read as they grow.
pub struct Logs(Vec<(PathBuf, u64)>);

impl Logs {
    /// From their present ends on. Fails when the nodes do not log who leads.
    pub fn open<'a>(paths: impl Iterator<Item = &'a Path>) -> CommandResult<Self> {
        let mut logs = Self(paths.map(|p| (p.to_owned(), 0)).collect());
        if elections(&logs.news()?) == 0 {
            let todo = "unset QUORATE_LOG, or set it to info: elections are counted in the nodes' logs";
            return Err(Failure::failed("can't count elections", "the nodes do not log who leads", todo));
        }
        Ok(logs)
    }

    /// What was added since the last call, by node.
    pub fn news(&mut self) -> CommandResult<Vec<Vec<Change>>> {
        let read = self.0.iter_mut().map(|(path, from)| {
            let text = files::read_from(path, *from, "a node's log")?;
            // A line that is just being written is left for the next time.
            let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1);
            *from += whole as u64;
            Ok(changes(&String::from_utf8_lossy(&text[..whole])))
        });
        read.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use quorate_core::id::NodeId;
    use quorate_replica::status::log_leader;

    use super::*;

    fn at(ms: u64, leader: Option<u64>) -> Change {
        Change { at: OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(ms as i64), leader }
    }

    /// What nodes log, as they log it: through the subscriber of `quorate server`, in the form that the bench asks for.
    fn logged(events: impl FnOnce()) -> String {
        let buffer = Arc::new(Mutex::new(Vec::new()));
        let writer = buffer.clone();
        let subscriber =
            tracing_subscriber::fmt().json().with_ansi(false).with_writer(move || Shared(writer.clone())).finish();
        tracing::subscriber::with_default(subscriber, events);
        let bytes = std::mem::take(&mut *buffer.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_node_logs_of_its_leader_is_found_among_other_lines() {
        let log = logged(|| {
            log_leader(NodeId(5), None, "gone");
            tracing::info!(node = 5, leader = 9, "leader changed, says somebody else");
            log_leader(NodeId(5), Some(NodeId(4)), "n4 leads");
            log_leader(NodeId(5), Some(NodeId(u64::MAX)), "leads");
        });
        let text = "2026-11-24T08:48:15.184983Z  INFO quorate_replica::leader: leader changed node=5 leader=7";
        let found = changes(&format!("{text}\n{log}{}", &log[..log.len() / 8]));
        assert_eq!(found.iter().map(|c| c.leader).collect::<Vec<_>>(), [None, Some(4), Some(u64::MAX)], "{log}");
        assert!(found.is_sorted_by_key(|c| c.at) && found[0].at > OffsetDateTime::UNIX_EPOCH);
        assert_eq!(elections(&[found, vec![]]), 2);
    }

    #[test]
    fn an_outage_has_parts() {
        let killed = at(1000, None).at;
        let logs =
            [vec![at(1321, None), at(1330, Some(2))], vec![at(1325, None), at(1333, Some(2)), at(1333, Some(2))]];
        let ms = std::time::Duration::from_millis;
        assert_eq!(parts(killed, 1, &logs), Some(Parts { detection: ms(321), election: ms(9) }));
        assert_eq!(parts(killed, 1, &[vec![at(1330, Some(2))]]), Some(Parts { detection: ms(330), election: ms(0) }));
        assert_eq!(parts(killed, 1, &[vec![at(1321, None)], vec![]]), None, "nobody led");
        assert_eq!(parts(killed, 1, &[vec![at(1001, Some(1))]]), None, "late news of the dead one");
    }

    #[test]
    fn logs_are_read_line_by_line_as_they_grow() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let write = |text: &str| files::replace(&path, 0o600, text.as_bytes()).unwrap();
        write("nothing\n");
        assert!(Logs::open([path.as_path()].into_iter()).is_err());
        let first = logged(|| log_leader(NodeId(5), Some(NodeId(1)), "n1 leads"));
        write(&first);
        let mut logs = Logs::open([path.as_path()].into_iter()).unwrap();
        assert_eq!(logs.news().unwrap(), [vec![]]);
        let second = logged(|| log_leader(NodeId(5), None, "gone"));
        write(&format!("{first}{}", &second[..20]));
        assert_eq!(logs.news().unwrap(), [vec![]]);
        write(&format!("{first}{second}"));
        assert_eq!(logs.news().unwrap()[0].len(), 1);
    }
}
