//! Which answer is one of the application, and what it means for a check. Pure.

use std::time::Duration;

use crate::{
    net::probe::{Answer, ProbeError},
    phase::integrations::outcome::{Ended, Outcome},
};

/// Why a check has nothing to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) ended: Ended,
    pub(super) evidence: String,
    pub(super) change: &'static str,
}

impl Gap {
    pub(super) fn new(ended: Ended, evidence: String, change: &'static str) -> Self {
        Self {
            ended,
            evidence,
            change,
        }
    }

    /// The outcome of a check that has this gap.
    pub(super) fn outcome(self, id: &'static str, name: &'static str) -> Outcome {
        let Self {
            ended,
            evidence,
            change,
        } = self;
        outcome(id, name, ended, None, evidence, change.to_owned())
    }
}

/// An outcome that is no forgery.
pub(super) fn outcome(
    id: &'static str,
    name: &'static str,
    ended: Ended,
    took: Option<Duration>,
    evidence: String,
    change: String,
) -> Outcome {
    Outcome {
        id,
        name,
        ended,
        forgery: false,
        took,
        evidence,
        change,
    }
}

/// Statuses of proxies, of overload and of a start: not an answer of the application about this request.
/// 520 to 530 are Cloudflare's.
fn is_from_in_between(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 502 | 503 | 504 | 520..=530)
}

/// The answer with the export, or why there is none.
pub(super) fn of_export(fetched: &Result<Answer, ProbeError>) -> Result<&Answer, Gap> {
    let answer = match fetched {
        Ok(answer) => answer,
        Err(error @ (ProbeError::Redirected | ProbeError::RedirectLoop)) => {
            let change = "answer the export itself, without a login: other channels have none";
            return Err(Gap::new(Ended::Failed, error.to_string(), change));
        }
        Err(ProbeError::TooLarge(limit)) => {
            let evidence = format!("the export is larger than {limit} bytes");
            return Err(Gap::new(Ended::Failed, evidence, "export fewer events"));
        }
        Err(error) => return Err(Gap::new(Ended::Unknown, error.to_string(), "")),
    };
    let status = answer.status;
    let evidence = format!("answered {status}");
    match status {
        200 => Ok(answer),
        _ if is_from_in_between(status) => Err(Gap::new(Ended::Unknown, evidence, "")),
        401 | 403 | 407 => {
            let change = "answer without a login: put a secret into the path or query instead";
            Err(Gap::new(Ended::Failed, evidence, change))
        }
        404 | 410 => {
            let change = "serve the export there, or correct spec.integrations.ical.exportPath";
            Err(Gap::new(Ended::Failed, evidence, change))
        }
        _ => Err(Gap::new(
            Ended::Failed,
            evidence,
            "answer 200 with the calendar",
        )),
    }
}

/// The answer with a page that shows a number. Without it nothing is proven, and nothing has failed.
pub(super) fn of_page(fetched: &Result<Answer, ProbeError>) -> Result<&Answer, Gap> {
    let change =
        "show the number there without a login, or correct the path in spec.integrations.ical";
    match fetched {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(answer) => {
            let status = answer.status;
            let is_absent = matches!(status, 300..=399 | 401 | 403 | 404 | 405 | 406 | 410);
            let evidence = format!("the page answered {status}");
            Err(match is_absent {
                true => Gap::new(Ended::Unproven, evidence, change),
                false => Gap::new(Ended::Unknown, evidence, ""),
            })
        }
        Err(
            error @ (ProbeError::Redirected | ProbeError::RedirectLoop | ProbeError::TooLarge(_)),
        ) => Err(Gap::new(Ended::Unproven, error.to_string(), change)),
        Err(error) => Err(Gap::new(Ended::Unknown, error.to_string(), "")),
    }
}

/// The text of a header; none if it is missing or no text.
pub(super) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name)?.to_str().ok()
}
