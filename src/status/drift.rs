//! The condition `Drifted`: a change that a step wants, or made, in a phase that was done for this
//! generation. `False` is said only of what is live and was observed.

use super::{PassResult, pass_result::Liveness, phases::cannot_observe, setter::Setter};
use crate::{
    api::{
        PhaseName, Reason, StepId,
        condition::{self, ConditionStatus, ConditionType},
        status::PhaseState,
    },
    pipeline::{
        ChangeKind, Note, State, StepRecord,
        report::{PhaseProgress, PhaseReport, Report},
    },
};

use ConditionStatus::{False, True, Unknown};

/// What drift is judged by, beside the result of the pass.
struct Before<'a> {
    /// The present status says that there is drift.
    drifted: bool,
    /// And that it is a value that is lost: each pass that looks finds that anew, and no correction follows from it.
    lost: bool,
    liveness: &'a Liveness,
}

/// Sets the condition.
pub fn set(to: &mut Setter<'_>, result: &PassResult<'_>, liveness: &Liveness) {
    let known = condition::find(&to.status.conditions, ConditionType::Drifted);
    let before = Before {
        drifted: condition::is_true(&to.status.conditions, ConditionType::Drifted),
        lost: known.is_some_and(|known| known.reason == Reason::ServingSecretLost.as_str()),
        liveness,
    };
    let told = told(to, result);
    let found = reported(result)
        .or_else(|| of_site(result))
        .or_else(|| corrected(result, &before));
    let found = match (found, told) {
        (Some(found), Some(told)) => Some(format!("{found}; {told}")),
        // What was found when the correction began is the news until it has ended.
        (None, told) => correcting(to, result, &before).or(told),
        (found, None) => found,
    };
    let (status, reason, message) = match (lost_secrets(result), found) {
        (Some(lost), found) => {
            let parts = [Some(lost), found].into_iter().flatten();
            let parts: Vec<String> = parts.collect();
            (True, Reason::ServingSecretLost, parts.join("; "))
        }
        (None, Some(message)) => (True, Reason::DriftDetected, message),
        (None, None) => without_evidence(to, result, &before),
    };
    to.set(ConditionType::Drifted, status, reason, &message);
}

/// What differs and is left alone, because Golive did not make it: from the release that serves, if
/// that was observed, else from the spec.
pub fn left_alone<'a>(result: &'a PassResult<'_>) -> impl Iterator<Item = &'a str> {
    let site = result.site.as_ref().filter(|site| site.is_kept());
    let report = site.map(|site| &site.report).or(result.report);
    let steps = report.into_iter().flat_map(Report::steps);
    steps.flat_map(|(_, record)| record.notes.iter().filter_map(Note::drift))
}

/// Secrets of the release that serves that are gone, and whose values are not known any more.
fn lost_secrets(result: &PassResult<'_>) -> Option<String> {
    let mut steps = result.site.as_ref()?.report.steps();
    let lost = steps.find(|(_, record)| {
        record.state == State::Blocked && record.reason == Reason::ServingSecretLost
    });
    lost.map(|(_, record)| record.message.clone())
}

/// The changes that are left alone, for what went live.
fn told(to: &Setter<'_>, result: &PassResult<'_>) -> Option<String> {
    let lines: Vec<&str> = left_alone(result).collect();
    (to.status.go_live.is_some() && !lines.is_empty()).then(|| lines.join("; "))
}

/// The changes that steps plan, each with its step.
fn planned(report: &Report) -> impl Iterator<Item = String> {
    let planned = report
        .steps()
        .filter(|(_, record)| record.state == State::Planned);
    planned.flat_map(|(step, record)| {
        let changes = record.changes.iter();
        changes.map(move |change| format!("{step}: {change}"))
    })
}

/// The changes that were sent, each with its step. What Golive keeps for itself is no news about the
/// application.
fn sent(report: &Report) -> impl Iterator<Item = String> {
    let sent = report.sent.iter();
    sent.filter(|sent| sent.kind != ChangeKind::Housekeeping)
        .map(|sent| format!("{}: {}", sent.step, sent.line))
}

/// Drift that is reported and not corrected: the changes that the steps plan.
fn reported(result: &PassResult<'_>) -> Option<String> {
    let report = result.report.filter(|_| result.reporting_drift)?;
    let lines: Vec<String> = planned(report).collect();
    (!lines.is_empty()).then(|| {
        format!(
            "{}; `drift` is Report, so nothing was changed",
            lines.join("; ")
        )
    })
}

/// Drift of the release that serves, found while the spec cannot be brought live.
fn of_site(result: &PassResult<'_>) -> Option<String> {
    let site = result.site.as_ref()?;
    let lines: Vec<String> = planned(&site.report).chain(sent(&site.report)).collect();
    let outcome = match site.reporting_drift {
        true => "`drift` is Report, so nothing was changed",
        false => "it is being corrected",
    };
    (!lines.is_empty()).then(|| {
        format!(
            "what runs is not the release that serves ({}): {}; {outcome}",
            site.release.image,
            lines.join("; ")
        )
    })
}

/// Whether the machines run the release that was restored, and nothing else is left to do.
fn is_restored(result: &PassResult<'_>) -> bool {
    let deploy = result
        .report
        .and_then(|report| report.phase(PhaseName::Deploy));
    deploy.is_some_and(|deploy| {
        let mut steps = deploy.steps.iter();
        deploy.progress == PhaseProgress::Failed
            && steps.all(|(_, record)| {
                record.state.satisfied() || record.notes.contains(&Note::RolledBack)
            })
    })
}

/// Whether everything that keeps the release that serves was observed and found in order.
fn site_is_in_order(result: &PassResult<'_>) -> bool {
    if result.report.is_some_and(|report| report.sent.is_empty()) && is_restored(result) {
        return true;
    }
    result.site.as_ref().is_some_and(|site| {
        let mut kept = site.report.phases.iter();
        site.is_kept()
            && kept.all(|phase| {
                let is_proof = matches!(phase.id, PhaseName::SmokeTest | PhaseName::Integrations);
                is_proof || phase.progress == PhaseProgress::Succeeded
            })
    })
}

/// Whether the machines that keep the release that serves were observed and found in order, and all else could not be
/// looked at: a correction of them has ended.
fn are_machines_alone_in_order(result: &PassResult<'_>) -> bool {
    let Some(site) = &result.site else {
        return false;
    };
    let refused = |record: &StepRecord| {
        record.state == State::Blocked && record.reason == Reason::TokenInvalid
    };
    let is_unseen = |phase: &PhaseReport| {
        cannot_observe(phase) || phase.steps.iter().any(|(_, record)| refused(record))
    };
    let is_done = |phase: &PhaseReport| phase.progress == PhaseProgress::Succeeded;
    let kept = site.report.phases.iter();
    let mut open = kept
        .filter(|phase| {
            let is_proof = matches!(phase.id, PhaseName::SmokeTest | PhaseName::Integrations);
            !is_proof && !is_done(phase)
        })
        .peekable();
    site.report.sent.is_empty()
        && site.report.phase(PhaseName::Deploy).is_some_and(is_done)
        && open.peek().is_some()
        && open.all(is_unseen)
}

/// Drift that was corrected within this pass: the next pass finds the object in order.
fn corrected(result: &PassResult<'_>, before: &Before<'_>) -> Option<String> {
    let report = result.report?;
    if !before.liveness.steady || rotates(report) || rolls_back(report) {
        return None;
    }
    let lines: Vec<String> = sent(report).collect();
    (!lines.is_empty()).then(|| {
        format!(
            "the running configuration did not match the spec; it is being corrected: {}",
            lines.join("; ")
        )
    })
}

/// A correction over several passes is drift when it began as such: in an object that was live for
/// this very target. A changed Secret is a new target, and what follows from it is no drift.
fn correcting(to: &Setter<'_>, result: &PassResult<'_>, before: &Before<'_>) -> Option<String> {
    let requested = |report| rotates(report) || rolls_back(report);
    let began = before.liveness.steady && !result.report.is_some_and(requested);
    let drifted = before.drifted && !before.lost;
    let correcting = before.liveness.same_generation
        && (began || drifted)
        && to.status.go_live.is_some()
        && to.status.phases.iter().any(|phase| {
            phase.name != PhaseName::Preflight
                && phase.name.before_live()
                && matches!(phase.state, PhaseState::Running | PhaseState::Waiting)
                // What is only planned for the spec corrects nothing.
                && phase.reason != Reason::Planned.as_str()
                && phase.starts > 1
        });
    if !correcting {
        return None;
    }
    let known = condition::find(&to.status.conditions, ConditionType::Drifted)
        .filter(|_| drifted)
        .map(|known| known.message.clone());
    Some(known.unwrap_or_else(|| {
        let why = unsettled(result);
        let colon = if why.is_empty() { "" } else { ": " };
        format!(
            "the running configuration does not match the spec; it is being corrected{colon}{}",
            why.join("; ")
        )
    }))
}

/// What the steps say that are at work or wait.
fn unsettled(result: &PassResult<'_>) -> Vec<String> {
    let steps = result.report.into_iter().flat_map(Report::steps);
    let open = steps.filter(|(_, record)| matches!(record.state, State::Running | State::Waiting));
    open.filter(|(_, record)| !record.message.is_empty())
        .map(|(step, record)| format!("{step}: {}", record.message))
        .collect()
}

/// The condition when this pass found no drift.
fn without_evidence(
    to: &Setter<'_>,
    result: &PassResult<'_>,
    before: &Before<'_>,
) -> (ConditionStatus, Reason, String) {
    let observed = condition::is_true(&to.status.conditions, ConditionType::Observed);
    let known = condition::find(&to.status.conditions, ConditionType::Drifted)
        .filter(|_| before.liveness.same_generation);
    let reason = |reason: &str| Reason::parse(reason).unwrap_or_default();
    let unknown = |reason, message: &str| (Unknown, reason, message.to_owned());
    match (known, result.report) {
        _ if to.status.go_live.is_none() => unknown(Reason::Pending, "nothing is live yet"),
        _ if site_is_in_order(result) => (
            False,
            Reason::NoDrift,
            "no drift: what runs is the release that serves; the spec is not live".to_owned(),
        ),
        _ if are_machines_alone_in_order(result) => unknown(
            Reason::ObservationUnknown,
            "the machines run the release that serves; what is around them cannot be observed",
        ),
        // Known drift is not gone because it cannot be observed, or because its correction failed.
        (Some(known), _)
            if before.drifted
                && !(before.liveness.live && observed)
                && !(before.lost && observed) =>
        {
            (True, reason(&known.reason), known.message.clone())
        }
        // The pass ended before it observed, and it is not long since one has.
        (Some(known), None) if result.failed.is_some() && !result.unproven => (
            ConditionStatus::parse(&known.status).unwrap_or_default(),
            reason(&known.reason),
            known.message.clone(),
        ),
        (_, None) => unknown(
            Reason::ObservationUnknown,
            "the running configuration was not compared with the spec",
        ),
        (_, Some(_)) if !observed => unknown(
            Reason::ObservationUnknown,
            "Fly.io cannot be observed: the running configuration is unknown",
        ),
        (_, Some(_)) if !before.liveness.live => unknown(
            Reason::Progressing,
            "the spec is not live yet: there is nothing to compare with",
        ),
        (_, Some(_)) => (
            False,
            Reason::NoDrift,
            "no drift: the running configuration matches the spec".to_owned(),
        ),
    }
}

/// Whether a rollback began in this pass, as somebody requested. That is no drift, and neither is the
/// update of the machines that follows.
fn rolls_back(report: &Report) -> bool {
    let mut sent = report.sent.iter();
    sent.any(|sent| sent.step == StepId::Rollback)
}

/// Whether generated values were replaced in this pass, at their age or on request. That is no
/// drift, and neither is the update of the machines that follows.
fn rotates(report: &Report) -> bool {
    report.sent.iter().any(|sent| sent.kind.is_rotation())
}
