//! `jepsen`: attacks a quorate cluster and says what it found. Exit codes: 0 valid, 1 invalid, 2 unknown, 3 the harness failed,
//! 4 what was demanded did not happen.
#![allow(clippy::disallowed_methods, reason = "the harness runs outside every node")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jepsen::campaign::{Job, Settings, State, once, test_all};
use jepsen::checker::{Finding, Verdict, overall};
use jepsen::ledger::{self, Entry, HARNESS_FAILURE};
use jepsen::nemesis::Kind;
use jepsen::net::Backend;
use jepsen::run::{Interrupted, Plan, Store, Test, judge_stored, run};
use jepsen::workload::Workload;
use jepsen::{bugs, doctor, hostile, selftest, serve};

/// Attack a quorate cluster: real nodes, real faults, and a verdict from what clients saw
#[derive(Parser, Debug)]
#[command(
    name = "jepsen",
    version,
    after_help = "Examples:
  jepsen doctor                                                                   does this machine allow it?
  jepsen run --workload revoke --nemesis partition,kill,pause --nodes 5 --time 120s
  jepsen check jepsen-store/latest                                                judge a stored run again
  jepsen repro jepsen-store/latest                                                run it again until it fails
  jepsen test-all --budget 2h                                                     everything with everything
  jepsen ledger                                                                   what all runs came to
  jepsen serve                                                                    all runs, in a browser

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
    /// Every workload with every nemesis, then random pairs and triples, until the budget is used; goes on where it was interrupted
    TestAll(TestAllArgs),
    /// Run a stored test again, with its seed, until it is not valid
    Repro {
        /// The folder of the run
        #[arg(value_name = "FOLDER")]
        run: PathBuf,
        /// How often at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
        /// Where results are kept [default: where the run is]
        #[arg(long, value_name = "FOLDER")]
        store: Option<PathBuf>,
        /// The binary under test [default: beside this program, or quorate on the path]
        #[arg(long, value_name = "FILE", env = "QUORATE_BIN")]
        quorate: Option<PathBuf>,
    },
    /// What all runs of a store came to, by version, in Markdown
    Ledger {
        /// Where results are kept
        #[arg(long, value_name = "FOLDER", default_value = "jepsen-store")]
        store: PathBuf,
        /// As what
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Show all runs of a store in a browser; it only reads
    Serve {
        /// Where
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: std::net::SocketAddr,
        /// Where results are kept
        #[arg(long, value_name = "FOLDER", default_value = "jepsen-store")]
        store: PathBuf,
    },
    /// List workloads, nemeses and checkers
    List,
    /// Play a member whose process is stopped; the nemesis `hostile` runs it
    #[command(hide = true)]
    Hostile(hostile::Args),
    /// Say what this machine allows
    Doctor {
        /// The binary under test [default: beside this program, or quorate on the path]
        #[arg(long, value_name = "FILE", env = "QUORATE_BIN")]
        quorate: Option<PathBuf>,
    },
    /// Show that every checker rejects bad histories; with --bugs, that the harness rejects a product with bugs
    #[command(after_help = "Examples:
  jepsen selftest                                      hand-made histories
  jepsen selftest --bugs                               builds the product with its bugs, runs each up to three times
  jepsen selftest --bugs --only lose-vote --binary target/seeded-bugs/debug/quorate")]
    Selftest(SelftestArgs),
}

#[derive(Args, Debug)]
struct SelftestArgs {
    /// Attack the product as built with each of its bugs, which takes about half an hour
    #[arg(long)]
    bugs: bool,
    /// Only these bugs
    #[arg(long, value_name = "BUG", value_delimiter = ',', requires = "bugs", value_parser = bugs::BUGS.map(|bug| bug.name))]
    only: Vec<String>,
    /// A binary built with the feature seeded-bugs [default: it is built, in target/seeded-bugs]
    #[arg(long, value_name = "FILE", requires = "bugs")]
    binary: Option<PathBuf>,
    /// Where results are kept
    #[arg(long, value_name = "FOLDER", default_value = "jepsen-store/seeded-bugs", requires = "bugs")]
    store: PathBuf,
}

/// A form of output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    /// Tables for people
    Table,
    /// An array of all runs
    Json,
}

/// What every run is given.
#[derive(Args, Debug)]
struct LoadArgs {
    /// How long faults and load go on in a run
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    time: Duration,
    /// Calls per second the clients of a run aim at
    #[arg(long, default_value_t = 150)]
    rate: u32,
    /// Logical clients of a run
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    clients: u32,
}

#[derive(Args, Debug)]
struct TestAllArgs {
    /// No run begins after this time, counted over all sittings
    #[arg(long, value_name = "TIME", value_parser = budget)]
    budget: Duration,
    /// Clusters at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    jobs: u8,
    /// Cluster sizes
    #[arg(long, value_delimiter = ',', default_value = "1,3,5", value_parser = clap::value_parser!(u32).range(1..=9))]
    sizes: Vec<u32>,
    #[command(flatten)]
    load: LoadArgs,
    /// How the nodes are joined: for each run the first of these that can do its faults [default: all that this machine allows]
    #[arg(long, value_enum, value_delimiter = ',')]
    net: Vec<Backend>,
    /// Chooses order, combinations and the seeds of all runs [default: the store's, or from the clock; printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Leave out the first N runs of one kind of fault, in the order that the seed chooses: another machine ran them
    #[arg(long, value_name = "N", requires = "seed", default_value_t = 0)]
    skip: usize,
    /// Begin anew, also when the store holds a campaign; its runs and its ledger are kept
    #[arg(long)]
    fresh: bool,
    /// Where results are kept
    #[arg(long, value_name = "FOLDER", default_value = "jepsen-store")]
    store: PathBuf,
    /// The binary under test [default: beside this program, or quorate on the path]
    #[arg(long, value_name = "FILE", env = "QUORATE_BIN")]
    quorate: Option<PathBuf>,
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
    #[command(flatten)]
    load: LoadArgs,
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
    /// How the nodes are joined [default: the first that this machine allows]
    #[arg(long, value_enum)]
    net: Option<Backend>,
    /// At most so much of what nodes send is recorded (net.pcap), where the network can record
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=4096))]
    capture: u64,
}

/// As [`duration`], up to a month.
fn budget(text: &str) -> Result<Duration, String> {
    time(text, 31 * 86_400).ok_or_else(|| "expected a time such as 30m, 2h or 100h, up to a month".into())
}

/// `90s`, `2m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    time(text, 86_400).ok_or_else(|| "expected a time such as 90s, 2m or 1h, up to a day".into())
}

fn time(text: &str, longest: u64) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match (number.parse::<u64>(), unit) {
        (Ok(n), "s") => Some(n),
        (Ok(n), "m") => n.checked_mul(60),
        (Ok(n), "h") => n.checked_mul(3600),
        _ => None,
    };
    seconds.filter(|s| (1..=longest).contains(s)).map(Duration::from_secs)
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
        Ok(code) => code.into(),
        Err(e) => {
            eprintln!("jepsen: the harness failed, which is no verdict on the cluster: {e:#}");
            HARNESS_FAILURE.into()
        }
    }
}

fn act(command: Cmd) -> anyhow::Result<u8> {
    let verdict = match command {
        Cmd::Run(args) => attack(args),
        Cmd::Check { run, per_key } => {
            let store = Store::open(&run);
            let findings = judge_stored(&store, per_key)?;
            show(&findings);
            enter_in_ledger(&store)?;
            Ok(overall(&findings))
        }
        Cmd::TestAll(args) => return campaign(args),
        Cmd::Repro { run, times, store, quorate } => return repeat(&run, times, store, quorate),
        Cmd::Ledger { store, output } => {
            let entries = ledger::read(&store)?;
            match output {
                Output::Table => print!("{}", ledger::table(&entries)),
                Output::Json => println!("{}", serde_json::to_string_pretty(&entries)?),
            }
            Ok(Verdict::Valid)
        }
        Cmd::Serve { listen, store } => {
            serve::serve(&store, listen)?;
            Ok(Verdict::Valid)
        }
        Cmd::List => {
            list();
            Ok(Verdict::Valid)
        }
        Cmd::Hostile(args) => {
            hostile::run(&args)?;
            Ok(Verdict::Valid)
        }
        Cmd::Doctor { quorate } => examine(&binary(quorate)?),
        Cmd::Selftest(args) if args.bugs => seeded(&args),
        Cmd::Selftest(_) => {
            let failures = selftest::run();
            failures.iter().for_each(|f| println!("{f}"));
            println!("{} histories were judged as they should be", selftest::cases().len() - failures.len());
            if failures.is_empty() { Ok(Verdict::Valid) } else { bail!("a checker that can't fail is worthless") }
        }
    };
    verdict.map(Verdict::exit_code)
}

/// Every bug must be caught.
fn seeded(args: &SelftestArgs) -> anyhow::Result<Verdict> {
    let binary = args.binary.clone().map_or_else(bugs::build, |binary| Ok(std::path::absolute(binary)?))?;
    let wanted = |bug: &&bugs::Seeded| args.only.is_empty() || args.only.iter().any(|name| name == bug.name);
    let mut escaped = Vec::new();
    println!("{:<21} {:<28} {:>4} {:>8}  what is wrong", "bug", "rejected by", "runs", "seconds");
    for bug in bugs::BUGS.iter().filter(wanted) {
        let caught = bug.attack(&binary, &args.store)?;
        let by = if caught.by.is_empty() { format!("nobody ({})", caught.remark) } else { caught.by.join(", ") };
        println!("{:<21} {by:<28} {:>4} {:>8}  {}", bug.name, caught.runs, caught.time.as_secs(), bug.what);
        if !caught.rightly {
            escaped.push(bug.name);
        }
    }
    if escaped.is_empty() {
        Ok(Verdict::Valid)
    } else {
        bail!("not caught in {} runs: {}", bugs::RUNS_MAX, escaped.join(", "))
    }
}

fn attack(args: RunArgs) -> anyhow::Result<Verdict> {
    let mut nemeses = args.nemesis;
    nemeses.sort_unstable();
    nemeses.dedup();
    for kind in &nemeses {
        if let Some(why) = kind.unfit(args.nodes) {
            bail!("{} with {} nodes: {why}", kind.name(), args.nodes);
        }
    }
    for (i, kind) in nemeses.iter().enumerate() {
        for other in &nemeses[..i] {
            if let Some(why) = kind.clashes(*other) {
                bail!("{} beside {}: {why}; run them one after the other", other.name(), kind.name());
            }
        }
    }
    let net = args.net.map_or_else(Backend::best, Ok)?;
    for kind in &nemeses {
        if let Some(why) = kind.lacks(net) {
            bail!("nemesis {} can't be had on --net {}: {why}", kind.name(), net.name());
        }
    }
    let quorate = binary(args.quorate)?;
    let seed = args.seed.map_or_else(clock_seed, Ok)?;
    let test = Test {
        workload: args.workload.name().into(),
        nemeses: nemeses.iter().map(|k| k.name().to_owned()).collect(),
        nodes: args.nodes,
        seconds: args.load.time.as_secs(),
        rate: args.load.rate,
        clients: args.load.clients,
        seed,
        version: version(&quorate)?,
        net: net.name().into(),
    };
    let store = Store::create(&args.store, &test)?;
    eprintln!("jepsen: seed {seed}; results in {}", store.dir().display());
    let plan = Plan {
        workload: args.workload,
        nemeses,
        quorate,
        keep: args.keep,
        per_key: args.per_key,
        net,
        capture_mib: args.capture,
    };
    let done = run(&test, &plan, &store);
    let verdict = done.as_ref().ok().map(|f| overall(f));
    // What broke a promise, or the harness, is evidence.
    let keep = plan.keep || !matches!(verdict, Some(Verdict::Valid | Verdict::Uncovered));
    store.tidy(keep)?;
    if let Err(e) = &done
        && !e.is::<Interrupted>()
    {
        let (root, folder) = store.place()?;
        ledger::append(&root, &Entry::failed(&folder, &test, &format!("{e:#}")))?;
    }
    let findings = done?;
    show(&findings);
    enter_in_ledger(&store)?;
    println!("report: {}", store.dir().join("report.html").display());
    Ok(overall(&findings))
}

fn enter_in_ledger(store: &Store) -> anyhow::Result<()> {
    let (root, folder) = store.place()?;
    ledger::append(&root, &Entry::judged(&folder, &store.results()?))
}

fn campaign(args: TestAllArgs) -> anyhow::Result<u8> {
    let quorate = binary(args.quorate)?;
    let version = version(&quorate)?;
    let root = std::path::absolute(&args.store)?;
    std::fs::create_dir_all(&root).with_context(|| format!("can't make {}", root.display()))?;
    let mut sizes = args.sizes;
    sizes.sort_unstable();
    sizes.dedup();
    let (seconds, seed) = (args.load.time.as_secs(), args.seed.map_or_else(clock_seed, Ok)?);
    let mut nets = args.net;
    if nets.is_empty() {
        nets = Backend::allowed(Backend::value_variants().len())?;
    }
    nets.sort_unstable();
    nets.dedup();
    let settings = Settings { seed, sizes, seconds, rate: args.load.rate, clients: args.load.clients, nets };
    let mut state = if args.fresh { State::new(settings) } else { State::resume(&root, args.seed, settings)? };
    state.skip(args.skip);
    let job = Job { jepsen: std::env::current_exe()?, quorate, root };
    test_all(&job, state, args.budget, args.jobs.into(), &version)
}

fn repeat(run: &Path, times: u32, store: Option<PathBuf>, quorate: Option<PathBuf>) -> anyhow::Result<u8> {
    let stored = Store::open(run);
    let test = stored.test()?;
    let root = match store {
        Some(root) => std::path::absolute(root)?,
        None => stored.place()?.0,
    };
    let job = Job { jepsen: std::env::current_exe()?, quorate: binary(quorate)?, root };
    for n in 1..=times {
        eprintln!("jepsen: {n} of at most {times}; the seed fixes calls and faults, not how processes interleave them");
        let code = once(&job, &test)?;
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

fn version(quorate: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(quorate);
    let said = command.args(["version", "--output", "json"]).output();
    let said = said.with_context(|| format!("can't run {}", quorate.display()))?;
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).context("quorate version told no JSON")?;
    said["version"].as_str().map(str::to_owned).context("quorate version told no version")
}

fn clock_seed() -> anyhow::Result<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as u64)
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
        "checkers:\n  durability, revocation, linear, aliases, metadata, ids, sealed, ceremony, membership, due, material, times, hostile, digests, secrets, logs, answers, recovery, coverage (see README.md)"
    );
}

fn examine(quorate: &Path) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::Valid;
    for check in doctor::examine(quorate) {
        match check.missing {
            None => println!("ok       {} (for {})", check.what, check.for_what),
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
