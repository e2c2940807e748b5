//! `world demo`: the example goes from nothing to a live URL with verified integrations, is watched for 72
//! hours of its time, and a person can look on.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use kube_env::Cluster;
use kube_env::cluster::parse_yaml;
use serde_json::{Value, json};

use crate::Which;
use crate::edge;
use crate::fault::Fault;
use crate::integrations;
use crate::out::say;
use crate::place::Place;
use crate::progress::{Progress, list, text};
use crate::state::State;
use crate::up;
use crate::watch;

const NAMESPACE: &str = "cabanas";
const EXAMPLE: &str = "examples/sist-cabanas.yaml";
const INPUTS: &str = "examples/sist-cabanas-inputs.yaml";

/// Who approves the gate in the local cluster: an ordinary user with the role for it.
const APPROVER: &str = "ana@cabanas.example";

/// A go-live that has neither passed nor failed after this time is called failed. Longer than any
/// deadline in the example but the gate's.
const LIMIT: Duration = Duration::from_secs(20 * 60);

enum Outcome {
    Live(String),
    Failed(Value),
    Late(Value),
}

/// Runs it. Exit code 0 when the application is live and answers, its integrations are verified, and its watch
/// has ended well, if that takes minutes.
pub async fn demo(place: &Place, which: &Which) -> Result<ExitCode, Fault> {
    let state = up::up(place, which).await?;
    let path = state
        .env
        .get("KUBECONFIG")
        .ok_or_else(|| Fault::new("the world does not say where its cluster is"))?;
    let cluster = Cluster::from_kubeconfig(Path::new(path)).await?;
    let mut progress = Progress::new();

    let name = apply(place, &cluster, &state).await?;
    progress.heading(&format!("kubectl apply -f {EXAMPLE}"));
    let approver = approver(&cluster, &state).await?;
    let outcome = follow(&cluster, &name, &approver, &mut progress).await;
    progress.end();
    match outcome? {
        Outcome::Live(url) => {
            progress.say("LIVE");
            // The watch has begun: its time must not pass without guests.
            let mut guests = match watch::is_short(&state) {
                true => Some(watch::guests(place, &url, &state)?),
                false => None,
            };
            let activations = api(&cluster.client()?, "Activation", "activations");
            let verified = integrations::follow(activations.clone(), &name, &mut progress).await?;
            progress.end();
            progress.say(match verified {
                true => "INTEGRATIONS VERIFIED",
                false => "the integrations are not verified: kubectl describe says why",
            });
            let stable = match &mut guests {
                Some(guests) => {
                    watch::follow(activations, &name, &state, guests, &mut progress).await?
                }
                None => true,
            };
            progress.end();
            drop(guests);
            let answers = live(place, &state, &url, &name).await?;
            Ok(match verified && stable && answers {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            })
        }
        Outcome::Failed(status) => Ok(failed(place, "stopped", &status, &name)),
        Outcome::Late(status) => Ok(failed(place, "is not live in time", &status, &name)),
    }
}

/// Applies the example and what it refers to, as the reader would, and returns its name.
async fn apply(place: &Place, cluster: &Cluster, state: &State) -> Result<String, Fault> {
    let mut objects = read(place, INPUTS)?;
    let tokens = integrations::secrets(&mut objects, &state.env, NAMESPACE);
    objects.push(tokens);
    let token = state
        .env
        .get("FLY_ACCESS_TOKEN")
        .cloned()
        .unwrap_or_default();
    objects.push(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "fly", "namespace": NAMESPACE},
        "stringData": {"token": token},
    }));
    if !state.own_cluster {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "activation-approver", "namespace": NAMESPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "activation-approver"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                "name": APPROVER}],
        }));
    }
    cluster.apply_objects(objects).await?;
    let mut example = read(place, EXAMPLE)?;
    integrations::accounts(&mut example, &state.env);
    let applied = cluster.apply_objects(example).await?;
    applied
        .into_iter()
        .find_map(|object| object.metadata.name)
        .ok_or_else(|| Fault::new(format!("{EXAMPLE} has no object")))
}

fn read(place: &Place, file: &str) -> Result<Vec<Value>, Fault> {
    let path = place.root().join(file);
    let yaml = std::fs::read_to_string(&path)
        .map_err(|source| Fault::because(format!("cannot read {file}"), source))?;
    Ok(parse_yaml(&yaml)?)
}

/// A person who decides: a client, and the name that the API server knows it by.
struct Approver {
    client: Client,
    name: String,
}

async fn approver(cluster: &Cluster, state: &State) -> Result<Approver, Fault> {
    if !state.own_cluster {
        return Ok(Approver {
            client: cluster.client_impersonating(APPROVER, &[])?,
            name: APPROVER.to_owned(),
        });
    }
    let client = cluster.client()?;
    let review: SelfSubjectReview = Api::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .map_err(|source| Fault::because("cannot ask the cluster who we are", source))?;
    let name = review
        .status
        .and_then(|status| status.user_info)
        .and_then(|user| user.username)
        .unwrap_or_default();
    Ok(Approver { client, name })
}

fn api(client: &Client, kind: &str, plural: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("golive.dev", "v1alpha1", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// Shows what happens until the activation is live, has stopped, or the limit is over.
async fn follow(
    cluster: &Cluster,
    name: &str,
    approver: &Approver,
    progress: &mut Progress,
) -> Result<Outcome, Fault> {
    let activations = api(&cluster.client()?, "Activation", "activations");
    let mut changes = watcher::watcher(
        activations,
        watcher::Config::default().fields(&format!("metadata.name={name}")),
    )
    .default_backoff()
    .applied_objects()
    .boxed();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let limit = tokio::time::sleep(LIMIT);
    tokio::pin!(limit);
    let mut status = Value::Null;
    let mut approved = String::new();
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            _ = tick.tick() => {
                progress.tick();
                continue;
            }
            () = &mut limit => return Ok(Outcome::Late(status)),
        };
        let object = match change {
            Some(Ok(object)) => object,
            // The backoff tries again.
            Some(Err(_)) => continue,
            None => return Err(Fault::new("the watch of the activation has ended")),
        };
        let generation = object.metadata.generation;
        status = object.data["status"].clone();
        progress.show(&status);
        if status["observedGeneration"].as_i64() != generation {
            continue;
        }
        if condition(&status, "Live") == "True" {
            return Ok(Outcome::Live(text(&status["url"]).to_owned()));
        }
        if condition(&status, "Stalled") == "True" {
            return Ok(Outcome::Failed(status));
        }
        for gate in open_gates(&status) {
            if gate.digest != approved {
                approve(name, &gate, approver, &status, progress).await?;
                approved = gate.digest;
            }
        }
    }
}

/// The status of a condition; empty if there is none.
pub fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    list(&status["conditions"])
        .find(|condition| text(&condition["type"]) == kind)
        .map_or("", |condition| text(&condition["status"]))
}

struct Gate {
    phase: String,
    digest: String,
}

fn open_gates(status: &Value) -> Vec<Gate> {
    list(&status["phases"])
        .filter(|phase| text(&phase["gate"]["state"]) == "Requested")
        .map(|phase| Gate {
            phase: text(&phase["name"]).to_owned(),
            digest: text(&phase["gate"]["digest"]).to_owned(),
        })
        .filter(|gate| !gate.digest.is_empty())
        .collect()
}

/// Approves the plan that the gate shows, as its approver would with `kubectl apply`.
async fn approve(
    activation: &str,
    gate: &Gate,
    approver: &Approver,
    status: &Value,
    progress: &Progress,
) -> Result<(), Fault> {
    let changes: Vec<_> = list(&status["plan"]["changes"])
        .map(|change| text(&change["change"]))
        .collect();
    progress.say(&format!(
        "the gate before {} asks for a decision on plan {}{}",
        gate.phase,
        gate.digest,
        if changes.is_empty() { "" } else { ":" }
    ));
    for change in &changes {
        progress.say(&format!("  - {change}"));
    }
    let approval: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "golive.dev/v1alpha1", "kind": "ActivationApproval",
        "metadata": {"generateName": format!("{activation}-"), "namespace": NAMESPACE},
        "spec": {
            "activation": activation, "gate": gate.phase, "digest": gate.digest,
            "decision": "Approve", "approver": approver.name, "message": "approved by make demo",
        },
    }))
    .map_err(|source| Fault::because("cannot write an approval", source))?;
    api(
        &approver.client,
        "ActivationApproval",
        "activationapprovals",
    )
    .create(&PostParams::default(), &approval)
    .await
    .map_err(|source| {
        Fault::because(
            format!(
                "{} cannot approve the gate before {}",
                approver.name, gate.phase
            ),
            source,
        )
    })?;
    progress.say(&format!("{} approves it", approver.name));
    Ok(())
}

async fn live(place: &Place, state: &State, url: &str, name: &str) -> Result<bool, Fault> {
    let answer = edge::get(url, &state.env).await?;
    say!("\n{url}");
    say!(
        "  GET / answers {}: {}",
        answer.status,
        edge::readable(&answer.body)
    );
    match watch::is_short(state) {
        true => say!(
            "\nThe whole activation as one report:\n  kubectl golive report {name} -n {NAMESPACE}"
        ),
        false => say!(
            "\nIt is watched for 72 hours, and nobody waits for that here:\n  kubectl golive wait {name} -n {NAMESPACE} --for stabilized --timeout 73h"
        ),
    }
    if !answer.status.is_success() {
        return Ok(false);
    }
    let env_file = place.shown(&place.env_file());
    say!(
        "\nTo look around:
  . {env_file}
  kubectl get activations -A
  kubectl -n {NAMESPACE} describe activation {name}
  curl --cacert $SSL_CERT_FILE --connect-to ::$FLY_SIM_EDGE {url}
  curl -s $GOLIVE_METRICS_URL | grep golive_
To see it updated, change the image, then approve the new plan (docs/tasks/approve-a-gate.md):
  kubectl -n {NAMESPACE} patch activation {name} --type=merge \\
    -p '{{\"spec\":{{\"deploy\":{{\"image\":\"registry.fly.io/sist-cabanas-mvp:1.5.0\"}}}}}}'
  kubectl -n {NAMESPACE} get activation {name} --watch
To end the world and remove all of it: make down{}",
        place.make_flag()
    );
    Ok(true)
}

fn failed(place: &Place, how: &str, status: &Value, name: &str) -> ExitCode {
    say!("\n{NAMESPACE}/{name} {how}. Its conditions:");
    for condition in list(&status["conditions"]) {
        say!(
            "  {:<20} {:<8} {:<24} {}",
            text(&condition["type"]),
            text(&condition["status"]),
            text(&condition["reason"]),
            text(&condition["message"]),
        );
    }
    say!("Next action: {}", text(&status["nextAction"]));
    say!(
        "Logs: {0}/operator.log, {0}/fly-sim.log",
        place.shown(&place.dir())
    );
    say!(
        "The world still runs: . {}; to end it: make down{}",
        place.shown(&place.env_file()),
        place.make_flag()
    );
    ExitCode::FAILURE
}
