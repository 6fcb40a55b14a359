//! Connections within one process, each of which takes its time, goes silent when one of its ends is cut off, and ends when a
//! node there does. As seeded as the rest of a simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use quorate_journal::testing::Rng;
use quorate_replica::{BoxStream, Handshake, Listener, Net, PeerExpectation, PeerIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

const BUFFER_BYTES: usize = 64 << 10;
/// How long what is sent is on its way, microseconds.
const DELAY_US: std::ops::Range<u64> = 50..2000;
/// How often it is tried again to deliver what is held up.
const RETRY_EVERY: Duration = Duration::from_millis(5);

type Incoming = (DuplexStream, PeerIdentity);

struct Listening {
    who: PeerIdentity,
    incoming: mpsc::UnboundedSender<Incoming>,
}

struct Inner {
    rng: Rng,
    listening: BTreeMap<String, Listening>,
    /// The two ends of each connection.
    carried: Vec<([String; 2], AbortHandle)>,
    /// What they say and are told is held up.
    cut_off: BTreeSet<String>,
}

/// All connections of a simulation.
pub struct SimBoard(Mutex<Inner>);

impl SimBoard {
    pub fn new(seed: u64) -> Self {
        let (listening, carried, cut_off) = Default::default();
        Self(Mutex::new(Inner { rng: Rng(seed), listening, carried, cut_off }))
    }

    /// Makes a node hear nothing of the others, and they of it; or lets through what was held up.
    pub fn cut_off(&self, name: &str, cut_off: bool) {
        let mut inner = self.0.lock().expect("lock");
        match cut_off {
            true => drop(inner.cut_off.insert(name.to_owned())),
            false => drop(inner.cut_off.remove(name)),
        }
    }

    /// Returns when these two hear of one another.
    async fn connected(&self, ends: &[String; 2]) {
        while ends.iter().any(|end| self.0.lock().expect("lock").cut_off.contains(end)) {
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// A process has ended: nobody listens there any more, and all its connections end.
    pub fn end(&self, net: &SimNet) {
        net.ended.store(true, Ordering::Relaxed);
        let mut inner = self.0.lock().expect("lock");
        inner.listening.retain(|_, listening| listening.who != net.me);
        inner.carried.retain(|(ends, carried)| {
            let ends = ends.contains(&net.me.name);
            if ends {
                carried.abort();
            }
            !ends && !carried.is_finished()
        });
    }

    fn connect(self: &Arc<Self>, from: &PeerIdentity, addr: &str, expect: &PeerExpectation) -> io::Result<BoxStream> {
        let mut inner = self.0.lock().expect("lock");
        let listening = inner.listening.get(addr).filter(|listening| !listening.incoming.is_closed());
        let listening = listening.ok_or(io::ErrorKind::ConnectionRefused)?;
        let found = &listening.who;
        if found.name != expect.name || expect.identity_spki.as_ref().is_some_and(|spki| *spki != found.identity_spki) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("found {}", found.name)));
        }
        let ends = [from.name.clone(), found.name.clone()];
        let ((ours, our_end), (theirs, their_end)) = (duplex(BUFFER_BYTES), duplex(BUFFER_BYTES));
        let sent = listening.incoming.send((theirs, from.clone()));
        sent.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        let delays = [Rng(inner.rng.next_u64()), Rng(inner.rng.next_u64())];
        let carried = tokio::spawn(carry(self.clone(), ends.clone(), [our_end, their_end], delays));
        inner.carried.push((ends, carried.abort_handle()));
        Ok(Box::new(ours))
    }
}

/// What one end sends arrives at the other after a while, until both have ended.
async fn carry(board: Arc<SimBoard>, ends: [String; 2], streams: [DuplexStream; 2], [there, back]: [Rng; 2]) {
    let [(one_in, one_out), (other_in, other_out)] = streams.map(tokio::io::split);
    let one_way = async |mut from: ReadHalf<_>, mut to: WriteHalf<_>, mut rng: Rng| {
        let mut bytes = vec![0; BUFFER_BYTES];
        while let Ok(len @ 1..) = from.read(&mut bytes).await {
            tokio::time::sleep(Duration::from_micros(DELAY_US.start + rng.below(DELAY_US.end - DELAY_US.start))).await;
            board.connected(&ends).await;
            if to.write_all(&bytes[..len]).await.is_err() {
                return;
            }
        }
        // The other end may have gone before.
        drop(to.shutdown().await);
    };
    tokio::join!(one_way(one_in, other_out, there), one_way(other_in, one_out, back));
}

/// One process's network.
pub struct SimNet {
    board: Arc<SimBoard>,
    me: PeerIdentity,
    ended: AtomicBool,
}

impl SimNet {
    pub fn new(board: Arc<SimBoard>, me: PeerIdentity) -> Self {
        Self { board, me, ended: AtomicBool::new(false) }
    }
}

impl Net for SimNet {
    fn connect<'a>(&'a self, addr: &'a str, expect: &'a PeerExpectation) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            self.board.connected(&[self.me.name.clone(), expect.name.clone()]).await;
            match self.ended.load(Ordering::Relaxed) {
                true => std::future::pending().await,
                false => self.board.connect(&self.me, addr, expect),
            }
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let (incoming, queue) = mpsc::unbounded_channel();
        let listening = Listening { who: self.me.clone(), incoming };
        self.board.0.lock().expect("lock").listening.insert(addr.to_owned(), listening);
        let listener = SimListener { addr: addr.to_owned(), queue };
        Box::pin(std::future::ready(Ok(Box::new(listener) as Box<dyn Listener>)))
    }
}

struct SimListener {
    addr: String,
    queue: mpsc::UnboundedReceiver<Incoming>,
}

impl Listener for SimListener {
    fn local_addr(&self) -> String {
        self.addr.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Handshake>> {
        Box::pin(async move {
            let Some((stream, who)) = self.queue.recv().await else { return std::future::pending().await };
            Ok(Box::pin(std::future::ready(Ok((Box::new(stream) as BoxStream, who)))) as Handshake)
        })
    }
}
