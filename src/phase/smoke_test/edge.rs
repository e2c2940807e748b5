//! The checks that are requests to the public edge. All are made at the same time, and the tries of
//! one check are spread over passes: nothing waits here.

use std::{convert::Infallible, time::Instant};

use futures::future::join_all;
use jiff::Timestamp;

use super::{
    check::{self, Try},
    look::{self, Look},
    memory::Memory,
    question,
    report::{self, ObservedChecks, verified},
    tries::Tries,
};
use crate::{
    api::{Reason, smoke_test::Check},
    error::Error,
    phase::{
        evidence,
        names::{ADDRESS, public_host},
    },
    pipeline::{
        Cx, Note, PlannedChange, ProvedBy, Step, StepId, Verdict, Why, facts::Facts, step::Result,
    },
    plan::{Expects, SmokeCheck, Target},
};

/// Makes the requests.
pub struct EdgeChecks;

/// Fact: what was found for the present plan.
#[derive(Clone, Debug, Default)]
struct EdgeMemory(Memory);

/// Forgets the tries so far: they were made of other machines.
pub fn forget_tries(facts: &Facts) {
    if facts.get::<EdgeMemory>().is_some() {
        facts.change_or_default::<EdgeMemory>(|memory| memory.0.tries.clear());
    }
}

/// The checks that are requests.
fn requests(target: &Target) -> impl Iterator<Item = &SmokeCheck> {
    let checks = target.proof.checks.iter();
    checks.filter(|smoke| smoke.check.database.is_none())
}

/// Makes the next try of a check, if it is due. One that takes long is counted when it has ended. The
/// error: this process cannot make requests.
async fn next_try(cx: &Cx, host: &str, smoke: &SmokeCheck, tries: &mut Tries) -> Option<Error> {
    let now = Instant::now();
    let check = &smoke.check;
    tries.begin(check, cx.target.stamp(), now);
    if !tries.is_due(check, now) {
        return None;
    }
    let (probe, host, smoke) = (cx.probe.clone(), host.to_owned(), smoke.clone());
    let timeout = report::timeout(cx, check);
    let attempt = || async move {
        let questions = question::questions(&smoke);
        check::attempt(&probe, &host, &questions, timeout).await
    };
    match cx
        .outside
        .ask(&check.name, cx.target.stamp(), attempt)
        .await?
    {
        Ok(tried) => {
            tries.add(explained(tried, has_no_address(cx)), Instant::now());
            None
        }
        Err(error) => Some(error),
    }
}

/// Whether the spec asks for no public address, and none is known.
fn has_no_address(cx: &Cx) -> bool {
    let wanted = &cx.target.provision.addresses;
    if wanted.v4 || wanted.v6 || wanted.shared_v4 {
        return false;
    }
    let known = cx.recorded.external.iter();
    known.filter(|object| object.kind == ADDRESS).count() == 0
}

/// A try that did not reach the application fails for the reason that is known: without an address
/// there is nothing that a name, a connection or a certificate could belong to.
fn explained(tried: Try, no_address: bool) -> Try {
    if tried.passed || !tried.no_connection || !no_address {
        return tried;
    }
    Try {
        reason: Reason::AddressesInsufficient,
        message: "the app has no public address, so nothing can reach it from outside".to_owned(),
        ..tried
    }
}

/// What a person can do about a failure.
fn action(target: &Target, observed: &ObservedChecks) -> String {
    let app = &target.app;
    let host = public_host(app);
    let tries = observed.checks.iter().map(|(_, tries)| tries);
    let mut reasons = tries.filter_map(|tries| tries.last.as_ref().map(|last| last.reason));
    if !target.proof.runs {
        return "the spec asks for no machine: set `deploy.scale`, or `smokeTest: {checks: []}`"
            .to_owned();
    }
    if reasons.any(|reason| reason == Reason::AddressesInsufficient) {
        return "set `provision.addresses.sharedV4` to true, or `smokeTest: {checks: []}` for an application that is only reached privately".to_owned();
    }
    if requests(target).any(|smoke| smoke.expects != Expects::Declared) {
        return format!(
            "look at https://{host} and `fly logs -a {app}`, and correct the application, or write checks of your own in `spec.smokeTest.checks`; Golive retries"
        );
    }
    format!(
        "request it yourself at https://{host}, and correct the application or `spec.smokeTest.checks`; Golive retries"
    )
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

    /// The machines, if it needs them, were listed by Deploy in the same pass.
    fn reads(&self) -> u32 {
        0
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        verified(requests(&cx.target))
    }

    async fn observe(&self, cx: &Cx) -> Result<ObservedChecks> {
        let before = cx.facts.get::<EdgeMemory>();
        let mut memory = Memory::of(cx, before.map(|before| before.0.clone()));
        let mut names: Vec<&str> = requests(&cx.target)
            .map(|smoke| smoke.check.name.as_str())
            .collect();
        let mut begun = names.iter();
        // A try that was begun is counted.
        let begun = begun.any(|name| cx.outside.awaits(StepId::EdgeChecks, name));
        let look = match begun || names.is_empty() {
            true => Look::Try,
            false => look::decide(cx, &memory).await?,
        };
        names.push(evidence::edge::QUESTION);
        cx.outside.keep_only(StepId::EdgeChecks, &names);
        let host = public_host(&cx.target.app);
        let runs = requests(&cx.target).map(|smoke| {
            let (host, name) = (&host, &smoke.check.name);
            let mut tries = memory.tries.get(name).cloned().unwrap_or_default();
            async move {
                let error = match look {
                    Look::Try => next_try(cx, host, smoke, &mut tries).await,
                    Look::Asleep | Look::NotDue => None,
                };
                ((smoke.check.clone(), tries), error)
            }
        });
        let (mut checks, errors): (Vec<(Check, Tries)>, Vec<_>) =
            join_all(runs).await.into_iter().unzip();
        explain(cx, &mut checks).await;
        if look == Look::Try {
            memory.look(cx);
        }
        let observed = ObservedChecks::of(cx, checks, look, &mut memory);
        memory.tries = observed.by_name();
        cx.facts.set(EdgeMemory(memory));
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
        if requests(target).next().is_none() {
            let why = "no check is made from outside";
            return Verdict::Skipped(Why::new(Reason::NotRequested, why));
        }
        match report::verdict(&action(target, observed), observed) {
            // Until the next proof; a pass before that finds it not due.
            Verdict::Done => match observed.due {
                Some(due) if !observed.checks.is_empty() => Verdict::Holds(due),
                _ => Verdict::Done,
            },
            other => other,
        }
    }

    fn notes(&self, _target: &Target, observed: &ObservedChecks) -> Vec<Note> {
        report::notes(observed, ProvedBy::Edge)
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::phase::testing::target;

    #[test]
    fn without_an_address_a_failed_connection_is_told_as_that() {
        let failed = |no_connection| Try {
            no_connection,
            ..Try::failed(
                "http /".to_owned(),
                Reason::TlsFailed,
                "TLS fails".to_owned(),
            )
        };
        let told = explained(failed(true), true);
        assert_eq!(told.reason, Reason::AddressesInsufficient);
        assert!(told.message.contains("no public address"), "{told:?}");
        assert_eq!(explained(failed(true), false).reason, Reason::TlsFailed);
        assert_eq!(explained(failed(false), true).reason, Reason::TlsFailed);
        let passed = Try::passed("http /".to_owned(), "200".to_owned(), Duration::ZERO);
        assert_eq!(explained(passed.clone(), true), passed);
    }

    #[test]
    fn what_to_do_about_a_failure_fits_its_cause() {
        let told = |spec: &str| action(&target(spec, &[]), &ObservedChecks::default());
        assert!(told("").contains("`spec.smokeTest.checks`"), "{}", told(""));
        let declared = told("smokeTest: {checks: [{name: up, http: {path: /up}}]}");
        assert!(declared.contains("request it yourself"), "{declared}");
        let none =
            "deploy: {scale: {app: 0}}\nsmokeTest: {checks: [{name: up, http: {path: /up}}]}";
        assert!(told(none).contains("no machine"), "{}", told(none));
    }
}
