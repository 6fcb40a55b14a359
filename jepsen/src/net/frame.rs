//! Ethernet frames of the run's network. Pure.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use rand::RngExt;
use rand::rngs::StdRng;

use super::CLIENTS;

/// Bytes before an Ethernet frame's content: two addresses and a type.
const HEADER_LEN: usize = 14;
/// Where a TCP header has its checksum, RFC 9293 section 3.1.
const TCP_CHECKSUM_AT: usize = 16;

/// The hardware address of a place: locally administered, the place in its last byte.
pub fn hardware_address(place: u32) -> [u8; 6] {
    [0x02, 0x71, 0x75, 0x6f, 0, place as u8]
}

/// The place a frame is for; `None` for all (broadcast, multicast), and for what no place has.
pub fn destination(frame: &[u8]) -> Option<u32> {
    let address = frame.get(..6)?;
    let place = u32::from(address[5]);
    (address == hardware_address(place) && (place == CLIENTS || (1..CLIENTS).contains(&place))).then_some(place)
}

/// Turns one bit of the frame's content over: the receiver's IP or TCP checksum finds it, and the frame is dropped there.
/// False when there is nothing to turn over.
pub fn corrupt(frame: &mut [u8], rng: &mut StdRng) -> bool {
    if frame.len() <= HEADER_LEN {
        return false;
    }
    let byte = rng.random_range(HEADER_LEN..frame.len());
    frame[byte] ^= 1 << rng.random_range(0..8);
    true
}

/// Turns one bit of the TCP payload over and makes the checksum right again: only what is above TCP can find it.
/// False when the frame carries no TCP payload.
pub fn forge(frame: &mut [u8], rng: &mut StdRng) -> bool {
    let Some((header, payload, source, target)) = tcp(frame) else { return false };
    if payload == 0 {
        return false;
    }
    let header_len = frame.len() - payload - header;
    let byte = header + header_len + rng.random_range(0..payload);
    frame[byte] ^= 1 << rng.random_range(0..8);
    let Some(checksum) = tcp_checksum(frame, source, target) else { return false };
    frame[header + TCP_CHECKSUM_AT..][..2].copy_from_slice(&checksum.to_be_bytes());
    true
}

fn tcp_checksum(frame: &[u8], source: [u8; 4], target: [u8; 4]) -> Option<u16> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let TransportSlice::Tcp(tcp) = packet.transport? else { return None };
    tcp.calc_checksum_ipv4(source, target).ok()
}

/// Where the TCP header of a frame without trailer begins, how long the payload is, and both IP addresses.
fn tcp(frame: &[u8]) -> Option<(usize, usize, [u8; 4], [u8; 4])> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) = (packet.net?, packet.transport?) else { return None };
    let whole = tcp.slice().len();
    let header = frame.len().checked_sub(whole)?;
    // A trailer (padding of short frames) would lie behind it; a TAP device makes none.
    let ends_here = frame.get(header..)? == tcp.slice();
    let (source, target) = (ip.header().source(), ip.header().destination());
    ends_here.then(|| (header, tcp.payload().len(), source, target))
}

#[cfg(test)]
pub(crate) mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::seed::stream;

    /// A TCP segment from place 1 to place 2.
    pub fn segment(sequence: u32, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(hardware_address(1), hardware_address(2))
            .ipv4([10, 77, 0, 1], [10, 77, 0, 2], 64)
            .tcp(40_000, 7601, sequence, 1000);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    fn checksum_is_right(frame: &[u8]) -> bool {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return false };
        tcp.calc_checksum_ipv4([10, 77, 0, 1], [10, 77, 0, 2]).unwrap() == tcp.checksum()
    }

    #[test]
    fn a_frame_is_for_one_place_or_for_all() {
        assert_eq!(destination(&segment(1, b"x")), Some(2));
        let mut frame = segment(1, b"x");
        frame[..6].fill(0xff);
        assert_eq!((destination(&frame), destination(&frame[..3])), (None, None));
        frame[..6].copy_from_slice(&hardware_address(CLIENTS));
        assert_eq!(destination(&frame), Some(CLIENTS));
        frame[..6].copy_from_slice(&hardware_address(0));
        assert_eq!(destination(&frame), None);
    }

    #[test]
    fn corruption_turns_over_one_bit_that_a_checksum_finds_and_forgery_one_that_none_finds() {
        let sound = segment(7, b"attack at dawn");
        assert!(checksum_is_right(&sound));
        let differing = |frame: &[u8]| -> u32 { frame.iter().zip(&sound).map(|(a, b)| (a ^ b).count_ones()).sum() };
        let mut rng = stream(1, "frame", 0);
        for _ in 0..200 {
            let mut frame = sound.clone();
            assert!(corrupt(&mut frame, &mut rng));
            assert_eq!((differing(&frame), frame[..14] == sound[..14]), (1, true));

            let mut frame = sound.clone();
            assert!(forge(&mut frame, &mut rng));
            assert!(checksum_is_right(&frame));
            let payload = frame.len() - 14..;
            let changed: u32 =
                frame[payload.clone()].iter().zip(&sound[payload]).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(changed, 1);
            assert_eq!(
                frame[..frame.len() - 14 - 4],
                sound[..frame.len() - 14 - 4],
                "all but checksum, pointer, payload"
            );
        }
    }

    #[test]
    fn what_carries_nothing_is_not_forged() {
        let mut rng = stream(1, "frame", 0);
        let mut empty = segment(7, b"");
        assert!(!forge(&mut empty, &mut rng) && empty == segment(7, b""));
        assert!(!forge(&mut [0; 20], &mut rng) && !corrupt(&mut [0; 14], &mut rng) && !corrupt(&mut [], &mut rng));
        // A fragment, or a frame with a trailer, is left alone.
        let mut padded = segment(7, b"abc");
        padded.extend([0; 6]);
        assert!(!forge(&mut padded, &mut rng));
    }
}
