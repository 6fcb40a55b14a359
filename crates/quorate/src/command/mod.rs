//! The command line (design §6): one module per command; what they share is beside them.
//!
//! A command translates words into calls of the client and answers into text. It holds no rule of its own, except what
//! must not leave the terminal: shares are checked before they are sent, files are encrypted where they are.

pub mod advice;
pub mod agree;
pub mod alias;
pub mod bench;
pub mod client_file;
pub mod completions;
pub mod connect;
pub mod context;
pub mod crypt;
pub mod derive;
pub mod dev;
pub mod evidence;
pub mod explain;
pub mod failure;
pub mod file;
pub mod files;
mod groups;
pub mod keys;
pub mod manual;
pub mod namespace;
pub mod operator;
pub mod output;
pub mod pki;
pub mod policy;
pub mod principal;
mod public;
pub mod secret;
pub mod server;
pub mod sign;
mod states;
pub mod terminal;
mod typed;
pub mod version;
mod words;
pub mod wrap;

use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};
use quorate_client::Client;

use connect::Connection;
use failure::{CommandResult, Doing, Failure};
use output::Format;
use quorate_core::seam::WallClock;
use typed::Typed;

use crate::wiring::SystemClock;

/// A key management system that an organisation runs itself: attended by a quorum.
#[derive(Parser, Debug)]
#[command(
    name = "quorate",
    version,
    max_term_width = 110,
    after_help = "Examples:
  quorate dev                       a local cluster to try
  quorate keys create --alias pay   a new key
  echo hi | quorate encrypt --key pay > secret
  quorate file encrypt --key pay --in a.tar --out a.tar.q
  quorate operator status           who leads, who is sealed
  quorate manual                    the operator's manual"
)]
pub struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(clap::Args, Debug)]
pub struct Shared {
    /// Form of the output [default: table on a terminal, json in a pipe]
    #[arg(long, short, value_name = "FORM", global = true)]
    output: Option<Format>,
    #[command(flatten)]
    connection: Connection,
}

impl Shared {
    /// The form of the output.
    pub fn format(&self) -> Format {
        Format::or_default(self.output)
    }

    /// The form that was asked for in so many words, if it is one for programs: of commands whose output is raw bytes otherwise.
    pub fn asked_for_programs(&self) -> Option<Format> {
        self.output.filter(|format| format.for_programs())
    }

    /// How the cluster is reached.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A client of the cluster.
    pub async fn client(&self) -> CommandResult<Client> {
        let config = self.connection.config()?;
        let for_people = self.asked_for_programs().is_none();
        if for_people {
            connect::warn_of_expiry(&config, SystemClock.now_ms());
        }
        let client = Client::connect(config).await.doing("connect")?.while_reachable();
        // Whoever reads errors as JSON finds nothing else there.
        Ok(if for_people { client.telling(on_wait()) } else { client })
    }
}

/// Says that a command waits for the cluster, and why.
fn on_wait() -> quorate_client::OnWait {
    std::sync::Arc::new(|why| eprintln!("waiting for a node that can answer ({}): {}", why.reason, why.message))
}

#[derive(Subcommand, Debug)]
enum Command {
    Dev(dev::Dev),
    Server(server::Server),
    Pki(pki::PkiCommand),
    Keys(keys::Keys),
    Alias(alias::AliasCommand),
    Secret(secret::SecretCommand),
    Namespace(namespace::NamespaceCommand),
    Principal(principal::PrincipalCommand),
    Credential(principal::CredentialCommand),
    Policy(policy::PolicyCommand),
    Evidence(evidence::EvidenceCommand),
    Encrypt(crypt::Encrypt),
    Decrypt(crypt::Decrypt),
    DataKey(crypt::DataKey),
    Random(crypt::Random),
    Sign(sign::Sign),
    Verify(sign::Verify),
    Mac(sign::Mac),
    VerifyMac(sign::VerifyMac),
    PublicKey(sign::PublicKey),
    Wrap(wrap::Wrap),
    Unwrap(wrap::Unwrap),
    #[command(name = "reencrypt")]
    ReEncrypt(wrap::ReEncrypt),
    DataKeyPair(wrap::DataKeyPair),
    Derive(derive::Derive),
    Digest(derive::Digest),
    Agree(agree::Agree),
    Encapsulate(agree::Encapsulate),
    Decapsulate(agree::Decapsulate),
    File(file::FileCommand),
    Operator(operator::Operator),
    Bench(bench::Bench),
    Context(context::ContextCommand),
    Explain(explain::Explain),
    Manual(manual::Manual),
    Version(version::Version),
    Completions(completions::Completions),
}

impl Command {
    /// Commands that load a PKCS#11 module need the process before it has threads, and bring their own runtime if any.
    fn run(self, shared: &Shared) -> CommandResult {
        match self {
            Self::Server(c) => c.run(),
            Self::Pki(c) => c.prepare().and_then(|()| c.run(shared)),
            Self::Manual(c) => c.run(),
            Self::Version(c) => c.run(shared),
            Self::Completions(c) => c.run(shared),
            Self::Context(c) => c.run(shared),
            Self::Explain(c) => c.run(shared),
            Self::Evidence(c) => c.run(shared),
            Self::Policy(c) => c.run(shared),
            other => {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
                runtime.map_err(|e| Failure::failed("can't start", e, ""))?.block_on(other.call(shared))
            }
        }
    }

    /// Commands that talk to a cluster.
    async fn call(self, shared: &Shared) -> CommandResult {
        match self {
            Self::Dev(c) => c.run().await,
            Self::Keys(c) => c.run(shared).await,
            Self::Alias(c) => c.run(shared).await,
            Self::Secret(c) => c.run(shared).await,
            Self::Namespace(c) => c.run(shared).await,
            Self::Principal(c) => c.run(shared).await,
            Self::Credential(c) => c.run(shared).await,
            Self::Encrypt(c) => c.run(shared).await,
            Self::Decrypt(c) => c.run(shared).await,
            Self::DataKey(c) => c.run(shared).await,
            Self::Random(c) => c.run(shared).await,
            Self::Sign(c) => c.run(shared).await,
            Self::Verify(c) => c.run(shared).await,
            Self::Mac(c) => c.run(shared).await,
            Self::VerifyMac(c) => c.run(shared).await,
            Self::PublicKey(c) => c.run(shared).await,
            Self::Wrap(c) => c.run(shared).await,
            Self::Unwrap(c) => c.run(shared).await,
            Self::ReEncrypt(c) => c.run(shared).await,
            Self::DataKeyPair(c) => c.run(shared).await,
            Self::Derive(c) => c.run(shared).await,
            Self::Digest(c) => c.run(shared).await,
            Self::Agree(c) => c.run(shared).await,
            Self::Encapsulate(c) => c.run(shared).await,
            Self::Decapsulate(c) => c.run(shared).await,
            Self::File(c) => c.run(shared).await,
            Self::Operator(c) => c.run(shared).await,
            Self::Bench(c) => c.run(shared).await,
            Self::Server(_)
            | Self::Pki(_)
            | Self::Manual(_)
            | Self::Version(_)
            | Self::Completions(_)
            | Self::Context(_)
            | Self::Explain(_)
            | Self::Evidence(_)
            | Self::Policy(_) => Ok(()),
        }
    }
}

/// Parses the arguments, runs the command, prints what went wrong; the process's exit code: 0 done, 1 refused or
/// failed, 2 called wrongly, 3 a cluster in which something is wrong.
pub fn main() -> ExitCode {
    completions::complete();
    let typed = Typed::of_process();
    if typed.hold_a_share() {
        return exposed(&typed);
    }
    let Cli { shared, command } = match groups::command().try_get_matches().and_then(|m| Cli::from_arg_matches(&m)) {
        Ok(cli) => cli,
        // Help, the version, and wrong usage (code 2), which a program learns as it learns of every failure.
        Err(e) if e.use_stderr() && typed.want_json() => {
            let text = e.to_string();
            let message = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            let failure = Failure::usage(message);
            eprintln!("{}", failure.to_json());
            return ExitCode::from(failure.exit_code());
        }
        Err(e) => e.exit(),
    };
    let done = command.run(&shared);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match (&failure, shared.output) {
                (Failure::Unwell, _) => {}
                (_, Some(format @ (Format::Json | Format::Yaml))) => {
                    eprintln!("{}", format.written(&failure.to_json(), String::new).unwrap_or_default());
                }
                _ => eprintln!("{failure}"),
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Somebody gave a share as an argument: everybody on this machine can have read it, and the shell keeps it.
fn exposed(typed: &Typed) -> ExitCode {
    let failure = Failure::failed(
        "a share of the unseal key stands on the command line",
        "whoever may look at this machine's processes, or at your shell's history, has it now; nothing was sent",
        "tell the other custodians: it is exposed, and the shares have to be made anew. Remove it from the shell's history; a share \
         is asked for by `quorate operator unseal`, or read from standard input",
    );
    if typed.want_json() {
        eprintln!("{}", failure.to_json());
    } else {
        eprintln!("{failure}");
    }
    ExitCode::from(failure.exit_code())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use quorate_core::request::{PLAINTEXT_LEN_MAX, Token};

    use super::*;

    fn walk(command: &clap::Command, path: &str, visit: &mut impl FnMut(&str, &clap::Command)) {
        visit(path, command);
        for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
            walk(sub, &format!("{path} {}", sub.get_name()), visit);
        }
    }

    #[test]
    fn every_command_has_help_with_examples_that_parse() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        walk(&command, "quorate", &mut |path, c| {
            let help = c.clone().render_long_help().to_string();
            assert!(help.contains("Examples:"), "{path} has no examples");
            assert!(c.get_about().is_some(), "{path} says not what it does");
            let examples = help.split("Examples:").nth(1).unwrap_or_default();
            let mut seen = 0;
            for line in examples.lines().filter_map(|l| Some(&l[l.find("quorate ")?..])) {
                // Words up to a pipe, a redirection or the explanation after two spaces.
                let text = line.split("  ").next().unwrap_or_default();
                let words: Vec<&str> =
                    text.split_whitespace().take_while(|w| !w.starts_with(['|', '<', '>', '#'])).collect();
                if let Err(e) = Cli::try_parse_from(&words) {
                    let known = matches!(words.get(1), Some(&("dev" | "server" | "pki")));
                    assert!(known, "{path}: {words:?}: {e}");
                }
                seen += 1;
            }
            assert!(seen > 0, "{path} has no example that begins with quorate");
        });
    }

    /// Where a number stands in prose, so that it can't be made from the constant.
    #[test]
    fn what_the_help_says_of_limits_is_so() {
        let minutes = quorate_service::seal::SHARES_KEPT.as_secs() / 60;
        assert_eq!(Token::BEHIND_MS_MAX, 60 * 60 * 1000, "\"for an hour\"");
        let says = [
            ("quorate encrypt", format!("Encrypt up to {PLAINTEXT_LEN_MAX} bytes")),
            ("quorate keys create", "for an hour".to_owned()),
            ("quorate keys rotate", "for an hour".to_owned()),
            ("quorate operator ceremony abort", format!("it ends after {minutes} minutes")),
        ];
        let mut seen = 0;
        walk(&Cli::command(), "quorate", &mut |path, c| {
            for (_, text) in says.iter().filter(|(of, _)| *of == path) {
                let help = c.clone().render_long_help().to_string();
                let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(words.contains(text), "{path} does not say {text:?}");
                seen += 1;
            }
        });
        assert_eq!(seen, says.len());
    }

    #[test]
    fn wrong_usage_is_code_2() {
        for args in [
            &["quorate", "nonsense"][..],
            &["quorate", "encrypt"],
            &["quorate", "encrypt", "--key", "k", "--aad", "no-equals-sign"],
            &["quorate", "random", "--bytes", "0"],
            &["quorate", "random", "--bytes", "1025"],
            &["quorate", "keys", "schedule-deletion", "k", "--days", "6"],
            &["quorate", "bench", "encrypt", "--clients", "0"],
            &["quorate", "operator", "init", "--shares", "3"],
            &["quorate", "--output", "xml", "version"],
        ] {
            let error = Cli::try_parse_from(args).expect_err(&args.join(" "));
            assert_eq!(error.exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn who_leaves_something_out_is_told_every_way_to_say_it() {
        for (args, ways) in [
            ("keys import k", &["--in", "--wrapped"][..]),
            ("keys set-rotation k", &["--days", "--never"]),
            ("keys update-version k", &["--enabled", "--activation", "--protect-stop", "--deactivation"]),
            ("derive --key k --algorithm pbkdf2 --bytes 32", &["--iterations"]),
        ] {
            let words = ["quorate"].into_iter().chain(args.split_whitespace());
            let error = Cli::try_parse_from(words).expect_err(args);
            assert_eq!(error.exit_code(), 2, "{args}");
            let said = error.to_string();
            assert!(ways.iter().all(|way| said.contains(way)), "{args}: {said}");
        }
        for args in ["keys update-version k --enabled false --protect-stop none", "keys revoke k --yes"] {
            let words = ["quorate"].into_iter().chain(args.split_whitespace());
            Cli::try_parse_from(words).expect("good");
        }
    }

    #[test]
    fn shared_flags_go_anywhere() {
        for args in [
            &["quorate", "--output", "json", "--addr", "a:1,b:2", "keys", "list"][..],
            &["quorate", "keys", "list", "-o", "json", "--addr", "a:1,b:2"],
            &["quorate", "keys", "--addr", "a:1", "--addr", "b:2", "list", "--output", "json"],
        ] {
            let cli = Cli::try_parse_from(args).expect("good");
            assert_eq!(cli.shared.connection.addr, ["a:1", "b:2"], "{args:?}");
            assert_eq!(cli.shared.asked_for_programs(), Some(Format::Json));
        }
    }
}
