//! What goes wrong ends in a clear condition with the evidence and the next action, tells it in
//! one Warning event, and recovers by itself when it is mended.

mod crash;
mod crash_update;
mod data;
mod deletion;
mod deploy;
mod inputs;
mod isolation;
mod middle;
mod outage;
mod platform;
