//! A closed load: clients that send one request after the other for a while, and what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use quorate_client::v1::{
    CreateKeyRequest, DecryptRequest, EchoRequest, EncryptRequest, GenerateDataKeyRequest, MacRequest,
    ScheduleKeyDeletionRequest, SignRequest, VerifyRequest,
};
use quorate_client::{Client, ClientError};
use quorate_core::request::{DELETION_DAYS_MIN, PLAINTEXT_LEN_MAX};
use quorate_proto::MESSAGE_LEN_MAX;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::marked;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::operator::node_at;
use crate::command::{Shared, output};

/// Longest time that counts, in microseconds; a longer one counts as this.
const TIME_MAX_US: u64 = 600_000_000;
/// Clients that share a connection unless told otherwise.
const CLIENTS_PER_CONNECTION: usize = 8;
/// Most clients of a load.
pub const CLIENTS_MAX: i64 = 4096;
/// Time before the measurement in which connections are made and caches filled.
const WARM_UP: Duration = Duration::from_millis(500);

/// How much of a load.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// Clients at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=CLIENTS_MAX))]
    pub clients: u16,
    /// Bytes in a request (payload, plaintext); data keys have 32
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=MESSAGE_LEN_MAX as i64 / 2))]
    pub size: u32,
    /// For how long
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub seconds: u16,
    /// Only the node at this place among the addresses, from 1 [default: clients spread over all]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    pub node: Option<u16>,
    #[arg(long, value_name = "N", help = format!("Connections that the clients share [default: one for each {CLIENTS_PER_CONNECTION} clients]"),
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: Option<u16>,
}

/// What is requested.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum What {
    /// Authenticated, does nothing: the yardstick
    Echo,
    /// Encrypt
    Encrypt,
    /// Decrypt
    Decrypt,
    /// Make a data key
    DataKey,
    /// Create a key
    CreateKey,
}

impl What {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }
}

/// One request, ready to be sent again and again.
#[derive(Clone)]
pub enum Request {
    Echo(EchoRequest),
    Encrypt(EncryptRequest),
    Decrypt(DecryptRequest),
    DataKey(GenerateDataKeyRequest),
    CreateKey(CreateKeyRequest),
    Sign(SignRequest),
    Verify(VerifyRequest),
    Mac(MacRequest),
}

impl Request {
    /// Sends it once.
    pub async fn send(&self, client: &Client) -> Result<(), ClientError> {
        match self {
            Self::Echo(r) => client.echo(r.clone()).await.map(drop),
            Self::Encrypt(r) => client.encrypt(r.clone()).await.map(drop),
            Self::Decrypt(r) => client.decrypt(r.clone()).await.map(drop),
            Self::DataKey(r) => client.generate_data_key(r.clone()).await.map(drop),
            Self::CreateKey(r) => client.create_key(r.clone()).await.map(drop),
            Self::Sign(r) => client.sign(r.clone()).await.map(drop),
            Self::Verify(r) => client.verify(r.clone()).await.map(drop),
            Self::Mac(r) => client.mac(r.clone()).await.map(drop),
        }
    }
}

/// What one client, and then all of them, saw.
pub struct Seen {
    /// Of requests that were answered, in microseconds.
    pub times_us: Histogram<u64>,
    /// Requests that failed.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<ClientError>,
    /// For how long.
    pub elapsed: Duration,
}

impl Seen {
    fn new() -> CommandResult<Self> {
        let times_us = Histogram::new_with_bounds(1, TIME_MAX_US, 3);
        let times_us = times_us.map_err(|e| Failure::failed("can't count", e, ""))?;
        Ok(Self { times_us, errors: 0, first_error: None, elapsed: Duration::ZERO })
    }

    fn note(&mut self, took: Duration, result: Result<(), ClientError>) {
        match result {
            Ok(()) => self.times_us.saturating_record(took.as_micros() as u64),
            Err(e) => {
                self.errors += 1;
                self.first_error.get_or_insert(e);
            }
        }
    }

    /// Answers per second.
    pub fn rate(&self) -> f64 {
        (self.times_us.len() as f64 / self.elapsed.as_secs_f64() * 10.0).round() / 10.0
    }

    fn add(&mut self, other: Self) -> CommandResult {
        self.times_us.add(&other.times_us).map_err(|e| Failure::failed("can't count", e, ""))?;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        Ok(())
    }
}

/// A load that is on the cluster.
pub struct UnderWay {
    start: Instant,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Seen>,
}

impl UnderWay {
    /// Ends it; what its clients saw.
    pub async fn finish(mut self) -> CommandResult<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::new()?;
        while let Some(seen) = self.tasks.join_next().await {
            all.add(seen.map_err(|e| Failure::failed("can't measure", e, ""))?)?;
        }
        all.elapsed = self.start.elapsed();
        Ok(all)
    }
}

impl Load {
    /// Does it and prints what was seen.
    pub async fn run(self, what: What, shared: &Shared) -> CommandResult {
        let seen = self.measure(what, &shared.client().await?).await?;
        self.report(what, shared, &seen)
    }

    /// Puts the load on the cluster.
    pub async fn measure(&self, what: What, client: &Client) -> CommandResult<Seen> {
        let direct = matches!(what, What::Encrypt | What::Decrypt);
        if direct && self.size as usize > PLAINTEXT_LEN_MAX {
            return Err(Failure::usage(format!(
                "--size {} is more than the {PLAINTEXT_LEN_MAX} bytes of a direct encrypt",
                self.size
            )));
        }
        let client = match self.node {
            Some(place) => node_at(client, place)?,
            None => client.clone(),
        };
        let (request, key) = self.request(what, &client).await?;
        let seen = self.repeat(&client, request).await?;
        if let Some(key) = key {
            // Only tidying up: the measurement stands without it.
            let request = ScheduleKeyDeletionRequest { key, days: DELETION_DAYS_MIN, ..Default::default() };
            let _ = client.schedule_key_deletion(request).await;
        }
        Ok(seen)
    }

    /// Makes what the requests need. The first request is sent here, so that a cluster that refuses says so in words.
    pub async fn request(&self, what: What, client: &Client) -> CommandResult<(Request, Option<String>)> {
        let payload = Bytes::from(vec![0x5a; self.size as usize]);
        let create = CreateKeyRequest { tags: marked(), ..Default::default() };
        match what {
            What::Echo => {
                client.echo(EchoRequest { payload: payload.clone() }).await.doing("echo")?;
                return Ok((Request::Echo(EchoRequest { payload }), None));
            }
            What::CreateKey => {
                client.create_key(create.clone()).await.doing("create a key")?;
                return Ok((Request::CreateKey(create), None));
            }
            _ => {}
        }
        let made = client.create_key(create).await.doing("create the bench's key")?;
        let key = made.key.map(|k| k.key_id).unwrap_or_default();
        let request = match what {
            What::DataKey => Request::DataKey(GenerateDataKeyRequest { key: key.clone(), ..Default::default() }),
            What::Decrypt => {
                let encrypt = EncryptRequest { key: key.clone(), plaintext: payload, ..Default::default() };
                let ciphertext = client.encrypt(encrypt).await.doing("encrypt")?.ciphertext;
                Request::Decrypt(DecryptRequest { ciphertext, ..Default::default() })
            }
            _ => Request::Encrypt(EncryptRequest { key: key.clone(), plaintext: payload, ..Default::default() }),
        };
        Ok((request, Some(key)))
    }

    /// Sends a request again and again, by all clients, for as long as it says.
    pub async fn repeat(&self, client: &Client, request: Request) -> CommandResult<Seen> {
        let under_way = self.begin(client, request)?;
        tokio::time::sleep_until(under_way.start + Duration::from_secs(self.seconds.into())).await;
        under_way.finish().await
    }

    /// Starts the clients; they go on until [`UnderWay::finish`].
    pub fn begin(&self, client: &Client, request: Request) -> CommandResult<UnderWay> {
        let clients = usize::from(self.clients);
        let count = self.connections.map_or(clients.div_ceil(CLIENTS_PER_CONNECTION), usize::from).min(clients);
        let connections: Vec<Client> =
            (0..count).map(|_| client.reconnected().doing("connect")).collect::<Result<_, _>>()?;
        let start = Instant::now() + WARM_UP;
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for i in 0..clients {
            let client = connections[i % count].starting_at(i);
            let (request, mut seen, stop) = (request.clone(), Seen::new()?, stop.clone());
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    let result = request.send(&client).await;
                    if sent >= start {
                        seen.note(sent.elapsed(), result);
                    }
                }
                seen
            });
        }
        Ok(UnderWay { start, stop, tasks })
    }

    fn report(&self, what: What, shared: &Shared, seen: &Seen) -> CommandResult {
        let (done, rate) = (seen.times_us.len(), seen.rate());
        let at = |q| seen.times_us.value_at_quantile(q);
        let what = what.name();
        let mut json = json!({
            "what": what,
            "clients": self.clients,
            "size": self.size,
            "seconds": seen.elapsed.as_secs_f64(),
            "requests": done,
            "rate": rate,
            "p50_us": at(0.5),
            "p99_us": at(0.99),
            "p999_us": at(0.999),
            "max_us": seen.times_us.max(),
            "errors": seen.errors,
        });
        if let Some(e) = &seen.first_error {
            json["first_error"] = format!("{}: {}", e.reason, e.message).into();
        }
        shared.format().print(&json, || {
            let ms = |q: u64| format!("{:.3} ms", q as f64 / 1000.0);
            output::fields([
                ("request", format!("{what}, {} bytes, {} clients", self.size, self.clients)),
                ("rate", format!("{rate} per second")),
                ("half within", ms(at(0.5))),
                ("99 % within", ms(at(0.99))),
                ("99.9 % within", ms(at(0.999))),
                ("all within", ms(seen.times_us.max())),
                ("errors", seen.errors.to_string()),
                ("first error", seen.first_error.as_ref().map(|e| e.to_string()).unwrap_or_default()),
            ])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_saw_adds_up() {
        let (mut a, mut b) = (Seen::new().unwrap(), Seen::new().unwrap());
        for us in 1..=1000 {
            a.note(Duration::from_micros(us), Ok(()));
        }
        b.note(Duration::from_secs(10_000), Ok(()));
        a.add(b).unwrap();
        assert_eq!((a.times_us.len(), a.errors), (1001, 0));
        assert!(a.times_us.value_at_quantile(0.5).abs_diff(500) <= 1);
        assert!(a.times_us.max() >= TIME_MAX_US, "longer than can be counted counts as the longest");
    }
}
