//! How `kubectl get` finds and shows objects.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use kube::api::ListParams;
use serde_json::Value;

use super::objects::{activations, create, minimal};

#[tokio::test]
async fn objects_are_found_by_field_and_shown_in_columns() {
    let (client, namespace, api) = activations().await;
    for name in ["one", "two"] {
        create(&client, &namespace, &minimal(name), false)
            .await
            .unwrap();
    }
    let found = api
        .list(&ListParams::default().fields("spec.app=two"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 1);

    let request = http::Request::get(format!(
        "/apis/golive.dev/v1alpha1/namespaces/{namespace}/activations"
    ))
    .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
    .body(vec![])
    .unwrap();
    let table: Value = client.request(request).await.unwrap();
    let columns: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|column| column["priority"] == 0)
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        columns,
        ["Name", "Phase", "Ready", "Reason", "Live", "URL", "Age"]
    );
}
