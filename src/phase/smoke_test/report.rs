//! What the tries of the checks mean for the step and for the status. Pure.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    look::Look,
    memory::{Memory, Stage},
    tries::{Decision, Tries},
};
use crate::{
    api::{
        Reason,
        smoke_test::Check,
        status::one_line,
        status::{CheckResult, MAX_MESSAGE, SmokeTestResult},
    },
    phase::database,
    pipeline::{
        ChangeVerb, Cx, Note, PlannedChange, ProbeKind, ProvedBy, SmokeProof, Verdict, Wake, Why,
    },
    plan::checks::SmokeCheck,
};

/// The checks that are made, as data.
pub fn verified<'c>(checks: impl Iterator<Item = &'c SmokeCheck>) -> Vec<PlannedChange> {
    let names = checks.map(|smoke| smoke.check.name.as_str());
    let verify = PlannedChange::of_all(ChangeVerb::Verify, "SmokeCheck", names);
    (verify.count > 0).then_some(verify).into_iter().collect()
}

/// The checks of a step, each with its tries since it was last decided.
#[derive(Clone, Debug, Default)]
pub struct ObservedChecks {
    /// The checks.
    pub checks: Vec<(Check, Tries)>,
    /// How far the proof has come.
    pub stage: Stage,
    /// What the step did in this pass; unless it tried, what was proven before holds.
    pub look: Look,
    /// What the status says of proven checks that this process has not decided yet.
    pub standing: Vec<SmokeTestResult>,
    /// When everything was last proven; `None` when this process has not proven it.
    pub proven_at: Option<Timestamp>,
    /// The time until the next look, where `smokeTest.interval` says when that is.
    pub due: Option<Duration>,
}

impl ObservedChecks {
    /// The checks with the results of this pass, as the memory has them after it.
    pub fn of(cx: &Cx, checks: Vec<(Check, Tries)>, look: Look, memory: &mut Memory) -> Self {
        let passed = |(check, tries): &(Check, Tries)| tries.outcome(check) == Decision::Passed;
        let tried = checks.iter().any(|(_, tries)| tries.last.is_some());
        if look == Look::Try && tried && checks.iter().all(passed) {
            memory.prove(cx.now());
        }
        let failed = |(check, tries): &(Check, Tries)| tries.outcome(check) == Decision::Failed;
        if look == Look::Try && checks.iter().any(failed) {
            // Somebody may have dropped the user or the database.
            database::doubt(cx);
        }
        let proven_earlier = memory.proven && memory.proven_at.is_none();
        let earlier = &cx.recorded.earlier;
        let on_record = earlier.results(cx.target.plan(), cx.care);
        Self {
            standing: match proven_earlier {
                true => standing(on_record, &checks),
                false => Vec::new(),
            },
            stage: memory.stage(cx),
            look,
            proven_at: memory.proven_at,
            due: cx.target.proof.interval.map(|interval| {
                let left = memory.left_of(interval, Instant::now());
                // One that is over is due again soon: the machines may have to be seen first.
                left.max(cx.installation.timing.poll.min(interval))
            }),
            checks,
        }
    }

    /// The tries by the name of their check.
    pub fn by_name(&self) -> BTreeMap<String, Tries> {
        self.checks
            .iter()
            .map(|(check, tries)| (check.name.clone(), tries.clone()))
            .collect()
    }
}

/// What the status said of these checks before this process, as far as this process has not decided
/// them. A failure on record is no proof: what this process finds decides.
fn standing(on_record: &[SmokeTestResult], checks: &[(Check, Tries)]) -> Vec<SmokeTestResult> {
    let proves = |result: &SmokeTestResult| match result.result {
        CheckResult::Passed | CheckResult::Skipped => true,
        CheckResult::Failed | CheckResult::Warning | CheckResult::Unknown => false,
    };
    let undecided = |name: &str| {
        let mut checks = checks.iter();
        let open = |check, tries: &Tries| tries.outcome(check) == Decision::Open;
        checks.any(|(check, tries)| check.name == name && open(check, tries))
    };
    let stands = |result: &&SmokeTestResult| proves(result) && undecided(&result.check);
    on_record.iter().filter(stands).cloned().collect()
}

/// Longest time of one try: what the check allows, at most half of the reconcile's deadline.
pub fn timeout(cx: &Cx, check: &Check) -> Duration {
    check.timeout.get().min(cx.installation.timing.deadline / 2)
}

/// The notes for the status: one for each check, and what was proven by them.
pub fn notes(observed: &ObservedChecks, by: ProvedBy) -> Vec<Note> {
    let standing = observed.standing.iter().cloned();
    let standing = standing.map(|result| Note::SmokeTest(result, ProbeKind::Other));
    let checks = observed.checks.iter();
    let mut notes: Vec<Note> = checks
        .filter(|(check, _)| !is_standing(observed, check))
        .map(|(check, tries)| {
            let decisive = tries.decisive_try(check);
            let kind = decisive.map_or(ProbeKind::Other, |tried| tried.kind);
            Note::SmokeTest(result(check, tries, observed.stage), kind)
        })
        .chain(standing)
        .collect();
    let asleep = observed.look == Look::Asleep;
    if asleep {
        let why = "all machines are stopped by Fly.io's proxy until the next request; the last proof holds, and a recheck does not wake them";
        notes.push(Note::Remark(Why::new(Reason::Asleep, why)));
    }
    if observed.stage == Stage::Proven && !observed.checks.is_empty() {
        notes.push(Note::Proof(SmokeProof {
            by: match asleep {
                true => ProvedBy::EarlierProof,
                false => by,
            },
            at: observed.proven_at,
            summary: summary(observed),
        }));
    }
    notes
}

fn is_standing(observed: &ObservedChecks, check: &Check) -> bool {
    let mut standing = observed.standing.iter();
    standing.any(|result| result.check == check.name)
}

/// The checks that passed, each with its way.
fn summary(observed: &ObservedChecks) -> String {
    let lines = observed.checks.iter().map(|(check, tries)| {
        let way = tries.decisive_try(check).map(|tried| tried.path.as_str());
        way.map_or_else(
            || check.name.clone(),
            |way| format!("{} ({way})", check.name),
        )
    });
    one_line(&lines.collect::<Vec<_>>().join(", "), MAX_MESSAGE)
}

/// The verdict of all checks together: a failed one blocks, an undecided one waits. While the
/// application may still be starting, a failed one is awaited. `action` is what a person can do about
/// a failure.
pub fn verdict(action: &str, observed: &ObservedChecks) -> Verdict<Infallible> {
    let checks = &observed.checks;
    let decided = |wanted: Decision| {
        checks
            .iter()
            .filter(move |(check, tries)| tries.outcome(check) == wanted)
    };
    let describe = |(check, tries): &(Check, Tries)| match &tries.last {
        Some(last) => format!("{} ({}): {}", check.name, last.path, last.message),
        None => check.name.clone(),
    };
    if observed.look != Look::Try {
        return Verdict::Done;
    }
    // At the deadline, what is still not proven has failed, in the middle of a round or not.
    let late = observed.stage == Stage::Late;
    let last_failed = |tries: &Tries| tries.last.as_ref().is_some_and(|last| !last.passed);
    let is_failed = |(check, tries): &&(Check, Tries)| match tries.outcome(check) {
        Decision::Passed => false,
        Decision::Failed => true,
        Decision::Open => late && last_failed(tries),
    };
    let failed: Vec<&(Check, Tries)> = checks.iter().filter(is_failed).collect();
    let pause = checks
        .iter()
        .filter(|(check, tries)| tries.decision(check) != Decision::Passed)
        .map(|(check, tries)| tries.pause(check))
        .min();
    if !failed.is_empty() {
        let texts: Vec<String> = failed.iter().copied().map(describe).collect();
        let reason = reason_of(failed).unwrap_or(Reason::SmokeCheckFailed);
        let why = Why::new(reason, format!("{}; {action}", texts.join("; "))).said(action);
        return match (observed.stage, pause) {
            (Stage::Starting, Some(pause)) => Verdict::Wait {
                why,
                wake: Wake::After(pause),
            },
            _ => Verdict::Blocked(why),
        };
    }
    let Some(pause) = pause else {
        return Verdict::Done;
    };
    let open: Vec<&(Check, Tries)> = decided(Decision::Open)
        .filter(|(check, _)| !is_standing(observed, check))
        .collect();
    if open.is_empty() {
        // A check that passed before does not fail for a single failure: `failureLimit` decides.
        return Verdict::Holds(pause);
    }
    let mut texts: Vec<String> = open.iter().copied().map(describe).collect();
    let failing = open.into_iter().filter(|(_, tries)| last_failed(tries));
    let reason = reason_of(failing);
    // The deadline may come before the end of the round: then this stands as it is.
    texts.extend(reason.map(|_| action.to_owned()));
    Verdict::Wait {
        why: Why::new(
            reason.unwrap_or(Reason::SmokeCheckRunning),
            texts.join("; "),
        ),
        wake: Wake::After(pause),
    }
}

/// The reason of the first of these checks that has been tried.
fn reason_of<'a>(checks: impl IntoIterator<Item = &'a (Check, Tries)>) -> Option<Reason> {
    let mut tries = checks.into_iter().map(|(_, tries)| tries);
    tries.find_map(|tries| tries.last.as_ref().map(|last| last.reason))
}

/// The report on one check.
fn result(check: &Check, tries: &Tries, stage: Stage) -> SmokeTestResult {
    let decisive = tries.decisive_try(check);
    let why = |otherwise| decisive.map_or(otherwise, |tried| tried.reason);
    let (result, reason) = match tries.outcome(check) {
        Decision::Passed if decisive.is_some_and(|tried| !tried.proves) => {
            (CheckResult::Skipped, why(Reason::ObservationUnknown))
        }
        Decision::Passed => (CheckResult::Passed, why(Reason::Succeeded)),
        Decision::Failed if stage == Stage::Starting => {
            (CheckResult::Unknown, why(Reason::SmokeCheckFailed))
        }
        Decision::Failed => (CheckResult::Failed, why(Reason::SmokeCheckFailed)),
        Decision::Open => {
            let failing = decisive.filter(|tried| !tried.passed);
            let reason = failing.map_or(Reason::SmokeCheckRunning, |tried| tried.reason);
            match stage {
                Stage::Late if failing.is_some() => (CheckResult::Failed, reason),
                _ => (CheckResult::Unknown, reason),
            }
        }
    };
    SmokeTestResult {
        check: check.name.clone(),
        result,
        path: decisive.map(|tried| tried.path.clone()),
        reason: reason.to_string(),
        message: decisive.map_or_else(String::new, |tried| one_line(&tried.message, MAX_MESSAGE)),
        tries: tries.count,
        duration_ms: decisive.and_then(|tried| i64::try_from(tried.took.as_millis()).ok()),
        time: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Try, *};

    fn tried(check: &Check, results: &[bool]) -> (Check, Tries) {
        let mut tries = Tries::default();
        let mut now = Instant::now();
        for passed in results {
            now += Duration::from_secs(60);
            tries.begin(check, "stamp", now);
            let path = format!("http /{}", check.name);
            tries.add(
                if *passed {
                    Try::passed(path, "200 in 2 bytes".to_owned(), Duration::ZERO)
                } else {
                    Try::failed(path, Reason::SmokeCheckFailed, "answered 500".to_owned())
                },
                now,
            );
        }
        (check.clone(), tries)
    }

    fn proven(checks: Vec<(Check, Tries)>) -> ObservedChecks {
        ObservedChecks {
            checks,
            stage: Stage::Proven,
            ..ObservedChecks::default()
        }
    }

    fn named(name: &str) -> Check {
        Check {
            count: 3,
            failure_limit: 1,
            ..Check::named(name)
        }
    }

    #[test]
    fn all_failed_checks_are_named_with_evidence_and_next_action() {
        let observed = proven(vec![
            tried(&named("a"), &[false, false]),
            tried(&named("b"), &[true]),
            tried(&named("c"), &[false, false]),
        ]);
        let Verdict::Blocked(why) = verdict("correct it", &observed) else {
            unreachable!("two have failed");
        };
        assert_eq!(why.reason, Reason::SmokeCheckFailed);
        assert_eq!(
            why.message,
            "a (http /a): answered 500; c (http /c): answered 500; correct it"
        );
    }

    #[test]
    fn one_failed_try_of_a_passed_check_holds_and_is_repeated_soon() {
        let observed = proven(vec![
            tried(&named("a"), &[true, false]),
            tried(&named("b"), &[true]),
        ]);
        assert_eq!(
            verdict("correct it", &observed),
            Verdict::Holds(named("a").interval.get())
        );
        let report = result(&observed.checks[0].0, &observed.checks[0].1, observed.stage);
        assert_eq!(report.result, CheckResult::Passed);
        assert_eq!(report.message, "200 in 2 bytes", "of the decisive try");
    }

    #[test]
    fn what_may_still_be_starting_is_awaited_with_the_evidence_until_the_deadline() {
        let mut observed = proven(vec![tried(&named("a"), &[false, false])]);
        observed.stage = Stage::Starting;
        let Verdict::Wait { why, wake } = verdict("correct it", &observed) else {
            unreachable!("it may still be starting");
        };
        assert_eq!(why.reason, Reason::SmokeCheckFailed);
        assert_eq!(why.message, "a (http /a): answered 500; correct it");
        assert_eq!(wake, Wake::After(named("a").interval.get()));
        let report = |observed: &ObservedChecks| {
            let (check, tries) = &observed.checks[0];
            result(check, tries, observed.stage).result
        };
        assert_eq!(report(&observed), CheckResult::Unknown);
        observed.stage = Stage::Late;
        assert!(matches!(verdict("", &observed), Verdict::Blocked(_)));
        assert_eq!(report(&observed), CheckResult::Failed);
    }

    #[test]
    fn while_all_machines_sleep_the_last_proof_holds() {
        let mut observed = proven(vec![tried(&named("a"), &[true])]);
        observed.look = Look::Asleep;
        assert_eq!(verdict("", &observed), Verdict::Done);
        let notes = notes(&observed, ProvedBy::Edge);
        assert!(notes.iter().any(|note| note.remark().is_some()));
        let earlier =
            |note: &Note| matches!(note, Note::Proof(proof) if proof.by == ProvedBy::EarlierProof);
        assert!(notes.iter().any(earlier), "{notes:?}");
    }

    #[test]
    fn a_default_check_that_cannot_be_made_from_here_is_skipped_and_never_passed() {
        let (check, mut tries) = tried(&named("port-22"), &[]);
        tries.begin(&check, "stamp", Instant::now());
        let try_of = Try {
            proves: false,
            reason: Reason::ObservationUnknown,
            ..Try::passed("tcp 22".to_owned(), "no IPv6".to_owned(), Duration::ZERO)
        };
        tries.add(try_of, Instant::now());
        let report = result(&check, &tries, Stage::Starting);
        assert_eq!(report.result, CheckResult::Skipped);
    }

    #[test]
    fn before_the_first_decision_it_waits() {
        let observed = proven(vec![tried(&named("a"), &[false])]);
        assert!(matches!(
            verdict("correct it", &observed),
            Verdict::Wait { .. }
        ));
        let report = result(&observed.checks[0].0, &observed.checks[0].1, observed.stage);
        assert_eq!(report.result, CheckResult::Unknown);
    }

    #[test]
    fn after_a_restart_what_passed_before_stands_and_a_failure_on_record_is_no_proof() {
        let on_record = |result| SmokeTestResult {
            check: "a".to_owned(),
            result,
            ..SmokeTestResult::default()
        };
        // The first try of this process fails, within `failureLimit`.
        let told = |result| {
            let mut observed = proven(vec![tried(&named("a"), &[false])]);
            observed.standing = standing(&[on_record(result)], &observed.checks);
            verdict("", &observed)
        };
        assert!(matches!(told(CheckResult::Passed), Verdict::Holds(_)));
        for result in [
            CheckResult::Failed,
            CheckResult::Unknown,
            CheckResult::Warning,
        ] {
            assert!(matches!(told(result), Verdict::Wait { .. }), "{result:?}");
        }
        let decided = [tried(&named("a"), &[false, false])];
        let passed = [on_record(CheckResult::Passed)];
        assert!(
            standing(&passed, &decided).is_empty(),
            "this process has decided"
        );
    }

    #[test]
    fn no_check_is_done() {
        assert_eq!(
            verdict("correct it", &ObservedChecks::default()),
            Verdict::Done
        );
    }
}
