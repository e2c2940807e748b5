//! One look proves nothing: what is on record counts as gone, as failed or as somebody else's only
//! after two looks that agree, a settling window apart. A read may reach a server that lags behind or
//! is broken; one list, one 404 and one 403 of that kind have each been seen at Fly.io.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::pipeline::Cx;

/// What is looked at twice: what is asked about, of a kind, with its id or name.
pub type Subject = (Doubt, &'static str, String);

/// What a look may show that is believed only when a second one agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// It is gone.
    Gone,
    /// It belongs to somebody else.
    NotOurs,
    /// It has failed.
    Failed,
    /// The token may not do it.
    Refused,
}

/// Since when looks agree, without one between them that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// The first of them.
    Look(Instant),
    /// Fly.io had accepted our request to delete it: the first look that agrees is the second
    /// evidence.
    Accepted,
}

/// Journal: what was seen once.
#[derive(Clone, Debug, Default)]
struct Doubts(BTreeMap<Subject, Since>);

impl Doubts {
    /// Takes note of a look that shows it; what is left until a second one is believed. Pure.
    fn seen(&mut self, subject: Subject, now: Instant, settle: Duration) -> Option<Duration> {
        match self.0.entry(subject).or_insert(Since::Look(now)) {
            Since::Accepted => None,
            Since::Look(first) => {
                let left = settle.checked_sub(now.saturating_duration_since(*first))?;
                (!left.is_zero()).then_some(left)
            }
        }
    }
}

/// Takes note of a look that shows this. `None`: it is believed, because an earlier look showed it a
/// settling window ago and none in between did not. `Some`: look again after this time.
pub fn seen(cx: &Cx, doubt: Doubt, kind: &'static str, id: &str) -> Option<Duration> {
    let settle = cx.installation.timing.settle;
    let mut left = None;
    cx.journal.change_or_default::<Doubts>(|doubts| {
        left = doubts.seen((doubt, kind, id.to_owned()), Instant::now(), settle);
    });
    left
}

/// Whether something on record counts as there: what a look has found is, and what it has not found is until
/// a second look does not find it either.
pub fn counts_as_there(cx: &Cx, kind: &'static str, id: &str, found: bool) -> bool {
    if found {
        cleared(cx, Doubt::Gone, kind, id);
        return true;
    }
    seen(cx, Doubt::Gone, kind, id).is_some()
}

/// Takes note of a look that does not show it.
pub fn cleared(cx: &Cx, doubt: Doubt, kind: &'static str, id: &str) {
    let known = cx.journal.get::<Doubts>();
    let subject = (doubt, kind, id.to_owned());
    if known.is_some_and(|known| known.0.contains_key(&subject)) {
        cx.journal.change::<Doubts>(|doubts| {
            doubts.0.remove(&subject);
        });
    }
}

/// Fly.io has accepted our request to delete it: the next look that does not find it is believed.
pub fn deletion_accepted(cx: &Cx, kind: &'static str, id: &str) {
    cx.journal.change_or_default::<Doubts>(|doubts| {
        let subject = (Doubt::Gone, kind, id.to_owned());
        doubts.0.insert(subject, Since::Accepted);
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        pipeline::testing,
        plan::{refs::Refs, testing::target},
    };

    const SETTLE: Duration = Duration::from_secs(10);

    fn subject(id: &str) -> Subject {
        (Doubt::Gone, "App", id.to_owned())
    }

    #[test]
    fn one_look_is_not_believed_and_a_second_one_only_a_settling_window_later() {
        let mut doubts = Doubts::default();
        let now = Instant::now();
        assert_eq!(doubts.seen(subject("shop"), now, SETTLE), Some(SETTLE));
        let soon = now + Duration::from_secs(4);
        assert_eq!(
            doubts.seen(subject("shop"), soon, SETTLE),
            Some(Duration::from_secs(6))
        );
        let later = now + SETTLE;
        assert_eq!(doubts.seen(subject("shop"), later, SETTLE), None);
        assert_eq!(
            doubts.seen(subject("other"), later, SETTLE),
            Some(SETTLE),
            "each by itself"
        );
    }

    #[test]
    fn a_look_that_shows_it_there_begins_the_doubt_anew() {
        let mut doubts = Doubts::default();
        let now = Instant::now();
        doubts.seen(subject("shop"), now, SETTLE);
        doubts.0.remove(&subject("shop"));
        let later = now + SETTLE;
        assert_eq!(doubts.seen(subject("shop"), later, SETTLE), Some(SETTLE));
    }

    #[tokio::test]
    async fn what_is_on_record_counts_as_there_until_a_second_look_does_not_find_it() {
        let mut cx = testing::cx(target(""), Refs::default());
        let look = |cx: &Cx, found| counts_as_there(cx, "App", "shop", found);
        let settle = |cx: &mut Cx, window| {
            let mut installation = (*cx.installation).clone();
            installation.timing.settle = window;
            cx.installation = Arc::new(installation);
        };
        settle(&mut cx, SETTLE);
        assert!(look(&cx, false), "one look is not believed");
        assert!(look(&cx, true));
        settle(&mut cx, Duration::ZERO);
        assert!(!look(&cx, false), "no window is left");
    }

    #[test]
    fn the_first_look_after_an_accepted_deletion_is_believed() {
        let mut doubts = Doubts::default();
        doubts.0.insert(subject("shop"), Since::Accepted);
        assert_eq!(doubts.seen(subject("shop"), Instant::now(), SETTLE), None);
    }
}
