//! Fly.io on the wire. Knows no Kubernetes.

pub mod machine_config;
mod wire;

pub use wire::GoDuration;
