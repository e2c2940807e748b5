//! Service level objectives: from pages of metrics to what is said of an application. Pure arithmetic.
//!
//! The way of a figure: [`page::read`] takes what the objectives need out of one page of one machine;
//! [`Tracker`] compares it with the page before and adds up what was counted meanwhile; [`Store`] keeps the sums
//! of 72 hours in a few kilobytes; [`judge()`] answers from it. Every decision is a function of what was
//! observed, the time and the objective, and ends in an enum with its numbers. What was not observed is
//! unknown, never met and never breached.
//!
//! Quantiles are those of Prometheus' `histogram_quantile`. Counts are not: nothing is extrapolated to the ends
//! of a window, because the store knows what was counted between two scrapes. `docs/slo-arithmetic.md` lists
//! every difference, and `tests/prometheus/` holds them against a real Prometheus.
//!
//! Start with `judge.rs`, or with `tracker.rs` for resets, restarts and machines that come and go.

pub mod burn;
pub mod codec;
pub mod counter;
pub mod curve;
pub mod histogram;
pub mod judge;
pub mod matcher;
pub mod objective;
pub mod page;
pub mod store;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod tracker;

pub use burn::{BurnRates, Pair, Severity};
pub use codec::DecodeFault;
pub use histogram::{Buckets, Quantile, Range};
pub use judge::{Alert, Judgement, Standing, Verdict, judge, verdict};
pub use matcher::{Matcher, Op, Selector};
pub use objective::{Aim, Objective};
pub use page::{Page, Source};
pub use store::{Store, Window};
pub use tally::{Bound, Cell, Kind, Tally};
pub use tracker::{Instance, Tracker};
