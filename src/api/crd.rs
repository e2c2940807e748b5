//! The CustomResourceDefinitions as they are installed: derived from the types, then adapted so that
//! `kubectl explain` reads well and the API server accepts them without a warning.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{Activation, ActivationApproval, words};

/// Longest message of a condition. Source: metav1.Condition.
const CONDITION_MESSAGE: i64 = 32_768;

/// Annotations that keep other tools from pruning a definition: every object of its kind would be deleted
/// with it, and every application with its Activation.
const KEPT: &[(&str, &str)] = &[
    (
        "argocd.argoproj.io/sync-options",
        "Prune=false,Delete=false",
    ),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// The CustomResourceDefinitions of this group: Activation, ActivationApproval.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    [Activation::crd(), ActivationApproval::crd()]
        .into_iter()
        .map(installed)
        .collect()
}

/// The schema of the one version that there is.
#[must_use]
pub fn schema(crd: &CustomResourceDefinition) -> Option<&JSONSchemaProps> {
    let version = crd.spec.versions.first()?;
    version.schema.as_ref()?.open_api_v3_schema.as_ref()
}

fn installed(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let kept = KEPT.iter();
    let kept = kept.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    crd.metadata.annotations = Some(kept.collect());
    let is_activation = crd.spec.names.kind == "Activation";
    let description = if is_activation { ACTIVATION } else { APPROVAL };
    for version in &mut crd.spec.versions {
        let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        visit(schema, &mut tidy);
        schema.description = Some(description.to_owned());
        let Some(properties) = schema.properties.as_mut() else {
            continue;
        };
        if let Some(status) = properties.get_mut("status").filter(|_| is_activation) {
            // For kstatus, which compares observedGeneration with metadata.generation: a new object
            // is in progress before the controller has observed it.
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
            describe(
                status,
                "What was observed of the application; written by the controller.",
            );
            let conditions = status
                .properties
                .as_mut()
                .and_then(|p| p.get_mut("conditions"));
            if let Some(conditions) = conditions {
                bound_conditions(conditions);
            }
        }
        if let Some(status) = properties.get_mut("status").filter(|_| !is_activation) {
            describe(
                status,
                "Whether the decision counts; written by the controller.",
            );
        }
        if let Some(spec) = properties.get_mut("spec") {
            describe(spec, "The desired state.");
            visit(spec, &mut words::explain);
        }
    }
    crd
}

const ACTIVATION: &str = "Activation takes one web application from nothing to live on Fly.io, \
    proves that it is live, and keeps proving it.";

const APPROVAL: &str = "ActivationApproval is one person's decision at a gate of an Activation. \
    The API server proves who made it, and its spec cannot change.";

fn describe(schema: &mut JSONSchemaProps, text: &str) {
    schema.description = Some(match schema.description.take() {
        Some(own) if !own.is_empty() && own != text => own,
        _ => text.to_owned(),
    });
}

/// Calls `f` on a schema and on everything inside it.
pub fn visit(schema: &mut JSONSchemaProps, f: &mut impl FnMut(&mut JSONSchemaProps)) {
    f(schema);
    for child in schema.properties.iter_mut().flatten() {
        visit(child.1, f);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => visit(item, f),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(|i| visit(i, f)),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        visit(values, f);
    }
}

fn tidy(schema: &mut JSONSchemaProps) {
    // Without `nullable`, the server replaces a null by the default, which is what a user who writes
    // `deadline: null` wants.
    schema.nullable = None;
    if let Some(words) = &mut schema.enum_ {
        words.retain(|JSON(word)| *word != Value::Null);
    }
    // `api_enum!` puts the meanings here, because a field's own comment replaces the description.
    if let Some(meanings) = schema.title.take() {
        let own = schema.description.take().unwrap_or_default();
        schema.description = Some(format!("{own} {meanings}").trim().to_owned());
    }
    if let Some(JSON(default)) = &schema.default
        && schema.enum_.is_some()
        && let Some(word) = default.as_str()
    {
        let own = schema.description.take().unwrap_or_default();
        schema.description = Some(if own.contains("Default:") {
            own
        } else {
            format!("{own} Default: `{word}`.")
        });
    }
    // The server warns about every other format.
    schema.format = match schema.format.take().as_deref() {
        Some("uint32" | "int64" | "uint64") => Some("int64".into()),
        Some("uint16" | "uint8" | "int16" | "int8" | "int32") => Some("int32".into()),
        Some("date-time") => Some("date-time".into()),
        _ => None,
    };
    // Doc comments are wrapped; the description of a field is one line.
    if let Some(text) = schema.description.take() {
        schema.description = Some(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    // A map's values need a bound too, or the server cannot estimate the cost of a rule over them.
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties
        && values.type_.as_deref() == Some("string")
        && values.max_length.is_none()
    {
        values.max_length = Some(256);
    }
}

fn bound_conditions(conditions: &mut JSONSchemaProps) {
    let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut conditions.items else {
        return;
    };
    for (name, field) in item.properties.iter_mut().flatten() {
        match name.as_str() {
            "type" => field.max_length = Some(316),
            "status" => {
                field.enum_ = Some(
                    ["True", "False", "Unknown"]
                        .map(|w| JSON(json!(w)))
                        .to_vec(),
                );
            }
            "reason" => {
                field.max_length = Some(1024);
                field.min_length = Some(1);
                field.pattern = Some("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$".into());
            }
            "message" => field.max_length = Some(CONDITION_MESSAGE),
            "observedGeneration" => field.minimum = Some(0.0),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn each_field(check: impl Fn(&str, &JSONSchemaProps)) {
        fn walk(path: &str, schema: &JSONSchemaProps, check: &impl Fn(&str, &JSONSchemaProps)) {
            check(path, schema);
            for (name, child) in schema.properties.iter().flatten() {
                walk(&format!("{path}.{name}"), child, check);
            }
            if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
                walk(&format!("{path}[]"), item, check);
            }
            if let Some(JSONSchemaPropsOrBool::Schema(v)) = &schema.additional_properties {
                walk(&format!("{path}{{}}"), v, check);
            }
        }
        for crd in crds() {
            let root = schema(&crd).unwrap();
            for part in ["spec", "status"] {
                if let Some(child) = root.properties.as_ref().unwrap().get(part) {
                    walk(
                        &format!("{}.{part}", crd.spec.names.singular.as_deref().unwrap()),
                        child,
                        &check,
                    );
                }
            }
        }
    }

    #[test]
    fn every_field_says_what_it_is() {
        each_field(|path, schema| {
            if path.ends_with("[]") || path.ends_with("{}") {
                return;
            }
            let text = schema.description.as_deref().unwrap_or_default();
            assert!(text.len() > 3 && text.ends_with('.'), "{path}: {text:?}");
            assert!(
                !text.contains("$ref") && !text.contains("[`"),
                "{path}: {text:?}"
            );
        });
    }

    #[test]
    fn every_field_is_bounded() {
        each_field(|path, schema| match schema.type_.as_deref() {
            Some("string") => assert!(
                schema.max_length.is_some()
                    || schema.enum_.is_some()
                    || schema.format.as_deref() == Some("date-time"),
                "{path} needs a maxLength"
            ),
            Some("array") => assert!(schema.max_items.is_some(), "{path} needs maxItems"),
            Some("object") => assert!(
                schema.additional_properties.is_none() || schema.max_properties.is_some(),
                "{path} needs maxProperties"
            ),
            Some("integer" | "number" | "boolean") => {}
            None if schema.x_kubernetes_int_or_string == Some(true) => {
                assert!(schema.max_length.is_some(), "{path} needs a maxLength");
            }
            other => panic!("{path} has type {other:?}"),
        });
    }

    #[test]
    fn no_field_can_name_another_namespace() {
        each_field(|path, _| assert!(!path.to_lowercase().ends_with("namespace"), "{path}"));
    }

    #[test]
    fn a_fresh_status_says_that_nothing_was_seen_yet() {
        let crds = crds();
        let status = &schema(&crds[0]).unwrap().properties.as_ref().unwrap()["status"];
        assert_eq!(
            status.default,
            Some(JSON(json!({"observedGeneration": -1})))
        );
    }

    #[test]
    fn every_rule_says_what_is_required() {
        each_field(|path, schema| {
            for rule in schema.x_kubernetes_validations.iter().flatten() {
                let message = rule.message.as_deref().unwrap_or_default();
                assert!(
                    message.contains('`'),
                    "{path}: {} has no message",
                    rule.rule
                );
            }
        });
    }
}
