//! What a command prints: JSON or YAML for programs, a table for people. Moments are RFC 3339 in both, what is absent is null.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ContentArrangement, Table};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::failure::{CommandResult, Failure};
use super::terminal::{Surface, Tone};

/// Between a name and its value.
const GAP: usize = 2;

/// The form of the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// One JSON object; binary values as base64, moments as RFC 3339, what is absent as null.
    Json,
    /// The same as YAML.
    Yaml,
    /// Text for people.
    Table,
    /// The same with every column.
    Wide,
}

impl Format {
    /// What was asked for; else a table on a terminal, JSON in a pipe.
    pub fn or_default(asked: Option<Self>) -> Self {
        asked.unwrap_or(if std::io::stdout().is_terminal() { Self::Table } else { Self::Json })
    }

    /// Prints one result.
    pub fn print<T: Display>(self, json: &Value, for_people: impl FnOnce() -> T) -> CommandResult {
        line(&self.written(json, || {
            let text = for_people().to_string();
            text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
        })?)
    }

    /// One result in this form, without the last line's end.
    pub fn written(self, json: &Value, for_people: impl FnOnce() -> String) -> CommandResult<String> {
        match self {
            Self::Json => Ok(json.to_string()),
            Self::Yaml => Ok(yaml(json)?.trim_end().to_owned()),
            Self::Table | Self::Wide => Ok(for_people()),
        }
    }

    /// Whether programs read it.
    pub fn for_programs(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

fn yaml(value: &Value) -> CommandResult<String> {
    yaml_serde::to_string(value).map_err(|e| Failure::failed("can't write YAML", e, ""))
}

/// Writes one line to standard output.
pub fn line(text: &str) -> CommandResult {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes raw bytes to standard output.
pub fn bytes(bytes: &[u8]) -> CommandResult {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Whoever read the output has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| Failure::failed("can't write to standard output", e, "")),
    }
}

/// A column of a list: its name, its width, which longer values overstep, and whether it is for `wide` alone.
pub type Column = (&'static str, usize, Shown);

/// Where a column is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// In every table.
    Always,
    /// With `--output wide`.
    Wide,
}

/// A list that is printed as it comes, however long it is: one JSON or YAML object with one array, or lines of columns.
pub struct List<const N: usize> {
    format: Format,
    name: &'static str,
    columns: [Column; N],
    /// Where a line of columns goes on in the next one, characters.
    width: usize,
    out: Box<dyn Write>,
    begun: bool,
    unwanted: bool,
}

impl<const N: usize> List<N> {
    /// A list called `name` in JSON.
    pub fn begin(format: Format, name: &'static str, columns: [Column; N]) -> Self {
        // In a pipe one line is one item, and so it is with every column: who asks for all has the room.
        let width = Surface::seen().filter(|_| format == Format::Table).map_or(usize::MAX, |surface| surface.width);
        Self::on(Box::new(std::io::stdout()), width, format, name, columns)
    }

    fn on(out: Box<dyn Write>, width: usize, format: Format, name: &'static str, columns: [Column; N]) -> Self {
        Self { format, name, columns, width, out, begun: false, unwanted: false }
    }

    /// Prints all pages, as `page` answers them: the items, and where the next page begins; none ends it.
    pub async fn pages<T, P: Default>(
        mut self,
        mut page: impl AsyncFnMut(P) -> CommandResult<(Vec<T>, Option<P>)>,
        json: impl Fn(&T) -> Value,
        row: impl Fn(&T) -> [String; N],
    ) -> CommandResult {
        let mut token = P::default();
        loop {
            let (items, next) = match page(token).await {
                Ok(answer) => answer,
                Err(failure) => return self.cut(failure),
            };
            self.add(&items, &json, &row)?;
            match next {
                Some(next) if !self.unwanted => token = next,
                _ => return self.end(),
            }
        }
    }

    /// It can't go on: what was printed is closed, so that it can be read; that it is not all is said by the failure.
    pub fn cut(self, failure: Failure) -> CommandResult {
        if self.begun {
            self.end()?;
        }
        Err(failure)
    }

    /// Prints items.
    pub fn add<T>(
        &mut self,
        items: &[T],
        json: impl Fn(&T) -> Value,
        row: impl Fn(&T) -> [String; N],
    ) -> CommandResult {
        let mut text = String::new();
        for item in items {
            match self.format {
                Format::Json => {
                    text += if self.begun { "," } else { "" };
                    let opening = if self.begun { String::new() } else { self.opening() };
                    text = text + &opening + &json(item).to_string();
                }
                Format::Yaml => {
                    text += &if self.begun { String::new() } else { format!("{}:\n", self.name) };
                    text += &yaml(&Value::Array(vec![json(item)]))?;
                }
                Format::Table | Format::Wide => {
                    if !self.begun {
                        text += &self.header();
                    }
                    text += &self.line(&row(item));
                }
            }
            self.begun = true;
        }
        self.write(&text)
    }

    /// Prints its end.
    pub fn end(mut self) -> CommandResult {
        let text = match self.format {
            Format::Json if self.begun => "]}\n".to_owned(),
            Format::Json => self.opening() + "]}\n",
            _ if self.begun => String::new(),
            Format::Yaml => format!("{}: []\n", self.name),
            Format::Table | Format::Wide => self.header(),
        };
        self.write(&text)
    }

    fn opening(&self) -> String {
        format!("{{{:?}:[", self.name)
    }

    fn header(&self) -> String {
        self.line(&self.columns.map(|(name, ..)| name.to_owned()))
    }

    fn line(&self, row: &[String; N]) -> String {
        let shown = |column: &Column| column.2 == Shown::Always || self.format == Format::Wide;
        let mut left = self.columns.iter().zip(row).filter(|(column, _)| shown(column)).peekable();
        let (mut text, mut at) = (String::new(), 0);
        while let Some(((_, width, _), value)) = left.next() {
            let len = value.chars().count();
            let room = if left.peek().is_some() { len.max(*width) } else { len };
            if at > GAP && at + room > self.width && len > 0 {
                text.truncate(text.trim_end().len());
                text += &format!("\n{:GAP$}", "");
                at = GAP;
            }
            text += &format!("{value:width$}{:GAP$}", "");
            at += len.max(*width) + GAP;
        }
        format!("{}\n", text.trim_end())
    }

    fn write(&mut self, text: &str) -> CommandResult {
        if self.unwanted {
            return Ok(());
        }
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                self.unwanted = true;
                Ok(())
            }
            other => other.map_err(|e| Failure::failed("can't write to standard output", e, "")),
        }
    }
}

/// How far long work is, on the terminal's error output; nothing elsewhere.
pub fn progress(len: u64) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new(len);
    let style = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {eta} left");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// That something without a measure goes on, on the terminal's error output; nothing elsewhere.
pub fn working(what: &'static str) -> indicatif::ProgressBar {
    let spinner = indicatif::ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    spinner
}

/// A PEM block (RFC 7468), its lines ended as this system ends them.
pub fn pem(label: &str, bytes: &[u8]) -> String {
    pem::encode_config(&pem::Pem::new(label, bytes), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

/// A binary value as JSON holds it.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A binary value as people compare it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A moment for programs: RFC 3339 in UTC, to the millisecond; null for 0, which stands for none.
pub fn moment(ms: u64) -> Value {
    let seconds = rfc3339(ms);
    match seconds.strip_suffix('Z') {
        _ if ms == 0 => Value::Null,
        Some(seconds) => format!("{seconds}.{:03}Z", ms % 1000).into(),
        None => seconds.into(),
    }
}

/// A text that may be missing: null when it is empty.
pub fn text(value: &str) -> Value {
    if value.is_empty() { Value::Null } else { value.into() }
}

/// A moment for people, in UTC; empty for 0.
pub fn date(ms: u64) -> String {
    if ms == 0 {
        return String::new();
    }
    rfc3339(ms)
}

/// To the second.
fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms / 1000).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    time.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{ms} ms"))
}

/// A table with a header.
pub fn columns<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let mut table = plain();
    table.set_header(header.map(Cell::new));
    for row in rows {
        table.add_row(row.map(Cell::new));
    }
    table
}

/// Names and values; empty values are left out.
pub fn fields<N: Display, V: Display>(rows: impl IntoIterator<Item = (N, V)>) -> String {
    fields_on(Surface::stdout(), rows)
}

/// The same on a surface of that width.
pub fn fields_on<N: Display, V: Display>(surface: Surface, rows: impl IntoIterator<Item = (N, V)>) -> String {
    let rows: Vec<_> = rows.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let indent = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default() + GAP;
    let mut lines = Vec::new();
    for (name, value) in &rows {
        for (i, line) in value.lines().flat_map(|value| surface.wrap(indent, value)).enumerate() {
            let name = format!("{:indent$}", if i == 0 { name } else { "" });
            lines.push(format!("{}{line}", surface.paint(Tone::Faint, &name)));
        }
    }
    lines.join("\n")
}

fn plain() -> Table {
    let mut table = Table::new();
    // Wrapped between words only, if at all: ids are copied from here.
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Rc<RefCell<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is printed of a list whose pages are these, and whether that is all.
    fn printed(format: Format, pages: &[Option<&[u8]>]) -> (String, bool) {
        let paper = Paper::default();
        let list = List::on(Box::new(paper.clone()), 80, format, "keys", [("KEY", 0, Shown::Always)]);
        let mut left = pages.iter();
        let page = async |(): ()| {
            let numbers =
                left.next().copied().flatten().ok_or_else(|| Failure::failed("can't list", "it is gone", ""))?;
            Ok((numbers.to_vec(), (left.len() != 0).then_some(())))
        };
        let all = futures::executor::block_on(list.pages(page, |n| json!({ "n": n }), |n| [n.to_string()]));
        (String::from_utf8(paper.0.take()).unwrap(), all.is_ok())
    }

    #[test]
    fn a_list_that_ends_too_soon_can_still_be_read() {
        for (pages, shown, all) in [
            (&[Some(&[1, 2][..]), Some(&[3])][..], json!({ "keys": [{ "n": 1 }, { "n": 2 }, { "n": 3 }] }), true),
            (&[Some(&[]), Some(&[])], json!({ "keys": [] }), true),
            (&[Some(&[1, 2]), None], json!({ "keys": [{ "n": 1 }, { "n": 2 }] }), false),
        ] {
            let (text, whole) = printed(Format::Json, pages);
            assert_eq!((serde_json::from_str(&text).ok(), whole), (Some(shown), all), "{text}");
        }
        assert_eq!(
            printed(Format::Json, &[None]),
            (String::new(), false),
            "nothing was printed, nothing is to be closed"
        );
        assert_eq!(printed(Format::Table, &[Some(&[1]), None]), ("KEY\n1\n".into(), false));
    }

    #[test]
    fn columns_go_on_in_the_next_line_where_there_is_no_room_beside() {
        let columns = [("KEY", 8, Shown::Always), ("STATE", 6, Shown::Always), ("NAMES", 9, Shown::Always)];
        let table = |width, row: [&str; 3]| {
            let paper = Paper::default();
            let mut list = List::on(Box::new(paper.clone()), width, Format::Table, "keys", columns);
            list.add(&[row], |_| json!(null), |row| row.map(str::to_owned)).unwrap();
            String::from_utf8(paper.0.take()).unwrap()
        };
        let short = ["12345678", "on", "a,b"];
        assert_eq!(table(80, short), "KEY       STATE   NAMES\n12345678  on      a,b\n");
        assert_eq!(table(22, short), "KEY       STATE\n  NAMES\n12345678  on      a,b\n");
        assert_eq!(table(23, ["12345678", "on", "a,b,c,d"]), "KEY       STATE   NAMES\n12345678  on\n  a,b,c,d\n");
        assert_eq!(table(12, short), "KEY\n  STATE\n  NAMES\n12345678\n  on\n  a,b\n");
        assert_eq!(table(12, ["12345678", "on", ""]), "KEY\n  STATE\n  NAMES\n12345678\n  on\n");
    }

    #[test]
    fn fields_fit_their_surface_and_leave_out_what_is_empty() {
        let surface = Surface { width: 40, colours: false };
        let rows =
            [("name", "n1".to_owned()), ("empty", String::new()), ("why", "word ".repeat(20)), ("two", "a\nb".into())];
        let text = fields_on(surface, rows);
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.starts_with("name   n1\nwhy    word") && text.ends_with("two    a\n       b"), "{text}");
    }
}
