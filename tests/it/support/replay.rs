//! A recording of every version of every Activation of a world, and what must hold in it, by the ids
//! of the project's oracles: O5 a status never lies (`facts`), O6 order, O14 everything has its
//! reason. Every world in which an operator runs is recorded, and judged when it ends.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use fly_sim::ledger::Entry;
use futures::StreamExt;
use golive::api::{Activation, ActivationStatus, status::PhaseState};
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio::task::JoinHandle;

use crate::support::facts;

/// One version of an object, and when the watch brought it: later than it was written.
#[derive(Clone, Debug)]
pub struct Version {
    /// When it came.
    pub at: Instant,
    /// The object.
    pub object: Activation,
}

impl Version {
    /// Its status, once it has one with conditions.
    pub fn status(&self) -> Option<&ActivationStatus> {
        let status = self.object.status.as_ref()?;
        (!status.conditions.is_empty()).then_some(status)
    }

    /// Generation of the spec.
    pub fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or_default()
    }
}

/// Writes down every version of every Activation of a namespace.
pub struct Recorder {
    seen: Arc<Mutex<Vec<Version>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Begins. Versions that are overwritten before the watch stands are not seen.
    pub fn start(activations: Api<Activation>) -> Self {
        let seen: Arc<Mutex<Vec<Version>>> = Arc::default();
        let to = seen.clone();
        // With pauses after errors: a watch that fails at once every time would never yield.
        let stream = watcher(activations, watcher::Config::default()).default_backoff();
        let task = tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                if let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event
                {
                    let at = Instant::now();
                    to.lock().unwrap().push(Version { at, object });
                }
            }
        });
        Self { seen, task }
    }

    /// The versions so far, by the UID of their object, oldest first. A version that came twice, as
    /// after a new list, is there once.
    pub fn histories(&self) -> BTreeMap<String, Vec<Version>> {
        let mut histories: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        for version in self.seen.lock().unwrap().iter() {
            let uid = version.object.metadata.uid.clone().unwrap_or_default();
            let history = histories.entry(uid).or_default();
            let known = |old: &Version| {
                old.object.metadata.resource_version == version.object.metadata.resource_version
            };
            if !history.iter().any(known) {
                history.push(version.clone());
            }
        }
        histories
    }

    /// What the recording shows that must not be.
    pub fn violations(&self, journal: &[Entry]) -> Vec<String> {
        let histories = self.histories();
        histories
            .values()
            .flat_map(|history| violations(history, journal))
            .collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the history of one object shows that must not be.
pub fn violations(history: &[Version], journal: &[Entry]) -> Vec<String> {
    let mut found = Vec::new();
    for version in history {
        let Some(status) = version.status() else {
            continue;
        };
        found.extend(phases_in_order(status));
        found.extend(explained(status));
    }
    for pair in history.windows(2) {
        found.extend(in_order(&pair[0], &pair[1]));
    }
    found.extend(facts::lies(history, journal));
    let name = history
        .first()
        .and_then(|version| version.object.metadata.name.clone())
        .unwrap_or_default();
    found.dedup();
    found
        .into_iter()
        .map(|violation| format!("{name}: {violation}"))
        .collect()
}

/// O6 in one status: a phase has succeeded only when the earlier ones have, or are skipped. What comes after
/// Go-Live runs side by side.
fn phases_in_order(status: &ActivationStatus) -> Option<String> {
    let mut open: Option<String> = None;
    for phase in &status.phases {
        match phase.state {
            PhaseState::Succeeded => {
                if let Some(open) = open {
                    return Some(format!("O6: {} succeeded while {open}", phase.name));
                }
            }
            PhaseState::Skipped => {}
            _ if !phase.name.before_live() => {}
            _ => {
                open.get_or_insert(format!("{} is {:?}", phase.name, phase.state));
            }
        }
    }
    None
}

/// O6 between two versions of an object: its generation does not fall, and a condition moves exactly
/// when its status changes. Times are whole seconds.
fn in_order(before: &Version, after: &Version) -> Vec<String> {
    let mut found = Vec::new();
    let (Some(old), Some(new)) = (before.status(), after.status()) else {
        return found;
    };
    if new.observed_generation < old.observed_generation {
        found.push(format!(
            "O6: observedGeneration fell from {:?} to {:?}",
            old.observed_generation, new.observed_generation
        ));
    }
    if new.observed_generation > after.object.metadata.generation {
        found.push(format!(
            "O6: observedGeneration {:?} is ahead of the spec {:?}",
            new.observed_generation, after.object.metadata.generation
        ));
    }
    for condition in &new.conditions {
        let mut all = old.conditions.iter();
        let Some(was) = all.find(|was| was.type_ == condition.type_) else {
            continue;
        };
        let (then, now) = (was.last_transition_time.0, condition.last_transition_time.0);
        let wrong = if was.status == condition.status {
            then != now
        } else {
            now < then
        };
        if wrong {
            found.push(format!(
                "O6: {} was {} since {then} and is {} since {now}",
                condition.type_, was.status, condition.status
            ));
        }
    }
    found
}

/// O14: what is not True says why.
fn explained(status: &ActivationStatus) -> Vec<String> {
    let dumb = status.conditions.iter().filter(|condition| {
        condition.status != "True" && (condition.reason.is_empty() || condition.message.is_empty())
    });
    dumb.map(|condition| {
        format!(
            "O14: {}={} ({}) has no message",
            condition.type_, condition.status, condition.reason
        )
    })
    .collect()
}
