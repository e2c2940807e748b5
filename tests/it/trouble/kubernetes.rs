//! Faults between the operator and the API server: stale caches, lost and repeated events, refused and
//! lost writes, a server that hangs, rights that are taken away.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use fly_sim::Point;
use futures::StreamExt;
use golive::api::Activation;
use golive::clock::ServerClock;
use golive::process::{kube_client, metrics::Metrics};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use kube_env::proxy::{Asked, Fault, Proxy};
use serde_json::json;

use crate::support::crash::{never_two, nothing_left};
use crate::support::env::{Env, LIMIT, is};
use crate::support::trouble::{CREATE_MACHINE, deploy, options, pause_at, recovered, until};

/// A world whose operator reaches the API server through a proxy.
async fn world() -> (Env, Proxy) {
    let env = Env::without_operator(options()).await;
    let proxy = Proxy::start(&env.cluster).await.unwrap();
    (env, proxy)
}

async fn start(env: &mut Env, proxy: &Proxy) {
    let rights = proxy.config(env.cluster.config());
    env.start_operator_as(rights, &[]).await;
}

/// Nothing was made twice; after the deletion nothing is left.
async fn ends_well(env: Env) {
    never_two(&env.sim).unwrap();
    env.delete("hola").await;
    nothing_left(&env).await.unwrap();
}

/// Waits until another image is live.
async fn updated(env: &Env, tag: &str) {
    let image = format!("registry.fly.io/hola-cabanas:{tag}");
    env.wait("hola", &format!("{image} serves"), |status| {
        is(status, "Ready", "True") && status.release.as_ref().is_some_and(|r| r.image == image)
    })
    .await;
}

/// The number of rechecks through the proxy so far, seen as reads of the app.
fn looks(env: &Env) -> u64 {
    env.sim.calls("GET /v1/apps/{app}/machines")
}

/// Waits until the operator has rechecked the object twice more.
async fn rechecked(env: &Env) {
    let before = looks(env);
    until("two rechecks", || looks(env) >= before + 2).await;
}

/// Ends the silence without what was held back: the next watches begin with a list.
fn forget_events(proxy: &Proxy) {
    let expired = Fault::Refused {
        status: 410,
        reason: "Expired",
        retry_after: None,
    };
    // One for each watch of the operator.
    proxy.fault(4, expired, Asked::watches);
    proxy.end_streams();
}

/// F12, and F13 without its deletion: the caches are stale while requests are answered.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_stale_cache_nothing_is_claimed_about_a_spec_that_was_not_seen() {
    let (mut env, proxy) = world().await;
    start(&mut env, &proxy).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;

    proxy.mute(true);
    deploy(&env, "hola", "again").await;
    rechecked(&env).await;
    let status = env.status("hola").await;
    let wanted = env.get("hola").await.unwrap().metadata.generation;
    assert!(status.observed_generation < wanted, "{status:?}");
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation < wanted),
        "{status:?}"
    );
    proxy.mute(false);
    updated(&env, "again").await;

    // A, B, A, of which no event arrives: nothing is to be done.
    let before = env.sim.mutations();
    proxy.mute(true);
    deploy(&env, "hola", "crash").await;
    deploy(&env, "hola", "again").await;
    rechecked(&env).await;
    forget_events(&proxy);
    let status = env.wait_live("hola").await;
    assert_eq!(env.sim.mutations(), before, "no change was sent");
    assert_eq!(status.history.len(), 2);
    ends_well(env).await;
}

/// F12 and F13: the object is replaced by another one of its name, unseen.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_replaced_another_unseen_never_gets_its_status() {
    let (mut env, proxy) = world().await;
    start(&mut env, &proxy).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    let first = env.get("hola").await.unwrap().uid().unwrap();

    proxy.mute(true);
    let none = json!({"metadata": {"finalizers": null}});
    env.patch("hola", none).await;
    env.activations()
        .delete("hola", &Default::default())
        .await
        .unwrap();
    env.activation("hola", json!({"suspend": true})).await;
    let second = env.get("hola").await.unwrap().uid().unwrap();
    assert_ne!(first, second);
    rechecked(&env).await;
    let status = env.get("hola").await.unwrap().status.unwrap_or_default();
    assert!(
        !is(&status, "Live", "True"),
        "of the one before: {status:?}"
    );
    forget_events(&proxy);

    env.wait_for("hola", "Suspended", "True").await;
    never_two(&env.sim).unwrap();
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2, "they stay");
}

/// F14: watches end with 410, at the beginning and in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn watches_that_are_too_old_are_begun_anew_and_lose_nothing() {
    let (mut env, proxy) = world().await;
    // By the status of the response, and by an event in it.
    proxy.fault(
        2,
        Fault::Refused {
            status: 410,
            reason: "Expired",
            retry_after: None,
        },
        Asked::watches,
    );
    proxy.fault(3, Fault::EndsWith { code: 410 }, Asked::watches);
    start(&mut env, &proxy).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    until("all of them", || proxy.faulted() == 5).await;
    deploy(&env, "hola", "again").await;
    updated(&env, "again").await;
    ends_well(env).await;
}

/// F14, during the initial list, and F19: many objects over several pages, compaction in the middle.
/// `GOLIVE_PAGES=2500` makes so many objects.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_objects_over_many_pages_none_is_left_out_though_a_page_expires() {
    let count: usize = std::env::var("GOLIVE_PAGES").map_or(1_100, |n| n.parse().unwrap());
    let (mut env, proxy) = world().await;
    let names: Vec<String> = (0..count).map(|n| format!("hola-{n}")).collect();
    let api = env.activations();
    let create = futures::stream::iter(names.clone()).map(|name| {
        let api = api.clone();
        async move {
            let object: Activation = serde_json::from_value(json!({
                "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
                "metadata": {"name": name}, "spec": {
                    "organization": "cabanas", "app": name, "region": "eze", "suspend": true,
                    "deploy": {"image": "registry.fly.io/hola-cabanas:1.0.0"},
                },
            }))
            .unwrap();
            api.create(&Default::default(), &object).await.unwrap();
        }
    });
    create.buffer_unordered(16).collect::<Vec<()>>().await;
    let next_page = |asked: &Asked| {
        asked.is_about("activations") && asked.query.contains("continue=") && !asked.changes()
    };
    proxy.fault(
        1,
        Fault::Refused {
            status: 410,
            reason: "Expired",
            retry_after: None,
        },
        next_page,
    );

    start(&mut env, &proxy).await;

    let end = std::time::Instant::now() + LIMIT * 3;
    loop {
        let all = api.list(&Default::default()).await.unwrap().items;
        let left: Vec<String> = all
            .iter()
            .filter(|object| {
                let status = object.status.as_ref();
                !status.is_some_and(|status| is(status, "Suspended", "True"))
            })
            .map(ResourceExt::name_any)
            .collect();
        if left.is_empty() {
            assert_eq!(all.len(), count);
            break;
        }
        assert!(
            std::time::Instant::now() < end,
            "{} of {count} left: {:?}",
            left.len(),
            left.first()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(proxy.faulted(), 1);
    let pages = proxy.asked();
    let pages = pages.iter().filter(|(asked, _)| next_page(asked)).count();
    assert!(pages >= count / 500, "{pages}");
}

/// F15: a watch whose connection is open and says nothing. kube ends it when its time is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_silently_dead_is_begun_anew() {
    let (env, proxy) = world().await;
    let config = proxy.config(env.cluster.config());
    let kube = kube_client::build(config, &Metrics::new(), &ServerClock::of_kubernetes());
    let maps: Api<ConfigMap> = Api::namespaced(kube.unwrap(), &env.namespace);
    let short = watcher::Config::default().timeout(1);
    let mut changes = Box::pin(watcher(maps, short).default_backoff().applied_objects());
    let watches = || {
        let asked = proxy.asked();
        asked.iter().filter(|(asked, _)| asked.watches()).count()
    };
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "unseen"},
    });
    let seen = async {
        while let Some(found) = changes.next().await {
            if found.is_ok_and(|map| map.name_any() == "unseen") {
                return;
            }
        }
    };
    let trouble = async {
        until("a watch", || watches() > 0).await;
        proxy.mute(true);
        let before = watches();
        let api: Api<ConfigMap> = Api::namespaced(env.kube.clone(), &env.namespace);
        let apply = PatchParams::apply("test");
        api.patch("unseen", &apply, &Patch::Apply(map))
            .await
            .unwrap();
        until("another watch", || watches() > before).await;
        proxy.mute(false);
    };
    let both = futures::future::join(seen, trouble);
    tokio::time::timeout(LIMIT, both).await.expect("it is seen");
}

/// F16: the API server hangs in the middle of an update. What Fly.io does meanwhile is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_in_an_update_and_in_a_deletion_delays_them_alone() {
    let (mut env, proxy) = world().await;
    start(&mut env, &proxy).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;

    const UPDATE: &str = "POST /v1/apps/{app}/machines/{id}";
    let mut first = pause_at(&env, UPDATE, Point::AfterApply);
    deploy(&env, "hola", "again").await;
    first.reached().await;
    proxy.freeze(true);
    first.resume();
    let frozen = proxy.asked().len();
    until("requests that hang", || proxy.asked().len() > frozen).await;
    proxy.freeze(false);
    updated(&env, "again").await;

    let mut first = pause_at(&env, "DELETE /v1/apps/{app}", Point::AfterApply);
    env.activations()
        .delete("hola", &Default::default())
        .await
        .unwrap();
    first.reached().await;
    proxy.freeze(true);
    first.resume();
    let frozen = proxy.asked().len();
    until("requests that hang", || proxy.asked().len() > frozen).await;
    proxy.freeze(false);
    let gone = async {
        while env.get("hola").await.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("it ends");
    never_two(&env.sim).unwrap();
    nothing_left(&env).await.unwrap();
}

/// F17: the first write of each kind to the API server gets this fault, in a whole life.
async fn each_write_gets(fault: Fault) {
    let (mut env, proxy) = world().await;
    let met: Mutex<BTreeSet<String>> = Mutex::default();
    proxy.fault(usize::MAX, fault, move |asked| {
        let kind: Vec<&str> = asked.path.split('/').collect();
        let plural = [
            "activations",
            "configmaps",
            "secrets",
            "events",
            "leases",
            "activationapprovals",
        ];
        let plural = plural.iter().find(|plural| kind.contains(plural));
        let status = kind.last() == Some(&"status");
        let key = format!("{} {plural:?} {status}", asked.method);
        asked.changes() && met.lock().unwrap().insert(key)
    });
    start(&mut env, &proxy).await;
    let generated = json!({
        "provision": {"secrets": {"generate": [{"name": "SESSION_KEY"}]}},
        "deletionPolicy": {"secrets": "Delete"},
    });
    env.activation("hola", generated).await;
    recovered(&env, "hola").await;
    deploy(&env, "hola", "again").await;
    updated(&env, "again").await;
    never_two(&env.sim).unwrap();
    env.delete("hola").await;
    nothing_left(&env).await.unwrap();
    let asked = proxy.asked().into_iter();
    let met: BTreeSet<String> = asked
        .filter(|(_, fault)| fault.is_some())
        .map(|(asked, _)| format!("{} {}", asked.method, asked.path))
        .collect();
    println!("{met:#?}");
    assert!(met.len() >= 5, "{met:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_may_be_throttled_once() {
    each_write_gets(Fault::Refused {
        status: 429,
        reason: "TooManyRequests",
        retry_after: Some(1),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_may_fail_once() {
    each_write_gets(Fault::Refused {
        status: 500,
        reason: "InternalError",
        retry_after: None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_may_find_the_server_unavailable_once() {
    each_write_gets(Fault::Refused {
        status: 503,
        reason: "ServiceUnavailable",
        retry_after: None,
    })
    .await;
}

/// F18: somebody else has written the object a moment before.
#[tokio::test(flavor = "multi_thread")]
async fn every_write_may_conflict_once() {
    each_write_gets(Fault::Refused {
        status: 409,
        reason: "Conflict",
        retry_after: None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_may_be_applied_with_a_time_out_for_an_answer_once() {
    each_write_gets(Fault::Applied { status: 504 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_every_write_may_be_lost_once() {
    each_write_gets(Fault::Cut).await;
}

/// F24: rights are taken away one by one, and given back.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_right_the_work_waits_and_goes_on_once_it_is_back() {
    let (mut env, proxy) = world().await;
    start(&mut env, &proxy).await;
    let mut tag = "1.0.0";
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    type May = fn(&Asked) -> bool;
    let rights: [(&str, May); 3] = [
        ("write statuses", |asked| {
            asked.path.ends_with("/status") && asked.changes()
        }),
        ("read Secrets", |asked| {
            asked.is_about("secrets") && !asked.watches()
        }),
        ("write ConfigMaps", |asked| {
            asked.is_about("configmaps") && asked.changes()
        }),
    ];
    for (right, is_it) in rights {
        let forbidden = Fault::Refused {
            status: 403,
            reason: "Forbidden",
            retry_after: None,
        };
        let before = proxy.faulted();
        proxy.fault(usize::MAX, forbidden, is_it);
        tag = if tag == "again" { "1.0.0" } else { "again" };
        deploy(&env, "hola", tag).await;
        until(right, || proxy.faulted() >= before + 2).await;
        proxy.heal();
        updated(&env, tag).await;
        never_two(&env.sim).unwrap();
    }
    ends_well(env).await;
}

/// F54: an operator of the version before, and one of the next, in the middle of a step.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_another_version_is_read_in_the_middle_of_a_step() {
    let mut env = Env::without_operator(options()).await;
    env.start_operator(&[]).await;
    env.activation("hola", json!({})).await;
    recovered(&env, "hola").await;
    let live = serde_json::to_value(env.status("hola").await).unwrap();
    let unreadable: BTreeSet<String> = without_each(&live)
        .into_iter()
        .filter(|(_, less)| {
            serde_json::from_value::<golive::api::ActivationStatus>(less.clone()).is_err()
        })
        .filter_map(|(path, _)| Some(path.rsplit('/').next()?.to_owned()))
        .filter(|name| !ALWAYS.contains(&name.as_str()))
        .collect();
    assert!(unreadable.is_empty(), "add a default: {unreadable:?}");
    // What an earlier version did not write yet, by its place in the status.
    let newer = [
        "/nextAction",
        "/nextActionTime",
        "/lastHandledRetry",
        "/rollback",
        "/release/number",
        "/release/time",
        "/plan/by",
        "/external",
        "/secrets",
    ];
    for (number, tag) in ["again", "1.0.0"].into_iter().enumerate() {
        let mut held = pause_at(&env, "POST /v1/apps/{app}/machines/{id}", Point::AfterApply);
        deploy(&env, "hola", tag).await;
        held.reached().await;
        env.kill_operator();
        held.resume();
        let mut status = serde_json::to_value(env.status("hola").await).unwrap();
        for path in newer {
            let (parent, field) = path.rsplit_once('/').unwrap();
            let parent = status
                .pointer_mut(parent)
                .and_then(|value| value.as_object_mut());
            parent.map(|parent| parent.remove(field));
        }
        for phase in status["phases"].as_array_mut().unwrap() {
            // A phase without steps has no such field.
            let steps = phase
                .get_mut("steps")
                .and_then(|steps| steps.as_array_mut());
            for step in steps.into_iter().flatten() {
                let step = step.as_object_mut().unwrap();
                step.remove("lastError");
                step.remove("nextTryTime");
            }
        }
        // What only a later version writes; the API server drops it.
        status["laterVersion"] = json!({"number": number});
        let object = json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
            "metadata": {"name": "hola"}, "status": status,
        });
        let mut object: kube::api::DynamicObject = serde_json::from_value(object).unwrap();
        let live = env.get("hola").await.unwrap();
        object.metadata.resource_version = live.resource_version();
        let kind = kube::api::ApiResource::erase::<Activation>(&());
        let api: Api<kube::api::DynamicObject> =
            Api::namespaced_with(env.kube.clone(), &env.namespace, &kind);
        replace_status(&api, object).await;
        env.start_operator(&[]).await;
        updated(&env, tag).await;
        never_two(&env.sim).unwrap();
    }
    assert_eq!(
        env.sim.calls(CREATE_MACHINE),
        2,
        "machines were updated, not made anew"
    );
    ends_well(env).await;
}

/// What a status has had from the first version on.
const ALWAYS: &[&str] = &[
    "type",
    "kind",
    "id",
    "check",
    "time",
    "status",
    "reason",
    "message",
    "lastTransitionTime",
    "name",
    "state",
    "digest",
];

/// The status without each one of its fields in turn, with the name of the field.
fn without_each(status: &serde_json::Value) -> Vec<(String, serde_json::Value)> {
    fn paths(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let at = format!("{at}/{name}");
                    paths(value, &at, found);
                    found.push(at);
                }
            }
            serde_json::Value::Array(items) => {
                for (number, value) in items.iter().enumerate() {
                    paths(value, &format!("{at}/{number}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    paths(status, "", &mut found);
    let without = |path: &String| {
        let mut less = status.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        less.pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(name);
        less
    };
    found
        .iter()
        .map(|path| (path.clone(), without(path)))
        .collect()
}

/// What an operator of another version would have written.
#[expect(clippy::disallowed_methods, reason = "the status of another version")]
async fn replace_status(api: &Api<kube::api::DynamicObject>, object: kube::api::DynamicObject) {
    api.replace_status("hola", &Default::default(), &object)
        .await
        .unwrap();
}
