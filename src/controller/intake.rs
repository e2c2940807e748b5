//! What the watch of Activations means for the queue. Pure.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use kube::{Resource, ResourceExt, core::DeserializeGuard, runtime::watcher::Event};

use crate::{
    api::Activation,
    process::workqueue::{Kind, Object},
    reconcile,
};

/// An Activation, or an object that cannot be decoded as one.
pub(super) type Watched = DeserializeGuard<Activation>;

/// What follows from an event of the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The object is due now.
    Due(Object, Kind),
    /// The object is gone.
    Gone(Object),
    /// All objects have been listed.
    Listed,
}

/// What of an object calls for a pass when it changes. Our own status writes do not; finalizers and
/// annotations do not change the generation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    uid: Option<String>,
    generation: Option<i64>,
    annotations: u64,
    finalizers: u64,
    deleted: bool,
}

impl Known {
    fn of(object: &Watched) -> Self {
        let hash = |value: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            value(&mut hasher);
            hasher.finish()
        };
        Self {
            uid: object.uid(),
            generation: object.meta().generation,
            annotations: hash(&|hasher| object.annotations().hash(hasher)),
            finalizers: hash(&|hasher| object.finalizers().hash(hasher)),
            deleted: object.meta().deletion_timestamp.is_some(),
        }
    }

    /// What the change from `before` is; `None` when nothing of it calls for a pass.
    fn since(&self, before: Option<&Self>) -> Option<Kind> {
        let same = before.filter(|before| before.uid == self.uid);
        match same {
            None if self.deleted => Some(Kind::Deletion),
            None => Some(Kind::Progress),
            Some(before) if self.deleted && !before.deleted => Some(Kind::Deletion),
            Some(before)
                if (before.generation, before.annotations)
                    != (self.generation, self.annotations) =>
            {
                Some(Kind::Change)
            }
            // Ours.
            Some(before) if before.finalizers != self.finalizers => Some(Kind::Progress),
            Some(_) => None,
        }
    }
}

/// The objects of one watch, as they were seen last.
#[derive(Debug, Default)]
pub(super) struct Intake {
    known: BTreeMap<Object, Known>,
    /// The objects of the list that is under way, and what is due of them. A list that breaks off and
    /// begins again leaves no trace: what its first pages had is as new as before.
    listed: BTreeMap<Object, (Known, Option<Kind>)>,
}

impl Intake {
    /// Takes an event, and returns what follows from it. What a list brings follows at its end, when
    /// the cache has it.
    pub(super) fn take(&mut self, event: &Event<Watched>) -> Vec<Seen> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                let (key, now) = (key(object), Known::of(object));
                let kind = match self.known.get(&key) {
                    before @ Some(_) => now.since(before),
                    None => Some(first_sight(object)),
                };
                self.listed.insert(key, (now, kind));
                Vec::new()
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone = self.known.keys().filter(|key| !listed.contains_key(key));
                let mut seen: Vec<Seen> = gone.cloned().map(Seen::Gone).collect();
                self.known.clear();
                for (key, (now, kind)) in listed {
                    seen.extend(kind.map(|kind| Seen::Due(key.clone(), kind)));
                    self.known.insert(key, now);
                }
                seen.push(Seen::Listed);
                seen
            }
            Event::Apply(object) => {
                let (key, now) = (key(object), Known::of(object));
                let kind = now.since(self.known.get(&key));
                self.known.insert(key.clone(), now);
                kind.map(|kind| Seen::Due(key, kind)).into_iter().collect()
            }
            Event::Delete(object) => {
                let key = key(object);
                self.known.remove(&key);
                vec![Seen::Gone(key)]
            }
        }
    }
}

/// The key of an object.
pub(super) fn key(object: &Watched) -> Object {
    Object::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// The kind of an object that this process has never seen.
fn first_sight(object: &Watched) -> Kind {
    match &object.0 {
        Ok(activation) => reconcile::at_first_sight(activation),
        // Nothing of its status is known.
        Err(_) => Kind::Progress,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str, more: Value) -> Watched {
        let mut metadata = json!({"name": name, "namespace": "ns", "uid": "u", "generation": 1});
        let known = metadata.as_object_mut().unwrap();
        known.extend(more.as_object().unwrap().clone());
        let spec =
            json!({"organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"}});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn due(name: &str, kind: Kind) -> Seen {
        Seen::Due(Object::new("ns", name), kind)
    }

    #[test]
    fn what_a_list_brings_follows_when_it_is_complete() {
        let mut intake = Intake::default();
        assert_eq!(intake.take(&Event::Init), []);
        assert_eq!(intake.take(&Event::InitApply(object("a", json!({})))), []);
        let all = intake.take(&Event::InitDone);
        assert_eq!(all, [due("a", Kind::Progress), Seen::Listed]);
        // Once more, after an interruption: what is the same is not due, and what is missing is gone.
        intake.take(&Event::Init);
        intake.take(&Event::InitApply(object("b", json!({}))));
        let all = intake.take(&Event::InitDone);
        let gone = Seen::Gone(Object::new("ns", "a"));
        assert_eq!(all, [gone, due("b", Kind::Progress), Seen::Listed]);
        intake.take(&Event::Init);
        let edited = object("b", json!({"generation": 2}));
        intake.take(&Event::InitApply(edited));
        let all = intake.take(&Event::InitDone);
        assert_eq!(all, [due("b", Kind::Change), Seen::Listed]);
    }

    #[test]
    fn a_list_that_breaks_off_after_a_page_loses_nothing_of_that_page() {
        let mut intake = Intake::default();
        intake.take(&Event::Init);
        intake.take(&Event::InitApply(object("a", json!({}))));
        // The next page has expired: the list begins again.
        intake.take(&Event::Init);
        intake.take(&Event::InitApply(object("a", json!({}))));
        intake.take(&Event::InitApply(object("b", json!({}))));
        let all = intake.take(&Event::InitDone);
        let new = |name| due(name, Kind::Progress);
        assert_eq!(all, [new("a"), new("b"), Seen::Listed]);
        // Nor is a change lost that only the first try has told of.
        intake.take(&Event::Init);
        intake.take(&Event::InitApply(object("a", json!({"generation": 2}))));
        intake.take(&Event::Init);
        intake.take(&Event::InitApply(object("a", json!({"generation": 2}))));
        let all = intake.take(&Event::InitDone);
        let gone = Seen::Gone(Object::new("ns", "b"));
        assert_eq!(all, [gone, due("a", Kind::Change), Seen::Listed]);
    }

    #[test]
    fn a_change_is_told_from_our_own_writes() {
        let mut intake = Intake::default();
        let mut seen = |more: Value| intake.take(&Event::Apply(object("a", more)));
        assert_eq!(seen(json!({})), [due("a", Kind::Progress)], "it is new");
        assert_eq!(seen(json!({"resourceVersion": "9"})), [], "a status write");
        let ours = json!({"finalizers": ["golive.dev/x"]});
        assert_eq!(seen(ours.clone()), [due("a", Kind::Progress)]);
        let mut edited = ours;
        edited["generation"] = json!(2);
        assert_eq!(seen(edited.clone()), [due("a", Kind::Change)]);
        edited["annotations"] = json!({"golive.dev/retry": "now"});
        assert_eq!(seen(edited.clone()), [due("a", Kind::Change)]);
        edited["deletionTimestamp"] = json!("2026-11-24T12:00:00Z");
        assert_eq!(seen(edited.clone()), [due("a", Kind::Deletion)]);
        assert_eq!(seen(edited.clone()), []);
        edited["uid"] = json!("another");
        assert_eq!(seen(edited.clone()), [due("a", Kind::Deletion)]);
        let gone = intake.take(&Event::Delete(object("a", edited)));
        assert_eq!(gone, [Seen::Gone(Object::new("ns", "a"))]);
    }
}
