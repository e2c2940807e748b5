//! Calls that go wrong at random, but repeatably: whether the n-th call of an app to an endpoint is
//! hit, and how, is a function of the seed alone, whatever the other apps do meanwhile.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fault::{Kind, matches};

/// What may happen to which calls, and how often.
#[derive(Clone, Debug)]
pub struct Mixture {
    /// Same seed, same draws.
    pub seed: u64,
    /// How many of a hundred calls are hit.
    pub percent: u64,
    /// Name for the count, endpoints with `*` for any text, and what happens.
    pub kinds: Vec<(&'static str, &'static str, Kind)>,
}

/// Calls that change something.
const CHANGES: [&str; 4] = ["POST *", "PUT *", "PATCH *", "DELETE *"];

impl Mixture {
    /// What Fly.io has been seen to do, in equal parts: 429, 408 that was carried out and that was
    /// not, 5xx, connections that end, stale and empty lists, 404 after a create, slow answers.
    pub fn of_everything(seed: u64, percent: u64) -> Self {
        let retry_after = |text: &str| Kind::RateLimited {
            retry_after: Some(text.to_owned()),
        };
        let mut kinds = vec![
            ("429", "*", Kind::RateLimited { retry_after: None }),
            ("429 with Retry-After", "*", retry_after("1")),
            ("408 not applied", "*", Kind::status(408)),
            ("500", "*", Kind::status(500)),
            ("502", "*", Kind::status(502)),
            ("503", "*", Kind::status(503)),
            ("504", "*", Kind::status(504)),
            ("reset before", "*", Kind::ResetBefore),
            (
                "hang, not applied",
                "*",
                Kind::TimeoutNotApplied { hang_ms: 400 },
            ),
            ("slow answer", "*", Kind::Delay { ms: 600 }),
            ("cut body", "*", Kind::CutBody),
        ];
        for change in CHANGES {
            kinds.extend([
                ("408 applied", change, Kind::RequestTimeoutApplied),
                ("reset after", change, Kind::ResetAfter),
                (
                    "hang, applied",
                    change,
                    Kind::TimeoutApplied { hang_ms: 400 },
                ),
            ]);
        }
        let machines = "GET /v1/apps/{app}/machines";
        for mutations in [1, 3, 5] {
            kinds.push(("stale list", machines, Kind::StaleList { mutations }));
        }
        for list in [
            machines,
            "GET /v1/apps/{app}/ip_assignments",
            "GET /v1/apps/{app}/volumes",
            "GET /v1/apps/{app}/secrets",
            "GET /v1/apps/{app}/certificates",
        ] {
            kinds.push(("empty list", list, Kind::EmptyList));
        }
        for read in ["GET /v1/apps/{app}", "GET /v1/apps/{app}/machines/{id}"] {
            let missing = Kind::NotFoundAfterCreate { for_ms: 1_500 };
            kinds.push(("404 after create", read, missing));
        }
        Self {
            seed,
            percent,
            kinds,
        }
    }

    /// What happens to the n-th call of an app to an endpoint.
    fn nth(
        &self,
        endpoint: &str,
        app: &str,
        n: u64,
    ) -> Option<&(&'static str, &'static str, Kind)> {
        let mut hasher = DefaultHasher::new();
        (self.seed, endpoint, app, n).hash(&mut hasher);
        let drawn = hasher.finish();
        if drawn % 100 >= self.percent {
            return None;
        }
        let fitting: Vec<_> = self
            .kinds
            .iter()
            .filter(|(_, pattern, _)| matches(pattern, endpoint))
            .collect();
        let at = usize::try_from(drawn >> 32)
            .ok()?
            .checked_rem(fitting.len())?;
        fitting.get(at).copied()
    }
}

/// The mixture that runs, and what it has done.
#[derive(Debug, Default)]
pub struct Mixtures {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: Option<Mixture>,
    seen: BTreeMap<(String, String), u64>,
    counts: BTreeMap<String, u64>,
}

impl Mixtures {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one, or ends it. Calls are counted on.
    pub fn set(&self, mixture: Option<Mixture>) {
        self.lock().running = mixture;
    }

    /// Whether one runs.
    pub fn running(&self) -> bool {
        self.lock().running.is_some()
    }

    /// How many calls were hit since the start, by kind.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// Draws for one call.
    pub fn draw(&self, endpoint: &str, app: &str) -> Option<Kind> {
        let mut inner = self.lock();
        inner.running.as_ref()?;
        let seen = inner
            .seen
            .entry((endpoint.to_owned(), app.to_owned()))
            .or_default();
        *seen += 1;
        let n = *seen;
        let mixture = inner.running.as_ref()?;
        let (name, _, kind) = mixture.nth(endpoint, app, n)?.clone();
        *inner.counts.entry(name.to_owned()).or_default() += 1;
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_draws_alike_with_the_same_seed_and_as_often_as_it_says() {
        let (machines, app) = ("GET /v1/apps/{app}/machines", "shop");
        let draws = |seed| {
            let mixture = Mixture::of_everything(seed, 10);
            let nth = |n| mixture.nth(machines, app, n).map(|(name, ..)| *name);
            (0..2_000).map(nth).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let hits = draws(7).into_iter().flatten().count();
        assert!((120..=280).contains(&hits), "{hits} of 2000");
        let kinds: std::collections::BTreeSet<_> = draws(7).into_iter().flatten().collect();
        assert!(kinds.contains("stale list") && kinds.contains("429"));
        assert!(!kinds.contains("408 applied"), "a read applies nothing");
    }

    #[test]
    fn what_one_app_draws_does_not_depend_on_the_others() {
        let endpoint = "POST /v1/apps/{app}/machines";
        let draws = |others: bool| {
            let mixtures = Mixtures::default();
            mixtures.set(Some(Mixture::of_everything(3, 20)));
            (0..200)
                .map(|_| {
                    if others {
                        mixtures.draw(endpoint, "other");
                    }
                    mixtures.draw(endpoint, "shop")
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(draws(false), draws(true));
    }
}
