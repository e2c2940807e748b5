//! `machine_checks` of the fly.toml: each machine that is given a release is tested from a machine of
//! its own before the rollout goes on over it. How such a machine runs is in `one_off`.
//!
//! As flyctl: not on a first deployment, not with the strategy immediate, and no machine that is not
//! launched. Beyond flyctl: the new set of bluegreen is tested before the traffic moves to it, and a
//! test begins when its machine is well, so that it proves something about the release and not
//! about how fast it starts.
//!
//! A test is found by its mark: the release, the machine that it tests and what it runs. So one
//! that has passed is not run again for this release, also by another process.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    fleet::{self, CHECK_KEY, Health, SLOT_KEY, UID_KEY, Wanted},
    look::Look,
};
use crate::phase::deploy::{
    command::one_off::{self, Change, OneOff, Progress, Runs, What},
    fleet::roster,
};
use crate::{
    api::{Reason, status::one_line},
    error::Error,
    fly::{self, Machine, MachineState, machines::HostStatus},
    flytoml::{self, MachineTest, Strategy},
    pipeline::{Cx, Wake, Why, step::Result},
};

/// Most characters of a check's command in a message.
const COMMAND: usize = 120;

/// Where the checks of a release stand.
#[derive(Debug, Default)]
pub struct Checks {
    /// Machines that have not passed all of theirs.
    open: Vec<Open>,
    /// Their ids.
    untested: BTreeSet<String>,
    /// Test machines that nobody waits for any more: name and id.
    stale: Vec<(String, String)>,
}

/// A machine that has not passed all of its checks.
#[derive(Debug)]
struct Open {
    slot: String,
    name: String,
    runs: Vec<Runs>,
}

/// Whether this release is tested at all.
fn applies(look: &Look) -> bool {
    // What is restored, what runs already and what scales has proven itself.
    look.effective.instead.is_none()
        && !look.records.is_good(&look.release.key)
        && look.records.last_good().is_some()
        && look.strategy != Strategy::Immediate
}

/// Whether a machine was given this release and is launched.
fn is_launched(look: &Look, machine: &Machine, wanted: &Wanted) -> bool {
    wanted.marks(machine)
        // One whose configuration is the same was not touched.
        && machine.metadata(fleet::RELEASE_KEY) == Some(look.effective.key.as_str())
        && !wanted.standby
        && !(fleet::starts_on_demand(wanted)
            && machine.cordoned != Some(true)
            && matches!(machine.state, MachineState::Stopped | MachineState::Suspended))
}

/// What is known of the checks.
///
/// # Errors
/// When Fly.io does not answer, or the fly.toml cannot be converted.
pub async fn observe(cx: &Cx, look: &Look) -> Result<Checks> {
    let mut tested: Vec<Tested> = Vec::new();
    if applies(look) {
        for (machine, wanted) in look.pairs().filter(|(m, w)| is_launched(look, m, w)) {
            let tests = look.effective.config.machine_tests_of(&wanted.group);
            tested
                .extend((!tests.is_empty()).then(|| Tested::of(look, machine, wanted, tests, cx)));
        }
    }
    let labels: BTreeSet<&str> = tested
        .iter()
        .flat_map(|tested| tested.tests.iter().map(|(label, _)| label.as_str()))
        .collect();
    let place = fleet::checks_slot(look.release.number, &look.release.key);
    let stale = look
        .machines
        .iter()
        .filter_map(|machine| Some((machine, machine.metadata(CHECK_KEY)?)))
        .filter(|(machine, label)| {
            machine.metadata(SLOT_KEY) != Some(place.as_str()) || !labels.contains(label)
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
    let machines = one_off::machines_of(cx, &place, lacks).await?;
    for tested in tested {
        let open = tested.open(cx, look, &place, &machines).await?;
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
    wanted: &'a Wanted,
    /// What tells each from all others.
    tests: Vec<(String, MachineTest)>,
    /// Whether they can begin.
    due: bool,
}

impl<'a> Tested<'a> {
    fn of(
        look: &Look,
        machine: &'a Machine,
        wanted: &'a Wanted,
        tests: Vec<MachineTest>,
        cx: &Cx,
    ) -> Self {
        let well = look.health_of(machine, wanted, cx.now()) == Health::Healthy;
        let has_address = machine.private_ip.as_ref().is_some_and(|ip| !ip.is_empty());
        let tests = tests.into_iter().enumerate();
        Self {
            machine,
            wanted,
            tests: tests
                .map(|(at, test)| (label_of(&machine.id, at, &test), test))
                .collect(),
            due: well
                && has_address
                && machine.state == MachineState::Started
                // A host that cannot be reached says nothing about its machine.
                && machine.host_status == HostStatus::Ok,
        }
    }

    /// What is known of its checks; `None` when it has passed them all.
    async fn open(
        &self,
        cx: &Cx,
        look: &Look,
        place: &str,
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
            // It begins when its machine is well, and whatever was begun is looked at.
            if of.is_empty() && !self.due {
                passed = false;
                continue;
            }
            let asked = self.one_off(cx, look, place, label, test)?;
            let runs = Runs::new(cx, asked, of).await;
            if runs.progress(&cx.target.app, cx.now()) != Progress::Passed {
                passed = false;
                open.runs.push(runs);
            }
        }
        Ok((!passed).then_some(open))
    }

    fn one_off(
        &self,
        cx: &Cx,
        look: &Look,
        place: &str,
        label: &str,
        test: &MachineTest,
    ) -> Result<OneOff> {
        let mut context = flytoml::Context::default();
        for (key, value) in [
            (UID_KEY, cx.owner.uid.as_str()),
            (SLOT_KEY, place),
            (CHECK_KEY, label),
        ] {
            context.metadata.insert(key.to_owned(), value.to_owned());
        }
        let live = self.machine.config.as_ref();
        let address = self.machine.private_ip.as_deref().unwrap_or_default();
        let config = look
            .effective
            .config
            .test_machine_config(test, &context, live.unwrap_or(&self.wanted.config), address)
            .map_err(|error| fleet::not_convertible("machine of a machine check", &error))?;
        let command = crate::redact::redact(&test.command.join(" ")).into_owned();
        let release: String = look.release.key.chars().take(8).collect();
        let name = format!("golive-check-{release}-{}-{label}", look.release.number);
        Ok(OneOff {
            announced: name.clone(),
            name,
            what: What::Check {
                command: one_line(&command, COMMAND),
                tested: format!("{} ({})", self.machine.name, self.machine.id),
            },
            region: match self.machine.region.is_empty() {
                true => self.wanted.region.clone(),
                false => self.machine.region.clone(),
            },
            config,
            timeout: look.wait_timeout,
        })
    }
}

/// What tells a check from all others of a release: the machine, and what it runs. One that was
/// changed in the fly.toml is another one.
fn label_of(machine: &str, at: usize, test: &MachineTest) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{at} {test:?}"));
    let hash = data_encoding::HEXLOWER.encode(&hash.finalize()[..4]);
    format!("{machine}-{hash}")
}

impl Checks {
    /// Ids of the machines that have not passed all of theirs.
    pub fn untested(&self) -> &BTreeSet<String> {
        &self.untested
    }

    /// Whether this is the place of a machine that has not passed all of its checks.
    pub fn is_open(&self, slot: &str) -> bool {
        self.open.iter().any(|open| open.slot == slot)
    }

    /// What is to be done next: what hangs or is left over is ended first, and of all others a proven
    /// failure counts before what is only awaited.
    pub fn stand(&self, app: &str, now: Timestamp, pause: Duration) -> Progress {
        if let Some(end) = self.to_end(app, now) {
            return Progress::Needs(end);
        }
        let (mut needs, mut waits) = (None, Vec::new());
        for open in &self.open {
            if open.runs.is_empty() {
                let why = Why::new(
                    Reason::MachineCheckRunning,
                    format!("the machine {} is tested once it is well", open.name),
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
            // A long poll on one would see the others late.
            Some((why, Wake::Machine { .. })) if several => Progress::Waits {
                why,
                wake: Wake::After(pause),
            },
            Some((why, wake)) => Progress::Waits { why, wake },
        }
    }

    fn to_end(&self, app: &str, now: Timestamp) -> Option<Change> {
        if let Some((name, id)) = self.stale.first() {
            return Some(Change::End {
                name: name.clone(),
                id: id.clone(),
            });
        }
        let runs = self.open.iter().flat_map(|open| &open.runs);
        runs.filter_map(|runs| match runs.progress(app, now) {
            Progress::Needs(change @ Change::End { .. }) => Some(change),
            _ => None,
        })
        .next()
    }

    /// Whether a machine has failed one.
    pub fn has_failed(&self, app: &str, now: Timestamp) -> bool {
        let mut runs = self.open.iter().flat_map(|open| &open.runs);
        runs.any(|runs| matches!(runs.progress(app, now), Progress::Failed { .. }))
    }
}

/// Ends the tests that run while their object goes and its app stays; true when there are none.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn end_all(cx: &Cx) -> Result<bool> {
    let has_tests = cx.target.config_or_invalid().is_ok_and(|config| {
        let groups = config.app.process_groups();
        let mut groups = groups.iter();
        groups.any(|group| !config.app.machine_tests_of(group).is_empty())
    });
    if !has_tests {
        return Ok(true);
    }
    // What is known may lack one that was just made: only a list tells.
    roster::note_unknown(cx);
    let machines = match roster::ours(cx).await {
        // The app is gone, and all with it.
        Err(Error::Fly { source, .. }) if *source.class() == fly::Class::Gone => return Ok(true),
        machines => machines?,
    };
    let mut none = true;
    for machine in machines.iter().filter(|machine| label(machine).is_some()) {
        none = false;
        let end = Change::End {
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

    /// A machine with checks whose tests stand so; `None` has not begun.
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

    fn stand(checks: &Checks, second: i64) -> Progress {
        checks.stand("cabanas", at(second), Duration::from_secs(2))
    }

    fn running() -> Option<Value> {
        Some(json!({"state": "started"}))
    }

    fn failed() -> Option<Value> {
        Some(exit(10, json!({"exit_code": 4})))
    }

    #[test]
    fn a_proven_failure_counts_before_what_is_to_be_run_and_what_runs() {
        let mut checks = checks(&[None, running(), failed()]);
        assert!(matches!(stand(&checks, 11), Progress::Failed { .. }));
        assert!(checks.has_failed("cabanas", at(11)));
        // What hangs is ended all the same.
        let end = stand(&checks, 61);
        assert!(
            matches!(end, Progress::Needs(Change::End { .. })),
            "{end:?}"
        );
        checks.open[0].runs.pop();
        let run = stand(&checks, 11);
        assert!(
            matches!(run, Progress::Needs(Change::Run { .. })),
            "{run:?}"
        );
    }

    #[test]
    fn several_tests_are_looked_at_together_and_one_by_the_long_poll() {
        let wake = |checks: &Checks| match stand(checks, 11) {
            Progress::Waits { wake, .. } => wake,
            other => panic!("{other:?}"),
        };
        assert!(matches!(wake(&checks(&[running()])), Wake::Machine { .. }));
        let several = wake(&checks(&[running(), running()]));
        assert_eq!(several, Wake::After(Duration::from_secs(2)));
        // A machine that is not well yet holds the rollout as well.
        assert!(matches!(wake(&checks(&[])), Wake::After(_)));
    }

    #[test]
    fn a_test_that_nobody_waits_for_is_ended_before_anything_else() {
        let mut checks = checks(&[failed()]);
        checks.stale = vec![("golive-check-old".to_owned(), "t9".to_owned())];
        let end = Change::End {
            name: "golive-check-old".to_owned(),
            id: "t9".to_owned(),
        };
        assert_eq!(stand(&checks, 11), Progress::Needs(end));
        assert_eq!(stand(&Checks::default(), 11), Progress::Passed);
    }

    #[test]
    fn a_check_that_was_changed_is_another_one() {
        let test = |word: &str| MachineTest {
            command: vec![word.to_owned()],
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
