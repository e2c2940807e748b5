//! The Fly client alone against the simulator: what it makes of every reply, and of none.

mod machines;
mod platform;
mod replies;
