//! The main job: from `kubectl apply` to a live URL.

use serde_json::json;

use crate::support::env::{Env, is, reason, root};

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_activation_goes_live_and_leaves_nothing_behind() {
    let env = Env::start().await;
    env.activation("hola", json!({})).await;

    let status = env.wait_live("hola").await;

    assert_eq!(status.url.as_deref(), Some("https://hola-cabanas.fly.dev"));
    assert!(status.go_live.is_some());
    let events = env.wait_event("hola", "GoLive").await;
    let reasons: Vec<String> = events.into_iter().map(|e| e.1).collect();
    assert_eq!(
        reasons.iter().filter(|r| *r == "GoLive").count(),
        1,
        "{reasons:?}"
    );

    env.delete("hola").await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_design_goes_live_with_its_gate_approved() {
    let env = Env::start().await;
    let read = |name: &str| std::fs::read_to_string(root().join("examples").join(name)).unwrap();
    env.apply(&read("sist-cabanas-inputs.yaml")).await;
    env.apply(&read("sist-cabanas.yaml")).await;
    let name = "sist-cabanas-mvp";

    let waiting = env
        .wait(name, "the gate", |status| status.pending_gate.is_some())
        .await;
    assert_eq!(reason(&waiting, "Ready"), "AwaitingApproval");
    assert!(
        env.sim.machines(name).is_empty(),
        "nothing is deployed before the approval"
    );
    let plan = waiting.plan.unwrap();
    assert!(
        plan.changes.iter().any(|change| change.step == "Machines"),
        "the approver sees what would be done: {:?}",
        plan.changes
    );
    let digest = plan.digest;
    env.approve(name, "Deploy", &digest).await;

    let status = env.wait_live(name).await;

    assert!(["GoLive", "Watching"].contains(&reason(&status, "Ready")));
    let names: Vec<&str> = status.secrets.iter().map(|s| s.name.as_str()).collect();
    for wanted in [
        "DATABASE_URL",
        "REDIS_URL",
        "JWT_SECRET",
        "GRAFANA_ADMIN_PASSWORD",
    ] {
        assert!(names.contains(&wanted), "{names:?}");
    }
    let checks: Vec<(&str, &str)> = status
        .smoke_test
        .iter()
        .map(|check| (check.check.as_str(), check.result.as_str()))
        .collect();
    for check in ["health", "ready", "metrics", "homepage", "database"] {
        assert!(checks.contains(&(check, "Passed")), "{checks:?}");
    }
    let database = status.smoke_test.iter().find(|c| c.check == "database");
    assert_eq!(
        database.unwrap().path.as_deref(),
        Some("exec cabanas db-check"),
        "the direct way, in a machine"
    );
    let mut phases = status.phases.iter();
    let observe = phases.find(|phase| phase.name.as_str() == "Observe");
    assert_ne!(observe.unwrap().reason, "NotImplemented");
    let status = env
        .wait(name, "the watch", |status| {
            reason(status, "Stabilized") == "Watching" && status.objectives.len() == 3
        })
        .await;
    assert_eq!(reason(&status, "Ready"), "Watching");
    assert!(is(&status, "Ready", "True") && is(&status, "Live", "True"));

    let status = env.wait_for(name, "IntegrationsHealthy", "True").await;
    let verified: Vec<&str> = status
        .integrations
        .iter()
        .filter(|entry| entry.verified_at.is_some())
        .map(|entry| entry.name.as_str())
        .collect();
    assert_eq!(verified, ["whatsapp", "mercado-pago", "ical"]);
}
