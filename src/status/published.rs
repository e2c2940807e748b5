//! The status that this process wrote last, which its cache may not hold yet, and the version of the
//! object that holds it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::write::{self, Stored};
use crate::{
    api::{Activation, ActivationStatus, status::Intent},
    process::packed::Packed,
};

/// How many announcements are told from new ones after they have left the status.
const MARKS: usize = 128;

/// The last status that was written, and how the API server stored it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Published(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    status: Option<Box<ActivationStatus>>,
    /// What the API server holds, as far as this process knows. The next write follows from it.
    stored: Option<Stored>,
    /// When this process wrote last.
    written_at: Option<Instant>,
    message_due: Option<Instant>,
    /// On the heap, as it is rare and large.
    unanswered: Option<Box<Unanswered>>,
    overwritten: Option<Overwritten>,
    /// Another process of Golive has written the status beside this one.
    is_shared: bool,
    /// Creates that others have announced, which this process has not taken over yet.
    others: Vec<Intent>,
    /// The slots and nonces of the announcements that were in the status, the newest last. Two processes
    /// that work on one object write back what the other has settled already: that tells nothing new.
    marks: VecDeque<(String, String)>,
    /// The statuses, while nobody looks at them.
    rest: Option<Rest>,
}

/// The statuses of an object at rest. Both are the same but for what the API server leaves out.
#[derive(Debug)]
struct Rest {
    status: Option<Packed<ActivationStatus>>,
    stored: Held,
}

/// The status that the API server holds.
#[derive(Debug)]
enum Held {
    Nothing,
    TheSame,
    Another(Packed<ActivationStatus>),
}

impl Inner {
    /// Packs the statuses.
    fn pack(&mut self) {
        if self.rest.is_some() {
            return;
        }
        let stored = self
            .stored
            .as_ref()
            .and_then(|stored| stored.status.as_ref());
        let stored = match stored {
            None => Some(Held::Nothing),
            Some(stored) if Some(stored) == self.status.as_deref() => Some(Held::TheSame),
            Some(stored) => Packed::of(stored).map(Held::Another),
        };
        let status = self.status.as_deref().map(Packed::of);
        // One that cannot be packed stays as it is.
        if let Some(stored) = stored
            && !matches!(status, Some(None))
        {
            self.status = None;
            if let Some(stored) = &mut self.stored {
                stored.status = None;
            }
            let status = status.flatten();
            self.rest = Some(Rest { status, stored });
        }
    }

    /// Opens what was packed. If that fails, the statuses are not known, as after a restart.
    fn open(&mut self) {
        let Some(Rest { status, stored }) = self.rest.take() else {
            return;
        };
        let was_known = status.is_some();
        self.status = status.and_then(|packed| packed.open()).map(Box::new);
        let held = match stored {
            Held::Nothing => None,
            Held::TheSame => self.status.as_deref().cloned(),
            Held::Another(packed) => packed.open(),
        };
        if was_known && self.status.is_none() {
            self.stored = None;
        }
        if let Some(stored) = &mut self.stored {
            stored.status = held;
        }
    }

    /// Those of the announcements that were never in the status before. From now on they have been.
    fn fresh(&mut self, intents: &[Intent]) -> Vec<Intent> {
        let fresh = intents.iter().filter(|intent| !self.is_marked(intent));
        let fresh: Vec<Intent> = fresh.cloned().collect();
        let marks = fresh.iter().filter(|intent| !intent.nonce.is_empty());
        let marks = marks.map(|intent| (intent.slot.clone(), intent.nonce.clone()));
        self.marks.extend(marks);
        let too_many = self.marks.len().saturating_sub(MARKS);
        self.marks.drain(..too_many);
        fresh
    }

    fn is_marked(&self, intent: &Intent) -> bool {
        let marks = self.marks.iter();
        let mut marks = marks.rev();
        marks.any(|(slot, nonce)| *slot == intent.slot && *nonce == intent.nonce)
    }

    /// What the API server holds now, written by this process or found by it first.
    fn hold(&mut self, stored: Stored) {
        self.fresh(stored.intents());
        self.stored = Some(stored);
    }
}

/// A write whose answer is lost: the API server may have stored it or not.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// The status before.
    pub old: Option<ActivationStatus>,
    /// The status that was to be written.
    pub new: ActivationStatus,
}

/// Somebody else has written the status since this process did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overwritten {
    /// Fields of it belong to others: server-side apply would leave them in place.
    pub by_stranger: bool,
}

impl Published {
    /// Takes note of an object as the cache or the API server has it. One that is older than what this
    /// process knows tells nothing: the cache lags behind our writes.
    pub fn observe(&self, activation: &Activation) {
        let mut inner = self.lock();
        let Some(seen) = Stored::of(activation) else {
            return;
        };
        // What became of a write without an answer is found out first.
        if inner.unanswered.is_some() {
            return;
        }
        let Some(known) = &mut inner.stored else {
            inner.hold(seen);
            return;
        };
        if seen.version <= known.version {
            return;
        }
        if seen.status == known.status {
            known.version = seen.version;
            return;
        }
        let before = known.intents().to_vec();
        let mut fresh = inner.fresh(seen.intents());
        fresh.retain(|intent| !before.contains(intent));
        inner.stored = Some(seen);
        inner
            .others
            .retain(|known| !fresh.iter().any(|fresh| fresh.slot == known.slot));
        inner.others.extend(fresh);
        let by_stranger = write::has_stranger(activation);
        if activation.spec.suspend && !by_stranger {
            // Nobody takes them over now. Whoever has announced one and writes without it is done with it: written
            // back, it would be taken away and written back for as long as the object is suspended.
            let stored = inner.stored.as_ref();
            let held = stored.map_or_else(Vec::new, |stored| stored.intents().to_vec());
            inner
                .others
                .retain(|known| held.iter().any(|held| held.slot == known.slot));
        }
        inner.overwritten = Some(Overwritten { by_stranger });
        inner.is_shared |= !by_stranger;
    }

    /// This process has changed the metadata of the object, which had one version and has another now.
    pub fn metadata_changed(&self, (from, to): (&str, &str)) {
        if let (Ok(from), Ok(to)) = (from.parse::<u128>(), to.parse())
            && let Some(stored) = &mut self.lock().stored
            && stored.version == from
        {
            stored.version = to;
        }
    }

    /// The last status that this process wrote.
    pub fn status(&self) -> Option<ActivationStatus> {
        self.lock().status.as_deref().cloned()
    }

    /// The version of the object that the next write follows from.
    pub fn version(&self) -> Option<u128> {
        self.lock().stored.as_ref().map(|stored| stored.version)
    }

    /// Whether somebody else has written the status since this process did.
    pub fn overwritten(&self) -> Option<Overwritten> {
        self.lock().overwritten
    }

    /// Whether another process of Golive has ever written the status beside this one: it may have done what this one
    /// knows nothing of.
    pub fn is_shared(&self) -> bool {
        self.lock().is_shared
    }

    /// Creates that others have announced, which this process has not taken over yet.
    pub fn others(&self) -> Vec<Intent> {
        self.lock().others.clone()
    }

    /// The same, for whoever takes them over.
    pub fn take_others(&self) -> Vec<Intent> {
        std::mem::take(&mut self.lock().others)
    }

    /// The announced creates that the API server holds, as far as this process knows.
    pub fn held(&self) -> Vec<Intent> {
        let inner = self.lock();
        let stored = inner.stored.as_ref();
        stored.map_or_else(Vec::new, |stored| stored.intents().to_vec())
    }

    /// When this process wrote last.
    pub fn written_at(&self) -> Option<Instant> {
        self.lock().written_at
    }

    /// When a held message is written.
    pub fn message_due(&self) -> Option<Instant> {
        self.lock().message_due
    }

    /// Holds a message for the same state back until then.
    pub fn hold_message(&self, due: Option<Instant>) {
        self.lock().message_due = due;
    }

    /// Notes a write whose answer is lost.
    pub fn lost_answer(&self, write: Unanswered) {
        let mut inner = self.lock();
        // Another process may have taken over what it announces by the time it is found out.
        inner.fresh(&write.new.intents);
        inner.unanswered = Some(Box::new(write));
    }

    /// The write whose answer is lost, if there is one.
    pub fn unanswered(&self) -> Option<Unanswered> {
        self.lock().unanswered.as_deref().cloned()
    }

    /// A write without an answer was not applied.
    pub fn not_applied(&self) {
        self.lock().unanswered = None;
    }

    /// The status was taken away, which is what the API server holds now.
    pub fn cleared(&self, stored: Stored) {
        let mut inner = self.lock();
        inner.hold(stored);
        inner.overwritten = Some(Overwritten { by_stranger: false });
    }

    /// Sets the present status; `stored` when that took a write.
    pub fn set(&self, status: ActivationStatus, stored: Option<Stored>) {
        let mut inner = self.lock();
        inner.status = Some(Box::new(status));
        inner.unanswered = None;
        if let Some(stored) = stored {
            inner.written_at = Some(stored.at);
            inner.hold(stored);
            inner.overwritten = None;
        }
    }

    /// Nobody looks at the statuses for a while: they take less memory until somebody does.
    pub fn rest(&self) {
        self.whole().pack();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.whole();
        inner.open();
        inner
    }

    fn whole(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(version: u32, status: &Value, fields: &Value) -> Activation {
        let object = json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
            "metadata": {
                "name": "x", "uid": "u", "resourceVersion": version.to_string(),
                "managedFields": fields,
            },
            "spec": {"organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"}},
            "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn intent(nonce: &str) -> Value {
        json!({"uid": "u", "intents": [
            {"slot": "Redis/UpstashRedis/x-redis", "kind": "UpstashRedis", "name": "x-redis", "nonce": nonce}
        ]})
    }

    #[test]
    fn a_write_follows_from_the_newest_version_that_holds_what_is_known() {
        let published = Published::default();
        assert_eq!(published.version(), None);
        let known = json!({"uid": "u"});
        published.observe(&object(5, &known, &json!([])));
        published.metadata_changed(("4", "6"));
        assert_eq!(published.version(), Some(5), "somebody was between");
        published.metadata_changed(("5", "6"));
        assert_eq!(published.version(), Some(6));
        // The cache lags behind, or the spec was edited.
        published.observe(&object(5, &Value::Null, &json!([])));
        assert_eq!(published.version(), Some(6));
        published.observe(&object(9, &known, &json!([])));
        assert_eq!(published.version(), Some(9));
        assert_eq!(published.overwritten(), None);
    }

    #[test]
    fn a_status_at_rest_is_the_same_when_it_is_looked_at() {
        let at_rest = |published: &Published| {
            published.rest();
            let inner = published.whole();
            assert!(inner.rest.is_some() && inner.status.is_none());
        };
        let published = Published::default();
        at_rest(&published);
        assert_eq!(published.status(), None);
        let mine = object(5, &intent("a"), &json!([]));
        published.set(mine.status.clone().unwrap(), Stored::of(&mine));
        at_rest(&published);
        at_rest(&published);
        assert_eq!(published.status(), mine.status);
        assert_eq!(published.held()[0].nonce, "a");
        // The API server holds another one: somebody has written it.
        at_rest(&published);
        published.observe(&object(7, &intent("b"), &json!([])));
        at_rest(&published);
        assert_eq!(published.status(), mine.status);
        assert_eq!(published.held()[0].nonce, "b");
        assert_eq!(published.version(), Some(7));
        assert!(published.overwritten().is_some());
        assert_eq!(published.take_others()[0].nonce, "b");
    }

    #[test]
    fn what_another_process_has_announced_is_noticed_once_and_ours_is_not_taken_for_it() {
        let published = Published::default();
        let mine = object(5, &intent("a"), &json!([]));
        published.set(mine.status.clone().unwrap(), Stored::of(&mine));
        let mut both = intent("a");
        both["url"] = json!("https://x.example");
        published.observe(&object(6, &both, &json!([])));
        assert_eq!(published.others(), []);
        assert_eq!(
            published.overwritten(),
            Some(Overwritten { by_stranger: false })
        );

        published.observe(&object(7, &intent("b"), &json!([])));
        assert_eq!(published.version(), Some(7));
        let others = published.take_others();
        assert_eq!(others.len(), 1);
        assert_eq!(others[0].nonce, "b");
        published.observe(&object(8, &intent("b"), &json!([])));
        assert_eq!(published.others(), []);
    }

    #[test]
    fn what_another_process_writes_back_after_it_was_settled_is_no_new_announcement() {
        let published = Published::default();
        let announced = object(5, &intent("a"), &json!([]));
        published.set(announced.status.clone().unwrap(), Stored::of(&announced));
        // Settled here: the status holds it no more. The other process still has it in its memory.
        let settled = object(6, &json!({"uid": "u"}), &json!([]));
        published.set(settled.status.clone().unwrap(), Stored::of(&settled));
        published.observe(&object(7, &intent("a"), &json!([])));
        assert_eq!(published.others(), []);
        // One of the other process that was taken over and settled.
        published.observe(&object(8, &intent("b"), &json!([])));
        assert_eq!(published.take_others()[0].nonce, "b");
        let settled = object(9, &json!({"uid": "u"}), &json!([]));
        published.set(settled.status.clone().unwrap(), Stored::of(&settled));
        published.observe(&object(10, &intent("b"), &json!([])));
        assert_eq!(published.others(), []);
        // Announced anew, it counts again.
        published.observe(&object(11, &intent("c"), &json!([])));
        assert_eq!(published.others()[0].nonce, "c");
    }

    #[test]
    fn while_nobody_takes_it_over_an_announcement_stays_until_its_author_takes_it_away() {
        let suspended = |version, status: &Value, manager: &str| {
            let fields = json!([{"manager": manager, "operation": "Apply", "subresource": "status",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:url": {}}}}]);
            let mut object = object(version, status, &fields);
            object.spec.suspend = true;
            object
        };
        let golive = "golive-controller";
        let known = || {
            let published = Published::default();
            published.observe(&suspended(5, &json!({"uid": "u"}), golive));
            published.observe(&suspended(6, &intent("b"), golive));
            assert_eq!(published.others().len(), 1);
            published
        };
        // Our own status, which holds it too.
        let mut both = intent("b");
        both["url"] = json!("https://x.example");
        let published = known();
        published.observe(&suspended(7, &both, golive));
        assert_eq!(published.others().len(), 1);
        // Somebody has edited the status by hand: it may be sent yet.
        let without = json!({"uid": "u", "url": "https://y.example"});
        published.observe(&suspended(8, &without, "kubectl-edit"));
        assert_eq!(published.others().len(), 1);
        let published = known();
        published.observe(&suspended(7, &without, golive));
        assert_eq!(published.others(), []);
    }

    #[test]
    fn announcements_that_are_long_gone_are_forgotten_and_marks_are_bounded() {
        let published = Published::default();
        published.observe(&object(1, &json!({"uid": "u"}), &json!([])));
        for n in 0..MARKS + 9 {
            let seen = intent(&n.to_string());
            published.observe(&object(u32::try_from(n).unwrap() + 2, &seen, &json!([])));
        }
        assert_eq!(published.lock().marks.len(), MARKS);
    }

    #[test]
    fn fields_of_a_stranger_are_told_from_those_of_another_replica() {
        let fields = |manager: &str| {
            json!([{"manager": manager, "operation": "Update", "subresource": "status",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:url": {}}}}])
        };
        for (manager, by_stranger) in [("kubectl-edit", true), ("golive-controller", false)] {
            let published = Published::default();
            published.observe(&object(5, &json!({"uid": "u"}), &json!([])));
            published.observe(&object(6, &json!({"url": "https://x"}), &fields(manager)));
            assert_eq!(published.overwritten(), Some(Overwritten { by_stranger }));
            assert_eq!(published.is_shared(), !by_stranger);
            // Our own write changes nothing about that.
            let mine = object(7, &json!({"uid": "u"}), &json!([]));
            published.set(mine.status.clone().unwrap(), Stored::of(&mine));
            assert_eq!(published.is_shared(), !by_stranger);
        }
    }

    #[test]
    fn a_write_without_an_answer_is_not_taken_for_one_of_somebody_else() {
        let published = Published::default();
        published.observe(&object(5, &json!({"uid": "u"}), &json!([])));
        let written = object(6, &intent("a"), &json!([]));
        published.lost_answer(Unanswered {
            old: None,
            new: written.status.clone().unwrap(),
        });
        published.observe(&written);
        assert_eq!(published.overwritten(), None);
        assert_eq!(published.others(), []);
        // Nor when another process has written it back before that was found out.
        let mut both = intent("a");
        both["url"] = json!("https://x.example");
        published.not_applied();
        published.observe(&object(7, &both, &json!([])));
        assert!(published.overwritten().is_some());
        assert_eq!(published.others(), []);
    }
}
