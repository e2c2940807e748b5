//! Machines in the API: names, updates, leases, metadata, volumes, exec, wait.

use fly_sim::Sim;
use serde_json::json;

use crate::client::{Api, IMAGE, options};

async fn started(api: &Api) -> String {
    api.create_app("demo").await;
    let machine = api.create("demo", "app-0", json!({"image": IMAGE})).await;
    let id = machine["id"].as_str().unwrap().to_owned();
    assert_eq!(api.wait("demo", &id, "started").await.0, 200);
    id
}

#[tokio::test]
async fn a_second_create_with_the_same_name_tells_the_id_of_the_first() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let id = started(&api).await;
    let body = json!({"name": "app-0", "config": {"image": IMAGE}});
    let (status, error) = api.post("/v1/apps/demo/machines", body.clone()).await;
    assert_eq!(status, 409);
    let text = error["error"].as_str().unwrap();
    assert!(
        text.starts_with("already_exists: unique machine name violation"),
        "{text}"
    );
    assert!(text.contains(&id), "{text}");
    // Free again once its holder has gone.
    let path = format!("/v1/apps/demo/machines/{id}?force=true");
    assert_eq!(api.call("DELETE", &path, None).await.0, 200);
    assert_eq!(api.wait("demo", &id, "destroyed").await.0, 200);
    assert_eq!(api.call("DELETE", &path, None).await.0, 200);
    assert_eq!(api.post("/v1/apps/demo/machines", body).await.0, 200);
    let (status, gone) = api.get(&format!("/v1/apps/demo/machines/{id}")).await;
    assert_eq!((status, gone["state"].as_str()), (200, Some("destroyed")));
    assert_eq!(gone["events"][0]["type"], "destroy");
    assert!(gone["events"][0]["request"].is_null());
}

#[tokio::test]
async fn bad_machines_are_refused() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let refused = async |body: serde_json::Value| {
        let (status, error) = api.post("/v1/apps/demo/machines", body).await;
        (
            status,
            error["error"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let (status, text) = refused(json!({"config": {"image": "registry.fly.io/demo:9"}})).await;
    assert_eq!(status, 400);
    assert!(text.contains("manifest unknown"), "{text}");
    assert_eq!(refused(json!({})).await.0, 400);
    assert_eq!(
        refused(json!({"config": {"image": IMAGE}, "regoin": "eze"}))
            .await
            .0,
        400
    );
    assert_eq!(
        refused(json!({"config": {"image": IMAGE}, "region": "xxx"}))
            .await
            .0,
        400
    );
    let guest = json!({"cpu_kind": "shared", "cpus": 1, "memory_mb": 100});
    assert_eq!(
        refused(json!({"config": {"image": IMAGE, "guest": guest}}))
            .await
            .0,
        422
    );
    let secrets = json!({"config": {"image": IMAGE}, "min_secrets_version": 7});
    let (status, text) = refused(secrets).await;
    assert_eq!(status, 412);
    assert!(text.starts_with("failed_precondition:"), "{text}");
    assert_eq!(api.get("/v1/apps/demo/machines/nonsense").await.0, 400);
    assert_eq!(
        api.get("/v1/apps/demo/machines/00000000000000").await.0,
        404
    );
    assert_eq!(api.get("/v1/apps/demo/machines").await.1, json!([]));
}

#[tokio::test]
async fn an_update_replaces_the_whole_configuration_and_makes_a_version() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let id = started(&api).await;
    let path = format!("/v1/apps/demo/machines/{id}");
    let before = api.machine("demo", &id).await;
    let config = json!({"image": "registry.fly.io/demo:2", "env": {"COLOUR": "blue"}});
    let stale = json!({"config": config, "current_version": "01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    assert_eq!(api.post(&path, stale).await.0, 409);
    let renamed = json!({"config": config, "name": "other"});
    assert_eq!(api.post(&path, renamed).await.0, 400);
    let body = json!({"config": config, "current_version": before["instance_id"]});
    let (status, after) = api.post(&path, body).await;
    assert_eq!((status, after["state"].as_str()), (200, Some("replacing")));
    assert_ne!(before["instance_id"], after["instance_id"]);
    assert_ne!(before["image_ref"]["digest"], after["image_ref"]["digest"]);
    // The old program still has to end.
    let (status, error) = api.post(&format!("{path}/start"), json!({})).await;
    if status != 200 {
        assert_eq!(status, 412, "{error}");
    }
    let version = after["instance_id"].as_str().unwrap();
    let wait = format!("{path}/wait?state=started&timeout=20&version={version}");
    assert_eq!(api.get(&wait).await.0, 200);
    let (_, done) = api
        .post(
            &format!("{path}/exec"),
            json!({"cmd": "sh -c 'echo $COLOUR'"}),
        )
        .await;
    assert_eq!(done["stdout"], "blue\n");
    let (_, versions) = api.get(&format!("{path}/versions")).await;
    assert_eq!(versions.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn only_the_holder_of_a_lease_writes() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let id = started(&api).await;
    let path = format!("/v1/apps/demo/machines/{id}");
    assert_eq!(api.get(&format!("{path}/lease")).await.0, 404);
    let (status, lease) = api
        .call("POST", &format!("{path}/lease?ttl=13"), None)
        .await;
    assert_eq!((status, lease["status"].as_str()), (201, Some("success")));
    let nonce = lease["data"]["nonce"].as_str().unwrap();

    let (status, error) = api.call("POST", &format!("{path}/lease"), None).await;
    assert_eq!((status, error["status"].as_str()), (409, Some("error")));
    assert_eq!(error["code"], "invalid");
    for (method, path, body) in [
        ("POST", format!("{path}/stop"), json!({})),
        ("POST", format!("{path}/exec"), json!({"cmd": "true"})),
        ("POST", path.clone(), json!({"config": {"image": IMAGE}})),
        ("POST", format!("{path}/metadata/a"), json!({"value": "b"})),
        ("DELETE", format!("{path}?force=true"), json!({})),
    ] {
        let (status, error) = api.call(method, &path, Some(body)).await;
        assert_eq!(status, 409, "{method} {path}");
        let text = error["error"].as_str().unwrap();
        assert!(text.starts_with("aborted: machine ID"), "{text}");
    }

    let holder = api.with_nonce(nonce);
    let (status, again) = holder
        .call("POST", &format!("{path}/lease?ttl=60"), None)
        .await;
    assert_eq!(
        (status, again["data"]["nonce"].as_str()),
        (201, Some(nonce))
    );
    let (status, _) = holder
        .post(&format!("{path}/metadata/a"), json!({"value": "b"}))
        .await;
    assert_eq!(status, 204);
    assert_eq!(
        api.call("DELETE", &format!("{path}/lease"), None).await.0,
        400
    );
    assert_eq!(
        holder
            .call("DELETE", &format!("{path}/lease"), None)
            .await
            .0,
        200
    );
    assert_eq!(api.post(&format!("{path}/stop"), json!({})).await.0, 200);
}

#[tokio::test]
async fn metadata_changes_without_a_new_version_and_lists_filter_by_it() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let id = started(&api).await;
    let path = format!("/v1/apps/demo/machines/{id}/metadata");
    let version = api.machine("demo", &id).await["instance_id"].clone();
    let body = json!({"metadata": {"golive_slot": "app-0", "b": "2"}});
    assert_eq!(api.call("PATCH", &path, Some(body)).await.0, 204);
    let wrong = json!({"metadata": {"b": "3"}, "machine_version": "other"});
    assert_eq!(api.call("PATCH", &path, Some(wrong)).await.0, 412);
    let gone = json!({"metadata": {"b": null}});
    assert_eq!(api.call("PATCH", &path, Some(gone)).await.0, 204);
    assert_eq!(api.get(&path).await.1, json!({"golive_slot": "app-0"}));
    assert_eq!(
        api.get(&format!("{path}/golive_slot")).await.1["value"],
        "app-0"
    );
    assert_eq!(api.get(&format!("{path}/b")).await.0, 404);
    let list = |query: &str| format!("/v1/apps/demo/machines?{query}");
    let count = async |query: &str| api.get(&list(query)).await.1.as_array().unwrap().len();
    assert_eq!(count("metadata.golive_slot=app-0&state=started").await, 1);
    assert_eq!(count("metadata.golive_slot=app-1").await, 0);
    assert_eq!(count("region=ams").await, 0);
    assert_eq!(api.get(&list("state=gone")).await.0, 400);
    assert_eq!(api.machine("demo", &id).await["instance_id"], version);
}

#[tokio::test]
async fn exec_runs_the_command_in_the_machine_and_gives_its_code() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let id = started(&api).await;
    let path = format!("/v1/apps/demo/machines/{id}/exec");
    let command = json!({"command": ["sh", "-c", "echo $FLY_MACHINE_ID; echo no >&2; exit 4"]});
    let (status, done) = api.post(&path, command).await;
    assert_eq!((status, done["exit_code"].as_i64()), (200, Some(4)));
    assert_eq!(done["stdout"], format!("{id}\n"));
    assert_eq!(done["stderr"], "no\n");
    assert_eq!(
        api.post(&path, json!({"cmd": "no-such-program"})).await.0,
        400
    );
    assert_eq!(api.post(&path, json!({})).await.0, 400);
    let slow = json!({"cmd": "sleep 60", "timeout": 1});
    assert_eq!(api.post(&path, slow).await.0, 408);
    api.post(&format!("/v1/apps/demo/machines/{id}/stop"), json!({}))
        .await;
    api.wait("demo", &id, "stopped").await;
    assert_eq!(api.post(&path, json!({"cmd": "true"})).await.0, 412);
}

#[tokio::test]
async fn a_wait_answers_408_at_its_end_and_400_for_bad_parameters() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    let id = started(&api).await;
    let path = format!("/v1/apps/demo/machines/{id}/wait");
    let (status, error) = api.get(&format!("{path}?state=stopped&timeout=1")).await;
    assert_eq!(status, 408);
    assert_eq!(
        error["error"],
        "deadline_exceeded: machine failed to reach desired state, stopped, currently started"
    );
    let (status, error) = api.get(&format!("{path}?timeout=61")).await;
    assert_eq!(status, 400);
    assert!(
        error["error"]
            .as_str()
            .unwrap()
            .contains("range [1s, 1m0s]")
    );
    assert_eq!(api.get(&format!("{path}?state=happy")).await.0, 400);
}

#[tokio::test]
async fn a_volume_is_in_one_region_and_on_one_machine() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let body = json!({"name": "data", "region": "eze", "size_gb": 1, "snapshot_id": null});
    let (status, volume) = api.post("/v1/apps/demo/volumes", body).await;
    assert_eq!(status, 200);
    let volume_path = format!("/v1/apps/demo/volumes/{}", volume["id"].as_str().unwrap());
    let mounts = json!([{"volume": volume["id"], "path": "/data"}]);
    let config = json!({"image": IMAGE, "mounts": mounts});
    let away = json!({"region": "ams", "config": config});
    assert_eq!(api.post("/v1/apps/demo/machines", away).await.0, 422);
    let machine = api.create("demo", "app-0", config.clone()).await;
    let second = json!({"region": "eze", "config": config});
    assert_eq!(api.post("/v1/apps/demo/machines", second).await.0, 412);
    assert_eq!(api.call("DELETE", &volume_path, None).await.0, 412);
    assert_eq!(
        api.get(&volume_path).await.1["attached_machine_id"],
        machine["id"]
    );
    let id = machine["id"].as_str().unwrap();
    let path = format!("/v1/apps/demo/machines/{id}?force=true");
    api.call("DELETE", &path, None).await;
    api.wait("demo", id, "destroyed").await;
    let (status, gone) = api.call("DELETE", &volume_path, None).await;
    assert_eq!(
        (status, gone["state"].as_str()),
        (200, Some("pending_destroy"))
    );
    let shrink = json!({"size_gb": 0});
    let extend = format!("{volume_path}/extend");
    assert_eq!(api.call("PUT", &extend, Some(shrink)).await.0, 422);
}
