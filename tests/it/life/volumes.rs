//! Volumes are data: what a deletion, a renamed process group and an adopted app do to them.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeMap;

use fly_sim::{Fault, Kind};
use golive::{
    api::{ActivationStatus, status::ExternalObject},
    fly::{NewApp, NewVolume},
};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::{
    deploy::{APP, alive, change, deploy, env, machines, until_deployed},
    env::{Env, message, reason},
    trouble::{event, fly},
};

const MOUNT: &str = "kill_timeout = '1s'\n[[restart]]\npolicy = 'never'\n\
    [[mounts]]\nsource = 'data'\ndestination = '/data'\n";

/// Name, region and machine of each live volume, by its id.
fn volumes(env: &Env) -> BTreeMap<String, (String, Option<String>)> {
    env.sim.core().read(|world| {
        let volumes = world
            .apps
            .get(APP)
            .into_iter()
            .flat_map(|app| app.volumes.values());
        volumes
            .filter(|volume| volume.state == "created")
            .map(|volume| {
                let machine = volume.attached_machine_id.clone();
                (volume.id.clone(), (volume.name.clone(), machine))
            })
            .collect()
    })
}

/// The volume in the status, by its id.
fn told(status: &ActivationStatus, id: &str) -> Option<ExternalObject> {
    let mut external = status.external.iter();
    external
        .find(|object| object.kind == "Volume" && object.id == id)
        .cloned()
}

async fn with_volume(env: &Env, more: Value) {
    let mut spec = json!({"deploy": {
        "image": crate::support::deploy::image("1"), "config": {"inline": MOUNT},
    }, "smokeTest": {"checks": []}});
    crate::support::env::merge(&mut spec, more);
    env.activation("hola", spec).await;
}

async fn begin_deletion(env: &Env) {
    let api = env.activations();
    api.delete("hola", &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_stays_with_its_app_serves_the_next_activation_and_goes_only_with_two_consents() {
    let env = env().await;
    with_volume(&env, json!({})).await;
    let status = until_deployed(&env, "1").await;
    let before: Vec<String> = volumes(&env).into_keys().collect();
    let [id] = &before[..] else {
        unreachable!("{before:?}")
    };
    let object = told(&status, id).unwrap();
    assert_eq!((object.region.as_str(), object.size_gb), ("eze", Some(1)));
    assert_eq!(object.retained, None);

    env.delete("hola").await;

    assert_eq!(env.sim.apps(), [APP]);
    assert_eq!(volumes(&env)[id], ("data".to_owned(), None));
    assert!(alive(&env).is_empty(), "{:?}", alive(&env));
    let addresses = |env: &Env| {
        env.sim
            .core()
            .read(|world| world.apps[APP].platform.addresses.len())
    };
    assert_eq!(addresses(&env), 0);
    let note = event(&env, "hola", "Retained").await;
    assert!(
        note.contains(&format!("data ({id}, 1 GB in eze)")),
        "{note}"
    );
    assert!(note.contains("fly apps destroy hola-cabanas"), "{note}");

    // The next one takes the app over, and its machine gets the volume with the data.
    let policy = json!({"volumes": "Delete"});
    with_volume(
        &env,
        json!({"adoption": "IfOwned", "deletionPolicy": policy}),
    )
    .await;
    until_deployed(&env, "1").await;
    let machine = machines(&env)[0].0.clone();
    let now = volumes(&env);
    assert_eq!(now[id], ("data".to_owned(), Some(machine)));
    assert_eq!(now.len(), 1);

    // One consent is not enough.
    begin_deletion(&env).await;
    let status = env
        .wait("hola", "the second consent", |status| {
            reason(status, "Deleting") == "DeletionBlocked"
        })
        .await;
    let text = message(&status, "Deleting");
    assert!(
        text.contains("golive.dev/delete-data=hola-cabanas"),
        "{text}"
    );
    assert!(text.contains(id.as_str()), "{text}");
    assert!(volumes(&env).contains_key(id));
    env.confirm_data_deletion("hola").await;
    env.delete("hola").await;
    assert!(env.sim.apps().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_not_deleted_with_its_volumes_because_a_list_of_them_is_empty() {
    let env = env().await;
    with_volume(&env, json!({})).await;
    until_deployed(&env, "1").await;
    let before: Vec<String> = volumes(&env).into_keys().collect();
    let lists = Fault::new("GET /v1/apps/{app}/volumes", Kind::EmptyList);
    env.sim.fault(lists.always());

    env.delete("hola").await;

    assert_eq!(env.sim.apps(), [APP]);
    let after: Vec<String> = volumes(&env).into_keys().collect();
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_not_deleted_with_a_volume_on_no_record_because_one_list_of_them_is_empty() {
    let env = env().await;
    deploy(&env, "1", "kill_timeout = '1s'\n", json!({})).await;
    until_deployed(&env, "1").await;
    let new = NewVolume {
        name: "by_hand".to_owned(),
        region: "eze".to_owned(),
        size_gb: Some(1),
        ..NewVolume::default()
    };
    let client = fly(&env, "cabanas");
    let theirs = client.create_volume(APP, &new).await.unwrap().id;
    env.patch("hola", json!({"spec": {"suspend": true}})).await;
    env.wait_for("hola", "Suspended", "True").await;
    let list = Fault::new("GET /v1/apps/{app}/volumes", Kind::EmptyList);
    env.sim.fault(list);

    env.delete("hola").await;

    let left: Vec<String> = volumes(&env).into_keys().collect();
    assert_eq!((env.sim.apps(), left), (vec![APP.to_owned()], vec![theirs]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_somebody_else_made_is_never_deleted() {
    let env = env().await;
    let client = fly(&env, "cabanas");
    let new = NewApp {
        name: APP.to_owned(),
        org_slug: "cabanas".to_owned(),
        ..NewApp::default()
    };
    client.create_app(&new).await.unwrap();
    let new = NewVolume {
        name: "data".to_owned(),
        region: "eze".to_owned(),
        size_gb: Some(1),
        ..NewVolume::default()
    };
    let theirs = client.create_volume(APP, &new).await.unwrap().id;
    let policy = json!({"volumes": "Delete"});
    let two = json!({"scale": {"app": 2}});
    with_volume(
        &env,
        json!({"adoption": "Always", "deletionPolicy": policy, "deploy": two}),
    )
    .await;
    until_deployed(&env, "1").await;
    assert_eq!(volumes(&env).len(), 2, "theirs is used, and one was made");

    env.delete("hola").await;

    let left: Vec<String> = volumes(&env).into_keys().collect();
    assert_eq!((env.sim.apps(), left), (vec![APP.to_owned()], vec![theirs]));
    assert!(alive(&env).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_process_group_begins_on_an_empty_volume_only_when_that_is_allowed() {
    let env = env().await;
    let group = |name: &str| {
        format!(
            "kill_timeout = '1s'\n[processes]\n{name} = ''\n[[restart]]\npolicy = 'never'\n\
            [[mounts]]\nsource = 'data'\ndestination = '/data'\n"
        )
    };
    deploy(&env, "1", &group("worker"), json!({"scale": null})).await;
    until_deployed(&env, "1").await;
    let before = (volumes(&env), machines(&env));
    let id = before.0.keys().next().unwrap().clone();

    change(&env, json!({"config": {"inline": group("jobs")}})).await;

    let status = env
        .wait("hola", "a refused preflight", |status| {
            reason(status, "PreflightPassed") == "VolumeLeftBehind"
        })
        .await;
    let text = message(&status, "PreflightPassed");
    assert!(
        text.contains(&format!("data ({id}, 1 GB in eze)")),
        "{text}"
    );
    assert!(text.contains("deploy.volumes.allowNew"), "{text}");
    assert_eq!(
        (volumes(&env), machines(&env)),
        before,
        "nothing is touched"
    );

    change(&env, json!({"volumes": {"allowNew": ["data"]}})).await;

    let status = env
        .wait("hola", "the old volume as left behind", |status| {
            told(status, &id).is_some_and(|object| object.retained.is_some())
        })
        .await;
    assert_eq!(volumes(&env)[&id], ("data".to_owned(), None));
    assert_eq!(volumes(&env).len(), 2);
    let retained = told(&status, &id).unwrap().retained.unwrap();
    assert!(
        retained.contains(&format!("fly volumes destroy {id}")),
        "{retained}"
    );
    let note = event(&env, "hola", "LeftBehind").await;
    assert!(note.contains(&id), "{note}");
}
