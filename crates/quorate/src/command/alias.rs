//! `quorate alias …`: names of keys.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{Alias, CreateAliasRequest, DeleteAliasRequest, ListAliasesRequest};
use quorate_core::request::PAGE_LEN_MAX;
use serde_json::{Value, json};

use super::failure::{CommandResult, Doing, Failure};
use super::output::{self, List, Shown};
use super::{Shared, completions};

/// Names of keys.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate alias create cards --key payments
  quorate alias list")]
pub struct AliasCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Give a key one more name
    #[command(after_help = "Examples:
  quorate alias create cards --key 6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab
  quorate alias create cards --key payments")]
    Create {
        /// The name
        #[arg(value_name = "NAME")]
        name: String,
        /// The key: its id, NAME, alias/NAME or key/NAME
        #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
        key: String,
    },
    /// Take a name away; the key stays
    #[command(after_help = "Examples:
  quorate alias delete cards")]
    Delete {
        /// The name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// List names
    #[command(after_help = "Examples:
  quorate alias list
  quorate alias list --output json")]
    List {},
}

impl AliasCommand {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        match self.action {
            Action::Create { name, key } => {
                let answer = client.create_alias(CreateAliasRequest { name, key }).await.doing("create the alias")?;
                let missing = || Failure::failed("can't show the alias", "the answer holds none", "");
                let alias = answer.alias.ok_or_else(missing)?;
                shared
                    .format()
                    .print(&to_json(&alias), || output::fields([("alias", &alias.name), ("key", &alias.key_id)]))
            }
            Action::Delete { name } => {
                client.delete_alias(DeleteAliasRequest { name: name.clone() }).await.doing("delete the alias")?;
                shared.format().print(&json!({ "deleted": name }), || output::fields([("deleted", &name)]))
            }
            Action::List {} => {
                let columns = [("ALIAS", 22, Shown::Always), ("KEY", 36, Shown::Always), ("CREATED", 0, Shown::Wide)];
                let page = async |page_token| {
                    let request = ListAliasesRequest { limit: PAGE_LEN_MAX, page_token };
                    let page = client.list_aliases(request).await.doing("list aliases")?;
                    let more = !page.next_page_token.is_empty();
                    Ok((page.aliases, more.then_some(page.next_page_token)))
                };
                let row = |a: &Alias| [a.name.clone(), a.key_id.clone(), output::date(a.created_ms)];
                List::begin(shared.format(), "aliases", columns).pages(page, to_json, row).await
            }
        }
    }
}

fn to_json(alias: &Alias) -> Value {
    json!({ "name": alias.name, "key_id": alias.key_id, "created_at": output::moment(alias.created_ms) })
}
