//! The fleet: the number of machines, their process groups, regions and volumes; and the message
//! when one of them fails.

use std::collections::BTreeMap;

use golive::api::status::StepState;
use serde_json::{Value, json};

use crate::support::deploy::{APP, change, deploy, env_with, image, shell, step, until_deployed};
use crate::support::env::Env;

async fn world() -> Env {
    env_with([shell("1", "exec sleep 600"), shell("2", "exec sleep 601")]).await
}

/// How many machines of each process group are in each region and state.
fn machines(env: &Env) -> BTreeMap<(String, String, String), usize> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut counts = BTreeMap::new();
    for machine in env.sim.machines(APP) {
        let group = text(&machine["config"]["metadata"]["fly_process_group"]);
        let key = (group, text(&machine["region"]), text(&machine["state"]));
        *counts.entry(key).or_default() += 1;
    }
    counts
}

fn counts(of: &[(&str, &str, &str, usize)]) -> BTreeMap<(String, String, String), usize> {
    of.iter()
        .map(|(group, region, state, count)| {
            let key = (
                (*group).to_owned(),
                (*region).to_owned(),
                (*state).to_owned(),
            );
            (key, *count)
        })
        .collect()
}

const GROUPS: &str = "kill_timeout = '1s'\n[processes]\nweb = ''\nworker = ''\n";

#[tokio::test(flavor = "multi_thread")]
async fn process_groups_and_regions_come_grow_shrink_and_go() {
    let env = world().await;
    let regions = json!({"scale": null, "regions": {"web": {"eze": 1, "gru": 2}}});
    deploy(&env, "1", GROUPS, regions).await;
    env.wait("hola", "both groups", |_| {
        machines(&env)
            == counts(&[
                ("web", "eze", "started", 1),
                ("web", "gru", "started", 2),
                ("worker", "eze", "started", 1),
                // A standby: starts only when the host of the other machine fails.
                ("worker", "eze", "stopped", 1),
            ])
    })
    .await;
    until_deployed(&env, "1").await;

    // The worker group is replaced by another one, and a region has one machine less.
    let toml = GROUPS.replace("worker", "cron");
    let more = json!({
        "config": {"inline": toml}, "scale": {"cron": 1}, "regions": {"web": {"gru": 1}},
    });
    change(&env, more).await;
    env.wait("hola", "the other groups", |_| {
        machines(&env)
            == counts(&[
                ("cron", "eze", "started", 1),
                ("web", "eze", "started", 1),
                ("web", "gru", "started", 1),
            ])
    })
    .await;
}

/// Id of each volume by name and region, and the machine that has it.
fn volumes(env: &Env) -> BTreeMap<String, (String, Option<String>)> {
    env.sim.core().read(|world| {
        let volumes = world.apps[APP].volumes.values();
        volumes
            .map(|volume| {
                let at = format!("{}@{}", volume.name, volume.region);
                (volume.id.clone(), (at, volume.attached_machine_id.clone()))
            })
            .collect()
    })
}

fn named(env: &Env, at: &str) -> Vec<Option<String>> {
    let all = volumes(env).into_values();
    all.filter(|volume| volume.0 == at)
        .map(|volume| volume.1)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_made_where_its_machine_is_and_stays_when_another_one_is_asked_for() {
    let env = world().await;
    let mount = |name: &str| {
        format!("kill_timeout = '1s'\n[[mounts]]\nsource = '{name}'\ndestination = '/data'\n")
    };
    let regions = json!({"scale": null, "regions": {"app": {"eze": 1, "gru": 1}}});
    deploy(&env, "1", &mount("data"), regions).await;
    until_deployed(&env, "1").await;
    let before = volumes(&env);
    for at in ["data@eze", "data@gru"] {
        assert!(matches!(&named(&env, at)[..], [Some(_)]), "{before:?}");
    }

    change(&env, json!({"image": image("2")})).await;
    until_deployed(&env, "2").await;
    assert_eq!(volumes(&env), before, "an update keeps them");

    let other = json!({"config": {"inline": mount("other")}, "volumes": {"allowNew": ["other"]}});
    change(&env, other).await;
    env.wait("hola", "successors with other volumes", |_| {
        named(&env, "data@eze") == [None]
            && named(&env, "data@gru") == [None]
            && matches!(&named(&env, "other@eze")[..], [Some(_)])
            && matches!(&named(&env, "other@gru")[..], [Some(_)])
            && env.sim.machines(APP).len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_whether_the_database_answers_from_inside() {
    for (command, says) in [
        (
            "true",
            "the database answers from inside golive-app-0 (true)",
        ),
        (
            "false",
            "the database does not answer from inside golive-app-0",
        ),
    ] {
        let env = world().await;
        let toml = "[checks.alive]\ntype = 'tcp'\nport = 9\ninterval = '5s'\ntimeout = '1s'\n\
            grace_period = '1s'\n[deploy]\nwait_timeout = '1s'\n";
        let spec = json!({
            "deploy": {"image": image("1"), "config": {"inline": toml}, "scale": {"app": 1}},
            "smokeTest": {"checks": [
                {"name": "database", "database": {"command": [command]}, "fallbacks": []},
            ]},
        });
        env.activation("hola", spec).await;
        let status = env.wait("hola", "the failure", |status| {
            step(status, "Health").0 == StepState::Blocked
        });
        let message = step(&status.await, "Health").2;
        assert!(message.contains(says), "{message}");
        assert!(
            message.contains("does not pass alive within 1 s"),
            "{message}"
        );
    }
}
