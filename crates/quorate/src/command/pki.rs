//! `quorate pki …`: certificates of nodes and clients, on an operator's machine that is no node.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use quorate_core::id::Name;
use quorate_core::principal::{Principal, Role};
use quorate_core::seam::WallClock;
use quorate_crypto::HsmAlg;
use quorate_hsm::{Hsm, KemChoice};
use serde_json::json;
use zeroize::Zeroizing;

use super::Shared;
use super::failure::{CommandResult, Failure};
use super::files;
use super::output::{self, List, Shown};
use crate::config::Config;
use crate::pki::{
    CLIENT_DAYS_MAX, Issued, LEAF_DAYS, Ledger, NodeRequest, Passphrase, Pki, PkiError, Standing, WorkFactor, standing,
};
use crate::tls::{CertificateFacts, NodeCertificate};
use crate::wiring::{OsEntropy, SystemClock, hsm_config, read_pin};

/// The longest passphrase that is read.
const PASSPHRASE_LEN_MAX: usize = 1024;

/// Certificates of nodes and clients: an offline authority.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate pki init --dir pki                                  an authority, once per cluster, not on a node
  quorate pki client --dir pki --role admin --name alice      a client's certificate and key
  quorate pki request --config n1.toml --out n1.request       on the node: keys in its token, and a request
  quorate pki sign --dir pki --request n1.request             back on the authority: the node's certificate")]
pub struct PkiCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Make the cluster's id, an offline root, a node CA and a client CA
    #[command(after_help = "Examples:
  quorate pki init --dir pki
  quorate pki init --dir pki --passphrase-file /run/user/1000/passphrase

The private keys are written under the passphrase only. Back the folder up; never put it on a node.")]
    Init {
        #[command(flatten)]
        authority: AuthorityArgs,
    },
    /// Issue a certificate and key for a client
    #[command(after_help = "Examples:
  quorate pki client --dir pki --role admin --name alice
  quorate pki client --dir pki --role user --name billing --days 30 --out billing
  quorate pki client --dir pki --role admin --name alice --renew  a new key and certificate over the old files

Roles: admin = everything; user = use keys, read secrets, describe and list both; custodian = status and shares; auditor = status, evidence, and who was shut out.")]
    Client {
        #[command(flatten)]
        authority: AuthorityArgs,
        /// What the client may do
        #[arg(long, value_enum)]
        role: ClientRole,
        /// Who it is
        #[arg(long, value_parser = parse_name)]
        name: Name,
        #[arg(long, help = format!("Days the certificate is valid [default: {LEAF_DAYS}; with --renew as many as before]"), value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENT_DAYS_MAX)))]
        days: Option<u32>,
        /// Folder for NAME.pem and NAME.key [default: the authority's folder]
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// Replace NAME.pem and NAME.key, if they are of this very client
        #[arg(long)]
        renew: bool,
    },
    /// List what was issued, the newest first; no passphrase is needed
    #[command(after_help = "Examples:
  quorate pki list --dir pki
  quorate pki list --dir pki --ends-within 30
  quorate pki list --dir pki --output json

superseded: valid, and nodes take it, but its principal has a newer one. Which were revoked, the cluster knows.")]
    List {
        /// The authority's folder
        #[arg(long, value_name = "FOLDER")]
        dir: PathBuf,
        /// Only those in force that end within so many days
        #[arg(long, value_name = "DAYS")]
        ends_within: Option<u32>,
    },
    /// On a node: make its keys in its HSM and a request for its certificate
    #[command(after_help = "Examples:
  quorate pki request --config n1.toml
  quorate pki request --config n1.toml --out requests/n1.request

Running it again makes no new keys. Compare the fingerprint with the one that `quorate pki sign` shows.")]
    Request {
        /// The node's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where the request is written [default: NAME.request]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// How envelopes are sealed to the HSM [default: the best that the token can do]
        #[arg(long, value_enum, value_name = "ALGORITHM")]
        kem: Option<KemAlgorithm>,
    },
    /// Turn a node's request into its certificate
    #[command(after_help = "Examples:
  quorate pki sign --dir pki --request n1.request
  quorate pki sign --dir pki --request n1.request --fingerprint 3F2A-… --out n1.pem

Give the node the certificate (tls.cert) and the authority's ca.pem (tls.root_ca). To renew, sign the request again.")]
    Sign {
        #[command(flatten)]
        authority: AuthorityArgs,
        /// The request
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// The fingerprint that the node showed: refuse any other
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: Option<String>,
        /// Where the certificate is written, over an older one [default: NAME.pem beside the request]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
struct AuthorityArgs {
    /// The authority's folder
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// File with the passphrase [default: asked for]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Roles of clients.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum ClientRole {
    Admin,
    User,
    Custodian,
    Auditor,
}

impl From<ClientRole> for Role {
    fn from(role: ClientRole) -> Self {
        match role {
            ClientRole::Admin => Self::Admin,
            ClientRole::User => Self::User,
            ClientRole::Custodian => Self::Custodian,
            ClientRole::Auditor => Self::Auditor,
        }
    }
}

/// Algorithms of the kem key that an operator may ask for.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum KemAlgorithm {
    /// RSA-OAEP with SHA-256
    #[value(name = "rsa3072-oaep-sha256")]
    Rsa3072OaepSha256,
    /// ECDH on P-256
    #[value(name = "p256-ecdh")]
    P256Ecdh,
}

fn parse_name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|e: quorate_core::id::InvalidId| e.to_string())
}

fn failed(what: &'static str) -> impl Fn(PkiError) -> Failure {
    move |e| Failure::failed(what, e, "")
}

impl PkiCommand {
    /// What must happen while the process has one thread: a PKCS#11 module finds its token by environment variables.
    ///
    /// # Errors
    /// The configuration is not valid, or holds a variable that can't be set.
    pub fn prepare(&self) -> CommandResult {
        let Action::Request { config, .. } = &self.action else { return Ok(()) };
        let config = load(config)?;
        quorate_hsm::set_environment(&config.hsm.environment)
            .map_err(|e| Failure::failed("can't prepare for the HSM", e, ""))
    }

    /// Does it. Needs no runtime; call [`PkiCommand::prepare`] first, before the process has threads.
    ///
    /// # Errors
    /// Says what was refused or failed.
    pub fn run(&self, shared: &Shared) -> CommandResult {
        let now_ms = SystemClock.now_ms();
        match &self.action {
            Action::Init { authority } => {
                let what = "can't make the certificate authority";
                // Before a passphrase is asked for.
                if Pki::open(&authority.dir).is_ok() {
                    return Err(failed(what)(PkiError::Exists(authority.dir.clone())));
                }
                let passphrase = authority.new_passphrase()?;
                let working =
                    output::working("making three keys; to put each under the passphrase takes a while, on purpose");
                let pki = Pki::init(&authority.dir, &passphrase, WorkFactor::Human, now_ms, &OsEntropy)
                    .map_err(failed(what))?;
                working.finish_and_clear();
                let (cluster, ca) = (pki.cluster().to_string(), shown(&pki.root_file()));
                let json = json!({ "cluster": cluster, "ca": ca });
                shared.format().print(&json, || output::fields([("cluster", &cluster), ("root certificate", &ca)]))
            }
            Action::List { dir, ends_within } => list(shared, dir, *ends_within, now_ms),
            Action::Client { authority, role, name, days, out, renew } => {
                let mut days = *days;
                let what = "can't issue the client's certificate";
                let pki = Pki::open(&authority.dir).map_err(failed(what))?;
                let folder = out.clone().unwrap_or_else(|| pki.dir().to_owned());
                let stem = name.as_str().replace('/', "_");
                let (cert, key) = (folder.join(format!("{stem}.pem")), folder.join(format!("{stem}.key")));
                let there = [&cert, &key].into_iter().find(|path| files::exists(path));
                if let Some(path) = there {
                    let why = format!("{} is there already", path.display());
                    if !renew {
                        let todo = "renew it with --renew, name another folder with --out, or move the old file away";
                        return Err(Failure::failed(what, why, todo));
                    }
                    let uri = Principal::certificate((*role).into(), name.clone()).uri(pki.cluster());
                    let old = older(&cert, &key, &uri).map_err(|not| {
                        Failure::failed(what, format!("{why}, and {not}"), "name another folder with --out")
                    })?;
                    days = days.or(Some(old));
                }
                let days = days.unwrap_or(LEAF_DAYS);
                let ca = pki.client_ca(&authority.passphrase()?).map_err(failed(what))?;
                let issued = ca.client((*role).into(), name, days, now_ms, &OsEntropy).map_err(failed(what))?;
                files::create_dir_private(&folder)?;
                let pair = [(&*key, issued.key_pem.as_bytes()), (&*cert, issued.chain_pem.as_bytes())];
                match there {
                    Some(_) => files::replace_pair(pair)?,
                    None => files::write_new_pair(pair)?,
                }
                let (principal, cert, key) = (format!("{}/{name}", Role::from(*role)), shown(&cert), shown(&key));
                let json = json!({ "principal": principal, "cert": cert, "key": key, "days": days });
                shared.format().print(&json, || {
                    output::fields([("principal", &principal), ("certificate", &cert), ("private key", &key)])
                })
            }
            Action::Request { config, out, kem } => request(shared, &load(config)?, out.as_deref(), *kem),
            Action::Sign { authority, request, fingerprint, out } => {
                let what = "can't sign the request";
                let pki = Pki::open(&authority.dir).map_err(failed(what))?;
                let request_file = request;
                let request = NodeRequest::parse(&files::read(request, "the request")?).map_err(failed(what))?;
                if let Some(expected) = fingerprint {
                    request.expect_fingerprint(expected).map_err(failed(what))?;
                }
                let ca = pki.node_ca(&authority.passphrase()?).map_err(failed(what))?;
                let chain = ca.node(&request, now_ms, &OsEntropy).map_err(failed(what))?;
                let path =
                    out.clone().unwrap_or_else(|| request_file.with_file_name(format!("{}.pem", request.name())));
                // Renewal replaces this node's certificate, never anything else (a client may have the same name).
                if files::exists(&path) {
                    let old = files::read(&path, "the older certificate")?;
                    if NodeCertificate::from_pem(&old, request.name()).is_err() {
                        let why = format!("{} is there already, and is no certificate of this node", path.display());
                        return Err(Failure::failed(what, why, "name another file with --out"));
                    }
                }
                files::replace(&path, 0o644, chain.as_bytes())
                    .map_err(|e| Failure::failed(what, format!("{}: {e}", path.display()), ""))?;
                let (name, fingerprint, cert) = (request.name().to_string(), request.fingerprint(), shown(&path));
                let json = json!({ "name": name, "fingerprint": fingerprint, "cert": cert, "days": LEAF_DAYS });
                shared.format().print(&json, || {
                    output::fields([("node", &name), ("fingerprint", &fingerprint), ("certificate", &cert)])
                })
            }
        }
    }
}

fn list(shared: &Shared, dir: &Path, ends_within: Option<u32>, now_ms: u64) -> CommandResult {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let what = "can't list the certificates";
    let Ledger { issued: all, unreadable } = Pki::open(dir).and_then(|pki| pki.issued()).map_err(failed(what))?;
    if !unreadable.is_empty() && !shared.format().for_programs() {
        let lines: Vec<String> = unreadable.iter().map(usize::to_string).collect();
        eprintln!(
            "warning: line {} of {} can't be read: a command was cut off there",
            lines.join(", "),
            dir.join("issued.jsonl").display()
        );
    }
    let newest_first = all.iter().enumerate().rev().map(|(place, one)| (one, standing(&all, place, now_ms)));
    let rows: Vec<_> = match ends_within {
        None => newest_first.collect(),
        Some(days) => {
            let end_ms = now_ms.saturating_add(u64::from(days) * DAY_MS);
            newest_first.filter(|(one, standing)| *standing == Standing::InForce && one.ends_ms <= end_ms).collect()
        }
    };
    let columns = [
        ("PRINCIPAL", 16, Shown::Always),
        ("STATE", 10, Shown::Always),
        ("ENDS", 20, Shown::Always),
        ("DAYS LEFT", 9, Shown::Always),
        ("ISSUED", 20, Shown::Wide),
        ("SERIAL", 32, Shown::Wide),
        ("CREDENTIAL", 64, Shown::Wide),
    ];
    let left = |one: &Issued| one.ends_ms.saturating_sub(now_ms) / DAY_MS;
    let mut list = List::begin(shared.format(), "certificates", columns);
    list.add(
        &rows,
        |(one, standing)| {
            json!({
                "principal": one.principal,
                "state": standing.as_str(),
                "issued_at": output::moment(one.issued_ms),
                "ends_at": output::moment(one.ends_ms),
                "days_left": left(one),
                "serial": one.serial,
                "sha256": one.sha256,
                "credential": output::text(&one.credential),
            })
        },
        |(one, standing)| {
            [
                one.principal.clone(),
                standing.as_str().to_owned(),
                output::date(one.ends_ms),
                left(one).to_string(),
                output::date(one.issued_ms),
                one.serial.clone(),
                one.credential.clone(),
            ]
        },
    )?;
    list.end()
}

/// How many days the certificate of that URI was made for whose key stands beside it; else what stands there instead.
fn older(cert: &Path, key: &Path, uri: &str) -> Result<u32, String> {
    let not = || format!("{} is no certificate of {uri}", cert.display());
    let pem = files::read(cert, "the older certificate").map_err(|_| not())?;
    let certificate = CertificateFacts::of_pem(&pem).map_err(|_| not())?;
    if !certificate.uris.iter().any(|found| found == uri) {
        return Err(not());
    }
    let not = || format!("{} is not the key of {}", key.display(), cert.display());
    let pem = Zeroizing::new(files::read(key, "the older key").map_err(|_| not())?);
    let text = std::str::from_utf8(&pem).map_err(|_| not())?;
    let pair = rcgen::KeyPair::from_pem(text).map_err(|_| not())?;
    if rcgen::PublicKeyData::subject_public_key_info(&pair) != certificate.spki {
        return Err(not());
    }
    Ok(u32::try_from(certificate.days()).unwrap_or(LEAF_DAYS).clamp(1, CLIENT_DAYS_MAX))
}

fn request(shared: &Shared, config: &Config, out: Option<&Path>, kem: Option<KemAlgorithm>) -> CommandResult {
    let what = "can't make the node's request";
    let token = |e: quorate_hsm::HsmError| failed(what)(e.into());
    let name: Name = parse_name(&config.name).map_err(|e| Failure::failed(what, e, ""))?;
    let pin = read_pin(config.hsm.pin_file.as_deref(), &config.hsm.token_label)?;
    let hsm = Hsm::open(&hsm_config(&config.hsm), pin).map_err(token)?;
    let choice = match kem {
        None => KemChoice::Probe,
        Some(KemAlgorithm::Rsa3072OaepSha256) => KemChoice::Only(HsmAlg::Rsa3072OaepSha256),
        Some(KemAlgorithm::P256Ecdh) => KemChoice::Only(HsmAlg::P256Ecdh),
    };
    hsm.generate_node_keys(&name, choice).map_err(token)?;
    let addresses = [config.api.advertised(), config.peer.advertised()];
    let request = NodeRequest::make(&hsm, &name, &addresses).map_err(failed(what))?;
    let path = out.map_or_else(|| PathBuf::from(format!("{name}.request")), Path::to_owned);
    let text = request.to_text().map_err(failed(what))?;
    files::replace(&path, 0o644, text.as_bytes())
        .map_err(|e| Failure::failed(what, format!("{}: {e}", path.display()), ""))?;
    let (fingerprint, kem, assurance) = (request.fingerprint(), request.kem_alg(), hsm.assurance().as_str());
    let (name, path) = (name.as_str(), shown(&path));
    let json = json!({
        "name": name, "fingerprint": fingerprint, "request": path, "kem": kem, "assurance": assurance,
    });
    shared.format().print(&json, || {
        output::fields([
            ("node", name),
            ("fingerprint", &fingerprint),
            ("request", &path),
            ("kem algorithm", kem),
            ("assurance", assurance),
        ])
    })
}

fn load(path: &Path) -> CommandResult<Config> {
    Config::load(path).map_err(|e| Failure::failed("can't use the node's configuration", e, ""))
}

fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

impl AuthorityArgs {
    fn passphrase(&self) -> CommandResult<Passphrase> {
        let text = match &self.passphrase_file {
            Some(path) => from_file(path)?,
            None => files::read_secret("Passphrase of the authority: ", PASSPHRASE_LEN_MAX)?,
        };
        Passphrase::new(&text).map_err(failed("can't use the passphrase"))
    }

    /// A new passphrase is asked for twice: one with a typing error would be lost with the root.
    fn new_passphrase(&self) -> CommandResult<Passphrase> {
        if self.passphrase_file.is_some() || !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            return self.passphrase();
        }
        let first = files::read_secret("New passphrase for the authority: ", PASSPHRASE_LEN_MAX)?;
        // Before it is typed once more.
        let passphrase = Passphrase::new(&first).map_err(failed("can't use the passphrase"))?;
        let second = files::read_secret("Once more: ", PASSPHRASE_LEN_MAX)?;
        if *first != *second {
            return Err(Failure::failed("can't use the passphrase", "the two entries differ", "start again"));
        }
        Ok(passphrase)
    }
}

/// The first line of a file.
fn from_file(path: &Path) -> CommandResult<Zeroizing<String>> {
    let bytes = files::read_input(Some(path), PASSPHRASE_LEN_MAX, "give a file with one line")?;
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let text = String::from_utf8(line.to_vec());
    text.map(Zeroizing::new).map_err(|_| Failure::failed("can't use the passphrase file", "it is not text", ""))
}
