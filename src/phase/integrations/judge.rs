//! What answers mean. Pure.
//!
//! A forged request that is accepted decides alone, whatever else was answered. What has no answer of the
//! application is never a failure.

use std::time::Duration;

use super::{
    outcome::{Ended, Outcome},
    probe::{Asked, Expect, Reply},
};

/// What a person does when nothing is wrong with the application.
pub const NO_ACTION: &str = "No action needed; Golive asks again.";

/// What is tested, apart from how it ended.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Which one, such as `W4`.
    pub id: &'static str,
    /// Its plain name.
    pub name: &'static str,
    /// What to change when it fails.
    pub change: &'static str,
}

impl Check {
    /// The outcome.
    pub fn ended(self, verdict: Verdict) -> Outcome {
        let change = match (verdict.ended, verdict.change) {
            (Ended::Passed, _) => String::new(),
            (_, Some(change)) => change,
            (Ended::Unknown, None) => NO_ACTION.to_owned(),
            (_, None) => self.change.to_owned(),
        };
        Outcome {
            id: self.id,
            name: self.name,
            ended: verdict.ended,
            forgery: verdict.forgery,
            took: verdict.took,
            evidence: verdict.evidence,
            change,
        }
    }

    /// The outcome when an earlier one leaves nothing to ask.
    pub fn open(self, ended: Ended, evidence: &str, change: &str) -> Outcome {
        self.ended(Verdict {
            change: Some(change.to_owned()),
            ..Verdict::of(ended, evidence.to_owned())
        })
    }
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How.
    pub ended: Ended,
    /// Whether a forged request was accepted.
    pub forgery: bool,
    /// Time until the slowest answer.
    pub took: Option<Duration>,
    /// What came back.
    pub evidence: String,
    /// What to change, unless the check says it.
    pub change: Option<String>,
}

impl Verdict {
    /// Of no forgery.
    pub fn of(ended: Ended, evidence: String) -> Self {
        Self {
            ended,
            forgery: false,
            took: None,
            evidence,
            change: None,
        }
    }
}

/// Which statuses mean what.
#[derive(Clone, Copy, Debug)]
pub struct Statuses<'a> {
    /// A signed request is accepted.
    pub accepted: &'a [u16],
    /// A forged request is refused.
    pub refused: &'a [u16],
}

/// What the answers to all probes of a check mean together.
pub fn judge(asked: &[&Asked], statuses: &Statuses<'_>) -> Verdict {
    let single = asked.len() == 1;
    let verdicts = asked.iter().map(|asked| {
        let verdict = judge_one(asked, statuses);
        // With several requests, say which.
        let evidence = match (single, verdict.ended) {
            (false, ended) if ended != Ended::Passed => {
                format!("{}: {}", asked.variant, verdict.evidence)
            }
            _ => verdict.evidence,
        };
        Verdict {
            evidence,
            ..verdict
        }
    });
    all(verdicts.collect())
}

/// The verdicts of several requests together: the worst one.
fn all(verdicts: Vec<Verdict>) -> Verdict {
    let took = verdicts.iter().filter_map(|verdict| verdict.took).max();
    let count = verdicts.len();
    let forged = verdicts.iter().filter(|verdict| verdict.forgery).count();
    // Of equal ones the first.
    let worst = verdicts
        .into_iter()
        .enumerate()
        .max_by_key(|(at, verdict)| {
            let first = std::cmp::Reverse(*at);
            (gravity(verdict), first)
        });
    let Some((_, worst)) = worst else {
        return Verdict::of(Ended::Unknown, "nothing was asked".to_owned());
    };
    let evidence = match (worst.ended, count) {
        (Ended::Passed, 2..) => format!("{count} requests; {}", worst.evidence),
        _ if forged > 1 => format!("{} ({forged} of {count} forged requests)", worst.evidence),
        _ => worst.evidence,
    };
    Verdict {
        evidence,
        took,
        ..worst
    }
}

/// How bad a verdict is: a forgery above all.
fn gravity(verdict: &Verdict) -> u8 {
    match verdict.ended {
        _ if verdict.forgery => 6,
        Ended::Failed => 5,
        Ended::Unknown => 4,
        Ended::Waiting => 3,
        Ended::Unproven => 2,
        Ended::Warned => 1,
        Ended::Passed => 0,
    }
}

/// What the answer to one request means.
pub fn judge_one(asked: &Asked, statuses: &Statuses<'_>) -> Verdict {
    let verdict = match &asked.reply {
        Reply::Silent { after } => {
            let evidence = format!("no answer within {}", span(*after));
            Verdict::of(Ended::Unknown, evidence)
        }
        Reply::Unreachable { why } => Verdict::of(Ended::Unknown, why.clone()),
        Reply::Answered { status, .. } if asked.reply.is_unknown() => unknown_status(*status),
        Reply::Answered { status, body, took } => match &asked.expect {
            Expect::Accepted => accepted(*status, *took, statuses.accepted),
            Expect::Refused => refused(*status, *took, statuses),
            Expect::NotAccepted if !is_success(*status) => {
                Verdict::of(Ended::Passed, answered(*status, *took))
            }
            Expect::NotAccepted => refused(*status, *took, statuses),
            Expect::Challenge(text) => challenge(*status, body, *took, text),
            Expect::NoChallenge(text) => no_challenge(*status, body, *took, text, statuses.refused),
        },
    };
    Verdict {
        took: asked.reply.took(),
        ..verdict
    }
}

/// An answer that may come from something in between.
fn unknown_status(status: u16) -> Verdict {
    let evidence = match status {
        429 => "answered 429: something limits the rate of requests".to_owned(),
        _ => format!("answered {status}, as Fly.io's edge does when no machine takes the request"),
    };
    let change = "Golive asks again. If the application itself answers this, look at its log: a secret may be missing there.";
    Verdict {
        change: Some(change.to_owned()),
        ..Verdict::of(Ended::Unknown, evidence)
    }
}

fn accepted(status: u16, took: Duration, wanted: &[u16]) -> Verdict {
    if wanted.contains(&status) {
        return Verdict::of(Ended::Passed, answered(status, took));
    }
    let evidence = format!("answered {status} where {} is expected", list(wanted));
    Verdict::of(Ended::Failed, evidence)
}

/// A success with which signed requests are answered too is no refusal, whatever the spec says of it.
fn refused(status: u16, took: Duration, statuses: &Statuses<'_>) -> Verdict {
    let wanted = statuses.refused;
    let accepts = is_success(status) && statuses.accepted.contains(&status);
    if wanted.contains(&status) && !accepts {
        return Verdict::of(Ended::Passed, answered(status, took));
    }
    let evidence = match wanted.contains(&status) {
        true => format!("answered {status}, as signed requests are answered"),
        false => format!("answered {status} where {} is expected", list(wanted)),
    };
    Verdict {
        forgery: is_success(status),
        ..Verdict::of(Ended::Failed, evidence)
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn challenge(status: u16, body: &[u8], took: Duration, text: &str) -> Verdict {
    if status != 200 {
        let evidence = format!("answered {status} where 200 is expected");
        return Verdict::of(Ended::Failed, evidence);
    }
    if body == text.as_bytes() {
        let evidence = format!("{} with the challenge", answered(status, took));
        return Verdict::of(Ended::Passed, evidence);
    }
    let evidence = if contains(body, text) {
        "answered 200 with more than the challenge".to_owned()
    } else {
        let bytes = body.len();
        format!("answered 200 with {bytes} bytes that are not the challenge")
    };
    Verdict::of(Ended::Failed, evidence)
}

fn no_challenge(status: u16, body: &[u8], took: Duration, text: &str, wanted: &[u16]) -> Verdict {
    if is_success(status) && contains(body, text) {
        let evidence = format!("answered {status} with the challenge");
        return Verdict {
            forgery: true,
            ..Verdict::of(Ended::Failed, evidence)
        };
    }
    if contains(body, text) {
        let evidence = format!("answered {status}, and the answer has the challenge");
        return Verdict::of(Ended::Failed, evidence);
    }
    if wanted.contains(&status) {
        return Verdict::of(Ended::Passed, answered(status, took));
    }
    let evidence = format!("answered {status} where {} is expected", list(wanted));
    Verdict::of(Ended::Failed, evidence)
}

/// Whether a signed request was accepted.
pub fn is_accepted(reply: &Reply, statuses: &Statuses<'_>) -> bool {
    reply
        .status()
        .is_some_and(|status| statuses.accepted.contains(&status))
}

/// Whether a request was refused as a forged one should be.
pub fn is_refused(reply: &Reply, statuses: &Statuses<'_>) -> bool {
    reply
        .status()
        .is_some_and(|status| statuses.refused.contains(&status))
}

fn answered(status: u16, took: Duration) -> String {
    format!("answered {status} in {}", span(took))
}

/// A time for people: `12 ms`, `2.5 s`.
pub fn span(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0..=999 => format!("{millis} ms"),
        _ if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// Statuses for people: `401, 403 or 400`.
fn list(statuses: &[u16]) -> String {
    let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
    match statuses.as_slice() {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        statuses => statuses.concat(),
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    !text.is_empty() && body.windows(text.len()).any(|part| part == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::phase::integrations::probe::Special;

    const STATUSES: Statuses<'static> = Statuses {
        accepted: &[200],
        refused: &[401, 403],
    };

    #[test]
    fn statuses_are_listed_as_people_do() {
        assert_eq!(list(&[200]), "200");
        assert_eq!(list(&[401, 403]), "401 or 403");
        assert_eq!(list(&[401, 403, 400]), "401, 403 or 400");
    }

    fn asked(expect: Expect, reply: Reply) -> Asked {
        Asked {
            check: "W0",
            variant: "a variant",
            special: Special::Plain,
            expect,
            reply,
        }
    }

    fn said(status: u16, body: &'static str) -> Reply {
        Reply::Answered {
            status,
            body: Bytes::from_static(body.as_bytes()),
            took: Duration::from_millis(12),
        }
    }

    fn ended(expect: Expect, reply: Reply) -> (Ended, bool) {
        let verdict = judge_one(&asked(expect, reply), &STATUSES);
        assert!(!verdict.evidence.is_empty() && !verdict.evidence.contains('\n'));
        (verdict.ended, verdict.forgery)
    }

    #[test]
    fn a_signed_request_must_be_accepted_with_the_right_status() {
        for (status, expected) in [
            (200, Ended::Passed),
            (201, Ended::Failed),
            (301, Ended::Failed),
            (401, Ended::Failed),
            (404, Ended::Failed),
            (500, Ended::Failed),
            (502, Ended::Unknown),
            (503, Ended::Unknown),
            (504, Ended::Unknown),
            (429, Ended::Unknown),
        ] {
            let found = ended(Expect::Accepted, said(status, ""));
            assert_eq!(found, (expected, false), "{status}");
        }
    }

    #[test]
    fn a_forged_request_that_is_accepted_is_a_forgery() {
        for (status, expected) in [
            (200, (Ended::Failed, true)),
            (202, (Ended::Failed, true)),
            (204, (Ended::Failed, true)),
            (302, (Ended::Failed, false)),
            (400, (Ended::Failed, false)),
            (401, (Ended::Passed, false)),
            (403, (Ended::Passed, false)),
            (404, (Ended::Failed, false)),
            (500, (Ended::Failed, false)),
            (503, (Ended::Unknown, false)),
        ] {
            assert_eq!(
                ended(Expect::Refused, said(status, "")),
                expected,
                "{status}"
            );
        }
    }

    #[test]
    fn a_success_that_signed_requests_get_too_is_never_a_refusal() {
        let lenient = Statuses {
            accepted: &[200],
            refused: &[200, 204, 401],
        };
        let verdict = |status| judge_one(&asked(Expect::Refused, said(status, "")), &lenient);
        assert!(verdict(200).forgery);
        for status in [204, 401] {
            assert_eq!(verdict(status).ended, Ended::Passed, "{status}");
        }
    }

    #[test]
    fn a_malformed_request_may_be_refused_in_any_way_and_not_accepted() {
        for (status, expected) in [
            (200, (Ended::Failed, true)),
            (204, (Ended::Failed, true)),
            (302, (Ended::Passed, false)),
            (400, (Ended::Passed, false)),
            (401, (Ended::Passed, false)),
            (500, (Ended::Passed, false)),
            (503, (Ended::Unknown, false)),
        ] {
            let found = ended(Expect::NotAccepted, said(status, ""));
            assert_eq!(found, expected, "{status}");
        }
    }

    #[test]
    fn the_challenge_is_the_whole_answer_for_the_right_token_alone() {
        let right = |reply| ended(Expect::Challenge("77".to_owned()), reply);
        assert_eq!(right(said(200, "77")), (Ended::Passed, false));
        for (status, body) in [
            (200, "\"77\""),
            (200, "77\n"),
            (200, ""),
            (403, "77"),
            (201, "77"),
        ] {
            assert_eq!(
                right(said(status, body)).0,
                Ended::Failed,
                "{status} {body}"
            );
        }
        let wrong = |reply| ended(Expect::NoChallenge("77".to_owned()), reply);
        assert_eq!(wrong(said(403, "no")), (Ended::Passed, false));
        assert_eq!(wrong(said(401, "")), (Ended::Passed, false));
        assert_eq!(wrong(said(200, "77")), (Ended::Failed, true));
        assert_eq!(wrong(said(200, "no")), (Ended::Failed, false));
        assert_eq!(wrong(said(403, "77")), (Ended::Failed, false));
        assert_eq!(wrong(said(503, "")), (Ended::Unknown, false));
    }

    #[test]
    fn no_answer_is_unknown_whatever_was_expected() {
        for expect in [
            Expect::Accepted,
            Expect::Refused,
            Expect::Challenge("1".to_owned()),
            Expect::NoChallenge("1".to_owned()),
        ] {
            let silent = Reply::Silent {
                after: Duration::from_secs(10),
            };
            let broken = Reply::Unreachable {
                why: "cannot connect".to_owned(),
            };
            assert_eq!(ended(expect.clone(), silent), (Ended::Unknown, false));
            assert_eq!(ended(expect, broken), (Ended::Unknown, false));
        }
    }

    #[test]
    fn one_forgery_decides_whatever_else_was_answered() {
        let forged = |status| asked(Expect::Refused, said(status, ""));
        let (accepted, failed, unknown, refused) =
            (forged(200), forged(500), forged(503), forged(401));
        let together = |asked: &[&Asked]| {
            let verdict = judge(asked, &STATUSES);
            (verdict.ended, verdict.forgery)
        };
        assert_eq!(
            together(&[&refused, &failed, &unknown, &accepted, &refused]),
            (Ended::Failed, true)
        );
        assert_eq!(
            together(&[&refused, &unknown, &failed]),
            (Ended::Failed, false)
        );
        assert_eq!(together(&[&refused, &unknown]), (Ended::Unknown, false));
        assert_eq!(together(&[&refused, &refused]), (Ended::Passed, false));
        assert_eq!(together(&[]), (Ended::Unknown, false));
        let several = judge(&[&refused, &accepted, &accepted], &STATUSES);
        assert_eq!(
            several.evidence,
            "a variant: answered 200 where 401 or 403 is expected (2 of 3 forged requests)"
        );
        assert_eq!(several.took, Some(Duration::from_millis(12)));
    }

    #[test]
    fn a_person_is_told_what_to_change_unless_nothing_is_wrong() {
        let check = Check {
            id: "W4",
            name: "a message without a signature is refused",
            change: "refuse it",
        };
        let change = |ended| check.ended(Verdict::of(ended, "x".to_owned())).change;
        assert_eq!(change(Ended::Passed), "");
        assert_eq!(change(Ended::Failed), "refuse it");
        assert_eq!(change(Ended::Unknown), NO_ACTION);
        let open = check.open(Ended::Unproven, "see W3", "mend W3");
        assert_eq!(
            (open.change.as_str(), open.evidence.as_str()),
            ("mend W3", "see W3")
        );
    }

    #[test]
    fn times_are_short_and_exact_enough() {
        for (millis, text) in [(0, "0 ms"), (999, "999 ms"), (1000, "1 s"), (2540, "2.5 s")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
