//! What a receiver's answer means.

use std::time::Duration;

/// Longest pause that a receiver may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The receiver has the message.
    Delivered,
    /// It may be tried again, after this time if the receiver named one.
    Again(Option<Duration>),
    /// The receiver refuses it, and would again.
    Refused,
}

/// The end that a status of HTTP means, with the header `Retry-After` if there was one (RFC 9110, 10.2.3;
/// a date is not read: no receiver here sends one).
#[must_use]
pub fn judge(status: u16, retry_after: Option<&str>) -> Ended {
    match status {
        200..=299 => Ended::Delivered,
        408 | 425 | 429 | 500..=599 => Ended::Again(retry_after.and_then(pause)),
        _ => Ended::Refused,
    }
}

/// Seconds, as Discord sends them also with a fraction.
fn pause(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    let known = Duration::try_from_secs_f64(seconds.ceil()).ok()?;
    Some(known.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_2xx_is_delivered() {
        for status in [200, 201, 202, 204] {
            assert_eq!(judge(status, None), Ended::Delivered, "{status}");
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_with_the_pause_that_the_receiver_names() {
        assert_eq!(judge(503, None), Ended::Again(None));
        let ten = Ended::Again(Some(Duration::from_secs(10)));
        assert_eq!(judge(429, Some(" 10 ")), ten);
        assert_eq!(judge(429, Some("9.3")), ten);
        let hour = Ended::Again(Some(MAX_PAUSE));
        assert_eq!(judge(429, Some("1e12")), hour);
        for odd in ["", "-1", "NaN", "inf", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(judge(503, Some(odd)), Ended::Again(None), "{odd}");
        }
    }

    #[test]
    fn a_refusal_and_a_redirect_are_final() {
        for status in [301, 302, 307, 400, 401, 403, 404, 410, 413] {
            assert_eq!(judge(status, None), Ended::Refused, "{status}");
        }
    }
}
