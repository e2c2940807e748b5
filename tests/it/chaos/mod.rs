//! The campaign: many faults at once, drawn from a seed, and faults that are tried at every step of
//! an object's life. `make test` takes a sample; `GOLIVE_CHAOS=full` (`make test-chaos`) takes all.

mod budget;
mod fleet;
mod mixtures;
mod platform;
mod replicas;
mod steps;
mod walk;

/// Whether everything is tried.
fn full() -> bool {
    std::env::var("GOLIVE_CHAOS").is_ok_and(|value| value == "full")
}
