//! What is typed and must not be seen: read without showing it, and nothing that is left over goes to the shell.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Whether this process has read a secret from the terminal.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Standard input without the library's buffer, which would keep what was read for as long as the process lives.
pub fn stdin() -> io::Result<File> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// The terminal while it shows nothing that is typed. Dropped, it shows it again, and what was typed too much is gone.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn begin() -> io::Result<Self> {
        let terminal = stdin()?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        ASKED.store(true, Ordering::Relaxed);
        tcsetattr(&terminal, OptionalActions::Now, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcflush(&self.terminal, QueueSelector::IFlush);
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// At the process's end, after a secret was asked for: what else was typed or pasted meanwhile, perhaps the rest of it, is
/// thrown away before the shell reads it as a command, and keeps it in its history.
pub fn forget_what_was_typed() {
    if ASKED.load(Ordering::Relaxed) && io::stdin().is_terminal() {
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
    }
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Too long.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// No text.
    #[error("it is not text")]
    NotText,
}

/// Reads a secret that may go over several lines: from the terminal without showing it, else from standard input; to the line
/// after which it is `whole`, an empty line, or the end. What follows stays for the next reader, unless it was typed.
pub fn read_secret(prompt: &str, max: usize, whole: impl Fn(&str) -> bool) -> Result<Zeroizing<String>, ReadError> {
    let on_terminal = io::stdin().is_terminal();
    let _hidden = if on_terminal {
        eprint!("{prompt}");
        Some(Hidden::begin()?)
    } else {
        None
    };
    read_lines(stdin()?, max, whole, |so_far| {
        if on_terminal {
            eprintln!("{so_far} characters so far; go on, or end it with an empty line.");
        }
    })
}

fn read_lines(
    mut from: impl Read,
    max: usize,
    whole: impl Fn(&str) -> bool,
    unfinished: impl Fn(usize),
) -> Result<Zeroizing<String>, ReadError> {
    // With room for all of it: what grows leaves copies behind. Byte by byte, so that what follows is not taken.
    let mut text = Zeroizing::new(String::with_capacity(max + 1));
    loop {
        let mut line = Zeroizing::new(Vec::with_capacity(max + 1));
        let mut byte = [0];
        let ended = loop {
            match from.read(&mut byte) {
                Ok(0) => break true,
                Ok(_) if byte[0] == b'\n' => break false,
                Ok(_) if text.len() + line.len() >= max => return Err(ReadError::TooLong(max)),
                Ok(_) => line.push(byte[0]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        };
        let line = std::str::from_utf8(&line).map_err(|_| ReadError::NotText)?;
        text.push_str(line);
        if ended || line.trim().is_empty() || whole(&text) {
            return Ok(text);
        }
        text.push('\n');
        unfinished(text.chars().filter(|c| !c.is_whitespace()).count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], max: usize) -> (Result<String, String>, Vec<u8>) {
        let mut rest = input;
        let text = read_lines(&mut rest, max, |text| text.len() >= 6, |_| {});
        (text.map(|t| t.to_string()).map_err(|e| e.to_string()), rest.to_vec())
    }

    #[test]
    fn a_secret_goes_to_the_line_that_makes_it_whole_and_no_further() {
        assert_eq!(read(b"abc\ndef\nnext\n", 20), (Ok("abc\ndef".into()), b"next\n".to_vec()));
        assert_eq!(read(b"abcdef", 20), (Ok("abcdef".into()), vec![]));
        assert_eq!(read(b"ab\n\nnext", 20), (Ok("ab\n".into()), b"next".to_vec()), "given up");
        assert_eq!(read(b"", 20), (Ok(String::new()), vec![]));
        assert_eq!(read(b"abc\ndefgh\n", 7).0, Err("it is longer than 7 bytes".into()));
        assert_eq!(read(&[0xff, b'\n'], 6).0, Err("it is not text".into()));
    }
}
