//! `kubectl golive report` of an activation that was watched, looked at in a real browser.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::path::Path;
use std::process::{Command, Output};

use fly_sim::Options;
use golive::api::status::WatchState;
use serde_json::{Value, json};

use crate::support::env::Env;

const NAME: &str = "hola";

/// A text that would be a script, were it not a text.
const HOSTILE: &str =
    "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>";

async fn golive(env: &Env, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-golive"));
    command
        .args(args)
        .args([
            "--namespace",
            &env.namespace,
            "--operator-namespace",
            &env.namespace,
        ])
        .env("KUBECONFIG", env.cluster.kubeconfig());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().expect("the plugin starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Debian's Chromium, without a window.
fn chromium(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("chromium");
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--hide-scrollbars",
            "--virtual-time-budget=2000",
            "--window-size=1100,2400",
        ])
        .args(["--enable-logging=stderr", "--v=0"])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .args(args)
        .env("HOME", folder);
    command
        .output()
        .expect("Chromium is not installed: `make prereqs` installs it")
}

/// Width and height of a PNG (W3C, "Portable Network Graphics", 11.2.1).
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_has_the_checklist_and_the_curves_and_a_browser_shows_it_and_runs_nothing() {
    let mut env = Env::without_operator(Options::default()).await;
    env.start_operator(&["--time-scale", "720"]).await;
    let toml = "app = 'hola-cabanas'\n[http_service]\ninternal_port = 8080\nforce_https = false\n";
    let spec = json!({
        "deploy": {"config": {"inline": toml}},
        "gates": [{"before": "Deploy"}],
        "observe": {"owner": HOSTILE, "window": "1h", "objectives": [
            {"name": "errors", "description": HOSTILE, "minEvents": 1,
             "errorRate": {"metric": "http_requests_total", "errorSelector": {"status": "5.."}, "below": "1%"}}]},
    });
    env.activation(NAME, spec).await;
    let asked = |status: &golive::api::ActivationStatus| {
        let gates = status.phases.iter().filter_map(|phase| phase.gate.clone());
        gates
            .map(|gate| gate.digest)
            .find(|digest| !digest.is_empty())
    };
    let status = env
        .wait(NAME, "the gate", |status| asked(status).is_some())
        .await;
    env.approve(NAME, "Deploy", &asked(&status).unwrap()).await;
    env.wait_live(NAME).await;
    env.wait(NAME, "the verdict", |status| {
        let watch = status.watch.as_ref();
        watch.is_some_and(|watch| watch.state != WatchState::Running)
    })
    .await;

    let markdown = golive(&env, &["report", NAME]).await;
    for text in [
        "- [x] **Go-Live**",
        "- [x] **C**",
        "## The watch",
        "errors: share of errors, must be below 1 %",
    ] {
        assert!(markdown.contains(text), "{text} is not in\n{markdown}");
    }
    assert!(!markdown.contains("<script"), "{markdown}");
    let document: Value =
        serde_json::from_str(&golive(&env, &["report", NAME, "-o", "json"]).await).unwrap();
    assert_eq!(document["kind"], "Report");
    assert_eq!(document["approvals"][0]["approver"], "admin", "{document}");
    assert_eq!(document["notes"], json!([]), "{document}");
    let points = document["objectives"][0]["curve"]["points"]
        .as_array()
        .unwrap();
    assert!(points.len() > 3, "{document}");

    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    std::fs::write(&page, golive(&env, &["report", NAME, "-o", "html"]).await).unwrap();
    let address = format!("file://{}", page.display());
    let picture = folder.path().join("report.png");
    let shot = format!("--screenshot={}", picture.display());
    let looked = chromium(folder.path(), &["--dump-dom", &shot, &address]);
    let said = String::from_utf8_lossy(&looked.stderr);
    let dom = String::from_utf8_lossy(&looked.stdout);
    assert!(looked.status.success(), "{said}");
    assert!(
        dom.contains(&format!(
            "<title>Activation {}/{NAME}</title>",
            env.namespace
        )),
        "{dom}\n{said}"
    );
    assert!(!dom.contains("<script") && !dom.contains("<img"), "{dom}");
    assert!(
        dom.contains("aria-label=\"errors: share of errors\""),
        "{dom}"
    );
    // The policy of the page had nothing to refuse.
    assert!(!said.contains("Content Security Policy"), "{said}");
    if !picture.exists() {
        // One of the two is made at a time by some versions.
        chromium(folder.path(), &[&shot, &address]);
    }
    let picture = std::fs::read(picture).unwrap();
    assert_eq!(size(&picture), (1100, 2400));
    assert!(
        picture.len() > 20_000,
        "an empty page: {} bytes",
        picture.len()
    );
}
