//! The outcomes of a set of checks: what several of them share. Pure.

use super::{
    judge::{Check, NO_ACTION, Statuses, Verdict, is_refused, judge},
    outcome::{Ended, Outcome},
    probe::{Asked, Expect, Reply},
};

/// The probes of a set that were sent.
pub struct Set<'a> {
    /// The probes.
    pub asked: &'a [Asked],
    /// Which statuses mean what.
    pub statuses: Statuses<'a>,
    /// The check of a plain signed request, on which others depend.
    pub signed: Check,
    /// Which of its probes are plain ones.
    pub plain: fn(&Asked) -> bool,
}

impl Set<'_> {
    /// The probes of a check.
    pub fn of(&self, check: Check) -> impl Iterator<Item = &Asked> + Clone {
        self.asked
            .iter()
            .filter(move |asked| asked.check == check.id)
    }

    /// What the answers to a check mean.
    pub fn verdict(&self, check: Check) -> Verdict {
        let own: Vec<&Asked> = self.of(check).collect();
        judge(&own, &self.statuses)
    }

    /// The outcome of a check.
    pub fn outcome(&self, check: Check) -> Outcome {
        check.ended(self.verdict(check))
    }

    /// The outcome of a check of forged requests. What shows that they are processed outweighs their
    /// answers.
    pub fn refused(&self, check: Check, processed: Option<Verdict>) -> Outcome {
        processed.map_or_else(|| self.outcome(check), |verdict| check.ended(verdict))
    }

    /// How the plain signed request ended.
    fn plain(&self) -> Ended {
        let plain = self.of(self.signed).filter(|asked| (self.plain)(asked));
        let plain: Vec<&Asked> = plain.collect();
        judge(&plain, &self.statuses).ended
    }

    /// The outcome of a check with signed requests: where the plain one is refused, a refusal of these
    /// shows nothing of its own.
    pub fn also_signed(&self, check: Check) -> Outcome {
        let refused = |asked: &Asked| is_refused(&asked.reply, &self.statuses);
        if self.plain() == Ended::Failed && self.of(check).all(refused) {
            return check.open(Ended::Unproven, &self.see(), self.signed.change);
        }
        self.outcome(check)
    }

    /// The outcome of what is asked only after a plain signed request was accepted.
    pub fn after_signed(&self, check: Check, verdict: Option<Verdict>) -> Outcome {
        match verdict {
            Some(verdict) => check.ended(verdict),
            None if self.plain() == Ended::Unknown => {
                check.open(Ended::Unknown, &self.see(), NO_ACTION)
            }
            None => check.open(Ended::Unproven, &self.see(), self.signed.change),
        }
    }

    /// Replies to everything but signed requests: what they cost beside the way is little.
    pub fn light(&self) -> impl Iterator<Item = &Reply> {
        let light = self.asked.iter();
        light
            .filter(|asked| asked.expect != Expect::Accepted)
            .map(|asked| &asked.reply)
    }

    fn see(&self) -> String {
        format!(
            "not shown, because a plain signed request is not accepted: see {}",
            self.signed.id
        )
    }
}

/// The outcome of checks that were not asked, because the application does not answer.
pub fn not_asked(checks: &[Check]) -> Vec<Outcome> {
    let why = "not asked: the first requests had no answer of the application";
    let open = checks
        .iter()
        .map(|check| check.open(Ended::Unknown, why, NO_ACTION));
    open.collect()
}

/// What the outcomes say when the application answered every request, also the signed ones, with 404:
/// most likely there is no webhook at the path. The first check says so, and the others show nothing of
/// their own; what passed stands.
pub fn at_a_path(first: Check, asked: &[Asked], outcomes: Vec<Outcome>) -> Vec<Outcome> {
    let nothing = |asked: &Asked| matches!(asked.reply, Reply::Answered { status: 404, .. });
    if asked.is_empty() || !asked.iter().all(nothing) {
        return outcomes;
    }
    let one = |outcome: Outcome| match outcome.ended {
        Ended::Passed => outcome,
        _ if outcome.id == first.id => Outcome {
            evidence: NOWHERE.to_owned(),
            change: TO_THE_PATH.to_owned(),
            ..outcome
        },
        _ => Outcome {
            ended: Ended::Unproven,
            evidence: format!(
                "not shown, because every request is answered 404: see {}",
                first.id
            ),
            change: TO_THE_PATH.to_owned(),
            ..outcome
        },
    };
    outcomes.into_iter().map(one).collect()
}

const NOWHERE: &str = "every request was answered 404, the signed ones too: the application has no webhook at this path";

const TO_THE_PATH: &str = "Correct `path` of this integration in the spec, or serve the webhook there. If it is there and hides behind 404: compare the secret in the application with the one in the Secret.";

/// Outcomes in the order of their numbers.
pub fn sorted(mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    outcomes.sort_by_key(|outcome| (outcome.id.len(), outcome.id));
    outcomes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::probe::Special, *};

    const FIRST: Check = check("W1");
    const SECOND: Check = check("W2");

    const fn check(id: &'static str) -> Check {
        Check {
            id,
            name: "a check",
            change: "check the signature",
        }
    }

    fn asked(check: Check, expect: Expect, status: u16) -> Asked {
        Asked {
            check: check.id,
            variant: "signed",
            special: Special::Plain,
            expect,
            reply: Reply::Answered {
                status,
                body: Default::default(),
                took: Duration::from_millis(3),
            },
        }
    }

    fn outcomes(asked: &[Asked]) -> Vec<Outcome> {
        let set = Set {
            asked,
            statuses: Statuses {
                accepted: &[200],
                refused: &[401, 403],
            },
            signed: FIRST,
            plain: |_| true,
        };
        let all = [FIRST, SECOND].map(|check| set.outcome(check));
        at_a_path(FIRST, asked, all.into())
    }

    #[test]
    fn a_path_where_nothing_is_is_one_failure_that_names_the_path_and_no_word_of_signatures() {
        let told = outcomes(&[
            asked(FIRST, Expect::Accepted, 404),
            asked(SECOND, Expect::Refused, 404),
        ]);
        let failed: Vec<&str> = told
            .iter()
            .filter(|outcome| outcome.ended == Ended::Failed)
            .map(|outcome| outcome.id)
            .collect();
        assert_eq!(failed, ["W1"], "{told:?}");
        assert!(
            told[0].evidence.contains("no webhook at this path"),
            "{told:?}"
        );
        assert!(told[0].change.starts_with("Correct `path`"), "{told:?}");
        assert_eq!(told[1].ended, Ended::Unproven);
        assert!(
            told.iter()
                .all(|outcome| !outcome.change.contains("signature"))
        );
    }

    #[test]
    fn where_something_answers_otherwise_each_check_speaks_for_itself() {
        let told = outcomes(&[
            asked(FIRST, Expect::Accepted, 404),
            asked(SECOND, Expect::Refused, 401),
        ]);
        assert_eq!(told[0].evidence, "answered 404 where 200 is expected");
        assert_eq!(told[1].ended, Ended::Passed);
        let forged = outcomes(&[
            asked(FIRST, Expect::Accepted, 404),
            asked(SECOND, Expect::Refused, 200),
        ]);
        assert!(forged[1].forgery, "{forged:?}");
    }
}
