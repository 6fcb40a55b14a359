//! The network of a run: a namespace for each node and one for the clients, joined by a bridge in a namespace of its own.
//! The machine's own network is not touched. Links are cut frame by frame, per direction, by one nftables set.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Names of all namespaces of all runs begin so; the process id of the harness follows.
const PREFIX: &str = "quorate-jepsen-";
/// Where `ip netns` keeps them.
const NETNS: &str = "/run/netns";
/// The clients' place in the network.
const HARNESS: u32 = 250;

/// The network; taken down when dropped.
pub struct Net {
    run: String,
}

impl Net {
    /// Builds it. What earlier runs left behind whose process is gone is removed first.
    ///
    /// # Errors
    /// With what the system refused: it takes root, iproute2 and nftables (`jepsen doctor`).
    pub fn build(nodes: u32) -> anyhow::Result<Self> {
        sweep();
        let net = Self { run: format!("{PREFIX}{}-", std::process::id()) };
        let bridge = net.name("bridge");
        ip(["netns", "add", &bridge])?;
        ip(["-n", &bridge, "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0"])?;
        ip(["-n", &bridge, "link", "set", "br0", "up"])?;
        (1..=nodes).chain([HARNESS]).try_for_each(|place| net.attach(place))?;
        net.nft(
            "table bridge cuts {
               set cut { type ipv4_addr . ipv4_addr; }
               counter dropped { }
               chain forward {
                 type filter hook forward priority 0;
                 ip saddr . ip daddr @cut counter name dropped drop;
               }
             }
            ",
        )?;
        Ok(net)
    }

    /// A namespace more, for a node that comes later.
    ///
    /// # Errors
    /// What the system refused.
    pub fn attach(&self, place: u32) -> anyhow::Result<()> {
        let (bridge, namespace, port) = (self.name("bridge"), self.namespace(place), format!("v{place}"));
        ip(["netns", "add", &namespace])?;
        ip(["-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
        ip(["-n", &bridge, "link", "set", &port, "master", "br0", "up"])?;
        ip(["-n", &namespace, "addr", "add", &format!("{}/24", address(place)), "dev", "eth0"])?;
        ip(["-n", &namespace, "link", "set", "eth0", "up"])?;
        ip(["-n", &namespace, "link", "set", "lo", "up"])?;
        Ok(())
    }

    /// Moves this thread, and those it starts from now on, into the clients' namespace.
    ///
    /// # Errors
    /// What the system said.
    pub fn enter(&self) -> anyhow::Result<()> {
        let path = Path::new(NETNS).join(self.namespace(HARNESS));
        let file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
            .context("can't enter the clients' network namespace")
    }

    /// A command that will run in a node's namespace, under its own process id.
    pub fn command(&self, node: u32, program: &Path) -> Command {
        // Not `ip netns exec`: its mount namespace would keep other nodes' disks busy.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={NETNS}/{}", self.namespace(node))).arg("--").arg(program);
        command
    }

    /// Drops every frame from the first to the second node of each pair, and no others.
    ///
    /// # Errors
    /// What nftables said.
    pub fn cut(&self, pairs: &[(u32, u32)]) -> anyhow::Result<()> {
        let elements: Vec<String> = pairs.iter().map(|(a, b)| format!("{} . {}", address(*a), address(*b))).collect();
        self.nft(&format!(
            "flush set bridge cuts cut\nreset counter bridge cuts dropped\nadd element bridge cuts cut {{ {} }}",
            elements.join(", ")
        ))?;
        Ok(())
    }

    /// Restores every link; returns how many frames the cut had dropped.
    ///
    /// # Errors
    /// What nftables said.
    pub fn heal(&self) -> anyhow::Result<u64> {
        self.nft("flush set bridge cuts cut")?;
        let counter = self.nft("list counter bridge cuts dropped")?;
        let mut words = counter.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words.next().and_then(|n| n.parse().ok()).with_context(|| format!("nft told no count: {counter}"))
    }

    fn nft(&self, script: &str) -> anyhow::Result<String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name("bridge"), "nft", "-f", "-"]);
        output(command, script)
    }

    fn name(&self, what: &str) -> String {
        format!("{}{what}", self.run)
    }

    fn namespace(&self, place: u32) -> String {
        self.name(&if place == HARNESS { "clients".to_owned() } else { format!("n{place}") })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let names = std::fs::read_dir(NETNS).into_iter().flatten().flatten().map(|entry| entry.file_name());
        for name in names.filter(|name| name.to_str().is_some_and(|n| n.starts_with(&self.run))) {
            let _ = ip([OsStr::new("netns"), OsStr::new("del"), &name]);
        }
    }
}

/// A node's address, without port.
pub fn address(node: u32) -> String {
    format!("10.77.0.{node}")
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

fn ip<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(args);
    output(command, "")
}

fn output(mut command: Command, stdin: &str) -> anyhow::Result<String> {
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
