//! Fly.io answers wrongly: stale or empty lists, requests that arrive twice, writes without effect,
//! slow machines, a token that is revoked. Each ends in the same state as without the fault, with
//! nothing twice (O1) and nothing left behind (O2).

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::{Fault, Kind};
use serde_json::{Value, json};

use crate::support::trouble::{
    CREATE_MACHINE, deploy, faulted, recovered, stopped, until, warnings, world,
};
use crate::support::{
    crash,
    env::{Env, is, merge},
};

const LIST: &str = "GET /v1/apps/{app}/machines";
const ADDRESS: &str = "POST /v1/apps/{app}/ip_assignments";
const SECRETS: &str = "POST /v1/apps/{app}/secrets";

fn with(more: Value) -> Value {
    let mut spec = json!({"deletionPolicy": {
        "app": "Delete", "database": "Delete", "redis": "Delete", "secrets": "Delete",
    }});
    merge(&mut spec, more);
    spec
}

fn creates(env: &Env) -> u64 {
    env.sim.calls(CREATE_MACHINE)
}

/// Deletes the object: nothing is left, and there were never two of a kind.
async fn leaves_nothing(env: &Env) {
    env.sim.clear_faults();
    env.delete("hola").await;
    crash::never_two(&env.sim).unwrap();
    crash::nothing_left(env).await.unwrap();
}

/// Waits until the other image is live.
async fn until_live(env: &Env, tag: &str) {
    let wanted = format!(":{tag}");
    env.wait("hola", tag, |status| {
        is(status, "Live", "True")
            && status
                .release
                .as_ref()
                .is_some_and(|release| release.image.ends_with(&wanted))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_created_because_a_list_was_empty_while_ids_are_on_record() {
    let mut env = world(&["--recheck-interval", "1s"]).await;
    env.activation("hola", with(json!({}))).await;
    recovered(&env, "hola").await;
    env.sim.reset();
    env.sim.fault(Fault::new(LIST, Kind::EmptyList).always());
    let addresses = "GET /v1/apps/{app}/ip_assignments";
    env.sim.fault(Fault::new(addresses, Kind::EmptyList).nth(1));

    // In the process that created them, in a new one that knows only the status, and in the middle of
    // an update.
    until("empty lists", || faulted(&env) >= 3).await;
    assert_eq!(creates(&env), 0, "{:?}", env.sim.call_counts());
    env.stop_operator().await;
    let before = faulted(&env);
    env.start_operator(&["--recheck-interval", "1s"]).await;
    until("empty lists", || faulted(&env) >= before + 3).await;
    assert_eq!(creates(&env), 0, "{:?}", env.sim.call_counts());
    // A re-check reads the addresses one by one only when the overview shows a difference.
    until("the addresses again", || env.sim.calls(addresses) >= 2).await;
    assert_eq!(env.sim.calls(ADDRESS), 0, "{:?}", env.sim.call_counts());
    deploy(&env, "hola", "again").await;
    until_live(&env, "again").await;

    assert_eq!(creates(&env), 0, "{:?}", env.sim.call_counts());
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
    leaves_nothing(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_lag_and_machines_that_are_not_found_at_first_make_no_second_machine() {
    let env = world(&[]).await;
    let stale = Kind::StaleList { mutations: 2 };
    env.sim.fault(Fault::new(LIST, stale).always());
    let missing = Kind::NotFoundAfterCreate { for_ms: 1_500 };
    let read = "GET /v1/apps/{app}/machines/{id}";
    env.sim.fault(Fault::new(read, missing).always());
    env.activation("hola", with(json!({}))).await;

    until("two machines", || {
        env.sim.machines("hola-cabanas").len() == 2
    })
    .await;
    until("lists that lag", || faulted(&env) >= 4).await;
    env.sim.clear_faults();
    recovered(&env, "hola").await;

    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
    leaves_nothing(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_whose_answer_is_lost_is_not_asked_for_again_because_another_was_refused() {
    let mut env = world(&["--settle", "60s"]).await;
    env.sim.fault(Fault::new(ADDRESS, Kind::ResetAfter).nth(1));
    env.sim.fault(Fault::new(ADDRESS, Kind::status(422)).nth(2));
    let listed = "GET /v1/apps/{app}/ip_assignments";
    env.sim.fault(Fault::new(listed, Kind::EmptyList).always());
    let own = json!({"provision": {"addresses": {"v4": true}}});
    env.activation("hola", with(own)).await;

    env.wait("hola", "a look before another try", |status| {
        let message = crate::support::deploy::step(status, "Addresses").2;
        message.contains("Address hola-cabanas is unknown; looking again")
    })
    .await;
    let mut intents = env.status("hola").await.intents.into_iter();
    let intent = intents.find(|intent| intent.slot.starts_with("Addresses/"));
    assert_eq!(intent.unwrap().slot, "Addresses/Address/hola-cabanas");
    assert_eq!(
        env.sim.calls(ADDRESS),
        2,
        "nothing is sent before it settles"
    );
    env.stop_operator().await;
    env.sim.clear_faults();
    env.start_operator(&[]).await;
    recovered(&env, "hola").await;
    assert_eq!(
        env.sim.calls(ADDRESS),
        3,
        "only what was refused is asked for again"
    );
    leaves_nothing(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_arrive_twice_make_nothing_twice() {
    let env = world(&[]).await;
    for endpoint in [
        "POST /v1/apps",
        CREATE_MACHINE,
        SECRETS,
        "POST /v1/apps/{app}/machines/{id}",
    ] {
        env.sim
            .fault(Fault::new(endpoint, Kind::Duplicated).always());
    }
    let secrets = json!({"provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}]}}});
    env.activation("hola", with(secrets)).await;
    recovered(&env, "hola").await;
    deploy(&env, "hola", "again").await;
    until_live(&env, "again").await;

    assert!(faulted(&env) >= 6, "{:?}", env.sim.call_counts());
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
    leaves_nothing(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_were_not_written_though_it_was_said_are_written_again_before_a_machine_starts()
 {
    let env = world(&[]).await;
    env.sim
        .fault(Fault::new(SECRETS, Kind::SecretWithoutEffect).occurrences(1..=2));
    let secrets = json!({"provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}]}}});
    env.activation("hola", with(secrets)).await;

    recovered(&env, "hola").await;

    assert!(env.sim.calls(SECRETS) >= 3, "{:?}", env.sim.call_counts());
    let ledger = env.sim.ledger();
    let first = |kind: &str| {
        ledger
            .iter()
            .find(|effect| effect.kind == kind)
            .map(|e| e.seq)
    };
    assert!(
        first("secrets.write") < first("machine.create"),
        "{ledger:?}"
    );
    let there = env.sim.core().read(|world| {
        let app = &world.apps["hola-cabanas"];
        app.platform.boot_secrets().contains_key("JWT_SECRET")
    });
    assert!(there);
    leaves_nothing(&env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_in_the_middle_stops_the_object_until_there_is_a_good_one() {
    let env = world(&["--token-patience", "1s"]).await;
    env.sim
        .fault(Fault::new(CREATE_MACHINE, Kind::RevokedToken));
    env.activation("hola", with(json!({}))).await;
    until("the revocation", || faulted(&env) > 0).await;
    env.sim.revoke(None);

    let status = stopped(&env, "hola", "TokenInvalid").await;

    assert!(status.go_live.is_none());
    let replaced = env.sim.token("cabanas").unwrap();
    env.sim.unrevoke(Some(&replaced));
    recovered(&env, "hola").await;
    assert_eq!(env.sim.machines("hola-cabanas").len(), 2);
    assert_eq!(warnings(&env, "hola").await, ["TokenInvalid"]);
    // A token of the app's own that was refused is replaced, and the ledger counts it as there
    // until its app goes; all else was made once.
    env.delete("hola").await;
    crash::nothing_left(&env).await.unwrap();
    let creates = env.sim.ledger().into_iter();
    let creates = creates.filter(|effect| effect.kind == "machine.create");
    assert_eq!(creates.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_boot_slowly_are_waited_for_and_not_replaced() {
    let env = world(&[]).await;
    let slow = Kind::SlowBoot { ms: 3_000 };
    let fault = Fault::new(CREATE_MACHINE, slow);
    env.sim.fault(fault.always());
    env.activation("hola", with(json!({}))).await;

    let status = recovered(&env, "hola").await;

    assert_eq!(creates(&env), 2);
    assert_eq!(status.history.len(), 1);
    assert!(warnings(&env, "hola").await.is_empty());
    leaves_nothing(&env).await;
}
