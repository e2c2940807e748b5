//! Events: repeats of the same news are one series, and different news never are.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use golive::process::recorder::Recorder;
use k8s_openapi::api::{core::v1::ObjectReference, events::v1::Event as Written};
use kube::{
    Api,
    runtime::events::{Event, EventType, Reporter},
};
use kube_env::ControlPlane;

fn event(note: &str) -> Event {
    Event {
        type_: EventType::Warning,
        reason: "RolledBack".to_owned(),
        note: Some(note.to_owned()),
        action: "Deploy".to_owned(),
        secondary: None,
    }
}

#[tokio::test]
async fn a_series_never_joins_different_news_and_a_storm_is_limited() {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let client = cluster.client().unwrap();
    let namespace = cluster.create_namespace("events").await.unwrap();
    let recorder = Recorder::new(
        client.clone(),
        Reporter::from("golive.dev/test".to_owned()),
        golive::clock::ServerClock::of_kubernetes(),
    );
    let about = ObjectReference {
        kind: Some("Activation".to_owned()),
        name: Some("shop".to_owned()),
        namespace: Some(namespace.clone()),
        uid: Some("u".to_owned()),
        ..ObjectReference::default()
    };
    let publish = async |note: &str| recorder.publish(&event(note), &about).await.unwrap();
    for note in ["release 2 failed", "release 5 failed", "release 2 failed"] {
        publish(note).await;
    }

    let api: Api<Written> = Api::namespaced(client, &namespace);
    let mut found: Vec<(String, Option<i32>)> = api
        .list(&Default::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|event| {
            let count = event.series.map(|series| series.count);
            (event.note.unwrap_or_default(), count)
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            ("release 2 failed".to_owned(), Some(2)),
            ("release 5 failed".to_owned(), None),
        ]
    );
    for number in 10..40 {
        publish(&format!("release {number} failed")).await;
    }
    let all = api.list(&Default::default()).await.unwrap().items;
    assert_eq!(all.len(), 9, "ten writes in all");
}
