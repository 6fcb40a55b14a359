//! What state the cluster is in, in the protocol's words.

use quorate_proto::v1;
use quorate_proto::v1::verdict as kind;
use quorate_proto::v1::verdict::Kind;
use quorate_proto::v1::verdict::sealed::Step as SealedStep;
use quorate_service::seal::{Severity, Step, Verdict};

use crate::operator::ceremony;

pub(crate) fn severity(severity: Severity) -> v1::Severity {
    match severity {
        Severity::Ok => v1::Severity::Ok,
        Severity::Degraded => v1::Severity::Degraded,
        Severity::Sealed => v1::Severity::Sealed,
        Severity::Uninitialized => v1::Severity::Uninitialized,
        Severity::NoMajority => v1::Severity::NoMajority,
        Severity::Removed => v1::Severity::Removed,
    }
}

/// A new one does not compile until the protocol has a word for it.
pub fn verdict(verdict: Verdict) -> v1::Verdict {
    let severity = severity(verdict.severity()).into();
    let kind = match verdict {
        Verdict::Healthy => Kind::Healthy(kind::Healthy {}),
        Verdict::Uninitialized => Kind::Uninitialized(kind::Uninitialized {}),
        Verdict::Joining { approve, why } => Kind::Joining(kind::Joining { approve: approve.unwrap_or_default(), why }),
        Verdict::Disowned => Kind::Disowned(kind::Disowned {}),
        Verdict::Damaged { node, what } => Kind::Damaged(kind::Trouble { node, what }),
        Verdict::UpgradeNeeded { node, what } => Kind::UpgradeNeeded(kind::Trouble { node, what }),
        Verdict::NoMajority { reachable, voters, missing } => {
            Kind::NoMajority(kind::NoMajority { reachable: reachable as u32, voters: voters as u32, missing })
        }
        Verdict::NoLeader => Kind::NoLeader(kind::NoLeader {}),
        Verdict::Sealed { nodes, all, step } => {
            let step = match step {
                Step::Custodians => None,
                Step::Ceremony(open) => Some(SealedStep::Ceremony(ceremony(open))),
                Step::HandingOver => Some(SealedStep::HandingOver(kind::HandingOver {})),
            };
            Kind::Sealed(kind::Sealed { nodes, all, step })
        }
        Verdict::TimeHeld { clock_ms } => Kind::TimeHeld(kind::TimeHeld { clock_ms }),
        Verdict::TimeAhead { cluster_ms, clocks_ms } => Kind::TimeAhead(kind::TimeAhead { cluster_ms, clocks_ms }),
        Verdict::ClockOff { node, offset_ms } => Kind::ClockOff(kind::ClockOff { node, offset_ms }),
        Verdict::LowSpace { nodes } => Kind::LowSpace(kind::Nodes { nodes }),
        Verdict::Unreachable { nodes } => Kind::Unreachable(kind::Nodes { nodes }),
        Verdict::Doubted { node, what } => Kind::Doubted(kind::Trouble { node, what }),
        Verdict::CertificateEnds { node, ends_ms, expired } => {
            Kind::CertificateEnds(kind::CertificateEnds { node, ends_ms, expired })
        }
        Verdict::TwoVoters => Kind::TwoVoters(kind::TwoVoters {}),
    };
    v1::Verdict { severity, kind: Some(kind) }
}
