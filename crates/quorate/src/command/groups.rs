//! The command line as help shows it: commands in groups by who needs them, and how to reach a cluster only where one is reached.

use clap::CommandFactory;

use super::Cli;
use super::terminal::Surface;

/// Commands by what people come for.
const GROUPS: [(&str, &[&str]); 7] = [
    ("Use keys", &["encrypt", "decrypt", "reencrypt", "file", "data-key", "data-key-pair", "wrap", "unwrap", "random"]),
    (
        "Sign, agree and derive",
        &[
            "sign",
            "verify",
            "public-key",
            "mac",
            "verify-mac",
            "agree",
            "encapsulate",
            "decapsulate",
            "derive",
            "digest",
        ],
    ),
    ("Manage keys", &["keys", "alias", "namespace", "evidence"]),
    ("Keep secrets", &["secret"]),
    ("Say who may", &["principal", "credential", "policy"]),
    ("Operate a cluster", &["dev", "pki", "server", "operator", "bench"]),
    ("Help and settings", &["manual", "explain", "context", "completions", "version", "help"]),
];

/// Room for a command's name, and what stands before what is said of it.
const NAME: usize = 14;
const INDENT: usize = NAME + 3;

/// Commands that reach no cluster.
const ALONE: [&str; 9] = ["dev", "pki", "server", "policy", "evidence", "manual", "explain", "completions", "version"];

/// The whole command line.
pub fn command() -> clap::Command {
    let mut command = Cli::command().help_template(template(&Cli::command()));
    command.build();
    for name in ALONE {
        command = command.mut_subcommand(name, alone);
    }
    command
}

/// What is said of a connection is hidden, here and below.
fn alone(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let connection = |arg: &clap::Arg| arg.get_help_heading() == Some(super::connect::HEADING);
    let command = command.mut_args(|arg| if connection(&arg) { arg.hide(true) } else { arg });
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, alone))
}

fn template(command: &clap::Command) -> String {
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    let surface = Surface::stdout();
    let heading = command.get_styles().get_header();
    let literal = command.get_styles().get_literal();
    for (title, names) in GROUPS {
        text += &format!("\n{heading}{title}:{heading:#}\n");
        for name in names {
            let about = match command.find_subcommand(name).and_then(clap::Command::get_about) {
                Some(about) => about.to_string(),
                None => "Print this message or the help of the given command".to_owned(),
            };
            let lines = surface.wrap(INDENT, &about);
            let lines = lines.join(&format!("\n{:INDENT$}", ""));
            text += &format!("  {literal}{name:<NAME$}{literal:#} {lines}\n");
        }
    }
    text + &format!("\n{heading}Options:{heading:#}\n{{options}}{{after-help}}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = command();
        let grouped: Vec<&str> =
            GROUPS.iter().flat_map(|(_, names)| *names).copied().filter(|n| *n != "help").collect();
        let visible = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
        let all: BTreeSet<&str> = visible.map(clap::Command::get_name).collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(grouped.len(), all.len(), "none twice");
    }

    #[test]
    fn the_first_examples_fit_a_narrow_terminal() {
        let examples = command().get_after_help().map(ToString::to_string).unwrap_or_default();
        let wide: Vec<&str> = examples.lines().filter(|line| line.chars().count() > 60).collect();
        assert!(examples.contains("quorate dev") && wide.is_empty(), "{wide:?}");
    }

    #[test]
    fn only_what_reaches_a_cluster_speaks_of_connections() {
        let mut command = command();
        let help = |path: &[&str], command: &mut clap::Command| {
            let found = path.iter().fold(command, |c, name| c.find_subcommand_mut(name).expect("a command"));
            found.render_long_help().to_string()
        };
        assert!(help(&["keys", "list"], &mut command).contains("--cacert"));
        for path in [&["version"][..], &["pki", "sign"], &["dev"]] {
            assert!(!help(path, &mut command).contains("--cacert"), "{path:?}");
        }
    }
}
