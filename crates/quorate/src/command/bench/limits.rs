//! What this machine can do at all, measured in the same run: the raw limits beside which figures are shown.
#![expect(clippy::disallowed_methods, reason = "measures this machine's own disk; no node's file")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use tokio::time::Instant;

use crate::command::failure::{CommandResult, Failure};
use crate::command::file::format::{self, CHUNK_LEN, Header};
use crate::command::files::{Existing, Sink};

/// Bytes of each write that is synced: about a group of the journal.
const SYNCED_LEN: usize = 4096;
/// Writes before the file is begun again; it is filled before, as the journal's segments are.
const SYNCED_COUNT: usize = 2048;
/// Files of a measurement, removed with it.
pub struct Workspace(PathBuf);

impl Workspace {
    /// In a folder on the disk to be measured.
    pub fn new(folder: &Path) -> CommandResult<Self> {
        let path = folder.join("bench-limits");
        crate::command::files::create_dir_private(&path)?;
        Ok(Self(path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        crate::command::files::remove_tree(&self.0);
    }
}

fn failed(e: impl std::fmt::Display) -> Failure {
    Failure::failed("can't measure this machine's limits", e, "")
}

/// Small writes made durable one after the other, per second: each to so many files at once, as when so many nodes share a disk.
pub fn syncs_per_second(space: &Workspace, files: usize, time: Duration) -> CommandResult<f64> {
    let bytes = [0x5a; SYNCED_LEN];
    let open = |n: usize| -> io::Result<File> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).open(space.file(&format!("syncs-{n}")))?;
        for number in 0..SYNCED_COUNT {
            file.write_all_at(&bytes, (number * SYNCED_LEN) as u64)?;
        }
        file.sync_all()?;
        Ok(file)
    };
    let measure = || -> io::Result<f64> {
        let opened = (0..files).map(open).collect::<io::Result<Vec<_>>>()?;
        let sync = |file: &File, count: usize| -> io::Result<()> {
            file.write_all_at(&bytes, (count % SYNCED_COUNT * SYNCED_LEN) as u64)?;
            file.sync_data()
        };
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < time {
            std::thread::scope(|all| {
                let others = opened[1..].iter().map(|file| all.spawn(move || sync(file, count)));
                let others: Vec<_> = others.collect();
                let own = sync(&opened[0], count);
                others.into_iter().try_for_each(|other| other.join().expect("it does not panic")).and(own)
            })?;
            count += 1;
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    };
    measure().map_err(failed)
}

/// Bytes that one core encrypts in a second, in memory, chunk by chunk: AES-256-GCM of the library that `file encrypt` uses.
pub fn aes_gcm_per_second(time: Duration) -> CommandResult<f64> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(failed)?);
    let mut chunk = vec![0x5a; CHUNK_LEN];
    let (start, mut done) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&done.to_le_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let _tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut chunk).map_err(failed)?;
        done += CHUNK_LEN as u64;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

/// Bytes per second of a file's way through `file encrypt` and back, and of a plain copy.
pub struct FileRates {
    /// Encrypted, to a device that takes everything.
    pub encrypt: f64,
    /// Decrypted, likewise.
    pub decrypt: f64,
    /// Encrypted, to a file on this disk, durably.
    pub encrypt_to_disk: f64,
    /// Copied, to a file on this disk, durably.
    pub copy_to_disk: f64,
}

/// Measures a file of so many MiB that has just been written: it comes from memory, not from the disk.
pub fn file_rates(space: &Workspace, mib: u32) -> CommandResult<FileRates> {
    let per_second = |start: Instant| f64::from(mib) * f64::from(1 << 20) / start.elapsed().as_secs_f64();
    let (plain, sealed, out) = (space.file("plain"), space.file("sealed"), space.file("out"));
    let nowhere = Path::new("/dev/null");
    let open = |path: &Path| File::open(path).map_err(failed);
    let mut file = File::create(&plain).map_err(failed)?;
    let block = vec![0x5a; 1 << 20];
    for _ in 0..mib {
        file.write_all(&block).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;

    let header = Header::new([1; 7], &[9; 136]).map_err(failed)?;
    let key = [7; format::DATA_KEY_LEN];
    let encrypt = |to: &Path| -> CommandResult<f64> {
        let (from, mut to, start) = (open(&plain)?, Sink::open(Some(to), 0o600, Existing::Replace)?, Instant::now());
        format::encrypt(&header, &key, from, &mut to, |_| {}).map_err(failed)?;
        to.finish().map_err(failed)?;
        Ok(per_second(start))
    };
    let rate = encrypt(nowhere)?;
    let encrypt_to_disk = encrypt(&sealed)?;
    let start = Instant::now();
    let mut from = open(&sealed)?;
    let read = Header::read(&mut from).map_err(failed)?;
    format::decrypt(&read, &key, from, &mut Sink::open(Some(nowhere), 0o600, Existing::Replace)?, |_| {})
        .map_err(failed)?;
    let decrypt = per_second(start);
    let copy = || -> io::Result<f64> {
        let (mut from, mut to, start) = (File::open(&plain)?, File::create(&out)?, Instant::now());
        let mut chunk = vec![0; CHUNK_LEN];
        loop {
            match from.read(&mut chunk)? {
                0 => break,
                n => to.write_all(&chunk[..n])?,
            }
        }
        to.sync_all()?;
        Ok(per_second(start))
    };
    Ok(FileRates { encrypt: rate, decrypt, encrypt_to_disk, copy_to_disk: copy().map_err(failed)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_measured_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let space = Workspace::new(dir.path()).unwrap();
        assert!([1, 3].iter().all(|files| syncs_per_second(&space, *files, Duration::from_millis(1)).unwrap() > 0.0));
        assert!(aes_gcm_per_second(Duration::from_millis(1)).unwrap() > 0.0);
        let rates = file_rates(&space, 1).unwrap();
        assert!([rates.encrypt, rates.decrypt, rates.encrypt_to_disk, rates.copy_to_disk].iter().all(|r| *r > 0.0));
        drop(space);
        assert!(crate::command::files::is_empty_dir(dir.path()));
    }
}
