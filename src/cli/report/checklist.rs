//! The checklist of an activation: for each box whether it is checked, by what proof, by whom and when. Pure.
//!
//! The boxes are those of the plan that an Activation carries out: A the infrastructure, B the deployment, C the
//! smoke tests, D the integrations, E the first three days, and Go-Live.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use crate::api::{
    Activation, ActivationStatus, ConditionType, PhaseName, PhaseState, condition,
    status::{CheckResult, IntegrationState, PhaseStatus, WatchState},
};

/// Most names in a proof.
const NAMES: usize = 12;

/// What is said of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Mark {
    /// It is proven.
    Done,
    /// It is proven not to be so.
    Failed,
    /// It is not done yet.
    Open,
    /// Nobody knows.
    Unknown,
    /// The spec does not ask for it.
    NotAsked,
}

impl Mark {
    /// In words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Open => "open",
            Self::Unknown => "not known",
            Self::NotAsked => "not asked for",
        }
    }
}

/// One box.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChecklistBox {
    /// The letter of the plan's phase; `Go-Live` for the whole.
    pub(super) letter: &'static str,
    /// What must hold.
    pub(super) what: String,
    /// Whether it does.
    pub(super) mark: Mark,
    /// The evidence.
    pub(super) proof: String,
    /// Who is responsible.
    pub(super) owner: Option<String>,
    /// When it became so.
    pub(super) time: Option<Timestamp>,
}

/// All boxes.
pub(super) fn checklist(activation: &Activation, status: &ActivationStatus) -> Vec<ChecklistBox> {
    let of = Of { activation, status };
    let provision = of.phase(PhaseName::Provision);
    let deploy = of.phase(PhaseName::Deploy);
    let smoke = of.phase(PhaseName::SmokeTest);
    vec![
        of.boxed(
            "A",
            "Databases are there and attached, secrets are set",
            PhaseName::Provision,
            of.mark(PhaseName::Provision, provision),
            of.infrastructure(),
        ),
        of.boxed(
            "B",
            "The release is deployed and its machines are healthy",
            PhaseName::Deploy,
            of.mark(PhaseName::Deploy, deploy),
            of.deployment(),
        ),
        of.boxed(
            "C",
            "The smoke tests have passed",
            PhaseName::SmokeTest,
            of.mark(PhaseName::SmokeTest, smoke),
            of.smoke_tests(),
        ),
        of.boxed(
            "D",
            "Webhooks and calendars are verified",
            PhaseName::Integrations,
            of.integrated(),
            of.integrations(),
        ),
        of.boxed(
            "E",
            &of.watched_for(),
            PhaseName::Observe,
            of.stabilized(),
            of.watch(),
        ),
        of.went_live(),
    ]
}

struct Of<'a> {
    activation: &'a Activation,
    status: &'a ActivationStatus,
}

impl Of<'_> {
    fn phase(&self, name: PhaseName) -> Option<&PhaseStatus> {
        self.status.phases.iter().find(|phase| phase.name == name)
    }

    fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        condition::find(&self.status.conditions, type_)
    }

    fn value(&self, type_: ConditionType) -> &str {
        self.condition(type_).map_or("", |found| &found.status)
    }

    fn boxed(
        &self,
        letter: &'static str,
        what: &str,
        phase: PhaseName,
        mark: Mark,
        proof: String,
    ) -> ChecklistBox {
        let type_ = match phase {
            PhaseName::Observe => ConditionType::Stabilized,
            other => other.condition(),
        };
        let since = self.condition(type_);
        let since = since.map(|found| found.last_transition_time.0);
        ChecklistBox {
            letter,
            what: what.to_owned(),
            mark,
            proof,
            owner: self.phase(phase).and_then(|phase| phase.owner.clone()),
            time: since.filter(|_| matches!(mark, Mark::Done | Mark::Failed)),
        }
    }

    fn mark(&self, name: PhaseName, phase: Option<&PhaseStatus>) -> Mark {
        let state = phase.map_or(PhaseState::Pending, |phase| phase.state);
        match (self.value(name.condition()), state) {
            ("True", _) => Mark::Done,
            (_, PhaseState::Failed) | ("False", PhaseState::Succeeded) => Mark::Failed,
            (_, PhaseState::Skipped) => Mark::NotAsked,
            (_, PhaseState::Succeeded) => Mark::Unknown,
            _ => Mark::Open,
        }
    }

    /// What Golive has at Fly.io, and the names of the secrets. Never a value.
    fn infrastructure(&self) -> String {
        let databases = self.status.external.iter().filter(|object| {
            let kinds = ["ManagedPostgres", "FlyPostgres", "UpstashRedis"];
            object.retained.is_none() && kinds.contains(&object.kind.as_str())
        });
        let mut parts: Vec<String> = databases
            .map(|object| format!("{} {}", object.kind, object.name))
            .collect();
        let secrets = self.status.secrets.iter();
        let names: Vec<&str> = secrets.map(|secret| secret.name.as_str()).collect();
        parts.push(match names.len() {
            0 => "no secret is set".to_owned(),
            1 => format!("1 secret: {}", names[0]),
            many => format!("{many} secrets: {}", some_of(&names)),
        });
        parts.join("; ")
    }

    fn deployment(&self) -> String {
        let Some(release) = &self.status.release else {
            return self.says(ConditionType::Deployed);
        };
        let number = release.number.map(|number| format!("release {number}: "));
        let digest = &release.digest_short;
        let digest = match digest.is_empty() {
            true => String::new(),
            false => format!(" ({digest})"),
        };
        let what = format!("{}{}{digest}", number.unwrap_or_default(), release.image);
        format!("{what}; {}", self.says(ConditionType::Deployed))
    }

    fn smoke_tests(&self) -> String {
        let checks = &self.status.smoke_test;
        if checks.is_empty() {
            return self.says(ConditionType::SmokeTested);
        }
        let of = |passed: bool| {
            let checks = checks.iter();
            let checks = checks.filter(|check| (check.result == CheckResult::Passed) == passed);
            checks.map(|check| check.check.as_str()).collect::<Vec<_>>()
        };
        let (passed, others) = (of(true), of(false));
        let mut text = format!("{} of {} passed", passed.len(), checks.len());
        if !passed.is_empty() {
            text = format!("{text}: {}", some_of(&passed));
        }
        if !others.is_empty() {
            text = format!("{text}; not passed: {}", some_of(&others));
        }
        text
    }

    fn integrated(&self) -> Mark {
        if self.activation.spec.integrations.is_none() {
            return Mark::NotAsked;
        }
        let failed = |state| state == IntegrationState::Failed;
        let any_failed = self.status.integrations.iter().any(|one| failed(one.state));
        match self.value(ConditionType::IntegrationsHealthy) {
            "True" => Mark::Done,
            _ if any_failed => Mark::Failed,
            _ => Mark::Open,
        }
    }

    fn integrations(&self) -> String {
        let all = self.status.integrations.iter();
        let all = all.map(|one| match (&one.verified_at, one.state) {
            (Some(time), IntegrationState::Verified) => {
                format!("{} verified since {}", one.name, time.0)
            }
            (_, state) => format!("{}: {state}", one.name),
        });
        let all: Vec<String> = all.collect();
        match all.is_empty() {
            true => self.says(ConditionType::IntegrationsHealthy),
            false => all.join("; "),
        }
    }

    fn watched_for(&self) -> String {
        let window = self.activation.spec.observe.as_ref();
        let window = window.map_or("the first days".to_owned(), |o| o.window.to_string());
        format!("Watched for {window} without a critical incident, and every objective held")
    }

    fn stabilized(&self) -> Mark {
        match (&self.activation.spec.observe, &self.status.watch) {
            (None, _) => Mark::NotAsked,
            (Some(_), None) => Mark::Open,
            (Some(_), Some(watch)) => match watch.state {
                WatchState::Running => Mark::Open,
                WatchState::Stabilized => Mark::Done,
                WatchState::NotStabilized => Mark::Failed,
                WatchState::Inconclusive => Mark::Unknown,
            },
        }
    }

    fn watch(&self) -> String {
        let Some(watch) = &self.status.watch else {
            return self.says(ConditionType::Stabilized);
        };
        if !watch.verdict.is_empty() {
            return watch.verdict.clone();
        }
        let objectives = &self.status.objectives;
        let met = objectives
            .iter()
            .filter(|one| one.result == CheckResult::Passed);
        let critical = self.status.incidents.iter().filter(|one| one.critical);
        let until = watch
            .until
            .as_ref()
            .map(|time| format!("; until {}", time.0));
        format!(
            "{} of {} objectives are met now; {} critical incidents{}",
            met.count(),
            objectives.len(),
            critical.count(),
            until.unwrap_or_default()
        )
    }

    fn went_live(&self) -> ChecklistBox {
        let live = self.status.go_live.as_ref();
        let now = self.value(ConditionType::Live);
        let mark = match (live, now) {
            (None, _) => Mark::Open,
            (Some(_), "True") => Mark::Done,
            (Some(_), "False") => Mark::Failed,
            (Some(_), _) => Mark::Unknown,
        };
        let mut parts: Vec<String> = self.status.url.iter().cloned().collect();
        if let Some(seconds) = live.and_then(|live| live.duration_seconds) {
            parts.push(format!("{seconds} s after it was created"));
        }
        parts.push(self.says(ConditionType::Live));
        ChecklistBox {
            letter: "Go-Live",
            what: "A, B and C are done, and the application answers at its address".to_owned(),
            mark,
            proof: parts.join("; "),
            owner: None,
            time: live.map(|live| live.time.0),
        }
    }

    /// What the condition says.
    fn says(&self, type_: ConditionType) -> String {
        let found = self.condition(type_);
        found.map_or_else(
            || "not observed yet".to_owned(),
            |found| found.message.clone(),
        )
    }
}

fn some_of(names: &[&str]) -> String {
    let shown = &names[..names.len().min(NAMES)];
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn boxes(spec: &Value, status: Value) -> Vec<(Mark, String)> {
        let mut object = json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation", "metadata": {"name": "shop"},
            "spec": {"organization": "acme", "app": "shop-app", "region": "eze", "deploy": {"image": "x:1"}},
        });
        if let (Some(into), Some(more)) = (object["spec"].as_object_mut(), spec.as_object()) {
            into.extend(more.clone());
        }
        let activation: Activation = serde_json::from_value(object).unwrap();
        let status: ActivationStatus = serde_json::from_value(status).unwrap();
        let boxes = checklist(&activation, &status).into_iter();
        boxes.map(|one| (one.mark, one.proof)).collect()
    }

    fn condition(type_: &str, status: &str) -> Value {
        json!({"type": type_, "status": status, "reason": "R", "message": format!("{type_} {status}"),
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn before_anything_is_observed_every_box_is_open_or_not_asked_for() {
        let marks: Vec<Mark> = boxes(&json!({}), json!({}))
            .into_iter()
            .map(|b| b.0)
            .collect();
        use Mark::{NotAsked, Open};
        assert_eq!(marks, [Open, Open, Open, NotAsked, NotAsked, Open]);
    }

    #[test]
    fn a_box_is_checked_only_by_its_condition_and_has_the_proof() {
        let status = json!({
            "url": "https://shop.fly.dev",
            "goLive": {"time": "2026-01-01T00:10:00Z", "durationSeconds": 600},
            "conditions": [condition("Provisioned", "True"), condition("Deployed", "True"),
                condition("SmokeTested", "False"), condition("Live", "True"),
                condition("IntegrationsHealthy", "False"), condition("Stabilized", "Unknown")],
            "phases": [{"name": "Provision", "state": "Succeeded", "owner": "DevOps"},
                {"name": "Deploy", "state": "Succeeded"}, {"name": "SmokeTest", "state": "Succeeded"}],
            "external": [{"kind": "ManagedPostgres", "name": "shop-db", "id": "x"},
                {"kind": "UpstashRedis", "name": "old", "id": "y", "retained": "kept"}],
            "secrets": [{"name": "JWT_SECRET"}, {"name": "DATABASE_URL"}],
            "smokeTest": [{"check": "health", "result": "Passed"}, {"check": "home", "result": "Failed"}],
            "integrations": [{"name": "whatsapp", "state": "Verified", "verifiedAt": "2026-01-01T00:20:00Z"},
                {"name": "ical", "state": "Failed"}],
            "watch": {"state": "Running", "until": "2026-01-04T00:10:00Z"},
            "objectives": [{"name": "errors", "result": "Passed"}],
        });
        let spec = json!({"observe": {}, "integrations": {"webhooks": []}});
        let boxes = boxes(&spec, status);
        use Mark::{Done, Failed, Open};
        let wanted = [
            (
                Done,
                "ManagedPostgres shop-db; 2 secrets: JWT_SECRET, DATABASE_URL",
            ),
            (Done, "Deployed True"),
            (Failed, "1 of 2 passed: health; not passed: home"),
            (
                Failed,
                "whatsapp verified since 2026-01-01T00:20:00Z; ical: Failed",
            ),
            (
                Open,
                "1 of 1 objectives are met now; 0 critical incidents; until 2026-01-04T00:10:00Z",
            ),
            (
                Done,
                "https://shop.fly.dev; 600 s after it was created; Live True",
            ),
        ];
        for ((mark, proof), (wanted, says)) in boxes.iter().zip(wanted) {
            assert_eq!((*mark, proof.as_str()), (wanted, says));
        }
    }

    #[test]
    fn the_verdict_of_the_watch_is_the_proof_of_its_box() {
        for (state, wanted) in [
            ("Stabilized", Mark::Done),
            ("NotStabilized", Mark::Failed),
            ("Inconclusive", Mark::Unknown),
        ] {
            let status = json!({"watch": {"state": state, "verdict": "errors: 2 %"}});
            let found = &boxes(&json!({"observe": {}}), status)[4];
            assert_eq!(found, &(wanted, "errors: 2 %".to_owned()));
        }
    }

    #[test]
    fn what_failed_or_is_not_known_any_more_is_not_checked() {
        let of = |value: &str, state: &str| {
            let status = json!({"conditions": [condition("Deployed", value)],
                "phases": [{"name": "Deploy", "state": state}]});
            boxes(&json!({}), status)[1].0
        };
        assert_eq!(of("False", "Failed"), Mark::Failed);
        assert_eq!(of("Unknown", "Succeeded"), Mark::Unknown);
        assert_eq!(of("False", "Running"), Mark::Open);
        assert_eq!(of("Unknown", "AwaitingApproval"), Mark::Open);
    }
}
