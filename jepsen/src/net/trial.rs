//! Tries a network out: that bytes pass, that a cut holds them back and a policy meets them, and that they pass again.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use super::{API_PORT, CLIENTS, Net, Policy};

/// The longest time for a byte to come back; a deadline against hanging, no measure.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is cut off does not arrive within this time, nor later.
const SILENCE: Duration = Duration::from_millis(150);

/// Between the clients and a node.
///
/// # Errors
/// What did not work.
pub fn run(net: &dyn Net, node: u32) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let echo = scope.spawn(move || echo(net, node, ready));
        let asks = scope.spawn(move || {
            // What the other thread says tells more than this.
            is_ready.recv().context("a node can't listen")?;
            net.enter()?;
            let at = SocketAddr::new(net.reached(node), API_PORT);
            ask(net, node, &mut TcpStream::connect_timeout(&at, PATIENCE).context("clients can't reach a node")?)
        });
        let asked = asks.join().map_err(|_| anyhow!("a thread broke"))?;
        let echoed = echo.join().map_err(|_| anyhow!("a thread broke"))?;
        echoed.and(asked)
    })
}

/// Sends back what comes, to the end of one connection.
fn echo(net: &dyn Net, node: u32, ready: Sender<()>) -> anyhow::Result<()> {
    net.visit(node)?;
    let listener = TcpListener::bind(SocketAddr::new(net.listens(node), API_PORT)).context("a node can't listen")?;
    listener.set_nonblocking(true)?;
    let _ = ready.send(());
    let end = Instant::now() + PATIENCE;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < end => thread::sleep(SILENCE / 50),
            Err(e) => return Err(e).context("no connection reaches a node"),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|len| len > 0) {
        stream.write_all(&byte)?;
    }
    Ok(())
}

fn ask(net: &dyn Net, node: u32, stream: &mut TcpStream) -> anyhow::Result<()> {
    let answers = |stream: &mut TcpStream, within| {
        stream.set_read_timeout(Some(within))?;
        anyhow::Ok(stream.read(&mut [0]).is_ok_and(|len| len == 1))
    };
    stream.write_all(b"1")?;
    ensure!(answers(stream, PATIENCE)?, "bytes do not pass a sound link");
    for link in [(CLIENTS, node), (node, CLIENTS)] {
        net.cut(&[link])?;
        stream.write_all(b"2")?;
        ensure!(!answers(stream, SILENCE)?, "bytes pass a cut link");
        ensure!(net.heal()? > 0, "what a cut link held back was not counted");
        ensure!(answers(stream, PATIENCE)?, "bytes do not pass a link that is sound again");
    }
    if net.backend().shapes() {
        net.shape(&[(CLIENTS, node)], &Policy { delay: SILENCE / 10, ..Policy::default() })?;
        stream.write_all(b"3")?;
        ensure!(answers(stream, PATIENCE)?, "bytes do not pass a slow link");
        ensure!(net.unshape()?.delayed > 0, "what a slow link delayed was not counted");
    }
    Ok(())
}
