//! The configuration that is recorded with a release at Fly.io, for its own tools.
//!
//! Without a local `fly.toml`, flyctl reads the configuration from there (`config show`, `scale`,
//! `secrets set`). It panics on a release without one.

use serde_json::{Map, Value, json};

use super::text::without_bom;

/// The text of a `fly.toml` as JSON, or a default without one. The Activation's app and region take
/// precedence, as in the machines.
pub fn definition(text: Option<&str>, app: &str, region: &str, port: u16) -> Value {
    let read =
        text.and_then(|text| toml_edit::de::from_str::<Map<String, Value>>(without_bom(text)).ok());
    let mut all = read.unwrap_or_default();
    if text.is_none() {
        // As `AppConfig::minimal`.
        let service = json!({"internal_port": port, "force_https": true});
        all.insert("http_service".to_owned(), service);
    }
    all.insert("app".to_owned(), json!(app));
    all.insert("primary_region".to_owned(), json!(region));
    Value::Object(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::flytoml::{AppConfig, Context, parse};

    /// A value as TOML writes it on one line.
    fn inline(value: &Value) -> String {
        match value {
            Value::Object(map) => {
                let pairs: Vec<String> = map
                    .iter()
                    .map(|(key, value)| format!("{} = {}", json!(key), inline(value)))
                    .collect();
                format!("{{{}}}", pairs.join(", "))
            }
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(inline).collect();
                format!("[{}]", items.join(", "))
            }
            // A JSON string is a TOML string, except for the escape `\/`, which serde_json never writes.
            other => other.to_string(),
        }
    }

    fn read_back(definition: &Value) -> AppConfig {
        let lines: Vec<String> = definition
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| format!("{} = {}\n", json!(key), inline(value)))
            .collect();
        parse(&lines.concat()).unwrap().config
    }

    #[test]
    fn what_is_recorded_reads_back_as_the_same_machines() {
        let context = Context {
            image: "registry.fly.io/app:1",
            ..Context::default()
        };
        let minimal = definition(None, "web", "eze", 3000);
        assert_eq!(read_back(&minimal), AppConfig::minimal("web", "eze", 3000));
        let mut cases = 0;
        let testdata = concat!(env!("CARGO_MANIFEST_DIR"), "/src/flytoml/testdata");
        for entry in std::fs::read_dir(testdata).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            // A date has no counterpart in JSON.
            if !name.ends_with(".toml") || name.starts_with("bad-") || name == "env-kinds.toml" {
                continue;
            }
            cases += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let mut config = parse(&text).unwrap().config;
            config.bind("web", "eze");
            let recorded = read_back(&definition(Some(&text), "web", "eze", 8080));
            assert_eq!(
                recorded.machine_configs(&context),
                config.machine_configs(&context),
                "{name}"
            );
        }
        assert!(cases >= 40, "only {cases} cases");
    }
}
