//! The metadata of an object, which no definition describes: the API server knows it itself. Pure.
//! Source: Kubernetes, "Object Names and IDs", "Annotations" and `ObjectMeta` of the API reference.

use serde_json::{Map, Value};

use crate::flytoml::nearest;

/// The fields of `ObjectMeta`.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Longest name of an object.
const MAX_NAME: usize = 253;

/// What the API server or kubectl refuses in the metadata of this object; each begins with the field.
pub(super) fn wrong(object: &Value) -> Vec<String> {
    let Some(metadata) = object.get("metadata") else {
        return vec!["metadata.name: is required".to_owned()];
    };
    let Some(metadata) = metadata.as_object() else {
        return vec!["metadata: must be a mapping".to_owned()];
    };
    let mut wrong = names(metadata);
    for field in ["annotations", "labels"] {
        let entries = metadata.get(field).and_then(Value::as_object);
        for (key, value) in entries.into_iter().flatten() {
            if !value.is_string() {
                wrong.push(format!(
                    "metadata.{field}.{key}: must be a string, not {value}; quote it"
                ));
            }
        }
    }
    for field in metadata.keys() {
        if !FIELDS.contains(&field.as_str()) {
            let meant = nearest(field, &FIELDS);
            let meant = meant.map(|meant| format!("; did you mean {meant}?"));
            wrong.push(format!(
                "metadata.{field}: unknown field, which kubectl refuses{}",
                meant.unwrap_or_default()
            ));
        }
    }
    wrong
}

fn names(metadata: &Map<String, Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    for field in ["name", "namespace", "generateName"] {
        match metadata.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(name)) => {
                // The server completes a `generateName`.
                let whole = if field == "generateName" {
                    format!("{name}x")
                } else {
                    name.clone()
                };
                if !name.is_empty() && !is_name(&whole) {
                    wrong.push(format!(
                        "metadata.{field}: {name} is no name: lower-case letters, digits, - and ., at most {MAX_NAME} characters, a letter or digit at both ends"
                    ));
                }
            }
            Some(other) => {
                wrong.push(format!(
                    "metadata.{field}: must be a string, not {other}; quote it"
                ));
            }
        }
    }
    let given = |field: &str| {
        let text = metadata.get(field).and_then(Value::as_str);
        text.is_some_and(|text| !text.is_empty())
    };
    if wrong.is_empty() && !given("name") && !given("generateName") {
        wrong.push("metadata.name: is required".to_owned());
    }
    wrong
}

/// Whether it is a DNS subdomain (RFC 1123), as the API server wants a name.
fn is_name(name: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let within = |label: &str| {
        label.chars().all(|c| end(c) || c == '-') && label.starts_with(end) && label.ends_with(end)
    };
    name.len() <= MAX_NAME && name.split('.').all(within)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_that_the_api_server_takes_has_no_finding() {
        for metadata in [
            json!({"name": "shop-1.test", "namespace": "prod", "labels": {"a": "b"}}),
            json!({"generateName": "shop-", "annotations": {"golive.dev/retry": "1"}}),
            json!({"name": "shop", "annotations": null, "uid": "u", "creationTimestamp": null}),
        ] {
            assert_eq!(wrong(&json!({"metadata": metadata})), [""; 0], "{metadata}");
        }
    }

    #[test]
    fn metadata_that_is_refused_is_found() {
        for (metadata, said) in [
            (json!({}), "metadata.name: is required"),
            (json!([]), "must be a mapping"),
            (json!({"name": "Shop"}), "metadata.name: Shop is no name"),
            (json!({"name": "shop."}), "is no name"),
            (json!({"name": 7}), "metadata.name: must be a string, not 7"),
            (
                json!({"name": "shop", "namepsace": "prod"}),
                "did you mean namespace?",
            ),
            (
                json!({"name": "shop", "annotations": {"golive.dev/retry": 1}}),
                "metadata.annotations.golive.dev/retry: must be a string, not 1; quote it",
            ),
            (
                json!({"name": "shop", "labels": {"live": true}}),
                "metadata.labels.live: must be a string, not true",
            ),
        ] {
            let found = wrong(&json!({"metadata": metadata}));
            assert!(
                found.iter().any(|line| line.contains(said)),
                "{said} is not in {found:?}"
            );
        }
    }
}
