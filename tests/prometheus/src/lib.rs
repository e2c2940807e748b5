//! Series that are generated from a seed, what they count in truth, and what is documented that Prometheus makes
//! of them. `tests/compare.rs` asks a real Prometheus about them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper fails its test by a panic"
)]

pub mod case;
pub mod kinds;
pub mod model;
pub mod ours;
