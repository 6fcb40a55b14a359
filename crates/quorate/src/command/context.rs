//! `quorate context …`: several clusters, or several of one's own certificates, in one client file.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Shared;
use super::client_file::{Addresses, ClientFile, Edited, Settings};
use super::failure::{CommandResult, Failure};
use super::output::{self, List, Shown};

/// Name connections, and choose among them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate context add prod --addr n1.example.com:7600,n2.example.com:7600 --cacert ca.pem --client-cert alice.pem --client-key alice.key
  quorate context use prod
  quorate --context prod keys list

They are kept in ~/.config/quorate/client.toml, or the file of QUORATE_CONFIG. What a flag says comes first, then QUORATE_ADDR and its like,
then the context in use; --context on the command line comes instead of the environment.")]
pub struct ContextCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List contexts
    #[command(after_help = "Examples:
  quorate context list
  quorate context list --output json")]
    List {},
    /// Use a context from now on
    #[command(after_help = "Examples:
  quorate context use prod")]
    Use {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Keep how a cluster is reached, as flags or the environment say it, under a name
    #[command(after_help = "Examples:
  quorate context add prod --addr n1.example.com:7600 --cacert ca.pem --client-cert alice.pem --client-key alice.key
  quorate context add dev  keeps what QUORATE_ADDR and its like say")]
    Add {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Replace a context of that name
        #[arg(long)]
        force: bool,
    },
    /// Forget a context; the files that it names stay
    #[command(after_help = "Examples:
  quorate context remove dev")]
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

impl ContextCommand {
    /// Does it.
    pub fn run(self, shared: &Shared) -> CommandResult {
        let connection = &shared.connection;
        let path = connection.file_path().ok_or_else(|| {
            Failure::failed("can't find the client file", "HOME is not set", "name one with --client-config")
        })?;
        // One that does not exist yet is made by `add`.
        let known = if super::files::exists(&path) { ClientFile::load(&path)? } else { ClientFile::default() };
        let done = |what: &str, name: &str| {
            shared
                .format()
                .print(&json!({ what: name }), || output::fields([(what, name), ("in", &path.display().to_string())]))
        };
        match self.action {
            Action::List {} => list(shared, &known),
            Action::Use { name } => {
                known.context(Some(&name))?;
                let mut file = Edited::open(path.clone())?;
                file.set_current(&name);
                file.store()?;
                done("using", &name)
            }
            Action::Add { name, force } => {
                if known.contexts.contains_key(&name) && !force {
                    let why = format!("there is a context {name:?} already");
                    return Err(Failure::failed("can't add the context", why, "replace it with --force"));
                }
                let settings = absolute(connection.settings());
                if settings.addr.is_none() || settings.cacert.is_none() {
                    return Err(Failure::usage(
                        "a context needs at least --addr and --cacert (or QUORATE_ADDR and QUORATE_CACERT)",
                    ));
                }
                let mut file = Edited::open(path.clone())?;
                file.put(&name, &settings);
                file.store()?;
                done("added", &name)
            }
            Action::Remove { name } => {
                known.context(Some(&name))?;
                let mut file = Edited::open(path.clone())?;
                file.remove(&name);
                file.store()?;
                done("removed", &name)
            }
        }
    }
}

/// As it works from any folder.
fn absolute(settings: Settings) -> Settings {
    let path = |p: Option<std::path::PathBuf>| p.map(|p| std::path::absolute(&p).unwrap_or(p));
    Settings {
        cacert: path(settings.cacert),
        client_cert: path(settings.client_cert),
        client_key: path(settings.client_key),
        ..settings
    }
}

fn list(shared: &Shared, file: &ClientFile) -> CommandResult {
    let columns = [
        ("CURRENT", 7, Shown::Always),
        ("NAME", 16, Shown::Always),
        ("NODES", 0, Shown::Always),
        ("CERTIFICATE", 0, Shown::Wide),
    ];
    let contexts: Vec<_> = file.contexts.iter().collect();
    let mut list = List::begin(shared.format(), "contexts", columns);
    let nodes = |s: &Settings| s.addr.clone().map(Addresses::list).unwrap_or_default();
    let current = |name: &str| file.current.as_deref() == Some(name);
    list.add(
        &contexts,
        |(name, s)| {
            json!({
                "name": name,
                "current": current(name),
                "addr": nodes(s),
                "cacert": s.cacert,
                "client_cert": s.client_cert,
                "client_key": s.client_key,
                "timeout": s.timeout.map_or(Value::Null, Value::from),
            })
        },
        |(name, s)| {
            let certificate = s.client_cert.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
            [if current(name) { "*" } else { "" }.to_owned(), (*name).clone(), nodes(s).join(","), certificate]
        },
    )?;
    list.end()
}
