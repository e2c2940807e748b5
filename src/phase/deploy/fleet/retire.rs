//! The way of a machine out of service: cordoned, drained, stopped, destroyed. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::next_move::Move;
use crate::fly::{Machine, MachineState};

/// A machine that has been stopping for longer than this hangs. Fly.io's transitional states last
/// seconds; `kill_timeout` allows five minutes at most.
const STUCK: SignedDuration = SignedDuration::from_mins(10);

/// How long the proxies get to learn that a machine was cordoned or uncordoned.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// This long.
    pub span: Duration,
    /// The time.
    pub now: Timestamp,
}

impl Drain {
    /// Time left of the drain after an event of this kind, if the machine's events name one.
    pub fn left_since(self, machine: &Machine, kind: &str) -> Option<Duration> {
        let since = last_event(machine, kind)?;
        let passed = Duration::try_from(self.now.duration_since(since)).unwrap_or_default();
        let left = self.span.checked_sub(passed);
        left.filter(|left| !left.is_zero())
    }
}

/// The next move to take these machines out of service; `None` when there are none.
pub fn retire(old: Vec<&Machine>, drain: Drain) -> Option<Move> {
    let all = |machines: Vec<&Machine>| machines.into_iter().cloned().collect::<Vec<_>>();
    let up: Vec<&Machine> = old
        .iter()
        .filter(|machine| machine.state == MachineState::Started)
        .copied()
        .collect();
    let serving: Vec<&Machine> = up
        .iter()
        .filter(|machine| machine.cordoned != Some(true) && has_services(machine))
        .copied()
        .collect();
    if !serving.is_empty() {
        return Some(Move::Cordon(all(serving)));
    }
    let left = up
        .iter()
        .filter(|machine| has_services(machine))
        .filter_map(|machine| drain.left_since(machine, "cordon"))
        .max();
    if let Some(left) = left {
        return Some(Move::Pause(left));
    }
    if !up.is_empty() {
        return Some(Move::Stop(all(up)));
    }
    let (stopping, down): (Vec<&Machine>, Vec<&Machine>) = old
        .into_iter()
        .partition(|machine| is_stopping(machine, drain.now));
    if !down.is_empty() {
        return Some(Move::Destroy(all(down)));
    }
    (!stopping.is_empty()).then(|| Move::Await(all(stopping)))
}

/// Whether the proxy sends requests to the machine when it is not cordoned.
pub fn has_services(machine: &Machine) -> bool {
    let config = machine.config.as_ref();
    config.is_some_and(|config| !config.services.is_empty())
}

/// Whether it is stopping, and does not hang.
fn is_stopping(machine: &Machine, now: Timestamp) -> bool {
    let hangs = machine
        .updated_at
        .is_some_and(|since| now.duration_since(since) > STUCK);
    matches!(
        machine.state,
        MachineState::Stopping | MachineState::Suspending
    ) && !hangs
}

/// The time of the last event of this kind.
fn last_event(machine: &Machine, kind: &str) -> Option<Timestamp> {
    let events = machine.events.iter().filter(|event| event.kind == kind);
    events
        .filter_map(|event| Timestamp::from_millisecond(event.timestamp?).ok())
        .max()
}
