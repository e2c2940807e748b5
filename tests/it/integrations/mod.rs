//! Integrations: the sets of checks against the example on real machines, with and without its mistakes;
//! and what is verified after Go-Live, from the first day to a wrong secret and back.

mod machines;
mod mutants;
mod story;
