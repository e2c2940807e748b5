//! The application's secrets: generated once and kept in Kubernetes, or taken from Secrets, and
//! pushed to the app in one call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use secrecy::SecretString;

use super::{attach, redis};
use crate::phase::app_secrets as push;
use crate::{
    api::{Reason, policy::Deletion},
    error::Error,
    pipeline::{
        ChangeKind, Cx, Note, Removal, Step, StepChange, StepId, Verdict, Why, step::Result,
    },
    plan::Target,
    store::generated::{self as secret_store, Rotation, SecretStore},
};

/// The secrets.
pub struct Secrets;

/// What is stored, wanted and at Fly.io.
#[derive(Debug)]
pub struct Observed {
    /// The store must be written first, for this.
    unsettled: Option<Change>,
    compared: push::Compared,
    /// Pushed by us before, and asked for no more.
    surplus: BTreeSet<String>,
    count: usize,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Make up the values that are not there yet, or are to be replaced.
    Generate,
    /// Replace the values, as somebody asks by annotation.
    Replace,
    /// Replace the values that have come to their age.
    Rotate,
    /// Give up the values before, which were kept for the overlap.
    GiveUp,
    /// Set these at Fly.io and remove those.
    Push {
        /// Names to set.
        set: BTreeSet<String>,
        /// Names to remove.
        unset: BTreeSet<String>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        match self {
            Self::Generate => f.write_str("generate secret values and keep them in Kubernetes"),
            Self::Replace => {
                f.write_str("replace the generated secret values, as the annotation asks")
            }
            Self::Rotate => {
                f.write_str("replace generated secret values that have come to their age")
            }
            Self::GiveUp => f.write_str(
                "give up the generated secret values before, which were kept long enough",
            ),
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

impl StepChange for Change {
    fn kind(&self) -> ChangeKind {
        match self {
            Self::Replace | Self::Rotate => ChangeKind::Rotation,
            Self::GiveUp => ChangeKind::RotationEnd,
            Self::Generate | Self::Push { .. } => ChangeKind::Ordinary,
        }
    }
}

/// The store of generated values of this Activation.
pub fn store(cx: &Cx) -> SecretStore {
    SecretStore::new(cx.kube.clone(), cx.owner.clone())
}

fn rotation(cx: &Cx) -> Rotation {
    let spec = &cx.target.provision.secrets.rotation;
    Rotation::new(spec, cx.target.rotation.clone())
}

/// The values that are wanted, as far as they exist.
async fn values(cx: &Cx) -> Result<(Option<Change>, BTreeMap<String, SecretString>)> {
    let spec = &cx.target.provision.secrets;
    let mut values = BTreeMap::new();
    let mut unsettled = None;
    if !spec.generate.is_empty() {
        let stored = store(cx).read().await?;
        let changes = secret_store::decide(
            stored.as_ref(),
            &cx.owner.uid,
            &spec.generate,
            &rotation(cx),
            cx.now(),
        );
        unsettled = if changes.is_by_age() && changes.rotate.is_empty() {
            Some(Change::GiveUp)
        } else if changes.is_by_age() {
            Some(Change::Rotate)
        } else if !changes.rotate.is_empty() {
            Some(Change::Replace)
        } else {
            (!changes.is_empty()).then_some(Change::Generate)
        };
        let stored = stored.map(|stored| stored.values).unwrap_or_default();
        for wanted in &spec.generate {
            if let Some(value) = stored.get(&wanted.name) {
                values.insert(wanted.name.clone(), value.secret().clone());
            }
        }
    }
    for source in &spec.from {
        let found = cx
            .refs
            .secret_values(&source.secret_ref.name)
            .map_err(|missing| Error::Blocked {
                reason: missing.reason(),
                message: missing.to_string(),
            })?;
        for (key, value) in found {
            values.insert(key.to_owned(), value.clone());
        }
    }
    // Two steps that set one name would take turns for ever.
    values.retain(|name, _| !of_another_step(&cx.target, name));
    Ok((unsettled, values))
}

/// True for the URLs that the steps `Attach` and `Redis` set.
fn of_another_step(target: &Target, name: &str) -> bool {
    let provision = &target.provision;
    (name == attach::VARIABLE && provision.postgres.is_some())
        || (name == redis::VARIABLE && provision.redis.is_some())
}

impl Step for Secrets {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Secrets
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let (unsettled, values) = values(cx).await?;
        if values.is_empty() && push::records(cx).is_empty() {
            return Ok(Observed {
                unsettled,
                compared: push::Compared::default(),
                surplus: BTreeSet::new(),
                count: 0,
            });
        }
        let compared = push::look(cx, &values).await?;
        let at_fly = push::list(cx).await?;
        let surplus = push::records(cx)
            .into_keys()
            .filter(|name| !values.contains_key(name) && !of_another_step(&cx.target, name))
            .filter(|name| at_fly.iter().any(|secret| secret.name == *name))
            .collect();
        Ok(Observed {
            unsettled,
            compared,
            surplus,
            count: values.len(),
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        if let Some(change) = &observed.unsettled {
            return Verdict::Change(change.clone());
        }
        if !observed.compared.stale.is_empty() || !observed.surplus.is_empty() {
            return Verdict::Change(Change::Push {
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

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        observed.compared.notes()
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        match change {
            Change::Generate | Change::Replace | Change::Rotate | Change::GiveUp => {
                let wanted = &cx.target.provision.secrets.generate;
                store(cx).settle(wanted, &rotation(cx), cx.now()).await?;
                Ok(())
            }
            Change::Push { set, unset } => {
                let (_, values) = values(cx).await?;
                let mut send: BTreeMap<String, Option<SecretString>> =
                    unset.into_iter().map(|name| (name, None)).collect();
                send.extend(
                    values
                        .into_iter()
                        .filter(|(name, _)| set.contains(name))
                        .map(|(name, value)| (name, Some(value))),
                );
                push::push(cx, send).await
            }
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        // The app's own secrets go with the app. What is decided here is the Kubernetes Secret.
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

    fn observed(unsettled: Option<Change>, stale: &[&str], surplus: &[&str]) -> Observed {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Observed {
            unsettled,
            compared: push::Compared {
                stale: set(stale),
                settled: Vec::new(),
            },
            surplus: set(surplus),
            count: 1,
        }
    }

    fn next(observed: &Observed) -> Verdict<Change> {
        Secrets.diff(&target(""), observed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn values_are_kept_in_kubernetes_before_they_are_pushed() {
        let verdict = next(&observed(Some(Change::Generate), &["A"], &[]));
        assert_eq!(verdict, Verdict::Change(Change::Generate));
    }

    #[test]
    fn what_is_stale_is_set_and_what_is_no_longer_asked_for_removed_in_one_call() {
        let Verdict::Change(change) = next(&observed(None, &["A", "B"], &["C"])) else {
            unreachable!("a change")
        };
        assert_eq!(change.to_string(), "set the secrets A, B; remove C");
        assert_eq!(next(&observed(None, &[], &[])), Verdict::Done);
    }

    #[test]
    fn the_urls_of_other_steps_are_theirs_alone() {
        let asked = target("provision: {postgres: {managed: {}}, redis: {upstash: {}}}");
        assert!(of_another_step(&asked, "DATABASE_URL"));
        assert!(of_another_step(&asked, "REDIS_URL"));
        assert!(!of_another_step(&target(""), "DATABASE_URL"));
    }
}
