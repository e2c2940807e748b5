//! The wall clock, read at one place.
//!
//! Code that decides takes `now` as an argument. Code that acts takes a [`Now`], so that a test
//! can put the clock wherever it likes. Lengths of time are measured with
//! [`std::time::Instant`], which no administrator and no time server can move.

use jiff::Timestamp;

/// Where "now" comes from.
pub type Now = fn() -> Timestamp;

/// The wall clock of this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall() -> Timestamp {
    Timestamp::now()
}
