//! The edge: certificates, redirects, health, autostart, and nothing lost while machines change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fly_sim::Sim;
use serde_json::{Value, json};

use crate::client::{Api, LIMIT, edge, options, plain_edge, service};

async fn app_with_address(api: &Api) {
    api.create_app("demo").await;
    let body = json!({"type": "shared_v4"});
    let (status, address) = api.post("/v1/apps/demo/ip_assignments", body).await;
    assert_eq!(status, 200, "{address}");
}

async fn healthy(api: &Api, name: &str, tag: &str) -> String {
    let config = json!({"image": format!("registry.fly.io/demo:{tag}"), "services": service()});
    let machine = api.create("demo", name, config).await;
    let id = machine["id"].as_str().unwrap().to_owned();
    is_healthy(api, &id).await;
    id
}

async fn is_healthy(api: &Api, id: &str) {
    api.until("demo", id, "healthy", |machine: &Value| {
        machine["checks"][0]["status"] == "passing" && machine["state"] == "started"
    })
    .await;
}

#[tokio::test]
async fn the_edge_serves_tls_for_known_apps_only_and_redirects_plain_http() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    app_with_address(&api).await;
    let id = healthy(&api, "app-0", "1").await;
    let (status, body) = edge(&sim, "demo.fly.dev", "GET", "/", "").await.unwrap();
    assert_eq!((status, body.as_str()), (200, id.as_str()));
    let (_, body) = edge(&sim, "demo.fly.dev", "POST", "/echo", "hello")
        .await
        .unwrap();
    assert_eq!(body, "hello");
    assert!(edge(&sim, "other.fly.dev", "GET", "/", "").await.is_err());
    let (status, location) = plain_edge(&sim, "demo.fly.dev", "/a?b=c").await;
    assert_eq!(status, 301);
    assert_eq!(location.as_deref(), Some("https://demo.fly.dev/a?b=c"));
    assert_eq!(sim.core().edge.responses("demo").get(&200), Some(&2));
}

#[tokio::test]
async fn unhealthy_and_cordoned_machines_get_no_requests() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    app_with_address(&api).await;
    let config = json!({"image": "registry.fly.io/demo:unhealthy", "services": service()});
    let machine = api.create("demo", "app-0", config).await;
    api.wait("demo", machine["id"].as_str().unwrap(), "started")
        .await;
    let (status, _) = edge(&sim, "demo.fly.dev", "GET", "/", "").await.unwrap();
    assert_eq!(status, 503);
    let id = healthy(&api, "app-1", "1").await;
    for _ in 0..5 {
        let (_, body) = edge(&sim, "demo.fly.dev", "GET", "/", "").await.unwrap();
        assert_eq!(body, id);
    }
    let path = format!("/v1/apps/demo/machines/{id}/cordon");
    assert_eq!(api.call("POST", &path, None).await.0, 200);
    let (status, _) = edge(&sim, "demo.fly.dev", "GET", "/", "").await.unwrap();
    assert_eq!(status, 503);
}

#[tokio::test]
async fn a_stopped_machine_is_started_by_a_request_unless_it_is_leased() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    app_with_address(&api).await;
    let id = healthy(&api, "app-0", "1").await;
    let path = format!("/v1/apps/demo/machines/{id}");
    api.call("POST", &format!("{path}/stop"), None).await;
    api.wait("demo", &id, "stopped").await;
    let (_, lease) = api.call("POST", &format!("{path}/lease"), None).await;
    let (status, _) = edge(&sim, "demo.fly.dev", "GET", "/", "").await.unwrap();
    assert_eq!(status, 503);
    let holder = api.with_nonce(lease["data"]["nonce"].as_str().unwrap());
    holder.call("DELETE", &format!("{path}/lease"), None).await;
    // The edge is less patient than a real program may take to listen.
    let end = Instant::now() + LIMIT;
    while edge(&sim, "demo.fly.dev", "GET", "/", "").await.unwrap().0 != 200 {
        assert!(Instant::now() < end, "nothing serves");
    }
    let kinds: Vec<String> = sim.ledger().into_iter().map(|e| e.kind).collect();
    assert!(kinds.contains(&"machine.autostart".to_owned()));
}

#[tokio::test]
async fn no_request_is_lost_while_machines_are_updated_one_after_another() {
    let sim = Arc::new(Sim::start(options()).await.unwrap());
    let api = Api::of(&sim);
    app_with_address(&api).await;
    let ids = [
        healthy(&api, "app-0", "1").await,
        healthy(&api, "app-1", "1").await,
    ];
    let (done, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load: Vec<_> = (0..3)
        .map(|_| {
            let (sim, done, served) = (Arc::clone(&sim), Arc::clone(&done), Arc::clone(&served));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let answer = edge(&sim, "demo.fly.dev", "GET", "/", "").await;
                    assert_eq!(answer.map(|(status, _)| status), Ok(200));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // The load is steady before, between and after the updates.
    let some_more = async || {
        let enough = served.load(Ordering::Relaxed) + 5;
        let started = Instant::now();
        while served.load(Ordering::Relaxed) < enough {
            assert!(started.elapsed() < LIMIT, "requests do not get through");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    some_more().await;
    for id in &ids {
        let config = json!({"image": "registry.fly.io/demo:2", "services": service()});
        let path = format!("/v1/apps/demo/machines/{id}");
        let (status, _) = api.post(&path, json!({"config": config})).await;
        assert_eq!(status, 200);
        is_healthy(&api, id).await;
        some_more().await;
    }
    done.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
}

/// What a raw TCP connection to a public port brings, or nothing when it is closed or refused.
async fn raw(sim: &Sim, port: u16) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = tokio::net::TcpStream::connect((sim.edge_ip(), port)).await else {
        return String::new();
    };
    let mut answer = String::new();
    let request = b"GET / HTTP/1.0\r\n\r\n";
    if stream.write_all(request).await.is_ok() {
        let _ = stream.read_to_string(&mut answer).await;
    }
    answer
}

#[tokio::test]
async fn a_raw_port_needs_an_address_of_the_apps_own_and_a_machine_that_listens() {
    let sim = Sim::start(options()).await.unwrap();
    let api = Api::of(&sim);
    app_with_address(&api).await;
    let services = json!([{
        "protocol": "tcp", "internal_port": 8080, "ports": [{"port": 17925}],
    }]);
    let config = json!({"image": "registry.fly.io/demo:1", "services": services});
    let machine = api.create("demo", "app-0", config).await;
    let id = machine["id"].as_str().unwrap();
    api.wait("demo", id, "started").await;
    assert_eq!(
        raw(&sim, 17925).await,
        "",
        "a shared address does not carry it"
    );
    let body = json!({"type": "v6"});
    let (status, address) = api.post("/v1/apps/demo/ip_assignments", body).await;
    assert_eq!(status, 200, "{address}");
    let begun = Instant::now();
    while !raw(&sim, 17925).await.contains(id) {
        assert!(begun.elapsed() < LIMIT, "the machine answers");
    }
    assert_eq!(raw(&sim, 17926).await, "", "nobody has this port");
}
