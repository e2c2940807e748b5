//! The database fails, or cannot be attached.

use fly_sim::{Fault, Kind};
use serde_json::{Value, json};

use crate::support::env::{Env, message, root};
use crate::support::service::generated;
use crate::support::trouble::{event, recovered, stopped, warnings, world};

const ATTACH: &str = "POST *attachments";

fn managed() -> Value {
    json!({"provision": {"postgres": {"managed": {}}}})
}

fn with_fallback() -> Value {
    let url = json!({"urlSecretRef": {"name": "spare", "key": "url"}});
    json!({"provision": {"postgres": {"managed": {}, "fallback": url}}})
}

async fn spare(env: &Env) {
    let url = "postgres://cabanas:Zt7vQm2rKx9pLw4s@db.cabanas.example:5432/cabanas";
    env.secret("spare", &[("url", url)]).await;
}

fn next_cluster_fails(env: &Env) {
    env.sim
        .core()
        .write(|world| world.platform.postgres_failures = 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_failed_is_named_and_made_anew_when_it_is_destroyed() {
    let env = world(&[]).await;
    next_cluster_fails(&env);
    env.activation("hola", managed()).await;

    let status = stopped(&env, "hola", "DatabaseFailed").await;

    let id = env
        .sim
        .core()
        .read(|world| world.platform.clusters.keys().next().cloned())
        .unwrap();
    let text = message(&status, "Ready");
    assert!(text.contains(&format!("fly mpg destroy {id}")), "{text}");
    let gone = fly_sim::deletion::delete(env.sim.core(), "", &format!("cluster:{id}")).await;
    assert!(gone);
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["DatabaseFailed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_failed_gives_way_to_the_declared_fallback() {
    let env = world(&[]).await;
    spare(&env).await;
    next_cluster_fails(&env);
    env.activation("hola", with_fallback()).await;

    let status = recovered(&env, "hola").await;

    assert!(!status.fallbacks.is_empty(), "{status:?}");
    assert!(!status.fallbacks[0].reason.is_empty());
    assert_eq!(warnings(&env, "hola").await, ["FallbackUsed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_fails_three_times_stops_until_it_can_be_made() {
    let env = world(&[]).await;
    env.sim
        .fault(Fault::new(ATTACH, Kind::status(500)).always());
    env.activation("hola", managed()).await;

    let status = stopped(&env, "hola", "AttachFailed").await;

    let text = message(&status, "Ready");
    assert!(text.contains("fly mpg status"), "{text}");
    assert!(text.contains("failed 3 times"), "{text}");
    env.sim.clear_faults();
    recovered(&env, "hola").await;
    // The first attempts were reported as retries, the last one as the failure.
    let warnings = warnings(&env, "hola").await;
    assert_eq!(warnings, ["OutcomeUnknown", "AttachFailed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_fails_three_times_gives_way_to_the_declared_fallback() {
    let env = world(&[]).await;
    spare(&env).await;
    env.sim
        .fault(Fault::new(ATTACH, Kind::status(500)).always());
    env.activation("hola", with_fallback()).await;

    let status = recovered(&env, "hola").await;

    let used = &status.fallbacks[0];
    assert!(used.reason.contains("3 times"), "{used:?}");
    let tries: u64 = env
        .sim
        .call_counts()
        .iter()
        .filter(|(endpoint, _)| endpoint.starts_with("POST") && endpoint.ends_with("attachments"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(tries, 3);
    let warnings = warnings(&env, "hola").await;
    assert_eq!(warnings, ["OutcomeUnknown", "FallbackUsed"]);
}

/// The example application with its databases and secrets.
pub fn cabanas(tag: &str) -> Value {
    json!({
        "app": "sist-cabanas-mvp",
        "provision": {
            "postgres": {"managed": {}},
            "redis": {"upstash": {}},
            "secrets": {
                "generate": generated(),
                "from": [{"secretRef": {"name": "cabanas-integrations"}}],
            },
        },
        "deploy": {
            "image": format!("registry.fly.io/sist-cabanas-mvp:{tag}"),
            "config": {"configMapRef": {"name": "sist-cabanas", "key": "fly.toml"}},
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_is_told_with_its_exit_code_and_nothing_is_started() {
    let env = world(&[]).await;
    let inputs = std::fs::read_to_string(root().join("examples/sist-cabanas-inputs.yaml"));
    env.apply(&inputs.unwrap()).await;
    env.activation("cabanas", cabanas("1.5.1-migration-fails"))
        .await;

    let status = stopped(&env, "cabanas", "ReleaseCommandFailed").await;

    let text = message(&status, "Ready");
    assert!(text.contains("code 1"), "{text}");
    let machines = env.sim.machines("sist-cabanas-mvp");
    let of_the_app = |machine: &&Value| {
        let name = machine["name"].as_str().unwrap_or_default();
        name.starts_with("golive-app-")
    };
    assert_eq!(machines.iter().filter(of_the_app).count(), 0);
    env.patch("cabanas", json!({"spec": cabanas("1.4.0")}))
        .await;
    recovered(&env, "cabanas").await;
    assert_eq!(warnings(&env, "cabanas").await, ["ReleaseCommandFailed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_ends_for_its_memory_is_told_with_its_code_and_last_words() {
    let env = world(&[]).await;
    let inputs = std::fs::read_to_string(root().join("examples/sist-cabanas-inputs.yaml"));
    env.apply(&inputs.unwrap()).await;
    env.activation("cabanas", cabanas("1.5.1-oom")).await;

    let status = stopped(&env, "cabanas", "MachineExited").await;

    let text = message(&status, "Ready");
    assert!(text.contains("code 137"), "{text}");
    assert!(text.contains("Out of memory"), "{text}");
    env.patch("cabanas", json!({"spec": cabanas("1.4.0")}))
        .await;
    recovered(&env, "cabanas").await;
    assert_eq!(warnings(&env, "cabanas").await, ["MachineExited"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_is_late_says_so_with_its_cause_and_recovers_when_that_is_mended() {
    let env = world(&[]).await;
    let hold = |hold| {
        env.sim
            .core()
            .write(|world| world.platform.postgres_hold = hold)
    };
    hold(true);
    let mut spec = managed();
    // The shortest deadline that the API accepts.
    spec["provision"]["deadline"] = json!("10s");
    env.activation("hola", spec).await;

    let status = stopped(&env, "hola", "DeadlineExceeded").await;

    let text = message(&status, "Ready");
    assert!(
        text.starts_with("Provision: exceeded its deadline"),
        "{text}"
    );
    assert!(text.contains("Postgres"), "{text}");
    event(&env, "hola", "DeadlineExceeded").await;
    assert_eq!(warnings(&env, "hola").await, ["DeadlineExceeded"]);
    hold(false);
    recovered(&env, "hola").await;
    assert_eq!(warnings(&env, "hola").await, ["DeadlineExceeded"]);
}

/// How the database was checked, by the report.
fn way(status: &golive::api::ActivationStatus) -> String {
    let checks = status.smoke_test.iter();
    let database = checks.filter(|check| check.check == "database");
    database.filter_map(|check| check.path.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_command_can_be_run_the_database_is_proven_from_outside_until_one_can() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.sim
        .fault(Fault::new("POST *exec", Kind::status(501)).always());
    let inputs = std::fs::read_to_string(root().join("examples/sist-cabanas-inputs.yaml"));
    env.apply(&inputs.unwrap()).await;
    let mut spec = cabanas("1.4.0");
    spec["smokeTest"] = json!({"checks": [
        {"name": "health", "http": {"path": "/api/v1/healthz"}},
        {"name": "metrics", "metrics": {"path": "/metrics"}},
        {"name": "database", "database": {}},
    ]});
    env.activation("cabanas", spec).await;

    let status = recovered(&env, "cabanas").await;

    let indirect = way(&status);
    assert!(indirect.contains("healthz"), "{:?}", status.smoke_test);
    assert!(warnings(&env, "cabanas").await.is_empty());
    env.sim.clear_faults();
    let direct = env
        .wait("cabanas", "the direct way", |status| {
            let way = way(status);
            !way.is_empty() && way != indirect
        })
        .await;
    assert!(way(&direct).contains("exec"), "{:?}", direct.smoke_test);
}
