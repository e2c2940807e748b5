//! Decides what has to change in the stored values. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::stored::Stored;
use crate::api::provision::{GeneratedSecret, SecretRotation};

/// When values are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The token of `golive.dev/rotate-secrets` on the Activation. A token that was not handled
    /// yet replaces all values once.
    pub token: Option<String>,
    /// Values older than this are replaced. `None`: never by age.
    pub max_age: Option<Duration>,
    /// For how long the previous value is kept.
    pub overlap: Duration,
    /// What is left as it is for now.
    pub rests: Rests,
    /// Since when the release that serves has each value, by name: the overlap begins with it. Before anything
    /// serves, it begins when the value is stored.
    pub used_since: BTreeMap<String, Timestamp>,
}

/// Which replacements rest. One value is stored beside the one before, so that a third would destroy the one
/// that the application has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rests {
    /// None.
    #[default]
    Nothing,
    /// Those by age: the latest release failed, and each makes another release, with which it would be tried again.
    Age,
    /// All: the release that serves has not got the stored values yet.
    All,
}

impl Rotation {
    /// The rotation of the spec, with the token of the annotation.
    pub fn new(spec: &SecretRotation, token: Option<String>) -> Rotation {
        Rotation {
            token,
            max_age: spec.max_age.as_ref().map(|age| age.get()),
            overlap: spec.overlap.get(),
            rests: Rests::Nothing,
            used_since: BTreeMap::new(),
        }
    }

    /// Whether the annotation asks for a rotation that was not made yet.
    fn is_asked(&self, stored: &Stored) -> bool {
        self.rests != Rests::All && self.is_new(stored)
    }

    /// Whether the annotation is not the one for which values were replaced last.
    fn is_new(&self, stored: &Stored) -> bool {
        self.token.is_some() && self.token != stored.rotated_for
    }

    /// Whether a rotation that the annotation asks for rests: it is made as soon as nothing rests.
    pub fn rests_although_asked(&self, stored: &Stored) -> bool {
        self.rests == Rests::All && self.is_new(stored)
    }

    /// Whether age replaces and drops values now.
    fn ages(&self) -> bool {
        self.rests == Rests::Nothing
    }
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation::new(&SecretRotation::default(), None)
    }
}

/// What has to change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Values that are requested and missing.
    pub generate: Vec<GeneratedSecret>,
    /// Values to replace.
    pub rotate: Vec<GeneratedSecret>,
    /// Names whose previous value has outlived the overlap.
    pub drop_previous: Vec<String>,
    /// The rotation token that these changes handle.
    pub handled: Option<String>,
    /// Whether the Secret has to get the label with the Activation's UID.
    pub claim: bool,
}

impl Changes {
    /// True when age is the only cause: values are replaced at their age, and previous values are
    /// dropped at theirs.
    pub fn is_by_age(&self) -> bool {
        !self.is_empty() && self.generate.is_empty() && self.handled.is_none() && !self.claim
    }

    /// True when there is nothing to change.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// Compares the requested values with the stored ones.
///
/// Values that are no longer requested stay, because they could not be restored. Nothing is created
/// for an Activation that requests nothing.
pub fn decide(
    stored: Option<&Stored>,
    uid: &str,
    wanted: &[GeneratedSecret],
    rotation: &Rotation,
    now: Timestamp,
) -> Changes {
    let Some(stored) = stored else {
        if wanted.is_empty() {
            return Changes::default();
        }
        return Changes {
            generate: wanted.to_vec(),
            // New values need no rotation: an earlier token counts as handled.
            handled: rotation.token.clone(),
            claim: true,
            ..Changes::default()
        };
    };
    // Negative when the clock was set back: then nothing is old.
    let age = |since: &Timestamp| Duration::try_from(now.duration_since(*since)).ok();
    let asked = rotation.is_asked(stored);
    let mut changes = Changes {
        handled: rotation.token.clone().filter(|_| asked),
        claim: stored.uid.as_deref() != Some(uid),
        ..Changes::default()
    };
    for wanted in wanted {
        let since = stored.generated_at.get(&wanted.name);
        let old = rotation.ages()
            && rotation
                .max_age
                .is_some_and(|max| since.and_then(age).is_some_and(|age| age > max));
        match stored.values.get(&wanted.name) {
            // An empty value protects nothing, so it counts as missing.
            None => changes.generate.push(wanted.clone()),
            Some(value) if value.expose_secret().is_empty() => {
                changes.generate.push(wanted.clone());
            }
            Some(_) if asked || old => changes.rotate.push(wanted.clone()),
            Some(_) => {}
        }
    }
    for name in stored.previous.keys() {
        let replaced_again = changes.rotate.iter().any(|rotated| rotated.name == *name);
        let stored_at = stored.generated_at.get(name);
        let since = stored_at.max(rotation.used_since.get(name));
        let outlived = since
            .and_then(age)
            .is_some_and(|age| age > rotation.overlap);
        if rotation.ages() && outlived && !replaced_again {
            changes.drop_previous.push(name.clone());
        }
    }
    changes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{entropy::operating_system, next::next, stored::stored};
    use super::*;
    use crate::api::{Owner, provision::Encoding};

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn wanted(names: &[&str]) -> Vec<GeneratedSecret> {
        let wanted = names.iter().map(|name| GeneratedSecret {
            name: (*name).into(),
            bytes: 32,
            encoding: Encoding::Hex,
        });
        wanted.collect()
    }

    fn owner() -> Owner {
        Owner {
            namespace: "cabanas".into(),
            name: "mvp".into(),
            uid: "uid-1".into(),
            generation: 1,
        }
    }

    /// The store after a write, as it would be read back.
    fn written(before: Option<&Stored>, changes: &Changes, now: Timestamp) -> Stored {
        let secret = next(before, changes, &owner(), now, operating_system).unwrap();
        stored(secret, &owner()).unwrap()
    }

    fn values(stored: &Stored) -> Vec<(String, String)> {
        let values = stored.values.iter();
        values
            .map(|(k, v)| (k.clone(), v.expose_secret().to_owned()))
            .collect()
    }

    #[test]
    fn what_was_made_up_stays_whatever_happens_to_the_activation() {
        let t0 = at("2026-11-24T12:00:00Z");
        let wanted_now = wanted(&["JWT_SECRET", "ICS_SALT"]);
        let none = Rotation::default();
        let first = decide(None, "uid-1", &wanted_now, &none, t0);
        assert_eq!(first.generate.len(), 2);
        let store = written(None, &first, t0);
        // Nothing more to do, now or in ten years.
        for later in ["2026-11-24T12:00:01Z", "2036-11-24T12:00:00Z"] {
            let again = decide(Some(&store), "uid-1", &wanted_now, &none, at(later));
            assert!(again.is_empty(), "{again:?}");
        }
        // A new Activation of the same name takes the values over.
        let claim = decide(Some(&store), "uid-2", &wanted_now, &none, t0);
        assert!(claim.claim && claim.generate.is_empty() && claim.rotate.is_empty());
        assert_eq!(values(&written(Some(&store), &claim, t0)), values(&store));
        // One more is wanted, one is not any more: the first is added, the second stays.
        let more = decide(
            Some(&store),
            "uid-1",
            &wanted(&["ICS_SALT", "NEW"]),
            &none,
            t0,
        );
        let names: Vec<&str> = more.generate.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(names, ["NEW"]);
        let after = written(Some(&store), &more, t0);
        assert_eq!(after.values.len(), 3);
        assert_eq!(values(&after)[0], values(&store)[0]);
    }

    #[test]
    fn a_token_rotates_once_and_keeps_the_value_before_for_the_overlap() {
        let t0 = at("2026-11-24T12:00:00Z");
        let t1 = at("2026-11-25T12:00:00Z");
        let wanted = wanted(&["JWT_SECRET"]);
        let store = written(
            None,
            &decide(None, "uid-1", &wanted, &Rotation::default(), t0),
            t0,
        );
        let asked = Rotation {
            token: Some("monday".into()),
            ..Rotation::default()
        };
        let changes = decide(Some(&store), "uid-1", &wanted, &asked, t1);
        assert_eq!(changes.rotate, wanted);
        let rotated = written(Some(&store), &changes, t1);
        assert_ne!(values(&rotated), values(&store));
        let previous = rotated.previous["JWT_SECRET"].expose_secret();
        assert_eq!(previous, store.values["JWT_SECRET"].expose_secret());
        // The same token again: nothing. Later the value before goes.
        assert!(decide(Some(&rotated), "uid-1", &wanted, &asked, t1).is_empty());
        let late = at("2026-11-26T12:00:01Z");
        let cleanup = decide(Some(&rotated), "uid-1", &wanted, &asked, late);
        assert_eq!(cleanup.drop_previous, ["JWT_SECRET"]);
        let clean = written(Some(&rotated), &cleanup, late);
        assert!(clean.previous.is_empty());
        assert_eq!(values(&clean), values(&rotated));
        // The annotation removed: nothing.
        assert!(decide(Some(&clean), "uid-1", &wanted, &Rotation::default(), late).is_empty());
    }

    #[test]
    fn a_token_from_before_the_first_value_rotates_nothing() {
        let t0 = at("2026-11-24T12:00:00Z");
        let wanted = wanted(&["JWT_SECRET"]);
        let asked = Rotation {
            token: Some("monday".into()),
            ..Rotation::default()
        };
        let store = written(None, &decide(None, "uid-1", &wanted, &asked, t0), t0);
        assert!(decide(Some(&store), "uid-1", &wanted, &asked, t0).is_empty());
    }

    #[test]
    fn age_rotates_what_is_old_and_a_clock_that_jumps_back_rotates_nothing() {
        let t0 = at("2026-11-24T12:00:00Z");
        let both = wanted(&["ICS_SALT", "JWT_SECRET"]);
        let aged = Rotation {
            max_age: Some(HOUR),
            ..Rotation::default()
        };
        let old = written(None, &decide(None, "uid-1", &both[..1], &aged, t0), t0);
        let t1 = at("2026-11-24T12:59:00Z");
        let store = written(
            Some(&old),
            &decide(Some(&old), "uid-1", &both, &aged, t1),
            t1,
        );
        let t2 = at("2026-11-24T13:00:01Z");
        assert_eq!(
            decide(Some(&store), "uid-1", &both, &aged, t2).rotate,
            both[..1]
        );
        let before = at("2020-01-01T00:00:00Z");
        assert!(decide(Some(&store), "uid-1", &both, &aged, before).is_empty());
    }

    #[test]
    fn an_emptied_value_is_made_up_again() {
        let t0 = at("2026-11-24T12:00:00Z");
        let wanted = wanted(&["JWT_SECRET"]);
        let none = Rotation::default();
        let mut secret = next(
            None,
            &decide(None, "uid-1", &wanted, &none, t0),
            &owner(),
            t0,
            operating_system,
        )
        .unwrap();
        let data = secret.data.as_mut().unwrap();
        data.insert("JWT_SECRET".into(), k8s_openapi::ByteString(Vec::new()));
        let store = stored(secret, &owner()).unwrap();
        assert_eq!(
            decide(Some(&store), "uid-1", &wanted, &none, t0).generate,
            wanted
        );
    }

    #[test]
    fn somebody_elses_secret_is_refused_and_nothing_wanted_creates_nothing() {
        let theirs = k8s_openapi::api::core::v1::Secret::default();
        let error = stored(theirs, &owner()).unwrap_err().to_string();
        assert!(error.contains("secret mvp-golive exists and is not managed by golive"));
        let nothing = decide(
            None,
            "uid-1",
            &[],
            &Rotation::default(),
            at("2026-11-24T12:00:00Z"),
        );
        assert!(nothing.is_empty());
    }

    #[test]
    fn the_secret_has_no_owner_and_tools_are_told_to_leave_it() {
        let t0 = at("2026-11-24T12:00:00Z");
        let changes = decide(None, "uid-1", &wanted(&["A_KEY"]), &Rotation::default(), t0);
        let secret = next(None, &changes, &owner(), t0, operating_system).unwrap();
        assert_eq!(secret.metadata.owner_references, None);
        assert_eq!(secret.metadata.name.as_deref(), Some("mvp-golive"));
        let labels = secret.metadata.labels.unwrap();
        assert_eq!(labels["app.kubernetes.io/instance"], "mvp");
        assert_eq!(labels["golive.dev/activation-uid"], "uid-1");
        assert_eq!(
            labels["app.kubernetes.io/version"],
            env!("CARGO_PKG_VERSION")
        );
        let annotations = secret.metadata.annotations.unwrap();
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
        assert_eq!(
            annotations["golive.dev/generated-at"],
            "{\"A_KEY\":\"2026-11-24T12:00:00Z\"}"
        );
    }

    #[test]
    fn changes_are_by_age_when_nothing_else_asks_for_them() {
        let value = || wanted(&["JWT_SECRET"]);
        let rotate = || Changes {
            rotate: value(),
            ..Changes::default()
        };
        let drop = || Changes {
            drop_previous: vec!["JWT_SECRET".into()],
            ..Changes::default()
        };
        assert!(rotate().is_by_age() && drop().is_by_age());
        let others = [
            Changes {
                generate: value(),
                ..rotate()
            },
            Changes {
                handled: Some("monday".into()),
                ..rotate()
            },
            Changes {
                claim: true,
                ..drop()
            },
        ];
        for changes in others {
            assert!(!changes.is_by_age() && !changes.is_empty(), "{changes:?}");
        }
        assert!(!rotate().is_empty() && !drop().is_empty());
        assert!(Changes::default().is_empty() && !Changes::default().is_by_age());
    }

    #[test]
    fn a_value_that_the_application_has_is_not_destroyed_by_a_second_rotation() {
        let t0 = at("2026-11-24T12:00:00Z");
        let wanted_now = wanted(&["JWT_SECRET"]);
        let asked = |token: &str, rests| Rotation {
            token: Some(token.into()),
            max_age: Some(2 * HOUR),
            overlap: HOUR,
            rests,
            ..Rotation::default()
        };
        let none = Rotation::default();
        let first = written(None, &decide(None, "uid-1", &wanted_now, &none, t0), t0);
        let monday = asked("monday", Rests::Nothing);
        let changes = decide(Some(&first), "uid-1", &wanted_now, &monday, t0);
        let second = written(Some(&first), &changes, t0);

        // Deploy waits for its gate, for days: neither age, the end of the overlap nor a person touches them.
        let late = at("2026-11-27T12:00:00Z");
        let waits = asked("tuesday", Rests::All);
        let rests = decide(Some(&second), "uid-1", &wanted_now, &waits, late);
        assert!(rests.is_empty(), "{rests:?}");
        // A request that rests is known as such, and one that was carried out, or may be now, is not.
        assert!(waits.rests_although_asked(&second));
        assert!(!asked("monday", Rests::All).rests_although_asked(&second));
        assert!(!asked("tuesday", Rests::Age).rests_although_asked(&second));
        assert!(!asked("tuesday", Rests::Nothing).rests_although_asked(&second));
        // A value that is missing is made up all the same, and the token is not used up.
        let more = wanted(&["JWT_SECRET", "NEW"]);
        let changes = decide(Some(&second), "uid-1", &more, &waits, late);
        assert_eq!((changes.generate.len(), &changes.handled), (1, &None));

        // A release that failed is not tried again by age, but as soon as a person asks.
        let held = asked("monday", Rests::Age);
        assert!(decide(Some(&second), "uid-1", &wanted_now, &held, late).is_empty());
        let held = asked("tuesday", Rests::Age);
        let changes = decide(Some(&second), "uid-1", &wanted_now, &held, late);
        assert_eq!(changes.rotate, wanted_now);
    }

    #[test]
    fn the_overlap_begins_when_the_application_has_the_new_value() {
        let t0 = at("2026-11-24T12:00:00Z");
        let wanted = wanted(&["JWT_SECRET"]);
        let none = Rotation::default();
        let first = written(None, &decide(None, "uid-1", &wanted, &none, t0), t0);
        let rotation = |since: &str| Rotation {
            token: Some("monday".into()),
            overlap: HOUR,
            used_since: [("JWT_SECRET".to_owned(), at(since))].into(),
            ..Rotation::default()
        };
        let used = rotation("2026-11-25T12:00:00Z");
        let second = written(
            Some(&first),
            &decide(Some(&first), "uid-1", &wanted, &used, t0),
            t0,
        );
        let dropped =
            |time: &str| decide(Some(&second), "uid-1", &wanted, &used, at(time)).drop_previous;
        assert!(
            dropped("2026-11-25T13:00:00Z").is_empty(),
            "stored a day ago, used for an hour"
        );
        assert_eq!(dropped("2026-11-25T13:00:01Z"), ["JWT_SECRET"]);
        // The release that serves has it from before: then it counts from when it was replaced.
        let used = rotation("2026-11-20T12:00:00Z");
        let early = decide(
            Some(&second),
            "uid-1",
            &wanted,
            &used,
            at("2026-11-24T13:00:00Z"),
        );
        assert!(early.is_empty(), "{early:?}");
    }

    #[test]
    fn a_value_lasts_its_whole_time_and_so_does_the_one_before() {
        let t0 = at("2026-11-24T12:00:00Z");
        let both = wanted(&["ICS_SALT", "JWT_SECRET"]);
        let rotation = Rotation {
            token: Some("monday".into()),
            max_age: Some(2 * HOUR),
            overlap: HOUR,
            ..Rotation::default()
        };
        let none = Rotation::default();
        let first = written(None, &decide(None, "uid-1", &both, &none, t0), t0);
        let asked = decide(Some(&first), "uid-1", &both, &rotation, t0);
        let mut store = written(Some(&first), &asked, t0);
        let later = |store: &Stored, time: &str| {
            let changes = decide(Some(store), "uid-1", &both, &rotation, at(time));
            let names = changes.rotate.iter().map(|value| value.name.clone());
            (names.collect::<Vec<_>>(), changes.drop_previous)
        };
        let names = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = || names(&["ICS_SALT", "JWT_SECRET"]);
        assert_eq!(later(&store, "2026-11-24T13:00:00Z"), (vec![], vec![]));
        assert_eq!(later(&store, "2026-11-24T13:00:01Z"), (vec![], all()));
        assert_eq!(later(&store, "2026-11-24T14:00:00Z"), (vec![], all()));
        // What is replaced again keeps the value before as long again.
        assert_eq!(later(&store, "2026-11-24T14:00:01Z"), (all(), vec![]));
        let younger = at("2026-11-24T12:30:00Z");
        store.generated_at.insert("JWT_SECRET".into(), younger);
        assert_eq!(
            later(&store, "2026-11-24T14:00:01Z"),
            (names(&["ICS_SALT"]), names(&["JWT_SECRET"]))
        );
    }
}
