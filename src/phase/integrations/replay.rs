//! Whether an event that is delivered twice has one effect: one after the other, and at the same instant,
//! when two machines of the application get it.
//!
//! The effect is a number of the application that real events increase too. Less than expected is
//! therefore a loss at once. More than expected counts only if nothing came for a while right after the
//! round; many more is believed when it was seen twice, one or two more when it was seen in most rounds.

use std::time::Duration;

use futures::future::join_all;

use super::{
    judge::{Statuses, Verdict, is_accepted, judge_one, span},
    outcome::Ended,
    probe::{Asked, Effect, Pace, Probe, Reply, World, ask},
};

/// Events that are delivered twice at the same instant.
const PAIRS: u32 = 8;

/// Rounds in order, if none was not.
const CLEAN: u32 = 2;

/// Rounds in order that outweigh a single one with an effect too many.
const CLEAN_AFTER_DOUBT: u32 = 4;

/// Effects too many in a round that real events do not explain, when none came right after it.
const STRONG: f64 = 4.0;

/// Rounds with so many after which they are believed.
const STRONG_ROUNDS: u32 = 2;

/// Most rounds.
const MOST: u32 = 8;

/// Rounds of them with fewer effects too many after which they are believed.
const WEAK_ROUNDS: u32 = 6;

/// Readings in the time after a round in which nothing else may come.
const QUIET: u32 = 8;

/// Readings that must be the same before a round.
const SAME: u32 = 2;

/// Counts are whole numbers.
const HALF: f64 = 0.5;

/// What a delivery was, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The first delivery of an event.
    First,
    /// The second delivery of the same event, after the first was answered.
    Again,
    /// Two deliveries of the same event at the same instant.
    Together,
    /// An event after all that.
    Later,
}

impl Moment {
    const fn name(self) -> &'static str {
        match self {
            Self::First => "a new event",
            Self::Again => "an event that is delivered again",
            Self::Together => "events that are delivered twice at the same instant",
            Self::Later => "an event after repeated ones",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Each event had one effect.
    Once {
        /// Deliveries.
        deliveries: u32,
        /// Of two at the same instant, answers that did not accept.
        conflicts: u32,
    },
    /// Both deliveries were accepted, and nobody has said how an effect shows.
    Undeclared,
    /// A delivery was not accepted.
    NotAccepted {
        /// Which.
        moment: Moment,
        /// What its answer means.
        verdict: Verdict,
    },
    /// An event was answered and had no effect in time.
    Lost {
        /// Which.
        moment: Moment,
        /// Effects that are missing.
        missing: f64,
        /// How long was waited.
        waited: Duration,
    },
    /// An event had more than one effect, more than once.
    Doubled {
        /// Which.
        moment: Moment,
        /// Effects beyond one for each event.
        excess: f64,
    },
    /// It had more than one effect in a few rounds.
    Doubtful {
        /// Which.
        moment: Moment,
        /// Whether other events came in other rounds, which may explain it.
        others: bool,
    },
    /// Other events come all the time.
    Busy,
    /// The effect became less: a machine was started anew, or each machine counts for itself.
    Backwards,
    /// The effect cannot be read.
    Unread(String),
}

/// Deliveries of one integration.
pub struct Replay<'a, W, F> {
    /// The application.
    pub world: &'a W,
    /// A signed event with this number. The same number is the same event, byte for byte.
    pub event: F,
    /// Which statuses mean what.
    pub statuses: Statuses<'a>,
    /// How long things may take.
    pub pace: &'a Pace,
}

/// Effects too many of a round, and when they were first seen.
type Excess = Option<(Moment, f64)>;

/// What all rounds have shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    /// Rounds in order.
    clean: u32,
    /// Rounds with many effects too many, and nothing right after.
    strong: u32,
    /// Rounds with a few effects too many, and nothing right after.
    weak: u32,
    /// Rounds with effects too many, and more of them right after.
    busy: u32,
    worst: Excess,
}

impl Tally {
    fn add(&mut self, excess: Excess, quiet: bool) {
        match excess {
            None => self.clean += 1,
            Some(_) if !quiet => self.busy += 1,
            Some((_, excess)) if excess >= STRONG => self.strong += 1,
            Some(_) => self.weak += 1,
        }
        let is_worse = |(_, new): (Moment, f64)| self.worst.is_none_or(|(_, old)| new > old);
        if quiet && excess.is_some_and(is_worse) {
            self.worst = excess;
        }
    }

    /// What it means, if it is enough; after the last round it is.
    fn found(&self, is_last: bool) -> Option<Found> {
        let doubts = self.strong + self.weak;
        match self.worst {
            Some((moment, excess))
                if self.strong >= STRONG_ROUNDS || (is_last && doubts >= WEAK_ROUNDS) =>
            {
                return Some(Found::Doubled { moment, excess });
            }
            _ => {}
        }
        let clean = match doubts {
            0 => self.clean >= CLEAN,
            1 if self.strong == 0 => self.clean >= CLEAN_AFTER_DOUBT,
            _ => false,
        };
        if clean {
            return Some(Found::Once {
                deliveries: self.clean * (2 * PAIRS + 3),
                conflicts: 0,
            });
        }
        match self.worst {
            _ if !is_last => None,
            Some((moment, _)) => Some(Found::Doubtful {
                moment,
                others: self.busy > 0,
            }),
            None => Some(Found::Busy),
        }
    }
}

impl<W: World, F: Fn(u32) -> Probe + Sync> Replay<'_, W, F> {
    /// Delivers, and watches the effect. Times of accepted answers are added to `replies`.
    pub async fn run(&self, replies: &mut Vec<Reply>) -> Found {
        if self.world.effect().await == Effect::Undeclared {
            return match self.twice(0, replies).await {
                Ok(()) => Found::Undeclared,
                Err(found) => found,
            };
        }
        match self.rounds(replies).await {
            Ok(found) | Err(found) => found,
        }
    }

    /// Rounds with new events, until they have shown enough.
    async fn rounds(&self, replies: &mut Vec<Reply>) -> Result<Found, Found> {
        let mut tally = Tally::default();
        let mut conflicts = 0;
        for round in 1..=MOST {
            let event = (round - 1) * (PAIRS + 2);
            let excess = self.round(event, &mut conflicts, replies).await?;
            let quiet = match excess {
                Some(_) => self.is_quiet().await?,
                None => true,
            };
            tally.add(excess, quiet);
            match tally.found(round == MOST) {
                Some(Found::Once { deliveries, .. }) => {
                    return Ok(Found::Once {
                        deliveries,
                        conflicts,
                    });
                }
                Some(found) => return Ok(found),
                None => {}
            }
        }
        Ok(Found::Busy)
    }

    /// The same event twice, one after the other.
    async fn twice(&self, event: u32, replies: &mut Vec<Reply>) -> Result<(), Found> {
        self.deliver(event, Moment::First, replies).await?;
        self.deliver(event, Moment::Again, replies).await
    }

    /// One round with new events.
    async fn round(
        &self,
        event: u32,
        conflicts: &mut u32,
        replies: &mut Vec<Reply>,
    ) -> Result<Excess, Found> {
        let start = self.settled().await?;
        let mut excess = None;
        let mut note = |moment, more: f64| {
            if more >= HALF {
                let (first, _) = excess.unwrap_or((moment, more));
                excess = Some((first, more));
            }
        };

        self.deliver(event, Moment::First, replies).await?;
        let one = start + 1.0;
        note(
            Moment::First,
            self.reaches(one, start, Moment::First).await?,
        );

        self.deliver(event, Moment::Again, replies).await?;
        self.world.pause(self.pace.poll).await;
        note(Moment::Again, self.reaches(one, one, Moment::Again).await?);

        let pairs = event + 1..=event + PAIRS;
        *conflicts += self.together(pairs, replies).await?;
        let all = one + f64::from(PAIRS);
        note(
            Moment::Together,
            self.reaches(all, one, Moment::Together).await?,
        );

        let later = event + PAIRS + 1;
        self.deliver(later, Moment::Later, replies).await?;
        let end = all + 1.0;
        note(Moment::Later, self.reaches(end, all, Moment::Later).await?);
        // What is processed a moment after the answer still counts.
        self.world.pause(self.pace.poll * 2).await;
        note(Moment::Later, self.reaches(end, end, Moment::Later).await?);
        Ok(excess)
    }

    /// Delivers an event once, and expects that it is accepted.
    async fn deliver(
        &self,
        event: u32,
        moment: Moment,
        replies: &mut Vec<Reply>,
    ) -> Result<(), Found> {
        let asked = ask(self.world, (self.event)(event), self.pace).await;
        self.accept(asked, moment, replies)
    }

    fn accept(&self, asked: Asked, moment: Moment, replies: &mut Vec<Reply>) -> Result<(), Found> {
        let accepted = is_accepted(&asked.reply, &self.statuses);
        let verdict = judge_one(&asked, &self.statuses);
        replies.push(asked.reply);
        if accepted {
            Ok(())
        } else {
            Err(Found::NotAccepted { moment, verdict })
        }
    }

    /// Delivers each event twice, all at the same instant. Of each two at least one must be accepted; the
    /// result is the number of answers that did not accept.
    async fn together(
        &self,
        events: impl Iterator<Item = u32>,
        replies: &mut Vec<Reply>,
    ) -> Result<u32, Found> {
        let pairs = events.map(|event| {
            let (one, two) = ((self.event)(event), (self.event)(event));
            futures::future::join(
                ask(self.world, one, self.pace),
                ask(self.world, two, self.pace),
            )
        });
        let mut conflicts = 0;
        for (one, two) in join_all(pairs).await {
            let accepted = |asked: &Asked| is_accepted(&asked.reply, &self.statuses);
            let (first, second) = if accepted(&one) {
                (one, two)
            } else {
                (two, one)
            };
            conflicts += u32::from(!accepted(&second));
            self.accept(first, Moment::Together, replies)?;
        }
        Ok(conflicts)
    }

    /// The effect as it is now.
    pub(super) async fn count(&self) -> Result<f64, Found> {
        let mut effect = self.world.effect().await;
        for _ in 0..2 {
            match effect {
                Effect::Counted(count) => return Ok(count),
                Effect::Absent(_) => return Ok(0.0),
                Effect::Undeclared | Effect::Unread(_) => {}
            }
            self.world.pause(self.pace.again).await;
            effect = self.world.effect().await;
        }
        match effect {
            Effect::Counted(count) => Ok(count),
            Effect::Absent(_) => Ok(0.0),
            Effect::Unread(why) => Err(Found::Unread(why)),
            Effect::Undeclared => Err(Found::Undeclared),
        }
    }

    /// The effect, once it has stayed the same for a few readings. One that becomes less is not of all
    /// machines together: each reading is answered by another one.
    pub(super) async fn settled(&self) -> Result<f64, Found> {
        let mut before = self.count().await?;
        let mut same = 0;
        for _ in 0..self.readings().max(SAME) {
            self.world.pause(self.pace.poll).await;
            let now = self.count().await?;
            if now < before - HALF {
                return Err(Found::Backwards);
            }
            same = if now < before + HALF { same + 1 } else { 0 };
            if same == SAME {
                return Ok(now);
            }
            before = now;
        }
        Err(Found::Busy)
    }

    /// Whether nothing comes that is not ours, for longer than a round takes.
    pub(super) async fn is_quiet(&self) -> Result<bool, Found> {
        // What a repeated delivery still causes is not something else.
        let before = match self.settled().await {
            Err(Found::Busy) => return Ok(false),
            settled => settled?,
        };
        for _ in 0..QUIET {
            self.world.pause(self.pace.poll).await;
            let now = self.count().await?;
            if now < before - HALF {
                return Err(Found::Backwards);
            }
            if now >= before + HALF {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Readings within the time for an effect.
    fn readings(&self) -> u32 {
        let readings = self.pace.effect.as_millis() / self.pace.poll.as_millis().max(1);
        u32::try_from(readings).unwrap_or(u32::MAX).max(1)
    }

    /// Waits until the effect is as expected, and returns how much more it is. It was at least `before`
    /// already.
    async fn reaches(&self, expected: f64, before: f64, moment: Moment) -> Result<f64, Found> {
        let mut missing = 0.0;
        for _ in 0..=self.readings() {
            let now = self.count().await?;
            if now < before - HALF {
                return Err(Found::Backwards);
            }
            missing = expected - now;
            if missing < HALF {
                return Ok(-missing);
            }
            self.world.pause(self.pace.poll).await;
        }
        // An event that was lost, or a name that is wrong.
        if let Effect::Absent(why) = self.world.effect().await {
            return Err(Found::Unread(why));
        }
        Err(Found::Lost {
            moment,
            missing,
            waited: self.pace.effect,
        })
    }
}

/// What to change when an event counts twice.
const ONE_EFFECT: &str = "Store the event's id under a unique key in the same transaction as its effect, and answer a known id with success without processing it.";

/// What to change when an event is lost.
const STORE_FIRST: &str =
    "Store the event before you answer; what fails must not be answered with success.";

/// A delivery was not accepted.
fn not_accepted(moment: Moment, verdict: Verdict) -> Verdict {
    let change = match moment {
        _ if verdict.ended == Ended::Unknown => None,
        Moment::First | Moment::Later => {
            Some("Accept signed events; see the check of signed requests.")
        }
        Moment::Again | Moment::Together => {
            Some("Answer an event that is known already with success.")
        }
    };
    Verdict {
        evidence: format!("{}: {}", moment.name(), verdict.evidence),
        change: verdict.change.or(change.map(str::to_owned)),
        ..verdict
    }
}

/// An event had more than one effect in a few rounds.
fn doubtful(moment: Moment, others: bool) -> Verdict {
    let (ended, why) = match others {
        true => (Ended::Unproven, "which other events may explain"),
        false => (Ended::Warned, "and nothing else explains it"),
    };
    let evidence = format!(
        "{}: more than one effect for each event in some rounds, {why}",
        moment.name()
    );
    Verdict {
        change: Some(ONE_EFFECT.to_owned()),
        ..Verdict::of(ended, evidence)
    }
}

/// What it means.
pub fn judge(found: Found) -> Verdict {
    let with = |ended, evidence: String, change: &str| Verdict {
        change: Some(change.to_owned()),
        ..Verdict::of(ended, evidence)
    };
    match found {
        Found::Once {
            deliveries,
            conflicts: 0,
        } => Verdict::of(
            Ended::Passed,
            format!(
                "{deliveries} deliveries, some of them at the same instant: each event had one effect"
            ),
        ),
        Found::Once { conflicts, .. } => with(
            Ended::Warned,
            format!(
                "each event had one effect, but of two deliveries at the same instant one was not accepted ({conflicts} times)"
            ),
            "Answer the second delivery with success too: the sender repeats what is not accepted.",
        ),
        Found::Undeclared => with(
            Ended::Unproven,
            "both deliveries were accepted; nothing shows whether they had one effect".to_owned(),
            "Set `effect` to a metric or a page that counts processed events.",
        ),
        Found::NotAccepted { moment, verdict } => not_accepted(moment, verdict),
        Found::Lost {
            moment,
            missing,
            waited,
        } => with(
            Ended::Failed,
            format!(
                "{}: accepted, and {missing:.0} had no effect within {}",
                moment.name(),
                span(waited)
            ),
            STORE_FIRST,
        ),
        Found::Doubled { moment, excess } => with(
            Ended::Failed,
            match excess.round() {
                1.0 => format!("{}: 1 effect too many", moment.name()),
                excess => format!("{}: {excess} effects too many", moment.name()),
            },
            ONE_EFFECT,
        ),
        Found::Doubtful { moment, others } => doubtful(moment, others),
        Found::Busy => with(
            Ended::Unproven,
            "other events come all the time, so the effect of a single one does not show"
                .to_owned(),
            "Declare an `effect` that counts nothing but probes, or less traffic: a selector, or a page of its own.",
        ),
        Found::Backwards => with(
            Ended::Unknown,
            "the effect became less while it was watched: a machine was started anew, or each machine counts for itself".to_owned(),
            "If several machines run, declare an `effect` that counts for all of them, such as a page with a number of the database; Golive asks again.",
        ),
        Found::Unread(why) => with(
            Ended::Unknown,
            format!("the effect cannot be read: {why}"),
            "Check the path and the name in `effect`; Golive asks again.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(rounds: &[(f64, bool)]) -> (Option<Found>, Option<Found>) {
        let mut tally = Tally::default();
        for (excess, quiet) in rounds {
            let excess = (*excess > 0.0).then_some((Moment::Together, *excess));
            tally.add(excess, *quiet);
        }
        (tally.found(false), tally.found(true))
    }

    fn is_once(found: Option<&Found>) -> bool {
        matches!(found, Some(Found::Once { .. }))
    }

    fn is_doubled(found: Option<&Found>) -> bool {
        matches!(found, Some(Found::Doubled { .. }))
    }

    #[test]
    fn real_events_are_told_from_a_second_effect() {
        let (clean, weak, strong, busy) = ((0.0, true), (1.0, true), (9.0, true), (2.0, false));
        assert!(is_once(tally(&[clean, clean]).0.as_ref()));
        assert_eq!(tally(&[clean]).0, None);
        assert!(is_doubled(tally(&[strong, strong]).0.as_ref()));
        assert!(is_doubled(tally(&[clean, strong, busy, strong]).0.as_ref()));
        // One event of a guest is nobody's fault.
        assert!(is_once(
            tally(&[weak, clean, clean, clean, clean]).0.as_ref()
        ));
        assert_eq!(tally(&[weak, clean, clean]).0, None);
        // A race that only some events lose.
        let races = [weak, weak, clean, weak, weak, clean, weak, weak];
        assert_eq!(tally(&races[..7]).0, None);
        assert!(is_doubled(tally(&races).1.as_ref()));
        for (rounds, others) in [
            (vec![weak, weak, clean], false),
            (vec![strong, clean, clean], false),
            (vec![weak, weak, busy, clean], true),
        ] {
            let doubtful = Found::Doubtful {
                moment: Moment::Together,
                others,
            };
            assert_eq!(tally(&rounds), (None, Some(doubtful)), "{rounds:?}");
        }
        assert_eq!(tally(&[busy, busy]).1, Some(Found::Busy));
    }

    #[test]
    fn each_finding_has_its_verdict() {
        let moment = Moment::Together;
        let refused = |ended| Found::NotAccepted {
            moment: Moment::Again,
            verdict: Verdict::of(ended, "answered 500".to_owned()),
        };
        let once = |conflicts| Found::Once {
            deliveries: 38,
            conflicts,
        };
        for (found, ended) in [
            (once(0), Ended::Passed),
            (once(1), Ended::Warned),
            (Found::Undeclared, Ended::Unproven),
            (refused(Ended::Failed), Ended::Failed),
            (refused(Ended::Unknown), Ended::Unknown),
            (
                Found::Lost {
                    moment,
                    missing: 1.0,
                    waited: Duration::from_secs(10),
                },
                Ended::Failed,
            ),
            (
                Found::Doubled {
                    moment,
                    excess: 8.0,
                },
                Ended::Failed,
            ),
            (
                Found::Doubtful {
                    moment,
                    others: false,
                },
                Ended::Warned,
            ),
            (
                Found::Doubtful {
                    moment,
                    others: true,
                },
                Ended::Unproven,
            ),
            (Found::Busy, Ended::Unproven),
            (Found::Backwards, Ended::Unknown),
            (Found::Unread("no metric".to_owned()), Ended::Unknown),
        ] {
            let verdict = judge(found.clone());
            assert_eq!(
                (verdict.ended, verdict.forgery),
                (ended, false),
                "{found:?}"
            );
            assert!(!verdict.evidence.is_empty(), "{found:?}");
        }
    }
}
