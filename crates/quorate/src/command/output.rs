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
use super::terminal::Surface;

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
    pub fn print(self, json: &Value, table: impl FnOnce() -> Table) -> CommandResult {
        line(&self.written(json, || table().trim_fmt())?)
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
    begun: bool,
    unwanted: bool,
}

impl<const N: usize> List<N> {
    /// A list called `name` in JSON.
    pub fn begin(format: Format, name: &'static str, columns: [Column; N]) -> Self {
        Self { format, name, columns, begun: false, unwanted: false }
    }

    /// Whether nobody reads it any more.
    pub fn unwanted(&self) -> bool {
        self.unwanted
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
        let mut text = String::new();
        for ((_, width, shown), value) in self.columns.iter().zip(row) {
            if *shown == Shown::Always || self.format == Format::Wide {
                text += &format!("{value:width$}  ");
            }
        }
        format!("{}\n", text.trim_end())
    }

    fn write(&mut self, text: &str) -> CommandResult {
        if self.unwanted {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
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

/// A table of names and values; empty values are left out.
pub fn fields<N: Display, V: Display>(rows: impl IntoIterator<Item = (N, V)>) -> Table {
    let rows: Vec<_> = rows.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let widest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    // A space on each side of a name, and one before a value.
    let (indent, surface) = (widest + 3, Surface::stdout());
    let mut table = plain();
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        let lines: Vec<String> = value.lines().flat_map(|line| surface.wrap(indent, line)).collect();
        table.add_row([Cell::new(name), Cell::new(lines.join("\n"))]);
    }
    table
}

fn plain() -> Table {
    let mut table = Table::new();
    // Wrapped between words only, if at all: ids are copied from here.
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}
