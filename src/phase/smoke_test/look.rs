//! Whether a step looks at the application now. A look has no effect on what it looks at: it wakes no
//! machine that Fly.io's proxy has stopped, because each start is billed.

use std::time::{Duration, Instant};

use super::{memory::Memory, tries::Decision};
use crate::{
    phase::{asleep::asleep, roster},
    pipeline::{Cx, step::Result},
    plan::Proof,
};

/// What a step does in this pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// It makes the tries that are due.
    #[default]
    Try,
    /// The last proof holds, and `smokeTest.interval` is not over.
    NotDue,
    /// All machines sleep, and the last proof holds.
    Asleep,
}

/// What the decision rests on, beside the machines.
#[derive(Clone, Copy, Debug)]
struct Before {
    /// The plan was proven, and nothing has failed since.
    holds: bool,
    /// A reconcile was requested since the last look.
    requested: bool,
    /// Whether `smokeTest.interval` is over since the last look; `None` when it is not set.
    interval_over: Option<bool>,
}

/// What a step does now; `None` when the machines must be seen to know.
fn without_machines(before: Before) -> Option<Look> {
    if !before.holds || before.requested {
        return Some(Look::Try);
    }
    match before.interval_over {
        Some(true) => Some(Look::Try),
        Some(false) => Some(Look::NotDue),
        None => None,
    }
}

/// What a step does now.
///
/// # Errors
/// When the machines must be seen, and Fly.io does not answer.
pub async fn decide(cx: &Cx, memory: &Memory) -> Result<Look> {
    let proof = &cx.target.proof;
    let before = Before {
        holds: memory.proven && holds(proof, memory),
        requested: cx.requests != memory.requests,
        interval_over: proof.interval.map(|interval| is_over(memory, interval)),
    };
    if let Some(look) = without_machines(before) {
        return Ok(look);
    }
    if proof.starts_on_demand && asleep(&roster::ours(cx).await?) {
        return Ok(Look::Asleep);
    }
    Ok(Look::Try)
}

fn is_over(memory: &Memory, interval: Duration) -> bool {
    let slack = Duration::from_millis(50);
    memory
        .looked
        .is_none_or(|looked| Instant::now().saturating_duration_since(looked) + slack >= interval)
}

/// Whether no check of the memory is in the middle of a round, or has failed.
fn holds(proof: &Proof, memory: &Memory) -> bool {
    memory.tries.iter().all(|(name, tries)| {
        let mut checks = proof.checks.iter().map(|smoke| &smoke.check);
        let check = checks.find(|check| check.name == *name);
        // In a process that has not tried it yet, the proof on record holds.
        let untried = tries.last.is_none();
        untried || check.is_none_or(|check| tries.decision(check) == Decision::Passed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sleeps_is_woken_for_a_proof_only_when_that_is_wanted() {
        let before = |holds, requested, interval_over| Before {
            holds,
            requested,
            interval_over,
        };
        assert_eq!(
            without_machines(before(false, false, None)),
            Some(Look::Try),
            "after a deployment"
        );
        assert_eq!(
            without_machines(before(true, true, Some(false))),
            Some(Look::Try),
            "on request"
        );
        assert_eq!(
            without_machines(before(true, false, Some(true))),
            Some(Look::Try),
            "at the interval"
        );
        assert_eq!(
            without_machines(before(true, false, Some(false))),
            Some(Look::NotDue)
        );
        assert_eq!(without_machines(before(true, false, None)), None);
    }
}
