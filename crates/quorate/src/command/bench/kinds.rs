//! `quorate bench kinds`: what each kind of key costs, beside the same work done on one core by itself, and beside an echo.

use std::time::Duration;

use clap::Args;
use quorate_client::v1::{
    CreateKeyRequest, DecryptRequest, EncryptRequest, GenerateDataKeyRequest, MacRequest, SignRequest, VerifyRequest,
    sign_request, verify_request,
};
use quorate_client::{Client, ClientConfig};
use quorate_core::id::{KeyId, KeyVersion, Lineage};
use quorate_core::key_spec::{Algorithm, KeySpec, Usage};
use quorate_core::request::DATA_KEY_LEN_DEFAULT;
use quorate_core::seam::Entropy;
use quorate_crypto::material::symmetric::{BlobKind, ContextHash, KeyRef, decrypt, encrypt};
use quorate_crypto::material::{Material, SignInput};
use serde_json::json;
use tokio::time::Instant;

use super::failover::await_level;
use super::load::{Load, Request, What};
use super::{marked, on_own_cluster, say};
use crate::command::dev::Cluster;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::{Shared, output};
use crate::wiring::OsEntropy;

/// Clients that keep a node busy.
const MANY: u16 = 64;
/// Bytes that are signed, or authenticated.
const SIZE: usize = 1024;
/// How long one core works by itself.
const ALONE: Duration = Duration::from_millis(700);

/// Measure every kind of key in one run and print one table.
///
/// 64 clients use a key at the leader; beside it, how often one core does the same work by itself, and what an authenticated no-op
/// costs on the same stack. Then 64 clients encrypt while as many sign with RSA-4096: what is slow must not be in their way.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate bench kinds
  quorate bench kinds --seconds 10 --output json")]
pub struct Kinds {
    /// For how long each load runs
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
}

/// What is done with a kind of key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    Encrypt,
    Decrypt,
    DataKey,
    Gcm,
    Sign,
    Verify,
    Mac,
    Create,
}

const ROWS: [(Work, KeySpec); 24] = [
    (Work::Encrypt, KeySpec::Aes256),
    (Work::Decrypt, KeySpec::Aes256),
    (Work::DataKey, KeySpec::Aes256),
    (Work::Gcm, KeySpec::Aes256),
    (Work::Sign, KeySpec::Rsa2048),
    (Work::Sign, KeySpec::Rsa3072),
    (Work::Sign, KeySpec::P256),
    (Work::Sign, KeySpec::P384),
    (Work::Sign, KeySpec::Ed25519),
    (Work::Sign, KeySpec::MlDsa65),
    (Work::Verify, KeySpec::Rsa2048),
    (Work::Verify, KeySpec::P256),
    (Work::Verify, KeySpec::Ed25519),
    (Work::Verify, KeySpec::MlDsa65),
    (Work::Mac, KeySpec::HmacSha256),
    (Work::Mac, KeySpec::Aes256),
    (Work::Create, KeySpec::Aes256),
    (Work::Create, KeySpec::HmacSha256),
    (Work::Create, KeySpec::Rsa2048),
    (Work::Create, KeySpec::P256),
    (Work::Create, KeySpec::Ed25519),
    (Work::Create, KeySpec::X25519),
    (Work::Create, KeySpec::MlDsa65),
    (Work::Create, KeySpec::MlKem768),
];

/// One line of the table.
struct Row {
    name: String,
    rate: f64,
    p50_us: u64,
    p99_us: u64,
    errors: u64,
    /// How often one core does it by itself, in a second.
    alone: f64,
}

impl Kinds {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let (rows, echo, encrypting) =
            on_own_cluster(None, async |running| self.measure(&mut running.cluster).await).await?;
        let ratio = |a: f64, b: f64| (a / b * 100.0).round() / 100.0;
        let json = json!({
            "echo": echo,
            "rows": rows.iter().map(|row| json!({
                "load": row.name, "rate": row.rate, "p50_us": row.p50_us, "p99_us": row.p99_us, "errors": row.errors,
                "alone": row.alone.round(), "beside_alone": ratio(row.rate, row.alone), "beside_echo": ratio(row.rate, echo),
            })).collect::<Vec<_>>(),
            "encrypt_beside_rsa": { "alone": encrypting.0, "with": encrypting.1, "ratio": ratio(encrypting.1, encrypting.0) },
        });
        shared.format().print(&json, || {
            let header = ["load", "rate/s", "p50 µs", "p99 µs", "errors", "one core/s", "÷ one core", "÷ echo"];
            let mut table = output::columns(
                header,
                rows.iter().map(|row| {
                    [
                        row.name.clone(),
                        row.rate.to_string(),
                        row.p50_us.to_string(),
                        row.p99_us.to_string(),
                        row.errors.to_string(),
                        row.alone.round().to_string(),
                        ratio(row.rate, row.alone).to_string(),
                        ratio(row.rate, echo).to_string(),
                    ]
                }),
            );
            let beside = format!("{} with, ratio {}", encrypting.1, ratio(encrypting.1, encrypting.0));
            table.add_row(["encrypt beside rsa-4096", &encrypting.0.to_string(), "", "", "", &beside]);
            table.add_row(["echo", &echo.to_string()]);
            table
        })
    }

    async fn measure(&self, cluster: &mut Cluster) -> CommandResult<(Vec<Row>, f64, (f64, f64))> {
        let client = cluster.client.with_deadline(ClientConfig::DEADLINE_DEFAULT);
        let (leader, _) = await_level(cluster).await?;
        let node = Some(u16::try_from(leader + 1).unwrap_or(u16::MAX));
        let load = Load { clients: MANY, size: SIZE as u32, seconds: self.seconds, node, connections: None };
        say("echo");
        let echo = load.measure(What::Echo, &client).await?.rate();
        let mut rows = Vec::new();
        for (work, spec) in ROWS {
            let name = format!("{} {}", word(work), spec.as_str());
            say(&name);
            let request = request(work, spec, &client).await?;
            let seen = load.repeat(&client, request).await?;
            if let Some(e) = &seen.first_error {
                say(&format!("{name}: {e}"));
            }
            let at = |q| seen.times_us.value_at_quantile(q);
            let alone = tokio::task::block_in_place(|| alone(work, spec));
            let (p50_us, p99_us) = (at(0.5), at(0.99));
            rows.push(Row { name, rate: seen.rate(), p50_us, p99_us, errors: seen.errors, alone });
        }
        say("encrypt beside rsa-4096");
        let undisturbed = load.measure(What::Encrypt, &client).await?.rate();
        let signing = load.begin(&client, request(Work::Sign, KeySpec::Rsa4096, &client).await?)?;
        let disturbed = load.measure(What::Encrypt, &client).await?.rate();
        signing.finish().await?;
        Ok((rows, echo, (undisturbed, disturbed)))
    }
}

/// What it is called.
fn word(work: Work) -> &'static str {
    match work {
        Work::Encrypt => "encrypt",
        Work::Decrypt => "decrypt",
        Work::DataKey => "data key",
        Work::Gcm => "gcm",
        Work::Sign => "sign",
        Work::Verify => "verify",
        Work::Mac => "mac",
        Work::Create => "create",
    }
}

/// A usage of that work.
fn usage(work: Work) -> Usage {
    match work {
        Work::Encrypt | Work::DataKey | Work::Gcm => Usage::Encrypt,
        Work::Decrypt => Usage::Decrypt,
        Work::Sign | Work::Create => Usage::Sign,
        Work::Verify => Usage::Verify,
        Work::Mac => Usage::Mac,
    }
}

/// Makes what the requests need.
async fn request(work: Work, spec: KeySpec, client: &Client) -> CommandResult<Request> {
    let (spec, message) = (spec.as_str().to_owned(), bytes::Bytes::from_static(&[0x5a; SIZE]));
    let usage = if work == Work::Create { String::new() } else { usage(work).purpose().as_str().to_owned() };
    let algorithm = if work == Work::Gcm { Algorithm::AesGcm.as_str().to_owned() } else { String::new() };
    let create = CreateKeyRequest { spec, usage, algorithm, tags: marked(), ..Default::default() };
    let made = client.create_key(create.clone()).await.doing("create the bench's key")?;
    let key = made.key.ok_or_else(|| Failure::failed("can't measure", "the answer holds no key", ""))?.key_id;
    let sign = SignRequest {
        key: key.clone(),
        input: Some(sign_request::Input::Message(message.clone())),
        ..Default::default()
    };
    let encrypt = EncryptRequest { key: key.clone(), plaintext: message.clone(), ..Default::default() };
    Ok(match work {
        Work::Create => Request::CreateKey(create),
        Work::Encrypt | Work::Gcm => Request::Encrypt(encrypt),
        Work::Decrypt => {
            let ciphertext = client.encrypt(encrypt).await.doing("encrypt")?.ciphertext;
            Request::Decrypt(DecryptRequest { ciphertext, ..Default::default() })
        }
        Work::DataKey => Request::DataKey(GenerateDataKeyRequest { key, ..Default::default() }),
        Work::Sign => Request::Sign(sign),
        Work::Mac => Request::Mac(MacRequest { key, message, ..Default::default() }),
        Work::Verify => {
            let signature = client.sign(sign).await.doing("sign")?.signature;
            let input = Some(verify_request::Input::Message(message));
            Request::Verify(VerifyRequest { key, input, signature, ..Default::default() })
        }
    })
}

/// How often in a second one core does the same by itself: no protocol, no round, no look-up.
fn alone(work: Work, spec: KeySpec) -> f64 {
    let fresh = || Material::fresh(spec, &OsEntropy);
    let material = Material::read(spec, &fresh().material).expect("it was made here");
    let message = [0x5a; SIZE];
    let by = spec.algorithms(usage(work)).first().copied();
    let sign = || material.sign(by.expect("it signs"), SignInput::Message(&message), &[]);
    let signature = if matches!(work, Work::Sign | Work::Verify) { sign().expect("it signs") } else { Vec::new() };
    let key = KeyRef { lineage: Lineage([1; 16]), key_id: KeyId([2; 16]), version: KeyVersion::FIRST };
    let context = ContextHash::of(&Default::default());
    let blob = |kind, plaintext: &[u8]| {
        let material = material.symmetric().expect("blobs are made by AES-256");
        encrypt(material, key, kind, &context, plaintext, &OsEntropy)
    };
    let opened = if work == Work::Decrypt { blob(BlobKind::Direct, &message) } else { Vec::new() };
    let (start, mut count) = (Instant::now(), 0u32);
    while start.elapsed() < ALONE {
        match work {
            Work::Create => drop(fresh()),
            Work::Encrypt => drop(blob(BlobKind::Direct, &message)),
            Work::Decrypt => drop(decrypt(material.symmetric().expect("AES-256"), &context, &opened)),
            Work::DataKey => {
                let mut fresh = [0; DATA_KEY_LEN_DEFAULT];
                OsEntropy.fill(&mut fresh);
                drop(blob(BlobKind::DataKey, &fresh));
            }
            Work::Gcm => drop(material.encrypt(Algorithm::AesGcm, &message, None, &[], &OsEntropy)),
            Work::Sign => drop(sign()),
            Work::Mac => drop(material.mac(by.expect("it makes codes"), &message)),
            Work::Verify => {
                let public = material.public().expect("a pair");
                let _ = public.verify(by.expect("it verifies"), SignInput::Message(&message), &signature, &[]);
            }
        }
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}
