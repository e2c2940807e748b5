//! Requests of people to restore an earlier release: ActivationApprovals with gate `Rollback`. Pure.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{
    Activation, ActivationApproval,
    approval::{ApprovalState, DecidedOn, Decision},
};

/// A request of a person to restore an earlier release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackRequest {
    /// UID of the ActivationApproval: the request is carried out once for each UID.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// When the API server stored it.
    pub created: Timestamp,
    /// Digest of the plan to roll back.
    pub digest: String,
    /// Number of the release to restore.
    pub to: u64,
    /// Who requests it, as the API server authenticated.
    pub by: String,
    /// Why.
    pub message: Option<String>,
}

impl RollbackRequest {
    fn of(approval: &ActivationApproval) -> Option<Self> {
        let spec = &approval.spec;
        if spec.gate != DecidedOn::Rollback || spec.decision != Decision::Approve {
            return None;
        }
        // One that was about another plan stays void when that plan comes back.
        let state = approval.status.as_ref().map(|status| status.state);
        if state.is_some_and(|state| !matches!(state, ApprovalState::Counts | ApprovalState::Used))
        {
            return None;
        }
        Some(Self {
            uid: approval.uid()?,
            name: approval.name_any(),
            created: approval.creation_timestamp()?.0,
            digest: spec.digest.clone(),
            to: u64::try_from(spec.to_release?).ok()?,
            by: spec.approver.clone(),
            message: spec.message.clone(),
        })
    }
}

/// The requests for a rollback, oldest first. A request that is older than the object was about an
/// earlier object of the same name.
pub(super) fn of(
    activation: &Activation,
    approvals: &[ActivationApproval],
) -> Vec<RollbackRequest> {
    let created = activation.creation_timestamp().map(|time| time.0);
    let mut requests: Vec<RollbackRequest> = approvals
        .iter()
        .filter_map(RollbackRequest::of)
        .filter(|request| created.is_none_or(|created| request.created >= created))
        .collect();
    requests.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    requests
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn approval(name: &str, created: &str, gate: &str) -> ActivationApproval {
        let to = (gate == "Rollback").then_some(3);
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": created},
            "spec": {
                "activation": "shop", "gate": gate, "digest": "sha256:a",
                "decision": "Approve", "approver": "anna", "toRelease": to,
            },
        }))
        .unwrap()
    }

    #[test]
    fn requests_are_those_of_this_object_oldest_first() {
        let activation: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop", "creationTimestamp": "2026-01-02T00:00:00Z"},
            "spec": {"organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"}},
        }))
        .unwrap();
        let approvals = [
            approval("later", "2026-01-04T00:00:00Z", "Rollback"),
            approval("first", "2026-01-03T00:00:00Z", "Rollback"),
            approval("gate", "2026-01-03T00:00:00Z", "Deploy"),
            approval("of-an-earlier-object", "2026-01-01T00:00:00Z", "Rollback"),
        ];
        let requests = of(&activation, &approvals);
        let names: Vec<&str> = requests
            .iter()
            .map(|request| request.name.as_str())
            .collect();
        assert_eq!(names, ["first", "later"]);
        assert_eq!((requests[0].to, requests[0].by.as_str()), (3, "anna"));
    }
}
