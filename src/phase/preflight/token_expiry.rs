//! The token is valid for as long as the activation is observed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::check::{Check, Finding};
use crate::{
    api::{Reason, preflight::CheckName, status::Severity},
    fly::token::Facts,
    pipeline::{Cx, step::Result},
    plan::Target,
};

/// The token is valid for as long as the activation is observed.
pub struct TokenExpiry;

/// Time that a go-live may take, in addition to the time of observation.
const GO_LIVE: Duration = Duration::from_secs(3600);

impl Check for TokenExpiry {
    type Observed = (Facts, Timestamp);
    const NAME: CheckName = CheckName::TokenExpiry;
    const SEVERITY: Severity = Severity::Warning;

    async fn observe(&self, cx: &Cx) -> Result<(Facts, Timestamp)> {
        Ok((cx.target.token.facts().clone(), cx.fly_now()))
    }

    fn judge(&self, target: &Target, (facts, now): &(Facts, Timestamp)) -> Finding {
        let action =
            "put a token that lasts longer into the Secret: `fly tokens create org -x 8760h`";
        let needed = SignedDuration::try_from(GO_LIVE + target.preflight.token_lifetime)
            .unwrap_or(SignedDuration::MAX);
        let until = now.saturating_add(needed).unwrap_or(Timestamp::MAX);
        match facts.expires_at {
            Some(end) if end < until => Finding::failed(
                Reason::TokenExpiring,
                format!("the token expires at {end}, and is needed until {until}"),
                action,
            ),
            _ if facts.needs_discharge => Finding::failed(
                Reason::TokenExpiring,
                "the token is a personal login, which must be renewed regularly and cannot be renewed here",
                action,
            ),
            Some(end) => Finding::passed(format!("the token is valid until {end}")),
            None => Finding::passed("the token does not say when it expires"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::testing::target;

    #[test]
    fn the_token_must_be_valid_for_the_time_of_observation() {
        let now = Timestamp::UNIX_EPOCH;
        let watched = target(
            "observe: {window: 72h, source: {metricsPath: /m}, objectives: []}",
            &[],
        );
        for (hours, spec, warns) in [
            (80, &watched, false),
            (71, &watched, true),
            (2, &target("", &[]), false),
        ] {
            let facts = Facts {
                expires_at: Timestamp::from_second(hours * 3600).ok(),
                ..Facts::default()
            };
            let finding = TokenExpiry.judge(spec, &(facts, now));
            assert_eq!(
                matches!(finding, Finding::Failed { .. }),
                warns,
                "{finding:?}"
            );
        }
    }

    #[test]
    fn a_personal_login_is_warned_about() {
        let facts = Facts {
            needs_discharge: true,
            ..Facts::default()
        };
        let finding = TokenExpiry.judge(&target("", &[]), &(facts, Timestamp::UNIX_EPOCH));
        assert!(matches!(finding, Finding::Failed { .. }), "{finding:?}");
    }
}
