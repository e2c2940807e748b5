//! Metrics that follow from a status.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{
        Activation, ActivationStatus, PhaseName, Reason,
        condition::{self, ConditionType},
        preflight::CheckName,
        status::{
            CheckResult, GateState, IntegrationResult, PhaseState, RollbackState, Severity,
            WatchState,
        },
    },
    pipeline::{Note, Owner, report::Report},
    process::{
        metrics::{Info, Metrics, Objective},
        workqueue::Object,
    },
    reconcile::context::Context,
    status::{PassResult, left_alone},
};

/// Takes a new status into the metrics.
pub fn status(
    context: &Context,
    owner: &Owner,
    activation: &Activation,
    result: &PassResult<'_>,
    old: Option<&ActivationStatus>,
    new: &ActivationStatus,
) {
    let metrics = &*context.metrics;
    let now = context.installation.clock.now();
    let object = Object::new(&owner.namespace, &owner.name);
    info(metrics, &object, activation, new);
    if result.report.is_some() && condition::is_true(&new.conditions, ConditionType::Observed) {
        metrics.observed_at(&object, now);
    }
    phases(metrics, &object, old, new, now);
    checks(metrics, &object, new);
    gates(metrics, &object, old, new, now);
    drift(metrics, &object, result, new);
    smoke_tests(metrics, result, old, new);
    integrations(metrics, &object, result, new);
    objectives(metrics, &object, result, new);
    for (trigger, result) in rollbacks(old, new) {
        metrics.rolled_back(trigger, result);
    }
    if new.go_live.is_some() && old.is_none_or(|old| old.go_live.is_none()) {
        let since = activation.metadata.creation_timestamp.as_ref();
        if let Some(took) = since.and_then(|t| Duration::try_from(now.duration_since(t.0)).ok()) {
            metrics.went_live(took);
        }
    }
}

fn info(metrics: &Metrics, object: &Object, activation: &Activation, new: &ActivationStatus) {
    let status_of = |type_| {
        let found = condition::find(&new.conditions, type_);
        found.map_or_else(|| "Unknown".to_owned(), |found| found.status.clone())
    };
    metrics.set_info(
        object,
        &Info {
            phase: new.phase.clone().unwrap_or_default(),
            ready: status_of(ConditionType::Ready),
            live: status_of(ConditionType::Live),
            suspended: activation.spec.suspend,
            app: activation.spec.app.clone(),
            region: activation.spec.region.clone(),
        },
    );
    let stalled = condition::find(&new.conditions, ConditionType::Stalled);
    let stalled = stalled.filter(|stalled| stalled.status == "True");
    metrics.set_stalled(object, stalled.map(|stalled| stalled.reason.as_str()));
}

fn phases(
    metrics: &Metrics,
    object: &Object,
    old: Option<&ActivationStatus>,
    new: &ActivationStatus,
    now: Timestamp,
) {
    for phase in &new.phases {
        let before = old.and_then(|old| old.phases.iter().find(|p| p.name == phase.name));
        let open = phase.finished_at.is_none();
        let deadline = phase.deadline.as_ref().filter(|_| open).map(|time| time.0);
        metrics.set_deadline(object, phase.name.as_str(), deadline);
        let began = phase.started_at.as_ref().map(|time| time.0);
        let began = began.filter(|_| deadline.is_some());
        metrics.set_phase_start(object, phase.name.as_str(), began);
        let result = match phase.state {
            PhaseState::Succeeded => "success",
            PhaseState::Failed => "failure",
            _ => continue,
        };
        if before.is_none_or(|before| before.state != phase.state)
            && let Some(began) = &phase.started_at
        {
            let took = Duration::try_from(now.duration_since(began.0)).unwrap_or_default();
            metrics.phase_finished(phase.name.as_str(), result, took);
        }
    }
}

fn drift(metrics: &Metrics, object: &Object, result: &PassResult<'_>, new: &ActivationStatus) {
    let Some(drifted) = condition::find(&new.conditions, ConditionType::Drifted) else {
        return;
    };
    // Drift that was corrected in the same pass is not in the plan.
    let planned = new.plan.as_ref().map_or(0, |plan| {
        let before_live = |phase: &str| PhaseName::parse(phase).is_some_and(PhaseName::before_live);
        let changes = plan.changes.iter();
        changes.filter(|change| before_live(&change.phase)).count()
    });
    let all = planned + left_alone(result).count();
    let changes = u32::try_from(all).unwrap_or(u32::MAX).max(1);
    let known = match drifted.status.as_str() {
        "True" => Some(changes),
        "False" => Some(0),
        _ => None,
    };
    metrics.set_drift(object, known);
}

fn smoke_tests(
    metrics: &Metrics,
    result: &PassResult<'_>,
    old: Option<&ActivationStatus>,
    new: &ActivationStatus,
) {
    let steps = result.report.into_iter().flat_map(Report::steps);
    for note in steps.flat_map(|(_, record)| record.notes.iter()) {
        let Note::SmokeTest(noted, kind) = note else {
            continue;
        };
        let mut entries = new.smoke_test.iter();
        let Some(test) = entries.find(|test| test.check == noted.check) else {
            continue;
        };
        let known = old.is_some_and(|old| old.smoke_test.contains(test));
        let took = test.duration_ms.and_then(|ms| u64::try_from(ms).ok());
        if let Some(took) = took.filter(|_| !known) {
            metrics.probed(kind.as_str(), Duration::from_millis(took));
        }
    }
}

/// The figures of this pass; without a watch there are none.
fn objectives(metrics: &Metrics, object: &Object, result: &PassResult<'_>, new: &ActivationStatus) {
    let reports = [result.report, result.site.as_ref().map(|site| &site.report)];
    let steps = reports.into_iter().flatten().flat_map(Report::steps);
    let notes = steps.flat_map(|(_, record)| record.notes.iter());
    let noted = notes.filter_map(|note| match note {
        Note::Objective(entry, Some(figures)) => Some(Objective {
            name: entry.name.clone(),
            met: figures.met,
            budget_left: figures.budget_left,
            burn: figures.burn.clone(),
        }),
        _ => None,
    });
    let noted: Vec<Objective> = noted.collect();
    let runs = new
        .watch
        .as_ref()
        .is_some_and(|watch| watch.state == WatchState::Running);
    if !noted.is_empty() || !runs {
        metrics.set_objectives(object, &noted);
    }
}

fn integrations(
    metrics: &Metrics,
    object: &Object,
    result: &PassResult<'_>,
    new: &ActivationStatus,
) {
    let entries = new.integrations.iter();
    let checks = entries.flat_map(|entry| {
        let checks = entry.checks.iter();
        checks.map(|check| {
            let value = match check.result {
                IntegrationResult::Passed | IntegrationResult::Warned => Some(true),
                IntegrationResult::Failed => Some(false),
                IntegrationResult::Unproven
                | IntegrationResult::Waiting
                | IntegrationResult::Unknown => None,
            };
            (entry.name.clone(), check.id.clone(), value)
        })
    });
    metrics.set_integration_checks(object, checks.collect());
    let names = new.integrations.iter().map(|entry| entry.name.as_str());
    metrics.keep_integrations(object, &names.collect::<Vec<_>>());
    let steps = result.report.into_iter().flat_map(Report::steps);
    for note in steps.flat_map(|(_, record)| record.notes.iter()) {
        if let Note::Integration(entry, Some(verified)) = note {
            metrics.integration_verified(object, &entry.name, *verified);
        }
    }
}

fn checks(metrics: &Metrics, object: &Object, new: &ActivationStatus) {
    for check in &new.preflight {
        let Some(name) = CheckName::parse(&check.check) else {
            continue;
        };
        let passed = match check.result {
            CheckResult::Passed => Some(true),
            CheckResult::Failed | CheckResult::Warning => Some(false),
            CheckResult::Skipped | CheckResult::Unknown => None,
        };
        let severity = match check.severity {
            Severity::Blocking => "blocking",
            Severity::Warning => "warning",
        };
        metrics.set_preflight_check(object, name.as_str(), severity, passed);
    }
}

fn gates(
    metrics: &Metrics,
    object: &Object,
    old: Option<&ActivationStatus>,
    new: &ActivationStatus,
    now: Timestamp,
) {
    let open = |state| state == GateState::Requested;
    let waiting = new.phases.iter().filter_map(|phase| {
        let gate = phase.gate.as_ref().filter(|gate| open(gate.state))?;
        Some((phase.name.as_str(), gate.requested_at.as_ref()?.0))
    });
    metrics.set_gates(object, waiting.collect());
    for phase in &new.phases {
        let before = old.and_then(|old| old.phases.iter().find(|p| p.name == phase.name));
        let was = before.and_then(|phase| phase.gate.as_ref());
        let (Some(was), Some(is)) = (was, &phase.gate) else {
            continue;
        };
        if open(was.state)
            && !open(is.state)
            && let Some(asked) = &was.requested_at
        {
            let waited = Duration::try_from(now.duration_since(asked.0)).unwrap_or_default();
            metrics.gate_waited(phase.name.as_str(), waited);
        }
    }
}

/// The rollbacks that ended between two statuses: what triggered each, and its result. Pure.
fn rollbacks(
    old: Option<&ActivationStatus>,
    new: &ActivationStatus,
) -> Vec<(&'static str, &'static str)> {
    let deploy = |status: Option<&ActivationStatus>| {
        let phases = status.map(|status| status.phases.as_slice());
        let mut phases = phases.unwrap_or_default().iter();
        let deploy = phases.find(|phase| phase.name == PhaseName::Deploy)?;
        (deploy.state == PhaseState::Failed).then(|| {
            if deploy.reason == Reason::RolledBack.as_str() {
                "success"
            } else if deploy.reason == Reason::RollbackHeld.as_str() {
                "held"
            } else if deploy.reason == Reason::RestoreFailed.as_str() {
                "failure"
            } else {
                "none"
            }
        })
    };
    // A request and the release that it takes back are dated alike, since they are recorded as one.
    let by_request = new.rollback.as_ref().is_some_and(|request| {
        request.state == RollbackState::Accepted
            && new
                .history
                .first()
                .is_some_and(|last| last.restores == request.to && last.time == request.time)
    });
    let trigger = if by_request { "request" } else { "failure" };
    let mut ended = Vec::new();
    if let Some(result) = deploy(Some(new)).filter(|result| *result != "none")
        && deploy(old) != Some(result)
    {
        ended.push((trigger, result));
    }
    let refused = |status: Option<&ActivationStatus>| {
        let rollback = status.and_then(|status| status.rollback.as_ref())?;
        (rollback.state == RollbackState::Refused).then(|| rollback.request.clone())
    };
    if let Some(request) = refused(Some(new))
        && refused(old).as_ref() != Some(&request)
    {
        ended.push(("request", "refused"));
    }
    ended
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status(reason: &str, message: &str, rollback: serde_json::Value) -> ActivationStatus {
        let time = "2026-01-02T03:04:05Z";
        serde_json::from_value(serde_json::json!({
            "phases": [{"name": "Deploy", "state": "Failed", "reason": reason, "message": message}],
            "history": [{"number": 3, "outcome": "RolledBack", "restores": 1, "time": time}],
            "rollback": rollback,
        }))
        .unwrap()
    }

    fn asked(state: &str, time: &str) -> serde_json::Value {
        serde_json::json!({"request": "r", "to": 1, "state": state, "time": time})
    }

    #[test]
    fn a_rollback_is_counted_once_by_what_called_for_it_and_how_it_ended() {
        let none = serde_json::Value::Null;
        let held = status("RollbackHeld", "", none.clone());
        let done = status("RolledBack", "", none.clone());
        let failed = status("RestoreFailed", "", none.clone());
        let other = status("NotHealthy", "x", none);
        assert_eq!(rollbacks(None, &held), [("failure", "held")]);
        assert_eq!(rollbacks(Some(&other), &done), [("failure", "success")]);
        assert_eq!(rollbacks(Some(&other), &failed), [("failure", "failure")]);
        assert!(rollbacks(Some(&done), &done).is_empty());
        assert!(rollbacks(None, &other).is_empty());
        let same = asked("Accepted", "2026-01-02T03:04:05Z");
        let by = status("RolledBack", "", same);
        assert_eq!(rollbacks(Some(&other), &by), [("request", "success")]);
        let earlier = asked("Accepted", "2026-01-01T00:00:00Z");
        let by = status("RolledBack", "", earlier);
        assert_eq!(rollbacks(Some(&other), &by), [("failure", "success")]);
        let refused = status("NotHealthy", "x", asked("Refused", "2026-01-01T00:00:00Z"));
        assert_eq!(rollbacks(Some(&other), &refused), [("request", "refused")]);
        assert!(rollbacks(Some(&refused), &refused).is_empty());
    }
}
