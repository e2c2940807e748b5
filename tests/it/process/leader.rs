//! One leader at a time, on a real API server.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::time::{Duration, Instant};

use golive::clock;
use golive::clock::ServerClock;
use golive::process::kube_client::Connection;
use golive::process::leader::{Candidate, Election, Lost, Term, thread};
use golive::process::metrics::Metrics;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use kube_env::ControlPlane;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Shorter than in production, and long enough for a busy computer.
const LEASE: Duration = Duration::from_secs(10);

/// Longest time that a test waits.
const LIMIT: Duration = Duration::from_secs(90);

fn election(namespace: &str, identity: &str) -> Election {
    Election {
        namespace: namespace.into(),
        name: "golive".into(),
        identity: identity.into(),
        lease_duration: LEASE,
        renew_deadline: Duration::from_secs(8),
        retry_period: Duration::from_millis(200),
        now: clock::wall,
    }
}

async fn place() -> (Client, String) {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let namespace = cluster.create_namespace("leader").await.unwrap();
    (cluster.client().unwrap(), namespace)
}

async fn acquire(kube: Client, namespace: &str, identity: &str) -> Term {
    let candidate = Candidate::new(kube, election(namespace, identity));
    let never = CancellationToken::new();
    let term = tokio::time::timeout(LIMIT, candidate.acquire(&never)).await;
    term.expect("no leader in time").expect("shut down")
}

/// Waits until the lease satisfies `wanted`.
async fn wait_for(api: &Api<Lease>, wanted: impl Fn(&Lease) -> bool) -> Lease {
    let found = async {
        loop {
            if let Ok(lease) = api.get("golive").await
                && wanted(&lease)
            {
                return lease;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, found)
        .await
        .expect("the lease did not become as wanted")
}

fn holder(lease: &Lease) -> String {
    let spec = lease.spec.clone().unwrap_or_default();
    spec.holder_identity.unwrap_or_default()
}

fn renewed(lease: &Lease) -> Option<jiff::Timestamp> {
    Some(lease.spec.clone()?.renew_time?.0)
}

#[tokio::test]
async fn of_many_candidates_one_leads_and_the_next_follows_a_release_at_once() {
    let (kube, namespace) = place().await;
    let mut candidates = JoinSet::new();
    for i in 0..5 {
        let kube = kube.clone();
        let namespace = namespace.clone();
        candidates.spawn(async move { acquire(kube, &namespace, &format!("pod-{i}")).await });
    }
    let first = candidates.join_next().await.unwrap().unwrap();
    assert!(first.leader().permit().is_ok());

    // Longer than a lease: no other candidate gets it while it is renewed.
    let second = tokio::time::timeout(LEASE + LEASE / 2, candidates.join_next()).await;
    assert!(second.is_err(), "two leaders at once");
    assert!(first.leader().permit().is_ok());

    let leader = first.leader();
    first.release().await;
    let released = Instant::now();
    assert!(
        leader.permit().is_err(),
        "who released the lease leads no more"
    );
    let second = candidates.join_next().await.unwrap().unwrap();
    assert!(
        released.elapsed() < LEASE,
        "a release is followed by the next leader, not by a whole lease"
    );
    assert!(second.leader().permit().is_ok());
}

/// A computation of the operator that takes longer than a lease: its runtime does nothing else.
#[tokio::test]
async fn a_lease_is_renewed_while_the_runtime_that_works_is_held_up() {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let namespace = cluster.create_namespace("leader").await.unwrap();
    let connection = Connection::new(
        cluster.config(),
        &Metrics::new(),
        &ServerClock::of_kubernetes(),
    );
    let mut election = election(&namespace, "busy");
    (election.lease_duration, election.renew_deadline) =
        (Duration::from_secs(3), Duration::from_secs(2));
    let never = CancellationToken::new();
    let elected = thread::elect(move || connection.client(), election, never);
    let elected = tokio::time::timeout(LIMIT, elected).await.unwrap();
    let mut term = elected.unwrap().expect("it leads");
    let leader = term.leader();

    // The runtime of this test has one thread, which computes.
    let start = Instant::now();
    let mut led = true;
    while start.elapsed() < Duration::from_secs(9) {
        led &= std::hint::black_box(leader.permit().is_ok());
        std::thread::park_timeout(Duration::from_millis(20));
    }

    assert!(led, "the lease was not renewed in time");
    let lost = tokio::time::timeout(Duration::from_millis(1), term.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    term.release().await;
    assert!(leader.permit().is_err(), "released, and still leading");
    let api: Api<Lease> = Api::namespaced(cluster.client().unwrap(), &namespace);
    assert_eq!(holder(&api.get("golive").await.unwrap()), "");
}

/// The effect of SIGSTOP and SIGCONT on a leader: it does not run while time passes.
#[tokio::test]
async fn a_leader_that_stood_still_finds_the_door_closed_when_it_wakes_up() {
    let (kube, namespace) = place().await;
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let (wake, woken) = std::sync::mpsc::channel::<()>();
    let (said, leads) = tokio::sync::oneshot::channel::<()>();
    let zombie = {
        let namespace = namespace.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            let mut term = runtime
                .block_on(async { acquire(cluster.client().unwrap(), &namespace, "zombie").await });
            said.send(()).unwrap();
            // The runtime is not driven here: the process is suspended.
            woken.recv().unwrap();
            let permit = term.leader().permit();
            let remaining = term.leader().remaining();
            let lost = runtime.block_on(async { tokio::time::timeout(LIMIT, term.lost()).await });
            (permit, remaining, lost.unwrap())
        })
    };
    leads.await.unwrap();

    let next = acquire(kube.clone(), &namespace, "next").await;
    wake.send(()).unwrap();
    let (permit, remaining, lost) = zombie.join().unwrap();

    assert!(permit.is_err(), "closed before it could learn why");
    assert_eq!(remaining, Duration::ZERO);
    assert!(
        matches!(lost, Lost::NotRenewed { .. } | Lost::Taken { .. }),
        "{lost}"
    );
    assert!(next.leader().permit().is_ok());
    let api: Api<Lease> = Api::namespaced(kube, &namespace);
    assert_eq!(holder(&api.get("golive").await.unwrap()), "next");
}

#[tokio::test]
async fn a_lease_edited_or_deleted_by_hand_stays_with_its_leader() {
    let (kube, namespace) = place().await;
    let term = acquire(kube.clone(), &namespace, "pod-a").await;
    let api: Api<Lease> = Api::namespaced(kube, &namespace);
    let before = api.get("golive").await.unwrap();

    let note = json!({"metadata": {"annotations": {"example.com/note": "by hand"}}});
    api.patch("golive", &PatchParams::default(), &Patch::Merge(note))
        .await
        .unwrap();
    let after = wait_for(&api, |lease| renewed(lease) > renewed(&before)).await;
    let annotations = after.metadata.annotations.clone().unwrap();
    assert_eq!(annotations["example.com/note"], "by hand");
    assert_eq!(holder(&after), "pod-a");

    let emptied = json!({"spec": {"holderIdentity": ""}});
    api.patch("golive", &PatchParams::default(), &Patch::Merge(emptied))
        .await
        .unwrap();
    wait_for(&api, |lease| holder(lease) == "pod-a").await;

    api.delete("golive", &DeleteParams::default())
        .await
        .unwrap();
    let created = wait_for(&api, |lease| holder(lease) == "pod-a").await;
    assert_ne!(created.metadata.uid, before.metadata.uid);
    assert!(term.leader().permit().is_ok());
}

#[tokio::test]
async fn a_lease_given_to_another_by_hand_ends_the_term() {
    let (kube, namespace) = place().await;
    let mut term = acquire(kube.clone(), &namespace, "pod-a").await;
    let api: Api<Lease> = Api::namespaced(kube, &namespace);
    let taken = json!({"spec": {"holderIdentity": "somebody"}});
    api.patch("golive", &PatchParams::default(), &Patch::Merge(taken))
        .await
        .unwrap();

    let lost = tokio::time::timeout(LIMIT, term.lost()).await.unwrap();

    let holder = "somebody".to_owned();
    assert_eq!(lost, Lost::Taken { holder });
    assert!(term.leader().permit().is_err());
    // A lease of another holder is not released.
    term.release().await;
    assert_eq!(self::holder(&api.get("golive").await.unwrap()), "somebody");
}

#[tokio::test]
async fn a_leader_that_may_not_renew_any_more_gives_up_before_the_lease_runs_out() {
    let cluster = ControlPlane::shared().await.unwrap().cluster();
    let namespace = cluster.create_namespace("leader").await.unwrap();
    let rights = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\n\
         kind: Role\n\
         metadata: {{name: leases, namespace: {namespace}}}\n\
         rules: [{{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}}]\n\
         ---\n\
         apiVersion: rbac.authorization.k8s.io/v1\n\
         kind: RoleBinding\n\
         metadata: {{name: leases, namespace: {namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: leases}}\n\
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {namespace}}}]\n"
    );
    cluster.apply(&rights).await.unwrap();
    let limited = cluster.client_impersonating(&namespace, &[]).unwrap();
    let mut term = acquire(limited, &namespace, "pod-a").await;
    let bindings: Api<RoleBinding> = Api::namespaced(cluster.client().unwrap(), &namespace);
    bindings
        .delete("leases", &DeleteParams::default())
        .await
        .unwrap();

    let lost = tokio::time::timeout(LIMIT, term.lost()).await.unwrap();

    match lost {
        Lost::NotRenewed { last, .. } => assert!(last.contains("forbidden"), "{last}"),
        other => panic!("{other}"),
    }
    assert!(term.leader().permit().is_err());
}
