//! Loopback TCP with a header in clear that says who is who, and switches that make a pair of nodes go silent: no
//! error, no end of stream, nothing, as when a cable is pulled.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use quorate_core::id::ClusterId;
use quorate_replica::{BoxStream, Handshake, Listener, Net, PeerExpectation, PeerIdentity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Passes or holds what goes between two nodes.
#[derive(Default)]
pub struct Switch(Mutex<(bool, Vec<Waker>)>);

impl Switch {
    fn set_silent(&self, silent: bool) {
        let mut state = self.0.lock().expect("lock");
        state.0 = silent;
        state.1.drain(..).for_each(Waker::wake);
    }

    /// Pending for as long as the pair is silent.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().expect("lock");
        if state.0 {
            state.1.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// All switches of a test.
#[derive(Default)]
pub struct Switchboard(Mutex<HashMap<(String, String), Arc<Switch>>>);

impl Switchboard {
    fn between(&self, a: &str, b: &str) -> Arc<Switch> {
        let pair = if a < b { (a.into(), b.into()) } else { (b.into(), a.into()) };
        self.0.lock().expect("lock").entry(pair).or_default().clone()
    }

    /// Makes two nodes hear nothing of one another, or hear again.
    pub fn set_silent(&self, a: &str, b: &str, silent: bool) {
        self.between(a, b).set_silent(silent);
    }
}

struct Gated {
    inner: TcpStream,
    switch: Arc<Switch>,
}

impl AsyncRead for Gated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.switch.clone().poll(cx) {
            Poll::Ready(()) => Pin::new(&mut self.inner).poll_read(cx, buf),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Gated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.switch.clone().poll(cx) {
            Poll::Ready(()) => Pin::new(&mut self.inner).poll_write(cx, buf),
            Poll::Pending => Poll::Pending,
        }
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// One node's network.
pub struct TestNet {
    board: Arc<Switchboard>,
    me: PeerIdentity,
}

impl TestNet {
    pub fn new(board: Arc<Switchboard>, name: &str, cluster: ClusterId, spki: &[u8]) -> Self {
        Self { board, me: PeerIdentity { name: name.into(), cluster, identity_spki: spki.to_vec() } }
    }
}

async fn introduce(stream: &mut TcpStream, me: &PeerIdentity) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_u16(me.name.len() as u16).await?;
    stream.write_all(me.name.as_bytes()).await?;
    stream.write_all(&me.cluster.0).await?;
    stream.write_u16(me.identity_spki.len() as u16).await?;
    stream.write_all(&me.identity_spki).await
}

async fn meet(stream: &mut TcpStream) -> io::Result<PeerIdentity> {
    let mut name = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut name).await?;
    let mut cluster = [0; 16];
    stream.read_exact(&mut cluster).await?;
    let mut identity_spki = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut identity_spki).await?;
    let name = String::from_utf8(name).map_err(io::Error::other)?;
    Ok(PeerIdentity { name, cluster: ClusterId(cluster), identity_spki })
}

impl Net for TestNet {
    fn connect<'a>(&'a self, addr: &'a str, expect: &'a PeerExpectation) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let switch = self.board.between(&self.me.name, &expect.name);
            std::future::poll_fn(|cx| switch.poll(cx)).await;
            let mut inner = TcpStream::connect(addr).await?;
            introduce(&mut inner, &self.me).await?;
            let found = meet(&mut inner).await?;
            if found.name != expect.name || expect.identity_spki.as_ref().is_some_and(|s| *s != found.identity_spki) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("found {}", found.name)));
            }
            Ok(Box::new(Gated { inner, switch }) as BoxStream)
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let inner = TcpListener::bind(addr).await?;
            let listener = TestListener { inner, board: self.board.clone(), me: self.me.clone() };
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}

struct TestListener {
    inner: TcpListener,
    board: Arc<Switchboard>,
    me: PeerIdentity,
}

impl Listener for TestListener {
    fn local_addr(&self) -> String {
        self.inner.local_addr().expect("bound").to_string()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Handshake>> {
        Box::pin(async move {
            let (mut inner, _) = self.inner.accept().await?;
            let (board, me) = (self.board.clone(), self.me.clone());
            Ok(Box::pin(async move {
                let identity = meet(&mut inner).await?;
                introduce(&mut inner, &me).await?;
                let switch = board.between(&me.name, &identity.name);
                Ok((Box::new(Gated { inner, switch }) as BoxStream, identity))
            }) as Handshake)
        })
    }
}
