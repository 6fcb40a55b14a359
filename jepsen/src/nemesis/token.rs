//! One node's token fails, hangs, or computes wrongly, while it is asked for something: it is sealed and opened again, or the node
//! is started on it. A node may stop then, if it says why; it must serve again once the token works, and nothing wrong before.

use std::time::Duration;

use jepsen_pkcs11_forwarder::order::Order;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{HOLD, Kind, World};
use crate::history::Call;

/// What goes wrong, by kind.
fn choose(kind: Kind, rng: &mut StdRng) -> Order {
    match kind {
        Kind::HsmError if rng.random_ratio(1, 2) => Order::SessionInvalid,
        Kind::HsmError => Order::DeviceError,
        Kind::HsmSlow if rng.random_ratio(1, 2) => Order::Hang,
        Kind::HsmSlow => Order::Delay(Duration::from_millis(rng.random_range(50..3000))),
        _ => Order::Wrong,
    }
}

impl World<'_> {
    /// A fault of one node's token; `kind` says which.
    pub(super) async fn token(&self, kind: Kind, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        let Some(token) = self.cluster.token(node) else {
            self.give(taken);
            return Ok(());
        };
        let (order, before) = (choose(kind, rng), token.count());
        self.cluster.excuse(node);
        token.order(order)?;
        let restart = rng.random_ratio(1, 2);
        let how = if restart { "while it starts" } else { "while it is sealed and opened" };
        let words = format!("{words}: {} {how}", order.words());
        self.tell(kind.name(), &words);
        if restart {
            if self.cluster.kill(node).is_ok() {
                self.cluster.start_node(node)?;
            }
        } else {
            let mut process = self.context.process();
            let _ = self.context.call(&mut process, node, None, Call::Seal).await;
            // It may be refused, hang, or succeed where one new session cures it.
            let hold = Duration::from_secs_f64(HOLD.end);
            let _ = self.context.ceremony(node, self.cluster.ceremony_within(node, hold)).await;
        }
        self.nap(rng.random_range(HOLD)).await;
        token.order(Order::None)?;
        let count = token.count() - before;
        if count > 0 {
            self.took_effect(kind, &format!("{words}, {count} calls"));
        }
        self.bring_back(node).await?;
        self.tell(&format!("heal-{}", kind.name()), &format!("n{node}"));
        self.cluster.excuse_ends(node);
        self.give(taken);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::stream;

    #[test]
    fn each_kind_has_its_orders() {
        let mut rng = stream(1, "token", 0);
        let mut all = |kind| (0..50).map(|_| choose(kind, &mut rng)).collect::<Vec<_>>();
        let errors = all(Kind::HsmError);
        assert!(errors.contains(&Order::DeviceError) && errors.contains(&Order::SessionInvalid));
        let slow = all(Kind::HsmSlow);
        assert!(slow.contains(&Order::Hang) && slow.iter().any(|o| matches!(o, Order::Delay(_))));
        assert!(all(Kind::HsmWrong).iter().all(|o| *o == Order::Wrong));
    }
}
