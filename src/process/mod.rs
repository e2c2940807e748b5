//! The parts of a process: settings, logging, metrics, probes, leader election, the Kubernetes
//! client, events, questions to servers outside.
//!
//! Uses `api`, `redact`, `net`, `causes` and `clock`, and nothing that knows how an Activation is
//! reconciled. How the parts are put together is `controller/operator.rs`. Start reading in
//! [`settings`].

pub mod definitions;
pub mod generate;
pub mod kube_client;
pub mod leader;
mod mail;
pub mod metrics;
pub mod outside;
pub mod packages;
pub mod packed;
pub mod publisher;
pub mod ready;
pub mod recorder;
pub mod server;
pub mod settings;
pub mod share;
pub mod skew;
pub mod telemetry;
pub mod turnstile;
pub mod waker;
pub mod workqueue;
