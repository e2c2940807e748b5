//! Why a machine does not serve: what its checks say, where its program listens, what it printed, and
//! what Fly.io's proxy says. Deploy reports it about a machine that is not healthy, and SmokeTest about
//! an error that the edge answers.
//!
//! `cause` decides (pure), from what `listening` and `fly::CheckOutput` read; `machine` and `edge` ask
//! Fly.io; `last_lines` is the end of a log, `exit` what an exit code means, `start_time` how long a start took,
//! and `crash_loop` whether a program ends again and again. Start in `cause`.

pub mod cause;
pub mod crash_loop;
pub mod edge;
pub mod exit;
pub mod last_lines;
pub mod listening;
pub mod machine;
pub mod start_time;
