//! Which Secrets an Activation may use, where the installation asks their owners.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::{
    api::{ALLOWED, LABEL_ALLOW},
    store::generated,
};

/// Which Secrets an Activation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every one of its namespace.
    All,
    /// Those with the label [`LABEL_ALLOW`], and the one that Golive generates for this Activation.
    Labelled,
}

impl Allowed {
    /// Whether an Activation of this name may use this Secret.
    pub fn allows(self, activation: &str, secret: &Secret) -> bool {
        let labels = secret.labels();
        let labelled = labels
            .get(LABEL_ALLOW)
            .is_some_and(|value| value == ALLOWED);
        self == Self::All || labelled || generated::is_of(activation, &secret.metadata)
    }
}
