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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn drain(seconds: u64) -> Drain {
        Drain {
            span: Duration::from_secs(seconds),
            now: "2026-01-01T01:00:00Z".parse().unwrap(),
        }
    }

    fn ago(seconds: i64) -> Timestamp {
        drain(0).now - SignedDuration::from_secs(seconds)
    }

    /// A machine that has been in this state for these seconds.
    fn machine(id: &str, state: &str, seconds: i64) -> Machine {
        serde_json::from_value(json!({
            "id": id, "state": state, "updated_at": ago(seconds).to_string(),
            "config": {"image": "r/a:1", "services": [{"internal_port": 8080}]},
        }))
        .unwrap()
    }

    /// The same, out of the proxy's pool since these seconds.
    fn cordoned(id: &str, seconds: i64) -> Machine {
        let mut machine = machine(id, "started", 900);
        machine.cordoned = Some(true);
        let event = |kind: &str, seconds| json!({"id": "e", "type": kind, "timestamp": ago(seconds).as_millisecond()});
        let events = json!([
            event("cordon", 800),
            event("cordon", seconds),
            event("start", 0)
        ]);
        machine.events = serde_json::from_value(events).unwrap();
        machine
    }

    fn next(machines: &[Machine], span: u64) -> Option<(&'static str, Vec<String>)> {
        let name = |next: &Move| match next {
            Move::Cordon(_) => "cordon",
            Move::Stop(_) => "stop",
            Move::Destroy(_) => "destroy",
            Move::Await(_) => "await",
            _ => "pause",
        };
        retire(machines.iter().collect(), drain(span)).map(|next| {
            let ids = match &next {
                Move::Await(of) => of.iter().map(|machine| machine.id.clone()).collect(),
                other => other.machine_ids(),
            };
            (name(&next), ids)
        })
    }

    fn is(what: &'static str, ids: &[&str]) -> Option<(&'static str, Vec<String>)> {
        Some((what, ids.iter().map(|id| (*id).to_owned()).collect()))
    }

    #[test]
    fn a_machine_that_stops_is_waited_for_and_destroyed_when_it_hangs() {
        for state in ["stopping", "suspending"] {
            for seconds in [-5, 0, 1, 599, 600] {
                let found = next(&[machine("m", state, seconds)], 10);
                assert_eq!(found, is("await", &["m"]), "{state} for {seconds} s");
            }
            for seconds in [601, 86_400] {
                let found = next(&[machine("m", state, seconds)], 10);
                assert_eq!(found, is("destroy", &["m"]), "{state} for {seconds} s");
            }
            let mut unknown = machine("m", state, 0);
            unknown.updated_at = None;
            assert_eq!(next(&[unknown], 10), is("await", &["m"]), "{state}");
        }
        for state in ["stopped", "suspended", "failed", "created"] {
            for seconds in [0, 601] {
                let found = next(&[machine("m", state, seconds)], 10);
                assert_eq!(found, is("destroy", &["m"]), "{state} for {seconds} s");
            }
        }
        // What is down does not wait for what is not.
        let both = [machine("a", "stopping", 1), machine("b", "stopped", 1)];
        assert_eq!(next(&both, 10), is("destroy", &["b"]));
        assert_eq!(next(&[], 10), None);
    }

    #[test]
    fn a_machine_is_stopped_when_the_proxies_have_known_for_the_whole_drain() {
        let pause = |machines: &[Machine], span| {
            let next = retire(machines.iter().collect(), drain(span));
            match next {
                Some(Move::Pause(left)) => left.as_secs(),
                _ => 0,
            }
        };
        assert_eq!(pause(&[cordoned("a", 3)], 10), 7);
        assert_eq!(
            pause(&[cordoned("a", 3), cordoned("b", 1)], 10),
            9,
            "the last counts"
        );
        assert_eq!(
            pause(&[cordoned("a", -5)], 10),
            10,
            "Fly.io's clock may be ahead"
        );
        for seconds in [10, 11] {
            let found = next(&[cordoned("a", seconds)], 10);
            assert_eq!(found, is("stop", &["a"]), "{seconds}");
        }
        let mut silent = cordoned("a", 3);
        silent.events.0.clear();
        assert_eq!(
            next(&[silent], 10),
            is("stop", &["a"]),
            "no event says since when"
        );
    }

    #[test]
    fn only_a_machine_that_takes_requests_is_cordoned_and_drained() {
        let up = machine("a", "started", 900);
        assert_eq!(
            next(&[up.clone(), cordoned("b", 1)], 10),
            is("cordon", &["a"])
        );
        let mut worker = up.clone();
        worker.config.as_mut().unwrap().services.clear();
        assert_eq!(next(&[worker], 10), is("stop", &["a"]));
        let mut worker = cordoned("a", 3);
        worker.config.as_mut().unwrap().services.clear();
        assert_eq!(next(&[worker], 10), is("stop", &["a"]));
        let mut unknown = up;
        unknown.config = None;
        assert_eq!(next(&[unknown], 10), is("stop", &["a"]));
        // What does not run takes no requests.
        assert_eq!(
            next(&[machine("a", "stopped", 1)], 10),
            is("destroy", &["a"])
        );
    }
}
