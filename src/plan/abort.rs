//! The annotation `golive.dev/abort`: stops the work on one plan and leaves everything as it is. Pure.
//!
//! The value is the digest of the plan (`status.plan.digest`). So an abort that comes too late, or
//! that was left on the object, stops no other plan.

use kube::ResourceExt;

use crate::{
    api::{ANNOTATION_ABORT, Activation, ActivationStatus, Reason, status::one_line},
    plan::{invalid::Invalid, missing::kubectl, plan_id::PlanId},
};

/// Longest value that is compared and repeated, in bytes.
const LONGEST: usize = 256;

/// The effect of the annotation.
#[derive(Debug, PartialEq, Eq)]
pub enum Abort {
    /// There is no annotation, or its refusal was published before.
    None,
    /// The work on this plan stops.
    Stop(Invalid),
    /// It stops nothing.
    Refuse {
        /// The value of the annotation.
        word: String,
        /// Why, and what to do.
        why: String,
    },
}

/// Decides. `refused` is the value whose refusal was published last.
pub fn decide(
    activation: &Activation,
    plan: &PlanId,
    old: Option<&ActivationStatus>,
    refused: Option<&str>,
) -> Abort {
    let Some(word) = activation.annotations().get(ANNOTATION_ABORT) else {
        return Abort::None;
    };
    let word = one_line(word, LONGEST);
    let known = |old: &ActivationStatus| {
        old.plan
            .as_ref()
            .is_some_and(|old| plan.leads_to_same(&old.digest, old.generation))
    };
    let live = old.is_some_and(|old| old.is_live() && known(old));
    let digest = plan.digest();
    // The work stays stopped when only an owner has changed since.
    let is_this = plan.is_same_work(&word);
    if is_this && !live {
        return Abort::Stop(Invalid {
            field: "metadata.annotations",
            reason: Reason::Aborted,
            message: format!(
                "the work on plan {digest} was stopped by {ANNOTATION_ABORT}, and what exists stays as it is"
            ),
            action: format!(
                "change the spec, or resume this plan with `{} annotate activation {} {ANNOTATION_ABORT}-`",
                kubectl(&activation.namespace().unwrap_or_default()),
                activation.name_any()
            ),
        });
    }
    if refused == Some(word.as_str()) {
        return Abort::None;
    }
    let why = if live && is_this {
        "this plan is live already, so there is nothing to stop; to restore an earlier release use `kubectl golive rollback`".to_owned()
    } else {
        format!("it does not name the current plan; the value must be its digest: {digest}")
    };
    Abort::Refuse { word, why }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decided(word: Option<&str>, live: bool, refused: Option<&str>) -> Abort {
        let annotations = word.map(|word| json!({ANNOTATION_ABORT: word}));
        let state = if live { "Succeeded" } else { "Running" };
        let phases: Vec<_> = ["Preflight", "Provision", "Deploy", "SmokeTest"]
            .map(|name| json!({"name": name, "state": state}))
            .into();
        let object: Activation = serde_json::from_value(json!({
            "metadata": {"name": "x", "annotations": annotations},
            "spec": {"organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"}},
            "status": {"phases": phases, "plan": {"digest": "sha256:a"}},
        }))
        .unwrap();
        let plan = PlanId::new("sha256:a", 3);
        decide(&object, &plan, object.status.as_ref(), refused)
    }

    #[test]
    fn an_abort_stops_the_plan_that_it_names_and_no_other() {
        assert_eq!(decided(None, false, None), Abort::None);
        assert!(matches!(
            decided(Some("sha256:a"), false, None),
            Abort::Stop(_)
        ));
        assert!(matches!(
            decided(Some("sha256:a"), false, Some("sha256:a")),
            Abort::Stop(_)
        ));
        assert!(
            matches!(decided(Some("sha256:b"), false, None), Abort::Refuse { why, .. } if why.contains(PlanId::new("sha256:a", 3).digest()))
        );
        assert_eq!(
            decided(Some("sha256:b"), false, Some("sha256:b")),
            Abort::None
        );
    }

    #[test]
    fn an_abort_stays_when_the_generation_grows_and_the_work_is_the_same() {
        for generation in 1..=3 {
            let before = PlanId::new("sha256:a", generation);
            let aborted = decided(Some(before.digest()), false, None);
            assert!(matches!(aborted, Abort::Stop(_)), "{generation}");
        }
        let later = PlanId::new("sha256:a", 4);
        assert!(matches!(
            decided(Some(later.digest()), false, None),
            Abort::Refuse { .. }
        ));
    }

    #[test]
    fn what_is_live_is_not_aborted() {
        assert!(
            matches!(decided(Some("sha256:a"), true, None), Abort::Refuse { why, .. } if why.contains("rollback"))
        );
    }
}
