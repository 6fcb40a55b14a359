//! What a command prints: JSON for programs, a table for people.

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

/// The form of the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// One JSON object; binary values as base64.
    Json,
    /// Text for people.
    Table,
}

impl Format {
    /// What was asked for; else a table on a terminal, JSON in a pipe.
    pub fn or_default(asked: Option<Self>) -> Self {
        asked.unwrap_or(if std::io::stdout().is_terminal() { Self::Table } else { Self::Json })
    }

    /// Prints one result.
    pub fn print(self, json: &Value, table: impl FnOnce() -> Table) -> CommandResult {
        match self {
            Self::Json => line(&json.to_string()),
            Self::Table => line(&table().trim_fmt()),
        }
    }
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

/// A binary value as JSON holds it.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A moment for people, in UTC; `-` for 0.
pub fn date(ms: u64) -> String {
    if ms == 0 {
        return "-".into();
    }
    let time = OffsetDateTime::from_unix_timestamp((ms / 1000) as i64).ok();
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
    let mut table = plain();
    for (name, value) in rows {
        let value = value.to_string();
        if !value.is_empty() {
            table.add_row([Cell::new(name), Cell::new(value)]);
        }
    }
    table
}

fn plain() -> Table {
    let mut table = Table::new();
    // Never wrapped: ids are copied from here.
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}
