//! Which kind of work an object is for the queue. Pure.

use crate::{
    api::{
        Activation, ActivationStatus, Reason,
        condition::{self, ConditionType},
        status::{PhaseState, StepState},
    },
    process::workqueue::Kind,
    reconcile::requests,
    status,
};

/// The next pass of an object with this status, when nobody changes it before.
pub fn of_status(status: Option<&ActivationStatus>) -> Kind {
    let Some(status) = status else {
        return Kind::Progress;
    };
    let conditions = &status.conditions;
    let deleting = condition::find(conditions, ConditionType::Deleting);
    if let Some(deleting) = deleting {
        let blocked = deleting.reason == Reason::DeletionBlocked.as_str();
        return if blocked { Kind::Retry } else { Kind::Progress };
    }
    if condition::is_true(conditions, ConditionType::Suspended) {
        return Kind::Recheck;
    }
    let mut steps = status.phases.iter().flat_map(|phase| &phase.steps);
    let failing = steps.any(|step| matches!(step.state, StepState::Retrying | StepState::Blocked));
    let mut phases = status.phases.iter();
    let failed = phases.any(|phase| phase.state == PhaseState::Failed);
    if failing || failed || condition::is_true(conditions, ConditionType::Stalled) {
        return Kind::Retry;
    }
    match status.is_live() {
        true => Kind::Recheck,
        false => Kind::Progress,
    }
}

/// The first pass of an object that this process has listed. What nobody has acted on yet is a change,
/// so that it does not wait behind everything that a former process has failed with.
pub fn at_first_sight(object: &Activation) -> Kind {
    let old = status::own(object);
    let generation = object.metadata.generation;
    let unseen = |old: &ActivationStatus| old.observed_generation != generation;
    if object.metadata.deletion_timestamp.is_some() {
        let told = |old: &ActivationStatus| {
            condition::find(&old.conditions, ConditionType::Deleting).is_some()
        };
        return match old.as_ref().is_some_and(told) {
            true => of_status(old.as_ref()),
            false => Kind::Deletion,
        };
    }
    match &old {
        None => Kind::Progress,
        Some(old) if unseen(old) => Kind::Change,
        Some(old) if requests::is_open(object, old) => Kind::Change,
        Some(_) => of_status(old.as_ref()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LIVE: [&str; 4] = ["Preflight", "Provision", "Deploy", "SmokeTest"];

    fn phases(state: &str) -> Value {
        let all = LIVE.map(|name| json!({"name": name, "state": state}));
        json!(all)
    }

    fn object(metadata: Value, status: Value) -> Activation {
        let mut object = json!({
            "metadata": {"name": "x", "namespace": "ns", "uid": "u", "generation": 2},
            "spec": {"organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"}},
        });
        let known = object["metadata"].as_object_mut().unwrap();
        known.extend(metadata.as_object().unwrap().clone());
        if !status.is_null() {
            object["status"] = status;
        }
        serde_json::from_value(object).unwrap()
    }

    fn seen(more: Value) -> Value {
        let mut status =
            json!({"uid": "u", "observedGeneration": 2, "phases": phases("Succeeded")});
        let known = status.as_object_mut().unwrap();
        known.extend(more.as_object().unwrap().clone());
        status
    }

    #[test]
    fn after_a_restart_what_nobody_has_acted_on_comes_before_retries_and_rechecks() {
        let sight = |metadata, status| at_first_sight(&object(metadata, status));
        assert_eq!(sight(json!({}), Value::Null), Kind::Progress);
        assert_eq!(sight(json!({}), seen(json!({}))), Kind::Recheck);
        assert_eq!(
            sight(json!({"generation": 3}), seen(json!({}))),
            Kind::Change
        );
        let asked = json!({"annotations": {"golive.dev/retry": "now"}});
        assert_eq!(sight(asked.clone(), seen(json!({}))), Kind::Change);
        let handled = json!({"lastHandledRetry": "now"});
        assert_eq!(sight(asked, seen(handled)), Kind::Recheck);
        let deleted = json!({"deletionTimestamp": "2026-11-24T12:00:00Z"});
        assert_eq!(sight(deleted.clone(), seen(json!({}))), Kind::Deletion);
        let told = |reason: &str| {
            let condition = json!({
                "type": "Deleting", "status": "True", "reason": reason, "message": "",
                "lastTransitionTime": "2026-11-24T12:00:00Z",
            });
            sight(deleted.clone(), seen(json!({"conditions": [condition]})))
        };
        assert_eq!(told("Deleting"), Kind::Progress);
        assert_eq!(told("DeletionBlocked"), Kind::Retry);
    }

    #[test]
    fn what_fails_is_a_retry_and_what_is_on_its_way_is_not() {
        let of = |status: Value| {
            let status: ActivationStatus = serde_json::from_value(status).unwrap();
            of_status(Some(&status))
        };
        assert_eq!(of_status(None), Kind::Progress);
        assert_eq!(of(json!({"phases": phases("Running")})), Kind::Progress);
        assert_eq!(of(json!({"phases": phases("Failed")})), Kind::Retry);
        let with = |state: &str| {
            let step = json!({"name": "ImageResolvable", "state": state});
            let phase = json!({"name": "Preflight", "state": "Running", "steps": [step]});
            of(json!({"phases": [phase]}))
        };
        assert_eq!(with("Blocked"), Kind::Retry);
        assert_eq!(with("Retrying"), Kind::Retry);
        assert_eq!(with("Waiting"), Kind::Progress);
    }
}
