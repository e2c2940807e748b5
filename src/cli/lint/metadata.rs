//! The metadata of an object, which no definition describes: the API server knows it itself. Pure.
//! Source: Kubernetes, "Object Names and IDs", "Labels and Selectors", "Annotations" and `ObjectMeta` of the
//! API reference; `ValidateObjectMetaAccessor` and `IsQualifiedName` of k8s.io/apimachinery.

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

/// Longest value of a label, and longest name of a label, an annotation or a finalizer after its prefix.
const MAX_LABEL: usize = 63;

/// Most bytes of all annotations of an object, keys and values.
const MAX_ANNOTATIONS: usize = 256 << 10;

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
        entries(field, metadata.get(field), &mut wrong);
    }
    for field in ["finalizers", "managedFields", "ownerReferences"] {
        if let Some(given) = metadata.get(field)
            && !given.is_null()
            && !given.is_array()
        {
            wrong.push(format!("metadata.{field}: must be a list"));
        }
    }
    finalizers(metadata.get("finalizers"), &mut wrong);
    owners(metadata.get("ownerReferences"), &mut wrong);
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

/// Labels or annotations.
fn entries(field: &str, given: Option<&Value>, wrong: &mut Vec<String>) {
    let entries = match given {
        None | Some(Value::Null) => return,
        Some(Value::Object(entries)) => entries,
        Some(_) => return wrong.push(format!("metadata.{field}: must be a mapping")),
    };
    let labels = field == "labels";
    let mut size = 0;
    for (key, value) in entries {
        // The API server takes an annotation with upper case in its prefix.
        let is_key = if labels {
            is_qualified(key)
        } else {
            is_qualified(&key.to_ascii_lowercase())
        };
        if !is_key {
            wrong.push(format!("metadata.{field}: {key:?} is no key: {QUALIFIED}"));
        }
        let Some(text) = value.as_str() else {
            wrong.push(format!(
                "metadata.{field}.{key}: must be a string, not {value}; quote it"
            ));
            continue;
        };
        size += key.len() + text.len();
        if labels && !text.is_empty() && !is_label(text) {
            wrong.push(format!(
                "metadata.labels.{key}: {text:?} is no value of a label: {LABEL}, or nothing"
            ));
        }
    }
    if !labels && size > MAX_ANNOTATIONS {
        wrong.push(format!(
            "metadata.annotations: they have {size} bytes, keys and values together; at most {MAX_ANNOTATIONS} are taken"
        ));
    }
}

fn finalizers(given: Option<&Value>, wrong: &mut Vec<String>) {
    let list = given.and_then(Value::as_array);
    for one in list.into_iter().flatten() {
        match one.as_str() {
            Some(text) if is_qualified(text) => {}
            Some(text) => wrong.push(format!(
                "metadata.finalizers: {text:?} is no finalizer: {QUALIFIED}"
            )),
            None => wrong.push(format!(
                "metadata.finalizers: must be strings, not {one}; quote it"
            )),
        }
    }
}

fn owners(given: Option<&Value>, wrong: &mut Vec<String>) {
    let list = given.and_then(Value::as_array);
    for (index, one) in list.into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            let text = one.get(field).and_then(Value::as_str);
            if text.is_none_or(str::is_empty) {
                wrong.push(format!(
                    "metadata.ownerReferences[{index}].{field}: is required, as a string"
                ));
            }
        }
    }
}

/// What a value of a label is, and the last part of a key.
const LABEL: &str =
    "letters, digits, -, _ and ., at most 63 characters, a letter or digit at both ends";

/// What a key is.
const QUALIFIED: &str = "letters, digits, -, _ and ., at most 63 characters, a letter or digit at both ends, and before it, if wanted, a domain and /";

/// Whether it is a value of a label that is not empty.
fn is_label(value: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    value.len() <= MAX_LABEL
        && value
            .chars()
            .all(|c| end(c) || ['-', '_', '.'].contains(&c))
        && value.starts_with(end)
        && value.ends_with(end)
}

/// Whether it is a qualified name: a name, with or without a domain before it.
fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => is_name(domain) && is_label(name),
        None => is_label(key),
    }
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
            json!({"name": "shop", "labels": {"app.kubernetes.io/name": "Shop_1.a", "empty": ""}}),
            json!({"name": "shop", "annotations": {"Example.com/Note": "a b", "x": "y".repeat(MAX_ANNOTATIONS - 20)}}),
            json!({"name": "shop", "finalizers": ["golive.dev/activation"], "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"}]}),
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
            (
                json!({"name": "shop", "labels": {"a b": "c"}}),
                "metadata.labels: \"a b\" is no key",
            ),
            (
                json!({"name": "shop", "labels": {"team": "a b"}}),
                "metadata.labels.team: \"a b\" is no value of a label",
            ),
            (
                json!({"name": "shop", "labels": {"team": "a".repeat(64)}}),
                "is no value of a label",
            ),
            (
                json!({"name": "shop", "labels": {"Example.com/team": "a"}}),
                "is no key",
            ),
            (
                json!({"name": "shop", "labels": {"a/b/c": "d"}}),
                "is no key",
            ),
            (
                json!({"name": "shop", "annotations": {"Bad Key": "c"}}),
                "metadata.annotations: \"Bad Key\" is no key",
            ),
            (
                json!({"name": "shop", "annotations": {"a": "x".repeat(MAX_ANNOTATIONS)}}),
                "metadata.annotations: they have 262145 bytes",
            ),
            (
                json!({"name": "shop", "annotations": ["a"]}),
                "metadata.annotations: must be a mapping",
            ),
            (
                json!({"name": "shop", "finalizers": ["not one"]}),
                "\"not one\" is no finalizer",
            ),
            (
                json!({"name": "shop", "ownerReferences": {}}),
                "metadata.ownerReferences: must be a list",
            ),
            (
                json!({"name": "shop", "ownerReferences": [{"kind": "Pod"}]}),
                "metadata.ownerReferences[0].uid: is required",
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
