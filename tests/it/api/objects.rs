//! The API as the real API server sees it: defaults, rules, immutability, merging.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeSet;

use golive::api::{Activation, ActivationApproval, FIELD_MANAGER};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::support::installed::{cluster, root};

/// A namespace of its own, and the API of Activations in it.
pub async fn activations() -> (Client, String, Api<Activation>) {
    let cluster = cluster().await;
    let client = cluster.client().unwrap();
    let namespace = cluster.create_namespace("api").await.unwrap();
    let api = Api::namespaced(client.clone(), &namespace);
    (client, namespace, api)
}

pub fn minimal(name: &str) -> Value {
    json!({
        "apiVersion": "golive.dev/v1alpha1",
        "kind": "Activation",
        "metadata": {"name": name},
        "spec": {
            "organization": "cabanas",
            "app": name,
            "region": "eze",
            "deploy": {"image": "registry.fly.io/cabanas:1.4.0"},
        },
    })
}

/// `base` with `change` merged into its spec, as a merge patch does.
pub fn with(mut base: Value, change: &Value) -> Value {
    fn merge(into: &mut Value, change: &Value) {
        match (into, change) {
            (Value::Object(into), Value::Object(change)) => {
                for (name, value) in change {
                    merge(into.entry(name.clone()).or_insert(Value::Null), value);
                }
            }
            (into, change) => *into = change.clone(),
        }
    }
    merge(&mut base["spec"], change);
    base
}

/// Sends an object as JSON, without our own types.
pub async fn create(
    client: &Client,
    namespace: &str,
    object: &Value,
    dry: bool,
) -> kube::Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let resource = kube::discovery::ApiResource::erase::<Activation>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let params = PostParams {
        dry_run: dry,
        ..PostParams::default()
    };
    api.create(&params, &object).await
}

pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("the server should have answered: {other}"),
    }
}

#[tokio::test]
async fn a_minimal_object_is_valid_and_gets_every_default() {
    let (client, namespace, api) = activations().await;

    create(&client, &namespace, &minimal("minimal"), false)
        .await
        .unwrap();

    let found = api.get("minimal").await.unwrap();
    let spec = &found.spec;
    assert_eq!(spec.token_secret_ref.name, "fly");
    assert_eq!(spec.token_secret_ref.key, "token");
    assert_eq!(spec.deploy.deadline.to_string(), "10m");
    assert!(spec.provision.addresses.shared_v4);
    // The server and our types have the same defaults.
    let ours: Activation = serde_json::from_value(minimal("minimal")).unwrap();
    assert_eq!(ours.spec, *spec);
}

#[tokio::test]
async fn a_fresh_object_says_that_nothing_was_seen_yet() {
    let (client, namespace, api) = activations().await;

    create(&client, &namespace, &minimal("fresh"), false)
        .await
        .unwrap();

    let status = api.get("fresh").await.unwrap().status.unwrap();
    assert_eq!(status.observed_generation, Some(-1));
    assert!(status.conditions.is_empty());
}

#[tokio::test]
async fn a_null_is_the_same_as_a_field_left_out() {
    let (client, namespace, api) = activations().await;
    let object = with(
        minimal("null"),
        &json!({"preflight": {"deadline": null}, "observe": null}),
    );

    create(&client, &namespace, &object, false).await.unwrap();

    let found = api.get("null").await.unwrap();
    assert_eq!(found.spec.preflight.deadline.to_string(), "5m");
    assert_eq!(found.spec.observe, None);
}

/// Every rule, broken once, and words that its message must contain.
pub fn refused() -> Vec<(Value, &'static str)> {
    let url = json!({"urlSecretRef": {"name": "a", "key": "b"}});
    let check = |fields: Value| json!({"smokeTest": {"checks": [fields]}});
    let objective = |fields: Value| json!({"observe": {"objectives": [fields]}});
    let mut rows = super::source::refused();
    rows.extend([
        (json!({"organization": "Not A Slug"}), "spec.organization"),
        (json!({"app": "-x"}), "spec.app"),
        (json!({"region": "EZE"}), "spec.region"),
        (json!({"deploy": {"image": ""}}), "spec.deploy.image"),
        (
            json!({"deploy": {"image": "has space"}}),
            "spec.deploy.image",
        ),
        (
            json!({"deploy": {"deadline": "5s"}}),
            "`deadline` must be between 10s and 24h",
        ),
        (
            json!({"provision": {"deadline": "25h"}}),
            "`deadline` must be between 10s and 24h",
        ),
        (
            json!({"smokeTest": {"deadline": "soon"}}),
            "spec.smokeTest.deadline",
        ),
        (
            json!({"preflight": {"deadline": "-5m"}}),
            "spec.preflight.deadline",
        ),
        (
            json!({"preflight": {"skip": [{"check": "TokenValid", "justification": "no"}]}}),
            "justification",
        ),
        (
            json!({"preflight": {"skip": [{"check": "Everything", "justification": "a good reason"}]}}),
            "Unsupported value",
        ),
        (
            json!({"preflight": {"skip": [
                {"check": "TokenExpiry", "justification": "a good reason"},
                {"check": "TokenExpiry", "justification": "another reason"},
            ]}}),
            "Duplicate value",
        ),
        (
            json!({"provision": {"postgres": {}}}),
            "exactly one of `managed`, `flyPostgres` and `external`",
        ),
        (
            json!({"provision": {"postgres": {"managed": {}, "flyPostgres": {}}}}),
            "exactly one of `managed`, `flyPostgres` and `external`",
        ),
        (
            json!({"provision": {"postgres": {"external": url, "fallback": url}}}),
            "`fallback` must not be set with `external`",
        ),
        (
            json!({"provision": {"postgres": {"managed": {"volumeSizeGb": 1}}}}),
            "volumeSizeGb",
        ),
        (
            json!({"provision": {"postgres": {"flyPostgres": {"count": 2}}}}),
            "`count` must be 1 or 3",
        ),
        (
            json!({"provision": {"redis": {}}}),
            "exactly one of `upstash` and `external`",
        ),
        (
            json!({"provision": {"redis": {"upstash": {}, "external": url}}}),
            "exactly one of `upstash` and `external`",
        ),
        (
            json!({"provision": {"secrets": {"generate": [{"name": "1ABC"}]}}}),
            "generate[0].name",
        ),
        (
            json!({"provision": {"secrets": {"generate": [{"name": "A", "bytes": 4}]}}}),
            "bytes",
        ),
        (
            json!({"provision": {"secrets": {"generate": [{"name": "A"}, {"name": "A"}]}}}),
            "Duplicate value",
        ),
        (
            json!({"provision": {"secrets": {"from": [{"secretRef": {"name": "a"}}, {"secretRef": {"name": "a"}}]}}}),
            "`from` must name each Secret once",
        ),
        (
            json!({"provision": {"hostnames": ["http://x.example"]}}),
            "hostnames[0]",
        ),
        (
            json!({"provision": {"hostnames": ["localhost"]}}),
            "hostnames[0]",
        ),
        (
            json!({"deploy": {"config": {}}}),
            "exactly one of `configMapRef` and `inline`",
        ),
        (
            json!({"deploy": {"config": {"inline": "a", "configMapRef": {"name": "a"}}}}),
            "exactly one of `configMapRef` and `inline`",
        ),
        (
            json!({"deploy": {"config": {"inline": "a"}, "port": 80}}),
            "`port` must not be set with `config`",
        ),
        (json!({"deploy": {"port": 0}}), "port"),
        (
            json!({"deploy": {"scale": {"APP!": 1}}}),
            "`scale` must have names of process groups as keys",
        ),
        (
            json!({"deploy": {"scale": {"app": 101}}}),
            "between 0 and 100 machines",
        ),
        (
            json!({"deploy": {"onFailure": "Explode"}}),
            "Unsupported value",
        ),
        (
            check(json!({"name": "a"})),
            "exactly one of `http`, `metrics`, `tcp` and `database`",
        ),
        (
            check(json!({"name": "a", "tcp": {"port": 1}, "database": {}})),
            "exactly one of `http`",
        ),
        (
            check(json!({"name": "a", "http": {"path": "health"}})),
            "path",
        ),
        (
            check(json!({"name": "a", "http": {"path": "/", "method": "POST"}})),
            "Unsupported value",
        ),
        (
            check(
                json!({"name": "a", "http": {"path": "/", "method": "HEAD", "bodyContains": "x"}}),
            ),
            "`bodyContains` needs the method 'GET'",
        ),
        (
            check(json!({"name": "a", "tcp": {"port": 1}, "timeout": "3m"})),
            "`timeout` must be between 1s and 2m",
        ),
        (
            check(json!({"name": "a", "tcp": {"port": 1}, "interval": "0s"})),
            "`interval` must be between 1s and 10m",
        ),
        (
            check(json!({"name": "a", "tcp": {"port": 1}, "consecutiveSuccess": 9})),
            "`consecutiveSuccess` must not be greater than `count`",
        ),
        (
            check(json!({"name": "a", "tcp": {"port": 1}, "failureLimit": 5})),
            "`failureLimit` must be less than `count`",
        ),
        (
            check(json!({"name": "a", "tcp": {"port": 1}, "fallbacks": [{}]})),
            "exactly one of `http`, `metrics` and `tcp`",
        ),
        (
            json!({"smokeTest": {"interval": "1s"}}),
            "`interval` must be between 30s and 24h",
        ),
        (
            check(json!({"name": "a", "http": {"path": "api/healthz"}})),
            "`path` must begin with `/`",
        ),
        (
            check(json!({"name": "a", "http": {"path": "https://example.com/"}})),
            "a path on the app itself, not a URL of another host",
        ),
        (
            check(json!({"name": "a", "metrics": {"path": "/a b"}})),
            "percent-encode",
        ),
        (
            check(json!({"name": "Home Page", "tcp": {"port": 1}})),
            "`name` must have lower-case letters",
        ),
        (
            json!({"gates": [{"before": "Deploy"}, {"before": "Deploy", "approvals": 2}]}),
            "Duplicate value",
        ),
        (
            json!({"gates": [{"before": "Preflight"}]}),
            "Unsupported value",
        ),
        (
            json!({"gates": [{"before": "Deploy", "timeout": "1s"}]}),
            "`timeout` must be between 1m and 720h",
        ),
        (
            json!({"gates": [{"before": "Deploy", "approvals": 0}]}),
            "approvals",
        ),
        (
            json!({"integrations": {"ical": {"exportPath": "/x", "maxSyncAge": "1s"}}}),
            "`maxSyncAge` must be between 1m and 168h",
        ),
        (
            json!({"observe": {"window": "5m"}}),
            "`window` must be between 1h and 720h",
        ),
        (
            json!({"observe": {"source": {"metricsPath": "/m", "flyPrometheus": {}}}}),
            "exactly one of `metricsPath`, `prometheus` and `flyPrometheus`",
        ),
        (
            json!({"observe": {"source": {"prometheus": {"url": "ftp://p.example"}}}}),
            "url",
        ),
        (
            objective(json!({"name": "a"})),
            "exactly one of `latency`, `errorRate`, `gauge`, `availability` and `logs`",
        ),
        (
            objective(json!({"name": "a", "latency": {"metric": "m", "below": "2h"}})),
            "`below` must be between 1ms and 1h",
        ),
        (
            objective(
                json!({"name": "a", "errorRate": {"metric": "m", "errorSelector": {"a": "b"}, "below": "one"}}),
            ),
            "below",
        ),
        (
            objective(
                json!({"name": "a", "errorRate": {"metric": "m", "errorSelector": {}, "below": "1%"}}),
            ),
            "errorSelector",
        ),
        (json!({"mode": "Dream"}), "Unsupported value"),
        (
            json!({"readyWhen": "Stabilized"}),
            "`readyWhen: Stabilized` needs `observe`",
        ),
        (
            objective(json!({"name": "a", "gauge": {"metric": "m"}})),
            "exactly one of `below` and `above`",
        ),
        (
            objective(
                json!({"name": "a", "availability": {"above": "99%"}, "logs": {"pattern": "x", "perMinute": 1}}),
            ),
            "exactly one of `latency`, `errorRate`, `gauge`, `availability` and `logs`",
        ),
        (
            objective(json!({"name": "a", "availability": {"above": "99%", "interval": "1s"}})),
            "`interval` must be between 30s and 1h",
        ),
        (
            json!({"provision": {"secrets": {"generate": [{"name": "FLY_TOKEN"}]}}}),
            "must not begin with FLY_",
        ),
        (json!({"suspendUntil": "tomorrow"}), "suspendUntil"),
    ]);
    rows
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_in_words_that_say_what_is_required() {
    let (client, namespace, _) = activations().await;
    for (change, expected) in refused() {
        let object = with(minimal("refused"), &change);
        match create(&client, &namespace, &object, true).await {
            Ok(_) => panic!("accepted: {change}"),
            Err(error) => {
                let message = message(&error);
                assert!(message.contains(expected), "{change}: {message}");
            }
        }
    }
}

#[tokio::test]
async fn unusual_but_sensible_objects_are_accepted() {
    let (client, namespace, _) = activations().await;
    let url = json!({"urlSecretRef": {"name": "a", "key": "b"}});
    for change in [
        json!({"deploy": {"image": format!("ghcr.io/me/app@sha256:{}", "0".repeat(64))}}),
        json!({"deploy": {"image": null, "source": {
            "image": "localhost:5000/me/app", "interval": "24h",
            "policy": {"semver": {"range": ">=1.5.0-rc.1 <2 || 3.x"}},
            "credentialsSecretRef": {"name": "pull"},
        }}}),
        json!({"deploy": {"image": null, "source": {
            "image": "nginx",
            "policy": {"newest": {"pattern": "^main-(?P<ts>[0-9]+)$", "extract": "$ts", "order": "Numerical"}},
        }}}),
        json!({"deploy": {"port": 3000, "scale": {"app": 0, "worker_1": 100}}}),
        json!({"deploy": {"config": {"configMapRef": {"name": "a"}}}}),
        json!({"provision": {"postgres": {"flyPostgres": {"count": 3}, "fallback": url}}}),
        json!({"provision": {"postgres": {"external": url}, "redis": {"external": url}}}),
        json!({"provision": {"hostnames": ["*.example.org", "xn--caaba-fta.example"]}}),
        json!({"smokeTest": {"checks": [{"name": "a", "http": {"path": "/?q=ñ".replace('ñ', "%C3%B1"), "method": "HEAD", "status": [200, 204, 302]}}]}}),
        json!({"smokeTest": {"checks": [{"name": "a", "tcp": {"port": 5432}, "count": 1, "failureLimit": 0}]}}),
        json!({"smokeTest": {"interval": "30s", "checks": []}}),
        json!({"suspend": true, "suspendReason": "holiday", "suspendUntil": "2030-01-01T00:00:00Z"}),
        json!({"observe": {"source": {"flyPrometheus": {}}, "window": "1h30m"}}),
    ] {
        let object = with(minimal("accepted"), &change);
        if let Err(error) = create(&client, &namespace, &object, true).await {
            panic!("{change}: {}", message(&error));
        }
    }
}

#[tokio::test]
async fn what_cannot_move_is_immutable_and_the_rest_can_change() {
    let (client, namespace, api) = activations().await;
    let postgres = json!({"provision": {"postgres": {"managed": {"volumeSizeGb": 20}}}});
    create(
        &client,
        &namespace,
        &with(minimal("fixed"), &postgres),
        false,
    )
    .await
    .unwrap();
    let patch = async |spec: Value| {
        let body = json!({"spec": spec});
        let patched = api
            .patch("fixed", &PatchParams::default(), &Patch::Merge(&body))
            .await;
        patched.map_err(|error| message(&error))
    };
    for (change, expected) in [
        (
            json!({"organization": "other"}),
            "`organization` is immutable",
        ),
        (json!({"app": "other"}), "`app` is immutable"),
        (json!({"region": "ams"}), "`region` is immutable"),
        (
            json!({"provision": {"postgres": {"managed": {"volumeSizeGb": 30}}}}),
            "grow it in Fly.io's dashboard",
        ),
        (
            json!({"provision": {"postgres": {"managed": {"version": 17}}}}),
            "`version` is immutable",
        ),
        (
            json!({"provision": {"postgres": {"managed": null, "flyPostgres": {}}}}),
            "cannot change between `managed` and `flyPostgres`",
        ),
    ] {
        let refusal = patch(change.clone()).await.unwrap_err();
        assert!(refusal.contains(expected), "{change}: {refusal}");
    }
    patch(json!({"deploy": {"image": "registry.fly.io/cabanas:1.5.0"}}))
        .await
        .unwrap();
    patch(json!({"provision": {"secrets": {"rotation": {"maxAge": "720h"}}}}))
        .await
        .unwrap();
    let external =
        json!({"managed": null, "external": {"urlSecretRef": {"name": "a", "key": "b"}}});
    let moved = patch(json!({"provision": {"postgres": external}}))
        .await
        .unwrap();
    assert_eq!(moved.metadata.generation, Some(4));
}

#[tokio::test]
async fn every_example_is_accepted() {
    let (client, namespace, _) = activations().await;
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for mut object in kube_env::cluster::parse_yaml(&text).unwrap() {
            if object["kind"] != "Activation" {
                continue;
            }
            let meta = object["metadata"].as_object_mut().unwrap();
            meta.remove("namespace");
            if let Err(error) = create(&client, &namespace, &object, true).await {
                panic!("{}: {}", path.display(), message(&error));
            }
            seen.insert(object["metadata"]["name"].as_str().unwrap().to_owned());
            // And it is read by our own types without losing anything that was written.
            let read: Activation = serde_json::from_value(object.clone()).unwrap();
            let written = serde_json::to_value(&read).unwrap();
            lost_nothing(
                &path.display().to_string(),
                &object["spec"],
                &written["spec"],
            );
        }
    }
    assert!(seen.contains("sist-cabanas-mvp"), "{seen:?}");
}

fn lost_nothing(path: &str, wrote: &Value, read: &Value) {
    match (wrote, read) {
        (Value::Object(wrote), Value::Object(read)) => {
            for (name, value) in wrote {
                let empty = value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(serde_json::Map::is_empty);
                match read.get(name) {
                    Some(read) => lost_nothing(&format!("{path}.{name}"), value, read),
                    None => assert!(empty, "{path}.{name} was lost"),
                }
            }
        }
        (Value::Array(wrote), Value::Array(read)) => {
            assert_eq!(wrote.len(), read.len(), "{path}");
            for (index, (wrote, read)) in wrote.iter().zip(read).enumerate() {
                lost_nothing(&format!("{path}[{index}]"), wrote, read);
            }
        }
        _ => assert_eq!(wrote, read, "{path}"),
    }
}

#[tokio::test]
async fn a_reference_cannot_leave_the_namespace() {
    let (client, namespace, api) = activations().await;
    let reference = json!({"tokenSecretRef": {"name": "fly", "namespace": "kube-system"}});

    create(
        &client,
        &namespace,
        &with(minimal("stays"), &reference),
        false,
    )
    .await
    .unwrap();

    let found = serde_json::to_value(api.get("stays").await.unwrap()).unwrap();
    assert_eq!(
        found["spec"]["tokenSecretRef"],
        json!({"name": "fly", "key": "token"})
    );
}

#[tokio::test]
async fn an_object_of_more_than_its_bounds_is_refused() {
    let (client, namespace, _) = activations().await;
    let long = json!({"deploy": {"config": {"inline": "#".repeat(1_400_000)}}});
    let error = create(&client, &namespace, &with(minimal("long"), &long), true)
        .await
        .unwrap_err();
    assert!(message(&error).contains("inline"), "{error}");

    let many: Vec<Value> = (0..65).map(|i| json!({"name": format!("S{i}")})).collect();
    let many = json!({"provision": {"secrets": {"generate": many}}});
    let error = create(&client, &namespace, &with(minimal("many"), &many), true)
        .await
        .unwrap_err();
    assert!(message(&error).contains("64"), "{error}");
}

#[tokio::test]
async fn two_managers_share_lists_item_by_item() {
    let (_, _, api) = activations().await;
    let apply = async |manager: &str, spec: Value| {
        let mut object = minimal("shared");
        object["spec"] = spec;
        let params = PatchParams::apply(manager);
        api.patch("shared", &params, &Patch::Apply(&object))
            .await
            .unwrap()
    };
    let mut base = minimal("shared")["spec"].clone();
    base["gates"] = json!([{"before": "Deploy"}]);
    apply("git", base.clone()).await;

    let both = apply(
        "security",
        json!({"gates": [{"before": "Observe", "approvals": 2}]}),
    )
    .await;

    assert_eq!(both.spec.gates.len(), 2);
    // And one who stops naming an item removes only that item.
    base["gates"] = json!([]);
    let rest = apply("git", base).await;
    assert_eq!(rest.spec.gates.len(), 1);
    assert_eq!(rest.spec.gates[0].before.as_str(), "Observe");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test writes a status as the operator would"
)]
#[tokio::test]
async fn a_status_that_says_the_same_again_is_no_write() {
    let (client, namespace, api) = activations().await;
    create(&client, &namespace, &minimal("same"), false)
        .await
        .unwrap();
    let body = json!({
        "apiVersion": "golive.dev/v1alpha1",
        "kind": "Activation",
        "status": {
            "observedGeneration": 1,
            "phase": "Deploy",
            "conditions": [{
                "type": "Ready", "status": "Unknown", "reason": "Progressing", "message": "",
                "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
            "phases": [{"name": "Deploy", "state": "Running", "attempts": 1}],
        },
    });
    let write = async || {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch_status("same", &params, &Patch::Apply(&body))
            .await
            .unwrap()
    };
    let first = write().await;
    let second = write().await;
    assert_eq!(first.resource_version(), second.resource_version());
    assert_eq!(
        first.metadata.generation,
        Some(1),
        "a status is no new generation"
    );
    assert_eq!(second.status.unwrap().phase.as_deref(), Some("Deploy"));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test writes a status as the operator would"
)]
#[tokio::test]
async fn a_status_can_say_all_that_our_types_can() {
    // Each enumeration, condition type and reason is accepted by the schema.
    let (client, namespace, api) = activations().await;
    create(&client, &namespace, &minimal("words"), false)
        .await
        .unwrap();
    use golive::api::condition::{self, ConditionStatus, ConditionType, Observation};
    use golive::api::status::{PhaseName, PhaseState};
    use golive::api::{ActivationStatus, Reason};
    for (index, reason) in Reason::ALL.iter().enumerate() {
        if index % 8 != 0 {
            continue;
        }
        let mut status = ActivationStatus::default();
        for (offset, type_) in ConditionType::ALL.iter().enumerate() {
            let reason = Reason::ALL.get(index + offset).unwrap_or(reason);
            let seen = Observation::new(*type_, ConditionStatus::Unknown, *reason, "why");
            condition::set(
                &mut status.conditions,
                seen,
                Some(1),
                "2026-01-01T00:00:00Z".parse().unwrap(),
            );
        }
        let state = PhaseState::ALL[index % PhaseState::ALL.len()];
        let phases: Vec<Value> = PhaseName::ALL
            .iter()
            .map(|name| json!({"name": name, "state": state}))
            .collect();
        let mut written = serde_json::to_value(&status).unwrap();
        written["phases"] = json!(phases);
        let body =
            json!({"apiVersion": "golive.dev/v1alpha1", "kind": "Activation", "status": written});
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let read = api
            .patch_status("words", &params, &Patch::Apply(&body))
            .await
            .unwrap();
        assert_eq!(read.status.unwrap().conditions, status.conditions);
    }
}

#[tokio::test]
async fn kubectl_explain_describes_every_field() {
    let cluster = cluster().await;
    let client = cluster.client().unwrap();
    let request = http::Request::get("/openapi/v3/apis/golive.dev/v1alpha1")
        .body(vec![])
        .unwrap();
    let api: Value = client.request(request).await.unwrap();
    let schemas = &api["components"]["schemas"];
    let mut fields = 0;
    for kind in ["Activation", "ActivationApproval"] {
        let schema = &schemas[format!("dev.golive.v1alpha1.{kind}")];
        let text = schema["description"].as_str().unwrap_or_default();
        assert!(text.starts_with(kind), "{kind}: {text}");
        for part in ["spec", "status"] {
            described(
                &format!("{kind}.{part}"),
                &schema["properties"][part],
                &mut fields,
            );
        }
    }
    assert!(fields > 200, "only {fields} fields were looked at");
}

fn described(path: &str, schema: &Value, fields: &mut usize) {
    let Some(properties) = schema["properties"].as_object() else {
        if schema["items"].is_object() {
            described(&format!("{path}[]"), &schema["items"], fields);
        }
        return;
    };
    for (name, field) in properties {
        let path = format!("{path}.{name}");
        let text = field["description"].as_str().unwrap_or_default();
        assert!(text.ends_with('.'), "{path} is not described: {text:?}");
        *fields += 1;
        described(&path, field, fields);
    }
}

#[tokio::test]
async fn an_approval_cannot_be_changed() {
    let (client, namespace, _) = activations().await;
    let approvals: Api<ActivationApproval> = Api::namespaced(client.clone(), &namespace);
    // The administrator holds every verb, so only the name must be true.
    let who = whoami(&client).await;
    let approval = json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "ActivationApproval",
        "metadata": {"name": "a"},
        "spec": {
            "activation": "x", "gate": "Deploy", "digest": format!("sha256:{}", "ab".repeat(32)),
            "decision": "Reject", "approver": who,
        },
    });
    let approval: ActivationApproval = serde_json::from_value(approval).unwrap();
    approvals
        .create(&PostParams::default(), &approval)
        .await
        .unwrap();

    let change = json!({"spec": {"decision": "Approve"}});
    let error = approvals
        .patch("a", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap_err();

    assert!(message(&error).contains("`spec` is immutable"), "{error}");
}

/// The name under which the server knows a client.
async fn whoami(client: &Client) -> String {
    use k8s_openapi::api::authentication::v1::SelfSubjectReview;
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .unwrap();
    let user = review.status.and_then(|status| status.user_info);
    user.and_then(|user| user.username).unwrap()
}
