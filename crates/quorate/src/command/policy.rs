//! `quorate policy …`: policies are written and checked here; none of this talks to a cluster.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quorate_core::action::Action as Done;
use quorate_core::id::Name;
use quorate_policy::{Fault, POLICY_LEN_MAX, Policy, Role};
use serde_json::{Value, json};

use super::Shared;
use super::failure::{CommandResult, Failure};
use super::files;
use super::output::{self, Column, List, Shown};

/// Write policies: what they may speak of, what is wrong with one, which roles there are.
///
/// Policies are written in Cedar (docs.cedarpolicy.com). They can be written and checked now, and not yet be set: a cluster goes by the
/// role in a client's certificate. `quorate manual policies` tells more.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate policy schema > quorate.cedarschema
  quorate policy check two-person-destroy.cedar
  quorate policy roles")]
pub struct PolicyCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Print what policies may speak of, in Cedar's schema language
    #[command(after_help = "Examples:
  quorate policy schema
  quorate policy schema > quorate.cedarschema")]
    Schema {},
    /// Check policies, and tell what they say: whom they are about, what, and which things
    ///
    /// A file holds one policy, which is called as the file is, without its extension. What is wrong is told as FILE:LINE:COLUMN, why and
    /// what to do, and the exit code is 1.
    #[command(after_help = "Examples:
  quorate policy check two-person-destroy.cedar
  quorate policy check team-a.cedar team-b.cedar --output json")]
    Check {
        /// Files with one policy each
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Print which role has which action; JSON also tells which roles of certificates have it
    #[command(after_help = "Examples:
  quorate policy roles
  quorate policy roles --output json")]
    Roles {},
}

impl PolicyCommand {
    /// Does it.
    ///
    /// # Errors
    /// A file can't be read, or holds no policy that could be taken.
    pub fn run(self, shared: &Shared) -> CommandResult {
        match self.action {
            // Text for other programs, also in a pipe.
            Action::Schema {} => match shared.asked_for_programs() {
                None => output::bytes(quorate_policy::schema().as_bytes()),
                Some(format) => format.print(&json!({ "schema": quorate_policy::schema() }), String::new),
            },
            Action::Check { files } => check(shared, &files),
            Action::Roles {} => roles(shared),
        }
    }
}

const CHECKED: [Column; 7] = [
    ("POLICY", 16, Shown::Always),
    ("EFFECT", 6, Shown::Always),
    ("WHO", 9, Shown::Always),
    ("DOES", 10, Shown::Always),
    ("TO WHAT", 14, Shown::Always),
    ("CONTEXT", 7, Shown::Always),
    ("APPROVALS", 9, Shown::Always),
];

fn check(shared: &Shared, files: &[PathBuf]) -> CommandResult {
    let mut list = List::begin(shared.format(), "policies", CHECKED);
    let mut wrong = 0;
    for file in files {
        match read(file)? {
            Ok(policy) => list.add(&[policy], |policy| policy_to_json(file, policy), policy_row)?,
            Err(faults) => {
                wrong += 1;
                if shared.format().for_programs() {
                    let faults: Vec<_> = faults.iter().map(fault_to_json).collect();
                    list.add(
                        &[faults],
                        |faults| json!({ "file": shown(file), "faults": faults }),
                        |_| Default::default(),
                    )?;
                } else {
                    for fault in faults {
                        eprintln!("{}:{fault}", shown(file));
                    }
                }
            }
        }
    }
    list.end()?;
    if wrong == 0 {
        return Ok(());
    }
    let what = format!("{wrong} of {} files hold no policy that can be taken", files.len());
    Err(Failure::failed(
        what,
        "",
        "correct what is told of them; `quorate policy schema` has all that policies may speak of",
    ))
}

/// The policy in a file, or what is wrong with it.
fn read(file: &Path) -> CommandResult<Result<Policy, Vec<Fault>>> {
    let bytes = files::read_input(Some(file), POLICY_LEN_MAX, "split the policy into several")?;
    let failed = |why: String, todo: &str| Failure::failed(format!("can't check {}", shown(file)), why, todo);
    let text = std::str::from_utf8(&bytes).map_err(|e| failed(format!("it is no text: {e}"), "save it as UTF-8"))?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let id: Name = stem.parse().map_err(|e| failed(format!("{e}"), "call the file as the policy shall be called"))?;
    Ok(Policy::parse(id, text).map_err(|faults| faults.0))
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}

fn policy_to_json(file: &Path, policy: &Policy) -> Value {
    let [who, does, what] = policy.scope();
    json!({
        "file": shown(file),
        "id": policy.id().as_str(),
        "effect": policy.effect().as_str(),
        "who": who,
        "does": does,
        "to_what": what,
        "actions": policy.actions().map(Done::as_str).collect::<Vec<_>>(),
        "reads_context": policy.reads().iter().collect::<Vec<_>>(),
        "approvals": policy.approvals(),
        "delegates": policy.delegates(),
        "faults": [],
    })
}

fn fault_to_json(fault: &Fault) -> Value {
    json!({
        "line": fault.line,
        "column": fault.column,
        "message": fault.what,
        "why": output::text(&fault.why),
        "hint": output::text(&fault.todo),
    })
}

fn policy_row(policy: &Policy) -> [String; 7] {
    let [who, does, what] = policy.scope();
    let effect = if policy.delegates() { "delegates" } else { policy.effect().as_str() };
    let reads = policy.reads().iter().collect::<Vec<_>>().join(",");
    let approvals = policy.approvals().map(|n| n.to_string()).unwrap_or_default();
    [policy.id().to_string(), effect.to_owned(), who, does, what, reads, approvals]
}

fn roles(shared: &Shared) -> CommandResult {
    let width = |role: Role| (role.as_str(), role.as_str().len(), Shown::Always);
    let [a, b, c, d, e, f, g] = Role::ALL.map(width);
    let mut list = List::begin(shared.format(), "actions", [("ACTION", 27, Shown::Always), a, b, c, d, e, f, g]);
    list.add(
        Done::ALL,
        |action| {
            json!({
                "action": action.as_str(),
                "roles": Role::of(*action).iter().map(|role| role.as_str()).collect::<Vec<_>>(),
                "certificates": action.group().roles().iter().map(|role| role.as_str()).collect::<Vec<_>>(),
            })
        },
        |action| {
            let has = |role: Role| if role.has(*action) { "yes" } else { "" };
            let [a, b, c, d, e, f, g] = Role::ALL.map(|role| has(role).to_owned());
            [action.as_str().to_owned(), a, b, c, d, e, f, g]
        },
    )?;
    list.end()
}
