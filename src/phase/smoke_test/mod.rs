//! SmokeTest: the proof that the application is live, from the public edge and from inside its
//! machines.
//!
//! The steps are `edge` and `database`. Both make one try of each check that is due (`check`,
//! `machine_command`), count it (`tries`) and report (`report`). This folder may use `pipeline` and
//! what lies below it, and the files directly in `src/phase/`; it uses no other phase. Start with
//! `edge`.

mod check;
mod database;
mod edge;
mod judge;
mod machine_command;
mod promote;
mod report;
mod tries;

use crate::pipeline::AnyStep;

/// All steps.
pub static STEPS: &[&dyn AnyStep] = &[
    &edge::EdgeChecks,
    &database::DatabaseCheck,
    &promote::Promote,
];

/// The checks alone: the proof that what serves still does.
pub static CHECKS: &[&dyn AnyStep] = &[&edge::EdgeChecks, &database::DatabaseCheck];

/// Those that ask nothing of Fly.io.
pub static CHECKS_FROM_OUTSIDE: &[&dyn AnyStep] = &[&edge::EdgeChecks];
