//! Rules of `deploy.source`, each broken once, for `objects.rs`.

use serde_json::{Value, json};

/// What is changed in a valid object, and words that the refusal must contain.
pub fn refused() -> Vec<(Value, &'static str)> {
    let source = |image: &str, policy: Value| json!({"deploy": {"image": null, "source": {"image": image, "policy": policy}}});
    let pinned = json!({"pinned": {"tag": "1"}});
    vec![
        (
            json!({"deploy": {"image": null}}),
            "exactly one of `image` and `source` is required",
        ),
        (
            json!({"deploy": {"source": {"image": "a/b", "policy": pinned}}}),
            "exactly one of `image` and `source` is required",
        ),
        (
            source("ghcr.io/a/b:1", pinned.clone()),
            "`image` must have neither tag nor digest",
        ),
        (
            source("ghcr.io/a/b@sha256", pinned.clone()),
            "`image` must have neither tag nor digest",
        ),
        (
            source("a/b", json!({})),
            "exactly one of `pinned`, `tag`, `semver` and `newest` is required",
        ),
        (
            source(
                "a/b",
                json!({"tag": {"name": "x"}, "semver": {"range": "1.x"}}),
            ),
            "exactly one of `pinned`, `tag`, `semver` and `newest` is required",
        ),
        (source("a/b", json!({"tag": {"name": "-x"}})), "tag.name"),
        (
            source("a/b", json!({"semver": {"range": "1.x; rm"}})),
            "semver.range",
        ),
        (
            source("a/b", json!({"newest": {"pattern": "a".repeat(257)}})),
            "newest.pattern",
        ),
        (
            source("a/b", json!({"newest": {"pattern": "a", "extract": "a b"}})),
            "newest.extract",
        ),
        (
            source(
                "a/b",
                json!({"newest": {"pattern": "a", "order": "Random"}}),
            ),
            "Unsupported value",
        ),
        (
            json!({"deploy": {"image": null, "source": {"image": "a/b", "policy": pinned, "interval": "500ms"}}}),
            "`interval` must be between 1s and 24h",
        ),
    ]
}
