//! The plugin against the real API server and a running operator: a team's day, and what is refused.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use golive::api::ActivationStatus;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::deploy::long_spec;
use crate::support::env::{Env, LIMIT, is, merge, message, root};
use crate::support::guarded::Guarded;
use crate::support::trouble::{options, stopped};

/// How a run of the plugin ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// The output, which must have ended with this code and contain these texts.
    fn says(&self, code: i32, texts: &[&str]) -> &str {
        let all = format!("code {:?}\n{}\n{}", self.code, self.out, self.err);
        assert_eq!(self.code, Some(code), "{all}");
        for text in texts {
            assert!(
                self.out.contains(text) || self.err.contains(text),
                "{text} is not in\n{all}"
            );
        }
        assert!(!all.contains('\u{1b}'), "no terminal, and colours: {all}");
        &self.out
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-golive"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it in the namespace of the test.
async fn golive(env: &Env, args: &[&str]) -> Ran {
    let mut command = command(args);
    command
        .args(["--namespace", &env.namespace])
        .env("KUBECONFIG", env.cluster.kubeconfig());
    ran(command).await
}

async fn ran(mut command: Command) -> Ran {
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().expect("the plugin starts");
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn document(ran: &Ran) -> Value {
    let text = ran.says(0, &[]);
    let document: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(document["apiVersion"], "cli.golive.dev/v1");
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_the_status_has_no_room_for_is_shown_and_decided_on_as_a_whole() {
    let env = Env::start().await;
    let mut spec = long_spec();
    merge(&mut spec, json!({"gates": [{"before": "Provision"}]}));
    env.activation("hola", spec).await;
    let status = env
        .wait("hola", "a plan in a ConfigMap", |status| {
            let plan = status.plan.as_ref();
            plan.is_some_and(|plan| plan.complete && plan.whole.is_some())
        })
        .await;
    let (plan, uid) = (status.plan.unwrap(), status.uid.unwrap());
    let total = usize::try_from(plan.total).unwrap();
    assert!(plan.changes.len() < total, "{total}");
    let shown = document(&golive(&env, &["plan", "hola", "-o", "json"]).await);
    assert_eq!(shown["changes"].as_array().unwrap().len(), total);
    assert_eq!(shown["omitted"], 0);
    golive(&env, &["plan", "hola"])
        .await
        .says(0, &["verify SmokeCheck homepage", "h19."]);

    // What somebody else has written is no plan, and is replaced.
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(env.kube.clone(), &env.namespace);
    let name = format!("golive-plan-{uid}");
    let map = maps.get(&name).await.unwrap();
    assert_eq!(map.metadata.owner_references.unwrap()[0].uid, uid);
    let text = map.data.unwrap()["plan.json"].replace("h19.", "h00.");
    let forged = Patch::Merge(json!({"data": {"plan.json": text}}));
    maps.patch(&name, &PatchParams::default(), &forged)
        .await
        .unwrap();
    golive(&env, &["approve", "hola", "--yes"])
        .await
        .says(1, &["does not hold this plan", "not approved unseen"]);
    env.patch(
        "hola",
        json!({"metadata": {"annotations": {"golive.dev/reconcile": "now"}}}),
    )
    .await;
    let end = Instant::now() + LIMIT;
    while golive(&env, &["plan", "hola"])
        .await
        .out
        .contains("does not hold")
    {
        assert!(Instant::now() < end, "it is not written again");
    }
    golive(&env, &["approve", "hola", "--yes"])
        .await
        .says(0, &["verify SmokeCheck homepage", "h19."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_sees_decides_and_acts_with_the_plugin() {
    let env = Env::start().await;
    env.activation("hola", json!({"gates": [{"before": "Deploy"}]}))
        .await;
    // From the create to the gate.
    let wait = ["wait", "hola", "--for", "live", "--timeout", "90s"];
    golive(&env, &wait)
        .await
        .says(4, &["kubectl golive approve hola"]);
    golive(&env, &["status", "hola"]).await.says(
        0,
        &[
            "AwaitingApproval",
            "Waiting for a person",
            "kubectl golive approve hola",
        ],
    );
    let plan = document(&golive(&env, &["plan", "hola", "-o", "json"]).await);
    let digest = plan["digest"].as_str().unwrap().to_owned();

    // What is not shown, and what nobody confirmed, is not approved.
    let other = format!("sha256:{}", "0".repeat(64));
    golive(&env, &["approve", "hola", "--yes", "--digest", &other])
        .await
        .says(1, &["is not the one that waits", &digest]);
    golive(&env, &["approve", "hola"])
        .await
        .says(1, &[&digest, "add --yes"]);
    golive(&env, &["reject", "hola", "--yes", "--message", "later"])
        .await
        .says(0, &["Reject by", "Counts"]);
    stopped(&env, "hola", "Rejected").await;
    golive(&env, &wait).await.says(3, &["rejected Deploy"]);
    let approve = ["approve", "hola", "--yes", "--digest", &digest];
    golive(&env, &approve)
        .await
        .says(0, &[&digest, "Approve by"]);
    env.wait_live("hola").await;
    golive(&env, &wait)
        .await
        .says(0, &["hola is live: https://"]);
    golive(&env, &approve)
        .await
        .says(1, &["the gate before Deploy is Approved"]);

    // What is to be seen.
    let status = document(&golive(&env, &["status", "hola", "-o", "json"]).await);
    assert_eq!(status["kind"], "StatusReport");
    assert_eq!(status["spec"]["state"], "Live", "{status}");
    assert_eq!(status["site"]["state"], "Live", "{status}");
    let list = document(&golive(&env, &["list", "-o", "json"]).await);
    assert_eq!(list["items"][0]["name"], "hola");
    golive(&env, &["list", "-l", "team=nobody"])
        .await
        .says(0, &["nothing found"]);
    golive(&env, &["history", "hola"])
        .await
        .says(0, &["1 *", "Succeeded"]);
    env.wait_event("hola", "GoLive").await;
    let events = document(&golive(&env, &["events", "hola", "-o", "json"]).await);
    let events = events["items"].as_array().unwrap();
    assert!(
        events.iter().any(|event| event["reason"] == "GoLive"),
        "{events:?}"
    );

    acts(&env).await;
}

/// The commands that change something.
async fn acts(env: &Env) {
    golive(
        env,
        &["suspend", "hola", "--reason", "migration", "--until", "2h"],
    )
    .await
    .says(0, &["hola is suspended until 2"]);
    let suspended = |status: &ActivationStatus| is(status, "Suspended", "True");
    let status = env.wait("hola", "the suspension", suspended).await;
    assert!(message(&status, "Suspended").contains("migration"));
    golive(env, &["retry", "hola"])
        .await
        .says(1, &["kubectl golive resume hola"]);
    golive(env, &["resume", "hola"])
        .await
        .says(0, &["is resumed"]);
    env.wait_live("hola").await;
    golive(env, &["resume", "hola"])
        .await
        .says(0, &["is not suspended"]);
    let resumed = |status: &ActivationStatus| is(status, "Suspended", "False");
    env.wait("hola", "the end of the suspension", resumed).await;
    golive(env, &["retry", "hola", "--from", "SmokeTest"])
        .await
        .says(0, &["from SmokeTest on"]);
    env.wait("hola", "the retry", |status| {
        let handled = status.last_handled_retry.as_ref();
        handled.is_some_and(|token| token.starts_with("SmokeTest/"))
    })
    .await;
    golive(env, &["abort", "hola", "--yes"])
        .await
        .says(1, &["is live", "kubectl golive rollback hola"]);
    golive(env, &["rotate", "hola", "--yes"])
        .await
        .says(1, &["has no generated secrets"]);
    golive(env, &["forget", "hola", "--yes"])
        .await
        .says(1, &["is not being deleted", "delete activation hola"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_what_is_missing_and_what_to_do() {
    let env = Env::without_operator(options()).await;
    env.activation("hola", json!({})).await;

    let nobody = ["--as", "nobody@example.org", "--as-group", "guests"];
    let with = |args: &[&'static str]| [args, &nobody].concat();
    let grant = "--clusterrole=activation-view --user=nobody@example.org";
    golive(&env, &with(&["list"]))
        .await
        .says(1, &["The role activation-view is missing", grant]);
    golive(&env, &with(&["status", "hola"]))
        .await
        .says(1, &["create rolebinding activation-view", grant]);
    golive(&env, &with(&["watch", "hola"]))
        .await
        .says(1, &[grant]);
    golive(&env, &with(&["retry", "hola"]))
        .await
        .says(1, &[grant]);
    let mut everywhere = command(&with(&["list", "-A"]));
    everywhere.env("KUBECONFIG", env.cluster.kubeconfig());
    ran(everywhere)
        .await
        .says(1, &["create clusterrolebinding activation-view", grant]);
    for asked in ["status", "events"] {
        golive(&env, &[asked, "nowhere"])
            .await
            .says(1, &["there is no Activation nowhere", "list -A"]);
    }
    golive(&env, &["approve", "hola", "--yes"])
        .await
        .says(1, &["has not observed the current spec"]);
    golive(&env, &["wait", "hola", "--timeout", "1s"])
        .await
        .says(5, &["not observed this spec", "not reached within 1 s"]);
    golive(&env, &["wait", "hola", "--for", "integrations"])
        .await
        .says(1, &["use --for live"]);

    let version = document(&golive(&env, &["version", "-o", "json"]).await);
    let definitions = version["definitions"].as_array().unwrap();
    assert_eq!(definitions.len(), 2);
    for definition in definitions {
        assert_eq!(definition["missing"], json!([]), "{definition}");
        assert_eq!(definition["unknown"], json!([]), "{definition}");
    }

    // kubectl's own completion asks like this.
    let mut complete = command(&["__complete", "--", "status", "-n", &env.namespace, "ho"]);
    complete.env("KUBECONFIG", env.cluster.kubeconfig());
    assert_eq!(ran(complete).await.says(0, &[]), "hola\n:4\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_a_line_for_each_change_and_ends_when_nobody_reads_it() {
    let env = Env::without_operator(options()).await;
    env.activation("hola", json!({})).await;
    let mut command = command(&["watch", "hola", "--namespace", &env.namespace]);
    command
        .env("KUBECONFIG", env.cluster.kubeconfig())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut watch = Guarded::spawn(&mut command);
    let mut lines = BufReader::new(watch.child().stdout.take().unwrap()).lines();
    let first = tokio::task::spawn_blocking(move || {
        let first = lines.next().unwrap().unwrap();
        (first, lines)
    });
    let (first, lines) = tokio::time::timeout(LIMIT, first).await.unwrap().unwrap();
    assert!(first.contains("/hola Pending spec=NotObserved"), "{first}");

    // A change is another line, and nobody reads it.
    drop(lines);
    let activations = env.activations();
    let deleted = activations.delete("hola", &DeleteParams::default()).await;
    deleted.unwrap();
    let end = Instant::now() + LIMIT;
    let code = loop {
        if let Some(ended) = watch.child().try_wait().unwrap() {
            break ended.code();
        }
        assert!(Instant::now() < end, "it still watches");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut said = String::new();
    let mut errors = watch.child().stderr.take().unwrap();
    errors.read_to_string(&mut said).unwrap();
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_terminated_ends_as_by_ctrl_c() {
    let env = Env::without_operator(options()).await;
    env.activation("hola", json!({})).await;
    let mut command = command(&["watch", "hola", "--namespace", &env.namespace]);
    command
        .env("KUBECONFIG", env.cluster.kubeconfig())
        .stdout(Stdio::piped());
    let mut watch = Guarded::spawn(&mut command);
    let mut lines = BufReader::new(watch.child().stdout.take().unwrap()).lines();
    // It waits for signals once it has shown something.
    let first = tokio::task::spawn_blocking(move || (lines.next().unwrap().unwrap(), lines));
    let (first, _lines) = tokio::time::timeout(LIMIT, first).await.unwrap().unwrap();
    assert!(first.contains("/hola "), "{first}");
    let id = watch.id().to_string();
    let sent = Command::new("sh")
        .args(["-c", "kill -TERM \"$1\"", "kill", &id])
        .status();
    assert!(sent.unwrap().success());
    let end = Instant::now() + LIMIT;
    let code = loop {
        if let Some(ended) = watch.child().try_wait().unwrap() {
            break ended.code();
        }
        assert!(Instant::now() < end, "it still watches");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(code, Some(0));
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&["explain"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn each_shell_gets_a_script_and_a_misspelt_reason_a_proposal() {
    for (shell, part) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef kubectl-golive"),
        ("fish", "complete -c kubectl-golive"),
        ("powershell", "Register-ArgumentCompleter"),
        ("kubectl", "exec kubectl-golive __complete"),
    ] {
        let output = command(&["completion", shell]).output().unwrap();
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(script.contains(part), "{shell}: {script}");
    }
    let output = command(&["explain", "NotHelthy"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("did you mean NotHealthy?"), "{said}");
}

/// Every command of the page exists, and every command is on the page.
#[test]
fn the_page_lists_every_command() {
    let page = std::fs::read_to_string(root().join("docs/kubectl-golive.md")).unwrap();
    let help = command(&["--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let commands = help
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("Options:")
        .next()
        .unwrap();
    let names: Vec<&str> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("`{name}")),
            "{name} is not in docs/kubectl-golive.md"
        );
    }
}
