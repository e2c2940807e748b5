//! The watch after Go-Live: its verdict, its rollback, and that it survives the operator.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fly_sim::{Image, Options};
use golive::api::{
    ActivationStatus,
    status::{CheckResult, IncidentKind, WatchState},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use crate::support::env::{Env, images, is, reason};

const NAME: &str = "hola";

/// How many times faster the time of the watch runs.
const FAST: [&str; 2] = ["--time-scale", "360"];

/// The release that answers a part of its requests with an error.
const BAD: &str = "registry.fly.io/hola-cabanas:errors";

fn options() -> Options {
    let cabanas = std::path::PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("cabanas");
    let mut images = images();
    images.add(
        Image::new(BAD, cabanas)
            .args(["hello"])
            .env("CABANAS_VERSION", "1.0.2")
            .env("CABANAS_FAULT", "errors=10"),
    );
    Options {
        images,
        ..Options::default()
    }
}

fn observe(window: &str, on_breach: &str) -> Value {
    let toml = "app = 'hola-cabanas'\n[http_service]\ninternal_port = 8080\nforce_https = false\n";
    json!({"deploy": {"config": {"inline": toml}}, "observe": {
        "window": window,
        "onBreach": on_breach,
        "objectives": [
            {"name": "errors", "description": "guests get answers",
             "errorRate": {"metric": "http_requests_total", "errorSelector": {"status": "5.."}, "below": "1%"}},
            {"name": "fast", "latency": {"metric": "http_request_duration_seconds", "below": "15s"}},
        ],
    }})
}

/// Guests who come in bursts, with silence between them.
struct Guests {
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Guests {
    fn come(env: &Env) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let (edge, ends) = (env.sim.edge(), stop.clone());
        let task = tokio::spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                for _ in 0..30 {
                    get(edge).await;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        Self { stop, task }
    }

    async fn go(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

async fn get(edge: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(edge).await.ok()?;
    let request = "GET / HTTP/1.1\r\nhost: hola-cabanas.fly.dev\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    Some(())
}

/// The ConfigMap with what was observed.
async fn evidence(env: &Env) -> Option<ConfigMap> {
    let api: Api<ConfigMap> = Api::namespaced(env.kube.clone(), &env.namespace);
    let selected = ListParams::default().labels("app.kubernetes.io/component=watch");
    let mut found = api.list(&selected).await.unwrap().items;
    assert!(found.len() <= 1, "{found:?}");
    found.pop()
}

fn result(status: &ActivationStatus, name: &str) -> CheckResult {
    let mut entries = status.objectives.iter();
    let entry = entries.find(|entry| entry.name == name);
    entry.map_or(CheckResult::Unknown, |entry| entry.result)
}

fn events(status: &ActivationStatus) -> i64 {
    let entry = status
        .objectives
        .iter()
        .find(|entry| entry.name == "errors");
    entry.map_or(0, |entry| entry.events)
}

fn state(status: &ActivationStatus) -> Option<WatchState> {
    status.watch.as_ref().map(|watch| watch.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_application_under_bursts_ends_as_stable_without_a_false_alarm() {
    let mut env = Env::without_operator(options()).await;
    env.start_operator(&FAST).await;
    let mut spec = observe("1h", "RollBack");
    spec["readyWhen"] = "Stabilized".into();
    let guests = Guests::come(&env);
    env.activation(NAME, spec).await;
    let status = env
        .wait(NAME, "the watch", |status| {
            state(status) == Some(WatchState::Running)
        })
        .await;
    assert!(is(&status, "Live", "True"));
    assert!(is(&status, "Ready", "Unknown"), "it waits for the verdict");

    let status = env.wait_for(NAME, "Stabilized", "True").await;
    guests.go().await;
    assert!(is(&status, "Ready", "True") && is(&status, "SLOMet", "True"));
    assert_eq!(reason(&status, "Ready"), "Stabilized");
    let watch = status.watch.clone().unwrap();
    assert!(watch.verdict.contains("errors: 0 %"), "{}", watch.verdict);
    assert!(events(&status) > 50, "{:?}", status.objectives);
    env.wait_event(NAME, "Stabilized").await;
    for version in env.record().histories().into_values().flatten() {
        if let Some(status) = version.status() {
            assert!(!is(status, "SLOMet", "False"), "{status:#?}");
        }
    }
    for (_, reason, note) in env.events(NAME).await {
        let alarm = ["ObjectiveBreached", "BudgetBurning", "WouldRollBack"];
        assert!(!alarm.contains(&reason.as_str()), "{reason}: {note}");
    }

    // After its end nothing is written any more, and it is gone with its object.
    let before = evidence(&env).await.expect("what was observed");
    let end = before.resource_version();
    assert!(before.data.unwrap()["watch.json"].contains("\"Stabilized\""));
    let live = env.status(NAME).await;
    env.patch(
        NAME,
        json!({"metadata": {"annotations": {"golive.dev/reconcile-requested-at": "once"}}}),
    )
    .await;
    env.wait(NAME, "another pass", |status| {
        status.last_handled_reconcile_at.as_deref() == Some("once")
    })
    .await;
    assert_eq!(evidence(&env).await.unwrap().resource_version(), end);
    assert_eq!(env.status(NAME).await.objectives, live.objectives);
    env.delete(NAME).await;
    assert!(evidence(&env).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_breaches_an_objective_is_rolled_back_once_and_the_watch_begins_anew() {
    let mut env = Env::without_operator(options()).await;
    env.start_operator(&FAST).await;
    let guests = Guests::come(&env);
    env.activation(NAME, observe("720h", "RollBack")).await;
    env.wait(NAME, "the first release is fine", |status| {
        result(status, "errors") == CheckResult::Passed
    })
    .await;
    env.patch(NAME, json!({"spec": {"deploy": {"image": BAD}}}))
        .await;

    let status = env
        .wait(NAME, "the rollback", |status| {
            reason(status, "Ready") == "RolledBack" && is(status, "Live", "True")
        })
        .await;
    let rollback = status.rollback.clone().unwrap();
    assert_eq!((rollback.by.as_str(), rollback.to), ("Observe", Some(1)));
    let status = env
        .wait(NAME, "a window of its own, and its figures", |status| {
            let number = status.watch.as_ref().map(|watch| watch.number);
            number == Some(2) && result(status, "errors") == CheckResult::Passed
        })
        .await;
    let watch = status.watch.clone().unwrap();
    assert!(watch.cause.contains("release 2"), "{}", watch.cause);
    assert_eq!(watch.state, WatchState::Running);
    guests.go().await;
    assert_eq!(status.release.and_then(|release| release.number), Some(1));
    let all = env.events(NAME).await;
    let of = |wanted: &str| all.iter().filter(|(_, reason, _)| reason == wanted).count();
    assert_eq!(of("RollbackStarted"), 1, "{all:?}");
    assert!(
        of("ObjectiveBreached") + of("BudgetBurning") >= 1,
        "{all:?}"
    );
    let note = env.wait_event(NAME, "RollbackRequested").await;
    assert!(
        note.iter().any(|(_, _, note)| note.contains("--to 1")),
        "{note:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing_but_a_gap_and_notify_says_what_would_have_been_done() {
    let mut env = Env::without_operator(options()).await;
    env.start_operator_process(&FAST);
    let guests = Guests::come(&env);
    env.activation(NAME, observe("720h", "Notify")).await;
    let before = env
        .wait(NAME, "the first figures", |status| {
            result(status, "errors") == CheckResult::Passed && events(status) > 50
        })
        .await;
    env.kill_operator();
    env.start_operator_process(&FAST);
    let after = env
        .wait(NAME, "the figures go on", |status| {
            result(status, "errors") == CheckResult::Passed && events(status) > events(&before)
        })
        .await;
    let (was, now) = (before.watch.unwrap(), after.watch.unwrap());
    assert_eq!((was.since, was.number), (now.since, now.number));

    env.patch(NAME, json!({"spec": {"deploy": {"image": BAD}}}))
        .await;
    let status = env
        .wait(NAME, "what would be done", |status| {
            is(status, "SLOMet", "False")
                && status
                    .watch
                    .as_ref()
                    .is_some_and(|watch| watch.follows.contains("--to 1"))
        })
        .await;
    guests.go().await;
    assert!(is(&status, "Ready", "True") && is(&status, "Live", "True"));
    assert_eq!(status.rollback, None);
    let action = status.next_action.unwrap_or_default();
    assert!(action.contains("kubectl golive rollback"), "{action}");
    env.wait_event(NAME, "WouldRollBack").await;
    let rolled_back = |kind| kind == IncidentKind::RolledBack;
    let status = env.status(NAME).await;
    assert!(!status.incidents.iter().any(|found| rolled_back(found.kind)));
}
