//! The rights of the operator, by what it asks of the API server in the life of an application: every right
//! of every overlay is used, and none is missing. The audit log of the API server is the witness.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use golive::api::ActivationStatus;
use kube_env::{ControlPlane, control_plane};
use serde_json::{Value, json};

use super::kustomized;
use crate::support::deploy::long_spec;
use crate::support::env::{Env, LIMIT, is, merge, reason, root};
use crate::support::guarded::Guarded;
use crate::support::trouble::{event, options, recovered};

/// The operator, as the API server knows it.
const OPERATOR: &str = "system:serviceaccount:golive-system:golive";
const HOME: &str = "golive-system";

/// Rights that this life does not use: whether in its own namespace, resource, verb, and the test that
/// uses it.
const RARE: [(bool, &str, &str, &str); 3] = [
    // No binding names an approver, or the bindings cannot be read.
    (
        false,
        "authorization.k8s.io/subjectaccessreviews",
        "create",
        "tests/it/life/preflight.rs",
    ),
    // A kind of object is added to an app that is on record already.
    (true, "/configmaps", "patch", "tests/it/life/volumes.rs"),
    // The token for an app is replaced before it expires.
    (true, "/secrets", "update", "tests/it/secrets/app_token.rs"),
];

/// A right: in its own namespace or elsewhere, the resource with its group, the verb.
type Right = (bool, String, String);

/// The rights that the objects of an overlay give the operator.
fn given(objects: &[Value]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for binding in objects {
        let kind = binding["kind"].as_str().unwrap();
        if !kind.ends_with("RoleBinding") || !binding["subjects"].to_string().contains("\"golive\"")
        {
            continue;
        }
        let own = kind == "RoleBinding" && binding["metadata"]["namespace"] == HOME;
        let role = objects.iter().find(|role| {
            role["kind"] == binding["roleRef"]["kind"]
                && role["metadata"]["name"] == binding["roleRef"]["name"]
                && (role["kind"] == "ClusterRole"
                    || role["metadata"]["namespace"] == binding["metadata"]["namespace"])
        });
        for rule in role.expect("the role of a binding")["rules"]
            .as_array()
            .unwrap()
        {
            for (resource, verb) in pairs(rule) {
                rights.insert((own, resource, verb));
            }
        }
    }
    rights
}

/// Resource with group, and verb, of a rule.
fn pairs(rule: &Value) -> Vec<(String, String)> {
    let list = |field: &str| -> Vec<String> {
        let words = rule[field].as_array().unwrap().iter();
        words
            .map(|word| word.as_str().unwrap().to_owned())
            .collect()
    };
    let mut pairs = Vec::new();
    for group in list("apiGroups") {
        for resource in list("resources") {
            for verb in list("verbs") {
                pairs.push((format!("{group}/{resource}"), verb));
            }
        }
    }
    pairs
}

/// What the operator asked: the request, and whether RBAC refused it.
fn asked(audit: &[Value]) -> Vec<(Right, bool)> {
    let mut asked = Vec::new();
    for event in audit
        .iter()
        .filter(|event| event["user"]["username"] == OPERATOR)
    {
        let about = &event["objectRef"];
        let Some(resource) = about["resource"].as_str() else {
            // Published schemas, which every account may read.
            continue;
        };
        let group = about["apiGroup"].as_str().unwrap_or_default();
        let sub = about["subresource"].as_str().map(|sub| format!("/{sub}"));
        let resource = format!("{group}/{resource}{}", sub.unwrap_or_default());
        let verb = event["verb"].as_str().unwrap().to_owned();
        let refused = event["annotations"]["authorization.k8s.io/decision"] == "forbid";
        asked.push(((about["namespace"] == HOME, resource, verb), refused));
    }
    asked
}

/// The operator as a process with the rights of its account, elected as it is in a cluster.
async fn start(env: &Env, folder: &std::path::Path, namespace: &str) -> Guarded {
    let kubeconfig = folder.join("kubeconfig");
    let hour = Duration::from_secs(3600);
    let written = env
        .cluster
        .write_kubeconfig_as(HOME, "golive", hour, &kubeconfig);
    written.await.unwrap();
    let mut flags = env.flags(&["--namespace", namespace, "--own-namespace", HOME]);
    flags.retain(|flag| flag != "--leader-elect=false");
    let mut command = env.command(flags);
    command.env("KUBECONFIG", kubeconfig);
    Guarded::spawn(&mut command)
}

/// People who may approve, by a role of the namespace and by one of the cluster.
async fn approvers(env: &Env) {
    let binding = |name: &str, kind: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": env.namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}],
        })
    };
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "approvers", "namespace": env.namespace},
        "rules": [{"apiGroups": ["golive.dev"], "resources": ["activations"], "verbs": ["approve"]}],
    });
    let objects = vec![
        role,
        binding("ana", "Role", "approvers"),
        binding("bob", "ClusterRole", "activation-approver"),
    ];
    env.cluster.apply_objects(objects).await.unwrap();
}

/// From nothing over a gate, an update and new secrets to the deletion.
async fn life(env: &Env) {
    approvers(env).await;
    let fly_toml = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"},
        "data": {"fly.toml": "[http_service]\ninternal_port = 8080\n"},
    });
    env.apply(&fly_toml.to_string()).await;
    env.activation(
        "hola",
        json!({
            "gates": [{"before": "Deploy", "timeout": "2h", "onTimeout": "Reject", "approvals": 1}],
            "provision": {
                "postgres": {"managed": {}},
                "secrets": {"generate": [{"name": "JWT_SECRET"}], "rotation": {"overlap": "1s"}},
            },
            "deploy": {"config": {"configMapRef": {"name": "config", "key": "fly.toml"}}},
            "deletionPolicy": {"secrets": "Delete", "database": "Delete"},
        }),
    )
    .await;
    approve(env, "first").await;
    recovered(env, "hola").await;
    // A request that is refused again in the same words is the same event again.
    let abort = |value: &str| json!({"metadata": {"annotations": {"golive.dev/abort": value}}});
    env.patch("hola", abort("one")).await;
    event(env, "hola", "AbortRefused").await;
    env.patch("hola", abort("two")).await;
    repeated(env).await;

    let again = json!({
        "metadata": {"annotations": {"golive.dev/rotate-secrets": "now", "golive.dev/abort": null}},
        "spec": {"deploy": {"image": "registry.fly.io/hola-cabanas:again"}},
    });
    env.patch("hola", again).await;
    approve(env, "second").await;
    env.wait("hola", "the second release", |status| {
        let release = status.release.as_ref();
        is(status, "Ready", "True") && release.is_some_and(|r| r.number >= Some(2))
    })
    .await;
    env.delete("hola").await;
    long_plan(env).await;
}

/// A plan that the status has no room for, another one, and one that it has room for again.
async fn long_plan(env: &Env) {
    let mut spec = long_spec();
    merge(&mut spec, json!({"mode": "Plan"}));
    env.activation("long", spec).await;
    let whole = |status: &ActivationStatus| {
        let plan = status.plan.as_ref()?;
        plan.whole.as_ref().map(|whole| whole.sha256.clone())
    };
    let first = env.wait("long", "a plan in a ConfigMap", |status| {
        whole(status).is_some()
    });
    let first = whole(&first.await);
    let other = json!({"spec": {"deploy": {"image": "registry.fly.io/hola-cabanas:again"}}});
    env.patch("long", other).await;
    env.wait("long", "another plan", |status| {
        let now = whole(status);
        now.is_some() && now != first
    })
    .await;
    let short = json!({"spec": {"provision": {"hostnames": []}}});
    env.patch("long", short).await;
    let fits = |status: &ActivationStatus| {
        let total = status.plan.as_ref().map(|plan| plan.total);
        whole(status).is_none() && total.is_some_and(|total| total > 0)
    };
    env.wait("long", "a plan in the status", fits).await;
    env.delete("long").await;
}

/// Approves the plan that waits.
async fn approve(env: &Env, name: &str) {
    let generation = env.get("hola").await.unwrap().metadata.generation;
    let waits = |status: &ActivationStatus| {
        status.observed_generation == generation && reason(status, "Ready") == "AwaitingApproval"
    };
    let status = env.wait("hola", "the gate", waits).await;
    let deploy = status
        .phases
        .iter()
        .find(|phase| phase.name.as_str() == "Deploy");
    let digest = deploy.unwrap().gate.clone().unwrap().digest;
    env.decide(name, json!({"digest": digest})).await;
}

/// Waits until an event was published more than once.
async fn repeated(env: &Env) {
    use k8s_openapi::api::events::v1::Event;
    let api: kube::Api<Event> = kube::Api::namespaced(env.kube.clone(), &env.namespace);
    let end = Instant::now() + LIMIT;
    loop {
        let events = api.list(&Default::default()).await.unwrap().items;
        if events.iter().any(|event| event.series.is_some()) {
            return;
        }
        assert!(Instant::now() < end, "no event is a series");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the lease has no holder, as after a stop in good order.
async fn stop(operator: &mut Guarded) {
    let id = operator.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status();
    assert!(sent.unwrap().success());
    let end = Instant::now() + LIMIT;
    while operator.child().try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "it does not stop");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Lives a life with the rights of an overlay, and compares. `missing` is what is refused there on purpose.
async fn used_and_sufficient(folder: &str, one_namespace: bool, missing: &[(&str, &str)]) {
    let plane = ControlPlane::start(control_plane::Options {
        audit: true,
        ..control_plane::Options::default()
    })
    .await
    .unwrap();
    let cluster = plane.cluster().clone();
    cluster.apply_paths([root().join("crds")]).await.unwrap();
    let env = Env::on(cluster.clone(), options()).await;
    let mut objects = kustomized(folder);
    for object in &mut objects {
        // The namespace that the overlay is written for.
        if object["metadata"]["namespace"] == "default" {
            object["metadata"]["namespace"] = json!(env.namespace);
        }
    }
    if folder.ends_with("selected-namespaces") {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "golive-operator", "namespace": env.namespace},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "golive-operator",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "golive", "namespace": HOME}],
        }));
    }
    cluster.apply_objects(objects.clone()).await.unwrap();

    let files = tempfile::tempdir().unwrap();
    let namespace = if one_namespace {
        env.namespace.as_str()
    } else {
        ""
    };
    let mut operator = start(&env, files.path(), namespace).await;
    life(&env).await;
    stop(&mut operator).await;

    let asked = asked(&plane.audit().unwrap());
    assert!(asked.len() > 50, "{} requests", asked.len());
    let refused: BTreeSet<(&str, &str)> = asked
        .iter()
        .filter(|(_, refused)| *refused)
        .map(|((_, resource, verb), _)| (resource.as_str(), verb.as_str()))
        .collect();
    assert_eq!(
        refused,
        missing.iter().copied().collect(),
        "{folder}: refused"
    );
    let given = given(&objects);
    let rare: BTreeSet<Right> = RARE
        .iter()
        .map(|(own, resource, verb, _)| (*own, (*resource).to_owned(), (*verb).to_owned()))
        .collect();
    let unused: Vec<Right> = given
        .difference(&rare)
        .filter(|(own, resource, verb)| {
            !asked.iter().any(|((home, of, by), refused)| {
                // The rights of the own namespace are used there.
                !refused && of == resource && by == verb && (!own || *home)
            })
        })
        .cloned()
        .collect();
    assert!(unused.is_empty(), "{folder}: nothing uses {unused:#?}");
}

/// A right that is listed as rare is given, so that the list does not hide what it no longer is about.
#[test]
fn every_rare_right_is_given() {
    let given = given(&kustomized("manifests/base"));
    for (own, resource, verb, test) in RARE {
        assert!(
            given.contains(&(own, resource.to_owned(), verb.to_owned())),
            "{resource} {verb}"
        );
        assert!(root().join(test).is_file(), "{test}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_whole_cluster_every_right_is_used_and_none_is_missing() {
    used_and_sufficient("manifests/base", false, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_one_namespace_every_right_is_used_and_only_the_review_of_the_cluster_is_missing() {
    let review = [
        ("rbac.authorization.k8s.io/clusterrolebindings", "list"),
        ("rbac.authorization.k8s.io/clusterroles", "get"),
    ];
    used_and_sufficient("manifests/overlays/namespaced", true, &review).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_selected_namespaces_every_right_is_used_and_none_is_missing() {
    used_and_sufficient("manifests/overlays/selected-namespaces", false, &[]).await;
}
