//! Secrets, addresses, certificates, tokens, regions, releases and the registry.

use fly_sim::{Image, Images, Options};
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::{Fly, send};

#[tokio::test]
async fn secrets_have_digests_and_a_version_and_no_values() {
    let fly = Fly::with_app().await;
    let path = "/v1/apps/demo/secrets";
    let first = fly
        .post(path, json!({"values": {"A": "1", "B": "2"}}))
        .await;
    assert_eq!(first.status, 200);
    assert_eq!(first.json["version"], 1);
    assert_eq!(first.json["Version"], 1);
    let digest = first.json["secrets"][0]["digest"].clone();

    let second = fly
        .post(path, json!({"values": {"A": "other", "B": null}}))
        .await;
    assert_eq!(second.json["version"], 2);
    assert_ne!(second.json["secrets"][0]["digest"], digest);

    let list = fly.get(path).await.json;
    assert_eq!(list["secrets"].as_array().unwrap().len(), 1);
    assert_eq!(list["secrets"][0]["name"], "A");
    assert!(list["secrets"][0].get("value").is_none());
    assert_eq!(fly.get(&format!("{path}?version=2")).await.status, 200);
    assert_eq!(fly.get(&format!("{path}?min_version=3")).await.status, 412);

    let one = fly.post(&format!("{path}/C"), json!({"value": "x"})).await;
    assert_eq!(
        (one.status.as_u16(), &one.json["version"]),
        (201, &json!(3))
    );
    assert_eq!(fly.delete(&format!("{path}/C")).await.json["version"], 4);
    assert_eq!(fly.delete(&format!("{path}/C")).await.status, 404);
    let ledger = serde_json::to_string(&fly.sim.ledger()).unwrap();
    assert!(ledger.contains("secrets.write") && !ledger.contains("other"));
}

#[tokio::test]
async fn what_fly_refuses_is_refused() {
    let fly = Fly::with_app().await;
    let cases = [
        ("/v1/apps/demo/secrets", json!({"values": {"A": 1}}), 400),
        (
            "/v1/apps/demo/secrets",
            json!({"values": {"A-B": "1"}}),
            400,
        ),
        (
            "/v1/apps/demo/secrets",
            json!({"values": {}, "stage": true}),
            400,
        ),
        ("/v1/apps/none/secrets", json!({"values": {}}), 404),
        ("/v1/apps/demo/ip_assignments", json!({"type": "v5"}), 422),
        ("/v1/apps/demo/ip_assignments", json!({"kind": "v4"}), 400),
        (
            "/v1/apps/demo/ip_assignments",
            json!({"type": "v4", "region": "xxx"}),
            422,
        ),
        (
            "/v1/apps/demo/certificates/acme",
            json!({"hostname": "nodots"}),
            422,
        ),
        (
            "/v1/apps/demo/certificates/acme",
            json!({"hostname": "a.b", "x": 1}),
            400,
        ),
        (
            "/v1/apps/demo/deploy_token",
            json!({"expiry": "tomorrow"}),
            400,
        ),
        (
            "/api/v1/releases",
            json!({"app_name": "demo", "image": "i", "strategy": "rolling"}),
            422,
        ),
        (
            "/api/v1/releases",
            json!({"app_name": "demo", "image": "i"}),
            400,
        ),
        (
            "/api/v1/organizations/cabanas/postgresv2",
            json!({"name": "db"}),
            400,
        ),
        (
            "/v1/postgres",
            json!({"org_slug": "acme", "name": "db", "region": "eze", "plan": "basic"}),
            403,
        ),
        (
            "/v1/postgres",
            json!({"org_slug": "cabanas", "name": "db", "region": "eze", "plan": "huge"}),
            422,
        ),
        (
            "/v1/postgres",
            json!({"org_slug": "cabanas", "name": "db", "region": "scl", "plan": "basic"}),
            422,
        ),
    ];
    for (path, body, status) in cases {
        let answer = fly.post(path, body.clone()).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.json);
        let text = &answer.json["error"];
        let detail = &answer.json["errors"]["detail"];
        assert!(text.is_string() || detail.is_string(), "{}", answer.json);
    }
    let url = format!("{}/v1/apps/demo/secrets", fly.sim.base_url());
    let other = format!("Bearer {}", fly.sim.token("acme").unwrap());
    assert_eq!(send(Method::GET, &url, None, None).await.status, 401);
    assert_eq!(
        send(Method::GET, &url, Some(&other), None).await.status,
        403
    );
}

#[tokio::test]
async fn a_second_dedicated_address_is_another_and_a_second_shared_one_the_same() {
    let fly = Fly::with_app().await;
    let path = "/v1/apps/demo/ip_assignments";
    let body = |kind: &str| json!({"type": kind, "region": "", "org_slug": "cabanas", "network": "", "service_name": ""});
    let mut ips = Vec::new();
    for kind in ["v6", "v6", "shared_v4", "shared_v4", "private_v6"] {
        let answer = fly.post(path, body(kind)).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        ips.push(answer.json["ip"].as_str().unwrap().to_owned());
    }
    assert_ne!(ips[0], ips[1]);
    assert_eq!(ips[2], ips[3]);
    let list = fly.get(path).await.json;
    assert_eq!(list["ips"].as_array().unwrap().len(), 4);
    assert_eq!(list["ips"][2]["shared"], true);
    assert_eq!(fly.delete(&format!("{path}/{}", ips[0])).await.status, 204);
    assert_eq!(fly.delete(&format!("{path}/{}", ips[0])).await.status, 404);
}

#[tokio::test]
async fn a_certificate_is_issued_when_dns_points_here() {
    let fly = Fly::with_app().await;
    let path = "/v1/apps/demo/certificates";
    let host = "reservas.cabanas.example";
    let made = fly
        .post(&format!("{path}/acme"), json!({"hostname": host}))
        .await;
    assert_eq!(made.status, 201);
    assert_eq!(made.json["status"], "pending_ownership");
    assert_eq!(made.json["dns_requirements"]["cname"], "demo.fly.dev");
    let again = fly
        .post(&format!("{path}/acme"), json!({"hostname": host}))
        .await;
    assert_eq!(again.status, 422);
    let check = fly
        .send(Method::POST, &format!("{path}/{host}/check"), None)
        .await;
    assert_eq!(check.json["dns_records"]["a"], json!([]));

    let control = format!("/certificates/demo/{host}");
    fly.control(Method::PUT, &control, json!({"dns_configured": true}))
        .await;
    let detail = fly
        .until(&format!("{path}/{host}"), "/status", "active")
        .await;
    assert_eq!(detail["configured"], true);
    assert_eq!(
        detail["certificates"][0]["issued"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    let list = fly.get(&format!("{path}?limit=50")).await.json;
    assert_eq!(list["total_count"], 1);
    assert_eq!(fly.delete(&format!("{path}/{host}")).await.status, 204);
    assert_eq!(fly.get(&format!("{path}/{host}")).await.status, 404);
}

#[tokio::test]
async fn a_deploy_token_is_a_macaroon_for_one_app() {
    let mut fly = Fly::with_app().await;
    fly.make_app("other").await;
    let made = fly
        .post("/v1/apps/demo/deploy_token", json!({"expiry": "24h"}))
        .await;
    let token = made.json["token"].as_str().unwrap().to_owned();
    let bare = token.strip_prefix("FlyV1 fm2_").unwrap();
    assert!(bare.len() > 100);

    fly.token = token.strip_prefix("FlyV1 ").unwrap().to_owned();
    assert_eq!(fly.get("/v1/apps/demo/secrets").await.status, 200);
    assert_eq!(fly.get("/v1/apps/other/secrets").await.status, 403);
    let app = json!({"name": "third", "org_slug": "cabanas"});
    assert_eq!(fly.post("/v1/apps", app).await.status, 403);
    let current = fly.get("/v1/tokens/current").await.json;
    assert_eq!(current["tokens"][0]["apps"], json!(["demo"]));
    assert_eq!(current["tokens"][0]["org_slug"], "cabanas");

    let expired = json!({"org": "cabanas", "expires_in_s": -5});
    let made = fly.control(Method::POST, "/tokens", expired).await;
    fly.token = made.json["token"].as_str().unwrap().to_owned();
    assert_eq!(fly.get("/v1/tokens/current").await.status, 401);
}

#[tokio::test]
async fn regions_say_which_are_deprecated_full_or_paid() {
    let fly = Fly::start().await;
    let regions = fly.get("/v1/platform/regions").await.json;
    let find =
        |wanted: &dyn Fn(&Value) -> bool| regions["regions"].as_array().unwrap().iter().any(wanted);
    assert!(find(&|r| r["deprecated"] == true));
    assert!(find(&|r| r["capacity"] == 0));
    assert!(find(&|r| r["requires_paid_plan"] == true));
    fly.control(Method::PATCH, "/regions/eze", json!({"capacity": 0}))
        .await;
    let body = json!({"org_slug": "cabanas", "region": "eze,gru", "count": 2});
    let placed = fly.post("/v1/platform/placements", body).await.json;
    assert_eq!(placed["regions"].as_array().unwrap().len(), 1);
    assert_eq!(placed["regions"][0]["region"], "gru");
}

#[tokio::test]
async fn releases_count_up_and_end_once() {
    let fly = Fly::with_app().await;
    assert_eq!(
        fly.get("/api/v1/apps/demo/releases/current").await.status,
        404
    );
    let body = json!({
        "app_name": "demo", "build_id": 0, "definition": {"app": "demo"},
        "image": "registry.fly.io/demo:1", "strategy": "ROLLING",
    });
    let first = fly.post("/api/v1/releases", body.clone()).await.json;
    let second = fly.post("/api/v1/releases", body).await.json;
    assert_eq!(first["release"]["version"], 1);
    assert_eq!(second["release"]["version"], 2);
    assert!(first["release"]["user"].is_string());
    let path = format!(
        "/api/v1/releases/{}",
        second["release"]["id"].as_str().unwrap()
    );
    let patch = |status: &str| {
        let body = json!({"status": status, "metadata": null});
        fly.send(Method::PATCH, &path, Some(body))
    };
    assert_eq!(patch("running").await.json["status"], "running");
    let complete = patch("complete").await;
    assert_eq!(complete.json["stable"], true);
    assert_eq!(patch("failed").await.status, 422);
    let list = fly.get("/api/v1/apps/demo/releases?limit=1").await.json;
    assert_eq!(list["releases"][0]["version"], 2);
}

#[tokio::test]
async fn the_registry_serves_what_its_digests_say() {
    let image = Image::new("registry.fly.io/demo:1.4.0", "/bin/sh").label("fly.version", "v1");
    let mut arm = Image::new("registry.fly.io/demo:arm", "/bin/sh");
    arm.architecture = "arm64".to_owned();
    let options = Options {
        images: Images::new([image, arm]),
        ..Options::default()
    };
    let fly = Fly::with(options).await;
    let base = fly.sim.base_url();
    let refused = send(Method::GET, &format!("{base}/v2/"), None, None).await;
    assert_eq!(refused.status, 401);
    assert!(refused.headers.contains_key("www-authenticate"));
    assert_eq!(fly.get("/v2/").await.status, 200);

    let head = fly
        .send(Method::HEAD, "/v2/demo/manifests/1.4.0", None)
        .await;
    let digest = head.headers["docker-content-digest"]
        .to_str()
        .unwrap()
        .to_owned();
    let basic = format!(
        "Basic {}",
        base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            format!("x:{}", fly.token)
        )
    );
    let url = format!("{base}/v2/demo/manifests/{digest}");
    let index = send(Method::GET, &url, Some(&basic), None).await;
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&index.bytes));
    assert_eq!(digest, format!("sha256:{hash}"));
    assert_eq!(
        index.json["manifests"][0]["platform"]["architecture"],
        "amd64"
    );

    let manifest = index.json["manifests"][0]["digest"].as_str().unwrap();
    let manifest = fly
        .get(&format!("/v2/demo/manifests/{manifest}"))
        .await
        .json;
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = fly.get(&format!("/v2/demo/blobs/{config}")).await.json;
    assert_eq!(config["config"]["Labels"]["fly.version"], "v1");

    let arm = fly.get("/v2/demo/manifests/arm").await.json;
    assert_eq!(arm["manifests"][0]["platform"]["architecture"], "arm64");
    let missing = fly.get("/v2/demo/manifests/9").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json["errors"][0]["code"], "MANIFEST_UNKNOWN");

    let body = json!({"image": "registry.fly.io/demo:1.4.0"});
    fly.control(Method::POST, "/images/remove", body).await;
    assert_eq!(fly.get("/v2/demo/manifests/1.4.0").await.status, 404);
    assert_eq!(fly.get("/v2/demo/manifests/arm").await.status, 200);
}
