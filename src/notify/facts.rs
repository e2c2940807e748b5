//! What is true of an activation, topic by topic, read from its status.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::news::{Fact, Manner, Topic};
use crate::api::{
    ActivationStatus, NotificationEvent as Event, NotificationSeverity as Severity, PhaseName,
    condition::{ConditionStatus, ConditionType},
    policy::{Gate, OnTimeout},
    status::{
        GateState, GateStatus, GoLive, HistoryOutcome, IntegrationState, IntegrationStatus,
        ObjectiveStatus, PhaseState, PhaseStatus, ReleaseStatus,
    },
};

mod watch;

/// A suspension is told when it lasts longer.
const LONG_SUSPENSION: SignedDuration = SignedDuration::from_hours(24);

/// What the facts are read from.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The status as it was written last.
    pub status: &'a ActivationStatus,
    /// The generation of the spec.
    pub generation: i64,
    /// The gates of the spec.
    pub gates: &'a [Gate],
    /// A test that a person asked for: the text of the annotation.
    pub test: Option<&'a str>,
    /// Now, by the API server's time.
    pub now: Timestamp,
}

/// What is true of the activation now: one fact for each topic that it has.
#[must_use]
pub fn facts(subject: Subject<'_>) -> Vec<Fact> {
    let status = subject.status;
    let mut facts = Vec::new();
    for phase in &status.phases {
        facts.push(of_phase(phase, subject));
        facts.extend(
            phase
                .gate
                .as_ref()
                .map(|gate| of_gate(phase, gate, subject)),
        );
        facts.push(of_deadline(phase, subject.now));
    }
    facts.extend(go_live(status));
    facts.extend(site(status));
    facts.extend(integrations(status));
    facts.extend(watch::facts(status));
    facts.extend(rollback(status));
    facts.extend(drift(status));
    facts.extend(suspension(status, subject.now));
    facts.extend(subject.test.map(test));
    facts
}

fn seconds(time: Option<&Time>) -> i64 {
    time.map_or(0, |time| time.0.as_second())
}

fn of_phase(phase: &PhaseStatus, subject: Subject<'_>) -> Fact {
    let name = phase.name;
    let topic = Topic::Phase(name);
    let begun = format!("begun {}", phase.starts);
    let (state, how, title) = match phase.state {
        // An integration has a topic of its own, and its phase says no more.
        PhaseState::Failed if name == PhaseName::Integrations => return Fact::unknown(topic),
        PhaseState::Running | PhaseState::Waiting => (
            begun,
            (Manner::Between, Event::PhaseStarted, Severity::Info),
            format!("{name} has begun"),
        ),
        PhaseState::Succeeded => (
            format!("passed {}", phase.starts),
            (Manner::Once, Event::PhasePassed, Severity::Info),
            format!("{name} has passed"),
        ),
        PhaseState::Failed => (
            format!("failed {} {}", subject.generation, phase.reason),
            (Manner::Alarm, Event::PhaseFailed, Severity::Warning),
            format!("{name} has failed: {}", phase.reason),
        ),
        PhaseState::Pending | PhaseState::AwaitingApproval | PhaseState::Skipped => {
            return Fact::unknown(topic);
        }
    };
    let failed = phase.state == PhaseState::Failed;
    Fact {
        owner: phase.owner.clone(),
        title,
        text: if failed {
            phase.message.clone()
        } else {
            String::new()
        },
        next_action: match (failed, &subject.status.next_action) {
            (true, Some(action)) => action.clone(),
            _ => String::new(),
        },
        ..Fact::new(topic, state, how)
    }
}

fn of_gate(phase: &PhaseStatus, gate: &GateStatus, subject: Subject<'_>) -> Fact {
    let name = phase.name;
    let plan: String = gate.digest.chars().take(12).collect();
    let attempt = seconds(gate.requested_at.as_ref());
    let state = |word: &str| format!("{word} {plan} {attempt}");
    let (state, how, title) = match gate.state {
        GateState::Requested => return of_request(phase, gate, subject),
        // Nothing is done, so nobody is asked.
        GateState::Pending => (
            state("pending"),
            (Manner::Quiet, Event::Withdrawn, Severity::Info),
            format!("no approval of {name} is asked for any more"),
        ),
        GateState::Approved => (
            state("approved"),
            (Manner::Once, Event::ApprovalGranted, Severity::Info),
            format!("{name} was approved"),
        ),
        GateState::Rejected => (
            state("rejected"),
            (Manner::Once, Event::ApprovalRefused, Severity::Warning),
            format!("{name} was rejected"),
        ),
        GateState::Expired => (
            state("expired"),
            (Manner::Once, Event::ApprovalRefused, Severity::Warning),
            format!("nobody decided about {name} in time"),
        ),
    };
    let by = match gate.state {
        GateState::Approved if gate.approved_by.is_empty() => {
            ", because nobody decided in time and `onTimeout` is Continue".to_owned()
        }
        GateState::Approved => format!(", by {}", gate.approved_by.join(", ")),
        GateState::Rejected => {
            let by = gate.rejected_by.as_ref();
            by.map(|by| format!(", by {by}")).unwrap_or_default()
        }
        GateState::Requested | GateState::Pending | GateState::Expired => String::new(),
    };
    Fact {
        owner: phase.owner.clone(),
        title,
        text: format!("plan {plan}{by}"),
        ..Fact::new(Topic::Gate(name), state, how)
    }
}

/// What happens at a gate when nobody decides in time.
fn on_timeout(name: PhaseName, gates: &[Gate]) -> OnTimeout {
    let mut gates = gates.iter();
    let gate = gates.find(|gate| gate.before.as_str() == name.as_str());
    gate.map(|gate| gate.on_timeout).unwrap_or_default()
}

/// A gate that waits for people.
fn of_request(phase: &PhaseStatus, gate: &GateStatus, subject: Subject<'_>) -> Fact {
    let name = phase.name;
    let plan: String = gate.digest.chars().take(12).collect();
    let attempt = seconds(gate.requested_at.as_ref());
    let end = on_timeout(name, subject.gates);
    let until = gate.expires_at.as_ref().map(|time| time.0);
    let is_late = is_near(
        gate.requested_at.as_ref(),
        gate.expires_at.as_ref(),
        subject.now,
    );
    let (word, event, title) = match end {
        OnTimeout::Remind if gate.reminders > 0 => (
            format!("reminder {}", gate.reminders),
            Event::ApprovalReminder,
            format!("{name} still waits for an approval"),
        ),
        OnTimeout::Reject | OnTimeout::Continue if is_late => (
            "expiring".to_owned(),
            Event::ApprovalExpiring,
            match end {
                OnTimeout::Continue => format!("{name} will soon begin without an approval"),
                _ => format!("{name} will soon be rejected, because nobody decides"),
            },
        ),
        _ => (
            "requested".to_owned(),
            Event::ApprovalRequested,
            format!("{name} waits for an approval"),
        ),
    };
    let until = until.map(|until| match end {
        OnTimeout::Reject => format!("; without a decision it is rejected at {until}"),
        OnTimeout::Continue => format!("; without a decision it begins at {until}"),
        OnTimeout::Remind => format!("; the next reminder is due at {until}"),
    });
    Fact {
        owner: phase.owner.clone(),
        title,
        text: format!("plan {plan}{}", until.unwrap_or_default()),
        next_action: phase.message.clone(),
        ..Fact::new(
            Topic::Gate(name),
            format!("{word} {plan} {attempt}"),
            (Manner::Alarm, event, Severity::Warning),
        )
    }
}

/// When three quarters of the time between the two have passed.
fn near(from: Option<&Time>, to: Option<&Time>) -> Option<Timestamp> {
    let (from, to) = (from?.0, to?.0);
    let whole = to.duration_since(from);
    let quarters = SignedDuration::from_millis(
        i64::try_from(whole.as_millis().saturating_mul(3) / 4).unwrap_or(i64::MAX),
    );
    from.checked_add(quarters)
        .ok()
        .filter(|_| whole.is_positive())
}

/// The next instant at which another fact becomes true by the time alone.
#[must_use]
pub fn next_change(subject: Subject<'_>) -> Option<Timestamp> {
    let mut instants = Vec::new();
    for phase in &subject.status.phases {
        if works(phase) {
            instants.extend(phase.deadline.as_ref().map(|time| time.0));
            instants.extend(near(phase.started_at.as_ref(), phase.deadline.as_ref()));
        }
        let asked = phase.gate.as_ref();
        if let Some(gate) = asked.filter(|gate| gate.state == GateState::Requested) {
            instants.extend(near(gate.requested_at.as_ref(), gate.expires_at.as_ref()));
        }
    }
    let suspended = subject.status.conditions.iter().find(|condition| {
        condition.type_ == ConditionType::Suspended.as_str()
            && condition.status == ConditionStatus::True.as_str()
    });
    let long = suspended.and_then(|condition| {
        let since = condition.last_transition_time.0;
        since.checked_add(LONG_SUSPENSION).ok()
    });
    instants.extend(long);
    instants.into_iter().filter(|at| *at > subject.now).min()
}

/// The part of a status that facts are read from: what waits in memory is small.
#[must_use]
pub fn essence(status: &ActivationStatus) -> ActivationStatus {
    ActivationStatus {
        url: status.url.clone(),
        go_live: status.go_live.as_ref().map(|go_live| GoLive {
            evidence: Vec::new(),
            ..go_live.clone()
        }),
        conditions: status.conditions.clone(),
        phases: status
            .phases
            .iter()
            .map(|phase| PhaseStatus {
                steps: Vec::new(),
                ..phase.clone()
            })
            .collect(),
        integrations: status
            .integrations
            .iter()
            .map(|integration| IntegrationStatus {
                checks: Vec::new(),
                ..integration.clone()
            })
            .collect(),
        objectives: status
            .objectives
            .iter()
            .map(|objective| ObjectiveStatus {
                burn_rates: Vec::new(),
                release: None,
                ..objective.clone()
            })
            .collect(),
        watch: status.watch.clone(),
        incidents: status.incidents.clone(),
        release: status.release.as_ref().map(|release| ReleaseStatus {
            number: release.number,
            ..ReleaseStatus::default()
        }),
        history: status.history.clone(),
        next_action: status.next_action.clone(),
        ..ActivationStatus::default()
    }
}

/// Whether three quarters of the time between the two have passed.
fn is_near(from: Option<&Time>, to: Option<&Time>, now: Timestamp) -> bool {
    near(from, to).is_some_and(|at| now >= at)
}

/// Whether a phase is at work, so that its deadline counts.
fn works(phase: &PhaseStatus) -> bool {
    matches!(
        phase.state,
        PhaseState::Running | PhaseState::Waiting | PhaseState::Failed
    )
}

fn of_deadline(phase: &PhaseStatus, now: Timestamp) -> Fact {
    let topic = Topic::Deadline(phase.name);
    let Some(deadline) = phase.deadline.as_ref().filter(|_| works(phase)) else {
        return within(phase, topic);
    };
    let (word, event, title) = if now >= deadline.0 {
        let title = format!("{} exceeded its deadline", phase.name);
        ("passed", Event::DeadlinePassed, title)
    } else if is_near(phase.started_at.as_ref(), phase.deadline.as_ref(), now) {
        let title = format!("three quarters of the time of {} have passed", phase.name);
        ("near", Event::DeadlineNear, title)
    } else {
        return within(phase, topic);
    };
    let state = format!("{word} {}", deadline.0.as_second());
    Fact {
        owner: phase.owner.clone(),
        title,
        text: format!("the deadline is {}; {}", deadline.0, phase.message),
        ..Fact::new(topic, state, (Manner::Alarm, event, Severity::Warning))
    }
}

/// No deadline of the phase is near.
fn within(phase: &PhaseStatus, topic: Topic) -> Fact {
    let quiet = (Manner::Quiet, Event::Withdrawn, Severity::Info);
    Fact {
        owner: phase.owner.clone(),
        title: format!("no deadline of {} is near any more", phase.name),
        ..Fact::new(topic, "within", quiet)
    }
}

fn go_live(status: &ActivationStatus) -> Option<Fact> {
    let go_live = status.go_live.as_ref()?;
    let how = (Manner::Once, Event::GoLive, Severity::Info);
    Some(Fact {
        title: "the application is live".to_owned(),
        text: status.url.clone().unwrap_or_default(),
        ..Fact::new(Topic::GoLive, go_live.time.0.to_string(), how)
    })
}

fn condition(
    status: &ActivationStatus,
    type_: ConditionType,
) -> Option<(ConditionStatus, &str, &str)> {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_.as_str())?;
    let value = ConditionStatus::parse(&found.status)?;
    Some((value, &found.reason, &found.message))
}

fn site(status: &ActivationStatus) -> Option<Fact> {
    status.go_live.as_ref()?;
    let (value, reason, message) = condition(status, ConditionType::Live)?;
    let fact = match value {
        ConditionStatus::False => Fact {
            title: "the site does not answer as it should".to_owned(),
            text: message.to_owned(),
            next_action: status.next_action.clone().unwrap_or_default(),
            ..Fact::new(
                Topic::Site,
                format!("down {reason}"),
                (Manner::Alarm, Event::SiteDown, Severity::Critical),
            )
        },
        ConditionStatus::True => Fact {
            title: "the site answers again".to_owned(),
            text: message.to_owned(),
            ..Fact::new(
                Topic::Site,
                "up",
                (Manner::Quiet, Event::SiteRecovered, Severity::Info),
            )
        },
        // Nothing is known, so nothing is news: an alarm stays, and none begins.
        ConditionStatus::Unknown => Fact::unknown(Topic::Site),
    };
    Some(fact)
}

fn integrations(status: &ActivationStatus) -> impl Iterator<Item = Fact> {
    status.integrations.iter().map(|integration| {
        let topic = Topic::Integration(integration.name.clone());
        let found = match integration.state {
            IntegrationState::Failed => Fact {
                title: format!(
                    "the integration {} fails its checks: {}",
                    integration.name, integration.reason
                ),
                text: integration.message.clone(),
                next_action: integration.next_action.clone(),
                ..Fact::new(
                    topic,
                    format!("failed {}", integration.reason),
                    (Manner::Alarm, Event::IntegrationDegraded, Severity::Warning),
                )
            },
            IntegrationState::Verified => Fact {
                title: format!(
                    "the integration {} passes its checks again",
                    integration.name
                ),
                ..Fact::new(
                    topic,
                    "verified",
                    (Manner::Quiet, Event::IntegrationRecovered, Severity::Info),
                )
            },
            IntegrationState::Pending | IntegrationState::Waiting | IntegrationState::Unknown => {
                Fact::unknown(topic)
            }
        };
        Fact {
            owner: integration.owner.clone(),
            ..found
        }
    })
}

fn rollback(status: &ActivationStatus) -> Option<Fact> {
    let entry = status
        .history
        .iter()
        .find(|entry| entry.outcome == HistoryOutcome::RolledBack)?;
    let number = entry.number.unwrap_or_default();
    let how = (Manner::Once, Event::RolledBack, Severity::Critical);
    Some(Fact {
        title: format!("release {number} was rolled back"),
        text: entry.why.clone(),
        ..Fact::new(
            Topic::Rollback,
            format!("{number} {}", seconds(entry.time.as_ref())),
            how,
        )
    })
}

fn drift(status: &ActivationStatus) -> Option<Fact> {
    let (value, _, message) = condition(status, ConditionType::Drifted)?;
    match value {
        ConditionStatus::True => Some(Fact {
            title: "something at Fly.io differs from the object".to_owned(),
            text: message.to_owned(),
            ..Fact::new(
                Topic::Drift,
                "drifted",
                (Manner::Alarm, Event::Drifted, Severity::Warning),
            )
        }),
        ConditionStatus::False => Some(Fact {
            title: "Fly.io matches the object again".to_owned(),
            ..Fact::new(
                Topic::Drift,
                "none",
                (Manner::Quiet, Event::DriftCorrected, Severity::Info),
            )
        }),
        ConditionStatus::Unknown => Some(Fact::unknown(Topic::Drift)),
    }
}

fn suspension(status: &ActivationStatus, now: Timestamp) -> Option<Fact> {
    let suspended = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Suspended.as_str())?;
    if suspended.status != ConditionStatus::True.as_str() {
        let quiet = (Manner::Quiet, Event::Resumed, Severity::Info);
        return Some(Fact {
            title: "the activation is resumed".to_owned(),
            ..Fact::new(Topic::Suspension, "none", quiet)
        });
    }
    let since = suspended.last_transition_time.0;
    if now.duration_since(since) < LONG_SUSPENSION {
        return Some(Fact::unknown(Topic::Suspension));
    }
    Some(Fact {
        title: format!("suspended since {since}"),
        text: suspended.message.clone(),
        next_action: "set `spec.suspend` to false when the reason is gone".to_owned(),
        ..Fact::new(
            Topic::Suspension,
            format!("long {}", since.as_second()),
            (Manner::Alarm, Event::SuspendedTooLong, Severity::Warning),
        )
    })
}

fn test(request: &str) -> Fact {
    Fact {
        title: "this is a test of the notifications".to_owned(),
        text: "a person asked for it with the annotation golive.dev/test-notification".to_owned(),
        ..Fact::new(
            Topic::Test,
            request,
            (Manner::Once, Event::Test, Severity::Info),
        )
    }
}

#[cfg(test)]
mod tests;
