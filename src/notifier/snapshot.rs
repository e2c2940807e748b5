//! What a round works with: the part of a status that facts are read from, as it was written, and the
//! receivers of its object.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource, ResourceExt};

use crate::{
    api::{
        ANNOTATION_TEST_NOTIFICATION, Activation, ActivationStatus, FINALIZER, MAX_TOKEN, Owner,
        notification::Notification, policy::Gate, status::one_line,
    },
    notify::{self, Fact, Outbox, Place, Route, Subject},
};

/// Begins the name of a receiver of the whole installation.
const INSTALLATION: &str = "installation/";

/// A receiver.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Receiver {
    /// What it wants, under its name.
    pub(super) route: Route,
    /// Where it is.
    pub(super) spec: Notification,
    /// It is one of the whole installation: its Secrets are in the operator's own namespace.
    pub(super) of_installation: bool,
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) owner: Owner,
    pub(super) place: Place,
    pub(super) reference: ObjectReference,
    pub(super) receivers: Vec<Receiver>,
    /// The Secret of its Fly token, which no receiver gets a value of.
    pub(super) token_secret: String,
    /// The test that a person asks for.
    pub(super) test: Option<String>,
    /// Its deletion was requested: nothing is true of it any more.
    pub(super) deleted: bool,
    gates: Vec<Gate>,
    status: ActivationStatus,
}

impl Snapshot {
    /// Of an object with this status. `None` while it could go without Golive: what is stored for it
    /// would stay behind.
    pub(super) fn of(
        activation: &Activation,
        status: &ActivationStatus,
        defaults: &[Notification],
    ) -> Option<Self> {
        let (namespace, uid) = (activation.namespace()?, activation.uid()?);
        let spec = &activation.spec;
        let receivers = receivers(&spec.notifications, defaults);
        let held = activation.finalizers().iter().any(|f| f == FINALIZER);
        if !receivers.is_empty() && !held {
            return None;
        }
        let test = activation.annotations().get(ANNOTATION_TEST_NOTIFICATION);
        Some(Self {
            owner: Owner {
                namespace: namespace.clone(),
                name: activation.name_any(),
                uid: uid.clone(),
                generation: activation.metadata.generation.unwrap_or_default(),
            },
            place: Place {
                namespace,
                name: activation.name_any(),
                uid,
                app: spec.app.clone(),
                url: status.url.clone(),
            },
            reference: activation.object_ref(&()),
            test: test
                .map(|test| one_line(test, MAX_TOKEN))
                .filter(|test| !test.is_empty()),
            deleted: activation.metadata.deletion_timestamp.is_some(),
            gates: spec.gates.clone(),
            status: match receivers.is_empty() {
                true => ActivationStatus::default(),
                false => notify::essence(status),
            },
            receivers,
            token_secret: spec.token_secret_ref.name.clone(),
        })
    }

    fn subject(&self, now: Timestamp) -> Subject<'_> {
        Subject {
            status: &self.status,
            generation: self.owner.generation,
            gates: &self.gates,
            test: self.test.as_deref(),
            now,
        }
    }

    /// What is true of it now.
    pub(super) fn facts(&self, now: Timestamp) -> Vec<Fact> {
        match self.deleted {
            true => Vec::new(),
            false => notify::facts(self.subject(now)),
        }
    }

    /// When something else is true of it by the time alone.
    pub(super) fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let change = notify::next_change(self.subject(now));
        change.filter(|_| !self.deleted)
    }

    /// What its receivers want.
    pub(super) fn routes(&self) -> Vec<Route> {
        let receivers = self.receivers.iter();
        receivers.map(|receiver| receiver.route.clone()).collect()
    }

    /// The receiver of this name.
    pub(super) fn receiver(&self, name: &str) -> Option<&Receiver> {
        let mut receivers = self.receivers.iter();
        receivers.find(|receiver| receiver.route.receiver == name)
    }

    /// The outbox of an object of which nothing is stored: if it is live already, what has happened
    /// before is no news.
    pub(super) fn first_outbox(&self, facts: &[Fact]) -> Outbox {
        match self.status.go_live {
            Some(_) => {
                let past = facts.iter().filter(|fact| !is_asked(fact)).cloned();
                Outbox::of_a_live_one(&past.collect::<Vec<_>>())
            }
            None => Outbox::default(),
        }
    }
}

/// Whether a person waits for this one.
fn is_asked(fact: &Fact) -> bool {
    fact.topic == notify::Topic::Test
}

/// The receivers of an object and of the installation, each with a name of its own.
fn receivers(own: &[Notification], defaults: &[Notification]) -> Vec<Receiver> {
    let own = own.iter().map(|spec| (spec, spec.title(), false));
    let defaults = defaults.iter().map(|spec| {
        let name = format!("{INSTALLATION}{}", spec.title());
        (spec, name, true)
    });
    let mut names = BTreeSet::new();
    own.chain(defaults)
        .map(|(spec, title, of_installation)| {
            let mut name = title.clone();
            let mut number = 2;
            while !names.insert(name.clone()) {
                name = format!("{title}#{number}");
                number += 1;
            }
            Receiver {
                route: Route {
                    receiver: name,
                    owners: spec.owners.clone(),
                    events: spec.events.clone(),
                    min_severity: spec.min_severity,
                    max_per_hour: spec.max_per_hour,
                },
                spec: spec.clone(),
                of_installation,
            }
        })
        .collect()
}

/// Snapshots for the tests of others.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod testing {
    use serde_json::json;

    use super::*;

    /// A webhook of this name.
    pub fn receiver(name: &str) -> Notification {
        let spec =
            json!({"name": name, "webhook": {"urlSecretRef": {"name": "chat", "key": "url"}}});
        serde_json::from_value(spec).unwrap()
    }

    /// An Activation with these receivers.
    pub fn activation(notifications: &[Notification]) -> Activation {
        serde_json::from_value(json!({
            "metadata": {
                "namespace": "cabanas", "name": "mvp", "uid": "u-1", "generation": 1,
                "finalizers": [FINALIZER],
            },
            "spec": {
                "organization": "o", "app": "x", "region": "eze", "deploy": {"image": "x:1"},
                "notifications": notifications,
            },
        }))
        .unwrap()
    }

    /// A snapshot with these receivers.
    pub fn snapshot(notifications: Vec<Notification>) -> Snapshot {
        let activation = activation(&notifications);
        Snapshot::of(&activation, &ActivationStatus::default(), &[]).unwrap()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{
        testing::{activation, receiver},
        *,
    };

    #[test]
    fn each_receiver_has_a_name_of_its_own_also_those_of_the_installation() {
        let mut unnamed = receiver("ops");
        unnamed.name = None;
        let own = [receiver("ops"), unnamed.clone(), unnamed];
        let all = receivers(&own, &[receiver("ops")]);
        let names: Vec<&str> = all.iter().map(|one| one.route.receiver.as_str()).collect();
        assert_eq!(names, ["ops", "chat/url", "chat/url#2", "installation/ops"]);
        assert!(all[3].of_installation && !all[0].of_installation);
    }

    #[test]
    fn nothing_is_told_of_an_object_that_could_leave_its_outbox_behind() {
        let mut object = activation(&[receiver("ops")]);
        let status = ActivationStatus::default();
        assert!(Snapshot::of(&object, &status, &[]).is_some());
        object.metadata.finalizers = None;
        assert!(Snapshot::of(&object, &status, &[]).is_none());
        object.spec.notifications.clear();
        let nobody = Snapshot::of(&object, &status, &[]).unwrap();
        assert!(nobody.receivers.is_empty());
    }
}
