//! Integrations: the proof that webhooks and calendars of third parties work.

pub mod calendar;
pub mod outcome;
