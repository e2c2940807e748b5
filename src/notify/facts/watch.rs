//! What is true of the watch after Go-Live: its objectives, what follows from a breach, what happened
//! meanwhile, and its verdict.

use super::super::news::{Fact, Manner, Topic};
use crate::api::{
    ActivationStatus, NotificationEvent as Event, NotificationSeverity as Severity, PhaseName,
    Reason,
    status::{
        CheckResult, IncidentKind, IncidentStatus, ObjectiveStatus, WatchDecision, WatchState,
        WatchStatus,
    },
};

/// All of it.
pub(super) fn facts(status: &ActivationStatus) -> Vec<Fact> {
    let owner = watchman(status);
    let objectives = status.objectives.iter().map(objective);
    let incidents = status.incidents.iter().filter_map(incident);
    let watch = status.watch.iter();
    let watch = watch.flat_map(|watch| [breach(status, watch), verdict(watch)]);
    let facts = objectives.chain(incidents).chain(watch);
    let owned = facts.map(|fact| Fact {
        owner: owner.clone(),
        ..fact
    });
    owned.collect()
}

/// Who is responsible for the watch.
fn watchman(status: &ActivationStatus) -> Option<String> {
    let mut phases = status.phases.iter();
    let observe = phases.find(|phase| phase.name == PhaseName::Observe)?;
    observe.owner.clone()
}

/// How much it matters to be as urgent as this, in the words of the status.
fn urgency(severity: &str) -> Severity {
    match severity {
        "Ticket" => Severity::Warning,
        _ => Severity::Critical,
    }
}

fn objective(entry: &ObjectiveStatus) -> Fact {
    let topic = Topic::Objective(entry.name.clone());
    let name = &entry.name;
    let burns = Reason::parse(&entry.reason) == Some(Reason::BudgetBurning);
    let (how, title) = match entry.result {
        CheckResult::Failed if burns => (
            (Manner::Alarm, Event::BudgetBurning, urgency(&entry.burning)),
            format!("the error budget of {name} burns too fast"),
        ),
        CheckResult::Failed => (
            (
                Manner::Alarm,
                Event::ObjectiveBreached,
                urgency(&entry.severity),
            ),
            format!("the objective {name} is breached"),
        ),
        CheckResult::Passed => (
            (Manner::Quiet, Event::ObjectiveRecovered, Severity::Info),
            format!("the objective {name} is met again"),
        ),
        CheckResult::Warning | CheckResult::Skipped | CheckResult::Unknown => {
            return Fact::unknown(topic);
        }
    };
    let (_, event, severity) = how;
    let text = match &entry.description {
        Some(description) => format!("{description}: {}", entry.message),
        None => entry.message.clone(),
    };
    Fact {
        title,
        text,
        // A ticket that becomes a page is news.
        ..Fact::new(topic, format!("{event} {severity}"), how)
    }
}

/// A breach that is followed by no rollback. That of a rollback is told by its end.
fn breach(status: &ActivationStatus, watch: &WatchStatus) -> Fact {
    let release = status.release.as_ref();
    let release = release.and_then(|release| release.number);
    let release = release.unwrap_or_default();
    let title = match watch.decision {
        // What was told stays: the same is not told again when it comes back.
        None | Some(WatchDecision::RollBack) => return Fact::unknown(Topic::Breach),
        Some(WatchDecision::WouldRollBack) => {
            format!("release {release} breaches an objective, and `onBreach` is Notify")
        }
        Some(WatchDecision::NothingToRestore) => {
            format!("release {release} breaches an objective, and there is nothing to restore")
        }
        Some(WatchDecision::Refused) => {
            format!("release {release} breaches an objective, and its rollback was refused")
        }
    };
    let decision = watch.decision.map_or("", WatchDecision::as_str);
    Fact {
        title,
        next_action: watch.follows.clone(),
        ..Fact::new(
            Topic::Breach,
            format!("{decision} {} {release}", watch.number),
            (Manner::Once, Event::WouldRollBack, Severity::Critical),
        )
    }
}

/// Something that happened. A rollback is told by its own topic.
fn incident(incident: &IncidentStatus) -> Option<Fact> {
    let (kind, subject) = (incident.kind, &incident.subject);
    let what = match kind {
        IncidentKind::RolledBack => return None,
        IncidentKind::MachineCrashed => format!("machine {subject} crashed"),
        IncidentKind::OutOfMemory => format!("machine {subject} ran out of memory"),
        IncidentKind::RestartLoop => format!("machine {subject} restarts again and again"),
        IncidentKind::CheckFailing => format!("a check fails: {subject}"),
        IncidentKind::CertificateExpiring => {
            format!("the certificate for {subject} is near its end")
        }
        IncidentKind::DatabaseLost => format!("the database of {subject} is gone"),
    };
    let severity = match incident.critical {
        true => Severity::Critical,
        false => Severity::Warning,
    };
    // A machine that crashes again and again is told once an hour, and at once when it becomes critical.
    let time = incident.time.as_ref();
    let hour = time.map_or(0, |time| time.0.as_second()) / 3600;
    let topic = Topic::Incident(format!("{kind}/{subject}"));
    Some(Fact {
        title: what,
        text: incident.message.clone(),
        ..Fact::new(
            topic,
            format!("{severity} {hour}"),
            (Manner::Once, Event::IncidentSeen, severity),
        )
    })
}

/// How the watch ended.
fn verdict(watch: &WatchStatus) -> Fact {
    let (event, severity, title) = match watch.state {
        WatchState::Running => return Fact::unknown(Topic::Watch),
        WatchState::Stabilized => (
            Event::Stabilized,
            Severity::Info,
            "the watch has ended well",
        ),
        WatchState::NotStabilized => (
            Event::NotStabilized,
            Severity::Warning,
            "the watch has ended, and the application is not stable",
        ),
        WatchState::Inconclusive => (
            Event::NotStabilized,
            Severity::Warning,
            "the watch has ended without a verdict, because too little was observed",
        ),
    };
    Fact {
        title: title.to_owned(),
        text: watch.verdict.clone(),
        next_action: watch.follows.clone(),
        ..Fact::new(
            Topic::Watch,
            format!("{} {}", watch.state, watch.number),
            (Manner::Once, event, severity),
        )
    }
}
