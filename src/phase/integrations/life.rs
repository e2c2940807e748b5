//! When the checks of an integration are made, and what is believed of their outcomes. Pure.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::outcome::{Ended, Outcome};
use crate::{
    api::{
        Duration as Interval,
        status::{IntegrationState, IntegrationStatus},
    },
    pipeline::Timing,
};

/// Looks that find a check without an answer before the answer on record is given up.
const UNANSWERED: u32 = 3;

/// Longest pause before an integration that is not verified is looked at again.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Most of the interval over which the first looks of a new process are spread: it does not know when
/// the former one looked last.
const SPREAD: Duration = Duration::from_secs(3600);

/// Checks of repeated deliveries, which other events may make `Unproven` at any look.
const REPLAYS: [&str; 3] = ["W8", "M7", "G6"];

/// What outcomes belong to. With another one they are worth nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Number of the release that serves.
    pub release: u64,
    /// Hash of the release, the secrets of the application, the address, and what the spec and the
    /// Secrets say of the integration.
    pub fingerprint: String,
    /// The number of requests to check again that this process has seen.
    pub requests: u64,
}

impl Subject {
    /// The subject of these parts.
    pub fn of(release: u64, requests: u64, parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update(release.to_le_bytes());
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self {
            release,
            fingerprint: data_encoding::HEXLOWER.encode(&hash.finalize()[..12]),
            requests,
        }
    }
}

/// What this process knows of an integration.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// What it belongs to.
    pub subject: Subject,
    /// The outcomes; `None`: an earlier process found what the status says, for the same subject.
    pub outcomes: Option<Vec<Outcome>>,
    /// When it was looked at last.
    pub at: Instant,
    /// When it was last verified.
    pub verified: Option<Timestamp>,
    /// Looks in a row that did not verify it.
    pub looks: u32,
    /// The last look contradicts what is believed, and one look does not suffice.
    pub unsure: bool,
    /// The checks themselves ask for another look after this time.
    pub again: Option<Duration>,
}

impl Known {
    /// What an earlier process found stands for the same subject. The next look is spread over the
    /// interval by the UID of the object.
    pub fn standing(subject: Subject, interval: Interval, uid: &str, now: Instant) -> Self {
        let within = interval.get().min(SPREAD);
        let hash = Sha256::digest(uid);
        let part = f64::from(u16::from_le_bytes([hash[0], hash[1]])) / f64::from(u16::MAX);
        let due = within.mul_f64(part);
        let at = now.checked_sub(interval.get().saturating_sub(due));
        Self {
            subject,
            outcomes: None,
            at: at.unwrap_or(now),
            verified: None,
            looks: 0,
            unsure: false,
            again: None,
        }
    }

    /// What is known after a look with these outcomes.
    ///
    /// A forged request that was accepted is believed at once. Any other failure must be found twice:
    /// a machine that restarts at the wrong moment is no fault of a webhook. A check without an answer
    /// keeps the answer on record, for as long as one look may miss it. A repeated delivery that failed
    /// is not mended because other events hide its effect now.
    pub fn after(
        before: Option<&Self>,
        found: Vec<Outcome>,
        subject: Subject,
        (at, now): (Instant, Timestamp),
    ) -> Self {
        let before = before.filter(|before| before.subject.fingerprint == subject.fingerprint);
        let looks = before.map_or(0, |before| before.looks);
        let was_unsure = before.is_some_and(|before| before.unsure);
        let old = |id: &str| {
            let outcomes = before.and_then(|before| before.outcomes.as_ref());
            outcomes.and_then(|all| all.iter().find(|old| old.id == id))
        };
        let mut unsure = false;
        let forged = found.iter().any(|found| found.forgery);
        let believed: Vec<Outcome> = found
            .into_iter()
            .map(|found| match (found.ended, old(found.id)) {
                (Ended::Failed, None) if !forged && !was_unsure => {
                    unsure = true;
                    found
                }
                (Ended::Failed, Some(old))
                    if !forged && !was_unsure && old.ended != Ended::Failed =>
                {
                    unsure = true;
                    old.clone()
                }
                (Ended::Unknown, Some(old))
                    if old.ended != Ended::Unknown && looks + 1 < UNANSWERED =>
                {
                    unsure = true;
                    old.clone()
                }
                (Ended::Unproven, Some(old))
                    if old.ended == Ended::Failed && REPLAYS.contains(&found.id) =>
                {
                    old.clone()
                }
                _ => found,
            })
            .collect();
        let verified = !unsure && is_verified(&believed);
        Self {
            subject,
            at,
            verified: match verified {
                true => Some(now),
                false => before.and_then(|before| before.verified),
            },
            looks: if verified { 0 } else { looks + 1 },
            outcomes: Some(believed),
            unsure,
            again: None,
        }
    }

    /// Whether its outcomes are to be shown: not those of a first look that failed. A forged request
    /// that was accepted is shown at once, whatever else is not known.
    pub fn is_believed(&self) -> bool {
        let failed = |found: &Outcome| found.ended == Ended::Failed;
        let all = || self.outcomes.iter().flatten();
        let forged = all().any(|found| found.forgery);
        forged || !self.unsure || !all().any(failed) || self.looks > 1
    }

    /// Whether so few looks have missed an answer that one on record stands: that of an earlier process
    /// or release, which the outcomes of this one do not have.
    pub fn may_miss(&self) -> bool {
        self.looks < UNANSWERED
    }

    /// The pause until the next look.
    pub fn pause(&self, interval: Interval, timing: &Timing) -> Duration {
        let interval = interval.get();
        let interval = self.again.map_or(interval, |again| again.min(interval));
        match &self.outcomes {
            _ if self.unsure => timing.poll.min(interval),
            None => interval,
            Some(outcomes) if is_verified(outcomes) => interval,
            Some(_) => {
                let first = timing.poll * 5;
                let doublings = self.looks.saturating_sub(1).min(16);
                let longer = first.saturating_mul(1 << doublings);
                longer.min(LONGEST_PAUSE).min(interval)
            }
        }
    }

    /// The time until the next look.
    pub fn due(&self, interval: Interval, timing: &Timing, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at);
        self.pause(interval, timing).saturating_sub(since)
    }
}

/// Whether the application was shown to do what the sender needs.
pub fn is_verified(outcomes: &[Outcome]) -> bool {
    let shown = |outcome: &Outcome| {
        matches!(
            outcome.ended,
            Ended::Passed | Ended::Warned | Ended::Unproven
        )
    };
    !outcomes.is_empty() && outcomes.iter().all(shown)
}

/// Whether somebody has requested that what is verified is checked again, and that has not ended: what this
/// process knows is older than the request, or an earlier process has not made the checks.
pub fn is_requested(
    known: Option<&Known>,
    told: Option<&IntegrationStatus>,
    subject: &Subject,
) -> bool {
    match known {
        Some(known) => {
            let before = &known.subject;
            before.fingerprint == subject.fingerprint && before.requests != subject.requests
        }
        None => stands(told, subject).is_some_and(|told| subject.requests > 0 || told.requested),
    }
}

/// What the status says of an integration, if that stands: it was verified for this subject, or nothing was
/// known of it, or it has failed, which stands until another look says otherwise.
pub fn stands<'a>(
    told: Option<&'a IntegrationStatus>,
    subject: &Subject,
) -> Option<&'a IntegrationStatus> {
    told.filter(|told| match told.state {
        IntegrationState::Failed => true,
        // Told once, not once by each process.
        IntegrationState::Verified | IntegrationState::Unknown => {
            told.fingerprint == subject.fingerprint
        }
        IntegrationState::Pending | IntegrationState::Waiting => false,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn outcome(id: &'static str, ended: Ended) -> Outcome {
        Outcome {
            id,
            name: "a check",
            ended,
            forgery: false,
            took: Some(Duration::from_millis(12)),
            evidence: format!("{id} answered 500"),
            change: format!("mend {id}"),
        }
    }

    pub fn subject(release: u64) -> Subject {
        Subject::of(release, 0, &["shop.fly.dev", "digest"])
    }

    fn look(before: Option<&Known>, outcomes: &[Outcome]) -> Known {
        let (at, now) = (Instant::now(), Timestamp::UNIX_EPOCH);
        Known::after(before, outcomes.to_vec(), subject(1), (at, now))
    }

    fn ended(known: &Known, id: &str) -> Ended {
        let mut all = known.outcomes.iter().flatten();
        all.find(|found| found.id == id).unwrap().ended
    }

    #[test]
    fn a_failure_is_believed_at_the_second_look_and_a_forgery_at_once() {
        let good = look(None, &[outcome("W3", Ended::Passed)]);
        let bad = [outcome("W3", Ended::Failed)];
        let once = look(Some(&good), &bad);
        assert!(once.unsure);
        assert_eq!(ended(&once, "W3"), Ended::Passed);
        let twice = look(Some(&once), &bad);
        assert!(!twice.unsure);
        assert_eq!(ended(&twice, "W3"), Ended::Failed);
        let well = look(Some(&once), &[outcome("W3", Ended::Passed)]);
        assert!(
            !well.unsure && well.looks == 0,
            "it was no more than a moment"
        );

        let mut forged = outcome("W4", Ended::Failed);
        forged.forgery = true;
        let at_once = look(Some(&good), &[outcome("W3", Ended::Passed), forged]);
        assert!(!at_once.unsure);
        assert_eq!(ended(&at_once, "W4"), Ended::Failed);
    }

    #[test]
    fn a_failure_is_not_mended_by_a_look_at_which_nothing_can_be_shown() {
        let doubled = [outcome("G6", Ended::Failed), outcome("G7", Ended::Failed)];
        let hidden = [
            outcome("G6", Ended::Unproven),
            outcome("G7", Ended::Unproven),
        ];
        let known = look(Some(&look(None, &doubled)), &doubled);
        let known = look(Some(&known), &hidden);
        assert_eq!(ended(&known, "G6"), Ended::Failed);
        assert_eq!(
            ended(&known, "G7"),
            Ended::Unproven,
            "nobody says it any more"
        );
        let known = look(Some(&known), &[outcome("G6", Ended::Passed)]);
        assert_eq!(ended(&known, "G6"), Ended::Passed);
    }

    #[test]
    fn a_forgery_is_shown_at_once_also_while_another_check_has_no_answer() {
        let good = [outcome("W4", Ended::Passed), outcome("W11", Ended::Passed)];
        let before = look(None, &good);
        let mut forged = outcome("W4", Ended::Failed);
        forged.forgery = true;
        let found = look(Some(&before), &[forged, outcome("W11", Ended::Unknown)]);
        assert_eq!(ended(&found, "W4"), Ended::Failed);
        assert!(found.is_believed());
    }

    #[test]
    fn the_first_look_of_all_is_not_shown_while_it_only_suggests_a_failure() {
        let first = look(None, &[outcome("W3", Ended::Failed)]);
        assert!(first.unsure && !first.is_believed());
        let second = look(Some(&first), &[outcome("W3", Ended::Failed)]);
        assert!(!second.unsure && second.is_believed());
    }

    #[test]
    fn a_check_without_an_answer_keeps_the_one_on_record_for_two_looks() {
        let unknown = [outcome("W11", Ended::Unknown)];
        let mut known = look(None, &[outcome("W11", Ended::Passed)]);
        for _ in 1..UNANSWERED {
            known = look(Some(&known), &unknown);
            assert_eq!(ended(&known, "W11"), Ended::Passed);
            assert!(known.unsure);
        }
        known = look(Some(&known), &unknown);
        assert_eq!(ended(&known, "W11"), Ended::Unknown);
        let first = look(None, &unknown);
        assert_eq!(ended(&first, "W11"), Ended::Unknown, "nothing is on record");
    }

    #[test]
    fn what_is_verified_waits_for_the_interval_and_what_is_not_is_looked_at_ever_more_seldom() {
        let (interval, timing) = (Interval::from_hours(6), Timing::default());
        let good = look(
            None,
            &[outcome("W3", Ended::Passed), outcome("W8", Ended::Unproven)],
        );
        assert_eq!(good.pause(interval, &timing), interval.get());
        assert!(good.verified.is_some());
        let mut known = look(None, &[outcome("W3", Ended::Waiting)]);
        let mut before = Duration::ZERO;
        for _ in 0..20 {
            let pause = known.pause(interval, &timing);
            assert!(pause >= before && pause <= LONGEST_PAUSE, "{pause:?}");
            before = pause;
            known = look(Some(&known), &[outcome("W3", Ended::Waiting)]);
        }
        assert_eq!(before, LONGEST_PAUSE);
    }

    #[test]
    fn the_looks_after_a_restart_are_spread_over_the_interval() {
        let (interval, timing) = (Interval::from_mins(10), Timing::default());
        let now = Instant::now() + interval.get();
        let due =
            |uid: &str| Known::standing(subject(1), interval, uid, now).due(interval, &timing, now);
        let all: Vec<Duration> = (0..50).map(|n| due(&format!("uid-{n}"))).collect();
        assert!(all.iter().all(|due| *due <= interval.get()));
        let early = all.iter().filter(|due| **due < interval.get() / 2).count();
        assert!((10..40).contains(&early), "{early} of 50 in the first half");
    }

    #[test]
    fn a_request_is_open_until_the_checks_after_it_have_ended_also_after_a_restart() {
        let requested = |known: Option<&Known>, told: bool, requests: u64| {
            let told = IntegrationStatus {
                state: IntegrationState::Verified,
                fingerprint: subject(1).fingerprint,
                requested: told,
                ..IntegrationStatus::default()
            };
            let subject = Subject {
                requests,
                ..subject(1)
            };
            is_requested(known, Some(&told), &subject)
        };
        let good = look(None, &[outcome("W3", Ended::Passed)]);
        assert!(!requested(Some(&good), true, 0));
        assert!(
            requested(Some(&good), false, 1),
            "it is older than the request"
        );
        assert!(
            !requested(None, false, 0),
            "a new process, and nothing was open"
        );
        assert!(
            requested(None, true, 0),
            "the former process has not made the checks"
        );
        assert!(
            requested(None, false, 1),
            "the request came while no process was there"
        );
    }

    #[test]
    fn a_verification_stands_for_its_own_subject_and_a_failure_until_it_is_mended() {
        let told = |state| IntegrationStatus {
            state,
            fingerprint: subject(1).fingerprint,
            ..IntegrationStatus::default()
        };
        let stands = |state, release| stands(Some(&told(state)), &subject(release)).is_some();
        assert!(stands(IntegrationState::Verified, 1));
        assert!(!stands(IntegrationState::Verified, 2));
        assert!(stands(IntegrationState::Failed, 2));
        assert!(
            stands(IntegrationState::Unknown, 1),
            "it is not told again by each process"
        );
        assert!(!stands(IntegrationState::Unknown, 2));
        assert!(!stands(IntegrationState::Pending, 1), "nobody makes them");
    }
}
