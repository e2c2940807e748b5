//! An operator that can be killed at any external write, and what must hold after it, by the ids
//! of the project's oracles: O1 never a second machine, database, address or value of a secret; O2
//! nothing is left after deletion; O4 the same creations and deletions as without a crash.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::{Arc, Mutex},
};

use fly_sim::{Point, Sim, ledger::Effect, platform::clusters};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::support::{
    env::{Env, merge, root},
    guarded::Guarded,
};

/// Name of the Activation, and of the app.
pub const APP: &str = "sist-cabanas-mvp";

/// What an identifier of one run is replaced by.
pub const UID: &str = "<uid>";

/// The operator's process, which can be killed and started again from anywhere.
#[derive(Clone)]
pub struct Victim(Arc<Mutex<Life>>);

pub struct Life {
    command: Command,
    child: Option<Guarded>,
    crashes: u32,
}

impl Victim {
    /// Starts it.
    pub fn start(env: &Env) -> Self {
        Self::of(env.operator_command(&["--settle", "300ms"]))
    }

    /// Starts a process, one of several.
    pub fn of(command: Command) -> Self {
        let life = Life {
            command,
            child: None,
            crashes: 0,
        };
        let victim = Self(Arc::new(Mutex::new(life)));
        victim.0.lock().unwrap().spawn();
        victim
    }

    /// SIGKILL, and a new process at once, as a kubelet does it.
    pub fn crash(&self) {
        let mut life = self.0.lock().unwrap();
        // Gone for good: the world is being taken down.
        if life.child.is_some() {
            life.kill();
            life.crashes += 1;
            life.spawn();
        }
    }

    /// Starts it again if it has ended by itself, as a kubelet does: a replica that could not renew its
    /// lease in time exits.
    pub fn revive(&self) {
        let mut life = self.0.lock().unwrap();
        let child = life.child.as_mut();
        let ended = child.is_some_and(|child| child.child().try_wait().unwrap().is_some());
        if ended {
            life.kill();
            life.crashes += 1;
            life.spawn();
        }
    }

    /// Kills it around the k-th call that changes something at Fly.io.
    pub fn crash_at(&self, sim: &Sim, k: u64, point: Point) {
        let victim = self.clone();
        sim.on_mutation(
            k,
            point,
            Arc::new(move |_| {
                let victim = victim.clone();
                Box::pin(async move {
                    victim.crash();
                    if point == Point::BeforeApply {
                        // The call must not take effect. The simulator drops it when it sees that
                        // the client has gone.
                        std::future::pending::<()>().await;
                    }
                })
            }),
        );
    }

    /// Its process id, while it is there.
    pub fn pid(&self) -> Option<u32> {
        self.0.lock().unwrap().child.as_ref().map(Guarded::id)
    }

    /// How often it was killed.
    pub fn crashes(&self) -> u32 {
        self.0.lock().unwrap().crashes
    }

    /// Kills it for good.
    pub fn end(&self) {
        self.0.lock().unwrap().kill();
    }
}

impl Life {
    fn spawn(&mut self) {
        self.child = Some(Guarded::spawn(&mut self.command));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill();
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A full Activation: the example without gates, and without what comes after Go-Live.
pub fn activation() -> Value {
    let text = std::fs::read_to_string(root().join("examples/sist-cabanas.yaml")).unwrap();
    let mut objects = kube_env::cluster::parse_yaml(&text).unwrap();
    let mut activation = objects.remove(0);
    merge(
        &mut activation["spec"],
        json!({
            "gates": null, "notifications": null, "integrations": null, "observe": null,
            "deletionPolicy": {
                "app": "Delete", "database": "Delete", "redis": "Delete", "secrets": "Delete",
            },
        }),
    );
    activation["metadata"]["annotations"] = json!({
        "golive.dev/delete-data": activation["spec"]["app"],
    });
    activation
}

/// Names of the ConfigMaps and Secrets, with their keys.
pub async fn objects(env: &Env) -> BTreeMap<String, Vec<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(env.kube.clone(), &env.namespace);
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let maps = maps.list(&ListParams::default()).await.unwrap();
    let secrets = secrets.list(&ListParams::default()).await.unwrap();
    let maps = maps.items.into_iter().map(|map| {
        let keys = map.data.clone().unwrap_or_default().into_keys().collect();
        (format!("ConfigMap {}", map.name_any()), keys)
    });
    let secrets = secrets.items.into_iter().map(|secret| {
        let keys = secret.data.clone().unwrap_or_default();
        (
            format!("Secret {}", secret.name_any()),
            keys.into_keys().collect(),
        )
    });
    maps.chain(secrets).collect()
}

/// What a kind of effect makes (`true`) or removes (`false`), and under which kind.
pub fn creates(kind: &str) -> Option<(&str, bool)> {
    let (object, verb) = kind.rsplit_once('.')?;
    match (object, verb) {
        ("postgres", "attach") => Some(("attachment", true)),
        ("postgres", "detach") => Some(("attachment", false)),
        // A lease is held for the time of a change and expires by itself.
        ("lease", _) => None,
        (_, "create" | "allocate") => Some((object, true)),
        ("machine", "destroyed") | (_, "delete" | "release") => Some((object, false)),
        _ => None,
    }
}

/// How often each thing was made, changed and removed (O4).
pub fn history(sim: &Sim, uid: &str) -> BTreeMap<String, u64> {
    let mut history = BTreeMap::new();
    for effect in sim.ledger() {
        let counts = creates(&effect.kind).is_some()
            || matches!(
                effect.kind.as_str(),
                "machine.update" | "machine.exec" | "postgres.user.rotate" | "token.create"
            );
        if counts {
            // Any of several equal machines may run a command.
            let name = if effect.kind == "machine.exec" {
                "any machine".to_owned()
            } else {
                key(&effect)
            };
            let key = format!("{} {name}", effect.kind).replace(uid, UID);
            let count = history.entry(key).or_default();
            *count += 1;
            // A command whose reply was lost is run again. A token whose value was lost is revoked and
            // replaced; that there is one at a time is O1.
            if effect.kind == "machine.exec" || effect.kind.starts_with("token.") {
                *count = 1;
            }
        }
    }
    // A release command's machine is named after a hash over secrets.
    history
        .into_iter()
        .map(|(key, count)| match key.split_once("golive-release-") {
            Some((before, _)) => (format!("{before}golive-release"), count),
            None => (key, count),
        })
        .collect()
}

/// What must be there once.
pub fn key(effect: &Effect) -> String {
    match effect.kind.split('.').next() {
        Some("address") => effect.detail["type"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        _ if effect.name.is_empty() => effect.id.clone(),
        _ => effect.name.clone(),
    }
}

/// Never two of a kind at any instant, and never a second value of a secret (O1).
pub fn never_two(sim: &Sim) -> Result<(), String> {
    never_two_in(&sim.ledger())
}

/// The same of these effects.
pub fn never_two_in(ledger: &[Effect]) -> Result<(), String> {
    let mut live: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    let mut digests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    for effect in ledger {
        if effect.kind == "secrets.write" {
            let app = effect.app.clone().unwrap_or_default();
            for (name, digest) in effect.detail["digests"].as_object().into_iter().flatten() {
                digests
                    .entry(format!("{app}/{name}"))
                    .or_default()
                    .insert(digest.to_string());
            }
        }
        if effect.kind == "app.delete" {
            // What is in an app goes with it; another app of its name begins anew.
            let of = effect.app.clone().unwrap_or_default();
            live.retain(|(object, app, _), _| object == "app" || *app != of);
            digests.retain(|secret, _| secret.split('/').next() != Some(of.as_str()));
        }
        let Some((object, made)) = creates(&effect.kind) else {
            continue;
        };
        let mut app = effect.app.clone().unwrap_or_default();
        let mut key = key(effect);
        if object == "token" {
            // A revocation does not name the app; the token's name does.
            app.clear();
        }
        if object == "address" {
            // A removal does not name the kind of the address.
            key = kinds.entry(effect.id.clone()).or_insert(key).clone();
        }
        let count = live
            .entry((object.to_owned(), app, key.clone()))
            .or_default();
        if made {
            *count += 1;
            if *count > 1 {
                return Err(format!("O1: a second {object} {key} at {}", effect.seq));
            }
        } else {
            *count = count.saturating_sub(1);
        }
    }
    for (name, digests) in digests {
        if digests.len() > 1 {
            return Err(format!(
                "O1: the secret {name} had {} values",
                digests.len()
            ));
        }
    }
    Ok(())
}

/// Everything that the deletion policy names is gone, and nothing else (O2).
pub async fn nothing_left(env: &Env) -> Result<(), String> {
    let apps = env.sim.apps();
    let (clusters, add_ons) = env.sim.core().read(|world| {
        let clusters: Vec<String> = world
            .platform
            .clusters
            .values()
            .filter(|c| {
                !matches!(
                    c.status,
                    clusters::Status::Deleting | clusters::Status::Deleted
                )
            })
            .map(|cluster| cluster.name.clone())
            .collect();
        let add_ons: Vec<String> = world.platform.add_ons.keys().cloned().collect();
        (clusters, add_ons)
    });
    if !(apps.is_empty() && clusters.is_empty() && add_ons.is_empty()) {
        return Err(format!(
            "O2: left at Fly.io: {apps:?} {clusters:?} {add_ons:?}"
        ));
    }
    let ours = |name: &str| name.contains("golive") && !name.contains("golive-fingerprint-key");
    let left: Vec<String> = objects(env)
        .await
        .into_keys()
        .filter(|name| ours(name))
        .collect();
    if !left.is_empty() {
        return Err(format!("O2: left in Kubernetes: {left:?}"));
    }
    let secrets: Api<Secret> = Api::namespaced(env.kube.clone(), &env.namespace);
    let held: Vec<String> = secrets
        .list(&ListParams::default())
        .await
        .map_err(|error| error.to_string())?
        .items
        .into_iter()
        .filter(|secret| !secret.finalizers().is_empty())
        .map(|secret| secret.name_any())
        .collect();
    if !held.is_empty() {
        return Err(format!("O2: still protected: {held:?}"));
    }
    Ok(())
}

/// Whether the test crashes at every point.
pub fn full() -> bool {
    std::env::var("GOLIVE_CRASH_TEST").is_ok_and(|value| value == "full")
}
