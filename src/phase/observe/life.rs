//! The life of a watch: when it begins, begins anew, is written and ends. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::status::{IncidentStatus, ObjectiveStatus, WatchState};

/// The format that is written.
pub const FORMAT: u32 = 1;

/// The time between two writes of what was observed, in time of the watch.
pub const WRITE: Duration = Duration::from_secs(300);

/// The shortest pause between two looks, in real time: the time of a watch may run fast.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

/// The shortest pause between two writes, in real time.
const SHORTEST_WRITE: Duration = Duration::from_secs(2);

/// What a watch is about: stored beside what it observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The format of this text.
    pub format: u32,
    /// Which watch of the Activation it is, counted from 1.
    pub number: u32,
    /// When it began, in milliseconds since 1970, by the clock of the API server.
    pub begin: i64,
    /// Hash of what the observations are about.
    pub digest: String,
    /// Why it began anew.
    #[serde(default)]
    pub cause: String,
    /// The last rollback after which it has a window of its own, by the UID of its request.
    #[serde(default)]
    pub after: Option<String>,
    /// What happened in it.
    #[serde(default)]
    pub incidents: Vec<IncidentStatus>,
    /// How it ended.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// How a watch ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// When, in milliseconds since 1970, in time of the watch.
    pub at: i64,
    /// The end of the time that the verdict is about, in milliseconds since 1970. None: an earlier version of
    /// Golive wrote it.
    #[serde(default)]
    pub until: Option<i64>,
    /// The verdict.
    pub state: WatchState,
    /// The reason of the verdict, for programs.
    pub reason: String,
    /// The verdict, with its numbers.
    pub verdict: String,
    /// The objectives at the end.
    pub objectives: Vec<ObjectiveStatus>,
}

/// Why a watch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The application has just gone live, or is watched for the first time.
    First,
    /// The objectives, or where their figures come from, are others.
    OtherObjectives,
    /// The release that was deployed in it was rolled back because of it.
    RolledBack {
        /// UID of the request.
        request: String,
        /// The release that was rolled back.
        from: u64,
        /// The release that serves again.
        to: u64,
    },
}

/// A rollback that a watch has asked for and that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// UID of its request.
    pub request: String,
    /// The release that was rolled back.
    pub from: u64,
    /// The release that serves again.
    pub to: u64,
}

/// Whether a watch begins now, beside the one that is stored. `digest` is of what the spec asks for;
/// `restored` is the last rollback that a watch has asked for.
pub fn begins(stored: Option<&About>, digest: &str, restored: Option<&Restored>) -> Option<Begin> {
    let Some(stored) = stored else {
        return Some(Begin::First);
    };
    if let Some(restored) = restored
        && stored.ended.is_none()
        && stored.after.as_ref() != Some(&restored.request)
    {
        return Some(Begin::RolledBack {
            request: restored.request.clone(),
            from: restored.from,
            to: restored.to,
        });
    }
    (stored.digest != digest).then_some(Begin::OtherObjectives)
}

impl About {
    /// When it ends, in milliseconds since 1970, if it lasts for `length`; once it has ended, the end of the
    /// time that its verdict is about: another `window` in the spec changes nothing of what was watched.
    pub fn until(&self, length: i64) -> i64 {
        let ended = self.ended.as_ref();
        let watched = ended.map(|ended| ended.until.unwrap_or(ended.at));
        watched.unwrap_or_else(|| self.begin.saturating_add(length))
    }

    /// The end of the time that a verdict is about which is reached now. `observed` is when the last
    /// observation was: if `window` was shortened below what was watched already, all of that counts.
    pub fn verdict_until(&self, length: i64, observed: i64) -> i64 {
        let end = self.begin.saturating_add(length);
        let late = i64::try_from(WRITE.as_millis()).unwrap_or(i64::MAX);
        match observed.saturating_sub(end) > late {
            true => observed,
            false => end,
        }
    }

    /// The watch that begins now. `before` is the one that it takes the place of.
    pub fn begun(why: Begin, before: Option<&Self>, now: i64, digest: &str) -> Self {
        let number = before.map_or(0, |before| before.number).saturating_add(1);
        let kept = before.map(|before| before.after.clone());
        let (cause, after) = match why {
            Begin::First => (String::new(), None),
            Begin::OtherObjectives => (
                "it began anew, because `spec.observe` watches something else".to_owned(),
                kept.flatten(),
            ),
            Begin::RolledBack { request, from, to } => (
                format!(
                    "it began anew, because release {from} was rolled back to release {to} in it"
                ),
                Some(request),
            ),
        };
        Self {
            format: FORMAT,
            number,
            begin: now,
            digest: digest.to_owned(),
            cause,
            after,
            incidents: Vec::new(),
            ended: None,
        }
    }
}

/// The pause between two looks, in time of the watch: `every`, unless a machine could not answer so often.
pub fn look_every(
    every: Duration,
    takes: impl Fn(Duration) -> Duration,
    lasted: impl Fn(Duration) -> Duration,
) -> Duration {
    match takes(every) < SHORTEST_LOOK {
        true => lasted(SHORTEST_LOOK),
        false => every,
    }
}

/// The pause between two writes, in real time.
pub fn write_every(takes: impl Fn(Duration) -> Duration) -> Duration {
    takes(WRITE).max(SHORTEST_WRITE)
}

/// When what was observed is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    /// Something was observed since the last write.
    pub is_news: bool,
    /// The watch is not stored yet.
    pub is_new: bool,
    /// The verdict was reached and is not stored yet.
    pub has_ended: bool,
    /// Real time since the last write; none if this process has not written.
    pub since: Option<Duration>,
    /// Real time until the end of the watch.
    pub left: Duration,
}

/// Whether it is written now: at the begin, every five minutes, and at the end. The last write before the
/// end is left out if that is near, so that there are never two in five minutes.
pub fn is_written(writing: Writing, every: Duration) -> bool {
    if writing.is_new || writing.has_ended {
        return true;
    }
    let is_due = writing.since.is_none_or(|since| since >= every);
    writing.is_news && is_due && writing.left >= every
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restored(from: u64) -> Restored {
        Restored {
            request: format!("watch-{from}"),
            from,
            to: from - 1,
        }
    }

    #[test]
    fn a_watch_begins_once_and_anew_only_for_other_objectives_or_after_its_own_rollback() {
        assert_eq!(begins(None, "d", None), Some(Begin::First));
        let first = About::begun(Begin::First, None, 1_000, "d");
        assert_eq!((first.number, first.cause.as_str()), (1, ""));
        assert_eq!(begins(Some(&first), "d", None), None);
        assert_eq!(
            begins(Some(&first), "e", None),
            Some(Begin::OtherObjectives)
        );

        let why = begins(Some(&first), "d", Some(&restored(2)));
        let why = why.unwrap_or(Begin::First);
        let second = About::begun(why, Some(&first), 5_000, "d");
        assert_eq!((second.number, second.begin), (2, 5_000));
        assert!(second.cause.contains("release 2"), "{}", second.cause);
        assert_eq!(begins(Some(&second), "d", Some(&restored(2))), None, "once");
        let other = About::begun(Begin::OtherObjectives, Some(&second), 9_000, "e");
        assert_eq!(begins(Some(&other), "e", Some(&restored(2))), None);
    }

    #[test]
    fn a_watch_that_has_ended_does_not_begin_anew_by_itself() {
        let ended = About {
            ended: Some(Ended::default()),
            ..About::begun(Begin::First, None, 1_000, "d")
        };
        assert_eq!(begins(Some(&ended), "d", Some(&restored(2))), None);
    }

    #[test]
    fn a_verdict_is_about_the_time_that_was_watched_whatever_the_window_is_now() {
        let running = About::begun(Begin::First, None, 1_000, "d");
        assert_eq!(running.until(60_000), 61_000);
        assert_eq!(running.until(90_000), 91_000, "it goes on for longer");
        let ended = |until| About {
            ended: Some(Ended {
                at: 61_500,
                until,
                ..Ended::default()
            }),
            ..running.clone()
        };
        for length in [30_000, 60_000, 90_000] {
            assert_eq!(ended(Some(61_000)).until(length), 61_000);
            assert_eq!(ended(None).until(length), 61_500, "of an earlier version");
        }
        assert_eq!(running.verdict_until(60_000, 61_020), 61_000);
        assert_eq!(running.verdict_until(60_000, 9_000_000), 9_000_000);
    }

    #[test]
    fn what_is_observed_is_written_every_five_minutes_at_the_begin_and_at_the_end() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let at = |since: Option<u64>, left: u64| Writing {
            is_news: true,
            is_new: false,
            has_ended: false,
            since: since.map(minutes),
            left: minutes(left),
        };
        let every = minutes(5);
        assert!(is_written(at(Some(5), 60), every));
        assert!(!is_written(at(Some(4), 60), every));
        assert!(is_written(at(None, 60), every), "a new process");
        assert!(!is_written(at(Some(7), 4), every), "the end is near");
        let quiet = Writing {
            is_news: false,
            ..at(Some(9), 60)
        };
        assert!(!is_written(quiet, every));
        for (is_new, has_ended) in [(true, false), (false, true)] {
            let writing = Writing {
                is_new,
                has_ended,
                ..at(Some(0), 0)
            };
            assert!(is_written(writing, every));
        }
    }

    #[test]
    fn a_fast_clock_makes_looks_no_more_often_than_a_machine_can_answer() {
        let half = Duration::from_secs(30);
        let looks = |scale: u32| look_every(half, |time| time / scale, |real| real * scale);
        assert_eq!(looks(1), half);
        assert_eq!(looks(100), half);
        assert_eq!(looks(2160), SHORTEST_LOOK * 2160);
        assert_eq!(write_every(|time| time / 2160), SHORTEST_WRITE);
    }
}
