//! Machines that have failed, by one look or by two. A list may lag behind or be wrong for a moment, so
//! that a release is judged only by what a read of the machine by its id shows a settling window later.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    fleet::{health::Health, wanted::WantedMachine},
    rollout::Rollout,
};
use crate::{
    error::Error,
    fly::Machine,
    phase::{
        absence::{self, Doubt},
        roster::MACHINE,
    },
    pipeline::{Cx, step::Result},
};

/// Whether a machine has ended or is late.
fn has_failed(
    rollout: &Rollout,
    machine: &Machine,
    wanted: &WantedMachine,
    now: Timestamp,
) -> bool {
    if wanted.standby {
        return false;
    }
    match rollout.health_of(machine, wanted, now) {
        Health::Exited { .. } | Health::Down(_) => true,
        Health::Unhealthy(_) | Health::Starting => rollout.is_late(machine, now),
        Health::Healthy | Health::Watched(_) => false,
    }
}

/// The version of a machine that was seen to have failed.
fn subject(machine: &Machine) -> String {
    format!("{} {}", machine.id, machine.instance_id)
}

/// The machines that one look has shown to have failed, by id, each with the pause until a second one
/// is believed. What the read by id shows takes the place of what was listed.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn unconfirmed(cx: &Cx, rollout: &mut Rollout) -> Result<BTreeMap<String, Duration>> {
    let now = cx.fly_now();
    let mut failed = Vec::new();
    for (machine, wanted) in rollout.pairs() {
        if has_failed(rollout, machine, wanted, now) {
            failed.push((machine.clone(), wanted.clone()));
        } else if rollout.health_of(machine, wanted, now) == Health::Healthy {
            absence::cleared(cx, Doubt::Failed, MACHINE, &subject(machine));
        }
    }
    let mut unconfirmed = BTreeMap::new();
    for (machine, wanted) in failed {
        if let Some(left) = absence::seen(cx, Doubt::Failed, MACHINE, &subject(&machine)) {
            unconfirmed.insert(machine.id, left);
            continue;
        }
        let found = cx.fly.machine(&cx.target.app, &machine.id).await;
        let found = found
            .map_err(|source| Error::fly(format!("read the machine {}", machine.id), source))?;
        let Some(found) = found.filter(|found| !found.state.is_over()) else {
            // Whether it is gone is for the next look at all machines.
            unconfirmed.insert(machine.id, cx.installation.timing.settle);
            continue;
        };
        if !has_failed(rollout, &found, &wanted, now) {
            unconfirmed.insert(machine.id, rollout.patience.pause);
        }
        let mut all = rollout.machines.iter_mut();
        if let Some(listed) = all.find(|listed| listed.id == found.id) {
            *listed = found;
        }
    }
    Ok(unconfirmed)
}
