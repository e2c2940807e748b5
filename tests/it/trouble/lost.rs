//! Somebody deletes things at Fly.io, at each step of a go-live, in an update, while the application is
//! live and while a gate waits. What can be made again comes back by itself. A database or Redis that
//! the application has used is asked about, and made anew only when a person says so.
//!
//! `make test` takes a sample of the moments of a go-live and of an update;
//! `GOLIVE_CRASH_TEST=full` takes every thing at every moment.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeSet;

use fly_sim::{Point, deletion, platform::clusters::Status};
use golive::api::ActivationStatus;
use serde_json::{Value, json};

use crate::support::{
    crash::full,
    deploy::{APP, UPDATE, alive},
    env::{Env, is, message, reason},
    trouble::{CREATE_MACHINE, deploy, event, pause_at, until, world},
};

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
async fn what_is_deleted_while_a_gate_waits_comes_back_with_the_release_that_serves() {
    let env = world(&FLAGS).await;
    begin(&env).await;
    comes_back(&env, "go-live").await;
    let uid = uid(&env).await;
    let image = env.status("hola").await.release.unwrap().image;
    env.patch(
        "hola",
        json!({"spec": {
            "deploy": {"image": "registry.fly.io/hola-cabanas:again"},
            "gates": [{"before": "Deploy", "timeout": "2h"}],
        }}),
    )
    .await;
    for thing in [Machine, Address, Certificate, Secret, Token] {
        let waits = |status: &ActivationStatus| reason(status, "Ready") == "AwaitingApproval";
        let what = format!("{thing:?} while a gate waits");
        env.wait("hola", &what, waits).await;
        assert!(lose(&env, thing, &uid).await, "{what}");
        let back = |status: &ActivationStatus| {
            waits(status)
                && is(status, "Live", "True")
                && there(&env, &uid).len() == ALL.len()
                && status
                    .release
                    .as_ref()
                    .is_some_and(|now| now.image == image)
        };
        env.wait("hola", &format!("{what} is back"), back).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_in_an_update_comes_back_and_the_update_ends() {
    let env = world(&FLAGS).await;
    begin(&env).await;
    comes_back(&env, "go-live").await;
    let uid = uid(&env).await;
    let sample = [Secret, Machine, App];
    let things = ALL
        .into_iter()
        .filter(|thing| full() || sample.contains(thing));
    let mut tag = "1.0.0";
    for thing in things {
        tag = if tag == "again" { "1.0.0" } else { "again" };
        let what = format!("{thing:?} in an update");
        let mut pause = pause_at(&env, UPDATE, Point::AfterApply);
        deploy(&env, "hola", tag).await;
        pause.reached().await.unwrap();
        assert!(lose(&env, thing, &uid).await, "{what}");
        pause.resume();
        assert_eq!(comes_back(&env, &what).await, question(thing), "{what}");
        let ended = |status: &ActivationStatus| {
            let release = status.release.as_ref();
            release.is_some_and(|release| release.image.ends_with(&format!(":{tag}")))
                && is(status, "Live", "True")
        };
        env.wait("hola", &format!("{what}: the update ends"), ended)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_at_a_step_of_a_go_live_comes_back_or_is_asked_about() {
    let env = world(&FLAGS).await;
    let sample = [
        ("POST /v1/apps/{app}/secrets", App),
        ("POST /api/v1/releases", Secret),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_database_that_is_dropped_comes_back_with_a_new_password() {
    let env = world(&FLAGS).await;
    let root = crate::support::env::root();
    let inputs = std::fs::read_to_string(root.join("examples/sist-cabanas-inputs.yaml"));
    env.apply(&inputs.unwrap()).await;
    let mut object = crate::support::crash::activation();
    object["metadata"]["name"] = json!("hola");
    env.apply(&object.to_string()).await;
    env.wait_live("hola").await;
    let user = "sist_cabanas_mvp";
    let users = || {
        env.sim.core().read(|world| {
            let mut clusters = world.platform.clusters.values();
            clusters.any(|cluster| cluster.users.contains_key(user))
        })
    };
    let id = env
        .sim
        .core()
        .read(|world| world.platform.clusters.keys().next().cloned())
        .unwrap();
    let target = format!("user:{id}/{user}");
    assert!(deletion::delete(env.sim.core(), APP, &target).await);
    assert!(!users());
    until("the user is back", users).await;
    env.wait_live("hola").await;
}
