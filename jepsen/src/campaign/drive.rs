//! Runs tests, each in a process of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::{Item, State, combination, singles};
use crate::checker::Verdict;
use crate::ledger::{self, HARNESS_FAILURE, worse};
use crate::run::{Store, Test};

/// As much is recorded of what the nodes of a run send: a campaign makes many recordings.
const CAPTURE_MIB: &str = "8";

/// What every run of a campaign shares.
#[derive(Clone, Debug)]
pub struct Job {
    /// This program.
    pub jepsen: PathBuf,
    /// The binary under test.
    pub quorate: PathBuf,
    /// The store's root.
    pub root: PathBuf,
}

impl Job {
    fn command(&self, test: &Test) -> Command {
        let mut command = Command::new(&self.jepsen);
        command.arg("run").args(test.args()).arg("--store").arg(&self.root).arg("--quorate").arg(&self.quorate);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs it, with what it says in `jepsen.log` of its folder.
    async fn run(&self, test: &Test) -> anyhow::Result<u8> {
        let log = self.root.join(format!("running-{}.log", test.seed));
        let file = std::fs::File::create(&log).with_context(|| format!("can't make {}", log.display()))?;
        let mut command = self.command(test);
        command.args(["--capture", CAPTURE_MIB]).stdout(file.try_clone()?).stderr(file);
        let mut child = command.spawn().context("can't start a run")?;
        let mut end = signal(SignalKind::terminate())?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                // A run that is interrupted takes its cluster down.
                _ = tokio::signal::ctrl_c() => interrupt(&child),
                _ = end.recv() => interrupt(&child),
            }
        };
        if let Some(folder) = Store::find(&self.root, test) {
            std::fs::rename(&log, folder.dir().join("jepsen.log"))?;
        }
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(HARNESS_FAILURE))
    }
}

fn interrupt(child: &tokio::process::Child) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::INT);
    }
}

/// Runs a test before everybody's eyes; its exit code.
///
/// # Errors
/// When it can't be started.
pub fn once(job: &Job, test: &Test) -> anyhow::Result<u8> {
    let status = job.command(test).as_std_mut().status().context("can't start a run")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(HARNESS_FAILURE))
}

/// Goes on with a campaign until its budget is used; the worst exit code of all its runs.
///
/// # Errors
/// When a run can't be started, or the state can't be kept. Runs that fail are no error: the campaign goes on.
pub fn test_all(job: &Job, mut state: State, budget: Duration, jobs: usize, version: &str) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(go_on(job, &mut state, budget, jobs.max(1), version))?;
    Ok(state.worst)
}

async fn go_on(job: &Job, state: &mut State, budget: Duration, jobs: usize, version: &str) -> anyhow::Result<()> {
    let (all, left_out) = singles(&state.settings);
    left_out.iter().for_each(|why| println!("left out: {why}"));
    let left = all.iter().filter(|item| !state.singles.contains(&item.name())).count();
    println!(
        "{} runs of one kind of fault, {left} of them to be run, then combinations; seed {}",
        all.len(),
        state.settings.seed
    );
    // Its seed is kept from the beginning.
    state.save(&job.root)?;
    let (begun, before) = (Instant::now(), state.spent);
    let mut running: JoinSet<(Next, Test, anyhow::Result<u8>)> = JoinSet::new();
    let mut under_way = BTreeSet::new();
    let mut drawn = state.combinations;
    let mut interrupted = std::pin::pin!(interruption());
    let mut stop = false;
    loop {
        let spent = before + begun.elapsed().as_secs();
        while !stop && running.len() < jobs && spent < budget.as_secs() {
            let single = all.iter().find(|i| !state.singles.contains(&i.name()) && !under_way.contains(&i.name()));
            let next = match single {
                Some(item) => Next { item: item.clone(), single: true, number: 0 },
                None => {
                    let Some(item) = combination(&state.settings, drawn) else { break };
                    drawn += 1;
                    Next { item, single: false, number: drawn }
                }
            };
            under_way.insert(next.item.name());
            let (job, test) = (job.clone(), next.item.test(&state.settings, next.number, version));
            println!("begins: {} seed {}", next.item.name(), test.seed);
            running.spawn(async move {
                let code = job.run(&test).await;
                (next, test, code)
            });
        }
        if running.is_empty() {
            break;
        }
        let (next, test, code) = tokio::select! {
            Some(done) = running.join_next() => done.context("a run broke")?,
            () = &mut interrupted, if !stop => { stop = true; continue }
        };
        let code = code?;
        // It ended before its time, and is run again when the campaign goes on.
        if stop {
            continue;
        }
        state.spent = before + begun.elapsed().as_secs();
        state.worst = worse(state.worst, code);
        under_way.remove(&next.item.name());
        match next.single {
            true => _ = state.singles.insert(next.item.name()),
            false => state.combinations += 1,
        }
        state.save(&job.root)?;
        tell(job, state, budget, all.len(), &next, &test, code);
    }
    if stop {
        anyhow::bail!("interrupted; the same command goes on with it");
    }
    let done = all.iter().filter(|item| state.singles.contains(&item.name())).count();
    println!(
        "\nthe budget is used: {done} of {} runs of one kind of fault, {} combinations\n",
        all.len(),
        state.combinations
    );
    print!("{}", ledger::table(&ledger::read(&job.root)?));
    Ok(())
}

struct Next {
    item: Item,
    single: bool,
    /// Of a combination, from 1.
    number: u64,
}

async fn interruption() {
    match signal(SignalKind::terminate()) {
        Ok(mut end) => tokio::select! { _ = tokio::signal::ctrl_c() => {}, _ = end.recv() => {} },
        Err(_) => _ = tokio::signal::ctrl_c().await,
    }
}

fn tell(job: &Job, state: &State, budget: Duration, singles: usize, next: &Next, test: &Test, code: u8) {
    let hours = |s: u64| format!("{}:{:02}", s / 3600, s / 60 % 60);
    let ending = match code {
        HARNESS_FAILURE => "HARNESS FAILURE".to_owned(),
        code => {
            let all = [Verdict::Valid, Verdict::Uncovered, Verdict::Unknown, Verdict::Invalid];
            let verdict = all.into_iter().find(|v| v.exit_code() == code);
            verdict.map_or(format!("exit code {code}"), |v| {
                if v == Verdict::Valid { v.name().into() } else { v.name().to_uppercase() }
            })
        }
    };
    let folder = Store::find(&job.root, test).map(|s| shown(s.dir(), &job.root)).unwrap_or_default();
    println!(
        "{} of {} h, {}/{singles}+{}: {} seed {}: {ending} {folder}",
        hours(state.spent),
        hours(budget.as_secs()),
        state.singles.len(),
        state.combinations,
        next.item.name(),
        test.seed,
    );
}

fn shown(dir: &Path, root: &Path) -> String {
    dir.strip_prefix(root).unwrap_or(dir).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::campaign::Settings;
    use crate::net::Backend;

    /// Stands in for `jepsen run`: notes its arguments, and ends with "not covered".
    const RUN: &str = "#!/bin/sh\nset -- \"$@\"\necho \"$*\" >> \"$0.calls\"\necho said\nexit 4\n";

    #[test]
    fn nothing_is_run_twice_over_several_sittings_and_the_worst_code_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let jepsen = root.path().join("run");
        std::fs::write(&jepsen, RUN).unwrap();
        std::fs::set_permissions(&jepsen, std::fs::Permissions::from_mode(0o755)).unwrap();
        let job = Job { jepsen, quorate: "quorate".into(), root: root.path().to_owned() };
        let calls = || std::fs::read_to_string(root.path().join("run.calls")).unwrap_or_default();
        let settings =
            Settings { seed: 5, sizes: vec![1, 3], seconds: 60, rate: 150, clients: 12, nets: vec![Backend::Tap] };
        let resume = || State::resume(&job.root, None, settings.clone()).unwrap();

        assert_eq!(test_all(&job, resume(), Duration::ZERO, 2, "v").unwrap(), 0);
        assert_eq!(calls(), "", "there was no time");
        for sitting in 1..=2 {
            assert_eq!(test_all(&job, resume(), Duration::from_secs(sitting), 2, "v").unwrap(), 4);
        }
        let state = resume();
        let lines = calls();
        assert_eq!(lines.lines().count() as u64, state.singles.len() as u64 + state.combinations);
        assert_eq!(lines.lines().collect::<BTreeSet<_>>().len(), lines.lines().count(), "each with a seed of its own");
        assert!(lines.lines().all(|l| l.starts_with("run --workload ") && l.contains(" --store ")), "{lines}");
        assert!(!state.singles.is_empty() && state.worst == 4);
    }
}
