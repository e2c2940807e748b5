//! Managed Postgres and Redis: real servers behind the API.

use http::Method;
use serde_json::{Value, json};
use tokio_postgres::NoTls;

use crate::client::Fly;

async fn make(fly: &Fly) -> String {
    let body = json!({
        "name": "demo-db", "region": "eze", "org_slug": "cabanas", "plan": "basic",
        "pg_major_version": "16", "storage_in_gb": 10, "postgis_enabled": false,
    });
    let made = fly
        .post("/api/v1/organizations/cabanas/postgresv2", body)
        .await;
    assert_eq!(made.status, 201, "{}", made.json);
    assert_eq!(made.json["ok"], true);
    made.json["data"]["id"].as_str().unwrap().to_owned()
}

async fn select(url: &str) -> Result<String, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    let row = client.query_one("SELECT 'answered'", &[]).await?;
    Ok(row.get(0))
}

#[tokio::test]
async fn a_cluster_becomes_ready_and_its_url_connects() {
    let fly = Fly::with_app().await;
    fly.control(Method::PATCH, "/postgres", json!({"hold": true}))
        .await;
    let id = make(&fly).await;
    let path = format!("/api/v1/postgresv2/{id}");
    let early = fly.get(&path).await.json;
    assert_ne!(early["data"]["status"], "ready");
    assert_eq!(early["credentials"]["password"], "");
    let busy = fly
        .post(&format!("{path}/databases"), json!({"name": "app"}))
        .await;
    assert_eq!(busy.status, 503);
    assert_eq!(busy.headers["retry-after"], "5");
    fly.control(Method::PATCH, "/postgres", json!({"hold": false}))
        .await;

    let ready = fly.until(&path, "/data/status", "ready").await;
    let url = ready["credentials"]["pgbouncer_uri"].as_str().unwrap();
    assert_eq!(select(url).await.unwrap(), "answered");

    let user = json!({"username": "app", "role": "schema_admin"});
    assert_eq!(
        fly.post(&format!("{path}/users"), user.clone())
            .await
            .status,
        201
    );
    assert_eq!(fly.post(&format!("{path}/users"), user).await.status, 409);
    let database = json!({"name": "appdb"});
    assert_eq!(
        fly.post(&format!("{path}/databases"), database)
            .await
            .status,
        201
    );
    let credentials = fly.get(&format!("{path}/users/app/credentials")).await.json;
    let password = credentials["data"]["password"].as_str().unwrap();
    // What flyctl does: user, password and database of the URI replaced.
    let at = url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0;
    let own = format!("postgresql://app:{password}@{at}/appdb");
    assert_eq!(select(&own).await.unwrap(), "answered");

    let attach = json!({"app_name": "demo"});
    assert_eq!(
        fly.post(&format!("{path}/attachments"), attach)
            .await
            .status,
        201
    );
    let seen = fly.get("/api/v1/organizations/cabanas/postgres").await.json;
    assert_eq!(seen["data"][0]["attached_apps"], json!([{"name": "demo"}]));
    let secrets = fly.get("/v1/apps/demo/secrets").await.json;
    assert_eq!(secrets["secrets"], json!([]), "attaching sets no secret");

    let public = fly.get(&format!("/v1/postgres/{id}")).await.json;
    assert_eq!(
        public["data"]["endpoints"]["primary"]["pooler"]["host"],
        "127.0.0.1"
    );
    assert_eq!(fly.delete(&path).await.status, 204);
    let gone = format!("/v1/postgres/{id}?include_deleted=true");
    fly.until(&gone, "/data/status", "deleted").await;
    assert_eq!(fly.get(&path).await.status, 404);
    assert!(select(&own).await.is_err());
}

#[tokio::test]
async fn users_and_databases_made_at_once_get_each_others_rights() {
    let fly = Fly::with_app().await;
    let id = make(&fly).await;
    let path = format!("/api/v1/postgresv2/{id}");
    fly.until(&path, "/data/status", "ready").await;
    for round in 0..4 {
        let user = json!({"username": format!("user{round}"), "role": "schema_admin"});
        let database = json!({"name": format!("data{round}")});
        let (users, databases) = (format!("{path}/users"), format!("{path}/databases"));
        let (user, database) = tokio::join!(fly.post(&users, user), fly.post(&databases, database));
        assert_eq!(user.status, 201, "{}", user.json);
        assert_eq!(database.status, 201, "{}", database.json);
    }
}

#[tokio::test]
async fn a_cluster_fails_when_told_to_and_the_next_one_does_not() {
    let fly = Fly::start().await;
    fly.control(Method::PATCH, "/postgres", json!({"fail_next": 1}))
        .await;
    let id = make(&fly).await;
    fly.until(&format!("/api/v1/postgresv2/{id}"), "/data/status", "error")
        .await;
    fly.until(&format!("/v1/postgres/{id}"), "/data/status", "failed")
        .await;
    let id = make(&fly).await;
    fly.until(&format!("/api/v1/postgresv2/{id}"), "/data/status", "ready")
        .await;
}

#[tokio::test]
async fn an_organization_that_cannot_pay_gets_no_cluster() {
    let fly = Fly::start().await;
    let body = json!({"billing_status": "SUSPENDED"});
    fly.control(Method::POST, "/orgs/cabanas", body).await;
    let org = fly.get("/api/v1/organizations/cabanas").await.json;
    assert_eq!(org["organization"]["billing_status"], "SUSPENDED");
    let body = json!({"name": "db", "region": "eze", "org_slug": "cabanas", "plan": "basic"});
    let refused = fly
        .post("/api/v1/organizations/cabanas/postgresv2", body)
        .await;
    assert_eq!(refused.status, 403);
    let detail: &Value = &refused.json["errors"]["detail"];
    assert!(
        detail.as_str().unwrap().contains("payment method"),
        "{detail}"
    );
}
