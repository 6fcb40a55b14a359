//! What a node tells every peer about itself, once a second and at connect: sealed or not, and how far its ceremony is.
//!
//! It travels as the application part of the peers' Hello and is never written anywhere, since a sealed node can't
//! write batches (key-hierarchy §5). It is a peer's own word: it informs people, and starts offers whose safety
//! rests on other checks.

use std::time::Duration;

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{PEER_TEXT_MAX as TEXT_LEN_MAX, peer_text};

use super::operator_seal::OperatorSeal;
use super::status::Health;

const VERSION: u8 = 2;

/// The application part of a Hello: `version u8 ‖ health u8 ‖ operator_seal (0 | 1 ‖ 16) ‖ hsm_alg u8 ‖ assurance ‖
/// software version ‖ problem ‖ ceremony (0 | 1 ‖ id 16 ‖ threshold u8 ‖ left ms u64 ‖ entered) ‖ certificate's end ms u64
/// (0 = unknown; missing in the first builds)`. Later versions append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppHello {
    /// What it can do for a client.
    pub health: Health,
    /// The operator's seal that keeps it sealed; none if nobody does. A ceremony from before it must not open it.
    pub operator_seal: Option<OperatorSeal>,
    /// Mechanism of its KEM key.
    pub hsm_alg: u8,
    /// How much its HSM is known to be one.
    pub assurance: String,
    /// Its software's version.
    pub version: String,
    /// Empty, or what is wrong with it.
    pub problem: String,
    /// The ceremony open there.
    pub ceremony: Option<HelloCeremony>,
    /// When its certificate expires, milliseconds since 1970; 0 where it does not say.
    pub certificate_ends_ms: u64,
}

/// A ceremony's progress; never a share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HelloCeremony {
    /// Names it.
    pub id: [u8; 16],
    /// How many shares it needs.
    pub threshold: u8,
    /// How long the shares entered so far are kept.
    pub left: Duration,
    /// Their numbers.
    pub entered: Vec<u8>,
}

const fn health_byte(health: Health) -> u8 {
    match health {
        Health::Ok => 1,
        Health::Sealed => 2,
        Health::Uninitialized => 3,
        Health::Damaged => 4,
        Health::UpgradeNeeded => 5,
    }
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl AppHello {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let clip =
            |s: &str| s.char_indices().take_while(|(i, _)| *i < TEXT_LEN_MAX - 4).map(|(_, c)| c).collect::<String>();
        let w = Writer::new().u8(VERSION).u8(health_byte(self.health));
        let w = match self.operator_seal {
            None => w.u8(0),
            Some(OperatorSeal(name)) => w.u8(1).raw(&name),
        }
        .u8(self.hsm_alg)
        .field(clip(&self.assurance).as_bytes())
        .field(clip(&self.version).as_bytes())
        .field(clip(&self.problem).as_bytes());
        match &self.ceremony {
            None => w.u8(0),
            Some(c) => w.u8(1).raw(&c.id).u8(c.threshold).u64(ms(c.left)).field(&c.entered),
        }
        .u64(self.certificate_ends_ms)
        .finish()
    }

    /// Reads what a peer sent.
    ///
    /// # Errors
    /// When it is cut short or says something this version has no word for.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "hello of a peer";
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? < VERSION {
            return Err(Malformed(WHAT));
        }
        let health = match r.u8()? {
            1 => Health::Ok,
            2 => Health::Sealed,
            3 => Health::Uninitialized,
            4 => Health::Damaged,
            5 => Health::UpgradeNeeded,
            _ => return Err(Malformed(WHAT)),
        };
        let operator_seal = match r.u8()? {
            0 => None,
            1 => Some(OperatorSeal(r.array()?)),
            _ => return Err(Malformed(WHAT)),
        };
        let hsm_alg = r.u8()?;
        let mut text = || r.text(TEXT_LEN_MAX).map(peer_text);
        let (assurance, version, problem) = (text()?, text()?, text()?);
        let ceremony = match r.u8()? {
            0 => None,
            1 => Some(HelloCeremony {
                id: r.array()?,
                threshold: r.u8()?,
                left: Duration::from_millis(r.u64()?),
                entered: r.field(255)?.to_vec(),
            }),
            _ => return Err(Malformed(WHAT)),
        };
        let certificate_ends_ms = if r.rest().is_empty() { 0 } else { r.u64()? };
        Ok(Self { health, operator_seal, hsm_alg, assurance, version, problem, ceremony, certificate_ends_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> AppHello {
        AppHello {
            health: Health::Sealed,
            operator_seal: Some(OperatorSeal([9; 16])),
            hsm_alg: 2,
            assurance: "software".into(),
            version: "0.1.0".into(),
            problem: String::new(),
            ceremony: Some(HelloCeremony {
                id: [7; 16],
                threshold: 3,
                left: Duration::from_secs(900),
                entered: vec![1, 4],
            }),
            certificate_ends_ms: 1_800_000_000_000,
        }
    }

    #[test]
    fn reads_back_what_was_written_and_tolerates_what_a_later_version_appends() {
        for h in [hello(), AppHello { operator_seal: None, ceremony: None, health: Health::Ok, ..hello() }] {
            let mut bytes = h.encode();
            assert_eq!(AppHello::decode(&bytes), Ok(h.clone()));
            bytes.extend_from_slice(b"more");
            assert_eq!(AppHello::decode(&bytes), Ok(h));
        }
    }

    #[test]
    fn what_a_peer_says_can_not_command_a_terminal() {
        let hostile = AppHello { problem: "\u{1b}[2Jall is well\r\n".into(), version: "\u{9b}2J".into(), ..hello() };
        let heard = AppHello::decode(&hostile.encode()).expect("readable");
        assert_eq!((heard.problem.as_str(), heard.version.as_str()), (" [2Jall is well  ", " 2J"));
    }

    #[test]
    fn every_cut_is_an_error_and_a_long_problem_is_clipped() {
        let bytes = hello().encode();
        let without_certificate = bytes.len() - 8;
        for n in (0..bytes.len()).filter(|n| *n != without_certificate) {
            assert!(AppHello::decode(&bytes[..n]).is_err(), "cut at {n}");
        }
        let of_a_first_build = AppHello::decode(&bytes[..without_certificate]);
        assert_eq!(of_a_first_build, Ok(AppHello { certificate_ends_ms: 0, ..hello() }));
        let long = AppHello { problem: "é".repeat(2000), ..hello() };
        assert!(AppHello::decode(&long.encode()).expect("still readable").problem.len() <= TEXT_LEN_MAX);
    }
}
