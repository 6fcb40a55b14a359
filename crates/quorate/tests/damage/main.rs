//! Damage while a node is down (a flipped byte or a cut in any one of its files): it is named before anything wrong is
//! served, or it harms nothing. The long run is `scripts/endure`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests do harm to files")]

mod harm;
mod remedy;
mod specimen;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use harm::{Kind, Plan};
use quorate_client::{Client, reason};
use quorate_proto::v1::*;
use specimen::Specimen;
use support::PATIENCE;
use support::server::{Server, Started, unseal};

/// Trials in `scripts/test`; `QUORATE_DAMAGE_TRIALS` asks for another number.
const TRIALS: u64 = 200;
/// One trial of so many is done to a cluster of three, which takes longer.
const CLUSTER_EACH: u64 = 20;
/// Nodes that run at the same time.
const SLOTS: [&str; 4] = ["slot-aa", "slot-bb", "slot-cc", "slot-dd"];
const CLUSTER_SLOT: &str = "slot-zz";

/// How a trial went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Verdict {
    /// The node ended, and said why.
    Refused,
    /// The node runs as damaged, says why, and serves nothing.
    Damaged,
    /// Everything acknowledged is there and works.
    Harmless,
}

struct Trial {
    number: u64,
    plan: String,
    kind: Option<Kind>,
    outcome: Result<Verdict, String>,
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_while_down_is_named_or_harms_nothing() {
    let seed = from_env("QUORATE_SEED").unwrap_or_else(rand::random);
    let only = from_env("QUORATE_DAMAGE_ONLY");
    let trials = from_env("QUORATE_DAMAGE_TRIALS").unwrap_or(TRIALS);
    println!("seed {seed}: QUORATE_SEED={seed} QUORATE_DAMAGE_TRIALS={trials} repeats this run");
    let lone = [Specimen::stopped().await, Specimen::killed().await];
    let cluster = Specimen::cluster().await;
    let begun = Instant::now();
    let free: tokio::sync::Mutex<Vec<&str>> = SLOTS.to_vec().into();
    let one_cluster = tokio::sync::Mutex::new(());
    let numbers = (0..trials).filter(|n| only.is_none_or(|only| *n == only));
    let mut running = stream::iter(numbers.map(|number| {
        let (lone, cluster, free, one_cluster) = (&lone, &cluster, &free, &one_cluster);
        async move {
            let seed = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            if number % CLUSTER_EACH == CLUSTER_EACH - 1 {
                let _alone = one_cluster.lock().await;
                return trial(cluster, CLUSTER_SLOT, number, seed).await;
            }
            let slot = free.lock().await.pop().expect("as many slots as trials at a time");
            let done = trial(&lone[(number % 2) as usize], slot, number, seed).await;
            free.lock().await.push(slot);
            done
        }
    }))
    .buffer_unordered(SLOTS.len());

    let (mut table, mut failures) = (BTreeMap::<Kind, BTreeMap<Verdict, u64>>::new(), Vec::new());
    let (mut done, mut told) = (0, Instant::now());
    while let Some(Trial { number, plan, kind, outcome }) = running.next().await {
        done += 1;
        match outcome {
            Ok(verdict) => {
                *kind.map(|k| table.entry(k).or_default().entry(verdict).or_default()).expect("planned") += 1
            }
            Err(why) => {
                println!("trial {number}: {plan}\n{why}\n");
                failures.push(format!("trial {number} ({plan}): {}", why.lines().next().unwrap_or_default()));
            }
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!("{done} of {trials} trials, {} failures, {} s", failures.len(), begun.elapsed().as_secs());
        }
    }
    println!("{:<12} {:>8} {:>8} {:>8}", "file", "refused", "damaged", "harmless");
    for (kind, counts) in &table {
        let count = |v| counts.get(&v).copied().unwrap_or_default();
        let [a, b, c] = [Verdict::Refused, Verdict::Damaged, Verdict::Harmless].map(count);
        println!("{:<12} {a:>8} {b:>8} {c:>8}", format!("{kind:?}"));
    }
    println!("{done} trials in {} s, {} failures, seed {seed}", begun.elapsed().as_secs(), failures.len());
    assert!(failures.is_empty(), "seed {seed}:\n{}", failures.join("\n"));
}

/// Two free ports, a pair that no trial of this process is given at the same time.
fn ports() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = (std::process::id() % 1000) as u16 * 10;
    loop {
        // Below the ports that the system gives to outgoing connections.
        let port = 10_000 + (base + NEXT.fetch_add(2, Ordering::Relaxed)) % 10_000;
        if [port, port + 1].iter().all(|p| TcpListener::bind(("127.0.0.1", *p)).is_ok()) {
            return (port, port + 1);
        }
    }
}

async fn trial(specimen: &Specimen, slot: &str, number: u64, seed: u64) -> Trial {
    let alone = specimen.nodes() == 1;
    let victim = if alone { 0 } else { (number / CLUSTER_EACH) as usize % specimen.nodes() };
    let folder = specimen.copy(slot, alone.then(ports));
    let name = |place: usize| specimen.dev.json.nodes[place].name.clone();
    let plan = Plan::choose(seed, &folder.join(name(victim)), &folder.join("pki/ca.pem"));
    plan.carry_out();
    let start = |place: usize| {
        let node = folder.join(name(place));
        Server::start(&node.join("node.toml"), &node.with_extension("said"))
    };
    // The root certificate is one file for all nodes of this machine; on three machines it would be three.
    let mut nodes: Vec<Server> = (0..specimen.nodes()).map(start).collect();
    let outcome = judge(specimen, &plan, victim, &mut nodes).await;
    let said = nodes[victim].said();
    let outcome = match outcome {
        Ok(_) if said.contains("panicked at") => Err("a thread panicked".to_owned()),
        other => other,
    };
    let outcome = outcome.map_err(|why| format!("{why}\n--- the node said:\n{said}"));
    nodes.iter_mut().for_each(Server::kill);
    Trial { number, plan: format!("{}, {plan}", specimen.name), kind: Some(plan.kind), outcome }
}

async fn judge(specimen: &Specimen, plan: &Plan, victim: usize, nodes: &mut [Server]) -> Result<Verdict, String> {
    let json = &specimen.dev.json;
    let mut clients = Vec::new();
    for node in nodes.iter_mut() {
        clients.push(match node.started().await.ok_or("it neither starts nor ends")? {
            Started::At(api) => Ok(json.client_at(vec![api]).await),
            Started::Ended(status) => Err(status),
        });
    }
    let named = |text: &str| match plan.kind.is_named_in(text) {
        true => Ok(()),
        false => Err(format!("the damage is not named: {text}")),
    };
    let mut verdict = Verdict::Harmless;
    match &clients[victim] {
        Err(status) => {
            if status.code() != Some(1) {
                return Err(format!("it ended with {status}"));
            }
            named(&nodes[victim].said())?;
            verdict = Verdict::Refused;
        }
        Ok(client) => match state(client).await? {
            (state, hint) if state == "damaged" => {
                named(&hint)?;
                refuses(client).await?;
                begins_no_ceremony(client).await?;
                verdict = Verdict::Damaged;
            }
            (state, _) if state == "uninitialized" => {
                // Another data directory, as far as anybody can tell; which one, it says.
                if plan.kind != Kind::Config || !nodes[victim].said().contains("data_dir") {
                    return Err("it takes itself for a new node".into());
                }
                verdict = Verdict::Refused;
            }
            _ => {}
        },
    }
    // The certificate authority's file is shared here: the others are concerned too.
    let up: Vec<&Client> = clients.iter().flatten().collect();
    if verdict != Verdict::Harmless && (nodes.len() == 1 || up.len() < 2) {
        return Ok(verdict);
    }
    let at = if nodes.len() == 1 { 0 } else { (victim + 1) % nodes.len() };
    let first = clients[at].as_ref().map_err(|status| format!("an undamaged node ended: {status}"))?;
    if let Err(e) = unseal(first, &json.shares).await {
        if at != victim {
            return Err(format!("the others can't be unsealed: {e}"));
        }
        named(&e.to_string())?;
        refuses(first).await?;
        return Ok(Verdict::Damaged);
    }
    for (place, client) in clients.iter().enumerate() {
        let Ok(client) = client else { continue };
        if place == victim && verdict != Verdict::Harmless {
            continue;
        }
        let (state, hint) = settled(client).await?;
        if state == "ok" {
            specimen.verify(client, nodes.len() > 1).await?;
            works(client).await?;
        } else if place == victim {
            named(&hint)?;
            refuses(client).await?;
            verdict = Verdict::Damaged;
        } else {
            return Err(format!("an undamaged node is {state}: {hint}"));
        }
    }
    Ok(verdict)
}

async fn status(client: &Client) -> Result<StatusResponse, String> {
    client.status(StatusRequest {}).await.map_err(|e| format!("no status: {e}"))
}

/// A node's state, and what it says about it.
async fn state(client: &Client) -> Result<(String, String), String> {
    let status = status(client).await?;
    let own = status.nodes.iter().find(|n| n.name == status.answered_by).map(|n| n.problem.clone());
    Ok((status.state, format!("{:?} {}", status.verdicts, own.unwrap_or_default())))
}

/// The same once the node is no longer sealed, or is known to stay so.
async fn settled(client: &Client) -> Result<(String, String), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let (state, hint) = state(client).await?;
        if state != "sealed" {
            return Ok((state, hint));
        }
        if Instant::now() > end {
            return Err(format!("it stays sealed: {hint}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn refuses(client: &Client) -> Result<(), String> {
    match client.impatient().create_key(CreateKeyRequest::default()).await {
        Err(_) => Ok(()),
        Ok(_) => Err("a damaged node serves".into()),
    }
}

/// At once: custodians are not kept waiting for what cannot come.
async fn begins_no_ceremony(client: &Client) -> Result<(), String> {
    match client.impatient().seal_config(SealConfigRequest {}).await {
        Err(e) if e.is(reason::DAMAGED) => Ok(()),
        other => Err(format!("a damaged node asked for its seal configuration: {other:?}")),
    }
}

async fn works(client: &Client) -> Result<(), String> {
    let fails = |e: quorate_client::ClientError| format!("it serves no new key: {e}");
    let key = client.create_key(CreateKeyRequest::default()).await.map_err(fails)?.key.expect("a key").key_id;
    let request = EncryptRequest { key, plaintext: "new".into(), ..Default::default() };
    let ciphertext = client.encrypt(request).await.map_err(fails)?.ciphertext;
    let request = DecryptRequest { ciphertext, ..Default::default() };
    match client.decrypt(request).await.map_err(fails)?.plaintext == "new" {
        true => Ok(()),
        false => Err("what it encrypts opens to something else".into()),
    }
}
