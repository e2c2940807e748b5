//! The machines: created at once on a first deployment, replaced on an update as the strategy says,
//! each named and marked so that a second create finds the first.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;

use super::{
    fleet::{self, Wanted},
    look::{self, Failure, Look},
    machine_checks, volumes,
};
use crate::phase::deploy::{
    command::one_off::{self, Progress},
    fleet::{leases, roster, strategy::Move},
    release::rollback,
};
use crate::{
    api::{
        Reason,
        deploy::OnFailure,
        policy::Deletion,
        status::{ExternalObject, FallbackUsed},
    },
    error::Error,
    fly::{self, Machine, MachineState, MachineUpdate, NewMachine},
    flytoml::{self, AppConfig, Strategy},
    pipeline::{
        ChangeKind, Cx, News, Note, Removal, Slot, Step, StepChange, StepId, Verdict, Wake, Why,
        step::Result,
    },
    plan::Target,
};

/// The machines.
pub struct Machines;

/// One move of the fleet, or back to the last good release.
#[derive(Debug)]
pub enum Change {
    /// The next move.
    Move {
        /// What is done.
        next: Move,
        /// The application's configuration.
        config: Arc<AppConfig>,
        /// Machines that are leased for it, by id and name.
        leased: Vec<(String, String)>,
    },
    /// One step of the `machine_checks`.
    Check(one_off::Change),
    /// The release has failed.
    RollBack(rollback::Change),
}

impl Change {
    /// What has to be announced before it is sent.
    pub fn intent(&self) -> Option<Slot> {
        match self {
            Self::Check(change) => change.intent(),
            Self::Move { .. } | Self::RollBack(_) => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |machines: &[Machine]| {
            let names: Vec<&str> = machines.iter().map(|m| m.name.as_str()).collect();
            names.join(", ")
        };
        let next = match self {
            Self::RollBack(change) => return change.fmt(f),
            Self::Check(change) => return change.fmt(f),
            Self::Move { next, .. } => next,
        };
        match next {
            Move::Create(wanted) => {
                let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
                write!(f, "create the machines {}", names.join(", "))
            }
            Move::Update(pairs) => {
                let names: Vec<&str> = pairs.iter().map(|(m, _)| m.name.as_str()).collect();
                write!(f, "update the machines {}", names.join(", "))
            }
            Move::Start(machines) => write!(f, "start the machines {}", names(machines)),
            Move::Uncordon(machines) => {
                write!(f, "let the machines {} serve", names(machines))
            }
            Move::Cordon(machines) => {
                write!(f, "take the machines {} out of service", names(machines))
            }
            Move::Stop(machines) => write!(f, "stop the machines {}", names(machines)),
            Move::Destroy(machines) => write!(f, "destroy the machines {}", names(machines)),
            Move::Nothing | Move::Settle | Move::Pause(_) | Move::Await(_) => {
                f.write_str("nothing")
            }
        }
    }
}

impl StepChange for Change {
    fn kind(&self) -> ChangeKind {
        match self {
            Self::RollBack(change) => change.kind(),
            Self::Move { .. } | Self::Check(_) => ChangeKind::Ordinary,
        }
    }
}

impl Step for Machines {
    type Observed = Look;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Machines
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::SeedCommand, StepId::Volumes]
    }

    /// `Verify` looks at the machines from then on.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Look> {
        observe(cx).await
    }

    fn diff(&self, target: &Target, look: &Look, now: Timestamp) -> Verdict<Change> {
        decide(target, look, now)
    }

    fn notes(&self, _target: &Target, observed: &Look) -> Vec<Note> {
        let mut notes: Vec<Note> = observed
            .machines
            .iter()
            // One that ran a command is on its way out.
            .filter(|machine| !fleet::runs_a_command(machine))
            .map(|machine| {
                Note::External(ExternalObject {
                    kind: roster::MACHINE.to_owned(),
                    id: machine.id.clone(),
                    name: machine.name.clone(),
                    last_observed_time: None,
                })
            })
            .collect();
        notes.extend(observed.fallback.clone().map(Note::Fallback));
        notes.extend(look::notes(observed));
        notes
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        change.intent()
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        apply(cx, change).await
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        // Machines go with the app. When the app stays, so do they, and a test that runs ends.
        if cx.target.deletion.app == Deletion::Retain {
            if !machine_checks::end_all(cx).await? {
                return Ok(Removal::Pending {
                    why: Why::new(Reason::MachineCheckRunning, "the machine checks are ended"),
                    again: Duration::from_secs(1),
                });
            }
            return Ok(Removal::Retained(format!(
                "the machines of {}, which go on running",
                cx.target.app
            )));
        }
        Ok(Removal::Gone)
    }
}

/// Looks at the machines. A rollout that has ended or stands still gives its leases back, whoever
/// moved it.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn observe(cx: &Cx) -> Result<Look> {
    let look = look::look(cx).await?;
    match decide(&cx.target, &look, cx.now()) {
        Verdict::Change(_) | Verdict::Wait { .. } => leases::go_on(cx, &look.machines).await,
        _ => leases::release(cx).await,
    }
    Ok(look)
}

/// The next move, or what keeps it. A rollout does not go on over a machine that was given the new
/// release and has failed.
pub fn decide(target: &Target, look: &Look, now: Timestamp) -> Verdict<Change> {
    let go = |next| {
        Verdict::Change(Change::Move {
            next,
            config: look.effective.config.clone(),
            leased: leases::wanted(&look.machines),
        })
    };
    let plan = look.plan(true, now);
    let checks = look.checks.stand(&target.app, now, look.pause);
    if plan.next == Move::Nothing && checks == Progress::Passed {
        return Verdict::Done;
    }
    let health = look.judge(&target.app, now, |wanted| {
        plan.settling.contains(&wanted.slot) || look.checks.is_open(&wanted.slot)
    });
    let (health, again) = match (health, checks) {
        // What hangs or is left over goes, whatever else there is.
        (_, Progress::Needs(change @ one_off::Change::End { .. })) => {
            return Verdict::Change(Change::Check(change));
        }
        // A machine that is proven not to work is told before what tests others.
        (Verdict::Blocked(why), _) => (Verdict::Blocked(why), None),
        (_, Progress::Failed { why, again }) => (Verdict::Blocked(why), again),
        (_, Progress::Needs(change)) => return Verdict::Change(Change::Check(change)),
        (Verdict::Done, Progress::Waits { why, wake }) => (Verdict::Wait { why, wake }, None),
        (health, _) => (health, None),
    };
    match health {
        Verdict::Blocked(why) => {
            if target.deploy.on_failure == OnFailure::Leave {
                let next = look.plan(false, now).next;
                if next.changes() {
                    return go(next);
                }
            }
            match look.failed(target, why) {
                Failure::Stop(why) => match again {
                    Some(again) => Verdict::Change(Change::Check(again)),
                    None => Verdict::Blocked(why),
                },
                Failure::RollBack(cause) => {
                    Verdict::Change(Change::RollBack(rollback::Change::of(look, cause)))
                }
                Failure::Record(cause) => {
                    let change = rollback::Change::left(look.release.clone(), cause);
                    Verdict::Change(Change::RollBack(change))
                }
            }
        }
        health => match plan.next {
            Move::Nothing => health,
            Move::Settle => tell(look, hasten(look, plan.settling.len(), health)),
            Move::Pause(left) => Verdict::Wait {
                why: Why::new(
                    Reason::TrafficMoving,
                    "the proxies of Fly.io get a moment to learn which machines serve now",
                ),
                wake: Wake::After(left),
            },
            Move::Await(machines) => await_stop(target, &machines),
            next => go(next),
        },
    }
}

/// Where several machines are on their way and any of them lets the next one go, a long poll on one
/// of them would see the others late.
fn hasten(look: &Look, settling: usize, verdict: Verdict<Change>) -> Verdict<Change> {
    match verdict {
        Verdict::Wait {
            why,
            wake: Wake::Machine { .. },
        } if settling > 1 && matches!(look.strategy, Strategy::Rolling | Strategy::Canary) => {
            Verdict::Wait {
                why,
                wake: Wake::After(look.pause),
            }
        }
        verdict => verdict,
    }
}

/// A wait says also what went wrong on the way and was put right.
fn tell(look: &Look, verdict: Verdict<Change>) -> Verdict<Change> {
    match verdict {
        Verdict::Wait { mut why, wake } if !look.reverted.is_empty() => {
            let names: Vec<&str> = look.reverted.iter().map(String::as_str).collect();
            why.message = format!(
                "{}; Fly.io took the update of {} back, and it was made again",
                why.message,
                names.join(", ")
            );
            Verdict::Wait { why, wake }
        }
        verdict => verdict,
    }
}

/// A machine that stops finishes the requests that it has, for as long as `kill_timeout` allows.
fn await_stop(target: &Target, machines: &[Machine]) -> Verdict<Change> {
    let Some(machine) = machines.first() else {
        return Verdict::Done;
    };
    Verdict::Wait {
        why: Why::new(
            Reason::TrafficMoving,
            format!("the machine {} ({}) is stopping", machine.name, machine.id),
        ),
        wake: Wake::Machine {
            app: target.app.clone(),
            id: machine.id.clone(),
            version: None,
            state: MachineState::Stopped,
            patience: Duration::from_secs(2),
        },
    }
}

/// Makes a move.
///
/// # Errors
/// When Fly.io refuses or does not answer. What was done before stays and is seen by the next
/// look.
pub async fn apply(cx: &Cx, change: Change) -> Result<()> {
    let (next, config, leased) = match change {
        Change::RollBack(change) => return rollback::act(cx, change).await,
        Change::Check(change) => return one_off::apply(cx, change).await,
        Change::Move {
            next,
            config,
            leased,
        } => (next, config, leased),
    };
    roster::changed(cx);
    leases::hold(cx, &leased).await?;
    // All run to their end, also when one fails: a call that is cut off is one more unknown.
    let done: Vec<Result<()>> = match &next {
        Move::Create(wanted) => {
            let wanted = volumes::assign(cx, wanted.clone()).await?;
            join_all(wanted.iter().map(|wanted| create(cx, wanted))).await
        }
        Move::Update(pairs) => {
            tell_reverts(cx, pairs);
            let update = |(machine, wanted)| update(cx, &config, machine, wanted);
            join_all(pairs.iter().map(|(m, w)| (m, w)).map(update)).await
        }
        Move::Start(machines) => join_all(machines.iter().map(|machine| start(cx, machine))).await,
        Move::Uncordon(machines) => join_all(machines.iter().map(|m| uncordon(cx, m))).await,
        Move::Cordon(machines) => join_all(machines.iter().map(|m| cordon(cx, m))).await,
        Move::Stop(machines) => join_all(machines.iter().map(|m| stop(cx, m))).await,
        Move::Destroy(machines) => join_all(machines.iter().map(|m| destroy(cx, m))).await,
        Move::Nothing | Move::Settle | Move::Pause(_) | Move::Await(_) => Vec::new(),
    };
    let done: Result<()> = done.into_iter().collect();
    match &done {
        Ok(()) => roster::touched(cx, next.of()),
        Err(_) => roster::lost(cx),
    }
    done
}

/// Remembers the version that the platform made of our words.
fn wrote(cx: &Cx, machine: &Machine) {
    cx.facts.written.add(|written| {
        written.insert(machine.instance_id.clone());
    });
}

/// Tells of machines that were given this before and do not have it any more: Fly.io has been seen
/// to take an update back silently (fly-api.md L). Each is news once in a release.
fn tell_reverts(cx: &Cx, pairs: &[(Machine, Wanted)]) {
    let given = cx.facts.given.get().unwrap_or_default();
    let written = cx.facts.written.get().unwrap_or_default();
    for (machine, wanted) in pairs {
        let host = machine.image_ref.as_ref();
        let host = host.and_then(|image| image.digest.as_deref());
        let other = host.is_some_and(|digest| !wanted.config.image.ends_with(digest));
        // Under a version of ours nothing else but its host's word makes an update.
        let back = !wanted.marks(machine) || written.contains(&machine.instance_id) && other;
        if given.get(&machine.id) != Some(&wanted.hash) || !back {
            continue;
        }
        let release = wanted.config.metadata.get(fleet::RELEASE_KEY);
        let release = release.cloned().unwrap_or_default();
        let known = cx.facts.reverted.get();
        let mut times = known
            .filter(|known| known.0 == release)
            .map(|known| known.1.clone())
            .unwrap_or_default();
        let count = times.entry(machine.name.clone()).or_default();
        *count += 1;
        if *count == 1 {
            let note = format!(
                "Fly.io took the update of the machine {} ({}) to {} back without a word; it is updated again",
                machine.name, machine.id, wanted.config.image
            );
            tracing::warn!(machine = %machine.name, id = %machine.id, "{note}");
            cx.facts.tell(News {
                reason: Reason::UpdateReverted,
                step: StepId::Machines,
                note,
            });
        }
        cx.facts.reverted.set((release, times));
    }
}

/// Remembers what a machine was given.
fn gave(cx: &Cx, machine: &Machine, wanted: &Wanted) {
    cx.facts.given.add(|given| {
        given.insert(machine.id.clone(), wanted.hash.clone());
    });
}

/// Creates one machine. Its name is unique among the app's live machines: when it is in use,
/// the answer names the machine, and it is ours if it has our mark.
async fn create(cx: &Cx, wanted: &Wanted) -> Result<()> {
    let new = NewMachine {
        name: wanted.name.clone(),
        region: wanted.region.clone(),
        config: wanted.config.clone(),
        skip_launch: wanted.standby,
        skip_service_registration: wanted.cordoned,
        min_secrets_version: cx.facts.secrets_version.get().map(|version| *version),
        ..NewMachine::default()
    };
    let doing = format!("create the machine {}", wanted.name);
    match cx.fly.create_machine(&cx.target.app, &new).await {
        Ok(machine) => {
            wrote(cx, &machine);
            roster::created(cx, &machine);
            Ok(())
        }
        Err(error) => match error.conflict() {
            Some(fly::Conflict::NameTaken {
                machine_id: Some(id),
            }) => {
                let found = cx.fly.machine(&cx.target.app, id).await;
                let found = found.map_err(|source| Error::fly(doing.clone(), source))?;
                match found {
                    Some(found) if fleet::is_ours(&found, &cx.owner) => {
                        roster::created(cx, &found);
                        Ok(())
                    }
                    _ => Err(Error::Blocked {
                        reason: Reason::NameTaken,
                        message: format!(
                            "a machine {} ({id}) exists that this Activation did not make: destroy or rename it",
                            wanted.name
                        ),
                    }),
                }
            }
            _ if no_room(&error) => fall_back(cx, wanted, error, doing),
            _ => Err(Error::fly(doing, error)),
        },
    }
}

/// Takes the next declared size when there is no room for the wanted one.
fn fall_back(cx: &Cx, wanted: &Wanted, error: fly::Error, doing: String) -> Result<()> {
    let sizes = &cx.target.deploy.fallback_sizes;
    let release = wanted.config.metadata.get(fleet::RELEASE_KEY);
    let release = release.cloned().unwrap_or_default();
    // Others of the same move may have fallen back already: what this one was refused counts.
    let used = wanted.config.metadata.get(fleet::SIZE_KEY);
    let next = match used {
        None => sizes.first(),
        Some(used) => sizes
            .iter()
            .position(|size| size == used)
            .and_then(|at| sizes.get(at + 1)),
    };
    let Some(next) = next else {
        return Err(Error::fly(doing, error));
    };
    let used = FallbackUsed {
        what: "deploy.size".to_owned(),
        from: look::asked_size(&cx.target.config()?.app),
        to: next.clone(),
        reason: crate::api::status::one_line(error.message(), 500),
        time: None,
    };
    cx.facts.fallback_size.set((release, used));
    Ok(())
}

/// Updates one machine under a lease, fenced by the version that was read.
///
/// The new configuration starts from the live one, so that what fly.toml does not speak of (a
/// volume, other people's marks, fields of a newer platform) stays.
async fn update(cx: &Cx, app_config: &AppConfig, machine: &Machine, wanted: &Wanted) -> Result<()> {
    let app = &cx.target.app;
    let context = flytoml::Context {
        image: &wanted.config.image,
        live: machine.config.as_ref(),
        size: wanted.size_for(machine),
        metadata: wanted.config.metadata.clone(),
        ..flytoml::Context::default()
    };
    let mut config = app_config
        .machine_config(&wanted.group, &context)
        .map_err(|error| {
            fleet::not_convertible(&format!("machines of {}", wanted.group), &error)
        })?;
    if !wanted.config.metadata.contains_key(fleet::SIZE_KEY) {
        config.metadata.remove(fleet::SIZE_KEY);
    }
    if !wanted.config.standbys.is_empty() {
        // As flyctl, which names them in the environment of a new machine only.
        config.standbys.clone_from(&wanted.config.standbys);
    }
    // One that is down is leased for this call only.
    let held = leases::nonce(cx, &machine.id);
    let short = match held {
        Some(_) => None,
        None => {
            let lease = cx
                .fly
                .acquire_lease(app, &machine.id, leases::LEASE, leases::WHY);
            let lease = lease.await.map_err(|source| {
                Error::fly(format!("lease the machine {}", machine.name), source)
            })?;
            Some(lease.nonce)
        }
    };
    let nonce = held.as_deref().or(short.as_deref());
    let update = MachineUpdate {
        config,
        region: machine.region.clone(),
        current_version: Some(machine.instance_id.clone()),
        // A stopped machine stays stopped (fly-api.md G.5).
        skip_launch: !matches!(
            machine.state,
            MachineState::Started | MachineState::Starting | MachineState::Failed
        ) && (wanted.standby || fleet::starts_on_demand(wanted)),
        min_secrets_version: cx.facts.secrets_version.get().map(|version| *version),
        ..MachineUpdate::default()
    };
    let updated = cx
        .fly
        .update_machine(app, &machine.id, &update, nonce)
        .await;
    // Given back also after a failure; if that fails too, it ends by itself soon.
    if let Some(nonce) = &short
        && let Err(error) = cx.fly.release_lease(app, &machine.id, nonce).await
    {
        tracing::warn!(machine = %machine.name, %error, "the lease was not given back; it ends by itself");
    }
    let doing = format!("update the machine {}", machine.name);
    match updated {
        Ok(updated) => {
            wrote(cx, &updated);
            gave(cx, machine, wanted);
            Ok(())
        }
        Err(error) if no_room(&error) => fall_back(cx, wanted, error, doing),
        Err(error) => Err(Error::fly(doing, error)),
    }
}

fn no_room(error: &fly::Error) -> bool {
    matches!(
        error.conflict(),
        Some(fly::Conflict::Capacity(_) | fly::Conflict::Quota)
    )
}

async fn start(cx: &Cx, machine: &Machine) -> Result<()> {
    let nonce = leases::nonce(cx, &machine.id);
    cx.fly
        .start_machine(&cx.target.app, &machine.id, nonce.as_deref())
        .await
        .map_err(|source| Error::fly(format!("start the machine {}", machine.name), source))
}

async fn uncordon(cx: &Cx, machine: &Machine) -> Result<()> {
    let nonce = leases::nonce(cx, &machine.id);
    cx.fly
        .uncordon_machine(&cx.target.app, &machine.id, nonce.as_deref())
        .await
        .map_err(|source| Error::fly(format!("let the machine {} serve", machine.name), source))
}

async fn cordon(cx: &Cx, machine: &Machine) -> Result<()> {
    let nonce = leases::nonce(cx, &machine.id);
    cx.fly
        .cordon_machine(&cx.target.app, &machine.id, nonce.as_deref())
        .await
        .map_err(|source| {
            let doing = format!("take the machine {} out of service", machine.name);
            Error::fly(doing, source)
        })
}

/// As its own configuration says: with its signal, and the time that it gets to finish.
async fn stop(cx: &Cx, machine: &Machine) -> Result<()> {
    let nonce = leases::nonce(cx, &machine.id);
    cx.fly
        .stop_machine(&cx.target.app, &machine.id, None, nonce.as_deref())
        .await
        .map_err(|source| Error::fly(format!("stop the machine {}", machine.name), source))
}

async fn destroy(cx: &Cx, machine: &Machine) -> Result<()> {
    // Only what carries our mark ever gets here.
    let nonce = leases::nonce(cx, &machine.id);
    cx.fly
        .delete_machine(&cx.target.app, &machine.id, true, nonce.as_deref())
        .await
        .map_err(|source| Error::fly(format!("destroy the machine {}", machine.name), source))?;
    leases::forget(cx, &machine.id);
    Ok(())
}
