//! Debounce of messages: another message for the same state may wait before it is written. A rollout
//! changes its message with each machine, and a thousand objects that do so would keep the API server
//! busy with messages.

use crate::api::{
    ActivationStatus,
    condition::{self, ConditionType},
    status::{PhaseState, PlanStatus, StepState},
};

/// Poll intervals that a message for the same state waits after a write: twenty seconds with the
/// default flags.
pub const POLLS: u32 = 10;

/// True when the two differ only in reasons and messages of work under way. A failure, a stop, and
/// every change of a state or a condition is written at once.
pub fn only_messages_differ(old: &ActivationStatus, new: &ActivationStatus) -> bool {
    under_way(old) && under_way(new) && without(old) == without(new)
}

fn under_way(status: &ActivationStatus) -> bool {
    condition::is_true(&status.conditions, ConditionType::Reconciling)
        && status
            .phases
            .iter()
            .flat_map(|phase| &phase.steps)
            .all(|step| {
                matches!(
                    step.state,
                    StepState::Pending
                        | StepState::Running
                        | StepState::Waiting
                        | StepState::Done
                        | StepState::Skipped
                )
            })
}

fn without(status: &ActivationStatus) -> ActivationStatus {
    let mut status = status.clone();
    status.next_action = None;
    // What is left to do gets less while it is done. People decide on it only at a gate.
    if status.pending_gate.is_none() {
        status.plan = status.plan.map(|plan| PlanStatus {
            digest: plan.digest,
            ..PlanStatus::default()
        });
    }
    for condition in &mut status.conditions {
        condition.reason.clear();
        condition.message.clear();
    }
    // Whether what is under way works or waits at this moment is part of the message.
    for phase in &mut status.phases {
        phase.reason.clear();
        phase.message.clear();
        if phase.state == PhaseState::Running {
            phase.state = PhaseState::Waiting;
        }
        for step in &mut phase.steps {
            step.reason.clear();
            step.message.clear();
            if step.state == StepState::Running {
                step.state = StepState::Waiting;
            }
        }
    }
    status
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn status(step: &str, message: &str, condition: &str) -> ActivationStatus {
        serde_json::from_value(serde_json::json!({
            "nextAction": message,
            "conditions": [{
                "type": "Reconciling", "status": "True", "reason": condition, "message": message,
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }],
            "phases": [{
                "name": "Deploy", "state": "Waiting", "message": message,
                "steps": [{"name": "Health", "state": step, "message": message}],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn other_words_for_the_same_state_may_wait() {
        let old = status("Waiting", "a starts", "MachineStarting");
        assert!(only_messages_differ(
            &old,
            &status("Waiting", "b starts", "NotHealthy")
        ));
        let announced = status("Running", "creating a", "Announcing");
        assert!(only_messages_differ(&announced, &old));
    }

    #[test]
    fn another_state_never_waits_and_neither_does_a_failure() {
        let old = status("Waiting", "a starts", "MachineStarting");
        assert!(!only_messages_differ(
            &old,
            &status("Done", "a starts", "MachineStarting")
        ));
        for state in ["Blocked", "Retrying"] {
            let failed = status(state, "a failed", "MachineExited");
            let other = status(state, "b failed", "MachineExited");
            assert!(!only_messages_differ(&failed, &other), "{state}");
        }
        let mut live = status("Waiting", "a starts", "MachineStarting");
        live.url = Some("https://shop.fly.dev".to_owned());
        assert!(!only_messages_differ(&old, &live));
    }
}
