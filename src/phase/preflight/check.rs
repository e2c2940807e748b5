//! What a preflight check is, and how it becomes a step.
//!
//! A check looks once for each target, before anything is written to Fly.io. All of them run at
//! the same time and every outcome is reported, so that a person mends everything in one go.

use std::{convert::Infallible, future::Future};

use jiff::Timestamp;

use crate::{
    api::{
        Reason,
        preflight::CheckName,
        status::{CheckResult, MAX_MESSAGE, PreflightResult, Severity, one_line},
    },
    error::Error,
    pipeline::{Cx, Note, Step, StepId, Verdict, Wake, Why, step::Result},
    plan::Target,
};

/// Longest next action, in bytes, as the status has it.
const MAX_ACTION: usize = 512;

/// One thing that must hold before anything is written.
pub trait Check: Send + Sync + 'static {
    /// What was read; holds everything that `judge` needs, the time included.
    type Seen: Send + Sync;

    /// Its name, also the name of the step.
    const NAME: CheckName;
    /// Whether a failure stops.
    const SEVERITY: Severity;

    /// Reads. Fails only when the world cannot be observed: that is tried again.
    fn look(&self, cx: &Cx) -> impl Future<Output = Result<Self::Seen>> + Send;

    /// Judges what was read. Pure.
    fn judge(&self, target: &Target, seen: &Self::Seen) -> Finding;
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It holds. Says what was found.
    Passed(String),
    /// It does not hold.
    Failed {
        /// One word.
        reason: Reason,
        /// What was found.
        message: String,
        /// What a person must do.
        action: String,
    },
    /// It cannot be told with the means at hand. Only for checks that warn.
    Untold {
        /// Why not.
        message: String,
        /// How a person can find out.
        action: String,
    },
}

impl Finding {
    /// It holds.
    pub fn passed(message: impl Into<String>) -> Self {
        Self::Passed(message.into())
    }

    /// It does not hold.
    pub fn failed(reason: Reason, message: impl Into<String>, action: impl Into<String>) -> Self {
        Self::Failed {
            reason,
            message: message.into(),
            action: action.into(),
        }
    }

    /// It cannot be told.
    pub fn untold(message: impl Into<String>, action: impl Into<String>) -> Self {
        Self::Untold {
            message: message.into(),
            action: action.into(),
        }
    }

    /// It does not hold, in a sentence of the form `what was found: what to do`.
    pub fn from_sentence(reason: Reason, sentence: &str) -> Self {
        let (message, action) = sentence.rsplit_once(": ").unwrap_or((sentence, ""));
        Self::failed(reason, message, action)
    }
}

/// A check as a step.
pub struct Checked<C>(pub C);

/// What became of a check.
#[derive(Debug, PartialEq)]
pub enum Observed<S> {
    /// It is left out, with this justification.
    LeftOut(String),
    /// It was looked at.
    Seen(S),
}

fn justification(target: &Target, name: CheckName) -> Option<&str> {
    target
        .preflight
        .skips
        .iter()
        .find(|skip| skip.check == name)
        .map(|skip| skip.justification.as_str())
}

impl<C: Check> Step for Checked<C> {
    type Observed = Observed<C::Seen>;
    type Change = Infallible;

    fn id(&self) -> StepId {
        C::NAME.into()
    }

    fn reads(&self) -> u32 {
        0
    }

    fn rechecked(&self) -> bool {
        false
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed<C::Seen>> {
        match justification(&cx.target, C::NAME) {
            Some(text) => Ok(Observed::LeftOut(text.to_owned())),
            None => self.0.look(cx).await.map(Observed::Seen),
        }
    }

    fn diff(
        &self,
        target: &Target,
        observed: &Observed<C::Seen>,
        _now: Timestamp,
    ) -> Verdict<Infallible> {
        let seen = match observed {
            Observed::LeftOut(text) => {
                return Verdict::Skipped(Why::new(
                    Reason::NotRequested,
                    format!("left out: {text}"),
                ));
            }
            Observed::Seen(seen) => seen,
        };
        match (self.0.judge(target, seen), C::SEVERITY) {
            (Finding::Passed(_), _) | (_, Severity::Warning) => Verdict::Done,
            (
                Finding::Failed {
                    reason,
                    message,
                    action,
                },
                Severity::Blocking,
            ) => Verdict::Blocked(Why::new(reason, sentence(&message, &action))),
            (Finding::Untold { message, action }, Severity::Blocking) => Verdict::Wait {
                why: Why::new(Reason::ObservationUnknown, sentence(&message, &action)),
                wake: Wake::Poll,
            },
        }
    }

    fn notes(&self, target: &Target, observed: &Observed<C::Seen>) -> Vec<Note> {
        let empty = PreflightResult {
            check: C::NAME.to_string(),
            severity: C::SEVERITY,
            ..PreflightResult::default()
        };
        let told = match observed {
            Observed::LeftOut(text) => PreflightResult {
                result: CheckResult::Skipped,
                reason: Reason::NotRequested.to_string(),
                message: "left out, as `preflight.skip` asks".to_owned(),
                justification: Some(text.clone()),
                ..empty
            },
            Observed::Seen(seen) => told(self.0.judge(target, seen), empty),
        };
        vec![Note::Preflight(told)]
    }

    fn notes_of_failure(&self, error: &Error) -> Vec<Note> {
        let action = match error {
            Error::Fly { source, .. } => source.next_action(),
            _ => "nothing: it is tried again",
        };
        vec![Note::Preflight(PreflightResult {
            check: C::NAME.to_string(),
            severity: C::SEVERITY,
            result: CheckResult::Unknown,
            reason: error.reason().to_string(),
            message: one_line(&crate::causes::chain(error), MAX_MESSAGE),
            next_action: action.to_owned(),
            justification: None,
        })]
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}

fn told(finding: Finding, empty: PreflightResult) -> PreflightResult {
    let (result, reason, message, action) = match finding {
        Finding::Passed(message) => (
            CheckResult::Passed,
            Reason::Succeeded,
            message,
            String::new(),
        ),
        Finding::Failed {
            reason,
            message,
            action,
        } => {
            let result = match empty.severity {
                Severity::Blocking => CheckResult::Failed,
                Severity::Warning => CheckResult::Warning,
            };
            (result, reason, message, action)
        }
        Finding::Untold { message, action } => (
            CheckResult::Unknown,
            Reason::ObservationUnknown,
            message,
            action,
        ),
    };
    PreflightResult {
        result,
        reason: reason.to_string(),
        message: one_line(&message, MAX_MESSAGE),
        next_action: one_line(&action, MAX_ACTION),
        ..empty
    }
}

fn sentence(message: &str, action: &str) -> String {
    if action.is_empty() {
        return message.to_owned();
    }
    format!("{message}: {action}")
}

/// A target for the tests of checks: the given YAML beside the smallest object, in a namespace
/// with these Secrets (name, key, value).
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(in crate::phase) fn target(spec: &str, secrets: &[(&str, &str, &str)]) -> Target {
    let mut whole: serde_json::Value = serde_saphyr::from_str(&format!(
        "organization: cabanas\napp: shop\nregion: eze\n{spec}\n"
    ))
    .unwrap();
    if whole["deploy"]["image"].is_null() {
        if whole["deploy"].is_null() {
            whole["deploy"] = serde_json::json!({});
        }
        whole["deploy"]["image"] = "registry.fly.io/shop:1".into();
    }
    let object = serde_json::from_value(
        serde_json::json!({"metadata": {"name": "shop", "namespace": "ns"}, "spec": whole}),
    )
    .unwrap();
    let mut all = vec![("fly", "token", "fo1_some-token")];
    all.extend(secrets);
    let refs = crate::plan::refs::Refs::of(&all, &[]);
    Target::parse(&object, &refs, None, b"key").unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails;
    impl Check for Fails {
        type Seen = ();
        const NAME: CheckName = CheckName::RegionUsable;
        const SEVERITY: Severity = Severity::Blocking;
        async fn look(&self, _cx: &Cx) -> Result<()> {
            Ok(())
        }
        fn judge(&self, _target: &Target, (): &()) -> Finding {
            Finding::from_sentence(Reason::RegionUnusable, "no such region: choose another")
        }
    }

    struct Warns;
    impl Check for Warns {
        type Seen = ();
        const NAME: CheckName = CheckName::SecretsStrong;
        const SEVERITY: Severity = Severity::Warning;
        async fn look(&self, _cx: &Cx) -> Result<()> {
            Ok(())
        }
        fn judge(&self, _target: &Target, (): &()) -> Finding {
            Finding::failed(Reason::SecretWeak, "weak", "make it strong")
        }
    }

    fn note(notes: &[Note]) -> &PreflightResult {
        match notes {
            [Note::Preflight(result)] => result,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_blocking_failure_stops_with_its_reason_and_its_next_action() {
        let target = target("", &[]);
        let verdict = Checked(Fails).diff(&target, &Observed::Seen(()), Timestamp::UNIX_EPOCH);
        let text = "no such region: choose another";
        assert_eq!(
            verdict,
            Verdict::Blocked(Why::new(Reason::RegionUnusable, text))
        );
        let notes = Checked(Fails).notes(&target, &Observed::Seen(()));
        let result = note(&notes);
        assert_eq!(result.result, CheckResult::Failed);
        assert_eq!(result.next_action, "choose another");
    }

    #[test]
    fn a_warning_is_reported_and_does_not_stop() {
        let target = target("", &[]);
        let verdict = Checked(Warns).diff(&target, &Observed::Seen(()), Timestamp::UNIX_EPOCH);
        assert_eq!(verdict, Verdict::Done);
        let notes = Checked(Warns).notes(&target, &Observed::Seen(()));
        assert_eq!(note(&notes).result, CheckResult::Warning);
    }

    #[test]
    fn a_check_that_is_left_out_keeps_its_justification() {
        let target = target("", &[]);
        let out = Observed::LeftOut("agreed with Ops on Monday".to_owned());
        let verdict = Checked(Fails).diff(&target, &out, Timestamp::UNIX_EPOCH);
        assert!(matches!(verdict, Verdict::Skipped(_)), "{verdict:?}");
        let notes = Checked(Fails).notes(&target, &out);
        let result = note(&notes);
        assert_eq!(result.result, CheckResult::Skipped);
        assert_eq!(
            result.justification.as_deref(),
            Some("agreed with Ops on Monday")
        );
    }

    #[test]
    fn what_cannot_be_observed_is_unknown_and_says_what_happens_next() {
        let notes = Checked(Fails).notes_of_failure(&Error::NotKnown("the region"));
        let result = note(&notes);
        assert_eq!(result.result, CheckResult::Unknown);
        assert!(result.next_action.contains("tried again"), "{result:?}");
    }
}
