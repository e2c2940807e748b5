//! The programs as processes: the operator starts, leads, answers probes and stops; the plugin
//! prints and exits.

mod events;
mod hardened;
mod leader;
mod operator;
mod plugin;
mod render;
mod server;
