//! The proof by the machines, where nothing can be reached from outside: those of the process groups
//! run, with their checks passing, and none of them starts anew for a while. Two looks are needed for
//! that, and for a failure of what was proven before.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::memory::{Memory, Stage};
use crate::{
    api::{
        Reason,
        status::{CheckResult, SmokeTestResult},
    },
    fly::{Machine, MachineState, machines::CheckResult as MachineCheck},
    flytoml,
    phase::{asleep, evidence::crash_loop, roster},
    pipeline::{
        Cx, Note, ProbeKind, ProvedBy, SmokeProof, Step, StepId, Verdict, Wake, Why, step::Result,
    },
    plan::{MachineProof, Target},
};

/// Name of this proof in `status.smokeTest[]`.
const MACHINES: &str = "machines";

/// Looks at the machines.
pub struct SteadyMachines;

/// Fact: what was found for the present plan.
#[derive(Clone, Debug, Default)]
struct SteadyMemory {
    memory: Memory,
    /// The machines that run, each with its version and its last start.
    runs: BTreeSet<(String, String, i64)>,
    /// Since when exactly these run.
    since: Option<Instant>,
    /// How often a machine was seen to have started anew.
    restarts: u32,
    /// Since when something is wrong.
    wrong_since: Option<Instant>,
}

/// What the machines of some process groups show.
#[derive(Debug, Default)]
struct Found {
    /// Those that run with passing checks, each with its version and its last start.
    runs: BTreeSet<(String, String, i64)>,
    /// How many Fly.io's proxy has stopped until the next request.
    asleep: usize,
    /// Those on their way.
    starting: Vec<String>,
    /// What is wrong.
    wrong: Vec<(Reason, String)>,
    /// One of them fails again and again, by Fly.io's record of its ends: whatever one look finds.
    loops: bool,
    /// How long one of them ran at most before it failed.
    longest_run: Option<Duration>,
}

/// What was observed.
#[derive(Debug, Default)]
pub struct Steady {
    found: Found,
    stage: Stage,
    /// Time until they count as steady, or a failure as one.
    left: Duration,
    /// How often a machine was seen to have started anew.
    restarts: u32,
    proven_at: Option<Timestamp>,
    pause: Duration,
}

/// What the machines of these process groups show.
fn find(machines: &[Machine], groups: &[String], now: Timestamp) -> Found {
    let mut found = Found::default();
    for group in groups {
        let of_group = |machine: &&Machine| {
            machine.metadata(flytoml::PROCESS_GROUP_KEY) == Some(group.as_str())
        };
        let mut machines = machines.iter().filter(of_group).peekable();
        if machines.peek().is_none() {
            let text = format!("no machine of the process group {group} exists");
            found.wrong.push((Reason::MachineExited, text));
        }
        for machine in machines {
            found.add(machine);
            found.count_failures(machine, now);
        }
    }
    found
}

impl Found {
    fn add(&mut self, machine: &Machine) {
        let name = format!("the machine {} ({})", machine.name, machine.id);
        let config = machine.config.as_ref();
        let standby = config.is_some_and(|config| !config.standbys.is_empty());
        let exit = machine.exit_since_start();
        let by_itself = exit.filter(|exit| exit.requested_stop != Some(true));
        match &machine.state {
            MachineState::Started => match failing(machine) {
                checks if checks.is_empty() => {
                    let version = machine.instance_id.clone();
                    let started = last_start(machine);
                    self.runs.insert((machine.id.clone(), version, started));
                }
                checks => {
                    let text = format!("{name} does not pass {}", checks.join(", "));
                    self.wrong.push((Reason::NotHealthy, text));
                }
            },
            _ if asleep::sleeps(machine) => self.asleep += 1,
            MachineState::Created | MachineState::Stopped if standby => {}
            MachineState::Created
            | MachineState::Creating
            | MachineState::Starting
            | MachineState::Restarting
            | MachineState::Updating
            | MachineState::Replacing => {
                self.starting
                    .push(format!("{name} is {}", machine.state.as_str()));
            }
            state => {
                let text = match by_itself {
                    Some(exit) => {
                        let code = exit.guest_exit_code.or(exit.exit_code).unwrap_or(-1);
                        format!("{name} exited with code {code}")
                    }
                    None => format!("{name} is {}", state.as_str()),
                };
                self.wrong.push((Reason::MachineExited, text));
            }
        }
    }
}

impl Found {
    /// Takes in the failures of the machine's program on Fly.io's record: it may run at each look, and fail between two
    /// of them.
    fn count_failures(&mut self, machine: &Machine, now: Timestamp) {
        self.longest_run = self.longest_run.max(crash_loop::longest_run(machine, now));
        if let Some(code) = crash_loop::of(machine, now) {
            let name = format!("the machine {} ({})", machine.name, machine.id);
            let text = crash_loop::said(&name, code);
            self.wrong.insert(0, (Reason::CrashLooping, text));
            self.loops = true;
        }
    }
}

fn failing(machine: &Machine) -> Vec<String> {
    let checks = machine.checks.iter();
    checks
        .filter(|check| check.status != MachineCheck::Passing)
        .map(|check| check.name.clone())
        .collect()
}

/// When the machine last started, by Fly.io's clock, to tell one start from another.
fn last_start(machine: &Machine) -> i64 {
    let starts = machine.events.iter().filter(|event| event.kind == "start");
    starts
        .filter_map(|event| event.timestamp)
        .max()
        .unwrap_or_default()
}

impl SteadyMemory {
    /// Takes in what was found. Returns the time until that counts: as steady, or as a failure.
    fn take(&mut self, found: &Found, settle: Duration, now: Instant) -> Duration {
        let left = |since: Instant| settle.saturating_sub(now.saturating_duration_since(since));
        if found.runs != self.runs {
            let known = |id: &str| self.runs.iter().any(|(other, ..)| other == id);
            let anew = |run: &&(String, String, i64)| known(&run.0) && !self.runs.contains(*run);
            let anew = found.runs.iter().filter(anew).count();
            self.restarts += u32::try_from(anew).unwrap_or(u32::MAX);
            self.runs.clone_from(&found.runs);
            self.since = Some(now);
        }
        if found.wrong.is_empty() {
            self.wrong_since = None;
            left(*self.since.get_or_insert(now))
        } else {
            left(*self.wrong_since.get_or_insert(now))
        }
    }
}

/// For how long the same machines must run to be steady. A program that has failed already must run for longer than
/// it did before: otherwise one that fails every half minute would be steady in between. Pure.
fn settle(settle: Duration, is_proven: bool, longest_run: Option<Duration>) -> Duration {
    match longest_run.filter(|_| !is_proven) {
        Some(longest) => settle + longest,
        None => settle,
    }
}

/// What a person does about machines that do not run steadily.
fn action(target: &Target) -> String {
    format!(
        "look at `fly logs -a {}`, and correct the application; Golive retries",
        target.app
    )
}

fn wanted(target: &Target) -> Option<&MachineProof> {
    target.proof.machines.as_ref()
}

impl Steady {
    /// Whether the machines are the proof that is asked for.
    fn holds(&self) -> bool {
        self.found.wrong.is_empty() && self.found.starting.is_empty() && self.left.is_zero()
    }

    /// What was found, for people.
    fn summary(&self, wanted: &MachineProof) -> String {
        let asleep = match self.found.asleep {
            0 => String::new(),
            count => format!(", {count} stopped by Fly.io's proxy until the next request"),
        };
        format!(
            "machines of {} running steadily: {}{asleep}; {}",
            wanted.groups.join(", "),
            self.found.runs.len(),
            wanted.why
        )
    }

    fn result(&self, wanted: &MachineProof) -> SmokeTestResult {
        let trouble = self.found.wrong.first();
        let (result, reason, message) = if wanted.groups.is_empty() {
            let skipped = (CheckResult::Skipped, Reason::NotRequested);
            (skipped.0, skipped.1, wanted.why.clone())
        } else if let Some((reason, text)) = trouble {
            let result = match self.stage {
                _ if self.found.loops => CheckResult::Failed,
                Stage::Starting => CheckResult::Unknown,
                Stage::Proven if !self.left.is_zero() => CheckResult::Passed,
                Stage::Late | Stage::Proven => CheckResult::Failed,
            };
            (result, *reason, text.clone())
        } else if self.holds() || self.stage == Stage::Proven {
            (CheckResult::Passed, Reason::Succeeded, self.summary(wanted))
        } else {
            let text = self.progress();
            (CheckResult::Unknown, Reason::SmokeCheckRunning, text)
        };
        SmokeTestResult {
            check: MACHINES.to_owned(),
            result,
            path: Some(MACHINES.to_owned()),
            reason: reason.to_string(),
            message,
            tries: 1,
            duration_ms: None,
            time: None,
        }
    }

    /// What is awaited.
    fn progress(&self) -> String {
        if !self.found.starting.is_empty() {
            return self.found.starting.join("; ");
        }
        let again = match self.restarts {
            0 => String::new(),
            count => format!("; {count} starts after the first one were seen"),
        };
        format!(
            "{} machines run, and are watched for a moment{again}",
            self.found.runs.len()
        )
    }
}

impl Step for SteadyMachines {
    type Observed = Steady;
    type Change = Infallible;

    fn id(&self) -> StepId {
        StepId::SteadyMachines
    }

    /// Deploy has listed the machines in the same pass.
    fn reads(&self) -> u32 {
        0
    }

    async fn observe(&self, cx: &Cx) -> Result<Steady> {
        let Some(wanted) = wanted(&cx.target).filter(|wanted| !wanted.groups.is_empty()) else {
            return Ok(Steady::default());
        };
        let found = find(&roster::ours(cx).await?, &wanted.groups, cx.fly_now());
        let before = cx.facts.get::<SteadyMemory>();
        let mut known = before
            .as_ref()
            .map_or_else(SteadyMemory::default, |b| (**b).clone());
        let memory = Memory::of(cx, before.map(|before| before.memory.clone()));
        known.memory = memory;
        known.memory.look(cx);
        let timing = &cx.installation.timing;
        let settle = settle(timing.settle, known.memory.proven, found.longest_run);
        let left = known.take(&found, settle, Instant::now());
        let mut steady = Steady {
            left,
            restarts: known.restarts,
            pause: timing.poll,
            found,
            ..Steady::default()
        };
        if steady.holds() {
            known.memory.prove(cx.now());
        }
        steady.stage = known.memory.stage(cx);
        steady.proven_at = known.memory.proven_at;
        cx.facts.set(known);
        Ok(steady)
    }

    fn diff(&self, target: &Target, observed: &Steady, _now: Timestamp) -> Verdict<Infallible> {
        let Some(wanted) = wanted(target) else {
            let why = "the checks from outside are the proof";
            return Verdict::Skipped(Why::new(Reason::NotRequested, why));
        };
        if wanted.groups.is_empty() {
            return Verdict::Skipped(Why::new(Reason::NotRequested, wanted.why.clone()));
        }
        let proven = observed.stage == Stage::Proven;
        let soon = match observed.left {
            Duration::ZERO => observed.pause,
            left => left,
        };
        if let Some((reason, text)) = observed.found.wrong.first() {
            let why = Why::new(*reason, text.clone()).next(action(target));
            return match observed.stage {
                _ if observed.found.loops => Verdict::Blocked(why),
                Stage::Starting => Verdict::Wait {
                    why,
                    wake: Wake::After(observed.pause),
                },
                // One look is no proof of a failure.
                Stage::Proven if !observed.left.is_zero() => Verdict::Holds(soon),
                Stage::Late | Stage::Proven => Verdict::Blocked(why),
            };
        }
        if observed.holds() {
            return Verdict::Done;
        }
        if proven {
            return Verdict::Holds(soon);
        }
        if observed.stage == Stage::Late {
            let why = Why::new(Reason::MachineExited, observed.progress());
            return Verdict::Blocked(why.next(action(target)));
        }
        Verdict::Wait {
            why: Why::new(Reason::SmokeCheckRunning, observed.progress()),
            wake: Wake::After(soon),
        }
    }

    fn notes(&self, target: &Target, observed: &Steady) -> Vec<Note> {
        let Some(wanted) = wanted(target) else {
            return Vec::new();
        };
        let mut notes = vec![Note::SmokeTest(observed.result(wanted), ProbeKind::Other)];
        if observed.stage == Stage::Proven || wanted.groups.is_empty() {
            notes.push(Note::Proof(SmokeProof {
                by: ProvedBy::Machines,
                at: observed.proven_at,
                summary: match wanted.groups.is_empty() {
                    true => wanted.why.clone(),
                    false => observed.summary(wanted),
                },
            }));
        }
        notes
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::phase::testing::target;

    fn machine(id: &str, state: &str, start: i64, more: serde_json::Value) -> Machine {
        let mut machine = json!({
            "id": id, "name": id, "state": state, "instance_id": "v1",
            "config": {"metadata": {"fly_process_group": "app"}},
            "events": [{"type": "start", "timestamp": start}],
        });
        for (key, value) in more.as_object().unwrap() {
            machine[key] = value.clone();
        }
        serde_json::from_value(machine).unwrap()
    }

    fn found(machines: &[Machine]) -> Found {
        let now = Timestamp::from_second(10_000).unwrap();
        find(machines, &["app".to_owned()], now)
    }

    const SETTLE: Duration = Duration::from_secs(10);

    #[test]
    fn machines_are_steady_when_the_same_ones_run_for_a_while() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let one = |at| found(&[machine("a", "started", at, json!({}))]);
        let mut memory = SteadyMemory::default();
        assert_eq!(memory.take(&one(1), SETTLE, start), SETTLE);
        assert_eq!(memory.take(&one(1), SETTLE, after(4)).as_secs(), 6);
        // It has started anew.
        assert_eq!(memory.take(&one(5), SETTLE, after(8)), SETTLE);
        assert_eq!(memory.restarts, 1);
        assert_eq!(memory.take(&one(5), SETTLE, after(18)), Duration::ZERO);
    }

    #[test]
    fn what_does_not_run_is_told_by_its_name_and_how_it_ended() {
        let exit = json!({"events": [
            {"type": "start", "timestamp": 1},
            {"type": "exit", "timestamp": 2, "request": {"exit_event": {"exit_code": 3}}},
        ]});
        let ended = found(&[machine("a", "stopped", 1, exit)]);
        assert_eq!(ended.wrong[0].1, "the machine a (a) exited with code 3");
        let failing = json!({"checks": [{"name": "alive", "status": "critical"}]});
        let sick = found(&[machine("a", "started", 1, failing)]);
        assert_eq!(sick.wrong[0].0, Reason::NotHealthy);
        assert!(sick.wrong[0].1.contains("alive"), "{:?}", sick.wrong);
        assert!(found(&[]).wrong[0].1.contains("no machine"));
        let standby = json!({"config": {
            "metadata": {"fly_process_group": "app"}, "standbys": ["a"],
        }, "events": []});
        let both = [
            machine("a", "started", 1, json!({})),
            machine("b", "stopped", 1, standby),
        ];
        let found = found(&both);
        assert!(found.wrong.is_empty(), "a standby is stopped: {found:?}");
        assert_eq!(found.runs.len(), 1);
    }

    fn verdict(steady: &Steady) -> Verdict<Infallible> {
        let target = target("smokeTest: {checks: []}", &[]);
        SteadyMachines.diff(&target, steady, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_failure_is_awaited_at_first_and_needs_two_looks_afterwards() {
        let crashed = |stage, left| Steady {
            found: found(&[]),
            stage,
            left,
            pause: Duration::from_secs(2),
            ..Steady::default()
        };
        let none = Duration::ZERO;
        assert!(matches!(
            verdict(&crashed(Stage::Starting, none)),
            Verdict::Wait { .. }
        ));
        assert!(matches!(
            verdict(&crashed(Stage::Late, none)),
            Verdict::Blocked(_)
        ));
        assert!(matches!(
            verdict(&crashed(Stage::Proven, SETTLE)),
            Verdict::Holds(_)
        ));
        let Verdict::Blocked(why) = verdict(&crashed(Stage::Proven, none)) else {
            unreachable!("two looks have found it");
        };
        assert!(why.action.contains("fly logs -a shop"), "{}", why.action);
    }

    #[test]
    fn a_program_that_fails_again_and_again_is_not_steady_though_it_runs_at_each_look() {
        let event = |kind: &str, second: i64| {
            json!({"type": kind, "timestamp": second * 1000,
                "request": {"exit_event": {"exit_code": 1}}})
        };
        let runs = |events: serde_json::Value| {
            found(&[machine("a", "started", 0, json!({"events": events}))])
        };
        let (one, two, three) = (
            event("exit", 9_880),
            event("exit", 9_920),
            event("exit", 9_960),
        );
        let begun = [
            event("start", 9_850),
            event("start", 9_885),
            event("start", 9_925),
        ];
        let last = event("start", 9_965);
        let loops = runs(json!([last, three, begun[2], two, begun[1], one, begun[0]]));
        assert_eq!(loops.wrong[0].0, Reason::CrashLooping);
        for stage in [Stage::Starting, Stage::Late, Stage::Proven] {
            let steady = Steady {
                found: runs(json!([last, three, begun[2], two, begun[1], one, begun[0]])),
                stage,
                left: SETTLE,
                ..Steady::default()
            };
            assert!(matches!(verdict(&steady), Verdict::Blocked(_)), "{stage:?}");
        }
        // After its first failure it must run for longer than it did before.
        let once = runs(json!([begun[1], one, begun[0]]));
        assert!(once.wrong.is_empty());
        let ran = once.longest_run.unwrap();
        assert_eq!(ran.as_secs(), 30);
        assert_eq!(settle(SETTLE, false, Some(ran)).as_secs(), 40);
        assert_eq!(settle(SETTLE, true, Some(ran)), SETTLE, "it was proven");
        assert_eq!(settle(SETTLE, false, None), SETTLE);
    }

    #[test]
    fn without_any_machine_nothing_is_claimed() {
        let target = target("deploy: {scale: {app: 0}}", &[]);
        let steady = Steady::default();
        let verdict = SteadyMachines.diff(&target, &steady, Timestamp::UNIX_EPOCH);
        assert!(matches!(verdict, Verdict::Skipped(_)), "{verdict:?}");
        let notes = SteadyMachines.notes(&target, &steady);
        let Some(Note::SmokeTest(result, _)) = notes.first() else {
            unreachable!("it is told");
        };
        assert_eq!(result.result, CheckResult::Skipped);
        assert!(result.message.contains("no machine"), "{result:?}");
    }
}
