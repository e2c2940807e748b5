//! What comes next on the way from nothing to a cluster with a primary. Pure.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::{
    machine::{CHECKS, passes, primary},
    state::{CONSUL, ClusterState, VOLUME, data_volumes, unusable},
};
use crate::{
    api::{Reason, policy::Adoption, provision::FlyPostgres as Spec, status::ExternalKind},
    fly::{self, Machine, MachineState, Volume, VolumeState},
    flytoml,
    phase::{
        app_lookup::{Holder, NameStatus},
        app_name::holder,
        names,
    },
    pipeline::{ChangeVerb, Owner, PlannedChange, Slot, Verdict, Wake, Why},
    plan::{Target, cost::Billed},
    store::claim::Claim,
};

/// Kinds in a plan.
const FLY_POSTGRES_KIND: &str = ExternalKind::FlyPostgres.as_str();
const MACHINE_KIND: &str = ExternalKind::Machine.as_str();
const VOLUME_KIND: &str = ExternalKind::Volume.as_str();

/// What to do next. `app` is the app that is the cluster.
#[derive(Debug, PartialEq)]
pub enum ClusterChange {
    /// Claim its name.
    Claim {
        /// The app.
        app: String,
        /// The claim that is replaced.
        before: Option<Box<Claim>>,
    },
    /// Create the app.
    Create(String),
    /// Generate and store the passwords.
    Generate(String),
    /// Set these secrets of the app.
    Secrets(String, BTreeSet<&'static str>),
    /// Create a volume; the number of those that exist.
    Volume(String, usize),
    /// Create the machine of this name with this volume.
    Machine {
        /// The app.
        app: String,
        /// Its name.
        name: String,
        /// The volume.
        volume: String,
    },
    /// Start this machine of the app, which is stopped.
    Start(String, String),
    /// Extend this volume of the app to this size in GB.
    Extend(String, String, u32),
}

/// The cluster of this target as Fly.io bills it. Pure.
pub fn billed(target: &Target, spec: &Spec) -> Vec<Billed> {
    let one = || {
        let machine = match flytoml::parse_size(&spec.size) {
            Ok(guest) => Billed::Machine {
                name: names::postgres(&target.app),
                cpu_kind: guest.cpu_kind.unwrap_or_else(|| "shared".to_owned()),
                cpus: guest.cpus.unwrap_or(1),
                memory_mb: guest.memory_mb.unwrap_or(256),
                gpu: guest.gpu_kind.is_some(),
                region: target.region.clone(),
            },
            Err(_) => Billed::Other(format!("Fly Postgres {}", spec.size)),
        };
        [machine, Billed::Volume(spec.volume_size_gb)]
    };
    (0..spec.count).flat_map(|_| one()).collect()
}

impl ClusterChange {
    /// The creation of the cluster of this target, as data.
    pub fn creation(target: &Target, spec: &Spec) -> PlannedChange {
        let name = names::postgres(&target.app);
        PlannedChange::new(ChangeVerb::Create, FLY_POSTGRES_KIND, name)
            .set("size", &spec.size)
            .set("machines", spec.count)
            .set("volume of each", format!("{} GB", spec.volume_size_gb))
            .set("region", &target.region)
    }

    /// The same as data.
    pub fn planned(&self) -> PlannedChange {
        let of = |verb, kind: &str, name: &str| PlannedChange::new(verb, kind, name);
        match self {
            Self::Claim { app, .. } => of(ChangeVerb::Claim, FLY_POSTGRES_KIND, app),
            Self::Create(app) => of(ChangeVerb::Create, FLY_POSTGRES_KIND, app),
            Self::Generate(app) => of(ChangeVerb::Create, "Passwords", app),
            Self::Secrets(app, names) => {
                let set = of(ChangeVerb::Update, "Secrets", app);
                names.iter().copied().fold(set, PlannedChange::changed)
            }
            Self::Volume(app, _) => of(ChangeVerb::Create, VOLUME_KIND, "").set("of", app),
            Self::Machine { app, name, .. } => {
                of(ChangeVerb::Create, MACHINE_KIND, name).set("of", app)
            }
            Self::Start(app, id) => of(ChangeVerb::Start, MACHINE_KIND, id).set("of", app),
            Self::Extend(app, id, size) => of(ChangeVerb::Update, VOLUME_KIND, id)
                .set("of", app)
                .set("size", format!("{size} GB")),
        }
    }

    /// Whether it begins a cluster of which there is nothing yet.
    pub fn is_first(&self) -> bool {
        matches!(self, Self::Claim { .. } | Self::Create(_))
    }
}

impl fmt::Display for ClusterChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { app, .. } => write!(f, "claim the name {app}"),
            Self::Create(app) => write!(f, "create the Fly Postgres app {app}"),
            Self::Generate(app) => write!(f, "generate the passwords of {app} and store them"),
            Self::Secrets(app, names) => {
                let names: Vec<&str> = names.iter().copied().collect();
                write!(f, "set the secrets {} of {app}", names.join(", "))
            }
            Self::Volume(app, _) => write!(f, "create a volume of {app}"),
            Self::Machine { name, .. } => write!(f, "create the database machine {name}"),
            Self::Start(_, id) => write!(f, "start the database machine {id}"),
            Self::Extend(_, id, size) => write!(f, "extend the volume {id} to {size} GB"),
        }
    }
}

/// The slot under which a create that Fly.io would repeat is announced.
pub fn intent(change: &ClusterChange) -> Option<Slot> {
    match change {
        ClusterChange::Volume(app, number) => Some(Slot {
            kind: "Volume".to_owned(),
            name: format!("{app}-{VOLUME}-{number}"),
        }),
        _ => None,
    }
}

/// Decides what comes next.
pub fn decide(target: &Target, spec: &Spec, state: &ClusterState) -> Verdict<ClusterChange> {
    let app = names::postgres(&target.app);
    match state {
        ClusterState::Outside {
            lookup,
            claim,
            owner,
        } => {
            let claim = claim.as_deref();
            outside(
                target,
                app,
                (NameStatus::of(lookup, claim, owner), owner),
                claim,
            )
        }
        ClusterState::Lost { lost, left } => lost.verdict(
            target,
            |what, command| {
                Why::new(
                    Reason::DatabaseLost,
                    format!("{what} is gone at Fly.io with its data"),
                )
                .next(format!(
                    "restore a volume from a snapshot (`fly volumes create {VOLUME} -a {app} --snapshot-id ID`); or have a new, empty database created: `{command}`"
                ))
            },
            || decide(target, spec, left),
        ),
        ClusterState::Inside {
            missing,
            stored,
            machines,
            ..
        } if !missing.is_empty() => match stored {
            true => Verdict::Change(ClusterChange::Secrets(app, missing.clone())),
            // The data in the cluster knows the old passwords alone.
            false if !machines.is_empty() && missing.iter().any(|name| *name != CONSUL) => {
                Verdict::Blocked(passwords_lost(&app, missing))
            }
            false => Verdict::Change(ClusterChange::Generate(app)),
        },
        ClusterState::Inside {
            volumes, machines, ..
        } => inside(spec, app, volumes, machines),
    }
}

/// Why no new passwords are generated for a cluster that has machines.
fn passwords_lost(app: &str, missing: &BTreeSet<&'static str>) -> Why {
    let names: Vec<&str> = missing
        .iter()
        .copied()
        .filter(|name| *name != CONSUL)
        .collect();
    let names = names.join(", ");
    Why::new(
        Reason::GeneratedSecretLost,
        format!(
            "the Fly Postgres app {app} has no {names}, and the Secret with the generated values no longer holds them"
        ),
    )
    .next(format!(
        "restore the Secret from a backup, or set the values that the cluster was created with: `fly secrets set NAME=VALUE --stage -a {app}`"
    ))
}

/// The app does not exist, or is not ours.
fn outside(
    target: &Target,
    app: String,
    (status, owner): (NameStatus<'_>, &Owner),
    claim: Option<&Claim>,
) -> Verdict<ClusterChange> {
    let blocked = |reason, message| Verdict::Blocked(Why::new(reason, message));
    let take = |app| {
        Verdict::Change(ClusterChange::Claim {
            app,
            before: claim.cloned().map(Box::new),
        })
    };
    match status {
        NameStatus::ClaimedByAnother(claim) => blocked(
            Reason::AppClaimed,
            format!(
                "the app {app}, which the database would be, belongs to {}: use `postgres.external`, or another app",
                holder(claim, owner)
            ),
        ),
        NameStatus::Forbidden => blocked(
            Reason::NameTaken,
            format!(
                "the name {app} of the database's app is taken on Fly.io: use `postgres.managed` or `postgres.external`"
            ),
        ),
        NameStatus::Free { claimed: true } => Verdict::Change(ClusterChange::Create(app)),
        NameStatus::Free { claimed: false } => take(app),
        NameStatus::Exists { app: found, holder } => {
            if let Some(why) = unusable(found, target) {
                return blocked(
                    Reason::NameTaken,
                    format!(
                        "the app {app} exists and {why}: destroy it, or use `postgres.external`"
                    ),
                );
            }
            // Data that an earlier Activation of this name retained is meant to be found.
            if holder != Holder::Nobody || target.adoption == Adoption::Always {
                return take(app);
            }
            blocked(
                Reason::AdoptionRefused,
                format!(
                    "the Postgres app {app} exists already and this Activation did not create it: use `postgres.external`, or set `adoption` to Always"
                ),
            )
        }
    }
}

/// The app is ours, with all its secrets: every machine is created and ready, one is the primary,
/// and every volume is large enough.
fn inside(
    spec: &Spec,
    app: String,
    volumes: &[Volume],
    machines: &[Machine],
) -> Verdict<ClusterChange> {
    let volumes: Vec<&Volume> = data_volumes(volumes).collect();
    for number in 0..spec.count {
        let name = format!("{app}-{number}");
        if !machines.iter().any(|machine| machine.name == name) {
            return new_machine(spec, app, name, &volumes);
        }
    }
    if let Some(verdict) = machines.iter().find_map(|machine| unready(&app, machine)) {
        return verdict;
    }
    if primary(machines).is_none() {
        return wait(
            format!("no machine of {app} is the primary yet"),
            Wake::Poll,
        );
    }
    let small = volumes.iter().find(|volume| {
        volume
            .size_gb
            .is_some_and(|size| size < spec.volume_size_gb)
    });
    match small {
        Some(volume) => Verdict::Change(ClusterChange::Extend(
            app,
            volume.id.clone(),
            spec.volume_size_gb,
        )),
        None => Verdict::Done,
    }
}

fn wait(message: String, wake: Wake) -> Verdict<ClusterChange> {
    Verdict::Wait {
        why: Why::new(Reason::DatabaseCreating, message),
        wake,
    }
}

/// A machine is missing: it is created with a free volume, or a volume is created for it.
fn new_machine(
    spec: &Spec,
    app: String,
    name: String,
    volumes: &[&Volume],
) -> Verdict<ClusterChange> {
    if let Some(volume) = volumes.iter().find(|volume| volume.is_free()) {
        let volume = volume.id.clone();
        return Verdict::Change(ClusterChange::Machine { app, name, volume });
    }
    let creating = |volume: &&Volume| volume.state == VolumeState::Creating;
    if volumes.len() >= spec.count as usize || volumes.iter().any(creating) {
        return wait(format!("a volume of {app} is not free yet"), Wake::Poll);
    }
    Verdict::Change(ClusterChange::Volume(app, volumes.len()))
}

/// What to do about a machine that is not ready; `None`: it is.
fn unready(app: &str, machine: &Machine) -> Option<Verdict<ClusterChange>> {
    match &machine.state {
        MachineState::Started => {}
        MachineState::Stopped | MachineState::Suspended => {
            let start = ClusterChange::Start(app.to_owned(), machine.id.clone());
            return Some(Verdict::Change(start));
        }
        MachineState::Failed => {
            return Some(Verdict::Blocked(Why::new(
                Reason::DatabaseFailed,
                format!(
                    "the database machine {} ({}) failed: look at `fly logs -a {app}`, and destroy the machine to have it created anew",
                    machine.name, machine.id
                ),
            )));
        }
        state => return Some(starting(app, machine, state)),
    }
    let failing: Vec<&str> = CHECKS
        .into_iter()
        .filter(|check| !passes(machine, check))
        .collect();
    (!failing.is_empty()).then(|| {
        wait(
            format!(
                "the database machine {} does not pass {} yet",
                machine.name,
                failing.join(", ")
            ),
            Wake::Poll,
        )
    })
}

fn starting(app: &str, machine: &Machine, state: &fly::MachineState) -> Verdict<ClusterChange> {
    wait(
        format!(
            "the database machine {} is {}",
            machine.name,
            state.as_str()
        ),
        Wake::Machine {
            app: app.to_owned(),
            id: machine.id.clone(),
            version: None,
            state: MachineState::Started,
            patience: Duration::from_secs(2),
        },
    )
}

#[cfg(test)]
mod tests;
