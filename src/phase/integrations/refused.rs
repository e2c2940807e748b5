//! Whether a forged request that is refused has an effect all the same: the handler has answered 401, and
//! goes on.
//!
//! The effect is a number that real events increase too. It is believed when almost every forged request
//! had one, in two rounds, and nothing came right after either of them.

use super::{
    judge::Verdict,
    outcome::Ended,
    probe::{Expect, Probe, World, ask_all},
    replay::{Found, Replay},
};

/// Forged requests of a round.
const COUNT: u32 = 8;

/// Effects of a round that real events do not explain, when none came right after it.
const MANY: f64 = 6.0;

/// Rounds with so many after which they are believed.
const ROUNDS: u32 = 2;

impl<W: World, F: Fn(u32) -> Probe + Sync> Replay<'_, W, F> {
    /// Sends forged events, and watches the effect if `found` says that each signed one has one effect:
    /// a number that counts repeated requests may count refused ones too, and shows nothing. `None`:
    /// nothing speaks for an effect.
    pub async fn processed_though_refused(&self, found: &Found) -> Option<Verdict> {
        if !matches!(found, Found::Once { .. }) {
            return None;
        }
        let mut least = f64::MAX;
        for round in 0..ROUNDS {
            least = least.min(self.effects_of_refused(round * COUNT).await?);
        }
        let evidence = format!(
            "{COUNT} forged requests were refused and had {least:.0} effects all the same, {ROUNDS} times"
        );
        let change = "End the handling of a request with its refusal: return after the answer 401, before anything is stored or done.";
        Some(Verdict {
            forgery: true,
            change: Some(change.to_owned()),
            ..Verdict::of(Ended::Failed, evidence)
        })
    }

    /// The effects of one round; `None` if they are few, or may be those of other events. Requests that
    /// are accepted are found by their answers.
    async fn effects_of_refused(&self, from: u32) -> Option<f64> {
        let before = self.settled().await.ok()?;
        let forged: Vec<Probe> = (from..from + COUNT).map(&self.event).collect();
        debug_assert!(forged.iter().all(|probe| probe.expect == Expect::Refused));
        let asked = ask_all(self.world, forged, self.pace).await;
        let accepted = |status: u16| (200..300).contains(&status);
        if asked
            .iter()
            .any(|asked| asked.reply.status().is_some_and(accepted))
        {
            return None;
        }
        self.world.pause(self.pace.poll * 2).await;
        let more = self.count().await.ok()? - before;
        let believed = more >= MANY && self.is_quiet().await.ok()?;
        believed.then_some(more)
    }
}
