//! The peer port of a node that can't open what it holds: whoever asks is told that, and nothing else is said or believed there.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use quorate_core::id::{ClusterId, NodeId};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::CONNECT_LIMIT;
use super::preface::{self, Purpose, Refusal};
use crate::net::{Handshake, Net};

/// Connections answered at once; each is a signature in the HSM.
const AT_ONCE: usize = 8;
/// After a connection could not be accepted, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a member takes no part at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Closed {
    /// What is on its disk can't be trusted.
    #[error("it can't open its journal or its state, and takes no part: its own status and log say what is damaged")]
    Damaged,
    /// What is on its disk is of a newer version.
    #[error("it can't read what a newer version wrote, and takes no part: its own status and log say which is needed")]
    UpgradeNeeded,
}

/// Listens where the peers of node `me` look for it, and tells each why it takes no part, until dropped.
///
/// # Errors
/// When the address can't be listened on.
pub async fn refuse_peers(
    net: &dyn Net,
    listen: &str,
    cluster: ClusterId,
    me: NodeId,
    why: Closed,
) -> io::Result<Infallible> {
    let mut listener = net.listen(listen).await?;
    let mut answering = JoinSet::new();
    loop {
        while answering.len() >= AT_ONCE {
            answering.join_next().await;
        }
        match listener.accept().await {
            Ok(handshake) => {
                answering.spawn(timeout(CONNECT_LIMIT, refuse(handshake, cluster, me, why)));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        while answering.try_join_next().is_some() {}
    }
}

async fn refuse(handshake: Handshake, cluster: ClusterId, me: NodeId, why: Closed) -> io::Result<()> {
    let (mut stream, identity) = handshake.await?;
    let refusal = match preface::read(&mut stream).await? {
        Err(refusal) => refusal,
        Ok(said) if said.stamp.cluster != cluster || identity.cluster != cluster => Refusal::ForeignCluster,
        Ok(said) if said.purpose != Purpose::Join && said.stamp.to != me => Refusal::NotThisNode,
        Ok(_) => Refusal::Closed(why),
    };
    preface::answer(&mut stream, Some(refusal)).await
}
