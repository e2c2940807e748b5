//! A release that is rolled out and fails its SmokeTest: Deploy is told, and rolls it back if the spec
//! asks for that.

use crate::{
    api::{PhaseName, StepId, status::PhaseState},
    phase::{PHASES, smoke_failure},
    pipeline::{
        ChangeKind, Cx, Sent,
        report::{PhaseProgress, Report},
    },
    reconcile::memory::Memory,
    status::cannot_observe,
};

/// Notes a SmokeTest that has failed, once the status says so. Returns true when it is news: then
/// Deploy decides on it in another pass, at once. What merely could not be observed is no failure.
pub fn note(memory: &mut Memory, cx: &Cx, report: &Report) -> bool {
    let mut sent = report.sent.iter();
    let began =
        |sent: &Sent| sent.step == StepId::Release && sent.kind == ChangeKind::RollbackStart;
    if sent.any(began) {
        // The machines are observed again: they should run another release now.
        memory.wanted.forget_from(PHASES, PhaseName::Deploy);
        return true;
    }
    let facts = &memory.wanted.facts;
    let smoke_test = report.phase(PhaseName::SmokeTest);
    let Some(made) = smoke_test.filter(|phase| {
        !matches!(
            phase.progress,
            PhaseProgress::Pending | PhaseProgress::Succeeded
        )
    }) else {
        smoke_failure::forget(facts);
        return false;
    };
    let status = memory.published.status();
    let failed = status
        .iter()
        .flat_map(|status| &status.phases)
        .find(|phase| phase.name == PhaseName::SmokeTest && phase.state == PhaseState::Failed);
    let Some(failed) = failed.filter(|_| cx.may_act() && !cannot_observe(made)) else {
        return false;
    };
    let news = smoke_failure::note(facts, cx.target.stamp(), &failed.message);
    if news {
        memory.wanted.steps.remove(&StepId::Release);
    }
    news
}
