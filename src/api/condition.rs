//! Conditions of an Activation, as `kubectl wait`, kstatus and Argo CD read them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::enumeration::api_enum;
use super::reason::Reason;
use super::text::{MAX_MESSAGE, one_line};

api_enum! {
    /// The types of conditions.
    pub enum ConditionType, lenient, default Ready {
        /// The activation has reached the state of `readyWhen`. Always present.
        Ready = "Ready",
        /// Work is under way. Present only when True.
        Reconciling = "Reconciling",
        /// Work has stopped, and only a change restarts it. Present only when True.
        Stalled = "Stalled",
        /// All blocking checks of the preflight have passed or are skipped.
        PreflightPassed = "PreflightPassed",
        /// Database, Redis, secrets and addresses exist.
        Provisioned = "Provisioned",
        /// Every machine runs the wanted release and is healthy.
        Deployed = "Deployed",
        /// All checks from the public edge have passed.
        SmokeTested = "SmokeTested",
        /// The application is live: Go-Live was reached, and still holds.
        Live = "Live",
        /// All integrations have been verified.
        IntegrationsHealthy = "IntegrationsHealthy",
        /// All objectives are met now.
        SloMet = "SLOMet",
        /// The watch has ended with all objectives met.
        Stabilized = "Stabilized",
        /// Something on Fly.io does not match the object. Normally False.
        Drifted = "Drifted",
        /// The activation is suspended. Normally False.
        Suspended = "Suspended",
        /// The activation is being deleted; the message lists what remains. Present only when True.
        Deleting = "Deleting",
        /// Fly.io can be observed. Unknown when it cannot; then nothing is concluded.
        Observed = "Observed",
    }
}

api_enum! {
    /// The status of a condition.
    pub enum ConditionStatus, lenient, default Unknown {
        /// It holds.
        True = "True",
        /// It does not hold.
        False = "False",
        /// It is not known whether it holds.
        Unknown = "Unknown",
    }
}

/// One condition as observed now, before it is merged into the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which condition.
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The reason, for programs.
    pub reason: Reason,
    /// The reason in a sentence, with names and numbers.
    pub message: String,
}

impl Observation {
    /// A condition as observed now.
    #[must_use]
    pub fn new(
        type_: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status,
            reason,
            message: message.into(),
        }
    }
}

/// Sets one condition.
///
/// `lastTransitionTime` moves only when `status` does, and is whole seconds: no more than that is
/// written, so a fraction would look like a change on every comparison. The message is one line
/// of at most [`MAX_MESSAGE`] bytes.
pub fn set(
    conditions: &mut Vec<Condition>,
    new: Observation,
    generation: Option<i64>,
    now: Timestamp,
) {
    let old = conditions
        .iter()
        .position(|c| c.type_ == new.type_.as_str());
    let since = old
        .map(|i| &conditions[i])
        .filter(|c| c.status == new.status.as_str())
        .map_or_else(|| whole_seconds(now), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: new.type_.to_string(),
        status: new.status.to_string(),
        reason: new.reason.to_string(),
        message: one_line(&new.message, MAX_MESSAGE),
        observed_generation: generation,
        last_transition_time: since,
    };
    match old {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
}

/// Removes a condition, as the abnormal ones must be when they do not hold.
pub fn remove(conditions: &mut Vec<Condition>, type_: ConditionType) {
    conditions.retain(|c| c.type_ != type_.as_str());
}

/// The condition of this type.
#[must_use]
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// Whether the condition of this type is there and True.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: ConditionType) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == ConditionStatus::True.as_str())
}

/// A point in time as Kubernetes writes it: without a fraction of a second.
#[must_use]
pub fn whole_seconds(time: Timestamp) -> Time {
    // `from_second` fails only outside the years -9999 to 9999, where `time` cannot be.
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const T0: &str = "2026-01-01T00:00:00.900Z";
    const T1: &str = "2026-01-01T00:01:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ready(status: ConditionStatus, message: &str) -> Observation {
        Observation::new(ConditionType::Ready, status, Reason::Progressing, message)
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            ready(ConditionStatus::Unknown, "a"),
            Some(1),
            at(T0),
        );
        set(
            &mut conditions,
            ready(ConditionStatus::Unknown, "b"),
            Some(2),
            at(T1),
        );
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].message, "b");
        assert_eq!(conditions[0].observed_generation, Some(2));
        assert_eq!(conditions[0].last_transition_time, whole_seconds(at(T0)));

        set(
            &mut conditions,
            ready(ConditionStatus::True, "c"),
            Some(2),
            at(T1),
        );
        assert_eq!(conditions[0].last_transition_time, whole_seconds(at(T1)));
    }

    #[test]
    fn times_have_no_fraction_because_none_is_written() {
        let json = serde_json::to_value(whole_seconds(at(T0))).unwrap();
        let read: Time = serde_json::from_value(json).unwrap();
        assert_eq!(read, whole_seconds(at(T0)));
    }

    #[test]
    fn messages_are_one_line_of_bounded_length() {
        let mut conditions = Vec::new();
        let long = format!("first\nsecond {}", "ñ".repeat(5000));
        set(
            &mut conditions,
            ready(ConditionStatus::True, &long),
            None,
            at(T0),
        );
        let message = &conditions[0].message;
        assert!(message.starts_with("first second "), "{message}");
        assert!(message.len() <= MAX_MESSAGE);
        assert!(message.ends_with('…'));
    }

    #[test]
    fn removing_and_finding_go_by_type() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            ready(ConditionStatus::True, ""),
            None,
            at(T0),
        );
        assert!(is_true(&conditions, ConditionType::Ready));
        assert!(!is_true(&conditions, ConditionType::Stalled));
        remove(&mut conditions, ConditionType::Ready);
        assert!(find(&conditions, ConditionType::Ready).is_none());
    }

    #[test]
    fn every_type_and_reason_fits_what_kubernetes_demands() {
        let pattern = regex::Regex::new("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$").unwrap();
        for word in ConditionType::ALL
            .iter()
            .map(|t| t.as_str())
            .chain(Reason::ALL.iter().map(|r| r.as_str()))
        {
            assert!(pattern.is_match(word) && word.len() <= 128, "{word}");
            assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
        }
    }
}
