//! Fly.io accepts the token.

use jiff::Timestamp;

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    fly::{Class, token::Facts},
    pipeline::{Cx, step::Result},
    plan::{Target, token::store_new},
};

/// Fly.io accepts the token.
pub struct TokenValid;

/// What the token and Fly.io say about its validity.
#[derive(Debug)]
pub struct Validity {
    facts: Facts,
    now: Timestamp,
    answer: Answer,
}

/// What Fly.io answers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// No request was sent: the token itself says that it is not valid now.
    NotAsked,
    /// Accepted.
    Accepted,
    /// It refuses the token for good, with this answer.
    Refused(String),
}

fn is_out_of_period(facts: &Facts, now: Timestamp) -> bool {
    facts.expires_at.is_some_and(|end| end <= now)
        || facts.valid_from.is_some_and(|start| start > now)
}

impl Check for TokenValid {
    type Observed = Validity;
    const NAME: CheckName = CheckName::TokenValid;
    const SEVERITY: Severity = Severity::Blocking;

    async fn observe(&self, cx: &Cx) -> Result<Validity> {
        let facts = cx.target.token.facts().clone();
        let now = cx.fly_now();
        let answer = if is_out_of_period(&facts, now) {
            Answer::NotAsked
        } else {
            match cx.fly.current_tokens().await {
                Ok(_) => Answer::Accepted,
                // Fly.io sometimes refuses a valid token, so that one refusal proves nothing.
                Err(error) if *error.class() == Class::Auth { hard: true } => {
                    Answer::Refused(error.to_string())
                }
                Err(error) => return Err(Error::fly("read whether the token is accepted", error)),
            }
        };
        Ok(Validity { facts, now, answer })
    }

    fn judge(&self, target: &Target, validity: &Validity) -> Finding {
        let preflight = &target.preflight;
        let new = store_new(
            &preflight.namespace,
            (&preflight.token_secret, &preflight.token_key),
            &target.organization,
        );
        if let Some(end) = validity.facts.expires_at.filter(|end| *end <= validity.now) {
            return Finding::failed(
                Reason::TokenInvalid,
                format!("the token expired at {end}"),
                new,
            );
        }
        if let Some(start) = validity
            .facts
            .valid_from
            .filter(|start| *start > validity.now)
        {
            return Finding::failed(
                Reason::TokenInvalid,
                format!("the token is not valid before {start}"),
                format!("correct the clock, or {new}"),
            );
        }
        match &validity.answer {
            Answer::Refused(answer) => Finding::failed(
                Reason::TokenInvalid,
                format!("Fly.io refuses the token ({answer})"),
                new,
            ),
            Answer::Accepted | Answer::NotAsked => Finding::passed("Fly.io accepts the token"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    fn judge(facts: Facts, answer: Answer) -> Finding {
        let now = Timestamp::from_second(1_000).unwrap_or_default();
        TokenValid.judge(&target("", &[]), &Validity { facts, now, answer })
    }

    #[test]
    fn a_token_outside_its_period_of_validity_is_not_sent() {
        let at = |second| Timestamp::from_second(second).ok();
        let ended = Facts {
            expires_at: at(999),
            ..Facts::default()
        };
        let early = Facts {
            valid_from: at(2_000),
            ..Facts::default()
        };
        for facts in [ended, early] {
            let finding = judge(facts, Answer::NotAsked);
            assert!(
                matches!(&finding, Finding::Failed { reason: Reason::TokenInvalid, action, .. }
                    if action.contains("fly tokens create org")),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn the_answer_of_fly_decides() {
        let good = judge(Facts::default(), Answer::Accepted);
        assert!(matches!(good, Finding::Passed(_)), "{good:?}");
        let bad = judge(Facts::default(), Answer::Refused("401".to_owned()));
        assert!(matches!(bad, Finding::Failed { .. }), "{bad:?}");
    }
}
