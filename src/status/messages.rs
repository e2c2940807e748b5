//! The messages of a status: secret values of the object are kept out of them, whatever they quote.

use crate::{
    api::{ActivationStatus, status::PlannedChange},
    redact,
};

/// The same for the changes of a plan.
pub fn redact_changes(changes: &mut [PlannedChange]) {
    for change in changes {
        let fields = change.fields.iter_mut();
        let values = fields.flat_map(|field| [&mut field.old, &mut field.new]);
        for text in values.flatten().chain([&mut change.change]) {
            redact::in_place(text);
        }
    }
}

/// Redacts the values of this task's object from all messages. Names, states and addresses stay as
/// they are: nothing but a message quotes others.
pub fn redact(status: &mut ActivationStatus) {
    let conditions = status.conditions.iter_mut();
    let conditions = conditions.map(|condition| &mut condition.message);
    let phases = status.phases.iter_mut().flat_map(|phase| {
        let steps = phase.steps.iter_mut().map(|step| &mut step.message);
        steps.chain([&mut phase.message])
    });
    let integrations = status.integrations.iter_mut().flat_map(|integration| {
        let checks = integration.checks.iter_mut();
        let checks = checks.flat_map(|check| [&mut check.evidence, &mut check.change]);
        checks.chain([&mut integration.message, &mut integration.next_action])
    });
    if let Some(plan) = &mut status.plan {
        redact_changes(&mut plan.changes);
    }
    let action = status.next_action.iter_mut();
    let watch = status.watch.iter_mut();
    let watch = watch.flat_map(|watch| [&mut watch.follows, &mut watch.verdict]);
    let objectives = status.objectives.iter_mut();
    let objectives = objectives.map(|objective| &mut objective.message);
    let incidents = status.incidents.iter_mut();
    let incidents = incidents.map(|incident| &mut incident.message);
    let watch = watch.chain(objectives).chain(incidents);
    for message in conditions
        .chain(phases)
        .chain(integrations)
        .chain(action)
        .chain(watch)
    {
        redact::in_place(message);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::redact::{REDACTED, Redactor, in_scope};

    #[test]
    fn every_message_loses_the_values_of_its_object_and_no_name_does() {
        let value = "zebra-canary-in-a-status-8c1d";
        let status = |message: &str| -> ActivationStatus {
            serde_json::from_value(serde_json::json!({
                "url": value,
                "nextAction": message,
                "plan": {"digest": "sha256:a", "changes": [{
                    "phase": "Provision", "step": "Postgres", "change": message,
                    "fields": [{"field": "because", "old": message, "new": message}],
                }]},
                "integrations": [{
                    "name": "ical", "message": message, "nextAction": message,
                    "checks": [{"id": "C1", "evidence": message, "change": message}],
                }],
                "conditions": [{
                    "type": "Ready", "status": "False", "reason": "Pending", "message": message,
                    "lastTransitionTime": "2026-01-02T03:04:05Z",
                }],
                "phases": [{
                    "name": "Deploy", "state": "Waiting", "message": message,
                    "steps": [{"name": "Health", "state": "Waiting", "message": message}],
                }],
            }))
            .unwrap()
        };
        let object = Redactor::default();
        object.learn(value.as_bytes());
        let mut redacted = status(&format!("said {value}"));
        in_scope(object, || redact(&mut redacted));
        assert_eq!(redacted, status(&format!("said {REDACTED}")));
        let mut other = status(value);
        in_scope(Redactor::default(), || redact(&mut other));
        assert_eq!(other, status(value));
    }
}
