//! Stopped clusters, made once by the real binary, and copies of them to do harm to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use quorate_client::Client;
use quorate_proto::v1::*;

use crate::support::{Dev, PATIENCE, Signal, await_status, node, signal};

/// Small segments and early compaction, so that a small cluster has every kind of file a large one has.
const LOG: &str = "segment_mib = 1\nkeep_kib = 16\nstep_kib = 16\ncompact_seconds = 1";
const KEYS: usize = 24;
/// As many characters as the folder of a `Dev` has: paths are replaced in the copies' configuration byte by byte.
const FOLDER: &str = "cluster";

/// A stopped cluster and what it had acknowledged.
pub struct Specimen {
    /// For the reports.
    pub name: &'static str,
    pub dev: Dev,
    keys: Vec<Key>,
    aliases: Vec<Alias>,
    /// Ciphertexts, and what they must open to.
    sealed: Vec<(Bytes, Bytes)>,
    /// `host:port` of API and peers, in the order of nodes.
    ports: Vec<(String, String)>,
}

impl Specimen {
    /// One node, stopped in order.
    pub async fn stopped() -> Self {
        let dev = Dev::start_with_log(1, LOG);
        let (client, filled) = fill(&dev).await;
        let mut specimen = Self::recorded("one node, stopped", dev, &client, filled).await;
        specimen.dev.stop();
        specimen
    }

    /// One node, killed a while after its last change, so that the journal's mark covers everything acknowledged. Its
    /// state was not closed, and lags behind the journal.
    pub async fn killed() -> Self {
        let dev = Dev::start_with_log(1, LOG);
        let (client, filled) = fill(&dev).await;
        let mut specimen = Self::recorded("one node, killed", dev, &client, filled).await;
        // The mark is written once a second.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        specimen.dev.kill(0);
        specimen.dev.stop();
        specimen
    }

    /// Three nodes, stopped in order, of which the last was away for so long that it was sent the state itself.
    pub async fn cluster() -> Self {
        let mut dev = Dev::start_with_log(3, LOG);
        let (client, filled) = fill(&dev).await;
        let name = dev.json.nodes[2].name.clone();
        let installed = dev.json.nodes[2].data.join("CURRENT");
        for _ in 0..20 {
            dev.kill(2);
            for _ in 0..40 {
                client.create_key(CreateKeyRequest::default()).await.expect("created");
            }
            tokio::time::sleep(Duration::from_millis(2500)).await;
            dev.restart(2);
            let back = |s: &StatusResponse| node(s, &name).reachable && node(s, &name).lag == 0;
            await_status(&client, "the last node to be back", back).await;
            if installed.exists() {
                break;
            }
        }
        assert!(installed.exists(), "no snapshot was installed: the settings of the log are too generous");
        let mut specimen = Self::recorded("three nodes, one by a snapshot", dev, &client, filled).await;
        // The restarted one is no child of `dev` any more.
        let pid = specimen.dev.json.nodes[2].pid;
        signal(pid, Signal::TERM);
        let log = specimen.dev.json.nodes[2].log.clone();
        let end = std::time::Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&log).unwrap_or_default().lines().rev().take(3).any(|l| l.ends_with(": stopped"))
        {
            assert!(std::time::Instant::now() < end, "SIGTERM did not stop the last node");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        specimen.dev.stop();
        specimen
    }

    async fn recorded(name: &'static str, dev: Dev, client: &Client, sealed: Vec<(Bytes, Bytes)>) -> Self {
        let (keys, aliases) = everything(client).await.expect("listed");
        assert!(keys.len() >= KEYS && !aliases.is_empty());
        let peer = |config: &Path| {
            let text = std::fs::read_to_string(config).expect("readable");
            let after = text.split_once("[peer]").expect("a table").1;
            after.split('"').nth(1).expect("listen comes first").to_owned()
        };
        let ports = dev.json.nodes.iter().map(|n| (n.api.clone(), peer(&n.config))).collect();
        Self { name, dev, keys, aliases, sealed, ports }
    }

    /// How many nodes it has.
    pub fn nodes(&self) -> usize {
        self.ports.len()
    }

    /// The folder of a copy called `slot`.
    pub fn slot(&self, slot: &str) -> PathBuf {
        assert_eq!(slot.len(), FOLDER.len());
        self.dev.dir().with_file_name(slot)
    }

    /// Makes (again) the copy `slot`; a lone node gets ports of its own, so that several copies run at the same time.
    pub fn copy(&self, slot: &str, ports: Option<(u16, u16)>) -> PathBuf {
        let to = self.slot(slot);
        let _ = std::fs::remove_dir_all(&to);
        let mut changes = vec![(self.dev.dir().display().to_string(), to.display().to_string())];
        if let Some((api, peer)) = ports {
            changes.push((self.ports[0].0.clone(), format!("127.0.0.1:{api}")));
            changes.push((self.ports[0].1.clone(), format!("127.0.0.1:{peer}")));
        }
        copy_tree(self.dev.dir(), &to, &changes);
        to
    }

    /// Everything acknowledged is there, opens what it made, and nothing else is.
    pub async fn verify(&self, client: &Client, allow_new: bool) -> Result<(), String> {
        let (mut keys, aliases) = everything(client).await?;
        if allow_new {
            keys.retain(|k| self.keys.iter().any(|known| known.key_id == k.key_id));
        }
        if keys != self.keys {
            return Err(format!("the keys are not those that were acknowledged: {keys:?} instead of {:?}", self.keys));
        }
        if aliases != self.aliases {
            return Err(format!("the aliases are not those that were acknowledged: {aliases:?}"));
        }
        for (ciphertext, plaintext) in &self.sealed {
            let request = DecryptRequest { ciphertext: ciphertext.clone(), ..Default::default() };
            let opened = client.decrypt(request).await.map_err(|e| format!("a ciphertext does not open: {e}"))?;
            if opened.plaintext != plaintext {
                return Err("a ciphertext opens to something else".into());
            }
        }
        Ok(())
    }
}

async fn everything(client: &Client) -> Result<(Vec<Key>, Vec<Alias>), String> {
    let keys = client.list_keys(ListKeysRequest { limit: 1000, page_token: Bytes::new(), ..Default::default() }).await;
    let keys = keys.map_err(|e| format!("the keys can't be listed: {e}"))?;
    let aliases = client.list_aliases(ListAliasesRequest { limit: 1000, page_token: Bytes::new() }).await;
    let aliases = aliases.map_err(|e| format!("the aliases can't be listed: {e}"))?;
    let (mut keys, mut aliases) = (keys.keys, aliases.aliases);
    keys.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    aliases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((keys, aliases))
}

/// Keys in every state, and ciphertexts of those that can be used.
async fn fill(dev: &Dev) -> (Client, Vec<(Bytes, Bytes)>) {
    let client = dev.client().await;
    let mut sealed = Vec::new();
    for n in 0..KEYS {
        let alias = if n % 3 == 0 { format!("alias-{n}") } else { String::new() };
        let request = CreateKeyRequest { alias, description: format!("key {n}"), ..Default::default() };
        let key = client.create_key(request).await.expect("created").key.expect("a key").key_id;
        for version in 0..1 + n % 3 {
            if version > 0 {
                let request = RotateKeyRequest { key: key.clone(), ..Default::default() };
                client.rotate_key(request).await.expect("rotated");
            }
            let plaintext = Bytes::from(format!("{key} {version}"));
            let request = EncryptRequest { key: key.clone(), plaintext: plaintext.clone(), ..Default::default() };
            sealed.push((client.encrypt(request).await.expect("encrypted").ciphertext, plaintext));
        }
        match n % 8 {
            6 => {
                client.disable_key(KeyRequest { key }).await.expect("disabled");
                sealed.truncate(sealed.len() - (1 + n % 3));
            }
            7 => {
                let request = ScheduleKeyDeletionRequest { key, days: 30, ..Default::default() };
                client.schedule_key_deletion(request).await.expect("scheduled");
                sealed.truncate(sealed.len() - (1 + n % 3));
            }
            _ => {}
        }
    }
    (client, sealed)
}

fn copy_tree(from: &Path, to: &Path, changes: &[(String, String)]) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("known").is_dir() {
            copy_tree(&source, &target, changes);
            continue;
        }
        std::fs::copy(&source, &target).expect("copied");
        let small = entry.metadata().expect("readable").len() < 16 << 10;
        if let Some(text) = small.then(|| std::fs::read_to_string(&source).ok()).flatten() {
            let changed = changes.iter().fold(text.clone(), |text, (from, to)| text.replace(from, to));
            if changed != text {
                std::fs::write(&target, changed).expect("written");
            }
        }
    }
}
