//! What is observed about a command, what follows from it, and what is sent.
//!
//! A command may change the database partly or completely, so that two facts are recorded before
//! anything else is done or published: that the command begins for a release that could be rolled
//! back, and that it has failed. That it has run well is recorded unless a machine of the application
//! soon carries its release, which proves the same: Fly.io forgets the machines of old runs.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::{
    again::Again,
    former::Former,
    machine::{self, Command},
    one_off::{self, Runs},
    program::Program,
    published,
};
use crate::{
    api::Reason,
    fly::Machine,
    phase::deploy::release::{
        draft::draft,
        failure::{self, FailedRelease},
        record::{Outcome, Record},
        records::Records,
        store,
        targets::Targets,
        wanted::WantedRelease,
    },
    pipeline::{
        ChangeKind, ChangeVerb, Cx, Note, PlannedChange, Slot, StepChange, Verdict, Why,
        step::Result,
    },
    plan::Target,
};

/// How long after its end the machine of a command proves that it has run, without a record of ours.
const PROVES_FOR: Duration = Duration::from_secs(60);

/// A command that has run well, which is not on record.
#[derive(Clone, Debug)]
struct Unpassed {
    release: Box<WantedRelease>,
    /// Its key in fly.toml.
    command: &'static str,
    ended: Timestamp,
}

/// The state of a command.
#[derive(Debug)]
pub enum CommandState {
    /// The fly.toml has none.
    NotRequested(Program),
    /// It has run, as far as this release needs it.
    Ran,
    /// Its machines show its progress.
    Runs(Box<Runs>),
}

/// A command, and what is on record about the release that it runs for.
#[derive(Debug)]
pub struct Observation {
    command: CommandState,
    /// The release, until it is on record that its command begins.
    unbegun: Option<Box<WantedRelease>>,
    /// The release, until it is on record that its command has failed.
    unrecorded: Option<Box<WantedRelease>>,
    /// The command, until it is on record that it has run well.
    unpassed: Option<Unpassed>,
    /// What the status shows of releases on record.
    notes: Vec<Note>,
    /// A release command of another release, which has to end first.
    former: Option<Former>,
}

impl From<CommandState> for Observation {
    fn from(command: CommandState) -> Self {
        Self {
            command,
            unbegun: None,
            unrecorded: None,
            unpassed: None,
            notes: Vec::new(),
            former: None,
        }
    }
}

/// What is sent next.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Record that the release has begun.
    Begin(Box<WantedRelease>),
    /// Run the command, or end a run.
    Machine(one_off::Action),
    /// Record that the release has failed.
    Fail(Box<FailedRelease>),
    /// Record that this command of the release has run well.
    Pass(Box<WantedRelease>, &'static str),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(release) => write!(f, "record that release {} begins", release.number),
            Self::Machine(change) => change.fmt(f),
            Self::Fail(failed) => failed.fmt(f),
            Self::Pass(release, command) => write!(
                f,
                "record that the {command} of release {} has run",
                release.number
            ),
        }
    }
}

impl StepChange for Change {
    fn planned(&self) -> Vec<PlannedChange> {
        let record = |number: u64, what: &str| {
            let record = PlannedChange::new(ChangeVerb::Record, "Release", number.to_string());
            vec![record.set("outcome", what)]
        };
        match self {
            Self::Begin(release) => record(release.number, "Begun"),
            Self::Machine(change) => vec![change.planned()],
            Self::Fail(failed) => failed.planned(),
            Self::Pass(release, command) => record(release.number, &format!("{command} has run")),
        }
    }

    fn kind(&self) -> ChangeKind {
        match self {
            Self::Fail(failed) => failed.kind(),
            Self::Begin(_) | Self::Machine(_) | Self::Pass(..) => ChangeKind::Ordinary,
        }
    }
}

impl Change {
    /// Whether it runs the command.
    pub fn runs(&self) -> bool {
        matches!(self, Self::Machine(one_off::Action::Run { .. }))
    }

    /// What has to be announced before it is sent.
    pub fn intent(&self) -> Option<Slot> {
        match self {
            Self::Machine(change) => change.intent(),
            Self::Begin(_) | Self::Fail(_) | Self::Pass(..) => None,
        }
    }
}

/// Observes a command of the wanted release in these machines.
///
/// # Errors
/// When the fly.toml cannot be converted.
pub async fn observe(
    cx: &Cx,
    command: Command,
    machines: Vec<Machine>,
    app_machines: &[Machine],
    targets: Targets,
) -> Result<Observation> {
    let failed = targets.records.left(&targets.wanted.key);
    let command_failed = failed.and_then(|record| record.failed_command.as_ref());
    let reason = failed.map_or("", |record| record.reason.as_str());
    let runs = machine::runs(cx, command, machines, app_machines).await?;
    let runs = runs.limited(|command, machine| {
        let known = (command_failed, reason);
        Again::of(command, machine, known, (&cx.target, &cx.owner))
    });
    let runs = CommandState::Runs(Box::new(runs));
    Ok(Observation::of(cx, runs, targets))
}

impl Observation {
    /// A command in this state, and what is on record about the wanted release.
    pub fn of(cx: &Cx, command: CommandState, targets: Targets) -> Self {
        let Targets {
            wanted, records, ..
        } = targets;
        let another = match &command {
            CommandState::Runs(runs) => runs.is_unrecorded(),
            CommandState::NotRequested(_) | CommandState::Ran => false,
        };
        let unrecorded = cx.may_act() && (another || !records.has_failure(&wanted.key, &cx.target));
        let unbegun = cx.may_act() && is_unbegun(&wanted, &records, &cx.target);
        let notes = records.notes(&wanted.key);
        let passed = match &command {
            CommandState::Runs(runs) if cx.may_act() => runs.passed(cx.fly_now()),
            _ => None,
        };
        let passed =
            passed.filter(|(command, _)| !records.has_passed(wanted.number, &wanted.key, command));
        let wanted = Box::new(wanted);
        Self {
            command,
            notes,
            unpassed: passed.map(|(command, ended)| Unpassed {
                release: wanted.clone(),
                command,
                ended,
            }),
            former: None,
            unbegun: unbegun.then(|| wanted.clone()),
            unrecorded: unrecorded.then_some(wanted),
        }
    }

    /// The same, after a release command of another release.
    #[must_use]
    pub fn after(self, former: Option<Former>) -> Self {
        Self { former, ..self }
    }

    /// What is sent next, or what keeps it.
    pub fn decide(&self, target: &Target, now: Timestamp) -> Verdict<Change> {
        if let Some(former) = &self.former {
            return in_machine(former.decide(target));
        }
        if let Some(release) = &self.unbegun {
            return Verdict::Change(Change::Begin(release.clone()));
        }
        match self.command.decide(&target.app, now) {
            Verdict::Blocked(why) => self.record_first(why),
            Verdict::Done => match &self.unpassed {
                Some(unpassed) => unpassed.decide(now),
                None => Verdict::Done,
            },
            verdict => in_machine(verdict),
        }
    }

    /// What the status shows of releases on record.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.clone()
    }

    /// A release whose command has run and failed is recorded before the failure is published: a
    /// part of the migration may be done.
    fn record_first(&self, why: Why) -> Verdict<Change> {
        match (&self.unrecorded, &self.command) {
            (Some(release), CommandState::Runs(runs)) if runs.has_run() => {
                let failed = FailedRelease::left((**release).clone(), why.message);
                let failed = match runs.command() {
                    Some(run) => failed.by_command(run),
                    None => failed,
                };
                Verdict::Change(Change::Fail(Box::new(failed)))
            }
            _ => Verdict::Blocked(why),
        }
    }
}

impl Unpassed {
    /// It is recorded unless its machine still proves it: then it is observed again, and the release may
    /// be carried by a machine of the application by then.
    fn decide(&self, now: Timestamp) -> Verdict<Change> {
        let passed = Duration::try_from(now.duration_since(self.ended)).unwrap_or_default();
        match PROVES_FOR
            .checked_sub(passed)
            .filter(|left| !left.is_zero())
        {
            Some(left) => Verdict::Holds(left),
            None => Verdict::Change(Change::Pass(self.release.clone(), self.command)),
        }
    }
}

/// The same verdict; a change is one to the machine of the command.
fn in_machine(verdict: Verdict<one_off::Action>) -> Verdict<Change> {
    match verdict {
        Verdict::Change(change) => Verdict::Change(Change::Machine(change)),
        Verdict::Wait { why, wake } => Verdict::Wait { why, wake },
        Verdict::Skipped(why) => Verdict::Skipped(why),
        Verdict::Blocked(why) => Verdict::Blocked(why),
        Verdict::Holds(time) => Verdict::Holds(time),
        Verdict::Done => Verdict::Done,
    }
}

impl CommandState {
    /// What is sent next, or what keeps it.
    fn decide(&self, app: &str, now: Timestamp) -> Verdict<one_off::Action> {
        match self {
            Self::NotRequested(program) => {
                let message = match program {
                    Program::Trial { .. } => "`deploy.tryImage` is not set".to_owned(),
                    command => format!("fly.toml has no `[deploy] {}`", command.key()),
                };
                Verdict::Skipped(Why::new(Reason::NotRequested, message))
            }
            Self::Ran => Verdict::Done,
            Self::Runs(runs) => runs.decide(app, now),
        }
    }
}

/// Whether it has to be recorded that the command of a release begins. Before the first good release
/// no rollback is possible, so that there is nothing to keep from it.
fn is_unbegun(release: &WantedRelease, records: &Records, target: &Target) -> bool {
    let stale = |record: &Record| {
        record.outcome == Outcome::Begun
            && record.migration.reversible != target.deploy.migrations.reversible
    };
    release.migrates
        && records.serving_record().is_some()
        && records.of(release.number).is_none_or(stale)
}

/// Sends a change.
///
/// # Errors
/// When Fly.io or Kubernetes refuses or does not answer: no command runs without the record of it.
pub async fn apply(cx: &Cx, change: Change) -> Result<()> {
    match change {
        Change::Begin(release) => {
            let records = store::load(cx).await?;
            let serving = records.serving_record();
            let record = draft(cx, &release, Outcome::Begun, "", serving);
            store::save(cx, record).await
        }
        Change::Pass(release, command) => {
            let records = store::load(cx).await?;
            let known = records.of(release.number);
            let known = known.filter(|record| record.key == release.key).cloned();
            let mut record = known.unwrap_or_else(|| {
                let serving = records.serving_record();
                draft(cx, &release, Outcome::Begun, "", serving)
            });
            record.passed_commands.insert(command.to_owned());
            store::save(cx, record).await
        }
        Change::Machine(change) => one_off::apply(cx, change).await,
        Change::Fail(failed) => {
            failure::record(cx, *failed).await?;
            // Now it is published, before the command is run again.
            published::note_failure_recorded(cx);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::{
        phase::deploy::release::records::tests::records as all, pipeline::facts,
        plan::testing::target,
    };

    /// A command whose last machine has these events, and whose release is not on record.
    fn observation(events: serde_json::Value) -> Observation {
        let runs = one_off::tests::runs(Some(json!({"events": events})));
        let release = WantedRelease {
            number: 2,
            key: "k".to_owned(),
            image: facts::Image {
                asked: String::new(),
                reference: "r/a:2".to_owned(),
                pinned: "r/a@sha256:2".to_owned(),
                digest: "sha256:2".to_owned(),
                runs_on_fly: None,
            },
            config_hash: String::new(),
            env: Vec::new(),
            migrates: true,
        };
        Observation {
            command: CommandState::Runs(Box::new(runs)),
            former: None,
            unbegun: None,
            unrecorded: Some(Box::new(release)),
            unpassed: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_command_is_run_only_after_the_begin_of_its_release_is_recorded() {
        let release = |number, key: &str| WantedRelease {
            number,
            key: key.to_owned(),
            ..*observation(json!([])).unrecorded.unwrap()
        };
        let good = all(&[("a", Outcome::Succeeded)]);
        let same = target("");
        assert!(is_unbegun(&release(2, "b"), &good, &same));
        let first = Records::default();
        assert!(
            !is_unbegun(&release(1, "a"), &first, &same),
            "nothing to restore"
        );
        let begun_record = all(&[("a", Outcome::Succeeded), ("b", Outcome::Begun)]);
        assert!(!is_unbegun(&release(2, "b"), &begun_record, &same));
        let undone = target("deploy: {migrations: {reversible: true}}");
        assert!(
            is_unbegun(&release(2, "b"), &begun_record, &undone),
            "that is recorded"
        );
        let ended = all(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)]);
        assert!(!is_unbegun(&release(2, "b"), &ended, &undone));
        let mut none = release(2, "b");
        none.migrates = false;
        assert!(!is_unbegun(&none, &good, &same));

        let mut begun = observation(json!([]));
        begun.unbegun = Some(Box::new(release(2, "b")));
        let next = begun.decide(&same, Timestamp::UNIX_EPOCH);
        assert!(
            matches!(next, Verdict::Change(Change::Begin(_))),
            "{next:?}"
        );
    }

    #[test]
    fn that_a_command_has_run_well_is_recorded_unless_its_release_is_soon_carried_by_a_machine() {
        let exit = one_off::tests::exit(10, json!({"exit_code": 0}));
        let mut passed = observation(exit["events"].clone());
        let release = passed.unrecorded.clone().unwrap();
        let now = one_off::tests::at(11);
        assert_eq!(passed.decide(&target(""), now), Verdict::Done);
        passed.unpassed = Some(Unpassed {
            release: release.clone(),
            command: "release_command",
            ended: one_off::tests::at(10),
        });
        let next = |second| passed.decide(&target(""), one_off::tests::at(second));
        assert_eq!(next(11), Verdict::Holds(Duration::from_secs(59)));
        let record = Change::Pass(release, "release_command");
        assert_eq!(next(70), Verdict::Change(record));

        let mut records = all(&[("a", Outcome::Succeeded), ("b", Outcome::Begun)]);
        assert!(!records.has_passed(2, "b", "release_command"));
        records.list[1]
            .passed_commands
            .insert("release_command".to_owned());
        assert!(records.has_passed(2, "b", "release_command"));
        assert!(
            !records.has_passed(2, "c", "release_command"),
            "another release"
        );
        assert!(
            !records.has_passed(2, "b", "seed_command"),
            "another command"
        );
        // A failure afterwards, or a later write, does not forget it.
        let mut failed = all(&[("a", Outcome::Succeeded), ("b", Outcome::Failed)])
            .list
            .remove(1);
        failed.merge(&records.list[1]);
        assert!(failed.passed_commands.contains("release_command"));
    }

    #[test]
    fn only_a_command_that_was_started_may_have_migrated_partly() {
        let why = || Why::new(Reason::ReleaseCommandFailed, "it failed");
        let launched = json!({"type": "launch", "status": "launch_failed"});
        let started = json!({"type": "start", "status": "started"});
        for (events, recorded) in [
            (json!([launched]), false),
            (json!([started, launched]), true),
            (json!([]), true),
        ] {
            let verdict = observation(events).record_first(why());
            assert_eq!(
                matches!(verdict, Verdict::Change(Change::Fail(_))),
                recorded
            );
        }
        let mut recorded = observation(json!([started]));
        recorded.unrecorded = None;
        assert_eq!(recorded.record_first(why()), Verdict::Blocked(why()));
    }
}
