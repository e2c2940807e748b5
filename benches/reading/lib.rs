//! The layers of `src/` that do no I/O and use nothing else of it, as a crate of their own.

#[path = "../../src/exposition/mod.rs"]
pub mod exposition;
#[path = "../../src/ical/mod.rs"]
pub mod ical;
#[path = "../../src/promql/mod.rs"]
pub mod promql;
#[path = "../../src/slo/mod.rs"]
pub mod slo;
