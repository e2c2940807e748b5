//! The fields of a schema by their paths, to compare the definitions in a cluster with those of this
//! program. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// The paths of all fields of `spec` and `status`, such as `spec.deploy.image`.
#[must_use]
pub fn fields(schema: &JSONSchemaProps) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    collect(schema, "", &mut all);
    all
}

fn collect(schema: &JSONSchemaProps, at: &str, all: &mut BTreeSet<String>) {
    for (name, field) in schema.properties.iter().flatten() {
        if at.is_empty() && !["spec", "status"].contains(&name.as_str()) {
            continue;
        }
        let path = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        collect(field, &path, all);
        all.insert(path);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect(items, &format!("{at}[]"), all);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        collect(values, &format!("{at}.*"), all);
    }
}
