//! Integrations: the proof that webhooks and calendars of third parties work.
//!
//! `whatsapp`, `mercado_pago` and `webhook` are the sets of checks of webhooks: each plans its requests
//! (`probe`, `signed`), sends them to a [`probe::World`], delivers some of them twice (`replay`), and judges
//! what came back (`judge`, `latency`, `set`). All of them end in [`outcome::Outcome`].

pub mod calendar;
pub mod judge;
pub mod latency;
pub mod mercado_pago;
#[cfg(test)]
mod mistakes;
pub mod outcome;
pub mod probe;
#[cfg(test)]
mod receivers;
pub mod replay;
pub mod set;
pub mod signed;
pub mod webhook;
pub mod whatsapp;
