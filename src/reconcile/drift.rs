//! When drift is only reported.

use crate::{
    api::{ActivationStatus, policy::DriftPolicy},
    plan::Target,
    reconcile::begin::Pass,
};

/// `drift: Report` holds once the object went live with this generation: from then on changes are
/// reported and not made. A site that stopped to answer since does not end that.
pub fn is_only_reported(pass: &Pass<'_>, target: &Target) -> bool {
    let activation = pass.activation;
    // Another image of `deploy.source` counts as requested by the spec.
    let chosen = |old: &ActivationStatus| {
        let before = old.source.as_ref().map(|source| source.digest.as_str());
        target
            .choice()
            .is_none_or(|choice| before == Some(choice.digest.as_str()))
    };
    activation.spec.drift == DriftPolicy::Report
        && pass.old.as_ref().is_some_and(|old| {
            old.observed_generation == activation.metadata.generation
                && chosen(old)
                && old.go_live.is_some()
                && (old.is_live() || old.went_live())
        })
}
