//! The operator's manual, by the letter: what stands in the fenced blocks of "A cluster on three machines" and of "Replacing a
//! damaged member" is typed, block by block, on a terminal, by the people and at the machines that the pages name. A machine
//! here is a folder that stands for its root, and an address of its own on loopback; what only root on a real one may do (a
//! user, a package, a service) is left out, and the service is what its unit says.
#![allow(clippy::disallowed_methods, reason = "tests touch files and processes")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use quorate_hsm::soft_token::SoftToken;
use serde_json::Value;
use support::{PATIENCE, Process, QUORATE, Signal, signal};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const CUSTODIANS: [&str; 5] = ["ada", "grace", "joan", "mary", "rosa"];
const UNIT: &str = "etc/systemd/system/quorate.service";

/// What the shell of a machine finds instead of programs that change more than its folder. Copying to another machine is
/// copying: names of machines have become folders by then.
const SHELL: &str = r#"
apt-get() { :; }
useradd() { :; }
chown() { :; }
runuser() { shift 3; "$@"; }
install() { local args=(); while [ $# -gt 0 ]; do case $1 in -o|-g) shift 2;; *) args+=("$1"); shift;; esac; done; command install "${args[@]}"; }
scp() { cp "$@"; }
systemctl() { echo "$*" >> "$ROOT/systemctl"; }
journalctl() { cat "$ROOT/journal" 2>/dev/null || true; }
"#;

/// A fenced block of shell: at which machines it is typed, and what.
struct Block<'a> {
    machines: Vec<&'a str>,
    text: String,
}

/// The blocks of a page, in their order; those without a machine are not typed here.
fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        match (open, line.strip_prefix("```sh"), line) {
            (false, Some(machines), _) => {
                let names = machines.split_whitespace();
                let machines =
                    names.flat_map(|name| if name == "nodes" { NODES.to_vec() } else { vec![name] }).collect();
                blocks.push(Block { machines, text: String::new() });
                open = true;
            }
            (true, _, "```") => open = false,
            (true, ..) => blocks.last_mut().expect("one is open").text += &format!("{line}\n"),
            _ => {}
        }
    }
    blocks
}

/// Replaces each of the first by the second, in one pass, so that nothing that was put in is looked at again.
fn substitute(text: &str, table: &[(String, String)]) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next() {
        let len = match table.iter().find(|(from, _)| rest.starts_with(from.as_str())) {
            Some((from, to)) => {
                out += to;
                from.len()
            }
            None => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    out
}

/// Ports that nothing listens on, two for each node, at an address of its own.
fn free_ports(node: usize) -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind(format!("127.0.0.{node}:0")).expect("loopback"));
    listeners.map(|listener| listener.local_addr().expect("bound").to_string())
}

/// All machines, and what was written down by people.
struct Machines {
    base: tempfile::TempDir,
    /// API and peer address of each node.
    addresses: BTreeMap<&'static str, [String; 2]>,
    /// Services that run.
    running: BTreeMap<&'static str, Process>,
    fingerprints: BTreeMap<String, String>,
    shares: BTreeMap<String, String>,
}

impl Machines {
    fn new() -> Self {
        let base = tempfile::tempdir().expect("a temporary folder");
        for machine in NODES.iter().chain(&["operator"]).chain(&CUSTODIANS) {
            for folder in ["home", "tmp", "etc/systemd/system", "var/lib"] {
                std::fs::create_dir_all(base.path().join(machine).join(folder)).expect("made");
            }
        }
        let bin = base.path().join("bin");
        std::fs::create_dir(&bin).expect("made");
        std::os::unix::fs::symlink(QUORATE, bin.join("quorate")).expect("linked");
        let addresses = NODES.iter().zip(1..).map(|(node, n)| (*node, free_ports(n))).collect();
        Self { base, addresses, running: BTreeMap::new(), fingerprints: BTreeMap::new(), shares: BTreeMap::new() }
    }

    fn root(&self, machine: &str) -> PathBuf {
        self.base.path().join(machine)
    }

    /// What a page says, for this machine: its files and addresses, and what was written down.
    fn said_to(&self, machine: &str, text: &str) -> String {
        let base = self.base.path().display();
        let mut table = vec![
            ("name=n1".to_owned(), format!("name={machine}")),
            ("name=ada".to_owned(), format!("name={machine}")),
            (
                "/usr/lib/softhsm/libsofthsm2.so".to_owned(),
                SoftToken::module().expect("SoftHSM2").display().to_string(),
            ),
            ("/etc/".to_owned(), format!("{base}/{machine}/etc/")),
            ("/var/lib/".to_owned(), format!("{base}/{machine}/var/lib/")),
            ("/tmp/".to_owned(), format!("{base}/{machine}/tmp/")),
        ];
        for (node, [api, peer]) in &self.addresses {
            table.push((format!("root@{node}.example.com:/"), format!("{base}/{node}/")));
            table.push((format!("{node}.example.com:7600"), api.clone()));
            table.push((format!("{node}.example.com:7601"), peer.clone()));
            table.push((
                "$name.example.com:7600".to_owned(),
                self.addresses.get(machine).map_or("", |a| &a[0]).to_owned(),
            ));
            table.push((
                "$name.example.com:7601".to_owned(),
                self.addresses.get(machine).map_or("", |a| &a[1]).to_owned(),
            ));
        }
        if let Some([api, peer]) = self.addresses.get(machine) {
            table.push(("0.0.0.0:7600".to_owned(), api.clone()));
            table.push(("0.0.0.0:7601".to_owned(), peer.clone()));
        }
        for (node, fingerprint) in &self.fingerprints {
            table.push((format!("FINGERPRINT-{}", &node[1..]), fingerprint.clone()));
        }
        substitute(text, &table)
    }

    fn shell(&self, machine: &str) -> Command {
        let mut command = Command::new("env");
        let root = self.root(machine);
        let path =
            format!("{}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.base.path().display());
        command.arg("-i").arg(format!("PATH={path}")).arg(format!("HOME={}/home", root.display()));
        command.arg(format!("ROOT={}", root.display())).args(["TERM=dumb", "LC_ALL=C.UTF-8"]);
        command.current_dir(root.join("home"));
        command
    }

    /// Types `text` at a terminal of `machine`, answers its questions, and returns what stood on the screen.
    fn type_at(&self, machine: &str, text: &str) -> String {
        let script = self.root(machine).join("tmp/block");
        let text = self.said_to(machine, text);
        std::fs::write(&script, format!("{SHELL}\nset -euo pipefail\n{text}")).expect("written");
        let mut command = self.shell(machine);
        command.args(["script", "-qefc", &format!("bash {}", script.display()), "/dev/null"]);
        let mut child = Process(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit())
                .spawn()
                .expect("script starts"),
        );
        let mut keyboard = child.0.stdin.take().expect("piped");
        let mut screen = child.0.stdout.take().expect("piped");
        let (told, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = screen.read(&mut bytes) {
                let _ = told.send(bytes[..len].to_vec());
            }
        });
        let share = self.shares.get(machine).cloned().unwrap_or_default();
        let answers = [
            ("enter SO PIN: ", "so-pin-of-the-officer"),
            ("enter user PIN: ", "123456"),
            ("User PIN: ", "123456"),
            ("New passphrase for the authority: ", "correct horse battery staple"),
            ("Once more: ", "correct horse battery staple"),
            ("Passphrase of the authority: ", "correct horse battery staple"),
            ("Press Enter when it is safe; it disappears. ", ""),
            ("Share (not shown): ", &share),
        ];
        let (mut seen, mut answered, end) = (Vec::new(), 0, Instant::now() + PATIENCE);
        loop {
            match shown.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => seen.extend(bytes),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("at {machine}, nothing more after:\n{}", String::from_utf8_lossy(&seen))
                }
            }
            while let Some((at, answer)) = answers
                .iter()
                .filter_map(|(question, answer)| {
                    let at = memchr::memmem::find(&seen[answered..], question.as_bytes())?;
                    Some((answered + at + question.len(), answer))
                })
                .min()
            {
                answered = at;
                writeln!(keyboard, "{answer}").expect("typed");
            }
        }
        let status = child.0.wait().expect("ours");
        let seen = String::from_utf8_lossy(&seen).replace('\r', "");
        // A status that is no "ok" is none of a failure of the page.
        let only_looks = text.trim_end().lines().last() == Some("quorate operator status") && status.code() == Some(3);
        assert!(status.success() || only_looks, "at {machine}: {status}\n{text}\n--- it said:\n{seen}");
        seen
    }

    /// Does what was asked of systemd.
    fn heed_systemctl(&mut self, machine: &'static str) {
        let asked = self.root(machine).join("systemctl");
        let text = std::fs::read_to_string(&asked).unwrap_or_default();
        let _ = std::fs::remove_file(asked);
        for line in text.lines() {
            match line {
                "daemon-reload" => {}
                "enable --now quorate" | "start quorate" => self.start(machine),
                "stop quorate" => self.stop(machine),
                other => panic!("systemctl {other}"),
            }
        }
    }

    /// Starts what the unit on that machine says, and waits until it has.
    fn start(&mut self, machine: &'static str) {
        let unit = std::fs::read_to_string(self.root(machine).join(UNIT)).expect("the unit was put there");
        let started = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).expect("a command");
        let journal = std::fs::File::create(self.root(machine).join("journal")).expect("made");
        let mut command = self.shell(machine);
        command.args(self.said_to(machine, started).split_whitespace());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(journal).spawn().expect("it starts");
        self.running.insert(machine, Process(child));
        self.wait_for(machine, " started node=");
    }

    fn stop(&mut self, machine: &str) {
        let mut service = self.running.remove(machine).expect("it runs");
        signal(service.0.id(), Signal::TERM);
        assert!(service.0.wait().expect("ours").success(), "{}", self.journal(machine));
    }

    fn journal(&self, machine: &str) -> String {
        std::fs::read_to_string(self.root(machine).join("journal")).unwrap_or_default()
    }

    fn wait_for(&self, machine: &str, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.journal(machine).contains(words) {
            assert!(Instant::now() < end, "{machine} does not say {words:?}:\n{}", self.journal(machine));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Asks as the administrator, aside from what the page says.
    fn ask(&self, args: &[&str]) -> Value {
        let output =
            self.shell("operator").arg("quorate").args(args).args(["--output", "json"]).output().expect("it runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits, as the administrator does who looks again, until every one of these nodes is open and level with the others.
    fn await_open(&self, nodes: &[&str]) {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.ask(&["operator", "status"]);
            let open = |name: &&str| {
                let of = status["nodes"].as_array().into_iter().flatten();
                of.clone()
                    .any(|n| n["name"] == **name && n["sealed"] == false && n["lag"] == 0 && n["reachable"] == true)
            };
            if nodes.iter().all(|name| open(name)) {
                return;
            }
            assert!(Instant::now() < end, "{nodes:?} don't open: {status}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// What people write down while they read the screen.
    fn note(&mut self, machine: &str, screen: &str) {
        let is_node = NODES.contains(&machine);
        if let Some(line) =
            screen.lines().filter(|_| is_node).find(|line| line.trim_start().starts_with("fingerprint "))
        {
            let fingerprint = line.split_whitespace().nth(1).expect("it is shown").to_owned();
            self.fingerprints.entry(machine.to_owned()).or_insert(fingerprint);
        }
        for shown in screen.split("  Share ").skip(1) {
            let (head, rest) = shown.split_once("\n\n").expect("the share stands by itself");
            let (share, _) = rest.split_once("\n\n").expect("the share stands by itself");
            let custodian = head.split("for ").nth(1).and_then(|name| name.split('.').next()).expect("whose it is");
            self.shares.insert(custodian.to_owned(), share.split_whitespace().collect());
        }
    }

    /// Everything that a page says, at the machines where it says it; `before` each block waits for what it takes.
    fn follow(&mut self, page: &str, before: impl Fn(&Self, &str)) -> String {
        let mut screens = String::new();
        for block in blocks(page) {
            for machine in &block.machines {
                let machine =
                    *NODES.iter().chain(&["operator"]).chain(&CUSTODIANS).find(|m| *m == machine).expect("known");
                before(self, &block.text);
                let screen = self.type_at(machine, &block.text);
                self.note(machine, &screen);
                self.heed_systemctl(machine);
                screens += &screen;
            }
        }
        screens
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("there") {
        let entry = entry.expect("readable");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

#[test]
fn a_cluster_by_the_letter_and_a_member_replaced_by_the_letter() {
    let mut machines = Machines::new();
    let page = include_str!("../manual/cluster.md");
    let not_typed: Vec<_> =
        blocks(page).into_iter().filter(|block| block.machines.is_empty()).map(|b| b.text).collect();
    assert_eq!(not_typed, ["cargo build --release --package quorate\n"]);

    let seen = machines.follow(page, |machines, block| {
        if block.contains("share check") {
            // Given to them by hand, after the shares.
            for custodian in CUSTODIANS {
                let folder = format!("home/for-{custodian}");
                copy_folder(&machines.root("operator").join(&folder), &machines.root(custodian).join(&folder));
            }
        }
        if block.contains("members approve") {
            for node in ["n2", "n3"] {
                machines.wait_for(node, &machines.fingerprints[node]);
            }
        }
        if block.contains("members promote") {
            machines.await_open(&["n2", "n3"]);
        }
    });
    assert!(seen.contains("uninitialized") && seen.contains("attack at dawn"), "{seen}");
    assert_eq!((machines.fingerprints.len(), machines.shares.len()), (3, 5), "all were shown");
    let status = machines.ask(&["operator", "status"]);
    let voters =
        status["nodes"].as_array().into_iter().flatten().filter(|n| n["voter"] == true && n["sealed"] == false);
    assert_eq!(voters.count(), 3, "{status}");
    let accepted = CUSTODIANS.iter().filter(|custodian| seen.contains(&format!("{custodian}, accepted")));
    assert_eq!(
        accepted.collect::<Vec<_>>(),
        ["ada", "grace", "joan"].iter().collect::<Vec<_>>(),
        "labels go with shares"
    );

    // The same cluster, and a member that has to be replaced.
    let before = status["nodes"].as_array().into_iter().flatten().find(|n| n["name"] == "n3").map(|n| n["id"].clone());
    machines.follow(include_str!("../manual/replace.md"), |machines, block| {
        if block.contains("members approve") {
            machines.wait_for("n3", &machines.fingerprints["n3"]);
        }
        if block.contains("members promote") {
            machines.await_open(&["n3"]);
        }
    });
    let members = machines.ask(&["operator", "members", "list"]);
    let after = members["members"].as_array().into_iter().flatten().find(|n| n["name"] == "n3").expect("it is back");
    assert!(after["voter"] == true && Some(&after["id"]) != before.as_ref(), "{members}");
    let screen =
        machines.type_at("operator", "quorate decrypt --aad tenant=blue --addr n3.example.com:7600 < secret\n");
    assert!(screen.contains("attack at dawn"), "{screen}");
}

/// The unit keeps a node from what it does not need, as systemd itself rates it (0 best, 10 worst; in tenths here).
#[test]
fn the_unit_is_hardened() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../cluster-config/quorate.service");
    let output = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=20", unit])
        .output()
        .expect("THIS TEST NEEDS systemd-analyze (package systemd)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
