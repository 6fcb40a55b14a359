//! What an operator who reads this node's log should do now: said once when it begins, with the commands that help. The parts
//! below know facts alone.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use quorate_service::node::Node;
use quorate_service::seal::{Step, Verdict};

use crate::command::advice;

/// Between two looks. What has passed by the second one is not spoken of.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks, for as long as the node runs.
pub async fn keep(node: Arc<Node>) {
    let name = node.name().to_string();
    let mut look = tokio::time::interval(LOOK_EVERY);
    let (mut seen, mut said) = (Vec::new(), Vec::new());
    loop {
        look.tick().await;
        let verdicts: Vec<Verdict> = node.verdicts().into_iter().filter_map(|verdict| own(verdict, &name)).collect();
        let now: Vec<Case> = verdicts.iter().map(case).collect();
        said.retain(|case| now.contains(case));
        for (verdict, case) in verdicts.into_iter().zip(&now) {
            if seen.contains(case) && !said.contains(case) {
                let hint = advice::of(&quorate_grpc::verdict(verdict.clone()), &name).hint();
                match verdict {
                    // As every node once is.
                    Verdict::Uninitialized | Verdict::Joining { .. } | Verdict::Sealed { .. } => {
                        tracing::info!(node = %name, "{hint}");
                    }
                    _ => tracing::warn!(node = %name, "{hint}"),
                }
                said.push(*case);
            }
        }
        seen = now;
    }
}

/// What is one case, however its particulars move on: the kind of verdict, and whether a joiner waits to be approved.
type Case = (Discriminant<Verdict>, bool);

fn case(verdict: &Verdict) -> Case {
    (discriminant(verdict), matches!(verdict, Verdict::Joining { approve: Some(_), .. }))
}

/// What a verdict says of this node itself and has to be done here, and is not said in the log by whoever found it.
fn own(verdict: Verdict, name: &str) -> Option<Verdict> {
    match verdict {
        Verdict::Uninitialized
        | Verdict::Joining { .. }
        | Verdict::Disowned
        | Verdict::TimeHeld { .. }
        | Verdict::TimeAhead { .. } => Some(verdict),
        Verdict::Damaged { ref node, .. }
        | Verdict::UpgradeNeeded { ref node, .. }
        | Verdict::CertificateEnds { ref node, .. }
            if node == name =>
        {
            Some(verdict)
        }
        // Alone: who else is sealed, and how far a ceremony is, would be said with each change.
        Verdict::Sealed { nodes, step: Step::Custodians, .. } if nodes.iter().any(|node| node == name) => {
            Some(Verdict::Sealed { nodes: vec![name.to_owned()], all: false, step: Step::Custodians })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_speaks_of_its_own_node() {
        let damaged = |node: &str| Verdict::Damaged { node: node.into(), what: "x".into() };
        assert_eq!(own(damaged("n1"), "n1"), Some(damaged("n1")));
        assert_eq!(own(damaged("n2"), "n1"), None);
        let sealed = |nodes: &[&str], all| {
            let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
            Verdict::Sealed { nodes, all, step: Step::Custodians }
        };
        assert_eq!(own(sealed(&["n1", "n2"], true), "n1"), Some(sealed(&["n1"], false)));
        assert_eq!(own(sealed(&["n2"], false), "n1"), None);
        assert_eq!(own(Verdict::Healthy, "n1"), None);
    }

    #[test]
    fn what_only_moves_on_is_said_once() {
        let held = |clock_ms| case(&Verdict::TimeHeld { clock_ms });
        assert_eq!(held(1), held(2));
        let joins =
            |approve: Option<&str>| case(&Verdict::Joining { approve: approve.map(Into::into), why: "x".into() });
        assert_ne!(joins(None), joins(Some("AB")));
    }
}
