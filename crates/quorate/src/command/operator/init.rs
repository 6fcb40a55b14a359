//! `quorate operator init`: genesis, and the only time the shares are shown.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_client::Client;
use quorate_client::v1::{InitRequest, InitResponse};
use quorate_crypto::SealConfig;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::memory::Memory;
use super::nodes;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::files::{self, NewFile};
use crate::command::{Shared, output};

/// Found a cluster of one node, and split its unseal key into shares.
///
/// Goes to the first address, and to no other. Each share is shown once, on this terminal, or written to a file of its own; the cluster keeps none of them. The node
/// is left sealed, so that the first ceremony proves the shares.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate operator init --shares 5 --threshold 3
  quorate operator init --shares 5 --threshold 3 --shares-out /media/usb/shares
  quorate operator init --shares 3 --threshold 2 --custodian ada --custodian grace --custodian joan")]
pub struct Init {
    /// How many shares there are
    #[arg(long, value_name = "N", required_unless_present = "insecure_single_share", value_parser = clap::value_parser!(u8).range(1..))]
    shares: Option<u8>,
    /// How many of them open the cluster
    #[arg(long, value_name = "T", required_unless_present = "insecure_single_share", value_parser = clap::value_parser!(u8).range(1..))]
    threshold: Option<u8>,
    /// Who holds a share, in the order of the shares; public. Once for each share, or not at all
    #[arg(long, value_name = "LABEL")]
    custodian: Vec<String>,
    /// Write the shares to share-1.txt … in this folder, readable only by you
    #[arg(long, value_name = "DIR")]
    shares_out: Option<PathBuf>,
    /// One share that alone opens everything: no quorum, for trials only
    #[arg(long)]
    insecure_single_share: bool,
}

impl Init {
    fn request(&self) -> CommandResult<InitRequest> {
        let (shares, threshold) = match self.insecure_single_share {
            true => (self.shares.unwrap_or(1), self.threshold.unwrap_or(1)),
            false => (self.shares.unwrap_or_default(), self.threshold.unwrap_or_default()),
        };
        if threshold > shares {
            return Err(Failure::usage(format!(
                "--threshold {threshold} is more than --shares {shares}: nobody could unseal"
            )));
        }
        if threshold < 2 && !self.insecure_single_share {
            return Err(Failure::usage(
                "--threshold is below 2: one custodian alone could open everything; for a trial, say --insecure-single-share",
            ));
        }
        if threshold >= 2 && self.insecure_single_share {
            return Err(Failure::usage("--insecure-single-share goes with --shares 1 --threshold 1"));
        }
        if !self.custodian.is_empty() && self.custodian.len() != usize::from(shares) {
            let count = self.custodian.len();
            return Err(Failure::usage(format!(
                "--custodian is given {count} times for {shares} shares: once for each, or not at all"
            )));
        }
        Ok(InitRequest {
            shares: shares.into(),
            threshold: threshold.into(),
            custodians: self.custodian.clone(),
            insecure_single_share: self.insecure_single_share,
        })
    }

    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let request = self.request()?;
        let on_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if self.shares_out.is_none() && shared.asked_for_programs().is_none() && !on_terminal {
            return Err(Failure::usage(
                "the shares are shown only once: run this on a terminal, or name a folder with --shares-out, or ask for --output json",
            ));
        }
        let client = shared.client().await?;
        let first = nodes::at(&client, 1)?;
        refuse_second_cluster(&client).await?;

        // Everything that can fail is done before there are shares to lose.
        let mut files = self.shares_out.as_deref().map(|dir| prepare(dir, request.shares)).transpose()?;
        let mut answer = first
            .with_deadline(first.deadline().max(super::PATIENCE))
            .init(request.clone())
            .await
            .doing("found the cluster")?;
        let seal = SealConfig::decode(&answer.seal_config).map_err(|_| super::incomplete("seal configuration"));
        let shares: Vec<Zeroizing<String>> =
            std::mem::take(&mut answer.shares).into_iter().map(Zeroizing::new).collect();
        let mut json = json!({
            "cluster_id": answer.cluster_id,
            "lineage": answer.lineage,
            "shares": shares.len(),
            "threshold": request.threshold,
        });
        match &mut files {
            Some(files) => {
                json["shares_out"] = self.shares_out.as_deref().map(|d| d.display().to_string()).into();
                store(files, &shares)?;
            }
            None if shared.asked_for_programs().is_some() => {
                json["shares"] = shares.iter().map(|s| s.as_str()).collect::<Vec<_>>().into();
            }
            None => show(&shares, &self.custodian)?,
        }
        // Not before the shares are safe: they exist nowhere else.
        let seal = seal?;
        let founder = first.server_identity().ok_or_else(|| super::incomplete("certificate"))?;
        if !seal.is_founded_by(&founder.node, &founder.identity_spki) {
            let why = format!("{} did not sign the seal configuration that it sent", founder.node);
            let todo = "do not use this cluster: found another, with an empty data_dir, and look at that node";
            return Err(Failure::failed("can't trust the new cluster", why, todo));
        }
        Memory::of(seal.cluster)?.remember(&seal, 0);
        json["seal_fingerprint"] = seal.fingerprint().to_string().into();
        shared.format().print(&json, || summary(&answer, &seal, &request, self.shares_out.as_deref()))
    }
}

/// Another address whose node has a cluster: then this one was meant to join it.
async fn refuse_second_cluster(client: &Client) -> CommandResult {
    let asked = nodes::ask_all(client).await;
    for other in asked.iter().skip(1) {
        if let Ok(status) = &other.status
            && status.state != "uninitialized"
        {
            let why =
                format!("{} at {} is already part of cluster {}", status.answered_by, other.address, status.cluster_id);
            let todo = "let the first node join it (`quorate operator members invite`), or name only the node that is to found a cluster of its own";
            return Err(Failure::failed("can't found a cluster", why, todo));
        }
    }
    Ok(())
}

/// The files, empty, before anything is founded.
fn prepare(dir: &Path, count: u32) -> CommandResult<Vec<NewFile>> {
    files::create_dir_private(dir)?;
    (1..=count).map(|n| NewFile::create(&dir.join(format!("share-{n}.txt")))).collect()
}

/// Writes the shares. Should the disk fail now, they are printed rather than lost.
fn store(files: &mut [NewFile], shares: &[Zeroizing<String>]) -> CommandResult {
    let mut failed = None;
    for (file, share) in files.iter_mut().zip(shares) {
        if let Err(e) = file.fill(format!("{}\n", share.as_str()).as_bytes()) {
            eprintln!(
                "A share could not be written to {}: {e}. It is shown here, once:\n{}",
                file.path().display(),
                share.as_str()
            );
            failed = Some(e);
        }
    }
    match failed {
        None => Ok(()),
        Some(e) => Err(Failure::failed(
            "can't write every share to its file",
            e,
            "the cluster is founded; keep the shares shown above",
        )),
    }
}

/// Shows each share by itself on the terminal's other screen, which leaves nothing behind.
fn show(shares: &[Zeroizing<String>], custodians: &[String]) -> CommandResult {
    let failed = |e: std::io::Error| Failure::failed("can't show the shares", e, "");
    // An interrupt here would lose shares that exist nowhere else.
    let _ignored = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut out = files::stdout().map_err(failed)?;
    write!(out, "\x1b[?1049h").map_err(failed)?;
    let noted = show_each(&mut out, &mut std::io::stdin().lock(), shares, custodians);
    let left = write!(out, "\x1b[2J\x1b[3J\x1b[?1049l").and_then(|()| out.flush());
    noted?;
    left.map_err(failed)
}

/// One after the other; whoever notes them says of each that it is safe.
fn show_each(
    out: &mut impl Write,
    input: &mut impl BufRead,
    shares: &[Zeroizing<String>],
    custodians: &[String],
) -> CommandResult {
    for (i, share) in shares.iter().enumerate() {
        let (n, of) = (i + 1, shares.len());
        let unnoted = |why: &dyn std::fmt::Display| {
            Failure::failed(
                "can't show the shares",
                format!("{why} while share {n} of {of} was shown, so nobody has noted it, nor those after it"),
                "the cluster is founded, and its shares exist nowhere else: keep nothing in it. Stop the node, move its data_dir away, \
                 and run init again",
            )
        };
        let whom = custodians.get(i).map(|c| format!(", for {c}")).unwrap_or_default();
        write!(
            out,
            "\x1b[2J\x1b[H\n  Share {n} of {of}{whom}. It is shown once and kept nowhere: write it down, or into a password manager.\n\n{}\n  Press Enter when it is safe; it disappears. ",
            in_rows(share).as_str()
        )
        .and_then(|()| out.flush())
        .map_err(|e| unnoted(&e))?;
        match input.read_line(&mut String::new()) {
            Ok(0) => return Err(unnoted(&"standard input ended")),
            Ok(_) => {}
            Err(e) => return Err(unnoted(&e)),
        }
    }
    Ok(())
}

/// In rows of five groups of five, as people copy it; the number of each row's first group stands above it, as messages about
/// typing errors count groups.
fn in_rows(share: &str) -> Zeroizing<String> {
    const GROUP: usize = 5;
    const ROW: usize = 5;
    let groups = share.len().div_ceil(GROUP);
    let mut text = Zeroizing::new(String::with_capacity(share.len() * 4));
    for first in (0..groups).step_by(ROW) {
        let row = first..groups.min(first + ROW);
        text.push_str("  ");
        row.clone().for_each(|n| text.push_str(&format!("{:<GROUP$} ", n + 1)));
        text.push_str("\n  ");
        for n in row {
            text.push_str(&share[n * GROUP..share.len().min((n + 1) * GROUP)]);
            text.push(' ');
        }
        text.push_str("\n\n");
    }
    text
}

fn summary(answer: &InitResponse, seal: &SealConfig, request: &InitRequest, dir: Option<&Path>) -> String {
    let next =
        format!("{} custodians run `quorate operator unseal`; the node stays sealed until then", request.threshold);
    output::fields([
        ("cluster", answer.cluster_id.clone()),
        ("seal", format!("fingerprint {}: custodians compare it when they enter a share", seal.fingerprint())),
        ("shares", format!("{}, of which {} open it", request.shares, request.threshold)),
        (
            "written to",
            dir.map(|d| format!("{} (one file a share: give each to its custodian, then erase it)", d.display()))
                .unwrap_or_default(),
        ),
        ("next", next),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(shares: Option<u8>, threshold: Option<u8>, custodians: usize, single: bool) -> Init {
        let custodian = (0..custodians).map(|i| format!("c{i}")).collect();
        Init { shares, threshold, custodian, shares_out: None, insecure_single_share: single }
    }

    #[test]
    fn impossible_quorums_are_refused_before_anything_is_sent() {
        let request = init(Some(5), Some(3), 5, false).request().unwrap();
        assert_eq!((request.shares, request.threshold, request.custodians.len()), (5, 3, 5));
        let single = init(None, None, 0, true).request().unwrap();
        assert_eq!((single.shares, single.threshold, single.insecure_single_share), (1, 1, true));
        for (bad, expected) in [
            (init(Some(2), Some(3), 0, false), "more than --shares"),
            (init(Some(5), Some(1), 0, false), "below 2"),
            (init(Some(5), Some(3), 0, true), "--insecure-single-share"),
            (init(Some(5), Some(3), 4, false), "4 times for 5"),
        ] {
            let failure = bad.request().unwrap_err();
            assert!(failure.exit_code() == 2 && failure.to_string().contains(expected), "{failure}");
        }
    }

    #[test]
    fn shares_go_to_files_of_their_own_that_did_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("shares");
        let mut files = prepare(&out, 2).unwrap();
        let shares = ["qs1aaa", "qs1bbb"].map(|s| Zeroizing::new(s.to_owned()));
        store(&mut files, &shares).unwrap();
        drop(files);
        assert_eq!(files::read(&out.join("share-2.txt"), "").unwrap(), b"qs1bbb\n");
        assert!(prepare(&out, 2).is_err(), "never overwritten");
        assert_eq!(files::read(&out.join("share-1.txt"), "").unwrap(), b"qs1aaa\n");
    }

    #[test]
    fn a_genesis_that_fails_leaves_no_empty_files() {
        let dir = tempfile::tempdir().unwrap();
        drop(prepare(dir.path(), 3).unwrap());
        assert!(!files::exists(&dir.path().join("share-1.txt")));
        assert!(prepare(dir.path(), 3).is_ok());
    }

    #[test]
    fn shares_that_nobody_said_to_have_noted_are_not_passed_over() {
        let shares = ["qs1aaa", "qs1bbb", "qs1ccc"].map(|s| Zeroizing::new(s.to_owned()));
        let shown = |entered: &str| {
            let mut screen = Vec::new();
            let end = show_each(&mut screen, &mut entered.as_bytes(), &shares, &[]);
            (String::from_utf8(screen).unwrap(), end.map_err(|failure| failure.to_string()))
        };
        let (screen, end) = shown("\n\n\n");
        assert!(end.is_ok() && screen.contains("Share 3 of 3") && screen.contains("qs1cc c"));
        let (screen, end) = shown("\n");
        let why = end.unwrap_err();
        assert!(why.contains("ended while share 2 of 3") && why.contains("move its data_dir away"), "{why}");
        assert!(!screen.contains("Share 3"), "what nobody reads is not shown");
    }

    #[test]
    fn groups_of_five() {
        let rows = in_rows("qs1abcdefghijklmnopqrstuvwxyz234567");
        assert_eq!(
            rows.as_str(),
            "  1     2     3     4     5     \n  qs1ab cdefg hijkl mnopq rstuv \n\n  6     7     \n  wxyz2 34567 \n\n"
        );
    }
}
