//! Failures: worlds with images that fail, faults at a chosen call, and the contract of a status
//! while something is wrong and after it is fixed.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fly_sim::{Image, Options, Pause, Point, core::Shared};

use golive::{
    api::ActivationStatus,
    fly::{Client, Endpoints, Fly, HttpOptions, Token},
};

use serde_json::json;

use crate::support::env::{Env, LIMIT, images, is, message, reason};

/// The endpoint that creates machines.
pub const CREATE_MACHINE: &str = "POST /v1/apps/{app}/machines";

/// The images of the examples, and one whose program ends at once with code 3.
pub fn options() -> Options {
    let mut images = images();
    images.add(
        Image::new("registry.fly.io/hola-cabanas:crash", "/bin/sh")
            .args(["-c", "echo cannot read the configuration; exit 3"]),
    );
    // A second one that works. The variable makes its digest differ.
    let cabanas = std::path::PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("cabanas");
    images.add(
        Image::new("registry.fly.io/hola-cabanas:again", cabanas)
            .args(["hello"])
            .env("CABANAS_VERSION", "1.0.1"),
    );
    Options {
        images,
        ..Options::default()
    }
}

/// A world with the operator inside, and with flags of its own.
pub async fn world(flags: &[&str]) -> Env {
    let mut env = Env::without_operator(options()).await;
    env.start_operator(flags).await;
    env
}

/// Waits until the object is stalled for this reason, and checks the contract: not ready with the
/// same reason, a message of one line, and a next action.
pub async fn stopped(env: &Env, name: &str, wanted: &str) -> ActivationStatus {
    let status = env
        .wait(name, &format!("Stalled by {wanted}"), |status| {
            is(status, "Stalled", "True") && reason(status, "Stalled") == wanted
        })
        .await;
    assert!(is(&status, "Ready", "False"), "{status:?}");
    assert_eq!(reason(&status, "Ready"), wanted);
    assert!(!is(&status, "Reconciling", "True"));
    let text = message(&status, "Ready");
    assert!(!text.contains('\n'));
    let ends = [": ", "; ", " (", ", "].map(|end| text.find(end).unwrap_or(text.len()));
    let cause = ends.into_iter().min().unwrap_or_default();
    assert!(cause <= 200, "the cause comes before its details: {text}");
    let action = status.next_action.as_deref();
    assert!(action.is_some_and(|action| action != text), "{status:?}");
    status
}

/// Waits until the object reports a retry for this cause, and is not stalled.
pub async fn retrying(env: &Env, name: &str, cause: &[&str]) -> ActivationStatus {
    let status = env
        .wait(name, &format!("a retry because of {cause:?}"), |status| {
            reason(status, "Ready") == "ProgressingWithRetry"
                && status.phases.iter().any(|phase| {
                    phase
                        .steps
                        .iter()
                        .any(|step| cause.contains(&step.reason.as_str()))
                })
        })
        .await;
    assert!(is(&status, "Ready", "Unknown"), "{status:?}");
    assert!(is(&status, "Reconciling", "True"), "{status:?}");
    assert!(!is(&status, "Stalled", "True"), "{status:?}");
    status
}

/// Waits for the Go-Live and its event, which is the last one.
pub async fn recovered(env: &Env, name: &str) -> ActivationStatus {
    let status = env.wait_live(name).await;
    event(env, name, "GoLive").await;
    assert!(is(&status, "Ready", "True"), "{status:?}");
    assert!(!is(&status, "Stalled", "True"));
    assert!(!is(&status, "Reconciling", "True"));
    status
}

/// Waits for an event with this reason.
pub async fn event(env: &Env, name: &str, wanted: &str) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let events = env.events(name).await;
        if let Some((_, _, note)) = events.iter().find(|(_, reason, _)| reason == wanted) {
            return note.clone();
        }
        assert!(Instant::now() < end, "no event {wanted}: {events:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Reasons of the Warning events so far; each has a note. Events follow the status that they report,
/// in order: a test that has only observed the status waits for the event first.
pub async fn warnings(env: &Env, name: &str) -> Vec<String> {
    // No event is outstanding when the list has not changed for a while.
    let mut events = env.events(name).await;
    let mut same = 0;
    while same < 4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let now = env.events(name).await;
        same = if now == events { same + 1 } else { 0 };
        events = now;
    }
    let warnings = events.into_iter().filter(|(type_, ..)| type_ == "Warning");
    warnings
        .map(|(_, reason, note)| {
            assert!(note.len() > 20, "{reason}: {note}");
            reason
        })
        .collect()
}

/// More than the calls of one go-live that change something.
const MUTATIONS: u64 = 120;

/// Does this, once, at a point of the next call of this endpoint, which must change something.
pub fn once_at(
    env: &Env,
    endpoint: &'static str,
    point: Point,
    action: impl Fn(&Shared) + Send + Sync + 'static,
) {
    let (core, action) = (env.sim.core().clone(), Arc::new(action));
    let done = Arc::new(AtomicBool::new(false));
    let next = env.sim.mutations() + 1;
    for k in next..next + MUTATIONS {
        let (core, action, done) = (core.clone(), action.clone(), done.clone());
        env.sim.on_mutation(
            k,
            point,
            Arc::new(move |mutation| {
                if mutation.endpoint == endpoint && !done.swap(true, Ordering::SeqCst) {
                    action(&core);
                }
                Box::pin(std::future::ready(()))
            }),
        );
    }
}

/// Holds the next call of this endpoint, which must change something, at this point.
pub fn pause_at(env: &Env, endpoint: &'static str, point: Point) -> Pause {
    let (pause, action) = Pause::new();
    let done = Arc::new(AtomicBool::new(false));
    let next = env.sim.mutations() + 1;
    for k in next..next + MUTATIONS {
        let (action, done) = (action.clone(), done.clone());
        env.sim.on_mutation(
            k,
            point,
            Arc::new(move |mutation| {
                if mutation.endpoint == endpoint && !done.swap(true, Ordering::SeqCst) {
                    return action(mutation);
                }
                Box::pin(std::future::ready(()))
            }),
        );
    }
    pause
}

/// Waits for a condition outside of the status.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Calls that were answered by a fault.
pub fn faulted(env: &Env) -> usize {
    let calls = env.sim.call_list().into_iter();
    calls.filter(|call| call.fault.is_some()).count()
}

/// Ids of an app's machines that run the application.
pub fn serving(env: &Env, app: &str) -> Vec<String> {
    let machines = env.sim.machines(app).into_iter();
    machines
        .filter(|machine| {
            let slot = machine["config"]["metadata"]["golive_slot"].as_str();
            machine["state"] == "started" && !slot.unwrap_or_default().contains('/')
        })
        .filter_map(|machine| machine["id"].as_str().map(str::to_owned))
        .collect()
}

/// Changes an organization's machine limit.
pub fn machine_limit(env: &Env, limit: Option<usize>) {
    env.sim.core().write(|world| {
        world.orgs.get_mut("cabanas").unwrap().machine_limit = limit;
    });
}

/// A Fly client of an organization, for manual changes.
pub fn fly(env: &Env, organization: &str) -> Client {
    let base = env.sim.base_url();
    let endpoints = Endpoints {
        machines: base.clone(),
        api: base.clone(),
        uiex: base.clone(),
        registry: base,
    };
    let token = Token::parse(&env.sim.token(organization).unwrap()).unwrap();
    Fly::new(endpoints, HttpOptions::default())
        .unwrap()
        .client(token)
}

/// Another image of the smallest application.
pub async fn deploy(env: &Env, name: &str, tag: &str) {
    let image = format!("registry.fly.io/hola-cabanas:{tag}");
    env.patch(name, json!({"spec": {"deploy": {"image": image}}}))
        .await;
}
