//! The guard of what serves: while the spec cannot be brought live, the application that serves is
//! kept and proven, and `Live` says how it is.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::{Images, Options};
use golive::api::ActivationStatus;
use serde_json::{Value, json};

use crate::support::{
    deploy::{APP, alive, image, shell},
    env::{Env, is, message, reason},
    replay::{Recorder, Version},
    service::hello,
    trouble::{event, fly},
};

/// Two machines of the smallest service, re-checked every second.
async fn serving(more: Value) -> Env {
    let images = [
        hello("1"),
        hello("2"),
        shell("exits", "echo 'no such table: cabins'; exit 3"),
        // It listens, and answers every request with an error.
        hello("wrong").env("CABANAS_FAULT", "errors=100"),
    ];
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&["--recheck-interval", "1s"]).await;
    let mut spec = json!({
        "deploy": {"image": image("1"), "scale": {"app": 2}},
        "smokeTest": {"checks": [{
            "name": "homepage", "http": {"path": "/"},
            "interval": "1s", "count": 2, "failureLimit": 1,
        }]},
    });
    crate::support::env::merge(&mut spec, more);
    env.activation("hola", spec).await;
    env.wait_live("hola").await;
    env
}

fn named(env: &Env, name: &str) -> Option<String> {
    let machines = alive(env).into_iter();
    let mut named = machines.filter(|machine| machine["name"] == name);
    Some(named.next()?["id"].as_str()?.to_owned())
}

/// Somebody destroys a machine of what serves: another one takes its place, with the same release.
async fn a_lost_machine_comes_back(env: &Env, release: &str) {
    let name = "golive-app-1";
    let lost = named(env, name).unwrap();
    fly(env, "cabanas")
        .delete_machine(APP, &lost, true, None)
        .await
        .unwrap();
    let back = |_: &ActivationStatus| {
        let id = named(env, name);
        id.is_some_and(|id| id != lost)
    };
    env.wait("hola", "the machine is back", back).await;
    let release = image(release);
    env.wait(
        "hola",
        "two machines of the release that serves",
        |status| {
            is(status, "Live", "True")
                && status
                    .release
                    .as_ref()
                    .is_some_and(|serving| serving.image == release)
                && alive(env).len() == 2
        },
    )
    .await;
    event(env, "hola", "DriftDetected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_serves_is_kept_while_the_image_of_the_spec_does_not_exist() {
    let env = serving(json!({})).await;
    env.patch(
        "hola",
        json!({"spec": {"deploy": {"image": image("typo")}}}),
    )
    .await;
    let status = env.wait_for("hola", "Ready", "False").await;
    assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));
    assert_eq!(reason(&status, "Ready"), "ImageNotFound");

    a_lost_machine_comes_back(&env, "1").await;
    let status = env.wait_for("hola", "Drifted", "False").await;
    assert!(is(&status, "Ready", "False"));
    assert!(
        message(&status, "Live").contains("release 1"),
        "{}",
        message(&status, "Live")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_serves_is_kept_while_a_gate_waits_and_after_a_restart_of_the_operator() {
    let mut env = serving(json!({})).await;
    env.patch(
        "hola",
        json!({"spec": {
            "deploy": {"image": image("2")},
            "gates": [{"before": "Deploy", "timeout": "2h"}],
        }}),
    )
    .await;
    let waits = |status: &ActivationStatus| reason(status, "Ready") == "AwaitingApproval";
    let status = env.wait("hola", "it waits", waits).await;
    assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));
    a_lost_machine_comes_back(&env, "1").await;

    env.stop_operator().await;
    env.start_operator(&["--recheck-interval", "1s"]).await;
    a_lost_machine_comes_back(&env, "1").await;
    let status = env.status("hola").await;
    assert!(waits(&status), "{}", reason(&status, "Ready"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostnames_that_change_while_a_gate_waits_are_requested_and_removed_once() {
    let hostnames = |list: Value| json!({"provision": {"hostnames": list}});
    let both = hostnames(json!(["a.cabanas.example", "b.cabanas.example"]));
    let env = serving(both).await;
    let mut spec = hostnames(json!(["a.cabanas.example", "c.cabanas.example"]));
    spec["gates"] = json!([{"before": "Deploy", "timeout": "2h"}]);
    spec["deploy"] = json!({"image": image("2")});
    env.patch("hola", json!({ "spec": spec })).await;
    let waits = |status: &ActivationStatus| reason(status, "Ready") == "AwaitingApproval";
    env.wait("hola", "it waits", waits).await;

    // Several re-checks, each of which reads the app.
    let all = || env.sim.call_counts().values().sum::<u64>();
    let before = all();
    let more = |_: &ActivationStatus| all() > before + 40;
    env.wait("hola", "it was looked at again", more).await;

    let counts = env.sim.call_counts();
    let of = |method: &str| {
        let calls = counts.iter();
        let calls = calls.filter(|(at, _)| at.starts_with(method) && at.contains("certificates"));
        calls.map(|(_, count)| *count).sum::<u64>()
    };
    assert_eq!((of("POST"), of("DELETE")), (3, 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_serves_is_kept_beside_an_invalid_spec_and_live_turns_false_when_it_stops_to_answer() {
    let env = serving(json!({})).await;
    // The token is gone: nothing can be asked of Fly.io, but the site still answers.
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
        kube::Api::namespaced(env.kube.clone(), &env.namespace);
    let key = json!({"data": {"token": null}});
    let patch = kube::api::Patch::Merge(&key);
    secrets
        .patch("fly", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    let status = env.wait_for("hola", "Ready", "False").await;
    assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));

    for machine in alive(&env) {
        let id = machine["id"].as_str().unwrap();
        fly(&env, "cabanas")
            .stop_machine(APP, id, None, None)
            .await
            .unwrap();
    }
    let down = env.wait_for("hola", "Live", "False").await;
    assert_eq!(
        reason(&down, "Ready"),
        reason(&status, "Ready"),
        "the spec is as it was"
    );
    event(&env, "hola", "SmokeCheckFailed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rollback_the_restored_release_is_live_and_kept() {
    let env = serving(json!({})).await;
    env.patch(
        "hola",
        json!({"spec": {"deploy": {"image": image("exits")}}}),
    )
    .await;
    let rolled_back = |status: &ActivationStatus| {
        reason(status, "Ready") == "RolledBack" && is(status, "Stalled", "True")
    };
    env.wait("hola", "it is rolled back", rolled_back).await;
    env.wait_for("hola", "Live", "True").await;
    a_lost_machine_comes_back(&env, "1").await;
    env.wait("hola", "held as before", rolled_back).await;
    env.wait_for("hola", "Drifted", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_fails_its_smoke_test_is_rolled_back_and_never_counts_as_good() {
    let env = serving(json!({"smokeTest": {"deadline": "30s"}})).await;
    env.patch(
        "hola",
        json!({"spec": {"deploy": {"image": image("wrong")}}}),
    )
    .await;
    let rolled_back = |status: &ActivationStatus| {
        reason(status, "Ready") == "RolledBack" && is(status, "Stalled", "True")
    };
    let status = env.wait("hola", "it is rolled back", rolled_back).await;
    let text = message(&status, "Ready");
    assert!(
        text.contains("failed its SmokeTest") && text.contains("500"),
        "{text}"
    );
    let status = env.wait_for("hola", "Live", "True").await;
    let release = status.release.unwrap();
    assert_eq!(release.image, image("1"));
    let outcomes: Vec<&str> = status
        .history
        .iter()
        .map(|entry| entry.outcome.as_str())
        .collect();
    assert_eq!(outcomes, ["RolledBack", "Succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_keeps_what_serves_and_is_applied_at_once() {
    let mut env = serving(json!({})).await;
    env.patch(
        "hola",
        json!({"spec": {
        "mode": "Plan", "deploy": {"image": image("2")},
        }}),
    )
    .await;
    let planned = |status: &ActivationStatus| reason(status, "Ready") == "Planned";
    let status = env.wait("hola", "it is planned", planned).await;
    assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));
    a_lost_machine_comes_back(&env, "1").await;
    let status = env.status("hola").await;
    assert!(planned(&status) && !is(&status, "Stalled", "True"));

    // With a long interval only the change of the spec can be the cause of the next look.
    env.stop_operator().await;
    env.start_operator(&["--recheck-interval", "10m"]).await;
    env.wait("hola", "planned again", |status| {
        planned(status) && is(status, "Live", "True")
    })
    .await;
    env.patch("hola", json!({"spec": {"mode": "Apply"}})).await;
    env.wait("hola", "the release of the plan", |status| {
        is(status, "Ready", "True")
            && status
                .release
                .as_ref()
                .is_some_and(|serving| serving.image == image("2"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_check_in_the_spec_says_nothing_about_the_site() {
    let env = serving(json!({})).await;
    let wrong = json!([{
        "name": "homepage", "http": {"path": "/nothing-here"},
        "interval": "1s", "count": 2, "failureLimit": 0,
    }]);
    env.patch(
        "hola",
        json!({"spec": {"smokeTest": {"checks": wrong, "deadline": "10s"}}}),
    )
    .await;
    let status = env.wait_for("hola", "Ready", "False").await;
    assert_eq!(reason(&status, "Ready"), "SmokeCheckFailed");
    assert!(is(&status, "Live", "True"), "{}", message(&status, "Live"));
}

/// What is told of the site in each version of the object that came after these.
fn told_since(recorder: &Recorder, uid: &str, before: usize) -> Vec<(String, String)> {
    let histories = recorder.histories();
    let history = histories.get(uid).into_iter().flatten().skip(before);
    let told = history.filter_map(Version::status).map(|status| {
        let conditions = status.conditions.iter();
        let live = conditions.filter(|condition| condition.type_ == "Live");
        let live: Vec<&str> = live.map(|condition| condition.status.as_str()).collect();
        (live.concat(), message(status, "Live").to_owned())
    });
    told.collect()
}

/// The images of both releases are the same: they differ in their environment alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_release_that_is_left_in_place_is_never_told_as_the_one_that_was_proven() {
    let mut env = serving(json!({"deploy": {"onFailure": "Pause"}})).await;
    let uid = env.get("hola").await.unwrap().metadata.uid.unwrap();
    let broken = concat!(
        "[env]\nCABANAS_FAULT = 'exits-after=0'\n[deploy]\nstrategy = 'immediate'\n",
        "[http_service]\ninternal_port = 8080\nauto_start_machines = true\n",
    );
    env.patch(
        "hola",
        json!({"spec": {"deploy": {"config": {"inline": broken}}}}),
    )
    .await;
    let failed = |status: &ActivationStatus| reason(status, "Ready") == "MachineExited";
    let status = env.wait("hola", "the release has failed", failed).await;
    assert!(!is(&status, "Live", "True"), "{}", message(&status, "Live"));

    let recorder = Recorder::start(env.activations());
    env.wait("hola", "it is recorded", |_| {
        recorder.histories().contains_key(&uid)
    })
    .await;
    let before = recorder.histories()[&uid].len();
    env.kill_operator();
    env.start_operator(&["--recheck-interval", "1s"]).await;
    let request = json!({"metadata": {"annotations": {"golive.dev/reconcile-requested-at": "1"}}});
    env.patch("hola", request).await;
    env.wait("hola", "the new process has looked", |status| {
        status.last_handled_reconcile_at.as_deref() == Some("1")
    })
    .await;
    for (live, text) in told_since(&recorder, &uid, before) {
        assert_ne!(live, "True", "{text}");
    }

    let mended = broken.replace("exits-after=0", "");
    env.patch(
        "hola",
        json!({"spec": {"deploy": {"config": {"inline": mended}}}}),
    )
    .await;
    env.wait("hola", "it is mended", |status| {
        is(status, "Ready", "True") && is(status, "Live", "True")
    })
    .await;
}
