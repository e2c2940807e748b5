//! The pages and examples for users say what the code says.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::fs;
use std::path::Path;

use golive::api::{Activation, Reason};
use golive::flytoml;
use serde_json::Value;

fn root(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every object in every example, with the name of its file.
fn examples() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    names
        .filter(|name| name.ends_with(".yaml"))
        .flat_map(|name| {
            let text = root(&format!("examples/{name}"));
            let objects: Vec<_> = text
                .split("\n---\n")
                .map(|part| (name.clone(), serde_saphyr::from_str(part).unwrap()))
                .collect();
            objects
        })
        .collect()
}

#[test]
fn every_reason_is_explained_to_the_person_who_meets_it() {
    let page = root("docs/tasks/recover-from-failures.md");
    let missing: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .filter(|reason| !page.contains(&format!("`{reason}`")))
        .collect();
    assert_eq!(
        missing, [""; 0],
        "add a row to docs/tasks/recover-from-failures.md: what it means, and what to do"
    );
}

/// A reason that nothing sets is a promise to whoever writes an alert on it.
#[test]
fn every_reason_is_given_for_something() {
    fn read(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, all);
            } else if !path.ends_with("api/reason.rs") {
                let text = fs::read_to_string(&path).unwrap();
                all.push_str(text.split("\nmod tests {").next().unwrap_or_default());
            }
        }
    }
    let mut source = String::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut source,
    );
    let words: std::collections::BTreeSet<&str> = source
        .split("Reason::")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next())
        .collect();
    let unused: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| reason.as_str())
        // What is not known otherwise: the default.
        .filter(|reason| *reason != Reason::default().as_str())
        .filter(|reason| !words.contains(reason))
        .collect();
    assert_eq!(
        unused, [""; 0],
        "use them where they are true, or remove them"
    );
}

#[test]
fn every_field_of_an_example_is_known_and_none_is_lost() {
    let activations: Vec<_> = examples()
        .into_iter()
        .filter(|(_, object)| object["kind"] == "Activation")
        .collect();
    assert!(activations.len() >= 4);
    for (name, written) in activations {
        let read: Activation = serde_json::from_value(written.clone()).unwrap();
        let read = serde_json::to_value(read).unwrap();
        assert_contains(&name, &read["spec"], &written["spec"]);
    }
}

/// Whether everything that is written stands in what was read; defaults may have come in addition.
fn assert_contains(place: &str, read: &Value, written: &Value) {
    match written {
        Value::Object(fields) => {
            for (name, value) in fields {
                // Empty lists are left out when they are written again.
                if !value.as_array().is_some_and(Vec::is_empty) {
                    assert_contains(&format!("{place}.{name}"), &read[name], value);
                }
            }
        }
        Value::Array(items) => {
            for (number, value) in items.iter().enumerate() {
                assert_contains(&format!("{place}[{number}]"), &read[number], value);
            }
        }
        value => assert_eq!(read, value, "{place}"),
    }
}

#[test]
fn every_fly_toml_in_an_example_is_valid_and_gives_no_warning() {
    let mut seen = 0;
    for (name, object) in examples() {
        let texts = [
            &object["data"]["fly.toml"],
            &object["spec"]["deploy"]["config"]["inline"],
        ];
        for text in texts.into_iter().filter_map(Value::as_str) {
            let parsed = flytoml::parse(text).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert!(parsed.warnings.is_empty(), "{name}: {:?}", parsed.warnings);
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

/// The commands of the page, with the lines that go on with them.
fn commands(page: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in page.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push(command.to_owned());
        } else if let (true, Some(more), Some(last)) =
            (goes_on, line.strip_prefix("> "), all.last_mut())
        {
            last.push('\n');
            last.push_str(more);
        }
        goes_on = line.starts_with("$ ") || (goes_on && line.starts_with("> "));
    }
    all
}

#[test]
fn the_day_of_a_team_uses_commands_and_flags_that_exist() {
    let page = root("docs/tasks/a-day-with-golive.md");
    let mut seen = std::collections::BTreeSet::new();
    for command in commands(&page) {
        for part in command.split("kubectl golive ").skip(1) {
            let part = part.split(['|', ';', '&', '>', '\n', ')']).next().unwrap();
            let mut words = part.split_whitespace();
            let name = words.next().unwrap();
            let help = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-golive"))
                .args([name, "--help"])
                .output()
                .unwrap();
            assert!(
                help.status.success(),
                "there is no command {name}: {command}"
            );
            let help = String::from_utf8(help.stdout).unwrap();
            for flag in words.filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag), "{name} has no {flag}: {command}");
            }
            seen.insert(name.to_owned());
        }
    }
    for name in [
        "status", "watch", "wait", "plan", "approve", "history", "rotate", "suspend", "resume",
        "events", "logs", "list", "lint", "explain",
    ] {
        assert!(seen.contains(name), "the day has no {name}");
    }
    for failed in [
        "error: unrecognized",
        "error: unexpected",
        "command not found",
    ] {
        assert!(
            !page.contains(failed),
            "`make day` was written with a failure: {failed}"
        );
    }
}

#[test]
fn the_pictures_of_commands_are_text_and_light() {
    let readme = root("README.md");
    for name in ["status", "watch", "approve"] {
        let file = format!("docs/images/{name}.svg");
        let picture = root(&file);
        assert!(readme.contains(&file), "README.md does not show {file}");
        assert!(picture.len() < 60_000, "{file} has {} bytes", picture.len());
        assert!(picture.matches("<text ").count() > 5, "{file} has no text");
        assert!(picture.contains("kubectl golive"), "{file}");
        assert!(!picture.contains("error:"), "{file} shows a failure");
    }
}
