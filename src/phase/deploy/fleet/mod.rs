//! The machines of an app: those that should exist, those that do, and the next move from one to the
//! other.
//!
//! Start reading in `wanted` (the machines that should exist) and `strategy` (the next move; pure).
//! `moves` sends a move to Fly.io. Nothing here knows a step, a release record or a command.

pub mod diagnosis;
pub mod fallback_size;
pub mod foreign;
pub mod health;
pub mod kept;
pub mod leases;
pub mod moves;
pub mod next_move;
pub mod outlook;
pub mod readback;
pub mod restart;
pub mod retire;
pub mod sent;
pub mod slots;
pub mod strategy;
pub mod volumes;
pub mod wanted;
