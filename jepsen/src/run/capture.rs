//! Searches what was recorded of the network: in each frame, and across the border of two segments of one connection.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Context as _;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::pcap::PcapReader;

use crate::checker::Evidence;
use crate::checker::secrets::Canaries;
use crate::net::Recorded;

/// As many places are named; one would do.
const NAMED_MAX: usize = 20;

/// Searches a recording; what it does not hold is said.
pub fn search_file(
    file: &Path,
    recorded: &Recorded,
    canaries: &Canaries,
    evidence: &mut Evidence,
) -> anyhow::Result<()> {
    let open = File::open(file).with_context(|| file.display().to_string())?;
    evidence.scanned_bytes += recorded.bytes;
    evidence.leaks.extend(search(BufReader::new(open), canaries)?);
    if let Some(ms) = recorded.full_after_ms {
        let Recorded { frames, missed, .. } = recorded;
        evidence.notes.push(format!(
            "net.pcap was full after {:.1} s: it holds {frames} frames, and {missed} later ones were not searched; --capture makes it larger",
            ms as f64 / 1000.0
        ));
    }
    Ok(())
}

/// One direction of a connection: both addresses and ports.
type Flow = ([u8; 4], [u8; 4], u16, u16);

fn search(file: impl Read, canaries: &Canaries) -> anyhow::Result<Vec<String>> {
    let mut reader = PcapReader::new(file).context("net.pcap")?;
    let mut found = Vec::new();
    // By flow, the sequence number that comes next and the end of what came last.
    let mut ends: HashMap<Flow, (u32, Vec<u8>)> = HashMap::new();
    let mut number = 0_u64;
    while let Some(packet) = reader.next_packet() {
        let packet = packet.context("net.pcap")?;
        number += 1;
        let mut hits = canaries.find(&packet.data);
        if let Some((flow, sequence, payload)) = segment(&packet.data) {
            let end = ends.entry(flow).or_default();
            let kept = if end.0 == sequence { std::mem::take(&mut end.1) } else { vec![] };
            let stream = [&kept, payload].concat();
            if hits.is_empty() && !kept.is_empty() {
                let border = &stream[..stream.len().min(kept.len() + canaries.longest())];
                hits.extend(canaries.find(border));
            }
            let keep = stream.len().saturating_sub(canaries.longest() - 1);
            *end = (sequence.wrapping_add(payload.len() as u32), stream[keep..].to_vec());
        }
        if found.len() < NAMED_MAX {
            found.extend(hits.into_iter().map(|hit| format!("net.pcap, frame {number}: {hit}")));
        }
    }
    Ok(found)
}

/// A TCP segment that carries something.
fn segment(frame: &[u8]) -> Option<(Flow, u32, &[u8])> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) = (packet.net?, packet.transport?) else { return None };
    let (source, target) = (ip.header().source(), ip.header().destination());
    let flow = (source, target, tcp.source_port(), tcp.destination_port());
    (!tcp.payload().is_empty()).then(|| (flow, tcp.sequence_number(), tcp.payload()))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::net::frame::tests::segment;
    use crate::net::record_for_tests;

    const SECRET: &[u8] = b"attack at dawn, 7f3a9c";

    /// What is found when these segments of one connection are sent, each with its sequence number.
    fn found(segments: &[(u32, &[u8])]) -> Vec<String> {
        let mut file = Vec::new();
        let frames: Vec<_> = segments.iter().map(|(sequence, payload)| segment(*sequence, payload)).collect();
        record_for_tests(&mut file, &frames);
        search(file.as_slice(), &Canaries::new([("the plan", SECRET)]).unwrap()).unwrap()
    }

    #[test]
    fn a_secret_is_found_in_a_frame_and_across_two() {
        assert_eq!(found(&[(1, b"nothing"), (8, SECRET)]), ["net.pcap, frame 2: the plan as it is, at byte 54"]);
        for cut in 1..SECRET.len() {
            let (head, tail) = SECRET.split_at(cut);
            let (head, tail) = ([b"something before ".as_slice(), head].concat(), [tail, b"and after"].concat());
            let parts = found(&[(1, &head), (1 + head.len() as u32, &tail)]);
            assert!(parts.len() == 1 && parts[0].starts_with("net.pcap, frame 2: the plan"), "{cut}: {parts:?}");
        }
        // In pieces smaller than the secret.
        let pieces: Vec<(u32, &[u8])> = SECRET.chunks(5).zip(0..).map(|(piece, i)| (5 * i, piece)).collect();
        assert_eq!(found(&pieces).len(), 1);
    }

    #[test]
    fn what_does_not_follow_is_not_joined() {
        let (head, tail) = SECRET.split_at(9);
        assert!(found(&[(1, head), (99, tail)]).is_empty());
        assert!(found(&[(1, b"attack at dusk"), (15, b"")]).is_empty());
    }

    #[test]
    fn what_had_no_room_is_said() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("net.pcap");
        let mut bytes = Vec::new();
        record_for_tests(&mut bytes, &[segment(1, b"x")]);
        std::fs::write(&file, &bytes).unwrap();
        let canaries = Canaries::new([("the plan", SECRET)]).unwrap();
        let mut evidence = Evidence::default();
        let whole = Recorded { frames: 1, bytes: bytes.len() as u64, ..Recorded::default() };
        search_file(&file, &whole, &canaries, &mut evidence).unwrap();
        assert_eq!((evidence.notes.len(), evidence.scanned_bytes), (0, bytes.len() as u64));
        let cut_off = Recorded { missed: 7, full_after_ms: Some(1500), ..whole };
        search_file(&file, &cut_off, &canaries, &mut evidence).unwrap();
        assert!(
            evidence.notes[0].contains("after 1.5 s") && evidence.notes[0].contains("7 later"),
            "{:?}",
            evidence.notes
        );
        assert!(search(b"no recording".as_slice(), &canaries).is_err());
        // Bytes that no segment is.
        assert_eq!(super::segment(&[0; 10]), None);
    }
}
