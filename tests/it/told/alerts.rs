//! A real Alertmanager takes our alerts, and resolves them.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::time::{Duration, Instant};

use kube_env::Alertmanager;
use serde_json::{Value, json};

use super::world::{NAME, Told};
use crate::support::env::LIMIT;

/// Waits until the alerts are as wanted, and returns them.
async fn alerts(
    server: &Alertmanager,
    what: &str,
    wanted: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let end = Instant::now() + LIMIT;
    loop {
        let (status, body) = server.get("/api/v2/alerts").unwrap();
        assert_eq!(status, 200);
        let alerts: Vec<Value> = serde_json::from_slice(&body).unwrap();
        if wanted(&alerts) {
            return alerts;
        }
        assert!(Instant::now() < end, "{what}: {alerts:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn is_of_the_gate(alert: &Value) -> bool {
    alert["labels"]["alertname"] == "GoliveGate"
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_takes_an_alert_and_resolves_it_when_it_is_over() {
    let mut told = Told::new().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Alertmanager::start(folder.path()).await.unwrap();
    // In the cluster and in the clear, as the administrator allows it.
    let origin = format!("http://{}", server.address());
    told.env.secret("alerts", &[("url", origin.as_str())]).await;
    told.start(&["--allow-receiver", &origin]);
    let receiver = json!({
        "name": "alerts", "format": "Alertmanager", "minSeverity": "Warning",
        "webhook": {"urlSecretRef": {"name": "alerts", "key": "url"}},
    });
    told.activate(json!([receiver])).await;
    let digest = told.asked().await;
    let active = alerts(&server, "the alert of the gate", |alerts| {
        alerts.iter().any(is_of_the_gate)
    });
    let active = active.await;
    let alert = active.iter().find(|alert| is_of_the_gate(alert)).unwrap();
    assert_eq!(alert["status"]["state"], "active");
    assert_eq!(alert["labels"]["activation"], NAME);
    assert_eq!(alert["labels"]["severity"], "warning");
    assert!(alert["annotations"]["next_action"].as_str().unwrap().len() > 10);

    told.env.approve(NAME, "Deploy", &digest).await;
    told.env.wait_live(NAME).await;
    // Alertmanager lists what is not resolved.
    alerts(&server, "its end", |alerts| {
        !alerts.iter().any(is_of_the_gate)
    })
    .await;
    let events = told.env.events(NAME).await;
    assert!(
        events
            .iter()
            .all(|(_, reason, _)| reason != "NotificationFailed"),
        "{events:#?}"
    );
}
