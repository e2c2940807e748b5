//! Whether an event that is delivered twice has one effect: one after the other, and at the same instant,
//! when two machines of the application get it.
//!
//! The effect is a number of the application that real events increase too. Less than expected is
//! therefore a loss at once; more than expected is believed when it was seen twice, each time followed by a
//! moment in which nothing else came.

use std::time::Duration;

use futures::future::join_all;

use super::{
    judge::{Statuses, Verdict, is_accepted, judge_one, span},
    outcome::Ended,
    probe::{Asked, Effect, Pace, Probe, Reply, World, ask},
};

/// Events that are delivered twice at the same instant.
const PAIRS: u32 = 8;

/// Rounds that must be in order.
const CLEAN: u32 = 2;

/// Rounds in which an event counted twice, after which it is believed.
const STRIKES: u32 = 2;

/// Most rounds.
const MOST: u32 = 8;

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
    /// It had more than one effect once, which another event may explain.
    Doubtful {
        /// Which.
        moment: Moment,
    },
    /// Other events come all the time.
    Busy,
    /// The effect became less: a machine was started anew.
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

/// Why a round ended early.
enum Stop {
    Found(Found),
    Excess { moment: Moment, excess: f64 },
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
        let (mut clean, mut strikes, mut event) = (0, 0, 0);
        let mut worst = None;
        let mut conflicts = 0;
        for _ in 0..MOST {
            let round = self.round(event, &mut conflicts, replies).await;
            event += PAIRS + 2;
            match round {
                Ok(()) => clean += 1,
                Err(Stop::Found(found)) => return found,
                Err(Stop::Excess { moment, excess }) => match self.is_quiet().await {
                    Ok(true) => {
                        strikes += 1;
                        worst = Some((moment, excess));
                    }
                    Ok(false) => {}
                    Err(found) => return found,
                },
            }
            match worst {
                Some((moment, excess)) if strikes >= STRIKES => {
                    return Found::Doubled { moment, excess };
                }
                None if clean >= CLEAN => {
                    let deliveries = clean * (2 * PAIRS + 3);
                    return Found::Once {
                        deliveries,
                        conflicts,
                    };
                }
                _ => {}
            }
        }
        match worst {
            Some((moment, _)) => Found::Doubtful { moment },
            None => Found::Busy,
        }
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
    ) -> Result<(), Stop> {
        let start = self.settled().await.map_err(Stop::Found)?;
        let found = Stop::Found;
        let mut expected = start;

        self.deliver(event, Moment::First, replies)
            .await
            .map_err(found)?;
        expected += 1.0;
        self.reaches(expected, Moment::First).await?;

        self.deliver(event, Moment::Again, replies)
            .await
            .map_err(found)?;
        self.world.pause(self.pace.poll).await;
        self.reaches(expected, Moment::Again).await?;

        let pairs = event + 1..=event + PAIRS;
        *conflicts += self.together(pairs, replies).await.map_err(found)?;
        expected += f64::from(PAIRS);
        self.reaches(expected, Moment::Together).await?;

        let later = event + PAIRS + 1;
        self.deliver(later, Moment::Later, replies)
            .await
            .map_err(found)?;
        expected += 1.0;
        self.reaches(expected, Moment::Later).await?;
        // What is processed a moment after the answer still counts.
        self.world.pause(self.pace.poll * 2).await;
        self.reaches(expected, Moment::Together).await
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
    async fn count(&self) -> Result<f64, Found> {
        let mut effect = self.world.effect().await;
        for _ in 0..2 {
            if let Effect::Counted(count) = effect {
                return Ok(count);
            }
            self.world.pause(self.pace.again).await;
            effect = self.world.effect().await;
        }
        match effect {
            Effect::Counted(count) => Ok(count),
            Effect::Unread(why) => Err(Found::Unread(why)),
            Effect::Undeclared => Err(Found::Undeclared),
        }
    }

    /// The effect, once it has stayed the same for a moment.
    async fn settled(&self) -> Result<f64, Found> {
        let mut before = self.count().await?;
        for _ in 0..self.readings() {
            self.world.pause(self.pace.poll).await;
            let now = self.count().await?;
            if (now - before).abs() < HALF {
                return Ok(now);
            }
            before = now;
        }
        Err(Found::Busy)
    }

    /// Whether nothing comes that is not ours, for about as long as a round takes.
    async fn is_quiet(&self) -> Result<bool, Found> {
        // What a repeated delivery still causes is not something else.
        let before = match self.settled().await {
            Err(Found::Busy) => return Ok(false),
            settled => settled?,
        };
        for _ in 0..4 {
            self.world.pause(self.pace.poll).await;
            if (self.count().await? - before).abs() >= HALF {
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

    /// Waits until the effect is as expected.
    async fn reaches(&self, expected: f64, moment: Moment) -> Result<(), Stop> {
        let mut first = None;
        let mut missing = 0.0;
        for _ in 0..=self.readings() {
            let now = self.count().await.map_err(Stop::Found)?;
            if now < *first.get_or_insert(now) - HALF {
                return Err(Stop::Found(Found::Backwards));
            }
            missing = expected - now;
            if missing < -HALF {
                let excess = -missing;
                return Err(Stop::Excess { moment, excess });
            }
            if missing < HALF {
                return Ok(());
            }
            self.world.pause(self.pace.poll).await;
        }
        Err(Stop::Found(Found::Lost {
            moment,
            missing,
            waited: self.pace.effect,
        }))
    }
}

/// What to change when an event counts twice.
const ONE_EFFECT: &str = "Store the event's id under a unique key in the same transaction as its effect, and answer a known id with success without processing it.";

/// What to change when an event is lost.
const STORE_FIRST: &str =
    "Store the event before you answer; what fails must not be answered with success.";

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
        Found::NotAccepted { moment, verdict } => Verdict {
            evidence: format!("{}: {}", moment.name(), verdict.evidence),
            change: verdict.change.or_else(|| match moment {
                _ if verdict.ended == Ended::Unknown => None,
                Moment::First | Moment::Later => {
                    Some("Accept signed events; see the check of signed requests.".to_owned())
                }
                Moment::Again | Moment::Together => {
                    Some("Answer an event that is known already with success.".to_owned())
                }
            }),
            ..verdict
        },
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
            format!(
                "{}: {excess:.0} more than one effect for each event",
                moment.name()
            ),
            ONE_EFFECT,
        ),
        Found::Doubtful { moment } => with(
            Ended::Warned,
            format!(
                "{}: more than one effect for each event, in one round of several",
                moment.name()
            ),
            ONE_EFFECT,
        ),
        Found::Busy => with(
            Ended::Unproven,
            "other events come all the time, so the effect of a single one does not show"
                .to_owned(),
            "Declare an `effect` that counts nothing but probes, or less traffic: a selector, or a page of its own.",
        ),
        Found::Backwards => Verdict::of(
            Ended::Unknown,
            "the effect became less while it was watched: a machine was started anew".to_owned(),
        ),
        Found::Unread(why) => with(
            Ended::Unknown,
            format!("the effect cannot be read: {why}"),
            "Check the path and the name in `effect`; Golive asks again.",
        ),
    }
}
