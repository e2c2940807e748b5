//! The structure of `src/`, as `make house` measures it: one-way layers, no circles, functions that
//! fit on a screen, and decisions that do not depend on the wording of a message.

#![allow(clippy::expect_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use house::House;
use house::layers::{self, LAYERS};
use house::report::{LONG_FUNCTION, functions_by_length};

/// `src/`, read once.
static SRC: LazyLock<House> =
    LazyLock::new(|| House::read(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("src/ can be read"));

/// Most files in the root of `src/`.
const ROOT_FILES: usize = 6;

/// Functions that may be longer, as file, name and reason: tables and matches of plain values.
const LONG: &[(&str, &str, &str)] = &[];

/// Functions that may compare a text, as file, name and reason.
const READS_TEXT: &[(&str, &str, &str)] = &[
    (
        "src/causes.rs",
        "chain",
        "a cause that its parent's text contains is not printed again",
    ),
    (
        "src/cli/status/lines.rs",
        "told_by",
        "a text that a step's line says in full is not printed again",
    ),
    ("src/fly/call/classify.rs", "blocked", REFUSAL),
    ("src/fly/call/classify.rs", "expiry", REFUSAL),
    ("src/fly/call/classify.rs", "graphql", REFUSAL),
    ("src/fly/call/classify.rs", "machine_id", REFUSAL),
    ("src/fly/call/classify.rs", "needs_a_person", REFUSAL),
    ("src/fly/call/classify.rs", "no_room_on_host", REFUSAL),
    ("src/fly/call/classify.rs", "refused", REFUSAL),
    (
        "src/fly/check_output.rs",
        "status",
        "reads what Fly.io gives as text alone",
    ),
    ("src/fly/image.rs", "is_digest", "parses a digest"),
    (
        "src/fly/registry.rs",
        "Access::platform",
        "checks content against its digest",
    ),
    ("src/fly/wire.rs", "GoDuration::parse", "parses a duration"),
    (
        "src/net/probe.rs",
        "not_found",
        "the standard library keeps only the resolver's message",
    ),
    (
        "src/phase/deploy/fleet/readback.rs",
        "same_scalar",
        "compares a scalar that Fly.io returned as text",
    ),
    (
        "src/phase/evidence/last_lines.rs",
        "is_kernel",
        PLATFORM_LINE,
    ),
    (
        "src/phase/evidence/last_lines.rs",
        "is_platform",
        PLATFORM_LINE,
    ),
    ("src/phase/evidence/last_lines.rs", "own", PLATFORM_LINE),
    (
        "src/process/metrics/mod.rs",
        "resident_bytes",
        "parses /proc/self/status",
    ),
];

/// Why the lines of Fly.io in a log are found by their text.
const PLATFORM_LINE: &str = "Fly.io's own lines in a log have no other mark";

/// Why a refusal of Fly.io is read as text.
const REFUSAL: &str = "Fly.io's errors have a text and no code";

#[test]
fn no_file_is_part_of_a_circle() {
    let circles = SRC.circles().into_iter();
    let circles: Vec<Vec<&str>> = circles
        .map(|circle| circle.into_iter().map(|file| SRC.path(file)).collect())
        .collect();
    assert!(circles.is_empty(), "see `make house`: {circles:#?}");
}

#[test]
fn modules_only_use_what_lies_below_them() {
    let up: Vec<String> = SRC
        .arrows_up()
        .iter()
        .map(|arrow| SRC.describe(arrow))
        .collect();
    assert!(up.is_empty(), "see `make house`: {up:#?}");
}

#[test]
fn no_phase_uses_another_one() {
    let between = SRC.between_phases();
    assert!(between.is_empty(), "{between:#?}");
}

#[test]
fn the_layers_of_fly_know_no_kubernetes() {
    let known = SRC.kubernetes();
    assert!(known.is_empty(), "{known:#?}");
}

#[test]
fn every_file_is_in_a_layer_and_part_of_a_module() {
    let paths: Vec<&str> = SRC
        .sources
        .iter()
        .map(|source| source.path.as_str())
        .collect();
    let outside: Vec<&&str> = paths
        .iter()
        .filter(|path| layers::layer(path).is_none())
        .collect();
    assert!(outside.is_empty(), "no layer holds {outside:?}");
    let unreached = SRC.unreached.iter().map(|file| SRC.path(*file));
    let unreached: Vec<&str> = unreached.collect();
    assert!(unreached.is_empty(), "nothing declares {unreached:?}");
    let in_root = paths
        .iter()
        .filter(|path| path.matches('/').count() == 1)
        .count();
    assert!(in_root <= ROOT_FILES, "{in_root} files in the root of src");
    // A layer that is empty has moved.
    for name in LAYERS.iter().flat_map(|layer| layer.iter()) {
        let there = paths
            .iter()
            .any(|path| path.starts_with(&format!("src/{name}")));
        assert!(
            there,
            "there is no src/{name}; the list of layers is out of date"
        );
    }
}

#[test]
fn no_function_is_longer_than_one_can_read() {
    let long = functions_by_length(&SRC).into_iter();
    let long: Vec<(&str, &str)> = long
        .filter(|(_, function)| function.lines > LONG_FUNCTION)
        .map(|(path, function)| (path, function.name.as_str()))
        .collect();
    only_with_reason(&long, LONG, "has more than 80 lines");
}

#[test]
fn nothing_is_decided_by_the_text_of_a_message() {
    let found = SRC.text_decisions().into_iter();
    let found: Vec<(&str, &str)> = found
        .map(|(path, decision)| (path, decision.function.as_str()))
        .collect();
    only_with_reason(&found, READS_TEXT, "compares a text for people");
}

/// Fails for what is found without being listed, and for what is listed without being found.
fn only_with_reason(found: &[(&str, &str)], listed: &[(&str, &str, &str)], what: &str) {
    let found: BTreeSet<_> = found.iter().collect();
    let listed: BTreeSet<_> = listed
        .iter()
        .map(|(path, name, _)| (*path, *name))
        .collect();
    let new: Vec<_> = found.iter().filter(|f| !listed.contains(**f)).collect();
    assert!(new.is_empty(), "{what}, see `make house`: {new:#?}");
    let stale: Vec<_> = listed
        .iter()
        .filter(|listed| !found.contains(listed))
        .collect();
    assert!(stale.is_empty(), "needs no exception any more: {stale:#?}");
}
