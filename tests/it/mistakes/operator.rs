//! What only the operator can know: conditions, and checks of Preflight.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use fly_sim::state::Scope;
use golive::api::{ActivationApproval, ActivationStatus, Reason};
use golive::fly::NewApp;
use jiff::SignedDuration;
use kube::Api;
use regex::Regex;
use serde_json::{Value, json};

use super::page::{cell, code, fields, keep, lint};
use crate::support::env::{Env, LIMIT, is, message, reason, root};
use crate::support::trouble::{fly, options};

const INPUTS: &str = "tests/it/mistakes/conditions.yaml";

/// Where the reasons of Preflight are.
const SOURCES: [&str; 5] = [
    "src/phase/preflight",
    "src/phase/app_name.rs",
    "src/plan/missing.rs",
    "src/plan/target.rs",
    "src/plan/fly_config.rs",
];

/// Reasons of those files that are no mistake of a person.
const NO_MISTAKE: [Reason; 7] = [
    Reason::DeletionBlocked,
    Reason::NotRequested,
    Reason::ObservationUnknown,
    Reason::OutcomeUnknown,
    Reason::Pending,
    Reason::Succeeded,
    Reason::Waiting,
];

/// The reasons that are in the source, apart from tests.
fn reasons() -> BTreeSet<&'static str> {
    fn read(path: &Path, all: &mut String) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                read(&entry.unwrap().path(), all);
            }
            return;
        }
        let text = std::fs::read_to_string(path).unwrap();
        all.push_str(text.split("\n#[cfg(test)]").next().unwrap_or_default());
    }
    let mut text = String::new();
    for source in SOURCES {
        read(&root().join(source), &mut text);
    }
    let named: BTreeSet<&str> = text
        .split("Reason::")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next())
        .collect();
    let all = Reason::ALL.iter().filter(|one| !NO_MISTAKE.contains(one));
    all.map(|one| one.as_str())
        .filter(|one| named.contains(one))
        .collect()
}

/// What differs from run to run.
fn steady(text: &str, env: &Env) -> String {
    let mut text = text.replace(&env.namespace, "shop");
    for (pattern, with) in [
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "2026-01-01T00:00:00Z"),
        (r"fly-request-id [0-9A-Z-]+", "fly-request-id 01J"),
        (r"sha256:[0-9a-f]{64}", "sha256:0123…"),
        (r"127\.\d+\.\d+\.\d+(:\d+)?", "fly.io"),
    ] {
        let pattern = Regex::new(pattern).unwrap();
        text = pattern.replace_all(&text, with).into_owned();
    }
    text
}

/// Secrets with tokens of each kind, other people's apps, and an organization that cannot pay.
async fn world() -> Env {
    let mut options = options();
    let mut arm = options.images.iter().next().unwrap().clone();
    arm.name = "registry.fly.io/hola-cabanas".to_owned();
    arm.tag = Some("arm".to_owned());
    arm.architecture = "arm64".to_owned();
    options.images.add(arm);
    let env = Env::without_operator(options).await;
    let soon = golive::clock::wall() + SignedDuration::from_mins(5);
    let (expiring, reading, for_app) = env.sim.core().write(|world| {
        let mut poor = world.orgs["acme"].clone();
        poor.slug = "poor".to_owned();
        poor.id = "poor".to_owned();
        poor.internal_numeric_id = 99;
        poor.billing_status = "SUSPENDED".to_owned();
        world.orgs.insert("poor".to_owned(), poor);
        let mut issue = |org: &str, scope, until| {
            fly_sim::platform::tokens::issue(world, org, scope, "t", until)
                .ok()
                .unwrap()
                .1
        };
        (
            issue("cabanas", Scope::Org, Some(soon)),
            issue("cabanas", Scope::ReadOnly, None),
            issue("poor", Scope::Org, None),
        )
    });
    let acme = env.sim.token("acme").unwrap();
    for (name, token) in [
        ("unknown", "fo1_nobody-knows-this-token"),
        ("expiring", &expiring),
        ("reading", &reading),
        ("acme", &acme),
        ("poor", &for_app),
    ] {
        env.secret(name, &[("token", token)]).await;
    }
    let large = "x".repeat(900_000);
    for name in ["large-1", "large-2", "large-3"] {
        env.secret(name, &[("LARGE", &large)]).await;
    }
    let acme = fly(&env, "acme");
    let app = NewApp {
        name: "taken".to_owned(),
        org_slug: "acme".to_owned(),
        ..NewApp::default()
    };
    acme.create_app(&app).await.unwrap();
    let cabanas = fly(&env, "cabanas");
    let app = NewApp {
        name: "there-already".to_owned(),
        org_slug: "cabanas".to_owned(),
        ..NewApp::default()
    };
    cabanas.create_app(&app).await.unwrap();
    env
}

/// Whether an object has the reason that is expected, where it is expected.
fn has_it(input: &Value, status: &ActivationStatus) -> bool {
    let wanted = input["reason"].as_str().unwrap();
    match input["check"].as_str() {
        Some(check) => status
            .preflight
            .iter()
            .any(|one| one.check == check && one.reason == wanted),
        None => is(status, "Ready", "False") && reason(status, "Ready") == wanted,
    }
}

/// Waits until every object has its reason; all that have not are named.
async fn settled(env: &Env, inputs: &[Value]) {
    let end = Instant::now() + LIMIT;
    loop {
        let mut missing = String::new();
        for (number, input) in inputs.iter().enumerate() {
            let status = env.status(&format!("w{number:02}")).await;
            if has_it(input, &status) {
                continue;
            }
            let check = input["check"].as_str().unwrap_or_default();
            let found = status.preflight.iter().find(|one| one.check == check);
            let ready = message(&status, "Ready");
            writeln!(missing, "{input}\n    {ready}\n    {found:?}").unwrap();
        }
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "these did not come:\n{missing}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A row of the page.
async fn row(env: &Env, number: usize, input: &Value) -> (String, String) {
    let name = format!("w{number:02}");
    let wanted = input["reason"].as_str().unwrap();
    let check = input["check"].as_str();
    let status = env.status(&name).await;
    let (place, said, next) = match check {
        Some(check) => {
            let mut all = status.preflight.iter();
            let found = all.find(|one| one.check == check).unwrap();
            let result = found.result.as_str();
            (
                format!("{} {result}", code(check)),
                found.message.clone(),
                found.next_action.clone(),
            )
        }
        None => (
            code("Ready"),
            message(&status, "Ready").to_owned(),
            status.next_action.clone().unwrap_or_default(),
        ),
    };
    let secrets = input["objects"].as_array().into_iter().flatten();
    let secrets: Vec<String> = secrets.map(|object| code(&object.to_string())).collect();
    let mut what = fields(&input["spec"]);
    for secret in secrets {
        write!(what, "<br>with {secret}").unwrap();
    }
    let mut object = crate::api::minimal(&name);
    crate::support::env::merge(&mut object["spec"], spec(input, &name));
    let mut text = object.to_string();
    for more in input["objects"].as_array().into_iter().flatten() {
        write!(text, "\n---\n{more}").unwrap();
    }
    let found = lint(&[("all.yaml".to_owned(), text)]);
    let found: Vec<String> = found
        .iter()
        .filter(|one| one[1] != "note")
        .map(|one| cell(&one[3].replace(&name, "shop")))
        .collect();
    // What is in the files is found without a cluster.
    let offline = [
        Reason::SecretKeyMissing,
        Reason::ConfigMapKeyMissing,
        Reason::FlyConfigInvalid,
        Reason::FlyConfigDoubtful,
    ];
    let in_files = offline.iter().any(|one| one.as_str() == wanted) && input["stored"] != true;
    assert!(!in_files || !found.is_empty(), "lint says nothing: {input}");
    let lint = match found.as_slice() {
        [] => "cannot know it".to_owned(),
        all => all.join("<br>"),
    };
    let own = |text: &str| cell(&steady(text, env).replace(&name, "shop"));
    assert!(!next.is_empty(), "no next action: {input}: {said}");
    let line = format!(
        "| {what} | {place}<br>{} | {} | {} | {lint} |\n",
        code(wanted),
        own(&said),
        own(&next)
    );
    (wanted.to_owned(), line)
}

/// Plans alone are made, so that nothing is deployed.
fn spec(input: &Value, name: &str) -> Value {
    let mut spec = json!({"app": name, "mode": "Plan"});
    crate::support::env::merge(&mut spec, input["spec"].clone());
    spec
}

/// Approvals that do not count, with what they say themselves.
async fn approvals(env: &Env) -> String {
    let api: Api<ActivationApproval> = Api::namespaced(env.kube.clone(), &env.namespace);
    let other = format!("sha256:{}", "ab".repeat(32));
    let mut text = String::new();
    for (number, (change, wanted)) in [
        (json!({"activation": "nowhere"}), "ActivationNotFound"),
        (json!({"gate": "SmokeTest"}), "UnknownGate"),
        (json!({}), "WrongDigest"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut about = json!({"activation": "first", "gate": "Deploy", "digest": other});
        crate::support::env::merge(&mut about, change.clone());
        let name = format!("d{number}");
        env.decide(&name, about).await;
        let status = crate::support::installed::eventually(wanted, async || {
            let found = api.get(&name).await.unwrap().status?;
            (found.state.as_str() == wanted).then_some(found)
        })
        .await;
        let what = match change.as_object().is_some_and(|change| change.is_empty()) {
            true => "another digest than the one that waits".to_owned(),
            false => fields(&change),
        };
        let said = cell(&steady(&status.message, env));
        writeln!(text, "| {what} | {} | {said} |", code(wanted)).unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_of_preflight_is_met_with_words_and_a_next_action() {
    let text = std::fs::read_to_string(root().join(INPUTS)).unwrap();
    let inputs: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
    let mut env = world().await;
    for object in inputs
        .iter()
        .filter_map(|input| input["objects"].as_array())
        .flatten()
    {
        env.apply(&object.to_string()).await;
    }
    env.start_operator(&["--token-patience", "1s"]).await;
    env.activation("first", json!({"gates": [{"before": "Deploy"}]}))
        .await;
    env.wait("first", "the gate", |status| {
        reason(status, "Ready") == "AwaitingApproval"
    })
    .await;
    for (number, input) in inputs.iter().enumerate() {
        let name = format!("w{number:02}");
        env.activation(&name, spec(input, &name)).await;
    }
    settled(&env, &inputs).await;
    let (mut met, mut lines) = (BTreeSet::new(), String::new());
    for (number, input) in inputs.iter().enumerate() {
        let (reason, line) = row(&env, number, input).await;
        met.insert(reason);
        lines.push_str(&line);
    }
    let decisions = approvals(&env).await;
    // This needs another installation: `secrets::allowed` shows it.
    met.insert(Reason::SecretNotAllowed.as_str().to_owned());
    let unmet: Vec<&str> = reasons()
        .into_iter()
        .filter(|one| !met.contains(*one))
        .collect();
    assert_eq!(
        unmet, [""; 0],
        "no input leads to these reasons: add one to {INPUTS}"
    );
    let lint = code("kubectl golive lint");
    let state = code("status.state");
    keep(
        "conditions",
        &format!(
            "{} inputs; each of {} reasons occurs.\n\n| input | where, and reason | message | next action | {lint} |\n|---|---|---|---|---|\n{lines}\n### Approvals that do not count\n\n| input | {state} | message |\n|---|---|---|\n{decisions}",
            inputs.len(),
            reasons().len()
        ),
    );
}
