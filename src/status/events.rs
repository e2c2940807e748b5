//! Events: the story that `kubectl describe` tells. They follow from two statuses, purely.
//!
//! A repeat of the same reason and action on the same object becomes a series
//! (kube-runtime's `Recorder`), so notes carry no times and counts.

use std::collections::BTreeSet;

use kube::runtime::events::{Event, EventType};

use crate::{
    api::{
        ActivationStatus, PhaseName, Reason,
        condition::{self, ConditionType},
        status::{GateState, PhaseState, RollbackState, StepState, StepStatus, one_line},
    },
    pipeline::{ChangeKind, News, Sent},
};

/// Longest note of an event, in bytes (kubernetes/api, events/v1/types.go).
const MAX_NOTE: usize = 1024;

fn event(
    type_: EventType,
    reason: impl Into<String>,
    action: impl Into<String>,
    note: &str,
) -> Event {
    Event {
        type_,
        reason: reason.into(),
        note: Some(one_line(note, MAX_NOTE)),
        action: action.into(),
        secondary: None,
    }
}

/// What happened between two statuses.
pub fn between(old: Option<&ActivationStatus>, new: &ActivationStatus) -> Vec<Event> {
    let mut events = Vec::new();
    phases(&mut events, old, new);
    fallbacks(&mut events, old, new);
    transitions(&mut events, old, new);
    requested(&mut events, old, new);
    source(&mut events, old, new);
    events
}

/// What the changes that a pass has sent tell: what they begin is over, or is something else, when
/// the next status is written.
pub fn of_changes(sent: &[Sent]) -> Vec<Event> {
    let mut events = Vec::new();
    for Sent { step, line, kind } in sent {
        match kind {
            ChangeKind::RollbackStart => events.push(event(
                EventType::Normal,
                "RollbackStarted",
                "RollBack",
                &format!("the release has failed for certain ({step}): {line}"),
            )),
            ChangeKind::Rotation => events.push(event(
                EventType::Normal,
                "SecretRotated",
                "Rotate",
                &format!(
                    "{line}; the values before stay in the Secret for the `overlap`, and the machines are updated"
                ),
            )),
            ChangeKind::Ordinary | ChangeKind::RotationEnd | ChangeKind::Housekeeping => {}
        }
    }
    events
}

/// What went wrong on the way and was put right.
pub fn news(news: &News) -> Event {
    event(
        EventType::Warning,
        news.reason.as_str(),
        news.step.as_str(),
        &news.note,
    )
}

/// A warning about the object as a whole.
pub fn warning(reason: &str, action: &str, note: &str) -> Event {
    event(EventType::Warning, reason, action, note)
}

/// Another image is chosen, or the looks at the registry end in another way.
fn source(events: &mut Vec<Event>, old: Option<&ActivationStatus>, new: &ActivationStatus) {
    let Some(is) = &new.source else { return };
    let was = old.and_then(|old| old.source.as_ref());
    if !is.digest.is_empty() && was.is_none_or(|was| was.digest != is.digest) {
        let note = format!("{}:{} is chosen, {}", is.image, is.tag, is.digest);
        events.push(event(EventType::Normal, "ImageChosen", "Follow", &note));
    }
    let before = was.map_or(Reason::SourceFollowed.as_str(), |was| &was.reason);
    if is.reason != before && is.reason != Reason::SourceFollowed.as_str() {
        let reason = is.reason.clone();
        events.push(event(EventType::Warning, reason, "Follow", &is.message));
    }
}

fn requested(events: &mut Vec<Event>, old: Option<&ActivationStatus>, new: &ActivationStatus) {
    let Some(is) = &new.rollback else { return };
    let was = old.and_then(|old| old.rollback.as_ref());
    if was.is_some_and(|was| (&was.request, was.state) == (&is.request, is.state)) {
        return;
    }
    let to = is.to.unwrap_or_default();
    match is.state {
        RollbackState::Waiting => {}
        RollbackState::Accepted => events.push(event(
            EventType::Normal,
            "RollbackStarted",
            "RollBack",
            &format!("{} rolls back to release {to} ({})", is.by, is.request),
        )),
        RollbackState::Refused => events.push(event(
            EventType::Warning,
            Reason::RollbackRefused.as_str(),
            "RollBack",
            &format!(
                "the rollback to release {to} that {} asks for is refused: {}",
                is.by, is.message
            ),
        )),
    }
}

fn phases(events: &mut Vec<Event>, old: Option<&ActivationStatus>, new: &ActivationStatus) {
    for phase in &new.phases {
        let before = old.and_then(|old| old.phases.iter().find(|p| p.name == phase.name));
        let was = before.map_or(PhaseState::Pending, |before| before.state);
        let action = phase.name.as_str();
        let working = |state| matches!(state, PhaseState::Running | PhaseState::Waiting);
        let restarted = before.is_some_and(|before| before.attempts != phase.attempts);
        match phase.state {
            PhaseState::Running | PhaseState::Waiting if !working(was) || restarted => {
                let owner = phase
                    .owner
                    .as_ref()
                    .map_or(String::new(), |owner| format!(" ({owner})"));
                events.push(event(
                    EventType::Normal,
                    "PhaseStarted",
                    action,
                    &format!("{} started{owner}", phase.name),
                ));
            }
            PhaseState::Succeeded if was != PhaseState::Succeeded => {
                let reason = if phase.name == PhaseName::Preflight {
                    "PreflightPassed"
                } else {
                    "PhaseSucceeded"
                };
                events.push(event(
                    EventType::Normal,
                    reason,
                    action,
                    &format!("{} is done", phase.name),
                ));
            }
            PhaseState::Failed
                if was != PhaseState::Failed
                    || before.is_some_and(|before| before.reason != phase.reason) =>
            {
                events.push(event(
                    EventType::Warning,
                    phase.reason.clone(),
                    action,
                    &phase.message,
                ));
                if phase.reason == Reason::RolledBack.as_str() {
                    events.push(event(
                        EventType::Normal,
                        "RollbackSucceeded",
                        "RollBack",
                        &phase.message,
                    ));
                }
            }
            _ => {}
        }
        retries(events, before, phase);
        gate(events, before, phase);
    }
}

/// Steps that are being tried again tell why, once for each reason: when Fly.io is down, all steps
/// of a phase fail alike, and that is one piece of news. A token that is refused is none before it
/// is proven to be wrong, since Fly.io refuses good ones now and then.
fn retries(
    events: &mut Vec<Event>,
    before: Option<&crate::api::status::PhaseStatus>,
    phase: &crate::api::status::PhaseStatus,
) {
    fn retrying(phase: &crate::api::status::PhaseStatus) -> impl Iterator<Item = &StepStatus> {
        phase
            .steps
            .iter()
            .filter(|step| step.state == StepState::Retrying)
    }
    let mut told: BTreeSet<&str> = before
        .into_iter()
        .flat_map(retrying)
        .map(|step| step.reason.as_str())
        .chain([Reason::TokenInvalid.as_str()])
        .collect();
    for step in retrying(phase) {
        if told.insert(&step.reason) {
            events.push(event(
                EventType::Warning,
                step.reason.clone(),
                step.name.clone(),
                &step.message,
            ));
        }
    }
}

fn gate(
    events: &mut Vec<Event>,
    before: Option<&crate::api::status::PhaseStatus>,
    phase: &crate::api::status::PhaseStatus,
) {
    let Some(gate) = &phase.gate else { return };
    let old = before.and_then(|phase| phase.gate.as_ref());
    let told = old.is_some_and(|old| old.state == gate.state && old.digest == gate.digest);
    if told {
        return;
    }
    let (type_, reason, note) = match gate.state {
        GateState::Requested => (
            EventType::Normal,
            "ApprovalRequested",
            format!("{} waits for approval of plan {}", phase.name, gate.digest),
        ),
        GateState::Approved => (
            EventType::Normal,
            "ApprovalGranted",
            format!("{} approved by {}", phase.name, gate.approved_by.join(", ")),
        ),
        GateState::Rejected => (
            EventType::Warning,
            "ApprovalRejected",
            format!(
                "{} rejected by {}",
                phase.name,
                gate.rejected_by.as_deref().unwrap_or("somebody")
            ),
        ),
        GateState::Expired => (
            EventType::Warning,
            "ApprovalExpired",
            format!("nobody decided on {} in time", phase.name),
        ),
        GateState::Pending => return,
    };
    events.push(event(type_, reason, phase.name.as_str(), &note));
}

fn fallbacks(events: &mut Vec<Event>, old: Option<&ActivationStatus>, new: &ActivationStatus) {
    for fallback in &new.fallbacks {
        let told = old.is_some_and(|old| {
            old.fallbacks
                .iter()
                .any(|before| (&before.what, &before.to) == (&fallback.what, &fallback.to))
        });
        if !told {
            events.push(event(
                EventType::Warning,
                Reason::FallbackUsed.as_str(),
                fallback.what.clone(),
                &format!(
                    "{}: {} instead of {}: {}",
                    fallback.what, fallback.to, fallback.from, fallback.reason
                ),
            ));
        }
    }
}

fn transitions(events: &mut Vec<Event>, old: Option<&ActivationStatus>, new: &ActivationStatus) {
    let status = |status: Option<&ActivationStatus>, type_| {
        status
            .and_then(|status| condition::find(&status.conditions, type_))
            .map(|condition| condition.status.clone())
    };
    let message = |type_| {
        condition::find(&new.conditions, type_).map_or(String::new(), |c| c.message.clone())
    };
    let became = |type_, value: &str| {
        status(Some(new), type_).as_deref() == Some(value)
            && status(old, type_).as_deref() != Some(value)
    };
    if new.go_live.is_some() && old.is_none_or(|old| old.go_live.is_none()) {
        events.push(event(
            EventType::Normal,
            "GoLive",
            "GoLive",
            &message(ConditionType::Live),
        ));
    }
    if became(ConditionType::Drifted, "True") {
        events.push(event(
            EventType::Warning,
            "DriftDetected",
            "Observe",
            &message(ConditionType::Drifted),
        ));
    }
    let drifted = status(old, ConditionType::Drifted).as_deref() == Some("True");
    if drifted && became(ConditionType::Drifted, "False") {
        events.push(event(
            EventType::Normal,
            "DriftCorrected",
            "Observe",
            &message(ConditionType::Drifted),
        ));
    }
    if became(ConditionType::Suspended, "True") {
        events.push(event(
            EventType::Normal,
            "Suspended",
            "Suspend",
            &message(ConditionType::Suspended),
        ));
    }
    let suspended = status(old, ConditionType::Suspended).as_deref() == Some("True");
    if suspended && became(ConditionType::Suspended, "False") {
        events.push(event(
            EventType::Normal,
            "Resumed",
            "Resume",
            "work goes on",
        ));
    }
    let live_before =
        old.is_some_and(|old| condition::is_true(&old.conditions, ConditionType::Live));
    if live_before && became(ConditionType::Observed, "Unknown") {
        events.push(event(
            EventType::Warning,
            "ObservationLost",
            "Observe",
            &message(ConditionType::Observed),
        ));
    }
    let stalled = |status: Option<&ActivationStatus>| {
        status
            .and_then(|status| condition::find(&status.conditions, ConditionType::Stalled))
            .map(|condition| condition.reason.clone())
    };
    // Phases tell their own failures; this is for objects that never reached a phase.
    let failed_phase = new
        .phases
        .iter()
        .any(|phase| phase.state == PhaseState::Failed);
    if let Some(reason) = stalled(Some(new))
        && !failed_phase
        && stalled(old).as_deref() != Some(reason.as_str())
    {
        events.push(event(
            EventType::Warning,
            reason,
            "Validate",
            &message(ConditionType::Stalled),
        ));
    }
    let deleting = |status: Option<&ActivationStatus>| {
        status
            .and_then(|status| condition::find(&status.conditions, ConditionType::Deleting))
            .map(|condition| condition.reason.clone())
    };
    if deleting(Some(new)).as_deref() == Some(Reason::DeletionBlocked.as_str())
        && deleting(old).as_deref() != Some(Reason::DeletionBlocked.as_str())
    {
        events.push(event(
            EventType::Warning,
            "DeletionBlocked",
            "Delete",
            &message(ConditionType::Deleting),
        ));
    }
}

#[cfg(test)]
mod tests;
