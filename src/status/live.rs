//! The condition `Live`: whether the site answers. It is about the release that serves, whatever
//! becomes of the spec: a wrong image in the spec, a gate that waits or a plan takes nothing from it.

use super::{PassResult, Runs, pass_result::Liveness, setter::Setter};
use crate::{
    api::{
        PhaseName, Reason,
        condition::{self, ConditionStatus, ConditionType},
        status::{CheckResult, MAX_MESSAGE, RollbackState, RollbackStatus, one_line},
    },
    pipeline::{
        Note, State, StepRecord,
        report::{PhaseProgress, PhaseReport, Report},
    },
    plan::ServingRelease,
};

use ConditionStatus::{False, True, Unknown};

/// What the checks of a release say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// All passed.
    Answers,
    /// One was carried out and failed.
    Fails(Reason, String),
    /// Not decided, or not to be decided from here.
    Open,
}

/// What the checks of this phase say. Pure.
pub fn proof(phase: &PhaseReport) -> Proof {
    if phase.progress == PhaseProgress::Succeeded {
        return Proof::Answers;
    }
    let failed_check = |note: &Note| match note {
        Note::SmokeTest(result, _) => result.result == CheckResult::Failed,
        _ => false,
    };
    let failed = |record: &&StepRecord| {
        record.state == State::Blocked && record.notes.iter().any(failed_check)
    };
    let mut records = phase.steps.iter().map(|(_, record)| record);
    match records.find(failed) {
        Some(record) => Proof::Fails(record.reason, record.message.clone()),
        None => Proof::Open,
    }
}

/// Sets the condition, after `Ready`.
pub fn set(to: &mut Setter<'_>, result: &PassResult<'_>, liveness: &Liveness) {
    let (status, reason, message) = decide(to, result, liveness);
    to.set(ConditionType::Live, status, reason, &message);
}

fn decide(
    to: &Setter<'_>,
    result: &PassResult<'_>,
    liveness: &Liveness,
) -> (ConditionStatus, Reason, String) {
    let place = place(to, result);
    let site = result.site.as_ref();
    let release = site.map(|site| &site.release).or(result.serving.as_ref());
    let name = name_of(release);
    let serves = release.map_or_else(String::new, |release| {
        let restored = to.status.rollback.as_ref();
        format!(": {}", serves(release, restored))
    });
    if result.unproven && to.status.go_live.is_some() {
        return (Unknown, Reason::ObservationUnknown, not_checked(&name));
    }
    let report = result.report;
    let of_release = site.map(|site| &site.report).or(report);
    let crashes = of_release
        .and_then(crash_loop)
        .map_or_else(String::new, |record| {
            format!("; {}", one_line(&record.message, MAX_MESSAGE / 2))
        });
    if liveness.live {
        return (True, Reason::GoLive, format!("{place}{serves}{crashes}"));
    }
    let report = result.report.filter(|_| to.status.go_live.is_some());
    let phases = site.map(|site| &site.report).or(report);
    let smoke_test = phases.and_then(|report| report.phase(PhaseName::SmokeTest));
    // Of the spec's own checks only those count that were made in this pass.
    let made =
        smoke_test.filter(|phase| site.is_some() || phase.progress != PhaseProgress::Pending);
    let machines = site.map_or(Runs::Serving, |site| site.machines);
    match made.map_or(Proof::Open, proof) {
        // The checks say nothing of a release that no machine runs.
        Proof::Answers if machines == Runs::Replacing => as_before(to),
        Proof::Answers | Proof::Open if machines == Runs::Gone => not_proven_anew(to, &name),
        Proof::Answers if machines == Runs::Another => {
            (Unknown, Reason::ReleaseReplaced, replaced(&name))
        }
        Proof::Answers => (
            True,
            Reason::GoLive,
            format!("{place}{serves}; `Ready` says what keeps the spec from going live{crashes}"),
        ),
        Proof::Fails(reason, message) if machines == Runs::Another => (
            False,
            reason,
            format!("the site fails its checks: {message}; {}", replaced(&name)),
        ),
        Proof::Fails(reason, message) if machines == Runs::Gone => (
            False,
            reason,
            format!("the site fails its checks: {message}; {}", gone(&name)),
        ),
        Proof::Fails(reason, message) if machines == Runs::Replacing => (
            False,
            reason,
            format!(
                "the site fails its checks: {message}; no machine runs {name} any more: it is being replaced"
            ),
        ),
        Proof::Fails(reason, message) => {
            (False, reason, format!("{name} fails its checks: {message}"))
        }
        Proof::Open if machines == Runs::Another => not_checked_yet(to, &name),
        Proof::Open => as_before(to),
    }
}

/// That nothing is left of what was proven.
fn gone(name: &str) -> String {
    format!("no machine of {name} is left, so nothing of what was proven is there any more")
}

/// The machines that were proven are gone, and no check of others is decided yet: what was known to be broken stays
/// so, and nothing else is known.
fn not_proven_anew(to: &Setter<'_>, name: &str) -> (ConditionStatus, Reason, String) {
    let before = as_before(to);
    if before.0 == False {
        return before;
    }
    let message = format!(
        "{}; Golive checks whether the site answers once its machines are there again",
        gone(name)
    );
    (Unknown, Reason::ObservationUnknown, message)
}

/// That a failed release is in the place of the one that passed its checks last.
fn replaced(name: &str) -> String {
    format!(
        "no machine runs {name}, which passed its checks last: a release that failed was left in its place"
    )
}

/// The step that has found a machine whose program exits again and again.
pub fn crash_loop(report: &Report) -> Option<&StepRecord> {
    let mut records = report.steps().map(|(_, record)| record);
    records.find(|record| record.reason == Reason::CrashLooping)
}

/// A release that failed was left in the place of the one that was proven, and no check is decided yet:
/// what was known to be broken stays so, and nothing else is known.
fn not_checked_yet(to: &Setter<'_>, name: &str) -> (ConditionStatus, Reason, String) {
    let before = as_before(to);
    if before.0 == False {
        return before;
    }
    let replaced = replaced(name);
    let message = format!("{replaced}, and whether the site answers is being checked");
    (Unknown, Reason::ReleaseReplaced, message)
}

/// Sets the condition of a suspended object: nobody looks at the site, so what was known of it does not
/// hold for ever.
pub fn while_suspended(to: &mut Setter<'_>, result: &PassResult<'_>) {
    if !result.unproven || to.status.go_live.is_none() {
        return;
    }
    let release = result.serving.as_ref();
    let name = name_of(release);
    let message = format!(
        "{name} is not checked while the activation is suspended, so it is not known whether the site answers"
    );
    to.set(ConditionType::Live, Unknown, Reason::Suspended, &message);
}

/// Sets the condition of what was not proven for longer than a few re-checks, because passes fail.
pub fn set_unproven(to: &mut Setter<'_>, result: &PassResult<'_>) {
    let release = result.serving.as_ref();
    let name = name_of(release);
    let message = not_checked(&name);
    to.set(
        ConditionType::Live,
        Unknown,
        Reason::ObservationUnknown,
        &message,
    );
}

fn not_checked(name: &str) -> String {
    format!("{name} could not be checked lately, so it is not known whether the site answers")
}

/// Where the application is live; or, where nothing can be reached from outside, by what.
pub fn place(to: &Setter<'_>, result: &PassResult<'_>) -> String {
    let wanted = result.wanted;
    let machines = wanted.and_then(|target| target.proof.machines.as_ref());
    match (&to.status.url, machines) {
        (Some(url), _) => format!("live at {url}"),
        (None, Some(machines)) => format!("live: {}", machines.why),
        (None, None) => "live".to_owned(),
    }
}

/// No news of the site: what was known stays. Before the first Go-Live nothing is known, and `Ready`
/// says what is under way.
fn as_before(to: &Setter<'_>) -> (ConditionStatus, Reason, String) {
    let conditions = &to.status.conditions;
    let known = condition::find(conditions, ConditionType::Live);
    let known = known.filter(|_| to.status.go_live.is_some());
    if known.is_some_and(|known| known.reason == Reason::Suspended.as_str()) {
        let message = "the site was not checked yet after the suspension";
        return (Unknown, Reason::ObservationUnknown, message.to_owned());
    }
    if let Some(known) = known {
        return (
            ConditionStatus::parse(&known.status).unwrap_or_default(),
            Reason::parse(&known.reason).unwrap_or_default(),
            known.message.clone(),
        );
    }
    match condition::find(conditions, ConditionType::Ready) {
        Some(ready) => (
            Unknown,
            Reason::parse(&ready.reason).unwrap_or_default(),
            ready.message.clone(),
        ),
        None => (Unknown, Reason::Pending, "not observed yet".to_owned()),
    }
}

/// That a release serves, and since when. Of one that a request restored it is on record when the request was accepted,
/// and not when its machines ran again.
fn serves(release: &ServingRelease, rollback: Option<&RollbackStatus>) -> String {
    let number = release.number.and_then(|number| i64::try_from(number).ok());
    let restored = rollback
        .filter(|rollback| rollback.state == RollbackState::Accepted && rollback.to == number)
        .and_then(|rollback| rollback.time.as_ref())
        .map(|time| time.0)
        .filter(|restored| release.since.is_none_or(|since| *restored > since));
    let name = named(release);
    match (restored, release.since) {
        (Some(asked), _) => format!("{name} serves again, as was requested at {asked}"),
        (None, Some(since)) => format!("{name} serves since {since}"),
        (None, None) => format!("{name} serves"),
    }
}

/// The release for people, as far as it is known which one serves.
fn name_of(release: Option<&ServingRelease>) -> String {
    release.map_or_else(|| "the site".to_owned(), named)
}

/// A release for people.
fn named(release: &ServingRelease) -> String {
    let version = || {
        release
            .version
            .and_then(|version| u64::try_from(version).ok())
    };
    match release.number.or_else(version) {
        Some(number) => format!("release {number} ({})", release.image),
        None => release.image.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use jiff::Timestamp;
    use serde_json::json;

    use super::super::Site;
    use super::*;
    use crate::{
        api::{ActivationStatus, StepId, status::SmokeTestResult},
        pipeline::ProbeKind,
        plan::{Invalid, Target, testing::target},
    };

    fn check(result: CheckResult) -> Note {
        let result = SmokeTestResult {
            check: "homepage".to_owned(),
            result,
            ..SmokeTestResult::default()
        };
        Note::SmokeTest(result, ProbeKind::Http)
    }

    fn checks(progress: PhaseProgress, state: State, result: CheckResult) -> PhaseReport {
        let record = StepRecord {
            state,
            reason: Reason::SmokeCheckFailed,
            message: "homepage (http /): answered 500".to_owned(),
            notes: [check(result)].into(),
            observed_at: Instant::now(),
            ..StepRecord::pending("s")
        };
        PhaseReport {
            id: PhaseName::SmokeTest,
            progress,
            gate: None,
            steps: vec![(StepId::EdgeChecks, record)],
        }
    }

    fn site(checks: PhaseReport) -> Site {
        Site {
            release: ServingRelease {
                number: Some(2),
                version: None,
                image: "shop:2".to_owned(),
                digest: "sha256:2".to_owned(),
                config_hash: String::new(),
                since: "2026-01-02T03:04:05Z".parse().ok(),
            },
            report: Report {
                sent: Vec::new(),
                phases: vec![checks],
                ahead: Vec::new(),
                unknown: Vec::new(),
            },
            reporting_drift: false,
            machines: Runs::Serving,
            proves_wanted: false,
        }
    }

    /// The condition that follows for an object that went live, with an invalid spec.
    fn live(site: Option<Site>, unproven: bool) -> (String, String) {
        let invalid = [Invalid {
            field: "spec.deploy.image",
            reason: Reason::InvalidSpec,
            message: "is no image".to_owned(),
            action: String::new(),
        }];
        let mut status: ActivationStatus = serde_json::from_value(json!({
            "url": "https://shop.fly.dev",
            "goLive": {"time": "2026-01-02T03:04:05Z"},
            "conditions": [{
                "type": "Live", "status": "True", "reason": "GoLive", "message": "as it was",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }],
        }))
        .unwrap();
        let result = PassResult {
            site,
            unproven,
            invalid: &invalid,
            ..PassResult::default()
        };
        told(&mut status, &result, false)
    }

    /// Status and message of the condition that follows from this result.
    fn told(
        status: &mut ActivationStatus,
        result: &PassResult<'_>,
        same_generation: bool,
    ) -> (String, String) {
        let liveness = Liveness {
            live: false,
            same_generation,
            steady: false,
        };
        let mut to = Setter {
            status,
            generation: Some(2),
            now: Timestamp::UNIX_EPOCH,
        };
        set(&mut to, result, &liveness);
        let live = condition::find(&status.conditions, ConditionType::Live).unwrap();
        (live.status.clone(), live.message.clone())
    }

    #[test]
    fn live_is_what_the_checks_of_the_serving_release_say_whatever_the_spec_says() {
        let passed = checks(PhaseProgress::Succeeded, State::Done, CheckResult::Passed);
        let (status, message) = live(Some(site(passed)), false);
        assert_eq!(status, "True");
        assert!(
            message.contains("release 2 (shop:2) serves since 2026-01-02"),
            "{message}"
        );

        let failed = checks(PhaseProgress::Failed, State::Blocked, CheckResult::Failed);
        let (status, message) = live(Some(site(failed)), false);
        assert_eq!(status, "False");
        assert!(message.contains("answered 500"), "{message}");
    }

    #[test]
    fn checks_that_pass_prove_nothing_of_a_release_that_no_machine_runs() {
        let answers = |machines| {
            let passed = checks(PhaseProgress::Succeeded, State::Done, CheckResult::Passed);
            live(
                Some(Site {
                    machines,
                    ..site(passed)
                }),
                false,
            )
        };
        let (status, message) = answers(Runs::Another);
        assert_eq!(status, "Unknown");
        assert!(message.contains("no machine runs release 2"), "{message}");
        let as_it_was = ("True".to_owned(), "as it was".to_owned());
        assert_eq!(answers(Runs::Replacing), as_it_was);
    }

    #[test]
    fn a_release_that_was_left_in_the_place_of_the_proven_one_is_not_told_as_that() {
        let after = |progress, state, result| {
            live(
                Some(Site {
                    machines: Runs::Another,
                    ..site(checks(progress, state, result))
                }),
                false,
            )
        };
        let waiting = after(PhaseProgress::Running, State::Waiting, CheckResult::Unknown);
        assert_eq!(waiting.0, "Unknown");
        assert!(
            waiting.1.contains("no machine runs release 2"),
            "{}",
            waiting.1
        );

        let failed = after(PhaseProgress::Failed, State::Blocked, CheckResult::Failed);
        assert_eq!(failed.0, "False");
        assert!(!failed.1.contains("release 2 fails"), "{}", failed.1);
        assert!(failed.1.contains("answered 500"), "{}", failed.1);
    }

    #[test]
    fn a_rollout_whose_checks_fail_is_not_told_as_a_failure_of_the_release_that_it_replaces() {
        let failed = checks(PhaseProgress::Failed, State::Blocked, CheckResult::Failed);
        let (status, message) = live(
            Some(Site {
                machines: Runs::Replacing,
                ..site(failed)
            }),
            false,
        );
        assert_eq!(status, "False");
        assert!(
            message.starts_with("the site fails its checks: "),
            "{message}"
        );
        assert!(message.contains("no machine runs release 2"), "{message}");
    }

    #[test]
    fn a_release_that_a_request_restored_serves_again_and_since_when_is_not_claimed() {
        let release = site(checks(
            PhaseProgress::Succeeded,
            State::Done,
            CheckResult::Passed,
        ))
        .release;
        let rollback = |to: i64, state| RollbackStatus {
            to: Some(to),
            state,
            time: serde_json::from_value(json!("2026-01-05T00:00:00Z")).unwrap(),
            ..RollbackStatus::default()
        };
        let said = |to, state| serves(&release, Some(&rollback(to, state)));
        let name = "release 2 (shop:2) serves";
        let again = format!("{name} again, as was requested at 2026-01-05T00:00:00Z");
        assert_eq!(said(2, RollbackState::Accepted), again);
        let since = format!("{name} since 2026-01-02T03:04:05Z");
        assert_eq!(said(2, RollbackState::Refused), since);
        assert_eq!(said(1, RollbackState::Accepted), since);
    }

    #[test]
    fn one_check_that_could_not_be_made_changes_nothing_and_several_make_live_unknown() {
        let unseen = || {
            let state = State::Retrying { observing: true };
            checks(PhaseProgress::Running, state, CheckResult::Unknown)
        };
        assert_eq!(live(Some(site(unseen())), false).0, "True");
        assert_eq!(live(None, false).0, "True");
        assert_eq!(live(Some(site(unseen())), true).0, "Unknown");
    }

    #[test]
    fn what_nobody_looks_at_while_it_is_suspended_is_not_live_for_ever() {
        let mut status: ActivationStatus = serde_json::from_value(json!({
            "goLive": {"time": "2026-01-02T03:04:05Z"},
            "conditions": [{
                "type": "Live", "status": "True", "reason": "GoLive", "message": "as it was",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }],
        }))
        .unwrap();
        let mut after = |unproven| {
            let result = PassResult {
                suspended: true,
                unproven,
                ..PassResult::default()
            };
            let mut to = Setter {
                status: &mut status,
                generation: Some(2),
                now: Timestamp::UNIX_EPOCH,
            };
            while_suspended(&mut to, &result);
            let known = condition::find(&status.conditions, ConditionType::Live).unwrap();
            (known.status.clone(), known.reason.clone())
        };
        let known = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
        assert_eq!(after(false), known("True", "GoLive"));
        assert_eq!(after(true), known("Unknown", "Suspended"));
        // Another process has not waited so long yet.
        assert_eq!(after(false), known("Unknown", "Suspended"));

        let mut to = Setter {
            status: &mut status,
            generation: Some(3),
            now: Timestamp::UNIX_EPOCH,
        };
        let liveness = Liveness {
            live: false,
            same_generation: false,
            steady: false,
        };
        set(&mut to, &PassResult::default(), &liveness);
        let known = condition::find(&status.conditions, ConditionType::Live).unwrap();
        assert_eq!(known.status, "Unknown");
        assert!(
            known.message.contains("after the suspension"),
            "{}",
            known.message
        );
    }

    #[test]
    fn a_call_that_fly_io_refused_is_no_failed_check() {
        let refused = checks(PhaseProgress::Failed, State::Blocked, CheckResult::Passed);
        assert_eq!(proof(&refused), Proof::Open);
    }

    #[test]
    fn the_message_says_where_the_site_is_and_what_serves() {
        let passed = checks(PhaseProgress::Succeeded, State::Done, CheckResult::Passed);
        assert_eq!(
            live(Some(site(passed)), false).1,
            "live at https://shop.fly.dev: release 2 (shop:2) serves since 2026-01-02T03:04:05Z; `Ready` says what keeps the spec from going live"
        );
    }

    #[test]
    fn what_is_gone_is_not_live_by_the_proof_on_record() {
        let of = |checks: PhaseReport| {
            let site = Site {
                machines: Runs::Gone,
                ..site(checks)
            };
            live(Some(site), false)
        };
        let open = of(checks(
            PhaseProgress::Running,
            State::Waiting,
            CheckResult::Unknown,
        ));
        assert_eq!(open.0, "Unknown", "{open:?}");
        assert!(open.1.contains("no machine of release 2 (shop:2) is left"));
        // A proof that holds between two looks is that of the machines before.
        let held = of(checks(
            PhaseProgress::Succeeded,
            State::Done,
            CheckResult::Passed,
        ));
        assert_eq!(held.0, "Unknown", "{held:?}");
        let failed = of(checks(
            PhaseProgress::Failed,
            State::Blocked,
            CheckResult::Failed,
        ));
        assert_eq!(failed.0, "False");
        assert!(failed.1.contains("is left"), "{failed:?}");
    }

    #[test]
    fn a_site_is_at_its_url_or_is_what_its_machines_show() {
        let said = |url: Option<&str>, wanted: Option<&Target>| {
            let mut status = ActivationStatus {
                url: url.map(str::to_owned),
                ..ActivationStatus::default()
            };
            let to = Setter {
                status: &mut status,
                generation: None,
                now: Timestamp::UNIX_EPOCH,
            };
            let result = PassResult {
                wanted,
                ..PassResult::default()
            };
            place(&to, &result)
        };
        let by_machines = target("smokeTest: {checks: []}");
        let by_checks = target("");
        let url = Some("https://shop.fly.dev");
        assert_eq!(
            said(url, Some(&by_machines)),
            "live at https://shop.fly.dev"
        );
        let machines = said(None, Some(&by_machines));
        assert_eq!(machines, "live: the spec asks for no other proof");
        assert_eq!(said(None, Some(&by_checks)), "live");
        assert_eq!(said(None, None), "live");
    }

    /// What the checks of the spec's own pass say, without a look at the site beside it.
    fn by_own_checks(progress: PhaseProgress, went_live: bool) -> (String, String) {
        let mut status: ActivationStatus = serde_json::from_value(json!({
            "goLive": {"time": "2026-01-02T03:04:05Z"},
            "conditions": [{
                "type": "Live", "status": "False", "reason": "SmokeCheckFailed",
                "message": "as it was", "lastTransitionTime": "2026-01-02T03:04:05Z",
            }],
        }))
        .unwrap();
        if !went_live {
            status.go_live = None;
        }
        let report = Report {
            sent: Vec::new(),
            phases: vec![checks(progress, State::Blocked, CheckResult::Failed)],
            ahead: Vec::new(),
            unknown: Vec::new(),
        };
        let result = PassResult {
            report: Some(&report),
            ..PassResult::default()
        };
        told(&mut status, &result, true)
    }

    #[test]
    fn the_specs_own_checks_count_when_they_were_made_and_once_it_went_live() {
        let as_it_was = ("False".to_owned(), "as it was".to_owned());
        let answers = by_own_checks(PhaseProgress::Succeeded, true);
        assert_eq!(answers.0, "True");
        let fails = by_own_checks(PhaseProgress::Failed, true);
        assert!(
            fails.1.starts_with("the site fails its checks: "),
            "{fails:?}"
        );
        // Pending: the failed check on record is of an earlier pass.
        assert_eq!(by_own_checks(PhaseProgress::Pending, true), as_it_was);
        let before = by_own_checks(PhaseProgress::Succeeded, false);
        assert_eq!(before.0, "Unknown", "it never went live: {before:?}");
    }
}
