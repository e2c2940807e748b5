//! The field reference in `docs/reference/activation.md`, written from the schema.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::crd::schema;

/// The whole page.
pub fn text(crds: &[CustomResourceDefinition]) -> String {
    let mut page = String::from(
        "# Activation: the fields\n\n\
         Generated from the types by `make generate`; `kubectl explain` shows the same.\n\n\
         Durations are written `30s`, `5m`, `1h30m`. References name an object in the same \
         namespace. A field marked *required* must be given when the object around it is.\n",
    );
    for crd in crds {
        let Some(root) = schema(crd) else { continue };
        let kind = &crd.spec.names.kind;
        let about = root.description.as_deref().unwrap_or_default();
        let _ = write!(page, "\n## {kind}\n\n{about}\n");
        for part in ["spec", "status"] {
            if let Some(child) = root.properties.as_ref().and_then(|p| p.get(part)) {
                object(&mut page, part, child);
            }
        }
    }
    page
}

/// One table for an object, then one for each object inside it.
fn object(page: &mut String, path: &str, schema: &JSONSchemaProps) {
    let Some(fields) = &schema.properties else {
        return;
    };
    let _ = write!(page, "\n### {path}\n\n");
    if let Some(about) = &schema.description {
        let _ = write!(page, "{}\n\n", escaped(about));
    }
    let required = schema.required.as_deref().unwrap_or_default();
    page.push_str("| field | type | what it is |\n|---|---|---|\n");
    for (name, field) in fields {
        let mark = if required.contains(name) {
            ", *required*"
        } else {
            ""
        };
        let about = escaped(field.description.as_deref().unwrap_or_default());
        let _ = write!(page, "| `{name}` | {}{mark} | {about}", type_of(field));
        let bounds = bounds(field);
        if !bounds.is_empty() {
            let _ = write!(page, " ({bounds})");
        }
        page.push_str(" |\n");
    }
    let rules: Vec<&str> = schema
        .x_kubernetes_validations
        .iter()
        .flatten()
        .chain(
            fields
                .values()
                .flat_map(|f| f.x_kubernetes_validations.iter().flatten()),
        )
        .filter_map(|rule| rule.message.as_deref())
        .collect();
    if !rules.is_empty() {
        page.push_str("\nRules:\n\n");
        for rule in rules {
            let _ = writeln!(page, "- {}", escaped(rule));
        }
    }
    for (name, field) in fields {
        match &field.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) if item.properties.is_some() => {
                object(page, &format!("{path}.{name}[]"), item);
            }
            _ => object(page, &format!("{path}.{name}"), field),
        }
    }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    let own = schema.type_.as_deref().unwrap_or("any");
    match own {
        "array" => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => format!("list of {}", type_of(item)),
            _ => "list".into(),
        },
        "object" if schema.additional_properties.is_some() => match &schema.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(v)) => format!("map to {}", type_of(v)),
            _ => "map".into(),
        },
        "string" if schema.format.as_deref() == Some("date-time") => "time".into(),
        "string" if super::words::is_duration(schema) => "duration".into(),
        "any" if schema.x_kubernetes_int_or_string == Some(true) => "string".into(),
        _ => own.into(),
    }
}

fn bounds(schema: &JSONSchemaProps) -> String {
    let mut parts = Vec::new();
    match (schema.minimum, schema.maximum) {
        (Some(min), Some(max)) => parts.push(format!("{min} to {max}")),
        (Some(min), None) if min != 0.0 => parts.push(format!("at least {min}")),
        (None, Some(max)) => parts.push(format!("at most {max}")),
        _ => {}
    }
    if let Some(max) = schema.max_items {
        parts.push(format!("at most {max}"));
    }
    if let Some(max) = schema.max_properties {
        parts.push(format!("at most {max}"));
    }
    if let (Some(max), None) = (schema.max_length, &schema.enum_)
        && !super::words::is_duration(schema)
    {
        parts.push(format!("at most {max} characters"));
    }
    if let Some(JSON(default)) = &schema.default
        && (default.is_number() || default.is_boolean())
        && !schema
            .description
            .as_deref()
            .is_some_and(|d| d.contains("Default:"))
    {
        parts.push(format!("default {default}"));
    }
    parts.join("; ")
}

/// A text that stays in one cell of a table, and shows `<app>` as it is.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    for c in text.chars() {
        match c {
            '`' => {
                code = !code;
                out.push(c);
            }
            '|' => out.push_str("\\|"),
            '<' if !code => out.push_str("&lt;"),
            _ => out.push(c),
        }
    }
    out
}
