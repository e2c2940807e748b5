//! Health: every machine runs, and all its checks pass. A machine that ended is found at once,
//! with its exit code and its last lines; nothing waits for a time-out to tell that.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    fleet::Health as Is,
    look::{self, Failure, Look},
};
use crate::phase::deploy::release::rollback;
use crate::{
    api::Reason,
    fly::{Machine, MachineState},
    pipeline::{Cx, Note, Step, StepId, Verdict, Wake, Why, step::Result},
    plan::Target,
};

/// The health of the machines.
pub struct Health;

/// Shortest pause between two looks at checks, for which Fly.io has no long poll: a machine may be
/// read five times a second (fly-api.md B.1).
const SHORTEST: Duration = Duration::from_millis(200);

/// Pause while something has happened lately: with the time that an answer takes, this stays within
/// the same limit.
const OFTEN: Duration = Duration::from_millis(150);

/// Shortest pause when something has just happened: ten reads may follow each other (fly-api.md B.1),
/// and what has taken a moment may well take a moment longer.
const SOON: Duration = Duration::from_millis(25);

impl Step for Health {
    type Observed = Look;
    type Change = rollback::Change;

    fn id(&self) -> StepId {
        StepId::Health
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Machines]
    }

    fn disturbs(&self) -> &'static [StepId] {
        &[StepId::Machines]
    }

    /// `Verify` looks at the health too, from then on.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Look> {
        look::look(cx).await
    }

    fn diff(&self, target: &Target, look: &Look, now: Timestamp) -> Verdict<rollback::Change> {
        if !look.lacking().is_empty() {
            return Verdict::Wait {
                why: Why::new(Reason::MachineStarting, "a new machine is not listed yet"),
                wake: Wake::After(look.pause),
            };
        }
        // Once a rollback is decided on here, the machines still run what has failed: that is no
        // failure of the release that is restored.
        if let Some(machine) = look.outdated() {
            return Verdict::Wait {
                why: Why::new(
                    Reason::MachineOutdated,
                    format!(
                        "the machine {} ({}) is to be updated",
                        machine.name, machine.id
                    ),
                ),
                wake: Wake::After(look.pause),
            };
        }
        match look.judge(&target.app, now, |_| true) {
            Verdict::Blocked(why) => match look.failed(target, why) {
                Failure::Stop(why) => Verdict::Blocked(why),
                Failure::RollBack(cause) => Verdict::Change(rollback::Change::of(look, cause)),
                Failure::Record(cause) => {
                    Verdict::Change(rollback::Change::left(look.release.clone(), cause))
                }
            },
            other => other,
        }
    }

    fn notes(&self, _target: &Target, look: &Look) -> Vec<Note> {
        look::notes(look)
    }

    async fn act(&self, cx: &Cx, change: rollback::Change) -> Result<()> {
        rollback::act(cx, change).await
    }
}

/// What the health of one machine means for a rollout. `late` is the time that it had, once that
/// is over; `evidence` is what else is known of a failure.
pub fn verdict_of<C>(
    app: &str,
    machine: &Machine,
    health: &Is,
    late: Option<Duration>,
    evidence: &str,
    pause: Duration,
) -> Verdict<C> {
    let name = format!("the machine {} ({})", machine.name, machine.id);
    let blocked = |reason, text: String| Verdict::Blocked(Why::new(reason, text + evidence));
    let too_late = |limit: Duration| {
        format!(
            "within {} s: mend the application or what it depends on, or raise `grace_period` of the check or `[deploy] wait_timeout` in fly.toml",
            limit.as_secs()
        )
    };
    match health {
        Is::Healthy => Verdict::Done,
        Is::Starting => match late {
            Some(limit) => blocked(
                Reason::MachineStarting,
                format!(
                    "{name} is still {}, and did not start {}",
                    machine.state.as_str(),
                    too_late(limit)
                ),
            ),
            None => Verdict::Wait {
                why: Why::new(
                    Reason::MachineStarting,
                    format!("{name} is {}", machine.state.as_str()),
                ),
                wake: Wake::Machine {
                    app: app.to_owned(),
                    id: machine.id.clone(),
                    version: None,
                    state: MachineState::Started,
                    patience: Duration::from_secs(2),
                },
            },
        },
        Is::Watched(left) => Verdict::Wait {
            why: Why::new(
                Reason::MachineStarting,
                format!("{name} has started; it has no check, so it is watched for a moment"),
            ),
            wake: Wake::After(*left),
        },
        Is::Unhealthy(checks) => {
            let text = format!("{name} does not pass {}", checks.join(", "));
            match late {
                Some(limit) => blocked(Reason::NotHealthy, format!("{text} {}", too_late(limit))),
                None => Verdict::Wait {
                    why: Why::new(Reason::NotHealthy, text),
                    wake: Wake::After(pause),
                },
            }
        }
        Is::Exited {
            out_of_memory: true,
            ..
        } => blocked(
            Reason::OutOfMemory,
            format!("{name} ran out of memory: give it more with `[[vm]] memory` in fly.toml"),
        ),
        Is::Exited {
            code, restarting, ..
        } => blocked(
            Reason::MachineExited,
            format!(
                "{name} exited with code {code}{}: mend the application and deploy another image",
                if *restarting {
                    " and is being restarted"
                } else {
                    ""
                }
            ),
        ),
        Is::Down(state) => blocked(
            Reason::MachineExited,
            format!(
                "{name} is {}: look at `fly machine status {}`",
                state.as_str(),
                machine.id
            ),
        ),
    }
}

/// The pause until the next look, from the operator's poll interval: a quarter of the time since
/// something happened last, often at first and more seldom once that is long ago.
pub fn pause(machines: &[Machine], poll: Duration, now: Timestamp) -> Duration {
    let events = machines.iter().flat_map(|machine| machine.events.iter());
    let happened = events
        .filter_map(|event| Timestamp::from_millisecond(event.timestamp?).ok())
        .chain(machines.iter().filter_map(|machine| machine.updated_at))
        .max();
    let since = happened.map(|at| now.duration_since(at).max(SignedDuration::ZERO));
    match since.and_then(|since| Duration::try_from(since).ok()) {
        Some(since) if since <= FRESH => (since / 4).clamp(SOON, OFTEN),
        _ => poll.max(SHORTEST),
    }
}

/// For so long after something has happened a look is worth more.
const FRESH: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_has_just_happened_is_looked_at_soon_and_then_ever_more_seldom() {
        let began = Timestamp::from_millisecond(1_780_000_000_000).unwrap();
        let machine: Machine = serde_json::from_value(serde_json::json!({
            "id": "m", "updated_at": "1970-01-01T00:00:00Z",
            "events": [{"id": "e", "type": "start", "timestamp": began.as_millisecond()}],
        }))
        .unwrap();
        let pause = |after: i64| {
            let now = began + SignedDuration::from_millis(after);
            let pause = pause(std::slice::from_ref(&machine), Duration::from_secs(2), now);
            pause.as_millis()
        };
        assert_eq!([pause(-5), pause(0), pause(100)], [25, 25, 25]);
        assert_eq!([pause(400), pause(2_000), pause(15_000)], [100, 150, 150]);
        assert_eq!(pause(15_001), 2_000);
    }
}
