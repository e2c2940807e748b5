//! What one namespace does costs another one nothing: servers that hang, objects that fail by the
//! dozen, and an object that is edited without a pause.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fly_sim::Options;
use golive::api::Activation;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::env::{Env, LIMIT};

/// An application that accepts every connection and never says a word.
struct Tarpit {
    address: SocketAddr,
    /// Connections so far. None is ever closed from here.
    accepted: Arc<AtomicUsize>,
}

impl Tarpit {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::<AtomicUsize>::default();
        let count = accepted.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
                count.store(held.len(), Ordering::SeqCst);
            }
        });
        Self { address, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// A second namespace beside that of the test, with a token.
struct Neighbour {
    namespace: String,
    activations: Api<Activation>,
}

impl Neighbour {
    async fn of(env: &Env) -> Self {
        let namespace = env.cluster.create_namespace("neighbour").await.unwrap();
        let neighbour = Self {
            activations: Api::namespaced(env.kube.clone(), &namespace),
            namespace,
        };
        let token = env.sim.token("cabanas").unwrap();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fly"},
            "stringData": {"token": token},
        });
        neighbour.apply(env, vec![secret]).await;
        neighbour
    }

    async fn apply(&self, env: &Env, mut objects: Vec<Value>) {
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        env.cluster.apply_objects(objects).await.unwrap();
    }

    /// Waits until this holds of the status of all its objects.
    async fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let end = Instant::now() + LIMIT;
        loop {
            let all = self.activations.list(&Default::default()).await.unwrap();
            let statuses = all.items.iter().map(|object| json!(object.status));
            if statuses.clone().all(|status| holds(&status)) {
                return;
            }
            assert!(
                Instant::now() < end,
                "{what}: {:?}",
                statuses.collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The smallest Activation of another app.
fn activation(app: &str, more: Value) -> Value {
    let mut spec = json!({
        "organization": "cabanas", "app": app, "region": "eze",
        "deploy": {"image": "registry.fly.io/hola-cabanas:1.0.0", "scale": {"app": 1}},
        "smokeTest": {"checks": [{"name": "homepage", "http": {"path": "/"}}]},
    });
    crate::support::env::merge(&mut spec, more);
    json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "metadata": {"name": app}, "spec": spec,
    })
}

/// The operator for both namespaces.
async fn start(env: &mut Env, neighbour: &Neighbour, more: &[&str]) {
    let both = format!("{},{}", env.namespace, neighbour.namespace);
    let flags = [&["--namespace", &both], more].concat();
    env.start_operator(&flags).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_that_never_answer_hold_back_no_other_namespace() {
    const TARPITS: usize = 6;
    let mut env = Env::without_operator(Options::default()).await;
    let neighbour = Neighbour::of(&env).await;
    let tarpit = Tarpit::start().await;
    let edge = format!("*.fly.dev:443={}", env.sim.edge());
    let rules: Vec<String> = (0..TARPITS)
        .map(|number| format!("tarpit-{number}.fly.dev:443={}", tarpit.address))
        .chain([edge])
        .collect();
    // Fewer workers than tarpits: any that held one would leave none.
    let flags = [
        "--resolve",
        &rules.join(","),
        "--max-concurrent-reconciles",
        "4",
        "--reconcile-timeout",
        "120s",
        "--shutdown-grace",
        "150s",
    ];
    start(&mut env, &neighbour, &flags).await;
    let slow = json!({"smokeTest": {"checks": [
        {"name": "homepage", "http": {"path": "/"}, "timeout": "60s"},
    ]}});
    let tarpits = (0..TARPITS).map(|number| activation(&format!("tarpit-{number}"), slow.clone()));
    neighbour.apply(&env, tarpits.collect()).await;
    let end = Instant::now() + LIMIT;
    while tarpit.accepted() < TARPITS {
        assert!(Instant::now() < end, "{} are asked", tarpit.accepted());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    let changed = json!({"spec": {"deploy": {"scale": {"app": 1}}}});
    env.patch("hola", changed).await;
    env.wait_live("hola").await;

    // Every tarpit still hangs in its first try, and its object waits without a result.
    assert_eq!(tarpit.accepted(), TARPITS);
    neighbour
        .wait("they wait", |status| {
            status["observedGeneration"] == json!(1) && status["phase"] != json!("Live")
        })
        .await;
    let metrics = env.metrics();
    let active = "controller_runtime_active_workers{controller=\"activation\"} ";
    let active = metrics.lines().find_map(|line| line.strip_prefix(active));
    assert!(active.is_some_and(|count| count != "4"), "{active:?}");
}

/// The broken apps that these calls to Fly.io are about.
fn broken(paths: &[String]) -> BTreeSet<String> {
    let words = paths.iter().flat_map(|path| path.split(['/', '?']));
    words
        .filter(|word| word.starts_with("broken-"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_change_is_acted_on_before_the_retries_of_what_is_broken() {
    const BROKEN: usize = 40;
    let mut env = Env::without_operator(Options::default()).await;
    let neighbour = Neighbour::of(&env).await;
    let flags = ["--max-concurrent-reconciles", "2"];
    start(&mut env, &neighbour, &flags).await;
    env.activation("hola", json!({})).await;
    env.wait_live("hola").await;
    let missing = json!({"deploy": {"image": "registry.fly.io/hola-cabanas:none"}});
    let all = (0..BROKEN).map(|number| activation(&format!("broken-{number}"), missing.clone()));
    neighbour.apply(&env, all.collect()).await;
    neighbour
        .wait("all are refused", |status| {
            status.to_string().contains("ImageNotFound")
        })
        .await;
    env.stop_operator().await;
    let before = env.sim.call_list().len();
    let changed = json!({"spec": {"deploy": {"scale": {"app": 1}}}});
    env.patch("hola", changed).await;

    start(&mut env, &neighbour, &flags).await;
    env.wait_live("hola").await;

    let calls = env.sim.call_list().into_iter().skip(before);
    let paths: Vec<String> = calls
        .map(|call| call.path)
        .take_while(|path| !path.contains("/apps/hola-cabanas"))
        .collect();
    // A few: the objects of the two namespaces are not listed at the same instant.
    assert!(broken(&paths).len() <= 6, "{:?}", broken(&paths));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_edited_without_a_pause_starts_few_passes_and_its_last_edit_is_seen() {
    const EDITS: usize = 150;
    let env = Env::start().await;
    env.activation("hola", json!({"mode": "Plan"})).await;
    env.wait("hola", "a plan", |status| status.plan.is_some())
        .await;
    let passes = || {
        let metrics = env.metrics();
        let name = "controller_runtime_reconcile_total{";
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok());
        counts.sum::<usize>()
    };
    let (before, began) = (passes(), Instant::now());
    let api: Api<Activation> = Api::namespaced(env.kube.clone(), &env.namespace);
    for edit in 1..=EDITS {
        let patch = json!({"metadata": {"annotations": {
            "golive.dev/reconcile-requested-at": format!("edit-{edit}"),
        }}});
        let params = PatchParams::default();
        api.patch("hola", &params, &Patch::Merge(patch))
            .await
            .unwrap();
    }
    let last = format!("edit-{EDITS}");
    env.wait("hola", "the last edit", |status| {
        status.last_handled_reconcile_at.as_deref() == Some(&last)
    })
    .await;

    // Eight at once, then one a second; and one re-check every two seconds.
    let most = 8 + usize::try_from(began.elapsed().as_secs()).unwrap() * 3 / 2 + 3;
    let passes = passes() - before;
    assert!(
        passes <= most,
        "{passes} passes for {EDITS} edits, not {most}"
    );
}
