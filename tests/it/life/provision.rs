//! Provision: the application's resources are created once, corrected, and removed by policy.
//!
//! A gate before Deploy keeps machines out of most of these tests.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::{collections::BTreeMap, time::Duration};

use fly_sim::{Fault, Kind};
use golive::api::ActivationStatus;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::{Value, json};

use crate::support::env::{Env, is, merge, message, reason, root};

const APP: &str = "hola-cabanas";

fn gated(provision: Value) -> Value {
    json!({"provision": provision, "gates": [{"before": "Deploy", "timeout": "1h"}]})
}

/// What the example of the design asks for.
fn everything() -> Value {
    gated(json!({
        "postgres": {"managed": {}},
        "redis": {"upstash": {"eviction": true}},
        "secrets": {
            "generate": [{"name": "JWT_SECRET", "bytes": 48}, {"name": "ICS_SALT", "encoding": "hex"}],
            "from": [{"secretRef": {"name": "integrations"}}],
        },
        "hostnames": ["reservas.cabanas.example"],
    }))
}

/// How often each kind of resource was created.
fn made(env: &Env) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for effect in env.sim.ledger() {
        *counts.entry(effect.kind).or_insert(0) += 1;
    }
    counts
}

fn once(env: &Env, kinds: &[&str]) {
    let made = made(env);
    for kind in kinds {
        assert_eq!(made.get(*kind), Some(&1), "{kind}: {made:?}");
    }
}

/// Calls of everything that changes something at Fly.io.
fn mutations(env: &Env) -> Vec<String> {
    let calls = env.sim.call_list().into_iter();
    calls
        .filter(|call| call.mutation.is_some())
        .map(|call| call.endpoint)
        .collect()
}

fn digests(status: &ActivationStatus) -> BTreeMap<String, String> {
    let secrets = status.secrets.iter();
    secrets
        .map(|secret| (secret.name.clone(), secret.digest.clone()))
        .collect()
}

fn kinds(status: &ActivationStatus) -> Vec<&str> {
    status.external.iter().map(|e| e.kind.as_str()).collect()
}

/// Message of a step.
fn step<'s>(status: &'s ActivationStatus, name: &str) -> (&'s str, &'s str) {
    let steps = status.phases.iter().flat_map(|phase| &phase.steps);
    let mut steps = steps.filter(|step| step.name == name);
    steps.next().map_or(("", ""), |step| {
        (step.reason.as_str(), step.message.as_str())
    })
}

async fn kept(env: &Env, name: &str) -> BTreeMap<String, Vec<u8>> {
    let api: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let secret = api
        .get(&format!("{name}-golive"))
        .await
        .expect("kept values");
    let data = secret.data.unwrap_or_default().into_iter();
    data.map(|(key, value)| (key, value.0)).collect()
}

async fn claims(env: &Env) -> Vec<String> {
    let api: Api<ConfigMap> = Api::namespaced(env.kube.clone(), &env.namespace);
    let list = api.list(&Default::default()).await.unwrap();
    let names = list.items.into_iter().filter_map(|map| map.metadata.name);
    names
        .filter(|name| name.starts_with("golive-app-"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_made_once_kept_in_step_and_outlives_the_object_as_asked() {
    let env = Env::start().await;
    env.secret("integrations", &[("WHATSAPP_TOKEN", "first-value-of-it")])
        .await;
    env.activation("hola", everything()).await;

    let status = env.wait_for("hola", "Provisioned", "True").await;

    println!("Fly calls of Provision: {:#?}", env.sim.call_counts());
    once(
        &env,
        &[
            "app.create",
            "postgres.create",
            "postgres.attach",
            "addon.create",
            "certificate.create",
        ],
    );
    assert_eq!(made(&env)["address.allocate"], 2);
    for kind in [
        "App",
        "Address",
        "Certificate",
        "ManagedPostgres",
        "UpstashRedis",
    ] {
        assert!(
            kinds(&status).contains(&kind),
            "{kind}: {:?}",
            kinds(&status)
        );
    }
    let names: Vec<String> = digests(&status).into_keys().collect();
    assert_eq!(
        names,
        [
            "DATABASE_URL",
            "ICS_SALT",
            "JWT_SECRET",
            "REDIS_URL",
            "WHATSAPP_TOKEN"
        ]
    );
    let values = kept(&env, "hola").await;

    // Without a change of the spec there is no call that changes anything.
    env.sim.reset();
    let reads = "GET /v1/apps/{app}/secrets";
    let end = tokio::time::Instant::now() + crate::support::env::LIMIT;
    while env.sim.calls(reads) < 2 {
        assert!(
            tokio::time::Instant::now() < end,
            "{:?}",
            env.sim.call_counts()
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(mutations(&env), [""; 0]);

    // Of the secrets, only the one that has changed in Kubernetes is pushed.
    let before = digests(&status);
    env.secret("integrations", &[("WHATSAPP_TOKEN", "another-value-of-it")])
        .await;
    let status = env
        .wait("hola", "the new value", |status| {
            let now = digests(status);
            now.get("WHATSAPP_TOKEN")
                .is_some_and(|digest| Some(digest) != before.get("WHATSAPP_TOKEN"))
        })
        .await;
    let mut after = digests(&status);
    after.insert("WHATSAPP_TOKEN".into(), before["WHATSAPP_TOKEN"].clone());
    assert_eq!(after, before);
    let write = env
        .sim
        .ledger()
        .into_iter()
        .find(|effect| effect.kind == "secrets.write")
        .unwrap();
    assert_eq!(
        write.detail["set"],
        json!(["WHATSAPP_TOKEN"]),
        "{:?}",
        write.detail
    );

    // A hostname that leaves the spec loses its certificate.
    env.patch("hola", json!({"spec": {"provision": {"hostnames": []}}}))
        .await;
    env.wait("hola", "the certificate has gone", |_| {
        made(&env).contains_key("certificate.delete")
    })
    .await;
    once(&env, &["certificate.delete"]);

    // Deletion removes the app and keeps the data.
    env.delete("hola").await;
    assert!(env.sim.apps().is_empty());
    assert!(
        !made(&env).contains_key("postgres.delete") && !made(&env).contains_key("addon.delete")
    );
    assert_eq!(kept(&env, "hola").await, values);

    // A new object of the same name finds its values and databases, and may delete them.
    env.sim.reset();
    let mut again = everything();
    merge(
        &mut again,
        json!({"deletionPolicy": {"database": "Delete", "redis": "Delete", "secrets": "Delete"}}),
    );
    env.activation("hola", again).await;
    env.wait_for("hola", "Provisioned", "True").await;
    assert_eq!(kept(&env, "hola").await, values);
    let remade = made(&env);
    assert!(
        !remade.contains_key("postgres.create") && !remade.contains_key("addon.create"),
        "{remade:?}"
    );
    env.delete("hola").await;
    once(&env, &["postgres.delete", "addon.delete", "app.delete"]);
    assert_eq!(claims(&env).await, [""; 0]);
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    assert!(secrets.get_opt("hola-golive").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_makes_nothing_twice() {
    let env = Env::start().await;
    env.secret("integrations", &[("WHATSAPP_TOKEN", "first-value-of-it")])
        .await;
    let creates = [
        ("POST /v1/apps", 1),
        ("POST /v1/apps/{app}/ip_assignments", 2),
        ("POST /v1/apps/{app}/certificates/acme", 1),
        ("POST /v1/apps/{app}/secrets", 2),
        ("POST /api/v1/organizations/{slug}/postgresv2", 1),
        ("POST /api/v1/postgresv2/{id}/users", 1),
        ("POST /api/v1/postgresv2/{id}/databases", 1),
        ("POST /api/v1/postgresv2/{id}/attachments", 1),
        ("POST /graphql#createAddOn", 1),
    ];
    for (endpoint, times) in creates {
        env.sim
            .fault(Fault::new(endpoint, Kind::ResetAfter).occurrences(1..=times));
    }
    let mut spec = everything();
    // Each of the attachment's three calls loses a reply. That does not trigger the fallback.
    merge(
        &mut spec,
        json!({"provision": {"postgres": {"managed": {"plan": "launch"}}}}),
    );
    env.activation("hola", spec).await;

    env.wait_for("hola", "Provisioned", "True").await;

    once(
        &env,
        &[
            "app.create",
            "postgres.create",
            "postgres.attach",
            "postgres.user.create",
            "postgres.database.create",
            "addon.create",
            "certificate.create",
        ],
    );
    assert_eq!(made(&env)["address.allocate"], 2);
    let hit = env
        .sim
        .call_list()
        .iter()
        .filter(|call| call.fault.is_some())
        .count();
    assert_eq!(hit, 11, "every fault was met");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_attached_gives_way_to_the_declared_one() {
    let mut env = Env::start().await;
    let url = "postgres://app:pass-of-the-fallback@db.example/app";
    env.secret("own-db", &[("url", url)]).await;
    env.sim.fault(
        Fault::new("POST /api/v1/postgresv2/{id}/users", Kind::status(500)).occurrences(1..=1000),
    );
    let fallback = json!({"urlSecretRef": {"name": "own-db", "key": "url"}});
    env.activation(
        "hola",
        gated(json!({"postgres": {"managed": {}, "fallback": fallback}})),
    )
    .await;

    let status = env.wait_for("hola", "Provisioned", "True").await;

    let used = &status.fallbacks[0];
    assert_eq!(
        (used.what.as_str(), used.to.as_str()),
        ("provision.postgres", "Secret own-db")
    );
    assert!(used.reason.contains("failed 3 times"), "{}", used.reason);
    assert!(!used.reason.contains("pass-of-the-fallback"));
    let before = digests(&status);

    // The fallback stays in use, also with a new operator process: the application has written to it.
    env.sim.clear_faults();
    env.stop_operator().await;
    env.sim.reset();
    env.start_operator(&[]).await;
    let end = tokio::time::Instant::now() + crate::support::env::LIMIT;
    while env.sim.calls("GET /v1/apps/{app}/secrets") < 2 {
        assert!(
            tokio::time::Instant::now() < end,
            "{:?}",
            env.sim.call_counts()
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let status = env.wait_for("hola", "Provisioned", "True").await;
    assert_eq!(digests(&status), before);
    assert!(status.fallbacks[0].reason.contains("failed 3 times"));
    assert_eq!(mutations(&env), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_that_is_no_longer_declared_gives_way_to_the_cluster() {
    let env = Env::start().await;
    let url = "postgres://app:pass-of-the-fallback@db.example/app";
    env.secret("own-db", &[("url", url)]).await;
    env.sim
        .fault(Fault::new("POST /api/v1/postgresv2/{id}/users", Kind::status(500)).always());
    let fallback = json!({"urlSecretRef": {"name": "own-db", "key": "url"}});
    let spec = json!({"postgres": {"managed": {}, "fallback": fallback}});
    env.activation("hola", gated(spec)).await;
    let before = env.wait_for("hola", "Provisioned", "True").await;
    env.sim.clear_faults();

    let none = json!({"spec": {"provision": {"postgres": {"fallback": null}}}});
    env.patch("hola", none).await;
    env.wait("hola", "the URL of the cluster", |status| {
        digests(status) != digests(&before) && status.fallbacks.is_empty()
    })
    .await;
    assert_eq!(env.sim.calls("POST /api/v1/postgresv2/{id}/databases"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_goes_as_asked_also_when_the_spec_names_another_database_by_now() {
    let env = Env::start().await;
    let spec = json!({"postgres": {"managed": {}}});
    env.activation("hola", gated(spec)).await;
    env.wait_for("hola", "Provisioned", "True").await;
    let url = "postgres://app:pass-of-theirs@db.example/app";
    env.secret("own-db", &[("url", url)]).await;
    let external = json!({"urlSecretRef": {"name": "own-db", "key": "url"}});
    env.patch(
        "hola",
        json!({"spec": {
            "provision": {"postgres": {"managed": null, "external": external}},
            "deletionPolicy": {"database": "Delete"},
        }}),
    )
    .await;
    env.delete("hola").await;
    crate::support::crash::nothing_left(&env).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fallback_a_failed_attachment_says_what_to_do_and_mends_itself() {
    let env = Env::start().await;
    env.sim.fault(
        Fault::new("POST /api/v1/postgresv2/{id}/databases", Kind::status(500))
            .occurrences(1..=1000),
    );
    env.activation("hola", gated(json!({"postgres": {"managed": {}}})))
        .await;
    let status = env
        .wait("hola", "AttachFailed", |status| {
            step(status, "Attach").0 == "AttachFailed"
        })
        .await;
    assert!(
        step(&status, "Attach").1.contains("fly mpg status"),
        "{:?}",
        step(&status, "Attach")
    );

    env.sim.clear_faults();
    env.wait_for("hola", "Provisioned", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_exist_elsewhere_are_used_and_followed() {
    let env = Env::start().await;
    env.secret(
        "db",
        &[("url", "postgres://app:first-password@db.example/app")],
    )
    .await;
    env.secret(
        "redis",
        &[("url", "rediss://default:first-password@redis.example")],
    )
    .await;
    let reference =
        |name: &str| json!({"external": {"urlSecretRef": {"name": name, "key": "url"}}});
    env.activation(
        "hola",
        gated(json!({"postgres": reference("db"), "redis": reference("redis")})),
    )
    .await;
    let status = env.wait_for("hola", "Provisioned", "True").await;
    assert!(
        !made(&env).contains_key("postgres.create") && !made(&env).contains_key("addon.create")
    );
    let before = digests(&status);
    assert!(before.contains_key("DATABASE_URL") && before.contains_key("REDIS_URL"));

    env.secret(
        "db",
        &[("url", "postgres://app:second-password@db.example/app")],
    )
    .await;
    env.wait("hola", "the new URL", |status| {
        let now = digests(status);
        now.get("DATABASE_URL")
            .is_some_and(|digest| *digest != before["DATABASE_URL"])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_app_serves_one_activation() {
    let env = Env::start().await;
    env.activation("first", gated(json!({"postgres": {"managed": {}}})))
        .await;
    env.wait_for("first", "Provisioned", "True").await;
    env.activation("second", gated(json!({"postgres": {"managed": {}}})))
        .await;
    // Preflight uses the step's own observation, so it reports the problem before any change.
    let status = env
        .wait("second", "AppClaimed", |status| {
            reason(status, "PreflightPassed") == "AppClaimed"
        })
        .await;
    let said = message(&status, "PreflightPassed");
    assert!(said.contains("/first"), "{said}");
    env.delete("second").await;
    assert_eq!(env.sim.apps(), [APP]);
    once(&env, &["app.create", "postgres.create"]);

    // A retained app is never adopted by another object, and by one of the same name only on request.
    env.patch(
        "first",
        json!({"spec": {"deletionPolicy": {"app": "Retain"}}}),
    )
    .await;
    env.delete("first").await;
    assert_eq!(env.sim.apps(), [APP]);
    env.activation("first", gated(json!({}))).await;
    env.wait("first", "AdoptionRefused", |status| {
        reason(status, "PreflightPassed") == "AdoptionRefused"
    })
    .await;
    env.patch("first", json!({"spec": {"adoption": "IfOwned"}}))
        .await;
    let status = env.wait_for("first", "Provisioned", "True").await;
    assert!(
        is(&status, "Provisioned", "True"),
        "{}",
        message(&status, "Ready")
    );
    env.delete("first").await;
    assert!(env.sim.apps().is_empty());
}

/// Roles of the machines of a legacy cluster that run, as their checks say them, and the sizes of the volumes.
fn cluster(env: &Env, app: &str) -> (Vec<String>, Vec<u64>) {
    let machines = env.sim.machines(app).into_iter();
    let mut roles: Vec<String> = machines
        .filter(|machine| machine["state"] == "started")
        .map(|machine| {
            let checks = machine["checks"].as_array().cloned().unwrap_or_default();
            let role = checks.into_iter().find(|check| check["name"] == "role");
            role.map_or_else(String::new, |check| {
                check["output"].as_str().unwrap_or_default().to_owned()
            })
        })
        .collect();
    roles.sort();
    let sizes = env.sim.core().read(|world| {
        let volumes = world.apps[app].volumes.values();
        volumes.map(|volume| volume.size_gb).collect()
    });
    (roles, sizes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_cluster_of_three_has_one_primary_grows_and_survives_its_loss() {
    let mut env = Env::without_operator(fly_sim::Options::default()).await;
    env.start_operator(&["--recheck-interval", "1s"]).await;
    let text = std::fs::read_to_string(root().join("examples/fly-postgres.yaml")).unwrap();
    let mut activation: Value = serde_saphyr::from_str(&text).unwrap();
    let legacy = &mut activation["spec"]["provision"]["postgres"]["flyPostgres"];
    (legacy["count"], legacy["volumeSizeGb"]) = (json!(3), json!(1));
    env.apply(&activation.to_string()).await;
    let (name, app) = ("cabanas-legacy", "cabanas-legacy-db");
    env.wait_for(name, "Provisioned", "True").await;
    let three = ["primary", "replica", "replica"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(cluster(&env, app), (three.clone(), vec![1, 1, 1]));
    env.wait_for(name, "Deployed", "True").await;

    let larger = json!({"spec": {"provision": {"postgres": {"flyPostgres": {"volumeSizeGb": 2}}}}});
    env.patch(name, larger).await;
    env.wait(name, "larger volumes", |_| {
        env.sim.core().read(|world| {
            let mut volumes = world.apps[app].volumes.values();
            volumes.all(|volume| volume.size_gb == 2)
        })
    })
    .await;

    let primary = env.sim.core().read(|world| {
        let number = world.apps[app].internal_numeric_id;
        world.platform.primaries[&number].clone()
    });
    let lost = format!("machine:{primary}");
    assert!(fly_sim::deletion::delete(env.sim.core(), app, &lost).await);
    env.wait(name, "the third machine again", |_| {
        let machines = env.sim.machines(app);
        let up = |machine: &&Value| machine["state"] == "started" && machine["id"] != primary;
        machines.iter().filter(up).count() == 3
    })
    .await;
    env.wait_for(name, "Provisioned", "True").await;
    env.wait(name, "one primary", |_| cluster(&env, app).0 == three)
        .await;
    env.wait_for(name, "Ready", "True").await;
}

#[expect(clippy::disallowed_methods, reason = "a test reads the clock")]
#[tokio::test(flavor = "multi_thread")]
async fn generated_values_are_replaced_at_their_age_and_the_one_before_is_kept_for_a_while() {
    let mut env = Env::without_operator(fly_sim::Options::default()).await;
    env.start_operator(&["--recheck-interval", "1s"]).await;
    env.activation(
        "hola",
        json!({"provision": {"secrets": {
            "generate": [{"name": "JWT_SECRET"}],
            "rotation": {"maxAge": "24h", "overlap": "1h"},
        }}}),
    )
    .await;
    env.wait_live("hola").await;
    let first = kept(&env, "hola").await["JWT_SECRET"].clone();
    let made_at = |at: String| {
        json!({"metadata": {"annotations": {
            "golive.dev/generated-at": json!({"JWT_SECRET": at}).to_string(),
        }}})
    };
    let api: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let age = async |hours: i64| {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        let patch = kube::api::Patch::Merge(made_at(at.to_string()));
        api.patch("hola-golive", &Default::default(), &patch)
            .await
            .unwrap();
    };

    age(25).await;

    let status = env
        .wait("hola", "another value at Fly.io", |status| {
            status.release.as_ref().and_then(|r| r.number) == Some(2) && is(status, "Ready", "True")
        })
        .await;
    assert!(!is(&status, "Drifted", "True"), "{status:?}");
    let second = kept(&env, "hola").await;
    assert_ne!(second["JWT_SECRET"], first);
    assert_eq!(second["JWT_SECRET.previous"], first);
    // The application gets both, in one update.
    let names = |status: &golive::api::ActivationStatus| -> Vec<String> {
        let names = status.secrets.iter().map(|secret| secret.name.clone());
        names.filter(|name| name.starts_with("JWT")).collect()
    };
    assert_eq!(names(&status), ["JWT_SECRET", "JWT_SECRET_PREVIOUS"]);
    let at_fly = || {
        env.sim.core().read(|world| {
            let secrets = world.apps["hola-cabanas"].platform.boot_secrets();
            secrets.get("JWT_SECRET_PREVIOUS").cloned()
        })
    };
    assert_eq!(at_fly().map(String::into_bytes), Some(first.clone()));
    let events = env.wait_event("hola", "SecretRotated").await;
    assert!(
        events.iter().all(|(kind, _, _)| kind != "Warning"),
        "asked for, so no drift: {events:?}"
    );

    // The overlap counts from the release that has the new value.
    let overlap = json!({"secrets": {"rotation": {"overlap": "1s"}}});
    env.patch("hola", json!({"spec": {"provision": overlap}}))
        .await;

    let given_up = |secret: Option<&Secret>| {
        let data = secret.and_then(|secret| secret.data.as_ref());
        data.is_some_and(|data| !data.contains_key("JWT_SECRET.previous"))
    };
    let waiting = kube::runtime::wait::await_condition(api.clone(), "hola-golive", given_up);
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .expect("the value before is given up")
        .unwrap();
    env.wait(
        "hola",
        "the application without the previous value",
        |status| names(status) == ["JWT_SECRET"] && is(status, "Ready", "True"),
    )
    .await;
    assert_eq!(at_fly(), None);
    assert_eq!(kept(&env, "hola").await["JWT_SECRET"], second["JWT_SECRET"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_somebody_asks_to_replace_are_replaced_and_that_is_told_and_no_drift() {
    let env = Env::start().await;
    let generate = json!({"secrets": {"generate": [{"name": "JWT_SECRET"}]}});
    env.activation("hola", json!({"provision": generate})).await;
    env.wait_live("hola").await;
    let first = kept(&env, "hola").await["JWT_SECRET"].clone();

    let asked = json!({"metadata": {"annotations": {"golive.dev/rotate-secrets": "monday"}}});
    env.patch("hola", asked).await;

    let events = env.wait_event("hola", "SecretRotated").await;
    assert_ne!(kept(&env, "hola").await["JWT_SECRET"], first);
    env.wait_live("hola").await;
    assert!(
        events.iter().all(|(kind, _, _)| kind != "Warning"),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostname_without_its_dns_record_says_which_one_to_set_and_holds_up_nothing() {
    let env = Env::start().await;
    let hostnames = json!({"provision": {"hostnames": ["reservas.cabanas.example"]}});
    env.activation("hola", hostnames).await;

    let status = env.wait_live("hola").await;

    let provision = status
        .phases
        .iter()
        .find(|p| p.name.as_str() == "Provision");
    let mut steps = provision.unwrap().steps.iter();
    let step = steps.find(|step| step.name == "Certificates").unwrap();
    assert_eq!(step.state.as_str(), "Done", "{step:?}");
    assert_eq!(step.reason, "CertificatePending");
    let record = "set `reservas.cabanas.example ";
    assert!(step.message.contains(record), "{step:?}");
    // Our resources carry the version that wrote them.
    let claims: Api<k8s_openapi::api::core::v1::ConfigMap> =
        Api::namespaced(env.kube.clone(), &env.namespace);
    let claim = claims.get("golive-app-hola-cabanas").await.unwrap();
    let labels = claim.metadata.labels.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(labels["app.kubernetes.io/version"], version);
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_fly_postgres_is_made_attached_and_left_behind() {
    let env = Env::start().await;
    for endpoint in [
        "POST /v1/apps/{app}/volumes",
        "POST /v1/apps/{app}/machines/{id}/exec",
        "POST /graphql#attachPostgresCluster",
    ] {
        env.sim.fault(Fault::new(endpoint, Kind::ResetAfter));
    }
    let text = std::fs::read_to_string(root().join("examples/fly-postgres.yaml")).unwrap();
    env.apply(&text).await;
    let name = "cabanas-legacy";

    // The release command migrates the database, so the URL, the user and its rights are real.
    let status = env.wait_for(name, "Deployed", "True").await;

    assert!(
        kinds(&status).contains(&"FlyPostgres"),
        "{:?}",
        kinds(&status)
    );
    once(&env, &["volume.create"]);
    assert_eq!(env.sim.machines("cabanas-legacy-db").len(), 1);
    env.delete(name).await;
    assert_eq!(env.sim.apps(), ["cabanas-legacy-db"]);
    assert_eq!(
        claims(&env).await.len(),
        2,
        "the data's and Redis's: {:?}",
        claims(&env).await
    );

    // It is found again, and deleted on request.
    env.sim.reset();
    env.apply(&text.replace(
        "database: Retain, redis: Retain",
        "database: Delete, redis: Delete",
    ))
    .await;
    env.wait_for(name, "Provisioned", "True").await;
    assert!(!made(&env).contains_key("volume.create"));
    env.delete(name).await;
    assert!(env.sim.apps().is_empty(), "{:?}", env.sim.apps());
    assert_eq!(claims(&env).await, [""; 0]);
}
