//! A step runs as soon as the steps that it needs are done, and a wait ends as soon as the awaited
//! state changes.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fly_sim::{Image, Images, Options};
use futures::StreamExt;
use golive::{
    api::{
        ActivationStatus,
        status::{CheckResult, StepState},
    },
    fly::{MachineConfig, MachineState, NewApp, NewMachine},
    pipeline::{StepId, Wake, observations::Fired},
    process::workqueue::Kind,
    triggers::{Waits, Woken},
};
use serde_json::json;

use crate::support::{
    deploy::{APP, QUIET, deploy, shell, step},
    env::{Env, LIMIT},
    fly::World,
};

const READ: &str = "GET /v1/apps/{app}/machines/{id}";
const WAIT: &str = "GET /v1/apps/{app}/machines/{id}/wait";

fn is_done(status: &ActivationStatus, name: &str) -> bool {
    step(status, name).0 == StepState::Done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_postgres_holds_back_neither_secrets_nor_addresses_redis_or_the_image() {
    let env = Env::start().await;
    let hold = |hold| {
        env.sim
            .core()
            .write(|world| world.platform.postgres_hold = hold)
    };
    hold(true);
    env.activation(
        "hola",
        json!({"provision": {
            "postgres": {"managed": {}}, "redis": {"upstash": {}},
            "secrets": {"generate": [{"name": "JWT_SECRET"}]},
        }}),
    )
    .await;

    let status = env
        .wait("hola", "all but the database", |status| {
            ["App", "Addresses", "Redis", "Secrets"]
                .iter()
                .all(|name| is_done(status, name))
                && step(status, "Postgres").0 == StepState::Waiting
        })
        .await;

    assert_eq!(step(&status, "Attach").0, StepState::Pending);
    let image = status
        .preflight
        .iter()
        .find(|check| check.check == "ImageResolvable");
    assert_eq!(image.unwrap().result, CheckResult::Passed);
    let (secrets, addresses) = env.sim.core().read(|world| {
        let of = &world.apps[APP].platform;
        let secrets: Vec<String> = of.secrets.digests().keys().cloned().collect();
        (secrets, of.addresses.len())
    });
    assert_eq!(secrets, ["JWT_SECRET", "REDIS_URL"], "at Fly.io already");
    assert_eq!(addresses, 2);
    assert!(env.sim.machines(APP).is_empty());
    hold(false);
    env.wait_live("hola").await;
}

/// Waits for a condition outside of the status.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_notices_a_change_at_once_and_not_at_the_next_look() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let toml = format!("{QUIET}[deploy]\nrelease_command = \"-c '{script}'\"\n");
    let options = Options {
        images: Images::new([shell("1", "exec sleep 600")]),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    let slow = ["--poll-interval", "5m", "--recheck-interval", "10m"];
    env.start_operator(&slow).await;
    deploy(&env, "1", &toml, json!({})).await;
    let waits = || {
        let calls = env.sim.call_list();
        calls
            .iter()
            .any(|call| call.endpoint == WAIT && call.status.is_none())
    };
    until("a long poll", waits).await;
    // When the operator read the machine.
    let looks = || -> Vec<u64> {
        let calls = env.sim.call_list().into_iter();
        let looks = calls.filter(|call| call.endpoint == READ);
        looks.map(|call| call.at_ms).collect()
    };
    // In case the long poll never answers, the operator also reads the machine 5 s after the read
    // before. At this moment the next such read is as far away as possible.
    let so_far = looks().len();
    until("a look without the poll", || looks().len() > so_far).await;

    std::fs::write(&go, "").unwrap();

    env.wait("hola", "the command to have run", |status| {
        is_done(status, "ReleaseCommand")
    })
    .await;
    // A read that came sooner was caused by the poll. The last read found the end.
    let looks = looks();
    let gap = looks.last().unwrap() - looks[so_far];
    assert!(looks.len() > so_far + 1, "{looks:?}");
    assert!(gap < 4_900, "{gap} ms");
}

/// A machine that was never started, and the waits for its start.
async fn a_machine() -> (World, Wake) {
    let image = Image::new("registry.fly.io/waits", "/bin/sleep").args(["600"]);
    let options = Options {
        images: Images::new([image]),
        ..Options::default()
    };
    let world = World::with(options, Default::default()).await;
    let app = NewApp {
        name: "waits".into(),
        org_slug: "cabanas".into(),
        ..NewApp::default()
    };
    world.client.create_app(&app).await.unwrap();
    let machine = NewMachine {
        name: "one".into(),
        region: "eze".into(),
        skip_launch: true,
        config: MachineConfig {
            image: "registry.fly.io/waits:1".into(),
            ..MachineConfig::default()
        },
        ..NewMachine::default()
    };
    let id = world
        .client
        .create_machine("waits", &machine)
        .await
        .unwrap()
        .id;
    let wake = Wake::Machine {
        app: "waits".into(),
        id,
        version: None,
        state: MachineState::Started,
        patience: Duration::from_secs(600),
    };
    (world, wake)
}

fn polls(world: &World) -> usize {
    let calls = world.sim.call_list().into_iter();
    calls.filter(|call| call.endpoint == WAIT).count()
}

#[tokio::test]
async fn a_wait_wakes_its_object_in_its_scope_when_the_machine_gets_there_and_not_before() {
    let (world, wake) = a_machine().await;
    let Wake::Machine { id, .. } = &wake else {
        unreachable!()
    };
    let scopes = [Some("here".to_owned()), Some("there".to_owned()), None];
    let (waits, mut woken) = Waits::new(&scopes);
    let object = Woken::new("hola").within("here");
    let fired = Arc::new(Fired::default());

    waits.ensure(
        &object,
        "u",
        StepId::Health,
        Some(&wake),
        &world.client,
        &fired,
    );
    until("the poll", || polls(&world) == 1).await;
    // Every pass requests the wait again while it is in flight.
    waits.ensure(
        &object,
        "u",
        StepId::Health,
        Some(&wake),
        &world.client,
        &fired,
    );
    assert!(fired.take(golive::phase::PHASES).is_empty());

    world.client.start_machine("waits", id, None).await.unwrap();

    for scope in [2, 0] {
        let next = tokio::time::timeout(LIMIT, woken[scope].next()).await;
        assert_eq!(
            next.expect("it is woken"),
            Some((object.clone(), Kind::Progress))
        );
    }
    assert!(
        woken[1].try_recv().is_err(),
        "another namespace is not woken"
    );
    assert_eq!(fired.take(golive::phase::PHASES), [StepId::Health].into());
    assert_eq!(polls(&world), 1, "one wait has one poll");
}

#[tokio::test]
async fn a_wait_ends_without_a_word_when_nothing_is_awaited_or_the_object_is_gone() {
    let (world, wake) = a_machine().await;
    let Wake::Machine { id, .. } = &wake else {
        unreachable!()
    };
    let (waits, mut woken) = Waits::new(&[None]);
    let fired = Arc::new(Fired::default());
    let object = |name: &str| Woken::new(name).within("here");
    let begin = |uid: &str, step| {
        waits.ensure(&object(uid), uid, step, Some(&wake), &world.client, &fired);
    };
    begin("gone", StepId::Health);
    begin("done", StepId::Health);
    begin("stays", StepId::Health);
    until("the polls", || polls(&world) == 3).await;

    waits.forget("gone");
    waits.ensure(
        &object("done"),
        "done",
        StepId::Health,
        None,
        &world.client,
        &fired,
    );
    world.client.start_machine("waits", id, None).await.unwrap();

    let first = tokio::time::timeout(LIMIT, woken[0].next()).await;
    assert_eq!(
        first.expect("it is woken"),
        Some((object("stays"), Kind::Progress))
    );
    // All three shared one poll: other polls would have arrived by now.
    begin("last", StepId::Health);
    let next = tokio::time::timeout(LIMIT, woken[0].next()).await;
    assert_eq!(
        next.expect("it is woken"),
        Some((object("last"), Kind::Progress))
    );
}
