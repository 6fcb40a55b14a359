//! `quorate bench …`: how fast the cluster is, through the same client and doors as everybody else's requests.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use quorate_client::v1::{
    CreateKeyRequest, DecryptRequest, EchoRequest, EncryptRequest, GenerateDataKeyRequest, ScheduleKeyDeletionRequest,
};
use quorate_client::{Client, ClientError};
use quorate_proto::PLAINTEXT_LEN_MAX;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use super::failure::{CommandResult, Doing, Failure};
use super::operator::node_at;
use super::output;

/// Longest time that counts, in microseconds; a longer one counts as this.
const TIME_MAX_US: u64 = 600_000_000;
/// Clients that share a connection unless told otherwise.
const CLIENTS_PER_CONNECTION: usize = 8;
/// Time before the measurement in which connections are made and caches filled.
const WARM_UP: Duration = Duration::from_millis(500);

/// Measure the cluster.
///
/// Clients send one request after the other for the given time. What is measured is what a caller sees: the whole request,
/// retries included. It makes a key of its own, which is destroyed a week later.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate bench echo --clients 64 --size 1024 --seconds 10 --output json
  quorate bench encrypt --clients 64 --size 1024 --seconds 10
  quorate bench encrypt --clients 1 --node 2
  quorate bench create-key --clients 64 --seconds 5")]
pub struct Bench {
    /// Which request
    #[arg(value_enum)]
    what: What,
    /// Clients at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// Bytes in a request (payload, plaintext); data keys have 32
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=524_288))]
    size: u32,
    /// For how long
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// Only the node at this place among the addresses, from 1 [default: clients spread over all]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    node: Option<u16>,
    /// Connections that the clients share [default: one for each 8 clients]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum What {
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

/// One request, ready to be sent again and again.
#[derive(Clone)]
enum Request {
    Echo(EchoRequest),
    Encrypt(EncryptRequest),
    Decrypt(DecryptRequest),
    DataKey(GenerateDataKeyRequest),
    CreateKey(CreateKeyRequest),
}

impl Request {
    async fn send(&self, client: &Client) -> Result<(), ClientError> {
        match self {
            Self::Echo(r) => client.echo(r.clone()).await.map(drop),
            Self::Encrypt(r) => client.encrypt(r.clone()).await.map(drop),
            Self::Decrypt(r) => client.decrypt(r.clone()).await.map(drop),
            Self::DataKey(r) => client.generate_data_key(r.clone()).await.map(drop),
            Self::CreateKey(r) => client.create_key(r.clone()).await.map(drop),
        }
    }
}

/// What one client, and then all of them, saw.
struct Seen {
    times_us: Histogram<u64>,
    errors: u64,
    first_error: Option<ClientError>,
}

impl Seen {
    fn new() -> CommandResult<Self> {
        let times_us = Histogram::new_with_bounds(1, TIME_MAX_US, 3);
        let times_us = times_us.map_err(|e| Failure::failed("can't count", e, ""))?;
        Ok(Self { times_us, errors: 0, first_error: None })
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

    fn add(&mut self, other: Self) -> CommandResult {
        self.times_us.add(&other.times_us).map_err(|e| Failure::failed("can't count", e, ""))?;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        Ok(())
    }
}

impl Bench {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let direct = matches!(self.what, What::Encrypt | What::Decrypt);
        if direct && self.size as usize > PLAINTEXT_LEN_MAX {
            return Err(Failure::usage(format!(
                "--size {} is more than the {PLAINTEXT_LEN_MAX} bytes of a direct encrypt",
                self.size
            )));
        }
        let client = shared.client().await?;
        let client = match self.node {
            Some(place) => node_at(&client, place)?,
            None => client,
        };
        let (request, key) = self.request(&client).await?;
        let (seen, elapsed) = self.measure(&client, request).await?;
        if let Some(key) = key {
            // Only tidying up: the measurement stands without it.
            let _ = client.schedule_key_deletion(ScheduleKeyDeletionRequest { key, days: 7 }).await;
        }
        self.report(shared, &seen, elapsed)
    }

    /// Makes what the requests need. The first request is sent here, so that a cluster that refuses says so in words.
    async fn request(&self, client: &Client) -> CommandResult<(Request, Option<String>)> {
        let payload = Bytes::from(vec![0x5a; self.size as usize]);
        let description = "quorate bench".to_owned();
        let create = CreateKeyRequest { description, ..Default::default() };
        match self.what {
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
        let request = match self.what {
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

    async fn measure(&self, client: &Client, request: Request) -> CommandResult<(Seen, Duration)> {
        let clients = usize::from(self.clients);
        let count = self.connections.map_or(clients.div_ceil(CLIENTS_PER_CONNECTION), usize::from).min(clients);
        let connections: Vec<Client> =
            (0..count).map(|_| client.reconnected().doing("connect")).collect::<Result<_, _>>()?;
        let start = Instant::now() + WARM_UP;
        let end = start + Duration::from_secs(self.seconds.into());
        let mut tasks = JoinSet::new();
        for i in 0..clients {
            let client = connections[i % count].starting_at(i);
            let (request, mut seen) = (request.clone(), Seen::new()?);
            tasks.spawn(async move {
                loop {
                    let sent = Instant::now();
                    if sent >= end {
                        return seen;
                    }
                    let result = request.send(&client).await;
                    if sent >= start {
                        seen.note(sent.elapsed(), result);
                    }
                }
            });
        }
        let mut all = Seen::new()?;
        while let Some(seen) = tasks.join_next().await {
            all.add(seen.map_err(|e| Failure::failed("can't measure", e, ""))?)?;
        }
        Ok((all, start.elapsed()))
    }

    fn report(&self, shared: &Shared, seen: &Seen, elapsed: Duration) -> CommandResult {
        let done = seen.times_us.len();
        let rate = (done as f64 / elapsed.as_secs_f64() * 10.0).round() / 10.0;
        let at = |q| seen.times_us.value_at_quantile(q);
        let what = self.what.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let mut json = json!({
            "what": what,
            "clients": self.clients,
            "size": self.size,
            "seconds": elapsed.as_secs_f64(),
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
