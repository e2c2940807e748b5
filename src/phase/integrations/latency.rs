//! Whether answers come soon enough, by the standard of each vendor. Pure.

use std::time::Duration;

use super::{
    judge::{NO_ACTION, Verdict, span},
    outcome::Ended,
    probe::Reply,
};

/// Meta's standard: the median.
///
/// Source: developers.facebook.com, WhatsApp Cloud API, "Throughput": "Median latency not to exceed
/// 250ms. Less than 1% latency exceeds 1s."
const META_MEDIAN: Duration = Duration::from_millis(250);

/// Meta's standard: what fewer than one answer in a hundred exceeds.
const META_SLOW: Duration = Duration::from_secs(1);

/// Meta's standard: the share of answers above [`META_SLOW`].
const META_SHARE: f64 = 0.01;

/// Fewest answers that Meta's standard is judged by.
pub const FEWEST: usize = 20;

/// Most answers. One slow answer in 20 is not yet one in a hundred.
pub const MOST: usize = 120;

/// Below this probability, chance alone does not explain the number of slow answers.
const CHANCE: f64 = 0.002;

/// Requests without any answer of the application after which measuring ends.
const MOST_UNKNOWN: usize = 5;

/// Measured answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Times until an answer.
    answered: Vec<Duration>,
    /// Requests without an answer in time, and how long was waited.
    silent: Vec<Duration>,
    /// Requests that show nothing.
    unknown: usize,
}

impl Times {
    /// Adds the reply to a request.
    pub fn add(&mut self, reply: &Reply) {
        match reply {
            Reply::Silent { after } => self.silent.push(*after),
            Reply::Answered { took, .. } if !reply.is_unknown() => self.answered.push(*took),
            Reply::Answered { .. } | Reply::Unreachable { .. } => self.unknown += 1,
        }
    }

    fn count(&self) -> usize {
        self.answered.len() + self.silent.len()
    }

    /// Answers above a limit, and those that never came.
    fn above(&self, limit: Duration) -> usize {
        let slow = self.answered.iter().filter(|took| **took > limit);
        slow.count() + self.silent.len()
    }

    /// All times in order; a missing answer took at least as long as was waited.
    fn sorted(&self) -> Vec<Duration> {
        let mut all = [self.answered.as_slice(), &self.silent].concat();
        all.sort_unstable();
        all
    }

    /// Whether Meta's standard needs more answers to be judged.
    pub fn need_more(&self) -> bool {
        let (count, slow) = (self.count(), self.above(META_SLOW));
        if self.unknown >= MOST_UNKNOWN || count >= MOST || is_no_chance(count, slow) {
            return false;
        }
        count < FEWEST || share(slow, count) >= META_SHARE
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most a few hundred")]
    let share = part as f64 / whole as f64;
    share
}

/// Whether so many slow answers are no chance for an application of which one in a hundred is slow: the
/// upper tail of the binomial distribution.
fn is_no_chance(count: usize, slow: usize) -> bool {
    if slow == 0 {
        return false;
    }
    let mut term = (1.0 - META_SHARE).powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut below = 0.0;
    for number in 0..slow {
        below += term;
        term *= share(count - number, number + 1) * META_SHARE / (1.0 - META_SHARE);
    }
    1.0 - below < CHANCE
}

/// The way to the application and back: the fastest of all answers. Only as much as the longest way
/// on earth is taken for one.
pub fn way<'a>(replies: impl Iterator<Item = &'a Reply>) -> Duration {
    let known = replies.filter(|reply| !reply.is_unknown());
    let fastest = known.filter_map(Reply::took).min();
    fastest.unwrap_or_default().min(Duration::from_millis(250))
}

/// Whether the answers meet Meta's standard. The `way` to the application is Golive's and not Meta's:
/// a median that exceeds the limit by no more than that is a warning.
pub fn meta(times: &Times, way: Duration) -> Verdict {
    let sorted = times.sorted();
    let (count, slow) = (sorted.len(), times.above(META_SLOW));
    let no_chance = is_no_chance(count, slow);
    if count < FEWEST && !no_chance {
        let evidence = format!("only {count} of {FEWEST} messages were answered");
        return Verdict {
            change: Some(NO_ACTION.to_owned()),
            ..Verdict::of(Ended::Unknown, evidence)
        };
    }
    let median = quantile(&sorted, 50);
    let worst = quantile(&sorted, 99);
    let evidence = match times.silent.first() {
        Some(after) => {
            let (silent, after) = (times.silent.len(), span(*after));
            format!("{silent} of {count} messages had no answer within {after}")
        }
        None => format!(
            "{count} messages: median {}, 99th percentile {}, {slow} above {}",
            span(median),
            span(worst),
            span(META_SLOW),
        ),
    };
    let ended = if no_chance || median > META_MEDIAN + way {
        Ended::Failed
    } else if median > META_MEDIAN || share(slow, count) >= META_SHARE {
        Ended::Warned
    } else {
        Ended::Passed
    };
    Verdict {
        took: sorted.last().copied(),
        ..Verdict::of(ended, evidence)
    }
}

/// Whether answers come within the time after which the sender gives up, and within a time that leaves
/// room. A single answer that is too late is a warning: the machine may just have been started.
pub fn limit(times: &Times, hard: Duration, soft: Duration) -> Verdict {
    let sorted = times.sorted();
    let Some(slowest) = sorted.last().copied() else {
        return Verdict {
            change: Some(NO_ACTION.to_owned()),
            ..Verdict::of(Ended::Unknown, "no request was answered".to_owned())
        };
    };
    let late = times.above(hard);
    let count = sorted.len();
    let evidence = match times.silent.first() {
        Some(after) => {
            let (silent, after) = (times.silent.len(), span(*after));
            format!("{silent} of {count} requests had no answer within {after}")
        }
        None => format!("the slowest of {count} answers took {}", span(slowest)),
    };
    let evidence = format!("{evidence}; the sender waits {}", span(hard));
    let ended = match late {
        2.. => Ended::Failed,
        1 if count == 1 => Ended::Failed,
        1 => Ended::Warned,
        _ if slowest > soft => Ended::Warned,
        _ => Ended::Passed,
    };
    Verdict {
        took: Some(slowest),
        ..Verdict::of(ended, evidence)
    }
}

/// A quantile by the nearest rank, in percent.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NO_WAY: Duration = Duration::ZERO;

    fn took(millis: u64) -> Reply {
        Reply::Answered {
            status: 200,
            body: Bytes::new(),
            took: Duration::from_millis(millis),
        }
    }

    fn silent() -> Reply {
        Reply::Silent {
            after: Duration::from_secs(10),
        }
    }

    fn times(groups: &[(usize, Reply)]) -> Times {
        let mut times = Times::default();
        for (count, reply) in groups {
            (0..*count).for_each(|_| times.add(reply));
        }
        times
    }

    fn judged(groups: &[(usize, Reply)]) -> (Ended, bool) {
        let times = times(groups);
        (meta(&times, NO_WAY).ended, times.need_more())
    }

    #[test]
    fn the_standard_of_meta_is_judged_by_enough_answers() {
        assert_eq!(judged(&[(20, took(30))]), (Ended::Passed, false));
        assert_eq!(judged(&[(19, took(30))]), (Ended::Unknown, true));
        assert_eq!(judged(&[(20, took(251))]), (Ended::Failed, false));
        assert_eq!(judged(&[(11, took(250)), (9, took(900))]).0, Ended::Passed);
        // One slow answer of 20 may be one of more than a hundred.
        assert!(judged(&[(19, took(30)), (1, took(1001))]).1);
        let few = [(118, took(30)), (1, took(1001))];
        assert_eq!(judged(&few), (Ended::Passed, false));
        let some = [(118, took(30)), (2, took(1001))];
        assert_eq!(judged(&some), (Ended::Warned, false));
        let many = [(112, took(30)), (8, took(1001))];
        assert_eq!(judged(&many), (Ended::Failed, false));
        // What never answers needs no twenty messages.
        assert_eq!(judged(&[(4, silent())]), (Ended::Failed, false));
        let other = Reply::Unreachable {
            why: "x".to_owned(),
        };
        assert_eq!(judged(&[(5, other)]), (Ended::Unknown, false));
    }

    #[test]
    fn a_long_way_to_the_application_is_a_warning() {
        let times = times(&[(20, took(400))]);
        assert_eq!(meta(&times, NO_WAY).ended, Ended::Failed);
        assert_eq!(
            meta(&times, Duration::from_millis(200)).ended,
            Ended::Warned
        );
        let replies = [took(600), took(700), silent()];
        assert_eq!(way(replies.iter()), Duration::from_millis(250));
        assert_eq!(way([took(30), took(7)].iter()), Duration::from_millis(7));
    }

    #[test]
    fn a_sender_that_gives_up_has_not_delivered() {
        let (hard, soft) = (Duration::from_secs(22), Duration::from_secs(2));
        let judged = |groups: &[(usize, Reply)]| limit(&times(groups), hard, soft).ended;
        assert_eq!(judged(&[(5, took(30))]), Ended::Passed);
        assert_eq!(judged(&[(5, took(30)), (1, took(2001))]), Ended::Warned);
        assert_eq!(judged(&[(5, took(30)), (1, took(22_001))]), Ended::Warned);
        assert_eq!(judged(&[(2, took(22_001))]), Ended::Failed);
        assert_eq!(judged(&[(2, silent())]), Ended::Failed);
        assert_eq!(judged(&[(1, silent())]), Ended::Failed);
        assert_eq!(judged(&[]), Ended::Unknown);
    }

    #[test]
    fn chance_is_told_from_slowness() {
        for (count, slow, no_chance) in [
            (4, 4, true),
            (20, 1, false),
            (20, 2, false),
            (20, 3, true),
            (120, 4, false),
            (120, 7, true),
            (0, 0, false),
        ] {
            assert_eq!(is_no_chance(count, slow), no_chance, "{slow} of {count}");
        }
    }
}
