//! Carries the bytes of connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::{CLIENTS, Shared, USER};
use crate::net::stream::Fate;

/// Read at once, bytes.
const PIECE_LEN: usize = 16 << 10;
/// Pieces on their way in one direction of a connection; then the sender has to wait.
const PIECES_MAX: usize = 256;

/// Accepts connections for one port of a node.
pub async fn accept(shared: Arc<Shared>, node: u32, port: u16, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                tokio::spawn(carry(shared.clone(), node, port, stream, from));
            }
            // Too many open files, perhaps: that passes.
            Err(_) => sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// One connection.
async fn carry(shared: Arc<Shared>, node: u32, port: u16, near: TcpStream, from: SocketAddr) {
    let table = tokio::task::spawn_blocking(|| std::fs::read_to_string("/proc/net/tcp")).await;
    let Ok(Ok(table)) = table else { return };
    let source = user_of(&table, from).and_then(|user| user.checked_sub(USER));
    let source = source.filter(|source| shared.flows().contains_key(&(*source, node))).unwrap_or(CLIENTS);
    // A connection takes both directions.
    for pair in [(source, node), (node, source)] {
        pass_hold(&shared, pair).await;
    }
    let Ok(far) = TcpStream::connect((shared.inside(node), port)).await else {
        // As the kernel says that nobody listens.
        let _ = near.set_zero_linger();
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let there = direction(&shared, (source, node), near_read, far_write);
    let back = direction(&shared, (node, source), far_read, near_write);
    // When one direction breaks, both end; when one is closed in order, the other goes on.
    let _ = tokio::try_join!(there, back);
}

/// Why a connection is at its end.
struct Broken;

async fn direction(shared: &Shared, pair: (u32, u32), from: OwnedReadHalf, to: OwnedWriteHalf) -> Result<(), Broken> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::try_join!(read(shared, pair, from, sender), write(shared, pair, to, receiver)).map(|_| ())
}

/// Reads pieces and decides what becomes of each.
async fn read(
    shared: &Shared,
    pair: (u32, u32),
    mut from: OwnedReadHalf,
    pieces: mpsc::Sender<(Instant, Vec<u8>)>,
) -> Result<(), Broken> {
    let begun = shared.begun;
    let mut buffer = vec![0; PIECE_LEN];
    loop {
        let len = from.read(&mut buffer).await.map_err(|_| Broken)?;
        if len == 0 {
            return Ok(());
        }
        let mut piece = buffer[..len].to_vec();
        let fate = shared.flows().get_mut(&pair).map(|flow| flow.pass(begun.elapsed(), &mut piece));
        match fate {
            Some(Fate::Arrives(due)) => pieces.send((begun + due, piece)).await.map_err(|_| Broken)?,
            Some(Fate::HalfCloses) => return Ok(()),
            Some(Fate::Resets) | None => {
                let _ = from.as_ref().set_zero_linger();
                return Err(Broken);
            }
        }
    }
}

/// Writes pieces when they are due and the link is not held; then closes its direction.
async fn write(
    shared: &Shared,
    pair: (u32, u32),
    mut to: OwnedWriteHalf,
    mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>,
) -> Result<(), Broken> {
    while let Some((due, piece)) = pieces.recv().await {
        sleep_until(due).await;
        pass_hold(shared, pair).await;
        to.write_all(&piece).await.map_err(|_| Broken)?;
    }
    // The end of a stream, too, does not pass a held link.
    pass_hold(shared, pair).await;
    to.shutdown().await.map_err(|_| Broken)
}

/// Waits until a link is not held.
async fn pass_hold(shared: &Shared, pair: (u32, u32)) {
    let mut changes = shared.changes.subscribe();
    let held = |first: bool| shared.flows().get_mut(&pair).is_some_and(|flow| flow.is_held(first));
    if held(true) {
        while changes.changed().await.is_ok() && held(false) {}
    }
}

/// The user to whom the socket with this local address belongs, by `/proc/net/tcp`.
fn user_of(table: &str, local: SocketAddr) -> Option<u32> {
    let SocketAddr::V4(local) = local else { return None };
    let wanted = format!("{}:{:04X}", hex(*local.ip()), local.port());
    let line = table.lines().skip(1).find(|line| line.split_whitespace().nth(1) == Some(&wanted))?;
    line.split_whitespace().nth(7)?.parse().ok()
}

/// As the kernel prints it: the bytes of the address as a number of this machine.
fn hex(ip: Ipv4Addr) -> String {
    format!("{:08X}", u32::from_ne_bytes(ip.octets()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_tells_whose_a_socket_is() {
        let port = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        let table = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: {}:1DB0 00000000:0000 0A 00000000:00000000 00:00000000 00000000 64101        0 8115 1 0\n\
             1: {}:9C40 {}:1DB0 01 00000000:00000000 00:00000000 00000000     0        0 8116 1 0\n",
            hex(Ipv4Addr::new(127, 0, 0, 1)),
            hex(Ipv4Addr::new(127, 0, 0, 2)),
            hex(Ipv4Addr::new(127, 0, 0, 1)),
        );
        assert_eq!(user_of(&table, port("127.0.0.1", 7600)), Some(64_101));
        assert_eq!(user_of(&table, port("127.0.0.2", 40_000)), Some(0));
        assert_eq!((user_of(&table, port("127.0.0.3", 7600)), user_of("", port("127.0.0.1", 1))), (None, None));
    }
}
