//! The last reads: every key and alias on every node, every ciphertext, after every fault was healed and every node restarted.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Context, Process, Text};
use crate::history::{Answer, Call, Outcome, State};

/// Keys looked at at a time.
const PARALLEL: usize = 12;
/// A call that finds a node busy is repeated so often, with a pause of this length.
const TRIES_MAX: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);
/// A key that is due, and material whose end has come, is destroyed within this time of a calm cluster, with the time that its deletion waits at most, and the
/// half minute of the lease of a node that was killed; many of them take their time on a busy machine.
const DUE_TIME_MAX: Duration = Duration::from_secs(180);

/// Reasons of a node that can't answer now.
const LATER: [&str; 7] =
    ["UNAVAILABLE", "NO_MAJORITY", "BUSY", "CONTENDED", "SEALED", "UNREACHABLE", "DEADLINE_EXCEEDED"];

/// Reads everything. What can't be read stays unread, which the durability checker reports.
pub async fn last_reads(context: &Arc<Context>) -> anyhow::Result<()> {
    let mut texts: BTreeMap<String, Vec<Text>> = context.keys().into_iter().map(|k| (k, vec![])).collect();
    for text in context.texts() {
        texts.entry(text.key.clone()).or_default().push(text);
    }
    let end = Instant::now() + DUE_TIME_MAX;
    let places = Arc::new(Semaphore::new(PARALLEL));
    let mut tasks = JoinSet::new();
    for (key, texts) in texts {
        let (context, place) = (context.clone(), places.clone().acquire_owned().await?);
        tasks.spawn(async move {
            read_key(&context, &key, &texts, end).await;
            drop(place);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    let mut process = context.process();
    for alias in context.aliases() {
        for node in context.members() {
            patient(context, &mut process, node, None, Call::DescribeAlias { alias }).await;
        }
    }
    for node in context.members() {
        for name in context.names() {
            patient(context, &mut process, node, None, Call::DescribeNamed { name }).await;
        }
        for secret in context.secrets() {
            read_secret(context, &mut process, node, secret).await;
        }
    }
    Ok(())
}

/// Reads every version of a secret, from the newest.
async fn read_secret(context: &Context, process: &mut Process, node: u32, secret: u64) {
    let newest = patient(context, process, node, None, Call::GetSecret { secret, version: 0 }).await;
    let Some(Answer::Value { version: newest, .. }) = newest else { return };
    for version in 1..newest {
        patient(context, process, node, None, Call::GetSecret { secret, version }).await;
    }
}

/// Looks for a key whose deletion is due until it is gone, on every node, or it is `end`.
async fn read_doomed(context: &Context, key: &str, end: Instant) {
    let mut process = context.process();
    for node in context.members() {
        // One that was never scheduled, for all its client knows, need not go.
        let waits = |found: Option<Answer>| matches!(found, Some(Answer::Key { state: State::PendingDeletion, .. }));
        while waits(patient(context, &mut process, node, Some(key), Call::Describe).await) && Instant::now() < end {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn read_key(context: &Context, key: &str, texts: &[Text], end: Instant) {
    if context.is_doomed(key) {
        return read_doomed(context, key, end).await;
    }
    let mut process = context.process();
    let members = context.members();
    // Of a purged key only that is asked (it need not be gone, where nobody knows): and it is not made again by a late retry.
    let purged = context.purged(key);
    if let (Some(create), Some(node)) = (purged.clone(), members.first()) {
        patient(context, &mut process, *node, Some(key), create).await;
    }
    for node in members.iter().copied() {
        patient(context, &mut process, node, Some(key), Call::Describe).await;
    }
    if purged.is_some() {
        return read_backed_up(context, &mut process, key, texts, end).await;
    }
    if context.can_import(key) {
        read_material(context, &mut process, key, end).await;
    }
    if texts.is_empty() {
        return;
    }
    // What a workload left disabled or waiting for its deletion is made usable, so that it can be seen to open.
    let Some(first) = members.first().copied() else { return };
    let mut found = patient(context, &mut process, first, Some(key), Call::Describe).await;
    if matches!(found, Some(Answer::Key { state: State::PendingDeletion, .. })) {
        found = patient(context, &mut process, first, Some(key), Call::Cancel).await;
    }
    // … and material that was deleted, or had its end, is imported again: nothing is lost by that.
    if let Some(material) = context.material(key).filter(|_| context.can_import(key)) {
        patient(context, &mut process, first, Some(key), Call::Import { material, seconds: 0 }).await;
    }
    if matches!(found, Some(Answer::Key { state: State::Disabled, .. })) {
        patient(context, &mut process, first, Some(key), Call::Enable).await;
    }
    let mut seen = HashSet::new();
    for text in texts {
        // The first of each version on every node, the others on one.
        let all = seen.insert(text.version);
        let one = (text.number % members.len() as u64) as usize;
        let nodes = if all { &members[..] } else { &members[one..=one] };
        for node in nodes.iter().copied() {
            patient(context, &mut process, node, Some(key), Call::Decrypt { text: text.number }).await;
        }
    }
}

/// Brings back what was purged, if there is a backup, and reads what its versions made.
async fn read_backed_up(context: &Context, process: &mut Process, key: &str, texts: &[Text], end: Instant) {
    let (Some(version), Some(node)) = (context.backups(key).pop(), context.members().first().copied()) else { return };
    let found = loop {
        match patient(context, process, node, Some(key), Call::Describe).await {
            Some(found) => break found,
            None if Instant::now() >= end => return,
            // What is left of the purged key is in the way for a while.
            None => _ = patient(context, process, node, Some(key), Call::Restore { version }).await,
        }
        tokio::time::sleep(PAUSE).await;
    };
    if matches!(found, Answer::Key { state: State::PendingDeletion, .. }) {
        patient(context, process, node, Some(key), Call::Cancel).await;
    }
    patient(context, process, node, Some(key), Call::Enable).await;
    for text in texts {
        for node in context.members() {
            let decrypt = Call::DecryptBy { text: text.number, version: text.version };
            patient(context, process, node, Some(key), decrypt).await;
        }
    }
}

/// Waits until material that has an end is erased, on every node, or it is `end`; and gets what there is.
async fn read_material(context: &Context, process: &mut Process, key: &str, end: Instant) {
    for node in context.members() {
        let stays = |found: Option<Answer>| match found {
            Some(Answer::Versions { states, ends }) => ends != 0 && !states.contains('-'),
            _ => false,
        };
        while stays(patient(context, process, node, Some(key), Call::ListVersions).await)
            && Instant::now() < end + PAUSE
        {
            tokio::time::sleep(PAUSE).await;
        }
        patient(context, process, node, Some(key), Call::Export).await;
    }
}

/// A call, repeated while the node can't answer.
async fn patient(context: &Context, process: &mut Process, node: u32, key: Option<&str>, call: Call) -> Option<Answer> {
    for _ in 0..TRIES_MAX {
        match context.last_call(process, node, key, call.clone()).await {
            Outcome::Ok(answer) => return Some(answer),
            Outcome::Fail(why) if !LATER.contains(&why.as_str()) => return None,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
    None
}
