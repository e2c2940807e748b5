//! Golive takes a web application from nothing to live on Fly.io from one Kubernetes object.

pub mod api;
pub mod causes;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod error;
pub mod exposition;
pub mod fly;
pub mod flytoml;
#[cfg(test)]
mod fuzz;
pub mod ical;
pub mod net;
pub mod notifier;
pub mod notify;
pub mod phase;
pub mod pipeline;
pub mod plan;
pub mod process;
pub mod promql;
pub mod reconcile;
pub mod redact;
pub mod slo;
pub mod status;
pub mod store;
pub mod triggers;
pub mod webhook;
