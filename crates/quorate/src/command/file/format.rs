//! The format of an encrypted file (key-hierarchy §3, "streaming files"), with constant memory in both directions:
//!
//! ```text
//! header = magic "quorate\x01" 8 ‖ version u8 = 1 ‖ suite u8 = 1 ‖ nonce prefix 7 ‖ wrapped data key: len u16 ‖ bytes
//! file   = header ‖ chunk 0 ‖ chunk 1 ‖ … ‖ last chunk
//! chunk  = AES-256-GCM(data key, nonce = prefix ‖ number u32 ‖ last u8, AAD = header, ≤ 65536 bytes) ‖ tag 16
//! ```
//!
//! Integers are big-endian. Every chunk but the last holds exactly 65 536 bytes of plaintext; the last holds 1 to 65 536,
//! or none when the whole file is empty. This is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015; flavour BE32 of `aead-stream`):
//! the number makes reordering, dropping and repeating fail, the last-flag truncation and appending. The header is in
//! every chunk's associated data, so nothing of it can be exchanged. The data key is new for each file and encrypted
//! under a key of the cluster.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;
use zeroize::Zeroizing;

use super::ahead::{Ahead, CHUNKS, fill};

/// What every encrypted file begins with.
pub const MAGIC: &[u8; 8] = b"quorate\x01";
/// Length of a data key, in bytes.
pub const DATA_KEY_LEN: usize = 32;
/// Plaintext in a chunk, in bytes.
pub const CHUNK_LEN: usize = 64 * 1024;

const VERSION: u8 = 1;
/// AES-256-GCM in STREAM BE32 with chunks of 64 KiB.
const SUITE: u8 = 1;
const TAG_LEN: usize = 16;
const SEALED_LEN: usize = CHUNK_LEN + TAG_LEN;
const PREFIX_LEN: usize = 7;
/// Longest encrypted data key, in bytes: the blob of a 32-byte data key has 136.
const WRAPPED_LEN_MAX: usize = 1024;

/// Why a file can't be encrypted or decrypted.
#[derive(Debug, Error)]
pub enum FileError {
    /// Reading failed.
    #[error("the input can't be read: {0}")]
    Read(io::Error),
    /// Writing failed.
    #[error("the output can't be written: {0}")]
    Write(io::Error),
    /// It does not begin like one.
    #[error("it is no file that `quorate file encrypt` made")]
    NotOurs,
    /// It begins like one.
    #[error("it has version {0} or suite {1}, which this version of quorate does not know")]
    TooNew(u8, u8),
    /// Its header makes no sense.
    #[error("its header is damaged")]
    Header,
    /// The end is missing.
    #[error("it is truncated: the end is missing after {0} bytes of plaintext")]
    Truncated(u64),
    /// What is left at the end is not a whole chunk.
    #[error("it was cut off, or altered, after {0} bytes of plaintext")]
    Torn(u64),
    /// There is something after the end.
    #[error("something was appended to it after {0} bytes of plaintext")]
    Appended(u64),
    /// A chunk is not what was written there.
    #[error("it was altered, or its chunks are not in order, at {0} bytes of plaintext")]
    Altered(u64),
    /// The counter's range is exhausted.
    #[error("it is longer than 256 TiB")]
    TooLong,
    /// The data key is not 32 bytes long.
    #[error("its data key has the wrong length")]
    DataKey,
}

/// What stands before the chunks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Random, 7 bytes.
    pub prefix: [u8; PREFIX_LEN],
    /// The encrypted data key.
    pub wrapped: Vec<u8>,
}

impl Header {
    /// A header for a new file.
    pub fn new(prefix: [u8; PREFIX_LEN], wrapped: &[u8]) -> Result<Self, FileError> {
        if wrapped.is_empty() || wrapped.len() > WRAPPED_LEN_MAX {
            return Err(FileError::Header);
        }
        Ok(Self { prefix, wrapped: wrapped.to_vec() })
    }

    /// The bytes that stand in the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([VERSION, SUITE]);
        bytes.extend(self.prefix);
        bytes.extend((self.wrapped.len() as u16).to_be_bytes());
        bytes.extend(&self.wrapped);
        bytes
    }

    /// Reads a header; leaves the reader at the first chunk.
    pub fn read(from: &mut impl Read) -> Result<Self, FileError> {
        let mut fixed = [0; MAGIC.len() + 2 + PREFIX_LEN + 2];
        let read = fill(from, &mut fixed).map_err(FileError::Read)?;
        let (magic, rest) = fixed.split_at(MAGIC.len());
        if read < MAGIC.len() || magic != MAGIC {
            return Err(FileError::NotOurs);
        }
        if read < fixed.len() {
            return Err(FileError::Truncated(0));
        }
        let (version, suite) = (rest[0], rest[1]);
        if (version, suite) != (VERSION, SUITE) {
            return Err(FileError::TooNew(version, suite));
        }
        let mut prefix = [0; PREFIX_LEN];
        prefix.copy_from_slice(&rest[2..2 + PREFIX_LEN]);
        let len = u16::from_be_bytes([rest[2 + PREFIX_LEN], rest[3 + PREFIX_LEN]]) as usize;
        if len == 0 || len > WRAPPED_LEN_MAX {
            return Err(FileError::Header);
        }
        let mut wrapped = vec![0; len];
        if fill(from, &mut wrapped).map_err(FileError::Read)? < len {
            return Err(FileError::Truncated(0));
        }
        Ok(Self { prefix, wrapped })
    }

    fn cipher(&self, data_key: &[u8]) -> Result<Cipher, FileError> {
        let key = UnboundKey::new(&AES_256_GCM, data_key).map_err(|_| FileError::DataKey)?;
        Ok(Cipher { key: LessSafeKey::new(key), prefix: self.prefix, aad: self.encode() })
    }
}

/// Seals and opens the chunks of one file.
struct Cipher {
    key: LessSafeKey,
    prefix: [u8; PREFIX_LEN],
    aad: Vec<u8>,
}

impl Cipher {
    fn nonce(&self, number: u32, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..PREFIX_LEN].copy_from_slice(&self.prefix);
        nonce[PREFIX_LEN..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = last.into();
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts `chunk` where it is; the tag goes to the beginning of `rest`.
    fn seal(&self, number: u32, last: bool, chunk: &mut [u8], rest: &mut [u8]) -> Result<(), FileError> {
        let sealed = self.key.seal_in_place_separate_tag(self.nonce(number, last), Aad::from(&self.aad), chunk);
        // Only for lengths that no chunk has.
        let tag = sealed.map_err(|_| FileError::TooLong)?;
        rest[..TAG_LEN].copy_from_slice(tag.as_ref());
        Ok(())
    }

    /// Decrypts `sealed` into `plain`, whose content means nothing unless this says that the chunk is genuine.
    fn open(&self, number: u32, last: bool, sealed: &[u8], plain: &mut [u8]) -> bool {
        let Some(len) = sealed.len().checked_sub(TAG_LEN) else { return false };
        let (ciphertext, tag) = sealed.split_at(len);
        let (nonce, aad) = (self.nonce(number, last), Aad::from(&self.aad));
        self.key.open_separate_gather(nonce, aad, ciphertext, tag, &mut plain[..len]).is_ok()
    }

    /// Decrypts `sealed`, which comes after `done` bytes of plaintext; the length of its own, or what is wrong with it.
    fn open_or_say(
        &self,
        number: u32,
        last: bool,
        sealed: &[u8],
        plain: &mut [u8],
        done: u64,
    ) -> Result<usize, FileError> {
        if self.open(number, last, sealed, plain) {
            let len = sealed.len() - TAG_LEN;
            return if len == 0 && number > 0 { Err(FileError::Altered(done)) } else { Ok(len) };
        }
        // For the message only: would it be genuine with the other flag?
        Err(match (self.open(number, !last, sealed, plain), last) {
            (true, true) => FileError::Truncated(done),
            (true, false) => FileError::Appended(done + CHUNK_LEN as u64),
            (false, true) if sealed.len() < TAG_LEN => FileError::Truncated(done),
            (false, true) if sealed.len() < SEALED_LEN => FileError::Torn(done),
            (false, _) => FileError::Altered(done),
        })
    }
}

/// Encrypts everything from `from` to `to`, header first. `progress` hears of plaintext lengths as they are written.
pub fn encrypt(
    header: &Header,
    data_key: &[u8],
    from: impl Read + Send + 'static,
    to: &mut impl Write,
    mut progress: impl FnMut(usize),
) -> Result<(), FileError> {
    let cipher = header.cipher(data_key)?;
    to.write_all(&cipher.aad).map_err(FileError::Write)?;
    let mut input = Ahead::start(from, CHUNK_LEN, SEALED_LEN)?;
    loop {
        let (mut len, mut sealed) = (0, 0);
        for place in 0..input.chunks() {
            let (number, last) = input.position(place)?;
            let (chunk, rest) = input.slot(place);
            cipher.seal(number, last, chunk, rest)?;
            len += chunk.len();
            sealed += chunk.len() + TAG_LEN;
        }
        to.write_all(input.bytes(sealed)).map_err(FileError::Write)?;
        progress(len);
        if !input.advance()? {
            return Ok(());
        }
    }
}

/// Decrypts the chunks after `header`. Chunks are written once they have proven genuine, so after an error `to` holds
/// a genuine beginning, and is not complete. `progress` as in [`encrypt`].
pub fn decrypt(
    header: &Header,
    data_key: &[u8],
    from: impl Read + Send + 'static,
    to: &mut impl Write,
    mut progress: impl FnMut(usize),
) -> Result<(), FileError> {
    let cipher = header.cipher(data_key)?;
    let mut input = Ahead::start(from, SEALED_LEN, SEALED_LEN)?;
    let mut plain = Zeroizing::new(vec![0; CHUNKS * CHUNK_LEN]);
    let mut done = 0;
    loop {
        let (mut len, mut altered) = (0, None);
        for place in 0..input.chunks() {
            let (number, last) = input.position(place)?;
            let (sealed, _) = input.slot(place);
            match cipher.open_or_say(number, last, sealed, &mut plain[len..], done + len as u64) {
                Ok(opened) => len += opened,
                Err(why) => {
                    altered = Some(why);
                    break;
                }
            }
        }
        to.write_all(&plain[..len]).map_err(FileError::Write)?;
        progress(len);
        done += len as u64;
        if let Some(why) = altered {
            return Err(why);
        }
        if !input.advance()? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn header() -> Header {
        Header::new([1, 2, 3, 4, 5, 6, 7], &[9; 136]).unwrap()
    }

    fn plain(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    fn seal(plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encrypt(&header(), &KEY, Cursor::new(plaintext.to_vec()), &mut out, |_| {}).unwrap();
        out
    }

    fn open(file: &[u8]) -> Result<Vec<u8>, (FileError, Vec<u8>)> {
        let mut from = Cursor::new(file.to_vec());
        let mut out = Vec::new();
        let header = Header::read(&mut from).map_err(|e| (e, vec![]))?;
        match decrypt(&header, &KEY, from, &mut out, |_| {}) {
            Ok(()) => Ok(out),
            Err(e) => Err((e, out)),
        }
    }

    /// Where the chunks of a file begin.
    fn body() -> usize {
        header().encode().len()
    }

    /// A reader that gives a few bytes at a time, as pipes do.
    struct Drip(Cursor<Vec<u8>>, usize);
    impl Read for Drip {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(buf.len());
            self.0.read(&mut buf[..n])
        }
    }

    #[test]
    fn the_bytes_are_as_drawn() {
        let file = seal(b"x");
        assert_eq!(file.len(), 8 + 1 + 1 + 7 + 2 + 136 + 1 + 16);
        assert_eq!(&file[..19], b"quorate\x01\x01\x01\x01\x02\x03\x04\x05\x06\x07\x00\x88");
    }

    #[test]
    fn another_implementation_of_the_same_stream_makes_the_same_bytes() {
        use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
        use aes_gcm::{Aes256Gcm, KeyInit};
        let plaintext = plain(2 * CHUNK_LEN + 5);
        let other: StreamBE32<Aes256Gcm> = StreamBE32::from_aead(Aes256Gcm::new(&KEY.into()), &header().prefix.into());
        let mut expected = header().encode();
        for (number, piece) in plaintext.chunks(CHUNK_LEN).enumerate() {
            let mut chunk = piece.to_vec();
            other.encrypt_in_place(number as u32, number == 2, &header().encode(), &mut chunk).unwrap();
            expected.extend(chunk);
        }
        assert!(seal(&plaintext) == expected);
    }

    #[test]
    fn every_length_around_a_boundary_comes_back() {
        for base in [0, CHUNK_LEN, 2 * CHUNK_LEN] {
            for len in [base.saturating_sub(1), base, base + 1] {
                let plaintext = plain(len);
                let file = seal(&plaintext);
                let chunks = len.div_ceil(CHUNK_LEN).max(1);
                assert_eq!(file.len(), body() + len + chunks * TAG_LEN, "{len}");
                assert_eq!(open(&file).unwrap(), plaintext, "{len}");
            }
        }
    }

    #[test]
    fn a_cut_at_any_chunk_or_inside_one_is_noticed() {
        let plaintext = plain(3 * CHUNK_LEN);
        let file = seal(&plaintext);
        for chunks in 0..3 {
            let boundary = body() + chunks * SEALED_LEN;
            for end in [boundary, boundary + 1, boundary + TAG_LEN, boundary + SEALED_LEN - 1] {
                let (error, out) = open(&file[..end]).unwrap_err();
                if end == boundary {
                    assert!(matches!(error, FileError::Truncated(_)), "{end}: {error}");
                }
                assert!(out.len() <= chunks * CHUNK_LEN && plaintext.starts_with(&out));
            }
        }
        for end in 0..body() {
            assert!(open(&file[..end]).is_err(), "inside the header");
        }
    }

    #[test]
    fn appended_bytes_are_noticed() {
        for len in [0, 5, CHUNK_LEN, CHUNK_LEN + 5] {
            for extra in [1, TAG_LEN, SEALED_LEN] {
                let mut file = seal(&plain(len));
                file.extend(vec![0; extra]);
                let (error, _) = open(&file).unwrap_err();
                if len > 0 && len % CHUNK_LEN == 0 {
                    assert!(matches!(error, FileError::Appended(_)), "{len}+{extra}: {error}");
                }
            }
        }
    }

    #[test]
    fn chunks_out_of_order_dropped_repeated_or_of_another_file_are_noticed() {
        let file = seal(&plain(4 * CHUNK_LEN));
        let (head, chunks): (&[u8], Vec<&[u8]>) = (&file[..body()], file[body()..].chunks(SEALED_LEN).collect());
        let other_header = Header::new([1, 2, 3, 4, 5, 6, 8], &[9; 136]).unwrap();
        let mut other = Vec::new();
        encrypt(&other_header, &KEY, Cursor::new(plain(4 * CHUNK_LEN)), &mut other, |_| {}).unwrap();
        let foreign: Vec<&[u8]> = other[body()..].chunks(SEALED_LEN).collect();
        for order in [
            vec![chunks[1], chunks[0], chunks[2], chunks[3]],
            vec![chunks[0], chunks[2], chunks[3]],
            vec![chunks[0], chunks[0], chunks[1], chunks[2], chunks[3]],
            vec![chunks[0], chunks[1], chunks[3], chunks[2]],
            vec![chunks[0], foreign[1], chunks[2], chunks[3]],
            vec![chunks[3]],
        ] {
            let (error, _) = open(&[head, &order.concat()].concat()).unwrap_err();
            assert!(matches!(error, FileError::Altered(_)), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let file = seal(&plain(3 * CHUNK_LEN));
        let said = |file: &[u8]| open(file).unwrap_err().0.to_string();
        assert!(said(&file[..body() + SEALED_LEN]).contains("truncated: the end is missing after 0 bytes"));
        assert!(said(&file[..body() + SEALED_LEN + 99]).contains("cut off, or altered, after 65536 bytes"));
        assert!(said(&[&file[..], b"more"].concat()).contains("appended to it after 196608 bytes"));
        let mut flipped = file.clone();
        flipped[body() + 5] ^= 1;
        assert!(said(&flipped).contains("altered, or its chunks are not in order, at 0 bytes"));
    }

    #[test]
    fn foreign_and_newer_files_are_told_from_damaged_ones() {
        assert!(matches!(open(b""), Err((FileError::NotOurs, _))));
        assert!(matches!(open(b"hello, world, this is text"), Err((FileError::NotOurs, _))));
        for at in [8, 9] {
            let mut file = seal(b"x");
            file[at] = 2;
            assert!(matches!(open(&file), Err((FileError::TooNew(..), _))));
        }
        for len in [0u16, 1025, 0xffff] {
            let mut file = seal(b"x");
            file[17..19].copy_from_slice(&len.to_be_bytes());
            assert!(matches!(open(&file), Err((FileError::Header, _))));
        }
        assert!(Header::new([0; 7], &[]).is_err() && Header::new([0; 7], &[0; 1025]).is_err());
        let short = decrypt(&header(), &KEY[1..], io::empty(), &mut Vec::new(), |_| {});
        assert!(matches!(short, Err(FileError::DataKey)));
    }

    #[test]
    fn errors_of_either_side_are_told_apart() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk"))
            }
        }
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let read = encrypt(&header(), &KEY, Broken, &mut Vec::new(), |_| {});
        assert!(matches!(read, Err(FileError::Read(_))));
        let write = encrypt(&header(), &KEY, &b"x"[..], &mut Broken, |_| {});
        assert!(matches!(write, Err(FileError::Write(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_length_in_any_pieces_comes_back(len in 0..3 * CHUNK_LEN + 9, piece in 1..100_000usize) {
            let plaintext = plain(len);
            let mut file = Vec::new();
            let mut seen = 0;
            encrypt(&header(), &KEY, Drip(Cursor::new(plaintext.clone()), piece), &mut file, |n| seen += n).unwrap();
            prop_assert_eq!(seen, len);
            let mut from = Drip(Cursor::new(file), piece);
            let read = Header::read(&mut from).unwrap();
            prop_assert_eq!(&read, &header());
            let mut out = Vec::new();
            decrypt(&read, &KEY, from, &mut out, |_| {}).unwrap();
            prop_assert!(out == plaintext);
        }

        #[test]
        fn one_flipped_bit_anywhere_is_noticed(len in 0..2 * CHUNK_LEN, at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let plaintext = plain(len);
            let mut file = seal(&plaintext);
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
            let (_, out) = open(&file).expect_err("noticed");
            prop_assert!(plaintext.starts_with(&out), "nothing false is written");
        }

        #[test]
        fn a_cut_anywhere_is_noticed(len in 0..2 * CHUNK_LEN, at in any::<prop::sample::Index>()) {
            let plaintext = plain(len);
            let file = seal(&plaintext);
            let (_, out) = open(&file[..at.index(file.len())]).expect_err("noticed");
            prop_assert!(plaintext.starts_with(&out));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut ours = MAGIC.to_vec();
            ours.extend(&bytes);
            prop_assert!(open(&bytes).is_err());
            prop_assert!(open(&ours).is_err());
        }
    }
}
