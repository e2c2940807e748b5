//! The machines of an application, as far as a look needs to know them.

use crate::{
    fly::{Machine, MachineState},
    phase::asleep,
};

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// Whether it can be asked.
    pub state: Awake,
}

/// Whether a machine can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awake {
    /// It runs.
    Runs,
    /// It sleeps until the next request.
    Sleeps,
    /// Neither: it starts, or it has failed.
    No,
}

impl Seen {
    /// Of a machine with a service; one without cannot be asked for anything.
    #[must_use]
    pub fn of(machine: &Machine) -> Option<Self> {
        let config = machine.config.as_ref();
        let serves = config.is_none_or(|config| !config.services.is_empty());
        let state = match machine.state {
            _ if asleep::sleeps(machine) => Awake::Sleeps,
            MachineState::Started if machine.cordoned != Some(true) => Awake::Runs,
            _ => Awake::No,
        };
        serves.then(|| Self {
            id: machine.id.clone(),
            state,
        })
    }
}

/// Whether there are machines, and all of them sleep.
#[must_use]
pub fn all_sleep(machines: &[Seen]) -> bool {
    let sleeps = |machine: &Seen| machine.state == Awake::Sleeps;
    !machines.is_empty() && machines.iter().all(sleeps)
}
