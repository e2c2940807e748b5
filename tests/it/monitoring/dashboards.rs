//! The dashboards, as far as they can be checked without Grafana.
//!
//! The rules are those of Grafana's published JSON schema (grafana/grafana-foundation-sdk,
//! `jsonschema/dashboard.jsonschema.json`, `stat`, `table`, `timeseries`, `prometheus`), for what these dashboards
//! use, and what the schema leaves open: that nothing overlaps, and that each variable exists. What Grafana draws
//! is not seen here.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::env::root;

/// The files.
const FILES: [&str; 2] = ["golive-fleet.json", "golive-activation.json"];

/// Units of Grafana (`packages/grafana-data/src/valueFormats/categories.ts`).
const UNITS: &[&str] = &["s", "percentunit", "reqps", "ops", "bytes"];

/// The dashboards with their names.
pub fn dashboards() -> Vec<(&'static str, Value)> {
    let read = |name| {
        let path = root().join("manifests/monitoring/dashboards").join(name);
        (
            name,
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap(),
        )
    };
    FILES.into_iter().map(read).collect()
}

/// Every query with the title of its panel.
pub fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().unwrap().clone();
        let one = move |target: Value| (title.clone(), target["expr"].as_str().unwrap().to_owned());
        targets.into_iter().map(one)
    });
    queries.collect()
}

/// Whether an object has these fields at least, and no others than these.
fn has_only(object: &Value, needed: &[&str], others: &[&str]) {
    let fields: Vec<&str> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for field in needed {
        assert!(fields.contains(field), "{field} is missing: {object}");
    }
    for field in &fields {
        assert!(
            needed.contains(field) || others.contains(field),
            "{field}: {object}"
        );
    }
}

fn is_of_the_variable(source: &Value) {
    has_only(source, &["type", "uid"], &[]);
    assert_eq!(
        (&source["type"], &source["uid"]),
        (&"prometheus".into(), &"${datasource}".into())
    );
}

#[test]
fn the_parts_of_a_dashboard_are_those_of_grafanas_schema() {
    for (_, dashboard) in dashboards() {
        let needed = [
            "schemaVersion",
            "templating",
            "annotations",
            "uid",
            "title",
            "panels",
        ];
        let others = [
            "description",
            "tags",
            "timezone",
            "editable",
            "graphTooltip",
            "time",
            "refresh",
            "version",
            "links",
        ];
        has_only(&dashboard, &needed, &others);
        let uid = dashboard["uid"].as_str().unwrap();
        assert!((8..=40).contains(&uid.len()), "{uid}");
        assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
        has_only(&dashboard["time"], &["from", "to"], &[]);
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let others = [
                "label",
                "query",
                "datasource",
                "hide",
                "includeAll",
                "multi",
                "options",
                "refresh",
                "regex",
                "skipUrlSync",
                "sort",
            ];
            has_only(variable, &["type", "name"], &others);
            assert!(["datasource", "query"].contains(&variable["type"].as_str().unwrap()));
            assert!(variable["query"].is_string(), "{variable}");
        }
    }
}

#[test]
fn the_panels_are_those_of_grafanas_schema() {
    for (_, dashboard) in dashboards() {
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let needed = [
                "id",
                "type",
                "title",
                "datasource",
                "gridPos",
                "targets",
                "fieldConfig",
                "options",
            ];
            has_only(panel, &needed, &["description", "transformations"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
            assert!(["stat", "table", "timeseries"].contains(&panel["type"].as_str().unwrap()));
            is_of_the_variable(&panel["datasource"]);
            has_only(&panel["fieldConfig"], &["defaults", "overrides"], &[]);
            let defaults = &panel["fieldConfig"]["defaults"];
            has_only(defaults, &[], &["unit", "mappings", "thresholds", "color"]);
            if let Some(unit) = defaults["unit"].as_str() {
                assert!(UNITS.contains(&unit), "{unit}");
            }
            if let Some(steps) = defaults["thresholds"]["steps"].as_array() {
                // The first is minus infinity, which Grafana writes as null.
                assert!(
                    steps[0]["value"].is_null()
                        && steps[1..].iter().all(|s| s["value"].is_number())
                );
            }
            let mut names = BTreeSet::new();
            for target in panel["targets"].as_array().unwrap() {
                let others = ["legendFormat", "instant", "range", "format"];
                has_only(target, &["refId", "expr", "datasource"], &others);
                is_of_the_variable(&target["datasource"]);
                assert!(names.insert(target["refId"].as_str().unwrap()), "{target}");
            }
        }
    }
}

#[test]
fn panels_lie_on_the_grid_and_none_on_another() {
    for (_, dashboard) in dashboards() {
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            has_only(&panel["gridPos"], &["x", "y", "w", "h"], &[]);
            assert!(
                at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24,
                "{panel}"
            );
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{} lies on another", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn every_variable_of_a_query_is_declared() {
    for (name, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let declared: Vec<String> = variables
            .iter()
            .map(|variable| variable["name"].as_str().unwrap().to_owned())
            .collect();
        let used = queries(&dashboard).into_iter().map(|(_, query)| query);
        let used = used.chain(
            variables
                .iter()
                .map(|v| v["query"].as_str().unwrap().to_owned()),
        );
        for query in used {
            for part in query.split('$').skip(1) {
                let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let variable = &part[..end.unwrap_or(part.len())];
                assert!(
                    declared.iter().any(|one| one == variable),
                    "{name}: ${variable}"
                );
            }
        }
    }
}
