//! `kubectl golive rules`: what it prints is valid to promtool, and fires as the watch does.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::promtool::content;
use crate::support::env::root;

const ACTIVATION: &str = r#"
apiVersion: golive.dev/v1alpha1
kind: Activation
metadata: {name: shop, namespace: prod}
spec:
  organization: acme
  app: shop-app
  region: eze
  deploy: {image: 'x:1'}
  observe:
    objectives:
    - {name: errors, description: 'guests {{ get }} answers', errorRate: {metric: http_requests_total, errorSelector: {status: "5.."}, below: 1%}}
    - {name: text, latency: {metric: d, selector: {kind: text}, quantile: 95, below: 3s}}
    - {name: later, severity: Ticket, errorRate: {metric: jobs_total, errorSelector: {ok: "no"}, below: 0.5%}}
    - {name: age, severity: Ticket, gauge: {metric: age_minutes, below: 30}}
"#;

/// What the plugin prints, which must succeed.
fn golive(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-golive"))
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// An alert at a time: whether it fires.
fn fires(at: &str, alert: &str, objective: &str, severity: &str, fires: bool) -> Value {
    let labels = format!(
        "{{alertname=\"{alert}\",alertstate=\"firing\",activation=\"shop\",namespace=\"prod\",objective=\"{objective}\",severity=\"{severity}\"}}"
    );
    let samples = match fires {
        true => json!([{"labels": format!("ALERTS{labels}"), "value": 1}]),
        false => json!([]),
    };
    json!({"expr": format!("ALERTS{labels}"), "eval_time": at, "exp_samples": samples})
}

const BURN: &str = "GoliveErrorBudgetBurn";
const MISSING: &str = "GoliveObjectiveWithoutData";

fn case(series: &[(&str, &str)], expected: &[Value]) -> Value {
    let series = series
        .iter()
        .map(|(series, values)| json!({"series": series, "values": values}));
    json!({"interval": "1m", "input_series": series.collect::<Vec<_>>(), "promql_expr_test": expected})
}

#[test]
fn alerts_of_objectives_fire_as_the_watch_does_and_rest_where_nothing_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let activation = file(folder.path(), "activation.yaml", ACTIVATION);
    let rules = golive(&["rules", "-f", &activation, "--format", "prometheus"]);
    file(folder.path(), "rules.yaml", &rules);
    content(folder.path(), &["check", "rules", "rules.yaml"]);
    let cases = [
        // After two hours half of the requests fail: 14.4 times 1 % in an hour is reached after 18 minutes, and
        // the page ends with the errors, by the short window.
        case(
            &[
                (
                    "http_requests_total{status=\"200\"}",
                    "0+60x120 7230+30x60 9060+60x120",
                ),
                (
                    "http_requests_total{status=\"500\"}",
                    "0+0x120 0+30x60 1800+0x120",
                ),
            ],
            &[
                fires("115m", BURN, "errors", "page", false),
                fires("125m", BURN, "errors", "page", false),
                fires("145m", BURN, "errors", "page", true),
                fires("195m", BURN, "errors", "page", true),
                fires("290m", BURN, "errors", "page", false),
                fires("145m", MISSING, "errors", "ticket", false),
            ],
        ),
        // A share of 0.9 % is within the objective, and no error at all is one of zero.
        case(
            &[
                ("http_requests_total{status=\"200\"}", "0+991x600"),
                ("http_requests_total{status=\"500\"}", "0+9x600"),
                ("jobs_total{ok=\"yes\"}", "0+100x600"),
            ],
            &[
                fires("590m", BURN, "errors", "page", false),
                fires("590m", BURN, "errors", "ticket", false),
                fires("590m", BURN, "later", "ticket", false),
            ],
        ),
        // Six requests an hour say nothing, although all of them fail. Golive's own probes never count.
        case(
            &[
                ("http_requests_total{status=\"500\"}", "0+0.1x120"),
                (
                    "http_requests_total{status=\"500\",probe=\"true\"}",
                    "0+100x120",
                ),
            ],
            &[fires("110m", BURN, "errors", "page", false)],
        ),
        // Only of its own kind, and also where the client writes the bound as 3.0.
        case(
            &[
                ("d_bucket{kind=\"text\",le=\"3.0\"}", "0+10x200"),
                ("d_bucket{kind=\"text\",le=\"+Inf\"}", "0+100x200"),
                ("d_bucket{kind=\"audio\",le=\"3.0\"}", "0+900x200"),
                ("d_bucket{kind=\"audio\",le=\"+Inf\"}", "0+900x200"),
            ],
            &[
                fires("190m", BURN, "text", "page", true),
                fires("190m", MISSING, "text", "ticket", false),
                fires("190m", MISSING, "errors", "ticket", true),
            ],
        ),
        // An objective for working hours pages nobody.
        case(
            &[
                ("jobs_total{ok=\"yes\"}", "0+50x200"),
                ("jobs_total{ok=\"no\"}", "0+50x200"),
            ],
            &[
                fires("190m", BURN, "later", "page", false),
                fires("190m", BURN, "later", "ticket", true),
            ],
        ),
        // A gauge by its worst instance; without a bucket at the bound nothing is known of a latency.
        case(
            &[
                ("age_minutes{instance=\"a\"}", "1x30"),
                ("age_minutes{instance=\"b\"}", "1x10 30x20"),
                ("d_bucket{kind=\"text\",le=\"5\"}", "0+10x200"),
                ("d_bucket{kind=\"text\",le=\"+Inf\"}", "0+100x200"),
            ],
            &[
                fires("10m", "GoliveObjectiveOutOfBounds", "age", "ticket", false),
                fires("15m", "GoliveObjectiveOutOfBounds", "age", "ticket", true),
                fires("190m", BURN, "text", "page", false),
                fires("190m", MISSING, "text", "ticket", true),
            ],
        ),
    ];
    let tests = json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases});
    file(folder.path(), "rules.test.yaml", &tests.to_string());
    content(folder.path(), &["test", "rules", "rules.test.yaml"]);
}

#[test]
fn the_objectives_of_the_example_are_valid_rules_in_every_format_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let example = root()
        .join("examples/sist-cabanas.yaml")
        .display()
        .to_string();
    let object = golive(&["rules", "-f", &example]);
    let object: Value = serde_saphyr::from_str(&object).unwrap();
    assert_eq!(object["kind"], "PrometheusRule");
    let plain = golive(&["rules", "-f", &example, "--format", "prometheus"]);
    assert_eq!(
        object["spec"],
        serde_saphyr::from_str::<Value>(&plain).unwrap()
    );
    file(folder.path(), "rules.yaml", &plain);
    content(
        folder.path(),
        &["check", "rules", "--lint=all", "rules.yaml"],
    );

    let text = fs::read_to_string(example.as_str()).unwrap();
    let activation: Value = serde_saphyr::from_str(&text).unwrap();
    let wanted = activation["spec"]["observe"]["objectives"]
        .as_array()
        .unwrap();
    for format in ["sloth", "pyrra", "openslo"] {
        let exported = golive(&["rules", "-f", &example, "--format", format]);
        let path = file(folder.path(), format, &exported);
        let imported: Value =
            serde_saphyr::from_str(&golive(&["rules", "--import", &path])).unwrap();
        let imported = imported["observe"]["objectives"].as_array().unwrap();
        assert_eq!(imported, wanted, "{format}");
    }
}
