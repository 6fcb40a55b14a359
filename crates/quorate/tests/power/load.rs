//! Writes and uses whose acknowledgements are recorded: what was acknowledged is promised.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, ClientError};
use quorate_proto::v1::*;

use crate::support::PATIENCE;

/// A key as far as it was acknowledged.
pub struct Acknowledged {
    pub key_id: String,
    pub version: u32,
    /// Ciphertexts of the key's own id.
    pub sealed: Vec<Bytes>,
}

/// Creates, rotates and uses keys from several tasks until told to stop.
pub struct Load {
    ledger: Ledger,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// What was acknowledged so far, and how many writes that took.
#[derive(Clone, Default)]
struct Ledger {
    keys: Arc<Mutex<Vec<Acknowledged>>>,
    writes: Arc<AtomicUsize>,
}

impl Load {
    pub fn start(client: &Client, tasks: usize) -> Self {
        let ledger = Ledger::default();
        let tasks = (0..tasks).map(|place| {
            let (client, ledger) = (client.starting_at(place).with_deadline(Duration::from_secs(3)), ledger.clone());
            tokio::spawn(async move {
                for round in 0.. {
                    // What is not acknowledged may exist or not: it is no promise.
                    if one_key(&client, round % 3 == 0, &ledger).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { ledger, tasks }
    }

    /// Waits until so many more writes were acknowledged.
    pub async fn go_on(&self, writes: usize) {
        let goal = self.ledger.writes.load(Ordering::Relaxed) + writes;
        let reached = async {
            while self.ledger.writes.load(Ordering::Relaxed) < goal {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the load makes progress");
    }

    /// Ends it, calls that nobody answers any more included.
    pub async fn finish(self) -> Vec<Acknowledged> {
        for task in self.tasks {
            task.abort();
            let ended = task.await;
            assert!(ended.is_err_and(|e| e.is_cancelled()), "no panic");
        }
        std::mem::take(&mut *self.ledger.keys.lock().expect("no panic"))
    }
}

impl Ledger {
    /// Notes an acknowledged write as soon as it is one.
    fn write<T>(&self, note: impl FnOnce(&mut Vec<Acknowledged>) -> T) -> T {
        self.writes.fetch_add(1, Ordering::Relaxed);
        note(&mut self.keys.lock().expect("no panic"))
    }
}

async fn one_key(client: &Client, rotate: bool, ledger: &Ledger) -> Result<(), ClientError> {
    let key_id = client.create_key(CreateKeyRequest::default()).await?.key.expect("a key").key_id;
    let place = ledger.write(|keys| {
        keys.push(Acknowledged { key_id: key_id.clone(), version: 1, sealed: Vec::new() });
        keys.len() - 1
    });
    let ciphertext = encrypt(client, &key_id).await?;
    ledger.keys.lock().expect("no panic")[place].sealed.push(ciphertext);
    if rotate {
        let request = RotateKeyRequest { key: key_id.clone(), ..Default::default() };
        let version = client.rotate_key(request).await?.key.expect("a key").current_version;
        ledger.write(|keys| keys[place].version = version);
        let ciphertext = encrypt(client, &key_id).await?;
        ledger.keys.lock().expect("no panic")[place].sealed.push(ciphertext);
    }
    Ok(())
}

async fn encrypt(client: &Client, key: &str) -> Result<Bytes, ClientError> {
    let plaintext = Bytes::copy_from_slice(key.as_bytes());
    Ok(client.encrypt(EncryptRequest { key: key.to_owned(), plaintext, ..Default::default() }).await?.ciphertext)
}
