//! The work queue: which object is due, of what kind of work, and which one is next.
//!
//! [`queue`] decides and does nothing else: it is plain data, and time is an argument. [`WorkQueue`]
//! shares one queue between the dispatcher, which adds and takes, and metrics and `/healthz`, which
//! look. Uses only `process::share`. Start reading at [`queue::Queue::next`].

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

mod changes;
mod queue;
mod tenant;
mod work;

#[cfg(test)]
mod tests;

pub use queue::{Limits, Queue};
pub use work::{Job, Kind, Object, Stall};

/// The queue of this process, shared.
pub struct WorkQueue {
    queue: Mutex<Queue>,
}

impl WorkQueue {
    /// An empty queue that last moved at `now`. It gives out no work until it is opened.
    pub fn new(now: Instant) -> WorkQueue {
        WorkQueue {
            queue: Mutex::new(Queue::new(Limits::default(), now)),
        }
    }

    /// Sets how much work may run at once.
    pub fn limit(&self, limits: Limits) {
        self.lock().limit(limits);
    }

    /// See [`Queue::open`].
    pub fn open(&self, namespace: Option<&str>) {
        self.lock().open(namespace);
    }

    /// See [`Queue::add`].
    pub fn add(&self, object: &Object, kind: Kind, due: Instant, now: Instant) {
        self.lock().add(object, kind, due, now);
    }

    /// See [`Queue::next`].
    pub fn next(&self, now: Instant) -> Option<Job> {
        self.lock().next(now)
    }

    /// See [`Queue::finished`].
    pub fn finished(&self, object: &Object, now: Instant) {
        self.lock().finished(object, now);
    }

    /// See [`Queue::forget`].
    pub fn forget(&self, object: &Object) {
        self.lock().forget(object);
    }

    /// See [`Queue::wakes_at`].
    pub fn wakes_at(&self) -> Option<Instant> {
        self.lock().wakes_at()
    }

    /// Number of objects that are due at `now`.
    pub fn depth(&self, now: Instant) -> usize {
        self.lock().depth(now)
    }

    /// Number of objects that are being worked on.
    pub fn running(&self) -> usize {
        self.lock().running()
    }

    /// Age of all running work: the sum and the longest.
    pub fn under_way(&self, now: Instant) -> (Duration, Duration) {
        self.lock().under_way(now)
    }

    /// The longest time that an object of each kind has been due; zero without one.
    pub fn longest_waits(&self, now: Instant) -> BTreeMap<Kind, Duration> {
        self.lock().longest_waits(now)
    }

    /// Whether work has been due for `limit` while nothing began or ended.
    pub fn stalled(&self, now: Instant, limit: Duration) -> Option<Stall> {
        self.lock().stalled(now, limit)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod gone {
    use super::*;

    #[test]
    fn a_deleted_object_leaves_nothing_due() {
        let t0 = Instant::now();
        let queue = WorkQueue::new(t0);
        queue.open(None);
        let (a, b) = (Object::new("cabanas", "a"), Object::new("cabanas", "b"));
        queue.add(&a, Kind::Change, t0, t0);
        queue.forget(&a);
        assert_eq!(queue.depth(t0), 0);
        assert_eq!(queue.next(t0), None);
        // Also when it goes during its pass.
        queue.add(&b, Kind::Change, t0, t0);
        assert!(queue.next(t0).is_some());
        queue.add(&b, Kind::Retry, t0, t0);
        queue.forget(&b);
        queue.finished(&b, t0);
        assert_eq!((queue.depth(t0), queue.running()), (0, 0));
        let limit = Duration::from_secs(60);
        assert_eq!(queue.stalled(t0 + limit * 2, limit), None);
    }
}
