//! Whether the image of an earlier release can still be pulled.

use std::time::{Duration, Instant};

use super::record::Record;
use crate::pipeline::Cx;

/// TTL of a registry's answer about the image that serves.
const TTL: Duration = Duration::from_secs(30);

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
pub async fn observe(cx: &Cx, pinned: &str) -> Pull {
    let reference = match pinned.parse() {
        Ok(reference) => reference,
        Err(error) => return Pull::Unknown(crate::causes::chain(&error)),
    };
    match cx.fly.resolve_image(&reference).await {
        Ok(Some(_)) => Pull::Possible,
        Ok(None) => Pull::Gone,
        Err(error) => Pull::Unknown(crate::causes::chain(&error)),
    }
}

/// Whether the registry no longer has the image that an automatic rollback would restore. An
/// unknown answer is no obstacle: the failed release serves nobody, so that a try loses nothing.
pub async fn is_serving_gone(cx: &Cx, serving: Option<&Record>) -> bool {
    let Some(serving) = serving else {
        return false;
    };
    let pinned = &serving.content.pinned;
    // A failure is observed often; the registry need not be.
    if let Some(known) = cx.facts.get::<Answer>()
        && known.pinned == *pinned
        && known.at.elapsed() < TTL
    {
        return known.pull == Pull::Gone;
    }
    let pull = observe(cx, pinned).await;
    let is_gone = pull == Pull::Gone;
    cx.facts.set(Answer {
        pinned: pinned.clone(),
        at: Instant::now(),
        pull,
    });
    is_gone
}

/// Says that the image of a release cannot be pulled any more.
pub fn gone(record: &Record) -> String {
    format!(
        "the image of {} cannot be pulled any more: its registry has no {}; push it again, or deploy another release",
        record.name(),
        record.content.pinned
    )
}
