//! The machines: created at once on a first deployment, and replaced on an update as the strategy
//! says. Each has a name and metadata by which a second create finds the first.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::{
    assessment::{self, Assessment},
    command::one_off::{self, Progress},
    fleet::{
        leases,
        moves::{self, MoveRequest},
        next_move::{Move, Plan},
        outlook, slots,
    },
    judge, machine_checks,
    release::failure::{self, FailedRelease},
    rollout::{self, Rollout},
};
use crate::phase::roster;
use crate::{
    api::{Reason, deploy::OnFailure, policy::Deletion, status::ExternalObject},
    fly::{Machine, MachineState},
    flytoml::Strategy,
    pipeline::{
        ChangeKind, Cx, Note, PlannedChange, Removal, Slot, Step, StepChange, StepId, Verdict,
        Wake, Why, step::Result,
    },
    plan::{Target, cost::Billed},
};

/// The machines.
pub struct Machines;

/// What is sent next.
#[derive(Debug)]
pub enum Change {
    /// The next move of the rollout.
    Move(MoveRequest),
    /// One change to the machines of the `machine_checks`.
    Check(one_off::Action),
    /// The record that the release has failed.
    Fail(FailedRelease),
}

impl Change {
    /// What has to be announced before it is sent.
    pub fn intent(&self) -> Option<Slot> {
        match self {
            Self::Check(change) => change.intent(),
            Self::Move(_) | Self::Fail(_) => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |machines: &[Machine]| {
            let names: Vec<&str> = machines.iter().map(|m| m.name.as_str()).collect();
            names.join(", ")
        };
        let next = match self {
            Self::Fail(failed) => return failed.fmt(f),
            Self::Check(change) => return change.fmt(f),
            Self::Move(request) => &request.next,
        };
        let drift = match self {
            Self::Move(request) => request.drift.as_slice(),
            Self::Check(_) | Self::Fail(_) => &[],
        };
        match next {
            Move::Create(wanted) => {
                let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
                write!(f, "create the machines {}", names.join(", "))
            }
            Move::Update(pairs) => {
                let names: Vec<&str> = pairs.iter().map(|(m, _)| m.name.as_str()).collect();
                write!(f, "update the machines {}", names.join(", "))?;
                if drift.is_empty() {
                    return Ok(());
                }
                let drift: Vec<String> = drift.iter().map(ToString::to_string).collect();
                write!(f, " ({})", drift.join("; "))
            }
            Move::Start(machines) => write!(f, "start the machines {}", names(machines)),
            Move::Uncordon(machines) => {
                write!(f, "uncordon the machines {}", names(machines))
            }
            Move::Cordon(machines) => {
                write!(f, "cordon the machines {}", names(machines))
            }
            Move::Stop(machines) => write!(f, "stop the machines {}", names(machines)),
            Move::Destroy(machines) => write!(f, "destroy the machines {}", names(machines)),
            Move::Nothing | Move::Settle | Move::Pause(_) | Move::Await(_) => {
                f.write_str("nothing")
            }
        }
    }
}

impl StepChange for Change {
    fn planned(&self) -> Vec<PlannedChange> {
        match self {
            Self::Move(request) => outlook::next(&request.next).into_iter().collect(),
            Self::Check(check) => vec![check.planned()],
            Self::Fail(failed) => failed.planned(),
        }
    }

    fn kind(&self) -> ChangeKind {
        match self {
            Self::Fail(failed) => failed.kind(),
            Self::Move(_) | Self::Check(_) => ChangeKind::Ordinary,
        }
    }
}

impl Step for Machines {
    type Observed = Assessment;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Machines
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::TryImage, StepId::Volumes]
    }

    /// What was proven was proven of the machines before.
    fn invalidates(&self) -> &'static [StepId] {
        &[
            StepId::EdgeChecks,
            StepId::DatabaseCheck,
            StepId::SteadyMachines,
        ]
    }

    /// From then on `Verify` observes the machines.
    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Assessment> {
        observe(cx).await
    }

    fn diff(&self, target: &Target, assessment: &Assessment, now: Timestamp) -> Verdict<Change> {
        decide(target, assessment, now)
    }

    fn plan(&self, _: &Target, assessment: &Assessment, change: &Change) -> Vec<PlannedChange> {
        plan(assessment, change)
    }

    /// A standby is created stopped.
    fn billed(&self, cx: &Cx) -> Vec<Billed> {
        let machines = rollout::expected(cx).into_iter();
        let runs = machines.filter(|machine| !machine.standby);
        runs.map(|machine| {
            let guest = machine.config.guest.unwrap_or_default();
            outlook::billed(machine.name, &guest, machine.region)
        })
        .collect()
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        outlook::creates(&rollout::expected(cx))
    }

    fn notes(&self, _target: &Target, assessment: &Assessment) -> Vec<Note> {
        let rollout = &assessment.rollout;
        let mut notes: Vec<Note> = rollout
            .machines
            .iter()
            // A machine that ran a command is about to be gone.
            .filter(|machine| !slots::runs_a_command(machine))
            .map(|machine| {
                Note::External(ExternalObject {
                    kind: roster::MACHINE.to_owned(),
                    id: machine.id.clone(),
                    name: machine.name.clone(),
                    ..ExternalObject::default()
                })
            })
            .collect();
        notes.extend(rollout.desired.fallback.clone().map(Note::Fallback));
        notes.extend(assessment.notes());
        notes
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        change.intent()
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        apply(cx, change).await
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        // Machines are deleted with the app. If the app is retained, so are they, and running tests
        // are ended.
        if cx.target.deletion.app == Deletion::Retain {
            if !machine_checks::end_all(cx).await? {
                return Ok(Removal::Pending {
                    why: Why::new(Reason::MachineCheckRunning, "the machine checks are ended"),
                    again: Duration::from_secs(1),
                });
            }
            return Ok(Removal::Retained(format!(
                "the machines of {}, which keep running",
                cx.target.app
            )));
        }
        Ok(Removal::Gone)
    }
}

/// All that follows from what was observed: the whole rollout if the next change is a move of it.
pub fn plan(assessment: &Assessment, change: &Change) -> Vec<PlannedChange> {
    let whole = match change {
        Change::Move(_) | Change::Check(_) => assessment.rollout.outlook(Timestamp::UNIX_EPOCH),
        Change::Fail(_) => Vec::new(),
    };
    if whole.is_empty() {
        return change.planned();
    }
    whole
}

/// Observes the machines. The leases of a rollout that has ended or is blocked are released.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer.
pub async fn observe(cx: &Cx) -> Result<Assessment> {
    let assessment = assessment::observe(cx).await?;
    match decide(&cx.target, &assessment, cx.fly_now()) {
        Verdict::Change(_) | Verdict::Wait { .. } => {
            leases::keep_for(cx, &assessment.rollout.machines).await;
        }
        _ => leases::release(cx).await,
    }
    Ok(assessment)
}

/// The next move, or what keeps it. A rollout stops at a machine that was given the new release and
/// has failed.
pub fn decide(target: &Target, assessment: &Assessment, now: Timestamp) -> Verdict<Change> {
    let rollout = &assessment.rollout;
    let plan = assessment.plan(true, now);
    let checks = assessment
        .checks
        .progress(&target.app, now, rollout.patience.pause);
    if plan.next == Move::Nothing && checks == Progress::Passed {
        return rollout.doubt.map_or(Verdict::Done, Verdict::Holds);
    }
    let health = judge::health(assessment, &target.app, now, |wanted| {
        plan.settling.contains(&wanted.slot) || assessment.checks.is_open(&wanted.slot)
    });
    match (health, checks) {
        // A test that hangs or is left over is ended first.
        (_, Progress::Needs(change @ one_off::Action::End { .. })) => {
            Verdict::Change(Change::Check(change))
        }
        // A machine that has failed is reported before the result of its tests.
        (Verdict::Blocked(why), _) => failed(target, assessment, (why, None), now),
        (_, Progress::Failed { why, again }) => failed(target, assessment, (why, again), now),
        (_, Progress::Needs(change)) => Verdict::Change(Change::Check(change)),
        (Verdict::Done, Progress::Waits { why, wake }) => {
            proceed(target, rollout, plan, Verdict::Wait { why, wake })
        }
        (health, _) => proceed(target, rollout, plan, health),
    }
}

/// What follows from a failure; `again` is the next run of a test that has failed.
fn failed(
    target: &Target,
    assessment: &Assessment,
    (why, again): (Why, Option<one_off::Action>),
    now: Timestamp,
) -> Verdict<Change> {
    if target.deploy.on_failure == OnFailure::Leave {
        let next = assessment.plan(false, now).next;
        if next.changes() {
            return send(&assessment.rollout, next);
        }
    }
    match judge::failure(assessment, target, why) {
        Ok(failed) => Verdict::Change(Change::Fail(failed)),
        Err(why) => match again {
            Some(again) => Verdict::Change(Change::Check(again)),
            None => Verdict::Blocked(why),
        },
    }
}

/// The next move of a rollout in which nothing has failed.
fn proceed(
    target: &Target,
    rollout: &Rollout,
    plan: Plan,
    health: Verdict<Change>,
) -> Verdict<Change> {
    match plan.next {
        Move::Nothing => health,
        Move::Settle => {
            let verdict = observe_all(rollout, plan.settling.len(), health);
            mention_reverts(rollout, verdict)
        }
        Move::Pause(left) => Verdict::Wait {
            why: Why::new(
                Reason::TrafficMoving,
                "waiting for Fly.io's proxies to learn which machines serve now",
            ),
            wake: Wake::After(left),
        },
        Move::Await(machines) => await_stop(target, &machines),
        next => send(rollout, next),
    }
}

fn send(rollout: &Rollout, next: Move) -> Verdict<Change> {
    let drift = match next {
        Move::Update(_) => rollout.drift(),
        _ => Vec::new(),
    };
    Verdict::Change(Change::Move(MoveRequest {
        next,
        config: rollout.effective.config.clone(),
        leased: leases::leasable(&rollout.machines),
        drift,
    }))
}

/// Waits for a moment instead of a long poll where several machines settle and any of them allows
/// the next update: a long poll on one of them would miss the others.
fn observe_all(rollout: &Rollout, settling: usize, verdict: Verdict<Change>) -> Verdict<Change> {
    let strategy = rollout.desired.strategy;
    match verdict {
        Verdict::Wait {
            why,
            wake: Wake::Machine { .. },
        } if settling > 1 && matches!(strategy, Strategy::Rolling | Strategy::Canary) => {
            Verdict::Wait {
                why,
                wake: Wake::After(rollout.patience.pause),
            }
        }
        verdict => verdict,
    }
}

/// A wait also mentions the updates that Fly.io reverted.
fn mention_reverts(rollout: &Rollout, verdict: Verdict<Change>) -> Verdict<Change> {
    match verdict {
        Verdict::Wait { mut why, wake } if !rollout.reverted.is_empty() => {
            let names: Vec<&str> = rollout.reverted.iter().map(String::as_str).collect();
            why.message = format!(
                "{}; Fly.io reverted the update of {}, and Golive repeated it",
                why.message,
                names.join(", ")
            );
            Verdict::Wait { why, wake }
        }
        verdict => verdict,
    }
}

/// A machine that stops finishes its requests, for as long as `kill_timeout` allows.
fn await_stop(target: &Target, machines: &[Machine]) -> Verdict<Change> {
    let Some(machine) = machines.first() else {
        return Verdict::Done;
    };
    Verdict::Wait {
        why: Why::new(
            Reason::TrafficMoving,
            format!("the machine {} ({}) is stopping", machine.name, machine.id),
        ),
        wake: Wake::Machine {
            app: target.app.clone(),
            id: machine.id.clone(),
            version: None,
            state: MachineState::Stopped,
            patience: Duration::from_secs(2),
        },
    }
}

/// Sends a change.
///
/// # Errors
/// When Fly.io or Kubernetes refuses or does not answer. Calls that were answered have taken effect,
/// and the next observation finds that.
pub async fn apply(cx: &Cx, change: Change) -> Result<()> {
    match change {
        Change::Move(request) => moves::apply(cx, request).await,
        Change::Check(change) => one_off::apply(cx, change).await,
        Change::Fail(failed) => failure::record(cx, failed).await,
    }
}
