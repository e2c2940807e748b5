//! The planted bugs are up to date: `make test-planted` runs them.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{collections::BTreeSet, fs, path::Path};

use super::is_a_test;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_planted_bug_has_its_passage_and_changes_it() {
    let bugs = planted::list(root()).unwrap();
    let mut names = BTreeSet::new();
    for bug in &bugs {
        let (clean, planted) = bug.plant_into(root()).unwrap();
        assert_ne!(clean, planted, "{}", bug.name);
        assert!(names.insert(&bug.name), "twice: {}", bug.name);
    }
    assert!(bugs.len() >= 20, "only {} bugs", bugs.len());
}

#[test]
fn every_planted_bug_names_a_test_that_there_is() {
    for bug in planted::list(root()).unwrap() {
        let (module, name) = bug.caught_by.rsplit_once("::").unwrap();
        let inside = module.split("::tests").next().unwrap();
        let path = inside.replace("::", "/");
        let candidates = [format!("src/{path}.rs"), format!("src/{path}/mod.rs")];
        let tests = format!("src/{}", module.replace("::", "/"));
        let files = candidates
            .into_iter()
            .chain([format!("{tests}.rs"), format!("{tests}/mod.rs")]);
        let mut texts = files.filter_map(|file| fs::read_to_string(root().join(file)).ok());
        assert!(
            texts.any(|text| is_a_test(&text, name)),
            "{}",
            bug.caught_by
        );
    }
}
