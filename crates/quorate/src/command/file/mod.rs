//! `quorate file encrypt|decrypt`: files and streams of any size, under a data key.
//!
//! The file never leaves the machine: the cluster makes the data key and opens it again; bytes are encrypted here.

mod ahead;
pub mod format;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_client::v1::{DecryptRequest, GenerateDataKeyRequest};
use serde_json::json;

pub use format::MAGIC;
use format::{DATA_KEY_LEN, FileError, Header};

use super::crypt::{Aad, Out, refuse_terminal};
use super::failure::{CommandResult, Doing, Failure};
use super::files::{self, Sink};
use super::output;
use super::{Shared, completions};

/// Encrypt and decrypt files and streams of any size.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate file encrypt --key payments --in backup.tar --out backup.tar.q
  quorate file decrypt --in backup.tar.q --out backup.tar")]
pub struct FileCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Encrypt under a new data key
    #[command(after_help = "Examples:
  quorate file encrypt --key payments --in backup.tar --out backup.tar.q
  tar c docs | quorate file encrypt --key payments --aad of=docs > docs.q")]
    Encrypt {
        /// The key: its id, NAME, alias/NAME or key/NAME
        #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
        key: String,
        #[command(flatten)]
        aad: Aad,
        /// Read this file [default: standard input]
        #[arg(long = "in", value_name = "FILE")]
        input: Option<PathBuf>,
        #[command(flatten)]
        out: Out,
    },
    /// Decrypt; the file names its key
    ///
    /// With --out the file appears only when all of it has proven genuine. To standard output it streams: when the
    /// command fails, what was written is a genuine beginning, but not all.
    #[command(after_help = "Examples:
  quorate file decrypt --in backup.tar.q --out backup.tar
  quorate file decrypt --aad of=docs < docs.q | tar x
  quorate file decrypt --key payments --in backup.tar.q --out backup.tar  refuses a file of any other key")]
    Decrypt {
        /// Refuse a file of any key but this one; may be given several times
        #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
        key: Vec<String>,
        #[command(flatten)]
        aad: Aad,
        /// Read this file [default: standard input]
        #[arg(long = "in", value_name = "FILE")]
        input: Option<PathBuf>,
        #[command(flatten)]
        out: Out,
    },
}

impl FileCommand {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        match self.action {
            Action::Encrypt { key, aad, input, out } => encrypt(shared, key, &aad, input.as_deref(), &out).await,
            Action::Decrypt { key, aad, input, out } => decrypt(shared, key, &aad, input.as_deref(), &out).await,
        }
    }
}

async fn encrypt(shared: &Shared, key: String, aad: &Aad, input: Option<&Path>, out: &Out) -> CommandResult {
    if out.path().is_none() {
        refuse_terminal(shared, None, "")?;
    }
    // Before anything is asked of the cluster.
    let mut to = out.open(0o666)?;
    let (_, from) = files::open_input(input)?;
    let client = shared.client().await?;
    let request =
        GenerateDataKeyRequest { key, bytes: DATA_KEY_LEN as u32, aad: aad.to_proto(), without_plaintext: false };
    let data_key = client.generate_data_key(request).await.doing("make a data key")?;
    let mut prefix = [0; 7];
    aws_lc_rs::rand::fill(&mut prefix)
        .map_err(|_| Failure::failed("can't encrypt", "the operating system gives no random bytes", ""))?;
    let failed = |e: FileError| Failure::failed("can't encrypt the file", e, "");
    let header = Header::new(prefix, &data_key.ciphertext).map_err(failed)?;
    let mut progress = Progress::new(files::regular_len(input));
    tokio::task::block_in_place(|| {
        format::encrypt(&header, &data_key.plaintext, from, &mut to, |n| progress.add(n))?;
        to.finish().map_err(FileError::Write)
    })
    .map_err(failed)?;
    report(shared, out.path(), &data_key.key_id, data_key.key_version, progress.done())
}

async fn decrypt(shared: &Shared, key: Vec<String>, aad: &Aad, input: Option<&Path>, out: &Out) -> CommandResult {
    let mut to = out.open(0o600)?;
    let (name, mut from) = files::open_input(input)?;
    let cant = format!("can't decrypt {name}");
    let header = Header::read(&mut from).map_err(|e| Failure::failed(cant.as_str(), e, ""))?;
    let client = shared.client().await?;
    let request =
        DecryptRequest { ciphertext: header.wrapped.clone().into(), aad: aad.to_proto(), key, ..Default::default() };
    let data_key = client.decrypt(request).await.doing(format_args!("decrypt {name}: its data key does not open"))?;
    let streaming = matches!(to, Sink::Stream(_));
    let mut progress = Progress::new(files::regular_len(input));
    let opened = tokio::task::block_in_place(|| {
        format::decrypt(&header, &data_key.plaintext, from, &mut to, |n| progress.add(n))?;
        to.finish().map_err(FileError::Write)
    });
    let done = progress.done();
    opened.map_err(|e| {
        let todo = match (streaming, done) {
            (false, _) => "nothing was written; get the file again from where it came from".to_owned(),
            (true, n) => {
                format!("{n} bytes were written before this was noticed: they are genuine, but not all; discard them")
            }
        };
        Failure::failed(cant.as_str(), e, todo)
    })?;
    report(shared, out.path(), &data_key.key_id, data_key.key_version, done)
}

/// What was done, when standard output is free to say it.
fn report(shared: &Shared, out: Option<&Path>, key_id: &str, key_version: u32, len: u64) -> CommandResult {
    let Some(out) = out else { return Ok(()) };
    let json = json!({ "key_id": key_id, "key_version": key_version, "bytes": len, "out": out });
    shared.format().print(&json, || {
        output::fields([
            ("key", key_id.to_owned()),
            ("version", key_version.to_string()),
            ("plaintext", format!("{len} bytes")),
            ("written", out.display().to_string()),
        ])
    })
}

/// Counts bytes; shows a bar on standard error when that is a terminal.
struct Progress {
    bytes: u64,
    bar: ProgressBar,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = match total {
            Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{spinner} {bytes} {bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bytes: 0, bar: ProgressBar::with_draw_target(total, target).with_style(style) }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.bar.set_position(self.bytes);
    }

    /// Takes the bar away; how many bytes there were.
    fn done(&self) -> u64 {
        self.bar.finish_and_clear();
        self.bytes
    }
}
