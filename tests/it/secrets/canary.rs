//! Values of secrets never appear in anything that the operator shows (oracle O7): its log at the
//! finest level, events, status, ConfigMaps, metrics, arguments, the addresses of its requests, and
//! what the plugin prints. In a whole life that succeeds, from go-live over a rotation and a rollback
//! to deletion, and in one in which a migration prints its database's address and Fly.io's error
//! echoes the token.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeMap;

use fly_sim::{Fault, Kind, OrgSeed, platform::PlatformOptions};
use golive::api::status::{IntegrationState, RollbackState};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    events::v1::Event,
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::env::{Env, is, root};
use crate::support::leaks::{leaks, password};

const APP: &str = "sist-cabanas-mvp";
/// A token that no other test has.
const TOKEN: &str = "canary-token-7Qm2xV9sLw4pTz8rKd3n";
/// Values with all that has a form of its own in JSON, in addresses and in a shell.
const VALUES: [(&str, &str); 3] = [
    (
        "WHATSAPP_VERIFY_TOKEN",
        "canary/v3rify+\"quoted\"&<tag>=41c7",
    ),
    ("WHATSAPP_APP_SECRET", "canary-app-secret\\back\\slash-9d2e"),
    (
        "MERCADOPAGO_WEBHOOK_SECRET",
        "canary mercado pago äöü 5f8a1b",
    ),
];

/// What the integrations are proven with. Some are never in the application: a leak of these can come
/// from the probes and the questions to vendors alone.
const OFFICIAL: [(&str, &str); 6] = [
    ("VERIFY_TOKEN", VALUES[0].1),
    ("APP_SECRET", "canary-other-app-secret+/=&\"1b7e\""),
    ("GRAPH_TOKEN", "EAAcanaryGraphToken0c55fe21d9"),
    ("SIGNATURE", "canary mercado pago signature é 77d0"),
    ("ACCESS_TOKEN", "APP_USR-canary-access-token-3f9a8c"),
    ("ACME", "whsec_Y2FuYXJ5LXN0YW5kYXJkLXdlYmhvb2tzLTRlMmQ="),
];

/// Integrations that ask the application and both vendors.
fn integrations() -> Value {
    let from = |key: &str| json!({"name": "official", "key": key});
    let effect = json!({"metric": {"name": "webhook_effects_total"}});
    json!({
        "whatsapp": {
            "path": "/api/v1/webhooks/whatsapp",
            "verifyTokenSecretRef": from("VERIFY_TOKEN"), "appSecretRef": from("APP_SECRET"),
            "tokenSecretRef": from("GRAPH_TOKEN"), "wabaId": "102290129340398",
        },
        "mercadoPago": {
            "path": "/api/v1/webhooks/mercadopago", "signingSecretRef": from("SIGNATURE"),
            "accessTokenSecretRef": from("ACCESS_TOKEN"), "effect": effect,
        },
        "webhooks": [{
            "name": "acme", "path": "/hooks/acme", "scheme": "StandardWebhooks",
            "secretRef": from("ACME"),
        }],
        "ical": {"exportPath": "/api/v1/ical/export.ics"},
    })
}

/// The addresses and keys of receivers of notifications at this address.
fn receivers(at: std::net::SocketAddr) -> Vec<(&'static str, String)> {
    let address = |scheme: &str, user: &str, path: &str| format!("{scheme}://{user}{at}{path}");
    vec![
        (
            "own",
            address(
                "http",
                "golive:canary%2Fbasic%20word-51@",
                "/canary-own-2ab9?key=canary-query-7f",
            ),
        ),
        ("token", "canary-receiver-bearer-8c01d2".to_owned()),
        (
            "slack",
            address("http", "", "/services/T0/B0/canarySlackPath90af"),
        ),
        ("pager", "canary0Pager0Key0of032characters".to_owned()),
        (
            "mail",
            address("smtp", "golive:canary-mail-password-66@", ""),
        ),
    ]
}

fn notifications() -> Value {
    let from = |key: &str| json!({"name": "receivers", "key": key});
    json!([
        {"name": "own", "webhook": {"urlSecretRef": from("own")}},
        {"name": "bearer", "webhook": {"urlSecretRef": from("own")}, "keySecretRef": from("token")},
        {"name": "slack", "format": "Slack", "webhook": {"urlSecretRef": from("slack")}},
        {"name": "pager", "format": "PagerDuty", "keySecretRef": from("pager")},
        {"name": "mail", "email": {
            "urlSecretRef": from("mail"), "from": "golive@example.org", "to": ["ops@example.org"],
        }},
    ])
}

/// A world with these values, in which the operator logs at the finest level.
async fn begin(toml: impl FnOnce(String) -> String, before: impl FnOnce(&Env)) -> Env {
    let mut options = fly_sim::Options {
        platform: PlatformOptions {
            certificates_auto: true,
            ..PlatformOptions::default()
        },
        ..fly_sim::Options::default()
    };
    options.orgs[0] = OrgSeed::new("cabanas", TOKEN);
    let mut env = Env::without_operator(options).await;
    let inputs = root().join("examples/sist-cabanas-inputs.yaml");
    env.apply(&toml(std::fs::read_to_string(inputs).unwrap()))
        .await;
    env.secret("cabanas-integrations", &VALUES).await;
    env.secret("official", &OFFICIAL).await;
    // Receivers of notifications that refuse each message, and echo it.
    let receiver = echo().await;
    let values = receivers(receiver);
    let values: Vec<(&str, &str)> = values
        .iter()
        .map(|(key, text)| (*key, text.as_str()))
        .collect();
    env.secret("receivers", &values).await;
    before(&env);
    // The vendors are a page that refuses, and echoes what it was sent.
    let vendor = format!("http://{}", echo().await);
    let (meta, mercado) = ("--meta-graph-url", "--mercado-pago-url");
    let allowed = format!("http://{receiver},smtp://{receiver}");
    let pager = format!("http://{receiver}");
    let args = [
        "--settle",
        "300ms",
        "--log",
        "trace",
        meta,
        &vendor,
        mercado,
        &vendor,
        "--allow-receiver",
        &allowed,
        "--pagerduty-url",
        &pager,
    ];
    env.start_operator_process(&args);
    let mut activation = crate::support::crash::activation();
    activation["spec"]["integrations"] = integrations();
    activation["spec"]["notifications"] = notifications();
    env.apply(&activation.to_string()).await;
    env
}

/// A server that refuses every request, and answers with the request itself.
async fn echo() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let body = json!({"error": {"code": 190, "message": text}, "data": text}).to_string();
            let length = body.len();
            let head = format!(
                "HTTP/1.1 401 No\r\nx-echo: {}\r\ncontent-length: {length}\r\n\r\n",
                text.replace(['\r', '\n'], " ")
            );
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    address
}

/// Every value that nobody may see, by a name for messages.
async fn canaries(env: &Env) -> BTreeMap<String, Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let mut canaries: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for secret in secrets.list(&ListParams::default()).await.unwrap() {
        for (key, value) in secret.data.clone().unwrap_or_default() {
            canaries.insert(format!("{}/{key}", secret.name_any()), value.0);
        }
    }
    let at_fly = env
        .sim
        .core()
        .read(|world| world.apps.get(APP).map(|app| app.platform.boot_secrets()));
    for (name, value) in at_fly.unwrap_or_default() {
        // The password alone is as good as the whole address.
        if let Some(password) = password(&value) {
            canaries.insert(format!("the password in {name}"), password.into_bytes());
        }
        canaries.insert(format!("{name} at Fly.io"), value.into_bytes());
    }
    canaries
}

/// Everything that the operator shows, by place.
async fn shown(env: &Env) -> BTreeMap<&'static str, String> {
    let log = std::fs::read_to_string(env.log()).unwrap();
    let address = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|line| line["address"].as_str().map(str::to_owned))
        .expect("the log says where the metrics are");
    let activations = env.activations().list(&ListParams::default()).await;
    let events: Api<Event> = Api::namespaced(env.kube.clone(), &env.namespace);
    let events = events.list(&ListParams::default()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(env.kube.clone(), &env.namespace);
    let maps = maps.list(&ListParams::default()).await.unwrap();
    let pid = env.operator_pid().expect("it runs");
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let calls = env.sim.call_list().into_iter();
    let addresses = calls.map(|call| format!("{}?{}\n", call.path, call.query));
    BTreeMap::from([
        ("the addresses of requests", addresses.collect()),
        ("metrics", page(&address, "/metrics").await),
        (
            "the activation",
            serde_json::to_string(&activations.unwrap().items).unwrap(),
        ),
        ("events", serde_json::to_string(&events.items).unwrap()),
        ("config maps", serde_json::to_string(&maps.items).unwrap()),
        (
            "arguments",
            String::from_utf8_lossy(&arguments).into_owned(),
        ),
        ("the log", log),
    ])
}

async fn page(address: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: golive\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn canary_values_appear_nowhere_from_go_live_over_rotation_and_rollback_to_deletion() {
    let env = begin(|text| text, |_| ()).await;
    env.wait_live(APP).await;
    env.wait(APP, "the checks of all integrations", |status| {
        let told = |state| ![IntegrationState::Pending, IntegrationState::Waiting].contains(&state);
        status.integrations.len() == 4 && status.integrations.iter().all(|entry| told(entry.state))
    })
    .await;

    // Each receiver but the mail server, which never greets, has refused something.
    let told = env.wait_event(APP, "NotificationFailed").await;
    assert!(!told.is_empty());

    let mut all = canaries(&env).await;
    assert!(all.len() >= 21, "{:?}", all.keys());
    let mut shown = shown(&env).await;
    assert!(
        shown["the log"].contains("TRACE"),
        "the log is not fine enough"
    );
    assert!(shown["metrics"].contains("golive_"), "{}", shown["metrics"]);
    assert!(shown["the addresses of requests"].contains(APP));
    assert_eq!(leaks(&all, &shown), [""; 0]);

    // Other values, and the release before again.
    env.patch(
        APP,
        json!({"metadata": {"annotations": {"golive.dev/rotate-secrets": "leaked"}}}),
    )
    .await;
    env.wait(APP, "the rotated release", |status| {
        status.release.as_ref().and_then(|release| release.number) == Some(2)
            && is(status, "Ready", "True")
    })
    .await;
    let rotated = canaries(&env).await;
    let kept = rotated
        .iter()
        .map(|(name, value)| (format!("{name}, rotated"), value.clone()));
    all.extend(kept);
    let printed = [
        plugin(&env, &["render", "-f", "examples/sist-cabanas.yaml"]),
        plugin(&env, &["rollback", APP, "--dry-run"]),
        plugin(&env, &["rollback", APP, "--message", "too early"]),
    ];
    let printed = printed.concat();
    assert!(printed.contains("release 1"), "{printed}");
    env.wait(APP, "an answer to the request", |status| {
        let rollback = status.rollback.as_ref();
        rollback.is_some_and(|rollback| rollback.state != RollbackState::Waiting)
    })
    .await;
    shown = self::shown(&env).await;
    shown.insert("what the plugin prints", printed);
    assert_eq!(leaks(&all, &shown), [""; 0]);

    env.delete(APP).await;
    assert_eq!(leaks(&all, &self::shown(&env).await), [""; 0]);
}

/// What the plugin prints, to whichever stream.
fn plugin(env: &Env, args: &[&str]) -> String {
    let online = args[0] == "rollback";
    let more = ["--namespace", &env.namespace, "--timeout", "60s"];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-golive"))
        .args(args)
        .args(more.iter().filter(|_| online))
        .current_dir(root())
        .env("KUBECONFIG", env.cluster.kubeconfig())
        .output()
        .expect("the plugin starts");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn canary_values_appear_nowhere_when_a_migration_prints_them_and_fly_echoes_the_token() {
    let prints = r#"'''sh -c "echo address:$DATABASE_URL; echo base64:$(printf %s $DATABASE_URL | base64 -w0); echo key:$JWT_SECRET:$ICS_SALT; exit 3"'''"#;
    let echo = format!("the token {TOKEN} may not do this; you sent Bearer {TOKEN}");
    let env = begin(
        |text| {
            let changed = text.replace("\"cabanas migrate\"", prints);
            assert_ne!(changed, text);
            changed
        },
        |env| {
            env.sim.fault(Fault::new(
                "POST /v1/apps/{app}/ip_assignments",
                Kind::Status {
                    status: 422,
                    body: Some(json!({"error": echo})),
                    applied: false,
                },
            ));
        },
    )
    .await;
    let status = env
        .wait(APP, "the failed migration", |status| {
            let text = serde_json::to_string(status).unwrap();
            text.contains("ReleaseCommandFailed") && text.contains("its last lines")
        })
        .await;

    let canaries = canaries(&env).await;
    let shown = shown(&env).await;
    // The operator received the printed text, and redacted it.
    let text = serde_json::to_string(&status).unwrap();
    assert!(text.contains("key:[redacted]:[redacted]"), "{text}");
    let refused = env.sim.call_list().iter().any(|call| call.fault.is_some());
    assert!(refused, "Fly.io never echoed the token");
    assert_eq!(leaks(&canaries, &shown), [""; 0]);
}
