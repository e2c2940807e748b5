//! The life of the process.

pub mod generate;
pub mod kube_client;
pub mod leader;
pub mod metrics;

pub mod publisher;
pub mod server;
pub mod settings;
pub mod telemetry;
pub mod workqueue;
