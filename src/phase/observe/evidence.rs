//! What a watch has observed, in Kubernetes: it survives a restart and a failover.

use jiff::Timestamp;

use super::{
    life::{self, About, FORMAT, Writing, is_written},
    question::Wanted,
    watch::{State, Watch},
};
use crate::{
    clock::watch::WatchClock,
    pipeline::{Cx, step::Result},
    slo::{
        Store,
        codec::{DecodeFault, MAX_STORED},
    },
    store::watch::{self, Stored},
};

/// Journal: the watch of this object.
#[derive(Clone, Debug)]
struct Known(Watch);

/// Why what is stored is no watch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// What it is about cannot be read.
    #[error("its `watch.json` cannot be read: {0}")]
    About(String),
    /// A newer version of Golive wrote it.
    #[error("a newer version of Golive wrote it (format {0})")]
    Newer(u32),
    /// The observations cannot be read.
    #[error("{0}")]
    Evidence(#[from] DecodeFault),
}

/// What is known of a watch.
#[derive(Debug)]
pub enum Found {
    /// This one.
    Watch(Watch),
    /// Nothing is stored.
    Nothing,
    /// What is stored cannot be read, and is left alone.
    Damaged(Damaged),
}

/// The watch of this object: as this process knows it, or as it is stored.
///
/// # Errors
/// When Kubernetes does not answer.
pub async fn open(cx: &Cx) -> Result<Found> {
    if let Some(known) = cx.journal.get::<Known>() {
        return Ok(Found::Watch(known.0.clone()));
    }
    let own = &cx.installation.own_namespace;
    let stored = watch::load(&cx.kube, own, &cx.owner.uid).await?;
    if !stored.exists() {
        return Ok(Found::Nothing);
    }
    Ok(match decode(stored) {
        Ok(watch) => {
            keep(cx, watch.clone());
            Found::Watch(watch)
        }
        Err(damaged) => Found::Damaged(damaged),
    })
}

/// Remembers a watch that begins.
pub fn keep(cx: &Cx, watch: Watch) {
    cx.journal.set(Known(watch));
}

/// Forgets the watch: nobody asks for it any more. What is stored stays until the object is deleted.
pub fn forget(cx: &Cx) {
    if let Some(known) = cx.journal.get::<Known>() {
        known.0.stop();
        cx.journal.clear::<Known>();
    }
}

fn decode(stored: Stored) -> std::result::Result<Watch, Damaged> {
    let about = about(&stored.about)?;
    let store = Store::decode(&stored.evidence)?;
    if store.begin() != about.begin {
        return Err(DecodeFault::Content.into());
    }
    Ok(Watch::new(about, store, stored))
}

fn about(text: &str) -> std::result::Result<About, Damaged> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let wrong = |error: serde_json::Error| Damaged::About(error.to_string());
    let Format { format } = serde_json::from_str(text).map_err(wrong)?;
    if format > FORMAT {
        return Err(Damaged::Newer(format));
    }
    serde_json::from_str(text).map_err(wrong)
}

/// A store for a watch that begins.
pub fn begin(wanted: &Wanted, begin: i64, gap_after: i64) -> Store {
    Store::new(begin, wanted.asked.kinds(), gap_after)
}

/// Stores what was observed, if that is due: see [`is_written`].
///
/// # Errors
/// When Kubernetes does not answer; nothing is lost, a later pass stores it.
pub async fn store(cx: &Cx, watch: &Watch, wanted: &Wanted, clock: &WatchClock) -> Result<()> {
    let (before, content) = {
        let state = watch.state();
        if !is_due(&state, wanted, clock) || !cx.fence.open() {
            return Ok(());
        }
        let Ok(about) = serde_json::to_string(&state.about) else {
            return Ok(());
        };
        let (bytes, is_all) = state.store.encode_within(MAX_STORED);
        if !is_all {
            tracing::warn!(
                most = MAX_STORED,
                "the figures of the watch are too many: they are stored coarser than they are"
            );
        }
        (state.stored.clone(), (about, bytes))
    };
    let own = &cx.installation.own_namespace;
    let saved = watch::save(&cx.kube, own, &cx.owner, &before, content).await?;
    let Some(saved) = saved else {
        // Another process has written, or the reply to an earlier write of ours was lost.
        return joined(cx, watch).await;
    };
    let mut state = watch.state();
    state.stored = saved;
    state.written = Some(std::time::Instant::now());
    state.is_news = false;
    Ok(())
}

fn is_due(state: &State, wanted: &Wanted, clock: &WatchClock) -> bool {
    let stored = about(&state.stored.about).ok();
    let stored = stored.filter(|stored| stored.begin == state.about.begin);
    let has_ended = |about: &About| about.ended.is_some();
    let was_ended = stored.as_ref().is_some_and(has_ended);
    let end = state.about.begin.saturating_add(wanted.length());
    let end = Timestamp::from_millisecond(end).unwrap_or(Timestamp::MAX);
    let writing = Writing {
        is_news: state.is_news && !was_ended,
        is_new: stored.is_none(),
        has_ended: has_ended(&state.about) && !was_ended,
        since: state.written.map(|written| written.elapsed()),
        left: clock.takes(clock.until(end)),
    };
    is_written(writing, life::write_every(|time| clock.takes(time)))
}

/// Takes over what another process has stored meanwhile of the same watch. One of another watch takes the
/// place of this one.
async fn joined(cx: &Cx, watch: &Watch) -> Result<()> {
    let own = &cx.installation.own_namespace;
    let stored = watch::load(&cx.kube, own, &cx.owner.uid).await?;
    let other = match decode(stored.clone()) {
        Ok(other) => other,
        Err(_) if !stored.exists() => {
            watch.state().stored = stored;
            return Ok(());
        }
        Err(_) => {
            forget(cx);
            return Ok(());
        }
    };
    let theirs = {
        let other = other.state();
        (other.about.clone(), other.store.clone())
    };
    let mut state = watch.state();
    let is_same = state.about.begin == theirs.0.begin && state.about.digest == theirs.0.digest;
    if is_same && state.store.merge(theirs.1) {
        state.stored = stored;
        return Ok(());
    }
    drop(state);
    forget(cx);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::phase::observe::life::Begin;

    fn text(about: &About) -> String {
        serde_json::to_string(about).unwrap()
    }

    #[test]
    fn what_is_damaged_newer_or_of_another_watch_is_refused() {
        let first = About::begun(Begin::First, None, 1_000, "d");
        assert_eq!(about(&text(&first)), Ok(first.clone()));
        let newer = About {
            format: FORMAT + 1,
            ..first.clone()
        };
        assert_eq!(about(&text(&newer)), Err(Damaged::Newer(FORMAT + 1)));
        assert!(matches!(about("{"), Err(Damaged::About(_))));
        assert!(matches!(about(""), Err(Damaged::About(_))));
        let stored = |about: &About, begin: i64| {
            let mut stored = Stored::default();
            stored.about = text(about);
            stored.evidence = Store::new(begin, Vec::new(), 1).encode();
            stored
        };
        assert!(decode(stored(&first, 1_000)).is_ok());
        let other = decode(stored(&first, 2_000)).err();
        assert_eq!(other, Some(Damaged::Evidence(DecodeFault::Content)));
        let mut cut = stored(&first, 1_000);
        cut.evidence.pop();
        assert!(matches!(decode(cut), Err(Damaged::Evidence(_))));
    }
}
