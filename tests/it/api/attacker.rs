//! Somebody holds the token of the operator's ServiceAccount: what they can do with it is what the
//! operator itself does, and no more. By the real API server, with the shipped roles and policies.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
    },
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::installed::{cluster, eventually};

/// The operator's own namespace.
const HOME: &str = "golive-system";

/// The objects of one kind in one namespace.
fn of(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&gvk(kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn gvk(kind: &str) -> GroupVersionKind {
    let (group, kind) = kind.split_once('/').unwrap_or(("", kind));
    let version = match group {
        "golive.dev" => "v1alpha1",
        _ => "v1",
    };
    GroupVersionKind::gvk(group, version, kind)
}

/// A client with the operator's token, once all policies that speak of the operator are in force.
async fn attacker() -> Client {
    static IN_FORCE: OnceCell<()> = OnceCell::const_new();
    let cluster = cluster().await;
    let client = cluster.client_as(HOME, "golive").await.unwrap();
    IN_FORCE
        .get_or_init(|| async {
            let admin = cluster.client().unwrap();
            let namespace = cluster.create_namespace("probe").await.unwrap();
            create(&admin, "golive.dev/Activation", &namespace, activation())
                .await
                .unwrap();
            // Dry runs: a policy that is not in force yet must not let anything through.
            for (kind, namespace, object) in [
                ("Secret", namespace.as_str(), secret("probe", json!({}))),
                ("ConfigMap", HOME, json!({"metadata": {"name": "probe"}})),
                (
                    "events.k8s.io/Event",
                    &namespace,
                    event("Pod", "v1", &namespace, "probe"),
                ),
            ] {
                eventually("a policy to be in force", async || {
                    let dry = PostParams {
                        dry_run: true,
                        ..PostParams::default()
                    };
                    let api = of(&client, kind, namespace);
                    let tried = api.create(&dry, &parse(kind, object.clone())).await;
                    tried.is_err().then_some(())
                })
                .await;
            }
            eventually("the policy about objects to be in force", async || {
                let dry = PatchParams {
                    dry_run: true,
                    ..PatchParams::default()
                };
                let body = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
                let api = of(&client, "golive.dev/Activation", &namespace);
                api.patch("shop", &dry, &body).await.is_err().then_some(())
            })
            .await;
        })
        .await;
    client
}

/// An object of a kind.
fn parse(kind: &str, mut object: Value) -> DynamicObject {
    let types = gvk(kind);
    object["apiVersion"] = json!(types.api_version());
    object["kind"] = json!(types.kind);
    serde_json::from_value(object).unwrap()
}

async fn create(
    client: &Client,
    kind: &str,
    namespace: &str,
    object: Value,
) -> kube::Result<DynamicObject> {
    of(client, kind, namespace)
        .create(&PostParams::default(), &parse(kind, object))
        .await
}

async fn patch(
    client: &Client,
    kind: &str,
    namespace: &str,
    name: &str,
    body: Value,
) -> kube::Result<DynamicObject> {
    of(client, kind, namespace)
        .patch(name, &PatchParams::default(), &Patch::Merge(&body))
        .await
}

/// The answer refuses, by a policy or by missing rights.
fn refused(what: &str, answer: kube::Result<DynamicObject>) {
    match answer {
        Err(kube::Error::Api(status)) if status.is_forbidden() => {}
        other => panic!("{what} is not refused: {other:?}"),
    }
}

fn secret(name: &str, more: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "data": {"a": "YQ=="}});
    crate::support::env::merge(&mut object, more);
    object
}

/// The Secret with generated values, as the operator makes it.
fn generated(more: Value) -> Value {
    let mut object = secret(
        "shop-golive",
        json!({"metadata": {
            "labels": {
                "app.kubernetes.io/managed-by": "golive", "app.kubernetes.io/instance": "shop",
                "app.kubernetes.io/component": "generated-secrets", "golive.dev/activation-uid": "u",
            },
            "annotations": {"golive.dev/generated-at": "{}"},
        }}),
    );
    crate::support::env::merge(&mut object, more);
    object
}

fn activation() -> Value {
    json!({
        "metadata": {"name": "shop", "finalizers": ["example.org/theirs"], "labels": {"team": "x"}},
        "spec": {
            "organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"},
            "gates": [{"before": "Deploy"}],
        },
    })
}

fn event(kind: &str, api_version: &str, namespace: &str, name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "eventTime": "2030-01-01T00:00:00.000000Z", "type": "Normal", "reason": "GoLive",
        "action": "SmokeTest", "note": "live",
        "reportingController": "golive.dev/golive-controller", "reportingInstance": "x",
        "regarding": {
            "apiVersion": api_version, "kind": kind, "name": "shop", "namespace": namespace,
        },
    })
}

#[tokio::test]
async fn whoever_holds_the_operators_token_cannot_make_a_credential_of_the_cluster() {
    let client = attacker().await;
    let admin = cluster().await.client().unwrap();
    let namespace = cluster().await.create_namespace("shop").await.unwrap();
    let account =
        json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": "default"}}});
    let token_of = |name: &str| {
        let mut object = generated(account.clone());
        object["metadata"]["name"] = json!(name);
        object["type"] = json!("kubernetes.io/service-account-token");
        object
    };
    for place in [&namespace, "kube-system", HOME] {
        for name in ["stolen", "shop-golive", "golive-fingerprint-key"] {
            let tried = create(&client, "Secret", place, token_of(name)).await;
            refused(&format!("a token of an account: {place}/{name}"), tried);
        }
    }
    let mut bootstrap = generated(json!({"metadata": {"name": "bootstrap-token-abcdef"}}));
    bootstrap["type"] = json!("bootstrap.kubernetes.io/token");
    for (place, name) in [
        ("kube-system", "bootstrap-token-abcdef"),
        ("kube-system", "shop-golive"),
        (namespace.as_str(), "shop-golive"),
    ] {
        bootstrap["metadata"]["name"] = json!(name);
        let tried = create(&client, "Secret", place, bootstrap.clone()).await;
        refused(&format!("a bootstrap token: {place}/{name}"), tried);
    }
    // A Secret of the operator's own keeps its type.
    create(&client, "Secret", &namespace, generated(json!({})))
        .await
        .unwrap();
    let change = json!({"type": "kubernetes.io/service-account-token"});
    let tried = patch(&client, "Secret", &namespace, "shop-golive", change).await;
    assert!(tried.is_err(), "another type");
    // Nor is there another way to a token.
    let accounts = of(&client, "ServiceAccount", "kube-system");
    assert!(accounts.get("default").await.is_err());
    let pods = create(
        &client,
        "Pod",
        &namespace,
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}),
    )
    .await;
    refused("a pod", pods);
    drop(admin);
}

#[tokio::test]
async fn whoever_holds_the_operators_token_makes_only_secrets_of_the_operators_shape() {
    let client = attacker().await;
    let namespace = cluster().await.create_namespace("shop").await.unwrap();
    let label = |key: &str, value: &str| json!({"metadata": {"labels": {key: value}}});
    let note = |key: &str, value: &str| json!({"metadata": {"annotations": {key: value}}});
    for (what, place, more) in [
        (
            "another name",
            &*namespace,
            json!({"metadata": {"name": "db"}}),
        ),
        (
            "a name that only ends alike",
            &namespace,
            json!({"metadata": {"name": "db-golive"}}),
        ),
        (
            "a name that the server makes",
            &namespace,
            json!({"metadata": {"name": null, "generateName": "shop-"}}),
        ),
        ("no mark", &namespace, json!({"metadata": {"labels": null}})),
        (
            "no instance",
            &namespace,
            json!({"metadata": {"labels": {"app.kubernetes.io/instance": null}}}),
        ),
        (
            "an empty instance",
            &namespace,
            label("app.kubernetes.io/instance", ""),
        ),
        ("a namespace of the system", "kube-system", json!({})),
        ("another namespace of the system", "kube-public", json!({})),
        (
            "an app token elsewhere",
            &namespace,
            json!({"metadata": {"name": "golive-app-token-u"}}),
        ),
        (
            "an app token of nobody",
            HOME,
            json!({"metadata": {"name": "golive-app-token-v"}}),
        ),
        (
            "another type",
            &namespace,
            json!({"type": "kubernetes.io/basic-auth", "data": {"username": "YQ=="}}),
        ),
        (
            "a cluster of Argo CD",
            &namespace,
            label("argocd.argoproj.io/secret-type", "cluster"),
        ),
        (
            "a copy of another Secret",
            &namespace,
            note("reflector.v1.k8s.emberstack.com/reflects", "x/y"),
        ),
        (
            "an owner",
            &namespace,
            json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]}}),
        ),
        (
            "a foreign finalizer",
            &namespace,
            json!({"metadata": {"finalizers": ["example.org/x"]}}),
        ),
    ] {
        refused(
            what,
            create(&client, "Secret", place, generated(more)).await,
        );
    }
    // What it makes itself: each is admitted, changed and deleted.
    let app_token = json!({"metadata": {"name": "golive-app-token-u"}});
    for (place, name, more) in [
        (&*namespace, "shop-golive", json!({})),
        (HOME, "golive-app-token-u", app_token),
    ] {
        create(&client, "Secret", place, generated(more))
            .await
            .unwrap();
        let body = json!({"data": {"b": "Yg=="}});
        if place != HOME {
            patch(&client, "Secret", place, name, body).await.unwrap();
            refused(
                "a label for another controller",
                patch(
                    &client,
                    "Secret",
                    place,
                    name,
                    label("argocd.argoproj.io/secret-type", "cluster"),
                )
                .await,
            );
            refused(
                "the mark taken off",
                patch(
                    &client,
                    "Secret",
                    place,
                    name,
                    json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "x"}}}),
                )
                .await,
            );
        }
        of(&client, "Secret", place)
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    // The key of fingerprints is made once: it is not changed and not deleted.
    let key = generated(
        json!({"metadata": {"name": "golive-fingerprint-key", "labels": {"app.kubernetes.io/instance": null}}}),
    );
    let admin = cluster().await.client().unwrap();
    create(&client, "Secret", HOME, key).await.unwrap();
    let gone = of(&client, "Secret", HOME)
        .delete("golive-fingerprint-key", &DeleteParams::default())
        .await;
    assert!(gone.is_err(), "the key of fingerprints");
    of(&admin, "Secret", HOME)
        .delete("golive-fingerprint-key", &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn whoever_holds_the_operators_token_changes_nothing_of_others_but_its_finalizer() {
    let client = attacker().await;
    let admin = cluster().await.client().unwrap();
    let namespace = cluster().await.create_namespace("shop").await.unwrap();
    let theirs = json!({"metadata": {
        "finalizers": ["example.org/theirs"],
        "labels": {"team": "x"},
        "annotations": {"note": "x"},
    }});
    for place in [&*namespace, "kube-system"] {
        create(&admin, "Secret", place, secret("theirs", theirs.clone()))
            .await
            .unwrap();
    }
    let with = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    for (what, body) in [
        ("their finalizer", with(json!([]))),
        (
            "their finalizer for ours",
            with(json!(["golive.dev/activation"])),
        ),
        (
            "one more finalizer",
            with(json!(["example.org/theirs", "example.org/x"])),
        ),
        ("a label", json!({"metadata": {"labels": {"team": null}}})),
        (
            "the operator's mark",
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "golive", "app.kubernetes.io/instance": "theirs"}}}),
        ),
        (
            "an annotation",
            json!({"metadata": {"annotations": {"note": "y"}}}),
        ),
        ("a value", json!({"data": {"a": "Yg=="}})),
        ("a new value", json!({"data": {"b": "Yg=="}})),
        ("a value as text", json!({"stringData": {"a": "b"}})),
        ("its values", json!({"data": null})),
        ("its end", json!({"immutable": true})),
        (
            "an owner",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]}}),
        ),
        (
            "a value beside our finalizer",
            json!({"metadata": {"finalizers": ["example.org/theirs", "golive.dev/activation"]}, "data": {"a": "Yg=="}}),
        ),
    ] {
        refused(
            what,
            patch(&client, "Secret", &namespace, "theirs", body).await,
        );
    }
    let ours = with(json!(["example.org/theirs", "golive.dev/activation"]));
    refused(
        "our finalizer in the system",
        patch(&client, "Secret", "kube-system", "theirs", ours.clone()).await,
    );
    patch(&client, "Secret", &namespace, "theirs", ours)
        .await
        .unwrap();
    let off = with(json!(["example.org/theirs"]));
    patch(&client, "Secret", &namespace, "theirs", off)
        .await
        .unwrap();
    let replaced = of(&client, "Secret", &namespace)
        .replace(
            "theirs",
            &PostParams::default(),
            &parse("Secret", secret("theirs", json!({}))),
        )
        .await;
    refused("a replacement", replaced);
    assert!(
        of(&client, "Secret", &namespace)
            .delete("theirs", &DeleteParams::default())
            .await
            .is_err()
    );
    let kept = of(&admin, "Secret", &namespace)
        .get("theirs")
        .await
        .unwrap();
    assert_eq!(kept.data["data"], json!({"a": "YQ=="}));
    for place in [&*namespace, "kube-system"] {
        patch(&admin, "Secret", place, "theirs", with(json!(null)))
            .await
            .unwrap();
        of(&admin, "Secret", place)
            .delete("theirs", &DeleteParams::default())
            .await
            .unwrap();
    }
    let found: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    assert!(found.list(&kube::api::ListParams::default()).await.is_err());
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test writes a status as an attacker would"
)]
#[tokio::test]
async fn whoever_holds_the_operators_token_writes_no_spec_and_no_approval() {
    let client = attacker().await;
    let admin = cluster().await.client().unwrap();
    let namespace = cluster().await.create_namespace("shop").await.unwrap();
    let kind = "golive.dev/Activation";
    create(&admin, kind, &namespace, activation())
        .await
        .unwrap();
    let before = of(&admin, kind, &namespace).get("shop").await.unwrap();
    for (what, body) in [
        ("an image", json!({"spec": {"deploy": {"image": "evil:1"}}})),
        ("a gate", json!({"spec": {"gates": null}})),
        (
            "a request",
            json!({"metadata": {"annotations": {"golive.dev/forget": "shop"}}}),
        ),
        ("a label", json!({"metadata": {"labels": {"team": null}}})),
        ("their finalizer", json!({"metadata": {"finalizers": []}})),
        (
            "another finalizer",
            json!({"metadata": {"finalizers": ["example.org/theirs", "example.org/x"]}}),
        ),
        (
            "an owner",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]}}),
        ),
    ] {
        refused(what, patch(&client, kind, &namespace, "shop", body).await);
    }
    // What a status carries beside itself is not written.
    let body = json!({
        "metadata": {"finalizers": [], "labels": {"team": "y"}, "annotations": {"golive.dev/forget": "shop"}},
        "spec": {"deploy": {"image": "evil:1"}, "gates": null},
        "status": {"observedGeneration": 1},
    });
    of(&client, kind, &namespace)
        .patch_status("shop", &PatchParams::default(), &Patch::Merge(&body))
        .await
        .unwrap();
    let after = of(&admin, kind, &namespace).get("shop").await.unwrap();
    assert_eq!(after.data["spec"], before.data["spec"]);
    assert_eq!(after.metadata.finalizers, before.metadata.finalizers);
    assert_eq!(after.metadata.labels, before.metadata.labels);
    assert_eq!(after.metadata.annotations, before.metadata.annotations);
    let ours = json!({"metadata": {"finalizers": ["example.org/theirs", "golive.dev/activation"]}});
    patch(&client, kind, &namespace, "shop", ours)
        .await
        .unwrap();
    refused(
        "another Activation",
        create(&client, kind, &namespace, activation()).await,
    );
    assert!(
        of(&client, kind, &namespace)
            .delete("shop", &DeleteParams::default())
            .await
            .is_err()
    );
    let approval = json!({
        "metadata": {"name": "a"},
        "spec": {
            "activation": "shop", "gate": "Deploy", "decision": "Approve",
            "approver": "system:serviceaccount:golive-system:golive",
            "digest": format!("sha256:{}", "0f".repeat(32)),
        },
    });
    refused(
        "an approval",
        create(
            &client,
            "golive.dev/ActivationApproval",
            &namespace,
            approval,
        )
        .await,
    );
}

#[tokio::test]
async fn whoever_holds_the_operators_token_writes_only_its_own_records_leases_and_events() {
    let client = attacker().await;
    let admin = cluster().await.client().unwrap();
    let namespace = cluster().await.create_namespace("shop").await.unwrap();
    let record = |name: &str, more: Value| {
        let mut object = json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "golive"}},
            "data": {"uid": "u"},
        });
        crate::support::env::merge(&mut object, more);
        object
    };
    for (what, place, object) in [
        ("another name", HOME, record("settings", json!({}))),
        (
            "another namespace",
            &*namespace,
            record("golive-app-shop", json!({})),
        ),
        (
            "the system",
            "kube-system",
            record("golive-app-shop", json!({})),
        ),
        (
            "no mark",
            HOME,
            record("golive-app-attack", json!({"metadata": {"labels": null}})),
        ),
        (
            "a label for others",
            HOME,
            record(
                "golive-app-attack",
                json!({"metadata": {"labels": {"grafana_dashboard": "1"}}}),
            ),
        ),
        (
            "an owner",
            HOME,
            record(
                "golive-app-attack",
                json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]}}),
            ),
        ),
    ] {
        refused(what, create(&client, "ConfigMap", place, object).await);
    }
    // A plan is beside its Activation, belongs to that alone, and is replaced only where it is one already.
    let plan = |name: &str, owner: Value| {
        record(
            name,
            json!({"metadata": {
                "labels": {"golive.dev/activation-uid": "u-1"}, "ownerReferences": [owner],
            }}),
        )
    };
    let owner = |kind: &str, uid: &str, more: Value| {
        let version = if kind == "Activation" {
            "golive.dev/v1alpha1"
        } else {
            "v1"
        };
        let mut owner = json!({"apiVersion": version, "kind": kind, "name": "shop", "uid": uid});
        crate::support::env::merge(&mut owner, more);
        owner
    };
    let own = || owner("Activation", "u-1", json!({}));
    for (what, place, object) in [
        ("another name", &*namespace, plan("golive-plan-u-2", own())),
        (
            "another owner",
            &*namespace,
            plan("golive-plan-u-1", owner("Activation", "u-2", json!({}))),
        ),
        (
            "a kind of others",
            &*namespace,
            plan("golive-plan-u-1", owner("ConfigMap", "u-1", json!({}))),
        ),
        (
            "a controller",
            &*namespace,
            plan(
                "golive-plan-u-1",
                owner("Activation", "u-1", json!({"controller": true})),
            ),
        ),
        ("the system", "kube-system", plan("golive-plan-u-1", own())),
    ] {
        refused(what, create(&client, "ConfigMap", place, object).await);
    }
    let taken = json!({"metadata": {"name": "golive-plan-u-1"}, "data": {"a": "b"}});
    create(&admin, "ConfigMap", &namespace, taken)
        .await
        .unwrap();
    refused(
        "their ConfigMap under its name",
        of(&client, "ConfigMap", &namespace)
            .replace(
                "golive-plan-u-1",
                &PostParams::default(),
                &parse("ConfigMap", plan("golive-plan-u-1", own())),
            )
            .await,
    );
    of(&admin, "ConfigMap", &namespace)
        .delete("golive-plan-u-1", &DeleteParams::default())
        .await
        .unwrap();
    create(
        &client,
        "ConfigMap",
        &namespace,
        plan("golive-plan-u-1", own()),
    )
    .await
    .unwrap();
    let theirs = json!({"metadata": {"name": "theirs"}, "data": {"a": "b"}});
    create(&admin, "ConfigMap", HOME, theirs).await.unwrap();
    let mark = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "golive"}}});
    for body in [json!({"data": {"a": "c"}}), mark] {
        refused(
            "their ConfigMap",
            patch(&client, "ConfigMap", HOME, "theirs", body).await,
        );
    }
    assert!(
        of(&client, "ConfigMap", HOME)
            .delete("theirs", &DeleteParams::default())
            .await
            .is_err()
    );
    of(&admin, "ConfigMap", HOME)
        .delete("theirs", &DeleteParams::default())
        .await
        .unwrap();
    create(
        &client,
        "ConfigMap",
        HOME,
        record("golive-app-attack", json!({})),
    )
    .await
    .unwrap();
    let made = json!({"data": {"made-database": "true"}});
    patch(&client, "ConfigMap", HOME, "golive-app-attack", made)
        .await
        .unwrap();
    of(&client, "ConfigMap", HOME)
        .delete("golive-app-attack", &DeleteParams::default())
        .await
        .unwrap();

    let kind = "coordination.k8s.io/Lease";
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": "x"}});
    for (place, name) in [
        ("kube-system", "kube-controller-manager"),
        ("kube-node-lease", "node"),
        (HOME, "another-controller"),
        (&namespace, "golive"),
    ] {
        refused(name, create(&client, kind, place, lease(name)).await);
    }
    let held = of(&client, kind, HOME);
    create(&client, kind, HOME, lease("golive")).await.unwrap();
    let other = json!({"spec": {"holderIdentity": "y"}});
    refused(
        "a lease in part",
        patch(&client, kind, HOME, "golive", other).await,
    );
    assert!(
        held.delete("golive", &DeleteParams::default())
            .await
            .is_err()
    );
    of(&admin, kind, HOME)
        .delete("golive", &DeleteParams::default())
        .await
        .unwrap();

    let kind = "events.k8s.io/Event";
    for (what, object) in [
        ("a pod's event", event("Pod", "v1", &namespace, "e1")),
        ("a node's event", event("Node", "v1", &namespace, "e2")),
        (
            "another kind of ours",
            event("Lease", "golive.dev/v1alpha1", &namespace, "e3"),
        ),
        (
            "another namespace's object",
            event("Activation", "golive.dev/v1alpha1", "default", "e4"),
        ),
    ] {
        refused(what, create(&client, kind, &namespace, object).await);
    }
    let mut forged = event("Activation", "golive.dev/v1alpha1", &namespace, "e5");
    forged["reportingController"] = json!("kubelet");
    refused(
        "another reporter",
        create(&client, kind, &namespace, forged.clone()).await,
    );
    // An event of somebody else is not taken over either.
    create(&admin, kind, &namespace, forged).await.unwrap();
    let body =
        json!({"reportingController": "golive.dev/golive-controller", "note": "all is well"});
    assert!(patch(&client, kind, &namespace, "e5", body).await.is_err());
    let own = event("Activation", "golive.dev/v1alpha1", &namespace, "e6");
    create(&client, kind, &namespace, own).await.unwrap();
    let series = json!({"series": {"count": 2, "lastObservedTime": "2030-01-01T00:00:01.000000Z"}});
    patch(&client, kind, &namespace, "e6", series)
        .await
        .unwrap();
}
