//! The operator as a process: it starts, leads, answers probes, and stops in good order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube_env::ControlPlane;
use kube_env::process::{Process, Spec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nothing that must happen takes longer.
const LIMIT: Duration = Duration::from_secs(60);

async fn start(namespace: &str, log: PathBuf) -> Process {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    cluster.apply_paths([root.join("crds")]).await.unwrap();
    // No activation is in the namespace, so no call goes to this address, where nobody listens.
    let nobody = "http://127.0.0.1:9";
    let spec = Spec::new("golive", env!("CARGO_BIN_EXE_golive"), log)
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["--listen=127.0.0.1:0", "--log-format=text"])
        .arg(format!("--namespace={namespace}"))
        .arg(format!("--own-namespace={namespace}"))
        .arg(format!("--fly-machines-url={nobody}"))
        .arg(format!("--fly-api-url={nobody}"))
        .arg(format!("--fly-uiex-url={nobody}"))
        .arg(format!("--fly-registry-url={nobody}"))
        .stop_with("TERM", Duration::from_secs(30));
    spec.spawn().unwrap()
}

/// Waits until the process leads and has filled its caches, as its own probes tell.
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
        "asked to stop",
        "no change is begun any more",
        "gave the lease back",
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
async fn the_next_process_leads_at_once_after_one_that_stopped_in_good_order() {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let namespace = cluster.create_namespace("process").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut first = start(&namespace, folder.path().join("first.log")).await;
    wait_until_ready(&mut first).await;
    let mut second = start(&namespace, folder.path().join("second.log")).await;
    second.wait_for_line("standing by", LIMIT).await.unwrap();
    first.stop();
    assert!(first.output().unwrap().contains("gave the lease back"));
    let since = std::time::Instant::now();
    second.wait_for_line("leading", LIMIT).await.unwrap();
    // A lease that was not given back would have to run out first.
    assert!(
        since.elapsed() < golive::leader::LEASE_DURATION,
        "{:?}",
        since.elapsed()
    );
}
