//! Deploy: how a release is made and replaced, and what happens when it fails.

use std::collections::BTreeSet;

use fly_sim::{Fault, Kind};
use golive::api::status::StepState;
use serde_json::{Value, json};

use crate::support::deploy::{
    APP, CREATE, LIST, QUIET, UPDATE, another_process_changes_nothing, change, deploy, deployed,
    digests, env, ids, image, machines, step, until, until_deployed,
};
use crate::support::env::Env;

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_deployed_recorded_and_then_costs_one_read_a_look() {
    let env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    let status = until_deployed(&env, "1").await;
    let release = status.release.unwrap();
    assert_eq!(digests(&env), [release.digest.clone()].into());
    assert_eq!(machines(&env).len(), 2);
    assert!(machines(&env).iter().all(|machine| machine.2 == "started"));
    assert_eq!(release.version, Some(1));
    assert_eq!(status.history.len(), 1);
    assert_eq!(env.sim.calls("POST /api/v1/releases"), 1);
    // flyctl continues from this record, so it must be a complete configuration.
    let (strategy, recorded) = env.sim.core().read(|world| {
        let release = world.apps[APP].platform.releases.last().unwrap();
        (release.strategy.clone(), release.definition.clone())
    });
    assert_eq!(
        (strategy.as_str(), &recorded["app"]),
        ("ROLLING", &json!(APP))
    );
    assert!(recorded["primary_region"].is_string(), "{recorded}");
    println!("first deployment: {:?}", env.sim.call_counts());

    env.sim.reset();
    env.wait("hola", "a re-check", |_| env.sim.calls(LIST) >= 2)
        .await;
    let counts = env.sim.call_counts();
    println!("re-checks: {counts:?}");
    // One re-check may be under way.
    assert!(
        counts.values().sum::<u64>() <= 3 * (env.sim.calls(LIST) + 1),
        "{counts:?}"
    );
    assert_eq!(env.sim.mutations(), 0);

    let before = ids(&env);
    change(&env, json!({"image": image("2")})).await;
    let status = until_deployed(&env, "2").await;
    assert_eq!(ids(&env), before, "machines are updated in place");
    assert_eq!(digests(&env), [status.release.unwrap().digest].into());
    assert_eq!(env.sim.calls(UPDATE), 2);
    assert_eq!(status.history.len(), 2);

    // Scaling up makes no new release and does not change the running machines.
    change(&env, json!({"scale": {"app": 3}})).await;
    env.wait("hola", "a third machine", |status| {
        deployed(status) && machines(&env).len() == 3
    })
    .await;
    change(&env, json!({"scale": {"app": 1}})).await;
    env.wait("hola", "one machine", |status| {
        deployed(status) && machines(&env).len() == 1
    })
    .await;
    assert_eq!(env.sim.calls(UPDATE), 2);
    assert_eq!(env.status("hola").await.history.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_release_command_runs_once_a_release_and_stops_it_when_it_fails() {
    let env = env().await;
    let command = |script: &str| format!("{QUIET}[deploy]\nrelease_command = \"-c '{script}'\"\n");
    let fails = command("echo migration 7 cannot be applied; exit 4");
    deploy(&env, "1", &fails, json!({})).await;
    let (_, message) = until(&env, "ReleaseCommand", "ReleaseCommandFailed").await;
    assert!(message.contains("exited with code 4"), "{message}");
    assert!(
        message.contains("migration 7 cannot be applied"),
        "{message}"
    );
    assert!(
        machines(&env).is_empty(),
        "no machine of the application was changed"
    );

    change(&env, json!({"config": {"inline": command("exit 0")}})).await;
    until_deployed(&env, "1").await;
    env.sim.reset();
    env.wait("hola", "re-checks", |_| env.sim.calls(LIST) >= 2)
        .await;
    assert_eq!(env.sim.calls(CREATE), 0, "it has run for this release");
    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    assert_eq!(env.sim.calls(CREATE), 1, "and runs once for the next");
}

/// Machines of the release command that were created so far.
fn commands(env: &Env) -> usize {
    let created = env.sim.ledger().into_iter();
    created
        .filter(|effect| effect.kind == "machine.create")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_one_empty_list_does_not_run_a_release_command_again() {
    let mut env = env().await;
    let command = format!("{QUIET}[deploy]\nrelease_command = \"-c 'exit 0'\"\n");
    // The command runs, and then no machine of the application can be created.
    env.sim
        .fault(Fault::new(CREATE, Kind::status(503)).occurrences(2..=u64::MAX));
    deploy(&env, "1", &command, json!({})).await;
    env.wait("hola", "the command has run", |status| {
        step(status, "ReleaseCommand").0 == StepState::Done && env.sim.calls(CREATE) >= 2
    })
    .await;
    assert_eq!(commands(&env), 1);

    env.kill_operator();
    env.sim.clear_faults();
    env.sim.reset();
    // Each list that the next process asks for first shows nothing.
    env.sim.fault(Fault::new(LIST, Kind::EmptyList).nth(1));
    env.sim.fault(Fault::new(LIST, Kind::EmptyList).nth(2));
    env.start_operator(&[]).await;
    until_deployed(&env, "1").await;
    assert_eq!(machines(&env).len(), 2);
    assert_eq!(env.sim.calls(CREATE), 2, "the machines of the application");
}

/// Waits until the operator has reconciled the object three times more.
async fn observed_again(env: &Env) {
    let passes = || {
        let metrics = env.metrics();
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("controller_runtime_reconcile_total{"));
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        counts.sum::<u64>()
    };
    let before = passes();
    env.wait("hola", "three passes", |_| passes() >= before + 3)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_release_command_runs_again_only_on_request_or_as_the_spec_says() {
    let mut env = env().await;
    let fails = format!("{QUIET}[deploy]\nrelease_command = \"-c 'exit 4'\"\n");
    deploy(&env, "1", &fails, json!({})).await;
    let (status, message) = until(&env, "ReleaseCommand", "ReleaseCommandFailed").await;
    assert!(
        message.contains("does not run it again by itself"),
        "{message}"
    );
    let next = status.next_action.unwrap_or_default();
    let request = format!(
        "kubectl -n {} annotate activation hola --overwrite golive.dev/retry=",
        env.namespace
    );
    assert!(
        next.contains("fix the migration") && next.contains(&request),
        "{next}"
    );
    observed_again(&env).await;
    assert_eq!(commands(&env), 1, "it has run once");

    // Neither does another process run it, nor one to which Fly.io shows no machine of it.
    env.stop_operator().await;
    env.sim.core().write(|world| {
        world.apps.get_mut(APP).unwrap().machines.clear();
    });
    env.start_operator(&[]).await;
    let (_, message) = until(&env, "ReleaseCommand", "ReleaseCommandFailed").await;
    assert!(message.contains("exited with code 4"), "{message}");
    observed_again(&env).await;
    assert_eq!(commands(&env), 1, "nor for another process");

    // A request runs it once.
    let retry = json!({"metadata": {"annotations": {"golive.dev/retry": "now"}}});
    env.patch("hola", retry).await;
    env.wait("hola", "another run", |_| commands(&env) == 2)
        .await;
    until(&env, "ReleaseCommand", "ReleaseCommandFailed").await;
    observed_again(&env).await;
    assert_eq!(commands(&env), 2, "once for each request");

    // The spec allows two more for a release.
    change(
        &env,
        json!({"image": image("2"), "releaseCommandRetries": 2}),
    )
    .await;
    env.wait("hola", "three runs", |_| commands(&env) == 5)
        .await;
    env.wait("hola", "the end of the retries", |status| {
        step(status, "ReleaseCommand")
            .2
            .contains("does not run it again by itself")
    })
    .await;
    observed_again(&env).await;
    assert_eq!(commands(&env), 5);
    assert!(machines(&env).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_command_runs_once_before_the_first_machine_and_never_again() {
    let env = env().await;
    let seed = |script: &str| format!("{QUIET}[deploy]\nseed_command = \"-c '{script}'\"\n");
    let fails = seed("echo no cabins to plant; exit 5");
    deploy(&env, "1", &fails, json!({"scale": {"app": 1}})).await;
    let (status, message) = until(&env, "SeedCommand", "ReleaseCommandFailed").await;
    assert!(
        message.contains("seed command exited with code 5"),
        "{message}"
    );
    assert!(message.contains("no cabins to plant"), "{message}");
    let [failed] = &status.history[..] else {
        panic!("it is on record: {:?}", status.history);
    };
    assert_eq!(failed.outcome.as_str(), "Failed");
    assert!(failed.why.contains("code 5"), "{failed:?}");
    assert!(machines(&env).is_empty(), "and no machine was made");

    change(&env, json!({"config": {"inline": seed("exit 0")}})).await;
    let status = until_deployed(&env, "1").await;
    let outcomes: Vec<_> = status.history.iter().map(|e| e.outcome.as_str()).collect();
    assert_eq!(outcomes, ["Succeeded"], "of the same release");
    env.sim.reset();
    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    assert_eq!(env.sim.calls(CREATE), 0, "it has run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_exits_is_told_at_once_and_recovers_when_it_is_mended() {
    let env = env().await;
    deploy(&env, "exits", QUIET, json!({})).await;
    let (_, message) = until(&env, "Health", "MachineExited").await;
    assert!(message.contains("exited with code 3"), "{message}");
    assert!(message.contains("no such table: cabins"), "{message}");
    // The release is judged when a second look shows the same.
    let status = env.wait("hola", "the failure", |status| {
        step(status, "Health").0 == StepState::Blocked
    });
    let message = step(&status.await, "Health").2;
    assert!(
        message.contains("no earlier release to go back to"),
        "{message}"
    );
    change(&env, json!({"image": image("1")})).await;
    until_deployed(&env, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_never_healthy_stops_the_release_until_it_is_mended() {
    let env = env().await;
    let check = "[checks.alive]\ntype = 'tcp'\nport = 9\ninterval = '5s'\ntimeout = '1s'\ngrace_period = '1s'\n[deploy]\nwait_timeout = '2s'\n";
    deploy(&env, "1", &format!("{QUIET}{check}"), json!({})).await;
    let (_, message) = until(&env, "Health", "NotHealthy").await;
    assert!(message.contains("alive"), "{message}");
    env.wait("hola", "the failure", |status| {
        step(status, "Health").0 == StepState::Blocked
    })
    .await;
    change(&env, json!({"config": {"inline": QUIET}})).await;
    until_deployed(&env, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_release_is_rolled_back_once_and_held_until_the_spec_changes() {
    let mut env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    let good = until_deployed(&env, "1").await.release.unwrap();
    change(&env, json!({"image": image("exits")})).await;
    let (status, message) = until(&env, "Release", "RolledBack").await;
    assert!(message.contains("exited with code 3"), "{message}");
    assert_eq!(status.release.unwrap().digest, good.digest);
    assert_eq!(status.history[0].outcome.as_str(), "RolledBack");
    assert_eq!(digests(&env), [good.digest.clone()].into());
    assert!(machines(&env).iter().all(|machine| machine.2 == "started"));
    let counted = "golive_rollbacks_total{trigger=\"failure\",result=\"success\"} 1";
    env.wait("hola", "the rollback is counted", |_| {
        env.metrics().contains(counted)
    })
    .await;
    env.wait_event("hola", "RollbackStarted").await;
    env.wait_event("hola", "RollbackSucceeded").await;
    // Only the first machine was updated, and rolled back.
    assert_eq!(env.sim.calls(UPDATE), 2);

    // A new process holds it as well.
    another_process_changes_nothing(&mut env).await;
    assert_eq!(digests(&env), [good.digest].into());

    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_irreversible_migration_is_not_rolled_back() {
    let env = env().await;
    let toml = format!("{QUIET}[deploy]\nrelease_command = \"-c 'exit 0'\"\n");
    deploy(&env, "1", &toml, json!({})).await;
    until_deployed(&env, "1").await;
    change(&env, json!({"image": image("exits")})).await;
    let (_, message) = until(&env, "Machines", "RollbackHeld").await;
    assert!(message.contains("migrations.reversible"), "{message}");
    assert_eq!(digests(&env).len(), 2, "nothing went back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_fly_takes_back_silently_is_found_and_repeated() {
    let env = env().await;
    deploy(&env, "1", QUIET, json!({})).await;
    until_deployed(&env, "1").await;
    env.sim.fault(Fault::new(UPDATE, Kind::SilentRevert).nth(1));
    change(&env, json!({"image": image("2")})).await;
    let release = until_deployed(&env, "2").await.release.unwrap();
    env.wait("hola", "all machines updated", |_| {
        digests(&env) == [release.digest.clone()].into()
    })
    .await;
    assert_eq!(env.sim.calls(UPDATE), 3);
    let events = env.wait_event("hola", "UpdateReverted").await;
    let told: Vec<_> = events.iter().filter(|e| e.1 == "UpdateReverted").collect();
    assert_eq!(told.len(), 1, "{events:?}");
    assert_eq!(told[0].0, "Warning");
    assert!(told[0].2.contains("golive-app-0"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_size_is_taken_when_there_is_no_room_and_kept_by_another_process() {
    for kind in [Kind::Capacity, Kind::CouldNotReserve, Kind::MachineLimit] {
        let mut env = env().await;
        env.sim.fault(Fault::new(CREATE, kind).nth(1));
        let toml = format!("{QUIET}[[vm]]\nsize = 'shared-cpu-4x'\n");
        let sizes = json!({"fallbackSizes": ["shared-cpu-2x", "shared-cpu-1x"]});
        deploy(&env, "1", &toml, sizes).await;
        let status = until_deployed(&env, "1").await;
        let fallback = &status.fallbacks[0];
        assert_eq!(
            (fallback.from.as_str(), fallback.to.as_str()),
            ("shared-cpu-4x", "shared-cpu-2x")
        );
        assert!(!fallback.reason.is_empty());
        another_process_changes_nothing(&mut env).await;
        assert_eq!(env.status("hola").await.fallbacks, status.fallbacks);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_a_mount_gets_a_volume_of_its_own_and_keeps_it() {
    let env = env().await;
    let toml = format!("{QUIET}[[mounts]]\nsource = 'data'\ndestination = '/data'\n");
    deploy(&env, "1", &toml, json!({})).await;
    until_deployed(&env, "1").await;
    const VOLUMES: &str = "POST /v1/apps/{app}/volumes";
    assert_eq!(env.sim.calls(VOLUMES), 2);
    let volumes = || -> BTreeSet<String> {
        let of = |m: &Value| {
            m["config"]["mounts"][0]["volume"]
                .as_str()
                .map(str::to_owned)
        };
        env.sim.machines(APP).iter().filter_map(of).collect()
    };
    let before = volumes();
    assert_eq!(before.len(), 2, "{before:?}");
    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    assert_eq!(volumes(), before);
    assert_eq!(env.sim.calls(VOLUMES), 2);
}
