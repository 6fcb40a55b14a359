//! Requests on a fixed beat, whatever became of those before (an open loop): an outage can't hide behind clients that
//! wait for it to end.

use std::time::Duration;

use quorate_client::{Client, ClientError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::load::Request;

/// What a probe does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Uses a key.
    Use,
    /// Makes one.
    Write,
}

/// One probe and what became of it.
#[derive(Clone, Debug)]
pub struct Shot {
    /// What it did.
    pub kind: Kind,
    /// Which client it is of.
    pub client: usize,
    /// When the beat wanted it.
    pub due: Instant,
    /// When it was sent.
    pub sent: Instant,
    /// When it was answered, or failed for good.
    pub done: Instant,
    /// Why it failed.
    pub error: Option<ClientError>,
}

/// How long a kind of request was not answered, counted from the kill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outage {
    /// Until the first success of any client.
    pub first: Duration,
    /// Until every client had one.
    pub every: Duration,
}

/// The outage that `shots` show; `None` while a client is still without success. Only what was sent once the process was
/// `dead` counts: until then it might still have answered itself.
pub fn outage(shots: &[Shot], kind: Kind, clients: usize, killed: Instant, dead: Instant) -> Option<Outage> {
    let back = |client| {
        let good = shots.iter().filter(|s| s.kind == kind && s.client == client && s.sent >= dead && s.error.is_none());
        good.map(|s| s.done.saturating_duration_since(killed)).min()
    };
    let times: Vec<Duration> = (0..clients).map(back).collect::<Option<_>>()?;
    Some(Outage { first: *times.iter().min()?, every: *times.iter().max()? })
}

/// Probes under way.
pub struct Probes {
    beats: JoinSet<()>,
    shots: mpsc::UnboundedReceiver<Shot>,
}

impl Probes {
    /// Starts each client's beat: one request of each kind every so often.
    pub fn start(clients: &[Client], requests: &[(Kind, Request)], every: Duration) -> Self {
        let (tx, shots) = mpsc::unbounded_channel();
        let mut beats = JoinSet::new();
        for (number, client) in clients.iter().enumerate() {
            for (kind, request) in requests {
                let (client, kind, request, tx) = (client.clone(), *kind, request.clone(), tx.clone());
                // Not all at the same moment.
                let offset = every.mul_f64(number as f64 / clients.len() as f64);
                beats.spawn(async move {
                    let mut beat = interval_at(Instant::now() + offset, every);
                    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
                    loop {
                        let due = beat.tick().await;
                        let (client, request, tx) = (client.clone(), request.clone(), tx.clone());
                        tokio::spawn(async move {
                            let sent = Instant::now();
                            let error = request.send(&client).await.err();
                            // Nobody listens any more once the bench has ended.
                            let _ = tx.send(Shot { kind, client: number, due, sent, done: Instant::now(), error });
                        });
                    }
                });
            }
        }
        Self { beats, shots }
    }

    /// The next that is answered.
    pub async fn next(&mut self) -> Option<Shot> {
        self.shots.recv().await
    }

    /// Sends no more; the rest, once all are answered.
    pub async fn stop(mut self) -> Vec<Shot> {
        self.beats.abort_all();
        while self.beats.join_next().await.is_some() {}
        let mut rest = Vec::new();
        while let Some(shot) = self.shots.recv().await {
            rest.push(shot);
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_ends_with_a_success_of_what_was_sent_after_the_death() {
        let killed = Instant::now();
        let ms = Duration::from_millis;
        let shot = |client, kind, sent, done, good: bool| {
            let error = (!good).then(|| ClientError {
                reason: "UNAVAILABLE".into(),
                message: String::new(),
                code: tonic::Code::Unavailable,
                endpoint: None,
                part: None,
                node_time_ms: None,
            });
            Shot { kind, client, due: killed + ms(sent), sent: killed + ms(sent), done: killed + ms(done), error }
        };
        let shots = vec![
            shot(0, Kind::Use, 1, 3, true),
            shot(0, Kind::Use, 10, 40, false),
            shot(0, Kind::Use, 11, 330, true),
            shot(0, Kind::Use, 20, 320, true),
            shot(1, Kind::Use, 15, 350, true),
            shot(1, Kind::Write, 15, 400, true),
        ];
        let seen = |shots: &[Shot], kind| outage(shots, kind, 2, killed, killed + ms(5));
        assert_eq!(seen(&shots, Kind::Use), Some(Outage { first: ms(320), every: ms(350) }));
        assert_eq!(seen(&shots, Kind::Write), None, "client 0 has had no success");
        assert_eq!(seen(&shots[..4], Kind::Use), None);
        assert_eq!(seen(&[], Kind::Use), None);
    }
}
