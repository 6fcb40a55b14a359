//! Puts a node together: the one place that knows every part. Configuration in, running node out.

mod advise;
mod denials;
mod http;
mod metrics;
mod pin;
mod renewal;
mod timed_disk;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::REPLACE_MEMBER;
use quorate_core::id::Name;
use quorate_core::level::Levels;
use quorate_core::seam::WallClock;
use quorate_hsm::{Hsm, HsmConfig, HsmError, KeyId, KeySelection, TokenProfile};
use quorate_replica::{Profile, Replica, World};
use quorate_service::node::{JoinConfig, Node, NodeConfig, StartError};
use quorate_service::seal::PublicSeals;
use quorate_service::seal::token::JoinToken;
use quorate_service::{HsmIdentity, HsmMarks, HsmOwnKeys};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::command::failure::{CommandResult, Failure};
use crate::config::{self, Config};
use crate::tls::{ApiListener, NodeCertificate, Pins, TlsIdentity, TlsNet, Trust};

use timed_disk::TimedDisk;

pub use pin::read as read_pin;
pub use world::{OsEntropy, SystemBootClock, SystemClock};

/// How long open requests may take to finish when the node stops.
const DRAIN: Duration = Duration::from_secs(2);
/// Between two looks at the members' pinned keys.
const PINS_LOOK: Duration = Duration::from_secs(1);
/// Longest certificate, key or token file that is read, in bytes.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// What helps when a file of certificates is damaged.
const SIGN_AGAIN: &str = "sign this node's request again (`quorate pki sign`) and put what that prints into tls.cert";
const COPY_ROOT: &str = "put the cluster's ca.pem there again: every other node has the same, and so has the folder of \
                         `quorate pki init`";

/// What to do about a token that fails, and where its files are, as far as the configuration says.
fn about_token(config: &config::Hsm, error: &HsmError) -> String {
    let environment: Vec<String> = config.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let place = if environment.is_empty() { String::new() } else { format!(" ({})", environment.join(", ")) };
    let token = &config.token_label;
    if let HsmError::KeyMissing { .. } = error {
        return format!(
            "make the node's keys in the token {token}{place}: `quorate pki request`, or connect the token that has them"
        );
    }
    if error.may_pass() {
        return format!("start the node again when the token {token}{place} answers; nothing on disk was touched");
    }
    format!(
        "if nothing was changed, the token {token} or its settings{place} are damaged: restore them from a backup, or \
         {REPLACE_MEMBER}"
    )
}

/// Describes the token in `config` to the HSM crate.
pub fn hsm_config(config: &config::Hsm) -> HsmConfig {
    // SoftHSM is recognised by its module's name; anything else is held to what every auditor accepts.
    let soft = config.module.file_name().is_some_and(|n| n.to_string_lossy().contains("softhsm"));
    HsmConfig {
        module: config.module.clone(),
        token_label: config.token_label.clone(),
        environment: config.environment.clone(),
        profile: if soft { TokenProfile::SoftHsm } else { TokenProfile::Standard },
        deadline: HsmConfig::DEADLINE,
    }
}

/// Runs one node until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting: configuration, token, certificate or data directory, each with what to do.
pub async fn serve(config: Config, dev: bool) -> CommandResult {
    let cant = |why: &dyn std::fmt::Display, todo: &str| Failure::failed("can't start the node", why, todo);
    let name: Name = config.name.parse().map_err(|e| cant(&e, "correct `name` in the configuration"))?;
    let wall: Arc<dyn WallClock> = Arc::new(SystemClock);

    let in_file = |path: &Path, e: &dyn std::fmt::Display, todo: &str| cant(&format!("{}: {e}", path.display()), todo);
    let (cert, root_ca) = (&config.tls.cert, &config.tls.root_ca);
    let certificate =
        NodeCertificate::from_pem(&read(cert, "tls.cert")?, &name).map_err(|e| in_file(cert, &e, SIGN_AGAIN))?;
    let trust = Trust::new(&read(root_ca, "tls.root_ca")?, certificate.cluster);
    let trust = Arc::new(trust.map_err(|e| in_file(root_ca, &format!("tls.root_ca: {e}"), COPY_ROOT))?);
    certificate.check(&trust, wall.now_ms()).map_err(|e| {
        in_file(
            cert,
            &e,
            &format!("{SIGN_AGAIN}; if that does not help, {} is at fault: {COPY_ROOT}", root_ca.display()),
        )
    })?;

    let pin = pin::read(config.hsm.pin_file.as_deref(), &config.hsm.token_label)?;
    let hsm_config = hsm_config(&config.hsm);
    let token = |e: HsmError| cant(&e, &about_token(&config.hsm, &e));
    // Blocking, and nothing else runs yet.
    let hsm = Hsm::open(&hsm_config, pin).map_err(token)?;
    let select = KeySelection { identity: Some(KeyId::of(&certificate.spki)), ..KeySelection::default() };
    hsm.load_node_keys(&name, &select, None).map_err(token)?;
    hsm.self_test().await.map_err(token)?;
    let identity =
        TlsIdentity::new(&certificate, hsm.rustls_signing_key().map_err(token)?).map_err(|e| cant(&e, ""))?;

    let metrics = Arc::new(metrics::Metrics::new());
    hsm.set_meter(metrics.clone());
    let pins = Pins::default();
    let net = TlsNet::new(identity.clone(), trust.clone(), pins.clone(), wall.clone()).map_err(|e| cant(&e, ""))?;
    let entropy: Arc<dyn quorate_core::seam::Entropy> = Arc::new(OsEntropy);
    let own_keys = HsmOwnKeys::new(hsm.clone(), certificate.cluster, name.clone(), entropy.clone());
    let on_sync = metrics.clone();
    let disk =
        TimedDisk { inner: quorate_journal::disk::RealDisk, on_sync: Arc::new(move |took| on_sync.synced(took)) };
    let world = World {
        disk: Arc::new(disk),
        net: Arc::new(net),
        entropy,
        wall: wall.clone(),
        seals: Arc::new(PublicSeals),
        own_keys: Arc::new(own_keys),
        marks: Arc::new(HsmMarks::new(hsm.clone())),
        identity: Arc::new(HsmIdentity::new(hsm.clone()).map_err(token)?),
        boot_clock: Arc::new(SystemBootClock),
        driver: quorate_journal::Driver::Process,
    };
    // Spent once the node belongs to a cluster, and then perhaps gone. What can't be read says so in a moment.
    let is_new = matches!(Replica::node_file(&*world.disk, &config.data_dir), Ok(None));
    let invitation = config.join.as_ref().filter(|_| is_new);
    let node_config = NodeConfig {
        name: name.clone(),
        data_dir: config.data_dir.clone(),
        api_addr: config.api.advertised(),
        peer_addr: config.peer.advertised(),
        peer_listen: config.peer.listen.to_string(),
        cluster: certificate.cluster,
        root_spki: trust.root_spki().to_vec(),
        dev,
        profile: match config.profile {
            config::Profile::Lan => Profile::Lan,
            config::Profile::Wan => Profile::Wan,
        },
        segment_bytes: u64::from(config.log.segment_mib) << 20,
        low_space_bytes: u64::from(config.log.low_space_mib) << 20,
        compaction: config.log.compaction(),
        state_cache_bytes: (config.cache.state_mib as usize) << 20,
        hot_bytes: (config.cache.keys_mib as usize) << 20,
        join: invitation.map(join_config).transpose()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        levels: Levels::default(),
        meter: metrics.clone(),
    };
    // The port first: when it is taken, nothing on disk has been touched.
    let listener =
        ApiListener::bind(config.api.listen, identity.clone(), trust.clone(), wall.clone()).await.map_err(|e| {
            cant(&format!("can't listen on {}: {e}", config.api.listen), "free the port, or change api.listen")
        })?;
    let node = Node::start(node_config, world, hsm.clone()).await.map_err(|e| match &e {
        StartError::Token(_) => {
            cant(&e, &format!("make a token at a member: `quorate operator members invite --name {name}`"))
        }
        _ => cant(&e, ""),
    })?;
    node.set_certificate(certificate.der(), certificate.ends_ms());
    tokio::spawn(keep_pins(node.clone(), pins));
    tokio::spawn(advise::keep(node.clone()));
    let path = config.tls.cert.clone();
    let renewal =
        renewal::Renewal { node: node.clone(), identity, trust: trust.clone(), wall, name: name.clone(), path };
    tokio::spawn(renewal.on_hangup());
    tracing::info!(
        node = %name, cluster = %certificate.cluster, api = %listener.local_addr(), peer = %config.peer.listen,
        state = node.health().as_str(), version = env!("CARGO_PKG_VERSION"), "started"
    );

    let (stop, stopping) = watch::channel(false);
    let server = tokio::spawn(http::serve(node.clone(), metrics, trust, listener, stopping));
    wait_for_signal().await.map_err(|e| cant(&e, ""))?;
    tracing::info!("stopping");
    stop.send_replace(true);
    if tokio::time::timeout(DRAIN, server).await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
    node.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Tells TLS which identity keys committed membership pins. Only a certificate that has expired needs it, so a look
/// each second is enough.
async fn keep_pins(node: Arc<Node>, pins: Pins) {
    let mut look = tokio::time::interval(PINS_LOOK);
    loop {
        look.tick().await;
        pins.replace(node.pinned_identities());
    }
}

async fn wait_for_signal() -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

fn join_config(join: &config::Join) -> CommandResult<JoinConfig> {
    let text = Zeroizing::new(read(&join.token_file, "join.token_file")?);
    let text = std::str::from_utf8(&text).unwrap_or_default();
    let token = JoinToken::parse(text.trim()).map_err(|e| {
        Failure::failed(
            format!("can't use the invitation in {}", join.token_file.display()),
            e,
            "write what `quorate operator members invite` printed into it",
        )
    })?;
    Ok(JoinConfig { addresses: join.addresses.clone(), token })
}

/// Reads a file that the configuration names.
#[expect(clippy::disallowed_methods, reason = "read once at start, before there is a World")]
fn read(path: &Path, field: &str) -> CommandResult<Vec<u8>> {
    let bytes = std::fs::metadata(path).and_then(|m| match m.len() {
        len if len > FILE_LEN_MAX => Err(std::io::Error::other(format!("{len} bytes are too many"))),
        _ => std::fs::read(path),
    });
    bytes.map_err(|e| {
        Failure::failed(
            format!("can't read {}", path.display()),
            e,
            format!("`{field}` in the configuration must name a readable file"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_token_is_not_called_damaged() {
        let hsm = config::Hsm {
            module: "/usr/lib/softhsm/libsofthsm2.so".into(),
            token_label: "n1".into(),
            pin_file: None,
            environment: Default::default(),
        };
        assert!(!about_token(&hsm, &HsmError::TimedOut).contains(REPLACE_MEMBER));
        let broken = HsmError::Token { operation: "C_Decrypt".into(), reason: "GeneralError".into() };
        assert!(about_token(&hsm, &broken).contains(REPLACE_MEMBER));
        let missing = HsmError::KeyMissing { label: "x".into(), id: None };
        assert!(about_token(&hsm, &missing).contains("pki request"));
    }
}
