//! What root could read in the memory of real nodes (key-hierarchy §8): every secret is known to the test, and looked
//! for in everything the process has written.
#![allow(clippy::disallowed_methods, reason = "tests wait for processes")]

#[path = "support/scan.rs"]
mod scan;
#[path = "support/stolen.rs"]
mod stolen;
mod support;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quorate_client::Client;
use quorate_crypto::Share;
use quorate_hsm::SoftToken;
use quorate_proto::v1::*;
use scan::{Needle, Scan};
use stolen::Loot;
use support::{Dev, PATIENCE, Process, Signal, freeze, signal};

/// Makes `memfd_secret` fail in a command and all it starts, as on a kernel without it.
fn without_secretmem(command: &mut Command) {
    const OF_NUMBER: u32 = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, OF_NUMBER, (0, 0)),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_memfd_secret as u32, (0, 1)),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, (0, 0)),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, (0, 0)),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: plain system calls of the child about itself; the kernel copies the program.
        #[allow(unsafe_code)]
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(install);
    }
}

fn statement(code: u32, k: u32, (jt, jf): (u8, u8)) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Whether this test may look at all. As an ordinary user it may not, and that is what it then shows.
fn may_look(dev: &Dev) -> bool {
    let readable = dev.json.nodes.iter().filter(|n| scan::may_read(n.pid)).count();
    assert_eq!(readable, if rustix::process::geteuid().is_root() { dev.json.nodes.len() } else { 0 });
    readable > 0
}

/// Scans until nothing but `allowed` is found, and it is `there`: so that work under way may end. What is left for good is
/// left then, too.
fn look(
    (pid, who, when): (u32, &str, &str),
    needles: &[Needle],
    allowed: &[&str],
    there: impl Fn(&Scan) -> bool,
) -> Scan {
    let end = Instant::now() + PATIENCE / 2;
    let mut before = Vec::new();
    loop {
        let scan = scan::scan(pid, needles).unwrap_or_else(|e| panic!("{when}: {who}: {e}; left before: {before:?}"));
        let left: Vec<_> = scan.hits.iter().filter(|h| !allowed.iter().any(|a| h.what.starts_with(a))).collect();
        if left.is_empty() && there(&scan) {
            let found = scan.found().join(", ");
            eprintln!(
                "{when}: {who}: {} KiB searched, {} KiB of secret memory out of reach, found: [{found}]",
                scan.read >> 10,
                scan.secretmem() >> 10
            );
            return scan;
        }
        if Instant::now() > end {
            let left: Vec<_> = left.iter().map(ToString::to_string).collect();
            let found = scan.found();
            panic!("{when}, in the memory of {who}: {found:?}, and it should not be there:\n{}", left.join("\n"));
        }
        before = left.iter().map(ToString::to_string).collect();
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What a node keeps in `Secret` memory: out of reach with `memfd_secret`, and else the proof that a scan finds things.
const LIVE: [&str; 8] =
    ["root key", "epoch key", "record key", "name key", "id key", "anchor seed", "backup key", "material"];

/// A cluster whose secrets are known, sealed.
struct Story {
    dev: Dev,
    needles: Vec<Needle>,
    keys: [String; 2],
    /// Whether secrets in `Secret` memory can be seen.
    seen: bool,
}

impl Story {
    /// `None` when this test may not look.
    async fn begin(prepare: fn(&mut Command), seen: bool) -> Option<Self> {
        let mut dev = Dev::start_prepared(3, false, prepare);
        if !may_look(&dev) {
            return None;
        }
        let client = dev.client().await;
        let mut keys = [String::new(), String::new()];
        for key in &mut keys {
            *key = client.create_key(CreateKeyRequest::default()).await.expect("created").key.expect("a key").key_id;
        }
        drop(client);
        let quorum = dev.json.shares[..dev.json.threshold].to_vec();
        let mut needles = vec![Needle::new("unseal key", &stolen::unseal_key(&quorum))];
        for (i, text) in dev.json.shares.iter().enumerate() {
            // Without its head, which is the same in all.
            needles.push(Needle::new(format!("text of share {}", i + 1), &text.as_bytes()[20..]));
            needles.push(Needle::new(format!("y of share {}", i + 1), &stolen::share_y(text)));
        }
        for node in &dev.json.nodes {
            let what = (node.pid, &*node.name, "after genesis, the first ceremony and joining");
            look(what, &needles, &[], |_| true);
        }
        dev.stop();

        let node = dev.json.nodes[0].clone();
        let folder = node.data.parent().expect("the node's folder");
        let pin = std::fs::read_to_string(folder.join("pin")).expect("its PIN").trim().to_owned();
        needles.push(Needle::new("PIN", pin.as_bytes()));
        let token = SoftToken { dir: folder.join("token"), label: format!("quorate-{}", node.name), pin };
        token.danger_set_test_environment();
        let thief = std::thread::spawn(move || stolen::open(&node.data, &token, &node.name, &quorum));
        let loot: Loot = thief.join().expect("the formats are as written down");
        assert_eq!((loot.materials.len(), loot.cluster_secrets.len()), (2, 1));
        let secrets = [
            ("quorum key, X25519", &loot.quorum[0]),
            ("quorum key, ML-KEM", &loot.quorum[1]),
            ("HSM half", &loot.hsm_half),
            ("root key", &loot.root_key),
            ("epoch key", &loot.epoch_key),
            ("record key", &loot.record_key),
            ("name key", &loot.name_key),
            ("id key", &loot.id_key),
            ("anchor seed", &loot.anchor_seed),
            ("backup key", &loot.backup_key),
            ("material 1", &loot.materials[0]),
            ("material 2", &loot.materials[1]),
            ("audit key", &loot.cluster_secrets[0]),
        ];
        needles.extend(secrets.map(|(what, bytes)| Needle::new(what, bytes)));
        dev.stop_and_restart(true);
        Some(Self { dev, needles, keys, seen })
    }

    /// Nothing may be found but `transient`, and what lives in `Secret` memory where that can be seen: then it must be.
    fn look_at_all(&self, when: &str, live: &[&str], transient: &[&str]) {
        for place in 0..self.dev.json.nodes.len() {
            self.look_at(place, when, live, transient);
        }
    }

    fn look_at(&self, place: usize, when: &str, live: &[&str], transient: &[&str]) {
        let node = &self.dev.json.nodes[place];
        // The PIN is kept, to open a session again.
        let kept = [live, if place == 0 { &["PIN"] } else { &[] }].concat();
        let allowed = if self.seen { [&kept, transient].concat() } else { transient.to_vec() };
        // What is there is found, or the scan would show nothing.
        let there = |scan: &Scan| {
            let found = scan.found();
            !self.seen || kept.iter().all(|what| found.iter().any(|f| f.starts_with(what)))
        };
        let scan = look((node.pid, &node.name, when), &self.needles, &allowed, there);
        assert_eq!(scan.secretmem() == 0, self.seen, "{when}: {}", node.name);
        let other = |(name, _): &&(String, usize)| !name.contains("secretmem") && !name.starts_with("[vv");
        assert_eq!(scan.out_of_reach.iter().find(other), None, "{when}: {}: out of reach", node.name);
    }

    /// A custodian's command that has read the share, and can't send it since the node is stopped.
    fn look_at_the_custodians_command(&self, share: usize) {
        let node = &self.dev.json.nodes[0];
        let mut command = self.dev.command_at(&node.api, &["operator", "unseal", "--timeout", "60"]);
        if self.seen {
            without_secretmem(&mut command);
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut cli = Process(spawned.expect("it starts"));
        let pid = cli.0.id();
        // It asks for what is public first, and then for the share.
        let reads_stdin = || {
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            let fd = call.strip_prefix(&format!("{} 0x", libc::SYS_read)).and_then(|rest| rest.split(' ').next());
            let fd = fd.and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let file = |fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
            fd.is_some_and(|fd| file(fd).is_some() && file(fd) == file(0))
        };
        let end = Instant::now() + PATIENCE;
        while !reads_stdin() {
            assert!(Instant::now() < end, "the command never asks for the share");
            std::thread::sleep(Duration::from_millis(20));
        }
        freeze(node.pid);
        cli.0.stdin.take().expect("piped").write_all(self.dev.json.shares[share].as_bytes()).expect("it reads");
        let y = format!("y of share {}", share + 1);
        let allowed = if self.seen { vec![y.as_str()] } else { vec![] };
        let holds_it = |scan: &Scan| scan.found() == allowed && (scan.secretmem() > 0) != self.seen;
        look((pid, "the custodian's command", "holding a share"), &self.needles, &allowed, holds_it);
        drop(cli);
        signal(node.pid, Signal::CONT);
    }

    /// Enters a share on a connection that stays open.
    async fn enter(&self, node: &Client, share: usize) {
        let text = &self.dev.json.shares[share];
        let parsed = Share::parse(text).expect("a share");
        let config = node.seal_config(SealConfigRequest {}).await.expect("public").seal_config;
        let config = quorate_crypto::SealConfig::decode(&config).expect("a seal configuration");
        let challenge = node.share_challenge(ShareChallengeRequest {}).await.expect("a challenge");
        let nonce: [u8; 32] = challenge.nonce.as_ref().try_into().expect("32 bytes");
        let proof = parsed.prove(config.cluster, &challenge.node_name, &nonce).to_vec().into();
        let request = SubmitShareRequest { share: text.clone(), nonce: challenge.nonce, proof };
        node.submit_share(request).await.expect("accepted");
    }

    /// Uses a key at every node in every way, and remembers what came out.
    async fn use_key(&mut self, client: &Client, key: &str) {
        let plaintext = "attack at dawn, by the bridge, with everything we have";
        for place in 0..3 {
            let node = client.node(place).expect("a node");
            let request = EncryptRequest { key: key.into(), plaintext: plaintext.into(), ..Default::default() };
            let ciphertext = node.encrypt(request).await.expect("encrypted").ciphertext;
            let request = DecryptRequest { ciphertext, ..Default::default() };
            assert_eq!(node.decrypt(request).await.expect("decrypted").plaintext, plaintext);
            let request = GenerateDataKeyRequest { key: key.into(), ..Default::default() };
            let data_key = node.generate_data_key(request).await.expect("a data key").plaintext;
            self.needles.push(Needle::new("in transit: data key", &data_key));
        }
        self.needles.push(Needle::new("in transit: plaintext", plaintext.as_bytes()));
    }
}

async fn nothing_secret_can_be_read(prepare: fn(&mut Command), seen: bool) {
    let Some(mut story) = Story::begin(prepare, seen).await else { return };
    story.look_at_all("sealed after a restart", &[], &[]);
    story.look_at_the_custodians_command(4);

    // In buffers of the connection it came through, a share's text may last until the ceremony is over.
    let custodian = story.dev.client().await.node(0).expect("a node");
    story.enter(&custodian, 0).await;
    story.enter(&custodian, 1).await;
    story.look_at(0, "two of three shares entered", &["y of share 1", "y of share 2"], &["text of share"]);
    story.look_at(1, "shares entered elsewhere", &[], &[]);
    story.enter(&custodian, 2).await;
    story.dev.await_serving().await;
    story.look_at_all("unsealed", &LIVE[..6], &[]);

    // What a caller was given lasts in the buffers of its own connection, for as long as that lasts.
    let client = story.dev.client().await;
    // A node keeps what it reads from the first change on that it saw.
    client.create_key(CreateKeyRequest::default()).await.expect("created");
    let keys = story.keys.clone();
    for key in &keys {
        story.use_key(&client, key).await;
    }
    story.look_at_all("serving", &LIVE, &["in transit"]);
    drop((client, custodian));
    story.look_at_all("the callers are gone", &LIVE, &[]);

    let client = story.dev.client().await;
    client.disable_key(KeyRequest { key: keys[0].clone() }).await.expect("disabled");
    let doomed = ScheduleKeyDeletionRequest { key: keys[1].clone(), ..Default::default() };
    client.schedule_key_deletion(doomed).await.expect("scheduled");
    story.look_at_all("one key disabled, the other to be deleted", &LIVE[..6], &[]);

    client.enable_key(KeyRequest { key: keys[0].clone() }).await.expect("enabled");
    story.use_key(&client, &keys[0]).await;
    story.look_at_all("serving again", &LIVE, &["in transit"]);
    client.seal(SealRequest { cluster: true }).await.expect("sealed");
    story.look_at_all("sealed, the callers still connected", &[], &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_reads_no_secret_in_a_nodes_memory() {
    nothing_secret_can_be_read(|_| {}, false).await;
}

/// Where the kernel has no `memfd_secret`, secrets can be seen while they live; so here it shows that a scan finds them,
/// and that nothing is left afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_secretmem_nothing_outlives_its_use() {
    nothing_secret_can_be_read(without_secretmem, true).await;
}
