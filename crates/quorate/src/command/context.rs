//! `quorate context …`: several clusters, or several of one's own certificates, in one client file.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use serde_json::{Value, json};

use super::client_file::{Addresses, ClientFile, Edited, Settings};
use super::connect::Connection;
use super::failure::{CommandResult, Failure};
use super::output::{self, List, Shown};
use super::{Shared, completions};

/// Name connections, and choose among them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate context add prod --addr n1.example.com:7600,n2.example.com:7600 --cacert ca.pem --client-cert alice.pem --client-key alice.key
  quorate context use prod
  quorate --context prod keys list

They are kept in ~/.config/quorate/client.toml, or the file of QUORATE_CONFIG. The first of these counts as a whole: --context or
--client-config on the command line, QUORATE_CONTEXT, QUORATE_ADDR and its like, the context in use. Other flags change it.")]
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
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions::contexts))]
        name: String,
    },
    /// Keep how a cluster is reached, as flags or the environment say it, under a name
    #[command(after_help = "Examples:
  quorate context add prod --addr n1.example.com:7600 --cacert ca.pem --client-cert alice.pem --client-key alice.key
  quorate context add dev  keeps what QUORATE_ADDR and its like say")]
    Add {
        /// Its name
        #[arg(value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
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
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions::contexts))]
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
            Action::List {} => {
                say_what_overrides(shared);
                list(shared, &known)
            }
            Action::Use { name } => {
                known.context(Some(&name))?;
                let mut file = Edited::open(path.clone())?;
                file.set_current(&name);
                file.store()?;
                say_what_overrides(shared);
                done("using", &name)
            }
            Action::Add { name, force } => {
                if known.contexts.contains_key(&name) && !force {
                    let why = format!("there is a context {name:?} already");
                    return Err(Failure::failed("can't add the context", why, "replace it with --force"));
                }
                let settings = absolute(connection.to_keep());
                if settings.client_cert.is_some() != settings.client_key.is_some() {
                    return Err(Failure::usage(
                        "a certificate and its key belong together: give --client-cert and --client-key",
                    ));
                }
                if settings.addr.is_none() || settings.cacert.is_none() {
                    return Err(Failure::usage(
                        "a context needs at least --addr and --cacert (or QUORATE_ADDR and QUORATE_CACERT)",
                    ));
                }
                let mut file = Edited::open(path.clone())?;
                file.put(&name, &settings);
                file.store()?;
                show(shared, &name, &settings)
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

/// What comes before the context in use, if anything does.
fn say_what_overrides(shared: &Shared) {
    if let Some(variable) = Connection::overriding().filter(|_| shared.asked_for_programs().is_none()) {
        eprintln!("note: {variable} is set and comes before it; unset it, or name a context with --context");
    }
}

fn to_json(name: &str, current: bool, s: &Settings) -> Value {
    json!({
        "name": name,
        "current": current,
        "addr": s.addr.clone().map(Addresses::list).unwrap_or_default(),
        "cacert": s.cacert,
        "client_cert": s.client_cert,
        "client_key": s.client_key,
        "timeout": s.timeout.map_or(Value::Null, Value::from),
        "namespace": s.namespace,
    })
}

/// What was kept, for whoever keeps it to look at.
fn show(shared: &Shared, name: &str, s: &Settings) -> CommandResult {
    let path = |p: &Option<std::path::PathBuf>| p.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    shared.format().print(&to_json(name, false, s), || {
        output::fields([
            ("added", name.to_owned()),
            ("nodes", s.addr.clone().map(Addresses::list).unwrap_or_default().join(",")),
            ("root certificate", path(&s.cacert)),
            ("certificate", path(&s.client_cert)),
            ("private key", path(&s.client_key)),
            ("namespace", s.namespace.clone().unwrap_or_default()),
        ])
    })
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
        |(name, s)| to_json(name, current(name), s),
        |(name, s)| {
            let certificate = s.client_cert.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
            [if current(name) { "*" } else { "" }.to_owned(), (*name).clone(), nodes(s).join(","), certificate]
        },
    )?;
    list.end()
}
