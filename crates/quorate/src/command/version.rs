//! `quorate version`.

use clap::Args;
use quorate_core::level::LEVEL;
use serde_json::json;

use super::Shared;
use super::failure::CommandResult;
use super::output;

/// Print the version, and the highest feature level that it speaks.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate version
  quorate version --output json")]
pub struct Version {}

impl Version {
    /// Prints it.
    pub fn run(&self, shared: &Shared) -> CommandResult {
        let version = env!("CARGO_PKG_VERSION");
        let json = json!({ "version": version, "level": LEVEL.0 });
        let table = || output::fields([("quorate", version.to_owned()), ("feature level", LEVEL.to_string())]);
        shared.format().print(&json, table)
    }
}
