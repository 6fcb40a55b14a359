//! Frames as the nodes sent them, in a pcap file of bounded length.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, TsResolution};
use serde::{Deserialize, Serialize};

/// Bytes of a pcap file before its first packet, and before each packet's content.
const FILE_HEADER_LEN: u64 = 24;
const PACKET_HEADER_LEN: u64 = 16;
/// The greatest frame.
const FRAME_LEN_MAX: u32 = 65_535;

/// What a recording holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Recorded {
    /// Frames in it.
    pub frames: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Frames that came after it was full.
    pub missed: u64,
    /// When it was full, milliseconds from the start of the network.
    pub full_after_ms: Option<u64>,
}

/// Writes frames until the file is full.
pub struct Recorder<W: Write> {
    writer: PcapWriter<W>,
    limit: u64,
    done: Recorded,
    /// Wall clock time at the start of the network: from then on time is monotonic.
    begun: Duration,
}

impl<W: Write> Recorder<W> {
    /// Writes the file's head.
    pub fn new(file: W, limit: u64, begun: Duration) -> anyhow::Result<Self> {
        let header = PcapHeader {
            snaplen: FRAME_LEN_MAX,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(file, header).context("the recording")?;
        Ok(Self { writer, limit, done: Recorded { bytes: FILE_HEADER_LEN, ..Recorded::default() }, begun })
    }

    /// Records a frame that was sent at `now`, if there is room.
    pub fn frame(&mut self, now: Duration, frame: &[u8]) -> anyhow::Result<()> {
        let len = PACKET_HEADER_LEN + frame.len() as u64;
        if self.done.full_after_ms.is_some() || self.done.bytes + len > self.limit {
            self.done.full_after_ms.get_or_insert(now.as_millis() as u64);
            self.done.missed += 1;
            return Ok(());
        }
        let packet = PcapPacket::new(self.begun + now, frame.len() as u32, frame);
        self.writer.write_packet(&packet).context("the recording")?;
        self.done.bytes += len;
        self.done.frames += 1;
        Ok(())
    }

    /// Ends it.
    pub fn end(self) -> anyhow::Result<Recorded> {
        self.writer.into_writer().flush().context("the recording")?;
        Ok(self.done)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use pcap_file::pcap::PcapReader;

    use super::*;

    /// A recording of these frames.
    pub fn record(file: &mut Vec<u8>, frames: &[Vec<u8>]) {
        let mut recorder = Recorder::new(file, u64::MAX, Duration::ZERO).unwrap();
        frames.iter().for_each(|frame| recorder.frame(Duration::ZERO, frame).unwrap());
        recorder.end().unwrap();
    }

    #[test]
    fn what_is_recorded_is_read_again_and_what_has_no_room_is_counted() {
        let mut file = Vec::new();
        let second = Duration::from_secs(1);
        let mut recorder = Recorder::new(&mut file, 24 + 2 * 16 + 100 + 60, 1000 * second).unwrap();
        for (at, len) in [(1, 100), (2, 60), (3, 1), (4, 1)] {
            recorder.frame(second * at, &vec![at as u8; len]).unwrap();
        }
        let done = recorder.end().unwrap();
        assert_eq!(done, Recorded { frames: 2, bytes: 216, missed: 2, full_after_ms: Some(3000) });
        assert_eq!(file.len() as u64, done.bytes);
        let mut reader = PcapReader::new(file.as_slice()).unwrap();
        assert_eq!(reader.header().datalink, DataLink::ETHERNET);
        for (at, len) in [(1, 100), (2, 60)] {
            let packet = reader.next_packet().unwrap().unwrap();
            assert_eq!(
                (packet.timestamp, packet.data.as_ref()),
                (second * (1000 + at), vec![at as u8; len].as_slice())
            );
        }
        assert!(reader.next_packet().is_none());
    }
}
