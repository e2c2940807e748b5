//! What GitOps tools make of an Activation: the table of states by the judges that they publish, the files
//! that are shipped for Argo CD and Flux, and the examples of whole repositories.

mod argocd;
mod examples;
mod states;

use std::path::PathBuf;

use crate::support::env::root;

/// The folder of the kind in Argo CD's layout.
fn argo() -> PathBuf {
    root().join("manifests/gitops/argocd/resource_customizations/golive.dev/Activation")
}
