//! Whether the machines of a rollout are healthy, and what is known of those that are not. What
//! follows from it is decided in [`judge`](super::judge).

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    failures,
    fleet::{
        diagnosis::{self, Evidence},
        health::{Health, after_exit, health},
        next_move::Plan,
        wanted::WantedMachine,
    },
    machine_checks::{self, Checks},
    release::pull,
    rollout::{self, Rollout},
};
use crate::{
    api::Reason,
    fly::Machine,
    phase::evidence::{cause, crash_loop, last_lines, machine, start_time},
    pipeline::{Cx, Note, Why, step::Result},
};

/// The number of machines whose failure is diagnosed in one observation.
const DIAGNOSED: usize = 2;

/// A rollout, and the evidence about it.
#[derive(Debug)]
pub struct Assessment {
    /// The machines that exist and those that should.
    pub rollout: Rollout,
    /// The progress of the `machine_checks` of the release.
    pub checks: Checks,
    /// What is known of machines that are not healthy, by id.
    pub evidence: BTreeMap<String, Evidence>,
    /// Whether something has failed, and the image to go back to cannot be pulled any more.
    pub is_serving_gone: bool,
    /// Ids of machines that one look has shown to have failed, each with the pause until a second one
    /// is believed.
    pub unconfirmed: BTreeMap<String, Duration>,
    /// Whether a failure of the release is to be recorded, because it is not on record yet.
    pub is_unrecorded: bool,
    /// A machine whose program ends again and again.
    pub crash_loop: Option<CrashLoop>,
}

/// A machine whose program ends again and again.
#[derive(Clone, Debug)]
pub struct CrashLoop {
    /// Id of the machine.
    pub machine: String,
    /// What is known of it, for people.
    pub why: Why,
}

/// Observes the machines and the evidence about them.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer or the fly.toml cannot be converted.
pub async fn observe(cx: &Cx) -> Result<Assessment> {
    let mut rollout = rollout::observe(cx).await?;
    let unconfirmed = failures::unconfirmed(cx, &mut rollout).await?;
    let checks = machine_checks::observe(cx, &rollout).await?;
    let evidence = evidence(cx, &rollout).await?;
    let crash_loop = crash_loop(cx, &rollout).await;
    let targets = &rollout.targets;
    let is_serving_gone = rollout.effective.rollback.is_none()
        && !targets.is_wanted_good()
        && (is_any_failed(&rollout, &unconfirmed, cx.fly_now())
            || crash_loop.is_some()
            || checks.has_failed(&cx.target.app, cx.fly_now()))
        && pull::is_serving_gone(cx, targets.serving_record()).await?;
    Ok(Assessment {
        is_unrecorded: cx.may_act()
            && !targets.records.has_failure(&targets.wanted.key, &cx.target),
        checks,
        evidence,
        is_serving_gone,
        unconfirmed,
        crash_loop,
        rollout,
    })
}

/// The machine of this release whose program ends again and again, of several one that is judged by that alone. Its
/// last lines are told once Fly.io has answered.
async fn crash_loop(cx: &Cx, rollout: &Rollout) -> Option<CrashLoop> {
    let now = cx.fly_now();
    let looping = rollout.pairs().filter_map(|(machine, wanted)| {
        let runs = wanted.was_given_to(machine) && !wanted.standby;
        let code = crash_loop::of(machine, now).filter(|_| runs)?;
        Some((machine, wanted, code))
    });
    let (machine, _, code) = looping.min_by_key(|(machine, wanted, _)| {
        !matches!(rollout.health_of(machine, wanted, now), Health::Watched(_))
    })?;
    let lines = last_lines::of(cx, &machine.id, true).await;
    let lines = lines.ok().flatten();
    let lines = lines.map_or_else(String::new, |tail| format!("; its last lines: {tail}"));
    let name = format!("the machine {} ({})", machine.name, machine.id);
    let message = format!("{}{lines}", crash_loop::said(&name, code));
    Some(CrashLoop {
        machine: machine.id.clone(),
        why: Why::new(Reason::CrashLooping, message).next(after_exit(machine, code)),
    })
}

/// What is known of machines that are not healthy. Fly.io is asked about those that have failed, and
/// where the program listens once it has had the time to open its port.
async fn evidence(cx: &Cx, rollout: &Rollout) -> Result<BTreeMap<String, Evidence>> {
    let mut evidence = BTreeMap::new();
    for (machine, wanted) in rollout.pairs() {
        if evidence.len() >= DIAGNOSED {
            break;
        }
        let health = health(machine, wanted.checks);
        let has_failed = has_failed(rollout, machine, wanted, cx.fly_now());
        let is_failing = matches!(health, Health::Unhealthy(_))
            && wanted.was_given_to(machine)
            && !wanted.standby;
        if !has_failed && !is_failing {
            continue;
        }
        let findings = match is_failing {
            true => {
                let may_ask = has_failed || has_had_its_grace(cx, machine);
                machine::failing(cx, machine, may_ask).await
            }
            false => Vec::new(),
        };
        let known = match has_failed {
            true => diagnosis::of(cx, &rollout.machines, machine, findings).await?,
            false => Evidence {
                findings,
                ..Evidence::default()
            },
        };
        evidence.insert(machine.id.clone(), known);
    }
    Ok(evidence)
}

/// Whether a machine has run for longer than the `grace_period` of its checks, and flyctl's ten
/// seconds.
fn has_had_its_grace(cx: &Cx, machine: &Machine) -> bool {
    let declared = machine.config.as_ref().map(cause::declared);
    let declared = declared.unwrap_or_default();
    let longest = declared.iter().map(|check| check.grace_period).max();
    let grace = longest.unwrap_or_default() + cx.installation.timing.settle;
    start_time::running_for(machine, cx.fly_now()).is_some_and(|time| time > grace)
}

/// Whether a machine of this release has ended or is late.
fn has_failed(
    rollout: &Rollout,
    machine: &Machine,
    wanted: &WantedMachine,
    now: Timestamp,
) -> bool {
    // An old machine that is to be replaced is no failure of this release.
    match health(machine, wanted.checks) {
        _ if !wanted.was_given_to(machine) => false,
        Health::Exited { .. } | Health::Down(_) => !wanted.standby,
        Health::Unhealthy(_) | Health::Starting => rollout.is_late(machine, now),
        Health::Healthy | Health::Watched(_) => false,
    }
}

/// Whether any machine of this release has ended or is late, and a second look has shown that too.
fn is_any_failed(
    rollout: &Rollout,
    unconfirmed: &BTreeMap<String, Duration>,
    now: Timestamp,
) -> bool {
    let mut pairs = rollout.pairs();
    pairs.any(|(machine, wanted)| {
        !unconfirmed.contains_key(&machine.id) && has_failed(rollout, machine, wanted, now)
    })
}

impl Assessment {
    /// The next move. With `careful` an update waits for the machines that it has updated.
    pub fn plan(&self, careful: bool, now: Timestamp) -> Plan {
        self.rollout.plan(self.checks.untested(), careful, now)
    }

    /// What the status shows of releases on record before the step `Release` is reached.
    pub fn notes(&self) -> Vec<Note> {
        let targets = &self.rollout.targets;
        targets.records.notes(&targets.wanted.key)
    }
}
