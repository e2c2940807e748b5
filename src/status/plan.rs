//! The plan in the status: what is not carried out yet, in order, within the bounds of a status.

use super::{PassResult, messages};
use crate::{
    api::{
        Activation, ActivationStatus,
        status::{
            CostPerMonth, MAX_CHANGES, PlanCounts, PlanDocument, PlanStatus, PlannedChange,
            WholePlan, destroyed,
        },
    },
    pipeline::{
        State, StepId,
        report::{PhaseProgress, PhaseReport, Report},
    },
    plan::{
        Target,
        cost::{self, Estimate},
        deletion,
    },
    store::plan::{self as store, MAX_BYTES as MAX_WHOLE},
};

/// Most bytes of the changes that a status lists: its other parts need room too.
const MAX_BYTES: usize = 16 * 1024;

/// The plan of a target, as one pass has found it.
pub fn of(
    target: &Target,
    report: &Report,
    generation: i64,
    cost: Option<CostPerMonth>,
) -> PlanStatus {
    let changes = all(report);
    let listed = bounded(&changes);
    PlanStatus {
        digest: target.plan().digest().to_owned(),
        generation: Some(generation),
        complete: is_complete(report),
        total: u32::try_from(changes.len()).unwrap_or(u32::MAX),
        counts: PlanCounts::of(&changes),
        destroys: destroyed(&changes).into_iter().collect(),
        cost_per_month: cost,
        whole: None,
        unknown: report.unknown.iter().map(StepId::to_string).collect(),
        changes: listed,
    }
}

/// The text of the whole plan, and in the status where it is, when the status has no room for all changes of this
/// pass. A status that no pass has found a plan for keeps what it says.
pub fn whole(status: &mut ActivationStatus, seen: &PassResult<'_>) -> Option<String> {
    let (report, plan) = (seen.report?, status.plan.as_mut()?);
    let uid = status.uid.as_deref()?;
    if seen.wanted.is_none() || seen.removing.is_some() {
        return None;
    }
    let mut changes = all(report);
    if changes.len() <= plan.changes.len() {
        return None;
    }
    messages::redact_changes(&mut changes);
    let text = serde_json::to_string(&PlanDocument {
        digest: plan.digest.clone(),
        generation: plan.generation,
        changes,
    });
    let text = text.ok().filter(|text| text.len() <= MAX_WHOLE)?;
    plan.whole = Some(WholePlan::of(store::name(uid), &text));
    Some(text)
}

/// Whether a plan of a status leads to the same as this target.
pub fn leads_to(plan: Option<&PlanStatus>, target: Option<&Target>) -> bool {
    match (plan, target) {
        (Some(plan), Some(target)) => target.plan().leads_to_same(&plan.digest, plan.generation),
        (plan, target) => plan.is_none() && target.is_none(),
    }
}

/// The plan of an object that is deleted: what goes with it. It keeps the digest of the plan before.
pub fn of_removal(
    before: Option<&PlanStatus>,
    activation: &Activation,
    generation: i64,
) -> PlanStatus {
    let changes = deletion::changes(activation);
    PlanStatus {
        digest: before.map(|plan| plan.digest.clone()).unwrap_or_default(),
        generation: Some(generation),
        complete: true,
        total: u32::try_from(changes.len()).unwrap_or(u32::MAX),
        counts: PlanCounts::of(&changes),
        destroys: destroyed(&changes).into_iter().collect(),
        changes: bounded(&changes),
        ..PlanStatus::default()
    }
}

/// What the application costs before and after the plan.
pub fn cost(before: &Estimate, after: &Estimate) -> CostPerMonth {
    let (_, date, currency) = cost::source();
    let mut unknown = after.unknown.clone();
    unknown.extend(before.unknown.iter().cloned());
    unknown.sort_unstable();
    unknown.dedup();
    CostPerMonth {
        currency: currency.to_owned(),
        before: before.amount(),
        after: after.amount(),
        unknown,
        prices_of: date.to_owned(),
    }
}

/// All changes that are not carried out yet, in the order of the phases and steps.
pub fn all(report: &Report) -> Vec<PlannedChange> {
    let mut changes = Vec::new();
    for phase in &report.phases {
        for (step, record) in &phase.steps {
            let planned = record
                .changes
                .iter()
                .filter(|_| record.state == State::Planned);
            let ahead = report.ahead.iter();
            let ahead = ahead.filter(|ahead| ahead.phase == phase.id && ahead.step == *step);
            let both = planned.chain(ahead.map(|ahead| &ahead.change));
            changes.extend(both.map(|change| PlannedChange {
                phase: phase.id.to_string(),
                step: step.to_string(),
                ..change.clone()
            }));
        }
    }
    changes
}

/// The first changes, as many as there is room for.
fn bounded(changes: &[PlannedChange]) -> Vec<PlannedChange> {
    let mut left = MAX_BYTES;
    let fits = |change: &&PlannedChange| {
        let length = serde_json::to_string(change).map_or(usize::MAX, |text| text.len());
        left.checked_sub(length).map(|rest| left = rest).is_some()
    };
    changes
        .iter()
        .take(MAX_CHANGES)
        .take_while(fits)
        .cloned()
        .collect()
}

/// Whether all that will be done up to Go-Live is in the plan: every phase is done, or its steps and those
/// after it were looked at.
fn is_complete(report: &Report) -> bool {
    let required = || report.phases.iter().filter(|phase| phase.id.before_live());
    if !report.unknown.is_empty() {
        return false;
    }
    let is_done = |phase: &&PhaseReport| {
        matches!(
            phase.progress,
            PhaseProgress::Succeeded | PhaseProgress::NotImplemented
        )
    };
    let mut rest = required().skip_while(is_done);
    rest.next().is_none_or(|first| {
        let planned = first.progress == PhaseProgress::Planned;
        planned || first.is_behind_gate()
    })
}
