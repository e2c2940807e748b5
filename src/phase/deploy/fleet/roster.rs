//! Our machines as they were last seen. Fly.io answers the list of an app's machines once a
//! second (burst 3), but each machine by its id five times a second (fly-api.md B.1): so a list
//! that was just made tells which machines there are, and looks soon after it read those by id.
//!
//! Only this process creates machines with our mark, so between two lists there are none beside
//! the ones that it made itself. When it does not know what a call has done, the next look lists.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::future::try_join_all;

use crate::phase::deploy::fleet;
use crate::{
    error::Error,
    fly::{Machine, MachineState, machines::CheckResult},
    pipeline::{Cx, step::Result},
};

/// How old a look may be that steps of one pass share.
const SHARED_FOR: Duration = Duration::from_millis(500);

/// How long after a list the next look goes by the ids: lists at this pace stay within the limit.
const LISTED_FOR: Duration = Duration::from_millis(900);

/// Machines that are read one by one; of more than these a list is the cheaper look. Only those
/// are read that are on their way or were just changed: what is well or down is as it was listed.
const ONE_BY_ONE: usize = 12;

/// Kind of a machine among what the status names at Fly.io.
pub const MACHINE: &str = "Machine";

/// What was seen, and when.
#[derive(Clone, Debug)]
pub struct Roster {
    /// When all machines were last listed.
    listed: Instant,
    /// When they were last looked at; `None` once something was changed since.
    looked: Option<Instant>,
    /// Ids of machines that this process has changed since.
    touched: BTreeSet<String>,
    machines: Vec<Machine>,
}

impl Roster {
    fn is_restless(&self, machine: &Machine) -> bool {
        let quiet = match machine.state {
            // One without checks is watched, and only a look tells that it has not ended.
            MachineState::Started => {
                let mut checks = machine.checks.iter();
                !machine.checks.is_empty()
                    && checks.all(|check| check.status == CheckResult::Passing)
            }
            MachineState::Stopped | MachineState::Suspended => true,
            _ => false,
        };
        !quiet || self.touched.contains(&machine.id)
    }
}

/// The app's machines that are ours and not over.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn ours(cx: &Cx) -> Result<Vec<Machine>> {
    let known = cx.facts.roster.get();
    if let Some(known) = &known
        && known.looked.is_some_and(|at| at.elapsed() < SHARED_FOR)
    {
        return Ok(known.machines.clone());
    }
    let read = match &known {
        Some(known) if known.listed.elapsed() < LISTED_FOR => {
            let (restless, quiet): (Vec<&Machine>, Vec<&Machine>) = known
                .machines
                .iter()
                .partition(|machine| known.is_restless(machine));
            if restless.len() <= ONE_BY_ONE {
                let read = read(cx, &restless).await?;
                read.map(|mut machines| {
                    machines.extend(quiet.into_iter().cloned());
                    (known.listed, machines)
                })
            } else {
                None
            }
        }
        _ => None,
    };
    let (listed, machines) = match read {
        Some(read) => read,
        None => {
            let begun = Instant::now();
            let listed = list(cx).await?;
            let unlisted = unlisted(cx, known.as_deref(), &listed).await?;
            (begun, listed.into_iter().chain(unlisted).collect())
        }
    };
    let ours: Vec<Machine> = machines
        .into_iter()
        .filter(|machine| !machine.state.is_over() && fleet::is_ours(machine, &cx.owner))
        .collect();
    cx.facts.roster.set(Roster {
        listed,
        looked: Some(Instant::now()),
        touched: BTreeSet::new(),
        machines: ours.clone(),
    });
    Ok(ours)
}

/// Lists the machines ahead of the steps that share a look, while others work. What goes wrong here
/// goes wrong again where it matters.
pub async fn ahead(cx: &Cx) {
    if let Err(error) = ours(cx).await {
        tracing::debug!(%error, "the machines were not listed ahead");
    }
}

async fn list(cx: &Cx) -> Result<Vec<Machine>> {
    let machines = cx.fly.machines(&cx.target.app, &[]).await;
    machines.map_err(|source| Error::fly("list the machines of the app", source))
}

/// Machines that are on record and not on the list: a list may lag behind, and may be empty for no
/// reason (fly-api.md B.3). One that is read by its id is there, whatever the list says.
async fn unlisted(cx: &Cx, known: Option<&Roster>, listed: &[Machine]) -> Result<Vec<Machine>> {
    let known = known.into_iter().flat_map(|known| &known.machines);
    let known = known.map(|machine| machine.id.as_str());
    let recorded = cx
        .recorded
        .external
        .iter()
        .filter(|object| object.kind == MACHINE);
    let recorded = recorded.map(|object| object.id.as_str());
    let missing: BTreeSet<&str> = known
        .chain(recorded)
        .filter(|id| !id.is_empty() && !listed.iter().any(|machine| machine.id == *id))
        .collect();
    let found = try_join_all(missing.into_iter().map(|id| by_id(cx, id))).await?;
    Ok(found.into_iter().flatten().collect())
}

async fn by_id(cx: &Cx, id: &str) -> Result<Option<Machine>> {
    let found = cx.fly.machine(&cx.target.app, id).await;
    found.map_err(|source| Error::fly(format!("read the machine {id}"), source))
}

/// Reads these again, each by its id; `None` when one is not there: it may be gone, or so new that
/// not every reader knows it.
async fn read(cx: &Cx, machines: &[&Machine]) -> Result<Option<Vec<Machine>>> {
    let read = machines.iter().map(|machine| by_id(cx, &machine.id));
    let found = try_join_all(read).await?;
    Ok(found.into_iter().collect())
}

/// Machines that are known may have changed: the next look reads them again.
pub fn changed(cx: &Cx) {
    cx.facts.roster.change(|known| known.looked = None);
}

/// This process has changed these machines, by id: the next look reads them again.
pub fn touched(cx: &Cx, ids: impl IntoIterator<Item = String>) {
    cx.facts.roster.change(|known| {
        known.looked = None;
        known.touched.extend(ids);
    });
}

/// This process has created a machine: the next look reads it by its id.
pub fn created(cx: &Cx, machine: &Machine) {
    cx.facts.roster.change(|known| {
        known.looked = None;
        known.machines.retain(|other| other.id != machine.id);
        known.machines.push(machine.clone());
    });
}

/// It is not known what a call has done: the next look lists all machines.
pub fn lost(cx: &Cx) {
    cx.facts.roster.clear();
}
