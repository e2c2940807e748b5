//! Polls the Secrets that objects name, one by one and by name, where no watch reports changes.
//!
//! A watch needs the right to list every Secret of its scope, and the operator should not have it for
//! a whole cluster. `get` is enough here: the metadata of each named Secret is read once an interval,
//! however many objects name it, and compared with the version that the last pass read. So a change
//! between the pass and the first poll is found too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, runtime::reflector::ObjectRef};
use tokio_util::sync::CancellationToken;

use crate::{api::Owner, process::workqueue::Kind, triggers::Waits};

/// Shortest pause between two reads: at most 25 a second, to limit the load on the API server. With
/// more than 375 Secrets and the default interval of 15 s, a round takes longer than the interval.
const SHORTEST_PAUSE: Duration = Duration::from_millis(40);

/// Most concurrent reads: a slow answer does not delay the others.
const AT_ONCE: usize = 4;

/// A Secret: its namespace and its name.
type Place = (String, String);

/// A version of a Secret; `None`: it does not exist.
type Version = Option<String>;

#[derive(Debug, Default)]
struct Known {
    /// For each object, the version of each named Secret that its last pass read.
    read: BTreeMap<(String, String), BTreeMap<String, Version>>,
    /// Namespaces whose Secrets are watched.
    watched: BTreeSet<String>,
}

/// The versions of Secrets that objects have read, and the poll that compares them.
#[derive(Clone, Debug, Default)]
pub struct SecretPoller {
    known: Arc<Mutex<Known>>,
}

impl SecretPoller {
    /// Records the versions of Secrets that an object has read: another version of one wakes it.
    pub fn read(&self, owner: &Owner, versions: BTreeMap<String, Version>) {
        self.lock()
            .read
            .insert((owner.namespace.clone(), owner.name.clone()), versions);
    }

    /// Forgets an object.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock()
            .read
            .remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Records whether a watch reports the changes in a namespace, which then is not polled.
    pub fn set_watched(&self, namespace: &str, watched: bool) {
        let mut known = self.lock();
        if watched {
            known.watched.insert(namespace.to_owned());
        } else {
            known.watched.remove(namespace);
        }
    }

    /// The Secrets to poll, each once.
    fn places(&self) -> BTreeSet<Place> {
        let known = self.lock();
        known
            .read
            .iter()
            .filter(|((namespace, _), _)| !known.watched.contains(namespace))
            .flat_map(|((namespace, _), versions)| {
                versions
                    .keys()
                    .map(move |name| (namespace.clone(), name.clone()))
            })
            .collect()
    }

    /// The objects that have read another version than this one. Each is returned once for each
    /// change: its next pass records what it has read.
    fn behind(&self, place: &Place, version: &Version) -> Vec<(String, String)> {
        let (namespace, secret) = place;
        let mut known = self.lock();
        let mut behind = Vec::new();
        for (object, versions) in &mut known.read {
            if object.0 == *namespace
                && let Some(read) = versions.get_mut(secret)
                && read != version
            {
                read.clone_from(version);
                behind.push(object.clone());
            }
        }
        behind
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads every named Secret once an interval, until `stop`, and wakes the objects that have read
    /// another version. Reads only.
    pub async fn run(
        self,
        kube: Client,
        waits: Waits,
        interval: Duration,
        stop: CancellationToken,
    ) {
        let rounds = async {
            loop {
                let places = self.places();
                if places.is_empty() {
                    tokio::time::sleep(interval.min(Duration::from_secs(1))).await;
                    continue;
                }
                let pause = pause(interval, places.len());
                stream::iter(places)
                    .then(|place| async move {
                        tokio::time::sleep(jittered(pause)).await;
                        place
                    })
                    .for_each_concurrent(AT_ONCE, |place| self.compare(&kube, &waits, place))
                    .await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = rounds => {}
        }
    }

    /// Reads one Secret and wakes the objects that have read another version.
    async fn compare(&self, kube: &Client, waits: &Waits, place: Place) {
        let api: Api<Secret> = Api::namespaced(kube.clone(), &place.0);
        let version = match api.get_metadata_opt(&place.1).await {
            Ok(found) => found.and_then(|secret| secret.resource_version()),
            // Nothing is known, so nothing is woken: the pass of the object gets the same error and
            // publishes it.
            Err(error) => {
                tracing::debug!(
                    namespace = %place.0, secret = %place.1,
                    error = %crate::causes::chain(&error), "a Secret could not be read"
                );
                return;
            }
        };
        for (namespace, name) in self.behind(&place, &version) {
            let object = ObjectRef::new(&name).within(&namespace);
            waits.touch(&object);
            waits.wake(&object, Kind::Change);
        }
    }
}

/// The pause before each read of a round, so that the round fills the interval.
fn pause(interval: Duration, reads: usize) -> Duration {
    let reads = u32::try_from(reads).unwrap_or(u32::MAX).max(1);
    (interval / reads).max(SHORTEST_PAUSE)
}

/// Adds ±10 % jitter, so that replicas and rounds do not synchronize.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.9..=1.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            generation: 1,
        }
    }

    fn versions(list: &[(&str, Option<&str>)]) -> BTreeMap<String, Version> {
        list.iter()
            .map(|(name, version)| ((*name).to_owned(), version.map(str::to_owned)))
            .collect()
    }

    fn place(name: &str) -> Place {
        ("ns".to_owned(), name.to_owned())
    }

    #[test]
    fn a_secret_that_many_name_is_looked_at_once_and_wakes_only_who_read_another_version() {
        let looks = SecretPoller::default();
        looks.read(&owner("a"), versions(&[("fly", Some("1")), ("app", None)]));
        looks.read(&owner("b"), versions(&[("fly", Some("2"))]));
        assert_eq!(
            looks.places().into_iter().collect::<Vec<_>>(),
            [place("app"), place("fly")]
        );

        let two = Some("2".to_owned());
        assert_eq!(looks.behind(&place("fly"), &two), [place("a")]);
        assert!(
            looks.behind(&place("fly"), &two).is_empty(),
            "returned once"
        );
        assert!(looks.behind(&place("app"), &None).is_empty());
        assert_eq!(
            looks.behind(&place("app"), &Some("1".to_owned())),
            [place("a")],
            "it exists now"
        );
        let both = [place("a"), place("b")];
        assert_eq!(looks.behind(&place("fly"), &None), both, "it is gone now");
    }

    #[test]
    fn what_a_watch_tells_and_what_is_gone_is_not_looked_at() {
        let looks = SecretPoller::default();
        looks.read(&owner("a"), versions(&[("fly", None)]));
        looks.set_watched("ns", true);
        assert!(looks.places().is_empty());
        looks.set_watched("ns", false);
        assert_eq!(looks.places().len(), 1);
        looks.forget("ns", "a");
        assert!(looks.places().is_empty());
    }

    #[test]
    fn a_round_fills_the_interval_and_never_floods_the_api_server() {
        let interval = Duration::from_secs(15);
        assert_eq!(pause(interval, 1), interval);
        assert_eq!(pause(interval, 15), Duration::from_secs(1));
        assert_eq!(pause(interval, 100_000), SHORTEST_PAUSE);
    }
}
