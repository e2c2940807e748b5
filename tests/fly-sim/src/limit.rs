//! Fly's documented rate limits: token buckets per action and object.
//!
//! Source: docs, machines/api/working-with-machines-api: 1 request/s with bursts of 3 per action
//! and machine (or app, for other actions); get machine 5/s with bursts of 10; app deletions
//! 100/min.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Buckets that are full again are forgotten when there are more than this many.
const BUCKETS_KEPT: usize = 10_000;

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    rate: f64,
    burst: f64,
    at: Instant,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        self.at = now;
    }
}

/// All buckets.
#[derive(Debug)]
pub struct Limits {
    on: AtomicBool,
    buckets: Mutex<HashMap<(String, String), Bucket>>,
}

/// Requests per second and burst of one action.
fn rate(action: &str) -> (f64, f64) {
    match action {
        "GET /v1/apps/{app}/machines/{id}" => (5.0, 10.0),
        "DELETE /v1/apps/{app}" => (100.0 / 60.0, 100.0),
        _ => (1.0, 3.0),
    }
}

impl Limits {
    /// Enforced or not.
    pub fn new(on: bool) -> Self {
        Self {
            on: AtomicBool::new(on),
            buckets: Mutex::default(),
        }
    }

    /// Turns enforcement on or off.
    pub fn enforce(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Takes one token for an action (`METHOD template`) on an object; false if there is none.
    pub fn take(&self, action: &str, object: &str, now: Instant) -> bool {
        if !self.on.load(Ordering::Relaxed) {
            return true;
        }
        let (rate, burst) = rate(action);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > BUCKETS_KEPT {
            buckets.retain(|_, bucket| {
                bucket.fill(now);
                bucket.tokens < bucket.burst
            });
        }
        let bucket = buckets
            .entry((action.to_owned(), object.to_owned()))
            .or_insert(Bucket {
                tokens: burst,
                rate,
                burst,
                at: now,
            });
        bucket.fill(now);
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn three_at_once_then_one_a_second_for_each_action_and_object() {
        let limits = Limits::new(true);
        let now = Instant::now();
        let action = "POST /v1/apps/{app}/machines";
        for _ in 0..3 {
            assert!(limits.take(action, "a", now));
        }
        assert!(!limits.take(action, "a", now));
        assert!(limits.take(action, "b", now));
        assert!(limits.take("POST /v1/apps/{app}/volumes", "a", now));
        assert!(limits.take(action, "a", now + Duration::from_millis(1_001)));
        assert!(!limits.take(action, "a", now + Duration::from_millis(1_002)));
    }
}
