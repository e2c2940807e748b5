//! What must hold for every value of every key: each golden file with one of its values replaced.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fly_sim::machine::config::read;
use serde_json::json;
use toml_edit::{DocumentMut, Item, Value};

use crate::flytoml::*;

/// The valid golden files.
fn files() -> Vec<(String, String)> {
    let testdata = concat!(env!("CARGO_MANIFEST_DIR"), "/src/flytoml/testdata");
    let mut files: Vec<(String, String)> = std::fs::read_dir(testdata)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .filter(|(name, _)| !name.starts_with("bad-"))
        .collect();
    files.sort();
    files
}

/// Calls `f` for each value that is no table, with the path of its key.
fn values(item: &mut Item, at: &str, f: &mut impl FnMut(&str, &mut Item)) {
    if let Some(tables) = item.as_array_of_tables_mut() {
        for table in tables.iter_mut() {
            for (key, item) in table.iter_mut() {
                values(item, &format!("{at}.{}", key.get()), f);
            }
        }
    } else if item.is_table() {
        for (key, item) in item.as_table_mut().unwrap().iter_mut() {
            values(item, &format!("{at}.{}", key.get()), f);
        }
    } else {
        f(at, item);
    }
}

/// Every document that has one value replaced by this one, with the key.
fn replaced(text: &str, by: &Value) -> Vec<(String, String)> {
    let count = {
        let mut count = 0;
        let mut document: DocumentMut = text.parse().unwrap();
        values(document.as_item_mut(), "", &mut |_, _| count += 1);
        count
    };
    (0..count)
        .map(|wanted| {
            let mut document: DocumentMut = text.parse().unwrap();
            let (mut index, mut at) = (0, String::new());
            values(document.as_item_mut(), "", &mut |path, item| {
                if index == wanted {
                    at = path.to_owned();
                    *item = Item::Value(by.clone());
                }
                index += 1;
            });
            (at, document.to_string())
        })
        .collect()
}

fn errors(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(invalid) => {
            let errors = invalid.problems.iter();
            errors
                .filter(|problem| problem.severity == Severity::Error)
                .map(Problem::to_string)
                .collect()
        }
    }
}

#[test]
fn a_value_of_the_wrong_type_is_one_error_and_does_not_also_count_as_missing() {
    // No key is a date, and the environment and old names hold it as text.
    let date = Value::from(
        "1979-05-27T07:32:00Z"
            .parse::<toml_edit::Datetime>()
            .unwrap(),
    );
    let mut tried = 0;
    let mut wrong = Vec::new();
    for (name, text) in files() {
        for (key, text) in replaced(&text, &date) {
            let errors = errors(&text);
            tried += errors.len();
            if errors.len() > 1 && key != ".processes.name" {
                wrong.push(format!("{name}: {key}: {errors:#?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 200, "only {tried} errors");
}

#[test]
fn what_is_accepted_is_accepted_by_fly_whatever_the_value() {
    let mut accepted = 0;
    for (name, text) in files() {
        for by in [
            Value::from(""),
            Value::from("x"),
            Value::from("my-data"),
            Value::from("9m"),
            Value::from("1ms"),
            Value::from("512mb"),
            Value::from(0),
            Value::from(-1),
            Value::from(3),
            Value::from(70_000),
            Value::from(true),
        ] {
            for (key, text) in replaced(&text, &by) {
                let Ok(parsed) = parse(&text) else { continue };
                accepted += 1;
                for machine in machines(&parsed.config) {
                    let told = read(&machine).err().map(|error| error.message);
                    assert_eq!(told, None, "{name}: {key} = {by}\n{text}");
                }
            }
        }
    }
    assert!(accepted > 500, "only {accepted} were accepted");
}

/// Every machine that the file leads to, as it is sent.
fn machines(config: &AppConfig) -> Vec<serde_json::Value> {
    let context = Context {
        image: "registry.fly.io/app:1",
        ..Context::default()
    };
    let groups = config.machine_configs(&context).unwrap();
    let mut machines: Vec<serde_json::Value> = Vec::new();
    for (group, machine) in &groups {
        machines.push(json!(machine));
        for test in config.machine_tests_of(group) {
            let tester = config.test_machine_config(&test, &context, machine, "fdaa::1");
            machines.push(json!(tester.unwrap()));
        }
    }
    if config.deploy.release_command.is_some() {
        machines.push(json!(
            config.release_machine_config(&context, None).unwrap()
        ));
    }
    machines
}
