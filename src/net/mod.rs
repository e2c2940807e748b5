//! The network: requests to applications, and which addresses are public.

pub mod probe;
pub mod public_address;
