//! O5, a status that never lies: what a status says is held against the journal of the simulator. A
//! condition or step that becomes true, or becomes true of another generation, needs its fact at a
//! time between the moment when it was last not true and the write that says it.
//!
//! The times are lenient, never strict: a version is recorded after it was written, and what a pass
//! observed may be as old as the longest pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use fly_sim::ledger::{Effect, Entry};
use golive::api::{ActivationStatus, status::StepState};

use crate::support::replay::Version;

/// The longest pass: what is written may have been observed this long before.
const PASS: Duration = Duration::from_secs(60);

/// How late a version may come to the recorder.
const LATE: Duration = Duration::from_secs(5);

/// An app of the simulator, as the journal has it up to some time.
#[derive(Clone, Debug, Default)]
struct App {
    exists: bool,
    machines: BTreeMap<String, Machine>,
    /// Names of the secrets that are set.
    secrets: BTreeSet<String>,
    /// How the edge answered last.
    answer: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Machine {
    /// The image with which it started last.
    started: Option<String>,
    /// One that runs a command, not the application.
    one_off: bool,
}

impl App {
    /// Takes in what happened to this app.
    fn apply(&mut self, effect: &Effect) {
        let names = |field: &str| {
            let names = effect.detail[field].as_array().into_iter().flatten();
            let names = names.filter_map(|name| name.as_str().map(str::to_owned));
            names.collect::<Vec<_>>()
        };
        match effect.kind.as_str() {
            "app.create" => self.exists = true,
            "app.delete" => *self = Self::default(),
            "secrets.write" => {
                self.secrets.extend(names("set"));
                for name in names("unset") {
                    self.secrets.remove(&name);
                }
            }
            "edge.answer" => self.answer = effect.detail["status"].as_u64(),
            // Its start may come before the entry of the call that made it.
            "machine.create" => {
                self.machines.entry(effect.id.clone()).or_default();
            }
            "machine.destroy" | "machine.destroyed" => {
                self.machines.remove(&effect.id);
            }
            "machine.started" => {
                let machine = self.machines.entry(effect.id.clone()).or_default();
                machine.started = effect.detail["image"].as_str().map(str::to_owned);
                let slot = effect.detail["metadata"]["golive_slot"].as_str();
                machine.one_off = slot.is_some_and(|slot| slot.contains('/'));
            }
            _ => {}
        }
    }

    /// A machine of the application has started with this image.
    fn has_run(&self, digest: &str) -> bool {
        let mut machines = self.machines.values().filter(|machine| !machine.one_off);
        machines.any(|machine| machine.started.iter().any(|image| image.contains(digest)))
    }

    /// The last request from outside was answered by the application.
    fn answers(&self) -> bool {
        self.answer.is_some_and(|status| status < 500)
    }
}

/// What happened to one app, in order.
struct Story<'a> {
    entries: Vec<&'a Entry>,
    /// Of all apps.
    journal: &'a [Entry],
}

impl Story<'_> {
    /// Whether a fact held at some time between these.
    fn held(&self, from: Instant, to: Instant, fact: impl Fn(&App) -> bool) -> bool {
        let mut app = App::default();
        let mut entries = self.entries.iter().peekable();
        while let Some(entry) = entries.next_if(|entry| entry.at <= from) {
            app.apply(&entry.effect);
        }
        if fact(&app) {
            return true;
        }
        for entry in entries.take_while(|entry| entry.at <= to) {
            app.apply(&entry.effect);
            if fact(&app) {
                return true;
            }
        }
        false
    }

    /// Whether something of this id or name was ever heard of, up to a time.
    fn knows(&self, id: &str, to: Instant) -> bool {
        let mut entries = self.journal.iter().take_while(|entry| entry.at <= to);
        entries.any(|entry| {
            let effect = &entry.effect;
            effect.id == id || effect.name == id || effect.app.as_deref() == Some(id)
        })
    }

    /// Whether the app ever had a machine that runs the application.
    fn has_machines(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| {
            let slot = entry.effect.owner.get("golive_slot");
            entry.effect.kind == "machine.create" && !slot.is_some_and(|slot| slot.contains('/'))
        })
    }
}

/// What is claimed by a status, as a name that stays the same from version to version.
fn claims(status: &ActivationStatus) -> BTreeSet<String> {
    let conditions = status
        .conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .map(|condition| {
            let generation = condition.observed_generation.unwrap_or_default();
            format!("{}@{generation}", condition.type_)
        });
    let steps = status
        .phases
        .iter()
        .flat_map(|phase| &phase.steps)
        .filter(|step| step.state == StepState::Done)
        .map(|step| format!("step {}", step.name));
    let externals = status
        .external
        .iter()
        .filter(|external| !external.id.is_empty())
        .map(|external| match external.kind.as_str() {
            // Its id is what is said of it.
            "Certificate" => format!("Certificate {}", external.name),
            kind => format!("{kind} {}", external.id),
        });
    conditions.chain(steps).chain(externals).collect()
}

/// What the history of one object claims without a fact.
pub fn lies(history: &[Version], journal: &[Entry]) -> Vec<String> {
    let Some(first) = history.first() else {
        return Vec::new();
    };
    let app = first.object.spec.app.as_str();
    let of_app =
        |entry: &&Entry| entry.effect.app.as_deref() == Some(app) || entry.effect.app.is_none();
    let story = Story {
        entries: journal.iter().filter(of_app).collect(),
        journal,
    };
    let mut found = Vec::new();
    // When each claim was last not made, and when each generation was first seen.
    let mut silent: BTreeMap<String, Instant> = BTreeMap::new();
    let mut accepted: BTreeMap<i64, Instant> = BTreeMap::new();
    let mut before = BTreeSet::new();
    let began = first.at;
    for version in history {
        accepted.entry(version.generation()).or_insert(version.at);
        let Some(status) = version.status() else {
            continue;
        };
        let made = claims(status);
        for claim in made.difference(&before) {
            let since = silent.get(claim).copied().unwrap_or(began);
            let from = since.checked_sub(PASS).unwrap_or(since);
            let observed = status.observed_generation.unwrap_or_default();
            let spec = accepted.get(&observed).copied().unwrap_or(began);
            let from = from.max(spec.checked_sub(LATE).unwrap_or(spec));
            if let Some(lie) = lie(claim, status, &story, (from, version.at)) {
                found.push(format!("O5: {claim}: {lie}"));
            }
        }
        for claim in before.difference(&made) {
            silent.insert(claim.clone(), version.at);
        }
        before = made;
    }
    found
}

/// Why a claim is not true, if it is not.
fn lie(
    claim: &str,
    status: &ActivationStatus,
    story: &Story<'_>,
    (from, to): (Instant, Instant),
) -> Option<String> {
    let held = |fact: &dyn Fn(&App) -> bool| story.held(from, to, fact);
    let deployed = || {
        let release = status.release.as_ref()?;
        let digest = release.digest.as_str();
        // Without any machine, none is wanted: `scale` is 0 everywhere.
        let none = !story.has_machines() && !status.external.iter().any(|e| e.kind == "Machine");
        let ran = digest.is_empty() || none || held(&|app| app.has_run(digest));
        (!ran).then(|| format!("no machine ran {digest} of {}", release.image))
    };
    let answered = || {
        let by_http = status.smoke_test.iter().any(|check| {
            check.result.as_str() == "Passed" && check.path.as_deref() == Some("Http")
        });
        let lies = by_http && !held(&App::answers);
        lies.then(|| "the edge answered no request well".to_owned())
    };
    match claim.split('@').next().unwrap_or_default() {
        "step App" | "Provisioned" => {
            (!held(&|app| app.exists)).then(|| "the app was not there".to_owned())
        }
        "step Secrets" => {
            let names = status.secrets.iter().map(|secret| &secret.name);
            let missing: Vec<&String> = names
                .filter(|name| !held(&|app| app.secrets.contains(*name)))
                .collect();
            (!missing.is_empty()).then(|| format!("{missing:?} were not set"))
        }
        "step Release" | "Deployed" => deployed(),
        "SmokeTested" => answered(),
        "Live" | "Ready" => deployed().or_else(answered),
        other => {
            let (kind, id) = other.split_once(' ')?;
            let told = kind != "step" && !story.knows(id, to);
            told.then(|| "nothing of this id was ever there".to_owned())
        }
    }
}
