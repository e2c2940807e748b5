//! A release command of an earlier release that still runs.

use std::time::Duration;

use futures::future::try_join_all;

use super::{
    machine::{TIMEOUT, timeout},
    one_off::{self, Action},
    run_state,
};
use crate::{
    api::Reason,
    error::Error,
    fly::Machine,
    flytoml,
    phase::{
        deploy::{fleet::slots, release::records::Records},
        marks::SLOT_KEY,
    },
    pipeline::{Cx, Verdict, Why, step::Result},
    plan::Target,
};

/// A release command of another release that has not ended.
#[derive(Clone, Debug)]
pub struct Former {
    machine: Box<Machine>,
    /// Whether it could not start, or has run longer than it may.
    hangs: bool,
}

impl Former {
    /// A machine that nothing waits for any more: it is ended.
    pub fn obsolete(machine: Machine) -> Self {
        Self {
            machine: Box::new(machine),
            hangs: true,
        }
    }

    /// Waits for the command, or ends it if it hangs: two commands at once, or one while machines are
    /// changed, may harm the database.
    pub fn decide(&self, target: &Target) -> Verdict<Action> {
        let Machine { name, id, .. } = &*self.machine;
        if self.hangs {
            return Verdict::Change(Action::End {
                name: name.clone(),
                id: id.clone(),
            });
        }
        Verdict::Wait {
            why: Why::new(
                Reason::ReleaseCommandRunning,
                format!(
                    "the release command of an earlier release runs in the machine {name} ({id}); no machine is changed until it has ended or exceeded its timeout (to end it now: `fly machine destroy {id} --force`)"
                ),
            ),
            wake: one_off::until_gone(&target.app, &self.machine),
        }
    }
}

/// Finds a release command of another release than the one with this slot among `ours`, our machines
/// that exist, and `known`, the command machines that this process knew before it listed those of the
/// slot.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn find(
    cx: &Cx,
    records: &Records,
    slot: Option<&str>,
    ours: &[Machine],
    known: &[Machine],
) -> Result<Option<Former>> {
    let is_other = |machine: &&Machine| {
        let of = machine.metadata(SLOT_KEY).unwrap_or_default();
        slots::is_release_command(of) && slot != Some(of) && !machine.state.is_over()
    };
    // A machine that was just created may not be listed yet.
    let unlisted = known.iter().filter(is_other);
    let unlisted = unlisted.filter(|machine| ours.iter().all(|listed| listed.id != machine.id));
    let read = unlisted.map(|machine| cx.fly.machine(&cx.target.app, &machine.id));
    let read = try_join_all(read)
        .await
        .map_err(|source| Error::fly("read the machine of an earlier release command", source))?;
    let mut others = ours.iter().chain(read.iter().flatten()).filter(is_other);
    Ok(others.next().map(|machine| Former {
        hangs: run_state::hangs(machine, longest(cx, records, machine), cx.fly_now()),
        machine: Box::new(machine.clone()),
    }))
}

/// Longest run of the command in a machine: what the fly.toml of its release allows, or the present
/// one if that allows more.
fn longest(cx: &Cx, records: &Records, machine: &Machine) -> Duration {
    let slot = machine.metadata(SLOT_KEY);
    let mut list = records.list.iter();
    let own = list
        .find(|record| slot == Some(slots::release_command(record.number, &record.key).as_str()));
    let own = own.and_then(|record| flytoml::parse(record.content.config.as_deref()?).ok());
    let own = own.map(|parsed| timeout(&parsed.config));
    let now = cx.target.config().ok().map(|config| timeout(&config.app));
    own.into_iter().chain(now).max().unwrap_or(TIMEOUT)
}
