//! `quorate evidence …`: what members have signed, checked where no cluster is in reach.

mod report;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::Shared;
use super::failure::{CommandResult, Failure};
use super::files;
use crate::evidence::{Evidence, FILE_LEN_MAX, Verified};

/// Check what members have signed, anywhere, with the cluster's root certificate alone
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate keys destruction 0199f2c4-6f1c-7c9e-8d2c-0123456789ab --out gone.json
  quorate evidence verify gone.json --ca ca.pem")]
pub struct EvidenceCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Check a file of signed statements, and say what they say
    ///
    /// Exit code 0 when each statement is signed by a node of the cluster and all tell of the same, else 1, with what is wrong. It
    /// asks no cluster.
    #[command(after_help = "Examples:
  quorate evidence verify gone.json --ca ca.pem
  quorate evidence verify gone.json --ca ca.pem --output json")]
    Verify {
        /// What `quorate keys destruction` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The cluster's root certificate (PEM)
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,
    },
}

impl EvidenceCommand {
    /// Does it. Needs no runtime.
    pub fn run(self, shared: &Shared) -> CommandResult {
        let Action::Verify { file, ca } = self.action;
        let root_pem = files::read(&ca, "the root certificate")?;
        let bytes = files::read_input(Some(&file), FILE_LEN_MAX, "no evidence is so long")?;
        let verified = Evidence::read(&bytes).and_then(|evidence| evidence.verify(&root_pem));
        print(shared, &verified.map_err(|flaw| not_believed(&file.display().to_string(), &flaw))?)
    }
}

/// What is wrong with evidence.
pub fn not_believed(what: &str, flaw: &crate::evidence::Flaw) -> Failure {
    let todo =
        "don't rely on any of it: get it anew from the nodes (`quorate keys destruction`), and find out who changed it";
    Failure::not_valid(format!("{what} proves nothing"), flaw, todo)
}

/// Shows evidence that is believed.
pub fn print(shared: &Shared, verified: &Verified) -> CommandResult {
    shared.format().print(&report::json(verified), || report::text(verified))
}

/// Writes evidence to a file.
pub fn write(out: &super::crypt::Out, path: &Path, evidence: &Evidence) -> CommandResult {
    let mut sink = out.open(0o644)?;
    let written = writeln_json(&mut sink, evidence).and_then(|()| sink.finish());
    written.map_err(|e| Failure::failed("can't write the evidence", format!("{}: {e}", path.display()), ""))
}

fn writeln_json(sink: &mut impl std::io::Write, evidence: &Evidence) -> std::io::Result<()> {
    writeln!(sink, "{}", evidence.to_json())
}
