//! SmokeTest: the proof that the application is live, from the public edge and from inside its
//! machines.
//!
//! The steps are `edge`, `database` and `steady`, which looks at the machines where nothing can be
//! reached from outside. Each decides first whether it looks at all (`look`): what sleeps is not
//! woken. `edge` and `database` then make one try of each check that is due (`question`, `check`,
//! `judge`; `machine_command`), count it (`tries`), remember it (`memory`) and report (`report`).
//! This folder may use `pipeline` and what lies below it, and the files directly in `src/phase/`; it
//! uses no other phase. Start with `edge`.

mod check;
mod database;
mod edge;
mod judge;
mod look;
mod machine_command;
mod memory;
mod promote;
mod question;
mod report;
mod steady;
mod tries;

use crate::pipeline::{AnyStep, facts::Facts};

/// All steps.
pub static STEPS: &[&dyn AnyStep] = &[
    &edge::EdgeChecks,
    &database::DatabaseCheck,
    &steady::SteadyMachines,
    &promote::Promote,
];

/// The checks alone: the proof that what serves still does.
pub static CHECKS: &[&dyn AnyStep] = &[
    &edge::EdgeChecks,
    &database::DatabaseCheck,
    &steady::SteadyMachines,
];

/// Those that ask nothing of Fly.io.
pub static CHECKS_FROM_OUTSIDE: &[&dyn AnyStep] = &[&edge::EdgeChecks];

/// Has the checks made anew: the tries so far were those of machines of another release, and the next one waits for none
/// of them.
pub fn look_anew(facts: &Facts) {
    edge::forget_tries(facts);
    database::forget_tries(facts);
}
