//! Network namespaces: one for each node, one for the clients.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{CLIENTS, own_address};

/// Names of all namespaces of all runs begin so; the process id of the harness follows.
const PREFIX: &str = "quorate-jepsen-";
/// Where `ip netns` keeps them.
const NETNS: &str = "/run/netns";

/// The namespaces of a run, and more if it needs some; removed when dropped.
pub struct Places {
    run: String,
    /// Those of nodes.
    nodes: Mutex<BTreeSet<u32>>,
    more: Vec<String>,
}

impl Places {
    /// Makes them; `more` are names of further ones. What earlier runs left behind whose process is gone is removed first.
    pub fn make(nodes: u32, more: &[&str]) -> anyhow::Result<Self> {
        sweep();
        let run = format!("{PREFIX}{}-", std::process::id());
        let places = Self {
            run,
            nodes: Mutex::new((1..=nodes).collect()),
            more: more.iter().map(ToString::to_string).collect(),
        };
        let names = places.names();
        batch(&names.iter().map(|name| format!("netns add {name}")).collect::<Vec<_>>(), None)?;
        Ok(places)
    }

    /// Every place: the nodes, and the clients.
    pub fn all(&self) -> impl Iterator<Item = u32> + use<> {
        self.nodes().clone().into_iter().chain([CLIENTS])
    }

    /// One more, for a node that comes later.
    pub fn add(&self, node: u32) -> anyhow::Result<()> {
        ip(["netns", "add", &self.namespace(node)])?;
        self.nodes().insert(node);
        Ok(())
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a place's namespace.
    pub fn namespace(&self, place: u32) -> String {
        self.name(&if place == CLIENTS { "clients".to_owned() } else { format!("n{place}") })
    }

    /// The name of a further namespace.
    pub fn name(&self, what: &str) -> String {
        format!("{}{what}", self.run)
    }

    /// Brings up a place's `eth0`, with its address, and `lo`.
    pub fn bring_up(&self, place: u32) -> anyhow::Result<()> {
        let commands = [
            format!("addr add {}/24 dev eth0", own_address(place)),
            "link set eth0 up".to_owned(),
            "link set lo up".to_owned(),
        ];
        batch(&commands, Some(&self.namespace(place)))
    }

    /// Moves this thread into a place.
    pub fn enter(&self, place: u32) -> anyhow::Result<()> {
        let path = Path::new(NETNS).join(self.namespace(place));
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("can't enter {}", path.display()))
    }

    /// A command that will run in a place, under its own process id.
    pub fn command(&self, place: u32, program: &Path) -> Command {
        // Not `ip netns exec`: its mount namespace would keep other nodes' disks busy.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={NETNS}/{}", self.namespace(place))).arg("--").arg(program);
        command
    }

    fn names(&self) -> Vec<String> {
        self.all().map(|place| self.namespace(place)).chain(self.more.iter().map(|what| self.name(what))).collect()
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for name in self.names() {
            let _ = ip(["netns", "del", &name]);
        }
    }
}

/// Removes the namespaces of runs whose process is gone.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(NETNS) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.split('-').next()) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            let _ = ip([OsStr::new("netns"), OsStr::new("del"), &name]);
        }
    }
}

/// Several commands of `ip` at once, in a namespace or in this one.
pub fn batch(commands: &[String], namespace: Option<&str>) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]);
    output(command, &(commands.join("\n") + "\n")).map(drop)
}

/// One command of `ip`.
pub fn ip<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(args);
    output(command, "")
}

/// Runs a command to its end; what it printed.
pub fn output(mut command: Command, stdin: &str) -> anyhow::Result<String> {
    let said = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("can't run {said}; is it installed?"))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(stdin.as_bytes()).with_context(|| said.clone())?;
    }
    let output = child.wait_with_output().with_context(|| said.clone())?;
    if !output.status.success() {
        bail!("{said}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
