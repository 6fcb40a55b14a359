//! When a node may stop, saying why: while its disk or its token is broken on purpose, and until it is whole again.

use std::cell::RefCell;
use std::ops::Range;

/// Parts of a node's log, in bytes.
pub type Windows = Vec<Range<u64>>;

/// What is excused of each node.
#[derive(Default)]
pub struct Excuses(RefCell<Vec<Excuse>>);

struct Excuse {
    node: u32,
    from: u64,
    /// Not over yet, if none.
    to: Option<u64>,
}

impl Excuses {
    /// From here in its log on the node may stop. More than one may hold at a time.
    pub fn begin(&self, node: u32, from: u64) {
        self.0.borrow_mut().push(Excuse { node, from, to: None });
    }

    /// Up to here: the newest excuse of the node is over.
    pub fn end(&self, node: u32, to: u64) {
        let mut all = self.0.borrow_mut();
        if let Some(excuse) = all.iter_mut().rev().find(|e| e.node == node && e.to.is_none()) {
            excuse.to = Some(to);
        }
    }

    /// Whether the node may stop now.
    pub fn holds(&self, node: u32) -> bool {
        self.0.borrow().iter().any(|e| e.node == node && e.to.is_none())
    }

    /// The parts of the node's log, `len` long, in which it may stop.
    pub fn windows(&self, node: u32, len: u64) -> Windows {
        let all = self.0.borrow();
        all.iter().filter(|e| e.node == node).map(|e| e.from..e.to.unwrap_or(len)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a window is a range")]
mod tests {
    use super::*;

    #[test]
    fn an_excuse_holds_until_it_ends_and_for_its_node_alone() {
        let excuses = Excuses::default();
        excuses.begin(2, 100);
        assert!(excuses.holds(2) && !excuses.holds(1));
        assert_eq!(excuses.windows(2, 500), Windows::from([100..500]));
        excuses.end(2, 300);
        assert!(!excuses.holds(2));
        assert_eq!(excuses.windows(2, 500), Windows::from([100..300]));
        assert!(excuses.windows(1, 500).is_empty());
    }
}
