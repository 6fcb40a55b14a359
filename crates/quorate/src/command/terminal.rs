//! What a screen is written on: how wide it is, and whether it has colours.

use std::io::IsTerminal;

/// Where nobody tells how wide it is: a pipe.
const WIDTH_DEFAULT: usize = 100;
/// Narrower is written as if it were so wide.
const WIDTH_MIN: usize = 40;

/// A surface of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Surface {
    /// Characters a line.
    pub width: usize,
    /// Whether colours are understood and wanted.
    pub colours: bool,
}

/// What a piece of text says of what it tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    /// All is well.
    Good,
    /// Look at it.
    Warning,
    /// Act.
    Bad,
    /// Of less weight.
    Faint,
}

impl Surface {
    /// Standard output.
    pub fn stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
        let seen = || comfy_table::Table::new().width().map(usize::from);
        let width = told.filter(|columns| *columns > 0).or_else(seen).unwrap_or(WIDTH_DEFAULT);
        // https://no-color.org
        let colours = terminal && !set("NO_COLOR") && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        Self { width: width.max(WIDTH_MIN), colours }
    }

    /// Standard output where somebody tells how wide it is: a terminal, or `COLUMNS`.
    pub fn seen() -> Option<Self> {
        let told = std::env::var("COLUMNS").is_ok_and(|columns| !columns.trim().is_empty());
        (told || std::io::stdout().is_terminal()).then(Self::stdout)
    }

    /// The text in a colour, where there are any.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        if self.colours && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// The text as lines of at most the width that is left beside `indent`, broken between words; a command in backquotes
    /// stays on one line if it has room there, and what is longer than a line stays whole: both are copied from here. What a node
    /// said can't command the terminal.
    pub fn wrap(self, indent: usize, text: &str) -> Vec<String> {
        let room = self.width.saturating_sub(indent).max(1);
        let (mut lines, mut line) = (Vec::new(), String::new());
        for word in words(text, room) {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += &word;
        }
        if !line.is_empty() {
            lines.push(line);
        }
        lines
    }
}

/// The words of a text; one that begins with a backquote goes on to the next one, if that is no longer than `room`.
fn words(text: &str, room: usize) -> Vec<String> {
    let plain: Vec<String> = text.split_whitespace().map(|word| word.replace(char::is_control, "")).collect();
    let (mut words, mut rest) = (Vec::with_capacity(plain.len()), &plain[..]);
    while let [first, others @ ..] = rest {
        let closes = |word: &String| word.matches('`').count() % 2 == 1;
        let last = if closes(first) { others.iter().position(closes) } else { None };
        let command = last.map(|last| rest[..last + 2].join(" ")).filter(|command| command.chars().count() <= room);
        rest = &rest[if command.is_some() { last.map_or(1, |last| last + 2) } else { 1 }..];
        words.push(command.unwrap_or_else(|| first.clone()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Surface = Surface { width: 20, colours: false };

    #[test]
    fn lines_break_between_words_and_a_long_word_stays_whole() {
        let id = "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab";
        let lines = PLAIN.wrap(4, &format!("one two three four {id} é é é é é é é é é"));
        assert_eq!(lines, ["one two three", "four", id, "é é é é é é é é", "é"]);
        assert!(PLAIN.wrap(4, " ").is_empty());
    }

    #[test]
    fn a_command_is_not_broken_where_there_is_room_for_it() {
        assert_eq!(
            PLAIN.wrap(0, "enter with `a b c d`, then (`e f g`) again"),
            ["enter with", "`a b c d`, then", "(`e f g`) again"]
        );
        assert_eq!(PLAIN.wrap(10, "x `one two three` y `z"), ["x `one two", "three` y", "`z"]);
    }

    #[test]
    fn what_a_node_says_commands_no_terminal() {
        let lines = PLAIN.wrap(0, "\u{1b}[2Jall is\r\nwell \u{9b}2J");
        assert_eq!(lines, ["[2Jall is well 2J"]);
    }

    #[test]
    fn colours_are_for_surfaces_that_have_them() {
        assert_eq!(PLAIN.paint(Tone::Bad, "x"), "x");
        let coloured = Surface { colours: true, ..PLAIN };
        assert_eq!(coloured.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(coloured.paint(Tone::Bad, ""), "");
    }
}
