//! Where figures come from: the application's pages, a Prometheus, Fly.io's logs, and probes from outside.
//!
//! [`look::Look::new`] collects what a look needs, in a pass; [`look::Look::make`] asks, in the background: it
//! may take a minute, and a pass does not wait for it. Everything that it asks is bounded in bytes and in
//! time, and goes through the guard against private addresses. A look wakes no machine that sleeps.
//!
//! Start with `look.rs`.

mod application;
pub mod fault;
pub mod lines;
pub mod look;
mod machines;
mod pages;
mod probes;
mod series;
mod server;
pub mod whom;
