//! Rollback: requests by `kubectl golive rollback`, what is recorded, and what is refused.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use fly_sim::{Fault, Kind};
use golive::api::ActivationStatus;
use golive::api::status::RollbackState;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::fly_release::at_fly;
use crate::support::deploy::{
    LIST, QUIET, UPDATE, another_process_changes_nothing, change, deploy, digests, env, image,
    machines, shell, step, until, until_deployed,
};
use crate::support::env::{Env, LIMIT};

/// The plugin, as a person runs it.
fn plugin(env: &Env, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-golive"))
        .args(args)
        .args(["--namespace", &env.namespace, "--timeout", "60s"])
        .env("KUBECONFIG", env.cluster.kubeconfig())
        .output()
        .expect("the plugin starts")
}

async fn rollback(env: &Env, args: &[&str]) -> (bool, String) {
    let mut all = vec!["rollback", "hola"];
    all.extend(args);
    let output = tokio::task::block_in_place(|| plugin(env, &all));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// The records of releases: ConfigMaps of the operator, oldest first.
async fn records(env: &Env) -> Vec<(ConfigMap, Value)> {
    let api: Api<ConfigMap> = Api::namespaced(env.kube.clone(), &env.namespace);
    let params = ListParams::default().labels("app.kubernetes.io/component=release");
    let mut records: Vec<(ConfigMap, Value)> = api
        .list(&params)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|map| {
            let record = serde_json::from_str(&map.data.as_ref().unwrap()["release.json"]).unwrap();
            (map, record)
        })
        .collect();
    records.sort_by_key(|(_, record): &(_, Value)| record["number"].as_u64());
    records
}

/// Requests a rollback by an approval that was not made by the plugin.
pub async fn ask(env: &Env, name: &str, to: i64) {
    let digest = env.status("hola").await.plan.unwrap().digest;
    let about = json!({"gate": "Rollback", "digest": digest, "toRelease": to});
    env.decide(name, about).await;
}

async fn decided(env: &Env, name: &str) -> ActivationStatus {
    env.wait("hola", &format!("a decision on {name}"), |status| {
        status
            .rollback
            .as_ref()
            .is_some_and(|r| r.request == name && r.state != RollbackState::Waiting)
    })
    .await
}

fn refusal(status: &ActivationStatus) -> String {
    let rollback = status.rollback.clone().unwrap();
    assert_eq!(rollback.state, RollbackState::Refused, "{rollback:?}");
    rollback.message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_planned_before_it_is_done() {
    let mut env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    let first = until_deployed(&env, "1").await.release.unwrap();
    env.patch("hola", json!({"spec": {"deploy": {"image": image("2")}}}))
        .await;
    let second = until_deployed(&env, "2").await.release.unwrap();
    env.patch("hola", json!({"spec": {"mode": "Plan"}})).await;
    let generation = env.get("hola").await.unwrap().metadata.generation;
    env.wait("hola", "an empty plan of what is live", |status| {
        let plan = status.plan.as_ref().unwrap();
        plan.generation == generation && plan.complete && plan.total == 0
    })
    .await;

    ask(&env, "back", 1).await;
    let planned = env
        .wait("hola", "the plan of the rollback", |status| {
            let plan = status.plan.as_ref().unwrap();
            plan.changes.iter().any(|change| change.kind == "Machine")
        })
        .await;
    let plan = planned.plan.unwrap();
    let decision = plan.changes.iter().find(|change| change.kind == "Release");
    let decision = decision.unwrap().to_string();
    assert!(decision.contains("roll back to release 1"), "{decision}");
    let machine = plan.changes.iter().find(|change| change.kind == "Machine");
    let machine = machine.unwrap().to_string();
    for part in ["update machine", "image", first.digest.as_str(), "downtime"] {
        assert!(machine.contains(part), "{part}: {machine}");
    }
    assert!(
        !plan
            .changes
            .iter()
            .any(|change| change.step == "ReleaseCommand"),
        "{:#?}",
        plan.changes
    );
    assert_eq!(digests(&env), [second.digest].into(), "nothing is done");

    env.patch("hola", json!({"spec": {"mode": "Apply"}})).await;
    decided(&env, "back").await;
    until(&env, "Release", "RolledBack").await;
    assert_eq!(digests(&env), [first.digest].into());
    env.stop_operator().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_taken_back_once_by_who_asks_and_held_until_the_spec_changes() {
    let mut env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    let first = until_deployed(&env, "1").await.release.unwrap();
    env.patch(
        "hola",
        json!({
            "metadata": {"annotations": {"kubernetes.io/change-cause": "faster search"}},
            "spec": {"deploy": {"image": image("2"), "config": {"inline": format!("{QUIET}[env]\nMODE = 'quick'\n")}}},
        }),
    )
    .await;
    let second = until_deployed(&env, "2").await;
    let told = &second.history[0];
    assert_eq!(told.number, Some(2));
    assert_eq!(told.why, "faster search");
    assert!(!told.by.is_empty(), "{told:?}");
    assert!(
        told.changes
            .contains("image registry.fly.io/hola-cabanas:1 to 2")
            && told.changes.contains("env.MODE")
            && !told.changes.contains("quick"),
        "{told:?}"
    );

    let (done, text) = rollback(&env, &["--dry-run"]).await;
    assert!(done, "{text}");
    let (done, text) = rollback(&env, &["--wait", "--message", "search is wrong"]).await;
    assert!(done, "{text}");
    for line in [
        "from release 2",
        "to   release 1",
        "reverts the changes of release 2: image registry.fly.io/hola-cabanas:1 to 2",
        "release 1 serves",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (status, message) = until(&env, "Release", "RolledBack").await;
    assert!(message.contains("search is wrong"), "{message}");
    assert_eq!(status.release.unwrap().number, Some(1));
    assert_eq!(digests(&env), [first.digest.clone()].into());
    assert_eq!(status.history[0].outcome.as_str(), "RolledBack");
    assert_eq!(status.history[0].restores, Some(1));
    let asked = status.rollback.unwrap();
    assert_eq!((asked.state, asked.to), (RollbackState::Accepted, Some(1)));
    env.wait_event("hola", "RollbackStarted").await;
    let config = env.sim.machines(crate::support::deploy::APP);
    assert!(
        !json!(config).to_string().contains("quick"),
        "the configuration is restored too"
    );

    // Nothing more happens, in this process or another.
    another_process_changes_nothing(&mut env).await;

    // A changed spec is deployed. So is the spec that was rolled back, when it is applied again: a
    // rollback request counts once.
    change(
        &env,
        json!({"image": image("1"), "config": {"inline": QUIET}}),
    )
    .await;
    until_deployed(&env, "1").await;
    change(&env, json!({"image": image("2"), "config": {"inline": format!("{QUIET}[env]\nMODE = 'quick'\n")}})).await;
    let again = until_deployed(&env, "2").await;
    assert_eq!(again.history[0].outcome.as_str(), "Succeeded");
    env.sim.reset();
    env.wait("hola", "looks", |_| env.sim.calls(LIST) >= 2)
        .await;
    assert_eq!(env.sim.mutations(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_cannot_be_done_is_refused_and_says_why() {
    let env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    let digest = until_deployed(&env, "1").await.release.unwrap().digest;
    let (done, text) = rollback(&env, &[]).await;
    assert!(!done && text.contains("no earlier release"), "{text}");

    // Release 2 runs a release command that cannot be undone.
    let migrates = format!("{QUIET}[deploy]\nrelease_command = \"-c 'exit 0'\"\n");
    change(
        &env,
        json!({"image": image("2"), "config": {"inline": migrates}}),
    )
    .await;
    let second = until_deployed(&env, "2").await;
    let (done, text) = rollback(&env, &["--to", "9"]).await;
    assert!(!done && text.contains("no release 9 on record"), "{text}");
    let (done, text) = rollback(&env, &["--to", "1", "--wait"]).await;
    assert!(!done && text.contains("the rollback was refused"), "{text}");
    assert!(text.contains("migrations.reversible"), "{text}");
    env.wait_event("hola", "RollbackRefused").await;

    ask(&env, "no-such-release", 9).await;
    let status = decided(&env, "no-such-release").await;
    assert!(refusal(&status).contains("no release 9"));

    // The owner has allowed it by now, but the image no longer exists.
    change(&env, json!({"migrations": {"reversible": true}})).await;
    let generation = env.get("hola").await.unwrap().metadata.generation;
    env.wait("hola", "the new spec deployed", |status| {
        status.observed_generation == generation && is_deployed(status)
    })
    .await;
    env.sim
        .core()
        .write(|world| world.platform.removed_images.insert(digest));
    let (done, text) = rollback(&env, &["--wait"]).await;
    assert!(
        !done && text.contains("cannot be pulled any more"),
        "{text}"
    );

    let status = env.status("hola").await;
    assert_eq!(
        status.release.clone().unwrap().digest,
        second.release.unwrap().digest
    );
    assert_eq!(status.history[0].outcome.as_str(), "Succeeded");
    assert!(
        is_deployed(&status),
        "a refusal is no failure of the release"
    );
}

fn is_deployed(status: &ActivationStatus) -> bool {
    status
        .phases
        .iter()
        .any(|phase| phase.name.as_str() == "Deploy" && phase.state.as_str() == "Succeeded")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_gone_keeps_a_failed_release_from_being_rolled_back() {
    let env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    let digest = until_deployed(&env, "1").await.release.unwrap().digest;
    env.sim
        .core()
        .write(|world| world.platform.removed_images.insert(digest));
    change(&env, json!({"image": image("exits")})).await;
    let (_, message) = until(&env, "Machines", "RollbackHeld").await;
    assert!(message.contains("exited with code 3"), "{message}");
    assert!(message.contains("cannot be pulled any more"), "{message}");
}

/// One request makes one rollback, also when the operator is killed in the middle of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_carried_out_once_though_the_operator_is_killed_in_the_middle() {
    let mut env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    let first = until_deployed(&env, "1").await.release.unwrap();
    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    env.stop_operator().await;
    env.sim.reset();
    ask(&env, "back", 1).await;

    env.start_operator(&[]).await;
    let end = Instant::now() + LIMIT;
    loop {
        let records = records(&env).await;
        let request = &records[1].1["requests"];
        if request
            .as_array()
            .is_some_and(|requests| !requests.is_empty())
        {
            break;
        }
        assert!(Instant::now() < end, "{records:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    env.kill_operator();
    env.start_operator(&[]).await;

    let (status, _) = until(&env, "Release", "RolledBack").await;
    assert_eq!(status.release.unwrap().number, Some(1));
    assert_eq!(digests(&env), [first.digest].into());
    assert_eq!(machines(&env).len(), 2);
    let records = records(&env).await;
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].1["requests"].as_array().unwrap().len(), 1);
    assert_eq!(records[1].1["requests"][0]["by"], "admin");
    env.stop_operator().await;
    let updates = env.sim.calls(UPDATE);
    env.start_operator(&[]).await;
    let looks = env.sim.calls(LIST) + 2;
    env.wait("hola", "looks", |_| env.sim.calls(LIST) >= looks)
        .await;
    assert_eq!(
        env.sim.calls(UPDATE),
        updates,
        "nothing is rolled back twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_release_is_tried_again_when_it_is_asked_for_and_each_word_asks_once() {
    let env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    until_deployed(&env, "1").await;
    change(&env, json!({"image": image("exits")})).await;
    until(&env, "Release", "RolledBack").await;

    for (annotation, word, failed) in [
        ("golive.dev/retry", "one", 3),
        ("golive.dev/retry-from", "Deploy", 4),
        ("golive.dev/retry-from", "Deploy/again", 5),
    ] {
        env.patch(
            "hola",
            json!({"metadata": {"annotations": {annotation: word}}}),
        )
        .await;
        env.wait("hola", &format!("release {failed} rolled back"), |status| {
            status.history.first().is_some_and(|last| {
                last.number == Some(failed) && last.outcome.as_str() == "RolledBack"
            })
        })
        .await;
        until(&env, "Release", "RolledBack").await;
    }
    env.patch(
        "hola",
        json!({"metadata": {"annotations": {"golive.dev/retry-from": "Nowhere"}}}),
    )
    .await;
    let events = env.wait_event("hola", "RetryRefused").await;
    let note = &events.iter().find(|e| e.1 == "RetryRefused").unwrap().2;
    assert!(
        note.contains("Nowhere") && note.contains("Deploy"),
        "{note}"
    );
    assert_eq!(env.status("hola").await.history.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_release_has_a_record_of_its_own_ten_are_kept_and_deletion_removes_them() {
    let env = env().await;
    deploy(&env, "1", QUIET, json!({"scale": {"app": 1}})).await;
    until_deployed(&env, "1").await;
    for number in 2..=11 {
        let toml = format!("{QUIET}[env]\nNUMBER = '{number}'\n");
        change(&env, json!({"config": {"inline": toml}})).await;
        env.wait("hola", &format!("release {number}"), |status| {
            let release = status.release.as_ref().and_then(|release| release.number);
            release == Some(number)
        })
        .await;
    }
    let kept = records(&env).await;
    let numbers: Vec<u64> = kept
        .iter()
        .filter_map(|(_, r)| r["number"].as_u64())
        .collect();
    assert_eq!(numbers, (2..=11).collect::<Vec<u64>>());
    let (map, record) = &kept[9];
    assert!(map.name_any().starts_with("golive-release-"));
    assert!(map.data.as_ref().unwrap()["fly.toml"].contains("NUMBER = '11'"));
    assert_eq!(record["outcome"], "Succeeded");
    assert_eq!(record["env"], json!(["NUMBER"]));
    assert!(record["changes"].as_str().unwrap().contains("env.NUMBER"));
    assert_eq!(env.status("hola").await.history.len(), 10);

    env.delete("hola").await;
    assert!(records(&env).await.is_empty());
}

fn outcomes(status: &ActivationStatus) -> Vec<(i64, &str)> {
    let entries = status.history.iter();
    entries
        .map(|entry| (entry.number.unwrap_or_default(), entry.outcome.as_str()))
        .collect()
}

/// Waits until this release has failed and is left as it is; with what the step `Machines` says.
async fn left(env: &Env, number: i64) -> (ActivationStatus, String) {
    let what = format!("release {number} left");
    let status = env.wait("hola", &what, |status| {
        outcomes(status).first() == Some(&(number, "Failed"))
    });
    let status = status.await;
    let message = step(&status, "Machines").2;
    (status, message)
}

/// Versions of the ConfigMaps of the records.
async fn versions(env: &Env) -> Vec<Option<String>> {
    let records = records(env).await.into_iter();
    records.map(|(map, _)| map.resource_version()).collect()
}

const MIGRATES: &str = "[deploy]\nrelease_command = \"-c 'exit 0'\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_back_over_the_migration_of_a_release_that_failed_and_was_held() {
    let mut env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    let first = until_deployed(&env, "1").await.release.unwrap().digest;
    let migrates = json!({"inline": format!("{QUIET}{MIGRATES}")});
    change(&env, json!({"image": image("exits"), "config": migrates})).await;
    let (status, _) = until(&env, "Machines", "RollbackHeld").await;
    assert_eq!(outcomes(&status), [(2, "Failed"), (1, "Succeeded")]);
    assert!(status.history[0].why.contains("exited with code 3"));
    assert_eq!(at_fly(&env), ["complete", "failed"]);

    // It is recorded once, also by a new process.
    let before = versions(&env).await;
    env.stop_operator().await;
    env.sim.reset();
    env.start_operator(&[]).await;
    env.wait("hola", "looks", |_| env.sim.calls(LIST) >= 3)
        .await;
    assert_eq!((env.sim.mutations(), versions(&env).await), (0, before));

    // Release 3 has no release command of its own.
    let toml = format!("{QUIET}[env]\nMODE = 'quick'\n");
    change(&env, json!({"config": {"inline": toml}})).await;
    let (status, message) = left(&env, 3).await;
    assert!(message.contains("exited with code 3"), "{message}");
    assert!(
        message.contains("not rolled back to release 1") && message.contains("release 2"),
        "{message}"
    );
    assert_eq!(outcomes(&status)[1], (2, "Failed"));
    ask(&env, "back", 1).await;
    let why = refusal(&decided(&env, "back").await);
    assert!(why.contains("release 2"), "{why}");
    assert_ne!(digests(&env), [first].into(), "nothing went back");

    // A release that works on the present database is deployed.
    change(&env, json!({"image": image("2")})).await;
    let status = until_deployed(&env, "2").await;
    assert_eq!(outcomes(&status)[0], (4, "Succeeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_command_that_failed_has_perhaps_migrated_half_and_is_on_record() {
    let env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    until_deployed(&env, "1").await;
    let fails = QUIET.to_owned() + &MIGRATES.replace("exit 0", "echo half of 7; exit 4");
    change(&env, json!({"config": {"inline": fails}})).await;
    let (status, message) = until(&env, "ReleaseCommand", "ReleaseCommandFailed").await;
    assert!(message.contains("half of 7"), "{message}");
    assert_eq!(outcomes(&status), [(2, "Failed"), (1, "Succeeded")]);
    assert_eq!(at_fly(&env), ["complete", "failed"]);
    let record = &records(&env).await[1].1;
    assert_eq!(
        (&record["migrated"], &record["reversible"]),
        (&json!(true), &json!(false))
    );

    let next = json!({"image": image("exits"), "config": {"inline": QUIET}});
    change(&env, next).await;
    let (_, message) = until(&env, "Machines", "RollbackHeld").await;
    assert!(message.contains("release 2"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_migration_of_a_release_that_was_superseded_before_it_ended_counts() {
    let mut env = env().await;
    let dir = tempfile::tempdir().unwrap();
    let ends = dir.path().join("ends");
    let script = format!("while ! test -e {}; do sleep 0.05; done", ends.display());
    deploy(&env, "1", QUIET, json!({})).await;
    until_deployed(&env, "1").await;
    let migrates = QUIET.to_owned() + &MIGRATES.replace("exit 0", &script);
    let second = json!({"image": image("2"), "config": {"inline": migrates}});
    change(&env, second).await;
    until(&env, "ReleaseCommand", "ReleaseCommandRunning").await;
    env.stop_operator().await;
    let next = json!({"image": image("exits"), "config": {"inline": QUIET}});
    change(&env, next).await;
    let before = digests(&env);
    env.start_operator(&[]).await;

    let earlier = |status: &ActivationStatus| step(status, "ReleaseCommand").2;
    env.wait("hola", "its end is waited for", |status| {
        earlier(status).contains("an earlier release")
    })
    .await;
    assert_eq!(digests(&env), before, "no machine is changed meanwhile");
    std::fs::write(&ends, "").unwrap();
    let (status, message) = until(&env, "Machines", "RollbackHeld").await;
    assert!(message.contains("release 2"), "{message}");
    assert_eq!(
        outcomes(&status),
        [(3, "Failed"), (2, "Superseded"), (1, "Succeeded")]
    );
    ask(&env, "back", 1).await;
    let why = refusal(&decided(&env, "back").await);
    assert!(
        why.contains("release 2") && why.contains("reversible"),
        "{why}"
    );
    change(&env, json!({"image": image("2")})).await;
    let status = until_deployed(&env, "2").await;
    assert_eq!(outcomes(&status)[0], (4, "Succeeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_command_that_hangs_is_ended_also_when_its_release_was_superseded() {
    let env = env().await;
    let hangs = MIGRATES.replace("exit 0", "exec sleep 600");
    let hangs = format!("{QUIET}{hangs}release_command_timeout = '3s'\n");
    deploy(&env, "1", &hangs, json!({})).await;
    until(&env, "ReleaseCommand", "ReleaseCommandRunning").await;
    let limit = format!("{QUIET}[deploy]\nrelease_command_timeout = '3s'\n");
    change(&env, json!({"config": {"inline": limit}})).await;
    until_deployed(&env, "1").await;
    let machines = env.sim.machines(crate::support::deploy::APP);
    let command = |machine: &&Value| {
        let slot = &machine["config"]["metadata"]["golive_slot"];
        slot.as_str().unwrap_or_default().starts_with("release/")
    };
    let left = machines.iter().filter(command);
    let left = left.filter(|machine| machine["state"] != "destroying");
    assert_eq!(left.count(), 0, "{machines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_mends_itself_turns_its_own_record_to_succeeded() {
    let dir = tempfile::tempdir().unwrap();
    let mended = dir.path().join("mended");
    let script = format!(
        "while ! test -e {}; do sleep 0.05; done; exec {} hello",
        mended.display(),
        crate::support::service::cabanas().display()
    );
    let images = [crate::support::service::hello("1"), shell("waits", &script)];
    let env = crate::support::deploy::env_with(images).await;
    let toml = crate::support::service::toml("rolling");
    // The limit holds for the second release only, and is long enough for the program before it to end.
    deploy(&env, "1", &toml, json!({"onFailure": "Pause"})).await;
    until_deployed(&env, "1").await;
    let limited = toml.replace("[deploy]", "[deploy]\nwait_timeout = '5s'");
    let waits = json!({"image": image("waits"), "config": {"inline": limited}});
    change(&env, waits).await;
    let (status, message) = left(&env, 2).await;
    assert!(message.contains("does not pass"), "{message}");
    assert_eq!(status.release.unwrap().number, Some(1));

    std::fs::write(&mended, "").unwrap();
    let status = until_deployed(&env, "waits").await;
    assert_eq!(outcomes(&status), [(2, "Succeeded"), (1, "Succeeded")]);
    assert_eq!(records(&env).await.len(), 2);
    assert_eq!(at_fly(&env), ["complete", "failed", "complete"]);
}

/// Before the first release only what this process knows names a command's machine that the list
/// does not show yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_release_command_that_no_list_shows_is_waited_for_when_it_is_superseded() {
    let env = env().await;
    let dir = tempfile::tempdir().unwrap();
    let ends = dir.path().join("ends");
    let script = format!("while ! test -e {}; do sleep 0.05; done", ends.display());
    let waits = QUIET.to_owned() + &MIGRATES.replace("exit 0", &script);
    deploy(&env, "1", &waits, json!({})).await;
    until(&env, "ReleaseCommand", "ReleaseCommandRunning").await;
    let list = "GET /v1/apps/{app}/machines";
    let stale = Kind::StaleList { mutations: 1 };
    env.sim.fault(Fault::new(list, stale).always());

    change(&env, json!({"image": image("2")})).await;
    env.wait("hola", "the first command is waited for", |status| {
        step(status, "ReleaseCommand").2.contains("earlier release")
    })
    .await;

    env.sim.clear_faults();
    std::fs::write(&ends, "").unwrap();
    until_deployed(&env, "2").await;
}
