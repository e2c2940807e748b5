//! Real objects, as `kubectl get -o json` printed them in a local world, and what is said of them.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::path::PathBuf;

use super::*;
use crate::api::Activation;
use crate::cli::list;

/// Set to write the expected texts instead of comparing them.
const UPDATE: &str = "GOLIVE_UPDATE_GOLDEN";

const ALL: [&str; 6] = ["broken", "gated", "live", "paused", "planned", "updating"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/cli/status/testdata")
}

fn object(name: &str) -> Activation {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).expect(name);
    serde_json::from_str(&text).expect(name)
}

/// Five minutes after the objects were made.
fn now(object: &Activation) -> Timestamp {
    let created = object.metadata.creation_timestamp.as_ref().unwrap().0;
    Timestamp::from_second(created.as_second() + 300).unwrap()
}

fn text(name: &str, wide: bool) -> String {
    let object = object(name);
    Paint(false).text(&lines(&report(&object), now(&object), wide))
}

fn is_as_recorded(file: &str, found: &str) {
    let path = folder().join(file);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, found).expect(file);
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, recorded, "{file}: {UPDATE}=1 writes it");
}

#[test]
fn the_tree_of_each_recorded_object_is_the_recorded_text() {
    for name in ALL {
        is_as_recorded(&format!("{name}.txt"), &text(name, false));
    }
    is_as_recorded("updating-wide.txt", &text("updating", true));
}

#[test]
fn the_table_of_all_recorded_objects_is_the_recorded_text() {
    let objects: Vec<Activation> = ALL.map(object).into();
    let reports: Vec<StatusReport> = objects.iter().map(report).collect();
    let table = list::rows(&reports, now(&objects[0]), true, true);
    is_as_recorded("list.txt", &Paint(false).text(&table));
}

#[test]
fn what_is_fine_is_hidden_and_what_is_not_comes_first() {
    let objects = ["live", "updating"].map(object);
    let reports: Vec<StatusReport> = objects.iter().map(report).collect();
    assert!(reports[0].is_fine() && !reports[1].is_fine());
    let lines: Vec<String> = all(&reports, now(&objects[0]), false)
        .iter()
        .map(Line::text)
        .collect();
    assert_eq!(
        lines.last().unwrap(),
        "✓ shop/live is live  https://hola-cabanas.fly.dev  1 note"
    );
    assert!(lines[0].starts_with("shop/live"));
    assert!(!text("live", false).contains("EdgeChecks"));
    assert!(text("updating", true).contains("AppNameAvailable"));
}

#[test]
fn a_long_text_is_said_once_and_referred_to() {
    let long = format!(
        "release 2 serves again, because {}",
        "it failed ".repeat(20)
    );
    let long = long.trim();
    let object: Activation = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "shop", "namespace": "prod", "generation": 1},
        "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
        "status": {
            "observedGeneration": 1,
            "conditions": [{"type": "Stalled", "status": "True", "reason": "RolledBack",
                "message": format!("Deploy: Release: {long}"),
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "phases": [{"name": "Deploy", "state": "Failed", "reason": "RolledBack", "message": format!("Release: {long}"),
                "steps": [{"name": "Release", "state": "Blocked", "reason": "RolledBack", "message": long}]}],
        },
    }))
    .unwrap();
    let now = "2026-01-01T00:05:00Z".parse().unwrap();
    let text = Paint(false).text(&lines(&report(&object), now, false));
    assert_eq!(text.matches("it failed it failed").count(), 10, "{text}");
    assert!(
        text.contains("Deploy: Release: RolledBack, which the step below says in full"),
        "{text}"
    );
    assert!(
        text.contains("Deploy/Release: RolledBack, as said above"),
        "{text}"
    );
}

#[test]
fn the_site_and_the_spec_are_told_apart() {
    let updating = report(&object("updating"));
    assert_eq!(updating.site.state, SiteState::Live);
    assert_eq!(updating.spec.state, SpecState::Progressing);
}

#[test]
fn a_spec_that_was_not_observed_yet_says_nothing_of_an_earlier_one() {
    let mut live = object("live");
    live.metadata.generation = live.metadata.generation.map(|generation| generation + 1);
    let report = report(&live);
    assert_eq!(report.spec.state, SpecState::NotObserved);
    assert_eq!(report.site.state, SiteState::Live);
    live.status = None;
    let new = super::report(&live);
    assert_eq!(new.spec.state, SpecState::NotObserved);
    assert_eq!(new.site.state, SiteState::Unknown);
}

/// What is said of a stopped object after an annotation was set or removed.
fn stopped(reason: &str, annotations: &serde_json::Value, handled: Option<&str>) -> SpecState {
    let object: Activation = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "shop", "generation": 2, "annotations": annotations},
        "spec": {"organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"}},
        "status": {"observedGeneration": 2, "lastHandledRetry": handled, "conditions": [
            {"type": "Stalled", "status": "True", "reason": reason, "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]},
    }))
    .unwrap();
    report(&object).spec.state
}

#[test]
fn what_was_said_before_a_request_is_not_said_of_what_follows() {
    use serde_json::json;
    let time = "2026-01-01T00:01:00Z";
    let all = json!({"golive.dev/retry": time});
    let from = json!({"golive.dev/retry-from": format!("Deploy/{time}")});
    for (annotations, handled, state) in [
        (&all, None, SpecState::NotObserved),
        (&all, Some("2026-01-01T00:00:30Z"), SpecState::NotObserved),
        (&all, Some(time), SpecState::Stopped),
        (&from, None, SpecState::NotObserved),
        (
            &from,
            Some("Deploy/2026-01-01T00:01:00Z"),
            SpecState::Stopped,
        ),
        (
            &json!({"golive.dev/retry": "by hand"}),
            None,
            SpecState::Stopped,
        ),
        (&json!({}), None, SpecState::Stopped),
    ] {
        let found = stopped("NotHealthy", annotations, handled);
        assert_eq!(found, state, "{annotations} {handled:?}");
    }
    let aborted = json!({"golive.dev/abort": "sha256:a"});
    assert_eq!(stopped("Aborted", &aborted, None), SpecState::Stopped);
    assert_eq!(stopped("Aborted", &json!({}), None), SpecState::NotObserved);

    let mut paused = object("paused");
    assert_eq!(report(&paused).spec.state, SpecState::Suspended);
    paused.metadata.generation = paused.metadata.generation.map(|generation| generation + 1);
    assert_eq!(report(&paused).spec.state, SpecState::Suspended);
    paused.spec.suspend = false;
    assert_eq!(report(&paused).spec.state, SpecState::NotObserved);
}

#[test]
fn the_next_command_follows_from_the_state() {
    for (name, command) in [
        ("gated", Some("kubectl golive approve gated -n shop")),
        ("paused", Some("kubectl golive resume paused -n shop")),
        ("broken", Some("kubectl golive explain SecretNotFound")),
        ("live", None),
        ("updating", None),
    ] {
        assert_eq!(
            report(&object(name)).next_command.as_deref(),
            command,
            "{name}"
        );
    }
}

/// The fields that `docs/kubectl-golive.md` lists are the ones that are printed.
#[test]
fn every_field_of_the_document_is_in_the_documentation() {
    let page = std::fs::read_to_string(
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/kubectl-golive.md"),
    )
    .unwrap();
    let document = serde_json::to_value(report(&object("gated"))).unwrap();
    for field in document.as_object().unwrap().keys() {
        assert!(
            page.contains(&format!("`{field}`")),
            "{field} is not documented"
        );
    }
}
