//! A new development cluster: the steps that an operator takes by hand on three machines (design §6), in order.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quorate_client::v1::{ApproveRequest, InitRequest, InviteRequest, ListMembersRequest, PromoteRequest};
use quorate_core::id::Name;
use quorate_core::principal::Role;
use quorate_core::seam::{Entropy, WallClock};
use quorate_hsm::soft_token::SoftToken;
use zeroize::Zeroizing;

use super::cluster::Cluster;
use super::layout::{ClusterFile, Layout, NodeEntry};
use super::ports::{Ports, Row};
use super::process::this_program;
use super::say;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::files;
use crate::config;
use crate::pki::{LEAF_DAYS, NodeRequest, Passphrase, Pki, WorkFactor};
use crate::wiring::{OsEntropy, SystemClock};

/// Custodians of a development cluster.
const SHARES: usize = 5;
const THRESHOLD: usize = 3;

/// Everything a cluster needs before its first process: certificates, tokens, configuration. Returns each node's
/// fingerprint, which the operator compares when approving it.
pub async fn prepare(
    layout: &Layout,
    count: u16,
    ports: &mut Ports,
    row: Row,
    log: config::Log,
) -> CommandResult<(ClusterFile, Vec<String>)> {
    let module =
        SoftToken::module().map_err(|e| Failure::failed("can't make tokens", e, "install the package softhsm2"))?;
    let passphrase = Zeroizing::new(random_text());
    let secret = Passphrase::new(&passphrase).map_err(cant("make the authority"))?;
    let now_ms = SystemClock.now_ms();
    files::create_dir_private(&layout.pki())?;
    let pki = Pki::init(&layout.pki(), &secret, WorkFactor::Random, now_ms, &OsEntropy)
        .map_err(cant("make the authority"))?;
    files::write_new_private(&layout.passphrase(), passphrase.as_bytes())?;
    let admin: Name = "admin".parse().map_err(cant("name the administrator"))?;
    let client_ca = pki.client_ca(&secret).map_err(cant("open the client CA"))?;
    let issued = client_ca
        .client(Role::Admin, &admin, LEAF_DAYS, now_ms, &OsEntropy)
        .map_err(cant("make the administrator's certificate"))?;
    files::write_new_private(&layout.admin_key(), issued.key_pem.as_bytes())?;
    files::write_new_private(&layout.admin_cert(), issued.chain_pem.as_bytes())?;

    let mut nodes = Vec::new();
    for place in 0..count {
        let (api, peer) = ports.pick(row, place, &OsEntropy)?;
        if row.wanted(place).is_some_and(|wanted| wanted != api) {
            say(&format!("port {} is in use: n{} takes {api}", row.wanted(place).unwrap_or_default(), place + 1));
        }
        let name = format!("n{}", place + 1);
        nodes.push(NodeEntry { name, api: format!("127.0.0.1:{api}"), peer: format!("127.0.0.1:{peer}") });
    }
    let mut requests = Vec::new();
    for node in &nodes {
        make_node(layout, node, &nodes[0], &module, log)?;
        // As an operator does, in a process of its own: a PKCS#11 module serves one token.
        let files = layout.node(&node.name);
        let mut command = this_program()?;
        command.args(["pki", "request", "--output", "json", "--config"]).arg(files.config());
        command.arg("--out").arg(files.request()).kill_on_drop(true);
        requests.push(async move {
            let made = command.output().await.map_err(cant("run `quorate pki request`"))?;
            match made.status.success() {
                true => Ok(()),
                false => {
                    let why = format!("{}; {}", made.status, String::from_utf8_lossy(&made.stderr).trim());
                    Err(Failure::failed("can't make a node's keys", why, ""))
                }
            }
        });
    }
    futures::future::try_join_all(requests).await?;

    let node_ca = pki.node_ca(&secret).map_err(cant("open the node CA"))?;
    let mut fingerprints = Vec::new();
    for node in &nodes {
        let files = layout.node(&node.name);
        let request = NodeRequest::parse(&files::read(&files.request(), "a node's request")?);
        let request = request.map_err(cant("read a node's request"))?;
        let chain = node_ca.node(&request, now_ms, &OsEntropy).map_err(cant("sign a node's request"))?;
        files::replace(&files.cert(), 0o644, chain.as_bytes()).map_err(cant("write a node's certificate"))?;
        fingerprints.push(request.fingerprint());
    }
    Ok((ClusterFile::new(SHARES, THRESHOLD, nodes), fingerprints))
}

/// A node's folder: token, PIN, configuration.
fn make_node(
    layout: &Layout,
    node: &NodeEntry,
    first: &NodeEntry,
    module: &std::path::Path,
    log: config::Log,
) -> CommandResult {
    let files = layout.node(&node.name);
    files::create_dir_private(files.root())?;
    let pin = Zeroizing::new(random_text());
    let label = format!("quorate-{}", node.name);
    let token = SoftToken::create(&files.token(), &label, &pin).map_err(cant("make a token"))?;
    files::write_new_private(&files.pin(), pin.as_bytes())?;
    let endpoint = |address: &str| -> CommandResult<config::Endpoint> {
        Ok(config::Endpoint { listen: address.parse().map_err(cant("use the address"))?, advertise: None })
    };
    let config = config::Config {
        name: node.name.clone(),
        data_dir: files.data(),
        api: endpoint(&node.api)?,
        peer: endpoint(&node.peer)?,
        tls: config::Tls { cert: files.cert(), root_ca: layout.ca() },
        hsm: config::Hsm {
            module: PathBuf::from(module),
            token_label: label,
            pin_file: Some(files.pin()),
            environment: token.environment().into_iter().collect::<BTreeMap<_, _>>(),
        },
        join: (node.name != first.name)
            .then(|| config::Join { addresses: vec![first.peer.clone()], token_file: files.join_token() }),
        profile: config::Profile::Lan,
        log,
        cache: config::Cache::default(),
    };
    let text = toml::to_string(&config).map_err(cant("write a node's configuration"))?;
    files::write_new_private(&files.config(), text.as_bytes())
}

/// From the first process to a cluster of voters, all unsealed.
pub async fn found(cluster: &mut Cluster, fingerprints: &[String]) -> CommandResult {
    let names: Vec<String> = cluster.file.nodes.iter().map(|n| n.name.clone()).collect();
    say("starting the first node");
    cluster.start_next()?;
    cluster.wait("the first node to start", |s| s.state == "uninitialized").await?;

    say(&format!("genesis: {SHARES} shares, any {THRESHOLD} of them open the cluster"));
    let request = InitRequest {
        shares: SHARES as u32,
        threshold: THRESHOLD as u32,
        custodians: (1..=SHARES).map(|n| format!("dev-{n}")).collect(),
        insecure_single_share: false,
    };
    let founded = cluster.node(0)?.init(request).await.doing("found the cluster")?;
    files::create_dir_private(&cluster.layout.shares())?;
    for (i, share) in founded.shares.into_iter().map(Zeroizing::new).enumerate() {
        files::write_new_private(&cluster.layout.share(i + 1), format!("{}\n", share.as_str()).as_bytes())?;
    }
    cluster.wait("the first node to be ready for shares", |s| s.state == "sealed" && s.leader != 0).await?;
    say(&format!("the first ceremony: {THRESHOLD} shares"));
    cluster.ceremony().await?;
    cluster.wait("the first node to be unsealed", |s| s.state == "ok").await?;
    if names.len() == 1 {
        return Ok(());
    }

    say("the other nodes join: invite, compare fingerprints, approve, promote");
    let first = cluster.node(0)?;
    for name in &names[1..] {
        let invited =
            first.invite(InviteRequest { name: name.clone(), valid_minutes: 60 }).await.doing("invite a node")?;
        files::write_new_private(&cluster.layout.node(name).join_token(), format!("{}\n", invited.token).as_bytes())?;
        cluster.start_next()?;
    }
    for (name, fingerprint) in names.iter().zip(fingerprints).skip(1) {
        await_introduction(cluster, name, fingerprint).await?;
        let request = ApproveRequest { name: name.clone(), fingerprint: fingerprint.clone() };
        first.approve(request).await.doing(format_args!("approve {name}"))?;
    }
    cluster.wait("every node to be a member and unsealed", |s| s.state == "ok" && s.nodes.len() == names.len()).await?;
    // An even number of voters tolerates no more than one fewer does; who asks for it gets it.
    let force = names.len().is_multiple_of(2);
    first.promote(PromoteRequest { names: names[1..].to_vec(), force }).await.doing("promote the nodes")?;
    Ok(())
}

/// Waits until the node called `name` has introduced itself, with the fingerprint that its request had.
async fn await_introduction(cluster: &mut Cluster, name: &str, fingerprint: &str) -> CommandResult {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let first = cluster.node(0)?;
    loop {
        let members = first.list_members(ListMembersRequest {}).await.doing("list members")?;
        let waiting = members.pending.iter().find(|p| p.name == name && !p.fingerprint.is_empty());
        if let Some(waiting) = waiting {
            return match waiting.fingerprint == fingerprint {
                true => Ok(()),
                false => {
                    let why = format!("it shows {}, its request has {fingerprint}", waiting.fingerprint);
                    Err(Failure::failed(format!("can't approve {name}"), why, "someone else uses its token"))
                }
            };
        }
        for process in &mut cluster.processes {
            process.check()?;
        }
        if tokio::time::Instant::now() > end {
            let todo = format!("look into {}", cluster.layout.node(name).log().display());
            return Err(Failure::failed(format!("waited in vain for {name} to ask to join"), "it did not", todo));
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// 128 random bits as text: a PIN, a passphrase.
fn random_text() -> String {
    let mut bytes = [0; 16];
    OsEntropy.fill(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn cant<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Failure {
    move |e| Failure::failed(format!("can't {what}"), e, "")
}
