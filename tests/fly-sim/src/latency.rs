//! How long Fly takes, as one seeded table.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// What takes time. Ranges in milliseconds at scale 1.
///
/// Sources: a machine create takes 1.1-2.5 s (field-D in the reference); boot, stop and the
/// managed services are orders of magnitude from public reports, and settings, not facts.
const TABLE: &[(&str, u64, u64)] = &[
    ("read", 40, 120),
    ("write", 80, 250),
    ("app.create", 300, 900),
    ("app.delete", 300, 900),
    ("machine.create", 1_100, 2_500),
    ("machine.update", 800, 2_000),
    ("machine.boot", 800, 2_500),
    ("machine.pull", 1_000, 5_000),
    ("machine.stop", 100, 300),
    ("machine.suspend", 300, 900),
    ("machine.destroy", 200, 800),
    ("exec", 100, 400),
    ("volume.create", 500, 1_500),
    ("secrets.set", 150, 500),
    ("secrets.visible", 0, 500),
    ("address.allocate", 300, 900),
    ("certificate.issue", 3_000, 15_000),
    ("postgres.create", 500, 1_500),
    ("postgres.ready", 60_000, 120_000),
    ("redis.create", 2_000, 5_000),
    ("release.create", 100, 300),
];

/// The table with a scale: 0 is off, 1 as on Fly.
#[derive(Debug)]
pub struct Latency {
    scale: f64,
    seed: u64,
    table: BTreeMap<String, (Duration, Duration)>,
    drawn: Mutex<BTreeMap<String, u64>>,
}

impl Clone for Latency {
    fn clone(&self) -> Self {
        Self {
            scale: self.scale,
            seed: self.seed,
            table: self.table.clone(),
            drawn: Mutex::new(BTreeMap::new()),
        }
    }
}

impl Latency {
    /// Everything takes no time.
    pub fn off() -> Self {
        Self::real().scaled(0.0)
    }

    /// As on Fly.
    pub fn real() -> Self {
        Self {
            scale: 1.0,
            seed: 1,
            table: TABLE
                .iter()
                .map(|&(what, low, high)| {
                    let range = (Duration::from_millis(low), Duration::from_millis(high));
                    (what.to_owned(), range)
                })
                .collect(),
            drawn: Mutex::default(),
        }
    }

    /// The same table, everything times `factor`.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.scale *= factor.max(0.0);
        self
    }

    /// The same table, other draws.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the range of one entry, before scaling.
    #[must_use]
    pub fn with(mut self, what: &str, low: Duration, high: Duration) -> Self {
        self.table.insert(what.to_owned(), (low, high));
        self
    }

    /// The factor on the table.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The range of one entry after scaling; zero for an unknown one.
    pub fn range(&self, what: &str) -> (Duration, Duration) {
        let (low, high) = self.table.get(what).copied().unwrap_or_default();
        (low.mul_f64(self.scale), high.mul_f64(self.scale))
    }

    /// Draws the next value for one entry: a function of seed, entry and how often it was drawn.
    pub fn draw(&self, what: &str) -> Duration {
        let (low, high) = self.range(what);
        if high.is_zero() {
            return Duration::ZERO;
        }
        let nth = {
            let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
            let nth = drawn.entry(what.to_owned()).or_default();
            *nth += 1;
            *nth
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, what, nth).hash(&mut hasher);
        let share = (hasher.finish() % 1_000) as f64 / 1_000.0;
        low + (high.saturating_sub(low)).mul_f64(share)
    }

    /// Waits for as long as one entry says.
    pub async fn pause(&self, what: &str) {
        let delay = self.draw(what);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_with_the_same_seed_and_stay_in_range() {
        let (a, b) = (Latency::real(), Latency::real());
        for _ in 0..50 {
            let drawn = a.draw("machine.create");
            assert_eq!(drawn, b.draw("machine.create"));
            assert!(drawn >= Duration::from_millis(1_100), "{drawn:?}");
            assert!(drawn <= Duration::from_millis(2_500), "{drawn:?}");
        }
        assert_eq!(Latency::off().draw("machine.create"), Duration::ZERO);
    }
}
