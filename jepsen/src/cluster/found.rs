//! From nothing to a cluster of voters: the steps of the manual (`cluster`), by the commands a person types.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Duration, Instant, sleep};

use super::disk::Disk;
use super::{Cluster, Profile, SHARES, STEP_TIME_MAX, THRESHOLD, run, token};
use crate::net::{API_PORT, PEER_PORT};

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

/// The cluster's root under `dir`, and the certificates of an administrator and of an application.
pub async fn authority(quorate: &Path, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    // The authority of a cluster that lives for minutes: its passphrase lies beside it.
    write_private(&passphrase(dir), "correct horse battery staple, for a trial only\n")?;
    run(pki(quorate, dir, "init"), b"").await?;
    for role in ["admin", "user"] {
        let mut client = pki(quorate, dir, "client");
        client.args(["--role", role, "--name", role]);
        run(client, b"").await?;
    }
    Ok(())
}

/// A node's token, certificate and configuration; it will ask the members to let it join, unless it is the first.
pub async fn node(cluster: &Cluster<'_>, n: u32, data: &Path) -> anyhow::Result<()> {
    request(cluster, n, data).await?;
    let node = cluster.node_dir(n);
    let mut sign = pki(&cluster.quorate, &cluster.dir, "sign");
    sign.arg("--request").arg(node.join("node.request")).arg("--out").arg(node.join("node.pem"));
    run(sign, b"").await?;
    Ok(())
}

fn pki(quorate: &Path, dir: &Path, action: &str) -> Command {
    let mut command = Command::new(quorate);
    command.args(["pki", action, "--output", "json", "--dir"]).arg(dir.join("pki"));
    command.arg("--passphrase-file").arg(passphrase(dir));
    command
}

fn passphrase(dir: &Path) -> PathBuf {
    dir.join("passphrase")
}

/// A node's disk.
pub fn disk(dir: &Path, n: u32) -> anyhow::Result<Disk> {
    let node = dir.join(format!("n{n}"));
    std::fs::create_dir_all(&node)?;
    Disk::create(&node.join("disk.img"), n)
}

/// A copy of a folder.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to).with_context(|| entry.path().display().to_string())?;
        }
    }
    Ok(())
}

/// A node's folder, token and request.
async fn request(cluster: &Cluster<'_>, n: u32, data: &Path) -> anyhow::Result<()> {
    let module = module().context("SoftHSM is not installed (package softhsm2; scripts/setup installs it)")?;
    let Cluster { quorate, dir, net, gear, forwarder, .. } = cluster;
    let node = cluster.node_dir(n);
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
    let reached = |n: u32, port: u16| SocketAddr::new(net.reached(n), port).to_string();
    // A copy of its own, as on a machine of its own.
    std::fs::copy(dir.join("pki/ca.pem"), node.join("ca.pem"))?;
    // Small, so that a run of minutes compacts its log, and a node that was down is sent the state.
    let log = match gear.short_logs {
        false => json!({ "segment_mib": 4, "keep_kib": 256, "step_kib": 256, "compact_seconds": 10 }),
        true => json!({ "segment_mib": 1, "keep_kib": 16, "step_kib": 8, "compact_seconds": 1 }),
    };
    let mut config = json!({
        "name": format!("n{n}"),
        "data_dir": data,
        "profile": match gear.profile { Profile::Lan => "lan", Profile::Wan => "wan" },
        "api": { "listen": listen(API_PORT), "advertise": reached(n, API_PORT) },
        "peer": { "listen": listen(PEER_PORT), "advertise": reached(n, PEER_PORT) },
        "tls": { "cert": node.join("node.pem"), "root_ca": node.join("ca.pem") },
        "log": log,
        "hsm": {
            "module": forwarder.as_ref().unwrap_or(&module), "token_label": label, "pin_file": node.join("pin"),
            "environment": { "SOFTHSM2_CONF": conf },
        },
    });
    // With a forwarder the node reaches its token through it.
    if forwarder.is_some() {
        let more = token::environment(&node, &module);
        more.into_iter().for_each(|(name, value)| config["hsm"]["environment"][name] = value);
    }
    if n > 1 {
        let others = cluster.members().into_iter().filter(|m| *m != n);
        let addresses: Vec<String> = others.map(|m| reached(m, PEER_PORT)).collect();
        config["join"] = json!({ "addresses": addresses, "token_file": node.join("join-token") });
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
    let all = cluster.members();
    cluster.operator.run(&all, &["init", "--shares", &n, "--threshold", &t, "--shares-out", out], b"").await?;
    wait(cluster, 1, "n1 to be sealed", state("sealed")).await?;
    cluster.ceremony(1).await?;
    wait(cluster, 1, "n1 to be unsealed", state("ok")).await?;
    let others: Vec<String> = (2..=cluster.size()).map(|n| format!("n{n}")).collect();
    for (name, n) in others.iter().zip(2..) {
        let invited = cluster.operator.run(&all, &["members", "invite", "--name", name], b"").await?;
        let token = invited["token"].as_str().context("no token")?;
        cluster.invited(n, token)?;
        cluster.start_node(n)?;
    }
    for (name, n) in others.iter().zip(2..) {
        let fingerprint = cluster.fingerprint(n)?;
        let end = Instant::now() + STEP_TIME_MAX;
        loop {
            let listed = cluster.operator.run(&all, &["members", "list"], b"").await?;
            let pending = listed["pending"].as_array().cloned().unwrap_or_default();
            if pending.iter().any(|p| p["name"] == *name && p["fingerprint"] == *fingerprint) {
                break;
            }
            if Instant::now() > end {
                bail!("{name} did not ask to join: {listed}");
            }
            sleep(Duration::from_millis(100)).await;
        }
        cluster.operator.run(&all, &["members", "approve", name, "--fingerprint", &fingerprint], b"").await?;
        wait(cluster, n, "a member to be unsealed", state("ok")).await?;
    }
    if !others.is_empty() {
        let mut promote = vec!["members", "promote"];
        promote.extend(others.iter().map(String::as_str));
        if cluster.size().is_multiple_of(2) {
            promote.push("--force");
        }
        cluster.operator.run(&all, &promote, b"").await?;
    }
    cluster.converge(STEP_TIME_MAX).await
}

async fn wait(cluster: &Cluster<'_>, n: u32, what: &str, wanted: impl Fn(Option<&str>) -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + STEP_TIME_MAX;
    loop {
        let status = cluster.status(n).await;
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
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}
