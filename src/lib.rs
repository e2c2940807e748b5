//! Golive takes a web application from nothing to live on Fly.io from one Kubernetes object.

pub mod api;
pub mod clock;
pub mod fly;
pub mod flytoml;
pub mod generate;
pub mod kube_client;
pub mod leader;
pub mod metrics;
pub mod redact;
pub mod secret_store;
pub mod server;
pub mod settings;
pub mod telemetry;
pub mod workqueue;
