//! Asking a Prometheus: what is sent, and what its answer means. Pure; nothing here connects.
//!
//! [`read()`] reads an answer of `/api/v1/query` or `/api/v1/query_range`, strictly and within bounds.
//! [`Query`] writes the PromQL of an objective, [`Request`] the parameters of the call. Answers end in the same
//! tallies as scrapes do ([`tally`]), so that one set of decisions serves both.
//!
//! Sources: prometheus/prometheus, `docs/querying/api.md`, `docs/querying/basics.md` and
//! `docs/querying/functions.md`. Fly.io's hosted Prometheus is a VictoriaMetrics (Fly.io docs, "Metrics on
//! Fly.io"), which adds `isPartial` to an answer and does not extrapolate `increase()`.
//!
//! No crate is used: `prometheus-http-query` brings reqwest, a second HTTP client with connections of its own,
//! which would not pass through the guard for addresses that a user names.

pub mod answer;
pub mod fly;
pub mod query;
pub mod tally;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Data, Fault, NativeHistogram, Point, Series, read};
pub use query::{Query, Request, series};
