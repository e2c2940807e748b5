//! The watch in the status: its objectives and incidents, the conditions `SLOMet` and `Stabilized`, and what
//! a person must do. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{PassResult, setter::Setter};
use crate::{
    api::{
        Activation, ActivationStatus, PhaseName, Reason,
        condition::{self, ConditionStatus, ConditionType, whole_seconds},
        status::{
            CheckResult, ObjectiveStatus, PhaseState, PhaseStatus, WatchDecision, WatchState,
            WatchStatus,
        },
    },
    pipeline::{Note, report::Report},
};

use ConditionStatus::{False, True, Unknown};

/// Figures move all the time; while nothing else changes they are written no more often than this.
const FIGURES_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// Takes the notes of a pass into the status. Figures alone are taken every five minutes.
pub fn merge(
    status: &mut ActivationStatus,
    activation: &Activation,
    report: &Report,
    now: Timestamp,
) {
    if activation.spec.observe.is_none() {
        status.watch = None;
        status.objectives.clear();
        status.incidents.clear();
        return;
    }
    let Some(phase) = report.phase(PhaseName::Observe) else {
        return;
    };
    let steps = phase.steps.iter();
    let notes = steps.flat_map(|(_, record)| record.notes.iter());
    let mut objectives = Vec::new();
    let mut watch = None;
    for note in notes {
        match note {
            Note::Watch(found, incidents) => watch = Some((found, incidents)),
            Note::Objective(entry, _) => objectives.push(&**entry),
            _ => {}
        }
    }
    let Some((watch, incidents)) = watch else {
        // Nothing was looked at: what is on record stands.
        return;
    };
    let keeps = keeps_figures(status, watch, &objectives);
    if !keeps {
        let joined = objectives.into_iter().map(|entry| {
            let mut told = status.objectives.iter();
            let before = told.find(|told| told.name == entry.name);
            joined(before, entry, now)
        });
        status.objectives = joined.collect();
    }
    status.watch = Some((**watch).clone());
    status.incidents.clone_from(incidents);
}

/// Whether the figures on record stay: the same objectives have the same standing, and their figures are
/// younger than five minutes, or the watch has ended with them.
fn keeps_figures(status: &ActivationStatus, watch: &WatchStatus, new: &[&ObjectiveStatus]) -> bool {
    let same_watch = status
        .watch
        .as_ref()
        .is_some_and(|told| (told.number, told.state) == (watch.number, watch.state));
    let told = &status.objectives;
    let same = told.len() == new.len()
        && told.iter().zip(new).all(|(told, new)| {
            (&told.name, &told.description, &told.bound)
                == (&new.name, &new.description, &new.bound)
                && standing(told) == standing(new)
        });
    // In time of the watch: both were taken by its clock.
    let young = |(told, new): (&ObjectiveStatus, &&ObjectiveStatus)| match (
        &told.observed_at,
        &new.observed_at,
    ) {
        (Some(told), Some(new)) => new.0.duration_since(told.0) < FIGURES_EVERY,
        (None, Some(_)) => false,
        (_, None) => true,
    };
    let has_ended = watch.state != WatchState::Running;
    same_watch && same && (has_ended || told.iter().zip(new).all(young))
}

/// What is news when it changes.
fn standing(entry: &ObjectiveStatus) -> (CheckResult, &str, &str, Option<i64>) {
    let release = entry.release.as_ref().map(|release| release.number);
    (entry.result, &entry.reason, &entry.burning, release)
}

fn joined(
    before: Option<&ObjectiveStatus>,
    new: &ObjectiveStatus,
    now: Timestamp,
) -> ObjectiveStatus {
    let same = before.filter(|before| (before.result, &before.reason) == (new.result, &new.reason));
    ObjectiveStatus {
        time: same
            .and_then(|before| before.time.clone())
            .or_else(|| Some(whole_seconds(now))),
        ..new.clone()
    }
}

/// Sets `SLOMet` and `Stabilized`.
pub fn set_conditions(to: &mut Setter<'_>, activation: &Activation, seen: &PassResult<'_>) {
    let told = condition::find(&to.status.conditions, ConditionType::SloMet).is_some();
    if told && seen.failed.is_some() {
        // Nothing was looked at, and what was known stays.
        return;
    }
    let requested = activation.spec.observe.is_some();
    let mut phases = to.status.phases.iter();
    let phase = phases.find(|phase| phase.name == PhaseName::Observe);
    let (met, stabilized) = conditions(requested, phase, to.status);
    let (status, reason, message) = met;
    to.set(ConditionType::SloMet, status, reason, &message);
    let (status, reason, message) = stabilized;
    to.set(ConditionType::Stabilized, status, reason, &message);
}

type Told = (ConditionStatus, Reason, String);

fn conditions(
    requested: bool,
    phase: Option<&PhaseStatus>,
    status: &ActivationStatus,
) -> (Told, Told) {
    if !requested {
        let not = |message: &str| (Unknown, Reason::NotRequested, message.to_owned());
        return (not("not requested"), not("no watch is requested"));
    }
    let reason = |phase: &PhaseStatus| Reason::parse(&phase.reason).unwrap_or_default();
    if let Some(phase) = phase.filter(|phase| cannot_watch(phase)) {
        let told = (Unknown, reason(phase), phase.message.clone());
        return (told.clone(), told);
    }
    if let Some(watch) = &status.watch {
        return (met(watch, &status.objectives), stabilized(watch));
    }
    let told = match phase {
        None => (Unknown, Reason::Pending, "not observed yet".to_owned()),
        Some(phase) if rejected(phase) => (False, reason(phase), phase.message.clone()),
        Some(phase) if phase.message.is_empty() => {
            let message = "the watch begins at Go-Live".to_owned();
            (Unknown, reason(phase), message)
        }
        Some(phase) => (Unknown, reason(phase), phase.message.clone()),
    };
    (told.clone(), told)
}

fn rejected(phase: &PhaseStatus) -> bool {
    let reason = Reason::parse(&phase.reason).unwrap_or_default();
    phase.state == PhaseState::Failed
        && matches!(reason, Reason::Rejected | Reason::ApprovalExpired)
}

/// Whether the watch cannot go on: then nothing that it has said counts.
fn cannot_watch(phase: &PhaseStatus) -> bool {
    let reason = Reason::parse(&phase.reason).unwrap_or_default();
    phase.state == PhaseState::Failed
        && matches!(reason, Reason::WatchDamaged | Reason::InvalidSpec)
}

fn met(watch: &WatchStatus, entries: &[ObjectiveStatus]) -> Told {
    let when = match watch.state {
        WatchState::Running => String::new(),
        _ => " at the end of the watch".to_owned(),
    };
    let those = |result: CheckResult| -> Vec<&ObjectiveStatus> {
        entries
            .iter()
            .filter(|entry| entry.result == result)
            .collect()
    };
    let names = |entries: &[&ObjectiveStatus]| {
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        names.join(", ")
    };
    let reason = |entries: &[&ObjectiveStatus]| {
        let first = entries.first();
        first
            .and_then(|entry| Reason::parse(&entry.reason))
            .unwrap_or_default()
    };
    let (failed, unknown) = (those(CheckResult::Failed), those(CheckResult::Unknown));
    if !failed.is_empty() {
        let breached = failed
            .iter()
            .find(|entry| entry.reason == Reason::ObjectiveBreached.as_str());
        let reason = match breached {
            Some(_) => Reason::ObjectiveBreached,
            None => reason(&failed),
        };
        let message = format!("not met{when}: {}; see `status.objectives`", names(&failed));
        return (False, reason, message);
    }
    if !unknown.is_empty() {
        let message = format!(
            "not known{when}: {}; see `status.objectives`",
            names(&unknown)
        );
        return (Unknown, reason(&unknown), message);
    }
    if entries.is_empty() {
        let message = "`spec.observe` sets no objective".to_owned();
        return (Unknown, Reason::NotRequested, message);
    }
    let message = format!("all {} objectives are met{when}", entries.len());
    (True, Reason::ObjectivesMet, message)
}

fn stabilized(watch: &WatchStatus) -> Told {
    let text = |time: &Option<Time>| {
        time.as_ref()
            .map_or(String::new(), |time| time.0.to_string())
    };
    let (since, until) = (text(&watch.since), text(&watch.until));
    let verdict = format!("from {since} to {until}: {}", watch.verdict);
    match watch.state {
        WatchState::Running => {
            let message = format!("watched until {until}");
            (Unknown, Reason::Watching, message)
        }
        WatchState::Stabilized => (True, Reason::Stabilized, format!("stable {verdict}")),
        WatchState::NotStabilized => (
            False,
            Reason::NotStabilized,
            format!("not stable {verdict}"),
        ),
        WatchState::Inconclusive => (
            Unknown,
            Reason::Inconclusive,
            format!("no verdict {verdict}"),
        ),
    }
}

/// Why `Ready` is True while the application is live: it is watched, it is stable, or just live.
pub fn ready_reason(status: &ActivationStatus) -> Reason {
    match status.watch.as_ref().map(|watch| watch.state) {
        Some(WatchState::Running) => Reason::Watching,
        Some(WatchState::Stabilized) => Reason::Stabilized,
        Some(WatchState::NotStabilized | WatchState::Inconclusive) | None => Reason::GoLive,
    }
}

/// What a person must do about the objectives; `None` if nothing.
pub fn next_action(status: &ActivationStatus) -> Option<String> {
    let watch = status.watch.as_ref()?;
    (!watch.follows.is_empty()).then(|| watch.follows.clone())
}

/// The news about the watch between two statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether it is bad.
    pub warning: bool,
    /// The reason of the event.
    pub reason: &'static str,
    /// What it is about.
    pub about: String,
    /// In words.
    pub note: String,
}

/// What became of the watch, each change once.
pub fn news(old: Option<&ActivationStatus>, new: &ActivationStatus) -> Vec<News> {
    let mut news: Vec<News> = Vec::new();
    let Some(watch) = &new.watch else {
        return news;
    };
    let before = old.and_then(|old| old.watch.as_ref());
    for entry in &new.objectives {
        let mut told = old.into_iter().flat_map(|old| &old.objectives);
        let told = told.find(|told| told.name == entry.name);
        news.extend(of_objective(told, entry));
    }
    let is_new = before.is_none_or(|before| before.number != watch.number);
    let event = |warning, reason, note: &str| News {
        warning,
        reason,
        about: "Observe".to_owned(),
        note: note.to_owned(),
    };
    if is_new && !watch.cause.is_empty() {
        news.push(event(false, "WatchBegunAnew", &watch.cause));
    }
    let told = before.and_then(|before| before.decision);
    if let Some(decision) = watch.decision.filter(|decision| told != Some(*decision)) {
        let reason = match decision {
            WatchDecision::RollBack => "RollbackRequested",
            WatchDecision::WouldRollBack => Reason::WouldRollBack.as_str(),
            WatchDecision::NothingToRestore => "NothingToRestore",
            WatchDecision::Refused => Reason::RollbackRefused.as_str(),
        };
        news.push(event(true, reason, &watch.follows));
    }
    let ended = before.filter(|_| !is_new).map(|before| before.state);
    if ended != Some(watch.state) {
        match watch.state {
            WatchState::Running => {}
            WatchState::Stabilized => {
                news.push(event(false, Reason::Stabilized.as_str(), &watch.verdict));
            }
            // The phase that fails by it has an event of its own.
            WatchState::NotStabilized => {}
            WatchState::Inconclusive => {
                news.push(event(true, Reason::Inconclusive.as_str(), &watch.verdict));
            }
        }
    }
    news
}

fn of_objective(told: Option<&ObjectiveStatus>, entry: &ObjectiveStatus) -> Option<News> {
    let was = told.map(|told| (told.result, told.reason.as_str()));
    if was == Some((entry.result, entry.reason.as_str())) {
        return None;
    }
    let (warning, reason) = match entry.result {
        CheckResult::Failed if entry.reason == Reason::BudgetBurning.as_str() => {
            (true, Reason::BudgetBurning.as_str())
        }
        CheckResult::Failed => (true, Reason::ObjectiveBreached.as_str()),
        CheckResult::Passed if was.is_some_and(|(was, _)| was == CheckResult::Failed) => {
            (false, "ObjectiveRecovered")
        }
        _ => return None,
    };
    Some(News {
        warning,
        reason,
        about: entry.name.clone(),
        note: format!("{}: {}", entry.name, entry.message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Reason,
        pipeline::{
            State, StepId, StepRecord,
            report::{PhaseProgress, PhaseReport},
        },
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn entry(result: CheckResult, reason: Reason, value: &str) -> ObjectiveStatus {
        ObjectiveStatus {
            name: "errors".to_owned(),
            result,
            reason: reason.to_string(),
            value: value.to_owned(),
            message: format!("{value} is what it is"),
            ..ObjectiveStatus::default()
        }
    }

    fn good(value: &str) -> ObjectiveStatus {
        entry(CheckResult::Passed, Reason::ObjectivesMet, value)
    }

    fn bad(value: &str) -> ObjectiveStatus {
        entry(CheckResult::Failed, Reason::ObjectiveBreached, value)
    }

    fn watch(state: WatchState) -> WatchStatus {
        WatchStatus {
            state,
            number: 1,
            until: Some(whole_seconds(at(259_200))),
            verdict: "errors: 0.4 %".to_owned(),
            ..WatchStatus::default()
        }
    }

    fn report(watch: WatchStatus, entry: ObjectiveStatus) -> Report {
        let record = StepRecord {
            state: State::Waiting,
            notes: vec![
                Note::Watch(Box::new(watch), Vec::new()),
                Note::Objective(Box::new(entry), None),
            ]
            .into(),
            ..StepRecord::pending("s")
        };
        Report {
            sent: Vec::new(),
            ahead: Vec::new(),
            unknown: Vec::new(),
            phases: vec![PhaseReport {
                id: PhaseName::Observe,
                progress: PhaseProgress::Running,
                gate: None,
                steps: vec![(StepId::Objectives, record)],
            }],
        }
    }

    fn activation(observe: bool) -> Activation {
        let mut spec = serde_json::json!({
            "organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"},
        });
        if observe {
            spec["observe"] = serde_json::json!({});
        }
        let object = serde_json::json!({"metadata": {"name": "x"}, "spec": spec});
        serde_json::from_value(object).unwrap_or_else(|error| unreachable!("{error}"))
    }

    fn after(status: &ActivationStatus, entry: ObjectiveStatus, second: i64) -> ActivationStatus {
        let mut next = status.clone();
        let entry = ObjectiveStatus {
            observed_at: Some(whole_seconds(at(second))),
            ..entry
        };
        let report = report(watch(WatchState::Running), entry);
        merge(&mut next, &activation(true), &report, at(second));
        next
    }

    #[test]
    fn figures_alone_are_written_every_five_minutes_and_another_standing_at_once() {
        let first = after(&ActivationStatus::default(), good("0.1 %"), 0);
        assert_eq!(after(&first, good("0.2 %"), 299), first);
        let later = after(&first, good("0.3 %"), 300);
        assert_eq!(later.objectives[0].value, "0.3 %");
        assert_eq!(later.objectives[0].time, first.objectives[0].time);
        let breached = after(&first, bad("3 %"), 10);
        assert_eq!(breached.objectives[0].time, Some(whole_seconds(at(10))));
    }

    #[test]
    fn after_its_end_a_watch_changes_nothing_any_more() {
        let ended = |status: &ActivationStatus, second: i64| {
            let mut next = status.clone();
            let report = report(watch(WatchState::Stabilized), good("0.4 %"));
            merge(&mut next, &activation(true), &report, at(second));
            next
        };
        let running = after(&ActivationStatus::default(), good("0.1 %"), 0);
        let first = ended(&running, 10);
        assert_eq!(first.objectives[0].value, "0.4 %");
        assert_eq!(ended(&first, 100_000), first);
    }

    #[test]
    fn nothing_is_left_of_a_watch_that_nobody_asks_for() {
        let mut status = after(&ActivationStatus::default(), good("0.1 %"), 0);
        let report = Report::default();
        merge(&mut status, &activation(true), &report, at(1));
        assert!(status.watch.is_some(), "it was not looked at");
        merge(&mut status, &activation(false), &report, at(1));
        assert_eq!(status, ActivationStatus::default());
    }

    #[test]
    fn unknown_is_neither_met_nor_missed_and_a_breach_is_told_first() {
        let unknown = entry(CheckResult::Unknown, Reason::NoData, "");
        let running = watch(WatchState::Running);
        let of = |entries: &[ObjectiveStatus]| {
            let (status, reason, _) = met(&running, entries);
            (status, reason)
        };
        assert_eq!(of(&[good("0.1 %")]), (True, Reason::ObjectivesMet));
        assert_eq!(
            of(&[good("0.1 %"), unknown.clone()]),
            (Unknown, Reason::NoData)
        );
        assert_eq!(
            of(&[unknown, bad("3 %")]),
            (False, Reason::ObjectiveBreached)
        );
        let burns = entry(CheckResult::Failed, Reason::BudgetBurning, "0.5 %");
        assert_eq!(of(&[burns]), (False, Reason::BudgetBurning));
        assert_eq!(of(&[]).0, Unknown);
    }

    #[test]
    fn the_verdict_is_true_false_or_unknown_with_its_numbers() {
        let of = |state| {
            let (status, reason, message) = stabilized(&watch(state));
            assert!(
                state == WatchState::Running || message.contains("0.4 %"),
                "{message}"
            );
            (status, reason)
        };
        assert_eq!(of(WatchState::Running), (Unknown, Reason::Watching));
        assert_eq!(of(WatchState::Stabilized), (True, Reason::Stabilized));
        assert_eq!(
            of(WatchState::NotStabilized),
            (False, Reason::NotStabilized)
        );
        assert_eq!(
            of(WatchState::Inconclusive),
            (Unknown, Reason::Inconclusive)
        );
    }

    #[test]
    fn each_change_is_told_once() {
        let first = after(&ActivationStatus::default(), good("0.1 %"), 0);
        assert!(news(None, &first).is_empty(), "all is well");
        let breached = after(&first, bad("3 %"), 10);
        let told = news(Some(&first), &breached);
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].warning, told[0].reason),
            (true, "ObjectiveBreached")
        );
        assert!(news(Some(&breached), &breached).is_empty());
        let well = after(&breached, good("0.9 %"), 20);
        assert_eq!(news(Some(&breached), &well)[0].reason, "ObjectiveRecovered");
        let mut ended = first.clone();
        ended.watch = Some(watch(WatchState::Stabilized));
        assert_eq!(news(Some(&first), &ended)[0].reason, "Stabilized");
    }
}
