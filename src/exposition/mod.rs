//! Numbers that an application shows: samples of its metrics, and values in a JSON document. Pure.
//!
//! [`Reader`] reads Prometheus' text format 0.0.4 and OpenMetrics 1.0 entry by entry. It borrows from the
//! page and allocates only for a name or a value with an escape. [`value`] is the value of one counter or
//! gauge, [`Pointer`] finds a number in a JSON document (RFC 6901). Nothing here says what a page contains:
//! a fault is a line and a kind.
//!
//! No crate serves: `prometheus-parse` 0.2 matches each line with a regular expression, copies every text, skips
//! lines that it does not understand and does not know OpenMetrics; `openmetrics-parser` 0.5 builds a tree of
//! the whole page, and its licence is the LGPL.
//!
//! Start with `read.rs`. The reader does not check what no figure depends on: whether a label occurs twice
//! in a sample, whether samples of a family are adjacent, what a counter's name ends in, and exemplars
//! beyond their place in the line.

mod fault;
mod json;
mod labels;
mod read;
#[cfg(test)]
mod tests;
mod value;

pub use fault::{Fault, MAX_LABELS, MAX_LINE, MAX_SAMPLES, Problem};
pub use json::{JsonFault, MAX_DEPTH, MAX_POINTER, Pointer, PointerFault, Scalar};
pub use labels::{Label, Labels};
pub use read::{ACCEPT, Entry, Format, Kind, Reader, Sample};
pub use value::{Found, value};
