//! How the senders of webhooks sign their requests, as plain data and pure functions.
//!
//! Nothing here sends, reads a clock or knows an application. Start reading in [`scheme`]: what a
//! sender signs and where it writes the signature. [`mercado_pago`] is the one sender that does not sign
//! the body. [`bodies`] are the bodies that the senders send, byte for byte.

pub mod bodies;
pub mod mercado_pago;
pub mod scheme;
pub mod sign;
pub mod splice;
