//! Bad requests get Fly's answers: the status and what a client reads in the body.

use fly_sim::{Options, Sim};
use serde_json::{Value, json};

use crate::client::{Api, IMAGE, options};

fn says(answer: &(u16, Value), status: u16, text: &str) {
    let said = answer.1["error"].as_str();
    let said = said
        .or_else(|| answer.1["message"].as_str())
        .unwrap_or_default();
    assert_eq!(answer.0, status, "{said}");
    assert!(said.contains(text), "'{said}' does not say '{text}'");
}

#[tokio::test]
async fn every_bad_request_gets_the_answer_of_fly() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let acme = api.with_token(&sim.token("acme").unwrap());
    api.create_app("demo").await;
    let id = api.create("demo", "app-0", json!({"image": IMAGE})).await;
    let id = id["id"].as_str().unwrap().to_owned();
    assert_eq!(api.wait("demo", &id, "started").await.0, 200);
    let machines = "/v1/apps/demo/machines";
    let machine = format!("{machines}/{id}");

    // An app that nobody has, and a name that somebody has.
    let unknown = "Could not find App \"nobody\"";
    says(&api.get("/v1/apps/nobody").await, 404, unknown);
    says(&api.get("/v1/apps/nobody/machines").await, 404, unknown);
    let taken = json!({"name": "demo", "org_slug": "acme"});
    let taken = acme.post("/v1/apps", taken).await;
    says(&taken, 422, "Name has already been taken");
    assert_eq!(taken.1["status"], "name_taken");

    // Another organization's app: REST says that it is not yours, GraphQL that there is none.
    assert_eq!(acme.get("/v1/apps/demo").await.0, 403);
    assert_eq!(acme.get(machines).await.0, 403);
    let query = json!({"query": "{ app(name: \"demo\") { id } }"});
    let (status, answer) = acme.post("/graphql", query).await;
    assert_eq!((status, &answer["data"]), (200, &Value::Null));
    let error = &answer["errors"][0];
    assert_eq!(error["message"], "Could not find App \"demo\"");
    assert_eq!(error["extensions"]["code"], "NOT_FOUND");

    // A size that is not for sale.
    for (guest, text) in [
        (
            json!({"cpu_kind": "shared", "cpus": 3, "memory_mb": 768}),
            "number of shared cpus",
        ),
        (
            json!({"cpu_kind": "shared", "cpus": 1, "memory_mb": 100}),
            "256 MiB",
        ),
        (
            json!({"cpu_kind": "quantum", "cpus": 1, "memory_mb": 256}),
            "cpu_kind",
        ),
    ] {
        let body = json!({"config": {"image": IMAGE, "guest": guest}});
        let (status, answer) = api.post(machines, body).await;
        assert!((400..500).contains(&status), "{answer}");
        says(&(status, answer), status, text);
    }

    // Somebody else's lease, at the lease and at every write.
    let lease = format!("{machine}/lease");
    let (_, held) = api.call("POST", &format!("{lease}?ttl=30"), None).await;
    let holder = api.with_nonce(held["data"]["nonce"].as_str().unwrap());
    let again = api.call("POST", &format!("{lease}?ttl=30"), None).await;
    says(&again, 409, "lease currently held by");
    let config = json!({"config": {"image": IMAGE}});
    says(
        &api.post(&machine, config.clone()).await,
        409,
        "aborted: machine ID",
    );

    // A version that is no longer the machine's.
    let mut stale = config.clone();
    stale["current_version"] = json!("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_eq!(holder.post(&machine, stale).await.0, 409);
    let metadata = json!({"metadata": {"a": "b"}, "machine_version": "01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    let metadata = holder
        .call("PATCH", &format!("{machine}/metadata"), Some(metadata))
        .await;
    says(&metadata, 412, "failed_precondition");

    // A volume that is on another machine.
    let volume = json!({"name": "data", "region": "eze", "size_gb": 1});
    let (_, volume) = api.post("/v1/apps/demo/volumes", volume).await;
    let mounts = json!([{"volume": volume["id"], "path": "/data"}]);
    let config = json!({"image": IMAGE, "mounts": mounts});
    api.create("demo", "disk-0", config.clone()).await;
    let busy = json!({"region": "eze", "config": config});
    says(&api.post(machines, busy).await, 412, "failed_precondition");

    // A wait that ends, and one that cannot begin.
    let wait = format!("{machine}/wait?state=stopped&timeout=1");
    says(&api.get(&wait).await, 408, "failed to reach desired state");
    let wait = format!("{machine}/wait?state=stopped&timeout=61");
    says(&api.get(&wait).await, 400, "invalid_argument");

    // A token that is no longer good.
    sim.revoke(Some(&api.token));
    says(&api.get(machines).await, 401, "unauthorized");
    assert_eq!(
        api.post("/graphql", json!({"query": "{ viewer { __typename } }"}))
            .await
            .0,
        401
    );
}

#[tokio::test]
async fn the_rate_limit_is_for_each_action_and_object_and_says_429() {
    let sim = Sim::start(Options {
        rate_limits: true,
        ..options()
    })
    .await
    .unwrap();
    let api = Api::of(&sim);
    for app in ["demo", "other"] {
        api.create_app(app).await;
    }
    let mut refused = None;
    for _ in 0..5 {
        let answer = api.get("/v1/apps/demo/machines").await;
        if answer.0 == 429 {
            refused = Some(answer);
        }
    }
    says(&refused.unwrap(), 429, "rate limit");
    assert_eq!(api.get("/v1/apps/other/machines").await.0, 200);
    assert_eq!(api.get("/v1/apps/demo/volumes").await.0, 200);
}
