//! `quorate bench suite`: all loads in one run and one table, each beside what it is to be compared with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use quorate_client::v1::StatusResponse;
use quorate_client::{Client, ClientConfig};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::failover::await_level;
use super::limits::{self, Workspace};
use super::load::{Load, What};
use super::{on_own_cluster, say};
use crate::command::dev::Cluster;
use crate::command::failure::CommandResult;
use crate::command::{Shared, output};

/// Bytes in a request.
const SIZE: u32 = 1024;
/// Clients that keep a node busy.
const MANY: u16 = 64;
/// How long each raw limit is measured.
const LIMIT_TIME: Duration = Duration::from_secs(2);

/// Measure everything in one run and print one table.
///
/// Three nodes and the clients share this machine, so figures depend on it: each is shown beside what it is to be compared with, from the same
/// run: an authenticated no-op on the same stack (echo), the disk's own synced writes, one core's AES-256-GCM.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate bench suite
  quorate bench suite --seconds 20 --output json
  quorate bench suite --dir /var/tmp/bench --keys 0

--dir keeps the cluster in a folder of your choice, on the disk to be measured; without it it is in the temporary folder and removed.")]
pub struct Suite {
    /// For how long each load runs
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// Keys in the cluster when it is stopped, started and unsealed again; 0 = not at all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keys: u32,
    /// MiB of the file that is encrypted and decrypted
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    file: u32,
    /// Folder to keep the cluster in, made if need be [default: a temporary one]
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
}

/// One line of the table.
struct Row {
    name: String,
    clients: u16,
    on: &'static str,
    rate: f64,
    unit: &'static str,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    errors: u64,
    /// Rate divided by another's, and whose.
    beside: Option<(String, f64)>,
    /// What is aimed at, and whether it is met.
    aim: Option<(String, bool)>,
}

impl Row {
    fn limit(name: &str, rate: f64, unit: &'static str) -> Self {
        let (clients, p50_us, p99_us) = (1, None, None);
        Self { name: name.into(), clients, on: "", rate, unit, p50_us, p99_us, errors: 0, beside: None, aim: None }
    }

    fn beside(mut self, other: &Row, at_least: Option<f64>) -> Self {
        let ratio = self.rate / other.rate;
        let on = if self.on == other.on || self.name != other.name { "" } else { other.on };
        self.beside = Some((format!("÷ {} {on}", other.name).trim_end().to_owned(), ratio));
        if let Some(least) = at_least {
            self.aim = Some((format!("≥ {least}"), ratio >= least));
        }
        self
    }

    fn at_least(mut self, rate: f64) -> Self {
        self.aim = Some((format!("≥ {rate} {}", self.unit), self.rate >= rate));
        self
    }

    fn to_json(&self) -> Value {
        json!({
            "load": self.name, "clients": self.clients, "on": self.on, "rate": round(self.rate), "unit": self.unit,
            "p50_us": self.p50_us, "p99_us": self.p99_us, "errors": self.errors,
            "beside": self.beside.as_ref().map(|(what, ratio)| json!({ "what": what, "ratio": round2(*ratio) })),
            "aim": self.aim.as_ref().map(|(what, met)| json!({ "what": what, "met": met })),
        })
    }

    fn cells(&self) -> [String; 9] {
        let time = |us: Option<u64>| us.map_or(String::new(), |us| us.to_string());
        let rate = if self.unit == "MB/s" { format!("{:.0} MB", self.rate) } else { round(self.rate).to_string() };
        [
            self.name.clone(),
            self.clients.to_string(),
            self.on.to_owned(),
            rate,
            time(self.p50_us),
            time(self.p99_us),
            if self.p50_us.is_some() { self.errors.to_string() } else { String::new() },
            self.beside.as_ref().map_or(String::new(), |(what, ratio)| format!("{ratio:.2} {what}")),
            self.aim
                .as_ref()
                .map_or(String::new(), |(aim, met)| format!("{aim}: {}", if *met { "met" } else { "missed" })),
        ]
    }
}

fn round(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

fn round2(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

/// From dark to serving.
struct Unsealing {
    keys: u64,
    /// Until the node of the ceremony serves.
    one: Duration,
    /// Until every node does.
    all: Duration,
}

/// The whole run.
struct Report {
    rows: Vec<Row>,
    leader_changed: bool,
    unsealing: Option<Unsealing>,
}

impl Suite {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let report = on_own_cluster(self.dir.clone(), async |running| {
            let folder = running.folder().to_owned();
            self.measure(&mut running.cluster, &folder).await
        })
        .await?;
        print(shared, &report)
    }

    async fn measure(&self, cluster: &mut Cluster, folder: &Path) -> CommandResult<Report> {
        let client = cluster.client.with_deadline(ClientConfig::DEADLINE_DEFAULT);
        let (leader, _) = await_level(cluster).await?;
        let follower = (leader + 1) % cluster.file.nodes.len();
        let on = |place: usize| if place == leader { "leader" } else { "follower" };
        let load = async |what: What, clients: u16, place: usize| -> CommandResult<Row> {
            say(&format!("{} by {clients} at the {}", what.name(), on(place)));
            let node = Some(u16::try_from(place + 1).unwrap_or(u16::MAX));
            let load = Load { clients, size: SIZE, seconds: self.seconds, node, connections: None };
            let seen = load.measure(what, &client).await?;
            let at = |q| Some(seen.times_us.value_at_quantile(q));
            let (p50_us, p99_us, on) = (at(0.5), at(0.99), on(place));
            let (rate, name, unit) = (seen.rate(), what.name(), "per second");
            Ok(Row { name, clients, on, rate, unit, p50_us, p99_us, errors: seen.errors, beside: None, aim: None })
        };

        let echo = load(What::Echo, 1, leader).await?;
        let mut encrypt = load(What::Encrypt, 1, leader).await?.beside(&echo, None);
        encrypt.aim = encrypt.p50_us.map(|us| ("p50 ≤ 600 µs".to_owned(), us <= 600));
        let followed = load(What::Encrypt, 1, follower).await?.beside(&encrypt, None);
        let echo_many = load(What::Echo, MANY, leader).await?;
        let encrypt_many = load(What::Encrypt, MANY, leader).await?.beside(&echo_many, Some(0.7));
        let followed_many = load(What::Encrypt, MANY, follower).await?.beside(&encrypt_many, Some(0.9));
        let create = load(What::CreateKey, 1, leader).await?;
        let create_many = load(What::CreateKey, MANY, leader).await?;
        let (leader_now, _) = await_level(cluster).await?;

        say("the limits of this machine");
        let (syncs, of_nodes, gcm, file) = tokio::task::block_in_place(|| {
            let space = Workspace::new(folder)?;
            Ok::<_, crate::command::failure::Failure>((
                limits::syncs_per_second(&space, 1, LIMIT_TIME)?,
                limits::syncs_per_second(&space, cluster.file.nodes.len(), LIMIT_TIME)?,
                limits::aes_gcm_per_second(LIMIT_TIME)?,
                limits::file_rates(&space, self.file)?,
            ))
        })?;
        let megabytes = |name: &str, bytes: f64| Row::limit(name, bytes / 1e6, "MB/s");
        let syncs = Row::limit("fdatasync", syncs, "per second");
        // All nodes are on this one disk: a change is not done before it has done this.
        let of_nodes = Row::limit("fdatasync by each node", of_nodes, "per second");
        let gcm = megabytes("AES-256-GCM", gcm);
        let copy = megabytes("copy to disk", file.copy_to_disk);
        let rows = vec![
            echo,
            encrypt,
            followed,
            echo_many,
            encrypt_many,
            followed_many,
            create.beside(&of_nodes, None).at_least(1000.0),
            create_many.beside(&syncs, None).at_least(8000.0),
            syncs,
            of_nodes,
            megabytes("file encrypt", file.encrypt).beside(&gcm, Some(0.5)),
            megabytes("file decrypt", file.decrypt).beside(&gcm, Some(0.5)),
            megabytes("file encrypt to disk", file.encrypt_to_disk).beside(&copy, None),
            gcm,
            copy,
        ];
        let unsealing = match self.keys {
            0 => None,
            keys => Some(unseal(cluster, &client, keys.into()).await?),
        };
        Ok(Report { rows, leader_changed: leader_now != leader, unsealing })
    }
}

/// Fills the cluster up to so many keys, stops it, and times a ceremony.
async fn unseal(cluster: &mut Cluster, client: &Client, wanted: u64) -> CommandResult<Unsealing> {
    say(&format!("unsealing with {wanted} keys"));
    let mut keys = count_keys(client).await?;
    while keys < wanted {
        let load = Load { clients: MANY, size: SIZE, seconds: 1, node: None, connections: None };
        load.measure(What::CreateKey, client).await?;
        keys = count_keys(client).await?;
    }
    cluster.stop().await;
    cluster.start_all()?;
    let sealed = |s: &StatusResponse| s.state == "sealed" && s.leader != 0;
    cluster.wait("every node to be ready for shares", sealed).await?;
    let begun = Instant::now();
    cluster.ceremony().await?;
    let one = begun.elapsed();
    cluster.wait("every node to be unsealed", |s| s.state == "ok").await?;
    Ok(Unsealing { keys, one, all: begun.elapsed() })
}

async fn count_keys(client: &Client) -> CommandResult<u64> {
    use crate::command::failure::Doing;
    let (mut count, mut page) = (0, bytes::Bytes::new());
    loop {
        let request = quorate_client::v1::ListKeysRequest { limit: 1000, page_token: page, ..Default::default() };
        let answer = client.list_keys(request).await.doing("count keys")?;
        count += answer.keys.len() as u64;
        page = answer.next_page_token;
        if page.is_empty() {
            return Ok(count);
        }
    }
}

fn print(shared: &Shared, report: &Report) -> CommandResult {
    let unsealing = report.unsealing.as_ref();
    let json = json!({
        "rows": report.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        "leader_changed": report.leader_changed,
        "unsealing": unsealing.map(|u| json!({
            "keys": u.keys, "one_ms": u.one.as_millis() as u64, "all_ms": u.all.as_millis() as u64,
        })),
    });
    shared.format().print(&json, || {
        let header = ["load", "clients", "on", "rate/s", "p50 µs", "p99 µs", "errors", "beside", "aim"];
        let mut table = output::columns(header, report.rows.iter().map(Row::cells));
        let mut note = |name: String, text: String| {
            let mut cells: [String; 9] = Default::default();
            (cells[0], cells[7]) = (name, text);
            table.add_row(cells);
        };
        if report.leader_changed {
            note("the leader changed".into(), "what is said to be on it was on two nodes".into());
        }
        if let Some(u) = unsealing {
            let (one, all) = (u.one.as_millis(), u.all.as_millis());
            note(format!("unseal {} keys", u.keys), format!("{one} ms, every node {all} ms"));
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_compared_and_judged() {
        let echo = Row { on: "leader", ..Row::limit("echo", 1000.0, "per second") };
        let encrypt = Row { on: "leader", ..Row::limit("encrypt", 690.0, "per second") }.beside(&echo, Some(0.7));
        assert_eq!(encrypt.beside, Some(("÷ echo".into(), 0.69)));
        assert_eq!(encrypt.aim, Some(("≥ 0.7".into(), false)));
        let follower = Row { on: "follower", ..Row::limit("encrypt", 690.0, "per second") }.beside(&encrypt, Some(0.9));
        assert_eq!(
            (follower.beside, follower.aim),
            (Some(("÷ encrypt leader".into(), 1.0)), Some(("≥ 0.9".into(), true)))
        );
        assert_eq!(Row::limit("create-key", 500.0, "per second").at_least(500.0).aim.map(|(_, met)| met), Some(true));
    }
}
