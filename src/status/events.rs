//! Events, as `kubectl describe` lists them. They follow from two statuses, purely.
//!
//! A repeat of the same reason, action and note on the same object becomes a series
//! (`process/recorder.rs`), so notes carry no times and counts.

use std::collections::BTreeSet;

use kube::runtime::events::{Event, EventType};

use super::{integrations, phases::succeeded, watch};
use crate::{
    api::{
        ActivationStatus, PhaseName, Reason,
        condition::{self, ConditionType},
        status::{
            CheckResult, GateState, PhaseState, RollbackState, Severity, StepState, StepStatus,
            one_line,
        },
    },
    pipeline::{ChangeKind, Incident, Sent},
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
    doubts(&mut events, old, new);
    fallbacks(&mut events, old, new);
    left_behind(&mut events, old, new);
    transitions(&mut events, old, new);
    requested(&mut events, old, new);
    source(&mut events, old, new);
    let news = integrations::news(old, new).into_iter();
    events.extend(news.map(|news| {
        let type_ = match news.warning {
            true => EventType::Warning,
            false => EventType::Normal,
        };
        event(type_, news.reason, news.name, &news.note)
    }));
    let news = watch::news(old, new).into_iter();
    events.extend(news.map(|news| {
        let type_ = match news.warning {
            true => EventType::Warning,
            false => EventType::Normal,
        };
        event(type_, news.reason, news.about, &news.note)
    }));
    events
}

/// Events that follow from the changes that a pass sent: what they begin may be over when the next
/// status is written.
pub fn of_changes(sent: &[Sent]) -> Vec<Event> {
    let mut events = Vec::new();
    for Sent { step, line, kind } in sent {
        match kind {
            ChangeKind::RollbackStart => events.push(event(
                EventType::Normal,
                "RollbackStarted",
                "RollBack",
                &format!("the release has failed ({step}): {line}"),
            )),
            ChangeKind::Rotation => events.push(event(
                EventType::Normal,
                "SecretRotated",
                "Rotate",
                &format!(
                    "{line}; the machines are updated, and get the previous values as NAME_PREVIOUS for the `overlap`"
                ),
            )),
            ChangeKind::Ordinary | ChangeKind::RotationEnd | ChangeKind::Housekeeping => {}
        }
    }
    events
}

/// A problem that a pass met and corrected.
pub fn incident(incident: &Incident) -> Event {
    event(
        EventType::Warning,
        incident.reason.as_str(),
        incident.step.as_str(),
        &incident.note,
    )
}

/// An event about the object as a whole.
pub fn normal(reason: &str, action: &str, note: &str) -> Event {
    event(EventType::Normal, reason, action, note)
}

/// A warning about the object as a whole.
pub fn warning(reason: &str, action: &str, note: &str) -> Event {
    event(EventType::Warning, reason, action, note)
}

/// Another image was chosen, or the result of reading the registry changed.
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
                "the rollback to release {to} requested by {} is refused: {}",
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
        let is_planned = |reason: &str| reason == Reason::Planned.as_str();
        let worked = before.is_some_and(|before| {
            matches!(before.state, PhaseState::Running | PhaseState::Waiting)
                && !is_planned(&before.reason)
        });
        let restarted = before.is_some_and(|before| before.starts != phase.starts);
        match phase.state {
            PhaseState::Running | PhaseState::Waiting if is_planned(&phase.reason) => {}
            PhaseState::Running | PhaseState::Waiting if !worked || restarted => {
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
                events.push(event(EventType::Normal, reason, action, &succeeded(phase)));
            }
            // What became of each integration is told by itself.
            PhaseState::Failed if is_of_an_integration(&phase.reason) => {}
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
                        "the release before serves again; the event RolledBack says why, and what to do",
                    ));
                }
            }
            _ => {}
        }
        retries(events, before, phase);
        crash_loop(events, before, phase);
        rotation_waits(events, before, phase);
        gate(events, before, phase);
    }
}

fn is_of_an_integration(reason: &str) -> bool {
    Reason::parse(reason).is_some_and(Reason::names_a_failed_integration)
}

/// Steps that are being retried publish why, once for each reason: when Fly.io is down, all steps of a
/// phase fail alike. A refused token is not published before it is proven to be wrong: Fly.io refuses
/// good ones now and then.
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

/// A program that exits again and again, although its release went live.
fn crash_loop(
    events: &mut Vec<Event>,
    before: Option<&crate::api::status::PhaseStatus>,
    phase: &crate::api::status::PhaseStatus,
) {
    begun(events, before, phase, Reason::CrashLooping);
}

/// A rotation that somebody has requested, perhaps because a value has leaked, is not made yet, or not at all.
fn rotation_waits(
    events: &mut Vec<Event>,
    before: Option<&crate::api::status::PhaseStatus>,
    phase: &crate::api::status::PhaseStatus,
) {
    begun(events, before, phase, Reason::RotationWaits);
    begun(events, before, phase, Reason::RotationRefused);
}

/// A warning of the first step that has this reason, once when that begins.
fn begun(
    events: &mut Vec<Event>,
    before: Option<&crate::api::status::PhaseStatus>,
    phase: &crate::api::status::PhaseStatus,
    reason: Reason,
) {
    if phase.state == PhaseState::Failed && phase.reason == reason.as_str() {
        // The phase that fails by it has an event of its own.
        return;
    }
    let found = |phase: &'_ crate::api::status::PhaseStatus| {
        let mut steps = phase.steps.iter();
        let found = steps.find(|step| step.reason == reason.as_str());
        found.cloned()
    };
    if let (None, Some(step)) = (before.and_then(found), found(phase)) {
        events.push(event(
            EventType::Warning,
            step.reason,
            step.name,
            &step.message,
        ));
    }
}

fn gate(
    events: &mut Vec<Event>,
    before: Option<&crate::api::status::PhaseStatus>,
    phase: &crate::api::status::PhaseStatus,
) {
    let Some(gate) = &phase.gate else { return };
    let old = before.and_then(|phase| phase.gate.as_ref());
    let told = old.is_some_and(|old| {
        (old.state, &old.digest, old.generation) == (gate.state, &gate.digest, gate.generation)
            && old.reminders >= gate.reminders
    });
    if told {
        return;
    }
    let (type_, reason, note) = match gate.state {
        GateState::Requested if gate.reminders > 0 => (
            EventType::Warning,
            "ApprovalReminder",
            format!(
                "{} still waits for approval of plan {} (reminder {})",
                phase.name, gate.digest, gate.reminders
            ),
        ),
        GateState::Requested => (
            EventType::Normal,
            "ApprovalRequested",
            format!("{} waits for approval of plan {}", phase.name, gate.digest),
        ),
        GateState::Approved => (
            EventType::Normal,
            "ApprovalGranted",
            if gate.approved_by.is_empty() {
                format!(
                    "nobody decided on {} in time, and `onTimeout` is Continue",
                    phase.name
                )
            } else {
                format!("{} approved by {}", phase.name, gate.approved_by.join(", "))
            },
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
        // The phase that failed by it has an event of its own.
        GateState::Expired if phase.state == PhaseState::Failed => return,
        GateState::Expired => (
            EventType::Warning,
            "ApprovalExpired",
            format!("nobody decided on {} in time", phase.name),
        ),
        GateState::Pending => return,
    };
    events.push(event(type_, reason, phase.name.as_str(), &note));
}

/// A check that blocks has passed with a warning: what people wrote is valid, and probably not what
/// they meant.
fn doubts(events: &mut Vec<Event>, old: Option<&ActivationStatus>, new: &ActivationStatus) {
    for check in &new.preflight {
        let doubtful = check.severity == Severity::Blocking && check.result == CheckResult::Warning;
        let told = old.is_some_and(|old| {
            let mut before = old.preflight.iter();
            before.any(|before| {
                before.check == check.check
                    && before.result == check.result
                    && before.message == check.message
            })
        });
        if doubtful && !told {
            let note = format!("{}; next: {}", check.message, check.next_action);
            let reason = check.reason.clone();
            events.push(event(
                EventType::Warning,
                reason,
                check.check.clone(),
                &note,
            ));
        }
    }
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

/// What begins to be left behind, once for each object.
fn left_behind(events: &mut Vec<Event>, old: Option<&ActivationStatus>, new: &ActivationStatus) {
    for object in &new.external {
        let Some(why) = &object.retained else {
            continue;
        };
        let told = old.is_some_and(|old| {
            old.external.iter().any(|before| {
                (&before.kind, &before.id) == (&object.kind, &object.id)
                    && before.retained.is_some()
            })
        });
        if !told {
            events.push(event(
                EventType::Normal,
                Reason::LeftBehind.as_str(),
                object.kind.clone(),
                &format!(
                    "{} {} ({}) is left behind: {why}",
                    object.kind, object.name, object.id
                ),
            ));
        }
    }
}

/// Two statuses, compared by their conditions.
struct Transition<'a> {
    old: Option<&'a ActivationStatus>,
    new: &'a ActivationStatus,
}

impl Transition<'_> {
    fn was(&self, type_: ConditionType, status: &str) -> bool {
        self.old
            .and_then(|old| condition::find(&old.conditions, type_))
            .is_some_and(|condition| condition.status == status)
    }

    /// The condition has this status now, and had another one before.
    fn became(&self, type_: ConditionType, status: &str) -> bool {
        let now = condition::find(&self.new.conditions, type_);
        now.is_some_and(|condition| condition.status == status) && !self.was(type_, status)
    }

    /// The condition is True as before, and says something else.
    fn told_anew(&self, type_: ConditionType) -> bool {
        let told = |status: &ActivationStatus| {
            let found = condition::find(&status.conditions, type_);
            found
                .filter(|condition| condition.status == "True")
                .map(|condition| condition.message.clone())
        };
        let (before, now) = (self.old.and_then(told), told(self.new));
        before.is_some() && now.is_some() && before != now
    }

    fn message(&self, type_: ConditionType) -> &str {
        let now = condition::find(&self.new.conditions, type_);
        now.map_or("", |condition| &condition.message)
    }

    /// The reason of the condition now, if it is another one than before.
    fn new_reason(&self, type_: ConditionType) -> Option<&str> {
        let now = condition::find(&self.new.conditions, type_)?;
        let before = self
            .old
            .and_then(|old| condition::find(&old.conditions, type_));
        let same = before.is_some_and(|before| before.reason == now.reason);
        (!same).then_some(now.reason.as_str())
    }

    fn event(&self, type_: EventType, reason: &str, action: &str, about: ConditionType) -> Event {
        event(type_, reason, action, self.message(about))
    }
}

/// Events that follow from changed conditions.
fn transitions(events: &mut Vec<Event>, old: Option<&ActivationStatus>, new: &ActivationStatus) {
    use ConditionType::{Deleting, Drifted, Live, Observed, Stalled, Suspended};
    use EventType::{Normal, Warning};
    let change = Transition { old, new };
    if new.go_live.is_some() && old.is_none_or(|old| old.go_live.is_none()) {
        events.push(change.event(Normal, "GoLive", "GoLive", Live));
    }
    release(events, &change);
    if change.became(Drifted, "True") || change.told_anew(Drifted) {
        events.push(change.event(Warning, "DriftDetected", "Observe", Drifted));
    }
    if change.was(Drifted, "True") && change.became(Drifted, "False") {
        events.push(change.event(Normal, "DriftCorrected", "Observe", Drifted));
    }
    if change.became(Suspended, "True") {
        events.push(change.event(Normal, "Suspended", "Suspend", Suspended));
    }
    if change.was(Suspended, "True") && change.became(Suspended, "False") {
        events.push(event(Normal, "Resumed", "Resume", "reconciled again"));
    }
    if change.was(Live, "True") && change.became(Observed, "Unknown") {
        events.push(change.event(Warning, "ObservationLost", "Observe", Observed));
    }
    site(events, &change);
    // Phases have events of their own for a failure; this is for objects that reached no phase.
    let mut phases = new.phases.iter();
    let failed_phase = phases.any(|phase| phase.state == PhaseState::Failed);
    if let Some(reason) = change.new_reason(Stalled).filter(|_| !failed_phase) {
        events.push(change.event(Warning, reason, "Validate", Stalled));
    }
    let blocked = Reason::DeletionBlocked.as_str();
    if change.new_reason(Deleting) == Some(blocked) {
        events.push(change.event(Warning, blocked, "Delete", Deleting));
    }
}

/// A release after the first went live. A rollback has events of its own: its phases have not all
/// succeeded.
fn release(events: &mut Vec<Event>, change: &Transition<'_>) {
    fn number(status: &ActivationStatus) -> Option<i64> {
        status.release.as_ref()?.number
    }
    let new = change.new;
    let old = change.old.filter(|old| old.go_live.is_some());
    let (Some(before), Some(now)) = (old.and_then(number), number(new)) else {
        return;
    };
    if before == now || !new.is_live() {
        return;
    }
    let image = new.release.as_ref().map_or("", |release| &release.image);
    let place = new.url.as_ref();
    let place = place.map_or_else(String::new, |url| format!(" at {url}"));
    let note = format!("release {now} ({image}) is live{place}");
    events.push(event(EventType::Normal, "ReleaseLive", "GoLive", &note));
}

/// The site stopped to answer, or answers again. A SmokeTest of the spec that fails has an event of
/// its own.
fn site(events: &mut Vec<Event>, change: &Transition<'_>) {
    use ConditionType::{Deleting, Live};
    let smoke_test = |status: &ActivationStatus| {
        let mut phases = status.phases.iter();
        phases.any(|phase| phase.name == PhaseName::SmokeTest && phase.state == PhaseState::Failed)
    };
    let told = smoke_test(change.new) && !change.old.is_some_and(smoke_test);
    let deleting = condition::is_true(&change.new.conditions, Deleting);
    if change.became(Live, "False") && change.old.is_some() && !told && !deleting {
        let reason = change.new_reason(Live).unwrap_or("SmokeCheckFailed");
        events.push(change.event(EventType::Warning, reason, "Observe", Live));
    }
    if change.was(Live, "False") && change.became(Live, "True") {
        events.push(change.event(EventType::Normal, "LiveAgain", "Observe", Live));
    }
}

#[cfg(test)]
mod tests;
