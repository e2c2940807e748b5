//! The `machine_checks` of fly.toml: each machine that is given a release is tested from another
//! machine before the rollout continues. How such a test machine runs is in `command::one_off`.
//!
//! As with flyctl, there are no tests on a first deployment, with the strategy immediate, and of
//! machines that are not launched. Unlike flyctl, the new machines of bluegreen are tested before
//! they get traffic, and a test begins when its machine is healthy, so that it proves something
//! about the release and not about how fast it starts.
//!
//! A test is identified by its metadata: the release, the machine that it tests and what it runs. So
//! a test that has passed is not run again for this release, also not by another process.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    command::{
        one_off::{self, Action, OneOff, Progress, Runs},
        one_off_machines,
        program::Program,
    },
    fleet::{
        health::Health,
        slots,
        wanted::{WantedMachine, not_convertible, starts_on_demand},
    },
    rollout::Rollout,
};
use crate::phase::roster;
use crate::{
    api::{Reason, status::one_line},
    error::Error,
    fly::{self, Machine, MachineState, machines::HostStatus},
    flytoml::{self, MachineTest, Strategy},
    phase::marks::{CHECK_KEY, RELEASE_KEY, SLOT_KEY, TRIAL_KEY, UID_KEY},
    pipeline::{Cx, Wake, Why, step::Result},
};

/// Most characters of a check's command in a message.
const COMMAND: usize = 120;

/// The progress of the checks of a release.
#[derive(Debug, Default)]
pub struct Checks {
    /// Machines that have not passed all of theirs.
    open: Vec<Open>,
    /// Their ids.
    untested: BTreeSet<String>,
    /// Test machines that are no longer waited for: name and id.
    stale: Vec<(String, String)>,
}

/// A machine that has not passed all of its checks.
#[derive(Debug)]
struct Open {
    slot: String,
    name: String,
    runs: Vec<Runs>,
}

/// Whether this release is tested.
fn applies(rollout: &Rollout) -> bool {
    // A release that is restored or has run well needs no test, and neither does scaling.
    rollout.effective.rollback.is_none()
        && !rollout.targets.is_wanted_rolled_out()
        && rollout.targets.serving.is_some()
        && rollout.desired.strategy != Strategy::Immediate
}

/// Whether a machine was given this release and is launched.
fn is_launched(rollout: &Rollout, machine: &Machine, wanted: &WantedMachine) -> bool {
    wanted.was_given_to(machine)
        // A machine with the same configuration was not updated.
        && machine.metadata(RELEASE_KEY) == Some(rollout.effective.key.as_str())
        && !wanted.standby
        && !(starts_on_demand(wanted)
            && machine.cordoned != Some(true)
            && matches!(machine.state, MachineState::Stopped | MachineState::Suspended))
}

/// Observes the checks.
///
/// # Errors
/// When Fly.io does not answer, or the fly.toml cannot be converted.
pub async fn observe(cx: &Cx, rollout: &Rollout) -> Result<Checks> {
    let mut tested: Vec<Tested> = Vec::new();
    if applies(rollout) {
        for (machine, wanted) in rollout.pairs().filter(|(m, w)| is_launched(rollout, m, w)) {
            let tests = rollout.effective.config.machine_tests_of(&wanted.group);
            tested.extend(
                (!tests.is_empty()).then(|| Tested::of(rollout, machine, wanted, tests, cx)),
            );
        }
    }
    let labels: BTreeSet<&str> = tested
        .iter()
        .flat_map(|tested| tested.tests.iter().map(|(label, _)| label.as_str()))
        .collect();
    let slot = slots::machine_checks(rollout.targets.wanted.number, &rollout.targets.wanted.key);
    let stale = rollout
        .machines
        .iter()
        .filter_map(|machine| Some((machine, machine.metadata(CHECK_KEY)?)))
        .filter(|(machine, label)| {
            machine.metadata(SLOT_KEY) != Some(slot.as_str()) || !labels.contains(label)
        })
        .map(|(machine, _)| (machine.name.clone(), machine.id.clone()))
        .collect();
    let mut checks = Checks {
        stale,
        ..Checks::default()
    };
    if tested.is_empty() {
        return Ok(checks);
    }
    let lacks = |machines: &[Machine]| {
        let known: BTreeSet<&str> = machines.iter().filter_map(label).collect();
        let due = tested.iter().filter(|tested| tested.due);
        due.flat_map(|tested| &tested.tests)
            .any(|(label, _)| !known.contains(label.as_str()))
    };
    let machines = one_off_machines::in_slot(cx, &slot, lacks).await?;
    for tested in tested {
        let open = tested.open(cx, rollout, &slot, &machines).await?;
        if let Some(open) = open {
            checks.untested.insert(tested.machine.id.clone());
            checks.open.push(open);
        }
    }
    Ok(checks)
}

fn label(machine: &Machine) -> Option<&str> {
    machine.metadata(CHECK_KEY)
}

/// A machine that has checks.
struct Tested<'a> {
    machine: &'a Machine,
    wanted: &'a WantedMachine,
    /// The tests, each with its label.
    tests: Vec<(String, MachineTest)>,
    /// Whether the tests can begin.
    due: bool,
}

impl<'a> Tested<'a> {
    fn of(
        rollout: &Rollout,
        machine: &'a Machine,
        wanted: &'a WantedMachine,
        tests: Vec<MachineTest>,
        cx: &Cx,
    ) -> Self {
        let is_healthy = rollout.health_of(machine, wanted, cx.fly_now()) == Health::Healthy;
        let has_address = machine.private_ip.as_ref().is_some_and(|ip| !ip.is_empty());
        let tests = tests.into_iter().enumerate();
        Self {
            machine,
            wanted,
            tests: tests
                .map(|(at, test)| (label_of(&machine.id, at, &test), test))
                .collect(),
            due: is_healthy
                && has_address
                && machine.state == MachineState::Started
                // An unreachable host proves nothing about its machine.
                && machine.host_status == HostStatus::Ok,
        }
    }

    /// Its open checks; `None` when it has passed them all.
    async fn open(
        &self,
        cx: &Cx,
        rollout: &Rollout,
        slot: &str,
        machines: &[Machine],
    ) -> Result<Option<Open>> {
        let mut open = Open {
            slot: self.wanted.slot.clone(),
            name: format!("{} ({})", self.machine.name, self.machine.id),
            runs: Vec::new(),
        };
        let mut passed = true;
        for (label, test) in &self.tests {
            let of = |machine: &&Machine| machine.metadata(CHECK_KEY) == Some(label.as_str());
            let of: Vec<Machine> = machines.iter().filter(of).cloned().collect();
            // A test begins when its machine is healthy, and a test that was begun is observed.
            if of.is_empty() && !self.due {
                passed = false;
                continue;
            }
            let one_off = self.one_off(cx, rollout, slot, label, test)?;
            let runs = Runs::new(cx, one_off, of).await?;
            if runs.progress(&cx.target.app, cx.fly_now()) != Progress::Passed {
                passed = false;
                open.runs.push(runs);
            }
        }
        Ok((!passed).then_some(open))
    }

    fn one_off(
        &self,
        cx: &Cx,
        rollout: &Rollout,
        slot: &str,
        label: &str,
        test: &MachineTest,
    ) -> Result<OneOff> {
        let mut context = flytoml::Context::default();
        for (key, value) in [
            (UID_KEY, cx.owner.uid.as_str()),
            (SLOT_KEY, slot),
            (CHECK_KEY, label),
        ] {
            context.metadata.insert(key.to_owned(), value.to_owned());
        }
        let live = self.machine.config.as_ref();
        let address = self.machine.private_ip.as_deref().unwrap_or_default();
        let config = rollout
            .effective
            .config
            .test_machine_config(test, &context, live.unwrap_or(&self.wanted.config), address)
            .map_err(|error| not_convertible("machine of a machine check", &error))?;
        let command = crate::redact::redact(&test.command.join(" ")).into_owned();
        let release: String = rollout.targets.wanted.key.chars().take(8).collect();
        let name = format!(
            "golive-check-{release}-{}-{label}",
            rollout.targets.wanted.number
        );
        Ok(OneOff {
            announced: name.clone(),
            name,
            program: Program::Check {
                command: one_line(&command, COMMAND),
                tested: format!("{} ({})", self.machine.name, self.machine.id),
            },
            region: match self.machine.region.is_empty() {
                true => self.wanted.region.clone(),
                false => self.machine.region.clone(),
            },
            config,
            timeout: rollout.patience.wait_timeout,
            attempt: String::new(),
        })
    }
}

/// The label of a check, unique within a release: the machine, and what the check runs. A check that
/// was changed in fly.toml gets another label.
fn label_of(machine: &str, at: usize, test: &MachineTest) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{at} {test:?}"));
    let hash = data_encoding::HEXLOWER.encode(&hash.finalize()[..4]);
    format!("{machine}-{hash}")
}

impl Checks {
    /// Ids of the machines that have not passed all of their checks.
    pub fn untested(&self) -> &BTreeSet<String> {
        &self.untested
    }

    /// Whether this is the slot of a machine that has not passed all of its checks.
    pub fn is_open(&self, slot: &str) -> bool {
        self.open.iter().any(|open| open.slot == slot)
    }

    /// The progress of all checks together: a test that hangs or is left over is ended first, and then
    /// a proven failure counts before what is only awaited.
    pub fn progress(&self, app: &str, now: Timestamp, pause: Duration) -> Progress {
        if let Some(end) = self.to_end(app, now) {
            return Progress::Needs(end);
        }
        let (mut needs, mut waits) = (None, Vec::new());
        for open in &self.open {
            if open.runs.is_empty() {
                let why = Why::new(
                    Reason::MachineCheckRunning,
                    format!("the machine {} is tested once it is healthy", open.name),
                );
                waits.push((why, Wake::After(pause)));
            }
            for runs in &open.runs {
                match runs.progress(app, now) {
                    Progress::Passed => {}
                    Progress::Failed { why, again } => return Progress::Failed { why, again },
                    Progress::Needs(change) => needs = needs.or(Some(change)),
                    Progress::Waits { why, wake } => waits.push((why, wake)),
                }
            }
        }
        if let Some(change) = needs {
            return Progress::Needs(change);
        }
        let several = waits.len() > 1;
        match waits.into_iter().next() {
            None => Progress::Passed,
            // A long poll on one of them would miss the others.
            Some((why, Wake::Machine { .. })) if several => Progress::Waits {
                why,
                wake: Wake::After(pause),
            },
            Some((why, wake)) => Progress::Waits { why, wake },
        }
    }

    fn to_end(&self, app: &str, now: Timestamp) -> Option<Action> {
        if let Some((name, id)) = self.stale.first() {
            return Some(Action::End {
                name: name.clone(),
                id: id.clone(),
            });
        }
        let runs = self.open.iter().flat_map(|open| &open.runs);
        runs.filter_map(|runs| match runs.progress(app, now) {
            Progress::Needs(change @ Action::End { .. }) => Some(change),
            _ => None,
        })
        .next()
    }

    /// Whether a machine has failed a check.
    pub fn has_failed(&self, app: &str, now: Timestamp) -> bool {
        let mut runs = self.open.iter().flat_map(|open| &open.runs);
        runs.any(|runs| matches!(runs.progress(app, now), Progress::Failed { .. }))
    }
}

/// Ends the running tests and the trial of an object that is deleted while its app is retained; true when there
/// are none.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn end_all(cx: &Cx) -> Result<bool> {
    let has_tests = cx.target.config_or_invalid().is_ok_and(|config| {
        let groups = config.app.process_groups();
        let mut groups = groups.iter();
        groups.any(|group| !config.app.machine_tests_of(group).is_empty())
    });
    if !has_tests && cx.target.deploy.try_image.is_none() {
        return Ok(true);
    }
    // A test that was just created may not be known: only a list shows all.
    roster::note_unknown(cx);
    let machines = match roster::ours(cx).await {
        // The app is gone, and its machines with it.
        Err(Error::Fly { source, .. }) if *source.class() == fly::Class::Gone => return Ok(true),
        machines => machines?,
    };
    let mut none = true;
    let is_temporary =
        |machine: &&Machine| label(machine).is_some() || machine.metadata(TRIAL_KEY).is_some();
    for machine in machines.iter().filter(is_temporary) {
        none = false;
        let end = Action::End {
            name: machine.name.clone(),
            id: machine.id.clone(),
        };
        one_off::apply(cx, end).await?;
    }
    Ok(none)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::{Value, json};

    use super::*;
    use crate::phase::deploy::command::one_off::tests::{at, exit, runs};

    /// A machine with these tests; `None` is a test that has not begun.
    fn checks(tests: &[Option<Value>]) -> Checks {
        Checks {
            open: vec![Open {
                slot: "app-0".to_owned(),
                name: "golive-app-0 (m0)".to_owned(),
                runs: tests.iter().cloned().map(runs).collect(),
            }],
            ..Checks::default()
        }
    }

    fn progress(checks: &Checks, second: i64) -> Progress {
        checks.progress("cabanas", at(second), Duration::from_secs(2))
    }

    fn running() -> Option<Value> {
        Some(json!({"state": "started"}))
    }

    fn failed() -> Option<Value> {
        Some(exit(10, json!({"exit_code": 4})))
    }

    #[test]
    fn a_proven_failure_counts_before_tests_that_run_or_are_due() {
        let mut checks = checks(&[None, running(), failed()]);
        assert!(matches!(progress(&checks, 11), Progress::Failed { .. }));
        assert!(checks.has_failed("cabanas", at(11)));
        // What hangs is ended all the same.
        let end = progress(&checks, 61);
        assert!(
            matches!(end, Progress::Needs(Action::End { .. })),
            "{end:?}"
        );
        checks.open[0].runs.pop();
        let run = progress(&checks, 11);
        assert!(
            matches!(run, Progress::Needs(Action::Run { .. })),
            "{run:?}"
        );
    }

    #[test]
    fn several_tests_are_observed_together_and_one_by_a_long_poll() {
        let wake = |checks: &Checks| match progress(checks, 11) {
            Progress::Waits { wake, .. } => wake,
            other => panic!("{other:?}"),
        };
        assert!(matches!(wake(&checks(&[running()])), Wake::Machine { .. }));
        let several = wake(&checks(&[running(), running()]));
        assert_eq!(several, Wake::After(Duration::from_secs(2)));
        // A machine that is not healthy yet holds the rollout too.
        assert!(matches!(wake(&checks(&[])), Wake::After(_)));
    }

    #[test]
    fn a_test_that_is_no_longer_waited_for_is_ended_first() {
        let mut checks = checks(&[failed()]);
        checks.stale = vec![("golive-check-old".to_owned(), "t9".to_owned())];
        let end = Action::End {
            name: "golive-check-old".to_owned(),
            id: "t9".to_owned(),
        };
        assert_eq!(progress(&checks, 11), Progress::Needs(end));
        assert_eq!(progress(&Checks::default(), 11), Progress::Passed);
    }

    #[test]
    fn a_check_that_was_changed_gets_another_label() {
        let test = |program: &str| MachineTest {
            command: vec![program.to_owned()],
            ..MachineTest::default()
        };
        let label = label_of("m0", 0, &test("a"));
        assert_eq!(label, label_of("m0", 0, &test("a")));
        assert_ne!(label, label_of("m0", 0, &test("b")));
        assert_ne!(label, label_of("m1", 0, &test("a")));
        // It is part of a name, which has 63 characters at most.
        let name = format!("golive-check-12345678-1000-{label}-100");
        assert!(name.len() + "148ed193b24608".len() < 63, "{name}");
    }
}
