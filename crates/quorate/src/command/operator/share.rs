//! Reading and checking shares: a bad one never leaves the terminal. `quorate operator share check`.

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::{Args, Subcommand};
use quorate_client::v1::SealConfigRequest;
use quorate_client::{Client, ServerIdentity};
use quorate_crypto::{ClusterFingerprint, SHARE_TEXT_LEN, SealConfig, Share, ShareError};
use serde_json::json;
use zeroize::Zeroizing;

use super::memory::Memory;
use super::{incomplete, nodes};
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::{Shared, output};
use crate::prompt::{ReadError, Secrets};

/// A share is 85 characters; with spaces between groups, numbers and line ends it is longer.
const TEXT_LEN_MAX: usize = 1024;
/// On a terminal a mistyped share may be typed again this often.
const TRIES_MAX: usize = 3;

/// Test shares.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator share check
  quorate operator share check < share-1.txt")]
pub struct ShareCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Test a share against the cluster's public seal configuration; nothing of it is sent
    ///
    /// Tells a typing error (and where), a share of another cluster, of an old set, and a forged one. The share is read
    /// from the terminal, without being shown, or from standard input.
    #[command(after_help = "Examples:
  quorate operator share check
  quorate operator share check < share-1.txt
  quorate operator share check --output json < share-1.txt")]
    Check {
        /// Take a cluster that is older than you know it for the same, after a loss that all custodians know of
        #[arg(long)]
        older: bool,
    },
}

impl ShareCommand {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let Action::Check { older } = self.action;
        let client = shared.client().await?;
        let answers = nodes::first_to_answer(&client).await?;
        let public = Public::of(&answers).await?;
        Memory::of(public.config.cluster)?.check(&answers, &public.chain, older).await?;
        let share = public.read_share("check the share")?;
        let label = public.label(share.x());
        let json = json!({
            "valid": true,
            "share_number": share.x(),
            "custodian": label,
            "set": public.config.set_id.to_string(),
            "threshold": share.threshold(),
            "cluster_id": public.config.cluster.to_string(),
        });
        shared.format().print(&json, || {
            output::fields([
                ("share", format!("{} of {}, valid", share.x(), public.config.total)),
                ("custodian", label.clone()),
                ("set", public.config.set_id.to_string()),
                ("cluster", public.config.cluster.to_string()),
                ("sent", "nothing".to_owned()),
            ])
        })
    }
}

/// What everyone may know about a cluster's shares, from a node that has proven to be of that cluster.
pub struct Public {
    /// The seal configuration in force.
    pub config: SealConfig,
    /// Every generation, the oldest first; the last is the one in force.
    pub chain: Vec<SealConfig>,
    /// Who answered the handshake.
    pub server: ServerIdentity,
    /// The address that was given for it.
    address: String,
    fingerprint: ClusterFingerprint,
}

impl Public {
    /// Asks one node ([`Client::node`]).
    pub async fn of(client: &Client) -> CommandResult<Self> {
        let answer = client.seal_config(SealConfigRequest {}).await.doing("get the public seal configuration")?;
        let server = client.server_identity().ok_or_else(|| incomplete("certificate"))?;
        let decode = |bytes: &[u8]| {
            SealConfig::decode(bytes).map_err(|e| {
                Failure::failed("can't read the public seal configuration", e, "use the newest version of quorate")
            })
        };
        let config = decode(&answer.seal_config)?;
        let earlier = answer.earlier.iter().map(|bytes| decode(bytes));
        let chain = earlier.chain([Ok(config.clone())]).collect::<CommandResult<_>>()?;
        if config.cluster != server.cluster {
            let why = format!(
                "its certificate is of cluster {}, its seal configuration of {}",
                server.cluster, config.cluster
            );
            return Err(Failure::failed("can't trust the node", why, "enter no share; tell the other custodians"));
        }
        let fingerprint = ClusterFingerprint::new(config.cluster, &server.root_spki);
        let address = client.addresses().next().unwrap_or_default().to_owned();
        Ok(Self { config, chain, server, address, fingerprint })
    }

    /// The custodian's label.
    pub fn label(&self, x: u8) -> String {
        self.config.custodian(x).map(|c| c.label.clone()).unwrap_or_default()
    }

    /// Where the share is about to go, for the custodian to look at before typing.
    pub fn heading(&self) -> String {
        let Self { config, server, address, fingerprint, .. } = self;
        format!(
            "node      {} at {address}\ncluster   {}, fingerprint {fingerprint}\nseal      generation {}, fingerprint {}",
            server.node,
            config.cluster,
            config.generation,
            config.fingerprint()
        )
    }

    /// Reads one share from the terminal or standard input, and checks it. On a terminal, a mistyped one may be typed
    /// again.
    pub fn read_share(&self, what: &str) -> CommandResult<Share> {
        eprintln!("{}", self.heading());
        let failed = |e: ReadError| Failure::failed(format!("can't {what}"), e, "nothing was sent");
        // Quiet over all tries: what comes late of one is not shown before the next.
        let secrets = Secrets::begin().map_err(|e| failed(e.into()))?;
        for tries_left in (0..TRIES_MAX).rev() {
            let text = secrets.read("Share (not shown): ", TEXT_LEN_MAX, missing).map_err(failed)?;
            if text.trim().is_empty() {
                let todo = "type it, or give it on standard input, as in `quorate operator unseal < share-1.txt`";
                return Err(Failure::failed(format!("can't {what}"), "no share was given", todo));
            }
            match Share::parse(&without_numbers(&text)).and_then(|share| self.check(&share).map(|()| share)) {
                Ok(share) => return Ok(share),
                Err(e @ (ShareError::Typo(_) | ShareError::NotAShare))
                    if tries_left > 0 && std::io::stdin().is_terminal() =>
                {
                    eprintln!("{e}");
                }
                Err(e) => return Err(refused(what, &e)),
            }
        }
        Err(Failure::failed(format!("can't {what}"), "it was mistyped too often", ""))
    }

    /// Checks a share against what is public.
    pub fn check(&self, share: &Share) -> Result<(), ShareError> {
        share.check(&self.config, &self.fingerprint)
    }
}

/// What a share lacks, in words; empty before its first character. None when it has come to its end, or is no share: it may be
/// typed and pasted in the rows in which it was shown.
fn missing(text: &str) -> Option<String> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c.is_ascii_digit());
    let begun = text.is_empty() || text.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("qs"));
    match without_numbers(text).chars().filter(|c| !c.is_whitespace() && *c != '-').count() {
        len if !begun || len >= SHARE_TEXT_LEN => None,
        0 => Some(String::new()),
        len => {
            let left = SHARE_TEXT_LEN - len;
            Some(format!("{left} of {SHARE_TEXT_LEN} characters are missing; type them, or Enter twice to end"))
        }
    }
}

/// Without the lines that number the groups, which are copied along with the others.
fn without_numbers(text: &str) -> Zeroizing<String> {
    let numbers = |line: &str| line.split_whitespace().all(|w| w.len() <= 2 && w.bytes().all(|b| b.is_ascii_digit()));
    let mut kept = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in text.lines().filter(|line| !numbers(line)) {
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Whether a share, or nearly one, stands among arguments: as a word, within one, or in groups as it is shown.
pub fn is_share(args: &[OsString]) -> bool {
    let mut all = Zeroizing::new(String::new());
    for arg in args {
        all.extend(
            arg.to_string_lossy().chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_lowercase()),
        );
        all.push('-');
    }
    // Letters that a share has none of end it, and so does anything that is neither letter nor digit.
    let body = |c: &char| *c == '-' || (c.is_ascii_alphanumeric() && !matches!(c, 'b' | 'i' | 'o'));
    let begins = all.match_indices("qs1").map(|(at, found)| at + found.len());
    begins.into_iter().any(|at| {
        let body = all[at..].chars().take_while(body).filter(|c| *c != '-').count();
        body + "qs1".len() + MISSING_MAX >= SHARE_TEXT_LEN
    })
}

/// A text that lacks no more characters of a share is treated as one.
const MISSING_MAX: usize = 20;

fn refused(what: &str, error: &ShareError) -> Failure {
    let nothing = "nothing was sent";
    let todo = match error {
        ShareError::OtherCluster => format!("{nothing}; check QUORATE_ADDR and QUORATE_CACERT"),
        _ => nothing.to_owned(),
    };
    Failure::failed(format!("can't {what}"), error, todo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_known_in_any_word_and_whole_in_any_rows() {
        let share = format!("qs1{}", "q".repeat(SHARE_TEXT_LEN - 3));
        let grouped: String =
            share.chars().enumerate().flat_map(|(i, c)| (i % 5 == 0).then_some(' ').into_iter().chain([c])).collect();
        let is = |words: &[&str]| {
            is_share(&["quorate", "operator", "unseal"].iter().chain(words).map(OsString::from).collect::<Vec<_>>())
        };
        let words: Vec<&str> = grouped.split_whitespace().collect();
        let within = format!("--share={share}");
        for args in [&[share.as_str()][..], &[&within], &[&grouped], &[&share[..70]], &words] {
            assert!(is(args), "{args:?}");
        }
        for args in [
            &["--node", "n2"][..],
            &["qs1"],
            &["/data/qs1-backups/of-last-year-with-a-long-name-that-goes-on-and-on-for-ever"],
        ] {
            assert!(!is(args), "{args:?}");
        }
        assert_eq!([&share, &grouped, "nonsense"].map(missing), [None, None, None]);
        assert_eq!(missing("  1     2     3\n").as_deref(), Some(""));
        let short = missing(&share[..SHARE_TEXT_LEN - 1]).expect("its last character");
        assert!(short.starts_with("1 of 85 characters"), "{short}");
        assert!(missing(&grouped[..60]).is_some());
        assert_eq!(without_numbers("  1     12\n  qs1ab cdefg\n\n  3\n 22222").as_str(), "  qs1ab cdefg\n 22222\n");
    }
}
