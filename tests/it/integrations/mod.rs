//! Integrations: the sets of checks against the example on real machines, with and without its mistakes.

mod machines;
mod mutants;
