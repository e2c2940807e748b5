//! Decisions of people at a gate: which count, for what, and what is said of the others.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::{Duration, Instant};

use golive::api::{
    ActivationApproval, ActivationStatus,
    approval::{ActivationApprovalStatus, ApprovalState},
};
use kube::Api;
use serde_json::{Value, json};

use crate::support::env::{Env, LIMIT, is, message, reason};
use crate::support::trouble::{deploy, event, recovered, stopped, world};

/// Waits until this is found of a decision.
async fn becomes(env: &Env, name: &str, wanted: ApprovalState) -> ActivationApprovalStatus {
    let api: Api<ActivationApproval> = Api::namespaced(env.kube.clone(), &env.namespace);
    let end = Instant::now() + LIMIT;
    loop {
        let status = api.get(name).await.unwrap().status;
        if let Some(status) = status.clone().filter(|status| status.state == wanted) {
            return status;
        }
        assert!(
            Instant::now() < end,
            "{name} is not {wanted}: {status:?}; {:?}",
            env.status("hola").await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn asks(status: &ActivationStatus) -> bool {
    reason(status, "Ready") == "AwaitingApproval"
}

/// The digest that the gate asks about.
async fn asked(env: &Env, generation: i64) -> String {
    let status = env
        .wait("hola", "the gate asks", |status| {
            asks(status) && status.observed_generation == Some(generation)
        })
        .await;
    let deploy = status.phases.iter().find(|p| p.name.as_str() == "Deploy");
    let gate = deploy.unwrap().gate.clone().unwrap();
    assert_eq!(gate.generation, Some(generation));
    assert_eq!(
        Some(&gate.digest),
        status.plan.as_ref().map(|plan| &plan.digest)
    );
    // When the wait ends is said.
    assert_eq!(status.next_action_time, gate.expires_at);
    gate.digest
}

async fn generation(env: &Env) -> i64 {
    env.get("hola").await.unwrap().metadata.generation.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_opens_what_it_was_made_for_once() {
    let env = world(&[]).await;
    env.activation("hola", json!({"gates": [{"before": "Deploy"}]}))
        .await;
    let first = asked(&env, generation(&env).await).await;
    env.decide("first", json!({"digest": first})).await;
    let status = recovered(&env, "hola").await;
    assert!(status.history[0].by.contains("approved by admin"));
    assert_eq!(status.next_action_time, None);
    becomes(&env, "first", ApprovalState::Used).await;

    // Another image asks, and so does the one that was approved once.
    deploy(&env, "hola", "again").await;
    let second = asked(&env, generation(&env).await).await;
    assert_ne!(second, first);
    let about = json!({"digest": second, "generation": 1});
    env.decide("old-news", about).await;
    let status = becomes(&env, "old-news", ApprovalState::Superseded).await;
    assert!(status.message.contains("about generation 1"), "{status:?}");
    let about = json!({"digest": second, "generation": generation(&env).await});
    env.decide("second", about).await;
    env.wait_live("hola").await;
    deploy(&env, "hola", "1.0.0").await;
    let third = asked(&env, generation(&env).await).await;
    assert_ne!(
        third, first,
        "the same is done, and another generation asks"
    );
    let shows = env.status("hola").await;
    assert!(
        shows.release.unwrap().image.ends_with(":again"),
        "it serves"
    );
    env.decide("third", json!({"digest": third})).await;
    env.wait_live("hola").await;

    // An approver takes the release back. A retry asks again.
    let ask = json!({"digest": third, "gate": "Rollback", "toRelease": 2});
    env.decide("back", ask).await;
    stopped(&env, "hola", "RolledBack").await;
    becomes(&env, "back", ApprovalState::Used).await;
    let retry = json!({"metadata": {"annotations": {"golive.dev/retry": "once-more"}}});
    env.patch("hola", retry).await;
    let status = env.wait("hola", "the gate asks", asks).await;
    assert_eq!(status.last_handled_retry.as_deref(), Some("once-more"));
    assert!(
        status.history[0].outcome.as_str() == "RolledBack",
        "{status:?}"
    );
    env.decide("fourth", json!({"digest": third})).await;
    recovered(&env, "hola").await;
    becomes(&env, "fourth", ApprovalState::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_does_not_count_says_why_and_the_latest_of_a_person_counts() {
    let env = world(&[]).await;
    let none = format!("sha256:{}", "0".repeat(64));
    env.decide("early", json!({"digest": none})).await;
    let status = becomes(&env, "early", ApprovalState::ActivationNotFound).await;
    assert!(status.message.contains("no Activation hola"), "{status:?}");
    event(&env, "early", "ApprovalNotCounted").await;

    env.activation(
        "hola",
        json!({"gates": [{"before": "Deploy", "approvals": 1}]}),
    )
    .await;
    let digest = asked(&env, 1).await;
    env.decide("wrong", json!({"digest": none})).await;
    let status = becomes(&env, "wrong", ApprovalState::WrongDigest).await;
    assert!(status.message.contains(&digest), "{status:?}");
    let note = event(&env, "wrong", "ApprovalNotCounted").await;
    assert!(note.contains("wrong by admin does not count"), "{note}");
    event(&env, "hola", "ApprovalNotCounted").await;
    env.decide("nowhere", json!({"digest": digest, "gate": "SmokeTest"}))
        .await;
    let status = becomes(&env, "nowhere", ApprovalState::UnknownGate).await;
    assert!(status.message.contains("gates before Deploy"), "{status:?}");

    env.decide("no", json!({"digest": digest, "decision": "Reject"}))
        .await;
    let status = stopped(&env, "hola", "Rejected").await;
    assert!(message(&status, "Ready").contains("another ActivationApproval"));
    // A late approval opens it: what it is about stays known.
    let plan = status.plan.unwrap();
    let machines = plan.changes.iter().any(|change| change.step == "Machines");
    assert!(plan.complete && machines, "{plan:#?}");
    becomes(&env, "no", ApprovalState::Counts).await;
    // Another generation of the same plan asks anew, and the rejection is void.
    env.patch("hola", json!({"spec": {"deploy": {"owner": "ops"}}}))
        .await;
    let first = digest;
    let digest = asked(&env, 2).await;
    assert_ne!(digest, first, "it covers the generation");
    let status = becomes(&env, "no", ApprovalState::Superseded).await;
    assert!(status.message.contains("generation 2"), "{status:?}");
    env.decide("no-again", json!({"digest": digest, "decision": "Reject"}))
        .await;
    stopped(&env, "hola", "Rejected").await;
    env.decide("yes", json!({"digest": digest})).await;
    recovered(&env, "hola").await;
    becomes(&env, "no-again", ApprovalState::Superseded).await;
    becomes(&env, "yes", ApprovalState::Used).await;

    // It is live: a rejection comes too late, and says what would stop the work.
    env.decide("late", json!({"digest": digest, "decision": "Reject"}))
        .await;
    let status = becomes(&env, "late", ApprovalState::NotNeeded).await;
    assert!(status.message.contains("golive.dev/abort"), "{status:?}");
    assert!(is(&env.status("hola").await, "Ready", "True"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_is_cut_short_is_refused_in_words() {
    let env = Env::without_operator(crate::support::trouble::options()).await;
    let api: Api<ActivationApproval> = Api::namespaced(env.kube.clone(), &env.namespace);
    for digest in [
        format!("sha256:{}", "ab".repeat(10)),
        "ab".repeat(32),
        format!("sha256:{}", "AB".repeat(32)),
        "latest".to_owned(),
    ] {
        let approval: ActivationApproval = serde_json::from_value(json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "ActivationApproval",
            "metadata": {"generateName": "a-"},
            "spec": {
                "activation": "hola", "gate": "Deploy", "digest": digest,
                "decision": "Approve", "approver": "admin",
            },
        }))
        .unwrap();
        let refused = api.create(&Default::default(), &approval).await;
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("must be the whole digest") && text.contains("gate.digest"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_before_observe_asks_after_go_live_and_nothing_is_watched_before_it_opens() {
    let env = world(&[]).await;
    let spec = json!({"gates": [{"before": "Observe"}], "observe": {}});
    env.activation("hola", spec).await;
    let status = env
        .wait("hola", "the gate", |status| {
            status.pending_gate.as_deref() == Some("Observe")
        })
        .await;
    assert!(is(&status, "Live", "True"), "{status:#?}");
    assert_eq!(status.watch, None);
    let digest = status.plan.unwrap().digest;
    env.approve("hola", "Observe", &digest).await;
    env.wait("hola", "the watch", |status| status.watch.is_some())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failed_try_of_a_step_is_counted_and_is_one_line_in_the_log() {
    use fly_sim::{Fault, Kind};

    let mut env = Env::without_operator(crate::support::trouble::options()).await;
    env.sim
        .fault(Fault::new("POST /v1/apps", Kind::status(503)).always());
    env.start_operator_process(&["--log-format", "json"]);
    env.activation("hola", json!({})).await;
    let status = env
        .wait("hola", "three tries", |status| {
            let provision = status
                .phases
                .iter()
                .find(|p| p.name.as_str() == "Provision");
            provision.is_some_and(|phase| phase.attempts >= 3)
        })
        .await;
    let provision = status
        .phases
        .iter()
        .find(|p| p.name.as_str() == "Provision");
    let app = provision
        .unwrap()
        .steps
        .iter()
        .find(|step| step.name == "App");
    let app = app.unwrap();
    assert!(app.attempts >= 2, "{app:?}");
    assert!(app.last_error.contains("503"), "{app:?}");
    assert!(app.next_try_time.is_some(), "{app:?}");
    env.sim.clear_faults();
    let status = recovered(&env, "hola").await;
    let left: Vec<&str> = status
        .phases
        .iter()
        .flat_map(|phase| &phase.steps)
        .filter(|step| !step.last_error.is_empty() || step.attempts > 0)
        .map(|step| step.name.as_str())
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let log = std::fs::read_to_string(env.log()).unwrap();
    let object = format!("{}/hola", env.namespace);
    let failed: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["step"] == "App" && line["level"] == "WARN")
        .collect();
    assert!(failed.len() >= 2, "{log}");
    for line in &failed {
        assert_eq!(line["object"], object.as_str(), "{line}");
        assert_eq!(line["reason"], "OutcomeUnknown", "{line}");
        assert!(line["fly_request_id"].is_string(), "{line}");
        let named = line.to_string().matches(&object).count();
        assert_eq!(named, 1, "the object is named once: {line}");
    }
    for line in log.lines() {
        assert!(
            !line.contains("object.ref"),
            "the object is named once: {line}"
        );
    }
}
