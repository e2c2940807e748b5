//! The integrations in the status: their entries, the condition `IntegrationsHealthy`, and what a person
//! must do about them. Pure.

use jiff::Timestamp;

use super::{PassResult, setter::Setter};
use crate::{
    api::{
        Activation, ActivationStatus, PhaseName, Reason,
        condition::{self, ConditionStatus, ConditionType, whole_seconds},
        status::{
            IntegrationCheck, IntegrationResult, IntegrationState, IntegrationStatus, PhaseState,
            PhaseStatus,
        },
    },
    pipeline::{
        Note, State,
        report::{PhaseProgress, PhaseReport, Report},
    },
};

use ConditionStatus::{False, True, Unknown};

/// Whether the spec asks for any integration.
pub fn are_requested(activation: &Activation) -> bool {
    let spec = activation.spec.integrations.as_ref();
    spec.is_some_and(|spec| spec.any())
}

/// Takes the notes of a pass into the entries. What did not change keeps its times, and figures that
/// differ from look to look are no change.
pub fn merge(status: &mut ActivationStatus, report: &Report, now: Timestamp) {
    let Some(phase) = report.phase(PhaseName::Integrations) else {
        return;
    };
    if !was_observed(phase) {
        return;
    }
    let deadline = status
        .phases
        .iter()
        .find(|phase| phase.name == PhaseName::Integrations)
        .and_then(|phase| phase.deadline.clone());
    let notes = phase
        .steps
        .iter()
        .flat_map(|(_, record)| record.notes.iter());
    let noted = notes.filter_map(|note| match note {
        Note::Integration(entry, verified) => Some((entry, *verified)),
        _ => None,
    });
    let mut noted = noted.peekable();
    if noted.peek().is_none() && !is_skipped(phase) {
        // Nothing was looked at, as while changes are only planned: what is on record stands.
        return;
    }
    let entries = noted.map(|(new, verified)| {
        let mut told = status.integrations.iter();
        let old = told.find(|old| old.name == new.name);
        let mut next = joined(old, new, verified.unwrap_or(now), now);
        next.deadline = deadline
            .clone()
            .filter(|_| next.state != IntegrationState::Verified);
        next
    });
    status.integrations = entries.collect();
}

/// Says of the checks that are not made yet that they wait, if no pass came as far as the integrations:
/// what was under way then has ended without a result.
pub fn say_what_waits(status: &mut ActivationStatus, reports: [Option<&Report>; 2]) {
    let reports = reports.into_iter().flatten();
    let mut phases = reports.filter_map(|report| report.phase(PhaseName::Integrations));
    if phases.any(was_observed) {
        return;
    }
    let mut phases = status.phases.iter();
    let gated = phases.any(|phase| {
        phase.name == PhaseName::Integrations && phase.state == PhaseState::AwaitingApproval
    });
    let what = match gated {
        true => "its checks begin when the gate before Integrations is opened",
        false => "its checks begin when the phases before Integrations have succeeded",
    };
    let entries = status.integrations.iter_mut();
    for entry in entries.filter(|entry| entry.state == IntegrationState::Pending) {
        entry.message = what.to_owned();
    }
}

/// Whether nobody asks for integrations any more.
fn is_skipped(phase: &PhaseReport) -> bool {
    let mut steps = phase.steps.iter();
    steps.all(|(_, record)| record.state == State::Skipped)
}

fn was_observed(phase: &PhaseReport) -> bool {
    let mut steps = phase.steps.iter();
    steps.any(|(_, record)| record.state != State::Pending)
}

fn joined(
    old: Option<&IntegrationStatus>,
    new: &IntegrationStatus,
    verified: Timestamp,
    now: Timestamp,
) -> IntegrationStatus {
    let since = old.filter(|old| old.state == new.state);
    let of_same = since.filter(|old| old.fingerprint == new.fingerprint);
    let checks = new.checks.iter().map(|check| {
        let mut told = old.into_iter().flat_map(|old| &old.checks);
        let same = told.find(|told| is_same(told, check));
        same.unwrap_or(check).clone()
    });
    IntegrationStatus {
        checks: checks.collect(),
        time: since
            .and_then(|old| old.time.clone())
            .or_else(|| Some(whole_seconds(now))),
        verified_at: (new.state == IntegrationState::Verified).then(|| {
            let before = of_same.and_then(|old| old.verified_at.clone());
            before.unwrap_or_else(|| whole_seconds(verified))
        }),
        ..new.clone()
    }
}

/// Whether a check found the same again. That of one which passed is told in figures, which differ
/// from look to look.
fn is_same(old: &IntegrationCheck, new: &IntegrationCheck) -> bool {
    let in_figures = matches!(
        new.result,
        IntegrationResult::Passed | IntegrationResult::Warned
    );
    (&old.id, old.result, &old.name, &old.change) == (&new.id, new.result, &new.name, &new.change)
        && (in_figures || old.evidence == new.evidence)
}

/// Sets the condition. It is False only when a check has failed, or a person has closed the gate: what
/// is late, missing or without an answer is not known to be wrong. A failure on record stands while a
/// new release is rolled out.
///
/// While the spec cannot be brought live, it is about the release that serves, as far as its integrations
/// were looked at.
pub fn set_condition(to: &mut Setter<'_>, seen: &PassResult<'_>) {
    let type_ = ConditionType::IntegrationsHealthy;
    let site = seen.site.as_ref();
    let site = site.and_then(|site| site.report.phase(PhaseName::Integrations));
    if let Some(site) = site.filter(|site| was_observed(site)) {
        let (status, reason, message) = of_site(site, &to.status.integrations);
        to.set(type_, status, reason, &message);
        return;
    }
    let told = condition::find(&to.status.conditions, type_).is_some();
    if told && seen.failed.is_some() {
        // Nothing was looked at, and what was known stays.
        return;
    }
    let mut phases = to.status.phases.iter();
    let phase = phases.find(|phase| phase.name == PhaseName::Integrations);
    let Some(phase) = phase.cloned() else {
        to.set(type_, Unknown, Reason::Pending, "not observed yet");
        return;
    };
    let (status, reason, message) = condition(&phase, &to.status.integrations);
    if status == True && !seen.invalid.is_empty() {
        // The phase is as it was when the spec was valid.
        to.set(
            type_,
            Unknown,
            Reason::Pending,
            "not looked at: the spec is invalid",
        );
        return;
    }
    to.set(type_, status, reason, &message);
}

/// What was found of the release that serves, beside a spec that cannot be brought live.
fn of_site(
    phase: &PhaseReport,
    entries: &[IntegrationStatus],
) -> (ConditionStatus, Reason, String) {
    if let Some((reason, message)) = failures(entries) {
        return (False, reason, message);
    }
    if phase.progress == PhaseProgress::Succeeded {
        return (True, Reason::Verified, lines(entries));
    }
    let mut steps = phase.steps.iter().map(|(_, record)| record);
    let open = steps.find(|record| !record.state.satisfied());
    match open {
        Some(record) => (Unknown, record.reason, record.message.clone()),
        None => (Unknown, Reason::Pending, "under way".to_owned()),
    }
}

fn lines(entries: &[IntegrationStatus]) -> String {
    let lines = entries.iter().map(line);
    lines.collect::<Vec<_>>().join("; ")
}

fn condition(
    phase: &PhaseStatus,
    entries: &[IntegrationStatus],
) -> (ConditionStatus, Reason, String) {
    let reason = Reason::parse(&phase.reason).unwrap_or_default();
    if phase.state == PhaseState::Skipped {
        return (Unknown, reason, phase.message.clone());
    }
    if let Some((reason, message)) = failures(entries) {
        return (False, reason, message);
    }
    let rejected = matches!(reason, Reason::Rejected | Reason::ApprovalExpired);
    match phase.state {
        PhaseState::Succeeded => (True, Reason::Verified, lines(entries)),
        PhaseState::Failed if rejected => (False, reason, phase.message.clone()),
        _ if phase.message.is_empty() => {
            let message = "under way; nothing is known yet".to_owned();
            (Unknown, reason, message)
        }
        _ => (Unknown, reason, phase.message.clone()),
    }
}

/// The failures among these entries: the worst reason, and all of them in words.
fn failures(entries: &[IntegrationStatus]) -> Option<(Reason, String)> {
    let failed = |entry: &&IntegrationStatus| entry.state == IntegrationState::Failed;
    let failed: Vec<&IntegrationStatus> = entries.iter().filter(failed).collect();
    let forged = |entry: &&IntegrationStatus| entry.reason == Reason::ForgeryAccepted.as_str();
    let worst = failed
        .iter()
        .copied()
        .find(forged)
        .or(failed.first().copied())?;
    let rest = failed.iter().filter(|entry| entry.name != worst.name);
    let lines: Vec<String> = std::iter::once(&worst)
        .chain(rest)
        .map(|entry| line(entry))
        .collect();
    let reason = Reason::parse(&worst.reason).unwrap_or_default();
    Some((reason, lines.join("; ")))
}

fn line(entry: &IntegrationStatus) -> String {
    format!("{}: {}", entry.name, entry.message)
}

/// What a person must do about the integrations; `None` if nothing.
pub fn next_action(status: &ActivationStatus) -> Option<String> {
    let rank = |entry: &IntegrationStatus| match entry.state {
        IntegrationState::Failed if entry.reason == Reason::ForgeryAccepted.as_str() => Some(0),
        IntegrationState::Failed => Some(1),
        IntegrationState::Waiting => Some(2),
        _ => None,
    };
    let entries = status.integrations.iter();
    let wanting = entries.filter_map(|entry| Some((rank(entry)?, entry)));
    let (_, first) = wanting.min_by_key(|(rank, _)| *rank)?;
    let owner = first.owner.as_ref();
    let owner = owner.map_or(String::new(), |owner| format!(" ({owner})"));
    let action = match first.next_action.as_str() {
        "" => "see `status.integrations`",
        action => action,
    };
    Some(format!("{}{owner}: {action}", first.name))
}

/// The news about one integration between two statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether it is bad.
    pub warning: bool,
    /// The reason of the event.
    pub reason: String,
    /// The integration.
    pub name: String,
    /// In words.
    pub note: String,
}

/// What became of the integrations, each change once: a failure, other failed checks, what is missing,
/// what is not known any more, and that all is well.
pub fn news(old: Option<&ActivationStatus>, new: &ActivationStatus) -> Vec<News> {
    let entries = new.integrations.iter();
    let news = entries.filter_map(|entry| {
        let mut told = old.into_iter().flat_map(|old| &old.integrations);
        let before = told.find(|before| before.name == entry.name);
        let same = before.is_some_and(|before| {
            before.state == entry.state
                && before.reason == entry.reason
                && wrong(before) == wrong(entry)
        });
        let (warning, reason) = match entry.state {
            IntegrationState::Pending => return None,
            // It was verified for a former release, and is again.
            IntegrationState::Verified => (false, "IntegrationVerified"),
            IntegrationState::Waiting => (false, entry.reason.as_str()),
            IntegrationState::Failed | IntegrationState::Unknown => (true, entry.reason.as_str()),
        };
        let owner = entry.owner.as_ref();
        let owner = owner.map_or(String::new(), |owner| format!(" ({owner})"));
        let next = match entry.next_action.as_str() {
            "" => String::new(),
            action => format!("; next: {action}"),
        };
        (!same).then(|| News {
            warning,
            reason: reason.to_owned(),
            name: entry.name.clone(),
            note: format!("{}{owner}: {}{next}", entry.name, entry.message),
        })
    });
    news.collect()
}

/// The checks that are not as they should be.
fn wrong(entry: &IntegrationStatus) -> Vec<(&str, IntegrationResult)> {
    let checks = entry.checks.iter();
    let wrong = checks.filter(|check| {
        matches!(
            check.result,
            IntegrationResult::Failed | IntegrationResult::Waiting
        )
    });
    wrong
        .map(|check| (check.id.as_str(), check.result))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: IntegrationState, reason: Reason) -> IntegrationStatus {
        IntegrationStatus {
            name: "whatsapp".to_owned(),
            state,
            reason: reason.to_string(),
            message: "W4 answered 200".to_owned(),
            next_action: "mend it".to_owned(),
            owner: Some("Integraciones".to_owned()),
            fingerprint: "a".to_owned(),
            ..IntegrationStatus::default()
        }
    }

    fn check(result: IntegrationResult, evidence: &str, took: i64) -> IntegrationCheck {
        IntegrationCheck {
            id: "W9".to_owned(),
            result,
            evidence: evidence.to_owned(),
            duration_ms: Some(took),
            ..IntegrationCheck::default()
        }
    }

    fn phase(state: PhaseState, reason: Reason) -> PhaseStatus {
        PhaseStatus {
            name: PhaseName::Integrations,
            state,
            reason: reason.to_string(),
            message: "told".to_owned(),
            starts: 1,
            attempts: 1,
            started_at: None,
            finished_at: None,
            deadline: None,
            owner: None,
            gate: None,
            steps: Vec::new(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(second)
    }

    #[test]
    fn another_figure_of_a_check_that_passed_is_no_change_and_another_failure_is() {
        let with = |check: IntegrationCheck| IntegrationStatus {
            checks: vec![check],
            ..entry(IntegrationState::Verified, Reason::Verified)
        };
        use IntegrationResult::{Failed, Passed};
        let first = joined(
            None,
            &with(check(Passed, "median 12 ms", 12)),
            at(5),
            at(10),
        );
        assert_eq!(first.verified_at, Some(whole_seconds(at(5))));
        let again = with(check(Passed, "median 14 ms", 14));
        assert_eq!(joined(Some(&first), &again, at(90), at(100)), first);
        let failed = |evidence: &str| IntegrationStatus {
            checks: vec![check(Failed, evidence, 1)],
            ..entry(IntegrationState::Failed, Reason::IntegrationFailed)
        };
        let one = joined(Some(&first), &failed("answered 500"), at(90), at(100));
        assert_eq!(
            (one.verified_at.clone(), one.time.clone()),
            (None, Some(whole_seconds(at(100))))
        );
        let other = joined(Some(&one), &failed("answered 404"), at(190), at(200));
        assert_eq!(other.checks[0].evidence, "answered 404");
        assert_eq!(other.time, one.time, "it has failed since then");
    }

    #[test]
    fn it_is_verified_anew_with_another_release_or_secret() {
        let good = entry(IntegrationState::Verified, Reason::Verified);
        let first = joined(None, &good, at(10), at(10));
        let other = IntegrationStatus {
            fingerprint: "b".to_owned(),
            ..good
        };
        let next = joined(Some(&first), &other, at(20), at(20));
        assert_eq!(next.verified_at, Some(whole_seconds(at(20))));
    }

    #[test]
    fn only_a_failed_check_or_a_closed_gate_makes_it_unhealthy() {
        use PhaseState::{Failed, Pending, Skipped, Succeeded, Waiting};
        let of = |state, reason, entries: &[IntegrationStatus]| {
            let (status, reason, _) = condition(&phase(state, reason), entries);
            (status, reason)
        };
        let good = [entry(IntegrationState::Verified, Reason::Verified)];
        let forged = [entry(IntegrationState::Failed, Reason::ForgeryAccepted)];
        assert_eq!(
            of(Succeeded, Reason::Succeeded, &good),
            (True, Reason::Verified)
        );
        assert_eq!(
            of(Skipped, Reason::NotRequested, &[]),
            (Unknown, Reason::NotRequested)
        );
        assert_eq!(
            of(Waiting, Reason::SecretMissing, &[]),
            (Unknown, Reason::SecretMissing)
        );
        assert_eq!(
            of(Failed, Reason::DeadlineExceeded, &[]),
            (Unknown, Reason::DeadlineExceeded)
        );
        assert_eq!(of(Failed, Reason::Rejected, &[]), (False, Reason::Rejected));
        for state in [Failed, Pending, Waiting] {
            let told = of(state, Reason::Waiting, &forged);
            assert_eq!(
                told,
                (False, Reason::ForgeryAccepted),
                "{state:?}: it stands"
            );
        }
    }

    #[test]
    fn a_forgery_is_told_before_other_failures() {
        let other = IntegrationStatus {
            name: "ical".to_owned(),
            ..entry(IntegrationState::Failed, Reason::IntegrationFailed)
        };
        let forged = entry(IntegrationState::Failed, Reason::ForgeryAccepted);
        let entries = vec![other, forged];
        let (reason, message) = failures(&entries).unwrap_or_default();
        assert_eq!(reason, Reason::ForgeryAccepted);
        assert!(message.starts_with("whatsapp: "), "{message}");
        let status = ActivationStatus {
            integrations: entries,
            ..ActivationStatus::default()
        };
        let action = next_action(&status).unwrap_or_default();
        assert_eq!(action, "whatsapp (Integraciones): mend it");
    }

    #[test]
    fn checks_that_no_pass_comes_to_are_not_said_to_be_under_way() {
        let mut status = ActivationStatus {
            integrations: vec![
                entry(IntegrationState::Pending, Reason::IntegrationChecking),
                entry(IntegrationState::Failed, Reason::ForgeryAccepted),
            ],
            phases: vec![phase(
                PhaseState::AwaitingApproval,
                Reason::AwaitingApproval,
            )],
            ..ActivationStatus::default()
        };
        let failure = status.integrations[1].clone();
        let report = Report::default();
        say_what_waits(&mut status, [Some(&report), None]);
        let told = |status: &ActivationStatus| status.integrations[0].message.clone();
        assert!(told(&status).contains("when the gate before Integrations is opened"));
        assert_eq!(status.integrations[1], failure, "it stands");
        status.phases[0].state = PhaseState::Pending;
        say_what_waits(&mut status, [Some(&report), None]);
        assert!(told(&status).contains("when the phases before"));
    }

    #[test]
    fn each_change_is_told_once_and_the_same_again_is_not() {
        let status = |state, reason, failed: &[&str]| ActivationStatus {
            integrations: vec![IntegrationStatus {
                checks: failed
                    .iter()
                    .map(|id| IntegrationCheck {
                        id: (*id).to_owned(),
                        ..check(IntegrationResult::Failed, "", 1)
                    })
                    .collect(),
                ..entry(state, reason)
            }],
            ..ActivationStatus::default()
        };
        use IntegrationState::{Failed, Pending, Verified};
        let one = status(Failed, Reason::ForgeryAccepted, &["W4"]);
        let told = news(None, &one);
        assert_eq!(told.len(), 1);
        assert!(told[0].warning);
        assert_eq!(
            told[0].note,
            "whatsapp (Integraciones): W4 answered 200; next: mend it"
        );
        assert!(news(Some(&one), &one).is_empty());
        let two = status(Failed, Reason::ForgeryAccepted, &["W4", "W5"]);
        assert_eq!(news(Some(&one), &two).len(), 1, "another check fails too");
        let good = status(Verified, Reason::Verified, &[]);
        let mended = news(Some(&two), &good);
        assert_eq!(
            (mended[0].warning, mended[0].reason.as_str()),
            (false, "IntegrationVerified")
        );
        let pending = status(Pending, Reason::IntegrationChecking, &[]);
        assert!(news(Some(&good), &pending).is_empty());
    }
}
