//! Fly.io on the wire. Knows no Kubernetes.
//!
//! [`Fly`] is made once per process, [`Fly::client`] once per token; the calls are methods of
//! [`Client`], one file per area. Every call returns [`Error`] with its class.

mod answer;
pub mod apps;
mod call;
pub(crate) mod classify;
pub mod client;
pub mod error;
pub mod limit;
pub mod machine_actions;
pub mod machine_config;
pub mod machines;
pub mod token;
mod wire;

pub use apps::{App, AppStatus, NewApp};
pub use client::{Client, Endpoints, Fly, Gate, HttpOptions, Observation, Observer};
pub use error::{Class, Conflict, Error, Result, Retry, Scope};
pub use machine_actions::{ExecOutcome, ExecRequest, Lease, WaitFor, Waited};
pub use machine_config::MachineConfig;
pub use machines::{Machine, MachineState, MachineUpdate, NewMachine};
pub use token::{Surface, Token};
pub use wire::{GoDuration, Items};
