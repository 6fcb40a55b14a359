//! `quorate completions`: what the shell offers while a command is typed, names of keys and members among it, and the manual pages.
//!
//! The shell asks this program itself, so that what it offers is what there is.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory};
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use quorate_client::v1::{
    ListAliasesRequest, ListKeysRequest, ListNamespacesRequest, ListSecretsRequest, StatusRequest,
};
use quorate_client::{Client, ClientConfig};
use quorate_core::request::PAGE_LEN_MAX;
use serde_json::json;

use super::client_file::ClientFile;
use super::failure::{CommandResult, Failure};
use super::typed::{ASKED_BY, Typed};
use super::{Cli, Shared, files, groups, output};

/// Somebody waits at the keyboard.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);

/// Complete commands in your shell, and read them as manual pages.
///
/// Without --install the shell's part is printed, for you to put where you want it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate completions --install
  quorate completions zsh --install
  quorate completions bash > /etc/bash_completion.d/quorate")]
pub struct Completions {
    /// Which shell [default: of SHELL]
    #[arg(value_parser = PossibleValuesParser::new(["bash", "zsh", "fish", "elvish", "powershell"]))]
    shell: Option<String>,
    /// Put it, and the manual pages, where your shell and man look for them
    #[arg(long)]
    install: bool,
}

impl Completions {
    /// Prints or installs them.
    pub fn run(&self, shared: &Shared) -> CommandResult {
        let shell = match (&self.shell, std::env::var_os("SHELL")) {
            (Some(shell), _) => shell.clone(),
            (None, Some(path)) => PathBuf::from(path).file_name().unwrap_or_default().to_string_lossy().into_owned(),
            (None, None) => String::new(),
        };
        let shells = Shells::builtins();
        let completer = shells.completer(&shell).ok_or_else(|| {
            let known: Vec<&str> = shells.names().collect();
            Failure::usage(format!("say for which shell: {}", known.join(", ")))
        })?;
        let mut script = Vec::new();
        let written = completer.write_registration(ASKED_BY, "quorate", "quorate", "quorate", &mut script);
        written.map_err(|e| Failure::failed("can't write the completions", e, ""))?;
        if !self.install {
            return output::bytes(&script);
        }
        let path = place(&shell)?;
        put(&path, &script)?;
        let pages = data_home()?.join("man/man1");
        files::create_dir(&pages)?;
        let made = clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &pages);
        made.map_err(|e| Failure::failed("can't write the manual pages", format!("{}: {e}", pages.display()), ""))?;
        let (path, pages) = (path.display().to_string(), pages.display().to_string());
        let json = json!({ "shell": shell, "completions": path, "manual_pages": pages });
        shared.format().print(&json, || {
            let note = match shell.as_str() {
                "zsh" => "if it does not work, put its folder into fpath, before compinit",
                _ => "in a new shell; `man quorate` works where ~/.local/bin is in PATH",
            };
            output::fields([("completions", path.as_str()), ("manual pages", &pages), ("they work", note)])
        })
    }
}

fn put(path: &std::path::Path, bytes: &[u8]) -> CommandResult {
    if let Some(folder) = path.parent() {
        files::create_dir(folder)?;
    }
    files::replace(path, 0o644, bytes)
        .map_err(|e| Failure::failed("can't write a file", format!("{}: {e}", path.display()), ""))
}

fn home(variable: &str, below: &str) -> CommandResult<PathBuf> {
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_absolute());
    let found = set.or_else(|| Some(std::env::home_dir()?.join(below)));
    found.ok_or_else(|| {
        Failure::failed("can't find your folder", "HOME is not set", "set it, or print and place them yourself")
    })
}

fn data_home() -> CommandResult<PathBuf> {
    home("XDG_DATA_HOME", ".local/share")
}

/// Where a shell looks for a user's completions.
fn place(shell: &str) -> CommandResult<PathBuf> {
    match shell {
        "bash" => Ok(data_home()?.join("bash-completion/completions/quorate")),
        "zsh" => Ok(data_home()?.join("zsh/site-functions/_quorate")),
        "fish" => Ok(home("XDG_CONFIG_HOME", ".config")?.join("fish/completions/quorate.fish")),
        other => Err(Failure::failed(
            format!("can't install for {other}"),
            "it has no folder for completions",
            format!("put what `quorate completions {other}` prints into its start file"),
        )),
    }
}

/// Answers the shell, and ends, if that is who asks.
pub fn complete() {
    CompleteEnv::with_factory(groups::command).var(ASKED_BY).complete();
}

/// Names of keys that begin as typed.
pub fn keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let prefix = ["alias/", "key/"].into_iter().find(|prefix| typed.starts_with(prefix)).unwrap_or("");
    let begun = &typed[prefix.len()..];
    let names = asked(async move |client| {
        if prefix == "key/" {
            let page = client.list_keys(ListKeysRequest { limit: PAGE_LEN_MAX, ..Default::default() }).await.ok()?;
            return Some(page.keys.into_iter().map(|key| key.name).filter(|name| !name.is_empty()).collect());
        }
        let page = client.list_aliases(ListAliasesRequest { limit: PAGE_LEN_MAX, ..Default::default() }).await.ok()?;
        Some(page.aliases.into_iter().map(|alias| alias.name).collect())
    });
    names
        .into_iter()
        .filter(|name| name.starts_with(begun))
        .map(|name| CompletionCandidate::new(format!("{prefix}{name}")))
        .collect()
}

/// Names of secrets that begin as typed.
pub fn secrets(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let names = asked(async |client| {
        let page = client.list_secrets(ListSecretsRequest { limit: PAGE_LEN_MAX, ..Default::default() }).await.ok()?;
        Some(page.secrets.into_iter().map(|secret| secret.name).collect())
    });
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// Names of namespaces that begin as typed.
pub fn namespaces(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let names = asked(async |client| {
        let request = ListNamespacesRequest { limit: PAGE_LEN_MAX, ..Default::default() };
        let page = client.list_namespaces(request).await.ok()?;
        Some(page.namespaces.into_iter().map(|namespace| namespace.name).collect())
    });
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// Names of members that begin as typed.
pub fn members(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let names = asked(async |client| {
        let status = client.status(StatusRequest {}).await.ok()?;
        Some(status.nodes.into_iter().map(|node| node.name).collect())
    });
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// Names of contexts that begin as typed.
pub fn contexts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let names = in_time(|| {
        let known = ClientFile::load(&Typed::of_process().connection().file_path()?).ok()?;
        Some(known.contexts.into_keys().collect())
    });
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// What the cluster that the line, the environment or the client file names answers in a moment; nothing when it does not.
fn asked(ask: impl AsyncFnOnce(Client) -> Option<Vec<String>> + Send + 'static) -> Vec<String> {
    in_time(|| {
        let config = ClientConfig { deadline: ANSWER_WITHIN, ..Typed::of_process().connection().config().ok()? };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async { ask(Client::connect(config).await.ok()?.impatient()).await })
    })
}

/// Somebody waits at the keyboard: whatever hangs, a file or a name service, is left behind with its thread.
#[expect(clippy::disallowed_methods, reason = "a thread that may hang, in a process that is about to end")]
fn in_time(work: impl FnOnce() -> Option<Vec<String>> + Send + 'static) -> Vec<String> {
    let (done, answer) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || done.send(work()));
    answer.recv_timeout(ANSWER_WITHIN).ok().flatten().unwrap_or_default()
}
