//! Legacy Fly Postgres: an app of the role `postgres_cluster` whose machines are made here, as
//! `fly postgres create` makes them. Sources: fly-api.md E.2, E.3; fly-apps/postgres-flex.
//!
//! What is inside such an app is ours because the app is: it is claimed before it is created.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use secrecy::SecretString;

use super::{app, app::Seen, secrets};
use crate::{
    api::{
        Reason,
        policy::{Adoption, Deletion},
        provision::{Encoding, FlyPostgres as Spec, GeneratedSecret},
    },
    error::Error,
    fly::{
        self, Machine, MachineState, NewMachine,
        fly_postgres::{POSTGRES_CLUSTER, POSTGRES_IMAGE},
        machine_config::{
            Autostop, Concurrency, MachineCheck, MachineConfig, MachineMetrics, MachineMount,
            MachinePort, MachineRestart, MachineService, RestartPolicy,
        },
        machines::CheckResult,
        volumes::{NewVolume, Volume, VolumeState},
    },
    pipeline::{Cx, Owner, Removal, Slot, Verdict, Wake, Why, facts::Database, step::Result},
    plan::Target,
    store::{
        claim::{self, Claim, Terms},
        generated::Rotation,
    },
};

/// Name of the volumes, as the image expects it.
const VOLUME: &str = "pg_data";

/// Address that the cluster elects its leader with; Fly.io makes it.
const CONSUL: &str = "FLY_CONSUL_URL";

/// Secrets of the cluster, and where their values are kept.
const PASSWORDS: &[(&str, &str)] = &[
    ("SU_PASSWORD", "golive_postgres_su"),
    ("REPL_PASSWORD", "golive_postgres_repl"),
    ("OPERATOR_PASSWORD", "golive_postgres_operator"),
];

/// What there is of the cluster.
#[derive(Debug)]
pub enum State {
    /// Its app is not there, or not ours.
    Outside {
        /// What Fly.io says about the name.
        app: Seen,
        /// Who holds it.
        claim: Option<Box<Claim>>,
        /// Who we are.
        owner: Owner,
    },
    /// Its app is ours.
    Inside {
        /// Secrets that Fly.io does not have.
        missing: BTreeSet<&'static str>,
        /// Whether the passwords are kept in Kubernetes.
        stored: bool,
        /// All volumes.
        volumes: Vec<Volume>,
        /// All machines.
        machines: Vec<Machine>,
    },
}

/// What to do next. `app` is the app that is the cluster.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Claim its name.
    Claim {
        /// The app.
        app: String,
        /// Whose it was.
        before: Option<Box<Claim>>,
    },
    /// Create the app.
    Create(String),
    /// Make up the passwords and keep them.
    Generate(String),
    /// Set the secrets.
    Secrets(String, BTreeSet<&'static str>),
    /// Create a volume; the number of those that are there.
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
    /// Start a machine that is stopped.
    Start(String, String),
    /// Make a volume larger.
    Extend(String, String, u32),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { app, .. } => write!(f, "claim the name {app}"),
            Self::Create(app) => write!(f, "create the Fly Postgres app {app}"),
            Self::Generate(app) => write!(f, "generate the passwords of {app} and keep them"),
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

/// The announcement of a change that Fly.io would make twice.
pub fn intent(change: &Change) -> Option<Slot> {
    match change {
        Change::Volume(app, number) => Some(Slot {
            kind: "Volume".to_owned(),
            name: format!("{app}-{VOLUME}-{number}"),
        }),
        _ => None,
    }
}

/// Looks at the cluster.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer.
pub async fn observe(cx: &Cx, spec: &Spec) -> Result<State> {
    let name = super::postgres::name(&cx.target.app);
    // One read for a cluster that is as it was: its machines say it all.
    if let Some(Database::FlyPostgres { app, .. }) = cx.facts.database.get().as_deref() {
        let machines = machines(cx, app).await?;
        let large = cx.facts.fly_postgres_volumes.get();
        let large = large.is_some_and(|size| *size >= spec.volume_size_gb);
        if large && machines.len() >= spec.count as usize && primary(&machines).is_some() {
            return Ok(State::Inside {
                missing: BTreeSet::new(),
                stored: true,
                volumes: Vec::new(),
                machines,
            });
        }
    }
    let (app, claim) = futures::try_join!(
        app::look(cx, &name),
        claim::read(&cx.kube, &cx.installation.own_namespace, &name)
    )?;
    let ours = claim.as_ref().is_some_and(|claim| claim.is_of(&cx.owner));
    let usable = matches!(&app, Seen::There(found) if unusable(found, &cx.target).is_none());
    if !ours || !usable {
        cx.facts.database.clear();
        let owner = cx.owner.clone();
        let claim = claim.map(Box::new);
        return Ok(State::Outside { app, claim, owner });
    }
    let doing = |source| Error::fly(format!("read the Fly Postgres app {name}"), source);
    let secrets = async { cx.fly.secrets(&name, None).await.map_err(doing) };
    let volumes = async { cx.fly.volumes(&name).await.map_err(doing) };
    let (secrets, volumes, machines) = futures::try_join!(secrets, volumes, machines(cx, &name))?;
    let missing: BTreeSet<&'static str> = PASSWORDS
        .iter()
        .map(|(secret, _)| *secret)
        .chain([CONSUL])
        .filter(|wanted| !secrets.iter().any(|secret| secret.name == *wanted))
        .collect();
    let stored = missing.is_empty() || stored(cx, PASSWORDS).await?;
    let sizes = volumes
        .iter()
        .filter(|volume| volume.name == VOLUME && !volume.state.is_over())
        .map(|volume| volume.size_gb.unwrap_or(0));
    match sizes.min() {
        Some(size) => cx.facts.fly_postgres_volumes.set(size),
        None => cx.facts.fly_postgres_volumes.clear(),
    }
    match primary(&machines) {
        Some(primary) => cx.facts.database.set(Database::FlyPostgres {
            app: name,
            primary: primary.id.clone(),
        }),
        None => cx.facts.database.clear(),
    }
    Ok(State::Inside {
        missing,
        stored,
        volumes,
        machines,
    })
}

/// Why an app of this name cannot be our cluster.
fn unusable(found: &fly::App, target: &Target) -> Option<String> {
    if let Some(slug) = app::elsewhere(found, target) {
        return Some(format!("belongs to the organization {slug}"));
    }
    let role = found.app_role.as_deref();
    role.is_some_and(|role| role != POSTGRES_CLUSTER)
        .then(|| "is no Postgres cluster".to_owned())
}

async fn machines(cx: &Cx, app: &str) -> Result<Vec<Machine>> {
    let machines = cx.fly.machines(app, &[]).await;
    let machines = machines.map_err(|source| Error::fly("list the database machines", source))?;
    let live = machines.into_iter();
    Ok(live.filter(|machine| !machine.state.is_over()).collect())
}

async fn stored(cx: &Cx, names: &[(&str, &str)]) -> Result<bool> {
    let stored = secrets::store(cx).read().await?.unwrap_or_default();
    Ok(names
        .iter()
        .all(|(_, key)| stored.values.contains_key(*key)))
}

/// The machine that takes writes: its check `role` says so.
fn primary(machines: &[Machine]) -> Option<&Machine> {
    machines.iter().find(|machine| {
        machine.state == MachineState::Started
            && machine.checks.iter().any(|check| {
                let output = check.output.as_deref().unwrap_or_default();
                check.name == "role"
                    && check.status == CheckResult::Passing
                    && output.contains("primary")
            })
    })
}

/// Decides what comes next. Pure.
pub fn diff(target: &Target, spec: &Spec, state: &State) -> Verdict<Change> {
    let name = super::postgres::name(&target.app);
    match state {
        State::Outside { app, claim, owner } => outside(target, name, app, claim.as_deref(), owner),
        State::Inside {
            missing,
            stored,
            volumes,
            machines,
        } => {
            if !missing.is_empty() {
                return Verdict::Change(match stored {
                    true => Change::Secrets(name, missing.clone()),
                    false => Change::Generate(name),
                });
            }
            inside(spec, name, volumes, machines)
        }
    }
}

fn outside(
    target: &Target,
    name: String,
    app: &Seen,
    claim: Option<&Claim>,
    owner: &Owner,
) -> Verdict<Change> {
    let ours = claim.is_some_and(|claim| claim.is_of(owner));
    let namesake = claim.is_some_and(|claim| claim.left_by_namesake(owner));
    let blocked = |reason, message| Verdict::Blocked(Why::new(reason, message));
    if let Some(claim) = claim
        && !namesake
        && !claim.retained
    {
        return blocked(
            Reason::AppClaimed,
            format!(
                "the app {name}, which the database would be, belongs to the Activation {}/{}: use `postgres.external`, or another app",
                claim.namespace, claim.name
            ),
        );
    }
    let take = Change::Claim {
        app: name.clone(),
        before: claim.cloned().map(Box::new),
    };
    match app {
        Seen::Nothing if ours => Verdict::Change(Change::Create(name)),
        Seen::Nothing => Verdict::Change(take),
        Seen::Foreign => blocked(
            Reason::NameTaken,
            format!(
                "the name {name} of the database's app is taken on Fly.io: use `postgres.managed` or `postgres.external`"
            ),
        ),
        Seen::There(found) => {
            if let Some(why) = unusable(found, target) {
                return blocked(
                    Reason::NameTaken,
                    format!(
                        "the app {name} exists and {why}: destroy it, or use `postgres.external`"
                    ),
                );
            }
            // The data that an earlier Activation of this name left behind is meant to be found.
            if namesake || target.adoption == Adoption::Always {
                return Verdict::Change(take);
            }
            blocked(
                Reason::AdoptionRefused,
                format!(
                    "the Postgres app {name} exists already and this Activation did not create it: use `postgres.external`, or set `adoption` to Always"
                ),
            )
        }
    }
}

fn inside(spec: &Spec, app: String, volumes: &[Volume], machines: &[Machine]) -> Verdict<Change> {
    let wait = |reason, text, wake| Verdict::Wait {
        why: Why::new(reason, text),
        wake,
    };
    let volumes: Vec<&Volume> = volumes
        .iter()
        .filter(|volume| volume.name == VOLUME && !volume.state.is_over())
        .collect();
    for number in 0..spec.count {
        let name = format!("{app}-{number}");
        if machines.iter().any(|machine| machine.name == name) {
            continue;
        }
        if let Some(volume) = volumes.iter().find(|volume| volume.is_free()) {
            let volume = volume.id.clone();
            return Verdict::Change(Change::Machine { app, name, volume });
        }
        let creating = |volume: &&Volume| volume.state == VolumeState::Creating;
        if volumes.len() >= spec.count as usize || volumes.iter().any(creating) {
            return wait(
                Reason::DatabaseCreating,
                format!("a volume of {app} is not free yet"),
                Wake::Poll,
            );
        }
        return Verdict::Change(Change::Volume(app, volumes.len()));
    }
    for machine in machines {
        match &machine.state {
            MachineState::Started => {}
            MachineState::Stopped | MachineState::Suspended => {
                return Verdict::Change(Change::Start(app, machine.id.clone()));
            }
            MachineState::Failed => {
                return Verdict::Blocked(Why::new(
                    Reason::DatabaseFailed,
                    format!(
                        "the database machine {} ({}) failed: look at `fly logs -a {app}`, and destroy the machine to have it created anew",
                        machine.name, machine.id
                    ),
                ));
            }
            state => {
                return wait(
                    Reason::DatabaseCreating,
                    format!(
                        "the database machine {} is {}",
                        machine.name,
                        state.as_str()
                    ),
                    Wake::Machine {
                        app,
                        id: machine.id.clone(),
                        version: None,
                        state: MachineState::Started,
                        patience: Duration::from_secs(2),
                    },
                );
            }
        }
        let failing: Vec<&str> = ["pg", "role", "vm"]
            .into_iter()
            .filter(|name| {
                !machine
                    .checks
                    .iter()
                    .any(|check| check.name == *name && check.status == CheckResult::Passing)
            })
            .collect();
        if !failing.is_empty() {
            return wait(
                Reason::DatabaseCreating,
                format!(
                    "the database machine {} does not pass {} yet",
                    machine.name,
                    failing.join(", ")
                ),
                Wake::Poll,
            );
        }
    }
    if primary(machines).is_none() {
        let text = format!("no machine of {app} is the primary yet");
        return wait(Reason::DatabaseCreating, text, Wake::Poll);
    }
    let small = volumes.iter().find(|volume| {
        volume
            .size_gb
            .is_some_and(|size| size < spec.volume_size_gb)
    });
    match small {
        Some(volume) => {
            let id = volume.id.clone();
            Verdict::Change(Change::Extend(app, id, spec.volume_size_gb))
        }
        None => Verdict::Done,
    }
}

/// Acts.
///
/// # Errors
/// When Fly.io or Kubernetes refuses or does not answer.
pub async fn act(cx: &Cx, spec: &Spec, change: Change) -> Result<()> {
    let doing = change.to_string();
    let fly = |result: fly::Result<()>| result.map_err(|source| Error::fly(doing, source));
    match change {
        Change::Claim { app, before } => {
            let terms = Terms {
                organization: &cx.target.organization,
                taken: Some(cx.now()),
                made: &BTreeSet::new(),
            };
            let (kube, namespace) = (&cx.kube, &cx.installation.own_namespace);
            claim::take(kube, namespace, &app, &cx.owner, before.as_deref(), &terms).await
        }
        Change::Create(name) => {
            let new = fly::NewApp {
                name,
                org_slug: cx.target.organization.clone(),
                role: Some(POSTGRES_CLUSTER.to_owned()),
                ..fly::NewApp::default()
            };
            fly(match cx.fly.create_app(&new).await {
                // The first try, whose reply was lost: the next look tells.
                Err(error) if app::is_name_taken(&error) && is_ours_to_see(cx, &new.name).await => {
                    Ok(())
                }
                other => other.map(drop),
            })
        }
        Change::Generate(_) => keep(cx, PASSWORDS).await.map(drop),
        Change::Secrets(app, names) => push(cx, &app, &names).await,
        Change::Volume(app, _) => {
            let volume = NewVolume {
                name: VOLUME.to_owned(),
                region: cx.target.region.clone(),
                size_gb: Some(spec.volume_size_gb),
                encrypted: Some(true),
                require_unique_zone: Some(true),
                compute: crate::flytoml::parse_size(&spec.size).ok(),
                ..NewVolume::default()
            };
            fly(cx.fly.create_volume(&app, &volume).await.map(drop))
        }
        Change::Machine { app, name, volume } => {
            let tag = cx.fly.latest_image_tag(POSTGRES_IMAGE).await;
            let image = tag.map_err(|source| Error::fly("find the Postgres image", source))?;
            let guest = crate::flytoml::parse_size(&spec.size);
            let guest = guest.map_err(|error| Error::Blocked {
                reason: Reason::InvalidSpec,
                message: format!("`postgres.flyPostgres.size`: {error}"),
            })?;
            let new = NewMachine {
                name,
                region: cx.target.region.clone(),
                config: MachineConfig {
                    image,
                    guest: Some(guest),
                    ..config(&cx.owner, &cx.target.region, volume)
                },
                min_secrets_version: cx.facts.fly_postgres_secrets.get().map(|v| *v),
                ..NewMachine::default()
            };
            fly(match cx.fly.create_machine(&app, &new).await {
                // Names are unique in the app, and the app is ours: the first try.
                Err(error) if app::is_name_taken(&error) => Ok(()),
                other => other.map(drop),
            })
        }
        Change::Start(app, id) => fly(cx.fly.start_machine(&app, &id, None).await),
        Change::Extend(app, id, size) => fly(cx.fly.extend_volume(&app, &id, size).await.map(drop)),
    }
}

async fn is_ours_to_see(cx: &Cx, app: &str) -> bool {
    matches!(app::look(cx, app).await, Ok(Seen::There(_)))
}

/// Sets the secrets that are missing; the passwords are in the store already.
async fn push(cx: &Cx, app: &str, names: &BTreeSet<&'static str>) -> Result<()> {
    let kept = keep(cx, PASSWORDS).await?;
    let mut values: BTreeMap<String, Option<SecretString>> = PASSWORDS
        .iter()
        .filter(|(name, _)| names.contains(name))
        .filter_map(|(name, key)| Some(((*name).to_owned(), Some(kept.get(*key)?.clone()))))
        .collect();
    if names.contains(CONSUL) {
        let url = cx.fly.enable_postgres_consul(app).await;
        let url = url.map_err(|source| Error::fly("have Fly.io set up Consul", source))?;
        values.insert(CONSUL.to_owned(), Some(url));
    }
    let written = cx.fly.set_secrets(app, &values).await;
    let written =
        written.map_err(|source| Error::fly(format!("set the secrets of {app}"), source))?;
    if let Some(version) = written.version() {
        cx.facts.fly_postgres_secrets.set(version);
    }
    Ok(())
}

/// Makes up what is not kept yet, and gives all that is kept. These values have no part in the
/// rotation of the application's.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn keep(cx: &Cx, names: &[(&str, &str)]) -> Result<BTreeMap<String, SecretString>> {
    let wanted: Vec<GeneratedSecret> = names
        .iter()
        .map(|(_, key)| GeneratedSecret {
            name: (*key).to_owned(),
            bytes: 32,
            encoding: Encoding::Alphanumeric,
        })
        .collect();
    let store = secrets::store(cx);
    // How long a value before is kept is for the step `Secrets` to say.
    let never = Rotation {
        overlap: Duration::MAX,
        ..Rotation::default()
    };
    let settled = store.settle(&wanted, &never, cx.now()).await?;
    let values = settled.values.into_iter();
    Ok(values
        .map(|(name, value)| (name, value.secret().clone()))
        .collect())
}

/// The configuration of a machine without image and size, as `fly postgres create` writes it.
fn config(owner: &Owner, region: &str, volume: String) -> MachineConfig {
    let text = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let service = |port: u16| MachineService {
        protocol: Some("tcp".to_owned()),
        internal_port: Some(port),
        ports: vec![MachinePort {
            port: Some(port),
            handlers: vec!["pg_tls".to_owned()],
            ..MachinePort::default()
        }],
        autostop: Some(Autostop::Off),
        concurrency: Some(Concurrency {
            kind: Some("connections".to_owned()),
            soft_limit: Some(1000),
            hard_limit: Some(1000),
            ..Concurrency::default()
        }),
        ..MachineService::default()
    };
    let check = |name: &str| {
        let check = MachineCheck {
            type_: Some("http".to_owned()),
            port: Some(5500),
            path: Some(format!("/flycheck/{name}")),
            interval: Some(fly::GoDuration::from_secs(15)),
            timeout: Some(fly::GoDuration::from_secs(10)),
            ..MachineCheck::default()
        };
        (name.to_owned(), check)
    };
    MachineConfig {
        env: text(&[("PRIMARY_REGION", region)]),
        metadata: text(&[
            ("fly-managed-postgres", "true"),
            ("managed-by-fly-deploy", "true"),
            ("fly_platform_version", "v2"),
            (crate::phase::deploy::fleet::UID_KEY, &owner.uid),
        ]),
        mounts: vec![MachineMount {
            volume: Some(volume),
            path: "/data".to_owned(),
            ..MachineMount::default()
        }],
        services: vec![service(5432), service(5433)],
        checks: ["pg", "role", "vm"].into_iter().map(check).collect(),
        metrics: Some(MachineMetrics {
            port: Some(9187),
            path: Some("/metrics".to_owned()),
            ..MachineMetrics::default()
        }),
        restart: Some(MachineRestart {
            policy: Some(RestartPolicy::Always),
            ..MachineRestart::default()
        }),
        ..MachineConfig::default()
    }
}

/// Deletes the cluster with its data, or leaves it, as the deletion policy says.
///
/// # Errors
/// When Fly.io or Kubernetes refuses or does not answer.
pub async fn remove(cx: &Cx) -> Result<Removal> {
    let name = super::postgres::name(&cx.target.app);
    let (kube, namespace) = (&cx.kube, &cx.installation.own_namespace);
    let Some(claim) = claim::read(kube, namespace, &name).await? else {
        return Ok(Removal::Gone);
    };
    if !claim.is_of(&cx.owner) {
        return Ok(Removal::Gone);
    }
    if app::is_there(cx, &name).await? {
        if cx.target.deletion.database == Deletion::Retain {
            claim::retain(kube, namespace, &name, &cx.owner, &claim, &claim.made).await?;
            return Ok(Removal::Retained(format!("the Fly Postgres app {name}")));
        }
        let deleted = cx.fly.delete_app(&name, true).await;
        deleted.map_err(|source| Error::fly(format!("delete the app {name}"), source))?;
        if app::is_there(cx, &name).await? {
            return Ok(Removal::Pending {
                why: Why::new(Reason::Deleting, format!("the app {name} is being deleted")),
                again: Duration::from_secs(1),
            });
        }
    }
    claim::give_back(kube, namespace, &name, &claim).await?;
    Ok(Removal::Gone)
}

#[cfg(test)]
mod tests;
