//! Health: every machine runs, and all its checks pass. A machine that ended is found at once,
//! with its exit code and its last lines; nothing waits for a time-out to tell that.

use std::{convert::Infallible, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    fleet::{self, Health as Is, Wanted},
    machines,
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

/// How long a machine may take to become healthy, unless fly.toml says otherwise (flyctl's
/// default, fly-api.md G.1).
const WAIT_TIMEOUT: Duration = Duration::from_secs(300);

/// Pause between two looks at checks: Fly.io has no long poll for them.
const LOOK: Duration = Duration::from_millis(500);

/// Most characters of a log tail in a message.
const TAIL: usize = 400;

/// One machine and how it is.
#[derive(Debug)]
pub struct Seen {
    machine: Machine,
    wanted: Wanted,
    health: Is,
    tail: Option<String>,
}

/// All machines that should run.
#[derive(Debug)]
pub struct Observed {
    app: String,
    machines: Vec<Seen>,
    wait_timeout: Duration,
}

impl Step for Health {
    type Observed = Observed;
    type Change = Infallible;

    fn id(&self) -> StepId {
        ID
    }

    fn needs(&self) -> &'static [StepId] {
        &[machines::ID]
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let look = machines::look(cx).await?;
        let config = cx.target.config()?;
        let mut seen = Vec::new();
        for wanted in look.wanted.into_iter().filter(|wanted| !wanted.standby) {
            let slot = Some(wanted.slot.as_str());
            let machine = look
                .machines
                .iter()
                .find(|machine| machine.metadata(fleet::SLOT_KEY) == slot);
            let Some(machine) = machine else {
                return Err(crate::error::Error::NotKnown(
                    "a machine that was just created",
                ));
            };
            let health = fleet::health(machine, wanted.checks);
            let tail = match health {
                Is::Exited { .. } | Is::Unhealthy(_) | Is::Down(MachineState::Failed) => {
                    log_tail(cx, machine).await
                }
                _ => None,
            };
            seen.push(Seen {
                machine: machine.clone(),
                wanted,
                health,
                tail,
            });
        }
        Ok(Observed {
            app: cx.target.app.clone(),
            machines: seen,
            wait_timeout: config
                .app
                .deploy
                .wait_timeout
                .map_or(WAIT_TIMEOUT, |wait| wait.0),
        })
    }

    fn diff(&self, _target: &Target, observed: &Observed, now: Timestamp) -> Verdict<Infallible> {
        // What is proven to have failed is told before what is only awaited.
        let rank = |seen: &&Seen| match seen.health {
            Is::Exited { .. } => 0,
            Is::Down(_) => 1,
            Is::Unhealthy(_) => 2,
            Is::Starting => 3,
            Is::Healthy => 4,
        };
        let worst = observed.machines.iter().min_by_key(rank);
        let Some(worst) = worst.filter(|seen| seen.health != Is::Healthy) else {
            return Verdict::Done;
        };
        // The proxy stops and starts idle machines by itself: a stopped one is well.
        let idle = |seen: &Seen| {
            matches!(
                seen.health,
                Is::Down(MachineState::Stopped | MachineState::Suspended)
            ) && seen
                .wanted
                .config
                .services
                .iter()
                .any(|s| s.autostart == Some(true))
        };
        if observed
            .machines
            .iter()
            .all(|seen| seen.health == Is::Healthy || idle(seen))
        {
            return Verdict::Done;
        }
        let verdict = verdict_of(
            &observed.app,
            &worst.machine,
            &worst.health,
            worst.tail.as_deref(),
        );
        let late = worst.machine.updated_at.is_some_and(|since| {
            let limit =
                SignedDuration::try_from(observed.wait_timeout).unwrap_or(SignedDuration::MAX);
            now.duration_since(since) > limit
        });
        match verdict {
            Verdict::Wait { why, .. } if late => Verdict::Blocked(Why::new(
                why.reason,
                format!(
                    "{}; not healthy within {} s: look at the last lines above, raise `grace_period` of the check or `[deploy] wait_timeout`, or mend the application",
                    why.message,
                    observed.wait_timeout.as_secs()
                ),
            )),
            other => other,
        }
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}

/// What the health of one machine means for a rollout.
pub fn verdict_of<C>(app: &str, machine: &Machine, health: &Is, tail: Option<&str>) -> Verdict<C> {
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
        Is::Unhealthy(checks) => Verdict::Wait {
            why: Why::new(
                Reason::NotHealthy,
                format!("{name} does not pass {}{lines}", checks.join(", ")),
            ),
            wake: Wake::After(LOOK),
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

/// The last lines that a machine printed: one line, bounded, without secrets. A tail that cannot
/// be had is left out: the diagnosis stands without it.
pub async fn log_tail(cx: &Cx, machine: &Machine) -> Option<String> {
    let page = cx
        .fly
        .logs(&cx.target.app, Some(&machine.id), None)
        .await
        .ok()?;
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
