//! `quorate bench failover`: kills the leader again and again and measures when requests succeed again.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorate_client::v1::{CreateKeyRequest, EncryptRequest, StatusRequest, StatusResponse};
use quorate_client::{Client, ClientConfig, ClientError};
use quorate_core::request::PLAINTEXT_LEN_MAX;
use quorate_core::seam::{Entropy, WallClock};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use super::load::{CLIENTS_MAX, Load, Seen, What};
use super::probe::{Kind, Outage, Probes, Shot, outage};
use super::quantiles::Times;
use super::timeline::{self, Change, Logs, Parts};
use super::{on_own_cluster, say};
use crate::command::dev::Cluster;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::{Shared, output};
use crate::wiring::{OsEntropy, SystemClock};

/// What is aimed at, on a machine with nothing else to do (key-log §9), in milliseconds.
const AIM_P50_MS: f64 = 350.0;
const AIM_P99_MS: f64 = 500.0;
/// An outage that lasts longer ends the bench.
const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// Probes go on for this long after the last client is back.
const AFTERWARDS: Duration = Duration::from_millis(200);
/// Kills fall anywhere in the leader's beat: a pause of up to this long before each.
const PHASE_MAX_MS: u64 = 100;
/// Time for the unsealed peers to hand the root key over, before shares are entered.
const HANDOVER: Duration = Duration::from_secs(2);
/// Longest wait for a restarted node.
const RESTART_MAX: Duration = Duration::from_secs(90);

/// Kill the leader again and again, and measure when requests succeed again.
///
/// A cluster of its own is started on this machine: real processes, as by `quorate dev`. Under a steady load the leader is killed
/// (SIGKILL); the node is started again, unsealed, and the next kill waits until the cluster is level. Clients that know every node, one
/// beginning at each, send a use and a write on a fixed beat whatever became of those before; the time from the kill to the next success
/// is counted, for the first client and until every client is served. With --calm elections that nobody caused are counted first.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate bench failover
  quorate bench failover --kills 100 --clients 0
  quorate bench failover --kills 0 --calm 30 --clients 64
  quorate bench failover --kills 100 --load create-key --output json

Times are only worth something on a machine that does nothing else. --dir keeps the cluster in a folder of your choice, on the disk to be
measured; without it it is in the temporary folder and removed.")]
pub struct Failover {
    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    kills: u16,
    /// Clients of the steady load; 0 = none
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=CLIENTS_MAX))]
    clients: u16,
    /// What they request
    #[arg(long, value_enum, value_name = "WHAT", default_value = "encrypt")]
    load: What,
    /// Bytes in their requests
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=PLAINTEXT_LEN_MAX as i64))]
    size: u32,
    /// Milliseconds between a client's probes of one kind
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    every: u16,
    /// Minutes of load without a kill before the first, in which any election is a false one
    #[arg(long, value_name = "MINUTES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1440))]
    calm: u16,
    /// Folder to keep the cluster in, made if need be [default: a temporary one]
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
}

/// One kill and what followed.
struct Kill {
    killed: String,
    uses: Outage,
    writes: Outage,
    /// The longest that any probe took which was on its way or sent during the outage.
    longest: Duration,
    errors: Vec<ClientError>,
    parts: Option<Parts>,
    /// Beyond the one that the kill caused.
    false_elections: usize,
}

/// The time without kills.
struct Calm {
    minutes: u16,
    elections: usize,
}

/// Everything.
struct Report {
    calm: Option<Calm>,
    kills: Vec<Kill>,
    load: Option<Seen>,
}

impl Failover {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let report = on_own_cluster(self.dir.clone(), async |running| self.measure(&mut running.cluster).await).await?;
        self.print(shared, &report)
    }

    async fn measure(&self, cluster: &mut Cluster) -> CommandResult<Report> {
        let client = cluster.client.with_deadline(ClientConfig::DEADLINE_DEFAULT);
        let mut logs = Logs::open(cluster.processes.iter().map(|p| p.log()))?;
        let load = match self.clients {
            0 => None,
            clients => {
                let load = Load { clients, size: self.size, seconds: 1, node: None, connections: None };
                let (request, _) = load.request(self.load, &client).await?;
                Some(load.begin(&client, request)?)
            }
        };
        let calm = match self.calm {
            0 => None,
            minutes => Some(calm(minutes, &mut logs).await?),
        };
        let made = client.create_key(CreateKeyRequest { tags: super::marked(), ..Default::default() }).await;
        let key = made.doing("create the bench's key")?.key.map(|k| k.key_id).unwrap_or_default();
        let mut kills = Vec::new();
        for number in 1..=self.kills {
            let kill = self.kill(cluster, &client, &key, &mut logs).await?;
            say(&format!(
                "kill {number} of {}: {}; a use succeeded after {} ms, a write after {} ms",
                self.kills,
                kill.killed,
                kill.uses.first.as_millis(),
                kill.writes.first.as_millis()
            ));
            kills.push(kill);
        }
        let load = match load {
            Some(load) => Some(load.finish().await?),
            None => None,
        };
        Ok(Report { calm, kills, load })
    }

    /// One kill, from a level cluster to a level cluster.
    async fn kill(&self, cluster: &mut Cluster, client: &Client, key: &str, logs: &mut Logs) -> CommandResult<Kill> {
        let (place, dead) = await_level(cluster).await?;
        let count = cluster.processes.len();
        let clients: Vec<Client> = (0..count)
            .map(|place| client.reconnected().map(|c| c.starting_at(place)).doing("connect"))
            .collect::<Result<_, _>>()?;
        let mut probes = Probes::start(&clients, &requests(key, self.size), Duration::from_millis(self.every.into()));
        let mut errors = await_warm(&mut probes, count).await?;
        sleep(random(PHASE_MAX_MS)).await;
        logs.news()?;

        let killed = Instant::now();
        let killed_at = OffsetDateTime::UNIX_EPOCH + Duration::from_millis(SystemClock.now_ms());
        cluster.kill(place).await;
        let gone = Instant::now();

        let mut shots = Vec::new();
        let seen = |shots: &[Shot], kind| outage(shots, kind, count, killed, gone);
        while seen(&shots, Kind::Use).is_none() || seen(&shots, Kind::Write).is_none() {
            match timeout_at(killed + OUTAGE_MAX, probes.next()).await {
                Ok(Some(shot)) => shots.push(shot),
                _ => {
                    let said = shots.iter().rev().find_map(|s| s.error.as_ref()).map(ToString::to_string);
                    let why = format!("{OUTAGE_MAX:?} after a kill; {}", said.unwrap_or_default());
                    return Err(Failure::failed("can't go on: some client is still not served", why, ""));
                }
            }
        }
        sleep(AFTERWARDS).await;
        shots.extend(probes.stop().await);
        let outages = seen(&shots, Kind::Use).zip(seen(&shots, Kind::Write));
        let (uses, writes) = outages.ok_or_else(|| Failure::failed("can't measure", "a success disappeared", ""))?;

        let mut heard = survivors(logs.news()?, place);
        let parts = timeline::parts(killed_at, dead, &heard);
        cluster.restart(place)?;
        await_unsealed(cluster, place).await?;
        await_level(cluster).await?;
        for (all, more) in heard.iter_mut().zip(survivors(logs.news()?, place)) {
            all.extend(more);
        }
        let hit = |s: &&Shot| s.done >= killed && s.due <= killed + uses.every.max(writes.every);
        let longest = shots.iter().filter(hit).map(|s| s.done.saturating_duration_since(s.due)).max();
        errors.extend(shots.into_iter().filter_map(|s| s.error));
        Ok(Kill {
            killed: cluster.file.nodes[place].name.clone(),
            uses,
            writes,
            longest: longest.unwrap_or_default(),
            errors,
            parts,
            false_elections: timeline::elections(&heard).saturating_sub(1),
        })
    }

    fn print(&self, shared: &Shared, report: &Report) -> CommandResult {
        let kills = &report.kills;
        let times = |of: fn(&Kill) -> Option<Duration>| -> Times { kills.iter().filter_map(of).collect() };
        let rows = [
            ("use", times(|k| Some(k.uses.first))),
            ("write", times(|k| Some(k.writes.first))),
            ("use, every client", times(|k| Some(k.uses.every))),
            ("write, every client", times(|k| Some(k.writes.every))),
            ("longest request", times(|k| Some(k.longest))),
            ("detection", times(|k| k.parts.map(|p| p.detection))),
            ("election", times(|k| k.parts.map(|p| p.election))),
            ("after it, to a use", times(|k| k.parts.map(|p| k.uses.first.saturating_sub(p.detection + p.election)))),
        ];
        let errors: Vec<&ClientError> = kills.iter().flat_map(|k| &k.errors).collect();
        let false_elections: usize = kills.iter().map(|k| k.false_elections).sum();
        let met = rows[..2]
            .iter()
            .all(|(_, t)| t.at(0.5).is_none_or(|ms| ms <= AIM_P50_MS) && t.at(0.99).is_none_or(|ms| ms <= AIM_P99_MS));
        let calm = report.calm.as_ref();
        let json = json!({
            "kills": kills.len(),
            "clients": self.clients,
            "load": self.load.name(),
            "times": rows.iter().map(|(name, t)| ((*name).to_owned(), t.to_json())).collect::<serde_json::Map<_, _>>(),
            "aim": { "p50_ms": AIM_P50_MS, "p99_ms": AIM_P99_MS, "met": met },
            "errors": errors.len(),
            "first_error": errors.first().map(|e| format!("{}: {}", e.reason, e.message)),
            "false_elections": false_elections,
            "calm": calm.map(|c| json!({ "minutes": c.minutes, "false_elections": c.elections })),
            "steady_load": report.load.as_ref().map(load_json),
            "each": kills.iter().map(kill_json).collect::<Vec<_>>(),
        });
        shared.format().print(&json, || {
            let mut table =
                output::columns(["kill of the leader to", "p50 ms", "p90 ms", "p99 ms", "max ms", "aim"], []);
            for (number, (name, times)) in rows.iter().enumerate() {
                let [p50, p90, p99, max] = times.cells();
                let aim =
                    if number < 2 { format!("p50 ≤ {AIM_P50_MS}, p99 ≤ {AIM_P99_MS}") } else { String::new() };
                table.add_row([(*name).to_owned(), p50, p90, p99, max, aim]);
            }
            let mut note = |name: &str, text: String| {
                let none = String::new;
                table.add_row([name.to_owned(), none(), none(), none(), none(), text]);
            };
            note("kills", kills.len().to_string());
            note("failed requests", errors.len().to_string());
            note("false elections", false_elections.to_string());
            if let Some(calm) = calm {
                note("without kills", format!("{} in {} minutes", calm.elections, calm.minutes));
            }
            if let Some(load) = &report.load {
                note("steady load", format!("{} per second, {} failed", load.rate(), load.errors));
            }
            table
        })
    }
}

fn load_json(load: &Seen) -> Value {
    json!({
        "rate": load.rate(), "errors": load.errors, "p50_us": load.times_us.value_at_quantile(0.5),
        "p99_us": load.times_us.value_at_quantile(0.99), "max_us": load.times_us.max(),
        "first_error": load.first_error.as_ref().map(|e| format!("{}: {}", e.reason, e.message)),
    })
}

fn kill_json(kill: &Kill) -> Value {
    let ms = |t: Duration| (t.as_secs_f64() * 10_000.0).round() / 10.0;
    json!({
        "node": kill.killed,
        "use_ms": ms(kill.uses.first), "use_every_client_ms": ms(kill.uses.every),
        "write_ms": ms(kill.writes.first), "write_every_client_ms": ms(kill.writes.every),
        "longest_request_ms": ms(kill.longest),
        "detection_ms": kill.parts.map(|p| ms(p.detection)), "election_ms": kill.parts.map(|p| ms(p.election)),
        "errors": kill.errors.len(), "false_elections": kill.false_elections,
    })
}

/// Waits under the load; the elections that nobody caused.
async fn calm(minutes: u16, logs: &mut Logs) -> CommandResult<Calm> {
    logs.news()?;
    let mut all: Vec<Vec<Change>> = Vec::new();
    for minute in 1..=minutes {
        sleep(Duration::from_secs(60)).await;
        let news = logs.news()?;
        all.resize(news.len(), Vec::new());
        all.iter_mut().zip(news).for_each(|(all, more)| all.extend(more));
        say(&format!("{minute} of {minutes} minutes: {} false elections", timeline::elections(&all)));
    }
    Ok(Calm { minutes, elections: timeline::elections(&all) })
}

fn requests(key: &str, size: u32) -> [(Kind, super::load::Request); 2] {
    use super::load::Request;
    let plaintext = vec![0x5a; size as usize].into();
    let encrypt = EncryptRequest { key: key.to_owned(), plaintext, ..Default::default() };
    let create = CreateKeyRequest { tags: super::marked(), ..Default::default() };
    [(Kind::Use, Request::Encrypt(encrypt)), (Kind::Write, Request::CreateKey(create))]
}

fn random(max_ms: u64) -> Duration {
    let mut bytes = [0; 8];
    OsEntropy.fill(&mut bytes);
    Duration::from_millis(u64::from_le_bytes(bytes) % max_ms)
}

fn survivors(logs: Vec<Vec<Change>>, dead: usize) -> Vec<Vec<Change>> {
    logs.into_iter().enumerate().filter(|(place, _)| *place != dead).map(|(_, log)| log).collect()
}

/// Until every client has had both kinds answered: connections are made, caches filled. What failed meanwhile.
async fn await_warm(probes: &mut Probes, clients: usize) -> CommandResult<Vec<ClientError>> {
    let end = Instant::now() + OUTAGE_MAX;
    let mut cold: Vec<(usize, Kind)> = (0..clients).flat_map(|c| [(c, Kind::Use), (c, Kind::Write)]).collect();
    let mut errors = Vec::new();
    while !cold.is_empty() {
        match timeout_at(end, probes.next()).await {
            Ok(Some(shot)) => match shot.error {
                None => cold.retain(|c| *c != (shot.client, shot.kind)),
                Some(error) => errors.push(error),
            },
            _ => {
                let why = errors.last().map_or_else(|| "no answer".to_owned(), ToString::to_string);
                return Err(Failure::failed("can't go on: requests are not served before a kill", why, ""));
            }
        }
    }
    Ok(errors)
}

/// Waits until the cluster is whole: every node serves, knows the leader, and has applied what any had applied when this
/// began. The leader's place and id.
pub async fn await_level(cluster: &mut Cluster) -> CommandResult<(usize, u64)> {
    let count = cluster.file.nodes.len();
    let serves = move |s: &StatusResponse| {
        let whole = s.nodes.len() == count && s.nodes.iter().all(|n| n.voter && n.reachable && !n.sealed);
        s.state == "ok" && s.leader != 0 && whole
    };
    let own = |s: &StatusResponse| s.nodes.iter().find(|n| n.name == s.answered_by).map_or(0, |n| n.applied_index);
    let statuses = cluster.wait("every node to serve", serves).await?;
    let target = statuses.iter().map(own).max().unwrap_or(0);
    let statuses = cluster.wait("every node to have caught up", |s| serves(s) && own(s) >= target).await?;
    let leader = statuses.iter().map(|s| s.leader).find(|id| *id != 0).unwrap_or(0);
    let name = statuses.iter().flat_map(|s| &s.nodes).find(|n| n.id == leader).map(|n| n.name.as_str());
    match cluster.file.nodes.iter().position(|n| Some(n.name.as_str()) == name) {
        Some(place) => Ok((place, leader)),
        None => Err(Failure::failed("can't find the leader", format!("node {leader} is none of this cluster"), "")),
    }
}

/// Waits until a restarted node is unsealed: by its peers, within ten minutes of a ceremony, else by a new one.
async fn await_unsealed(cluster: &mut Cluster, place: usize) -> CommandResult {
    let place_u16 = u16::try_from(place).unwrap_or(u16::MAX);
    let node = cluster.node(place_u16)?.impatient();
    let begun = Instant::now();
    let mut held = false;
    loop {
        cluster.processes[place].check()?;
        let state = node.status(StatusRequest {}).await.map(|s| s.state).unwrap_or_default();
        match state.as_str() {
            "ok" => return Ok(()),
            "sealed" if !held && begun.elapsed() > HANDOVER => {
                held = true;
                // It may have been unsealed by a peer meanwhile; the next look tells.
                if let Err(failure) = cluster.ceremony_at(place_u16).await {
                    say(&format!("the ceremony: {failure}"));
                }
            }
            _ if begun.elapsed() > RESTART_MAX => {
                let why = format!("after {RESTART_MAX:?} it is {state}");
                return Err(Failure::failed("waited in vain for the restarted node", why, "look into its log"));
            }
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}
