//! The app's secrets, if a release serves with others: they are set once Deploy may begin, behind its gate.
//! While nothing serves, Provision has set them.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    api::status::SecretStatus,
    phase::{
        app_secrets, release_secrets,
        wanted_secrets::{self, Push},
    },
    pipeline::{Cx, Note, Step, StepChange, StepId, Verdict, step::Result},
    plan::Target,
};

/// Sets and removes the secrets that waited for Deploy.
pub struct SetSecrets;

/// How the secrets that waited compare with those at Fly.io.
#[derive(Debug, Default)]
pub struct Observed {
    push: Push,
    /// Those that are as they should be.
    current: Vec<SecretStatus>,
}

/// Set and remove these.
#[derive(Debug, PartialEq, Eq)]
pub struct Change(Push);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StepChange for Change {}

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
        observed.push.unset = secrets.surplus(cx, &at_fly);
    }
    Ok((observed, values))
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
        let (observed, values) = observe(cx).await?;
        // Which release the spec asks for follows from it, before it is done too.
        release_secrets::note_pending(cx, &observed.push, &values);
        Ok(observed)
    }

    fn diff(&self, _target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        if observed.push.is_empty() {
            return Verdict::Done;
        }
        Verdict::Change(Change(observed.push.clone()))
    }

    fn notes(&self, _target: &Target, observed: &Observed) -> Vec<Note> {
        let current = observed.current.iter().cloned();
        current.map(Note::Secret).collect()
    }

    async fn act(&self, cx: &Cx, Change(push): Change) -> Result<()> {
        let (_, values) = observe(cx).await?;
        app_secrets::push(cx, push.send(values)).await
    }
}
