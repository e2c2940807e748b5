//! Sends one move to Fly.io.

use std::sync::Arc;

use futures::future::join_all;

use super::{
    fallback_size::{is_no_room, take_next},
    leases,
    next_move::{MachineDrift, Move},
    sent, volumes,
    wanted::{WantedMachine, not_convertible, starts_on_demand},
};
use crate::phase::{app_secrets, marks::is_ours, roster};
use crate::{
    api::Reason,
    error::Error,
    fly::{self, Machine, MachineState, MachineUpdate, NewMachine},
    flytoml::{self, AppConfig},
    phase::marks::{RELEASE_KEY, SIZE_KEY},
    pipeline::{Cx, Incident, StepId, step::Result},
};

/// A move, with what sending it needs.
#[derive(Debug)]
pub struct MoveRequest {
    /// The move.
    pub next: Move,
    /// The application's configuration.
    pub config: Arc<AppConfig>,
    /// Machines whose leases are acquired first, by id and name.
    pub leased: Vec<(String, String)>,
    /// Machines that are not as they were made, if the move corrects that.
    pub drift: Vec<MachineDrift>,
}

/// Sends a move.
///
/// # Errors
/// When Fly.io refuses a call or does not answer. Calls that were answered have taken effect, and
/// the next observation finds that.
pub async fn apply(cx: &Cx, request: MoveRequest) -> Result<()> {
    let MoveRequest {
        next,
        config,
        leased,
        drift: _,
    } = request;
    // Steps that observe the machines from now on read them again.
    roster::note_changed(cx, []);
    leases::hold(cx, &leased).await?;
    // Every call runs to its end, also when another one fails: a cancelled call has an unknown
    // outcome.
    let sent: Vec<Result<()>> = match &next {
        Move::Create(wanted) => {
            let wanted = volumes::assign(cx, wanted.clone()).await?;
            join_all(wanted.iter().map(|wanted| create(cx, wanted))).await
        }
        Move::Update(pairs) => {
            publish_reverts(cx, pairs);
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
    let sent: Result<()> = sent.into_iter().collect();
    match &sent {
        Ok(()) => roster::note_changed(cx, next.machine_ids()),
        Err(_) => roster::note_unknown(cx),
    }
    sent
}

/// Publishes an event for each machine that was given this configuration before and does not have
/// it any more: Fly.io sometimes reverts an update without an error. One event for each machine and
/// release.
fn publish_reverts(cx: &Cx, pairs: &[(Machine, WantedMachine)]) {
    for (machine, wanted) in pairs {
        let host = machine.image_ref.as_ref();
        let host = host.and_then(|image| image.digest.as_deref());
        let other = host.is_some_and(|digest| !wanted.config.image.ends_with(digest));
        // A version that this process wrote is updated only because its host reports another image.
        let back = !wanted.was_given_to(machine) || sent::is_written(cx, machine) && other;
        if !sent::was_given(cx, machine, wanted) || !back {
            continue;
        }
        let release = wanted.config.metadata.get(RELEASE_KEY);
        let release = release.cloned().unwrap_or_default();
        if sent::count_revert(cx, release, machine) == 1 {
            let note = format!(
                "Fly.io reverted the update of the machine {} ({}) to {} without an error; Golive updates it again",
                machine.name, machine.id, wanted.config.image
            );
            tracing::warn!(machine = %machine.name, id = %machine.id, "{note}");
            cx.facts.report(Incident {
                reason: Reason::UpdateReverted,
                step: StepId::Machines,
                note,
            });
        }
    }
}

/// Creates one machine. Its name is unique among the app's live machines: when it is taken, the
/// error names the machine, which is ours if its metadata says so.
async fn create(cx: &Cx, wanted: &WantedMachine) -> Result<()> {
    let new = NewMachine {
        name: wanted.name.clone(),
        region: wanted.region.clone(),
        config: wanted.config.clone(),
        skip_launch: wanted.standby,
        skip_service_registration: wanted.cordoned,
        min_secrets_version: app_secrets::version(cx),
        ..NewMachine::default()
    };
    let doing = format!("create the machine {}", wanted.name);
    match cx.fly.create_machine(&cx.target.app, &new).await {
        Ok(machine) => {
            sent::remember_version(cx, &machine);
            roster::note_created(cx, &machine);
            Ok(())
        }
        Err(error) => match error.conflict() {
            Some(fly::Conflict::NameTaken {
                machine_id: Some(id),
            }) => {
                let found = cx.fly.machine(&cx.target.app, id).await;
                let found = found.map_err(|source| Error::fly(doing.clone(), source))?;
                match found {
                    Some(found) if is_ours(&found, &cx.owner) => {
                        roster::note_created(cx, &found);
                        Ok(())
                    }
                    _ => Err(Error::Blocked {
                        reason: Reason::NameTaken,
                        message: format!(
                            "a machine {} ({id}) exists that this Activation did not create",
                            wanted.name
                        ),
                        action: format!(
                            "destroy it with `fly machine destroy {id} -a {}`, or rename it",
                            cx.target.app
                        ),
                    }),
                }
            }
            _ if is_no_room(&error) => take_next(cx, wanted, error, doing),
            _ => Err(Error::fly(doing, error)),
        },
    }
}

/// Updates one machine under a lease, fenced by the version that was read.
///
/// The new configuration starts from the live one, so that everything that fly.toml does not
/// declare (a volume, other metadata, newer fields of the API) is preserved.
async fn update(
    cx: &Cx,
    app_config: &AppConfig,
    machine: &Machine,
    wanted: &WantedMachine,
) -> Result<()> {
    let app = &cx.target.app;
    let size = wanted.size_for(machine);
    let context = flytoml::Context {
        image: &wanted.config.image,
        live: machine.config.as_ref(),
        size: size.as_ref(),
        metadata: wanted.config.metadata.clone(),
        ..flytoml::Context::default()
    };
    let mut config = app_config
        .machine_config(&wanted.group, &context)
        .map_err(|error| not_convertible(&format!("machines of {}", wanted.group), &error))?;
    if !wanted.config.metadata.contains_key(SIZE_KEY) {
        config.metadata.remove(SIZE_KEY);
    }
    wanted.mark_size(&mut config);
    if !wanted.config.standbys.is_empty() {
        // As flyctl, which sets the environment variable on a new machine only.
        config.standbys.clone_from(&wanted.config.standbys);
    }
    // A machine that is down is leased for this call only.
    let held = leases::nonce(cx, &machine.id);
    let short = match held {
        Some(_) => None,
        None => {
            let lease = cx
                .fly
                .acquire_lease(app, &machine.id, leases::LEASE, leases::DESCRIPTION);
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
        // A stopped machine stays stopped, as with `fly deploy`.
        skip_launch: !matches!(
            machine.state,
            MachineState::Started | MachineState::Starting | MachineState::Failed
        ) && (wanted.standby || starts_on_demand(wanted)),
        min_secrets_version: app_secrets::version(cx),
        ..MachineUpdate::default()
    };
    let updated = cx
        .fly
        .update_machine(app, &machine.id, &update, nonce)
        .await;
    // Released also after a failure. If the release fails, the lease expires within seconds.
    if let Some(nonce) = &short
        && let Err(error) = cx.fly.release_lease(app, &machine.id, nonce).await
    {
        tracing::warn!(machine = %machine.name, %error, "the lease was not released; it expires by itself");
    }
    let doing = format!("update the machine {}", machine.name);
    match updated {
        Ok(updated) => {
            sent::remember_version(cx, &updated);
            roster::note_updated(cx, &updated);
            sent::remember_given(cx, machine, wanted);
            Ok(())
        }
        Err(error) if is_no_room(&error) => take_next(cx, wanted, error, doing),
        Err(error) => Err(Error::fly(doing, error)),
    }
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
        .map_err(|source| Error::fly(format!("uncordon the machine {}", machine.name), source))
}

async fn cordon(cx: &Cx, machine: &Machine) -> Result<()> {
    let nonce = leases::nonce(cx, &machine.id);
    cx.fly
        .cordon_machine(&cx.target.app, &machine.id, nonce.as_deref())
        .await
        .map_err(|source| {
            let doing = format!("cordon the machine {}", machine.name);
            Error::fly(doing, source)
        })
}

/// Stops a machine as its configuration says, with its `kill_signal` and `kill_timeout`.
async fn stop(cx: &Cx, machine: &Machine) -> Result<()> {
    let nonce = leases::nonce(cx, &machine.id);
    cx.fly
        .stop_machine(&cx.target.app, &machine.id, None, nonce.as_deref())
        .await
        .map_err(|source| Error::fly(format!("stop the machine {}", machine.name), source))
}

async fn destroy(cx: &Cx, machine: &Machine) -> Result<()> {
    // Only machines with our metadata get here.
    let nonce = leases::nonce(cx, &machine.id);
    cx.fly
        .delete_machine(&cx.target.app, &machine.id, true, nonce.as_deref())
        .await
        .map_err(|source| Error::fly(format!("destroy the machine {}", machine.name), source))?;
    roster::note_destroyed(cx, &machine.id);
    leases::forget(cx, &machine.id);
    Ok(())
}
