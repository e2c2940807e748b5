//! What the tests of the phases share.

#![allow(clippy::unwrap_used)]

use crate::plan::Target;

/// A target: this YAML added to the smallest spec, in a namespace with these Secrets (name, key,
/// value).
pub fn target(spec: &str, secrets: &[(&str, &str, &str)]) -> Target {
    let mut whole: serde_json::Value = serde_saphyr::from_str(&format!(
        "organization: cabanas\napp: shop\nregion: eze\n{spec}\n"
    ))
    .unwrap();
    if whole["deploy"]["image"].is_null() {
        if whole["deploy"].is_null() {
            whole["deploy"] = serde_json::json!({});
        }
        whole["deploy"]["image"] = "registry.fly.io/shop:1".into();
    }
    let object = serde_json::from_value(
        serde_json::json!({"metadata": {"name": "shop", "namespace": "ns"}, "spec": whole}),
    )
    .unwrap();
    let mut all = vec![("fly", "token", "fo1_some-token")];
    all.extend(secrets);
    let refs = crate::plan::refs::Refs::of(&all, &[]);
    Target::parse(&object, &refs, None, b"key").unwrap()
}
