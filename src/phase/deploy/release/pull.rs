//! Whether the image of an earlier release can still be pulled.

use std::time::{Duration, Instant};

use super::record::Record;
use crate::{
    error::Error,
    fly::ImageReference,
    phase::absence::{self, Doubt},
    pipeline::{Cx, step::Result},
};

/// TTL of a registry's answer about the image that serves.
const TTL: Duration = Duration::from_secs(30);

/// Name of the question to the registry. Its server may answer slowly.
const QUESTION: &str = "image to restore";

/// Kind of an image, where a look that does not show it is noted.
const IMAGE: &str = "Image";

/// Whether an image can still be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Its registry has it.
    Possible,
    /// Its registry says that it does not exist.
    Gone,
    /// The registry does not answer; says why.
    Unknown(String),
}

/// What the registry answered last about the image that serves. A fact.
#[derive(Debug)]
struct Answer {
    pinned: String,
    at: Instant,
    pull: Pull,
}

/// Asks the registry whether an image can still be pulled.
///
/// # Errors
/// While the registry has not answered.
pub async fn observe(cx: &Cx, pinned: &str) -> Result<Pull> {
    let reference: ImageReference = match pinned.parse() {
        Ok(reference) => reference,
        Err(error) => return Ok(Pull::Unknown(crate::causes::chain(&error))),
    };
    let client = cx.fly.clone();
    let ask = || async move { client.resolve_image(&reference).await };
    let question = format!("{pinned} {}", cx.target.stamp());
    let answer = cx.outside.ask(QUESTION, &question, ask).await;
    let answer = answer.ok_or_else(|| Error::Awaited(format!("the registry of {pinned}")))?;
    Ok(match answer {
        Ok(Some(_)) => Pull::Possible,
        Ok(None) => Pull::Gone,
        Err(error) => Pull::Unknown(crate::causes::chain(&error)),
    })
}

/// Whether the registry no longer has the image that an automatic rollback would restore. An
/// unknown answer is no obstacle: the failed release serves nobody, so that a try loses nothing.
///
/// # Errors
/// While the registry has not answered, and when one look has not found it, which is no proof.
pub async fn is_serving_gone(cx: &Cx, serving: Option<&Record>) -> Result<bool> {
    let Some(serving) = serving else {
        return Ok(false);
    };
    let pinned = &serving.content.pinned;
    // A failure is observed often; the registry need not be.
    if let Some(known) = cx.facts.get::<Answer>()
        && known.pinned == *pinned
        && known.at.elapsed() < TTL
    {
        return Ok(known.pull == Pull::Gone);
    }
    let pull = observe(cx, pinned).await?;
    // One answer that lacks it is no proof, and loses the rollback for good.
    let again = match pull {
        Pull::Gone => absence::seen(cx, Doubt::Gone, IMAGE, pinned),
        Pull::Possible | Pull::Unknown(_) => {
            absence::cleared(cx, Doubt::Gone, IMAGE, pinned);
            None
        }
    };
    if let Some(again) = again {
        return Err(Error::NotSeen {
            what: format!("the image {pinned}"),
            again,
        });
    }
    let is_gone = pull == Pull::Gone;
    cx.facts.set(Answer {
        pinned: pinned.clone(),
        at: Instant::now(),
        pull,
    });
    Ok(is_gone)
}

/// Says that the image of a release cannot be pulled any more.
pub fn gone(record: &Record) -> String {
    format!(
        "the image of {} cannot be pulled any more: its registry has no {}; push it again, or deploy another release",
        record.name(),
        record.content.pinned
    )
}
