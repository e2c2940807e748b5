//! SmokeTest: checks through the public edge, and of the database from inside.

#![allow(clippy::panic, reason = "a helper fails its test by a panic")]

use fly_sim::{Fault, Kind};
use golive::api::{ActivationStatus, status::SmokeTestResult};
use serde_json::{Value, json};

use crate::support::env::{Env, is, message, reason};

const EXEC: &str = "POST /v1/apps/{app}/machines/{id}/exec";

/// A check that is decided after few attempts.
fn quick(check: Value) -> Value {
    let mut whole = json!({"interval": "1s", "count": 2, "failureLimit": 1});
    crate::support::env::merge(&mut whole, check);
    whole
}

/// An activation with a database, these checks, and the shortest deadline.
async fn with_checks(env: &Env, checks: &[Value]) {
    with_checks_and(env, checks, json!({})).await;
}

async fn with_checks_and(env: &Env, checks: &[Value], more: Value) {
    env.secret(
        "db",
        &[("url", "postgres://hola:made-up-8d1f@db.example.com/hola")],
    )
    .await;
    let checks: Vec<Value> = checks.iter().cloned().map(quick).collect();
    let mut spec = json!({
        "provision": {"postgres": {"external": {"urlSecretRef": {"name": "db", "key": "url"}}}},
        "smokeTest": {"deadline": "10s", "checks": checks},
    });
    crate::support::env::merge(&mut spec, more);
    env.activation("hola", spec).await;
}

fn told<'s>(status: &'s ActivationStatus, name: &str) -> &'s SmokeTestResult {
    let mut checks = status.smoke_test.iter();
    checks
        .find(|check| check.check == name)
        .unwrap_or_else(|| panic!("{name} is not reported: {:?}", status.smoke_test))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_is_made_from_the_edge_and_told_with_its_way_and_time() {
    let env = Env::start().await;
    let checks = [
        json!({"name": "health", "http": {"path": "/api/v1/healthz"}}),
        json!({"name": "homepage", "http": {
            "path": "/", "header": {"name": "content-type", "contains": "text/html"},
        }}),
        json!({"name": "head", "http": {"path": "/", "method": "HEAD"}}),
        json!({"name": "metrics", "metrics": {"contains": ["http_requests_total"]}}),
        json!({"name": "port", "tcp": {"port": 443}}),
        json!({"name": "database", "database": {"command": ["true"]}}),
    ];
    with_checks(&env, &checks).await;

    let status = env.wait_live("hola").await;

    for (name, path) in [
        ("health", "http /api/v1/healthz"),
        ("homepage", "http /"),
        ("head", "http /"),
        ("metrics", "metrics /metrics"),
        ("port", "tcp 443"),
        ("database", "exec true"),
    ] {
        let check = told(&status, name);
        assert_eq!(check.result.as_str(), "Passed", "{check:?}");
        assert_eq!(check.path.as_deref(), Some(path));
        assert!(
            check.duration_ms.is_some() && check.time.is_some(),
            "{check:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failing_check_is_named_nothing_of_a_page_is_told_and_mending_goes_live() {
    let env = Env::start().await;
    let checks = [
        json!({"name": "health", "http": {"path": "/api/v1/healthz"}}),
        json!({"name": "homepage", "http": {"path": "/", "bodyContains": "nobody wrote this"}}),
        json!({"name": "metrics", "metrics": {"path": "/"}}),
        json!({"name": "missing", "http": {"path": "/nowhere"}}),
    ];
    with_checks(&env, &checks).await;

    let status = env.wait_for("hola", "SmokeTested", "False").await;

    assert_eq!(reason(&status, "Ready"), "SmokeCheckFailed");
    assert!(is(&status, "Live", "Unknown"), "it was never live");
    let text = message(&status, "SmokeTested");
    for part in [
        "homepage",
        "metrics",
        "missing",
        "answered 404",
        "https://hola-cabanas.fly.dev",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("health ("), "{text}");
    assert!(!serde_json::to_string(&status).unwrap().contains("<html"));
    assert_eq!(told(&status, "health").result.as_str(), "Passed");
    let events = env.wait_event("hola", "SmokeCheckFailed").await;
    assert!(
        events.iter().any(|event| event.0 == "Warning"),
        "{events:?}"
    );

    let only = [quick(
        json!({"name": "health", "http": {"path": "/api/v1/healthz"}}),
    )];
    env.patch("hola", json!({"spec": {"smokeTest": {"checks": only}}}))
        .await;
    let status = env.wait_live("hola").await;
    assert_eq!(status.smoke_test.len(), 1, "{:?}", status.smoke_test);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_command_that_fails_is_a_failure_and_no_fallback_hides_it() {
    let env = Env::start().await;
    let check = json!({
        "name": "database", "database": {"command": ["false"]}, "fallbacks": [{"http": {"path": "/"}}],
    });
    with_checks(&env, &[check]).await;

    let status = env.wait_for("hola", "SmokeTested", "False").await;

    let told = told(&status, "database");
    assert_eq!(told.path.as_deref(), Some("exec false"));
    assert_eq!(told.message, "exited with 1");
    assert!(!is(&status, "Live", "True"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_exec_the_database_is_proven_indirectly_and_the_report_says_so() {
    let database = || {
        json!({
            "name": "database", "database": {"command": ["true"]},
            // The first proves nothing: its page is the same without a database.
            "fallbacks": [
                {"http": {"path": "/"}},
                {"http": {"path": "/api/v1/readyz", "bodyContains": "ok"}},
                {"metrics": {}},
            ],
        })
    };
    for status in [404, 501, 500, 403] {
        let env = Env::start().await;
        env.sim
            .fault(Fault::new(EXEC, Kind::status(status)).always());
        with_checks(&env, &[database()]).await;

        let live = env.wait_live("hola").await;

        let told = told(&live, "database");
        assert_eq!(
            told.path.as_deref(),
            Some("http /api/v1/readyz"),
            "{status}"
        );
        assert_eq!(told.reason, "ExecUnavailable");
        assert!(told.message.contains("indirectly, because"), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_command_that_runs_and_fails_is_a_failure_though_the_pages_are_well() {
    let env = Env::start().await;
    let health = json!({"name": "health", "http": {"path": "/api/v1/healthz"}});
    let checks = [health, json!({"name": "database", "database": {}})];
    // The program knows `db-check`, and has no database here.
    let toml = "[deploy]\nrelease_command = 'cabanas help'\n[http_service]\ninternal_port = 8080\n";
    let config = json!({"deploy": {"config": {"inline": toml}}});
    with_checks_and(&env, &checks, config).await;

    env.wait_for("hola", "SmokeTested", "False").await;
    let failed = |status: &ActivationStatus| {
        let mut checks = status.smoke_test.iter();
        checks.any(|check| check.check == "database" && check.result.as_str() == "Failed")
    };
    let status = env.wait("hola", "the result", failed).await;

    let database = told(&status, "database");
    assert_eq!(database.path.as_deref(), Some("exec cabanas db-check"));
    assert_eq!(told(&status, "health").result.as_str(), "Passed");
    assert!(!is(&status, "Live", "True"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_exec_and_without_fallbacks_it_stops_and_recovers_by_itself() {
    let env = Env::start().await;
    env.sim.fault(Fault::new(EXEC, Kind::status(404)).always());
    let check = json!({"name": "database", "database": {"command": ["true"]}, "fallbacks": []});
    with_checks(&env, &[check]).await;

    let status = env.wait_for("hola", "SmokeTested", "False").await;
    assert_eq!(reason(&status, "Ready"), "ExecUnavailable");

    env.sim.clear_faults();
    let status = env.wait_live("hola").await;
    assert_eq!(told(&status, "database").path.as_deref(), Some("exec true"));
}
