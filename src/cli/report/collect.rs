//! Everything that is known of one activation, as one document. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::checklist::{ChecklistBox, checklist};
use super::curves::Curve;
use crate::api::{
    Activation, ActivationApproval, ActivationStatus, PhaseName, PhaseState,
    status::{
        GateStatus, HistoryEntry, IncidentStatus, IntegrationStatus, ObjectiveStatus,
        PreflightResult, SmokeTestResult, WatchStatus,
    },
};

/// The minutes of each phase in the plan that an Activation carries out, from and to. Its phase E is counted in
/// days, and its checks before A have no time.
const PLAN: [(PhaseName, &str, u32, u32); 4] = [
    (PhaseName::Provision, "A", 8, 12),
    (PhaseName::Deploy, "B", 3, 5),
    (PhaseName::SmokeTest, "C", 3, 5),
    (PhaseName::Integrations, "D", 30, 60),
];

/// The whole of it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Where it is.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// The app at Fly.io.
    pub(super) app: String,
    /// The region.
    pub(super) region: String,
    /// The public address.
    pub(super) url: Option<String>,
    /// When this was read.
    pub(super) time: Timestamp,
    /// When the object was created.
    pub(super) created: Option<Timestamp>,
    /// When it went live first.
    pub(super) live_since: Option<Timestamp>,
    /// Its state in a word, as `kubectl get` shows it.
    pub(super) phase: String,
    /// What a person must do now.
    pub(super) next_action: Option<String>,
    /// The checklist.
    pub(super) checklist: Vec<ChecklistBox>,
    /// The phases against the minutes of the plan.
    pub(super) phases: Vec<Phase>,
    /// The checks before anything was created.
    pub(super) preflight: Vec<PreflightResult>,
    /// The checks from outside.
    pub(super) smoke_test: Vec<SmokeTestResult>,
    /// The releases on record, newest first.
    pub(super) releases: Vec<HistoryEntry>,
    /// Number of the release that serves.
    pub(super) serves: Option<i64>,
    /// The integrations.
    pub(super) integrations: Vec<IntegrationStatus>,
    /// The watch.
    pub(super) watch: Option<WatchStatus>,
    /// The objectives.
    pub(super) objectives: Vec<Objective>,
    /// What happened meanwhile.
    pub(super) incidents: Vec<IncidentStatus>,
    /// The gates of this plan.
    pub(super) gates: Vec<Gate>,
    /// The decisions of people, newest first.
    pub(super) approvals: Vec<Approval>,
    /// What could not be read, and why.
    pub(super) notes: Vec<String>,
}

/// A phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Phase {
    /// Its name.
    pub(super) name: PhaseName,
    /// Its letter in the plan.
    pub(super) letter: Option<&'static str>,
    /// Its state.
    pub(super) state: PhaseState,
    /// Who is responsible.
    pub(super) owner: Option<String>,
    /// When it began last.
    pub(super) started: Option<Timestamp>,
    /// When it ended.
    pub(super) finished: Option<Timestamp>,
    /// Its deadline.
    pub(super) deadline: Option<Timestamp>,
    /// How long it took, or has taken so far.
    pub(super) seconds: Option<i64>,
    /// The minutes of the plan, from and to.
    pub(super) plan_minutes: Option<[u32; 2]>,
    /// Tries since it was started.
    pub(super) attempts: u32,
    /// What it says.
    pub(super) message: String,
}

/// An objective with its curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Objective {
    /// What the status says.
    #[serde(flatten)]
    pub(super) status: ObjectiveStatus,
    /// The curve, where what the watch has stored can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) curve: Option<Curve>,
}

/// A gate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Gate {
    /// The phase that it is before.
    pub(super) before: PhaseName,
    /// Its state.
    #[serde(flatten)]
    pub(super) status: GateStatus,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Approval {
    /// Name of the object.
    pub(super) name: String,
    /// When it was made.
    pub(super) time: Option<Timestamp>,
    /// What it is about.
    pub(super) gate: String,
    /// The release to restore.
    pub(super) to_release: Option<i64>,
    /// What was decided.
    pub(super) decision: String,
    /// By whom, as the API server authenticated.
    pub(super) approver: String,
    /// Why.
    pub(super) message: Option<String>,
    /// Whether it counts.
    pub(super) state: Option<String>,
}

/// What was read besides the object itself.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Decisions in its namespace.
    pub(super) approvals: Vec<ActivationApproval>,
    /// The curves of its objectives.
    pub(super) curves: Vec<(String, Curve)>,
    /// What could not be read.
    pub(super) notes: Vec<String>,
}

/// Collects it.
pub(super) fn report(activation: &Activation, beside: Beside, now: Timestamp) -> Report {
    let empty = ActivationStatus::default();
    let status = activation.status.as_ref().unwrap_or(&empty);
    let mut notes = beside.notes;
    if status.observed_generation != activation.metadata.generation {
        notes.push("the operator has not observed the present spec yet".to_owned());
    }
    let mut curves: BTreeMap<String, Curve> = beside.curves.into_iter().collect();
    let objectives = status.objectives.iter().map(|one| Objective {
        status: one.clone(),
        curve: curves.remove(&one.name),
    });
    let created = activation.metadata.creation_timestamp.as_ref();
    Report {
        namespace: activation.namespace().unwrap_or_default(),
        name: activation.name_any(),
        app: activation.spec.app.clone(),
        region: activation.spec.region.clone(),
        url: status.url.clone(),
        time: now,
        created: created.map(|time| time.0),
        live_since: status.go_live.as_ref().map(|live| live.time.0),
        phase: status.phase.clone().unwrap_or_else(|| "Pending".to_owned()),
        next_action: status.next_action.clone(),
        checklist: checklist(activation, status),
        phases: phases(status, now),
        preflight: status.preflight.clone(),
        smoke_test: status.smoke_test.clone(),
        releases: status.history.clone(),
        serves: status.release.as_ref().and_then(|release| release.number),
        integrations: status.integrations.clone(),
        watch: status.watch.clone(),
        objectives: objectives.collect(),
        incidents: status.incidents.clone(),
        gates: gates(status),
        approvals: approvals(activation, beside.approvals),
        notes,
    }
}

fn phases(status: &ActivationStatus, now: Timestamp) -> Vec<Phase> {
    let phases = status.phases.iter().map(|phase| {
        let plan = PLAN.iter().find(|(name, ..)| *name == phase.name);
        let letter = match phase.name {
            PhaseName::Observe => Some("E"),
            _ => plan.map(|(_, letter, ..)| *letter),
        };
        let [started, finished, deadline] =
            [&phase.started_at, &phase.finished_at, &phase.deadline]
                .map(|time| time.as_ref().map(|time| time.0));
        // A phase that was started again has the end of the time before.
        let finished = finished.filter(|end| started.is_some_and(|start| *end >= start));
        let took = started.map(|start| finished.unwrap_or(now).duration_since(start));
        Phase {
            name: phase.name,
            letter,
            state: phase.state,
            owner: phase.owner.clone(),
            started,
            finished,
            deadline,
            seconds: took.map(|took| took.as_secs().max(0)),
            plan_minutes: plan.map(|(_, _, from, to)| [*from, *to]),
            attempts: phase.attempts,
            message: phase.message.clone(),
        }
    });
    phases.collect()
}

fn gates(status: &ActivationStatus) -> Vec<Gate> {
    let phases = status.phases.iter();
    let gates = phases.filter_map(|phase| {
        Some(Gate {
            before: phase.name,
            status: phase.gate.clone()?,
        })
    });
    gates.collect()
}

/// The decisions about this object, and not about an earlier one of its name.
fn approvals(activation: &Activation, all: Vec<ActivationApproval>) -> Vec<Approval> {
    let (name, uid) = (activation.name_any(), activation.uid());
    let of_it = |approval: &ActivationApproval| {
        let status = approval.status.as_ref();
        let about = status.and_then(|status| status.activation_uid.as_ref());
        approval.spec.activation == name && (about.is_none() || about == uid.as_ref())
    };
    let rows = all.into_iter().filter(of_it).map(|approval| {
        let time = approval.metadata.creation_timestamp.as_ref();
        Approval {
            name: approval.name_any(),
            time: time.map(|time| time.0),
            gate: approval.spec.gate.to_string(),
            to_release: approval.spec.to_release,
            decision: approval.spec.decision.to_string(),
            approver: approval.spec.approver.clone(),
            message: approval.spec.message.clone(),
            state: approval.status.map(|status| status.state.to_string()),
        }
    });
    let mut rows: Vec<Approval> = rows.collect();
    rows.sort_by(|one, other| (&other.time, &other.name).cmp(&(&one.time, &one.name)));
    rows
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::curves::tests::curve_of_an_hour;
    use super::*;

    pub(in crate::cli::report) fn now() -> Timestamp {
        "2026-01-01T02:00:00Z".parse().unwrap()
    }

    /// An activation in whose every text is this.
    pub(in crate::cli::report) fn with(text: &str) -> Report {
        let activation: Activation = serde_json::from_value(json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
            "metadata": {"name": "shop", "namespace": "prod", "uid": "u", "generation": 2,
                "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"organization": "acme", "app": text, "region": text, "deploy": {"image": text},
                "observe": {}, "integrations": {"webhooks": []}},
            "status": {"observedGeneration": 2, "url": text, "phase": text, "nextAction": text,
                "goLive": {"time": "2026-01-01T00:20:00Z"},
                "conditions": [{"type": "Live", "status": "True", "reason": text, "message": text,
                    "lastTransitionTime": "2026-01-01T00:20:00Z"}],
                "phases": [{"name": "Provision", "state": "Succeeded", "owner": text, "message": text,
                    "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:15:00Z",
                    "gate": {"state": "Approved", "digest": text, "approvedBy": [text], "rejectedBy": text}},
                    {"name": "Deploy", "state": "Running", "startedAt": "2026-01-01T01:58:00Z",
                    "finishedAt": "2026-01-01T00:16:00Z", "deadline": "2026-01-01T02:03:00Z"}],
                "preflight": [{"check": text, "result": "Warning", "message": text, "nextAction": text}],
                "smokeTest": [{"check": text, "result": "Passed", "message": text, "durationMs": 12}],
                "release": {"number": 3, "image": text, "digestShort": text},
                "history": [{"number": 3, "image": text, "by": text, "why": text, "changes": text, "outcome": "Succeeded"}],
                "external": [{"kind": "ManagedPostgres", "name": text, "id": text}],
                "secrets": [{"name": text}],
                "integrations": [{"name": text, "state": "Failed", "message": text, "owner": text,
                    "checks": [{"id": text, "name": text, "evidence": text, "change": text, "result": "Failed"}]}],
                "watch": {"state": "NotStabilized", "cause": text, "follows": text, "verdict": text,
                    "since": "2026-01-01T00:20:00Z", "until": "2026-01-04T00:20:00Z"},
                "objectives": [{"name": "errors", "description": text, "message": text, "value": text,
                    "bound": text, "budgetLeft": text, "result": "Failed", "severity": text, "burning": text,
                    "burnRates": [{"window": text, "burn": text, "factor": text}]}],
                "incidents": [{"kind": "OutOfMemory", "subject": text, "message": text, "critical": true, "count": 2,
                    "time": "2026-01-01T01:00:00Z"}],
            },
        }))
        .unwrap();
        let approval = |uid: &str| {
            serde_json::from_value(json!({
                "apiVersion": "golive.dev/v1alpha1", "kind": "ActivationApproval",
                "metadata": {"name": format!("a-{uid}"), "creationTimestamp": "2026-01-01T00:05:00Z"},
                "spec": {"activation": "shop", "gate": "Deploy", "digest": text, "decision": "Approve",
                    "approver": text, "message": text},
                "status": {"state": "Used", "activationUid": uid},
            }))
            .unwrap()
        };
        let beside = Beside {
            approvals: vec![approval("u"), approval("earlier")],
            curves: vec![("errors".to_owned(), curve_of_an_hour())],
            notes: vec![text.to_owned()],
        };
        report(&activation, beside, now())
    }

    #[test]
    fn a_report_has_all_that_the_object_says_and_nothing_of_an_earlier_one() {
        let report = with("text");
        assert_eq!(report.approvals.len(), 1);
        assert_eq!(report.approvals[0].name, "a-u");
        assert!(report.objectives[0].curve.is_some());
        assert_eq!(report.gates[0].before, PhaseName::Provision);
        assert_eq!(report.notes, ["text"]);
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["objectives"][0]["name"], "errors");
        assert_eq!(value["objectives"][0]["curve"]["bound"], 1.0);
    }

    #[test]
    fn a_phase_that_runs_again_has_not_ended_and_each_has_the_plans_minutes() {
        let phases = with("x").phases;
        assert_eq!(phases[0].seconds, Some(900));
        assert_eq!(phases[0].plan_minutes, Some([8, 12]));
        assert_eq!((phases[1].finished, phases[1].seconds), (None, Some(120)));
    }
}
