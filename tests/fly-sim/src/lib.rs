//! Fly.io on loopback, as far as Golive and a real flyctl can tell: for tests and the local world.
//!
//! It has its own types, written from public facts about Fly's API, and shares none with the
//! client: a simulator that shares the client's types agrees with the client's mistakes.
//!
//! ```no_run
//! # async fn demo() -> Result<(), fly_sim::SimError> {
//! let sim = fly_sim::Sim::start(fly_sim::Options::default()).await?;
//! println!("{} {}", sim.base_url(), sim.token("cabanas").unwrap_or_default());
//! # Ok(())
//! # }
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "a platform reads the clock; only the operator's decisions get the time as an argument"
)]

pub mod agent;
pub mod apps;
pub mod ca;
pub mod control;
pub mod core;
pub mod deletion;
pub mod edge;
pub mod error;
pub mod fault;
pub mod hook;
pub mod http;
pub mod id;
pub mod images;
pub mod latency;
pub mod ledger;
pub mod limit;
pub mod logs;
pub mod machine;
mod mangle;
pub mod mixture;
pub mod options;
mod placement;
pub mod platform;
pub mod prometheus;
pub mod record;
mod serve;
mod sim;
pub mod state;
pub mod strict;
pub mod volumes;

pub use fault::{Fault, Kind};
pub use hook::{Mutation, Pause, Point};
pub use images::{Image, Images};
pub use latency::Latency;
pub use options::{Options, OrgSeed};
pub use sim::{Sim, SimError};
