//! The machines: created at once on a first deployment, rolled on an update, each named and
//! marked so that a second create finds the first.

use std::{
    fmt,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use jiff::Timestamp;

use super::fleet::{self, Health, Move, Wanted};
use crate::{
    api::{
        Reason,
        policy::Deletion,
        status::{ExternalObject, FallbackUsed},
    },
    error::Error,
    fly::{self, Machine, MachineUpdate, NewMachine},
    phase::{Cx, Note, Removal, Step, StepId, Verdict, provision::push, step::Result},
    target::Target,
};

/// The machines.
pub struct Machines;

/// Name of the step.
pub const ID: StepId = "Machines";

/// How old a list of machines may be that steps of one pass share.
const SHARED_FOR: Duration = Duration::from_millis(500);

/// How long the lease of an update is held at most. As flyctl (fly-api.md B.6).
const LEASE: Duration = Duration::from_secs(13);

/// What there is and what should be.
#[derive(Debug)]
pub struct Observed {
    pub wanted: Vec<Wanted>,
    pub machines: Vec<Machine>,
    pub digest: String,
    pub pool: usize,
    pub fallback: Option<FallbackUsed>,
}

/// One move of the fleet.
#[derive(Debug)]
pub struct Change(Move);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |machines: &[Machine]| {
            let names: Vec<&str> = machines.iter().map(|m| m.name.as_str()).collect();
            names.join(", ")
        };
        match &self.0 {
            Move::Create(wanted) => {
                let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
                write!(f, "create the machines {}", names.join(", "))
            }
            Move::Update(pairs) => {
                let names: Vec<&str> = pairs.iter().map(|(m, _)| m.name.as_str()).collect();
                write!(f, "update the machines {}", names.join(", "))
            }
            Move::Start(machines) => write!(f, "start the machines {}", names(machines)),
            Move::Destroy(machines) => write!(f, "destroy the machines {}", names(machines)),
            Move::Nothing | Move::Settle(_) => f.write_str("nothing"),
        }
    }
}

/// The app's machines that are ours; steps of one pass share one list.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn ours(cx: &Cx) -> Result<Vec<Machine>> {
    if let Some(list) = cx.facts.machine_list.get()
        && list.0.elapsed() < SHARED_FOR
    {
        return Ok(list.1.clone());
    }
    let machines = cx
        .fly
        .machines(&cx.target.app, &[])
        .await
        .map_err(|source| Error::fly("list the machines of the app", source))?;
    let ours: Vec<Machine> = machines
        .into_iter()
        .filter(|machine| !machine.state.is_over() && fleet::is_ours(machine, &cx.owner))
        .collect();
    cx.facts.machine_list.set((Instant::now(), ours.clone()));
    Ok(ours)
}

/// What should run and what does.
///
/// # Errors
/// When Fly.io does not answer or the fly.toml cannot be converted.
pub async fn look(cx: &Cx) -> Result<Observed> {
    let image = cx.facts.image.get().ok_or(Error::NotKnown("the image"))?;
    let config = cx.target.config()?;
    let secrets = push::digest_of(&push::records(cx));
    let size = cx.facts.fallback_size.get();
    let guest = match size.as_deref() {
        Some(fallback) => {
            Some(
                crate::flytoml::parse_size(&fallback.to).map_err(|error| Error::Blocked {
                    reason: Reason::FlyConfigInvalid,
                    message: format!("`deploy.fallbackSizes`: {error}"),
                })?,
            )
        }
        None => None,
    };
    let wanted = fleet::wanted(
        &cx.target,
        &cx.owner,
        &config.app,
        &image.pinned,
        &secrets,
        guest.as_ref(),
    )?;
    let machines = ours(cx).await?;
    Ok(Observed {
        pool: config.app.pool_size(wanted.len()),
        wanted,
        machines,
        digest: image.digest.clone(),
        fallback: size.as_deref().cloned(),
    })
}

impl Step for Machines {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        ID
    }

    fn needs(&self) -> &'static [StepId] {
        &[super::image::ID]
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        look(cx).await
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        match fleet::plan(
            &observed.wanted,
            &observed.machines,
            &observed.digest,
            observed.pool,
        ) {
            Move::Nothing => Verdict::Done,
            Move::Settle(unsettled) => settle(&target.app, &unsettled),
            next => Verdict::Change(Change(next)),
        }
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        let mut notes: Vec<Note> = observed
            .machines
            .iter()
            .map(|machine| {
                Note::External(ExternalObject {
                    kind: "Machine".to_owned(),
                    id: machine.id.clone(),
                    name: machine.name.clone(),
                    last_observed_time: None,
                })
            })
            .collect();
        notes.extend(observed.fallback.clone().map(Note::Fallback));
        notes
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        cx.facts.machine_list.clear();
        match change.0 {
            Move::Create(wanted) => {
                try_join_all(wanted.iter().map(|wanted| create(cx, wanted))).await?;
            }
            Move::Update(pairs) => {
                try_join_all(
                    pairs
                        .iter()
                        .map(|(machine, wanted)| update(cx, machine, wanted)),
                )
                .await?;
            }
            Move::Start(machines) => {
                for machine in machines {
                    cx.fly
                        .start_machine(&cx.target.app, &machine.id, None)
                        .await
                        .map_err(|source| {
                            Error::fly(format!("start the machine {}", machine.name), source)
                        })?;
                }
            }
            Move::Destroy(machines) => {
                for machine in machines {
                    destroy(cx, &machine).await?;
                }
            }
            Move::Nothing | Move::Settle(_) => {}
        }
        cx.facts.machine_list.clear();
        Ok(())
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        // Machines go with the app. When the app stays, what we started is stopped for good.
        if cx.target.deletion.app == Deletion::Retain {
            return Ok(Removal::Retained(format!(
                "the machines of {}, which go on running",
                cx.target.app
            )));
        }
        Ok(Removal::Gone)
    }
}

/// A rollout does not go on over a machine that is not healthy.
fn settle(app: &str, unsettled: &[(Machine, Health)]) -> Verdict<Change> {
    let Some((machine, health)) = unsettled.first() else {
        return Verdict::Done;
    };
    super::health::verdict_of(app, machine, health, None)
}

/// Creates one machine. Its name is unique among the app's live machines: when it is in use,
/// the answer names the machine, and it is ours if it has our mark.
async fn create(cx: &Cx, wanted: &Wanted) -> Result<()> {
    let new = NewMachine {
        name: wanted.name.clone(),
        region: cx.target.region.clone(),
        config: wanted.config.clone(),
        skip_launch: wanted.standby,
        min_secrets_version: cx.facts.secrets_version.get().map(|version| *version),
        ..NewMachine::default()
    };
    let doing = format!("create the machine {}", wanted.name);
    match cx.fly.create_machine(&cx.target.app, &new).await {
        Ok(_) => Ok(()),
        Err(error) => match error.conflict() {
            Some(fly::Conflict::NameTaken {
                machine_id: Some(id),
            }) => {
                let found = cx.fly.machine(&cx.target.app, id).await;
                let found = found.map_err(|source| Error::fly(doing.clone(), source))?;
                match found {
                    Some(found) if fleet::is_ours(&found, &cx.owner) => Ok(()),
                    _ => Err(Error::Blocked {
                        reason: Reason::NameTaken,
                        message: format!(
                            "a machine {} ({id}) exists that this Activation did not make: destroy or rename it",
                            wanted.name
                        ),
                    }),
                }
            }
            Some(fly::Conflict::Capacity(_) | fly::Conflict::Quota) => {
                fall_back(cx, wanted, error, doing)
            }
            _ => Err(Error::fly(doing, error)),
        },
    }
}

/// Takes the next declared size when there is no room for the wanted one.
fn fall_back(cx: &Cx, wanted: &Wanted, error: fly::Error, doing: String) -> Result<()> {
    let sizes = &cx.target.deploy.fallback_sizes;
    let used = cx.facts.fallback_size.get();
    let next = match used.as_deref() {
        None => sizes.first(),
        Some(used) => sizes
            .iter()
            .position(|size| *size == used.to)
            .and_then(|at| sizes.get(at + 1)),
    };
    let Some(next) = next else {
        return Err(Error::fly(doing, error));
    };
    let from = wanted.config.guest.as_ref().map_or_else(
        || "shared-cpu-1x".to_owned(),
        |guest| {
            format!(
                "{}-cpu-{}x",
                guest.cpu_kind.as_deref().unwrap_or("shared"),
                guest.cpus.unwrap_or(1)
            )
        },
    );
    cx.facts.fallback_size.set(FallbackUsed {
        what: "deploy.size".to_owned(),
        from,
        to: next.clone(),
        reason: error.message().to_owned(),
        time: None,
    });
    Ok(())
}

/// Updates one machine under a short lease, fenced by the version that was read.
async fn update(cx: &Cx, machine: &Machine, wanted: &Wanted) -> Result<()> {
    let app = &cx.target.app;
    let lease = cx
        .fly
        .acquire_lease(app, &machine.id, LEASE, "golive deploys")
        .await
        .map_err(|source| Error::fly(format!("lease the machine {}", machine.name), source))?;
    let update = MachineUpdate {
        config: wanted.config.clone(),
        current_version: Some(machine.instance_id.clone()),
        skip_launch: wanted.standby,
        min_secrets_version: cx.facts.secrets_version.get().map(|version| *version),
        ..MachineUpdate::default()
    };
    let updated = cx
        .fly
        .update_machine(app, &machine.id, &update, Some(&lease.nonce))
        .await;
    // Given back also after a failure; if that fails too, it ends by itself soon.
    let released = cx.fly.release_lease(app, &machine.id, &lease.nonce).await;
    if let Err(error) = released {
        tracing::warn!(machine = %machine.name, %error, "the lease was not given back; it ends by itself");
    }
    updated
        .map(drop)
        .map_err(|source| Error::fly(format!("update the machine {}", machine.name), source))
}

async fn destroy(cx: &Cx, machine: &Machine) -> Result<()> {
    // Only what carries our mark ever gets here.
    cx.fly
        .delete_machine(&cx.target.app, &machine.id, true, None)
        .await
        .map_err(|source| Error::fly(format!("destroy the machine {}", machine.name), source))
}
