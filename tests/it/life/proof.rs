//! The default proof of applications of many shapes: the good ones go live without a word about
//! smoke checks in their objects, and the bad ones are told in words that their authors understand.
//! And what a proof may cost: nothing that sleeps is woken by a re-check.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::path::PathBuf;

use fly_sim::{Image, Images, Options};
use golive::api::{ActivationStatus, status::SmokeTestResult};
use serde_json::{Value, json};

use crate::support::{
    deploy::{LIST, step},
    env::{Env, is, message, reason},
    service::cabanas,
    trouble::{fly, until, warnings},
};

const WEB: &str = "[http_service]\ninternal_port = 8080\n";

/// The simulator's small program with these arguments, as the image of an app.
fn echo(app: &str, args: &[&str]) -> Image {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("fly-sim");
    let args = ["echo"].iter().chain(args);
    Image::new(format!("registry.fly.io/{app}:1"), program).args(args.copied())
}

fn sleeper(app: &str, script: &str) -> Image {
    Image::new(format!("registry.fly.io/{app}:1"), "/bin/sh").args(["-c", script])
}

/// A world in which these images can run.
async fn world(images: impl IntoIterator<Item = Image>, flags: &[&str]) -> Env {
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(flags).await;
    env
}

/// An Activation without a word about smoke checks, unless `more` has some.
async fn apply(env: &Env, app: &str, toml: &str, more: Value) {
    let mut spec = json!({
        "app": app,
        "deploy": {"image": format!("registry.fly.io/{app}:1"), "config": {"inline": toml}},
        "smokeTest": null,
    });
    crate::support::env::merge(&mut spec, more);
    if spec["smokeTest"]["checks"].is_null() && spec["smokeTest"].is_object() {
        spec["smokeTest"]["checks"] = Value::Null;
    }
    env.activation(app, spec).await;
}

fn result<'s>(status: &'s ActivationStatus, name: &str) -> &'s SmokeTestResult {
    let mut checks = status.smoke_test.iter();
    checks
        .find(|check| check.check == name)
        .unwrap_or_else(|| panic!("{name} is not reported: {:?}", status.smoke_test))
}

fn tcp_service(public: u16, handlers: &str) -> String {
    format!(
        "[[services]]\ninternal_port = 8080\nprotocol = 'tcp'\n\
         [[services.ports]]\nport = {public}\nhandlers = [{handlers}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_of_every_shape_go_live_by_default_and_are_told_with_their_proof() {
    let udp = "[[services]]\ninternal_port = 5060\nprotocol = 'udp'\n\
        [[services.ports]]\nport = 5060\n";
    let worker = "[processes]\nworker = ''\n";
    let health = format!(
        "{WEB}[[http_service.checks]]\npath = '/healthz'\ninterval = '5s'\n\
        timeout = '2s'\ngrace_period = '1s'\n"
    );
    let (raw, tls) = (tcp_service(17922, ""), tcp_service(17923, "'tls'"));
    let private = json!({"provision": {"addresses": {"sharedV4": false, "v6": false}}});
    let sleeps = "exec sleep 600";
    let none = || json!({});
    // The app, its program, its fly.toml, its spec; the check that is told, its result, and words.
    let shapes: Vec<(&str, Image, &str, Value, &str, &str, &str)> = vec![
        (
            "web",
            echo("web", &[]),
            &health,
            none(),
            "health",
            "Passed",
            "200",
        ),
        (
            "login",
            echo("login", &["--answer", "401"]),
            WEB,
            none(),
            "homepage",
            "Passed",
            "401",
        ),
        (
            "api",
            echo("api", &["--answer", "404"]),
            WEB,
            none(),
            "homepage",
            "Passed",
            "404",
        ),
        (
            "elsewhere",
            echo(
                "elsewhere",
                &["--answer", "302", "--location", "https://login.example/"],
            ),
            WEB,
            none(),
            "homepage",
            "Passed",
            "302",
        ),
        (
            "raw",
            echo("raw", &["--tcp", "--greeting", "SSH-2.0"]),
            &raw,
            none(),
            "port-17922",
            "Passed",
            "the application answers",
        ),
        (
            "tls",
            echo("tls", &["--tcp"]),
            &tls,
            none(),
            "port-17923",
            "Passed",
            "with TLS",
        ),
        (
            "worker",
            sleeper("worker", sleeps),
            worker,
            none(),
            "machines",
            "Passed",
            "no service",
        ),
        (
            "udp",
            sleeper("udp", sleeps),
            udp,
            none(),
            "machines",
            "Passed",
            "UDP (port 5060)",
        ),
        (
            "private",
            echo("private", &[]),
            WEB,
            private,
            "machines",
            "Passed",
            "no public address",
        ),
        (
            "empty",
            echo("empty", &[]),
            WEB,
            json!({"smokeTest": {"checks": []}}),
            "machines",
            "Passed",
            "no other proof",
        ),
        (
            "nothing",
            echo("nothing", &[]),
            WEB,
            json!({"deploy": {"scale": {"app": 0}}}),
            "machines",
            "Skipped",
            "no machine",
        ),
    ];
    let named = |app: &str| format!("proof-{app}");
    let images = shapes.iter().map(|(app, image, ..)| Image {
        name: format!("registry.fly.io/{}:1", named(app)),
        ..image.clone()
    });
    let env = world(images.collect::<Vec<_>>(), &[]).await;
    for (app, _, toml, more, ..) in &shapes {
        apply(&env, &named(app), toml, more.clone()).await;
    }
    for (app, _, _, _, check, wanted, says) in &shapes {
        let status = env.wait_live(&named(app)).await;
        let told = result(&status, check);
        assert_eq!(told.result.as_str(), *wanted, "{app}: {told:?}");
        assert!(told.message.contains(says), "{app}: {told:?}");
        assert_eq!(reason(&status, "Ready"), "GoLive", "{app}");
        assert!(warnings(&env, &named(app)).await.is_empty(), "{app}");
        let evidence = status.go_live.as_ref().unwrap().evidence.join("; ");
        assert!(evidence.contains(says), "{app}: {evidence}");
        // A URL is told only where something answers.
        let answers = ["web", "login", "api", "elsewhere", "empty"].contains(app);
        assert_eq!(status.url.is_some(), answers, "{app}: {:?}", status.url);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_its_cause_and_what_does_not_exist_is_never_proven() {
    let https = "https://proof-loop.fly.dev/";
    let env = world(
        [
            echo("proof-broken", &["--answer", "500"]),
            echo("proof-loop", &["--answer", "301", "--location", https]),
            echo("proof-hidden", &[]),
            sleeper("proof-gone", "sleep 600"),
            echo("proof-asks", &[]),
        ],
        &[],
    )
    .await;
    let soon = json!({"smokeTest": {"deadline": "10s"}});
    apply(&env, "proof-broken", WEB, soon.clone()).await;
    apply(&env, "proof-loop", WEB, soon.clone()).await;
    // Nothing listens behind the port.
    apply(&env, "proof-gone", &tcp_service(17924, ""), soon).await;
    let check = json!({"name": "homepage", "http": {"path": "/"}});
    let hidden = json!({
        "provision": {"addresses": {"sharedV4": false, "v6": false}},
        "smokeTest": {"deadline": "10s", "checks": [check]},
    });
    apply(&env, "proof-hidden", WEB, hidden).await;
    let database = json!({"smokeTest": {"checks": [
        {"name": "database", "database": {"command": ["true"]}, "fallbacks": [{"http": {"path": "/"}}]},
    ]}});
    apply(&env, "proof-asks", WEB, database).await;

    for (app, wanted, says) in [
        (
            "proof-broken",
            "SmokeCheckFailed",
            "`spec.smokeTest.checks`",
        ),
        ("proof-broken", "SmokeCheckFailed", "answered 500"),
        ("proof-loop", "SmokeCheckFailed", "X-Forwarded-Proto"),
        (
            "proof-gone",
            "SmokeCheckFailed",
            "closes the connection at once",
        ),
        (
            "proof-hidden",
            "AddressesInsufficient",
            "has no public address",
        ),
        ("proof-hidden", "AddressesInsufficient", "sharedV4"),
    ] {
        let status = env.wait_for(app, "Stalled", "True").await;
        assert_eq!(reason(&status, "Ready"), wanted, "{app}: {status:?}");
        let text = message(&status, "Ready");
        assert!(text.contains(says), "{app}: {text}");
        assert!(!text.contains("certificate"), "{app}: {text}");
        assert_eq!(warnings(&env, app).await, [wanted], "{app}");
    }
    let status = env.wait_live("proof-asks").await;
    let told = result(&status, "database");
    assert_eq!(told.result.as_str(), "Skipped", "{told:?}");
    assert!(told.message.contains("no database"), "{told:?}");
    assert_eq!(result(&status, "machines").result.as_str(), "Passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_start_is_progress_with_its_evidence_and_never_stalled() {
    let slow = echo("proof-slow", &["--listen-after-ms", "12000"]);
    let env = world([slow], &[]).await;
    let checks = json!({"smokeTest": {"checks": [
        {"name": "homepage", "http": {"path": "/"}, "interval": "1s", "count": 2, "failureLimit": 1},
    ]}});
    apply(&env, "proof-slow", WEB, checks).await;

    let what = "a failed try";
    let status = env.wait("proof-slow", what, |status| {
        assert!(!is(status, "Stalled", "True"), "{status:?}");
        step(status, "EdgeChecks").1 == "SmokeCheckFailed"
    });
    let status = status.await;
    assert_eq!(reason(&status, "Ready"), "Progressing");
    assert!(is(&status, "Ready", "Unknown"));
    let text = message(&status, "Ready");
    assert!(text.contains("homepage") && text.contains("50"), "{text}");
    assert_eq!(result(&status, "homepage").result.as_str(), "Unknown");

    let status = env
        .wait("proof-slow", "Live", |status| {
            assert!(!is(status, "Stalled", "True"), "{status:?}");
            is(status, "Live", "True")
        })
        .await;
    assert_eq!(result(&status, "homepage").result.as_str(), "Passed");
    assert!(warnings(&env, "proof-slow").await.is_empty());
}

/// How often the edge has started a machine.
fn woken(env: &Env) -> usize {
    let ledger = env.sim.ledger();
    let woken = ledger.iter();
    woken
        .filter(|effect| effect.kind == "machine.autostart")
        .count()
}

fn states(env: &Env, app: &str) -> Vec<String> {
    let machines = env.sim.machines(app).into_iter();
    machines
        .map(|machine| machine["state"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits for several re-checks.
async fn rechecks(env: &Env) {
    let before = env.sim.calls(LIST);
    until("some re-checks", || env.sim.calls(LIST) >= before + 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sleeps_is_not_woken_by_rechecks_but_on_request() {
    let app = "proof-sleepy";
    let image = Image::new(format!("registry.fly.io/{app}:1"), cabanas()).args(["hello"]);
    let mut env = world([image], &["--recheck-interval", "1s"]).await;
    let toml = format!("{WEB}auto_stop_machines = 'stop'\nauto_start_machines = true\n");
    apply(&env, app, &toml, json!({})).await;
    env.wait_live(app).await;
    let client = fly(&env, "cabanas");
    let asleep = vec!["stopped".to_owned(); 2];
    // Without an operator, because a proof that is under way would wake them, or fail in between.
    env.stop_operator().await;
    for machine in env.sim.machines(app) {
        let id = machine["id"].as_str().unwrap();
        client.stop_machine(app, id, None, None).await.unwrap();
    }
    until("both are stopped", || states(&env, app) == asleep).await;
    // A new process wakes them as little: the release is on record as proven.
    env.start_operator(&["--recheck-interval", "1s"]).await;
    let status = env
        .wait(app, "it sleeps", |status| {
            step(status, "EdgeChecks").1 == "Asleep"
        })
        .await;
    let before = woken(&env);
    rechecks(&env).await;
    assert_eq!((woken(&env), states(&env, app)), (before, asleep));
    assert!(is(&status, "Live", "True") && is(&status, "Ready", "True"));
    assert_eq!(result(&status, "homepage").result.as_str(), "Passed");
    assert!(step(&status, "EdgeChecks").2.contains("last proof holds"));

    let annotation =
        json!({"metadata": {"annotations": {"golive.dev/reconcile-requested-at": "now"}}});
    env.patch(app, annotation).await;
    until("a proof on request", || woken(&env) > before).await;
    env.wait(app, "the end of the request", |status| {
        status.last_handled_reconcile_at.as_deref() == Some("now")
    })
    .await;
    env.wait_live(app).await;
    assert!(warnings(&env, app).await.is_empty());
}
