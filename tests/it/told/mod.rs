//! What people are told: every kind of receiver in a whole life, once and not again over a crash, and
//! what happens to one that cannot be reached; and what a watch tells.

mod alerts;
mod crash;
mod refused;
mod story;
mod watch;
mod world;
