//! The operator as a process: it starts, leads, answers probes, and stops in good order.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use fly_sim::Point;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube_env::ControlPlane;
use kube_env::process::{Process, Spec};
use kube_env::proxy::Proxy;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::crash;
use crate::support::env::Env;
use crate::support::trouble::{CREATE_MACHINE, options, pause_at, until};

/// Longest time that a test waits.
const LIMIT: Duration = Duration::from_secs(60);

async fn start(namespace: &str, log: PathBuf) -> Process {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    cluster.apply_paths([root.join("crds")]).await.unwrap();
    // There is no Activation in the namespace, so nothing is sent to this address.
    let nobody = "http://127.0.0.1:9";
    let spec = Spec::new("golive", env!("CARGO_BIN_EXE_golive"), log)
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["run", "--listen=127.0.0.1:0", "--log-format=text"])
        .arg(format!("--namespace={namespace}"))
        .arg(format!("--own-namespace={namespace}"))
        .arg(format!("--fly-machines-url={nobody}"))
        .arg(format!("--fly-api-url={nobody}"))
        .arg(format!("--fly-uiex-url={nobody}"))
        .arg(format!("--fly-registry-url={nobody}"))
        .stop_with("TERM", Duration::from_secs(30));
    spec.spawn().unwrap()
}

/// Waits until the process leads and has filled its caches, by its own probes.
async fn wait_until_ready(golive: &mut Process) {
    let line = golive
        .wait_for_line("serving /healthz", LIMIT)
        .await
        .unwrap();
    let address = line.rsplit_once("address=").unwrap().1.to_owned();
    let ready = async {
        let leads = "leader_election_master_status{name=\"golive\"} 1";
        while !ask(&address, "/metrics").await.contains(leads) {}
        while !ask(&address, "/readyz").await.starts_with("HTTP/1.0 200") {}
    };
    let ready = tokio::time::timeout(LIMIT, ready).await;
    ready.unwrap_or_else(|_| panic!("not ready: {}", golive.output().unwrap()));
}

async fn ask(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: golive\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_process_that_is_asked_to_stop_gives_the_lease_back_and_says_so() {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let namespace = cluster.create_namespace("process").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut golive = start(&namespace, folder.path().join("golive.log")).await;
    wait_until_ready(&mut golive).await;
    let leases: Api<Lease> = Api::namespaced(cluster.client().unwrap(), &namespace);
    let held = leases.get("golive").await.unwrap().spec.unwrap();
    assert_ne!(held.holder_identity.unwrap_or_default(), "");

    golive.stop();

    let output = golive.output().unwrap();
    let order = [
        "received a signal to stop",
        "no further change is made",
        "released the lease",
    ];
    let places = order.map(|line| {
        output
            .find(line)
            .unwrap_or_else(|| panic!("{line}: {output}"))
    });
    assert!(places.is_sorted(), "{output}");
    assert!(output.trim_end().ends_with("INFO stopped"), "{output}");
    let freed = leases.get("golive").await.unwrap().spec.unwrap();
    assert_eq!(freed.holder_identity.unwrap_or_default(), "");
}

#[tokio::test]
async fn a_process_that_is_asked_to_stop_as_soon_as_it_leads_gives_the_lease_back_at_once() {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let leases =
        |namespace: &str| -> Api<Lease> { Api::namespaced(cluster.client().unwrap(), namespace) };
    // The caches are filled in these moments, which differ a little each time.
    for _ in 0..4 {
        let namespace = cluster.create_namespace("process").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut golive = start(&namespace, folder.path().join("golive.log")).await;
        golive.wait_for_line("leading", LIMIT).await.unwrap();
        let since = std::time::Instant::now();

        golive.stop();

        let output = golive.output().unwrap();
        // Less than the grace period, after which work is cut off with another exit code.
        assert!(since.elapsed() < Duration::from_secs(30), "{output}");
        assert!(output.contains("released the lease"), "{output}");
        assert!(output.trim_end().ends_with("INFO stopped"), "{output}");
        let freed = leases(&namespace)
            .get("golive")
            .await
            .unwrap()
            .spec
            .unwrap();
        assert_eq!(freed.holder_identity.unwrap_or_default(), "");
    }
}

#[tokio::test]
async fn the_next_process_leads_at_once_after_one_that_stopped_in_good_order() {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let namespace = cluster.create_namespace("process").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut first = start(&namespace, folder.path().join("first.log")).await;
    wait_until_ready(&mut first).await;
    let mut second = start(&namespace, folder.path().join("second.log")).await;
    second.wait_for_line("standing by", LIMIT).await.unwrap();
    first.stop();
    assert!(first.output().unwrap().contains("released the lease"));
    let since = std::time::Instant::now();
    second.wait_for_line("leading", LIMIT).await.unwrap();
    // A lease that was not released would have to expire first.
    assert!(
        since.elapsed() < golive::process::leader::LEASE_DURATION,
        "{:?}",
        since.elapsed()
    );
}

/// The operator of this world as a process that is elected first.
fn elected(env: &Env) -> Process {
    elected_with(env, env.log(), env.cluster.kubeconfig())
}

/// The same, with its output in this file, and the rights of this configuration.
fn elected_with(env: &Env, log: PathBuf, kubeconfig: &Path) -> Process {
    let flags = env.flags(&[]).into_iter();
    let flags = flags.map(|flag| flag.replace("--leader-elect=false", "--leader-elect=true"));
    let spec = Spec::new("golive", env!("CARGO_BIN_EXE_golive"), log)
        .env("KUBECONFIG", kubeconfig)
        .args(["run", "--log-format=text"])
        .args(flags)
        .stop_with("TERM", LIMIT);
    spec.spawn().unwrap()
}

async fn holder(env: &Env) -> String {
    let leases: Api<Lease> = Api::namespaced(env.kube.clone(), &env.namespace);
    let spec = leases.get("golive").await.unwrap().spec.unwrap();
    spec.holder_identity.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_at_sigterm_is_finished_and_no_change_begins_after_it() {
    let env = Env::without_operator(options()).await;
    let mut pause = pause_at(&env, CREATE_MACHINE, Point::BeforeApply);
    let mut golive = elected(&env);
    env.activation("hola", json!({})).await;
    pause.reached().await;
    // The concurrent calls have been sent as well: a change in flight at SIGTERM would otherwise count
    // as begun after it.
    let creates = || env.sim.calls(CREATE_MACHINE) == 2;
    until("the other create", creates).await;
    let recorded = || env.sim.calls("POST /api/v1/releases") == 1;
    until("the release at Fly.io", recorded).await;

    let ending = tokio::task::spawn_blocking(move || {
        golive.stop();
        golive
    });
    let said = || {
        let log = std::fs::read_to_string(env.log()).unwrap_or_default();
        log.contains("no further change is made")
    };
    until("the word that it stops", said).await;
    let begun = env.sim.mutations();
    assert!(!ending.is_finished(), "it did not wait for its call");
    pause.resume();
    let golive = ending.await.unwrap();

    let calls = env.sim.call_list();
    assert_eq!(env.sim.mutations(), begun, "a change began after that");
    let changes: Vec<_> = calls.iter().filter(|c| c.mutation.is_some()).collect();
    assert!(
        changes.iter().all(|call| call.status.is_some()),
        "cut off: {changes:?}"
    );
    let made = env.sim.machines("hola-cabanas").len();
    assert_eq!(u64::try_from(made).unwrap(), env.sim.calls(CREATE_MACHINE));
    assert!(made >= 1, "the held one was carried out");
    let output = golive.output().unwrap();
    assert!(output.contains("released the lease"), "{output}");
    assert!(output.trim_end().ends_with("INFO stopped"), "{output}");
    assert_eq!(holder(&env).await, "");

    // The next process continues from there.
    let mut next = elected(&env);
    env.wait_live("hola").await;
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
    crash::never_two(&env.sim).unwrap();
    tokio::task::spawn_blocking(move || next.stop())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_loses_the_lease_ends_at_once_though_a_call_is_under_way() {
    let env = Env::without_operator(options()).await;
    let mut pause = pause_at(&env, CREATE_MACHINE, Point::BeforeApply);
    let mut golive = elected(&env);
    env.activation("hola", json!({})).await;
    pause.reached().await;
    let leases: Api<Lease> = Api::namespaced(env.kube.clone(), &env.namespace);
    let taken = Patch::Merge(json!({"spec": {"holderIdentity": "somebody"}}));

    leases
        .patch("golive", &PatchParams::default(), &taken)
        .await
        .unwrap();

    let output = ended(&mut golive).await;
    assert!(output.contains("leadership is lost"), "{output}");
    assert!(output.contains("exit_code=3"), "{output}");
    assert!(!output.contains("released the lease"), "{output}");
    assert_eq!(holder(&env).await, "somebody");
}

/// Waits until the process has ended, and returns its output.
async fn ended(golive: &mut Process) -> String {
    let end = std::time::Instant::now() + LIMIT;
    while golive.exited().is_none() {
        assert!(
            std::time::Instant::now() < end,
            "{}",
            golive.output().unwrap()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    golive.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_alone_cannot_reach_the_api_server_ends_and_the_next_one_goes_on() {
    let env = Env::without_operator(options()).await;
    let proxy = Proxy::start(&env.cluster).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let through_proxy = folder.path().join("kubeconfig");
    let rights = proxy.config(env.cluster.config());
    let token = rights
        .auth_info
        .token
        .as_ref()
        .map(ExposeSecret::expose_secret);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {"server": rights.cluster_url.to_string()}}],
        "users": [{"name": "proxy", "user": {"token": token}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
    });
    std::fs::write(&through_proxy, config.to_string()).unwrap();
    let mut pause = pause_at(&env, CREATE_MACHINE, Point::BeforeApply);
    let first_log = folder.path().join("first.log");
    let mut first = elected_with(&env, first_log, &through_proxy);
    env.activation("hola", json!({})).await;
    let reached = tokio::time::timeout(LIMIT, pause.reached()).await;
    assert!(reached.is_ok(), "{}", first.output().unwrap());

    // A change is under way when the API server is out of its reach, and of nobody else's.
    proxy.freeze(true);
    let mut next = elected(&env);
    let output = ended(&mut first).await;
    assert!(output.contains("leadership is lost"), "{output}");
    assert!(output.contains("exit_code=3"), "{output}");
    pause.resume();

    env.wait_live("hola").await;
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
    crash::never_two(&env.sim).unwrap();
    tokio::task::spawn_blocking(move || next.stop())
        .await
        .unwrap();
}

/// Without a subcommand nothing starts on the cluster of the current kubeconfig.
#[test]
fn the_program_alone_starts_no_operator_and_names_the_subcommand_that_does() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_golive"))
        .env("KUBECONFIG", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let help = String::from_utf8(output.stderr).unwrap();
    let names = |command: &str| {
        let mut lines = help.lines().map(str::trim_start);
        lines.any(|line| line.split(' ').next() == Some(command))
    };
    for command in ["run", "crd", "generate"] {
        assert!(names(command), "{command} is not in\n{help}");
    }
}
