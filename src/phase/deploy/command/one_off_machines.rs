//! The machines that run commands, as far as they are known.

use std::time::{Duration, Instant};

use futures::future::try_join_all;

use crate::{
    error::Error,
    fly::Machine,
    phase::{
        absence::{self, Doubt},
        marks::{SLOT_KEY, UID_KEY, is_ours},
    },
    pipeline::{Cx, step::Result},
};

/// Kind of a command's machine, where a look that does not show it is noted.
const MACHINE: &str = "CommandMachine";

/// TTL of a list that lacks a machine. Then the create of the machine is announced.
const NONE_FOR: Duration = Duration::from_secs(1);

/// The machines that fill one slot, as they were last observed. A fact.
#[derive(Clone, Debug)]
struct Known {
    slot: String,
    listed: Instant,
    /// In the order in which they were created.
    machines: Vec<Machine>,
}

/// What this process has sent since they were last observed. In the journal.
#[derive(Clone, Debug, Default)]
struct Sent {
    created: Vec<Machine>,
    /// A machine was deleted, or the outcome of a create is unknown: only a list shows which
    /// machines there are.
    unknown: bool,
}

/// What is known, with the machines that this process has created since.
fn known(cx: &Cx) -> Option<Known> {
    let sent = cx.journal.get::<Sent>().unwrap_or_default();
    let known = cx.facts.get::<Known>().filter(|_| !sent.unknown)?;
    let mut known = (*known).clone();
    known.machines.extend(sent.created.iter().cloned());
    Some(known)
}

/// The machines of commands that this process knows of, without reading them.
pub fn known_machines(cx: &Cx) -> Vec<Machine> {
    known(cx).map(|known| known.machines).unwrap_or_default()
}

/// The machines that fill this slot, destroyed ones included, in the order of their creation. Listed
/// once: from then on only this process creates more, and only those change whose exit is not known
/// yet. These are read by id, because the Machines API allows one list a second. `lacks` says that a
/// machine is to be created, for which the list must be fresh.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn in_slot(
    cx: &Cx,
    slot: &str,
    lacks: impl Fn(&[Machine]) -> bool,
) -> Result<Vec<Machine>> {
    let known = known(cx).filter(|known| known.slot == slot);
    let is_first = known.is_none();
    let earlier = known.as_ref().map(|known| known.machines.clone());
    let earlier = earlier.unwrap_or_default();
    if let Some(known) = known
        && let Some(machines) = read_again(cx, &known.machines).await?
        && (!lacks(&machines) || known.listed.elapsed() < NONE_FOR)
    {
        cx.facts.set(Known {
            machines: machines.clone(),
            ..known
        });
        cx.journal.clear::<Sent>();
        return Ok(machines);
    }
    let marks = [(UID_KEY, cx.owner.uid.as_str()), (SLOT_KEY, slot)];
    let listed = Instant::now();
    let machines = cx
        .fly
        .machines_and_destroyed(&cx.target.app, &marks)
        .await
        .map_err(|source| Error::fly("list the machines of commands", source));
    let mut machines = machines?;
    // The server filters too, but an unknown filter would be ignored.
    machines
        .retain(|machine| is_ours(machine, &cx.owner) && machine.metadata(SLOT_KEY) == Some(slot));
    add_unlisted(cx, &earlier, &mut machines).await?;
    if is_first && cx.recorded.earlier.was_deploying() {
        doubt_first(cx, slot, &machines)?;
    }
    machines.sort_by_key(|machine| machine.created_at);
    cx.facts.set(Known {
        slot: slot.to_owned(),
        listed,
        machines: machines.clone(),
    });
    cx.journal.clear::<Sent>();
    Ok(machines)
}

/// Adds the machines that this process has known and that the list lacks. A command whose machine is not
/// found by its id either is only run again once a second look, a settling window later, agrees.
async fn add_unlisted(cx: &Cx, earlier: &[Machine], machines: &mut Vec<Machine>) -> Result<()> {
    for known in earlier {
        let id = &known.id;
        if machines.iter().all(|listed| listed.id != *id) {
            let found = cx.fly.machine(&cx.target.app, id).await;
            let found = found
                .map_err(|source| Error::fly(format!("read the command's machine {id}"), source))?;
            match found {
                Some(found) => machines.push(found),
                None => match absence::seen(cx, Doubt::Gone, MACHINE, id) {
                    Some(again) => {
                        return Err(Error::NotSeen {
                            what: format!("the command's machine {id}"),
                            again,
                        });
                    }
                    None => continue,
                },
            }
        }
        absence::cleared(cx, Doubt::Gone, MACHINE, id);
    }
    Ok(())
}

/// An earlier process may have run the command of this slot, whose announcement ends with the run: the
/// first list of this process that shows no machine of it is no proof, and a second one, a settling
/// window later, has to agree.
fn doubt_first(cx: &Cx, slot: &str, machines: &[Machine]) -> Result<()> {
    if machines.is_empty()
        && let Some(again) = absence::seen(cx, Doubt::Gone, MACHINE, slot)
    {
        return Err(Error::MayHaveRun {
            what: format!("the command in {slot}"),
            again,
        });
    }
    absence::cleared(cx, Doubt::Gone, MACHINE, slot);
    Ok(())
}

/// Reads the machines again that can still change; `None` when one is not found: it may be too new
/// for the server that answered, so that only a list is reliable.
async fn read_again(cx: &Cx, machines: &[Machine]) -> Result<Option<Vec<Machine>>> {
    let read = machines.iter().map(|machine| async move {
        if machine.state.is_over() && machine.exit_since_start().is_some() {
            return Ok(Some(machine.clone()));
        }
        let found = cx.fly.machine(&cx.target.app, &machine.id).await;
        found.map_err(|source| {
            Error::fly(format!("read the command's machine {}", machine.id), source)
        })
    });
    Ok(try_join_all(read).await?.into_iter().collect())
}

/// Notes that this process has created a machine, which a list may not name yet.
pub fn note_created(cx: &Cx, machine: &Machine) {
    cx.journal
        .change_or_default::<Sent>(|sent| sent.created.push(machine.clone()));
}

/// Notes that a machine was deleted, or that the outcome of a create is unknown.
pub fn note_unknown(cx: &Cx) {
    cx.journal
        .change_or_default::<Sent>(|sent| sent.unknown = true);
}
