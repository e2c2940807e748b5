//! Fly.io accepts the token.

use jiff::Timestamp;

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    error::Error,
    fly::{Class, token::Facts},
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// Fly.io accepts the token.
pub struct TokenValid;

/// What the token says of itself, and what Fly.io says.
#[derive(Debug)]
pub struct Seen {
    facts: Facts,
    now: Timestamp,
    answer: Answer,
}

/// What Fly.io says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Not asked: the token's own text says that it cannot be used.
    NotAsked,
    /// Accepted.
    Accepted,
    /// Refused, and not by mistake. Fly.io's words.
    Refused(String),
}

const NEW_TOKEN: &str =
    "make one with `fly tokens create org` and put it into the Secret of `tokenSecretRef`";

fn out_of_time(facts: &Facts, now: Timestamp) -> bool {
    facts.expires_at.is_some_and(|end| end <= now)
        || facts.valid_from.is_some_and(|start| start > now)
}

impl Check for TokenValid {
    type Seen = Seen;
    const NAME: CheckName = CheckName::TokenValid;
    const SEVERITY: Severity = Severity::Blocking;

    async fn look(&self, cx: &Cx) -> Result<Seen> {
        let facts = cx.target.token.facts().clone();
        let now = cx.now();
        let answer = if out_of_time(&facts, now) {
            Answer::NotAsked
        } else {
            match cx.fly.current_tokens().await {
                Ok(_) => Answer::Accepted,
                // Fly.io now and then refuses a good token, so one refusal proves nothing.
                Err(error) if *error.class() == Class::Auth { hard: true } => {
                    Answer::Refused(error.to_string())
                }
                Err(error) => return Err(Error::fly("ask whether the token is accepted", error)),
            }
        };
        Ok(Seen { facts, now, answer })
    }

    fn judge(&self, _target: &Target, seen: &Seen) -> Finding {
        if let Some(end) = seen.facts.expires_at.filter(|end| *end <= seen.now) {
            return Finding::failed(
                Reason::TokenInvalid,
                format!("the token ended at {end}"),
                NEW_TOKEN,
            );
        }
        if let Some(start) = seen.facts.valid_from.filter(|start| *start > seen.now) {
            return Finding::failed(
                Reason::TokenInvalid,
                format!("the token is not valid before {start}"),
                format!("set the clock right, or {NEW_TOKEN}"),
            );
        }
        match &seen.answer {
            Answer::Refused(words) => Finding::failed(
                Reason::TokenInvalid,
                format!("Fly.io refuses the token ({words})"),
                NEW_TOKEN,
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
        TokenValid.judge(&target("", &[]), &Seen { facts, now, answer })
    }

    #[test]
    fn a_token_outside_its_time_is_not_even_asked_about() {
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
    fn fly_io_has_the_last_word() {
        let good = judge(Facts::default(), Answer::Accepted);
        assert!(matches!(good, Finding::Passed(_)), "{good:?}");
        let bad = judge(Facts::default(), Answer::Refused("401".to_owned()));
        assert!(matches!(bad, Finding::Failed { .. }), "{bad:?}");
    }
}
