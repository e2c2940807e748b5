//! Rate limiter: keeps this process below Fly.io's limits, so that it causes no 429.
//!
//! Fly.io counts per action and object (the machine's id for actions on a machine, otherwise the
//! app): 1 request/s with a burst of 3, 5/s with a burst of 10 for reading one machine, and 100 app
//! deletions per minute. Source: fly.io/docs/machines/api/working-with-machines-api/#rate-limits.
//! The buckets here count the same way. But only who has claimed an app spends the app's bucket:
//! everybody may name any app, and sixty Activations that name somebody else's must not delay its
//! owner. The calls of others are counted by their token as well ([`Spends`]).
//!
//! A caller reserves the next free slot of its bucket and sleeps until then: first come, first
//! served. A slot after the caller's deadline is not reserved.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Rate limit of one action on one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time until one more request is allowed.
    pub period: Duration,
    /// Requests that are allowed at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// Any action of the Machines API: 1 request/s, burst 3; 3 % slower to allow for clock
    /// differences.
    pub const ACTION: Self = Self {
        period: Duration::from_millis(1_030),
        burst: 3,
    };

    /// Reading one machine: 5 requests/s, burst 10; 3 % slower to allow for clock differences.
    pub const GET_MACHINE: Self = Self {
        period: Duration::from_millis(206),
        burst: 10,
    };

    /// Deleting apps, counted for all apps together: 95 per minute of the 100 allowed.
    pub const DELETE_APP: Self = Self {
        period: Duration::from_millis(632),
        burst: 20,
    };

    /// The same limit for an organization to which Fly.io grants so many times what it publishes.
    fn raised(self, times: NonZeroU32) -> Self {
        Self {
            period: self.period / times.get(),
            burst: self.burst.saturating_mul(times.get()),
        }
    }

    /// GraphQL, releases, managed Postgres, logs and registries have no published limit. This is
    /// our own, per token and endpoint, so that a defect cannot overload Fly.io.
    pub const UNPUBLISHED: Self = Self {
        period: Duration::from_millis(50),
        burst: 20,
    };
}

/// Pause that is added once after a burst.
///
/// The first requests of a burst open connections and arrive late; without this pause the next one
/// would arrive too soon after them. An estimate: one TLS handshake across an ocean.
const AFTER_BURST: Duration = Duration::from_millis(250);

/// Longest accepted `Retry-After`.
const LONGEST_BLOCK: Duration = Duration::from_secs(300);

/// Above this number, full buckets are removed.
const SWEEP_ABOVE: usize = 20_000;

/// All buckets of this process.
#[derive(Debug)]
pub struct Limiter {
    buckets: Mutex<HashMap<Key, Bucket>>,
    /// How many times the limits are what is published.
    times: NonZeroU32,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::raised(NonZeroU32::MIN)
    }
}

/// One action on one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The action: method and endpoint template.
    pub action: &'static str,
    /// The object: a machine's id, an app's name, or whatever the limit counts by.
    pub object: String,
}

impl Key {
    /// The bucket of this action on this object.
    pub fn new(action: &'static str, object: &str) -> Self {
        let object = object.to_owned();
        Self { action, object }
    }
}

/// Which bucket a call takes from, and which other bucket stands for the same bucket of Fly.io's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spends {
    key: Key,
    other: Option<Other>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Other {
    /// Of the same caller, before it claimed the app. Counts once, when the owner's bucket is full.
    Before(Key),
    /// Of the app's owner. Always counts: who was the owner a moment ago is not ahead of Fly.io.
    Owner(Key),
}

impl Spends {
    /// This bucket alone.
    pub fn of(key: Key) -> Self {
        Self { key, other: None }
    }

    /// The bucket of an app's owner. `before` is the bucket from which it took before it had the
    /// claim: what it has taken there, it has taken at Fly.io.
    pub fn owner(key: Key, before: Key) -> Self {
        let other = Some(Other::Before(before));
        Self { key, other }
    }

    /// The bucket of a token, for an app that is not claimed by the caller. It is never fuller than
    /// the one of the app's owner.
    pub fn stranger(key: Key, owner: Key) -> Self {
        let other = Some(Other::Owner(owner));
        Self { key, other }
    }

    /// What the other bucket says about when this one is full.
    fn full_at(
        &self,
        buckets: &HashMap<Key, Bucket>,
        own: Instant,
        rate: Rate,
        now: Instant,
    ) -> Instant {
        let at = |key: &Key| buckets.get(key).map_or(now, |bucket| bucket.full_at);
        match &self.other {
            None => own,
            Some(Other::Owner(key)) => own.max(at(key)),
            // Not more than a whole burst: the bucket of a token may have a long queue of others.
            Some(Other::Before(key)) if own <= now => at(key).min(now + rate.period * rate.burst),
            Some(Other::Before(_)) => own,
        }
    }
}

/// The next free slot is after the deadline; nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate {
    /// Time until a request is allowed.
    pub after: Duration,
}

/// State of one bucket (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When the bucket is full again without further requests.
    full_at: Instant,
    /// Nothing may be sent before: Fly.io answered 429.
    blocked_until: Instant,
    /// Whether `AFTER_BURST` has been added since the bucket was last full.
    spread: bool,
}

impl Limiter {
    /// Buckets that are so many times as large and as fast as the limits that are published.
    pub fn raised(times: NonZeroU32) -> Self {
        Self {
            buckets: Mutex::default(),
            times,
        }
    }

    /// Waits until a request is allowed and takes it; returns the time waited.
    pub async fn acquire(
        &self,
        spends: &Spends,
        rate: Rate,
        deadline: Instant,
    ) -> Result<Duration, TooLate> {
        let start = Instant::now();
        loop {
            let go = self.reserve(spends, rate, Instant::now(), deadline)?;
            tokio::time::sleep_until(go).await;
            // The bucket may have been closed by a 429 meanwhile: queue again.
            if self
                .blocked_until(&spends.key)
                .is_none_or(|until| until <= Instant::now())
            {
                return Ok(Instant::now() - start);
            }
        }
    }

    /// Fly.io answered 429: empties the bucket and closes it for `after`.
    pub fn throttled(&self, spends: &Spends, rate: Rate, after: Duration) {
        self.close(&spends.key, rate, Instant::now(), after);
    }

    fn close(&self, key: &Key, rate: Rate, now: Instant, after: Duration) {
        let rate = rate.raised(self.times);
        let until = now + after.min(LONGEST_BLOCK);
        let mut buckets = self.lock();
        let bucket = buckets
            .entry(key.clone())
            .or_insert_with(|| Bucket::full(now));
        bucket.blocked_until = bucket.blocked_until.max(until);
        let empty = bucket.blocked_until + rate.period * rate.burst.saturating_sub(1);
        bucket.full_at = bucket.full_at.max(empty);
    }

    fn reserve(
        &self,
        spends: &Spends,
        rate: Rate,
        now: Instant,
        deadline: Instant,
    ) -> Result<Instant, TooLate> {
        let rate = rate.raised(self.times);
        let mut buckets = self.lock();
        if buckets.len() > SWEEP_ABOVE {
            buckets.retain(|_, b| b.full_at > now || b.blocked_until > now);
        }
        let known = buckets.get(&spends.key).copied();
        let mut next = known.unwrap_or_else(|| Bucket::full(now));
        next.full_at = spends.full_at(&buckets, next.full_at, rate, now);
        if next.full_at <= now {
            next = Bucket {
                blocked_until: next.blocked_until,
                ..Bucket::full(now)
            };
        }
        next.full_at += rate.period;
        let burst = rate.period * rate.burst;
        let mut go = next.full_at.checked_sub(burst).unwrap_or(now);
        if go > now && !next.spread {
            next.spread = true;
            next.full_at += AFTER_BURST;
            go += AFTER_BURST;
        }
        let go = go.max(next.blocked_until).max(now);
        if go > deadline {
            return Err(TooLate { after: go - now });
        }
        buckets.insert(spends.key.clone(), next);
        Ok(go)
    }

    fn blocked_until(&self, key: &Key) -> Option<Instant> {
        self.lock().get(key).map(|bucket| bucket.blocked_until)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Bucket>> {
        // A panic cannot leave a bucket half written: each is replaced as a whole.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self {
            full_at: now,
            blocked_until: now,
            spread: false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;

    fn key(object: &str) -> Key {
        Key::new("POST /v1/apps/{app}/machines", object)
    }

    fn alone(object: &str) -> Spends {
        Spends::of(key(object))
    }

    const HOUR: Duration = Duration::from_secs(3600);

    /// Fly.io's own bucket, as its documentation describes it.
    struct Theirs {
        tokens: f64,
        last: Instant,
    }

    impl Theirs {
        fn admits(&mut self, per_second: f64, burst: f64, now: Instant) -> bool {
            let refill = (now - self.last).as_secs_f64() * per_second;
            self.tokens = (self.tokens + refill).min(burst);
            self.last = now;
            self.tokens -= 1.0;
            self.tokens >= 0.0
        }
    }

    /// When the next requests would go, if each came as soon as the one before it was sent.
    fn schedule(limiter: &Limiter, object: &str, count: usize, start: Instant) -> Vec<Duration> {
        let mut now = start;
        let mut sent = Vec::new();
        for _ in 0..count {
            now = limiter
                .reserve(&alone(object), Rate::ACTION, now, start + HOUR)
                .unwrap();
            sent.push(now - start);
        }
        sent
    }

    #[test]
    fn the_platforms_bucket_never_runs_dry_and_little_time_is_lost() {
        for late in [Duration::ZERO, Duration::from_millis(240)] {
            let limiter = Limiter::default();
            let start = Instant::now();
            let mut theirs = Theirs {
                tokens: 3.0,
                last: start + late,
            };

            let sent = schedule(&limiter, "a", 103, start);

            for (number, sent) in sent.iter().enumerate() {
                // The first three open connections and arrive late.
                let arrival = start + *sent + if number < 3 { late } else { Duration::ZERO };
                assert!(theirs.admits(1.0, 3.0, arrival), "request {number}");
            }
            let last = sent[102];
            assert!(
                last <= Duration::from_millis(103_500),
                "{last:?} for 100 s of work"
            );
        }
    }

    #[test]
    fn a_thousand_objects_in_a_hurry_never_run_dry_at_the_platform() {
        let limiter = Limiter::default();
        let start = Instant::now();
        let late = Duration::from_millis(240);
        for number in 0..1_000 {
            let object = format!("shop-{number}");
            let mut theirs = Theirs {
                tokens: 3.0,
                last: start + late,
            };
            for (number, sent) in schedule(&limiter, &object, 12, start).iter().enumerate() {
                let arrival = start + *sent + if number < 3 { late } else { Duration::ZERO };
                assert!(
                    theirs.admits(1.0, 3.0, arrival),
                    "{object}: request {number}"
                );
            }
        }
    }

    #[test]
    fn a_burst_goes_at_once_and_other_objects_are_not_held_back() {
        let limiter = Limiter::default();
        let start = Instant::now();
        assert_eq!(schedule(&limiter, "a", 3, start), [Duration::ZERO; 3]);
        assert_eq!(schedule(&limiter, "b", 3, start), [Duration::ZERO; 3]);
        assert!(schedule(&limiter, "a", 1, start)[0] >= Duration::from_secs(1));
        let later = start + Duration::from_secs(10);
        assert_eq!(
            schedule(&limiter, "a", 3, later),
            [Duration::ZERO; 3],
            "full again"
        );
    }

    #[test]
    fn a_place_beyond_the_deadline_is_refused_and_costs_nothing() {
        let limiter = Limiter::default();
        let start = Instant::now();
        schedule(&limiter, "a", 3, start);
        let soon = start + Duration::from_millis(100);
        for _ in 0..50 {
            let refused = limiter
                .reserve(&alone("a"), Rate::ACTION, start, soon)
                .unwrap_err();
            assert!(refused.after < Duration::from_secs(2), "{refused:?}");
        }
        let next = schedule(&limiter, "a", 1, start)[0];
        assert!(
            next < Duration::from_secs(2),
            "refusals must not take places: {next:?}"
        );
    }

    #[test]
    fn waiting_is_first_come_first_served() {
        let limiter = Limiter::default();
        let start = Instant::now();
        let places: Vec<Instant> = (0..20)
            .map(|_| {
                limiter
                    .reserve(&alone("a"), Rate::ACTION, start, start + HOUR)
                    .unwrap()
            })
            .collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn after_a_429_the_bucket_is_closed_and_then_empty() {
        let limiter = Limiter::default();
        let start = Instant::now();
        limiter.close(&key("a"), Rate::ACTION, start, Duration::from_secs(10));
        let sent = schedule(&limiter, "a", 2, start);
        assert!(sent[0] >= Duration::from_secs(10), "{sent:?}");
        assert!(sent[1] >= Duration::from_secs(11), "{sent:?}");
    }

    #[test]
    fn an_absurd_retry_after_is_bounded() {
        let limiter = Limiter::default();
        let start = Instant::now();
        limiter.close(
            &key("a"),
            Rate::ACTION,
            start,
            Duration::from_secs(u64::MAX / 2),
        );
        assert!(schedule(&limiter, "a", 1, start)[0] <= LONGEST_BLOCK + Duration::from_secs(2));
    }

    #[tokio::test]
    async fn who_sleeps_when_a_429_comes_goes_on_sleeping() {
        let limiter = Arc::new(Limiter::default());
        let rate = Rate {
            period: Duration::from_millis(20),
            burst: 1,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        limiter.acquire(&alone("a"), rate, deadline).await.unwrap();
        let start = Instant::now();
        let sleeper = {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.acquire(&alone("a"), rate, deadline).await })
        };
        tokio::task::yield_now().await;

        limiter.throttled(&alone("a"), rate, Duration::from_millis(400));

        sleeper.await.unwrap().unwrap();
        assert!(
            start.elapsed() >= Duration::from_millis(400),
            "{:?}",
            start.elapsed()
        );
    }

    /// When the next requests would go, if all were ready now.
    fn all_now(limiter: &Limiter, spends: &Spends, count: usize, now: Instant) -> Vec<Duration> {
        let go = |_| {
            limiter
                .reserve(spends, Rate::ACTION, now, now + HOUR)
                .unwrap()
                - now
        };
        (0..count).map(go).collect()
    }

    #[test]
    fn an_organization_with_raised_limits_waits_for_those_alone() {
        let five = NonZeroU32::MIN.saturating_add(4);
        let now = Instant::now();
        let published = all_now(&Limiter::default(), &alone("a"), 16, now);
        let raised = all_now(&Limiter::raised(five), &alone("a"), 16, now);
        let at_once = |waits: &[Duration]| waits.iter().filter(|wait| wait.is_zero()).count();
        assert_eq!((at_once(&published), at_once(&raised)), (3, 15));
        assert!(raised[15] < published[3], "{raised:?}");
    }

    fn owner() -> Spends {
        Spends::owner(key("shop"), key("shop ours"))
    }

    #[test]
    fn strangers_who_name_an_app_wait_for_each_other_and_not_its_owner_for_them() {
        let limiter = Limiter::default();
        let now = Instant::now();
        let stranger = Spends::stranger(key("shop theirs"), key("shop"));
        let waits = all_now(&limiter, &stranger, 60, now);
        assert!(waits[59] > Duration::from_secs(50), "{waits:?}");
        assert_eq!(all_now(&limiter, &owner(), 3, now), [Duration::ZERO; 3]);
        let another = Spends::stranger(key("shop another"), key("shop"));
        assert!(
            all_now(&limiter, &another, 1, now)[0] > Duration::ZERO,
            "what the owner has taken is taken at Fly.io"
        );
    }

    #[test]
    fn who_claims_an_app_and_who_loses_it_does_not_get_a_second_burst() {
        let limiter = Limiter::default();
        let start = Instant::now();
        let mut theirs = Theirs {
            tokens: 3.0,
            last: start,
        };
        let before = Spends::stranger(key("shop ours"), key("shop"));
        let mut now = start;
        // Two rounds: claimed, deleted and created again, claimed again.
        for spends in [&before, &owner(), &before, &owner()] {
            for number in 0..5 {
                now = limiter
                    .reserve(spends, Rate::ACTION, now, now + HOUR)
                    .unwrap();
                assert!(theirs.admits(1.0, 3.0, now), "{spends:?}: request {number}");
            }
        }
    }

    #[test]
    fn an_owner_waits_at_most_a_burst_for_what_others_did_with_its_token() {
        let limiter = Limiter::default();
        let now = Instant::now();
        let before = Spends::stranger(key("shop ours"), key("shop"));
        all_now(&limiter, &before, 60, now);
        let waits = all_now(&limiter, &owner(), 2, now);
        assert!(waits[1] < Duration::from_secs(4), "{waits:?}");
    }
}
