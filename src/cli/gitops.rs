//! Whether a GitOps tool manages the spec of an object, and reverts what is changed beside Git. Pure.

use crate::api::Activation;

/// Field managers of tools that apply objects from Git. Sources: Argo CD, user guide, "Server-Side Apply";
/// Flux, "Kustomize Controller" and "Helm Controller".
const TOOLS: [&str; 5] = [
    "argocd-controller",
    "argocd-application-controller",
    "kustomize-controller",
    "helm-controller",
    "fleet",
];

/// A warning when such a tool manages the spec.
pub(super) fn warning(activation: &Activation) -> Option<String> {
    let managers = activation.metadata.managed_fields.iter().flatten();
    let spec = managers.filter(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0.get("f:spec").is_some())
    });
    let mut names = spec.filter_map(|entry| entry.manager.as_deref());
    let tool = names.find(|name| TOOLS.contains(name))?;
    Some(format!(
        "{tool} manages the spec and may revert this; make the same change in Git"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn warned(manager: &str, field: &str) -> bool {
        let object: Activation = serde_json::from_value(json!({
            "metadata": {"name": "shop", "managedFields": [
                {"manager": manager, "operation": "Apply", "fieldsV1": {field: {}}},
            ]},
            "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
        }))
        .unwrap();
        warning(&object).is_some()
    }

    #[test]
    fn a_spec_that_comes_from_git_is_warned_of_and_no_other() {
        assert!(warned("argocd-controller", "f:spec"));
        assert!(warned("kustomize-controller", "f:spec"));
        assert!(!warned("kustomize-controller", "f:metadata"));
        assert!(!warned("kubectl", "f:spec"));
    }
}
