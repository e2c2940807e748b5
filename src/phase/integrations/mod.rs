//! Integrations: the proof that webhooks and calendars of third parties work.
//!
//! A set of checks is an async function from an [`application::Application`], what the spec says and
//! the values of its Secrets to a list of [`outcome::Outcome`].

pub mod application;
pub mod outcome;
