//! Integrations: the proof that webhooks and calendars of third parties work, from the public edge
//! and with the secrets of their senders.
//!
//! There is one step, `step`. It asks `ask` for what the spec wants verified, and `life` for what is
//! to be done: a set of checks runs in the background (`job`), because it takes longer than a pass
//! may, and the next pass picks up what it found. What was found belongs to one release, one set of
//! secrets and one address; whatever changes them ends the checks that are under way. `report` says
//! what the outcomes mean for the status. Start with `step`.
//!
//! `sets` makes the checks of a set. `whatsapp`, `mercado_pago` and `webhook` are those of webhooks: each
//! plans its requests (`probe`, `signed`), sends them to a [`probe::World`], delivers some of them twice
//! (`replay`), and judges what came back (`judge`, `latency`, `set`). `calendar` are those of calendars,
//! `meta_account` and `mercado_pago_account` ask the vendors. All of them end in [`outcome::Outcome`].

mod application;
mod ask;
pub mod calendar;
mod effect;
mod job;
pub mod judge;
pub mod latency;
mod life;
pub mod mercado_pago;
mod mercado_pago_account;
mod meta_account;
#[cfg(test)]
mod mistakes;
pub mod outcome;
pub mod probe;
#[cfg(test)]
mod receivers;
pub mod refused;
mod replay;
mod report;
mod scheme;
pub mod set;
mod sets;
pub mod signed;
mod step;
pub mod webhook;
pub mod whatsapp;

use crate::{
    api::PhaseName,
    pipeline::{
        AnyStep,
        report::{PhaseReport, Report},
    },
    plan::{Target, refs::Refs},
};

/// All steps.
pub static STEPS: &[&dyn AnyStep] = &[&step::IntegrationChecks];

/// Whether a pass came as far as the integrations: the release is live, and its gate is open.
pub fn are_reached(report: &Report) -> bool {
    let phase = report.phase(PhaseName::Integrations);
    phase.is_some_and(PhaseReport::is_reached)
}

/// What the spec and the Secrets say of the integrations, as a hash with this key: another one is
/// news.
pub fn asked(target: &Target, refs: &Refs, key: &[u8]) -> String {
    ask::digest(target, refs, key)
}
