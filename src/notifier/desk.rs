//! Whose round is due. Pure: time is an argument.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ObjectReference;
use tokio_util::sync::CancellationToken;

use super::snapshot::Snapshot;
use crate::{process::workqueue::Object, redact::Redactor, store::outbox::Stored};

/// Held by a round from its beginning to its end.
pub(super) type Turn = Arc<tokio::sync::Mutex<()>>;

/// The objects of which somebody is told.
#[derive(Default)]
pub(super) struct Desk {
    entries: BTreeMap<Object, Entry>,
    /// Objects without receivers, with the test that was asked of them in vain.
    unheard: BTreeMap<Object, String>,
}

struct Entry {
    snapshot: Arc<Snapshot>,
    redactor: Redactor,
    /// When its next round begins; `None` when nothing changes by itself.
    due: Option<Instant>,
    running: bool,
    /// Something changed while its round was running.
    dirty: bool,
    /// What is stored, as this process knows it.
    stored: Option<Stored>,
    turn: Turn,
    /// The object goes.
    leaves: CancellationToken,
}

/// A round to begin.
pub(super) struct Job {
    pub(super) object: Object,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) redactor: Redactor,
    pub(super) stored: Option<Stored>,
    pub(super) turn: Turn,
    pub(super) leaves: CancellationToken,
}

/// How a round ended.
pub(super) struct Ended {
    /// What is stored; `None` when that is not known.
    pub(super) stored: Option<Stored>,
    /// The time until the next round, if nothing happens before.
    pub(super) next: Option<Duration>,
}

impl Desk {
    /// Takes the present facts of an object: a round is due if they are others. Returns the object if a
    /// person asks for a test and nobody would receive it, once.
    pub(super) fn tell(
        &mut self,
        snapshot: Snapshot,
        redactor: Redactor,
    ) -> Option<ObjectReference> {
        let object = Object::new(&snapshot.owner.namespace, &snapshot.owner.name);
        let same = |entry: &Entry| entry.snapshot.owner.uid == snapshot.owner.uid;
        if self.entries.get(&object).is_some_and(|entry| !same(entry)) {
            self.remove(&object);
        }
        let known = self.entries.get_mut(&object);
        if snapshot.receivers.is_empty() {
            let test = snapshot.test.clone();
            let news = test.filter(|test| self.unheard.get(&object) != Some(test));
            if let Some(test) = news {
                self.unheard.insert(object, test);
                return Some(snapshot.reference);
            }
            // Whatever waits for a receiver that is no longer there is given up.
            known.as_ref()?;
        }
        match known {
            Some(entry) if *entry.snapshot == snapshot => {}
            Some(entry) => {
                entry.snapshot = Arc::new(snapshot);
                entry.redactor = redactor;
                entry.dirty = entry.running;
                entry.due = Some(Instant::now());
            }
            None => {
                let entry = Entry {
                    snapshot: Arc::new(snapshot),
                    redactor,
                    due: Some(Instant::now()),
                    running: false,
                    dirty: false,
                    stored: None,
                    turn: Turn::default(),
                    leaves: CancellationToken::new(),
                };
                self.entries.insert(object, entry);
            }
        }
        None
    }

    /// The rounds that begin now, and when the next one is due.
    pub(super) fn due(&mut self, now: Instant) -> (Vec<Job>, Option<Instant>) {
        let mut jobs = Vec::new();
        let mut next: Option<Instant> = None;
        for (object, entry) in &mut self.entries {
            let Some(due) = entry.due.filter(|_| !entry.running) else {
                continue;
            };
            if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            entry.running = true;
            entry.dirty = false;
            jobs.push(Job {
                object: object.clone(),
                snapshot: entry.snapshot.clone(),
                redactor: entry.redactor.clone(),
                stored: entry.stored.take(),
                turn: entry.turn.clone(),
                leaves: entry.leaves.clone(),
            });
        }
        (jobs, next)
    }

    /// A round of the object with this UID has ended.
    pub(super) fn ended(&mut self, object: &Object, uid: &str, ended: Ended, now: Instant) {
        let entry = self.entries.get_mut(object);
        let Some(entry) = entry.filter(|entry| entry.snapshot.owner.uid == uid) else {
            return;
        };
        entry.running = false;
        entry.stored = ended.stored;
        entry.due = match entry.dirty {
            true => Some(now),
            false => ended.next.and_then(|pause| now.checked_add(pause)),
        };
    }

    /// Removes an object. Its round, if one is running, ends soon; whoever locks what is returned waits
    /// for that.
    pub(super) fn remove(&mut self, object: &Object) -> Option<Turn> {
        self.unheard.remove(object);
        let entry = self.entries.remove(object)?;
        entry.leaves.cancel();
        entry.running.then_some(entry.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifier::snapshot::testing::{receiver, snapshot};

    fn object() -> Object {
        Object::new("cabanas", "mvp")
    }

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    fn idle(next: Option<u64>) -> Ended {
        Ended {
            stored: Some(Stored::default()),
            next: next.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_round_is_due_when_something_changed_and_never_twice_at_once() {
        let mut desk = Desk::default();
        desk.tell(snapshot(vec![receiver("ops")]), Redactor::default());
        assert_eq!(desk.due(later(1)).0.len(), 1);
        assert!(desk.due(later(1)).0.is_empty(), "it is running");
        let mut changed = snapshot(vec![receiver("ops")]);
        changed.test = Some("now".to_owned());
        desk.tell(changed.clone(), Redactor::default());
        assert!(desk.due(later(1)).0.is_empty(), "it is still running");
        desk.ended(&object(), "u-1", idle(Some(500)), Instant::now());
        let (jobs, _) = desk.due(later(1));
        assert_eq!(jobs.len(), 1);
        assert!(jobs[0].stored.is_some(), "what it knows stays with it");
        desk.ended(&object(), "u-1", idle(Some(500)), Instant::now());
        desk.tell(changed, Redactor::default());
        let (jobs, next) = desk.due(later(1));
        assert!(jobs.is_empty() && next.is_some(), "the same is no news");
        assert_eq!(desk.due(later(501)).0.len(), 1);
    }

    #[test]
    fn an_object_without_receivers_costs_nothing_and_a_test_of_it_is_answered_once() {
        let mut desk = Desk::default();
        let mut nobody = snapshot(Vec::new());
        assert!(desk.tell(nobody.clone(), Redactor::default()).is_none());
        nobody.test = Some("a".to_owned());
        assert!(desk.tell(nobody.clone(), Redactor::default()).is_some());
        assert!(desk.tell(nobody.clone(), Redactor::default()).is_none());
        nobody.test = Some("b".to_owned());
        assert!(desk.tell(nobody, Redactor::default()).is_some());
        assert!(desk.due(later(1)).0.is_empty());
    }

    #[test]
    fn when_the_last_receiver_goes_one_more_round_clears_what_waits() {
        let mut desk = Desk::default();
        desk.tell(snapshot(vec![receiver("ops")]), Redactor::default());
        desk.due(later(1));
        desk.ended(&object(), "u-1", idle(None), Instant::now());
        desk.tell(snapshot(Vec::new()), Redactor::default());
        assert_eq!(desk.due(later(1)).0.len(), 1);
    }

    #[test]
    fn an_object_that_goes_ends_its_round_and_another_of_its_name_begins_anew() {
        let mut desk = Desk::default();
        desk.tell(snapshot(vec![receiver("ops")]), Redactor::default());
        let (jobs, _) = desk.due(later(1));
        assert!(desk.remove(&object()).is_some(), "it is running");
        assert!(jobs[0].leaves.is_cancelled());
        desk.ended(&object(), "u-1", idle(None), Instant::now());
        assert!(desk.due(later(1)).0.is_empty());

        desk.tell(snapshot(vec![receiver("ops")]), Redactor::default());
        desk.due(later(1));
        desk.ended(&object(), "u-1", idle(None), Instant::now());
        let mut another = snapshot(vec![receiver("ops")]);
        another.owner.uid = "another".to_owned();
        desk.tell(another, Redactor::default());
        let (jobs, _) = desk.due(later(1));
        assert!(jobs[0].stored.is_none());
    }
}
