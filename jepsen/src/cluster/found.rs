//! From nothing to a cluster of voters: the steps of the README, by the commands a person types.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Duration, Instant, sleep};

use super::disk::Disk;
use super::token;
use super::{Cluster, Profile, SHARES, STEP_TIME_MAX, THRESHOLD, run};
use crate::net::{API_PORT, Net, PEER_PORT};

/// Where Debian and its relatives keep SoftHSM.
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];

/// SoftHSM's PKCS#11 module.
pub fn module() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|p| p.exists())
}

/// Certificates, tokens, configurations, under `dir`.
/// With a `forwarder` nodes reach their tokens through it.
pub async fn prepare(
    quorate: &Path,
    dir: &Path,
    net: &dyn Net,
    nodes: u32,
    disks: &[Disk],
    profile: Profile,
    forwarder: Option<&Path>,
) -> anyhow::Result<()> {
    let module = module().context("SoftHSM is not installed (package softhsm2; scripts/setup installs it)")?;
    let modules = Modules { real: &module, forwarder };
    let pki = dir.join("pki");
    std::fs::create_dir_all(dir)?;
    // The authority of a cluster that lives for minutes: its passphrase lies beside it.
    let passphrase = dir.join("passphrase");
    write_private(&passphrase, "correct horse battery staple, for a trial only\n")?;
    let authority = |action: &str| {
        let mut command = Command::new(quorate);
        command.args(["pki", action, "--output", "json", "--dir"]).arg(&pki).arg("--passphrase-file").arg(&passphrase);
        command
    };
    run(authority("init"), b"").await?;
    let mut client = authority("client");
    client.args(["--role", "admin", "--name", "admin"]);
    let client = run(client, b"");
    let requests = (1..=nodes).map(|n| request(quorate, dir, net, n, modules, data_dir(dir, n, disks), profile));
    futures::future::try_join(client, futures::future::try_join_all(requests)).await?;
    let signs = (1..=nodes).map(|n| {
        let node = dir.join(format!("n{n}"));
        let mut sign = authority("sign");
        sign.arg("--request").arg(node.join("node.request")).arg("--out").arg(node.join("node.pem"));
        run(sign, b"")
    });
    futures::future::try_join_all(signs).await?;
    Ok(())
}

/// A node's disk.
pub fn disk(dir: &Path, n: u32) -> anyhow::Result<Disk> {
    let node = dir.join(format!("n{n}"));
    std::fs::create_dir_all(&node)?;
    Disk::create(&node.join("disk.img"), n)
}

/// Where a node keeps its data: on its disk, if it has one.
pub fn data_dir(dir: &Path, n: u32, disks: &[Disk]) -> PathBuf {
    let folder = disks.get(n as usize - 1).map_or(dir.join(format!("n{n}")), |disk| disk.path().to_owned());
    folder.join("data")
}

/// The PKCS#11 modules: SoftHSM's, and what stands between it and the nodes.
#[derive(Clone, Copy)]
struct Modules<'m> {
    real: &'m Path,
    forwarder: Option<&'m Path>,
}

/// A node's folder, token and request.
async fn request(
    quorate: &Path,
    dir: &Path,
    net: &dyn Net,
    n: u32,
    modules: Modules<'_>,
    data: PathBuf,
    profile: Profile,
) -> anyhow::Result<()> {
    let node = dir.join(format!("n{n}"));
    let token = node.join("token");
    std::fs::create_dir_all(&token)?;
    let conf = node.join("softhsm2.conf");
    std::fs::write(&conf, format!("directories.tokendir = {}\nobjectstore.backend = file\n", token.display()))?;
    let (label, pin) = (format!("quorate-n{n}"), pin(n));
    write_private(&node.join("pin"), &pin)?;
    let mut init = Command::new("softhsm2-util");
    init.env("SOFTHSM2_CONF", &conf);
    init.args(["--init-token", "--free", "--label", &label, "--pin", &pin, "--so-pin", &pin]);
    run(init, b"").await?;
    let listen = |port: u16| SocketAddr::new(net.listens(n), port).to_string();
    let advertise = |port: u16| SocketAddr::new(net.reached(n), port).to_string();
    // A copy of its own, as on a machine of its own.
    std::fs::copy(dir.join("pki/ca.pem"), node.join("ca.pem"))?;
    let mut config = json!({
        "name": format!("n{n}"),
        "data_dir": data,
        "profile": match profile { Profile::Lan => "lan", Profile::Wan => "wan" },
        "api": { "listen": listen(API_PORT), "advertise": advertise(API_PORT) },
        "peer": { "listen": listen(PEER_PORT), "advertise": advertise(PEER_PORT) },
        "tls": { "cert": node.join("node.pem"), "root_ca": node.join("ca.pem") },
        // Small, so that a run of minutes compacts its log, and a node that was down is sent the state.
        "log": { "segment_mib": 4, "keep_kib": 256, "step_kib": 256, "compact_seconds": 10 },
        "hsm": {
            "module": modules.forwarder.unwrap_or(modules.real), "token_label": label, "pin_file": node.join("pin"),
            "environment": { "SOFTHSM2_CONF": conf },
        },
    });
    if modules.forwarder.is_some() {
        let more = token::environment(&node, modules.real);
        more.into_iter().for_each(|(name, value)| config["hsm"]["environment"][name] = value);
    }
    if n > 1 {
        let first = SocketAddr::new(net.reached(1), PEER_PORT).to_string();
        config["join"] = json!({ "addresses": [first], "token_file": node.join("join-token") });
    }
    std::fs::write(node.join("node.toml"), toml::to_string(&config)?)?;
    let mut request = Command::new(quorate);
    request.args(["pki", "request", "--output", "json", "--config"]).arg(node.join("node.toml"));
    request.arg("--out").arg(node.join("node.request"));
    let said: serde_json::Value = serde_json::from_slice(&run(request, b"").await?)?;
    let fingerprint = said["fingerprint"].as_str().context("pki request told no fingerprint")?;
    std::fs::write(node.join("fingerprint"), fingerprint)?;
    Ok(())
}

/// A node's PIN: known to the harness, which looks for it where it must not be.
pub fn pin(n: u32) -> String {
    format!("jepsen-user-pin-{n:04}")
}

/// Genesis, the first ceremony, the others join and become voters.
pub async fn found(cluster: &Cluster<'_>) -> anyhow::Result<()> {
    let state = |wanted: &'static str| move |said: Option<&str>| said == Some(wanted);
    cluster.start_node(1)?;
    wait(cluster, 1, "n1 to start", state("uninitialized")).await?;
    let shares = cluster.dir.join("shares");
    let (n, t) = (SHARES.to_string(), THRESHOLD.to_string());
    let out = shares.to_str().context("the folder's name is not UTF-8")?;
    cluster.operator(&["init", "--shares", &n, "--threshold", &t, "--shares-out", out], b"").await?;
    wait(cluster, 1, "n1 to be sealed", state("sealed")).await?;
    cluster.ceremony(1).await?;
    wait(cluster, 1, "n1 to be unsealed", state("ok")).await?;
    let others: Vec<String> = (2..=cluster.size()).map(|n| format!("n{n}")).collect();
    for (name, n) in others.iter().zip(2..) {
        let invited = cluster.operator(&["members", "invite", "--name", name], b"").await?;
        let token = invited["token"].as_str().context("no token")?;
        write_private(&cluster.node_dir(n).join("join-token"), token)?;
        cluster.start_node(n)?;
    }
    for (name, n) in others.iter().zip(2..) {
        let fingerprint = std::fs::read_to_string(cluster.node_dir(n).join("fingerprint"))?;
        let end = Instant::now() + STEP_TIME_MAX;
        loop {
            let listed = cluster.operator(&["members", "list"], b"").await?;
            let pending = listed["pending"].as_array().cloned().unwrap_or_default();
            if pending.iter().any(|p| p["name"] == *name && p["fingerprint"] == *fingerprint) {
                break;
            }
            if Instant::now() > end {
                bail!("{name} did not ask to join: {listed}");
            }
            sleep(Duration::from_millis(100)).await;
        }
        cluster.operator(&["members", "approve", name, "--fingerprint", &fingerprint], b"").await?;
        wait(cluster, n, "a member to be unsealed", state("ok")).await?;
    }
    if !others.is_empty() {
        let mut promote = vec!["members", "promote"];
        promote.extend(others.iter().map(String::as_str));
        if cluster.size().is_multiple_of(2) {
            promote.push("--force");
        }
        cluster.operator(&promote, b"").await?;
    }
    cluster.converge(STEP_TIME_MAX).await
}

async fn wait(cluster: &Cluster<'_>, n: u32, what: &str, wanted: impl Fn(Option<&str>) -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + STEP_TIME_MAX;
    loop {
        let status = &cluster.statuses().await[n as usize - 1];
        if wanted(status.as_ref().map(|s| s.state.as_str())) {
            return Ok(());
        }
        if let Some(death) = cluster.died().first() {
            bail!("waited for {what}: {death}");
        }
        if Instant::now() > end {
            bail!("waited in vain for {what}; last: {status:?}");
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// A file that only its owner reads.
pub(super) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}
