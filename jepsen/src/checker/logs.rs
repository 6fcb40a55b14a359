//! Lines of a node's log that no sound node writes, whatever its network and its neighbours do.

use std::ops::Range;

/// Words that mean a fault of quorate itself.
const FAULTS: [&str; 5] =
    ["panicked at", "assertion failed", "internal fault", "a forged batch", "memory allocation of"];
/// Words by which a node stops: a fault as well, unless its disk or its token was broken on purpose just then.
const HALTS: [&str; 4] = [
    "damaged: this node no longer serves",
    "this node stops serving",
    "does not match its digest",
    "This process ends now",
];
/// Words by which a process says why it ends: the command's own, and the journal's.
const ENDS: [&str; 2] = ["error: ", "quorate: the journal's disk failed"];
/// Words by which a node says that what it had acknowledged is not there, whatever led to it.
const LOST: &str = quorate_core::REPLACE_MEMBER;

/// The faulty lines of one log. Within the `excused` parts of it, in bytes, a node may stop.
pub fn faults(node: &str, log: &str, excused: &[Range<u64>]) -> Vec<String> {
    let mut at = 0;
    let mut faulty = vec![];
    for line in log.split_inclusive('\n') {
        let may_stop = excused.iter().any(|part| part.contains(&at));
        at += line.len() as u64;
        let has = |words: &[&str]| words.iter().any(|w| line.contains(w));
        // A node that stops says so as an error; a warning tells what another one answered.
        let stops = has(&HALTS) && !line.contains(" WARN ");
        if has(&FAULTS) || stops && !may_stop {
            faulty.push(format!("{node}: {}", line.trim_end()));
        }
    }
    faulty
}

/// Whether the end of a log says why the process ended, and it did not break.
pub fn names_its_end(tail: &str) -> bool {
    let names = tail.lines().any(|line| ENDS.iter().any(|words| line.starts_with(words)));
    names && !FAULTS.iter().any(|words| tail.contains(words))
}

/// Whether a node has said that it lost what it had acknowledged, and is to be replaced.
pub fn lost_data(log: &str) -> bool {
    log.contains(LOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_and_trouble_with_others_is_not() {
        let log = "INFO leader changed\nthread 'raft' panicked at src/x.rs:1:2:\nWARN no read index\n";
        assert_eq!(faults("n2", log, &[]), ["n2: thread 'raft' panicked at src/x.rs:1:2:"]);
        assert!(faults("n1", "WARN quorate: a TLS peer was refused\nERROR an error elsewhere\n", &[]).is_empty());
    }

    #[test]
    fn a_node_may_stop_only_while_it_is_broken_and_never_break() {
        let stop = "ERROR this node stops serving problem=x\n";
        let log = format!("INFO started\n{stop}INFO started\n{stop}thread 'raft' panicked at src/x.rs:1:2:\n");
        let first = 13..13 + stop.len() as u64;
        assert_eq!(faults("n1", &log, &[]).len(), 3);
        assert_eq!(faults("n1", &log, std::slice::from_ref(&first)).len(), 2);
        let all = 0..log.len() as u64;
        assert_eq!(faults("n1", &log, std::slice::from_ref(&all)), ["n1: thread 'raft' panicked at src/x.rs:1:2:"]);
    }

    #[test]
    fn what_another_node_answered_is_no_fault_of_this_one() {
        let log = "2026-01-01T00:00:00Z  WARN root key not handed over to=9 why=the state does not match its digest\n";
        assert!(faults("n1", log, &[]).is_empty());
    }

    #[test]
    fn a_process_that_ends_says_why() {
        assert!(names_its_end("n1 ended by itself; its log ends:\nerror: can't start the node\n  why: the disk\n"));
        assert!(names_its_end("quorate: the journal's disk failed: EIO. This process ends now. Check the disk\n"));
        assert!(!names_its_end("n1 ended by itself; its log ends:\nINFO leader changed\n"));
        assert!(!names_its_end("thread 'raft' panicked at src/x.rs:1:2:\nerror: can't go on\n"));
        assert!(
            lost_data(&format!("why: … is not what was written there); {}", quorate_core::REPLACE_MEMBER))
                && !lost_data("error: the disk is full")
        );
    }
}
