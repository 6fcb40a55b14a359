//! `quorate namespace …`: places with names, lists and settings of their own.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{
    CreateNamespaceRequest, ListNamespacesRequest, Namespace, NamespaceRequest, NamespaceResponse, NamespaceState,
    UpdateNamespaceRequest,
};
use quorate_core::record::Exportable;
use quorate_core::request::PAGE_LEN_MAX;
use serde_json::{Value, json};

use super::failure::{CommandResult, Doing, Failure};
use super::output::{self, Column, List, Shown};
use super::{Shared, completions};

/// Give tenants namespaces: keys, secrets and aliases of one have names and lists of their own.
///
/// Every other command works in one: that of --namespace, QUORATE_NAMESPACE or the client file, else in `default`, which is always
/// there. What has an id is reached by that from each.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate namespace create team-a
  quorate keys create --alias payments --namespace team-a
  quorate namespace list")]
pub struct NamespaceCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make a namespace
    #[command(after_help = "Examples:
  quorate namespace create team-a
  quorate namespace create team-b --exportable no --no-usage-tracking")]
    Create {
        /// Its name: 1 to 64 of a-z 0-9 -, beginning with a letter or digit
        #[arg(value_name = "NAME")]
        name: String,
        /// How far the material of keys that are made in it may leave, at most [default: plain]
        #[arg(long, value_name = "HOW", value_parser = how())]
        exportable: Option<String>,
        /// It is not written down when keys that are made in it were used last
        #[arg(long)]
        no_usage_tracking: bool,
    },
    /// Show a namespace
    #[command(after_help = "Examples:
  quorate namespace describe team-a
  quorate namespace describe team-a --output json")]
    Describe(Which),
    /// List namespaces
    #[command(after_help = "Examples:
  quorate namespace list
  quorate namespace list --output json")]
    List {},
    /// Change what may be made in a namespace from now on; keys that there are stay as they are
    #[command(after_help = "Examples:
  quorate namespace update team-a --exportable wrapped
  quorate namespace update team-a --usage-tracking off")]
    #[group(id = "change", required = true, multiple = true, args = ["exportable", "usage_tracking"])]
    Update {
        #[command(flatten)]
        which: Which,
        /// How far the material of keys that are made in it may leave, at most
        #[arg(long, value_name = "HOW", value_parser = how())]
        exportable: Option<String>,
        /// Whether it is written down when keys that are made in it were used last
        #[arg(long, value_name = "ON|OFF", value_parser = PossibleValuesParser::new(["on", "off"]))]
        usage_tracking: Option<String>,
    },
    /// Delete an empty namespace
    ///
    /// What waits for its destruction counts. From backups of keys of that namespace those can't be restored afterwards whose
    /// ciphertexts name their key, which is what keys do unless they were made for something else.
    #[command(after_help = "Examples:
  quorate namespace delete team-a")]
    Delete(Which),
}

#[derive(Args, Debug)]
struct Which {
    /// Its name
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions::namespaces))]
    name: String,
}

fn how() -> PossibleValuesParser {
    PossibleValuesParser::new(Exportable::ALL.map(Exportable::as_str))
}

impl NamespaceCommand {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let answer = match self.action {
            Action::Create { name, exportable, no_usage_tracking } => {
                let exportable = exportable.unwrap_or_default();
                let request = CreateNamespaceRequest { name, exportable, untracked: no_usage_tracking };
                client.create_namespace(request).await.doing("create the namespace")?
            }
            Action::Describe(Which { name }) => {
                client.describe_namespace(NamespaceRequest { name }).await.doing("describe the namespace")?
            }
            Action::Update { which: Which { name }, exportable, usage_tracking } => {
                let tracked = usage_tracking.map(|word| word == "on");
                let request = UpdateNamespaceRequest { name, exportable: exportable.unwrap_or_default(), tracked };
                client.update_namespace(request).await.doing("update the namespace")?
            }
            Action::Delete(Which { name }) => {
                let request = NamespaceRequest { name: name.clone() };
                client.delete_namespace(request).await.doing("delete the namespace")?;
                return shared.format().print(&json!({ "deleted": name }), || output::fields([("deleted", &name)]));
            }
            Action::List {} => {
                let page = async |page_token| {
                    let request = ListNamespacesRequest { limit: PAGE_LEN_MAX, page_token };
                    let page = client.list_namespaces(request).await.doing("list namespaces")?;
                    let more = !page.next_page_token.is_empty();
                    Ok((page.namespaces, more.then_some(page.next_page_token)))
                };
                return List::begin(shared.format(), "namespaces", COLUMNS).pages(page, to_json, row).await;
            }
        };
        show(shared, answer)
    }
}

const COLUMNS: [Column; 5] = [
    ("NAME", 24, Shown::Always),
    ("STATE", 8, Shown::Always),
    ("EXPORTABLE", 10, Shown::Always),
    ("TRACKING", 8, Shown::Always),
    ("CREATED", 0, Shown::Wide),
];

fn row(of: &Namespace) -> [String; 5] {
    [of.name.clone(), state(of).to_owned(), of.exportable.clone(), tracking(of).to_owned(), output::date(of.created_ms)]
}

fn show(shared: &Shared, answer: NamespaceResponse) -> CommandResult {
    let missing = || Failure::failed("can't show the namespace", "the answer holds none", "");
    let of = answer.namespace.ok_or_else(missing)?;
    shared.format().print(&to_json(&of), || {
        output::fields([
            ("namespace", of.name.as_str()),
            ("state", state(&of)),
            ("exportable", &of.exportable),
            ("usage tracking", tracking(&of)),
            ("created", &output::date(of.created_ms)),
            ("updated", &output::date(of.updated_ms)),
        ])
    })
}

/// A namespace in JSON, the same in every answer.
fn to_json(of: &Namespace) -> Value {
    json!({
        "name": of.name,
        "state": state(of),
        "exportable": of.exportable,
        "usage_tracking": !of.untracked,
        "created_at": output::moment(of.created_ms),
        "updated_at": output::moment(of.updated_ms),
    })
}

fn state(of: &Namespace) -> &'static str {
    match of.state() {
        NamespaceState::Live => "live",
        NamespaceState::Deleting => "deleting",
        NamespaceState::Unspecified => "unknown",
    }
}

fn tracking(of: &Namespace) -> &'static str {
    if of.untracked { "off" } else { "on" }
}
