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
    check::{self, Try},
    tries::{Decision, Tries},
};
use crate::{
    api::{
        Reason,
        smoke_test::Check,
        status::{CheckResult, SmokeTestResult},
    },
    phase::{Cx, Note, Step, StepId, Verdict, Wake, Why, step::Result},
    target::Target,
};

/// All checks that are requests from outside.
pub struct EdgeChecks;

/// Name of the step.
pub const ID: StepId = "EdgeChecks";

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
        ID
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
                if tries.due(check, now) {
                    let ways = check::ways(check);
                    let tried = check::attempt(&cx.probe, host, &ways, check.timeout.get()).await;
                    tries.took(tried, Instant::now());
                }
                (check.clone(), tries)
            }
        });
        let seen: Vec<(Check, Tries)> = join_all(runs).await;
        cx.facts.smoke_tries.set(
            seen.iter()
                .map(|(check, tries)| (check.name.clone(), tries.clone()))
                .collect(),
        );
        Ok(Observed(seen))
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Infallible> {
        verdict(&host(target), &observed.0)
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        observed
            .0
            .iter()
            .map(|(check, tries)| Note::SmokeTest(result(check, tries)))
            .collect()
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}

/// What the checks together mean: one that failed for good stops, one that is undecided waits.
pub fn verdict(host: &str, seen: &[(Check, Tries)]) -> Verdict<Infallible> {
    let failed: Vec<String> = seen
        .iter()
        .filter(|(check, tries)| tries.decision(check) == Decision::Failed)
        .filter_map(|(check, tries)| {
            let last = tries.last.as_ref()?;
            Some(format!("{} ({}): {}", check.name, last.path, last.message))
        })
        .collect();
    if !failed.is_empty() {
        let reason = seen
            .iter()
            .filter(|(check, tries)| tries.decision(check) == Decision::Failed)
            .find_map(|(_, tries)| tries.last.as_ref().map(|last| last.reason))
            .unwrap_or(Reason::SmokeCheckFailed);
        return Verdict::Blocked(Why::new(
            reason,
            format!(
                "{}; request it yourself at https://{host}, mend the application or the check, and it is tried again by itself",
                failed.join("; ")
            ),
        ));
    }
    let open: Vec<&(Check, Tries)> = seen
        .iter()
        .filter(|(check, tries)| tries.decision(check) == Decision::Open)
        .collect();
    if open.is_empty() {
        return Verdict::Done;
    }
    let names: Vec<String> = open
        .iter()
        .map(|(check, tries)| match &tries.last {
            Some(last) => format!("{}: {}", check.name, last.message),
            None => check.name.clone(),
        })
        .collect();
    let pause = open
        .iter()
        .map(|(check, _)| check.interval.get())
        .min()
        .unwrap_or(Duration::from_secs(1));
    if open.iter().all(|(_, tries)| tries.held) {
        // What passed before is not down for a single failure: `failureLimit` decides.
        return Verdict::Holds(pause);
    }
    Verdict::Wait {
        why: Why::new(Reason::SmokeCheckRunning, names.join("; ")),
        wake: Wake::After(pause),
    }
}

/// The report on one check.
pub fn result(check: &Check, tries: &Tries) -> SmokeTestResult {
    let (result, reason) = match tries.decision(check) {
        Decision::Passed => (CheckResult::Passed, Reason::Succeeded),
        Decision::Failed => (
            CheckResult::Failed,
            tries
                .last
                .as_ref()
                .map_or(Reason::SmokeCheckFailed, |last| last.reason),
        ),
        Decision::Open if tries.held => (CheckResult::Passed, Reason::Succeeded),
        Decision::Open => (CheckResult::Unknown, Reason::SmokeCheckRunning),
    };
    let last: Option<&Try> = tries.last.as_ref();
    SmokeTestResult {
        check: check.name.clone(),
        result,
        path: last.map(|last| last.path.clone()),
        reason: reason.to_string(),
        message: last.map(|last| last.message.clone()).unwrap_or_default(),
        tries: tries.count,
        duration_ms: last.and_then(|last| i64::try_from(last.took.as_millis()).ok()),
        time: None,
    }
}
