//! What the tries of the checks mean for the step and for the status. Pure.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use super::tries::{Decision, Tries};
use crate::{
    api::{
        Reason,
        smoke_test::Check,
        status::one_line,
        status::{CheckResult, MAX_MESSAGE, SmokeTestResult},
    },
    pipeline::{Cx, Note, ProbeKind, Verdict, Wake, Why},
};

/// The checks of a step, each with its tries since it was last decided.
#[derive(Clone, Debug, Default)]
pub struct ObservedChecks(pub Vec<(Check, Tries)>);

impl ObservedChecks {
    /// The tries by the name of their check.
    pub fn by_name(&self) -> BTreeMap<String, Tries> {
        self.0
            .iter()
            .map(|(check, tries)| (check.name.clone(), tries.clone()))
            .collect()
    }
}

/// Longest time of one try: what the check allows, at most half of the reconcile's deadline.
pub fn timeout(cx: &Cx, check: &Check) -> Duration {
    check.timeout.get().min(cx.installation.timing.deadline / 2)
}

/// The notes for the status, one for each check.
pub fn notes(observed: &ObservedChecks) -> Vec<Note> {
    observed
        .0
        .iter()
        .map(|(check, tries)| {
            let decisive = tries.decisive_try(check);
            let kind = decisive.map_or(ProbeKind::Other, |tried| tried.kind);
            Note::SmokeTest(result(check, tries), kind)
        })
        .collect()
}

/// The verdict of all checks together: a failed one blocks, an undecided one waits. `action` is
/// what a person can do about a failure.
pub fn verdict(action: &str, observed: &ObservedChecks) -> Verdict<Infallible> {
    let checks = &observed.0;
    let decided = |wanted: Decision| {
        checks
            .iter()
            .filter(move |(check, tries)| tries.outcome(check) == wanted)
    };
    let describe = |(check, tries): &(Check, Tries)| match &tries.last {
        Some(last) => format!("{} ({}): {}", check.name, last.path, last.message),
        None => check.name.clone(),
    };
    let failed: Vec<String> = decided(Decision::Failed).map(describe).collect();
    if !failed.is_empty() {
        let reason = decided(Decision::Failed)
            .find_map(|(_, tries)| tries.last.as_ref().map(|last| last.reason))
            .unwrap_or(Reason::SmokeCheckFailed);
        let message = format!("{}; {action}", failed.join("; "));
        return Verdict::Blocked(Why::new(reason, message));
    }
    let pause = checks
        .iter()
        .filter(|(check, tries)| tries.decision(check) == Decision::Open)
        .map(|(check, _)| check.interval.get())
        .min();
    let Some(pause) = pause else {
        return Verdict::Done;
    };
    let open: Vec<String> = decided(Decision::Open).map(describe).collect();
    if open.is_empty() {
        // A check that passed before does not fail for a single failure: `failureLimit` decides.
        return Verdict::Holds(pause);
    }
    Verdict::Wait {
        why: Why::new(Reason::SmokeCheckRunning, open.join("; ")),
        wake: Wake::After(pause),
    }
}

/// The report on one check.
fn result(check: &Check, tries: &Tries) -> SmokeTestResult {
    let decisive = tries.decisive_try(check);
    let why = |otherwise| decisive.map_or(otherwise, |tried| tried.reason);
    let (result, reason) = match tries.outcome(check) {
        Decision::Passed => (CheckResult::Passed, why(Reason::Succeeded)),
        Decision::Failed => (CheckResult::Failed, why(Reason::SmokeCheckFailed)),
        Decision::Open => (CheckResult::Unknown, Reason::SmokeCheckRunning),
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
    use std::time::Instant;

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

    fn named(name: &str) -> Check {
        Check {
            count: 3,
            failure_limit: 1,
            ..Check::named(name)
        }
    }

    #[test]
    fn all_failed_checks_are_named_with_evidence_and_next_action() {
        let observed = ObservedChecks(vec![
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
        let observed = ObservedChecks(vec![
            tried(&named("a"), &[true, false]),
            tried(&named("b"), &[true]),
        ]);
        assert_eq!(
            verdict("correct it", &observed),
            Verdict::Holds(named("a").interval.get())
        );
        let report = result(&observed.0[0].0, &observed.0[0].1);
        assert_eq!(report.result, CheckResult::Passed);
        assert_eq!(report.message, "200 in 2 bytes", "of the decisive try");
    }

    #[test]
    fn before_the_first_decision_it_waits() {
        let observed = ObservedChecks(vec![tried(&named("a"), &[false])]);
        assert!(matches!(
            verdict("correct it", &observed),
            Verdict::Wait { .. }
        ));
        let report = result(&observed.0[0].0, &observed.0[0].1);
        assert_eq!(report.result, CheckResult::Unknown);
    }

    #[test]
    fn no_check_is_done() {
        assert_eq!(
            verdict("correct it", &ObservedChecks(Vec::new())),
            Verdict::Done
        );
    }
}
