//! Whether a command that has failed runs again for the same release. Pure.
//!
//! A release command or a seed command may have changed the database partly. So it runs once for a
//! release, and after a failure it runs again only as often as `deploy.releaseCommandRetries` says, or
//! when somebody requests a retry. How often it has failed is in the record of the release, so that
//! neither another process nor a Fly.io that has forgotten the machines of old runs starts it anew.

use super::program::Program;
use crate::{
    api::{Owner, Reason},
    phase::releases::record::FailedCommand,
    pipeline::Why,
    plan::Target,
};

/// Whether a program that has failed runs again for the same release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// It runs again as often as needed, because it changes nothing of the application.
    Freely,
    /// Its failures are counted.
    Counted(Counted),
}

/// How often a command may run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Whether its latest failure is on record. Before that it does not run again.
    pub recorded: bool,
    /// How often it may run again by itself.
    pub left: u32,
    /// A retry was requested after its latest failure.
    pub requested: bool,
    /// Why it failed, as far as that is on record.
    pub reason: String,
    /// The command that requests a retry.
    pub request: String,
}

impl Again {
    /// For a program whose latest run for this release was in this machine, with the failures on record.
    pub fn of(
        (program, attempt): (&Program, &str),
        machine: Option<&str>,
        (failed, reason): (Option<&FailedCommand>, &str),
        (target, owner): (&Target, &Owner),
    ) -> Self {
        if !matches!(program, Program::Release | Program::Seed) {
            return Self::Freely;
        }
        let failed =
            failed.filter(|failed| failed.program == program.key() && failed.attempt == attempt);
        let recorded = match (failed, machine) {
            (Some(failed), Some(machine)) => failed.machine == machine,
            (failed, _) => failed.is_some(),
        };
        let requested = failed.is_some_and(|failed| !target.retry.is_subset(&failed.retry));
        let runs = match failed {
            Some(failed) if recorded || !requested => failed.runs + u32::from(!recorded),
            _ => u32::from(machine.is_some()),
        };
        let allowed = u32::from(target.deploy.release_command_retries) + 1;
        Self::Counted(Counted {
            recorded,
            left: allowed.saturating_sub(runs),
            requested: requested && recorded,
            reason: failed.map_or_else(String::new, |_| reason.to_owned()),
            request: format!(
                "kubectl -n {} annotate activation {} --overwrite golive.dev/retry=\"$(date +%s)\"",
                owner.namespace, owner.name
            ),
        })
    }

    /// Whether it may run again now. `started`: whether the latest run has begun at all; one that has
    /// not did nothing.
    pub fn is_allowed(&self, started: bool) -> bool {
        match self {
            Self::Freely => true,
            Self::Counted(_) if !started => true,
            Self::Counted(counted) => counted.recorded && (counted.left > 0 || counted.requested),
        }
    }

    /// Whether the failure of the latest run has to be recorded.
    pub fn is_unrecorded(&self) -> bool {
        matches!(self, Self::Counted(counted) if !counted.recorded)
    }

    /// The failure on record of a command that may not run again, of whose runs no machine is left.
    pub fn spent(&self) -> Option<Why> {
        let Self::Counted(counted) = self else {
            return None;
        };
        let spent = counted.recorded && !self.is_allowed(true);
        let action = self.action("fix its cause");
        spent.then(|| Why::new(Reason::ReleaseCommandFailed, &*counted.reason).next(action))
    }

    /// The next action of a person, after this one.
    pub fn action(&self, fix: &str) -> String {
        match self {
            Self::Freely => format!("{fix}; Golive also retries it"),
            Self::Counted(counted) if counted.left > 0 || counted.requested => {
                format!("{fix}; Golive runs it again")
            }
            Self::Counted(counted) => format!(
                "{fix}; Golive does not run it again by itself for this release; to run it again: `{}`",
                counted.request
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{phase::releases::record::CommandRun, plan::testing::target};

    fn owner() -> Owner {
        Owner {
            namespace: "shops".to_owned(),
            name: "cabanas".to_owned(),
            uid: "u".to_owned(),
            generation: 1,
        }
    }

    fn failed(machine: &str, runs: u32, retry: &[&str]) -> FailedCommand {
        FailedCommand {
            program: "release_command".to_owned(),
            attempt: "k-1".to_owned(),
            machine: machine.to_owned(),
            runs,
            retry: tokens(retry),
        }
    }

    fn tokens(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|token| (*token).to_owned()).collect()
    }

    fn run(machine: &str) -> CommandRun {
        CommandRun {
            program: "release_command".to_owned(),
            attempt: "k-1".to_owned(),
            machine: machine.to_owned(),
        }
    }

    /// What follows for a command that may be retried this often, with these retry tokens, whose latest
    /// run was in this machine.
    fn again(
        retries: u8,
        retry: &[&str],
        machine: Option<&str>,
        failed: Option<&FailedCommand>,
    ) -> Again {
        let mut target = target(&format!("deploy: {{releaseCommandRetries: {retries}}}"));
        target.retry = tokens(retry);
        let known = (failed, "exited with code 1");
        Again::of(
            (&Program::Release, "k-1"),
            machine,
            known,
            (&target, &owner()),
        )
    }

    #[test]
    fn a_failed_command_runs_again_as_often_as_the_spec_says_and_no_more() {
        for (retries, runs, allowed) in [(0, 1, false), (1, 1, true), (1, 2, false), (3, 3, true)] {
            let known = failed("m", runs, &[]);
            let again = again(retries, &[], Some("m"), Some(&known));
            assert_eq!(again.is_allowed(true), allowed, "{retries} {runs}");
        }
    }

    #[test]
    fn a_failure_is_recorded_before_its_command_runs_again() {
        let first = again(5, &[], Some("m"), None);
        assert!(first.is_unrecorded() && !first.is_allowed(true));
        let other = failed("m", 1, &[]);
        let second = again(5, &[], Some("n"), Some(&other));
        assert!(second.is_unrecorded() && !second.is_allowed(true));
    }

    #[test]
    fn a_request_for_a_retry_runs_it_once_more() {
        let known = failed("m", 1, &["old"]);
        assert!(!again(0, &["old"], Some("m"), Some(&known)).is_allowed(true));
        assert!(again(0, &["new"], Some("m"), Some(&known)).is_allowed(true));
        let next = known.next(run("n"), &tokens(&["new"]));
        assert_eq!(
            next,
            failed("n", 1, &["new"]),
            "and counts from the beginning"
        );
        assert!(!again(0, &["new"], Some("n"), Some(&next)).is_allowed(true));
        let later = next.next(run("o"), &tokens(&["new"]));
        assert_eq!(later.runs, 2);
        assert_eq!(later.next(run("o"), &tokens(&["new"])), later);
    }

    #[test]
    fn a_command_whose_machines_are_forgotten_is_not_run_anew() {
        let known = failed("m", 1, &[]);
        let why = again(0, &[], None, Some(&known)).spent();
        let why = why.map(|why| why.sentence()).unwrap_or_default();
        assert!(why.starts_with("exited with code 1: "), "{why}");
        assert!(
            why.contains("kubectl -n shops annotate activation cabanas"),
            "{why}"
        );
        assert_eq!(again(1, &[], None, Some(&known)).spent(), None);
        assert_eq!(again(0, &["new"], None, Some(&known)).spent(), None);
        assert_eq!(again(0, &[], None, None).spent(), None, "it never ran");
        let other = FailedCommand {
            attempt: "k-2".to_owned(),
            ..known.clone()
        };
        assert_eq!(
            again(0, &[], None, Some(&other)).spent(),
            None,
            "another attempt"
        );
        let seed = FailedCommand {
            program: "seed_command".to_owned(),
            ..known.clone()
        };
        assert_eq!(
            again(0, &[], None, Some(&seed)).spent(),
            None,
            "another command"
        );
    }

    #[test]
    fn a_command_that_could_not_start_and_a_test_run_again_freely() {
        let known = failed("m", 9, &[]);
        assert!(again(0, &[], Some("m"), Some(&known)).is_allowed(false));
        let steady = std::time::Duration::ZERO;
        let target = target("");
        let trial = Program::Trial { steady };
        let again = Again::of(
            (&trial, "k-1"),
            Some("m"),
            (Some(&known), ""),
            (&target, &owner()),
        );
        assert!(again.is_allowed(true) && !again.is_unrecorded());
    }
}
