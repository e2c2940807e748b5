//! The watch after Go-Live: its verdict, its rollback, and that it survives the operator.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use fly_sim::{Image, Options};
use golive::api::{
    ActivationStatus, PhaseName,
    status::{CheckResult, IncidentKind, PhaseStatus, WatchDecision, WatchState},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::support::{
    crash::Victim,
    env::{Env, images, is, reason},
    guests::Guests,
};

const NAME: &str = "hola";

const APP: &str = "hola-cabanas";

/// How many times faster the time of the watch runs.
const FAST: [&str; 2] = ["--time-scale", "360"];

/// Slower, where a verdict must be whole: a busy computer may not look for two seconds, three minutes of the watch.
const CALM: [&str; 2] = ["--time-scale", "90"];

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
    env.start_operator(&CALM).await;
    let mut spec = observe("1h", "RollBack");
    spec["readyWhen"] = "Stabilized".into();
    let guests = Guests::come(env.sim.edge(), APP, false);
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

/// A point in the life of a watch, and how it is known.
type Point = (&'static str, fn(&ActivationStatus) -> bool);

/// Where the operator is killed: from the begin of a watch over the breach of a release and its rollback to the
/// watch of the release that was restored.
const POINTS: [Point; 10] = [
    ("the begin", |status| state(status).is_some()),
    ("the first events", |status| events(status) > 0),
    ("the first figures", |status| {
        result(status, "errors") == CheckResult::Passed
    }),
    ("the new image is chosen", |status| {
        status.phases.iter().any(is_deploying)
    }),
    ("the new release serves", |status| {
        number(status) == Some(2) || status.rollback.is_some()
    }),
    ("its breach", |status| {
        is(status, "SLOMet", "False") || status.rollback.is_some()
    }),
    ("its rollback is asked for", |status| {
        let watch = status.watch.as_ref();
        watch.is_some_and(|watch| watch.decision == Some(WatchDecision::RollBack))
            || status.rollback.is_some()
    }),
    ("its rollback", |status| status.rollback.is_some()),
    ("the restored release serves", |status| {
        reason(status, "Ready") == "RolledBack" && is(status, "Live", "True")
    }),
    ("the next watch", |status| {
        status.watch.as_ref().is_some_and(|watch| watch.number == 2)
    }),
];

/// `make test` kills at these; `GOLIVE_CRASH_TEST=full` (`make test-crash`) at all.
const FEW: [usize; 4] = [2, 4, 7, 9];

fn is_deploying(phase: &PhaseStatus) -> bool {
    phase.name == PhaseName::Deploy && phase.starts > 1
}

fn number(status: &ActivationStatus) -> Option<i64> {
    status.release.as_ref().and_then(|release| release.number)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_at_any_point_of_a_watch_rolls_back_once_and_loses_nothing() {
    let full = std::env::var("GOLIVE_CRASH_TEST").is_ok_and(|value| value == "full");
    let mut env = Env::without_operator(options()).await;
    env.start_operator_process(&FAST);
    let guests = Guests::come(env.sim.edge(), APP, false);
    env.activation(NAME, observe("720h", "RollBack")).await;
    let mut began = None;
    for (at, (what, holds)) in POINTS.into_iter().enumerate() {
        if at == 3 {
            let bad = json!({"spec": {"deploy": {"image": BAD}}});
            env.patch(NAME, bad).await;
        }
        let status = env.wait(NAME, what, holds).await;
        let watch = status.watch.unwrap();
        if watch.number == 1 {
            let since = began.get_or_insert(watch.since.clone());
            assert_eq!(*since, watch.since, "{what}: it began once");
        }
        if full || FEW.contains(&at) {
            env.kill_operator();
            env.start_operator_process(&FAST);
        }
    }
    let status = env
        .wait(NAME, "the figures of the restored release", |status| {
            result(status, "errors") == CheckResult::Passed && events(status) > 50
        })
        .await;
    let watch = status.watch.clone().unwrap();
    assert_eq!((watch.number, watch.state), (2, WatchState::Running));
    assert!(watch.cause.contains("release 2"), "{}", watch.cause);
    assert_eq!(number(&status), Some(1));
    let rollback = status.rollback.clone().unwrap();
    assert_eq!((rollback.by.as_str(), rollback.to), ("Observe", Some(1)));
    let all = env.events(NAME).await;
    let of = |wanted: &str| all.iter().filter(|(_, reason, _)| reason == wanted).count();
    assert!(of("RollbackStarted") <= 1, "{all:?}");
    let made = env.sim.ledger().into_iter();
    let made = made.filter(|effect| effect.kind == "machine.create");
    let machines = env.sim.machines(APP);
    assert_eq!(made.count(), machines.len(), "no machine twice");

    // Its end, at once: an hour of the watch has passed.
    env.wait(NAME, "an hour", |status| observed_since(status) >= 3600)
        .await;
    env.patch(NAME, json!({"spec": {"observe": {"window": "1h"}}}))
        .await;
    env.kill_operator();
    env.start_operator_process(&FAST);
    let status = env
        .wait(NAME, "the verdict", |status| {
            state(status).is_some_and(|state| state != WatchState::Running)
        })
        .await;
    guests.go().await;
    let watch = status.watch.unwrap();
    // A gap is shown as a gap: on a busy computer the operator is away for more than may be missing.
    let gap = watch.state == WatchState::Inconclusive && watch.verdict.contains("not observed");
    let whole = watch.state == WatchState::Stabilized;
    assert!(whole || gap, "{}", watch.verdict);
    assert_eq!(watch.number, 2);
}

/// Seconds of the watch until its figures were taken.
fn observed_since(status: &ActivationStatus) -> i64 {
    let since = status.watch.as_ref().and_then(|watch| watch.since.clone());
    let entry = status.objectives.first();
    let at = entry.and_then(|entry| entry.observed_at.clone());
    match (since, at) {
        (Some(since), Some(at)) => at.0.as_second() - since.0.as_second(),
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing_but_a_gap_and_notify_says_what_would_have_been_done() {
    let mut env = Env::without_operator(options()).await;
    env.start_operator_process(&FAST);
    let guests = Guests::come(env.sim.edge(), APP, false);
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

/// One of two replicas, of which one leads. A lease of a busy computer must not be short.
fn replica(env: &Env) -> Victim {
    let more = [
        CALM[0],
        CALM[1],
        "--lease-duration",
        "8s",
        "--lease-renew-deadline",
        "6s",
        "--lease-retry-period",
        "200ms",
    ];
    let flags = env.flags(&more).into_iter();
    let flags = flags.map(|flag| flag.replace("--leader-elect=false", "--leader-elect=true"));
    Victim::of(env.command(flags.collect()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_goes_on_with_the_watch_where_the_one_that_was_killed_left_it() {
    let env = Env::without_operator(options()).await;
    let first = replica(&env);
    let guests = Guests::come(env.sim.edge(), APP, false);
    env.activation(NAME, observe("720h", "RollBack")).await;
    let before = env
        .wait(NAME, "the first figures", |status| {
            result(status, "errors") == CheckResult::Passed && events(status) > 50
        })
        .await;
    let second = replica(&env);
    first.end();
    let after = env
        .wait(NAME, "the figures go on", |status| {
            result(status, "errors") == CheckResult::Passed && events(status) > events(&before) + 50
        })
        .await;
    guests.go().await;
    let (was, now) = (before.watch.unwrap(), after.watch.unwrap());
    assert_eq!((was.since, was.number), (now.since, now.number));
    assert_eq!((now.state, now.decision), (WatchState::Running, None));
    assert_eq!(
        (after.rollback, number(&env.status(NAME).await)),
        (None, Some(1))
    );
    assert!(evidence(&env).await.is_some());
    second.end();
}
