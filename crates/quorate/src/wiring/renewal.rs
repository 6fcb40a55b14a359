//! A renewed certificate, taken on SIGHUP without a restart: a restarted node would be sealed.

use std::path::PathBuf;
use std::sync::Arc;

use quorate_core::id::Name;
use quorate_core::seam::WallClock;
use quorate_service::node::Node;
use tokio::signal::unix::{SignalKind, signal};

use crate::command::failure::{CommandResult, Failure};
use crate::tls::{NodeCertificate, TlsIdentity, Trust};

/// What a renewal needs to know of the node.
pub(super) struct Renewal {
    pub(super) node: Arc<Node>,
    pub(super) identity: TlsIdentity,
    pub(super) trust: Arc<Trust>,
    pub(super) wall: Arc<dyn WallClock>,
    pub(super) name: Name,
    /// `tls.cert`.
    pub(super) path: PathBuf,
}

impl Renewal {
    /// Reads the certificate again at each SIGHUP. One that does not fit is refused with a warning, and the old one
    /// stays.
    pub(super) async fn on_hangup(self) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => hangup,
            Err(e) => {
                tracing::warn!(error = %e, "SIGHUP can't be received: a renewed certificate needs a restart");
                return;
            }
        };
        while hangup.recv().await.is_some() {
            match self.renew() {
                Ok(()) => tracing::info!(path = %self.path.display(), "the certificate was read again and is in use"),
                Err(e) => {
                    let e = e.to_string().replace('\n', ";");
                    tracing::warn!(error = e, "the certificate was read again but can't be used; the old one stays")
                }
            }
        }
    }

    fn renew(&self) -> CommandResult {
        let unusable = |e| Failure::failed("can't use the renewed certificate", e, "");
        let pem = super::read(&self.path, "tls.cert")?;
        let certificate = NodeCertificate::from_pem(&pem, &self.name).map_err(unusable)?;
        certificate.check(&self.trust, self.wall.now_ms()).map_err(unusable)?;
        self.identity.replace(&certificate).map_err(unusable)?;
        self.node.set_certificate(certificate.der(), certificate.ends_ms());
        Ok(())
    }
}
