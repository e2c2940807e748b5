//! The network: TLS, which addresses are public, requests to applications, messages to receivers.
//!
//! Knows neither Fly.io nor Kubernetes and uses no other folder. Start reading in
//! [`public_address`] for the rule that guards every connection to a host that a user names.

pub mod deliver;
mod exchange;
pub mod grpc;
pub mod probe;
mod probe_error;
pub mod prometheus;
pub mod public_address;
pub mod receiver;
pub mod resolve;
pub mod smtp;
pub mod tls;
pub mod vendor;
