//! `deploy.source`: Golive follows an image that is built elsewhere.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use fly_sim::platform::private::Private;
use fly_sim::{Fault, Image, Images, Kind, Options};
use golive::api::ActivationStatus;
use golive::api::status::{SourceStatus, StepState};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::rollback::ask;
use crate::support::deploy::{
    APP, LIST, QUIET, UPDATE, another_process_changes_nothing, change, deployed, digests, image,
    step, until, until_deployed,
};
use crate::support::env::{Env, is};

const REGISTRY: &str = "GET /v2/{*rest}";

/// Polls every second, the shortest interval that the operator accepts.
const FAST: &[&str] = &["--source-interval-min", "1s"];

/// Images whose tags no policy of these tests selects.
fn builds(repository: &str) -> Vec<Image> {
    let build = |tag: &str, script: &str| {
        Image::new(format!("{repository}:{tag}"), "/bin/sh").args(["-c", script])
    };
    vec![
        build("build-a", "exec sleep 600"),
        build("build-b", "exec sleep 601"),
        build("build-c", "exec sleep 602"),
        build("build-exits", "echo 'no such table: cabins'; exit 3"),
    ]
}

async fn world(images: Vec<Image>) -> Env {
    let options = Options {
        images: Images::new(images),
        ..Options::default()
    };
    Env::without_operator(options).await
}

async fn following(policy: Value, more: Value) -> Env {
    let mut env = world(builds(&format!("registry.fly.io/{APP}"))).await;
    env.start_operator(FAST).await;
    push(&env, "1.4.0", "build-a");
    follow(&env, policy, more).await;
    env
}

/// An Activation that follows the application's image.
async fn follow(env: &Env, policy: Value, more: Value) {
    // Nothing serves HTTP: the machines are the proof.
    let mut spec = json!({
        "deploy": {
            "image": null,
            "source": {"image": format!("registry.fly.io/{APP}"), "policy": policy, "interval": "1s"},
            "config": {"inline": QUIET}, "scale": {"app": 1},
        },
        "smokeTest": {"checks": []},
    });
    crate::support::env::merge(&mut spec, more);
    // In a merge patch `null` removes a field; the default image would stay.
    spec["deploy"]["image"] = Value::Null;
    env.activation("hola", spec).await;
}

/// A tag is pushed, or moves.
fn push(env: &Env, tag: &str, build: &str) {
    push_to(env, &format!("registry.fly.io/{APP}"), tag, build);
}

fn push_to(env: &Env, repository: &str, tag: &str, build: &str) {
    let (tag, build) = (
        format!("{repository}:{tag}"),
        format!("{repository}:{build}"),
    );
    env.sim.core().write(|world| {
        world.platform.removed_images.remove(&tag);
        world.platform.moved_tags.insert(tag, build);
    });
}

/// Deletes a tag; the image stays.
fn untag(env: &Env, tag: &str) {
    let tag = image(tag);
    let removed = |world: &mut fly_sim::state::World| world.platform.removed_images.insert(tag);
    env.sim.core().write(removed);
}

fn source(status: &ActivationStatus) -> SourceStatus {
    status.source.clone().unwrap_or_default()
}

async fn until_source(env: &Env, reason: &str) -> ActivationStatus {
    env.wait("hola", &format!("source {reason}"), |status| {
        source(status).reason == reason
    })
    .await
}

/// Waits for two more polls of the registry and of the machines.
async fn looks(env: &Env) {
    let (registry, list) = (env.sim.calls(REGISTRY), env.sim.calls(LIST));
    env.wait("hola", "looks", |_| {
        env.sim.calls(REGISTRY) > registry + 3 && env.sim.calls(LIST) > list + 1
    })
    .await;
}

async fn version(env: &Env) -> Option<String> {
    env.get("hola").await.unwrap().resource_version()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_matching_tag_is_deployed_at_the_interval_and_nothing_costs_nothing() {
    let env = following(json!({"semver": {"range": "1.x"}}), json!({})).await;
    let first = until_deployed(&env, "1.4.0").await;
    assert_eq!(first.history[0].why, "source: semver 1.4.0");
    assert_eq!(source(&first).tag, "1.4.0");
    assert_eq!(source(&first).digest, first.release.unwrap().digest);
    until_source(&env, "SourceFollowed").await;

    // No change: no write, neither to Fly.io nor to Kubernetes.
    looks(&env).await;
    let before = version(&env).await;
    env.sim.reset();
    looks(&env).await;
    assert_eq!(version(&env).await, before);
    assert_eq!(env.sim.mutations(), 0);
    let reads = env.sim.call_counts();
    let fly: u64 = reads
        .iter()
        .filter(|(call, _)| !call.contains("/v2/"))
        .map(|(_, count)| count)
        .sum();
    // One re-check may be under way.
    assert!(fly <= 3 * (env.sim.calls(LIST) + 1), "{reads:?}");
    // An unchanged image is requested with HEAD by digest, which no registry counts as a pull.
    assert!(reads.contains_key("HEAD /v2/{*rest}"), "{reads:?}");

    push(&env, "2.0.0", "build-c");
    push(&env, "latest", "build-c");
    push(&env, "1.5.0", "build-b");
    let second = until_deployed(&env, "1.5.0").await;
    assert_eq!(second.history[0].why, "source: semver 1.4.0 → 1.5.0");
    assert!(
        second.history[0]
            .changes
            .contains("image registry.fly.io/hola-cabanas:1.4.0 to 1.5.0"),
        "{:?}",
        second.history[0]
    );
    assert_eq!(digests(&env), [source(&second).digest].into());
    assert!(!is(&second, "Drifted", "True"), "a new choice is no drift");
    env.wait_event("hola", "ImageChosen").await;

    // A version that is deleted or pushed again is reported, and changes nothing.
    env.sim.reset();
    untag(&env, "1.5.0");
    let gone = source(&until_source(&env, "TagGone").await);
    assert_eq!(
        (gone.tag.as_str(), gone.pending.unwrap().tag.as_str()),
        ("1.5.0", "1.4.0")
    );
    push(&env, "1.5.0", "build-c");
    let moved = source(&until_source(&env, "TagMoved").await);
    assert_ne!(moved.pending.unwrap().digest, moved.digest);
    looks(&env).await;
    assert_eq!(env.sim.mutations(), 0);
    assert!(deployed(&env.status("hola").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_image_is_held_until_another_one_is_chosen() {
    let mut env = following(json!({"semver": {"range": "1.x"}}), json!({})).await;
    let good = until_deployed(&env, "1.4.0").await.release.unwrap();
    push(&env, "1.5.0", "build-exits");
    let (status, message) = until(&env, "Release", "RolledBack").await;
    assert!(message.contains("exited with code 3"), "{message}");
    assert_eq!(source(&status).tag, "1.5.0");
    assert_eq!(digests(&env), [good.digest.clone()].into());
    let updates = env.sim.calls(UPDATE);
    looks(&env).await;
    assert_eq!(env.sim.calls(UPDATE), updates, "it is not tried again");
    env.stop_operator().await;
    env.sim.reset();
    env.start_operator(FAST).await;
    looks(&env).await;
    assert_eq!(env.sim.mutations(), 0, "nor by another process");

    // When it is withdrawn, the serving image is the choice again.
    untag(&env, "1.5.0");
    let back = until_deployed(&env, "1.4.0").await;
    assert_eq!(back.history[0].digest_short, good.digest_short);
    assert_eq!(env.sim.calls(UPDATE), 0, "nothing changes on Fly.io");
    push(&env, "1.5.1", "build-b");
    until_deployed(&env, "1.5.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_tag_that_moves_is_told_and_not_deployed_also_by_another_process() {
    let mut env = following(json!({"pinned": {"tag": "1.4.0"}}), json!({})).await;
    let release = until_deployed(&env, "1.4.0").await.release.unwrap();
    push(&env, "1.4.0", "build-b");
    let moved = source(&until_source(&env, "TagMoved").await);
    assert_eq!(moved.digest, release.digest);
    assert!(
        moved.message.contains("change the spec"),
        "{}",
        moved.message
    );
    env.wait_event("hola", "TagMoved").await;

    another_process_changes_nothing(&mut env).await;
    assert_eq!(digests(&env), [release.digest.clone()].into());

    // A changed spec needs a new decision.
    change(&env, json!({"scale": {"app": 2}})).await;
    let wanted = moved.pending.unwrap().digest;
    env.wait("hola", "the moved tag", |_| {
        digests(&env) == [wanted.clone()].into()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_of_the_spec_that_moves_is_not_deployed_by_a_restart() {
    let mut env = world(builds(&format!("registry.fly.io/{APP}"))).await;
    env.start_operator(&[]).await;
    push(&env, "stable", "build-a");
    crate::support::deploy::deploy(&env, "stable", QUIET, json!({})).await;
    let release = until_deployed(&env, "stable").await.release.unwrap();
    push(&env, "stable", "build-b");

    another_process_changes_nothing(&mut env).await;
    assert_eq!(digests(&env), [release.digest.clone()].into());
    // Nor when an irrelevant field changes, also not in a new process.
    change(&env, json!({"owner": "somebody else"})).await;
    another_process_changes_nothing(&mut env).await;

    change(&env, json!({"scale": {"app": 1}})).await;
    env.wait("hola", "the moved tag", |status| {
        deployed(status) && !digests(&env).contains(&release.digest)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_followed_and_the_newest_of_many_is_found() {
    let env = following(json!({"tag": {"name": "1.4.0"}}), json!({})).await;
    until_deployed(&env, "1.4.0").await;
    push(&env, "1.4.0", "build-b");
    let status = env
        .wait("hola", "release 2", |status| {
            deployed(status) && status.release.as_ref().is_some_and(|r| r.number == Some(2))
        })
        .await;
    assert!(
        status.history[0].why.starts_with("source: tag 1.4.0 "),
        "{:?}",
        status.history[0]
    );

    // More tags than fit on a page, and not in lexical order.
    for number in 1..=120 {
        push(&env, &format!("main-{number}"), "build-a");
    }
    push(&env, "main-121", "build-c");
    let newest = json!({"tag": null, "newest": {
        "pattern": "^main-(?P<n>[0-9]+)$", "extract": "n", "order": "Numerical",
    }});
    change(&env, json!({"source": {"policy": newest}})).await;
    until_deployed(&env, "main-121").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_matching_tag_the_object_says_what_there_is_and_goes_on_when_one_is_pushed() {
    let env = following(json!({"semver": {"range": "3.x"}}), json!({"mode": "Plan"})).await;
    let (status, message) = until(&env, "ImageResolvable", "NoMatchingTag").await;
    assert!(
        message.contains("the range 3.x") && message.contains("1.4.0"),
        "{message}"
    );
    assert_eq!(source(&status).reason, "NoMatchingTag");
    assert!(is(&status, "PreflightPassed", "False"));

    push(&env, "3.0.0", "build-b");
    let status = env
        .wait("hola", "a plan", |status| {
            status
                .plan
                .as_ref()
                .is_some_and(|plan| !plan.changes.is_empty())
                && source(status).tag == "3.0.0"
        })
        .await;
    assert_eq!(step(&status, "ImageResolvable").0, StepState::Done);
    assert_eq!(env.sim.mutations(), 0, "a plan changes nothing");

    change(
        &env,
        json!({"source": {"policy": {"semver": {"range": ">="}}}}),
    )
    .await;
    let (_, message) = until(&env, "ImageResolvable", "InvalidSpec").await;
    assert!(message.contains("deploy.source.policy"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newly_chosen_image_asks_for_approval_anew() {
    let gates = json!({"gates": [{"before": "Deploy"}]});
    let env = following(json!({"semver": {"range": "1.x"}}), gates).await;
    let asks = |status: &ActivationStatus| status.pending_gate.as_deref() == Some("Deploy");
    let first = env
        .wait("hola", "the gate", asks)
        .await
        .plan
        .unwrap()
        .digest;
    env.approve("hola", "Deploy", &first).await;
    let release = until_deployed(&env, "1.4.0").await.release.unwrap();
    push(&env, "1.5.0", "build-b");
    let second = env
        .wait("hola", "the gate for 1.5.0", |status| {
            asks(status) && source(status).tag == "1.5.0"
        })
        .await;
    let second = second.plan.unwrap().digest;
    assert_ne!(second, first);
    assert_eq!(
        digests(&env),
        [release.digest].into(),
        "what serves goes on"
    );
    env.decide("hola-second", json!({"digest": second})).await;
    until_deployed(&env, "1.5.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_somebody_asks_for_holds_until_another_image_is_chosen() {
    let env = following(json!({"semver": {"range": "1.x"}}), json!({})).await;
    let first = until_deployed(&env, "1.4.0").await.release.unwrap();
    push(&env, "1.5.0", "build-b");
    until_deployed(&env, "1.5.0").await;
    ask(&env, "back", 1).await;
    let (status, _) = until(&env, "Release", "RolledBack").await;
    assert_eq!(status.release.unwrap().digest, first.digest);
    assert_eq!(source(&env.status("hola").await).tag, "1.5.0");
    looks(&env).await;
    assert_eq!(digests(&env), [first.digest].into());
    push(&env, "1.5.1", "build-c");
    until_deployed(&env, "1.5.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_cannot_be_reached_leaves_what_is_live_alone() {
    let mut env = Env::without_operator(Options::default()).await;
    env.start_operator(FAST).await;
    push(&env, "1.4.0", "1.0.0");
    follow(
        &env,
        json!({"semver": {"range": "1.x"}}),
        json!({"deploy": {"config": null, "scale": null}}),
    )
    .await;
    env.wait_live("hola").await;
    let down = Kind::Status {
        status: 503,
        body: None,
        applied: false,
    };
    env.sim.fault(Fault::new(REGISTRY, down).always());
    let status = until_source(&env, "SourceUnreadable").await;
    let told = source(&status);
    assert!(
        told.since.is_some() && told.message.contains("1.4.0"),
        "{told:?}"
    );
    let no_false = |status: &ActivationStatus| {
        let types = ["Drifted", "Suspended"];
        let conditions = status.conditions.iter();
        conditions
            .filter(|c| !types.contains(&c.type_.as_str()))
            .all(|c| c.status != "False")
    };
    assert!(is(&status, "Live", "True") && is(&status, "Ready", "True"));
    assert!(no_false(&status), "{:?}", status.conditions);
    let before = version(&env).await;
    looks(&env).await;
    assert_eq!(version(&env).await, before, "the same again is no write");

    // The same in a new process, which has not read the registry yet.
    env.stop_operator().await;
    env.sim.reset();
    let down = Kind::ResetBefore;
    env.sim.fault(Fault::new(REGISTRY, down).always());
    env.start_operator(FAST).await;
    looks(&env).await;
    let status = env.status("hola").await;
    assert!(is(&status, "Live", "True") && no_false(&status));
    assert_eq!(env.sim.mutations(), 0);
    assert_eq!(source(&status).since, told.since);

    env.sim.reset();
    until_source(&env, "SourceFollowed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_registry_is_read_with_a_secret_and_what_fly_cannot_pull_is_said_before() {
    const IMAGE: &str = "ghcr.io/acme/web";
    const PASSWORD: &str = "canary-of-ghcr-5521";
    let mut env = world(builds(IMAGE)).await;
    let mirror = format!("ghcr.io={}", env.sim.base_url());
    let flags = [FAST, &["--registry-mirror", &mirror]].concat();
    env.start_operator(&flags).await;
    push_to(&env, IMAGE, "1.4.0", "build-a");
    let private = |public_pull| Private {
        username: "robot".into(),
        password: PASSWORD.into(),
        bearer: true,
        public_pull,
    };
    let open = |env: &Env, public_pull: bool| {
        let private = private(public_pull);
        let images = |world: &mut fly_sim::state::World| {
            world.platform.private_images.insert(IMAGE.into(), private);
        };
        env.sim.core().write(images);
    };
    open(&env, false);
    let more = json!({"deploy": {"source": {
        "image": IMAGE, "credentialsSecretRef": {"name": "ghcr"},
    }}});
    follow(&env, json!({"semver": {"range": "1.x"}}), more).await;

    // Each problem has its own reason, and disappears when it is fixed.
    let (_, message) = until(&env, "ImageResolvable", "SecretNotFound").await;
    assert!(message.contains("Secret ghcr"), "{message}");
    let login = |password: &str| {
        let auth = data_encoding::BASE64.encode(format!("robot:{password}").as_bytes());
        json!({"auths": {"ghcr.io": {"auth": auth}}}).to_string()
    };
    env.secret("ghcr", &[(".dockerconfigjson", &login("canary-of-nobody"))])
        .await;
    let (_, message) = until(&env, "ImageResolvable", "SourceForbidden").await;
    assert!(message.contains("correct the Secret ghcr"), "{message}");
    env.secret("ghcr", &[(".dockerconfigjson", &login(PASSWORD))])
        .await;
    let (status, message) = until(&env, "ImageResolvable", "ImageForbidden").await;
    assert!(
        message.contains("Fly.io pulls images by itself") && message.contains("registry.fly.io"),
        "{message}"
    );
    assert_eq!(
        source(&status).tag,
        "1.4.0",
        "we can read it, Fly.io cannot"
    );
    assert!(env.sim.machines(APP).is_empty());

    open(&env, true);
    let name = format!("{IMAGE}:1.4.0");
    let status = env
        .wait("hola", "the public image deployed", |status| {
            deployed(status) && status.release.as_ref().is_some_and(|r| r.image == name)
        })
        .await;
    let text = serde_json::to_string(&status).unwrap();
    assert!(!text.contains("canary"), "{text}");

    // The same problem later: the running release stays.
    env.secret("ghcr", &[(".dockerconfigjson", &login("canary-of-nobody"))])
        .await;
    let status = until_source(&env, "SourceForbidden").await;
    assert!(deployed(&status));
    assert_eq!(source(&status).tag, "1.4.0");
}
