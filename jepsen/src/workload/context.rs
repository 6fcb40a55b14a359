//! What all clients of a run share: a client of each node, the history, the ciphertexts that must open in the end.

mod send;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quorate_client::{Client, reason};
use tokio::sync::watch;

use super::material::{Learned, Wrapping};
use crate::cluster::{Clients, Operator};
use crate::history::{Answer, Call, Outcome, Recorder};
use crate::outcome;

/// A good share of a cluster that a run had made for itself and thrown away: it opens nothing any more.
const FOREIGN_SHARE: &str = "qs1qyc5x7thgxa4uqxdj342kqcppdx2wzlwza9fuhjcq5exqulqrarlaqq2j6aqw2xsgw07p5x80l6q6e5t4j";
/// A use or a change is given up after this time: short, so that a cut node does not hold the clients.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(2);
/// Making an RSA key takes its time on a busy machine.
const PARAMETERS_TIME_MAX: Duration = Duration::from_secs(10);
/// A removal rotates the root key and changes the membership twice.
const REMOVAL_TIME_MAX: Duration = Duration::from_secs(15);

/// Length of an Ed25519 signature.
const PROOF_LEN: usize = 64;

/// A ciphertext and what it should open to.
#[derive(Clone)]
pub struct Text {
    /// Its number.
    pub number: u64,
    /// Its key's id.
    pub key: String,
    /// The version that made it.
    pub version: u32,
    ciphertext: Bytes,
    /// None = it is a data key that nobody was told yet.
    plaintext: Option<Bytes>,
}

/// Shared by all clients.
pub struct Context {
    /// The history.
    pub recorder: Recorder,
    /// The run's seed.
    pub seed: u64,
    operator: Operator,
    nodes: Mutex<BTreeMap<u32, Place>>,
    /// Turns true when the clients are to stop.
    stop: watch::Receiver<bool>,
    process: AtomicU64,
    number: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Each with what created it.
    keys: BTreeMap<String, Call>,
    texts: BTreeMap<u64, Text>,
    tokens: BTreeMap<u64, [u8; 16]>,
    aliases: BTreeSet<u64>,
    names: BTreeSet<u64>,
    secrets: BTreeSet<u64>,
    /// Backups, by key and the version that was current then: the first of each.
    backups: BTreeMap<(String, u32), Bytes>,
    /// The material that a key had, or may have had, and would take again.
    materials: BTreeMap<String, u64>,
    /// What wraps the material of a key.
    wrappings: BTreeMap<String, Wrapping>,
    learned: Learned,
    /// Keys that were, or may have been, purged.
    purged: BTreeSet<String>,
    /// Keys whose deletion was, or may have been, scheduled for soon, and that were not spared for certain.
    doomed: BTreeSet<String>,
}

/// A node as clients know it.
struct Place {
    clients: Clients,
    member: bool,
}

/// A logical process: at most one call at a time; one whose call ended in doubt is retired.
pub struct Process(u64);

impl Context {
    /// Clients talk to no node yet.
    pub fn new(recorder: Recorder, seed: u64, operator: Operator, stop: watch::Receiver<bool>) -> Self {
        let (nodes, kept) = (Mutex::default(), Mutex::default());
        Self { recorder, seed, operator, nodes, stop, process: AtomicU64::new(0), number: AtomicU64::new(1), kept }
    }

    /// A node is a member from now on, and clients talk to it.
    pub fn joined(&self, node: u32, clients: Clients) {
        self.places().insert(node, Place { clients, member: true });
    }

    /// A node is no member any longer. Clients may still talk to it, in vain.
    pub fn left(&self, node: u32) {
        if let Some(place) = self.places().get_mut(&node) {
            place.member = false;
        }
    }

    /// Clients talk to a node no more.
    pub fn forget(&self, node: u32) {
        self.places().remove(&node);
    }

    /// The members, in order.
    pub fn members(&self) -> Vec<u32> {
        self.places().iter().filter(|(_, place)| place.member).map(|(node, _)| *node).collect()
    }

    /// Those that were removed lately.
    pub fn removed(&self) -> Vec<u32> {
        self.places().iter().filter(|(_, place)| !place.member).map(|(node, _)| *node).collect()
    }

    /// All nodes that clients talk to: the members, and those that were removed lately.
    pub fn nodes(&self) -> Vec<u32> {
        self.places().keys().copied().collect()
    }

    /// A client of one node, for an administrator.
    pub fn client(&self, node: u32) -> Option<Client> {
        self.places().get(&node).map(|place| place.clients.admin.clone())
    }

    /// The client of one node that makes such calls: uses are an application's, which may less.
    fn client_for(&self, node: u32, call: &Call) -> Option<Client> {
        let places = self.places();
        let clients = &places.get(&node)?.clients;
        let by_user = call.is_use() && *call != Call::Export;
        Some(if by_user { &clients.user } else { &clients.admin }.clone())
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u32, Place>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new logical process.
    pub fn process(&self) -> Process {
        Process(self.process.fetch_add(1, Ordering::Relaxed))
    }

    /// A number that was not given before: of a token, of a text.
    pub fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the clients are to stop.
    pub fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits; true when the clients are to stop.
    pub async fn nap(&self, time: Duration) -> bool {
        let mut stop = self.stop.clone();
        let _ = tokio::time::timeout(time, stop.wait_for(|stop| *stop)).await;
        self.stopped()
    }

    /// Keys whose creation was acknowledged.
    pub fn keys(&self) -> Vec<String> {
        self.kept().keys.keys().cloned().collect()
    }

    /// Whether a key may be gone in the end; such a one is looked for, and left alone.
    pub fn is_doomed(&self, key: &str) -> bool {
        self.kept().doomed.contains(key)
    }

    /// What created a key that was purged, or may have been.
    pub fn purged(&self, key: &str) -> Option<Call> {
        let kept = self.kept();
        kept.purged.contains(key).then(|| kept.keys.get(key).cloned()).flatten()
    }

    /// Whether material can be imported into a key: what wraps it is known.
    pub fn can_import(&self, key: &str) -> bool {
        self.kept().wrappings.contains_key(key)
    }

    /// The material that a key had, and would take again.
    pub fn material(&self, key: &str) -> Option<u64> {
        self.kept().materials.get(key).copied()
    }

    /// Secrets that quorate made and gave out, and what to call them: they must not be found anywhere.
    pub fn learned(&self) -> Vec<(&'static str, Bytes)> {
        self.kept().learned.secrets()
    }

    /// Aliases that were asked for.
    pub fn aliases(&self) -> Vec<u64> {
        self.kept().aliases.iter().copied().collect()
    }

    /// Names for life that were asked for.
    pub fn names(&self) -> Vec<u64> {
        self.kept().names.iter().copied().collect()
    }

    /// Secrets that were asked for.
    pub fn secrets(&self) -> Vec<u64> {
        self.kept().secrets.iter().copied().collect()
    }

    /// The versions of which there are backups of a key.
    pub fn backups(&self, key: &str) -> Vec<u32> {
        self.kept().backups.keys().filter(|(of, _)| of == key).map(|(_, version)| *version).collect()
    }

    /// What was encrypted, with its acknowledged ciphertext.
    pub fn texts(&self) -> Vec<Text> {
        self.kept().texts.values().cloned().collect()
    }

    /// A text begins so, in every run of this seed: what is searched for in the nodes' files.
    pub fn plaintext_canary(seed: u64) -> String {
        format!("jepsen-plaintext-{seed:016x}-")
    }

    /// A key's description begins so.
    pub fn name_canary(seed: u64) -> String {
        format!("jepsen-description-{seed:016x}-")
    }

    /// An alias begins so.
    pub fn alias_canary(seed: u64) -> String {
        format!("jepsen-alias-{seed:016x}-")
    }

    /// A secret's value begins so.
    pub fn secret_canary(seed: u64) -> String {
        format!("jepsen-secret-{seed:016x}-")
    }

    /// What a secret is called begins so, and the name that a key has for life.
    pub fn object_name_canary(seed: u64) -> String {
        format!("jepsen-name-{seed:016x}-")
    }

    fn object_name(&self, number: u64) -> String {
        format!("{}{number}", Self::object_name_canary(self.seed))
    }

    fn secret_value(&self, number: u64) -> Bytes {
        format!("{}{number}", Self::secret_canary(self.seed)).into()
    }

    /// The number of a secret's value; 0 = nobody gave it one of these.
    fn value_number(&self, value: &[u8]) -> u64 {
        let number = value.strip_prefix(Self::secret_canary(self.seed).as_bytes());
        number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok()).unwrap_or(0)
    }

    fn alias(&self, number: u64) -> String {
        format!("{}{number}", Self::alias_canary(self.seed))
    }

    fn plaintext(&self, text: u64) -> Bytes {
        format!("{}{text}", Self::plaintext_canary(self.seed)).into()
    }

    /// One call at one node, recorded; returns how it ended, and the key's id if the call made one.
    pub async fn call(
        &self,
        process: &mut Process,
        node: u32,
        key: Option<&str>,
        call: Call,
    ) -> (Outcome, Option<String>) {
        self.perform(process, node, key, call, false).await
    }

    /// The same among the last reads.
    pub async fn last_call(&self, process: &mut Process, node: u32, key: Option<&str>, call: Call) -> Outcome {
        self.perform(process, node, key, call, true).await.0
    }

    async fn perform(
        &self,
        process: &mut Process,
        node: u32,
        key: Option<&str>,
        call: Call,
        last: bool,
    ) -> (Outcome, Option<String>) {
        // Nobody has talked to a node that is gone: nothing is recorded.
        let Some(client) = self.client_for(node, &call) else {
            return (Outcome::Fail(reason::UNREACHABLE.into()), None);
        };
        let ticket = self.recorder.invoke(process.0, node, key, last, call.clone());
        {
            let mut kept = self.kept();
            kept.aliases.extend(call.alias());
            kept.names.extend(call.key_name());
            kept.secrets.extend(call.secret());
        }
        let (outcome, id) = match call {
            // As custodians do, by the command, which makes the proof.
            Call::EnterShare { share, flaw: None } => {
                let text = self.operator.share(share as usize).unwrap_or_default();
                (outcome::of_share(self.operator.enter(node, &text).await), None)
            }
            _ => match self.send(&client, key.unwrap_or_default(), &call).await {
                Ok((answer, id)) => (Outcome::Ok(answer), id),
                Err(e) => (outcome::of_error(&call, &e), None),
            },
        };
        self.recorder.end(ticket, id.as_deref(), outcome.clone());
        match (&outcome, &call, key.or(id.as_deref())) {
            (Outcome::Ok(_), Call::Create { .. }, Some(id)) => _ = self.kept().keys.insert(id.to_owned(), call.clone()),
            (Outcome::Ok(_) | Outcome::Info(_), Call::ScheduleSoon { .. }, Some(key)) => {
                self.kept().doomed.insert(key.to_owned());
            }
            (Outcome::Ok(Answer::Material { material, .. }), _, Some(key)) => {
                _ = self.kept().materials.insert(key.to_owned(), *material)
            }
            (Outcome::Info(_), Call::Import { material, .. }, Some(key)) => {
                _ = self.kept().materials.entry(key.to_owned()).or_insert(*material)
            }
            (Outcome::Ok(_) | Outcome::Info(_), Call::Purge, Some(key)) => {
                self.kept().purged.insert(key.to_owned());
            }
            (Outcome::Ok(_), Call::Cancel | Call::Recover, Some(key)) => _ = self.kept().doomed.remove(key),
            _ => {}
        }
        if matches!(outcome, Outcome::Info(_)) {
            *process = self.process();
        }
        (outcome, id)
    }

    /// The client token of that number: a UUIDv7 of the time of its first use.
    fn token(&self, number: u64) -> Bytes {
        let mut kept = self.kept();
        let token = kept.tokens.entry(number).or_insert_with(|| {
            let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
            let free = [&self.seed.to_be_bytes()[6..], &number.to_be_bytes()].concat().try_into().unwrap_or_default();
            *uuid::Builder::from_unix_timestamp_millis(now_ms, &free).as_uuid().as_bytes()
        });
        Bytes::copy_from_slice(token)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ceremony begins: recorded around `done`, which holds it.
    pub async fn ceremony(&self, node: u32, done: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        self.by_hand(node, Call::Unseal, done).await
    }

    /// What people do about a node: recorded around `done`, which does it.
    pub async fn by_hand(
        &self,
        node: u32,
        call: Call,
        done: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let process = self.process();
        let ticket = self.recorder.invoke(process.0, node, None, false, call);
        let result = done.await;
        let outcome = match &result {
            Ok(()) => Outcome::Ok(Answer::Done),
            Err(e) => Outcome::Info(format!("{e:#}")),
        };
        self.recorder.end(ticket, None, outcome);
        result
    }
}
