//! The bad ones.

use serde_json::json;

use super::{App, apply, echo, script, toml, world};
use crate::support::env::{message, reason};
use crate::support::service::loopback_port;

/// Of `wait_timeout`, which is five minutes by default.
const SOON: &str = "\n[deploy]\n  wait_timeout = \"4s\"\n";

/// An application with a mistake.
pub struct Case {
    pub app: App,
    /// Whether the health check of the fly.toml finds it, so that the deployment ends; otherwise the
    /// proof finds it, and is tried until `smokeTest.deadline`.
    checked: bool,
    /// The reason that is told.
    reason: &'static str,
    /// What the message must have.
    says: &'static [&'static str],
    /// What the author changes in the fly.toml.
    mended: (&'static str, &'static str),
}

pub fn cases() -> Vec<Case> {
    let one = json!({"deploy": {"scale": {"app": 1}}});
    let key = "echo 'Loading config/application.rb'; \
        [ -n \"$SESSION_KEY\" ] || { echo 'KeyError: key not found: SESSION_KEY' >&2; exit 3; }; \
        exec $ECHO echo";
    vec![
        Case {
            app: echo("wrong-port", &["--port", "3000"]),
            checked: true,
            reason: "NotHealthy",
            says: &[
                "nothing listens on 8080 (`internal_port`); the program listens on 3000",
                "set `internal_port = 3000` in fly.toml",
            ],
            mended: ("internal_port = 8080", "internal_port = 3000"),
        },
        Case {
            app: script(
                "loopback",
                "exec $ECHO echo --listen ${HOST:-127.0.0.1} --port $PORT",
            )
            .with(one),
            checked: false,
            reason: "Progressing",
            says: &[
                "502",
                "the program listens on 127.0.0.1:",
                "make it listen on 0.0.0.0:",
            ],
            mended: ("[env]", "[env]\n  HOST = \"0.0.0.0\""),
        },
        Case {
            app: script("crash-loop", key),
            checked: true,
            reason: "MachineExited",
            says: &[
                "code 3",
                "KeyError: key not found: SESSION_KEY",
                "`[env]` of fly.toml",
            ],
            mended: (
                "[http_service]",
                "[env]\n  SESSION_KEY = \"x\"\n\n[http_service]",
            ),
        },
        Case {
            app: echo("redirect-to-https", &["--force-ssl"]),
            checked: true,
            reason: "NotHealthy",
            says: &[
                "301",
                "redirects to HTTPS",
                "headers = {X-Forwarded-Proto = \"https\"}",
            ],
            mended: (
                "path = \"/\"",
                "path = \"/\"\n    headers = {X-Forwarded-Proto = \"https\"}",
            ),
        },
        Case {
            app: echo("host-check", &["--allowed-host", ".fly.dev"]),
            checked: true,
            reason: "NotHealthy",
            says: &["400", "ALLOWED_HOSTS", "Host = \"<app>.fly.dev\""],
            mended: (
                "path = \"/\"",
                "path = \"/\"\n    headers = {Host = \"host-check.fly.dev\"}",
            ),
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_applications_are_told_in_their_authors_words_and_go_live_as_told() {
    let cases = cases();
    let list: Vec<&App> = cases.iter().map(|case| &case.app).collect();
    let env = world(&list, []).await;
    let port = loopback_port();
    let text = |case: &Case| {
        let text = toml(case.app.name);
        match case.app.name {
            "loopback" => text.replace("8080", &port.to_string()),
            _ if case.checked => text + SOON,
            _ => text,
        }
    };
    for case in &cases {
        apply(&env, &case.app, &text(case)).await;
    }
    for case in &cases {
        let name = case.app.name;
        let what = format!("{:?}", case.says);
        let status = env.wait(name, &what, |status| {
            let text = message(status, "Ready");
            let stalled = !case.checked || reason(status, "Stalled") == case.reason;
            stalled && case.says.iter().all(|part| text.contains(part))
        });
        let status = status.await;
        assert_eq!(reason(&status, "Ready"), case.reason, "{status:?}");
        let told = message(&status, "Ready");
        println!("{name}: {told}\n  next: {:?}", status.next_action);
        assert!(!told.contains("Pulling container image"), "{told}");
        assert!(status.go_live.is_none(), "{name}");
        // What the author does about it.
        let toml = text(case).replacen(case.mended.0, case.mended.1, 1);
        let config = json!({"spec": {"deploy": {"config": {"inline": toml}}}});
        env.patch(name, config).await;
    }
    for case in &cases {
        let status = env.wait_live(case.app.name).await;
        assert_eq!(reason(&status, "Ready"), "GoLive");
    }
}
