//! What the health of the machines means for the rollout, and what a failure means for the release.
//! Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    assessment::Assessment,
    fleet::{
        diagnosis::Evidence,
        health::{Health, JudgedMachine},
        wanted::WantedMachine,
    },
    release::{failure::FailedRelease, pull, targets::Targets},
    rollout::Rollout,
};
use crate::{
    api::{Reason, deploy::OnFailure},
    fly::Machine,
    phase::evidence::{
        cause::{self, seconds},
        start_time,
    },
    pipeline::{Verdict, Wake, Why},
    plan::Target,
};

/// What the health of these machines means for the rollout: the verdict on the worst of them.
pub fn health<C>(
    assessment: &Assessment,
    app: &str,
    now: Timestamp,
    only: impl Fn(&WantedMachine) -> bool,
) -> Verdict<C> {
    // A proven failure is reported before what is only awaited.
    let rank = |health: &Health| match health {
        Health::Exited { .. } => 0,
        Health::Down(_) => 1,
        Health::Unhealthy(_) => 2,
        Health::Starting => 3,
        Health::Watched(_) => 4,
        Health::Healthy => 5,
    };
    let rollout = &assessment.rollout;
    let worst = rollout
        .pairs()
        .filter(|(_, wanted)| !wanted.standby && only(wanted))
        .map(|(machine, wanted)| (machine, rollout.health_of(machine, wanted, now)))
        .min_by_key(|(_, health)| rank(health));
    let Some((machine, health)) = worst else {
        return Verdict::Done;
    };
    let evidence = assessment.evidence.get(&machine.id);
    let late = rollout.is_late(machine, now);
    let judged = JudgedMachine {
        app,
        machine,
        late: late.then_some(rollout.patience.wait_timeout),
        measured: evidence.and_then(|known| measured(assessment, machine, known)),
        evidence,
        now,
        pause: rollout.patience.pause,
    };
    let verdict = match (
        judged.verdict(&health),
        assessment.unconfirmed.get(&machine.id),
    ) {
        (Verdict::Blocked(why), Some(again)) => second_look(rollout, why, *again),
        (verdict, _) => verdict,
    };
    match (verdict, crash_loop(assessment, now, only)) {
        // Also while it runs, and whatever one look finds of an end: otherwise `Ready` would change with each of them.
        (_, Some(why)) if rollout.targets.is_wanted_good() => Verdict::Blocked(why.clone()),
        // The reason is that of a look which finds it ended, so that the news does not change with each look.
        (Verdict::Wait { .. } | Verdict::Done, Some(why)) => Verdict::Blocked(Why {
            reason: Reason::MachineExited,
            ..why.clone()
        }),
        (verdict, _) => verdict,
    }
}

/// Why one of these machines is not merely watched after its start, or well: between two ends its program runs, and
/// Fly.io's record of the ends is the evidence, not this look. One with checks is judged by them; without any, what is
/// rolled out is not watched, and nothing but the ends shows what becomes of it.
fn crash_loop(
    assessment: &Assessment,
    now: Timestamp,
    only: impl Fn(&WantedMachine) -> bool,
) -> Option<&Why> {
    let found = assessment.crash_loop.as_ref()?;
    let rollout = &assessment.rollout;
    let is_rolled_out =
        rollout.effective.rollback.is_none() && rollout.targets.is_wanted_rolled_out();
    let mut pairs = rollout.pairs();
    let is_watched = pairs.any(|(machine, wanted)| {
        let is_watched = match rollout.health_of(machine, wanted, now) {
            Health::Watched(_) => true,
            _ => is_rolled_out && wanted.checks == 0,
        };
        machine.id == found.machine && !wanted.standby && only(wanted) && is_watched
    });
    is_watched.then_some(&found.why)
}

/// One look is no proof of a failure: a release that runs well counts as such until the next one, and
/// another one is not judged before it.
fn second_look<C>(rollout: &Rollout, why: Why, again: Duration) -> Verdict<C> {
    if rollout.effective.rollback.is_none() && rollout.targets.is_wanted_good() {
        return Verdict::Holds(again);
    }
    Verdict::Wait {
        why: Why {
            message: format!(
                "{}; Golive looks again before it judges the release",
                why.message
            ),
            ..why
        },
        wake: Wake::After(again),
    }
}

/// Another machine that passes the check that this one does not, and how long that took after its
/// start: of several the slowest.
fn measured<'a>(
    assessment: &'a Assessment,
    machine: &Machine,
    known: &Evidence,
) -> Option<(&'a str, Duration)> {
    let check = &known.findings.first()?.check.name;
    let others = assessment.rollout.machines.iter();
    others
        .filter(|other| other.id != machine.id)
        .filter_map(|other| Some((other.name.as_str(), start_time::measured(other, check)?)))
        .max_by_key(|(_, start)| *start)
}

/// What the user is told of machines of this release that passed their checks later than their
/// `grace_period` allows for; `None` when there is none.
pub fn slow_start(assessment: &Assessment) -> Option<Why> {
    let rollout = &assessment.rollout;
    // Later a check may have failed and passed again, which is no start.
    if rollout.targets.is_wanted_good() {
        return None;
    }
    let starts = rollout.pairs().flat_map(|(machine, wanted)| {
        let declared = cause::declared(&wanted.config).into_iter();
        declared.filter_map(move |check| {
            let start = start_time::measured(machine, &check.name)?;
            start_time::is_slow(start, check.grace_period).then_some((machine, check, start))
        })
    });
    let (machine, check, start) = starts.max_by_key(|(_, _, start)| *start)?;
    Some(Why::new(
        Reason::SlowStart,
        format!(
            "the machine {} passed {} {} s after its start, and `grace_period` of the check is {}: set `grace_period = \"{}\"` in fly.toml",
            machine.name,
            check.name,
            start.as_secs(),
            seconds(check.grace_period),
            seconds(start_time::with_reserve(start))
        ),
    ))
}

/// What a failure means for the release: it is rolled back if that is requested, possible and
/// allowed; else it is recorded, and then the release is blocked with the diagnosis. Never called
/// when the health is merely unknown.
///
/// # Errors
/// Why a person must help.
pub fn failure(
    assessment: &Assessment,
    target: &Target,
    why: Why,
) -> std::result::Result<FailedRelease, Why> {
    let rollout = &assessment.rollout;
    let targets = &rollout.targets;
    if rollout.effective.rollback.is_some() {
        let message = format!(
            "{}; this is the last good release, which was restored",
            why.message
        );
        return Err(Why {
            reason: Reason::RestoreFailed,
            message,
            ..why
        });
    }
    if targets.is_wanted_good() {
        // It ran well before: this is no failed deployment.
        return Err(why);
    }
    let release = targets.wanted.clone();
    match obstacle(assessment, target) {
        None => {
            let serving = targets.serving_record();
            Ok(FailedRelease::rolled_back(release, serving, why.sentence()))
        }
        Some(_) if assessment.is_unrecorded => Ok(FailedRelease::left(release, why.sentence())),
        Some(Obstacle {
            reason,
            text,
            action,
        }) => Err(Why {
            reason: reason.unwrap_or(why.reason),
            message: format!("{}{text}", why.message),
            is_said: why.is_said && action.is_none(),
            action: action.map_or(why.action, str::to_owned),
        }),
    }
}

/// Why a failed release is not rolled back.
struct Obstacle {
    /// The reason, unless the spec requests that it is not rolled back.
    reason: Option<Reason>,
    /// Appended to the message of the failure.
    text: String,
    /// The next action, if it is another one than that of the failure.
    action: Option<&'static str>,
}

impl Obstacle {
    /// The spec requests it, or there is nothing to go back to.
    fn requested(text: &str) -> Self {
        Self {
            reason: None,
            text: text.to_owned(),
            action: None,
        }
    }

    /// The spec requests a rollback that is not possible.
    fn held(text: String, action: &'static str) -> Self {
        Self {
            reason: Some(Reason::RollbackHeld),
            text,
            action: Some(action),
        }
    }
}

/// What keeps a failed release from being rolled back.
fn obstacle(assessment: &Assessment, target: &Target) -> Option<Obstacle> {
    let rollout = &assessment.rollout;
    let Targets {
        serving,
        wanted,
        records,
        ..
    } = &rollout.targets;
    let Some(serving) = serving else {
        return Some(Obstacle::requested(
            "; there is no earlier release to go back to",
        ));
    };
    let name = serving.record.name();
    match target.deploy.on_failure {
        OnFailure::RollBack => {}
        OnFailure::Pause => {
            return Some(Obstacle::requested(
                "; everything stays as it is (`onFailure: Pause`)",
            ));
        }
        OnFailure::Leave => {
            return Some(Obstacle::requested(
                "; the rollout continues (`onFailure: Leave`)",
            ));
        }
    }
    let migrated = rollout.effective.config.deploy.release_command.is_some();
    if migrated && !target.deploy.migrations.reversible {
        return Some(Obstacle::held(
            format!(
                "; not rolled back to {name}: its release command has run, and `migrations.reversible` is false"
            ),
            "deploy a release that works, or set `migrations.reversible` to true",
        ));
    }
    if let Some(over) = records.irreversible_after(serving.since, &wanted.key) {
        return Some(Obstacle::held(
            format!(
                "; not rolled back to {name}: {} has run its release command since, and its `migrations.reversible` was false",
                over.name()
            ),
            "deploy a release that works on the present database",
        ));
    }
    assessment.is_serving_gone.then(|| {
        Obstacle::held(
            format!("; not rolled back: {}", pull::gone(&serving.record)),
            "push that image again, or deploy a release that works",
        )
    })
}

#[cfg(test)]
mod tests;
