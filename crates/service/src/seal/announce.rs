//! What a node says of itself as it comes up sealed: whoever reads its log at night is to know what there is and what to do.

use quorate_replica::Replica;

use crate::node::Node;

impl Node {
    /// Says what this sealed node holds, and what opens it.
    pub(crate) fn log_sealed_start(&self, replica: &Replica) {
        let status = replica.status();
        let me = status.members().get(&status.id);
        let part = match (me, status.membership.is_voter(status.id)) {
            (None, _) => "no member yet, as far as its state goes",
            (_, true) => "a voter",
            (_, false) => "a learner",
        };
        let shares = self.seal_state(replica).map_or_else(
            |_| "its custodians".to_owned(),
            |seal| format!("{} of its {} custodians", seal.config.threshold, seal.config.total),
        );
        let others: Vec<_> =
            status.members().values().map(|m| m.name.as_str()).filter(|n| *n != self.name().as_str()).collect();
        tracing::info!(
            node = %self.config.name,
            part,
            applied = status.applied,
            log_ends = status.last_log,
            others = others.join(", "),
            "sealed: it votes and replicates, and uses no key before {shares} enter their shares at any node (`quorate operator unseal`)"
        );
    }
}
