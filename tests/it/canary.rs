//! Values of secrets never appear in anything that the operator shows (oracle O7): its log at the
//! finest level, events, status, ConfigMaps, metrics, arguments. In a go-live that succeeds, and in
//! one in which a migration prints its database's address and Fly.io's error echoes the token.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use fly_sim::{Fault, Kind, OrgSeed, platform::PlatformOptions};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    events::v1::Event,
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::env::{Env, root};

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

/// A world with these values, in which the operator runs and tells everything.
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
    before(&env);
    env.start_operator_process(&["--settle", "300ms", "--log", "trace"]);
    env.apply(&crate::crash::activation().to_string()).await;
    env
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
        if let Some(password) = url_password(&value) {
            canaries.insert(format!("the password in {name}"), password.into_bytes());
        }
        canaries.insert(format!("{name} at Fly.io"), value.into_bytes());
    }
    canaries
}

fn url_password(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let (user, _) = rest.split_once('@')?;
    Some(user.split_once(':')?.1.to_owned())
}

/// The forms in which a value can be read.
fn forms(value: &[u8]) -> Vec<(&'static str, String)> {
    let text = String::from_utf8_lossy(value).into_owned();
    let json = json!(text).to_string();
    let percent: String = value
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(*byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    vec![
        ("first 12 characters", text.chars().take(12).collect()),
        ("reversed", text.chars().rev().collect()),
        ("raw", text),
        ("JSON", json.trim_matches('"').to_owned()),
        ("base64", STANDARD_NO_PAD.encode(value)),
        ("base64, padded", STANDARD.encode(value)),
        ("base64 for addresses", URL_SAFE_NO_PAD.encode(value)),
        ("hex", data_encoding::HEXLOWER.encode(value)),
        ("HEX", data_encoding::HEXUPPER.encode(value)),
        ("percent", percent.clone()),
        ("percent, lower case", percent.to_lowercase()),
    ]
}

/// Everything that the operator shows, by where.
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
    BTreeMap::from([
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

/// Where a value can be read, and in which form.
fn leaks(canaries: &BTreeMap<String, Vec<u8>>, shown: &BTreeMap<&str, String>) -> Vec<String> {
    let mut leaks = Vec::new();
    for (name, value) in canaries {
        for (form, text) in forms(value) {
            // The first characters of an address are its scheme.
            let scheme = form == "first 12 characters" && text.contains("://");
            if scheme || text.len() < 8 {
                continue;
            }
            for (place, all) in shown {
                if let Some(at) = all.find(&text) {
                    let from = all[..at].rfind('\n').map_or(0, |at| at + 1);
                    let line: String = all[from..].chars().take(300).collect();
                    leaks.push(format!("{name} ({form}) in {place}: {line}"));
                }
            }
        }
    }
    leaks
}

#[test]
fn canary_search_finds_every_form() {
    let value = b"canary \"value\" <1>".to_vec();
    let canaries = BTreeMap::from([("it".to_owned(), value.clone())]);
    for (form, text) in forms(&value) {
        let shown = BTreeMap::from([("there", format!("before {text} after"))]);
        assert!(!leaks(&canaries, &shown).is_empty(), "{form}");
    }
    let shown = BTreeMap::from([("there", "nothing of it".to_owned())]);
    assert!(leaks(&canaries, &shown).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn canary_values_appear_nowhere_when_all_goes_well() {
    let env = begin(|text| text, |_| ()).await;
    env.wait_live(APP).await;

    let canaries = canaries(&env).await;
    assert!(canaries.len() >= 16, "{:?}", canaries.keys());
    let shown = shown(&env).await;
    assert!(
        shown["the log"].contains("TRACE"),
        "the log is not fine enough"
    );
    assert!(shown["metrics"].contains("golive_"), "{}", shown["metrics"]);
    assert_eq!(leaks(&canaries, &shown), [""; 0]);
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
    // What was printed did come to the operator, and was taken out there.
    let text = serde_json::to_string(&status).unwrap();
    assert!(text.contains("key:[redacted]:[redacted]"), "{text}");
    let refused = env.sim.call_list().iter().any(|call| call.fault.is_some());
    assert!(refused, "Fly.io never echoed the token");
    assert_eq!(leaks(&canaries, &shown), [""; 0]);
}
