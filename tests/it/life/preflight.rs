//! Preflight: all problems are reported at once, before any write, and the object recovers when they
//! are fixed.

#![allow(clippy::panic, reason = "a helper fails its test by a panic")]

use std::time::{Duration, Instant};

use fly_sim::{Fault, Kind, Options};
use golive::{
    api::{ActivationStatus, preflight::CheckName, status::PreflightResult},
    fly::{Endpoints, Fly, HttpOptions, NewApp, Token},
};
use serde_json::json;

use crate::support::env::{Env, LIMIT, images, is, message, reason};

/// The checks by name.
fn check<'s>(status: &'s ActivationStatus, name: &str) -> &'s PreflightResult {
    let mut checks = status.preflight.iter();
    checks
        .find(|check| check.check == name)
        .unwrap_or_else(|| panic!("{name} is not reported: {:?}", status.preflight))
}

fn result<'s>(status: &'s ActivationStatus, name: &str) -> (&'s str, &'s str) {
    let check = check(status, name);
    (check.result.as_str(), check.reason.as_str())
}

/// Changes at Fly.io so far.
fn mutations(env: &Env) -> usize {
    let calls = env.sim.call_list();
    calls.iter().filter(|call| call.mutation.is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_is_told_at_once_and_nothing_is_written() {
    let env = Env::start().await;
    env.activation(
        "hola",
        json!({
            "deploy": {
                "image": "registry.fly.io/hola-cabanas:nowhere",
                "config": {"inline": "[http_service]\ninternal_port = 99999\n"},
            },
            "provision": {
                "postgres": {"managed": {"plan": "basik"}},
                "secrets": {"from": [{"secretRef": {"name": "nowhere"}}]},
            },
            "gates": [{"before": "SmokeTest"}],
        }),
    )
    .await;

    let status = env.wait_for("hola", "PreflightPassed", "False").await;

    assert_eq!(
        status.preflight.len(),
        CheckName::ALL.len(),
        "{:?}",
        status.preflight
    );
    for (name, why) in [
        ("ImageResolvable", "ImageNotFound"),
        ("FlyConfigValid", "FlyConfigInvalid"),
        ("SecretsResolvable", "SecretNotFound"),
        ("DatabasePlanUsable", "DatabasePlanUnusable"),
    ] {
        assert_eq!(result(&status, name), ("Failed", why));
        assert!(!check(&status, name).next_action.is_empty(), "{name}");
    }
    for name in [
        "TokenValid",
        "TokenScope",
        "TokenExpiry",
        "OrganizationUsable",
        "AppNameAvailable",
        "RegionUsable",
    ] {
        assert_eq!(
            result(&status, name).0,
            "Passed",
            "{:?}",
            check(&status, name)
        );
    }
    assert!(check(&status, "FlyConfigValid").message.contains("2:"));
    let approvable = check(&status, "GatesApprovable");
    assert_eq!(
        result(&status, "GatesApprovable"),
        ("Warning", "NobodyMayApprove"),
        "{approvable:?}"
    );
    let command = "create rolebinding activation-approvers --clusterrole=activation-approver";
    assert!(approvable.next_action.contains(command), "{approvable:?}");
    assert!(approvable.next_action.contains(&env.namespace));
    assert_eq!(mutations(&env), 0, "nothing is written to Fly.io");
    assert!(is(&status, "Ready", "False") && is(&status, "Stalled", "True"));
    // One event names all problems.
    let told = crate::support::trouble::event(&env, "hola", "ImageNotFound").await;
    let warned = crate::support::trouble::warnings(&env, "hola").await;
    assert_eq!(warned, ["ImageNotFound"]);
    let all = "also failed: FlyConfigValid, SecretsResolvable, DatabasePlanUsable";
    for text in [told.as_str(), message(&status, "Ready")] {
        assert!(text.contains(all), "{text}");
        // The first cause stands first.
        assert!(
            text.contains("ImageResolvable: the registry has no image"),
            "{text}"
        );
    }

    env.secret("nowhere", &[("GREETING", "hola")]).await;
    env.patch(
        "hola",
        json!({"spec": {
            "deploy": {"image": "registry.fly.io/hola-cabanas:1.0.0", "config": null},
            "provision": {"postgres": null},
            "gates": null,
        }}),
    )
    .await;
    let status = env.wait_live("hola").await;
    assert!(
        status
            .preflight
            .iter()
            .all(|check| check.result.as_str() != "Failed")
    );
    // After a Go-Live, preflight makes no more calls.
    let asked = env.sim.calls("GET /v1/tokens/current");
    let looks = || env.sim.calls("GET /v1/apps/{app}/machines");
    let before = looks();
    let end = Instant::now() + LIMIT;
    while looks() < before + 2 {
        assert!(
            Instant::now() < end,
            "a live application is looked at again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(env.sim.calls("GET /v1/tokens/current"), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_says_so_and_a_right_one_goes_on() {
    let env = Env::start().await;
    env.secret("fly", &[("token", "fo1_not-a-token-of-anybody")])
        .await;
    env.activation("hola", json!({})).await;

    let status = env
        .wait("hola", "the refusal", |status| {
            status
                .preflight
                .iter()
                .any(|check| check.check == "TokenValid" && check.reason == "TokenInvalid")
        })
        .await;

    // One rejection is not final: Fly.io sometimes rejects a valid token.
    assert_eq!(result(&status, "TokenValid").0, "Unknown");
    assert!(!is(&status, "Ready", "True"));
    assert_eq!(mutations(&env), 0);
    let text = serde_json::to_string(&status).unwrap();
    assert!(!text.contains("not-a-token-of-anybody"), "{text}");

    let token = env.sim.token("cabanas").unwrap();
    env.secret("fly", &[("token", &token)]).await;
    let status = env.wait_live("hola").await;
    assert_eq!(result(&status, "TokenValid").0, "Passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_somebody_else_has_stops_before_any_write() {
    let env = Env::start().await;
    let url = env.sim.base_url();
    let endpoints = Endpoints {
        machines: url.clone(),
        api: url.clone(),
        uiex: url.clone(),
        registry: url,
    };
    let token = Token::parse(&env.sim.token("acme").unwrap()).unwrap();
    let acme = Fly::new(endpoints, HttpOptions::default())
        .unwrap()
        .client(token);
    let theirs = NewApp {
        name: "hola-cabanas".to_owned(),
        org_slug: "acme".to_owned(),
        ..NewApp::default()
    };
    acme.create_app(&theirs).await.unwrap();
    let before = mutations(&env);
    // Then the image belongs to another organization as well.
    env.activation(
        "hola",
        json!({"preflight": {"skip": [
            {"check": "ImageResolvable", "justification": "only the name matters here"},
        ]}}),
    )
    .await;

    let status = env.wait_for("hola", "PreflightPassed", "False").await;

    assert_eq!(result(&status, "AppNameAvailable"), ("Failed", "NameTaken"));
    assert_eq!(reason(&status, "Ready"), "NameTaken");
    assert!(message(&status, "Ready").contains("hola-cabanas"));
    assert_eq!(mutations(&env), before);

    acme.delete_app("hola-cabanas", true).await.unwrap();
    env.wait_live("hola").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_another_architecture_stops_and_a_written_justification_lets_it_pass() {
    let mut with_arm = images();
    let mut arm = with_arm.iter().next().unwrap().clone();
    arm.tag = Some("arm".to_owned());
    arm.architecture = "arm64".to_owned();
    with_arm.add(arm);
    let mut env = Env::without_operator(Options {
        images: with_arm,
        ..Options::default()
    })
    .await;
    env.start_operator(&[]).await;
    let image = "registry.fly.io/hola-cabanas:arm";
    env.activation("hola", json!({"deploy": {"image": image}}))
        .await;

    let status = env.wait_for("hola", "PreflightPassed", "False").await;
    assert_eq!(
        result(&status, "ImageResolvable"),
        ("Failed", "ImageArchitectureMissing")
    );
    assert_eq!(mutations(&env), 0);

    let why = "the registry tells the architecture wrong, see ticket 12";
    env.patch(
        "hola",
        json!({"spec": {"preflight": {"skip": [
            {"check": "ImageResolvable", "justification": why},
        ]}}}),
    )
    .await;
    let status = env.wait_for("hola", "PreflightPassed", "True").await;
    assert_eq!(result(&status, "ImageResolvable").0, "Skipped");
    let kept = check(&status, "ImageResolvable").justification.as_deref();
    assert_eq!(kept, Some(why));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_fly_io_is_down_nothing_is_judged_and_then_it_goes_on() {
    let env = Env::start().await;
    let for_ms = 3_600_000;
    env.sim
        .fault(Fault::new("*", Kind::Down { for_ms }).always());
    env.activation("hola", json!({})).await;

    let status = env
        .wait("hola", "an unknown check", |status| {
            status
                .preflight
                .iter()
                .any(|check| check.result.as_str() == "Unknown")
        })
        .await;
    let down = check(&status, "RegionUsable");
    assert_eq!(down.result.as_str(), "Unknown", "{down:?}");
    assert!(down.next_action.contains("retries"), "{down:?}");
    assert!(
        is(&status, "PreflightPassed", "Unknown"),
        "never False for what is not known"
    );
    env.sim.clear_faults();
    env.wait_live("hola").await;
}

/// Gives a user a role of the namespace with this verb on Activations.
async fn bind(env: &Env, user: &str, verb: &str) {
    let name = format!("{user}-{verb}");
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": name},
        "rules": [{"apiGroups": ["golive.dev"], "resources": ["activations"], "verbs": [verb]}],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
    });
    for object in [role, binding] {
        env.apply(&object.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_approve_a_gate_is_found_in_the_bindings_of_the_namespace() {
    let env = Env::start().await;
    bind(&env, "vera", "get").await;
    env.activation("hola", json!({"gates": [{"before": "Deploy"}]}))
        .await;
    let status = env.wait_for("hola", "PreflightPassed", "True").await;
    let nobody = ("Warning", "NobodyMayApprove");
    assert_eq!(result(&status, "GatesApprovable"), nobody);

    bind(&env, "ana", "approve").await;
    let retry = json!({"metadata": {"annotations": {"golive.dev/retry": "1"}}});
    env.patch("hola", retry).await;

    let status = env
        .wait("hola", "an approver", |status| {
            result(status, "GatesApprovable").0 == "Passed"
        })
        .await;
    assert_eq!(check(&status, "GatesApprovable").message, "ana may approve");
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_for_which_there_is_no_room_are_told_before_anything_is_written() {
    let env = Env::start().await;
    let room = |capacity| {
        env.sim.core().write(|world| {
            let mut regions = world.platform.regions.iter_mut();
            let eze = regions.find(|region| region.code == "eze").unwrap();
            eze.capacity = capacity;
        });
    };
    room(1);
    env.activation("hola", json!({"deploy": {"scale": {"app": 3}}}))
        .await;

    let status = env.wait_for("hola", "PreflightPassed", "False").await;

    assert_eq!(
        result(&status, "RegionUsable"),
        ("Failed", "CapacityUnavailable")
    );
    let told = &check(&status, "RegionUsable").message;
    assert!(told.contains("room for 1 of 3 machines"), "{told}");
    assert_eq!(mutations(&env), 0);
    room(10);
    env.wait_live("hola").await;
    // Running machines already have their capacity.
    room(0);
    let scaled = json!({"spec": {"smokeTest": {"deadline": "6m"}}});
    env.patch("hola", scaled).await;
    let status = env.wait_live("hola").await;
    assert_eq!(result(&status, "RegionUsable").0, "Passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fly_io_does_not_make_is_told_before_anything_is_written() {
    let env = Env::start().await;
    let provision = json!({"provision": {
        "postgres": {"managed": {"version": 15}},
        "redis": {"upstash": {"region": "mad"}},
    }});
    env.activation("hola", provision).await;

    let status = env.wait_for("hola", "PreflightPassed", "False").await;

    let found = check(&status, "DatabasePlanUsable");
    assert_eq!(found.reason, "DatabasePlanUnusable", "{found:?}");
    for part in ["PostgreSQL 15", "Redis cannot be in the region mad"] {
        assert!(found.message.contains(part), "{found:?}");
    }
    assert_eq!(mutations(&env), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_in_a_fly_toml_is_one_warning_and_the_application_goes_live() {
    let env = Env::start().await;
    let inline = "app = \"other\"\nprimary_region = \"ams\"\n[http_service]\n\
        internal_port = 8080\n[deploy]\nrelease_comand = \"migrate\"\n";
    let image = "registry.fly.io/hola-cabanas:1.0.0";
    let deploy = json!({"deploy": {"image": image, "config": {"inline": inline}}});
    env.activation("hola", deploy).await;

    let status = env.wait_live("hola").await;

    let found = check(&status, "FlyConfigValid");
    assert_eq!(
        result(&status, "FlyConfigValid"),
        ("Warning", "FlyConfigDoubtful")
    );
    for part in [
        "a key of the fly.toml is mistyped and ignored (3 warnings)",
        "6:1: deploy.release_comand: unknown key, ignored; did you mean release_command?",
        "1:1: app: other has no effect",
        "2:1: primary_region: ams has no effect",
    ] {
        assert!(found.message.contains(part), "{found:?}");
    }
    assert!(!found.next_action.is_empty(), "{found:?}");
    let warned = crate::support::trouble::warnings(&env, "hola").await;
    assert_eq!(warned, ["FlyConfigDoubtful"]);
}
