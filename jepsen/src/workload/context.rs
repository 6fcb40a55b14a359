//! What all clients of a run share: a client of each node, the history, the ciphertexts that must open in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quorate_client::v1::*;
use quorate_client::{Client, ClientError, reason};
use tokio::sync::watch;

use crate::cluster::Operator;
use crate::history::{Answer, Call, Flaw, Outcome, Recorder, State};
use crate::outcome;

/// A good share of a cluster that a run had made for itself and thrown away: it opens nothing any more.
const FOREIGN_SHARE: &str = "qs1qyc5x7thgxa4uqxdj342kqcppdx2wzlwza9fuhjcq5exqulqrarlaqq2j6aqw2xsgw07p5x80l6q6e5t4j";
/// A use or a change is given up after this time: short, so that a cut node does not hold the clients.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(2);
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
    keys: BTreeSet<String>,
    texts: BTreeMap<u64, Text>,
    tokens: BTreeMap<u64, [u8; 16]>,
    aliases: BTreeSet<u64>,
    /// Keys whose deletion was, or may have been, scheduled for soon, and that were not spared for certain.
    doomed: BTreeSet<String>,
}

/// A node as clients know it.
struct Place {
    client: Client,
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
    pub fn joined(&self, node: u32, client: Client) {
        self.places().insert(node, Place { client, member: true });
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

    /// A client of one node.
    pub fn client(&self, node: u32) -> Option<Client> {
        self.places().get(&node).map(|place| place.client.clone())
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
        self.kept().keys.iter().cloned().collect()
    }

    /// Whether a key may be gone in the end; such a one is looked for, and left alone.
    pub fn is_doomed(&self, key: &str) -> bool {
        self.kept().doomed.contains(key)
    }

    /// Aliases that were asked for.
    pub fn aliases(&self) -> Vec<u64> {
        self.kept().aliases.iter().copied().collect()
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
        let Some(client) = self.client(node) else { return (Outcome::Fail(reason::UNREACHABLE.into()), None) };
        let ticket = self.recorder.invoke(process.0, node, key, last, call.clone());
        self.kept().aliases.extend(call.alias());
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
            (Outcome::Ok(_), Call::Create { .. }, Some(id)) => _ = self.kept().keys.insert(id.to_owned()),
            (Outcome::Ok(_) | Outcome::Info(_), Call::ScheduleSoon { .. }, Some(key)) => {
                self.kept().doomed.insert(key.to_owned());
            }
            (Outcome::Ok(_), Call::Cancel, Some(key)) => _ = self.kept().doomed.remove(key),
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

    async fn send(&self, client: &Client, key: &str, call: &Call) -> Result<(Answer, Option<String>), ClientError> {
        let of_key = || KeyRequest { key: key.to_owned() };
        let key_answer = |response: KeyResponse| {
            let key = response.key.unwrap_or_default();
            (Answer::Key { state: state_of(&key), version: key.current_version }, Some(key.key_id))
        };
        match call {
            Call::Create { token } => {
                let request = CreateKeyRequest {
                    description: format!("{}{token}", Self::name_canary(self.seed)),
                    token: self.token(*token),
                    ..Default::default()
                };
                client.create_key(request).await.map(key_answer)
            }
            Call::Describe => client.describe_key(of_key()).await.map(key_answer),
            Call::Inspect => client.describe_key(of_key()).await.map(|response| {
                let id = response.key.as_ref().map(|key| key.key_id.clone());
                (self.metadata(response.key.unwrap_or_default()), id)
            }),
            Call::Enable => client.enable_key(of_key()).await.map(key_answer),
            Call::Disable => client.disable_key(of_key()).await.map(key_answer),
            Call::Cancel => client
                .cancel_key_deletion(CancelKeyDeletionRequest { key: of_key().key, as_before: false })
                .await
                .map(key_answer),
            Call::Schedule => {
                let request = ScheduleKeyDeletionRequest { key: key.to_owned(), days: 7, ..Default::default() };
                client.schedule_key_deletion(request).await.map(key_answer)
            }
            Call::ScheduleSoon { seconds } => {
                let request =
                    ScheduleKeyDeletionRequest { key: key.to_owned(), dev_seconds: *seconds, ..Default::default() };
                let key = client.schedule_key_deletion(request).await?.key.unwrap_or_default();
                Ok((Answer::Due { at: key.deletion_ms, version: key.current_version }, None))
            }
            Call::Rotate => {
                client.rotate_key(RotateKeyRequest { key: key.to_owned(), ..Default::default() }).await.map(key_answer)
            }
            Call::Encrypt { text } => self.encrypt(client, key.to_owned(), *text).await,
            Call::EncryptAlias { alias, text } => self.encrypt(client, self.alias(*alias), *text).await,
            Call::CreateAlias { alias } => {
                let request = CreateAliasRequest { name: self.alias(*alias), key: key.to_owned() };
                client.create_alias(request).await.map(|_| (Answer::Done, None))
            }
            Call::DeleteAlias { alias } => {
                let request = DeleteAliasRequest { name: self.alias(*alias) };
                client.delete_alias(request).await.map(|_| (Answer::Done, None))
            }
            Call::DescribeAlias { alias } => {
                client.describe_key(KeyRequest { key: self.alias(*alias) }).await.map(key_answer)
            }
            Call::Decrypt { text } => {
                let ciphertext = self.kept().texts.get(text).map(|t| t.ciphertext.clone()).unwrap_or_default();
                let opened = client.decrypt(DecryptRequest { ciphertext, ..Default::default() }).await?;
                let exact = opened.plaintext == self.plaintext(*text) && opened.key_id == key;
                Ok((Answer::Decrypted { version: opened.key_version, exact }, None))
            }
            Call::Seal => client.seal(SealRequest { cluster: false }).await.map(|_| (Answer::Done, None)),
            Call::Remove { member } => {
                let request = RemoveMemberRequest { name: format!("n{member}") };
                let patient = client.with_deadline(REMOVAL_TIME_MAX);
                patient.remove_member(request).await.map(|_| (Answer::Done, None))
            }
            Call::EnterShare { share, flaw: Some(flaw) } => self.enter_flawed(client, *share, *flaw).await,
            // What people do by hand: it does not come here.
            Call::Unseal | Call::Replace | Call::EnterShare { flaw: None, .. } => Ok((Answer::Done, None)),
        }
    }

    fn metadata(&self, key: Key) -> Answer {
        let token = key.description.strip_prefix(&Self::name_canary(self.seed)).and_then(|token| token.parse().ok());
        Answer::Metadata {
            state: state_of(&key),
            version: key.current_version,
            token: token.unwrap_or(0),
            created: key.created_ms,
            rotated: key.rotated_ms,
        }
    }

    /// What the command would not send: a share that is not right.
    async fn enter_flawed(
        &self,
        client: &Client,
        share: u32,
        flaw: Flaw,
    ) -> Result<(Answer, Option<String>), ClientError> {
        let mut text = self.operator.share(share as usize).unwrap_or_default().trim().to_owned();
        let mut nonce = client.share_challenge(ShareChallengeRequest {}).await?.nonce;
        match flaw {
            Flaw::Mistyped => {
                let last = text.pop();
                text.push(if last == Some('q') { 'p' } else { 'q' });
            }
            Flaw::Unproven => {}
            Flaw::Foreign => text = FOREIGN_SHARE.to_owned(),
            Flaw::Unchallenged => nonce = Bytes::from(vec![share as u8; nonce.len()]),
        }
        let request = SubmitShareRequest { share: text, nonce, proof: Bytes::from(vec![share as u8; PROOF_LEN]) };
        let complete = client.submit_share(request).await?.ceremony.is_none();
        Ok((Answer::Share { complete }, None))
    }

    /// By id or by alias; the ciphertext is kept under the id of the key that the answer names.
    async fn encrypt(&self, client: &Client, key: String, text: u64) -> Result<(Answer, Option<String>), ClientError> {
        let made =
            client.encrypt(EncryptRequest { key, plaintext: self.plaintext(text), ..Default::default() }).await?;
        let (version, key) = (made.key_version, made.key_id);
        let kept = Text { number: text, key: key.clone(), version, ciphertext: made.ciphertext };
        self.kept().texts.insert(text, kept);
        Ok((Answer::Encrypted { version }, Some(key)))
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

fn state_of(key: &Key) -> State {
    match key.state() {
        KeyState::Enabled => State::Enabled,
        KeyState::PendingDeletion => State::PendingDeletion,
        KeyState::Disabled | KeyState::Unspecified => State::Disabled,
    }
}
