//! `quorate manual`: the operator's manual, for a host that has nothing but this program.

use clap::{Args, ValueEnum};

use super::failure::CommandResult;
use super::output;

/// Print a page of the operator's manual.
///
/// Without a topic: the list of topics.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate manual                    the topics
  quorate manual trouble | less
  quorate manual unit > /etc/systemd/system/quorate.service")]
pub struct Manual {
    /// Which page
    #[arg(value_enum, value_name = "TOPIC")]
    topic: Option<Topic>,
}

/// The pages, in the order in which they are needed.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Topic {
    /// A cluster on three machines, by the letter
    Cluster,
    /// client.toml, the environment, certificates, roles, limits, metrics
    Clients,
    /// Every kind of key, what it does, its versions, its end
    Keys,
    /// Keeping secrets: passwords, tokens, certificates
    Secrets,
    /// Tenants in one cluster: names, lists and settings of their own
    Namespaces,
    /// Writing and checking policies: who may do what
    Policies,
    /// Custodians, their shares, unsealing and sealing
    Ceremony,
    /// Restarts, upgrades, members that come and go, renewing certificates
    Planned,
    /// What you see when something is wrong, what it is, what to do
    Trouble,
    /// Replacing a damaged member
    Replace,
    /// Full disks; disks that lie, and folders that were put back
    Disks,
    /// What may be lost, and what that costs
    Disaster,
    /// What is readable on disks, on the network and in memory
    AtRest,
    /// A node's configuration, every setting explained (TOML)
    Config,
    /// A node as a hardened systemd service (a unit file)
    Unit,
}

impl Topic {
    const fn text(self) -> &'static str {
        match self {
            Self::Cluster => include_str!("../../manual/cluster.md"),
            Self::Clients => include_str!("../../manual/clients.md"),
            Self::Keys => include_str!("../../manual/keys.md"),
            Self::Secrets => include_str!("../../manual/secrets.md"),
            Self::Namespaces => include_str!("../../manual/namespaces.md"),
            Self::Policies => include_str!("../../manual/policies.md"),
            Self::Ceremony => include_str!("../../manual/ceremony.md"),
            Self::Planned => include_str!("../../manual/planned.md"),
            Self::Trouble => include_str!("../../manual/trouble.md"),
            Self::Replace => include_str!("../../manual/replace.md"),
            Self::Disks => include_str!("../../manual/disks.md"),
            Self::Disaster => include_str!("../../manual/disaster.md"),
            Self::AtRest => include_str!("../../manual/at-rest.md"),
            Self::Config => include_str!("../../../../cluster-config/joining-node.toml"),
            Self::Unit => include_str!("../../../../cluster-config/quorate.service"),
        }
    }
}

impl Manual {
    /// Prints it.
    pub fn run(&self) -> CommandResult {
        output::bytes(self.topic.map_or_else(topics, |topic| topic.text().to_owned()).as_bytes())
    }
}

/// A line for each topic.
fn topics() -> String {
    let values = Topic::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let lines = values.map(|value| {
        let about = value.get_help().map(ToString::to_string).unwrap_or_default();
        format!("  {:<12}{about}\n", value.get_name())
    });
    format!("quorate manual TOPIC\n\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::ErrorKind;
    use quorate_service::seal::Health;

    use super::super::Cli;
    use super::*;

    const README: &str = include_str!("../../../../README.md");

    /// Every page that people read, with its name.
    fn pages() -> impl Iterator<Item = (String, &'static str)> {
        let named =
            |topic: &Topic| (topic.to_possible_value().expect("none is hidden").get_name().to_owned(), topic.text());
        Topic::value_variants().iter().map(named).chain([("README.md".to_owned(), README)])
    }

    /// Where a command stands.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum In {
        /// A line of a fenced block of shell: to be typed.
        Block,
        /// A code span of the text: there a command may only be named.
        Text,
    }

    /// The code of a page: lines of shell, and spans.
    fn code(page: &str) -> Vec<(In, String)> {
        let (mut found, mut paragraph, mut fence) = (Vec::new(), String::new(), None);
        // A line that goes on in the next is one line.
        for line in page.replace("\\\n", " ").lines().chain([""]) {
            match (line.strip_prefix("```"), fence) {
                (Some(_), Some(_)) => fence = None,
                (Some(language), None) => fence = Some(language.starts_with("sh")),
                (None, Some(true)) => found.push((In::Block, line.to_owned())),
                (None, Some(false)) => {}
                // A code span may be broken between two lines, a paragraph's end is its end.
                (None, None) if !line.trim().is_empty() => paragraph = paragraph + " " + line.trim(),
                (None, None) => {
                    let spans = std::mem::take(&mut paragraph);
                    found.extend(spans.split('`').skip(1).step_by(2).map(|span| (In::Text, span.to_owned())));
                }
            }
        }
        found
    }

    /// The calls of quorate in the code of a page, as words.
    fn calls(page: &str) -> Vec<(In, Vec<String>)> {
        let of_line = |(place, line): (In, String)| {
            let line = line.split(" #").next().unwrap_or_default().replace("runuser -u quorate -- ", "");
            let parts = line.split(['|', ';', '(', ')']).flat_map(|part| part.split("&&"));
            let calls = parts.filter_map(|part| {
                let words = part.split_whitespace().skip_while(is_no_command);
                let words: Vec<_> = words.take_while(|word| !word.starts_with(['>', '<'])).map(bare).collect();
                (words.first()? == "quorate").then_some((place, words))
            });
            calls.collect::<Vec<_>>()
        };
        code(page).into_iter().flat_map(of_line).collect()
    }

    /// What may stand before a command: variables set for it, words of the shell.
    fn is_no_command(word: &&str) -> bool {
        word.contains('=') || matches!(*word, "do" | "then" | "exec" | "eval")
    }

    /// Without quotes, and with a variable's name for its value.
    fn bare(word: &str) -> String {
        word.trim_matches(['\'', '"']).replace('$', "")
    }

    #[test]
    fn the_shell_of_a_page_is_read_as_a_shell_reads_it() {
        let page = "`quorate keys\nlist` and `QUORATE_ADDR=a quorate version`, not quorate itself\n\n```toml\nquorate = 1\n```\n\
                    ```sh n1\nA=1 runuser -u quorate -- quorate server --config f  # quorate here\n\
                    echo hi | quorate encrypt \\\n  --key 'k' > f && quorate random --bytes 3\n```\n";
        let found: Vec<_> = calls(page).into_iter().map(|(place, words)| (place, words.join(" "))).collect();
        let expected = [
            (In::Text, "quorate keys list"),
            (In::Text, "quorate version"),
            (In::Block, "quorate server --config f"),
            (In::Block, "quorate encrypt --key k"),
            (In::Block, "quorate random --bytes 3"),
        ];
        assert_eq!(found, expected.map(|(place, words)| (place, words.to_owned())));
    }
    #[test]
    fn every_command_in_readme_and_manual_is_one() {
        for (name, page) in pages() {
            let calls = calls(page);
            let wrong =
                calls.iter().filter_map(|(place, words)| match Cli::try_parse_from(words).map_err(|e| e.kind()) {
                    Ok(_) | Err(ErrorKind::DisplayHelp) => None,
                    Err(ErrorKind::MissingRequiredArgument) if *place == In::Text => None,
                    Err(kind) => Some(format!("{kind:?}: {}", words.join(" "))),
                });
            assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new(), "{name}");
            let some = if matches!(name.as_str(), "README.md" | "cluster" | "planned") { 10 } else { 0 };
            assert!(calls.len() >= some, "{name}: {calls:?}");
        }
    }

    /// A terminal wraps nothing, and each is read in one sitting.
    #[test]
    fn pages_are_of_a_size_to_read() {
        for (name, page) in pages() {
            let (width_max, lines_max) = match name.as_str() {
                "README.md" => (160, 150),
                "config" | "unit" => (110, 150),
                _ => (80, 400),
            };
            let wide: Vec<_> = page.lines().filter(|line| line.chars().count() > width_max).collect();
            assert_eq!(wide, Vec::<&str>::new(), "{name}");
            assert!(page.lines().count() <= lines_max, "{name}");
        }
    }

    #[test]
    fn what_the_readme_links_to_is_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let local: Vec<_> = links.filter(|link| !link.starts_with("http")).collect();
        assert!(!local.is_empty());
        for link in local {
            assert!(root.join(link).exists(), "{link}");
        }
    }

    #[test]
    fn the_list_has_a_line_for_every_topic() {
        let list = topics();
        for topic in Topic::value_variants() {
            let value = topic.to_possible_value().expect("none is hidden");
            let line = list.lines().find(|line| line.split_whitespace().next() == Some(value.get_name()));
            assert!(line.is_some_and(|line| line.split_whitespace().count() > 2), "{}", value.get_name());
            assert!(topic.text().ends_with('\n'));
        }
        let unknown = Cli::try_parse_from(["quorate", "manual", "nonsense"]).expect_err("no such page").to_string();
        assert!(unknown.contains("at-rest") && unknown.contains("trouble"), "{unknown}");
    }

    /// What an error's word means is for `quorate explain`.
    #[test]
    fn trouble_knows_every_state() {
        let page = Topic::Trouble.text();
        for health in Health::ALL.iter().filter(|health| **health != Health::Ok) {
            assert!(page.contains(&format!("### {}", health.as_str())), "{}", health.as_str());
        }
    }

    #[test]
    fn metrics_that_are_named_are_there() {
        let source = include_str!("../wiring/metrics.rs");
        let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut seen = 0;
        for (page, text) in pages() {
            for name in text.split(|c| !is_in_name(c)).filter_map(|word| word.strip_prefix("quorate_")) {
                assert!(source.contains(&format!("\"{name}\"")), "{page}: quorate_{name}");
                seen += 1;
            }
        }
        assert!(seen > 5);
    }
}
