//! How the API server explains a wrong format: in words, with the value to write where there is one.

#![allow(clippy::panic, reason = "a helper fails its test by a panic")]

use serde_json::{Value, json};

use super::objects::{activations, create, message, minimal, with};

/// A mistake in each format, and the words that explain it.
pub fn explained() -> Vec<(Value, &'static str)> {
    let hostname = |name: &str| json!({"provision": {"hostnames": ["ok.example.org", name]}});
    let path =
        |path: &str| json!({"smokeTest": {"checks": [{"name": "a", "http": {"path": path}}]}});
    let metrics =
        |path: &str| json!({"smokeTest": {"checks": [{"name": "a", "metrics": {"path": path}}]}});
    let integration = |path: &str| {
        json!({"integrations": {"webhooks": [{
            "name": "a", "path": path, "secretRef": {"name": "a", "key": "b"}}]}})
    };
    let calendar = |path: &str| json!({"integrations": {"ical": {"exportPath": path}}});
    let generate = |name: &str| json!({"provision": {"secrets": {"generate": [{"name": name}]}}});
    let below = |below: Value| {
        json!({"observe": {"objectives": [{"name": "a", "errorRate": {
            "metric": "m", "errorSelector": {"a": "b"}, "below": below}}]}})
    };
    vec![
        (json!({"app": "Ux_T14"}), "such as `ux-t14`"),
        (
            json!({"app": "ux--x31-"}),
            "lower-case letters, digits and `-`",
        ),
        (
            json!({"organization": "My Org"}),
            "lower-case letters, digits and `-`",
        ),
        (json!({"region": "buenos-aires"}), "`fly platform regions`"),
        (json!({"region": "EZE"}), "three lower-case letters"),
        (
            json!({"deploy": {"image": "https://registry.fly.io/a:1"}}),
            "without `https://`",
        ),
        (json!({"deploy": {"image": "a b"}}), "without blanks"),
        (hostname("https://www.example.org"), "hostname alone"),
        (hostname("www.example.org/path"), "hostname alone"),
        (hostname("www.example.org:443"), "without a port"),
        (hostname("WWW.Example.org"), "write `www.example.org`"),
        (hostname("reservas.cabañas.example"), "`xn--`"),
        (hostname("localhost"), "public Internet"),
        (hostname("shop.internal"), "public Internet"),
        (hostname("my-app.fly.dev"), "belong to Fly.io"),
        (hostname("www"), "with its domain"),
        (hostname("10.0.0.1"), "not an IP address"),
        (hostname("my_shop.example.org"), "no `_`"),
        (hostname("a.*.example.org"), "only as its first part"),
        (path("api/healthz"), "must begin with `/`"),
        (path("https://example.com/"), "a path on the app itself"),
        (path("/a b"), "percent-encode"),
        (path("/a#b"), "never sent to a server"),
        (path("/#"), "write `%23`"),
        (metrics("/metrics#x"), "never sent to a server"),
        (integration("/hook#x"), "write `/hook`"),
        (integration("hook"), "write `/hook`"),
        (integration("/a b"), "percent-encode"),
        (calendar("/export#x"), "write `/export`"),
        (generate("my-secret"), "write `MY_SECRET`"),
        (generate("1ABC"), "no digit first"),
        (json!({"observe": {"window": "3d"}}), "`72h` for three"),
        (json!({"deploy": {"deadline": "1.5h"}}), "whole numbers"),
        (json!({"deploy": {"deadline": "300"}}), "needs a unit"),
        (json!({"deploy": {"deadline": "soon"}}), "such as `30s`"),
        (
            json!({"tokenSecretRef": {"name": "My_Token"}}),
            "name of a Kubernetes object",
        ),
        (json!({"tokenSecretRef": {"key": "a b"}}), "key of a Secret"),
        (below(json!("1")), "\"1%\""),
        (below(json!(1)), "\"1%\""),
    ]
}

#[tokio::test]
async fn a_format_is_explained_in_words_and_not_by_a_regular_expression() {
    let (client, namespace, _) = activations().await;
    for (change, expected) in explained() {
        let object = with(minimal("explained"), &change);
        match create(&client, &namespace, &object, true).await {
            Ok(_) => panic!("accepted: {change}"),
            Err(error) => {
                let message = message(&error);
                assert!(message.contains(expected), "{change}: {message}");
                let numbers = change["observe"]["objectives"].is_array();
                assert!(
                    numbers || !message.contains("should match"),
                    "{change}: {message}"
                );
                assert!(!message.contains("type conversion"), "{change}: {message}");
            }
        }
    }
}
