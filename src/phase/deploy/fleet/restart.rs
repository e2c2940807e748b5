//! Whether a machine that is down has to be started. Pure.

use jiff::{SignedDuration, Timestamp};

use super::wanted::{WantedMachine, starts_on_demand};
use crate::fly::{Machine, MachineState};

/// Shortest and longest rest of a machine whose program ended by itself.
const REST: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(30), SignedDuration::from_mins(10));

/// Whether a machine that is down has to be started: somebody stopped it and the proxy does not
/// start it, or its program ended and it has rested since.
pub fn is_due(machine: &Machine, wanted: &WantedMachine, now: Timestamp) -> bool {
    let by_proxy = starts_on_demand(wanted) && machine.cordoned != Some(true);
    (!by_proxy && is_stopped_on_request(machine)) || has_rested(machine, now)
}

/// Whether it is stopped, and not because its program ended by itself.
fn is_stopped_on_request(machine: &Machine) -> bool {
    matches!(
        machine.state,
        MachineState::Stopped | MachineState::Suspended
    ) && machine
        .exit_since_start()
        .is_none_or(|exit| exit.requested_stop == Some(true))
}

/// Whether its program ended by itself, so often that Fly.io gave up restarting it, and long enough
/// ago to try once more: what it depends on may work again. The rest is the machine's age at its
/// end, so that it doubles with each try.
fn has_rested(machine: &Machine, now: Timestamp) -> bool {
    let Some(exit) = machine.exit_since_start() else {
        return false;
    };
    let Some((ended, created)) = exit.exited_at.zip(machine.created_at) else {
        return false;
    };
    let rest = ended.duration_since(created).clamp(REST.0, REST.1);
    machine.state == MachineState::Stopped
        && exit.requested_stop != Some(true)
        && now.duration_since(ended) > rest
}
