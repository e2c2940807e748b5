//! The Fly client alone against the simulator: how it handles every reply, and none.

mod machines;
mod platform;
mod replies;
