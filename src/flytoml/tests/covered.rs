//! Every key that the page says is read is in a case that a real flyctl deployed, in its own
//! section and in its own spelling.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use serde_json::Value;

use super::recorded::cases;

/// The rows of the table, and where in a file the keys of each stand. All places must be covered.
const PLACES: &[(&str, &[&str])] = &[
    ("top level", &[""]),
    ("`[env]`", &["env"]),
    ("`[processes]`", &["processes"]),
    ("`[http_service]`", &["http_service"]),
    ("`[[services]]`", &["services"]),
    ("ports", &["services.ports"]),
    (
        "checks of services",
        &[
            "http_service.checks",
            "services.http_checks",
            "services.tcp_checks",
        ],
    ),
    ("`[checks.NAME]`", &["checks.NAME"]),
    (
        "`machine_checks`",
        &[
            "http_service.machine_checks",
            "services.machine_checks",
            "machine_checks",
        ],
    ),
    ("`[[mounts]]`", &["mounts"]),
    ("`[[vm]]`", &["vm"]),
    ("`[[restart]]`", &["restart"]),
    ("`[[files]]`", &["files"]),
    ("`[[statics]]`", &["statics"]),
    ("`[[metrics]]`", &["metrics"]),
    ("`[deploy]`", &["deploy"]),
    ("`[build]`", &["build"]),
    ("`[experimental]`", &["experimental"]),
];

/// What the page says of old spellings, and the paths that show one.
const OLD: &[(&str, &[&str])] = &[
    ("`[[env]]` as a list", &["env: list"]),
    (
        "`[[processes]]` with `name` and `command`",
        &["processes: list", "processes.name", "processes.command"],
    ),
    ("`[services]` as one table", &["services: table"]),
    ("`concurrency = \"20,25\"`", &["services.concurrency: text"]),
    ("ports as strings", &["services.ports.port: text"]),
    (
        "headers as a list of `name` and `value`",
        &["headers: list", "headers.name", "headers.value"],
    ),
    ("`[[checks]]` with `name`", &["checks: list", "checks.name"]),
    ("`[compute]` and `[computes]`", &["compute", "computes"]),
    ("`[mount]`", &["mount"]),
    ("`[metric]`", &["metric"]),
    ("`build_target`", &["build.build_target"]),
    (
        "`kill_timeout`, `metrics_port`, `metrics_path` in `[experimental]`",
        &[
            "experimental.kill_timeout",
            "experimental.metrics_port",
            "experimental.metrics_path",
        ],
    ),
];

/// All paths of a file, and beside each the kind of value that stands there.
fn paths(value: &Value, at: &str, all: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Object(_) => "table",
        Value::Array(_) => "list",
        Value::String(_) => "text",
        _ => "other",
    };
    // Headers stand at many places, and are spelled alike everywhere.
    let short = at.rsplit_once(".headers").map_or(at, |_| "headers");
    for at in [at, short] {
        all.insert(at.to_owned());
        all.insert(format!("{at}: {kind}"));
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                // What is below `checks` is named by the user.
                let key = if at == "checks" && value.is_object() {
                    "NAME"
                } else {
                    key.as_str()
                };
                let at = if at.is_empty() {
                    key.to_owned()
                } else {
                    format!("{at}.{key}")
                };
                paths(value, &at, all);
                if let Some((_, below)) = at.rsplit_once(".headers.") {
                    all.insert(format!("headers.{below}"));
                }
            }
        }
        // The kind of the list was told; of what is in it only the keys count.
        Value::Array(items) => {
            for (key, value) in items.iter().filter_map(Value::as_object).flatten() {
                paths(value, &format!("{at}.{key}"), all);
                if at.ends_with(".headers") {
                    all.insert(format!("headers.{key}"));
                }
            }
        }
        _ => {}
    }
}

/// The keys of a cell: what is between backticks, and in brackets behind a key what stands below it.
fn keys(cell: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    let mut below: Option<String> = None;
    let mut prose = false;
    let pieces: Vec<&str> = cell.split('`').collect();
    for (index, piece) in pieces.iter().enumerate() {
        if index % 2 == 0 {
            if piece.contains(')') {
                (below, prose) = (None, false);
            }
            match piece.rsplit_once('(') {
                Some((_, "")) => below = keys.last().cloned(),
                Some((_, rest)) if !rest.contains(')') => prose = true,
                _ => {}
            }
        } else if !prose {
            keys.push(match &below {
                Some(parent) => format!("{parent}.{piece}"),
                None => (*piece).to_owned(),
            });
        }
    }
    keys
}

#[test]
fn the_cases_that_flyctl_deployed_use_every_key_that_we_read_in_its_section() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fly-toml.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("## What is read").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let mut used = BTreeSet::new();
    for case in cases() {
        let read: Value = toml_edit::de::from_str(&case.toml).unwrap();
        paths(&read, "", &mut used);
    }
    let mut missing = Vec::new();
    let mut count = 0;
    let mut of_services = Vec::new();
    let mut want = |path: String, missing: &mut Vec<String>| {
        count += 1;
        if !used.contains(&path) {
            missing.push(path);
        }
    };
    for row in section.lines().filter(|line| line.starts_with('|')).skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let places = PLACES.iter().find(|(label, _)| {
            let rest = cells[1].strip_prefix(label);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
        });
        let (label, places) = places.unwrap_or_else(|| panic!("where are the keys of {row}"));
        let mut keys_ = keys(cells[2]);
        if *label == "checks of services" {
            of_services.clone_from(&keys_);
        }
        if cells[2].starts_with("the same") {
            keys_.extend(of_services.clone());
        }
        for place in *places {
            let tcp = *place == "services.tcp_checks";
            let only = keys(cells[2].split("; HTTP also").next().unwrap());
            for key in if tcp { &only } else { &keys_ } {
                let at = if place.is_empty() {
                    key.clone()
                } else {
                    format!("{place}.{key}")
                };
                want(at, &mut missing);
            }
            if keys_.is_empty() {
                want(format!("{place}: table"), &mut missing);
            }
        }
    }
    for (words, paths) in OLD {
        assert!(section.contains(words), "the page does not say {words}");
        for path in *paths {
            want((*path).to_owned(), &mut missing);
        }
    }
    assert!(count > 150, "the page has only {count} keys");
    assert!(missing.is_empty(), "in no case: {missing:#?}");
}
