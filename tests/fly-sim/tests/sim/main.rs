//! The simulator answers as Fly does: states, refusals, checks, the edge, faults and the ledger.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apps;
mod client;
mod edge;
mod faults;
mod life;
mod life_rules;
mod machines;
mod refusals;
