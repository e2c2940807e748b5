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

/// Outcomes in the order of their numbers.
pub fn sorted(mut outcomes: Vec<Outcome>) -> Vec<Outcome> {
    outcomes.sort_by_key(|outcome| (outcome.id.len(), outcome.id));
    outcomes
}
