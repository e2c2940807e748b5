//! Each fault of `examples/cabanas` that shows in figures, while the application is watched: what is found,
//! who is told, and that it is rolled back once.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{collections::BTreeSet, path::PathBuf};

use fly_sim::{Image, Options};
use futures::future::join_all;
use golive::api::status::{CheckResult, IncidentKind, WatchState};
use serde_json::{Value, json};
use vendors::messages::{Got, Kind};

use super::world::{Told, own};
use crate::support::{
    crash::full,
    env::{Env, images, is, reason},
    guests::Guests,
};

/// How many times faster the time of the watch runs.
const FAST: [&str; 2] = ["--time-scale", "360"];

/// A fault, the app that has it, and the objective that it breaks.
struct Case {
    app: &'static str,
    fault: &'static str,
    objective: &'static str,
}

/// Faults of a release that is deployed while the watch runs, and rolled back.
const BREACHES: [Case; 4] = [
    Case {
        app: "slow-text",
        fault: "slow-text=1500",
        objective: "text",
    },
    Case {
        app: "slow-audio",
        fault: "slow-audio=2500",
        objective: "audio",
    },
    Case {
        app: "many-errors",
        fault: "errors=10",
        objective: "errors",
    },
    Case {
        app: "old-calendars",
        fault: "ical-stale=90",
        objective: "calendars",
    },
];

/// The fault that a busy computer shows as clearly as one with time: a share of errors. Latencies and the age of
/// a gauge that is read in time are tried where nothing else runs.
const STEADY: &str = "errors=10";

/// Faults of a release that shows nothing that could be judged.
const SILENT: [Case; 2] = [
    Case {
        app: "no-metrics",
        fault: "no-metrics",
        objective: "errors",
    },
    Case {
        app: "silence",
        fault: "silence",
        objective: "errors",
    },
];

/// The app whose machine has bad luck.
const UNLUCKY: &str = "unlucky";

/// The app whose program ends again and again.
const EXITING: &str = "exiting";

fn image(app: &str, tag: &str) -> String {
    format!("registry.fly.io/{app}:{tag}")
}

fn options() -> Options {
    let cabanas = PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("cabanas");
    let mut images = images();
    let mut add = |app: &str, tag: &str, fault: &str| {
        let image = Image::new(image(app, tag), cabanas.clone())
            .args(["hello"])
            .env("CABANAS_VERSION", tag)
            .env("CABANAS_REHEARSAL", "true")
            .env("CABANAS_FAULT", fault);
        images.add(image);
    };
    for case in &BREACHES {
        // With the gauge of its calendars, which are fresh.
        add(case.app, "good", "ical-stale=0");
        add(case.app, "bad", case.fault);
    }
    for case in &SILENT {
        add(case.app, "bad", case.fault);
    }
    add(UNLUCKY, "good", "ical-stale=0");
    add(EXITING, "good", "exits-after=20");
    Options {
        images,
        ..Options::default()
    }
}

/// An Activation of the same name as its app.
async fn activate(env: &Env, app: &str, tag: &str, window: &str) {
    let toml =
        format!("app = '{app}'\n[http_service]\ninternal_port = 8080\nforce_https = false\n");
    let latency = |kind: &str, below: &str| {
        json!({"name": kind, "latency": {
            "metric": "http_request_duration_seconds", "selector": {"kind": kind}, "below": below,
        }})
    };
    let errors = json!({"name": "errors", "errorRate": {
        "metric": "http_requests_total", "errorSelector": {"status": "5.."}, "below": "1%"}});
    let calendars = json!({"name": "calendars", "gauge": {
        "metric": "ical_last_sync_age_minutes", "below": 30}});
    let objectives = match full() {
        true => vec![
            latency("text", "1s"),
            latency("audio", "2s"),
            errors,
            calendars,
        ],
        false => vec![errors],
    };
    let spec = json!({
        "app": app,
        "deploy": {"image": image(app, tag), "config": {"inline": toml}},
        "notifications": [own(json!({}))],
        "observe": {
            "owner": "Ops", "window": window, "onBreach": "RollBack",
            "objectives": objectives,
        },
    });
    env.activation(app, spec).await;
}

/// What was told of an Activation.
fn told_of(told: &Told, name: &str) -> Vec<Got> {
    let all = told.messages.got(Kind::Json).into_iter();
    let of = all.filter(|got| got.body["activation"]["name"] == name);
    of.collect()
}

fn events(messages: &[Got], event: &str, stage: &str) -> Vec<Value> {
    let found = messages.iter().filter(|got| {
        // A repeat has the id of the first.
        got.body["event"] == event && got.body["stage"] == stage
    });
    let mut ids = BTreeSet::new();
    let found = found.filter(|got| ids.insert(got.body["id"].to_string()));
    found.map(|got| got.body.clone()).collect()
}

/// The release with the fault is rolled back once, everybody is told of it once, and of nothing else.
async fn is_rolled_back(told: &Told, case: &Case) {
    let (env, app) = (&told.env, case.app);
    activate(env, app, "good", "720h").await;
    let guests = Guests::come(env.sim.edge(), app, true);
    env.wait(app, "all is well", |status| {
        let mut entries = status.objectives.iter();
        entries.len() > 0 && entries.all(|entry| entry.result == CheckResult::Passed)
    })
    .await;
    let bad = json!({"spec": {"deploy": {"image": image(app, "bad")}}});
    env.patch(app, bad).await;
    let status = env
        .wait(app, "the rollback", |status| {
            reason(status, "Ready") == "RolledBack" && is(status, "Live", "True")
        })
        .await;
    let rollback = status.rollback.clone().unwrap();
    assert_eq!((rollback.by.as_str(), rollback.to), ("Observe", Some(1)));
    let status = env
        .wait(app, "a window of its own", |status| {
            let watch = status.watch.as_ref();
            let mut entries = status.objectives.iter();
            watch.is_some_and(|watch| watch.number == 2)
                && entries.all(|entry| entry.result == CheckResult::Passed)
        })
        .await;
    assert_eq!(status.watch.unwrap().state, WatchState::Running);
    guests.go().await;

    let all = env.wait_event(app, "RollbackRequested").await;
    let of = |wanted: &'static str| all.iter().filter(move |(_, reason, _)| reason == wanted);
    assert_eq!(of("RollbackStarted").count(), 1, "{all:?}");
    let asked: Vec<_> = of("RollbackRequested").collect();
    let words = format!("objective {}", case.objective);
    assert!(
        asked
            .iter()
            .all(|(.., note)| note.contains(&words) && note.contains("--to 1")),
        "{asked:?}"
    );
    let alarms = of("ObjectiveBreached").chain(of("BudgetBurning"));
    let alarms: Vec<_> = alarms.collect();
    let about = format!("{}: ", case.objective);
    assert!(
        !alarms.is_empty() && alarms.iter().all(|(.., note)| note.starts_with(&about)),
        "{alarms:?}"
    );

    let closed = format!("objective/{}", case.objective);
    told.got(Kind::Json, "end of the alarm", |got| {
        got.body["activation"]["name"] == app
            && got.body["topic"] == closed.as_str()
            && got.body["stage"] == "Closed"
    })
    .await;
    told.got(Kind::Json, "rollback", |got| {
        got.body["activation"]["name"] == app && got.body["event"] == "RolledBack"
    })
    .await;
    let messages = told_of(told, app);
    assert_eq!(events(&messages, "RolledBack", "Once").len(), 1);
    let breached = events(&messages, "ObjectiveBreached", "Open");
    let burning = events(&messages, "BudgetBurning", "Open");
    let alarms: Vec<&Value> = breached.iter().chain(&burning).collect();
    for alarm in &alarms {
        assert_eq!(alarm["topic"], closed, "{alarm:#}");
        assert_eq!(alarm["owner"], "Ops");
    }
    assert!(!alarms.is_empty(), "{messages:#?}");
}

/// What shows nothing is neither good nor bad: no alarm, no rollback, and no verdict.
async fn has_no_verdict(told: &Told, case: &Case) {
    let (env, app) = (&told.env, case.app);
    activate(env, app, "bad", "1h").await;
    let guests = Guests::come(env.sim.edge(), app, true);
    let status = env
        .wait(app, "the end", |status| {
            status
                .watch
                .as_ref()
                .is_some_and(|watch| watch.state != WatchState::Running)
        })
        .await;
    guests.go().await;
    let watch = status.watch.clone().unwrap();
    assert_eq!(watch.state, WatchState::Inconclusive, "{}", watch.verdict);
    for entry in &status.objectives {
        assert_eq!(entry.result, CheckResult::Unknown, "{entry:?}");
        assert_eq!(entry.events, 0, "{entry:?}");
    }
    assert!(is(&status, "Live", "True") && is(&status, "Stabilized", "Unknown"));
    assert_eq!(watch.decision, None);
    env.wait_event(app, "Inconclusive").await;
    let told = told.got(Kind::Json, "no verdict", |got| {
        got.body["activation"]["name"] == app && got.body["event"] == "NotStabilized"
    });
    let text = told.await.body["text"].clone();
    assert!(
        text.as_str().unwrap().contains(case.objective),
        "{text} does not name what is missing"
    );
}

/// A machine that runs out of memory and one that crashes are incidents, told once each, and the first is
/// critical.
async fn has_incidents(told: &Told) {
    let (env, app) = (&told.env, UNLUCKY);
    activate(env, app, "good", "3h").await;
    let guests = Guests::come(env.sim.edge(), app, true);
    env.wait(app, "the watch", |status| status.watch.is_some())
        .await;
    let machine = env.sim.machines(app)[0]["id"].as_str().unwrap().to_owned();
    assert!(env.sim.out_of_memory(app, &machine));
    env.wait(app, "the incident", |status| {
        let mut incidents = status.incidents.iter();
        incidents.any(|found| found.kind == IncidentKind::OutOfMemory && found.subject == machine)
    })
    .await;
    let status = env
        .wait(app, "the end", |status| is(status, "Stabilized", "False"))
        .await;
    guests.go().await;
    let watch = status.watch.clone().unwrap();
    assert_eq!(watch.state, WatchState::NotStabilized);
    assert!(watch.verdict.contains("memory"), "{}", watch.verdict);
    assert_eq!(status.rollback, None);
    told.got(Kind::Json, "verdict", |got| {
        got.body["activation"]["name"] == app && got.body["event"] == "NotStabilized"
    })
    .await;
    let messages = told_of(told, app);
    let seen = events(&messages, "IncidentSeen", "Once");
    assert!(
        seen.iter().any(|seen| seen["severity"] == "Critical"
            && seen["topic"] == format!("incident/OutOfMemory/{machine}")),
        "{seen:#?}"
    );
}

/// A program that ends is an incident, told with its machine. Figures decide about a rollback, and an end is none.
async fn is_told_that_it_exits(told: &Told) {
    let (env, app) = (&told.env, EXITING);
    activate(env, app, "good", "720h").await;
    let status = env
        .wait(app, "the incident", |status| {
            let mut incidents = status.incidents.iter();
            incidents.any(|found| found.kind == IncidentKind::MachineCrashed)
        })
        .await;
    let mut incidents = status.incidents.iter();
    let crashed = incidents.find(|found| found.kind == IncidentKind::MachineCrashed);
    let crashed = crashed.unwrap();
    assert!(crashed.message.contains("ended with code 1"), "{crashed:?}");
    let topic = format!("incident/MachineCrashed/{}", crashed.subject);
    let seen = told.got(Kind::Json, "the crash", |got| {
        got.body["activation"]["name"] == app && got.body["topic"] == topic.as_str()
    });
    let seen = seen.await.body.clone();
    assert_eq!(
        (&seen["event"], &seen["stage"]),
        (&json!("IncidentSeen"), &json!("Once"))
    );
    assert_eq!(status.rollback, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_that_shows_in_figures_is_told_and_rolled_back_once_and_no_other() {
    let mut told = Told::with(options()).await;
    told.start(&FAST);
    let told = &told;
    let cases = BREACHES
        .iter()
        .filter(|case| full() || case.fault == STEADY);
    let breaches = join_all(cases.map(|case| is_rolled_back(told, case)));
    let silent = join_all(SILENT.iter().map(|case| has_no_verdict(told, case)));
    tokio::join!(
        breaches,
        silent,
        has_incidents(told),
        is_told_that_it_exits(told)
    );
}
