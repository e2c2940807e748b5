//! The readers of `src/`, as a crate of their own.

#[path = "../../src/exposition/mod.rs"]
pub mod exposition;
#[path = "../../src/ical/mod.rs"]
pub mod ical;
