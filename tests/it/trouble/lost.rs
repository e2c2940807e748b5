//! Somebody deletes things at Fly.io, at each step of a go-live and while the application is live. What
//! can be made again comes back by itself. A database, Redis or volume that the application has used is
//! asked about, and made anew only when a person says so.
//!
//! `make test` takes a sample of the moments of a go-live; `GOLIVE_CRASH_TEST=full` takes every thing at
//! every moment.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;

use fly_sim::{
    Point, deletion,
    platform::clusters::{self, Status},
};
use golive::api::ActivationStatus;
use serde_json::{Value, json};

use super::data;
use crate::support::{
    crash::full,
    deploy::{APP, alive},
    env::{Env, is, message, reason, root},
    trouble::{CREATE_MACHINE, event, pause_at, until, world},
};

const CABANAS: &str = "sist-cabanas-mvp";
const HOST: &str = "reservas.cabanas.example";
const FLAGS: [&str; 2] = ["--recheck-interval", "1s"];

/// What is deleted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Thing {
    App,
    Machine,
    Address,
    Certificate,
    Secret,
    Database,
    Redis,
    Token,
}

use Thing::{Address, App, Certificate, Database, Machine, Redis, Secret, Token};

const ALL: [Thing; 8] = [
    Machine,
    Address,
    Certificate,
    Secret,
    Token,
    Database,
    Redis,
    App,
];

/// The calls of a go-live and what they belong to, in their order.
const STEPS: [&str; 5] = [
    "POST /v1/apps/{app}/ip_assignments",
    "POST /v1/apps/{app}/secrets",
    "POST /graphql#createAddOn",
    "POST /api/v1/releases",
    CREATE_MACHINE,
];

/// The spec that has everything.
fn everything() -> Value {
    json!({
        "provision": {
            "postgres": {"managed": {}}, "redis": {"upstash": {}}, "hostnames": [HOST],
            "secrets": {
                "generate": [{"name": "JWT_SECRET"}],
                "from": [{"secretRef": {"name": "keys"}}],
            },
        },
        "deletionPolicy": {
            "app": "Delete", "database": "Delete", "redis": "Delete", "secrets": "Delete",
        },
    })
}

async fn begin(env: &Env) {
    env.secret("keys", &[("API_KEY", "a-value-that-is-long")])
        .await;
    env.activation("hola", everything()).await;
}

fn uid_token(uid: &str) -> String {
    format!("golive-{uid}")
}

async fn uid(env: &Env) -> String {
    env.get("hola").await.unwrap().metadata.uid.unwrap()
}

/// The things that are there.
fn there(env: &Env, uid: &str) -> Vec<Thing> {
    let machines = alive(env);
    let running = machines
        .iter()
        .filter(|machine| machine["state"] == "started");
    let (running, machines) = (running.count(), machines.len());
    env.sim.core().read(|world| {
        let app = world.apps.get(APP);
        let holds = |thing: Thing| match thing {
            App => app.is_some(),
            Machine => running == 2 && machines == 2,
            Address => app.is_some_and(|app| app.platform.has_public_address()),
            Certificate => app.is_some_and(|app| app.platform.certificates.contains_key(HOST)),
            Secret => app.is_some_and(|app| {
                let digests = app.platform.secrets.digests();
                let mut names = ["JWT_SECRET", "API_KEY", "DATABASE_URL", "REDIS_URL"].iter();
                names.all(|name| digests.contains_key(*name))
            }),
            Database => {
                let live = world.platform.clusters.values();
                let live = live.filter(|c| !matches!(c.status, Status::Deleting | Status::Deleted));
                live.count() == 1
            }
            Redis => world.platform.add_ons.len() == 1,
            Token => {
                let mut tokens = world.tokens.values();
                tokens.any(|token| token.name == uid_token(uid) && !token.revoked)
            }
        };
        ALL.into_iter().filter(|thing| holds(*thing)).collect()
    })
}

/// Somebody deletes it. Says whether there was anything.
async fn lose(env: &Env, thing: Thing, uid: &str) -> bool {
    let core = env.sim.core();
    let target = match thing {
        App => "app".to_owned(),
        Machine => match alive(env).first() {
            Some(machine) => format!("machine:{}", machine["id"].as_str().unwrap()),
            None => return false,
        },
        Address => "addresses".to_owned(),
        Certificate => "certificates".to_owned(),
        Secret => "secrets".to_owned(),
        Database => {
            let id = core.read(|world| world.platform.clusters.keys().next_back().cloned());
            match id {
                Some(id) => format!("cluster:{id}"),
                None => return false,
            }
        }
        Redis => "redis:hola-cabanas-redis".to_owned(),
        Token => format!("token:{}", uid_token(uid)),
    };
    deletion::delete(core, APP, &target).await
}

/// The mark in the question, if the object asks.
fn asked(status: &ActivationStatus) -> Option<String> {
    let asks = ["DatabaseLost", "RedisLost"].contains(&reason(status, "Ready"));
    let action = status.next_action.as_ref().filter(|_| asks)?;
    let (_, mark) = action.split_once("golive.dev/replace-lost=")?;
    let mark = mark.split(|c: char| c == '`' || c.is_whitespace()).next();
    mark.map(str::to_owned)
}

/// Waits until everything is there and live, and answers what is asked. Returns the reasons of the
/// questions.
async fn comes_back(env: &Env, what: &str) -> BTreeSet<String> {
    let uid = uid(env).await;
    let mut questions = BTreeSet::new();
    loop {
        let status = env
            .wait(
                "hola",
                &format!("{what}: it comes back, or asks"),
                |status| {
                    let back = is(status, "Ready", "True") && is(status, "Live", "True");
                    asked(status).is_some() || back && there(env, &uid).len() == ALL.len()
                },
            )
            .await;
        let Some(mark) = asked(&status) else {
            return questions;
        };
        let why = reason(&status, "Ready").to_owned();
        assert!(
            message(&status, "Ready").contains("gone at Fly.io"),
            "{what}"
        );
        if status.go_live.is_some() && !what.contains("App") {
            assert!(
                is(&status, "Live", "True"),
                "{what}: {}",
                message(&status, "Live")
            );
        }
        questions.insert(why.clone());
        let annotation = json!({"golive.dev/replace-lost": mark});
        env.patch("hola", json!({"metadata": {"annotations": annotation}}))
            .await;
        env.wait("hola", &format!("{what}: {mark} is decided"), |status| {
            asked(status).as_deref() != Some(&mark)
        })
        .await;
    }
}

/// What is asked when this thing is lost that the application has used.
fn question(thing: Thing) -> BTreeSet<String> {
    let asks = match thing {
        Database => Some("DatabaseLost"),
        Redis => Some("RedisLost"),
        _ => None,
    };
    asks.map(str::to_owned).into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_live_comes_back_or_is_asked_about() {
    let env = world(&FLAGS).await;
    begin(&env).await;
    comes_back(&env, "go-live").await;
    let uid = uid(&env).await;
    for thing in ALL {
        let what = format!("{thing:?} while live");
        assert!(lose(&env, thing, &uid).await, "{what}");
        assert_eq!(comes_back(&env, &what).await, question(thing), "{what}");
    }
    env.delete("hola").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_at_a_step_of_a_go_live_comes_back_or_is_asked_about() {
    let env = world(&FLAGS).await;
    let sample = [
        ("POST /v1/apps/{app}/secrets", App),
        ("POST /api/v1/releases", Secret),
        ("POST /api/v1/releases", Machine),
        (CREATE_MACHINE, Database),
    ];
    for step in STEPS {
        for thing in ALL {
            if !(full() || sample.contains(&(step, thing))) {
                continue;
            }
            let what = format!("{thing:?} at {step}");
            let mut pause = pause_at(&env, step, Point::AfterApply);
            begin(&env).await;
            let reached = tokio::time::timeout(std::time::Duration::from_secs(60), pause.reached());
            let reached = reached.await.is_ok();
            let lost = reached && lose(&env, thing, &uid(&env).await).await;
            pause.resume();
            let asked = comes_back(&env, &what).await;
            // Before the application has its address, nothing of it is lost.
            assert!(asked.is_subset(&question(thing)), "{what}: {asked:?}");
            println!("{what}: reached {reached}, lost {lost}, asked {asked:?}");
            env.delete("hola").await;
            env.sim.reset();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_user_comes_back_and_a_dropped_database_is_made_by_nobody_but_a_person() {
    let mut env = world(&FLAGS).await;
    let inputs = std::fs::read_to_string(root().join("examples/sist-cabanas-inputs.yaml"));
    env.apply(&inputs.unwrap()).await;
    let mut spec = data::cabanas("1.4.0");
    spec["smokeTest"] = json!({"checks": [{"name": "database", "database": {}}]});
    env.activation("cabanas", spec).await;
    env.wait_live("cabanas").await;
    let cluster = |env: &Env| {
        let core = env.sim.core();
        core.read(|world| world.platform.clusters.values().next().unwrap().clone())
    };
    let role = "sist_cabanas_mvp";
    assert!(cluster(&env).users.contains_key(role));
    let drop = async |env: &Env, part: &str| {
        let part = format!("{part}:{role}");
        assert!(deletion::delete(env.sim.core(), CABANAS, &part).await);
    };

    drop(&env, "postgres-user").await;
    until("the user", || cluster(&env).users.contains_key(role)).await;
    env.wait_live("cabanas").await;

    drop(&env, "postgres-database").await;
    let lost = |status: &ActivationStatus| reason(status, "Ready") == "DatabaseLost";
    let status = env.wait("cabanas", "the question", lost).await;
    let action = status.next_action.unwrap();
    let command = format!(
        "fly mpg databases create {} --name {role}",
        cluster(&env).id
    );
    assert!(action.contains(&command), "{action}");
    event(&env, "cabanas", "DatabaseLost").await;
    // Another process, which has never seen it, asks the same, also when the user is gone too.
    env.stop_operator().await;
    drop(&env, "postgres-user").await;
    env.start_operator(&FLAGS).await;
    env.wait("cabanas", "the same question", |status| {
        lost(status) && is(status, "Ready", "False")
    })
    .await;
    let databases = cluster(&env).databases;
    assert!(!databases.iter().any(|name| name == role), "{databases:?}");

    let (core, held) = (env.sim.core(), cluster(&env));
    let nobody = fly_sim::core::CallId(None);
    clusters::add_database(core, nobody, &held, role)
        .await
        .unwrap();
    env.wait("cabanas", "no question", |status| !lost(status))
        .await;
}

/// A machine with a volume.
const MOUNT: &str = "kill_timeout = '1s'\n[[restart]]\npolicy = 'never'\n\
    [[mounts]]\nsource = 'data'\ndestination = '/data'\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_lost_with_its_app_is_asked_about_and_no_machine_starts_on_an_empty_one() {
    let env = crate::support::deploy::env().await;
    let spec = json!({"deploy": {
        "image": crate::support::deploy::image("1"), "config": {"inline": MOUNT},
    }, "smokeTest": {"checks": []}});
    env.activation("hola", spec).await;
    env.wait_live("hola").await;
    let volumes = || {
        let core = env.sim.core();
        core.read(|world| world.apps.get(APP).map_or(0, |app| app.volumes.len()))
    };
    assert_eq!(volumes(), 1);
    assert!(deletion::delete(env.sim.core(), APP, "app").await);
    let status = env
        .wait("hola", "the question", |status| {
            reason(status, "Ready") == "VolumeLost"
        })
        .await;
    assert_eq!((volumes(), alive(&env).len()), (0, 0));
    let action = status.next_action.unwrap();
    let (_, mark) = action.split_once("golive.dev/replace-lost=").unwrap();
    let mark = mark.trim_end_matches('`');
    assert!(mark.starts_with("vol_"), "{action}");
    let annotation = json!({"golive.dev/replace-lost": mark});
    env.patch("hola", json!({"metadata": {"annotations": annotation}}))
        .await;
    env.wait_live("hola").await;
    assert_eq!((volumes(), alive(&env).len()), (1, 1));
    event(&env, "hola", "VolumeLost").await;
}
