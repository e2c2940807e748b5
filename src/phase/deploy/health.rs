//! Health: every machine runs, and all its checks pass. A machine that ended is found at once,
//! with its exit code and its last lines; nothing waits for a time-out to tell that.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    fleet::Health as Is,
    look::{self, Failure, Look},
    machines, rollback,
};
use crate::{
    api::Reason,
    fly::{Machine, MachineState},
    phase::{Cx, Step, StepId, Verdict, Wake, Why, step::Result},
    target::Target,
};

/// The health of the machines.
pub struct Health;

/// Name of the step.
pub const ID: StepId = "Health";

/// Pause between two looks at checks at first: Fly.io has no long poll for them.
const LOOK: Duration = Duration::from_millis(500);

/// Pause between two looks once a machine takes longer.
const LATER: Duration = Duration::from_secs(2);

/// Most characters of a log tail in a message.
const TAIL: usize = 400;

impl Step for Health {
    type Observed = Look;
    type Change = rollback::Change;

    fn id(&self) -> StepId {
        ID
    }

    fn needs(&self) -> &'static [StepId] {
        &[machines::ID]
    }

    fn disturbs(&self) -> &'static [StepId] {
        &[machines::ID]
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
                wake: Wake::After(LOOK),
            };
        }
        match look.judge(&target.app, now, |_| true) {
            Verdict::Blocked(why) => match look.failed(target, why) {
                Failure::Stop(why) => Verdict::Blocked(why),
                Failure::RollBack(cause) => Verdict::Change(rollback::Change::of(look, cause)),
            },
            other => other,
        }
    }

    async fn act(&self, cx: &Cx, change: rollback::Change) -> Result<()> {
        rollback::act(cx, change).await
    }
}

/// What the health of one machine means for a rollout.
pub fn verdict_of<C>(
    app: &str,
    machine: &Machine,
    health: &Is,
    tail: Option<&str>,
    now: Timestamp,
) -> Verdict<C> {
    let name = format!("the machine {} ({})", machine.name, machine.id);
    let lines = tail.map_or(String::new(), |tail| format!("; its last lines: {tail}"));
    match health {
        Is::Healthy => Verdict::Done,
        Is::Starting => Verdict::Wait {
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
        Is::Watched(left) => Verdict::Wait {
            why: Why::new(
                Reason::MachineStarting,
                format!("{name} has started; it has no check, so it is watched for a moment"),
            ),
            wake: Wake::After(*left),
        },
        Is::Unhealthy(checks) => Verdict::Wait {
            why: Why::new(
                Reason::NotHealthy,
                format!("{name} does not pass {}{lines}", checks.join(", ")),
            ),
            wake: Wake::After(pause(machine, now)),
        },
        Is::Exited {
            out_of_memory: true,
            ..
        } => Verdict::Blocked(Why::new(
            Reason::OutOfMemory,
            format!(
                "{name} ran out of memory: give it more with `[[vm]] memory` in fly.toml{lines}"
            ),
        )),
        Is::Exited {
            code, restarting, ..
        } => Verdict::Blocked(Why::new(
            Reason::MachineExited,
            format!(
                "{name} exited with code {code}{}: mend the application and deploy another image{lines}",
                if *restarting {
                    " and is being restarted"
                } else {
                    ""
                }
            ),
        )),
        Is::Down(state) => Verdict::Blocked(Why::new(
            Reason::MachineExited,
            format!(
                "{name} is {}: look at `fly machine status {}`{lines}",
                state.as_str(),
                machine.id
            ),
        )),
    }
}

/// Often at first, more seldom later.
fn pause(machine: &Machine, now: Timestamp) -> Duration {
    let long = machine
        .updated_at
        .is_some_and(|since| now.duration_since(since) > SignedDuration::from_secs(15));
    if long { LATER } else { LOOK }
}

/// The last lines that a machine printed: one line, bounded, without secrets. A tail that cannot
/// be had is left out: the diagnosis stands without it.
pub async fn log_tail(cx: &Cx, id: &str) -> Option<String> {
    let page = cx.fly.logs(&cx.target.app, Some(id), None).await.ok()?;
    let lines: Vec<&str> = page
        .lines
        .iter()
        .rev()
        .take(3)
        .filter_map(|line| line.message.as_deref())
        .collect();
    if lines.is_empty() {
        return None;
    }
    let text: String = lines.into_iter().rev().collect::<Vec<_>>().join(" | ");
    let text = crate::redact::redact(&text).into_owned();
    Some(crate::api::status::one_line(&text, TAIL))
}
