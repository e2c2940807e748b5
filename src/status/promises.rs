//! What the status promises: which requests were handled, and when something happens next.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::api::{
    ANNOTATION_RETRY, ANNOTATION_RETRY_FROM, Activation, ActivationStatus, MAX_TOKEN,
    status::{PhaseState, PhaseStatus, one_line},
};

/// Takes note of the token of an annotation that was handled: a retry is a reconcile as well.
pub fn handled(status: &mut ActivationStatus, activation: &Activation, token: Option<&str>) {
    let Some(token) = token else { return };
    let annotations = activation.annotations();
    let is = |key: &str| {
        let value = annotations.get(key);
        value.is_some_and(|value| one_line(value, MAX_TOKEN) == token)
    };
    status.last_handled_reconcile_at = Some(token.to_owned());
    // Those that this pass looks at say themselves whether that has ended. The others must say it to the
    // process after this one, for which the token is handled.
    for entry in &mut status.integrations {
        entry.requested = true;
    }
    if is(ANNOTATION_RETRY) || is(ANNOTATION_RETRY_FROM) {
        status.last_handled_retry = Some(token.to_owned());
    }
}

/// When something happens next by itself: the end of a gate's wait or of a suspension, the deadline of
/// the phase that is at work, or the next try of a step that failed. `None` while nothing but the
/// ordinary recheck is due.
pub fn next_action_time(
    status: &ActivationStatus,
    activation: &Activation,
    live: bool,
) -> Option<Time> {
    if activation.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if activation.spec.suspend {
        return activation.spec.suspend_until.clone();
    }
    let open = |phase: &&PhaseStatus| phase.name.before_live();
    let phases = status.phases.iter().filter(open);
    let times = phases.flat_map(|phase| {
        let gate = phase.gate.as_ref();
        let gate = gate.filter(|_| phase.state == PhaseState::AwaitingApproval);
        let works = matches!(phase.state, PhaseState::Running | PhaseState::Waiting) && !live;
        let tries = phase.steps.iter().map(|step| step.next_try_time.clone());
        tries
            .chain([
                gate.and_then(|gate| gate.expires_at.clone()),
                phase.deadline.clone().filter(|_| works),
            ])
            .flatten()
    });
    times.min_by_key(|time| time.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn activation(annotations: serde_json::Value, more: serde_json::Value) -> Activation {
        let mut spec = json!({
            "organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"},
        });
        let fields = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(fields);
        serde_json::from_value(
            json!({"metadata": {"name": "x", "annotations": annotations}, "spec": spec}),
        )
        .unwrap()
    }

    fn status(phases: serde_json::Value) -> ActivationStatus {
        serde_json::from_value(json!({ "phases": phases })).unwrap()
    }

    fn at(status: &ActivationStatus, activation: &Activation) -> Option<String> {
        next_action_time(status, activation, false).map(|time| time.0.to_string())
    }

    #[test]
    fn a_handled_token_is_echoed_and_that_of_a_retry_in_its_own_field_too() {
        let object = activation(
            json!({"golive.dev/retry": "again", "golive.dev/reconcile-requested-at": "now"}),
            json!({}),
        );
        let mut found = ActivationStatus::default();
        handled(&mut found, &object, Some("again"));
        assert_eq!(found.last_handled_retry.as_deref(), Some("again"));
        assert_eq!(found.last_handled_reconcile_at.as_deref(), Some("again"));
        handled(&mut found, &object, Some("now"));
        assert_eq!(found.last_handled_reconcile_at.as_deref(), Some("now"));
        assert_eq!(found.last_handled_retry.as_deref(), Some("again"));
        handled(&mut found, &object, None);
        assert_eq!(found.last_handled_retry.as_deref(), Some("again"));
    }

    #[test]
    fn a_request_that_is_handled_before_the_integrations_are_looked_at_is_open_for_the_next_process()
     {
        let object = activation(
            json!({"golive.dev/retry-from": "Integrations/2"}),
            json!({}),
        );
        let told = json!({"integrations": [{"name": "ical", "state": "Verified"}]});
        let mut found: ActivationStatus = serde_json::from_value(told).unwrap();
        handled(&mut found, &object, None);
        assert!(!found.integrations[0].requested);
        handled(&mut found, &object, Some("Integrations/2"));
        assert!(found.integrations[0].requested);
    }

    #[test]
    fn the_next_action_is_the_end_of_a_wait_or_the_next_try() {
        let object = activation(json!({}), json!({}));
        let gate = status(json!([
            {"name": "Deploy", "state": "AwaitingApproval", "gate": {"expiresAt": "2026-01-02T00:00:00Z"}},
        ]));
        assert_eq!(at(&gate, &object).as_deref(), Some("2026-01-02T00:00:00Z"));
        let runs = status(json!([
            {"name": "Deploy", "state": "Running", "deadline": "2026-01-02T00:10:00Z"},
        ]));
        assert_eq!(at(&runs, &object).as_deref(), Some("2026-01-02T00:10:00Z"));
        assert_eq!(next_action_time(&runs, &object, true), None);
        let tries = status(json!([
            {"name": "Deploy", "state": "Running", "deadline": "2026-01-02T00:10:00Z",
             "steps": [{"name": "Machines", "nextTryTime": "2026-01-02T00:01:00Z"}]},
        ]));
        assert_eq!(at(&tries, &object).as_deref(), Some("2026-01-02T00:01:00Z"));
        let until = "2026-02-01T00:00:00Z";
        let paused = activation(json!({}), json!({"suspend": true, "suspendUntil": until}));
        assert_eq!(at(&runs, &paused).as_deref(), Some(until));
    }
}
