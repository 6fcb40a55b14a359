//! `quorate version`.

use clap::Args;
use comfy_table::Table;
use serde_json::json;

use super::Shared;
use super::failure::CommandResult;
use super::output;

/// Print the version.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate version
  quorate version --output json")]
pub struct Version {}

impl Version {
    /// Prints it.
    pub fn run(&self, shared: &Shared) -> CommandResult {
        let version = env!("CARGO_PKG_VERSION");
        shared.format().print(&json!({ "version": version }), || -> Table { output::fields([("quorate", version)]) })
    }
}
