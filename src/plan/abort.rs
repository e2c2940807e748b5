//! The annotation `golive.dev/abort`: stop the work on one plan, and leave everything as it is. Pure.
//!
//! The value is the digest of the plan (`status.plan.digest`), as a run is named in other tools: an
//! abort that comes too late, or that was left on the object, stops nothing else.

use kube::ResourceExt;

use crate::{
    api::{ANNOTATION_ABORT, Activation, ActivationStatus, Reason, status::one_line},
    plan::Invalid,
};

/// What the annotation comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Abort {
    /// There is none, or it was told before that it stops nothing.
    None,
    /// The work on this plan stops.
    Stop(Invalid),
    /// It stops nothing; says why. The word is what was asked for.
    Refuse {
        /// The value of the annotation.
        word: String,
        /// Why, and what to do.
        why: String,
    },
}

/// Decides. `told` is the value that was looked at last.
pub fn decide(
    activation: &Activation,
    digest: &str,
    old: Option<&ActivationStatus>,
    told: Option<&str>,
) -> Abort {
    let Some(word) = activation.annotations().get(ANNOTATION_ABORT) else {
        return Abort::None;
    };
    let word = one_line(word, 256);
    let known =
        |old: &ActivationStatus| old.plan.as_ref().is_some_and(|plan| plan.digest == digest);
    let live = old.is_some_and(|old| old.is_live() && known(old));
    if word == digest && !live {
        return Abort::Stop(Invalid {
            field: "metadata.annotations",
            reason: Reason::Aborted,
            message: format!(
                "the work on plan {digest} was stopped by {ANNOTATION_ABORT}, and what is there stays as it is; change the spec, or remove the annotation to go on with this plan"
            ),
        });
    }
    if told == Some(word.as_str()) {
        return Abort::None;
    }
    let why = if live && word == digest {
        "that plan is live already, and there is nothing to stop; to restore an earlier release use `kubectl golive rollback`".to_owned()
    } else {
        format!(
            "it names another plan than the present one; the value must be its digest: {digest}"
        )
    };
    Abort::Refuse { word, why }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(word: Option<&str>, live: bool, told: Option<&str>) -> Abort {
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
        decide(&object, "sha256:a", object.status.as_ref(), told)
    }

    #[test]
    fn an_abort_stops_the_plan_that_it_names_and_no_other() {
        assert_eq!(asked(None, false, None), Abort::None);
        assert!(matches!(
            asked(Some("sha256:a"), false, None),
            Abort::Stop(_)
        ));
        assert!(matches!(
            asked(Some("sha256:a"), false, Some("sha256:a")),
            Abort::Stop(_)
        ));
        assert!(
            matches!(asked(Some("sha256:b"), false, None), Abort::Refuse { why, .. } if why.contains("sha256:a"))
        );
        assert_eq!(
            asked(Some("sha256:b"), false, Some("sha256:b")),
            Abort::None
        );
    }

    #[test]
    fn what_is_live_is_not_aborted() {
        assert!(
            matches!(asked(Some("sha256:a"), true, None), Abort::Refuse { why, .. } if why.contains("rollback"))
        );
    }
}
