//! The platform side of the simulator, as its clients see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod databases;
mod graph;
mod rest;
