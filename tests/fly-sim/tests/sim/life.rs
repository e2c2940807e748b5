//! The life of a machine: exits, restarts, checks, stopping, logs.

use fly_sim::Sim;
use serde_json::{Value, json};

use crate::client::{Api, IMAGE, options, service};

fn events<'a>(machine: &'a Value, kind: &str) -> Vec<&'a Value> {
    let events = machine["events"].as_array().unwrap();
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .collect()
}

#[tokio::test]
async fn a_release_command_machine_settles_runs_exits_and_stays_readable() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let config = json!({
        "image": IMAGE, "init": {"cmd": ["sh", "-c", "echo migrating; exit 3"]},
        "restart": {"policy": "no"}, "auto_destroy": true,
    });
    let body = json!({"name": "release-1", "config": config, "skip_launch": true});
    let (_, machine) = api.post("/v1/apps/demo/machines", body).await;
    let id = machine["id"].as_str().unwrap();
    assert_eq!(api.wait("demo", id, "stopped").await.0, 200);
    let (status, _) = api
        .call("POST", &format!("/v1/apps/demo/machines/{id}/start"), None)
        .await;
    assert_eq!(status, 200);
    let (status, body) = api.wait("demo", id, "destroyed").await;
    assert_eq!((status, body["ok"].as_bool()), (200, Some(true)));
    let machine = api.machine("demo", id).await;
    let exit = events(&machine, "exit")[0];
    assert_eq!(exit["request"]["exit_event"]["exit_code"], 3);
    let newest = |kind| events(&machine, kind)[0]["id"].as_str().unwrap().to_owned();
    assert!(newest("exit") > newest("start"), "{machine:#}");
    assert_eq!(api.wait("demo", id, "stopped").await.0, 404);
    assert_eq!(api.get("/v1/apps/demo/machines").await.1, json!([]));
    let (_, logs) = api
        .get(&format!("/api/v1/apps/demo/logs?instance={id}"))
        .await;
    let text = logs.to_string();
    assert!(text.contains("migrating"), "{text}");
    assert!(
        text.contains("Main child exited normally with code: 3"),
        "{text}"
    );
    let token = logs["meta"]["next_token"].as_str().unwrap();
    let (_, rest) = api
        .get(&format!("/api/v1/apps/demo/logs?next_token={token}"))
        .await;
    assert_eq!(rest["data"], json!([]));
    assert_eq!(rest["meta"]["next_token"], token);
}

#[tokio::test]
async fn a_failing_program_is_restarted_until_its_retries_are_used_up() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let config = json!({"image": "registry.fly.io/demo:exits-3",
        "restart": {"policy": "on-failure", "max_retries": 2}});
    let machine = api.create("demo", "app-0", config).await;
    let id = machine["id"].as_str().unwrap();
    let machine = api
        .until("demo", id, "stopped", |machine| {
            machine["state"] == "stopped"
        })
        .await;
    let exits = events(&machine, "exit");
    assert_eq!(exits.len(), 3);
    let event = |at: usize| &exits[at]["request"]["exit_event"];
    assert_eq!(event(0)["restarting"], false);
    assert_eq!(event(1)["restarting"], true);
    assert_eq!(event(0)["exit_code"], 3);
    assert_eq!(exits[0]["request"]["restart_count"], 2);

    // Without failure, on-failure does not restart.
    let machine = api
        .create(
            "demo",
            "app-1",
            json!({"image": "registry.fly.io/demo:exits-0"}),
        )
        .await;
    let id = machine["id"].as_str().unwrap();
    let machine = api
        .until("demo", id, "stopped", |machine| {
            machine["state"] == "stopped"
        })
        .await;
    assert_eq!(events(&machine, "exit").len(), 1);
}

#[tokio::test]
async fn a_program_without_memory_is_seen_in_its_exit_event() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let config = json!({"image": IMAGE, "restart": {"policy": "no"}});
    let machine = api.create("demo", "app-0", config).await;
    let id = machine["id"].as_str().unwrap();
    api.wait("demo", id, "started").await;
    assert!(sim.out_of_memory("demo", id));
    let machine = api
        .until("demo", id, "stopped", |machine| {
            machine["state"] == "stopped"
        })
        .await;
    let exit = &events(&machine, "exit")[0]["request"]["exit_event"];
    assert_eq!(exit["oom_killed"], true);
    assert_eq!(exit["exit_code"], 137);
}

#[tokio::test]
async fn what_cannot_boot_has_failed_and_says_why() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let config = json!({"image": "registry.fly.io/demo:missing"});
    let machine = api.create("demo", "app-0", config).await;
    let id = machine["id"].as_str().unwrap();
    assert_eq!(api.wait("demo", id, "failed").await.0, 200);
    let (_, logs) = api.get("/api/v1/apps/demo/logs").await;
    assert!(logs.to_string().contains("failed to launch VM"), "{logs}");
}

#[tokio::test]
async fn a_stop_asks_then_kills_and_a_start_brings_it_back() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let config = json!({"image": "registry.fly.io/demo:stubborn",
        "services": crate::client::service(),
        "stop_config": {"signal": "SIGTERM", "timeout": "100ms"}});
    let machine = api.create("demo", "app-0", config).await;
    let id = machine["id"].as_str().unwrap();
    let path = format!("/v1/apps/demo/machines/{id}");
    let healthy = |machine: &Value| machine["checks"][0]["status"] == "passing";
    api.until("demo", id, "healthy", healthy).await;
    assert_eq!(api.call("DELETE", &path, None).await.0, 412);
    let stop = json!({"id": id, "timeout": "0s"});
    assert_eq!(api.post(&format!("{path}/stop"), stop).await.0, 200);
    api.wait("demo", id, "stopped").await;
    let machine = api.machine("demo", id).await;
    let exit = &events(&machine, "exit")[0]["request"]["exit_event"];
    assert_eq!(exit["requested_stop"], true);
    assert_eq!(exit["exit_code"], 137);
    assert_eq!(machine["checks"][0]["status"], "critical");
    assert_eq!(api.post(&format!("{path}/stop"), json!({})).await.0, 200);
    let (_, start) = api.call("POST", &format!("{path}/start"), None).await;
    assert_eq!(start["previous_state"], "stopped");
    api.wait("demo", id, "started").await;
    assert_eq!(
        api.call("POST", &format!("{path}/suspend"), None).await.0,
        200
    );
    api.wait("demo", id, "suspended").await;
    assert_eq!(
        api.call("POST", &format!("{path}/start"), None).await.0,
        200
    );
    api.wait("demo", id, "started").await;
    api.until("demo", id, "healthy", healthy).await;
    let restart = format!("{path}/restart?force_stop=true&timeout=1s");
    assert_eq!(api.call("POST", &restart, None).await.0, 200);
    api.wait("demo", id, "started").await;
    let kill = json!({"signal": 9});
    assert_eq!(api.post(&format!("{path}/signal"), kill).await.0, 200);
    let bad = json!({"signal": "SIGNONSENSE"});
    assert_eq!(api.post(&format!("{path}/signal"), bad).await.0, 400);
}

#[tokio::test]
async fn checks_are_real_and_named_as_fly_names_them() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let config = json!({"image": IMAGE, "services": crate::client::service(),
        "checks": {"port": {"type": "tcp", "port": 8080, "interval": "2s"},
            "shut": {"type": "tcp", "port": 9, "interval": "2s"}}});
    let machine = api.create("demo", "app-0", config).await;
    assert_eq!(machine["checks"][0]["status"], "critical");
    let id = machine["id"].as_str().unwrap();
    let status = |machine: &Value, name: &str| {
        let checks = machine["checks"].as_array().unwrap().clone();
        let check = checks
            .iter()
            .find(|check| check["name"] == name)
            .unwrap()
            .clone();
        (check["status"].as_str().unwrap().to_owned(), check)
    };
    let machine = api
        .until("demo", id, "healthy", |machine| {
            status(machine, "servicecheck-00-http-8080").0 == "passing"
                && status(machine, "port").0 == "passing"
        })
        .await;
    assert_eq!(status(&machine, "shut").0, "critical");
    let since = status(&machine, "servicecheck-00-http-8080").1["updated_at"].clone();
    // The program turns unhealthy by itself: the check notices, and says since when.
    let turn = "POST /healthz/false HTTP/1.0\\r\\n\\r\\n";
    let script = format!("exec 3<>/dev/tcp/$FLY_SIM_BIND_IP/8080; printf '{turn}' >&3; cat <&3");
    let exec = json!({"command": ["bash", "-c", script]});
    let (status_code, done) = api
        .post(&format!("/v1/apps/demo/machines/{id}/exec"), exec)
        .await;
    assert_eq!(status_code, 200, "{done}");
    let machine = api
        .until("demo", id, "unhealthy", |machine| {
            status(machine, "servicecheck-00-http-8080").0 == "critical"
        })
        .await;
    let check = status(&machine, "servicecheck-00-http-8080").1;
    let output = check["output"].as_str().unwrap_or_default();
    assert!(
        output.contains("503") && output.contains("not ok"),
        "{output}"
    );
    assert_ne!(check["updated_at"], since);
}

#[tokio::test]
async fn a_machine_reaches_another_one_at_its_private_address() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    api.create_app("demo").await;
    let config = json!({"image": IMAGE, "services": service()});
    let served = api.create("demo", "served", config).await;
    let id = served["id"].as_str().unwrap();
    api.until("demo", id, "healthy", |machine: &Value| {
        machine["checks"][0]["status"] == "passing"
    })
    .await;
    let address = served["private_ip"].as_str().unwrap();
    assert!(address.starts_with("fdaa:"), "{address}");

    let port = service()[0]["internal_port"].clone();
    let script = format!("exec 3<>/dev/tcp/$PEER/{port}");
    let config = json!({
        "image": IMAGE, "init": {"exec": ["/bin/bash", "-c", script]},
        "env": {"PEER": address}, "restart": {"policy": "no"}, "auto_destroy": true,
    });
    let asking = api.create("demo", "asking", config).await;
    let id = asking["id"].as_str().unwrap();
    api.wait("demo", id, "destroyed").await;
    let machine = api.machine("demo", id).await;
    assert_eq!(machine["config"]["env"]["PEER"], address);
    let exit = events(&machine, "exit")[0];
    assert_eq!(exit["request"]["exit_event"]["exit_code"], 0, "{machine:#}");
}
