//! Asking a Prometheus: what is sent, and what its answer means. Pure; nothing here connects.
//!
//! [`read()`] reads an answer of `/api/v1/query` or `/api/v1/query_range`, strictly and within bounds.
//! [`Query`] writes the PromQL of an objective, [`Request`] the parameters of the call. Answers end in the same
//! tallies as scrapes do ([`answer_tally`](tally::events)), so that one set of decisions serves both.
//!
//! Sources: prometheus/prometheus, `docs/querying/api.md`, `docs/querying/basics.md` and
//! `docs/querying/functions.md`. Fly.io's hosted Prometheus is a VictoriaMetrics (Fly.io docs, "Metrics on
//! Fly.io"), which adds `isPartial` to an answer and does not extrapolate `increase()`.
//!
//! A client library would bring its own HTTP client and its own idea of retries; `prometheus-http-query` 0.8 does
//! so with reqwest, and reads native histograms no more strictly than this. What is here is the two parts of
//! it without a connection.

pub mod answer;
pub mod fly;
pub mod query;
pub mod tally;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Data, Fault, NativeHistogram, Point, Series, read};
pub use query::{Query, Request};
