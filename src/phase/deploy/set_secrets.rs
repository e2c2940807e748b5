//! The app's secrets, if a release serves with others: they are set once Deploy may begin, behind its gate.
//! While nothing can run, Provision has set them. What the spec no longer asks for stays until the release without
//! it serves (`Promote` of SmokeTest removes it then): the release before it may have to be restored.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    api::status::SecretStatus,
    phase::{
        app_secrets, release_secrets,
        wanted_secrets::{self, Push},
    },
    pipeline::{Cx, Note, PlannedChange, Step, StepChange, StepId, Verdict, step::Result},
    plan::Target,
};

/// Sets the secrets that waited for Deploy, and removes the values before a rotation that are over.
pub struct SetSecrets;

/// How the secrets that waited compare with those at Fly.io.
#[derive(Debug, Default)]
pub struct Observed {
    push: Push,
    /// What the spec no longer asks for: the wanted release is one without it.
    surplus: BTreeSet<String>,
    /// Nothing may be changed now: the plan names all that will be.
    is_planned: bool,
    /// Those that are as they should be.
    current: Vec<SecretStatus>,
}

/// Set and remove these.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    push: Push,
    /// What is removed later, for people.
    later: BTreeSet<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let later: Vec<&str> = self.later.iter().map(String::as_str).collect();
        let later = later.join(", ");
        match (self.push.is_empty(), self.later.is_empty()) {
            (_, true) => self.push.fmt(f),
            (true, false) => write!(f, "remove {later} once the release without them serves"),
            (false, false) => {
                let push = &self.push;
                write!(
                    f,
                    "{push}; remove {later} once the release without them serves"
                )
            }
        }
    }
}

impl StepChange for Change {
    fn planned(&self) -> Vec<PlannedChange> {
        let unset: BTreeSet<String> = self.push.unset.union(&self.later).cloned().collect();
        let push = Push {
            set: self.push.set.clone(),
            unset,
        };
        push.planned("")
    }
}

/// The values of what waited, and what must be done.
async fn observe(cx: &Cx) -> Result<(Observed, BTreeMap<String, SecretString>)> {
    let mut values = release_secrets::waiting_addresses(cx);
    let secrets = match release_secrets::do_secrets_wait(cx) {
        true => Some(wanted_secrets::observe(cx).await?),
        false => None,
    };
    let of_secrets = secrets.iter().flat_map(|secrets| &secrets.values);
    values.extend(of_secrets.map(|(name, value)| (name.clone(), value.clone())));
    let mut observed = Observed::default();
    if secrets.is_some() || !values.is_empty() {
        let compared = app_secrets::compare(cx, &values).await?;
        observed.current = compared.current;
        observed.push.set = compared.stale;
    }
    if let Some(secrets) = secrets {
        let at_fly = app_secrets::list(cx).await?;
        observed.surplus = secrets.surplus(cx, &at_fly);
        observed.push.unset = over(&cx.target, &observed.surplus);
    }
    Ok((observed, values))
}

/// Those of the surplus that go before the release does. Pure.
fn over(target: &Target, surplus: &BTreeSet<String>) -> BTreeSet<String> {
    let over = |name: &&String| wanted_secrets::is_previous(target, name);
    surplus.iter().filter(over).cloned().collect()
}

impl Step for SetSecrets {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::SetSecrets
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::Image]
    }

    fn reads(&self) -> u32 {
        0
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let (mut observed, values) = observe(cx).await?;
        observed.is_planned = !cx.may_act();
        // Which release the spec asks for follows from it, before it is done too.
        let pending = Push {
            set: observed.push.set.clone(),
            unset: observed.surplus.clone(),
        };
        release_secrets::note_pending(cx, &pending, &values);
        Ok(observed)
    }

    fn diff(&self, _target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        let push = observed.push.clone();
        let later: BTreeSet<String> = observed.surplus.difference(&push.unset).cloned().collect();
        if push.is_empty() && (later.is_empty() || !observed.is_planned) {
            return Verdict::Done;
        }
        Verdict::Change(Change { push, later })
    }

    fn plan(&self, target: &Target, _: &Observed, change: &Change) -> Vec<PlannedChange> {
        let named = change.planned().into_iter();
        let named = named.map(|planned| PlannedChange {
            name: target.app.clone(),
            ..planned
        });
        named.collect()
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        let current = observed.current.iter().cloned();
        current.map(Note::Secret).collect()
    }

    async fn act(&self, cx: &Cx, Change { push, .. }: Change) -> Result<()> {
        let (_, values) = observe(cx).await?;
        app_secrets::push(cx, push.send(values)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_secret_that_the_spec_drops_stays_until_the_release_without_it_serves() {
        let target = target("provision: {secrets: {generate: [{name: JWT}]}}");
        let surplus = names(&["API_KEY", "JWT_PREVIOUS"]);
        assert_eq!(over(&target, &surplus), names(&["JWT_PREVIOUS"]));
        let next = |set: &[&str], is_planned| {
            let observed = Observed {
                push: Push {
                    set: names(set),
                    ..Push::default()
                },
                surplus: names(&["API_KEY"]),
                is_planned,
                ..Observed::default()
            };
            SetSecrets.diff(&target, &observed, Timestamp::UNIX_EPOCH)
        };
        let later = "remove API_KEY once the release without them serves";
        assert_eq!(next(&[], false), Verdict::Done);
        // The plan names it, also when something else is set.
        for (set, is_planned, line) in [
            (&[][..], true, later.to_owned()),
            (&["NEW"][..], false, format!("set the secrets NEW; {later}")),
        ] {
            let Verdict::Change(change) = next(set, is_planned) else {
                unreachable!("a change")
            };
            assert_eq!(change.to_string(), line);
            assert!(change.push.unset.is_empty());
        }
    }
}
