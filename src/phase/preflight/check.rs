//! What a preflight check is, and how it becomes a step.
//!
//! A check is made once for each target, before anything is written to Fly.io. All checks run at
//! the same time and every result is reported, so that a person can correct everything at once.

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
    /// What `observe` reads: everything that `judge` needs, also the time.
    type Observed: Send + Sync;

    /// Its name, also the name of the step.
    const NAME: CheckName;
    /// Whether a failure blocks the go-live.
    const SEVERITY: Severity;

    /// Reads. Must not change anything.
    ///
    /// # Errors
    /// Only when something cannot be read: then the check is retried.
    fn observe(&self, cx: &Cx) -> impl Future<Output = Result<Self::Observed>> + Send;

    /// Judges what was read. Pure.
    fn judge(&self, target: &Target, observed: &Self::Observed) -> Finding;
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It passed, with this evidence.
    Passed(String),
    /// It passed, and something in it is probably a mistake.
    Questionable {
        /// Why, for programs.
        reason: Reason,
        /// The evidence.
        message: String,
        /// What a person should do.
        action: String,
    },
    /// It failed.
    Failed {
        /// Why, for programs.
        reason: Reason,
        /// The evidence.
        message: String,
        /// What a person must do.
        action: String,
    },
    /// What is needed to judge cannot be read. Only for checks that warn.
    Unknown {
        /// What cannot be read.
        message: String,
        /// How a person can find out.
        action: String,
    },
}

impl Finding {
    /// It passed.
    pub fn passed(message: impl Into<String>) -> Self {
        Self::Passed(message.into())
    }

    /// It passed, and something in it is probably a mistake.
    pub fn questionable(
        reason: Reason,
        message: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self::Questionable {
            reason,
            message: message.into(),
            action: action.into(),
        }
    }

    /// It failed.
    pub fn failed(reason: Reason, message: impl Into<String>, action: impl Into<String>) -> Self {
        Self::Failed {
            reason,
            message: message.into(),
            action: action.into(),
        }
    }

    /// The same failure, with what else a person must know to act on it.
    #[must_use]
    pub fn also(self, more: &str) -> Self {
        match self {
            Self::Failed {
                reason,
                message,
                action,
            } => Self::failed(reason, message, format!("{action}; {more}")),
            other => other,
        }
    }

    /// What is needed to judge cannot be read.
    pub fn unknown(message: impl Into<String>, action: impl Into<String>) -> Self {
        Self::Unknown {
            message: message.into(),
            action: action.into(),
        }
    }

    /// It failed for these faults, each with its own next action; `None` without any. The reason is
    /// that of the first.
    pub fn of(faults: &[Fault]) -> Option<Self> {
        let first = faults.first()?;
        let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        let mut actions: Vec<&str> = Vec::new();
        for fault in faults {
            if !fault.action.is_empty() && !actions.contains(&fault.action.as_str()) {
                actions.push(&fault.action);
            }
        }
        Some(Self::failed(
            first.reason,
            messages.join("; "),
            actions.join("; "),
        ))
    }
}

/// One of several things that are wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why, for programs.
    pub reason: Reason,
    /// The evidence.
    pub message: String,
    /// What a person must do.
    pub action: String,
}

impl Fault {
    /// A fault with its own next action.
    pub fn new(reason: Reason, message: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            action: action.into(),
        }
    }
}

/// A check as a step.
pub struct Checked<C>(pub C);

/// Whether a check was made.
#[derive(Debug, PartialEq)]
pub enum Observed<S> {
    /// It is skipped, with this justification.
    Skipped(String),
    /// It was made, and this was read.
    Read(S),
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
    type Observed = Observed<C::Observed>;
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

    async fn observe(&self, cx: &Cx) -> Result<Observed<C::Observed>> {
        match justification(&cx.target, C::NAME) {
            Some(text) => Ok(Observed::Skipped(text.to_owned())),
            None => self.0.observe(cx).await.map(Observed::Read),
        }
    }

    fn diff(
        &self,
        target: &Target,
        observed: &Observed<C::Observed>,
        _now: Timestamp,
    ) -> Verdict<Infallible> {
        let read = match observed {
            Observed::Skipped(text) => {
                return Verdict::Skipped(Why::new(
                    Reason::NotRequested,
                    format!("skipped: {text}"),
                ));
            }
            Observed::Read(read) => read,
        };
        match (self.0.judge(target, read), C::SEVERITY) {
            (Finding::Passed(_) | Finding::Questionable { .. }, _) | (_, Severity::Warning) => {
                Verdict::Done
            }
            (
                Finding::Failed {
                    reason,
                    message,
                    action,
                },
                Severity::Blocking,
            ) => Verdict::Blocked(Why::new(reason, message).next(action)),
            (Finding::Unknown { message, action }, Severity::Blocking) => Verdict::Wait {
                why: Why::new(Reason::ObservationUnknown, message).next(action),
                wake: Wake::Poll,
            },
        }
    }

    fn notes(&self, target: &Target, observed: &Observed<C::Observed>) -> Vec<Note> {
        let empty = PreflightResult {
            check: C::NAME.to_string(),
            severity: C::SEVERITY,
            ..PreflightResult::default()
        };
        let result = match observed {
            Observed::Skipped(text) => PreflightResult {
                result: CheckResult::Skipped,
                reason: Reason::NotRequested.to_string(),
                message: "skipped, as `preflight.skip` requests".to_owned(),
                justification: Some(text.clone()),
                ..empty
            },
            Observed::Read(read) => result_of(self.0.judge(target, read), empty),
        };
        vec![Note::Preflight(result)]
    }

    fn notes_of_failure(&self, error: &Error) -> Vec<Note> {
        let (message, action) = match error {
            // One cause, told once: `TokenValid` has what Fly.io answered and what to do.
            Error::Fly { source, .. }
                if source.is_token_refused() && C::NAME != CheckName::TokenValid =>
            {
                (
                    "not looked at, because Fly.io refuses the token".to_owned(),
                    "",
                )
            }
            Error::Fly { source, .. } => (crate::causes::chain(error), source.next_action()),
            _ => (
                crate::causes::chain(error),
                "no action needed; Golive retries",
            ),
        };
        vec![Note::Preflight(PreflightResult {
            check: C::NAME.to_string(),
            severity: C::SEVERITY,
            result: CheckResult::Unknown,
            reason: error.reason().to_string(),
            message: one_line(&message, MAX_MESSAGE),
            next_action: action.to_owned(),
            justification: None,
        })]
    }

    async fn act(&self, _cx: &Cx, change: Infallible) -> Result<()> {
        match change {}
    }
}

fn result_of(finding: Finding, empty: PreflightResult) -> PreflightResult {
    let (result, reason, message, action) = match finding {
        Finding::Passed(message) => (
            CheckResult::Passed,
            Reason::Succeeded,
            message,
            String::new(),
        ),
        Finding::Questionable {
            reason,
            message,
            action,
        } => (CheckResult::Warning, reason, message, action),
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
        Finding::Unknown { message, action } => (
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    struct Fails;
    impl Check for Fails {
        type Observed = ();
        const NAME: CheckName = CheckName::RegionUsable;
        const SEVERITY: Severity = Severity::Blocking;
        async fn observe(&self, _cx: &Cx) -> Result<()> {
            Ok(())
        }
        fn judge(&self, _target: &Target, (): &()) -> Finding {
            Finding::failed(Reason::RegionUnusable, "no such region", "choose another")
        }
    }

    struct Warns;
    impl Check for Warns {
        type Observed = ();
        const NAME: CheckName = CheckName::SecretsStrong;
        const SEVERITY: Severity = Severity::Warning;
        async fn observe(&self, _cx: &Cx) -> Result<()> {
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
    fn a_blocking_failure_blocks_with_its_reason_and_next_action() {
        let target = target("", &[]);
        let verdict = Checked(Fails).diff(&target, &Observed::Read(()), Timestamp::UNIX_EPOCH);
        let why = Why::new(Reason::RegionUnusable, "no such region").next("choose another");
        assert_eq!(why.sentence(), "no such region: choose another");
        assert_eq!(verdict, Verdict::Blocked(why));
        let notes = Checked(Fails).notes(&target, &Observed::Read(()));
        let result = note(&notes);
        assert_eq!(result.result, CheckResult::Failed);
        assert_eq!(result.next_action, "choose another");
    }

    #[test]
    fn a_warning_is_reported_and_does_not_block() {
        let target = target("", &[]);
        let verdict = Checked(Warns).diff(&target, &Observed::Read(()), Timestamp::UNIX_EPOCH);
        assert_eq!(verdict, Verdict::Done);
        let notes = Checked(Warns).notes(&target, &Observed::Read(()));
        assert_eq!(note(&notes).result, CheckResult::Warning);
    }

    #[test]
    fn a_check_that_blocks_can_pass_with_a_warning() {
        struct Doubts;
        impl Check for Doubts {
            type Observed = ();
            const NAME: CheckName = CheckName::FlyConfigValid;
            const SEVERITY: Severity = Severity::Blocking;
            async fn observe(&self, _cx: &Cx) -> Result<()> {
                Ok(())
            }
            fn judge(&self, _target: &Target, (): &()) -> Finding {
                Finding::questionable(Reason::FlyConfigDoubtful, "odd", "look at it")
            }
        }
        let target = target("", &[]);
        let verdict = Checked(Doubts).diff(&target, &Observed::Read(()), Timestamp::UNIX_EPOCH);
        assert_eq!(verdict, Verdict::Done);
        let notes = Checked(Doubts).notes(&target, &Observed::Read(()));
        let result = note(&notes);
        assert_eq!(result.result, CheckResult::Warning);
        assert_eq!(result.severity, Severity::Blocking);
        assert_eq!(result.next_action, "look at it");
    }

    #[test]
    fn a_skipped_check_reports_its_justification() {
        let target = target("", &[]);
        let out = Observed::Skipped("agreed with Ops on Monday".to_owned());
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
    fn a_check_that_cannot_be_made_is_unknown_and_says_what_happens_next() {
        let notes = Checked(Fails).notes_of_failure(&Error::NotKnown("the region"));
        let result = note(&notes);
        assert_eq!(result.result, CheckResult::Unknown);
        assert!(result.next_action.contains("Golive retries"), "{result:?}");
    }
}
