//! Failures: each ends in a clear condition with the evidence and the next action and in one Warning
//! event, and the object recovers by itself when the cause is gone.

mod clocks;
mod crash;
mod crash_update;
mod data;
mod definitions;
mod deletion;
mod deploy;
mod evidence;
mod fair;
mod inputs;
mod isolation;
mod kept;
mod kubernetes;
mod lost;
mod lost_state;
mod middle;
mod outage;
mod platform;
mod stale;
mod stale_life;
mod strangers;
