//! How often changes of one object start a pass. Pure.
//!
//! An object that is edited fifty times a second would keep a worker for itself, and each pass costs
//! reads and a write. The first changes start a pass at once; then one pass a second sees all changes
//! of that second.

use std::time::{Duration, Instant};

/// Passes for changes of one object at once, after a quiet time.
const BURST: u32 = 8;

/// Time after which one more is allowed.
const PERIOD: Duration = Duration::from_secs(1);

/// The changes of one object: a leaky bucket that is full when `spent` is [`BURST`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Changes {
    /// When the bucket is empty again. Each change fills one [`PERIOD`].
    empty_at: Instant,
}

impl Changes {
    /// None so far.
    pub(super) fn none(now: Instant) -> Self {
        Self { empty_at: now }
    }

    /// Counts one, and returns when its pass may begin.
    pub(super) fn count(&mut self, now: Instant) -> Instant {
        self.empty_at = self.empty_at.max(now) + PERIOD;
        let room = PERIOD * BURST;
        self.empty_at
            .checked_sub(room)
            .map_or(now, |at| at.max(now))
    }

    /// Whether nothing of them counts any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.empty_at <= now
    }
}
