//! The application's secrets: generated once and stored in Kubernetes, or taken from Secrets, and
//! pushed to the app in one call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use secrecy::SecretString;

use super::stored_values::store;
use crate::{
    api::{Reason, policy::Deletion, provision::GeneratedSecret},
    error::Error,
    phase::{
        app_secrets::{self, Comparison},
        lost::{self, Lost},
        names::{DATABASE_URL, REDIS_URL},
    },
    pipeline::{
        ChangeKind, Cx, Note, Removal, Step, StepChange, StepId, Verdict, Why, step::Result,
    },
    plan::{Target, missing::Missing},
    store::generated::{self, Rotation, Stored},
};

/// Suffix of the secret with which the application gets the previous value during the overlap.
const PREVIOUS: &str = "_PREVIOUS";

/// Generates and pushes the secrets.
pub struct Secrets;

/// What is stored, requested and at Fly.io.
#[derive(Debug)]
pub struct SecretsState {
    /// The change of the store that must come before a push.
    unsettled: Option<SecretsChange>,
    /// Generated values that the application uses and that are no longer stored.
    lost: Option<Lost>,
    compared: Comparison,
    /// Name of the Secret with the generated values.
    stored_in: String,
    /// Names that we pushed before and that are no longer requested.
    surplus: BTreeSet<String>,
    /// Number of the requested secrets whose values exist.
    count: usize,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretsChange {
    /// Generate the values that do not exist yet.
    Generate,
    /// Replace the values, as the annotation requests.
    Replace,
    /// Replace the values that have reached their age.
    Rotate,
    /// Delete the previous values, which were stored for the overlap.
    GiveUp,
    /// Set and remove secrets at Fly.io.
    Push {
        /// Names to set.
        set: BTreeSet<String>,
        /// Names to remove.
        unset: BTreeSet<String>,
    },
}

impl fmt::Display for SecretsChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        match self {
            Self::Generate => f.write_str("generate secret values and store them in Kubernetes"),
            Self::Replace => {
                f.write_str("replace the generated secret values, as the annotation requests")
            }
            Self::Rotate => {
                f.write_str("replace generated secret values that have reached their age")
            }
            Self::GiveUp => {
                f.write_str("delete the previous generated secret values, whose overlap has ended")
            }
            Self::Push { set, unset } if unset.is_empty() => {
                write!(f, "set the secrets {}", list(set))
            }
            Self::Push { set, unset } if set.is_empty() => {
                write!(f, "remove the secrets {}", list(unset))
            }
            Self::Push { set, unset } => {
                write!(f, "set the secrets {}; remove {}", list(set), list(unset))
            }
        }
    }
}

impl StepChange for SecretsChange {
    fn kind(&self) -> ChangeKind {
        match self {
            Self::Replace | Self::Rotate => ChangeKind::Rotation,
            Self::GiveUp => ChangeKind::RotationEnd,
            Self::Generate | Self::Push { .. } => ChangeKind::Ordinary,
        }
    }
}

fn rotation(cx: &Cx) -> Rotation {
    let spec = &cx.target.provision.secrets.rotation;
    Rotation::new(spec, cx.target.rotation.clone())
}

/// What the store and the Secrets of the spec hold.
#[derive(Default)]
struct Values {
    /// The change of the store that must come before a push.
    unsettled: Option<SecretsChange>,
    /// Names of generated values that are not stored.
    missing: Vec<String>,
    /// The requested values that exist.
    values: BTreeMap<String, SecretString>,
    /// A Secret that may be missing is missing: which of the app's values came from it is not known.
    lacks_optional: bool,
}

/// The requested values that exist, and the change of the store that must come first.
async fn values(cx: &Cx) -> Result<Values> {
    let spec = &cx.target.provision.secrets;
    let mut values = BTreeMap::new();
    let mut unsettled = None;
    let mut missing = Vec::new();
    if !spec.generate.is_empty() {
        let stored = store(cx).read().await?;
        let changes = generated::decide(
            stored.as_ref(),
            &cx.owner.uid,
            &spec.generate,
            &rotation(cx),
            cx.now(),
        );
        missing.extend(changes.generate.iter().map(|wanted| wanted.name.clone()));
        unsettled = if changes.is_by_age() && changes.rotate.is_empty() {
            Some(SecretsChange::GiveUp)
        } else if changes.is_by_age() {
            Some(SecretsChange::Rotate)
        } else if !changes.rotate.is_empty() {
            Some(SecretsChange::Replace)
        } else {
            (!changes.is_empty()).then_some(SecretsChange::Generate)
        };
        let stored = stored.unwrap_or_default();
        values.extend(previous(&stored, &spec.generate, &rotation(cx)));
        for wanted in &spec.generate {
            if let Some(value) = stored.values.get(&wanted.name) {
                values.insert(wanted.name.clone(), value.secret().clone());
            }
        }
    }
    let mut lacks_optional = false;
    for source in &spec.from {
        let found = match cx.refs.secret_values(&source.secret_ref.name) {
            Ok(found) => found,
            Err(Missing::Object { .. }) if source.optional => {
                lacks_optional = true;
                continue;
            }
            Err(missing) => {
                return Err(Error::Blocked {
                    reason: missing.reason(),
                    message: missing.sentence(&cx.owner.namespace),
                });
            }
        };
        for (key, value) in found {
            values.insert(key.to_owned(), value.clone());
        }
    }
    // Two steps that set the same name would overwrite each other forever.
    values.retain(|name, _| !of_another_step(&cx.target, name));
    Ok(Values {
        unsettled,
        missing,
        values,
        lacks_optional,
    })
}

/// Those of the values that are not stored, though the application has got them: they are on record, or
/// Fly.io has them. Values are stored before they are pushed, so these are lost, or were never ours.
async fn lost(cx: &Cx, missing: Vec<String>) -> Result<Option<Lost>> {
    if missing.is_empty() {
        return Ok(None);
    }
    let records = app_secrets::records(cx);
    let at_fly = app_secrets::list(cx).await?;
    let mut marks = Vec::new();
    let mut notes = Vec::new();
    let mut names = Vec::new();
    for name in missing {
        let found = at_fly.iter().find(|secret| secret.name == name);
        let print = match (records.get(&name), found) {
            (Some(record), _) => {
                notes.push(Note::Secret(record.clone()));
                &record.fingerprint
            }
            (None, Some(found)) => &found.digest,
            (None, None) => continue,
        };
        marks.push(lost::mark(&name, print));
        names.push(name);
    }
    if names.is_empty() {
        return Ok(None);
    }
    let what = names.join(", ");
    let lost = Lost::new(cx, StepId::Secrets, what, (marks, notes));
    Ok(Some(lost.surely()))
}

/// Why no new values are generated.
fn lost_text(owner: &str, what: &str, command: &str) -> Why {
    Why::new(
        Reason::GeneratedSecretLost,
        format!("the app uses {what}, and the Secret {owner} no longer holds the values"),
    )
    .next(format!(
        "restore the Secret from a backup; or have new values generated, with which old sessions and signatures end: `{command}`"
    ))
}

/// The values before the last rotation, for as long as they are stored: the application gets each as
/// `NAME_PREVIOUS`. A secret that the spec asks for under such a name takes precedence.
pub(super) fn previous(
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

/// True for the URLs that the steps `Attach` and `Redis` set.
fn of_another_step(target: &Target, name: &str) -> bool {
    let provision = &target.provision;
    (name == DATABASE_URL && provision.postgres.is_some())
        || (name == REDIS_URL && provision.redis.is_some())
}

impl Step for Secrets {
    type Observed = SecretsState;
    type Change = SecretsChange;

    fn id(&self) -> StepId {
        StepId::Secrets
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    fn reads(&self) -> u32 {
        0
    }

    fn reads_overview(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &Cx) -> Result<SecretsState> {
        let Values {
            unsettled,
            missing,
            values,
            lacks_optional,
        } = values(cx).await?;
        let lost = lost(cx, missing.clone()).await?;
        if values.is_empty() && app_secrets::records(cx).is_empty() {
            return Ok(SecretsState {
                unsettled,
                lost,
                stored_in: store(cx).name(),
                compared: Comparison::default(),
                surplus: BTreeSet::new(),
                count: 0,
            });
        }
        let compared = app_secrets::compare(cx, &values).await?;
        let at_fly = app_secrets::list(cx).await?;
        // What a person may only have deleted by mistake is not taken from the application.
        let is_requested = |name: &str| {
            values.contains_key(name)
                || of_another_step(&cx.target, name)
                || missing.iter().any(|missing| missing == name)
        };
        let recorded = app_secrets::records(cx).into_keys();
        let unwanted = recorded.filter(|name| !lacks_optional && !is_requested(name));
        let is_there = |name: &String| at_fly.iter().any(|secret| secret.name == *name);
        let (surplus, gone) = unwanted.partition(is_there);
        app_secrets::note_gone(cx, gone, is_requested);
        Ok(SecretsState {
            unsettled,
            lost,
            stored_in: store(cx).name(),
            compared,
            surplus,
            count: values.len(),
        })
    }

    fn diff(
        &self,
        target: &Target,
        observed: &SecretsState,
        _now: Timestamp,
    ) -> Verdict<SecretsChange> {
        if let Some(change) = &observed.unsettled {
            let settle = || Verdict::Change(change.clone());
            return match &observed.lost {
                Some(lost) => {
                    let name = &observed.stored_in;
                    lost.verdict(
                        target,
                        |what, command| lost_text(name, what, command),
                        settle,
                    )
                }
                None => settle(),
            };
        }
        if !observed.compared.stale.is_empty() || !observed.surplus.is_empty() {
            return Verdict::Change(SecretsChange::Push {
                set: observed.compared.stale.clone(),
                unset: observed.surplus.clone(),
            });
        }
        let spec = &target.provision.secrets;
        if observed.count == 0 && spec.generate.is_empty() && spec.from.is_empty() {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no `secrets`"));
        }
        Verdict::Done
    }

    fn notes(&self, _target: &Target, observed: &SecretsState) -> Vec<Note> {
        let mut notes = observed.compared.notes();
        notes.extend(observed.lost.iter().flat_map(Lost::notes));
        notes
    }

    async fn act(&self, cx: &Cx, change: SecretsChange) -> Result<()> {
        match change {
            SecretsChange::Generate
            | SecretsChange::Replace
            | SecretsChange::Rotate
            | SecretsChange::GiveUp => {
                let wanted = &cx.target.provision.secrets.generate;
                store(cx).settle(wanted, &rotation(cx), cx.now()).await?;
                Ok(())
            }
            SecretsChange::Push { set, unset } => {
                let Values { values, .. } = values(cx).await?;
                let mut send: BTreeMap<String, Option<SecretString>> =
                    unset.into_iter().map(|name| (name, None)).collect();
                send.extend(
                    values
                        .into_iter()
                        .filter(|(name, _)| set.contains(name))
                        .map(|(name, value)| (name, Some(value))),
                );
                app_secrets::push(cx, send).await
            }
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        // The app's secrets are deleted with the app. This decides about the Kubernetes Secret.
        let store = store(cx);
        match cx.target.deletion.secrets {
            Deletion::Delete => {
                store.delete().await?;
                Ok(Removal::Gone)
            }
            Deletion::Retain if cx.target.provision.secrets.generate.is_empty() => {
                Ok(Removal::Gone)
            }
            Deletion::Retain => Ok(Removal::Retained(format!("the Secret {}", store.name()))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn observed(
        unsettled: Option<SecretsChange>,
        stale: &[&str],
        surplus: &[&str],
    ) -> SecretsState {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        SecretsState {
            unsettled,
            lost: None,
            stored_in: "shop-golive".to_owned(),
            compared: Comparison {
                stale: set(stale),
                current: Vec::new(),
            },
            surplus: set(surplus),
            count: 1,
        }
    }

    fn next(observed: &SecretsState) -> Verdict<SecretsChange> {
        Secrets.diff(&target(""), observed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn values_are_stored_in_kubernetes_before_they_are_pushed() {
        let verdict = next(&observed(Some(SecretsChange::Generate), &["A"], &[]));
        assert_eq!(verdict, Verdict::Change(SecretsChange::Generate));
    }

    #[test]
    fn stale_secrets_are_set_and_surplus_ones_removed_in_one_call() {
        let Verdict::Change(change) = next(&observed(None, &["A", "B"], &["C"])) else {
            unreachable!("a change")
        };
        assert_eq!(change.to_string(), "set the secrets A, B; remove C");
        assert_eq!(next(&observed(None, &[], &[])), Verdict::Done);
    }

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
}
