//! Which links a partition cuts. Pure.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// A shape of partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A random minority is cut off.
    Majority,
    /// The leader alone is cut off.
    Leader,
    /// Nothing reaches one node, but it reaches the others.
    Deaf,
    /// One node reaches nobody, but hears the others.
    Mute,
    /// Two halves that see each other only through one node.
    Bridge,
    /// Each node sees its neighbours, a majority with itself, and no two see the same.
    Ring,
    /// The links of one node are cut and restored again and again, each by itself.
    Flapping,
}

/// A partition: directed links that carry nothing, and how many nodes it takes from the majority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Its shape.
    pub shape: Shape,
    /// (from, to), nodes from 1.
    pub links: Vec<(u32, u32)>,
    /// Nodes that may be outside the majority.
    pub costs: u32,
    /// In words.
    pub words: String,
}

/// As many nodes may fail at a time with a majority left.
pub fn minority(nodes: u32) -> u32 {
    nodes.saturating_sub(1) / 2
}

/// Shapes that make sense with so many nodes; the leader's isolation is the most telling, and twice as likely.
pub fn shapes(nodes: u32) -> &'static [Shape] {
    match nodes {
        0..=2 => &[],
        3..=4 => {
            &[Shape::Majority, Shape::Leader, Shape::Leader, Shape::Deaf, Shape::Mute, Shape::Bridge, Shape::Flapping]
        }
        _ => &[
            Shape::Majority,
            Shape::Leader,
            Shape::Leader,
            Shape::Deaf,
            Shape::Mute,
            Shape::Bridge,
            Shape::Flapping,
            Shape::Ring,
        ],
    }
}

/// The links of a shape between these nodes.
pub fn cut(shape: Shape, members: &[u32], leader: Option<u32>, rng: &mut StdRng) -> Cut {
    let nodes = members.len() as u32;
    let mut order = members.to_vec();
    order.shuffle(rng);
    let pairs = || members.iter().flat_map(|a| members.iter().map(move |b| (*a, *b)));
    let between = |side: &dyn Fn(u32) -> u32| -> Vec<(u32, u32)> {
        pairs().filter(|(a, b)| a != b && side(*a) != 0 && side(*b) != 0 && side(*a) != side(*b)).collect()
    };
    let few = minority(nodes);
    // The leader is the most telling victim; without one, anybody.
    let victim = if shape == Shape::Leader || rng.random_ratio(1, 2) { leader.unwrap_or(order[0]) } else { order[0] };
    let (links, costs, words) = match shape {
        Shape::Majority => {
            let cut_off: Vec<u32> = order[..rng.random_range(1..=few.max(1)) as usize].to_vec();
            let links = between(&|n| if cut_off.contains(&n) { 1 } else { 2 });
            (links, cut_off.len() as u32, format!("{cut_off:?} cut off"))
        }
        Shape::Leader => (between(&|n| if n == victim { 1 } else { 2 }), 1, format!("n{victim} cut off")),
        Shape::Flapping => (between(&|n| if n == victim { 1 } else { 2 }), 1, format!("the links of n{victim} flap")),
        Shape::Deaf => {
            let links = members.iter().filter(|n| **n != victim).map(|n| (*n, victim)).collect();
            (links, 1, format!("n{victim} hears nobody"))
        }
        Shape::Mute => (
            members.iter().filter(|n| **n != victim).map(|n| (victim, *n)).collect(),
            1,
            format!("n{victim} reaches nobody"),
        ),
        Shape::Bridge => {
            let (bridge, rest) = (order[0], &order[1..]);
            let left: Vec<u32> = rest[..rest.len() / 2].to_vec();
            let side = |n: u32| {
                if n == bridge {
                    0
                } else if left.contains(&n) {
                    1
                } else {
                    2
                }
            };
            (between(&side), few, format!("n{bridge} between {left:?} and the others"))
        }
        Shape::Ring => {
            let place = |n: u32| order.iter().position(|o| *o == n).unwrap_or(0) as u32;
            // So many on each side that each sees a majority, itself included.
            let reach = (nodes / 2).div_ceil(2);
            let neighbours = |a: u32, b: u32| {
                let gap = place(a).abs_diff(place(b));
                gap <= reach || gap >= nodes - reach
            };
            let links = pairs().filter(|(a, b)| a != b && !neighbours(*a, *b)).collect();
            (links, few, format!("each sees its neighbours in {order:?}"))
        }
    };
    let leader = leader.map_or("leader unknown".to_owned(), |l| format!("leader n{l}"));
    Cut { shape, links, costs, words: format!("{shape:?}: {words} ({leader})") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seed::stream;

    proptest! {
        #[test]
        fn a_majority_can_always_form_and_something_is_always_cut(seed: u64, nodes in 3..8_u32, leader in 1..8_u32, gap in 1..3_u32) {
            // Numbers of nodes have gaps where members were removed.
            let members: Vec<u32> = (1..=nodes).map(|n| n * gap).collect();
            for shape in shapes(nodes) {
                let cut = cut(*shape, &members, Some(leader.min(nodes) * gap), &mut stream(seed, "cut", 0));
                prop_assert!(!cut.links.is_empty() && cut.costs >= 1 && cut.costs <= minority(nodes));
                prop_assert!(cut.links.iter().all(|(a, b)| a != b && members.contains(a) && members.contains(b)));
                // Some node has two-way links to a majority, itself included.
                let two_way = |a: u32, b: u32| !cut.links.contains(&(a, b)) && !cut.links.contains(&(b, a));
                let best = members.iter().map(|a| members.iter().filter(|b| two_way(*a, **b)).count()).max();
                prop_assert!(best > Some(nodes as usize / 2), "{:?}", cut);
            }
        }
    }

    #[test]
    fn the_shapes() {
        let links = |shape, nodes: u32, leader| {
            cut(shape, &(1..=nodes).collect::<Vec<_>>(), Some(leader), &mut stream(1, "cut", 0)).links
        };
        assert_eq!(links(Shape::Leader, 3, 2), [(1, 2), (2, 1), (2, 3), (3, 2)]);
        let deaf = links(Shape::Deaf, 3, 1);
        assert!(deaf.len() == 2 && deaf[0].1 == deaf[1].1);
        let mute = links(Shape::Mute, 3, 1);
        assert!(mute.len() == 2 && mute[0].0 == mute[1].0);
        assert_eq!(links(Shape::Flapping, 3, 2).len(), 4);
        assert_eq!(links(Shape::Bridge, 5, 1).len(), 8);
        assert_eq!(links(Shape::Ring, 5, 1).len(), 10);
        assert!(shapes(1).is_empty());
    }
}
