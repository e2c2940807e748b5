//! Who may name a Secret in an Activation: whoever may read it, or may name it. By the real API
//! server, with the shipped roles and policies.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;

use golive::{
    api::Activation,
    plan::named::{RefKind, named},
};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::rights::bind;
use crate::support::{
    env::merge,
    installed::{cluster, eventually},
};

/// A tool that applies what is in a repository, with all rights.
const GITOPS: &str = "system:serviceaccount:argocd:argocd-application-controller";

fn shop(more: Value) -> Activation {
    let mut spec = json!({
        "organization": "o", "app": "shop", "region": "eze", "deploy": {"image": "x:1"},
    });
    merge(&mut spec, more);
    serde_json::from_value(json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation", "metadata": {"name": "shop"},
        "spec": spec,
    }))
    .unwrap()
}

fn from(names: &[&str]) -> Value {
    let names: Vec<Value> = names
        .iter()
        .map(|name| json!({"secretRef": {"name": name}}))
        .collect();
    json!({"provision": {"secrets": {"from": names}}})
}

/// Lets a user do `verb` with these Secrets.
async fn grant(admin: &Client, namespace: &str, user: &str, verb: &str, secrets: &[&str]) {
    let name = format!("{user}-{verb}");
    let role: Role = serde_json::from_value(json!({
        "metadata": {"name": name},
        "rules": [{
            "apiGroups": [""], "resources": ["secrets"], "verbs": [verb], "resourceNames": secrets,
        }],
    }))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }))
    .unwrap();
    let params = PostParams::default();
    let roles: Api<Role> = Api::namespaced(admin.clone(), namespace);
    roles.create(&params, &role).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(admin.clone(), namespace);
    bindings.create(&params, &binding).await.unwrap();
}

/// A namespace with `dev`, who may edit Activations and has no other right.
async fn namespace(prefix: &str) -> (Client, String) {
    let cluster = cluster().await;
    let admin = cluster.client().unwrap();
    let namespace = cluster.create_namespace(prefix).await.unwrap();
    bind(&admin, &namespace, "dev", "activation-edit").await;
    eventually("the policy to take effect", async || {
        create("dev", &namespace, &shop(json!({})), true)
            .await
            .err()
            .filter(|why| why.contains("needs the verb `get` or `activate`"))
    })
    .await;
    (admin, namespace)
}

async fn api(user: &str, namespace: &str) -> Api<Activation> {
    let client = cluster().await.client_impersonating(user, &[]).unwrap();
    Api::namespaced(client, namespace)
}

fn answer(answer: kube::Result<Activation>) -> Result<(), String> {
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(other) => panic!("{other}"),
    }
}

async fn create(
    user: &str,
    namespace: &str,
    object: &Activation,
    dry_run: bool,
) -> Result<(), String> {
    let params = PostParams {
        dry_run,
        ..PostParams::default()
    };
    answer(api(user, namespace).await.create(&params, object).await)
}

async fn patch(user: &str, namespace: &str, body: Value) -> Result<(), String> {
    let params = PatchParams::default();
    let api = api(user, namespace).await;
    answer(api.patch("shop", &params, &Patch::Merge(body)).await)
}

#[tokio::test]
async fn naming_a_secret_needs_the_right_to_read_it_or_to_name_it() {
    let (admin, namespace) = namespace("names").await;
    let mine = from(&["mine"]);
    let refusal = create("dev", &namespace, &shop(mine.clone()), true)
        .await
        .unwrap_err();
    assert!(
        refusal.contains("user dev needs the verb `get` or `activate` on each Secret that is named now, in this field and for this address, and was not before (mine, fly)"),
        "{refusal}"
    );
    let command = format!(
        "kubectl -n {namespace} create role name-secrets --verb=activate --resource=secrets --resource-name=mine --resource-name=fly"
    );
    assert!(refusal.contains(&command), "{refusal}");
    grant(&admin, &namespace, "dev", "get", &["mine"]).await;
    grant(&admin, &namespace, "dev", "activate", &["fly"]).await;
    eventually("the roles to take effect", async || {
        create("dev", &namespace, &shop(mine.clone()), true)
            .await
            .ok()
    })
    .await;
    create("dev", &namespace, &shop(mine), false).await.unwrap();
    // Any later edit that names nothing new needs nothing; each that does is asked about.
    let image = json!({"spec": {"deploy": {"image": "x:2"}}});
    patch("dev", &namespace, image).await.unwrap();
    for (what, body, name) in [
        ("one more", from(&["mine", "theirs"]), "theirs"),
        (
            "another token",
            json!({"tokenSecretRef": {"name": "theirs"}}),
            "theirs",
        ),
        (
            "the address of a database",
            json!({"provision": {"postgres": {"external": {"urlSecretRef": {"name": "db", "key": "url"}}}}}),
            "db",
        ),
    ] {
        let refusal = patch("dev", &namespace, json!({"spec": body})).await;
        let refusal = refusal.expect_err(what);
        assert!(
            refusal.contains(&format!("was not before ({name})")),
            "{what}: {refusal}"
        );
    }
    // Taking away is free, and so is what the operator does: it names nothing.
    patch(
        "dev",
        &namespace,
        json!({"spec": {"provision": {"secrets": {"from": []}}}}),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_secret_that_golive_uses_is_not_given_to_the_application_without_the_right() {
    let (admin, namespace) = namespace("given").await;
    let admins: Api<Activation> = Api::namespaced(admin, &namespace);
    let params = PostParams::default();
    admins.create(&params, &shop(json!({}))).await.unwrap();
    let refusal = patch("dev", &namespace, json!({"spec": from(&["fly"])})).await;
    assert!(refusal.unwrap_err().contains("was not before (fly)"));
}

#[tokio::test]
async fn every_field_that_names_a_secret_is_asked_about() {
    let (_, namespace) = namespace("fields").await;
    let many = json!({
        "tokenSecretRef": {"name": "s-token"},
        "provision": {
            "postgres": {"managed": {}, "fallback": {"urlSecretRef": {"name": "s-fallback", "key": "a"}}},
            "redis": {"external": {"urlSecretRef": {"name": "s-redis", "key": "a"}}},
            "secrets": {"from": [{"secretRef": {"name": "s-from"}}]},
        },
        "integrations": {
            "whatsapp": {
                "path": "/w", "verifyTokenSecretRef": {"name": "s-verify", "key": "a"},
                "appSecretRef": {"name": "s-app", "key": "a"},
                "tokenSecretRef": {"name": "s-graph", "key": "a"}, "wabaId": "1",
            },
            "mercadoPago": {
                "path": "/m", "signingSecretRef": {"name": "s-signing", "key": "a"},
                "accessTokenSecretRef": {"name": "s-access", "key": "a"},
            },
            "ical": {"exportPath": "/i.ics", "feedsSecretRef": {"name": "s-feeds", "key": "a"}},
            "webhooks": [{"name": "w", "path": "/x", "header": "X-Signature", "secretRef": {"name": "s-webhook", "key": "a"}}],
        },
        "notifications": [
            {"webhook": {"urlSecretRef": {"name": "s-notify", "key": "a"}}},
            {"email": {
                "urlSecretRef": {"name": "s-mail", "key": "a"},
                "from": "golive@example.org", "to": ["ops@example.org"],
            }},
            {"format": "PagerDuty", "keySecretRef": {"name": "s-pager", "key": "a"}},
        ],
    });
    let rest = json!({
        "tokenSecretRef": {"name": "s-token"},
        "provision": {"postgres": {"external": {"urlSecretRef": {"name": "s-external", "key": "a"}}}},
        "deploy": {
            "image": null,
            "source": {"image": "ghcr.io/x/y", "policy": {"tag": {"name": "stable"}}, "credentialsSecretRef": {"name": "s-pull"}},
        },
        "observe": {"source": {"prometheus": {
            "url": "https://prometheus.example.org", "tokenSecretRef": {"name": "s-prometheus", "key": "a"},
        }}},
    });
    let basic = json!({
        "tokenSecretRef": {"name": "s-token"},
        "observe": {"source": {"prometheus": {
            "url": "https://prometheus.example.org",
            "basicAuth": {
                "usernameSecretRef": {"name": "s-user", "key": "a"},
                "passwordSecretRef": {"name": "s-password", "key": "a"},
            },
            "ca": {"secretRef": {"name": "s-ca", "key": "a"}},
        }}},
    });
    let mut fields = BTreeSet::new();
    for object in [shop(many), shop(rest), shop(basic)] {
        let refusal = create("dev", &namespace, &object, true).await.unwrap_err();
        let (_, told) = refusal
            .split_once("was not before (")
            .unwrap_or_else(|| panic!("{refusal}"));
        let told: BTreeSet<&str> = told.split(')').next().unwrap().split(", ").collect();
        for named in named(&object) {
            if named.kind == RefKind::Secret {
                assert!(
                    told.contains(named.name.as_str()),
                    "{}: {refusal}",
                    named.field
                );
                fields.insert(named.field);
            }
        }
    }
    // One of each that the definition has.
    assert_eq!(fields.len(), 20, "{fields:?}");
}

/// What somebody else named is not sent on: neither in another field, by another key, nor to another
/// address.
#[tokio::test]
async fn a_secret_that_is_named_already_is_not_sent_to_another_address_without_the_right() {
    let (admin, namespace) = namespace("sent").await;
    let credentials = |key: &str| {
        json!({
            "usernameSecretRef": {"name": "metrics", "key": "user"},
            "passwordSecretRef": {"name": "metrics", "key": key},
        })
    };
    let prometheus = |url: &str, more: Value| {
        let mut prometheus = more;
        prometheus["url"] = json!(url);
        json!({"observe": {"source": {"prometheus": prometheus}}})
    };
    let source = |image: &str| {
        json!({"deploy": {"source": {
            "image": image, "policy": {"tag": {"name": "stable"}},
            "credentialsSecretRef": {"name": "pull"},
        }}})
    };
    let hook = |key: &str| {
        json!({"notifications": [{
            "webhook": {"urlSecretRef": {"name": "hook", "key": key}},
            "keySecretRef": {"name": "hook", "key": "key"},
        }]})
    };
    let ours = "https://prometheus.example.org";
    let mut spec = source("ghcr.io/x/y");
    spec["deploy"]["image"] = Value::Null;
    merge(
        &mut spec,
        prometheus(ours, json!({"basicAuth": credentials("password")})),
    );
    merge(&mut spec, hook("url"));
    let admins: Api<Activation> = Api::namespaced(admin, &namespace);
    let params = PostParams::default();
    admins.create(&params, &shop(spec)).await.unwrap();

    let theirs = "https://evil.example.org";
    let token = json!({"basicAuth": null, "tokenSecretRef": {"name": "fly", "key": "token"}});
    for (what, body, name) in [
        ("the token, to Prometheus", prometheus(ours, token), "fly"),
        (
            "another Prometheus",
            prometheus(theirs, json!({})),
            "metrics, metrics",
        ),
        (
            "another key",
            prometheus(ours, json!({"basicAuth": credentials("other")})),
            "metrics",
        ),
        ("another registry", source("evil.example.org/x/y"), "pull"),
        ("another receiver", hook("key"), "hook, hook"),
        (
            "another field",
            json!({"integrations": {"webhooks": [{
                "name": "w", "path": "/x", "header": "X-S", "secretRef": {"name": "hook", "key": "key"},
            }]}}),
            "hook",
        ),
        ("the application", from(&["metrics"]), "metrics"),
    ] {
        let refusal = patch("dev", &namespace, json!({"spec": body})).await;
        let refusal = refusal.expect_err(what);
        let told = format!("was not before ({name})");
        assert!(refusal.contains(&told), "{what}: {refusal}");
    }
    // The same again, another image of the same registry, and other fields need nothing.
    for body in [
        prometheus(ours, json!({"basicAuth": credentials("password")})),
        source("ghcr.io/x/z"),
        json!({"deploy": {"scale": {"app": 2}}}),
    ] {
        patch("dev", &namespace, json!({"spec": body}))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn whoever_may_read_all_secrets_and_tools_that_apply_a_repository_go_on_working() {
    let (admin, namespace) = namespace("tools").await;
    let names: Vec<String> = (0..16).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let object = shop(from(&names));
    let refusal = create("dev", &namespace, &object, true).await.unwrap_err();
    assert!(refusal.contains("golive-secret-authors"), "{refusal}");
    bind(&admin, &namespace, "ed", "edit").await;
    bind(&admin, &namespace, "ed", "activation-edit").await;
    create("ed", &namespace, &object, true).await.unwrap();

    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": format!("gitops-{namespace}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "name": GITOPS, "apiGroup": "rbac.authorization.k8s.io"}],
    }))
    .unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
    let apply = async |user: &str, object: &Activation| {
        let api = api(user, &namespace).await;
        let params = PatchParams::apply(user).force();
        answer(api.patch("shop", &params, &Patch::Apply(object)).await)
    };
    eventually("the binding to take effect", async || {
        apply(GITOPS, &object).await.ok()
    })
    .await;
    apply(GITOPS, &object).await.unwrap();
    // One with fewer rights applies what is there already.
    apply("dev", &object).await.unwrap();
    let default = kube::api::DeleteParams::default();
    bindings
        .delete(&format!("gitops-{namespace}"), &default)
        .await
        .unwrap();
}
