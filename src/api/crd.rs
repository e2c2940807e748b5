//! The CustomResourceDefinitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{Activation, ActivationApproval};

/// The CustomResourceDefinitions of this group.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![Activation::crd(), ActivationApproval::crd()]
}
