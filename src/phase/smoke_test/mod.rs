//! SmokeTest: the proof, from the public edge, that the application is live.

pub mod check;
pub mod database;
pub mod edge;
pub mod tries;

use crate::pipeline::AnyStep;

/// All steps.
pub static STEPS: &[&dyn AnyStep] = &[&edge::EdgeChecks, &database::DatabaseCheck];
