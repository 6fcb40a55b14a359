//! What a campaign runs, and in which order. Pure.

use std::collections::BTreeSet;

use clap::ValueEnum;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::nemesis::Kind;
use crate::net::Backend;
use crate::run::Test;
use crate::seed::stream;
use crate::workload::Workload;

/// What stays the same over a whole campaign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Chooses order, combinations and each run's seed.
    pub seed: u64,
    /// Cluster sizes.
    pub sizes: Vec<u32>,
    /// How long faults go on in each run, seconds.
    pub seconds: u64,
    /// Calls per second that the clients aim at.
    pub rate: u32,
    /// Logical clients.
    pub clients: u32,
    /// Networks, the best first: a run has the first that can do all its faults.
    pub nets: Vec<Backend>,
}

/// One run of a campaign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// What clients do.
    pub workload: Workload,
    /// Faults, sorted.
    pub nemeses: Vec<Kind>,
    /// How many nodes.
    pub nodes: u32,
    /// How they are joined.
    pub net: Backend,
}

impl Item {
    /// `revoke kill+pause n3`: says which run of a campaign it is, also after the lists have grown.
    pub fn name(&self) -> String {
        let kinds: Vec<&str> = self.nemeses.iter().map(|k| k.name()).collect();
        format!("{} {} n{}", self.workload.name(), kinds.join("+"), self.nodes)
    }

    /// What to run.
    pub fn test(&self, settings: &Settings, number: u64, version: &str) -> Test {
        Test {
            workload: self.workload.name().into(),
            nemeses: self.nemeses.iter().map(|k| k.name().to_owned()).collect(),
            nodes: self.nodes,
            seconds: settings.seconds,
            rate: settings.rate,
            clients: settings.clients,
            seed: stream(settings.seed, &self.name(), number).random::<u32>().into(),
            version: version.to_owned(),
            net: self.net.name().into(),
        }
    }
}

/// Every workload with every kind at every size, in an order chosen by the seed; and what was left out, with the reason. Each
/// kind is met once before any is met again, so that a short budget meets them all.
pub fn singles(settings: &Settings) -> (Vec<Item>, Vec<String>) {
    let mut of_kinds: Vec<Vec<Item>> = Vec::new();
    let mut left_out = BTreeSet::new();
    for kind in Kind::value_variants().iter().copied() {
        let mut items = Vec::new();
        for nodes in settings.sizes.iter().copied() {
            if let Some(why) = kind.unfit(nodes) {
                left_out.insert(format!("{} at size {nodes}: {why}", kind.name()));
                continue;
            }
            match network(&settings.nets, &[kind]) {
                Err(why) => _ = left_out.insert(format!("{}: {why}", kind.name())),
                Ok(net) => items.extend(Workload::value_variants().iter().map(|w| Item {
                    workload: *w,
                    nemeses: vec![kind],
                    nodes,
                    net,
                })),
            }
        }
        items.shuffle(&mut stream(settings.seed, kind.name(), 0));
        of_kinds.push(items);
    }
    of_kinds.shuffle(&mut stream(settings.seed, "singles", 0));
    let longest = of_kinds.iter().map(Vec::len).max().unwrap_or(0);
    let round = |n: usize| of_kinds.iter().filter_map(move |items| items.get(n)).cloned();
    ((0..longest).flat_map(round).collect(), left_out.into_iter().collect())
}

/// The first network that can do all these faults; or why the last can't.
fn network(nets: &[Backend], kinds: &[Kind]) -> Result<Backend, &'static str> {
    let mut why = "no network is allowed";
    for net in nets {
        match kinds.iter().find_map(|kind| kind.lacks(*net)) {
            None => return Ok(*net),
            Some(reason) => why = reason,
        }
    }
    Err(why)
}

/// The `number`-th pair or triple; `None` when no size allows two kinds.
pub fn combination(settings: &Settings, number: u64) -> Option<Item> {
    let mut rng = stream(settings.seed, "combinations", number);
    let fit = |nodes: u32| -> Vec<Kind> {
        let possible = |kind: &Kind| kind.unfit(nodes).is_none() && network(&settings.nets, &[*kind]).is_ok();
        Kind::value_variants().iter().copied().filter(possible).collect()
    };
    let sizes: Vec<u32> = settings.sizes.iter().copied().filter(|n| fit(*n).len() >= 2).collect();
    let nodes = *sizes.get(rng.random_range(0..sizes.len().max(1)))?;
    let mut kinds = fit(nodes);
    kinds.shuffle(&mut rng);
    let many = rng.random_range(2..=3);
    let mut nemeses: Vec<Kind> = Vec::new();
    for kind in kinds {
        // Only what can go on together, on one network.
        let with = [nemeses.as_slice(), &[kind]].concat();
        let clash = nemeses.iter().any(|other| kind.clashes(*other).is_some());
        if nemeses.len() < many && !clash && network(&settings.nets, &with).is_ok() {
            nemeses = with;
        }
    }
    nemeses.sort_unstable();
    let net = network(&settings.nets, &nemeses).ok()?;
    let workloads = Workload::value_variants();
    Some(Item { workload: workloads[rng.random_range(0..workloads.len())], nemeses, nodes, net })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(seed: u64) -> Settings {
        Settings {
            seed,
            sizes: vec![1, 3, 5],
            seconds: 60,
            rate: 150,
            clients: 12,
            nets: Backend::value_variants().to_vec(),
        }
    }

    #[test]
    fn every_workload_meets_every_kind_at_every_size_that_allows_it() {
        let (items, left_out) = singles(&settings(1));
        let names: BTreeSet<String> = items.iter().map(Item::name).collect();
        assert_eq!(names.len(), items.len(), "none twice");
        for workload in Workload::value_variants() {
            for kind in Kind::value_variants() {
                for nodes in [1, 3, 5] {
                    let item = Item { workload: *workload, nemeses: vec![*kind], nodes, net: Backend::Tap };
                    assert_eq!(names.contains(&item.name()), kind.unfit(nodes).is_none(), "{}", item.name());
                }
            }
        }
        assert!(left_out.iter().any(|l| l.starts_with("partition at size 1: ")), "{left_out:?}");
        let kinds = Kind::value_variants().len();
        let first: BTreeSet<Kind> = items[..kinds].iter().map(|i| i.nemeses[0]).collect();
        assert_eq!(first.len(), kinds, "each kind once before any again");
        assert!(!names.contains("revoke partition n1") && names.contains("revoke kill n1"));
        assert_ne!(items, singles(&settings(2)).0, "the seed chooses the order");
        assert_eq!(items, singles(&settings(1)).0);
    }

    #[test]
    fn a_run_has_the_first_network_that_can_do_its_faults_and_what_none_can_is_left_out() {
        let (items, left_out) = singles(&settings(1));
        let net = |kind: Kind| items.iter().find(|i| i.nemeses == [kind]).map(|i| i.net);
        assert_eq!((net(Kind::Packet), net(Kind::Stream)), (Some(Backend::Tap), Some(Backend::Proxy)));
        assert!(!left_out.iter().any(|l| l.starts_with("stream: ")), "{left_out:?}");
        let one = Settings { nets: vec![Backend::Veth], ..settings(1) };
        let (items, left_out) = singles(&one);
        assert!(items.iter().all(|i| i.net == Backend::Veth && i.nemeses[0].lacks(Backend::Veth).is_none()));
        assert!(left_out.iter().any(|l| l.starts_with("packet: it takes --net tap")), "{left_out:?}");
        let combined: Vec<Item> = (0..200).map(|n| combination(&one, n).unwrap()).collect();
        assert!(combined.iter().all(|i| i.nemeses.iter().all(|k| k.lacks(Backend::Veth).is_none())));
    }

    #[test]
    fn combinations_are_pairs_and_triples_of_what_fits() {
        let items: Vec<Item> = (0..200).map(|n| combination(&settings(1), n).unwrap()).collect();
        for item in &items {
            assert!(item.nemeses.is_sorted() && item.nemeses.windows(2).all(|k| k[0] != k[1]), "{}", item.name());
            assert!(item.nemeses.iter().all(|k| k.unfit(item.nodes).is_none()), "{}", item.name());
            assert!(item.nemeses.iter().all(|k| k.lacks(item.net).is_none()), "{}", item.name());
            let clash = |a: &Kind| item.nemeses.iter().any(|b| a.clashes(*b).is_some());
            assert!(!item.nemeses.iter().any(clash), "{}", item.name());
        }
        for many in [2, 3] {
            assert!(items.iter().any(|i| i.nemeses.len() == many));
        }
        assert!([1, 3, 5].iter().all(|n| items.iter().any(|i| i.nodes == *n)));
        let seeds: BTreeSet<u64> = (0..50).map(|n| items[0].test(&settings(1), n, "v").seed).collect();
        assert!(seeds.len() > 45, "the same combination again has another seed");
        assert_eq!(combination(&Settings { sizes: vec![], ..settings(1) }, 0), None);
    }
}
