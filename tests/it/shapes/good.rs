//! The good ones.

use fly_sim::Image;
use golive::api::ActivationStatus;
use golive::api::status::{SmokeTestResult, StepState};
use serde_json::json;

use super::{App, apply, echo, folder, reference, script, toml, world};
use crate::support::deploy::step;
use crate::support::env::{Env, reason};
use crate::support::service::{cabanas, generated};
use crate::support::trouble::{until, warnings};

/// Each with the check that proves it, and what the proof says.
pub fn apps() -> Vec<(App, &'static str, &'static str)> {
    let site = folder("static-site").join("public");
    let site = site.to_str().unwrap();
    let migrating = App {
        name: "migration",
        image: Image::new(reference("migration"), cabanas()).args(["serve"]),
        more: json!({"provision": {
            "postgres": {"managed": {}},
            "redis": {"upstash": {}},
            "secrets": {"generate": generated()},
        }}),
    };
    let redis = json!({"provision": {"redis": {"upstash": {}}}});
    let regions = json!({"deploy": {"regions": {"app": {"eze": 1, "gru": 1}}}});
    let jobs = "while :; do echo 'a job is done'; sleep 1; done";
    let groups = format!(
        "case $0 in web) exec $ECHO echo --only /up ;; worker) {jobs} ;; *) exit 64 ;; esac"
    );
    // 90 s at the speed of the simulator's own timers.
    let slow = ["--listen-after-ms", "1800"];
    vec![
        (echo("static-site", &["--dir", site]), "homepage", "200"),
        (echo("api", &["--only", "/v1/health"]), "homepage", "404"),
        (echo("login-page", &["--login"]), "homepage", "200"),
        (script("worker", jobs), "machines", "no service"),
        (script("two-groups", &groups), "health", "200"),
        (
            echo("udp", &["--udp", "--port", "5060"]),
            "machines",
            "UDP (port 5060)",
        ),
        (
            echo(
                "raw-tcp",
                &[
                    "--tcp",
                    "--port",
                    "2222",
                    "--greeting",
                    "SSH-2.0-shapes\r\n",
                ],
            ),
            "port-10022",
            "the application answers",
        ),
        (
            echo("grpc", &["--grpc", "--port", "50051"]),
            "grpc",
            "SERVING",
        ),
        (
            script("sqlite", "exec $ECHO echo --journal .$DATABASE_PATH"),
            "homepage",
            "200",
        ),
        (echo("scale-to-zero", &[]), "health", "200"),
        (echo("slow-start", &slow), "health", "200"),
        (migrating, "health", "200"),
        (echo("redis", &["--redis"]).with(redis), "homepage", "200"),
        (echo("two-regions", &[]).with(regions), "health", "200"),
        (echo("sidecar", &[]), "homepage", "200"),
    ]
}

fn result<'s>(status: &'s ActivationStatus, name: &str) -> &'s SmokeTestResult {
    let mut checks = status.smoke_test.iter();
    checks
        .find(|check| check.check == name)
        .unwrap_or_else(|| panic!("{name} is not reported: {:?}", status.smoke_test))
}

/// What the machines of an app have printed.
fn printed(env: &Env, app: &str, text: &str) -> bool {
    let found = env
        .sim
        .core()
        .logs
        .page(app, None, |line| line.message.contains(text));
    !found.is_empty()
}

fn regions(env: &Env, app: &str) -> Vec<String> {
    let machines = env.sim.machines(app);
    let regions = machines.iter().map(|machine| machine["region"].as_str());
    let mut regions: Vec<_> = regions.flatten().map(str::to_owned).collect();
    regions.sort();
    regions
}

#[tokio::test(flavor = "multi_thread")]
async fn good_applications_of_every_shape_go_live_with_the_defaults() {
    let shapes = apps();
    let list: Vec<&App> = shapes.iter().map(|(app, ..)| app).collect();
    let shipper = Image::new("registry.fly.io/log-shipper:1", "/bin/sh")
        .args(["-c", "while :; do echo 'shipped some lines'; sleep 1; done"]);
    let env = world(&list, [shipper]).await;
    for app in &list {
        apply(&env, app, &toml(app.name)).await;
    }
    for (app, check, says) in &shapes {
        let name = app.name;
        let status = env.wait_live(name).await;
        assert_eq!(reason(&status, "Ready"), "GoLive", "{name}");
        let told = result(&status, check);
        assert_eq!(told.result.as_str(), "Passed", "{name}: {told:?}");
        assert!(told.message.contains(says), "{name}: {told:?}");
        let evidence = status.go_live.as_ref().unwrap().evidence.join("; ");
        assert!(evidence.contains(says), "{name}: {evidence}");
        for check in &status.smoke_test {
            assert_eq!(check.result.as_str(), "Passed", "{name}: {check:?}");
        }
    }
    for app in &list {
        assert_eq!(warnings(&env, app.name).await, [""; 0], "{}", app.name);
    }

    assert_eq!(regions(&env, "two-regions"), ["eze", "gru"]);
    let status = env.status("migration").await;
    assert_eq!(step(&status, "ReleaseCommand").0, StepState::Done);
    for (app, text) in [
        ("sidecar", "shipped some lines"),
        ("sidecar", "echo listens"),
        ("two-groups", "a job is done"),
        ("two-groups", "echo listens"),
    ] {
        until(text, || printed(&env, app, text)).await;
    }
}

/// HTTP on two ports other than 443.
const PORTS: &str = "[[services]]\ninternal_port = 8080\nprotocol = 'tcp'\n\
    [[services.ports]]\nport = 17931\nhandlers = ['http']\n\
    [[services.ports]]\nport = 17932\nhandlers = ['tls', 'http']\n";

#[tokio::test(flavor = "multi_thread")]
async fn http_on_other_ports_is_asked_there() {
    let app = echo("ports", &[]);
    let env = world(&[&app], []).await;
    apply(&env, &app, PORTS).await;
    let status = env.wait_live("ports").await;
    for check in ["port-17931", "port-17932"] {
        let told = result(&status, check);
        assert!(told.message.contains("200 in"), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_behind_which_nothing_answers_is_not_proven_though_the_edge_accepts_connections() {
    let grpc = script("grpc", "exec sleep 600");
    let ports = script("ports", "exec sleep 600");
    let env = world(&[&grpc, &ports], []).await;
    // Without the check of the fly.toml, only the proof looks at it.
    let toml = toml("grpc");
    let (toml, _) = toml.split_once("  [[services.tcp_checks]]").unwrap();
    apply(&env, &grpc, toml).await;
    apply(&env, &ports, PORTS).await;
    for (name, wanted) in [("grpc", "grpc"), ("ports", "port-17931")] {
        let status = env.wait(name, "the failed request", |status| {
            let mut checks = status.smoke_test.iter();
            checks.any(|check| check.check == wanted && check.message.contains("502"))
        });
        let status = status.await;
        assert_eq!(reason(&status, "Ready"), "Progressing");
        assert!(status.go_live.is_none());
    }
}
