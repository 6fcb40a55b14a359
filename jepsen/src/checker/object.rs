//! What linearizability is judged by: an object with a state, and what each call says about it. (It is a local property: each
//! object is judged by itself.)

use std::fmt::Debug;
use std::hash::Hash;

use crate::history::Op;

/// An object at one moment. The default is how every object begins.
pub trait Object: Clone + Default + PartialEq + Eq + Hash + Debug + Send + Sync + 'static {
    /// A call and what was seen of it.
    type Step: Clone + Debug + Send + Sync;

    /// What the object is called in findings.
    const WHAT: &'static str;

    /// Which object a call is about, and what it says; `None` when it says nothing about an object of this kind.
    fn step_of(op: &Op) -> Option<(String, Self::Step)>;

    /// A step, for people.
    fn describe(step: &Self::Step) -> String {
        format!("{step:?}")
    }

    /// The object after the step; `None` when this object can't have answered so.
    fn after(&self, step: &Self::Step) -> Option<Self>;
}
