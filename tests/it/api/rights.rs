//! Rights of the operator, editors, viewers and approvers, checked by the real API server.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use golive::api::{Activation, ActivationApproval};

use crate::support::installed::{cluster, eventually, root};

/// The operator, as its ServiceAccount is known.
const OPERATOR: &str = "system:serviceaccount:golive-system:golive";

/// Whether the server allows a user an action.
async fn may(
    client: &Client,
    user: &str,
    verb: &str,
    resource: &str,
    namespace: Option<&str>,
) -> bool {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let (group, resource) = match resource.split_once(':') {
        Some((group, resource)) => (group, resource),
        None => ("", resource),
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            groups: Some(vec!["system:authenticated".to_owned()]),
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await.unwrap();
    answer.status.is_some_and(|status| status.allowed)
}

/// Gives a user a ClusterRole in one namespace.
pub async fn bind(client: &Client, namespace: &str, user: &str, role: &str) {
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": format!("{user}-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }))
    .unwrap();
    let api: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &binding).await.unwrap();
}

/// Resource, verb, and whether each of viewer, editor and approver may.
const MATRIX: &[(&str, &str, bool, bool, bool)] = &[
    ("golive.dev:activations", "get", true, true, true),
    ("golive.dev:activations", "watch", true, true, true),
    ("golive.dev:activations", "create", false, true, false),
    ("golive.dev:activations", "patch", false, true, false),
    ("golive.dev:activations", "delete", false, true, false),
    ("golive.dev:activations", "approve", false, false, true),
    ("golive.dev:activations/status", "get", true, true, false),
    (
        "golive.dev:activations/status",
        "patch",
        false,
        false,
        false,
    ),
    (
        "golive.dev:activations/status",
        "update",
        false,
        false,
        false,
    ),
    (
        "golive.dev:activations/finalizers",
        "update",
        false,
        false,
        false,
    ),
    ("golive.dev:activationapprovals", "list", true, true, true),
    (
        "golive.dev:activationapprovals",
        "create",
        false,
        false,
        true,
    ),
    (
        "golive.dev:activationapprovals",
        "patch",
        false,
        false,
        false,
    ),
    (
        "golive.dev:activationapprovals",
        "delete",
        false,
        false,
        false,
    ),
];

#[tokio::test]
async fn viewers_editors_and_approvers_hold_exactly_their_rights() {
    let cluster = cluster().await;
    let client = cluster.client().unwrap();
    let namespace = cluster.create_namespace("rights").await.unwrap();
    for (user, role) in [
        ("vera", "view"),
        ("ed", "edit"),
        ("ana", "activation-approver"),
    ] {
        bind(&client, &namespace, user, role).await;
    }
    // A controller aggregates the cluster's roles, some time later.
    for (user, verb) in [("vera", "get"), ("ed", "create"), ("ana", "approve")] {
        eventually("the roles to be aggregated", async || {
            may(
                &client,
                user,
                verb,
                "golive.dev:activations",
                Some(&namespace),
            )
            .await
            .then_some(())
        })
        .await;
    }
    for (resource, verb, viewer, editor, approver) in MATRIX {
        for (user, expected) in [("vera", viewer), ("ed", editor), ("ana", approver)] {
            let found = may(&client, user, verb, resource, Some(&namespace)).await;
            assert_eq!(found, *expected, "{user}: {verb} {resource}");
        }
    }
}

#[tokio::test]
async fn the_operator_can_do_its_work_and_not_more() {
    let cluster = cluster().await;
    let client = cluster.client().unwrap();
    let anywhere = Some("default");
    for (resource, verbs) in [
        ("golive.dev:activations", "get list watch patch"),
        ("golive.dev:activations/status", "patch"),
        ("golive.dev:activationapprovals", "list watch"),
        ("secrets", "get create update patch delete"),
        // Writes are for the plan beside an Activation; `api::attacker` shows that the policy holds them to that.
        ("configmaps", "get list watch create update delete"),
        ("events.k8s.io:events", "create patch"),
        ("rbac.authorization.k8s.io:rolebindings", "list"),
        ("rbac.authorization.k8s.io:roles", "get"),
        ("rbac.authorization.k8s.io:clusterrolebindings", "list"),
        ("rbac.authorization.k8s.io:clusterroles", "get"),
    ] {
        for verb in verbs.split(' ') {
            assert!(
                may(&client, OPERATOR, verb, resource, anywhere).await,
                "{verb} {resource}"
            );
        }
    }
    let own = Some("golive-system");
    for (resource, verbs) in [
        ("coordination.k8s.io:leases", "get create update"),
        ("configmaps", "get create update patch delete"),
    ] {
        for verb in verbs.split(' ') {
            assert!(
                may(&client, OPERATOR, verb, resource, own).await,
                "own: {verb} {resource}"
            );
        }
    }
    assert!(
        may(
            &client,
            OPERATOR,
            "create",
            "authorization.k8s.io:subjectaccessreviews",
            None
        )
        .await
    );
    for (resource, verbs) in [
        ("secrets", "list watch deletecollection"),
        ("configmaps", "patch deletecollection"),
        ("golive.dev:activations", "create update delete approve"),
        (
            "golive.dev:activationapprovals",
            "create update patch delete",
        ),
        ("pods", "get list create"),
        ("pods/exec", "create"),
        ("serviceaccounts/token", "create"),
        ("coordination.k8s.io:leases", "get create"),
        (
            "rbac.authorization.k8s.io:roles",
            "list watch create update patch delete escalate bind",
        ),
        (
            "rbac.authorization.k8s.io:rolebindings",
            "watch create update patch delete",
        ),
        (
            "rbac.authorization.k8s.io:clusterroles",
            "list watch create update patch delete escalate bind",
        ),
        (
            "rbac.authorization.k8s.io:clusterrolebindings",
            "watch create update patch delete",
        ),
        (
            "apiextensions.k8s.io:customresourcedefinitions",
            "get update patch",
        ),
    ] {
        for verb in verbs.split(' ') {
            assert!(
                !may(&client, OPERATOR, verb, resource, anywhere).await,
                "{verb} {resource}"
            );
        }
    }
    for verb in ["list", "watch"] {
        assert!(
            !may(&client, OPERATOR, verb, "secrets", None).await,
            "{verb} all Secrets"
        );
    }
    assert!(!may(&client, OPERATOR, "impersonate", "users", None).await);
}

#[tokio::test]
async fn the_operator_cannot_touch_the_secrets_of_others() {
    let cluster = cluster().await;
    let admin = cluster.client().unwrap();
    let namespace = cluster.create_namespace("secrets").await.unwrap();
    let secret = |name: &str, labels: Value| -> Secret {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "stringData": {"token": "abc"},
        }))
        .unwrap()
    };
    let mine: Api<Secret> = Api::namespaced(admin, &namespace);
    mine.create(&PostParams::default(), &secret("fly", json!({"team": "x"})))
        .await
        .unwrap();
    let as_operator = cluster.client_as("golive-system", "golive").await.unwrap();
    let theirs: Api<Secret> = Api::namespaced(as_operator, &namespace);
    let patch = async |body: Value| {
        theirs
            .patch("fly", &PatchParams::default(), &Patch::Merge(&body))
            .await
    };
    let denied = |result: kube::Result<Secret>, what: &str| match result {
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            assert!(
                status.message.contains("may write only Secrets"),
                "{what}: {}",
                status.message
            );
        }
        other => panic!("{what} should be denied: {:?}", other.map(|_| ())),
    };
    // Policies take effect a moment after they are applied. Each try asks for another value: one
    // that was admitted too early would otherwise be no change, and that is always allowed.
    let tries = std::sync::atomic::AtomicU32::new(0);
    eventually("the policy to take effect", async || {
        let value = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let label = json!({"metadata": {"labels": {"probe": value.to_string()}}});
        patch(label).await.is_err().then_some(())
    })
    .await;

    patch(json!({"metadata": {"finalizers": ["golive.dev/activation"]}}))
        .await
        .unwrap();
    denied(
        patch(json!({"stringData": {"token": "stolen"}})).await,
        "a value",
    );
    let adopt = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "golive"}}});
    denied(patch(adopt).await, "taking it over by a label");
    denied(
        theirs
            .create(&PostParams::default(), &secret("other", json!({})))
            .await,
        "a Secret without the label",
    );
    let deleted = theirs.delete("fly", &DeleteParams::default()).await;
    assert!(
        deleted.is_err(),
        "it must not delete the Secret of somebody else"
    );
    patch(json!({"metadata": {"finalizers": null}}))
        .await
        .unwrap();

    let labels = json!({
        "app.kubernetes.io/managed-by": "golive", "app.kubernetes.io/instance": "shop",
    });
    theirs
        .create(&PostParams::default(), &secret("shop-golive", labels))
        .await
        .unwrap();
    let more = json!({"stringData": {"more": "b"}});
    theirs
        .patch("shop-golive", &PatchParams::default(), &Patch::Merge(&more))
        .await
        .unwrap();
    theirs
        .delete("shop-golive", &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_approval_is_admitted_only_from_whom_it_names_and_who_may_approve() {
    let cluster = cluster().await;
    let admin = cluster.client().unwrap();
    let namespace = cluster.create_namespace("gate").await.unwrap();
    bind(&admin, &namespace, "ana", "activation-approver").await;
    // Bob may create approvals, but holds no verb `approve`.
    let role: k8s_openapi::api::rbac::v1::Role = serde_json::from_value(json!({
        "metadata": {"name": "creator"},
        "rules": [{"apiGroups": ["golive.dev"], "resources": ["activationapprovals"], "verbs": ["create"]}],
    }))
    .unwrap();
    Api::namespaced(admin.clone(), &namespace)
        .create(&PostParams::default(), &role)
        .await
        .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "creator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "creator"},
        "subjects": [{"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"}],
    }))
    .unwrap();
    Api::namespaced(admin.clone(), &namespace)
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
    let decide = async |user: &str, approver: &str| {
        let approval: ActivationApproval = serde_json::from_value(json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "ActivationApproval",
            "metadata": {"generateName": "a-"},
            "spec": {
                "activation": "shop", "gate": "Deploy", "decision": "Approve", "approver": approver,
                "digest": format!("sha256:{}", "0f".repeat(32)),
            },
        }))
        .unwrap();
        let client = cluster.client_impersonating(user, &[]).unwrap();
        let api: Api<ActivationApproval> = Api::namespaced(client, &namespace);
        match api.create(&PostParams::default(), &approval).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status.message),
            Err(other) => panic!("{other}"),
        }
    };

    let refusal = eventually("the policy to take effect", async || {
        decide("ana", "bob").await.err()
    })
    .await;
    assert!(
        refusal.contains("`approver` must be the user who creates the approval: ana"),
        "{refusal}"
    );
    let refusal = decide("bob", "bob").await.unwrap_err();
    assert!(
        refusal.contains("needs the verb `approve` on the activation shop"),
        "{refusal}"
    );
    let refusal = decide("eve", "eve").await.unwrap_err();
    assert!(refusal.contains("forbidden"), "{refusal}");
    decide("ana", "ana").await.unwrap();
}

/// Updates an Activation with these gates as a user; the refusal.
async fn set_gates(
    cluster: &kube_env::Cluster,
    namespace: &str,
    user: &str,
    gates: Value,
) -> Result<(), String> {
    let client = cluster.client_impersonating(user, &[]).unwrap();
    let api: Api<Activation> = Api::namespaced(client, namespace);
    let patch = Patch::Merge(json!({"spec": {"gates": gates}}));
    match api.patch("shop", &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(other) => Err(other.to_string()),
    }
}

#[tokio::test]
async fn weakening_a_gate_needs_the_verb_approve_and_making_it_stricter_does_not() {
    let cluster = cluster().await;
    let admin = cluster.client().unwrap();
    let namespace = cluster.create_namespace("weaken").await.unwrap();
    bind(&admin, &namespace, "ed", "activation-edit").await;
    bind(&admin, &namespace, "ana", "activation-edit").await;
    bind(&admin, &namespace, "ana", "activation-approver").await;
    let gate = |approvals: u32, timeout: &str, on_timeout: &str| json!({"before": "Deploy", "approvals": approvals, "timeout": timeout, "onTimeout": on_timeout});
    let strict = json!([gate(2, "2h", "Reject")]);
    let activation: Activation = serde_json::from_value(json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation", "metadata": {"name": "shop"},
        "spec": {
            "organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"},
            "gates": strict,
        },
    }))
    .unwrap();
    let api: Api<Activation> = Api::namespaced(admin.clone(), &namespace);
    api.create(&PostParams::default(), &activation)
        .await
        .unwrap();
    let refusal = eventually("the policy to take effect", async || {
        // Each try begins with the gate.
        let tried = set_gates(cluster, &namespace, "ed", json!([])).await.err();
        if tried.is_none() {
            set_gates(cluster, &namespace, "ed", strict.clone())
                .await
                .ok();
        }
        tried
    })
    .await;
    assert!(
        refusal.contains("user ed needs the verb `approve` on the activation shop to remove or weaken the gate before Deploy"),
        "{refusal}"
    );
    for weaker in [
        json!([{"before": "SmokeTest", "approvals": 2}]),
        json!([gate(1, "2h", "Reject")]),
        json!([gate(2, "3h", "Reject")]),
        json!([gate(2, "2h", "Continue")]),
        json!([gate(2, "2h", "Remind")]),
        json!(null),
    ] {
        let tried = set_gates(cluster, &namespace, "ed", weaker.clone()).await;
        assert!(tried.is_err_and(|why| why.contains("weaken")), "{weaker}");
    }
    for stricter in [
        json!([gate(2, "120m", "Reject")]),
        json!([gate(3, "2h", "Reject")]),
        json!([gate(3, "1h", "Reject"), {"before": "SmokeTest"}]),
    ] {
        set_gates(cluster, &namespace, "ed", stricter)
            .await
            .unwrap();
    }
    // Who may approve may do it, and others may still edit the rest of the spec.
    set_gates(
        cluster,
        &namespace,
        "ana",
        json!([gate(1, "2h", "Continue")]),
    )
    .await
    .unwrap();
    let shorter = json!([gate(1, "1h", "Continue")]);
    let tried = set_gates(cluster, &namespace, "ed", shorter).await;
    assert!(tried.is_err_and(|why| why.contains("weaken")));
    for stricter in [gate(1, "3h", "Continue"), gate(1, "700h", "Reject")] {
        set_gates(cluster, &namespace, "ed", json!([stricter]))
            .await
            .unwrap();
    }
    set_gates(cluster, &namespace, "ana", json!([]))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_operators_pods_meet_the_restricted_standard() {
    let cluster = cluster().await;
    let client = cluster.client().unwrap();
    let text = std::fs::read_to_string(root().join("manifests/base/deployment.yaml")).unwrap();
    let deployment = kube_env::cluster::parse_yaml(&text).unwrap().remove(0);
    let template = &deployment["spec"]["template"];
    let pods: Api<Pod> = Api::namespaced(client, "golive-system");
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = |spec: Value| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"generateName": "golive-", "labels": template["metadata"]["labels"]},
            "spec": spec,
        }))
        .unwrap()
    };

    pods.create(&dry, &pod(template["spec"].clone()))
        .await
        .unwrap();

    // The standard is enforced there: a pod that gives up less is refused.
    let mut more = template["spec"].clone();
    more["containers"][0]["securityContext"] = json!({});
    let refusal = pods.create(&dry, &pod(more)).await.unwrap_err();
    assert!(refusal.to_string().contains("PodSecurity"), "{refusal}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test writes a status as the operator would"
)]
#[tokio::test]
async fn the_operators_own_client_can_read_and_report() {
    let cluster = cluster().await;
    let namespace = cluster.create_namespace("operator").await.unwrap();
    let admin: Api<Activation> = Api::namespaced(cluster.client().unwrap(), &namespace);
    let object: Activation = serde_json::from_value(json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation", "metadata": {"name": "x"},
        "spec": {"organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"}},
    }))
    .unwrap();
    admin.create(&PostParams::default(), &object).await.unwrap();
    let operator: Api<Activation> = Api::namespaced(
        cluster.client_as("golive-system", "golive").await.unwrap(),
        &namespace,
    );

    let finalizers = json!({"metadata": {"finalizers": ["golive.dev/activation"]}});
    operator
        .patch("x", &PatchParams::default(), &Patch::Merge(&finalizers))
        .await
        .unwrap();
    let status = json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation", "status": {"observedGeneration": 1},
    });
    let params = PatchParams::apply(golive::api::FIELD_MANAGER).force();
    let written = operator
        .patch_status("x", &params, &Patch::Apply(&status))
        .await
        .unwrap();
    assert_eq!(written.status.unwrap().observed_generation, Some(1));
    let none = json!({"metadata": {"finalizers": null}});
    operator
        .patch("x", &PatchParams::default(), &Patch::Merge(&none))
        .await
        .unwrap();
}
