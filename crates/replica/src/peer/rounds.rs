//! The connection for read-index rounds (key-log §3): questions and answers of a fixed length, on a stream of their own,
//! since they are asked a thousand times a second and a gRPC call would cost ten times as much.
//!
//! ```text
//! question = kind u8 ‖ id u64 ‖ term u64 ‖ node u64            25 bytes
//! answer   = id u64 ‖ yes u8 ‖ index u64                       17 bytes
//! ```
//!
//! An id is never used again on its connection, so that a late answer goes nowhere. Who asks is known from the preface.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use openraft::vote::RaftLeaderId;
use quorate_core::id::NodeId;
use quorate_core::seeded::{self, Bug};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::link::{Connector, PAUSE_REFUSED};
use super::server::ServerStream;
use super::{KEEPALIVE_INTERVAL, KEEPALIVE_LIMIT};
use crate::confirm::{Ack, Confirmer};
use crate::net::BoxStream;
use crate::raft::LeaderId;

const QUESTION_LEN: usize = 25;
const ANSWER_LEN: usize = 17;
/// Questions that may wait for their connection's task.
const QUEUE_MAX: usize = 64;
/// Rounds of one peer that are under way here at once; its gate has no more than two.
const ASKS_MAX: usize = 8;
/// A connection on which nothing was heard for this long, pings included, is given up.
const SILENCE_MAX: std::time::Duration = KEEPALIVE_INTERVAL.saturating_add(KEEPALIVE_LIMIT);

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Question {
    /// Nothing but a sign of life.
    Ping = 1,
    /// By a leader: is this still the highest leadership you have promised to follow?
    Confirm = 2,
    /// By anyone, of the leader: a read index. It comes with what the asker has promised now.
    Ask = 3,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    question: Question,
    id: u64,
    leader: LeaderId,
}

impl Asked {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(self.question as u8);
        out.put_u64(self.id);
        out.put_u64(self.leader.term);
        out.put_u64(self.leader.node_id);
    }

    /// The next whole question; an error when it can't be one.
    fn take(from: &mut BytesMut) -> io::Result<Option<Self>> {
        if from.len() < QUESTION_LEN {
            return Ok(None);
        }
        let question = match from.get_u8() {
            1 => Question::Ping,
            2 => Question::Confirm,
            3 => Question::Ask,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "no such question")),
        };
        Ok(Some(Self { question, id: from.get_u64(), leader: LeaderId::new(from.get_u64(), from.get_u64()) }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Answered {
    id: u64,
    /// `None`: no.
    index: Option<u64>,
}

impl Answered {
    fn put(&self, out: &mut BytesMut) {
        out.put_u64(self.id);
        out.put_u8(self.index.is_some().into());
        out.put_u64(self.index.unwrap_or(0));
    }

    fn take(from: &mut BytesMut) -> Option<Self> {
        if from.len() < ANSWER_LEN {
            return None;
        }
        let (id, yes, index) = (from.get_u64(), from.get_u8(), from.get_u64());
        Some(Self { id, index: (yes == 1).then_some(index) })
    }
}

struct Call {
    question: Question,
    leader: LeaderId,
    answer: oneshot::Sender<Option<u64>>,
}

/// The asking end of the connection to one member. It is kept connected for as long as this lives, so that a round never
/// waits for a handshake.
pub(crate) struct Rounds(mpsc::Sender<Call>);

impl Rounds {
    /// Must be called on the runtime that is to drive it.
    pub(super) fn new(connector: Connector) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(keep(connector, queue));
        Self(calls)
    }

    /// The answer: `Some` is yes, with an index where one was asked for.
    ///
    /// # Errors
    /// Not connected, or the connection broke. The caller sets the limit of time.
    pub(crate) async fn ask(&self, question: Question, leader: LeaderId) -> Result<Option<u64>, &'static str> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Call { question, leader, answer }).map_err(|_| "too many rounds wait for its connection")?;
        answered.await.map_err(|_| "not connected")
    }
}

/// Connects, and connects again. Meanwhile questions are turned away at once: there may be another way.
async fn keep(connector: Connector, mut calls: mpsc::Receiver<Call>) {
    loop {
        let mut connecting = Box::pin(connector.clone().connect());
        let connected = loop {
            tokio::select! {
                biased;
                call = calls.recv() => if call.is_none() { return },
                connected = &mut connecting => break connected,
            }
        };
        match connected {
            Ok(stream) => match talk(stream, &mut calls).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "a connection for rounds broke"),
            },
            Err(error) => {
                tracing::debug!(%error, "no connection for rounds");
                // A question is turned away too, but it is a reason to try again; the connector keeps the pace.
                tokio::select! {
                    biased;
                    call = calls.recv() => if call.is_none() { return },
                    () = sleep(PAUSE_REFUSED) => {}
                }
            }
        }
    }
}

async fn write(stream: &mut (impl AsyncWriteExt + Unpin), out: &mut BytesMut) -> io::Result<()> {
    let written = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    timeout(KEEPALIVE_LIMIT, written).await.map_err(|_| io::ErrorKind::TimedOut)??;
    out.clear();
    Ok(())
}

/// Asks and hears, until nobody can ask any more, or the connection breaks; then what is open is answered by its end.
async fn talk(mut stream: BoxStream, calls: &mut mpsc::Receiver<Call>) -> io::Result<()> {
    let mut open: BTreeMap<u64, oneshot::Sender<Option<u64>>> = BTreeMap::new();
    let (mut input, mut out) = (BytesMut::with_capacity(1024), BytesMut::with_capacity(256));
    let (mut id, mut heard) = (0, Instant::now());
    let mut look = interval(KEEPALIVE_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            read = stream.read_buf(&mut input) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                heard = Instant::now();
                while let Some(Answered { id, index }) = Answered::take(&mut input) {
                    if let Some(answer) = open.remove(&id) {
                        let _ = answer.send(index);
                    }
                }
            }
            call = calls.recv() => {
                let Some(mut call) = call else { return Ok(()) };
                loop {
                    id += 1;
                    // Seeded bug: an id whose asker gave up is used again, and its late answer taken for the new one's.
                    let given_up = |open: &BTreeMap<_, oneshot::Sender<_>>| {
                        open.iter().find(|(_, answer)| answer.is_closed()).map(|(id, _)| *id)
                    };
                    let id = if seeded::is(Bug::ReuseRound) { given_up(&open).unwrap_or(id) } else { id };
                    Asked { question: call.question, id, leader: call.leader }.put(&mut out);
                    open.insert(id, call.answer);
                    match calls.try_recv() {
                        Ok(next) => call = next,
                        Err(_) => break,
                    }
                }
                write(&mut stream, &mut out).await?;
            }
            _ = look.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                open.retain(|_, answer| !answer.is_closed());
                id += 1;
                Asked { question: Question::Ping, id, leader: LeaderId::new(0, 0) }.put(&mut out);
                write(&mut stream, &mut out).await?;
            }
        }
    }
}

/// Answers one member for as long as it asks.
pub(super) async fn serve(confirmer: Arc<Confirmer>, mut stream: ServerStream, from: NodeId) {
    if let Err(error) = answer(&confirmer, &mut stream, from).await {
        tracing::debug!(%from, %error, "a connection for rounds ended");
    }
}

async fn answer(confirmer: &Arc<Confirmer>, stream: &mut ServerStream, from: NodeId) -> io::Result<()> {
    let (mut input, mut out) = (BytesMut::with_capacity(1024), BytesMut::with_capacity(256));
    let (done, mut asked) = mpsc::channel(ASKS_MAX);
    let (mut asking, mut heard) = (0, Instant::now());
    let mut look = interval(KEEPALIVE_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            read = stream.read_buf(&mut input) => {
                if read? == 0 {
                    return Ok(());
                }
                heard = Instant::now();
                while let Some(Asked { question, id, leader }) = Asked::take(&mut input)? {
                    let index = match question {
                        Question::Ping => Some(0),
                        Question::Confirm => {
                            (leader.node_id == from.0 && confirmer.follows(leader)).then_some(0)
                        }
                        Question::Ask if asking < ASKS_MAX => {
                            asking += 1;
                            let (confirmer, done) = (confirmer.clone(), done.clone());
                            tokio::spawn(async move {
                                let index = confirmer.confirm(Some(Ack { from, leader })).await;
                                let _ = done.send(Answered { id, index }).await;
                            });
                            continue;
                        }
                        Question::Ask => None,
                    };
                    Answered { id, index }.put(&mut out);
                }
            }
            Some(answered) = asked.recv() => {
                asking -= 1;
                answered.put(&mut out);
            }
            _ = look.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                stream.still_admitted()?;
            }
        }
        if !out.is_empty() {
            write(stream, &mut out).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(term: u64, node: u64) -> LeaderId {
        LeaderId::new(term, node)
    }

    #[test]
    fn questions_and_answers_come_back_in_pieces_too_and_anything_else_is_refused() {
        let asked = [Question::Ping, Question::Confirm, Question::Ask].map(|question| Asked {
            question,
            id: 1 << 40,
            leader: leader(7, u64::MAX),
        });
        let mut bytes = BytesMut::new();
        asked.iter().for_each(|a| a.put(&mut bytes));
        assert_eq!(bytes.len(), 3 * QUESTION_LEN);
        let mut piecemeal = BytesMut::new();
        let mut read = Vec::new();
        for b in bytes {
            piecemeal.put_u8(b);
            read.extend(Asked::take(&mut piecemeal).expect("a question"));
        }
        assert_eq!(read, asked);
        assert!(Asked::take(&mut BytesMut::from(&[9; QUESTION_LEN][..])).is_err());

        let answered = [None, Some(0), Some(u64::MAX)].map(|index| Answered { id: 3, index });
        let mut bytes = BytesMut::new();
        answered.iter().for_each(|a| a.put(&mut bytes));
        assert_eq!(bytes.len(), 3 * ANSWER_LEN);
        assert_eq!(answered.map(|_| Answered::take(&mut bytes).expect("an answer")), answered);
        assert_eq!(Answered::take(&mut bytes), None);
    }

    /// The asking end, and the other one in the test's hands.
    fn pair() -> (Arc<Rounds>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let (calls, mut queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move { talk(Box::new(ours), &mut queue).await });
        (Arc::new(Rounds(calls)), theirs)
    }

    async fn next(from: &mut tokio::io::DuplexStream) -> Asked {
        loop {
            let mut bytes = BytesMut::zeroed(QUESTION_LEN);
            from.read_exact(&mut bytes).await.expect("a question");
            match Asked::take(&mut bytes).expect("readable").expect("whole") {
                Asked { question: Question::Ping, .. } => {}
                asked => return asked,
            }
        }
    }

    async fn reply(to: &mut tokio::io::DuplexStream, id: u64, index: Option<u64>) {
        let mut bytes = BytesMut::new();
        Answered { id, index }.put(&mut bytes);
        to.write_all(&bytes).await.expect("written");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_find_their_questions_in_any_order_and_late_ones_nobody() {
        let (rounds, mut theirs) = pair();
        let ask = |term| {
            let rounds = rounds.clone();
            tokio::spawn(async move { rounds.ask(Question::Ask, leader(term, 1)).await })
        };
        let given_up = ask(1);
        let old = next(&mut theirs).await;
        given_up.abort();
        let (first, second) = (ask(2), ask(3));
        let (a, b) = (next(&mut theirs).await, next(&mut theirs).await);
        assert!(old.id < a.id && a.id < b.id, "an id was used again");
        reply(&mut theirs, old.id, Some(666)).await;
        reply(&mut theirs, 12345, Some(667)).await;
        let index = |asked: Asked| Some(100 + asked.leader.term);
        reply(&mut theirs, b.id, index(b)).await;
        reply(&mut theirs, a.id, index(a)).await;
        assert_eq!((first.await.expect("ran"), second.await.expect("ran")), (Ok(Some(102)), Ok(Some(103))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_or_silent_connection_ends_what_was_asked_on_it() {
        let (rounds, mut theirs) = pair();
        let asked = tokio::spawn(async move { rounds.ask(Question::Confirm, leader(2, 1)).await });
        next(&mut theirs).await;
        drop(theirs);
        assert!(asked.await.expect("ran").is_err());

        let (rounds, _silent) = pair();
        let began = Instant::now();
        assert!(rounds.ask(Question::Confirm, leader(2, 1)).await.is_err());
        assert!(began.elapsed() >= SILENCE_MAX, "given up early");
    }
}
