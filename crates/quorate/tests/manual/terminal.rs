//! A person at a terminal: types a command, reads what stands on the screen, answers what is asked.

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use crate::support::{PATIENCE, Process};

/// Runs a command on a terminal of its own (`command` ends in the words of script(1) that say which); whenever one of the
/// questions stands there, its answer is typed. How it ended, and everything that stood on the screen.
pub fn type_in(mut command: Command, answers: &[(&str, &str)]) -> (ExitStatus, String) {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = Process(spawned.expect("THIS TEST NEEDS script (package bsdutils)"));
    let mut keyboard = child.0.stdin.take().expect("piped");
    let mut screen = child.0.stdout.take().expect("piped");
    let (shows, shown) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = screen.read(&mut bytes) {
            let _ = shows.send(bytes[..len].to_vec());
        }
    });
    let (mut seen, mut answered, end) = (Vec::new(), 0, Instant::now() + PATIENCE);
    loop {
        match shown.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(bytes) => seen.extend(bytes),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing more after:\n{}", String::from_utf8_lossy(&seen)),
        }
        while let Some((at, answer)) = next_question(&seen[answered..], answers) {
            answered += at;
            writeln!(keyboard, "{answer}").expect("typed");
        }
    }
    let status = child.0.wait().expect("ours");
    (status, String::from_utf8_lossy(&seen).replace('\r', ""))
}

/// Where the first question ends, and its answer.
fn next_question<'a>(screen: &[u8], answers: &[(&str, &'a str)]) -> Option<(usize, &'a str)> {
    let found = answers.iter().filter_map(|(question, answer)| {
        Some((memchr::memmem::find(screen, question.as_bytes())? + question.len(), *answer))
    });
    found.min()
}
