//! The machines of the manual: each a folder that stands for its root, and (a node) an address of its own on loopback. What
//! only root on a real one may do, a user, a package, a service, is left out; the service is what its unit says.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quorate_hsm::soft_token::SoftToken;
use serde_json::Value;

use crate::page::{blocks, substitute};
use crate::support::{PATIENCE, Process, QUORATE, Signal, signal};
use crate::terminal::type_in;

pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
pub const CUSTODIANS: [&str; 5] = ["ada", "grace", "joan", "mary", "rosa"];
pub const OPERATOR: &str = "operator";

const LOOK_EVERY: Duration = Duration::from_millis(20);
const UNIT: &str = "etc/systemd/system/quorate.service";
const PIN: &str = "123456";
const PASSPHRASE: &str = "correct horse battery staple";

/// What a shell finds instead of programs that change more than the folder of its machine. Copying to another machine is
/// copying: names of machines have become folders by then.
const SHELL: &str = r#"
apt-get() { :; }
useradd() { :; }
chown() { :; }
runuser() { shift 3; "$@"; }
install() {
  local args=()
  while [ $# -gt 0 ]; do case $1 in -o|-g) shift 2;; *) args+=("$1"); shift;; esac; done
  command install "${args[@]}"
}
scp() { cp "$@"; }
systemctl() { echo "$*" >> "$ROOT/systemctl"; }
journalctl() { cat "$ROOT/journal" 2>/dev/null || true; }
set -euo pipefail
"#;

/// All of them, and what was written down by people.
pub struct Machines {
    base: tempfile::TempDir,
    /// API and peer address of each node.
    addresses: BTreeMap<&'static str, [String; 2]>,
    /// Services that run.
    running: BTreeMap<&'static str, Process>,
    /// Of a node, as it showed it.
    pub fingerprints: BTreeMap<&'static str, String>,
    /// Of a custodian.
    pub shares: BTreeMap<String, String>,
}

impl Machines {
    pub fn new() -> Self {
        let base = tempfile::tempdir().expect("a temporary folder");
        for machine in NODES.iter().chain([&OPERATOR]).chain(&CUSTODIANS) {
            for folder in ["home", "tmp", "etc/systemd/system", "var/lib"] {
                std::fs::create_dir_all(base.path().join(machine).join(folder)).expect("made");
            }
        }
        std::fs::create_dir(base.path().join("bin")).expect("made");
        std::os::unix::fs::symlink(QUORATE, base.path().join("bin/quorate")).expect("linked");
        let addresses = NODES.iter().zip(1..).map(|(node, n)| (*node, free_addresses(n))).collect();
        Self { base, addresses, running: BTreeMap::new(), fingerprints: BTreeMap::new(), shares: BTreeMap::new() }
    }

    pub fn root(&self, machine: &str) -> PathBuf {
        self.base.path().join(machine)
    }

    /// Everything that a page says, at the machines where it says it; `before` each block waits for what it takes. What stood
    /// on the screens.
    pub fn follow(&mut self, page: &str, before: impl Fn(&Self, &str)) -> String {
        let mut screens = String::new();
        for block in blocks(page, &NODES) {
            for machine in block.machines {
                let known = NODES.iter().chain([&OPERATOR]).chain(&CUSTODIANS).find(|known| **known == machine);
                let machine: &'static str = known.unwrap_or_else(|| panic!("no machine is called {machine}"));
                before(self, &block.text);
                let screen = self.type_at(machine, &block.text);
                self.note(machine, &screen);
                self.heed_systemctl(machine);
                screens += &screen;
            }
        }
        screens
    }

    /// Types `text` at a terminal of `machine`, and returns what stood on the screen.
    pub fn type_at(&self, machine: &str, text: &str) -> String {
        let script = self.root(machine).join("tmp/block");
        let text = self.said_to(machine, text);
        std::fs::write(&script, format!("{SHELL}{text}")).expect("written");
        let mut command = self.command(machine);
        command.args(["script", "-qefc", &format!("bash {}", script.display()), "/dev/null"]);
        let answers = [
            ("enter SO PIN: ", "pin-of-the-officer"),
            ("enter user PIN: ", PIN),
            ("User PIN: ", PIN),
            ("New passphrase for the authority: ", PASSPHRASE),
            ("Once more: ", PASSPHRASE),
            ("Passphrase of the authority: ", PASSPHRASE),
            ("Press Enter when it is safe; it disappears. ", ""),
            ("Share (not shown): ", self.shares.get(machine).map_or("", String::as_str)),
        ];
        let (status, screen) = type_in(command, &answers);
        // A status that is not yet good is no failure of the page.
        let looks = text.trim_end().lines().last() == Some("quorate operator status") && status.code() == Some(3);
        assert!(status.success() || looks, "at {machine}: {status}\n{text}\n--- it said:\n{screen}");
        screen
    }

    /// What a page says, for this machine: its files and addresses, and what was written down.
    fn said_to(&self, machine: &str, text: &str) -> String {
        let base = self.base.path().display();
        let module = SoftToken::module().expect("SoftHSM2");
        let mut table = vec![
            ("name=n1".to_owned(), format!("name={machine}")),
            ("name=ada".to_owned(), format!("name={machine}")),
            ("/usr/lib/softhsm/libsofthsm2.so".to_owned(), module.display().to_string()),
        ];
        for folder in ["/etc/", "/var/lib/", "/tmp/"] {
            table.push((folder.to_owned(), format!("{base}/{machine}{folder}")));
        }
        for (node, addresses) in &self.addresses {
            table.push((format!("root@{node}.example.com:/"), format!("{base}/{node}/")));
            for (port, address) in ["7600", "7601"].iter().zip(addresses) {
                table.push((format!("{node}.example.com:{port}"), address.clone()));
                if *node == machine {
                    table.push((format!("0.0.0.0:{port}"), address.clone()));
                    table.push((format!("$name.example.com:{port}"), address.clone()));
                }
            }
        }
        for (node, fingerprint) in &self.fingerprints {
            table.push((node.replace('n', "FINGERPRINT-"), fingerprint.clone()));
        }
        substitute(text, &table)
    }

    /// A command at a machine, in an environment of its own.
    fn command(&self, machine: &str) -> Command {
        let root = self.root(machine);
        let path = format!("{}/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.base.path().display());
        let mut command = Command::new("env");
        command.arg("-i").arg(format!("PATH={path}")).arg(format!("HOME={}/home", root.display()));
        command.arg(format!("ROOT={}", root.display())).args(["TERM=dumb", "LC_ALL=C.UTF-8"]);
        command.current_dir(root.join("home"));
        command
    }

    /// What people write down while they read the screen.
    fn note(&mut self, machine: &'static str, screen: &str) {
        let is_shown = |line: &&str| line.trim_start().starts_with("fingerprint ");
        if let Some(line) = screen.lines().find(is_shown).filter(|_| NODES.contains(&machine)) {
            self.fingerprints.insert(machine, line.split_whitespace().nth(1).expect("it is shown").to_owned());
        }
        for shown in screen.split("  Share ").skip(1) {
            let (head, rest) = shown.split_once("\n\n").expect("the share stands by itself");
            let rows = rest.split("Press Enter").next().unwrap_or_default();
            // In groups of five; what numbers them is shorter.
            let share = rows.split_whitespace().filter(|group| group.len() == 5).collect();
            let whose = head.split("for ").nth(1).and_then(|name| name.split('.').next()).expect("a name");
            self.shares.insert(whose.to_owned(), share);
        }
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
                "restart quorate" => {
                    self.stop(machine);
                    self.start(machine);
                    // By the others, as long as the last ceremony is not long ago.
                    self.wait_for(machine, " unsealed node=");
                }
                "reload quorate" => {
                    signal(self.running[machine].0.id(), Signal::HUP);
                    self.wait_for(machine, "the certificate was read again and is in use");
                }
                other => panic!("systemctl {other}"),
            }
        }
    }

    /// Starts what the unit on that machine says, and waits until it has.
    fn start(&mut self, machine: &'static str) {
        let unit = std::fs::read_to_string(self.root(machine).join(UNIT)).expect("the unit was put there");
        let started = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).expect("a command");
        let journal = std::fs::File::create(self.root(machine).join("journal")).expect("made");
        let mut command = self.command(machine);
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

    /// Waits until a node has said these words.
    pub fn wait_for(&self, machine: &str, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.journal(machine).contains(words) {
            assert!(Instant::now() < end, "{machine} does not say {words:?}:\n{}", self.journal(machine));
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The members, as the administrator sees them aside from what a page says.
    pub fn members(&self) -> Vec<Value> {
        let mut command = self.command(OPERATOR);
        let output = command.args(["quorate", "operator", "members", "list", "--output", "json"]).output();
        let list: Value = serde_json::from_slice(&output.expect("it runs").stdout).unwrap_or_default();
        list["members"].as_array().cloned().unwrap_or_default()
    }

    /// Waits, as the administrator does who looks again, until these nodes are open and level with the others.
    pub fn await_open(&self, nodes: &[&str]) {
        let end = Instant::now() + PATIENCE;
        loop {
            let members = self.members();
            let is_open = |m: &Value| m["sealed"] == false && m["lag"] == 0 && m["reachable"] == true;
            if nodes.iter().all(|node| members.iter().any(|m| m["name"] == *node && is_open(m))) {
                return;
            }
            assert!(Instant::now() < end, "{nodes:?} don't open: {members:?}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Carries a folder in somebody's home to the home of another, by hand.
    pub fn carry(&self, folder: &str, from: &str, to: &str) {
        let place = |machine| self.root(machine).join("home").join(folder);
        copy_folder(&place(from), &place(to));
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("there") {
        let entry = entry.expect("readable");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// Two addresses on loopback that nothing listens at, for clients and for peers.
fn free_addresses(node: usize) -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind(format!("127.0.0.{node}:0")).expect("loopback"));
    listeners.map(|listener| listener.local_addr().expect("bound").to_string())
}
