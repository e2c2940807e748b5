//! Apps, tokens and organizations.

use fly_sim::Sim;
use serde_json::json;

use crate::client::{Api, IMAGE, options};

#[tokio::test]
async fn a_name_belongs_to_whoever_took_it_first_over_all_organizations() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let acme = api.with_token(&sim.token("acme").unwrap());
    let body = json!({"app_name": "demo", "org_slug": "acme"});
    assert_eq!(acme.post("/v1/apps", body).await.0, 201);

    let body = json!({"name": "demo", "org_slug": "cabanas"});
    let (status, error) = api.post("/v1/apps", body).await;
    assert_eq!(
        (status, error["status"].as_str()),
        (422, Some("name_taken"))
    );
    assert_eq!(api.get("/v1/apps/demo").await.0, 403);
    let (status, error) = api.get("/v1/apps/nobody").await;
    assert_eq!(status, 404);
    assert_eq!(error["error"], "Could not find App \"nobody\"");
    let (_, list) = api.get("/v1/apps?org_slug=cabanas").await;
    assert_eq!(list["total_apps"], 0);
    assert_eq!(api.get("/v1/apps?org_slug=acme").await.0, 403);
}

#[tokio::test]
async fn a_repeated_create_with_the_same_key_returns_the_first_app() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let body = |name: &str| json!({"name": name, "org_slug": "cabanas", "idempotency_key": "k"});
    assert_eq!(api.post("/v1/apps", body("demo")).await.0, 201);
    assert_eq!(api.post("/v1/apps", body("demo")).await.0, 201);
    assert_eq!(api.post("/v1/apps", body("other")).await.0, 422);
    let created = sim.ledger();
    assert_eq!(created.iter().filter(|e| e.kind == "app.create").count(), 1);
}

#[tokio::test]
async fn what_fly_refuses_is_refused_with_its_status() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let body = json!({"name": "Bad_Name", "org_slug": "cabanas"});
    assert_eq!(api.post("/v1/apps", body).await.0, 422);
    let body = json!({"name": "demo", "org_slug": "cabanas", "colour": "red"});
    assert_eq!(api.post("/v1/apps", body).await.0, 400);
    let (status, _) = api
        .with_token("nobody's")
        .get("/v1/apps?org_slug=cabanas")
        .await;
    assert_eq!(status, 401);
    sim.revoke(Some(&api.token));
    assert_eq!(api.get("/v1/apps?org_slug=cabanas").await.0, 401);
    sim.unrevoke(None);
    assert_eq!(api.get("/v1/apps?org_slug=cabanas").await.0, 200);
    assert_eq!(api.get("/v1/nothing").await.0, 404);
}

#[tokio::test]
async fn deleting_an_app_takes_its_machines_along() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    assert_eq!(api.get("/v1/apps/demo").await.1["status"], "pending");
    let machine = api.create("demo", "app-0", json!({"image": IMAGE})).await;
    let id = machine["id"].as_str().unwrap();
    assert_eq!(api.wait("demo", id, "started").await.0, 200);
    assert_eq!(api.get("/v1/apps/demo").await.1["status"], "deployed");
    let (status, _) = api.call("DELETE", "/v1/apps/demo", None).await;
    assert_eq!(status, 202);
    assert_eq!(api.get("/v1/apps/demo").await.0, 404);
    let kinds: Vec<String> = sim.ledger().into_iter().map(|e| e.kind).collect();
    assert!(kinds.contains(&"machine.destroyed".to_owned()), "{kinds:?}");
    assert_eq!(kinds.last().map(String::as_str), Some("app.delete"));
}

/// The end of a machine was lost from the ledger when the app was removed at the same moment.
#[tokio::test]
async fn the_ledger_has_the_end_of_every_machine_of_a_deleted_app() {
    const MACHINES: usize = 12;
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    for number in 0..MACHINES {
        let name = format!("app-{number}");
        api.create("demo", &name, json!({"image": IMAGE})).await;
    }
    let (status, _) = api.call("DELETE", "/v1/apps/demo", None).await;
    assert_eq!(status, 202);
    assert_eq!(api.get("/v1/apps/demo").await.0, 404);
    let ends = sim.ledger();
    let ends = ends
        .iter()
        .filter(|effect| effect.kind == "machine.destroyed");
    assert_eq!(ends.count(), MACHINES);
}
