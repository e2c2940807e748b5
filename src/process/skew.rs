//! How the definitions in a cluster differ from those of this version, by the schemas that the API server
//! publishes. Pure.
//!
//! A definition that lacks fields of this version is older: the API server refuses a status with such a field, so the
//! operator could not keep its records, and `/readyz` fails until the definition is updated. A definition
//! with further fields is newer: the operator works, keeps what it does not know, and says so.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::Value;

use crate::api;

/// Most fields that a message names.
const MAX_NAMED: usize = 5;

/// How the definitions in the cluster differ from those of this version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// Fields that this version knows and the cluster does not.
    pub missing: Vec<String>,
    /// Fields that the cluster has and this version does not know.
    pub unknown: Vec<String>,
}

impl Skew {
    /// Why the operator is not ready, if it is not.
    #[must_use]
    pub fn older(&self) -> Option<String> {
        (!self.missing.is_empty()).then(|| {
            format!(
                "the definitions in the cluster are older than this operator ({}): they lack {}; update them with: kubectl apply --server-side -f crds/",
                env!("CARGO_PKG_VERSION"),
                named(&self.missing)
            )
        })
    }

    /// What is to be known of a newer definition, if it is newer.
    #[must_use]
    pub fn newer(&self) -> Option<String> {
        (!self.unknown.is_empty()).then(|| {
            format!(
                "the definitions in the cluster are newer than this operator ({}): it ignores {}; update the operator",
                env!("CARGO_PKG_VERSION"),
                named(&self.unknown)
            )
        })
    }
}

fn named(fields: &[String]) -> String {
    let shown: Vec<&str> = fields.iter().take(MAX_NAMED).map(String::as_str).collect();
    match fields.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The fields that only one side has; none if the document has no schema of a kind. `document` is what the
/// API server publishes of our group and version.
#[must_use]
pub fn compared(document: &Value) -> Option<Skew> {
    let mut skew = Skew::default();
    for ours in api::crds() {
        let kind = &ours.spec.names.kind;
        let known = api::fields::fields(api::schema(&ours)?);
        let there = published(document, kind)?;
        let prefixed = |fields: std::collections::btree_set::Difference<'_, String>| {
            fields
                .map(|field| format!("{kind} {field}"))
                .collect::<Vec<_>>()
        };
        skew.missing.extend(prefixed(known.difference(&there)));
        skew.unknown.extend(prefixed(there.difference(&known)));
    }
    Some(skew)
}

/// The fields of a kind as the API server publishes them.
fn published(document: &Value, kind: &str) -> Option<BTreeSet<String>> {
    let schemas = document["components"]["schemas"].as_object()?;
    let schema = schemas.values().find(|schema| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.into_iter().flatten().any(|of| of["kind"] == kind)
    })?;
    let schema: JSONSchemaProps = serde_json::from_value(schema.clone()).ok()?;
    Some(api::fields::fields(&schema))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{GROUP, VERSION};

    /// What the API server publishes of our definitions, after a change.
    fn document(change: impl Fn(&mut Value)) -> Value {
        let mut schemas = serde_json::Map::new();
        for crd in api::crds() {
            let kind = crd.spec.names.kind.clone();
            let mut schema = serde_json::to_value(api::schema(&crd).unwrap()).unwrap();
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": GROUP, "kind": kind, "version": VERSION}]);
            if kind == "Activation" {
                change(&mut schema["properties"]);
            }
            schemas.insert(format!("dev.golive.v1alpha1.{kind}"), schema);
        }
        json!({"components": {"schemas": schemas}})
    }

    #[test]
    fn the_same_definitions_have_no_skew() {
        let skew = compared(&document(|_| {})).unwrap();
        assert_eq!(skew, Skew::default());
        assert_eq!((skew.older(), skew.newer()), (None, None));
        assert_eq!(compared(&json!({})), None);
    }

    #[test]
    fn an_older_and_a_newer_definition_are_told_apart_and_the_fields_are_named() {
        let older = document(|properties| {
            let status = &mut properties["status"]["properties"];
            status.as_object_mut().unwrap().remove("intents").unwrap();
        });
        let skew = compared(&older).unwrap();
        let text = skew.older().unwrap();
        assert!(text.contains("lack Activation status.intents, "), "{text}");
        assert!(
            text.contains("kubectl apply --server-side -f crds/"),
            "{text}"
        );
        assert_eq!(skew.newer(), None);

        let newer = document(|properties| {
            properties["spec"]["properties"]["later"] = json!({"type": "string"});
        });
        let skew = compared(&newer).unwrap();
        assert_eq!(skew.older(), None);
        let text = skew.newer().unwrap();
        assert!(text.contains("ignores Activation spec.later; "), "{text}");
    }
}
