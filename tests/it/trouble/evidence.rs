//! What Fly.io knows of a failure reaches the person who has to mend it: the output of checks, where the
//! program listens, what the proxy says, and the lines with the error.

use std::path::PathBuf;

use fly_sim::{Image, Images, Options};
use golive::api::status::StepState;
use serde_json::{Value, json};

use crate::support::deploy::step;
use crate::support::env::{Env, message};
use crate::support::service::{hello, loopback_port};
use crate::support::trouble::{event, recovered, stopped};

/// The simulator's own small web server with these arguments.
fn program(tag: &str, args: &[&str]) -> Image {
    let sim = PathBuf::from(env!("CARGO_BIN_EXE_golive")).with_file_name("fly-sim");
    let args: Vec<&str> = ["echo"].into_iter().chain(args.iter().copied()).collect();
    Image::new(format!("registry.fly.io/hola-cabanas:{tag}"), sim).args(args)
}

async fn world(images: impl IntoIterator<Item = Image>) -> Env {
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&[]).await;
    env
}

/// An application with a check on this port, which may take four seconds to pass.
fn checked(tag: &str, port: u16, more: &str) -> Value {
    let text = format!(
        "[deploy]\nwait_timeout = '4s'\n[[restart]]\npolicy = 'never'\n[http_service]\n\
         internal_port = {port}\n[[http_service.checks]]\npath = '/'\ninterval = '5s'\n\
         timeout = '2s'\ngrace_period = '1s'\n{more}"
    );
    json!({
        "deploy": {
            "image": format!("registry.fly.io/hola-cabanas:{tag}"),
            "config": {"inline": text}, "scale": {"app": 1},
        },
        "smokeTest": {"checks": [{"name": "home", "http": {"path": "/"}}]},
    })
}

/// Applies it, and returns what is said of the failure.
async fn told(env: &Env, spec: Value, reason: &str) -> String {
    env.activation("hola", spec).await;
    let status = stopped(env, "hola", reason).await;
    let text = message(&status, "Ready");
    let note = event(env, "hola", reason).await;
    assert!(note.len() > 40, "{note}");
    text.to_owned()
}

#[track_caller]
fn says(text: &str, all: &[&str]) {
    for part in all {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_on_another_port_is_told_with_both_ports() {
    let env = world([program("1", &["--port", "3000"])]).await;
    let text = told(&env, checked("1", 8080, ""), "NotHealthy").await;
    says(
        &text,
        &[
            "(connect: connection refused)",
            "nothing listens on 8080 (`internal_port`); the program listens on 3000",
            "set `internal_port = 3000` in fly.toml",
            "echo listens on",
        ],
    );
    assert!(!text.contains("Pulling container image"), "{text}");
    env.patch("hola", json!({"spec": checked("1", 3000, "")}))
        .await;
    recovered(&env, "hola").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_on_the_loopback_address_is_told_to_listen_on_all() {
    let port = loopback_port();
    let args = ["--listen", "127.0.0.1", "--port", &port.to_string()];
    let env = world([program("1", &args)]).await;
    let text = told(&env, checked("1", port, ""), "NotHealthy").await;
    says(
        &text,
        &[
            &format!("the program listens on 127.0.0.1:{port} only"),
            &format!("make it listen on 0.0.0.0:{port}"),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_https_and_a_refused_host_are_told_with_the_header_that_the_check_lacks() {
    let env = world([
        program("redirects", &["--force-ssl"]),
        program("hosts", &["--allowed-host", ".fly.dev"]),
    ])
    .await;
    let text = told(&env, checked("redirects", 8080, ""), "NotHealthy").await;
    says(
        &text,
        &[
            "(301 Moved Permanently)",
            "`headers = {X-Forwarded-Proto = \"https\"}`",
        ],
    );
    assert!(
        !text.contains("wait_timeout"),
        "time mends no redirect: {text}"
    );
    let header = "headers = {X-Forwarded-Proto = 'https'}\n";
    env.patch("hola", json!({"spec": checked("redirects", 8080, header)}))
        .await;
    recovered(&env, "hola").await;

    let deploy = json!({"onFailure": "Leave"});
    let mut spec = checked("hosts", 8080, "");
    crate::support::env::merge(&mut spec["deploy"], deploy);
    env.patch("hola", json!({"spec": spec})).await;
    let status = stopped(&env, "hola", "NotHealthy").await;
    let text = message(&status, "Ready");
    says(text, &["(400 Bad Request)", "ALLOWED_HOSTS", "Host = "]);
    assert!(!text.contains("<h1>"), "{text}");
    let header = "headers = {Host = 'hola-cabanas.fly.dev'}\n";
    env.patch("hola", json!({"spec": checked("hosts", 8080, header)}))
        .await;
    recovered(&env, "hola").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_check_the_edges_error_is_told_with_the_port_and_the_proxys_reason() {
    let env = world([program("1", &["--port", "9999"])]).await;
    let spec = json!({
        "deploy": {"image": "registry.fly.io/hola-cabanas:1"},
        "smokeTest": {"deadline": "10s", "checks": [{"name": "home", "http": {"path": "/"},
            "interval": "1s", "count": 2, "failureLimit": 1}]},
    });
    let text = told(&env, spec, "SmokeCheckFailed").await;
    says(
        &text,
        &[
            "answered 502",
            "nothing listens on 8080 (`internal_port`); the program listens on 9999",
            "Fly.io's proxy: [PC01] instance refused connection",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_took_longer_than_the_grace_period_is_told_with_the_time_to_set() {
    let env = world([program("1", &["--listen-after-ms", "7000"])]).await;
    let mut spec = checked("1", 8080, "");
    let text = spec["deploy"]["config"]["inline"]
        .as_str()
        .unwrap_or_default();
    spec["deploy"]["config"]["inline"] = text.replace("'4s'", "'60s'").into();
    env.activation("hola", spec).await;
    let status = recovered(&env, "hola").await;
    let (state, reason, text) = step(&status, "Health");
    assert_eq!((state, reason.as_str()), (StepState::Done, "SlowStart"));
    // Seven seconds or a little more, and half as much again.
    let proposed = ["10s", "15s"].map(|time| format!("`grace_period = \"{time}\"` in fly.toml"));
    says(text.as_str(), &["`grace_period` of the check is 1s"]);
    assert!(proposed.iter().any(|set| text.contains(set)), "{text}");
}

/// An application with this release command.
fn migrated(command: &str) -> Value {
    let text = format!(
        "[deploy]\nrelease_command = '''{command}'''\n[http_service]\ninternal_port = 8080\n"
    );
    json!({"deploy": {
        "image": "registry.fly.io/hola-cabanas:1", "config": {"inline": text}, "scale": {"app": 1},
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_release_command_is_told_with_its_error_and_with_what_is_wrong_in_the_command() {
    let env = world([program("1", &[])]).await;
    // It is an argument of the image's program, which says so.
    let text = told(
        &env,
        migrated("migrate --quick && touch x"),
        "ReleaseCommandFailed",
    )
    .await;
    says(
        &text,
        &[
            "without a shell",
            "`&&`",
            "`release_command = \"sh -c '…'\"`",
            "error: unrecognized subcommand",
        ],
    );
    assert!(!text.contains("Main child exited"), "{text}");
    assert!(!text.contains("fix the migration"), "{text}");

    env.patch("hola", json!({"spec": migrated("sh -c no-such-program")}))
        .await;
    let wait = env.wait("hola", "code 127", |status| {
        message(status, "Ready").contains("code 127")
    });
    let status = wait.await;
    let text = message(&status, "Ready");
    says(
        text,
        &[
            "the image has no such program",
            "no-such-program",
            "not found",
        ],
    );

    // The error stands before the frames that led to it.
    let script = "echo \"Error: relation cabins does not exist\"; \
        for n in $(seq 60); do echo \"    at Query.run (/app/node_modules/pg/lib/client.js:$n)\"; done; \
        echo \"Node.js v20\"; exit 1";
    env.patch(
        "hola",
        json!({"spec": migrated(&format!("sh -c '{script}'"))}),
    )
    .await;
    let wait = env.wait("hola", "code 1", |status| {
        message(status, "Ready").contains("Node.js")
    });
    let status = wait.await;
    let text = message(&status, "Ready");
    says(
        text,
        &["its last lines: Error: relation cabins does not exist | Node.js v20"],
    );
    assert!(text.len() <= 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_exits_again_and_again_after_its_go_live_is_told_with_its_last_lines() {
    let options = Options {
        images: Images::new([hello("crashes").env("CABANAS_FAULT", "exits-after=2")]),
        ..Options::default()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&["--recheck-interval", "1s"]).await;
    let spec = json!({
        "deploy": {
            "image": "registry.fly.io/hola-cabanas:crashes", "onFailure": "Pause",
            "scale": {"app": 1},
        },
        "smokeTest": {"checks": [{
            "name": "home", "http": {"path": "/"}, "interval": "1s", "count": 1,
            "failureLimit": 0,
        }]},
    });
    env.activation("hola", spec).await;
    let note = event(&env, "hola", "CrashLooping").await;
    says(
        &note,
        &[
            "the machine golive-app-0 (",
            "exits again and again, at least 3 times in 10 minutes, the last time with code 1",
        ],
    );
    let status = env.status("hola").await;
    let next = status.next_action.unwrap_or_default();
    assert!(
        !next.contains("exits again"),
        "an action, and not the message: {next}"
    );
}
