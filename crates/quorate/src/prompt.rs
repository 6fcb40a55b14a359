//! What is typed and must not be seen: read without showing it, and nothing that is left over goes to the shell.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr, tcsetattr,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// What is pasted comes in pieces; after a silence this long it is over.
const SILENCE: Duration = Duration::from_millis(200);
/// However long somebody goes on typing, a command ends.
const DRAIN_MAX: Duration = Duration::from_secs(3);

// What a terminal without its own line editing sends.
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: [u8; 2] = [0x08, 0x7f];
const KILL_LINE: u8 = 0x15;

/// Standard input without the library's buffer, which would keep what was read for as long as the process lives.
pub fn stdin() -> io::Result<File> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// The terminal while it shows nothing that is typed, nor ends this process by a key: that would leave it so. Dropped, it is as
/// before, and what was typed or pasted too much, perhaps the rest of a secret, is gone before a shell reads it as a command.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn begin() -> io::Result<Self> {
        let terminal = stdin()?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Now, &quiet)?;
        Ok(Self { terminal, before })
    }

    /// Throws away what comes, until nothing comes any more.
    fn drain(&self) {
        let end = Instant::now() + DRAIN_MAX;
        let silence = rustix::time::Timespec { tv_sec: 0, tv_nsec: SILENCE.as_nanos() as _ };
        loop {
            let _ = tcflush(&self.terminal, QueueSelector::IFlush);
            let typed = poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&silence));
            if !typed.is_ok_and(|n| n > 0) || Instant::now() > end {
                return;
            }
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.drain();
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
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
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Somebody is asked for secrets: on the terminal, which stays quiet as long as this lives, else on standard input.
pub struct Secrets {
    hidden: Option<Hidden>,
}

impl Secrets {
    /// Makes the terminal quiet, if standard input is one.
    pub fn begin() -> io::Result<Self> {
        let hidden = if io::stdin().is_terminal() { Some(Hidden::begin()?) } else { None };
        Ok(Self { hidden })
    }

    /// Reads a secret that may go over several lines: to the line after which nothing is `missing`, two empty lines (or an empty
    /// first one), or the end. What follows stays for the next reader of a pipe; what was typed meanwhile does not. What is missing
    /// after a line is said at once: nothing that is typed is seen.
    pub fn read(
        &self,
        prompt: &str,
        max: usize,
        missing: impl Fn(&str) -> Option<String>,
    ) -> Result<Zeroizing<String>, ReadError> {
        let Some(hidden) = &self.hidden else { return read_lines(stdin()?, false, max, missing, |_| {}) };
        hidden.drain();
        eprint!("{prompt}");
        let typed = read_lines(&hidden.terminal, true, max, missing, |missing| match missing {
            "" => eprintln!(),
            missing => eprint!("\n  {missing}: "),
        });
        eprintln!();
        if matches!(typed, Err(ReadError::Interrupted)) {
            // As the key would have, had the terminal seen to it; what is still being pasted must not come to the shell.
            hidden.drain();
            let _ = tcsetattr(&hidden.terminal, OptionalActions::Now, &hidden.before);
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT);
        }
        typed
    }
}

/// One secret, of one line.
pub fn read_secret(prompt: &str, max: usize) -> Result<Zeroizing<String>, ReadError> {
    Secrets::begin()?.read(prompt, max, |_| None)
}

/// One byte, so that what follows is not taken.
fn next(from: &mut impl Read) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match from.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// `keys`: they come from a terminal that does not edit lines itself.
fn read_lines(
    mut from: impl Read,
    keys: bool,
    max: usize,
    missing: impl Fn(&str) -> Option<String>,
    next_line: impl Fn(&str),
) -> Result<Zeroizing<String>, ReadError> {
    // With room for all of it: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(max + 2));
    let mut was_empty = true;
    loop {
        let mut line = Zeroizing::new(Vec::with_capacity(max + 1));
        let ended = loop {
            match next(&mut from)? {
                None => break true,
                Some(b'\n') => break false,
                Some(INTERRUPT) if keys => return Err(ReadError::Interrupted),
                Some(END) if keys => break true,
                Some(KILL_LINE) if keys => line.clear(),
                // A character may have several bytes.
                Some(key) if keys && BACKSPACE.contains(&key) => {
                    while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                }
                Some(_) if text.len() + line.len() >= max => return Err(ReadError::TooLong(max)),
                Some(byte) => line.push(byte),
            }
        };
        let line = std::str::from_utf8(&line).map_err(|_| ReadError::NotText)?;
        text.push_str(line);
        let is_empty = line.trim().is_empty();
        let missing = if is_empty { Some(String::new()) } else { missing(&text) };
        let is_over = ended || (is_empty && was_empty);
        let (false, Some(missing)) = (is_over, missing) else { return Ok(text) };
        was_empty = is_empty;
        text.push('\n');
        next_line(&missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Option<String> {
        let len = text.chars().filter(|c| !c.is_whitespace()).count();
        (len < 6).then(|| format!("{len} of 6"))
    }

    fn read(input: &[u8], max: usize) -> (Result<String, String>, Vec<u8>) {
        let mut rest = input;
        let text = read_lines(&mut rest, false, max, missing, |_| {});
        (text.map(|t| t.to_string()).map_err(|e| e.to_string()), rest.to_vec())
    }

    #[test]
    fn a_secret_goes_to_the_line_that_makes_it_whole_and_no_further() {
        assert_eq!(read(b"abc\ndef\nnext\n", 20), (Ok("abc\ndef".into()), b"next\n".to_vec()));
        assert_eq!(read(b"abc\n\ndef\nnext\n", 20), (Ok("abc\n\ndef".into()), b"next\n".to_vec()), "as it is shown");
        assert_eq!(read(b"abcdef", 20), (Ok("abcdef".into()), vec![]));
        assert_eq!(read(b"ab\n\n\nnext", 20), (Ok("ab\n\n".into()), b"next".to_vec()), "given up");
        assert_eq!(read(b"\nnext", 20), (Ok(String::new()), b"next".to_vec()), "not given");
        assert_eq!(read(b"", 20), (Ok(String::new()), vec![]));
        assert_eq!(read(b"abc\ndefgh\n", 7).0, Err("it is longer than 7 bytes".into()));
        assert_eq!(read(&[0xff, b'\n'], 6).0, Err("it is not text".into()));
    }

    #[test]
    fn what_is_missing_is_said_after_each_line() {
        let said = std::cell::RefCell::new(Vec::new());
        let typed =
            read_lines(&b"abc\n\nde\nf\n"[..], true, 20, missing, |text| said.borrow_mut().push(text.to_owned()));
        assert_eq!(typed.unwrap().as_str(), "abc\n\nde\nf");
        assert_eq!(said.into_inner(), ["3 of 6", "", "5 of 6"]);
    }

    #[test]
    fn keys_edit_a_line_where_the_terminal_does_not() {
        let typed = |keys: &'static [u8]| {
            read_lines(keys, true, 20, |_| None, |_| {}).map(|t| t.to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(typed(b"abx\x7fc\n"), Ok("abc".into()));
        assert_eq!(typed(b"wrong\x15right\n"), Ok("right".into()));
        assert_eq!(typed(b"abc\x04"), Ok("abc".into()));
        assert_eq!(typed(b"abc\x03"), Err("interrupted".into()));
    }
}
