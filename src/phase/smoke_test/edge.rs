//! The checks that are requests to the public edge. All are made at the same time, and the tries of
//! one check are spread over passes: nothing waits here.

use std::{collections::BTreeMap, convert::Infallible, time::Instant};

use futures::future::join_all;
use jiff::Timestamp;

use super::{
    check,
    report::{self, ObservedChecks},
    tries::Tries,
};
use crate::{
    api::smoke_test::Check,
    error::Error,
    phase::{evidence, names::public_host},
    pipeline::{Cx, Note, Step, StepId, Verdict, step::Result},
    plan::Target,
};

/// Makes the requests.
pub struct EdgeChecks;

/// Fact: the tries of each check since it was last decided.
#[derive(Clone, Debug, Default)]
struct EdgeTries(BTreeMap<String, Tries>);

/// The checks that are requests.
fn requests(target: &Target) -> impl Iterator<Item = &Check> {
    target
        .smoke_checks
        .iter()
        .filter(|check| check.database.is_none())
}

/// Makes the next try of a check, if it is due. The error: this process cannot make requests.
async fn next_try(cx: &Cx, host: &str, check: &Check, tries: &mut Tries) -> Option<Error> {
    let now = Instant::now();
    tries.begin(check, cx.target.stamp(), now);
    if !tries.is_due(check, now) {
        return None;
    }
    let ways = check::ways(check);
    match check::attempt(&cx.probe, host, &ways, report::timeout(cx, check)).await {
        Ok(tried) => {
            tries.add(tried, Instant::now());
            None
        }
        Err(error) => Some(error),
    }
}

/// Adds the evidence about the machines to the tries that the edge answered with an error of its own.
async fn explain(cx: &Cx, checks: &mut [(Check, Tries)]) {
    if checks.iter().any(|(_, tries)| tries.is_unexplained())
        && let Some(why) = evidence::edge::why(cx).await
    {
        for (_, tries) in checks {
            tries.explain(&why);
        }
    }
}

impl Step for EdgeChecks {
    type Observed = ObservedChecks;
    type Change = Infallible;

    fn id(&self) -> StepId {
        StepId::EdgeChecks
    }

    fn reads(&self) -> u32 {
        0
    }

    async fn observe(&self, cx: &Cx) -> Result<ObservedChecks> {
        let before = cx.facts.get::<EdgeTries>().unwrap_or_default();
        let host = public_host(&cx.target.app);
        let runs = requests(&cx.target).map(|check| {
            let host = &host;
            let mut tries = before.0.get(&check.name).cloned().unwrap_or_default();
            async move {
                let error = next_try(cx, host, check, &mut tries).await;
                ((check.clone(), tries), error)
            }
        });
        let (mut checks, errors): (Vec<(Check, Tries)>, Vec<_>) =
            join_all(runs).await.into_iter().unzip();
        explain(cx, &mut checks).await;
        let observed = ObservedChecks(checks);
        cx.facts.set(EdgeTries(observed.by_name()));
        match errors.into_iter().flatten().next() {
            Some(error) => Err(error),
            None => Ok(observed),
        }
    }

    fn diff(
        &self,
        target: &Target,
        observed: &ObservedChecks,
        _now: Timestamp,
    ) -> Verdict<Infallible> {
        let action = format!(
            "request it yourself at https://{}, and correct the application or the check; Golive retries",
            public_host(&target.app)
        );
        report::verdict(&action, observed)
    }

    fn notes(&self, _target: &Target, observed: &ObservedChecks) -> Vec<Note> {
        report::notes(observed)
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}
