//! State of the work queue: which objects are due, which are being worked on, and since when.
//!
//! The queue itself is kube's, which does not expose its state. The controller records here what it
//! schedules, begins and ends; metrics and `/healthz` read it. It decides nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The key of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Object {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Object {
    /// Names an object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Object {
        Object {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Work is due, but nothing has begun or ended for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Number of objects that are due.
    pub waiting: usize,
    /// How long the oldest of them has been due.
    pub since: Duration,
}

/// Which objects are due and running, and when work last began or ended.
pub struct WorkQueue {
    state: Mutex<State>,
}

struct State {
    /// When each waiting object is due.
    due: HashMap<Object, Instant>,
    running: HashMap<Object, Instant>,
    moved: Instant,
}

impl WorkQueue {
    /// An empty queue that last moved at `now`.
    pub fn new(now: Instant) -> WorkQueue {
        WorkQueue {
            state: Mutex::new(State {
                due: HashMap::new(),
                running: HashMap::new(),
                moved: now,
            }),
        }
    }

    /// Records that the object is due at `due`. The earliest time applies.
    pub fn scheduled(&self, object: &Object, due: Instant) {
        let mut state = self.lock();
        state
            .due
            .entry(object.clone())
            .and_modify(|old| *old = (*old).min(due))
            .or_insert(due);
    }

    /// Records that work on the object begins. Returns how long it had been due, if it was
    /// scheduled.
    pub fn started(&self, object: &Object, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        state.moved = now;
        state.running.insert(object.clone(), now);
        let due = state.due.remove(object)?;
        Some(now.saturating_duration_since(due))
    }

    /// Records that work on the object has ended.
    pub fn finished(&self, object: &Object, now: Instant) {
        let mut state = self.lock();
        state.moved = now;
        state.running.remove(object);
    }

    /// Removes a deleted object.
    pub fn forget(&self, object: &Object) {
        self.lock().due.remove(object);
    }

    /// Number of objects that are due at `now`.
    pub fn depth(&self, now: Instant) -> usize {
        self.lock().due.values().filter(|due| **due <= now).count()
    }

    /// Number of objects that are being worked on.
    pub fn running(&self) -> usize {
        self.lock().running.len()
    }

    /// Age of all running work: the sum and the longest.
    pub fn under_way(&self, now: Instant) -> (Duration, Duration) {
        let state = self.lock();
        let times = state
            .running
            .values()
            .map(|since| now.saturating_duration_since(*since));
        times.fold((Duration::ZERO, Duration::ZERO), |(sum, longest), time| {
            (sum.saturating_add(time), longest.max(time))
        })
    }

    /// Whether work has been due for `limit` while nothing began or ended.
    pub fn stalled(&self, now: Instant, limit: Duration) -> Option<Stall> {
        let state = self.lock();
        if now.saturating_duration_since(state.moved) < limit {
            return None;
        }
        let since = state
            .due
            .values()
            .map(|due| now.saturating_duration_since(*due))
            .max()?;
        (since >= limit).then(|| Stall {
            waiting: state.due.values().filter(|due| **due <= now).count(),
            since,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn an_object_waits_from_when_it_is_due_not_from_when_it_was_scheduled() {
        let t0 = Instant::now();
        let queue = WorkQueue::new(t0);
        let object = Object::new("cabanas", "a");
        queue.scheduled(&object, t0 + seconds(30));
        assert_eq!(queue.depth(t0), 0);
        assert_eq!(queue.depth(t0 + seconds(30)), 1);
        let waited = queue.started(&object, t0 + seconds(33));
        assert_eq!(waited, Some(seconds(3)));
    }

    #[test]
    fn the_earliest_of_two_times_counts() {
        let t0 = Instant::now();
        let queue = WorkQueue::new(t0);
        let object = Object::new("cabanas", "a");
        queue.scheduled(&object, t0 + seconds(30));
        queue.scheduled(&object, t0 + seconds(5));
        queue.scheduled(&object, t0 + seconds(90));
        assert_eq!(queue.depth(t0 + seconds(5)), 1);
    }

    #[test]
    fn a_queue_stalls_only_with_work_due_and_no_movement() {
        let t0 = Instant::now();
        let queue = WorkQueue::new(t0);
        // Idle is healthy, however long.
        assert_eq!(queue.stalled(t0 + MINUTE * 60, MINUTE), None);
        // Work that is not due yet is no stall either.
        let object = Object::new("cabanas", "a");
        queue.scheduled(&object, t0 + MINUTE * 10);
        assert_eq!(queue.stalled(t0 + MINUTE * 10, MINUTE), None);
        let late = t0 + MINUTE * 11;
        let expected = Stall {
            waiting: 1,
            since: MINUTE,
        };
        assert_eq!(queue.stalled(late, MINUTE), Some(expected));
        // Another object moves: the queue is busy, not stuck.
        let other = Object::new("cabanas", "b");
        queue.started(&other, late);
        assert_eq!(queue.stalled(late, MINUTE), None);
        assert!(queue.stalled(late + MINUTE, MINUTE).is_some());
    }

    #[test]
    fn a_deleted_object_leaves_nothing_due() {
        let t0 = Instant::now();
        let queue = WorkQueue::new(t0);
        let object = Object::new("cabanas", "a");
        queue.scheduled(&object, t0);
        queue.forget(&object);
        assert_eq!(queue.depth(t0), 0);
        assert_eq!(queue.stalled(t0 + MINUTE * 2, MINUTE), None);
    }

    #[test]
    fn work_under_way_is_summed_and_the_longest_is_known() {
        let t0 = Instant::now();
        let queue = WorkQueue::new(t0);
        queue.started(&Object::new("cabanas", "a"), t0);
        queue.started(&Object::new("cabanas", "b"), t0 + seconds(6));
        assert_eq!(
            queue.under_way(t0 + seconds(10)),
            (seconds(14), seconds(10))
        );
        queue.finished(&Object::new("cabanas", "a"), t0 + seconds(10));
        assert_eq!(queue.running(), 1);
    }
}
