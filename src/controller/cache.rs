//! The Activations of one scope, as their watch has seen them last. Packed: between its passes nobody
//! looks at an object, and a pass reads it from here in less time than the API server needs to answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use kube::runtime::watcher::Event;

use super::intake::{Watched, key};
use crate::{
    api::Activation,
    plan::named::{RefKind, watched},
    process::{packed::Packed, workqueue::Object},
};

/// The objects. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects(Arc<RwLock<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<Object, Held>,
    /// The objects of the list that is under way: at its end they replace all others.
    listed: BTreeMap<Object, Held>,
}

#[derive(Debug)]
struct Held {
    object: Form,
    /// The Secrets and ConfigMaps that it names.
    names: Box<[(RefKind, String)]>,
}

#[derive(Debug)]
enum Form {
    Packed(Packed<Activation>),
    /// It cannot be decoded.
    Whole(Arc<Watched>),
}

impl Held {
    fn of(object: &Watched) -> Self {
        let whole = || Form::Whole(Arc::new(object.clone()));
        match &object.0 {
            Ok(activation) => Self {
                object: Packed::of(activation).map_or_else(whole, Form::Packed),
                names: watched(activation).into_iter().collect(),
            },
            Err(_) => Self {
                object: whole(),
                names: Box::default(),
            },
        }
    }

    fn open(&self) -> Option<Arc<Watched>> {
        match &self.object {
            // What the API server sent was decoded, so that this is too.
            Form::Packed(packed) => packed.open().map(Arc::new),
            Form::Whole(object) => Some(object.clone()),
        }
    }
}

impl Objects {
    /// Takes an event of the watch.
    pub(super) fn take(&self, event: &Event<Watched>) {
        let held = |object: &Watched| (key(object), Held::of(object));
        let change = match event {
            Event::InitApply(object) | Event::Apply(object) => Some(held(object)),
            _ => None,
        };
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match (event, change) {
            (Event::Init, _) => inner.listed.clear(),
            (Event::InitDone, _) => inner.held = std::mem::take(&mut inner.listed),
            (Event::Delete(object), _) => drop(inner.held.remove(&key(object))),
            (Event::InitApply(_), Some((key, held))) => drop(inner.listed.insert(key, held)),
            (_, Some((key, held))) => drop(inner.held.insert(key, held)),
            (_, None) => {}
        }
    }

    /// The object, as its watch has seen it last.
    pub(super) fn get(&self, object: &Object) -> Option<Arc<Watched>> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.held.get(object)?.open()
    }

    /// The objects of a namespace that name this Secret or ConfigMap.
    pub(super) fn naming(&self, namespace: &str, kind: RefKind, name: &str) -> Vec<Object> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let first = Object::new(namespace, "");
        let of_namespace = inner.held.range(first..);
        let of_namespace = of_namespace.take_while(|(object, _)| object.namespace == namespace);
        let names = |held: &Held| held.names.iter().any(|(k, n)| *k == kind && n == name);
        let naming = of_namespace.filter(|(_, held)| names(held));
        naming.map(|(object, _)| object.clone()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str, spec: &Value) -> Watched {
        let metadata = json!({
            "name": name, "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "7",
        });
        serde_json::from_value(json!({
            "apiVersion": "golive.dev/v1alpha1", "kind": "Activation",
            "metadata": metadata, "spec": spec,
            "status": {"uid": "u", "url": "https://x.example"},
        }))
        .unwrap()
    }

    fn spec() -> Value {
        json!({
            "organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"},
            "tokenSecretRef": {"name": "fly", "key": "token"},
        })
    }

    #[test]
    fn an_object_is_given_back_as_the_watch_has_seen_it() {
        let objects = Objects::default();
        let seen = object("a", &spec());
        objects.take(&Event::Apply(seen.clone()));
        let given = objects.get(&key(&seen)).unwrap();
        assert_eq!(given.0.as_ref().unwrap(), seen.0.as_ref().unwrap());
        let naming = |namespace, kind, name| objects.naming(namespace, kind, name);
        assert_eq!(naming("ns", RefKind::Secret, "fly"), [key(&seen)]);
        assert_eq!(naming("ns", RefKind::ConfigMap, "fly"), []);
        assert_eq!(naming("n", RefKind::Secret, "fly"), []);
        objects.take(&Event::Delete(seen.clone()));
        assert!(objects.get(&key(&seen)).is_none());
    }

    #[test]
    fn one_that_cannot_be_decoded_is_there_too() {
        let objects = Objects::default();
        let seen = object("a", &json!({"organization": 5}));
        assert!(seen.0.is_err());
        objects.take(&Event::Apply(seen.clone()));
        assert!(objects.get(&key(&seen)).unwrap().0.is_err());
    }

    #[test]
    fn a_list_replaces_all_objects_once_it_is_complete() {
        let objects = Objects::default();
        let (old, new) = (object("a", &spec()), object("b", &spec()));
        objects.take(&Event::Apply(old.clone()));
        objects.take(&Event::Init);
        objects.take(&Event::InitApply(new.clone()));
        assert!(objects.get(&key(&old)).is_some());
        assert!(objects.get(&key(&new)).is_none());
        objects.take(&Event::InitDone);
        assert!(objects.get(&key(&old)).is_none());
        assert!(objects.get(&key(&new)).is_some());
    }
}
