//! Integrations: the sets of checks against the example on real machines, with and without its mistakes;
//! and what is verified after Go-Live, from the first day to a wrong secret and back, beside a spec that
//! cannot go live, and across a restart.

mod door;
mod example;
mod feeds;
mod held;
mod machines;
mod mutants;
mod restart;
mod story;
