//! The rules of a definition, applied to an object without a cluster, as the API server applies them:
//! types, required and unknown fields, patterns, bounds, and the CEL rules that [`super::cel`] can
//! evaluate. A rule about a change (`oldSelf`) does not apply to one object.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::cel::{self, CelError};
use crate::flytoml::nearest;

/// Most entries of a list in a message.
const MAX_SHOWN: usize = 20;

/// What is wrong with an object; each line begins with the field.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What the API server refuses.
    pub(super) errors: Vec<String>,
    /// What kubectl refuses or the server drops: fields that do not exist.
    pub(super) warnings: Vec<String>,
    /// Rules that only the API server can evaluate.
    pub(super) left: Vec<String>,
}

/// Checks an object, apart from its metadata and its status.
pub(super) fn check(schema: &JSONSchemaProps, object: &Value) -> Found {
    let mut found = Found::default();
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    found.structure(schema, &object, "");
    if found.errors.is_empty() {
        defaults(schema, &mut object);
        found.rules(schema, &object, "");
    }
    found
}

/// Fills in the defaults; a null counts as absent.
fn defaults(schema: &JSONSchemaProps, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            for (name, schema) in schema.properties.iter().flatten() {
                if let Some(JSON(default)) = &schema.default
                    && !map.contains_key(name)
                    && name != "status"
                {
                    map.insert(name.clone(), default.clone());
                }
                if let Some(value) = map.get_mut(name) {
                    defaults(schema, value);
                }
            }
            if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
                map.values_mut().for_each(|value| defaults(schema, value));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = item_schema(schema) {
                items.iter_mut().for_each(|item| defaults(schema, item));
            }
        }
        _ => {}
    }
}

fn item_schema(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(schema)) => Some(schema),
        _ => None,
    }
}

fn inside(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

impl Found {
    fn error(&mut self, at: &str, message: impl std::fmt::Display) {
        self.errors.push(format!("{at}: {message}"));
    }

    fn structure(&mut self, schema: &JSONSchemaProps, value: &Value, at: &str) {
        if value.is_null() {
            return;
        }
        if let Some(wanted) = schema.type_.as_deref()
            && !is_a(wanted, value)
        {
            return self.error(at, wrong_type(wanted, value));
        }
        match value {
            Value::Object(map) => self.object(schema, map, at),
            Value::Array(items) => self.list(schema, items, at),
            Value::String(text) => self.text(schema, text, at),
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                let bounds = (schema.minimum, schema.maximum);
                self.bounds(at, "", number, bounds);
            }
            _ => {}
        }
        if let Some(words) = &schema.enum_
            && !words.iter().any(|JSON(word)| word == value)
        {
            let words: Vec<&str> = words
                .iter()
                .filter_map(|JSON(word)| word.as_str())
                .collect();
            let meant = value.as_str().and_then(|text| nearest(text, &words));
            let meant = meant.map(|meant| format!("; did you mean {meant}?"));
            let shown = words.iter().take(MAX_SHOWN).copied().collect::<Vec<_>>();
            let (shown, meant) = (shown.join(", "), meant.unwrap_or_default());
            self.error(at, format!("must be one of {shown}, not {value}{meant}"));
        }
    }

    fn object(&mut self, schema: &JSONSchemaProps, map: &serde_json::Map<String, Value>, at: &str) {
        for name in schema.required.iter().flatten() {
            if map.get(name).is_none_or(Value::is_null) {
                self.error(&inside(at, name), "is required");
            }
        }
        let bounds = (schema.min_properties, schema.max_properties);
        self.count(at, "entries", map.len(), bounds);
        // The API server itself knows the fields of the metadata.
        let Some(properties) = schema.properties.as_ref() else {
            if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
                for (name, value) in map {
                    self.structure(schema, value, &inside(at, name));
                }
            }
            return;
        };
        for (name, value) in map {
            let path = inside(at, name);
            let implied = at.is_empty() && ["apiVersion", "kind", "metadata"].contains(&&**name);
            match properties.get(name) {
                Some(_) if implied => {}
                Some(schema) => self.structure(schema, value, &path),
                None if implied || schema.x_kubernetes_preserve_unknown_fields == Some(true) => {}
                None => {
                    let free = properties.keys().filter(|key| !map.contains_key(*key));
                    let free: Vec<&str> = free.map(String::as_str).collect();
                    let there = properties.keys().map(String::as_str).collect::<Vec<_>>();
                    let meant = match (nearest(name, &free), nearest(name, &there)) {
                        (Some(meant), _) => format!("; did you mean {meant}?"),
                        (None, Some(there)) => format!("; {there} is there already"),
                        (None, None) => String::new(),
                    };
                    self.warnings.push(format!(
                        "{path}: unknown field, which kubectl refuses and the API server drops{meant}"
                    ));
                }
            }
        }
    }

    fn list(&mut self, schema: &JSONSchemaProps, items: &[Value], at: &str) {
        self.count(
            at,
            "entries",
            items.len(),
            (schema.min_items, schema.max_items),
        );
        if let Some(schema) = item_schema(schema) {
            for (index, item) in items.iter().enumerate() {
                self.structure(schema, item, &format!("{at}[{index}]"));
            }
        }
        let keys = schema
            .x_kubernetes_list_map_keys
            .as_deref()
            .unwrap_or_default();
        let is_set = schema.x_kubernetes_list_type.as_deref() == Some("set");
        if keys.is_empty() && !is_set {
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let identity: Vec<String> = match keys {
                [] => vec![item.to_string()],
                keys => keys.iter().map(|key| item[key].to_string()).collect(),
            };
            if !seen.insert(identity.clone()) {
                let identity = identity.join(", ");
                self.error(
                    &format!("{at}[{index}]"),
                    format!("{identity} is there twice"),
                );
            }
        }
    }

    fn text(&mut self, schema: &JSONSchemaProps, text: &str, at: &str) {
        let bounds = (schema.min_length, schema.max_length);
        self.count(at, "characters", text.chars().count(), bounds);
        let Some(pattern) = schema.pattern.as_deref() else {
            return;
        };
        if regex::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text)) {
            let described = schema.description.as_deref().unwrap_or_default();
            let sentence = described.split(". ").next().unwrap_or_default();
            let is_what = match sentence.trim_end_matches('.') {
                "" => String::new(),
                sentence => format!(" ({sentence})"),
            };
            self.error(at, format!("{text:?} must match {pattern}{is_what}"));
        }
    }

    fn count(&mut self, at: &str, what: &str, number: usize, bounds: (Option<i64>, Option<i64>)) {
        let float = |bound: Option<i64>| bound.map(|bound| bound as f64);
        self.bounds(at, what, number as f64, (float(bounds.0), float(bounds.1)));
    }

    fn bounds(&mut self, at: &str, what: &str, number: f64, bounds: (Option<f64>, Option<f64>)) {
        let what = if what.is_empty() {
            String::new()
        } else {
            format!(" {what}")
        };
        let (lowest, highest) = bounds;
        if lowest.is_some_and(|lowest| number < lowest) {
            let lowest = lowest.unwrap_or_default();
            self.error(at, format!("must be at least {lowest}{what}, not {number}"));
        } else if highest.is_some_and(|highest| number > highest) {
            let highest = highest.unwrap_or_default();
            self.error(at, format!("must be at most {highest}{what}, not {number}"));
        }
    }

    /// The CEL rules of a value and of everything inside it.
    fn rules(&mut self, schema: &JSONSchemaProps, value: &Value, at: &str) {
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            if rule.rule.contains("oldSelf") {
                continue;
            }
            match cel::holds(&rule.rule, value) {
                Ok(true) => {}
                Ok(false) => {
                    let message = rule.message.clone();
                    let message = message.unwrap_or_else(|| format!("must hold: {}", rule.rule));
                    let at = if at.is_empty() { "the object" } else { at };
                    self.error(at, message);
                }
                Err(error @ (CelError::Unsupported(_) | CelError::Failed(_))) => {
                    self.left.push(format!("{at}: {} ({error})", rule.rule));
                }
            }
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let own = schema.properties.as_ref().and_then(|all| all.get(name));
                    let inner = match (own, &schema.additional_properties) {
                        (Some(schema), _) => schema,
                        (None, Some(JSONSchemaPropsOrBool::Schema(schema))) => schema,
                        (None, _) => continue,
                    };
                    self.rules(inner, value, &inside(at, name));
                }
            }
            Value::Array(items) => {
                let Some(schema) = item_schema(schema) else {
                    return;
                };
                for (index, item) in items.iter().enumerate() {
                    self.rules(schema, item, &format!("{at}[{index}]"));
                }
            }
            _ => {}
        }
    }
}

fn is_a(wanted: &str, value: &Value) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        _ => true,
    }
}

/// What is said of a value of another type. YAML reads some words as something else than text.
fn wrong_type(wanted: &str, value: &Value) -> String {
    let article = |name: &str| match name {
        "array" => "a list".to_owned(),
        "object" | "integer" => format!("an {name}"),
        "boolean" => "true or false".to_owned(),
        name => format!("a {name}"),
    };
    let is = match value {
        Value::Bool(truth) => format!("the boolean {truth}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null => "null".to_owned(),
    };
    let advice = match (wanted, value) {
        ("string", Value::Bool(_)) => {
            ": put it in quotes, because YAML reads words such as no, yes, on and off as booleans"
        }
        ("string", Value::Number(_)) => ": put it in quotes",
        ("integer" | "number" | "boolean", Value::String(_)) => ": write it without quotes",
        _ => "",
    };
    format!("must be {}, not {is}{advice}", article(wanted))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::api::{crds, schema};
    use serde_json::json;

    fn found(spec: Value) -> Found {
        let mut whole = json!({
            "organization": "acme", "app": "demo", "region": "eze", "deploy": {"image": "x:1"},
        });
        merge(&mut whole, spec);
        let object = json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
            "metadata": {"name": "demo"}, "spec": whole, "status": {"phases": 3},
        });
        let crds = crds();
        check(schema(&crds[0]).unwrap(), &object)
    }

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    #[test]
    fn the_smallest_object_is_valid() {
        assert_eq!(found(json!({})), Found::default());
    }

    #[test]
    fn what_the_api_server_refuses_is_an_error_that_begins_with_the_field() {
        for (spec, said) in [
            (
                json!({"deploy": {"image": 1.4}}),
                "spec.deploy.image: must be a string, not the number 1.4: put it in quotes",
            ),
            (
                json!({"region": false}),
                "spec.region: must be a string, not the boolean false: put it in quotes",
            ),
            (json!({"app": "My_App"}), "spec.app: "),
            (json!({"region": null}), "spec.region: is required"),
            (json!({"region": "buenos-aires"}), "spec.region: "),
            (
                json!({"deploy": {"port": 0}}),
                "spec.deploy.port: must be at least 1",
            ),
            (
                json!({"deploy": {"port": "80"}}),
                "spec.deploy.port: must be an integer, not the text \"80\": write it without quotes",
            ),
            (
                json!({"deploy": {"scale": [1]}}),
                "spec.deploy.scale: must be an object, not a list",
            ),
            (
                json!({"deploy": {"port": 3000, "config": {"inline": "a = 1"}}}),
                "spec.deploy: ",
            ),
            (
                json!({"deploy": {"source": {"image": "registry.fly.io/x", "policy": {"semver": {"range": "1.x"}}}}}),
                "spec.deploy: ",
            ),
            (json!({"deploy": {"config": {}}}), "spec.deploy.config: "),
            (
                json!({"deploy": {"deadline": "1s"}}),
                "spec.deploy.deadline: ",
            ),
            (
                json!({"mode": "plan"}),
                "spec.mode: must be one of Apply, Plan, not \"plan\"; did you mean Plan?",
            ),
            (
                json!({"provision": {"postgres": {}}}),
                "spec.provision.postgres: ",
            ),
            (
                json!({"preflight": {"skip": [
                    {"check": "TokenScope", "justification": "agreed with Ops"},
                    {"check": "TokenScope", "justification": "agreed with Ops"},
                ]}}),
                "spec.preflight.skip[1]: \"TokenScope\" is there twice",
            ),
        ] {
            let errors = found(spec.clone()).errors;
            assert!(
                errors.iter().any(|error| error.starts_with(said)),
                "{spec}: {errors:#?}"
            );
        }
    }

    #[test]
    fn unknown_fields_are_warnings_and_a_suggestion_is_never_there_already() {
        let found = found(json!({"regoin": "eze", "Deploy": {}, "deploy": {"imgae": "y"}}));
        assert_eq!(found.errors, Vec::<String>::new());
        let unknown = "unknown field, which kubectl refuses and the API server drops";
        assert_eq!(
            found.warnings,
            [
                format!("spec.Deploy: {unknown}; deploy is there already"),
                format!("spec.deploy.imgae: {unknown}; image is there already"),
                format!("spec.regoin: {unknown}; region is there already"),
            ]
        );
    }

    #[test]
    fn every_rule_of_the_definitions_can_be_evaluated_here() {
        fn visit(schema: &JSONSchemaProps, rules: &mut Vec<String>) {
            let own = schema.x_kubernetes_validations.iter().flatten();
            rules.extend(own.map(|rule| rule.rule.clone()));
            for schema in schema.properties.iter().flatten().map(|(_, schema)| schema) {
                visit(schema, rules);
            }
            if let Some(schema) = item_schema(schema) {
                visit(schema, rules);
            }
            if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
                visit(schema, rules);
            }
        }
        let mut rules = Vec::new();
        for crd in crds() {
            visit(schema(&crd).unwrap(), &mut rules);
        }
        assert!(rules.len() > 40, "only {} rules", rules.len());
        for rule in rules {
            assert!(cel::parse(&rule).is_ok(), "{rule}: {:?}", cel::parse(&rule));
        }
    }
}
