//! The secrets that the spec asks for: their values from the store and from the Secrets that it names, and
//! what is set and removed to have the app's match.
//!
//! The steps of Provision compare them, and set them while nothing serves; Deploy sets them for a release
//! that follows another one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use secrecy::SecretString;

use super::{
    app_secrets,
    names::{DATABASE_URL, REDIS_URL},
};
use crate::{
    api::{provision::GeneratedSecret, status::SECRETS},
    error::Error,
    fly::secrets::AppSecret,
    pipeline::{ChangeVerb, Cx, FieldChange, PlannedChange, step::Result},
    plan::{Target, missing::Missing},
    store::generated::{self, Changes, Rotation, SecretStore, Stored},
};

/// Suffix of the secret with which the application gets the previous value during the overlap.
const PREVIOUS: &str = "_PREVIOUS";

/// The store of the generated values of this Activation.
pub fn store(cx: &Cx) -> SecretStore {
    SecretStore::new(cx.kube.clone(), cx.owner.clone())
}

/// The change that sets these secrets of an app, as data; `None` without any.
pub fn set_secrets<'a>(
    app: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<PlannedChange> {
    let change = PlannedChange::new(ChangeVerb::Update, SECRETS, app);
    let change = names.into_iter().fold(change, PlannedChange::changed);
    (!change.fields.is_empty()).then_some(change)
}

/// The names of the secrets that the spec asks for, as far as the Secrets that it names exist. Pure.
pub fn requested(cx: &Cx) -> BTreeSet<String> {
    let spec = &cx.target.provision.secrets;
    let generated = spec.generate.iter().map(|secret| secret.name.clone());
    let from = spec.from.iter();
    let from = from.filter_map(|source| cx.refs.secret_values(&source.secret_ref.name).ok());
    let from = from.flatten().map(|(key, _)| key.to_owned());
    let all = generated.chain(from);
    all.filter(|name| !of_another_step(&cx.target, name))
        .collect()
}

/// Secrets to set and to remove in one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// Names to set.
    pub set: BTreeSet<String>,
    /// Names to remove.
    pub unset: BTreeSet<String>,
}

impl Push {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty()
    }

    /// The same as data, for the secrets of this app: names, and never values.
    pub fn planned(&self, app: &str) -> Vec<PlannedChange> {
        let set = set_secrets(app, self.set.iter().map(String::as_str));
        let unset = (!self.unset.is_empty()).then(|| {
            let fields = self.unset.iter();
            let fields = fields.map(|name| FieldChange::new(name, None, None));
            PlannedChange::new(ChangeVerb::Destroy, SECRETS, app).with(fields)
        });
        set.into_iter().chain(unset).collect()
    }

    /// The values to send: those of `values` that are set, and `None` for what is removed.
    pub fn send(
        self,
        values: BTreeMap<String, SecretString>,
    ) -> BTreeMap<String, Option<SecretString>> {
        let set = values.into_iter();
        let set = set.filter(|(name, _)| self.set.contains(name));
        let unset = self.unset.iter().map(|name| (name.clone(), None));
        let set = set.map(|(name, value)| (name, Some(value)));
        unset.chain(set).collect()
    }
}

impl fmt::Display for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        match (self.set.is_empty(), self.unset.is_empty()) {
            (_, true) => write!(f, "set the secrets {}", list(&self.set)),
            (true, false) => write!(f, "remove the secrets {}", list(&self.unset)),
            (false, false) => write!(
                f,
                "set the secrets {}; remove {}",
                list(&self.set),
                list(&self.unset)
            ),
        }
    }
}

/// When the generated values are replaced, and for how long the previous ones are stored.
pub fn rotation(cx: &Cx) -> Rotation {
    let spec = &cx.target.provision.secrets.rotation;
    Rotation::new(spec, cx.target.rotation.clone())
}

/// What the store and the Secrets of the spec hold.
#[derive(Default)]
pub struct Wanted {
    /// What is stored; `None`: nothing is, or no value is generated.
    stored: Option<Stored>,
    /// Names of generated values that are not stored.
    pub missing: Vec<String>,
    /// The requested values that exist.
    pub values: BTreeMap<String, SecretString>,
    /// A Secret that may be missing is missing: which of the app's values came from it is not known.
    lacks_optional: bool,
}

/// The requested values that exist, and what is stored.
///
/// # Errors
/// When the store cannot be read, or a Secret of the spec is missing.
pub async fn observe(cx: &Cx) -> Result<Wanted> {
    let spec = &cx.target.provision.secrets;
    let mut wanted = Wanted::default();
    if !spec.generate.is_empty() {
        let stored = store(cx).read().await?;
        let changes = generated::decide(
            stored.as_ref(),
            &cx.owner.uid,
            &spec.generate,
            &rotation(cx),
            cx.now(),
        );
        let missing = changes.generate.iter();
        wanted.missing = missing.map(|missing| missing.name.clone()).collect();
        if let Some(stored) = &stored {
            let previous = previous(stored, &spec.generate, &rotation(cx));
            wanted.values.extend(previous);
            for secret in &spec.generate {
                if let Some(value) = stored.values.get(&secret.name) {
                    let value = value.secret().clone();
                    wanted.values.insert(secret.name.clone(), value);
                }
            }
        }
        wanted.stored = stored;
    }
    for source in &spec.from {
        let found = match cx.refs.secret_values(&source.secret_ref.name) {
            Ok(found) => found,
            Err(Missing::Object { .. }) if source.optional => {
                wanted.lacks_optional = true;
                continue;
            }
            Err(missing) => {
                return Err(Error::Blocked {
                    reason: missing.reason(),
                    message: missing.to_string(),
                    action: missing.action(&cx.owner.namespace),
                });
            }
        };
        for (key, value) in found {
            wanted.values.insert(key.to_owned(), value.clone());
        }
    }
    // Two steps that set the same name would overwrite each other forever.
    let of_another_step = |name: &String| of_another_step(&cx.target, name);
    wanted.values.retain(|name, _| !of_another_step(name));
    Ok(wanted)
}

impl Wanted {
    /// The changes of the store that must come before a push; `None`: nothing has to change.
    pub fn changes(&self, cx: &Cx, rotation: &Rotation) -> Option<Changes> {
        let generate = &cx.target.provision.secrets.generate;
        if generate.is_empty() {
            return None;
        }
        let (stored, uid) = (self.stored.as_ref(), &cx.owner.uid);
        let changes = generated::decide(stored, uid, generate, rotation, cx.now());
        (!changes.is_empty()).then_some(changes)
    }

    /// Whether a rotation that somebody asks for by annotation rests.
    pub fn rests_although_asked(&self, cx: &Cx, rotation: &Rotation) -> bool {
        let is_generated = !cx.target.provision.secrets.generate.is_empty();
        let stored = self.stored.as_ref().filter(|_| is_generated);
        stored.is_some_and(|stored| rotation.rests_although_asked(stored))
    }

    /// Names that were set before and that the spec no longer asks for: those that Fly.io still has.
    pub fn surplus(&self, cx: &Cx, at_fly: &[AppSecret]) -> BTreeSet<String> {
        // What a person may only have deleted by mistake is not taken from the application.
        let is_requested = |name: &str| {
            self.values.contains_key(name)
                || of_another_step(&cx.target, name)
                || self.missing.iter().any(|missing| missing == name)
        };
        app_secrets::note_back(cx, at_fly);
        let recorded = app_secrets::records(cx).into_keys();
        let unwanted = recorded.filter(|name| !self.lacks_optional && !is_requested(name));
        let is_there = |name: &String| at_fly.iter().any(|secret| secret.name == *name);
        let (surplus, gone) = unwanted.partition(is_there);
        app_secrets::note_gone(cx, gone, is_requested);
        surplus
    }
}

/// The values before the last rotation, for as long as they are stored: the application gets each as
/// `NAME_PREVIOUS`. A secret that the spec asks for under such a name takes precedence.
pub fn previous(
    stored: &Stored,
    wanted: &[GeneratedSecret],
    rotation: &Rotation,
) -> BTreeMap<String, SecretString> {
    if rotation.overlap.is_zero() {
        return BTreeMap::new();
    }
    let known = wanted.iter().filter_map(|wanted| {
        let value = stored.previous.get(&wanted.name)?;
        Some((format!("{}{PREVIOUS}", wanted.name), value.secret().clone()))
    });
    known.collect()
}

/// Whether this is the value before the last rotation of a generated secret: it is over when the store
/// no longer has it, and nobody could put it back. Pure.
pub fn is_previous(target: &Target, name: &str) -> bool {
    let generated = &target.provision.secrets.generate;
    name.strip_suffix(PREVIOUS)
        .is_some_and(|of| generated.iter().any(|generated| generated.name == of))
}

/// True for the URLs that the steps `Attach` and `Redis` set.
fn of_another_step(target: &Target, name: &str) -> bool {
    let provision = &target.provision;
    (name == DATABASE_URL && provision.postgres.is_some())
        || (name == REDIS_URL && provision.redis.is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    #[test]
    fn the_previous_value_goes_to_the_application_for_the_overlap() {
        use crate::{api::provision::Encoding, redact};

        let generated = |name: &str| GeneratedSecret {
            name: name.to_owned(),
            bytes: 16,
            encoding: Encoding::Hex,
        };
        let mut stored = Stored::default();
        for name in ["JWT", "SALT", "GONE"] {
            let value = redact::guard(SecretString::from(format!("before-{name}-1234")));
            stored.previous.insert(name.to_owned(), value);
        }
        let wanted = [generated("JWT"), generated("SALT"), generated("NEW")];
        let names = |rotation: &Rotation| -> Vec<String> {
            previous(&stored, &wanted, rotation).into_keys().collect()
        };
        assert_eq!(
            names(&Rotation::default()),
            ["JWT_PREVIOUS", "SALT_PREVIOUS"]
        );
        let none = Rotation {
            overlap: std::time::Duration::ZERO,
            ..Rotation::default()
        };
        assert!(names(&none).is_empty());
    }

    #[test]
    fn the_urls_that_other_steps_set_are_left_to_them() {
        let asked = target("provision: {postgres: {managed: {}}, redis: {upstash: {}}}");
        assert!(of_another_step(&asked, "DATABASE_URL"));
        assert!(of_another_step(&asked, "REDIS_URL"));
        assert!(!of_another_step(&target(""), "DATABASE_URL"));
    }

    #[test]
    fn only_the_value_before_a_rotation_is_over_when_the_store_no_longer_has_it() {
        let target = target("provision: {secrets: {generate: [{name: JWT}]}}");
        assert!(is_previous(&target, "JWT_PREVIOUS"));
        assert!(!is_previous(&target, "JWT"));
        assert!(!is_previous(&target, "SALT_PREVIOUS"), "one of the user's");
    }

    #[test]
    fn secrets_are_set_and_removed_in_one_call_and_named_in_one_line() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let push = |set: &[&str], unset: &[&str]| Push {
            set: names(set),
            unset: names(unset),
        };
        assert_eq!(
            push(&["A", "B"], &["C"]).to_string(),
            "set the secrets A, B; remove C"
        );
        assert_eq!(push(&["A"], &[]).to_string(), "set the secrets A");
        assert_eq!(push(&[], &["C"]).to_string(), "remove the secrets C");
        assert!(push(&[], &[]).is_empty());
        let value = |name: &str| (name.to_owned(), SecretString::from("v".to_owned()));
        let values = [value("A"), value("X")].into();
        let sent = push(&["A", "B"], &["C"]).send(values);
        let sent: Vec<(&str, bool)> = sent.iter().map(|(n, v)| (&**n, v.is_some())).collect();
        assert_eq!(sent, [("A", true), ("C", false)]);
    }
}
