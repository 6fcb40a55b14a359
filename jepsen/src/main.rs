//! `jepsen`: attacks a quorate cluster and says what it found. Exit codes: 0 valid, 1 invalid, 2 unknown, 3 the harness failed,
//! 4 what was demanded did not happen.
#![allow(clippy::disallowed_methods, reason = "the harness runs outside every node")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jepsen::checker::{Finding, Verdict, overall};
use jepsen::nemesis::{Kind, partition};
use jepsen::run::{Plan, Store, Test, judge_stored, run};
use jepsen::workload::Workload;
use jepsen::{doctor, selftest};

/// The harness failed: no verdict.
const HARNESS_FAILURE: u8 = 3;

/// Attack a quorate cluster: real nodes, real faults, and a verdict from what clients saw
#[derive(Parser, Debug)]
#[command(
    name = "jepsen",
    version,
    after_help = "Examples:
  jepsen doctor                                                                   does this machine allow it?
  jepsen run --workload revoke --nemesis partition,kill,pause --nodes 5 --time 120s
  jepsen check jepsen-store/latest                                                judge a stored run again

Exit codes: 0 valid, 1 invalid (a promise was broken), 2 unknown, 3 the harness failed, 4 a demanded fault or race did not happen."
)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand, Debug)]
enum Cmd {
    /// Make a cluster, attack it, judge what happened
    Run(RunArgs),
    /// Judge a stored run again
    Check {
        /// The folder of the run
        #[arg(value_name = "FOLDER")]
        run: PathBuf,
        /// The longest search for one key's order
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
        per_key: Duration,
    },
    /// List workloads, nemeses and checkers
    List,
    /// Say what this machine allows
    Doctor {
        /// The binary under test [default: beside this program, or quorate on the path]
        #[arg(long, value_name = "FILE", env = "QUORATE_BIN")]
        quorate: Option<PathBuf>,
    },
    /// Show that every checker rejects bad histories
    Selftest,
}

#[derive(Args, Debug)]
struct RunArgs {
    /// What clients do
    #[arg(long, value_enum)]
    workload: Workload,
    /// Faults, several at once [default: none]
    #[arg(long, value_enum, value_delimiter = ',')]
    nemesis: Vec<Kind>,
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=9))]
    nodes: u32,
    /// How long faults and load go on
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    time: Duration,
    /// Calls per second the clients aim at
    #[arg(long, default_value_t = 150)]
    rate: u32,
    /// Logical clients
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    clients: u32,
    /// Chooses calls and faults [default: from the clock; printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Where results are kept
    #[arg(long, value_name = "FOLDER", default_value = "jepsen-store")]
    store: PathBuf,
    /// The binary under test [default: beside this program, or quorate on the path]
    #[arg(long, value_name = "FILE", env = "QUORATE_BIN")]
    quorate: Option<PathBuf>,
    /// Keep the nodes' folders (they are always kept when a promise was broken)
    #[arg(long)]
    keep: bool,
    /// The longest search for one key's order
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    per_key: Duration,
}

/// `90s`, `2m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match (number.parse::<u64>(), unit) {
        (Ok(n), "s") => Some(n),
        (Ok(n), "m") => n.checked_mul(60),
        (Ok(n), "h") => n.checked_mul(3600),
        _ => None,
    };
    let seconds = seconds.filter(|s| (1..=86_400).contains(s));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a time such as 90s, 2m or 1h, up to a day".into())
}

fn main() -> ExitCode {
    // A wrong command line is no verdict: clap's own code for it, 2, would say "unknown".
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { HARNESS_FAILURE.into() } else { ExitCode::SUCCESS };
        }
    };
    match act(cli.command) {
        Ok(verdict) => verdict.exit_code().into(),
        Err(e) => {
            eprintln!("jepsen: the harness failed, which is no verdict on the cluster: {e:#}");
            HARNESS_FAILURE.into()
        }
    }
}

fn act(command: Cmd) -> anyhow::Result<Verdict> {
    match command {
        Cmd::Run(args) => attack(args),
        Cmd::Check { run, per_key } => {
            let findings = judge_stored(&Store::open(&run), per_key)?;
            show(&findings);
            Ok(overall(&findings))
        }
        Cmd::List => {
            list();
            Ok(Verdict::Valid)
        }
        Cmd::Doctor { quorate } => examine(&binary(quorate)?),
        Cmd::Selftest => {
            let failures = selftest::run();
            failures.iter().for_each(|f| println!("{f}"));
            println!("{} histories were judged as they should be", selftest::cases().len() - failures.len());
            if failures.is_empty() { Ok(Verdict::Valid) } else { bail!("a checker that can't fail is worthless") }
        }
    }
}

fn attack(args: RunArgs) -> anyhow::Result<Verdict> {
    let mut nemeses = args.nemesis;
    nemeses.sort_unstable();
    nemeses.dedup();
    if nemeses.contains(&Kind::Partition) && partition::shapes(args.nodes).is_empty() {
        bail!("{} nodes can't be partitioned with a majority left; use 3 or more", args.nodes);
    }
    let quorate = binary(args.quorate)?;
    let version =
        Command::new(&quorate).arg("version").output().with_context(|| format!("can't run {}", quorate.display()))?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as u64,
    };
    let test = Test {
        workload: args.workload.name().into(),
        nemeses: nemeses.iter().map(|k| k.name().to_owned()).collect(),
        nodes: args.nodes,
        seconds: args.time.as_secs(),
        rate: args.rate,
        clients: args.clients,
        seed,
        version: String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().trim().to_owned(),
    };
    let store = Store::create(&args.store, &test)?;
    eprintln!("jepsen: seed {seed}; results in {}", store.dir().display());
    let plan = Plan { workload: args.workload, nemeses, quorate, keep: args.keep, per_key: args.per_key };
    let done = run(&test, &plan, &store);
    let verdict = done.as_ref().ok().map(|f| overall(f));
    // What broke a promise, or the harness, is evidence.
    let keep = plan.keep || !matches!(verdict, Some(Verdict::Valid | Verdict::Uncovered));
    store.tidy(keep)?;
    let findings = done?;
    show(&findings);
    println!("report: {}", store.dir().join("report.html").display());
    Ok(overall(&findings))
}

fn show(findings: &[Finding]) {
    for f in findings {
        println!(
            "{:<11} {:<9} {:>8} judged, {} violations",
            f.checker,
            format!("{:?}", f.verdict),
            f.checked,
            f.violations
        );
        f.details.iter().for_each(|d| println!("  {d}"));
    }
    println!("{:?}", overall(findings));
}

fn list() {
    fn rows<T: ValueEnum>(title: &str) {
        println!("{title}:");
        for value in T::value_variants() {
            let Some(value) = value.to_possible_value() else { continue };
            println!("  {:<11} {}", value.get_name(), value.get_help().map(ToString::to_string).unwrap_or_default());
        }
    }
    rows::<Workload>("workloads");
    rows::<Kind>("nemeses");
    println!(
        "checkers:\n  durability, revocation, linear, aliases, metadata, ids, sealed, ceremony, membership, digests, secrets, logs, recovery, coverage (see README.md)"
    );
}

fn examine(quorate: &Path) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::Valid;
    for check in doctor::examine(quorate) {
        match check.missing {
            None => println!("ok       {}", check.what),
            Some(why) => {
                verdict = Verdict::Uncovered;
                println!("MISSING  {} (needed for {}): {why}", check.what, check.for_what);
            }
        }
    }
    Ok(verdict)
}

/// The binary under test: named, or beside this program, or on the path.
fn binary(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return Ok(std::path::absolute(named)?);
    }
    let beside = std::env::current_exe()?.with_file_name("quorate");
    Ok(if beside.exists() { beside } else { PathBuf::from("quorate") })
}
