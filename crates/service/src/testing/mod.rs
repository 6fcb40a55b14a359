//! What tests work with: nodes with tokens and peers, as the tests of ceremonies and members need them, and a desk alone, without
//! an HSM, for those of keys.

pub(crate) mod desk;
pub(crate) mod node;
