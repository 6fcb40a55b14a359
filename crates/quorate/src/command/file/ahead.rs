//! Reads a file on a thread of its own, ahead of who encrypts or decrypts it: both take about as long.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use zeroize::Zeroizing;

use super::format::FileError;

/// Chunks in a block: enough that handing one over costs little beside the work on it.
pub const CHUNKS: usize = 4;
/// Blocks there are; the memory for a file of any length.
const BLOCKS: usize = 4;

/// Some chunks of the input, each at the beginning of a slot of its own.
struct Block {
    bytes: Zeroizing<Vec<u8>>,
    slot: usize,
    chunk: usize,
    /// Bytes of input in it.
    len: usize,
}

impl Block {
    fn new(chunk: usize, slot: usize) -> Self {
        // Never longer nor shorter: it does not move, so no copy of plaintext is left behind.
        Self { bytes: Zeroizing::new(vec![0; slot * CHUNKS]), slot, chunk, len: 0 }
    }

    fn fill(&mut self, from: &mut impl Read) -> io::Result<()> {
        self.len = 0;
        for slot in self.bytes.chunks_mut(self.slot) {
            let read = fill(from, &mut slot[..self.chunk])?;
            self.len += read;
            if read < self.chunk {
                break;
            }
        }
        Ok(())
    }

    /// Whether there may be more input.
    fn is_full(&self) -> bool {
        self.len == self.chunk * CHUNKS
    }
}

/// An input in blocks of chunks, one block after the other.
pub struct Ahead {
    full: Receiver<io::Result<Block>>,
    empty: SyncSender<Block>,
    current: Block,
    /// Read already, so that the last chunk is known as such.
    next: Option<Block>,
    /// Number of the current block's first chunk.
    first: u64,
}

impl Ahead {
    /// Starts to read chunks of `chunk` bytes, each into a slot of `slot` bytes.
    pub fn start(mut from: impl Read + Send + 'static, chunk: usize, slot: usize) -> Result<Self, FileError> {
        let (give, full) = sync_channel(BLOCKS);
        let (empty, take) = sync_channel(BLOCKS);
        for _ in 0..BLOCKS {
            // There is room for all, and the other end is here.
            let _ = empty.send(Block::new(chunk, slot));
        }
        let read = move || {
            while let Ok(mut block) = take.recv() {
                let filled = block.fill(&mut from).map(|()| block);
                let more = filled.as_ref().is_ok_and(Block::is_full);
                if give.send(filled).is_err() || !more {
                    return;
                }
            }
        };
        // Not waited for: when the output fails, the input may have nothing to say for ever.
        std::thread::Builder::new().name("read".into()).spawn(read).map_err(FileError::Read)?;
        let current = receive(&full)?;
        let mut ahead = Self { full, empty, current, next: None, first: 0 };
        ahead.look_ahead()?;
        Ok(ahead)
    }

    fn look_ahead(&mut self) -> Result<(), FileError> {
        let next = if self.current.is_full() { Some(receive(&self.full)?) } else { None };
        self.next = next.filter(|next| next.len > 0);
        Ok(())
    }

    /// How many chunks the block has. An empty input has one too.
    pub fn chunks(&self) -> usize {
        self.current.len.div_ceil(self.current.chunk).max(1)
    }

    /// The number of a chunk in the whole input, and whether it is the last.
    pub fn position(&self, place: usize) -> Result<(u32, bool), FileError> {
        let number = u32::try_from(self.first + place as u64).map_err(|_| FileError::TooLong)?;
        Ok((number, self.next.is_none() && place + 1 == self.chunks()))
    }

    /// A chunk of the block, and the rest of its slot.
    pub fn slot(&mut self, place: usize) -> (&mut [u8], &mut [u8]) {
        let block = &mut self.current;
        let len = block.len.saturating_sub(place * block.chunk).min(block.chunk);
        block.bytes[place * block.slot..(place + 1) * block.slot].split_at_mut(len)
    }

    /// The block's first `len` bytes, slots and all.
    pub fn bytes(&self, len: usize) -> &[u8] {
        &self.current.bytes[..len]
    }

    /// Goes on to the next block; false when this was the last.
    pub fn advance(&mut self) -> Result<bool, FileError> {
        let Some(next) = self.next.take() else { return Ok(false) };
        self.first += self.chunks() as u64;
        // Not needed any more once everything is read.
        let _ = self.empty.send(std::mem::replace(&mut self.current, next));
        self.look_ahead()?;
        Ok(true)
    }
}

fn receive(full: &Receiver<io::Result<Block>>) -> Result<Block, FileError> {
    let ended = || FileError::Read(io::ErrorKind::UnexpectedEof.into());
    full.recv().map_err(|_| ended())?.map_err(FileError::Read)
}

/// Reads until `buffer` is full or the input ends; how much there was.
pub fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match from.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}
