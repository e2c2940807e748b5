//! When drift is only reported.

use crate::{
    api::{ActivationStatus, policy::DriftPolicy},
    error::Error,
    phase::releases::store::{self, Place},
    plan::{ServedSpec, Target},
    reconcile::{begin::Pass, memory::Memory},
};

/// `drift: Report` holds once the object went live with what it asks for now: from then on changes are
/// reported and not made. A site that stopped to answer since does not end that.
///
/// # Errors
/// When Kubernetes could not be read.
pub async fn is_only_reported(
    pass: &Pass<'_>,
    memory: &Memory,
    target: &Target,
) -> Result<bool, Error> {
    let activation = pass.activation;
    if activation.spec.drift != DriftPolicy::Report {
        return Ok(false);
    }
    let chosen = target.choice().map(|choice| choice.digest.as_str());
    let generation = activation.metadata.generation;
    let Some(old) = pass.old.as_ref() else {
        return Ok(false);
    };
    Ok(match came_live(old, generation, chosen) {
        CameLive::Yes => true,
        CameLive::No => false,
        CameLive::AsRecorded => {
            let place = Place {
                kube: &pass.context.kube,
                own_namespace: &pass.context.installation.own_namespace,
                uid: &pass.owner.uid,
            };
            let wanted = &memory.wanted;
            let records = store::load_at(place, &wanted.facts, &wanted.journal).await?;
            records.is_proven_as(&ServedSpec::of(target))
        }
    })
}

/// Whether what the spec asks for now came live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CameLive {
    /// Yes: every phase up to Go-Live has succeeded.
    Yes,
    /// No, or it is not known.
    No,
    /// The newest release serves, and its checks do not pass now. Another generation may need no other release: then
    /// the record of that release says whether it was proven with what is asked for.
    AsRecorded,
}

/// Whether this generation came live with the image that was chosen, as the status says. Pure.
fn came_live(old: &ActivationStatus, generation: Option<i64>, chosen: Option<&str>) -> CameLive {
    // Another image of `deploy.source` counts as requested by the spec.
    let before = old.source.as_ref().map(|source| source.digest.as_str());
    let same_image = chosen.is_none() || chosen == before;
    if old.observed_generation != generation || !same_image || old.go_live.is_none() {
        CameLive::No
    } else if old.is_live() {
        CameLive::Yes
    } else if old.went_live() {
        CameLive::AsRecorded
    } else {
        CameLive::No
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(smoke_test: &str) -> ActivationStatus {
        let done = |name: &str| json!({"name": name, "state": "Succeeded"});
        serde_json::from_value(json!({
            "observedGeneration": 2,
            "goLive": {"time": "2026-01-02T03:04:05Z"},
            "release": {"number": 1},
            "history": [{"number": 1, "outcome": "Succeeded"}],
            "source": {"digest": "sha256:1"},
            "phases": [
                done("Preflight"), done("Provision"), done("Deploy"),
                {"name": "SmokeTest", "state": smoke_test},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn a_generation_that_needs_no_other_release_is_brought_live_before_its_drift_is_only_reported()
    {
        let running = status("Running");
        // Its checks are others, or its size is: the record of the release decides.
        assert_eq!(came_live(&running, Some(2), None), CameLive::AsRecorded);
        let live = status("Succeeded");
        assert_eq!(came_live(&live, Some(2), None), CameLive::Yes);
        assert_eq!(came_live(&live, Some(3), None), CameLive::No);
        assert_eq!(came_live(&live, Some(2), Some("sha256:1")), CameLive::Yes);
        let other = came_live(&live, Some(2), Some("sha256:2"));
        assert_eq!(other, CameLive::No, "another image was chosen");
        let mut first = status("Running");
        first.go_live = None;
        assert_eq!(came_live(&first, Some(2), None), CameLive::No);
    }
}
