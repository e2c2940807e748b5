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

use super::marks::is_ours;
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

/// Our machines as they were last observed. A fact.
#[derive(Debug)]
struct Roster {
    /// The pass that observed them: in a later pass they may have changed.
    pass: u64,
    /// When all machines were last listed.
    listed: Instant,
    /// When they were last listed or read.
    read: Instant,
    machines: Vec<Machine>,
}

/// What this process has sent since the machines were last observed. In the journal.
#[derive(Clone, Debug, Default)]
struct Sent {
    /// Ids of the machines that it changed.
    changed: BTreeSet<String>,
    /// Machines that it created.
    created: Vec<Machine>,
    /// The outcome of a call is unknown, so that only a list tells which machines there are.
    unknown: bool,
}

/// What is known before machines are read.
struct Known {
    listed: Instant,
    changed: BTreeSet<String>,
    machines: Vec<Machine>,
}

impl Known {
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
        !quiet || self.changed.contains(&machine.id)
    }
}

/// The app's machines that are ours and not over.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn ours(cx: &Cx) -> Result<Vec<Machine>> {
    let roster = cx.facts.get::<Roster>();
    let sent = cx.journal.get::<Sent>();
    if let Some(roster) = &roster
        && sent.is_none()
        && roster.pass == cx.pass
        && roster.read.elapsed() < SHARED_FOR
    {
        return Ok(roster.machines.clone());
    }
    let sent = sent.map(|sent| (*sent).clone()).unwrap_or_default();
    let known = roster.filter(|_| !sent.unknown);
    let known = known.map(|roster| with_sent(&roster, sent));
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
            let unlisted = unlisted(cx, known.as_ref(), &listed).await?;
            (begun, listed.into_iter().chain(unlisted).collect())
        }
    };
    let ours: Vec<Machine> = machines
        .into_iter()
        .filter(|machine| !machine.state.is_over() && is_ours(machine, &cx.owner))
        .collect();
    cx.facts.set(Roster {
        pass: cx.pass,
        listed,
        read: Instant::now(),
        machines: ours.clone(),
    });
    cx.journal.clear::<Sent>();
    Ok(ours)
}

/// The machines that were observed, and those that this process has created since.
fn with_sent(roster: &Roster, sent: Sent) -> Known {
    let mut machines = roster.machines.clone();
    machines.retain(|machine| sent.created.iter().all(|new| new.id != machine.id));
    machines.extend(sent.created);
    Known {
        listed: roster.listed,
        changed: sent.changed,
        machines,
    }
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
async fn unlisted(cx: &Cx, known: Option<&Known>, listed: &[Machine]) -> Result<Vec<Machine>> {
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

/// Notes that this process has changed these machines, by id: they are read again.
pub fn note_changed(cx: &Cx, ids: impl IntoIterator<Item = String>) {
    cx.journal
        .change_or_default::<Sent>(|sent| sent.changed.extend(ids));
}

/// Notes that this process has created a machine, which a list may not name yet.
pub fn note_created(cx: &Cx, machine: &Machine) {
    cx.journal.change_or_default::<Sent>(|sent| {
        sent.created.retain(|other| other.id != machine.id);
        sent.created.push(machine.clone());
    });
}

/// Notes that the outcome of a call is unknown: all machines are listed again.
pub fn note_unknown(cx: &Cx) {
    cx.journal
        .change_or_default::<Sent>(|sent| sent.unknown = true);
}
