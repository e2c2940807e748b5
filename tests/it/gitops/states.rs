//! The table of states, judged by what reads them: for every version that an object has from its creation
//! to its deletion, kstatus, Flux and Argo CD say what the table says, and nothing differs from Git.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper fails its test by a panic"
)]

use std::collections::BTreeMap;
use std::process::Command;

use fly_sim::{Fault, Kind};
use golive::api::ActivationStatus;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube_env::cluster::FIELD_MANAGER;
use serde_json::{Value, json};

use super::argo;
use crate::support::env::{Env, is, merge, reason};
use crate::support::published::{Verdict, judge};
use crate::support::trouble::{options, recovered, stopped};

/// Write the objects of the test data anew, after a change of the status: `GOLIVE_UPDATE_GOLDEN=1`.
const UPDATE: &str = "GOLIVE_UPDATE_GOLDEN";

/// A row of the table: its name; what kstatus and Flux say, and what Argo CD says.
type Row = (&'static str, &'static str, &'static str);

const CREATED: Row = ("created", "InProgress", "Progressing");
const DELETING: Row = ("deleting", "Terminating", "Progressing");
const STOPPED: Row = ("stopped", "Failed", "Degraded");
const ROLLED_BACK: Row = ("rolled-back", "Failed", "Degraded");
const GATE: Row = ("awaiting-approval", "InProgress", "Suspended");
const RETRYING: Row = ("retrying", "InProgress", "Progressing");
const RUNNING: Row = ("running", "InProgress", "Progressing");
const LIVE: Row = ("live", "Current", "Healthy");
const DEGRADED: Row = ("live-integration-failed", "Current", "Healthy");
const UNOBSERVED: Row = ("live-unobserved", "Current", "Healthy");
const PLANNED: Row = ("planned", "InProgress", "Progressing");
const ROWS: [Row; 11] = [
    CREATED,
    DELETING,
    STOPPED,
    ROLLED_BACK,
    GATE,
    RETRYING,
    RUNNING,
    LIVE,
    DEGRADED,
    UNOBSERVED,
    PLANNED,
];

fn condition<'a>(object: &'a Value, type_: &str) -> Option<(&'a str, &'a str)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == type_)?;
    Some((found["status"].as_str()?, found["reason"].as_str()?))
}

/// The row of an object that is not suspended.
fn row(object: &Value) -> Row {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return DELETING;
    }
    if object["status"]["observedGeneration"] != object["metadata"]["generation"] {
        return CREATED;
    }
    let is = |type_: &str, status: &str| condition(object, type_).is_some_and(|c| c.0 == status);
    match (
        condition(object, "Ready"),
        condition(object, "Reconciling"),
        condition(object, "Stalled"),
    ) {
        (Some(("False", "RolledBack")), None, Some(_)) => ROLLED_BACK,
        (Some(("False", _)), None, Some(_)) => STOPPED,
        (Some(("Unknown", "AwaitingApproval")), Some(_), None) => GATE,
        (Some(("Unknown", "ProgressingWithRetry")), Some(_), None) => RETRYING,
        (Some(("Unknown", _)), Some(_), None) => RUNNING,
        (Some(("True", _)), None, None) if is("IntegrationsHealthy", "False") => DEGRADED,
        (Some(("True", _)), None, None) if is("Observed", "Unknown") => UNOBSERVED,
        (Some(("True", _)), None, None) => LIVE,
        (Some(("Unknown", "Planned")), None, None) => PLANNED,
        _ => panic!("no row of the table: {object:#}"),
    }
}

/// A suspended object is frozen to kstatus and Suspended to Argo CD.
fn is_suspended(object: &Value) -> bool {
    object["spec"]["suspend"] == true && object["metadata"]["deletionTimestamp"].is_null()
}

/// Compares what the judges say of every version with the table, and returns an object for each row.
fn judged(versions: &[Value]) -> BTreeMap<&'static str, Value> {
    let verdicts = judge(versions, "manifests/gitops/flux/activations.yaml");
    let gated = judge(versions, "manifests/gitops/flux/gates.yaml");
    let mut found = BTreeMap::new();
    for ((object, verdict), gated) in versions.iter().zip(&verdicts).zip(&gated) {
        let suspended = is_suspended(object);
        // A frozen object keeps the conditions that it had, or has none but Ready, which is Unknown.
        let frozen = suspended
            && condition(object, "Ready").is_some_and(|ready| ready.1 == "Suspended")
            && object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let (name, kstatus, argo) = if frozen { RUNNING } else { row(object) };
        let flux = if name == "deleting" {
            "InProgress"
        } else {
            kstatus
        };
        let argo = if suspended { "Suspended" } else { argo };
        let expected = Verdict {
            kstatus: kstatus.to_owned(),
            flux: flux.to_owned(),
            argo: argo.to_owned(),
            message: verdict.message.clone(),
        };
        assert_eq!(*verdict, expected, "{name}: {object:#}");
        assert!(!verdict.message.is_empty(), "{name}: {object:#}");
        // With the file for gates, one that waits holds nothing up, and all else is the same.
        let flux = if name == GATE.0 { "Current" } else { flux };
        assert_eq!(gated.flux, flux, "{name}: {object:#}");
        let name = if suspended { "suspended" } else { name };
        found.insert(name, object.clone());
    }
    found
}

/// Applies what is in Git after a change there, as a GitOps tool does.
async fn git(env: &Env, source: &mut Value, change: Value) {
    merge(source, change);
    env.apply(&source.to_string()).await;
}

/// A server-side diff of the object against Git is empty: what an apply would make is what is there.
async fn nothing_differs(env: &Env, source: &Value) {
    let kind = kube::api::GroupVersionKind::gvk("golive.dev", "v1alpha1", "Activation");
    let resource = kube::api::ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(env.kube.clone(), &env.namespace, &resource);
    let name = source["metadata"]["name"].as_str().unwrap();
    let mut source = source.clone();
    source["metadata"]["namespace"] = json!(env.namespace);
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::apply(FIELD_MANAGER).force()
    };
    // All but what the server counts, and the status, which is not in Git.
    let stripped = |object: DynamicObject| {
        let mut object = serde_json::to_value(object).unwrap();
        object.as_object_mut().unwrap().remove("status");
        for field in ["managedFields", "resourceVersion"] {
            object["metadata"].as_object_mut().unwrap().remove(field);
        }
        object
    };
    loop {
        let before = stripped(api.get(name).await.unwrap());
        let applied = api.patch(name, &params, &Patch::Apply(&source)).await;
        let applied = stripped(applied.unwrap());
        // Nobody else changed it in between.
        if before == stripped(api.get(name).await.unwrap()) {
            assert_eq!(applied, before);
            return;
        }
    }
}

fn kubectl(env: &Env, args: &[&str]) -> (bool, String) {
    let output = Command::new("kubectl")
        .args(args)
        .args(["--namespace", &env.namespace])
        .env("KUBECONFIG", env.cluster.kubeconfig())
        .output()
        .expect("kubectl starts");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// What is at rest: `kubectl get` prints this, `kubectl wait` for Ready ends so, and Git is what is there.
async fn shows(env: &Env, source: &Value, columns: [&str; 3], waits: bool) {
    nothing_differs(env, source).await;
    let name = source["metadata"]["name"].as_str().unwrap().to_owned();
    let (printed, waited) = tokio::task::block_in_place(|| {
        let object = format!("activation/{name}");
        let get = kubectl(env, &["get", &object, "--no-headers"]);
        let wait = ["wait", &object, "--for=condition=Ready", "--timeout=1s"];
        (get, kubectl(env, &wait))
    });
    let found: Vec<&str> = printed.1.split_whitespace().skip(1).take(3).collect();
    assert_eq!(found, columns, "{}", printed.1);
    assert_eq!(waited.0, waits, "{}", waited.1);
}

async fn vote(env: &Env, name: &str, decision: &str) {
    let status = env
        .wait("hola", "a gate", |status| {
            reason(status, "Ready") == "AwaitingApproval"
        })
        .await;
    let deploy = status
        .phases
        .iter()
        .find(|phase| phase.name.as_str() == "Deploy");
    let digest = deploy.unwrap().gate.clone().unwrap().digest;
    env.decide(name, json!({"digest": digest, "decision": decision}))
        .await;
}

fn source(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
        "metadata": {
            "name": name, "labels": {"team": "web"},
            "annotations": {"argocd.argoproj.io/sync-options": "Delete=false"},
        },
        "spec": {
            "organization": "cabanas", "app": app, "region": "eze",
            "deploy": {"image": "registry.fly.io/hola-cabanas:1.0.0"},
        },
    })
}

/// Brings objects to every row.
async fn lives(env: &mut Env) {
    let mut hola = source("hola", "hola-cabanas");
    let gates =
        json!([{"before": "Deploy", "timeout": "2h", "onTimeout": "Reject", "approvals": 1}]);
    git(env, &mut hola, json!({"spec": {"gates": gates}})).await;
    nothing_differs(env, &hola).await;
    env.start_operator(&["--recheck-interval", "1s"]).await;

    vote(env, "no", "Reject").await;
    stopped(env, "hola", "Rejected").await;
    shows(env, &hola, ["Deploy", "False", "Rejected"], false).await;
    git(
        env,
        &mut hola,
        json!({"spec": {"deploy": {"scale": {"app": 1}}}}),
    )
    .await;
    env.wait("hola", "the gate again", |status| {
        reason(status, "Ready") == "AwaitingApproval"
    })
    .await;
    shows(env, &hola, ["Deploy", "Unknown", "AwaitingApproval"], false).await;
    vote(env, "yes", "Approve").await;
    recovered(env, "hola").await;
    shows(env, &hola, ["Live", "True", "GoLive"], true).await;

    // After Go-Live: an integration that fails, and Fly.io out of sight.
    let integrations = json!({"ical": {"exportPath": "/"}});
    git(
        env,
        &mut hola,
        json!({"spec": {"gates": null, "integrations": integrations}}),
    )
    .await;
    env.wait_for("hola", "IntegrationsHealthy", "False").await;
    env.wait_live("hola").await;
    shows(env, &hola, ["Live", "True", "GoLive"], true).await;
    git(env, &mut hola, json!({"spec": {"integrations": null}})).await;
    env.wait_live("hola").await;
    env.wait("hola", "no integration", |status| {
        !is(status, "IntegrationsHealthy", "False")
    })
    .await;
    env.sim.fault(Fault::new("*", Kind::status(503)).always());
    env.wait_for("hola", "Observed", "Unknown").await;
    shows(env, &hola, ["Live", "True", "GoLive"], true).await;
    let other = source("other", "other-app");
    env.apply(&other.to_string()).await;
    env.wait("other", "a retry", |status| {
        reason(status, "Ready") == "ProgressingWithRetry"
    })
    .await;
    nothing_differs(env, &other).await;
    env.sim.clear_faults();
    env.wait_live("other").await;
    env.wait_for("hola", "Observed", "True").await;

    let image = |tag: &str| json!({"spec": {"deploy": {"image": format!("registry.fly.io/hola-cabanas:{tag}")}}});
    git(env, &mut hola, image("crash")).await;
    stopped(env, "hola", "RolledBack").await;
    shows(env, &hola, ["Deploy", "False", "RolledBack"], false).await;
    git(env, &mut hola, image("1.0.0")).await;
    env.wait_live("hola").await;
    git(env, &mut hola, json!({"spec": {"suspend": true}})).await;
    env.wait_for("hola", "Suspended", "True").await;
    // Its conditions are frozen with the generation before, so that nobody waits for this one to be live.
    shows(env, &hola, ["Suspended", "True", "GoLive"], false).await;
    git(env, &mut hola, json!({"spec": {"suspend": null}})).await;
    env.wait_for("hola", "Suspended", "False").await;

    let mut plan = source("plan", "plan-app");
    git(env, &mut plan, json!({"spec": {"mode": "Plan"}})).await;
    env.wait("plan", "Planned", |status: &ActivationStatus| {
        reason(status, "Ready") == "Planned"
    })
    .await;
    shows(env, &plan, ["Provision", "Unknown", "Planned"], false).await;
    for name in ["hola", "other", "plan"] {
        env.delete(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_an_object_is_read_by_the_published_judges_as_the_table_says() {
    let mut env = Env::without_operator(options()).await;
    env.record();
    lives(&mut env).await;

    let histories = env.record().histories();
    let versions: Vec<Value> = histories
        .values()
        .flatten()
        .map(|version| serde_json::to_value(&version.object).unwrap())
        .collect();
    assert!(versions.len() > 30, "{} versions", versions.len());
    let found = judged(&versions);
    let rows: Vec<&str> = ROWS.iter().map(|row| row.0).chain(["suspended"]).collect();
    for row in rows {
        let object = found
            .get(row)
            .unwrap_or_else(|| panic!("no object came to the row {row}"));
        if std::env::var_os(UPDATE).is_some() {
            write(row, object.clone());
        }
    }
    // The operator wrote neither the spec nor a label or an annotation, in no version.
    for object in &versions {
        assert_eq!(object["metadata"]["labels"], json!({"team": "web"}));
        let annotations = object["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(annotations.len(), 1, "{annotations:?}");
        for entry in object["metadata"]["managedFields"].as_array().unwrap() {
            let fields = &entry["fieldsV1"];
            let ours = entry["manager"] == golive::api::FIELD_MANAGER;
            let finalizer = json!({"f:finalizers": {".": {}, "v:\"golive.dev/activation\"": {}}});
            let metadata = &fields["f:metadata"];
            assert!(
                !ours
                    || (fields["f:spec"].is_null()
                        && (metadata.is_null() || *metadata == finalizer)),
                "{entry:#}"
            );
        }
    }
}

/// Writes an object into the test data for Argo CD, as `kubectl get -o yaml` prints it.
fn write(row: &str, mut object: Value) {
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("managedFields");
    metadata.insert("namespace".to_owned(), json!("default"));
    let text = serde_saphyr::to_string(&object).unwrap();
    let folder = argo().join("testdata");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{row}.yaml")), text).unwrap();
}
