//! The rules of a machine's life: restarts and their pauses, schedules, grace, secrets, sleep.

use std::time::Duration;

use fly_sim::{Options, Sim};
use serde_json::{Value, json};

use crate::client::{Api, IMAGE, edge, options, service};

async fn world(changed: Options) -> (Sim, Api) {
    let sim = Sim::start(changed).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let body = json!({"type": "shared_v4"});
    assert_eq!(api.post("/v1/apps/demo/ip_assignments", body).await.0, 200);
    (sim, api)
}

fn scaled(timer_scale: f64) -> Options {
    Options {
        timer_scale,
        ..options()
    }
}

async fn made(api: &Api, name: &str, config: Value) -> String {
    let machine = api.create("demo", name, config).await;
    machine["id"].as_str().unwrap().to_owned()
}

/// Type and time in milliseconds of all events, oldest first.
fn story(machine: &Value) -> Vec<(String, i64)> {
    let events = machine["events"].as_array().unwrap();
    let told = events.iter().rev().map(|event| {
        let kind = format!("{} {}", event["type"], event["status"]).replace('"', "");
        (kind, event["timestamp"].as_i64().unwrap())
    });
    told.collect()
}

fn exits(machine: &Value) -> usize {
    let story = story(machine);
    story
        .iter()
        .filter(|(kind, _)| kind.starts_with("exit"))
        .count()
}

fn is(state: &'static str) -> impl Fn(&Value) -> bool {
    move |machine| machine["state"] == state
}

#[tokio::test]
async fn the_policy_says_which_exits_are_followed_by_a_restart() {
    let (_sim, api) = world(options()).await;
    for (tag, policy, expected) in [
        ("exits-0", "always", 2),
        ("exits-0", "on-failure", 1),
        ("exits-3", "on-failure", 2),
        ("exits-3", "no", 1),
    ] {
        let config = json!({"image": format!("registry.fly.io/demo:{tag}"),
            "restart": {"policy": policy, "max_retries": 1}});
        let id = made(&api, &format!("{tag}-{policy}"), config).await;
        let machine = api.until("demo", &id, "stopped", is("stopped")).await;
        assert_eq!(exits(&machine), expected, "{tag} with {policy}");
    }
}

#[tokio::test]
async fn the_pause_before_a_restart_doubles() {
    let (_sim, api) = world(scaled(0.1)).await;
    let config = json!({"image": "registry.fly.io/demo:exits-3",
        "restart": {"policy": "on-failure", "max_retries": 3}});
    let id = made(&api, "app-0", config).await;
    let machine = api.until("demo", &id, "stopped", is("stopped")).await;
    let story = story(&machine);
    let pauses: Vec<i64> = story
        .windows(2)
        .filter(|pair| pair[0].0.starts_with("exit") && pair[1].0 == "start starting")
        .map(|pair| pair[1].1 - pair[0].1)
        .collect();
    // One second, two, four, at a tenth; an event's time is whole milliseconds.
    assert_eq!(pauses.len(), 3, "{story:?}");
    for (pause, least) in pauses.iter().zip([99, 199, 399]) {
        assert!(*pause >= least, "{pauses:?}");
    }
}

#[tokio::test]
async fn a_scheduled_machine_runs_again_when_it_is_time_unless_it_was_never_launched() {
    // An hour is 360 ms.
    let (sim, api) = world(scaled(0.000_1)).await;
    let config = json!({"image": "registry.fly.io/demo:exits-0", "schedule": "hourly"});
    let never = json!({"name": "never", "region": "eze", "config": config, "skip_launch": true});
    let (_, never) = api.post("/v1/apps/demo/machines", never).await;
    let id = made(&api, "hourly", config).await;
    let ran = |machine: &Value| exits(machine) >= 3;
    api.until("demo", &id, "three times done", ran).await;
    let never = api.machine("demo", never["id"].as_str().unwrap()).await;
    assert_eq!((exits(&never), &never["state"]), (0, &json!("stopped")));
    let due = sim.ledger();
    assert!(
        due.iter()
            .all(|e| e.kind != "machine.schedule" || e.name == "hourly")
    );
    let suspend = format!("/v1/apps/demo/machines/{id}/suspend");
    assert_eq!(api.call("POST", &suspend, None).await.0, 412);
}

#[tokio::test]
async fn a_check_says_nothing_good_before_its_grace_period_is_over() {
    let (_sim, api) = world(scaled(0.1)).await;
    let config = json!({"image": IMAGE, "checks": {"up":
        {"type": "tcp", "port": 8080, "interval": "2s", "grace_period": "10s"}}});
    let id = made(&api, "app-0", config).await;
    let passes = |machine: &Value| machine["checks"][0]["status"] == "passing";
    let machine = api.until("demo", &id, "healthy", passes).await;
    let started = story(&machine);
    let started = started.iter().find(|(kind, _)| kind == "start started");
    let since = machine["checks"][0]["updated_at"].as_str().unwrap();
    let since: jiff::Timestamp = since.parse().unwrap();
    let waited = since.as_millisecond() - started.unwrap().1;
    assert!(waited >= 999, "{waited} ms");
}

#[tokio::test]
async fn secrets_and_memory_are_those_of_the_last_boot_also_after_sleep() {
    // A request waits for a real program to start and to listen.
    let edge_patience = Duration::from_secs(15);
    let (sim, api) = world(Options {
        edge_patience,
        ..options()
    })
    .await;
    let secret = async |value: &str| {
        let body = json!({"values": {"LEVEL": value}});
        assert_eq!(api.post("/v1/apps/demo/secrets", body).await.0, 200);
    };
    let seen = async || {
        edge(&sim, "demo.fly.dev", "GET", "/env/LEVEL", "")
            .await
            .unwrap()
            .1
    };
    let health = async || {
        edge(&sim, "demo.fly.dev", "GET", "/healthz", "")
            .await
            .unwrap()
            .0
    };
    secret("one").await;
    let mut services = service();
    services[0]["checks"] = json!([]);
    let id = made(&api, "app-0", json!({"image": IMAGE, "services": services})).await;
    let path = format!("/v1/apps/demo/machines/{id}");
    assert_eq!(api.wait("demo", &id, "started").await.0, 200);
    // What the program keeps in memory: it says from now on that it is not well.
    let turned = edge(&sim, "demo.fly.dev", "POST", "/healthz/false", "").await;
    assert_eq!(turned.unwrap().0, 200);

    secret("two").await;
    assert_eq!(seen().await, "one");
    assert_eq!(
        api.call("POST", &format!("{path}/suspend"), None).await.0,
        200
    );
    assert_eq!(api.wait("demo", &id, "suspended").await.0, 200);
    // A request wakes it, and it goes on where it was.
    assert_eq!(seen().await, "one");
    assert_eq!(health().await, 503);
    let machine = api.machine("demo", &id).await;
    assert_eq!((exits(&machine), &machine["state"]), (0, &json!("started")));

    assert_eq!(api.post(&format!("{path}/stop"), json!({})).await.0, 200);
    assert_eq!(api.wait("demo", &id, "stopped").await.0, 200);
    assert_eq!(seen().await, "two");
    assert_eq!(health().await, 200);
}

#[tokio::test]
async fn an_idle_machine_is_stopped_or_suspended_down_to_the_least_number() {
    let (sim, api) = world(Options {
        autostop: true,
        ..scaled(0.001)
    })
    .await;
    api.create_app("other").await;
    let config = |autostop: Value, least: u64| {
        let mut services = service();
        services[0]["checks"] = json!([]);
        services[0]["autostop"] = autostop;
        services[0]["min_machines_running"] = json!(least);
        json!({"image": IMAGE, "services": services})
    };
    for name in ["app-0", "app-1", "app-2"] {
        made(&api, name, config(json!(true), 1)).await;
    }
    let sleeper = api
        .create("other", "app-0", config(json!("suspend"), 0))
        .await;
    let sleeper = sleeper["id"].as_str().unwrap();
    assert_eq!(api.wait("other", sleeper, "suspended").await.0, 200);
    let down = |sim: &Sim| {
        let machines = sim.machines("demo");
        machines
            .iter()
            .filter(|machine| machine["state"] == "stopped")
            .count()
    };
    let started = std::time::Instant::now();
    while down(&sim) < 2 {
        assert!(
            started.elapsed() < crate::client::LIMIT,
            "not stopped in time"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // One more pass, as another machine that is stopped shows, leaves the last one alone.
    let late = api.create("other", "app-1", config(json!("stop"), 0)).await;
    let late = late["id"].as_str().unwrap();
    assert_eq!(api.wait("other", late, "stopped").await.0, 200);
    assert_eq!(down(&sim), 2);
    let machine = api.machine("other", late).await;
    let stop = machine["events"].as_array().unwrap();
    let by_proxy = stop
        .iter()
        .any(|e| e["type"] == "stop" && e["source"] == "proxy");
    assert!(by_proxy, "{machine:#}");
}

#[tokio::test]
async fn a_program_is_asked_with_sigint_unless_told_otherwise() {
    let (_sim, api) = world(options()).await;
    let id = made(&api, "app-0", json!({"image": IMAGE})).await;
    let path = format!("/v1/apps/demo/machines/{id}");
    assert_eq!(api.wait("demo", &id, "started").await.0, 200);
    let ready = async || {
        let (_, logs) = api
            .get(&format!("/api/v1/apps/demo/logs?instance={id}"))
            .await;
        logs.to_string()
    };
    assert_eq!(api.post(&format!("{path}/stop"), json!({})).await.0, 200);
    assert_eq!(api.wait("demo", &id, "stopped").await.0, 200);
    let logs = ready().await;
    assert!(logs.contains("Sending signal SIGINT"), "{logs}");
    let stop = json!({"signal": "SIGTERM", "timeout": "100ms"});
    assert_eq!(
        api.call("POST", &format!("{path}/start"), None).await.0,
        200
    );
    assert_eq!(api.wait("demo", &id, "started").await.0, 200);
    assert_eq!(api.post(&format!("{path}/stop"), stop).await.0, 200);
    assert_eq!(api.wait("demo", &id, "stopped").await.0, 200);
    let logs = ready().await;
    assert!(logs.contains("Sending signal SIGTERM"), "{logs}");
}
