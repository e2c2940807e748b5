//! Fly.io on the wire. Knows no Kubernetes.

pub(crate) mod classify;
pub mod error;
pub mod limit;
pub mod machine_config;
pub mod token;
mod wire;

pub use error::{Class, Conflict, Error, Result, Retry};
pub use token::{Surface, Token};
pub use wire::GoDuration;
