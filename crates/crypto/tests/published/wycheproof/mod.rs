//! Project Wycheproof: what implementations got wrong.

mod agreement;
mod kem;
mod mac;
mod ml_dsa;
mod rsa;
mod signature;
mod symmetric;
