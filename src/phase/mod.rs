//! The phases in order, and what they share.
//!
//! A phase is a folder and a line in [`PHASES`]; a step is a file and a line in its phase's
//! `STEPS`. A phase uses no other phase. The files and folders here that are no phase are shared by
//! several, and use none. May use: `pipeline` and what is below it. Start reading in
//! [`provision`]: `app`, then `redis`.

pub mod absence;
pub mod already;
pub mod app_lookup;
pub mod app_marks;
pub mod app_name;
pub mod app_overview;
pub mod app_secrets;
pub mod app_volumes;
pub mod asleep;
pub mod breach;
pub mod clusters;
pub mod database;
pub mod database_probe;
pub mod deploy;
pub mod evidence;
pub mod image;
pub mod incident;
pub mod integrations;
pub mod left_behind;
pub mod lost;
pub mod marks;
pub mod names;
pub mod observe;
pub mod preflight;
pub mod probe_mark;
pub mod provision;
pub mod redis_plans;
pub mod release_secrets;
pub mod releases;
pub mod roster;
pub mod smoke_failure;
pub mod smoke_test;
#[cfg(test)]
pub mod testing;
pub mod wanted_secrets;

use crate::{
    api::PhaseName,
    pipeline::{Cx, Phase},
    plan::cost::Estimate,
};

/// Phases in order. Add one here and nowhere else: conditions, status, events and metrics
/// follow from this table.
pub static PHASES: &[Phase] = &[
    Phase {
        id: PhaseName::Preflight,
        steps: preflight::STEPS,
    },
    Phase {
        id: PhaseName::Provision,
        steps: provision::STEPS,
    },
    Phase {
        id: PhaseName::Deploy,
        steps: deploy::STEPS,
    },
    Phase {
        id: PhaseName::SmokeTest,
        steps: smoke_test::STEPS,
    },
    Phase {
        id: PhaseName::Integrations,
        steps: integrations::STEPS,
    },
    Phase {
        id: PhaseName::Observe,
        steps: observe::STEPS,
    },
];

/// What keeps the release that serves while the spec cannot be brought live. Each line runs on its
/// own: one that is stopped holds up no other. Deploy comes first, because its steps have long polls.
pub static KEPT: &[Phase] = &[
    Phase {
        id: PhaseName::Deploy,
        steps: deploy::KEPT,
    },
    Phase {
        id: PhaseName::Provision,
        steps: provision::KEPT,
    },
];

/// The same for its secrets: a spec may look after some of this and not after the rest.
pub static KEPT_SECRETS: &[Phase] = &[Phase {
    id: PhaseName::Provision,
    steps: provision::KEPT_SECRETS,
}];

/// Of its secrets, the address of the database.
pub static KEPT_DATABASE: &[Phase] = &[Phase {
    id: PhaseName::Provision,
    steps: provision::KEPT_DATABASE,
}];

/// Of its secrets, the address of Redis.
pub static KEPT_REDIS: &[Phase] = &[Phase {
    id: PhaseName::Provision,
    steps: provision::KEPT_REDIS,
}];

/// The proof that the release that serves still does.
pub static PROOF: &[Phase] = &[Phase {
    id: PhaseName::SmokeTest,
    steps: smoke_test::CHECKS,
}];

/// The same without a token for Fly.io.
pub static PROOF_FROM_OUTSIDE: &[Phase] = &[Phase {
    id: PhaseName::SmokeTest,
    steps: smoke_test::CHECKS_FROM_OUTSIDE,
}];

/// The integrations of the release that serves.
pub static VERIFIED: &[Phase] = &[Phase {
    id: PhaseName::Integrations,
    steps: integrations::STEPS,
}];

/// The watch, which goes on while the spec cannot be brought live.
pub static WATCHED: &[Phase] = &[Phase {
    id: PhaseName::Observe,
    steps: observe::STEPS,
}];

/// What the target of `cx` costs a month at Fly.io, as far as its prices are known. Pure.
pub fn estimate(cx: &Cx) -> Estimate {
    let steps = PHASES.iter().flat_map(|phase| phase.steps);
    Estimate::of(steps.flat_map(|step| step.billed(cx)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn step_names_are_unique_across_all_phases() {
        let mut seen = BTreeSet::new();
        for step in PHASES.iter().flat_map(|phase| phase.steps) {
            assert!(seen.insert(step.id()), "{} is listed twice", step.id());
        }
    }

    #[test]
    fn a_step_needs_only_earlier_steps_of_its_own_phase() {
        for phase in PHASES {
            let mut earlier = BTreeSet::new();
            for step in phase.steps {
                for need in step.needs() {
                    assert!(earlier.contains(need), "{} needs {need}", step.id());
                }
                earlier.insert(step.id());
            }
        }
    }
}
