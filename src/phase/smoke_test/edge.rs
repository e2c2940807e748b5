//! The checks from the public edge, all at once. Tries are spread over passes: nothing waits here.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::Timestamp;

use super::{
    check,
    tries::{Decision, Tries},
};
use crate::{
    api::{
        Reason,
        smoke_test::Check,
        status::{CheckResult, MAX_MESSAGE, SmokeTestResult, one_line},
    },
    pipeline::{Cx, Note, Step, StepId, Verdict, Wake, Why, step::Result},
    plan::Target,
};

/// All checks that are requests from outside.
pub struct EdgeChecks;

/// The tries of each check since it was last decided.
pub type AllTries = BTreeMap<String, Tries>;

/// How each check stands.
#[derive(Debug)]
pub struct Observed(pub Vec<(Check, Tries)>);

/// The checks that are requests.
fn requests(target: &Target) -> impl Iterator<Item = &Check> {
    target
        .smoke_checks
        .iter()
        .filter(|check| check.database.is_none())
}

/// The public host of the app.
pub fn host(target: &Target) -> String {
    format!("{}.fly.dev", target.app)
}

impl Step for EdgeChecks {
    type Observed = Observed;
    type Change = Infallible;

    fn id(&self) -> StepId {
        StepId::EdgeChecks
    }

    fn reads(&self) -> u32 {
        0
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let before: Arc<AllTries> = cx.facts.smoke_tries.get().unwrap_or_default();
        let host = host(&cx.target);
        let now = Instant::now();
        let runs = requests(&cx.target).map(|check| {
            let host = &host;
            let mut tries = before.get(&check.name).cloned().unwrap_or_default();
            async move {
                tries.begin(check, cx.target.stamp(), now);
                let mut unknown = None;
                if tries.due(check, now) {
                    let ways = check::ways(check);
                    match check::attempt(&cx.probe, host, &ways, timeout(cx, check)).await {
                        Ok(tried) => tries.took(tried, Instant::now()),
                        Err(error) => unknown = Some(error),
                    }
                }
                ((check.clone(), tries), unknown)
            }
        });
        let (seen, unknown): (Vec<(Check, Tries)>, Vec<_>) =
            join_all(runs).await.into_iter().unzip();
        cx.facts.smoke_tries.set(by_name(&seen));
        match unknown.into_iter().flatten().next() {
            Some(error) => Err(error),
            None => Ok(Observed(seen)),
        }
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Infallible> {
        let action = format!(
            "request it yourself at https://{}, mend the application or the check, and it is tried again by itself",
            host(target)
        );
        verdict(&action, &observed.0)
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        notes(observed)
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}

/// Longest time of one try: what the check allows, and never more than half of a reconcile.
pub fn timeout(cx: &Cx, check: &Check) -> Duration {
    check.timeout.get().min(cx.installation.timing.deadline / 2)
}

/// The tries by name, to be kept for the next look.
pub fn by_name(seen: &[(Check, Tries)]) -> AllTries {
    seen.iter()
        .map(|(check, tries)| (check.name.clone(), tries.clone()))
        .collect()
}

/// What the status tells of each check.
pub fn notes(observed: &Observed) -> Vec<Note> {
    observed
        .0
        .iter()
        .map(|(check, tries)| Note::SmokeTest(result(check, tries)))
        .collect()
}

/// What the checks together mean: one that stands failed stops, one that is undecided waits.
/// `action` is what a person can do about a failure.
pub fn verdict(action: &str, seen: &[(Check, Tries)]) -> Verdict<Infallible> {
    let standing = |wanted: Decision| {
        seen.iter()
            .filter(move |(check, tries)| tries.standing(check) == wanted)
    };
    let told = |(check, tries): &(Check, Tries)| match &tries.last {
        Some(last) => format!("{} ({}): {}", check.name, last.path, last.message),
        None => check.name.clone(),
    };
    let failed: Vec<String> = standing(Decision::Failed).map(told).collect();
    if !failed.is_empty() {
        let reason = standing(Decision::Failed)
            .find_map(|(_, tries)| tries.last.as_ref().map(|last| last.reason))
            .unwrap_or(Reason::SmokeCheckFailed);
        let message = format!("{}; {action}", failed.join("; "));
        return Verdict::Blocked(Why::new(reason, message));
    }
    let pause = seen
        .iter()
        .filter(|(check, tries)| tries.decision(check) == Decision::Open)
        .map(|(check, _)| check.interval.get())
        .min();
    let Some(pause) = pause else {
        return Verdict::Done;
    };
    let open: Vec<String> = standing(Decision::Open).map(told).collect();
    if open.is_empty() {
        // What passed before is not down for a single failure: `failureLimit` decides.
        return Verdict::Holds(pause);
    }
    Verdict::Wait {
        why: Why::new(Reason::SmokeCheckRunning, open.join("; ")),
        wake: Wake::After(pause),
    }
}

/// The report on one check.
pub fn result(check: &Check, tries: &Tries) -> SmokeTestResult {
    let telling = tries.telling(check);
    let why = |otherwise| telling.map_or(otherwise, |tried| tried.reason);
    let (result, reason) = match tries.standing(check) {
        Decision::Passed => (CheckResult::Passed, why(Reason::Succeeded)),
        Decision::Failed => (CheckResult::Failed, why(Reason::SmokeCheckFailed)),
        Decision::Open => (CheckResult::Unknown, Reason::SmokeCheckRunning),
    };
    SmokeTestResult {
        check: check.name.clone(),
        result,
        path: telling.map(|tried| tried.path.clone()),
        reason: reason.to_string(),
        message: telling.map_or_else(String::new, |tried| one_line(&tried.message, MAX_MESSAGE)),
        tries: tries.count,
        duration_ms: telling.and_then(|tried| i64::try_from(tried.took.as_millis()).ok()),
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
            tries.took(
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
    fn all_failing_checks_are_named_with_what_was_found_and_what_to_do() {
        let seen = [
            tried(&named("a"), &[false, false]),
            tried(&named("b"), &[true]),
            tried(&named("c"), &[false, false]),
        ];
        let Verdict::Blocked(why) = verdict("mend it", &seen) else {
            unreachable!("two have failed");
        };
        assert_eq!(why.reason, Reason::SmokeCheckFailed);
        assert_eq!(
            why.message,
            "a (http /a): answered 500; c (http /c): answered 500; mend it"
        );
    }

    #[test]
    fn one_failing_look_of_what_passed_holds_and_is_looked_at_again_soon() {
        let seen = [
            tried(&named("a"), &[true, false]),
            tried(&named("b"), &[true]),
        ];
        assert_eq!(
            verdict("mend it", &seen),
            Verdict::Holds(named("a").interval.get())
        );
        let told = result(&seen[0].0, &seen[0].1);
        assert_eq!(told.result, CheckResult::Passed);
        assert_eq!(told.message, "200 in 2 bytes", "of the look that counts");
    }

    #[test]
    fn before_the_first_decision_it_waits() {
        let seen = [tried(&named("a"), &[false])];
        assert!(matches!(verdict("mend it", &seen), Verdict::Wait { .. }));
        let told = result(&seen[0].0, &seen[0].1);
        assert_eq!(told.result, CheckResult::Unknown);
    }

    #[test]
    fn nothing_to_request_is_done() {
        assert_eq!(verdict("mend it", &[]), Verdict::Done);
    }
}
