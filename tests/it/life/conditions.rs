//! The states that kstatus, Flux and Argo CD read, checked on every status that an object has had;
//! and suspending, aborting and re-running.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use golive::api::{Activation, status::PlannedChange};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::support::{
    env::{Env, LIMIT, is, message, reason},
    trouble::{event, options, recovered, stopped, warnings, world},
};

/// Every version of one object, from a watch.
struct History {
    seen: Arc<Mutex<Vec<Activation>>>,
    task: tokio::task::JoinHandle<()>,
}

impl History {
    /// Starts the watch: every version that is written after this returns is recorded.
    async fn of(env: &Env, name: &str) -> Self {
        let seen: Arc<Mutex<Vec<Activation>>> = Arc::default();
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        // With pauses after errors: a watch that fails at once every time would never yield, not even
        // at the end of the test.
        let stream = watcher(env.activations(), config).default_backoff();
        let to = seen.clone();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let mut begun = Some(begun);
        let task = tokio::spawn(async move {
            let mut stream = Box::pin(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        to.lock().unwrap().push(object);
                    }
                    // The existing versions are listed; later ones arrive by the watch.
                    Ok(watcher::Event::InitDone) => {
                        let _ = begun.take().map(|begun| begun.send(()));
                    }
                    _ => {}
                }
            }
        });
        let begins = tokio::time::timeout(LIMIT, begins).await;
        begins.expect("a list in time").expect("a watch");
        Self { seen, task }
    }

    /// Ready, Reconciling and Stalled over time, without repetitions.
    fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> = Vec::new();
        for object in self.seen.lock().unwrap().iter() {
            let row = row(object);
            if rows.last() != Some(&row) {
                rows.push(row);
            }
        }
        rows
    }

    /// What must hold in each status, and from each to the next.
    fn keeps_the_contract(&self) {
        let seen = self.seen.lock().unwrap();
        assert!(seen.len() > 1, "nothing was seen");
        for object in seen.iter() {
            holds_alone(object);
        }
        for pair in seen.windows(2) {
            holds_between(&pair[0], &pair[1]);
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn condition(object: &Activation, type_: &str) -> Option<(String, String)> {
    let status = object.status.as_ref()?;
    let found = status.conditions.iter().find(|c| c.type_ == type_)?;
    Some((found.status.clone(), found.reason.clone()))
}

fn row(object: &Activation) -> String {
    let words = ["Ready", "Reconciling", "Stalled"].map(|type_| {
        condition(object, type_).map_or_else(
            || "-".to_owned(),
            |(status, reason)| format!("{status} {reason}"),
        )
    });
    words.join(" / ")
}

fn holds_alone(object: &Activation) {
    let status = object.status.as_ref().expect("a status from the start");
    let text = || serde_json::to_string_pretty(status).unwrap();
    if status.conditions.is_empty() {
        // kstatus reads an object without conditions as current, unless the generation differs.
        assert_eq!(status.observed_generation, Some(-1), "{}", text());
        return;
    }
    let (ready, cause) = condition(object, "Ready").expect("Ready is always there");
    let reconciling = condition(object, "Reconciling");
    let stalled = condition(object, "Stalled");
    let suspended = is(status, "Suspended", "True");
    assert!(
        reconciling.is_none() || stalled.is_none(),
        "both: {}",
        text()
    );
    for abnormal in [&reconciling, &stalled].into_iter().flatten() {
        assert_eq!(abnormal.0, "True", "{}", text());
    }
    let deleting = is(status, "Deleting", "True");
    match (ready.as_str(), &reconciling, &stalled) {
        ("True", None, None) => {}
        ("False", None, Some((_, why))) => assert_eq!(*why, cause, "{}", text()),
        ("False", Some(_), None) => assert!(deleting, "{}", text()),
        ("Unknown", Some((_, why)), None) => assert_eq!(*why, cause, "{}", text()),
        ("Unknown", None, None) => assert!(
            suspended || ["Planned", "NotImplemented", "Inconclusive"].contains(&cause.as_str()),
            "{}",
            text()
        ),
        _ => panic!("no row of the table: {}", text()),
    }
    // "No drift" is reported only for an object that is live and was observed.
    if !suspended && is(status, "Drifted", "False") {
        assert!(status.go_live.is_some(), "{}", text());
        assert!(is(status, "Observed", "True"), "{}", text());
    }
    let generation = status.observed_generation;
    for condition in &status.conditions {
        assert!(!condition.message.contains('\n'), "{}", condition.message);
        // A suspended object is frozen as it was.
        if !suspended {
            let type_ = &condition.type_;
            assert_eq!(condition.observed_generation, generation, "{type_}");
        }
    }
}

fn holds_between(before: &Activation, after: &Activation) {
    let (Some(old), Some(new)) = (&before.status, &after.status) else {
        return;
    };
    assert!(new.observed_generation >= old.observed_generation);
    for condition in &new.conditions {
        let Some(was) = old.conditions.iter().find(|c| c.type_ == condition.type_) else {
            continue;
        };
        let type_ = &condition.type_;
        let (then, now) = (
            &was.last_transition_time.0,
            &condition.last_transition_time.0,
        );
        if was.status == condition.status {
            assert_eq!(then, now, "{type_} moved without its status");
        } else {
            assert!(now >= then, "{type_} moved back");
        }
    }
}

/// Waits for a condition outside of the status.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn machines(env: &Env) -> usize {
    env.sim.machines("hola-cabanas").len()
}

/// Deletes one machine by hand.
async fn lose_a_machine(env: &Env) {
    let id = env.sim.machines("hola-cabanas")[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let target = format!("machine:{id}");
    assert!(fly_sim::deletion::delete(env.sim.core(), "hola-cabanas", &target).await);
}

fn gated() -> Value {
    json!({"gates": [{"before": "Deploy", "timeout": "2h", "onTimeout": "Reject", "approvals": 1}]})
}

async fn vote(env: &Env, name: &str, digest: &str, decision: &str) {
    env.decide(name, json!({"digest": digest, "decision": decision}))
        .await;
}

async fn asks(env: &Env) -> String {
    let status = env
        .wait("hola", "AwaitingApproval", |status| {
            reason(status, "Ready") == "AwaitingApproval"
        })
        .await;
    assert_eq!(status.pending_gate.as_deref(), Some("Deploy"));
    let deploy = status.phases.iter().find(|p| p.name.as_str() == "Deploy");
    deploy.unwrap().gate.clone().unwrap().digest
}

#[tokio::test(flavor = "multi_thread")]
async fn from_creation_over_a_gate_to_live_and_gone_every_status_is_a_row_of_the_table() {
    let env = world(&[]).await;
    let history = History::of(&env, "hola").await;
    env.activation("hola", gated()).await;
    let digest = asks(&env).await;
    assert_eq!(machines(&env), 0);
    vote(&env, "yes", &digest, "Approve").await;
    recovered(&env, "hola").await;
    env.delete("hola").await;

    history.keeps_the_contract();
    let rows = history.rows();
    assert_eq!(rows[0], "- / - / -", "{rows:?}");
    for row in [
        "Unknown Progressing / True Progressing / -",
        "Unknown AwaitingApproval / True AwaitingApproval / -",
        "True GoLive / - / -",
    ] {
        assert!(rows.iter().any(|seen| seen == row), "{row}: {rows:?}");
    }
    assert!(
        !rows
            .iter()
            .any(|row| row.contains("/ True ") && row.starts_with("True"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn from_failure_to_live_every_status_is_a_row_of_the_table() {
    let env = world(&[]).await;
    let history = History::of(&env, "hola").await;
    let wrong = json!({"deploy": {"image": "registry.fly.io/hola-cabanas:9.9.9"}});
    env.activation("hola", wrong).await;
    stopped(&env, "hola", "ImageNotFound").await;
    crate::support::trouble::deploy(&env, "hola", "1.0.0").await;
    recovered(&env, "hola").await;

    history.keeps_the_contract();
    let rows = history.rows();
    let row = "False ImageNotFound / - / True ImageNotFound";
    assert!(rows.iter().any(|seen| seen == row), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_rejected_stops_until_the_plan_is_another_one() {
    let env = world(&[]).await;
    env.activation("hola", gated()).await;
    let digest = asks(&env).await;
    vote(&env, "no", &digest, "Reject").await;

    let status = stopped(&env, "hola", "Rejected").await;

    assert!(message(&status, "Ready").contains("admin"));
    assert_eq!(machines(&env), 0);
    // A changed plan needs a new approval; the earlier one does not count.
    let other = json!({"spec": {"deploy": {"scale": {"app": 1}}}});
    env.patch("hola", other).await;
    let again = env
        .wait("hola", "another question", |status| {
            reason(status, "Ready") == "AwaitingApproval"
        })
        .await;
    let deploy = again.phases.iter().find(|p| p.name.as_str() == "Deploy");
    let next = deploy.unwrap().gate.clone().unwrap().digest;
    assert_ne!(next, digest);
    vote(&env, "yes", &next, "Approve").await;
    recovered(&env, "hola").await;
    assert_eq!(machines(&env), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_nobody_decides_on_expires() {
    let mut env = world(&[]).await;
    env.activation("hola", gated()).await;
    asks(&env).await;
    env.stop_operator().await;
    // Three hours pass: the gate's start is moved back by that much.
    let mut status = serde_json::to_value(env.status("hola").await).unwrap();
    for phase in status["phases"].as_array_mut().unwrap() {
        if phase["name"] == "Deploy" {
            phase["gate"]["requestedAt"] = json!("2026-01-01T00:00:00Z");
        }
    }
    replace_status(&env, "hola", &status).await;
    env.start_operator(&[]).await;

    let status = stopped(&env, "hola", "ApprovalExpired").await;

    assert!(message(&status, "Ready").contains("change the spec"));
    assert_eq!(machines(&env), 0);
    event(&env, "hola", "ApprovalExpired").await;
    assert_eq!(warnings(&env, "hola").await, ["ApprovalExpired"]);
}

/// Writes a status as a backup tool does.
#[expect(
    clippy::disallowed_methods,
    reason = "the test writes a status as the operator would"
)]
async fn replace_status(env: &Env, name: &str, status: &Value) {
    env.activations()
        .patch_status(
            name,
            &PatchParams::default(),
            &Patch::Merge(json!({"status": status})),
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_object_is_left_alone_and_goes_on_when_it_is_resumed() {
    let env = world(&["--recheck-interval", "1s"]).await;
    let history = History::of(&env, "hola").await;
    let suspend = json!({"suspend": true, "suspendReason": "holiday"});
    env.activation("hola", suspend).await;
    let status = env.wait_for("hola", "Suspended", "True").await;
    assert!(message(&status, "Suspended").contains("holiday"));
    assert!(is(&status, "Ready", "Unknown"), "{status:?}");
    assert!(env.sim.call_list().is_empty(), "{:?}", env.sim.call_list());

    env.patch("hola", json!({"spec": {"suspend": false}})).await;
    recovered(&env, "hola").await;
    env.patch("hola", json!({"spec": {"suspend": true}})).await;
    let status = env.wait_for("hola", "Suspended", "True").await;
    assert!(is(&status, "Ready", "True"), "frozen as it was: {status:?}");
    lose_a_machine(&env).await;
    let calls = env.sim.call_list().len();
    // Another object that passes shows that the operator works.
    let other = json!({"app": "other-app", "deploy": {"image": "nowhere.example/other:1"}});
    env.activation("other", other).await;
    env.wait("other", "a first look", |status| {
        !status.conditions.is_empty()
    })
    .await;
    let about_us = |env: &Env| {
        let list = env.sim.call_list();
        let ours = list[calls..].iter();
        ours.filter(|call| call.path.contains("hola-cabanas"))
            .count()
    };
    // Nobody looks at the site, so it is not said for ever that it is live.
    let status = env.wait_for("hola", "Live", "Unknown").await;
    assert_eq!(reason(&status, "Live"), "Suspended");
    assert!(is(&status, "Ready", "True"), "frozen as it was: {status:?}");
    assert_eq!(about_us(&env), 0);
    assert_eq!(machines(&env), 1);

    env.patch("hola", json!({"spec": {"suspend": false}})).await;

    until("the second machine", || machines(&env) == 2).await;
    env.wait_live("hola").await;
    history.keeps_the_contract();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_would_be_done_and_writes_nothing_to_fly() {
    let env = world(&["--recheck-interval", "1s"]).await;
    let history = History::of(&env, "hola").await;
    env.activation("hola", json!({"mode": "Plan"})).await;

    let status = env
        .wait("hola", "Planned", |status| {
            reason(status, "Ready") == "Planned"
        })
        .await;

    let plan = status.plan.clone().unwrap();
    // It is whole at the first look, though nothing of it exists yet.
    assert!(plan.complete && plan.unknown.is_empty(), "{plan:?}");
    for (step, line) in [
        ("App", "create Fly app "),
        ("Addresses", "create address"),
        ("Machines", "create machine"),
        ("EdgeChecks", "verify SmokeCheck"),
    ] {
        let mut changes = plan.changes.iter();
        let planned =
            |change: &PlannedChange| change.step == step && change.change.starts_with(line);
        assert!(changes.any(planned), "{step}: {line}: {plan:#?}");
    }
    assert_eq!(plan.generation, status.observed_generation);
    let cost = plan.cost_per_month.unwrap();
    // Fly.io publishes no price for this region.
    assert_eq!(
        (&*cost.before, &*cost.after),
        ("0.00", "unknown"),
        "{cost:?}"
    );
    assert!(!cost.unknown.is_empty());
    assert!(is(&status, "Ready", "Unknown"), "{status:?}");
    assert!(!is(&status, "Reconciling", "True"), "{status:?}");
    assert_eq!(env.sim.mutations(), 0);
    assert!(env.sim.apps().is_empty());

    env.patch("hola", json!({"spec": {"mode": "Apply"}})).await;
    let status = recovered(&env, "hola").await;
    let plan = status.plan.unwrap();
    assert!(plan.changes.is_empty() && plan.complete, "{plan:#?}");
    let cost = plan.cost_per_month.unwrap();
    assert_eq!(cost.before, cost.after);
    history.keeps_the_contract();
    assert!(warnings(&env, "hola").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_never_went_live_nobody_says_that_it_has_not_drifted() {
    let env = world(&[]).await;
    env.activation("hola", gated()).await;
    let digest = asks(&env).await;

    let status = env.status("hola").await;

    assert!(is(&status, "Drifted", "Unknown"), "{status:?}");
    assert_eq!(reason(&status, "Drifted"), "Pending");
    let drift = |env: &Env| env.metrics().contains("\ngolive_drift_fields{");
    until("the status among the metrics", || {
        env.metrics().contains("\ngolive_info{")
    })
    .await;
    assert!(!drift(&env), "0 is no word for unknown");
    vote(&env, "yes", &digest, "Approve").await;
    let status = recovered(&env, "hola").await;
    assert!(is(&status, "Drifted", "False"), "{status:?}");
    until("the drift among the metrics", || drift(&env)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_machine_is_found_told_and_replaced() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.activation("hola", json!({})).await;
    let before = recovered(&env, "hola").await;

    lose_a_machine(&env).await;

    until("the second machine", || machines(&env) == 2).await;
    event(&env, "hola", "DriftDetected").await;
    event(&env, "hola", "DriftCorrected").await;
    let after = env
        .wait("hola", "live without drift", |status| {
            is(status, "Ready", "True") && is(status, "Drifted", "False")
        })
        .await;
    assert_eq!(after.go_live, before.go_live);
    assert_eq!(warnings(&env, "hola").await, ["DriftDetected"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_that_is_only_to_be_reported_is_told_and_left() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.activation("hola", json!({"drift": "Report"})).await;
    recovered(&env, "hola").await;
    let mutations = env.sim.mutations();
    lose_a_machine(&env).await;

    let status = env.wait_for("hola", "Drifted", "True").await;

    assert!(
        message(&status, "Drifted").contains("create machine golive-app-"),
        "{}",
        message(&status, "Drifted")
    );
    assert!(is(&status, "Ready", "True"), "{status:?}");
    let plan = status.plan.as_ref().map(|plan| &plan.changes);
    assert_eq!(plan.map(Vec::len), Some(1), "{plan:?}");
    assert_eq!((machines(&env), env.sim.mutations()), (1, mutations));
    // The metric is updated after the status is written, so it may lag behind it.
    until("the drift among the metrics", || {
        let metrics = env.metrics();
        let drift = metrics
            .lines()
            .find(|line| line.starts_with("golive_drift_fields{"));
        drift.is_some_and(|line| line.ends_with(" 1.0") || line.ends_with(" 1"))
            && metrics.contains("golive_probe_duration_seconds_count{kind=\"http\"}")
    })
    .await;
    // Without any machine the site is down, which is told although nothing is corrected.
    lose_a_machine(&env).await;
    let status = env.wait_for("hola", "Live", "False").await;
    assert!(is(&status, "Ready", "False"), "{status:?}");
    event(&env, "hola", "SmokeCheckFailed").await;
    assert_eq!((machines(&env), env.sim.mutations()), (0, mutations));
    env.patch("hola", json!({"spec": {"drift": "Correct"}}))
        .await;
    until("the second machine", || machines(&env) == 2).await;
    env.wait_for("hola", "Drifted", "False").await;
    env.wait_live("hola").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_drift_report_a_generation_that_needs_no_other_release_is_brought_live() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.activation("hola", json!({"drift": "Report"})).await;
    recovered(&env, "hola").await;

    let check = json!({"name": "home", "http": {"path": "/"}, "interval": "1s", "count": 2, "failureLimit": 1});
    env.patch("hola", json!({"spec": {"smokeTest": {"checks": [check]}}}))
        .await;

    let generation = env.get("hola").await.unwrap().metadata.generation;
    let status = env.wait("hola", "live with other checks", |status| {
        status.observed_generation == generation
            && is(status, "Ready", "True")
            && status.smoke_test.iter().any(|check| check.check == "home")
    });
    let status = status.await;
    let history: Vec<_> = status.history.iter().map(|entry| entry.number).collect();
    assert_eq!(history, [Some(1)], "it needs no other release");
    // From then on drift is only reported.
    let mutations = env.sim.mutations();
    lose_a_machine(&env).await;
    env.wait_for("hola", "Drifted", "True").await;
    assert_eq!((machines(&env), env.sim.mutations()), (1, mutations));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_object_costs_no_write_and_at_most_three_reads_a_recheck() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    let quiet = env.sim.call_list().len();
    until("the rest of the go-live", || {
        env.sim.call_list().len() > quiet + 6
    })
    .await;
    let version = env.get("hola").await.unwrap().resource_version();
    let first = env.sim.call_list().last().unwrap().at_ms;
    let mutations = env.sim.mutations();

    let passed = || env.sim.call_list().last().unwrap().at_ms - first;
    until("some re-checks", || passed() > 6_000).await;

    let calls = env.sim.call_list();
    let calls = calls.iter().filter(|call| call.at_ms > first).count();
    // One per started second, and one more at either end.
    let rechecks = usize::try_from(passed() / 1_000).unwrap() + 2;
    assert!(
        calls <= 3 * rechecks,
        "{calls} calls in {rechecks} re-checks"
    );
    assert_eq!(env.sim.mutations(), mutations);
    assert_eq!(env.get("hola").await.unwrap().resource_version(), version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_from_a_backup_is_not_believed() {
    let mut env = world(&[]).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    let mut old = serde_json::to_value(env.status("hola").await).unwrap();
    env.delete("hola").await;
    env.stop_operator().await;
    // The state at the time of the backup: with an open intent, and a failure.
    old["intents"] = json!([{
        "slot": "App/App/hola-cabanas", "kind": "App", "name": "hola-cabanas",
        "announcedAt": "2026-01-01T00:00:00Z",
    }]);
    env.activation("hola", json!({"suspend": true})).await;
    replace_status(&env, "hola", &old).await;
    assert!(is(&env.status("hola").await, "Ready", "True"), "restored");
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    assert!(secrets.get_opt("fly").await.unwrap().is_some());
    env.start_operator(&[]).await;

    let status = env.wait_for("hola", "Suspended", "True").await;

    assert!(is(&status, "Ready", "Unknown"), "{status:?}");
    assert!(status.go_live.is_none(), "{status:?}");
    assert!(status.url.is_none(), "{status:?}");
    assert!(status.intents.is_empty(), "{status:?}");
    env.patch("hola", json!({"spec": {"suspend": false}})).await;
    let status = recovered(&env, "hola").await;
    assert_eq!(status.uid, env.get("hola").await.unwrap().metadata.uid);
    assert_eq!(machines(&env), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_somebody_else_wrote_is_put_right_at_the_next_recheck() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.activation("hola", json!({})).await;
    let before = recovered(&env, "hola").await;
    let wrong = json!({"url": "https://elsewhere.example", "phase": "Deploy", "conditions": []});
    replace_status(&env, "hola", &wrong).await;

    let after = env
        .wait("hola", "the status is ours again", |status| {
            status.url == before.url && is(status, "Ready", "True")
        })
        .await;

    assert_eq!(after.phase, before.phase);
    assert_eq!(after.go_live, before.go_live);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_from_a_changed_secret_is_no_drift() {
    let env = world(&["--recheck-interval", "1s"]).await;
    env.secret("settings", &[("GREETING", "hola")]).await;
    let from = json!({"provision": {"secrets": {"from": [{"secretRef": {"name": "settings"}}]}}});
    env.activation("hola", from).await;
    recovered(&env, "hola").await;
    let history = History::of(&env, "hola").await;
    let updates = || env.sim.calls("POST /v1/apps/{app}/machines/{id}");
    let before = updates();

    env.secret("settings", &[("GREETING", "buenas")]).await;

    until("both machines are given it", || updates() >= before + 2).await;
    recovered(&env, "hola").await;
    let seen = history.seen.lock().unwrap();
    for object in seen.iter() {
        let drifted = condition(object, "Drifted");
        assert!(
            drifted.as_ref().is_none_or(|(status, _)| status != "True"),
            "{drifted:?}"
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "a test reads the clock")]
#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_ends_at_its_time() {
    let mut env = Env::without_operator(options()).await;
    env.start_operator(&[]).await;
    env.activation("hola", json!({"suspend": true})).await;
    // The time is set only now, so that it has not passed before the first observation.
    env.wait_for("hola", "Suspended", "True").await;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let until = json!({"spec": {"suspendUntil": soon.to_string()}});
    env.patch("hola", until).await;

    recovered(&env, "hola").await;

    assert!(jiff::Timestamp::now() >= soon);
}

async fn annotate(env: &Env, key: &str, value: Option<&str>) {
    env.patch("hola", json!({"metadata": {"annotations": {key: value}}}))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_a_suspended_object_is_refused_and_said_so() {
    let env = world(&[]).await;
    env.activation("hola", json!({"suspend": true})).await;
    env.wait_for("hola", "Suspended", "True").await;

    annotate(&env, "golive.dev/retry", Some("now")).await;

    let note = event(&env, "hola", "RetryRefused").await;
    assert!(note.contains("spec.suspend"), "{note}");
    assert!(env.sim.call_list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_stops_the_plan_that_it_names_until_it_is_taken_back() {
    let env = world(&[]).await;
    let history = History::of(&env, "hola").await;
    env.activation("hola", gated()).await;
    let digest = asks(&env).await;
    annotate(&env, "golive.dev/abort", Some("another-plan")).await;
    let note = event(&env, "hola", "AbortRefused").await;
    assert!(note.contains(&digest), "{note}");

    annotate(&env, "golive.dev/abort", Some(&digest)).await;

    let status = stopped(&env, "hola", "Aborted").await;
    assert!(message(&status, "Ready").contains("golive.dev/abort-`"));
    // No approval resumes an aborted plan.
    vote(&env, "yes", &digest, "Approve").await;
    let calls = env.sim.call_list().len();
    annotate(&env, "golive.dev/retry", Some("look")).await;
    env.wait("hola", "the retry is handled", |status| {
        status.last_handled_reconcile_at.as_deref() == Some("look")
    })
    .await;
    assert_eq!(env.sim.call_list().len(), calls);
    assert_eq!(machines(&env), 0);
    annotate(&env, "golive.dev/abort", None).await;
    recovered(&env, "hola").await;
    history.keeps_the_contract();
}
