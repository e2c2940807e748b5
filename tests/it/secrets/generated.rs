//! Generated secrets, on a real API server.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeMap;

use golive::api::Owner;
use golive::api::provision::{Encoding, GeneratedSecret};
use golive::clock;
use golive::store::generated::{Error, Rotation, SecretStore, Settled, decide};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use kube_env::ControlPlane;
use serde_json::json;

fn wanted() -> Vec<GeneratedSecret> {
    let secret = |name: &str, bytes, encoding| GeneratedSecret {
        name: name.into(),
        bytes,
        encoding,
    };
    vec![
        secret("JWT_SECRET", 48, Encoding::Base64Url),
        secret("ICS_SALT", 16, Encoding::Hex),
        secret("GRAFANA_ADMIN_PASSWORD", 18, Encoding::Alphanumeric),
    ]
}

fn owner(namespace: &str, uid: &str) -> Owner {
    Owner {
        namespace: namespace.into(),
        name: "mvp".into(),
        uid: uid.into(),
        generation: 1,
    }
}

async fn place() -> (Client, String) {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let namespace = cluster.create_namespace("secrets").await.unwrap();
    (cluster.client().unwrap(), namespace)
}

fn values(settled: &Settled) -> BTreeMap<String, String> {
    let values = settled.values.iter();
    values
        .map(|(k, v)| (k.clone(), v.expose_secret().to_owned()))
        .collect()
}

async fn settle(store: &SecretStore) -> Settled {
    let rotation = Rotation::default();
    store
        .settle(&wanted(), &rotation, clock::wall())
        .await
        .unwrap()
}

#[tokio::test]
async fn values_are_made_up_once_and_an_unchanged_look_writes_nothing() {
    let (kube, namespace) = place().await;
    let api: Api<Secret> = Api::namespaced(kube.clone(), &namespace);
    let store = SecretStore::new(kube, owner(&namespace, "uid-1"));
    let first = settle(&store).await;
    assert_eq!(first.changes.generate, wanted());
    let written = api.get("mvp-golive").await.unwrap();

    let second = settle(&store).await;

    assert!(second.changes.is_empty());
    assert_eq!(values(&second), values(&first));
    let after = api.get("mvp-golive").await.unwrap();
    assert_eq!(
        after.metadata.resource_version,
        written.metadata.resource_version
    );
    let data = after.data.unwrap();
    assert_eq!(data["ICS_SALT"].0, values(&first)["ICS_SALT"].as_bytes());
}

#[tokio::test]
async fn a_create_whose_reply_was_lost_is_found_and_not_made_again() {
    let (kube, namespace) = place().await;
    let store = SecretStore::new(kube, owner(&namespace, "uid-1"));
    let rotation = Rotation::default();
    let changes = decide(None, "uid-1", &wanted(), &rotation, clock::wall());
    assert!(store.write(None, &changes, clock::wall()).await.unwrap());
    let first = store.read().await.unwrap().unwrap();

    // The same create once more, as after a reset in the middle of the answer.
    assert!(!store.write(None, &changes, clock::wall()).await.unwrap());

    let settled = settle(&store).await;
    for (name, value) in &first.values {
        assert_eq!(values(&settled)[name], value.expose_secret());
    }
}

#[tokio::test]
async fn writers_at_the_same_time_agree() {
    let (kube, namespace) = place().await;
    let store = SecretStore::new(kube, owner(&namespace, "uid-1"));
    let rounds = (0..6).map(|_| settle(&store));
    let settled = futures::future::join_all(rounds).await;
    for one in &settled {
        assert_eq!(values(one), values(&settled[0]));
    }
}

#[tokio::test]
async fn a_new_activation_of_the_same_name_finds_the_values_of_the_one_before() {
    let (kube, namespace) = place().await;
    let api: Api<Secret> = Api::namespaced(kube.clone(), &namespace);
    let before = settle(&SecretStore::new(kube.clone(), owner(&namespace, "uid-1"))).await;

    let after = settle(&SecretStore::new(kube, owner(&namespace, "uid-2"))).await;

    assert_eq!(values(&after), values(&before));
    let labels = api
        .get("mvp-golive")
        .await
        .unwrap()
        .metadata
        .labels
        .unwrap();
    assert_eq!(labels["golive.dev/activation-uid"], "uid-2");
}

#[tokio::test]
async fn a_rotation_keeps_the_values_before_and_what_others_added() {
    let (kube, namespace) = place().await;
    let api: Api<Secret> = Api::namespaced(kube.clone(), &namespace);
    let store = SecretStore::new(kube, owner(&namespace, "uid-1"));
    let before = settle(&store).await;
    let added = json!({
        "metadata": {"labels": {"example.com/team": "ops"}},
        "stringData": {"ADDED_BY_HAND": "keep me, please"},
    });
    api.patch("mvp-golive", &PatchParams::default(), &Patch::Merge(added))
        .await
        .unwrap();
    let rotation = Rotation {
        token: Some("2026-11-24".into()),
        ..Rotation::default()
    };

    let after = store
        .settle(&wanted(), &rotation, clock::wall())
        .await
        .unwrap();

    assert_eq!(after.changes.rotate, wanted());
    let stored = store.read().await.unwrap().unwrap();
    for secret in wanted() {
        let old = &values(&before)[&secret.name];
        assert_ne!(values(&after)[&secret.name], *old);
        assert_eq!(stored.previous[&secret.name].expose_secret(), old);
    }
    assert_eq!(values(&after)["ADDED_BY_HAND"], "keep me, please");
    let labels = api
        .get("mvp-golive")
        .await
        .unwrap()
        .metadata
        .labels
        .unwrap();
    assert_eq!(labels["example.com/team"], "ops");
    // The same token a second time.
    let again = store
        .settle(&wanted(), &rotation, clock::wall())
        .await
        .unwrap();
    assert!(again.changes.is_empty());
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_neither_used_nor_changed_nor_deleted() {
    let (kube, namespace) = place().await;
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let theirs = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: mvp-golive, namespace: {namespace}}}\n\
         stringData: {{JWT_SECRET: theirs}}\n"
    );
    cluster.apply(&theirs).await.unwrap();
    let api: Api<Secret> = Api::namespaced(kube.clone(), &namespace);
    let before = api.get("mvp-golive").await.unwrap();
    let store = SecretStore::new(kube, owner(&namespace, "uid-1"));

    let settled = store
        .settle(&wanted(), &Rotation::default(), clock::wall())
        .await;
    assert!(matches!(settled, Err(Error::NotOurs { .. })));
    store.delete().await.unwrap();

    assert_eq!(api.get("mvp-golive").await.unwrap(), before);
}

#[tokio::test]
async fn a_deleted_store_is_gone_and_deleting_it_twice_is_fine() {
    let (kube, namespace) = place().await;
    let store = SecretStore::new(kube, owner(&namespace, "uid-1"));
    settle(&store).await;
    store.delete().await.unwrap();
    assert!(store.read().await.unwrap().is_none());
    store.delete().await.unwrap();
}
