//! Rules of the repository that no compiler checks.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::path::{Path, PathBuf};

/// Files at this length are two files. Unit: lines.
const LONGEST: usize = 800;

/// Written by `golive` itself, from the types.
const GENERATED: &[&str] = &[
    "crds/",
    "docs/reference/activation.md",
    "install.yaml",
    "charts/golive/templates/crds.yaml",
];

/// Not ours, not text, or not kept.
const SKIPPED: &[&str] = &[".git", "target", ".golive", "bin", "Cargo.lock", "go.sum"];

/// What decides, or only describes: no I/O in it. `house.rs` holds which layer uses which.
const NO_IO: &[(&str, &[&str])] = &[
    ("src/flytoml", ASYNC),
    (
        "src/api",
        &["async fn", ".await", "tokio::", "std::net", "kube::Client"],
    ),
    ("src/exposition", PURE),
    ("src/ical", PURE),
    ("src/promql", PURE),
    ("src/slo", PURE),
    ("src/plan/gate.rs", ASYNC),
    ("src/plan/mod.rs", ASYNC),
    ("src/store/generated/decision.rs", ASYNC),
    ("src/status", PURE),
    ("src/pipeline/note.rs", PURE),
    ("src/phase/deploy/judge.rs", PURE),
    ("src/phase/deploy/command/run_state.rs", PURE),
    ("src/phase/deploy/fleet/health.rs", PURE),
    ("src/phase/deploy/fleet/readback.rs", PURE),
    ("src/phase/deploy/fleet/restart.rs", PURE),
    ("src/phase/deploy/fleet/retire.rs", PURE),
    ("src/phase/deploy/fleet/strategy.rs", PURE),
    ("src/phase/deploy/fleet/wanted.rs", PURE),
    ("src/phase/deploy/release/changes.rs", PURE),
    ("src/phase/integrations/judge.rs", PURE),
    ("src/phase/integrations/latency.rs", PURE),
    ("src/phase/releases/records.rs", PURE),
    ("src/phase/deploy/release/request.rs", PURE),
    ("src/phase/deploy/release/wanted.rs", PURE),
    ("src/webhook", PURE),
];

/// The one part of `src/status` that does I/O.
const WRITES_STATUS: &str = "src/status/write.rs";

/// What a module without I/O may not use.
const ASYNC: &[&str] = &["async fn", ".await", "kube::Client"];

/// What a decision may not use: it gets the time, and all that it decides about, as arguments.
const PURE: &[&str] = &[
    "async fn",
    "async {",
    "async move",
    ".await",
    "tokio::",
    "Client",
    "Timestamp::now",
    "Instant::now",
    "SystemTime",
    "rand::",
    "std::env",
    "std::fs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a path, or the file itself, with their names from the root.
fn files(below: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(below)];
    while let Some(path) = open.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if SKIPPED.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            open.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.exists() {
            let name = path
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .into_owned();
            found.push((name, path));
        }
    }
    found.sort();
    found
}

/// The files that are text, with their text.
fn texts(below: &str) -> Vec<(String, String)> {
    let files = files(below).into_iter();
    files
        .filter_map(|(name, path)| Some((name, std::fs::read_to_string(path).ok()?)))
        .collect()
}

fn is_code(name: &str) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default();
    ["rs", "go", "sh", "toml", "yaml", "md"]
        .iter()
        .any(|known| *known == extension)
}

/// The part of a source file before its unit tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    let long: Vec<String> = texts("")
        .into_iter()
        .filter(|(name, _)| is_code(name) && !GENERATED.iter().any(|g| name.starts_with(g)))
        .filter(|(_, text)| text.lines().count() > LONGEST)
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "split by behaviour: {long:#?}");
}

#[test]
fn what_decides_does_no_io() {
    for (module, banned) in NO_IO {
        let sources = texts(module);
        assert!(!sources.is_empty(), "{module} has moved; move its rule too");
        for (name, text) in sources {
            // A module of tests beside what it tests.
            if name.ends_with("tests.rs") || name == WRITES_STATUS {
                continue;
            }
            for word in *banned {
                let line = without_tests(&text)
                    .lines()
                    .find(|line| line.contains(word) && !line.trim_start().starts_with("//"));
                assert!(line.is_none(), "{name} must not use `{word}`: {line:?}");
            }
        }
    }
}

/// The body of each function of this name in a source file.
fn bodies<'a>(text: &'a str, function: &str) -> Vec<&'a str> {
    let starts = text.match_indices(function);
    starts
        .filter_map(|(at, _)| {
            let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
            let indent = &text[line..at];
            let end = format!("\n{indent}}}\n");
            let rest = &text[at..];
            // One without a body is the trait's own.
            let open = rest.find(['{', ';'])?;
            (indent.trim().is_empty() && rest[open..].starts_with('{'))
                .then(|| rest.split(&end).next())?
        })
        .collect()
}

#[test]
fn every_diff_decides_from_its_arguments_alone() {
    let mut seen = 0;
    for (name, text) in texts("src/phase") {
        for body in bodies(without_tests(&text), "fn diff(") {
            seen += 1;
            for word in PURE.iter().chain(&["cx.", "elapsed()"]) {
                assert!(
                    !body.contains(word),
                    "{name}: diff must not use `{word}`: {body}"
                );
            }
        }
    }
    // One for each step, and the one that passes the checks of the preflight on.
    assert!(seen >= 20, "only {seen} were found");
}

#[test]
fn a_body_ends_where_its_function_ends() {
    let text = "trait S {\n    fn diff(&self);\n}\nimpl S for A {\n    fn diff(&self) {\n        one\n    }\n\n    async fn act() {\n    }\n}\n";
    assert_eq!(bodies(text, "fn diff("), ["fn diff(&self) {\n        one"]);
}

/// The operator starts no other program: nothing in an object can become an argument of one.
#[test]
fn the_operator_starts_no_program() {
    for (name, text) in texts("src") {
        // In two parts, so that this rule does not find itself.
        for word in [concat!("Command", "::new"), concat!("process", "::Command")] {
            assert!(!text.contains(word), "{name} starts a program");
        }
    }
}

/// What reads the wall clock of this machine, which decides nothing: it may be wrong, jump, and differ
/// between replicas. `src/clock.rs` has the clocks of servers.
const WALL_CLOCKS: &[&str] = &[
    "Timestamp::now",
    "Zoned::now",
    "SystemTime::now",
    "Utc::now",
    "Local::now",
    "OffsetDateTime::now",
    "UNIX_EPOCH.elapsed",
    "clock_gettime",
    "gettimeofday",
    "clock::wall",
];

/// Who may use it: the clocks themselves; for texts, log lines and the times in a Lease; and `lint`, which
/// has no server to ask.
const MAY_READ_IT: &[&str] = &[
    "src/cli/lint/mod.rs",
    "src/clock.rs",
    "src/controller/operator.rs",
    "src/main.rs",
];

#[test]
fn nothing_but_the_clocks_reads_the_wall_clock() {
    for (name, text) in texts("src") {
        if MAY_READ_IT.contains(&name.as_str()) {
            continue;
        }
        for word in WALL_CLOCKS {
            assert!(!text.contains(word), "{name} must not use `{word}`");
        }
    }
}

/// A registry is somebody else's server. A pass that waits for one holds a worker, so a phase reads it in
/// the work that it gives to `Outside::ask`.
#[test]
fn no_phase_waits_for_a_registry() {
    let mut reads = 0;
    for (name, text) in texts("src/phase") {
        for line in text.lines().filter(|line| line.contains(".resolve_image(")) {
            let is_given_away = line.contains("|| async move {") && text.contains(".outside.ask");
            assert!(is_given_away, "{name}: {line}");
            reads += 1;
        }
    }
    assert!(reads >= 2, "{reads} reads");
}

/// A command in a machine takes as long as the machine likes: a phase runs it in the work that it gives
/// to `Outside::ask`.
#[test]
fn no_phase_waits_for_a_command_in_a_machine() {
    let mut given_away = 0;
    for (name, text) in texts("src/phase") {
        if !text.contains(".exec(") {
            continue;
        }
        // What the check of the database does is given away by the step that has it.
        let step = match name.strip_suffix("smoke_test/machine_command.rs") {
            Some(phase) => {
                let step = root().join(phase).join("smoke_test/database.rs");
                std::fs::read_to_string(step).unwrap()
            }
            None => text,
        };
        assert!(step.contains(".outside.ask"), "{name}");
        given_away += 1;
    }
    assert_eq!(given_away, 3);
}

#[test]
fn nothing_names_a_machine_it_was_written_on() {
    let home = concat!("/ho", "me/");
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        home,
        concat!("/Us", "ers/"),
    ];
    for (name, text) in texts("") {
        for (number, line) in text.lines().enumerate() {
            let named = words.iter().find(|word| line.contains(**word));
            assert!(named.is_none(), "{name}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn nothing_is_left_for_later_without_an_issue() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    for (name, text) in texts("") {
        let found = marks
            .iter()
            .find(|mark| is_code(&name) && text.contains(**mark));
        assert!(
            found.is_none(),
            "{name} has a {found:?}; file an issue instead"
        );
    }
}

#[test]
fn no_test_is_switched_off() {
    let ignored = concat!("#[ign", "ore");
    for (name, text) in texts("src")
        .into_iter()
        .chain(texts("tests"))
        .chain(texts("examples"))
    {
        if name.ends_with(".rs") {
            assert!(!text.contains(ignored), "{name} switches a test off");
        }
    }
}

#[test]
fn every_test_file_is_part_of_the_one_target() {
    for (name, path) in files("tests/it") {
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".rs") || name == "tests/it/main.rs" {
            continue;
        }
        // Who declares it: `main.rs` for a folder, the folder's `mod.rs` for a file in it.
        let folder = path.parent().unwrap();
        let (module, parent) = match module.as_str() {
            "mod" => (
                folder.file_name().unwrap().to_string_lossy().into_owned(),
                folder.parent().unwrap().join("main.rs"),
            ),
            _ => (module, folder.join("mod.rs")),
        };
        let declarations = std::fs::read_to_string(&parent).unwrap_or_default();
        assert!(
            declarations.contains(&format!("mod {module};")),
            "{name} is not declared in {}, so it never runs",
            parent.display()
        );
    }
}

#[test]
fn every_variable_in_the_manifests_is_a_setting() {
    let settings = std::fs::read_to_string(root().join("src/process/settings.rs")).unwrap();
    let charts = texts("charts/golive/templates");
    for (name, text) in texts("manifests").into_iter().chain(charts) {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for variable in words.filter(|word| word.starts_with("GOLIVE_")) {
            let known = settings.contains(&format!("\"{variable}\""));
            assert!(known, "{name} sets {variable}, which nothing reads");
        }
    }
}
