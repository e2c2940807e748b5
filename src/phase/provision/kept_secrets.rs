//! The secrets of the release that serves, while the spec cannot be brought live: those that somebody
//! removed at Fly.io are set again, with the values that the release got.
//!
//! Only their presence is kept. A value counts if it has the fingerprint that is on record, wherever
//! it is found: the spec may have changed since, and another value reaches the machines with the next
//! release.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use secrecy::SecretString;

use super::{
    attach_fly_postgres, attach_managed, attachment::Attachment, fallback, redis,
    secrets::previous, stored_values::store,
};
use crate::{
    api::Reason,
    phase::{
        app_secrets,
        clusters::MANAGED_POSTGRES,
        names::{self, DATABASE_URL, REDIS_URL},
        releases::store as records,
    },
    pipeline::{Cx, Step, StepChange, StepId, Verdict, Why, step::Result},
    plan::{Target, fingerprint},
    store::generated::Rotation,
};

/// Keeps the secrets of the release that serves.
pub struct KeptSecrets;

/// The secrets of the release that Fly.io does not have any more.
#[derive(Debug, Default)]
pub struct Observed {
    /// Names whose values are known.
    known: BTreeSet<String>,
    /// Names whose values are not known any more.
    unknown: BTreeSet<String>,
    /// Where the values would be, for people.
    places: String,
}

/// Set these secrets again.
#[derive(Debug, PartialEq, Eq)]
pub struct SetAgain(BTreeSet<String>);

impl fmt::Display for SetAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set the secrets {} again", list(&self.0))
    }
}

impl StepChange for SetAgain {}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().cloned().collect::<Vec<_>>().join(", ")
}

impl Step for KeptSecrets {
    type Observed = Observed;
    type Change = SetAgain;

    fn id(&self) -> StepId {
        StepId::Secrets
    }

    fn reads(&self) -> u32 {
        0
    }

    fn reads_overview(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let missing = missing(cx).await?;
        if missing.is_empty() {
            return Ok(Observed::default());
        }
        let known: BTreeSet<String> = known(cx, &missing).await?.into_keys().collect();
        Ok(Observed {
            unknown: &missing - &known,
            known,
            places: places(cx),
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<SetAgain> {
        if !observed.known.is_empty() {
            return Verdict::Change(SetAgain(observed.known.clone()));
        }
        let Some(first) = observed.unknown.first() else {
            return Verdict::Done;
        };
        Verdict::Blocked(
            Why::new(
                Reason::ServingSecretLost,
                format!(
                    "the release that serves has lost its secrets {} at Fly.io, and the values that it got are no longer in {}",
                    list(&observed.unknown),
                    observed.places
                ),
            )
            .next(format!(
                "put the values back there, or set them: `fly secrets set {first}=VALUE -a {}`",
                target.app
            )),
        )
    }

    async fn act(&self, cx: &Cx, SetAgain(names): SetAgain) -> Result<()> {
        let known = known(cx, &names).await?.into_iter();
        let send = known.map(|(name, value)| (name, Some(value))).collect();
        app_secrets::push(cx, send).await
    }
}

/// The secrets with which the release went live and that Fly.io does not list.
async fn missing(cx: &Cx) -> Result<BTreeSet<String>> {
    let records = records::load(cx).await?;
    let Some(serving) = records.serving_record() else {
        return Ok(BTreeSet::new());
    };
    let at_fly = app_secrets::list(cx).await?;
    let names = serving.content.secrets.keys();
    let missing = names.filter(|name| at_fly.iter().all(|secret| secret.name != **name));
    Ok(missing.cloned().collect())
}

/// The values of these secrets that have the fingerprint on record.
async fn known(cx: &Cx, names: &BTreeSet<String>) -> Result<BTreeMap<String, SecretString>> {
    let records = app_secrets::records(cx);
    let key = &cx.installation.fingerprint_key;
    let mut known = BTreeMap::new();
    for (name, value) in candidates(cx, names).await? {
        let print = fingerprint(key, &value);
        let record = records.get(&name);
        if names.contains(&name) && record.is_some_and(|record| record.fingerprint == print) {
            cx.facts.guard(&print, &value);
            known.insert(name, value);
        }
    }
    Ok(known)
}

/// Every value that a secret of the release may have now.
async fn candidates(cx: &Cx, names: &BTreeSet<String>) -> Result<Vec<(String, SecretString)>> {
    let spec = &cx.target.provision.secrets;
    let mut found = Vec::new();
    if !spec.generate.is_empty() {
        let stored = store(cx).read().await?.unwrap_or_default();
        let rotation = Rotation::new(&spec.rotation, None);
        found.extend(previous(&stored, &spec.generate, &rotation));
        let values = stored.values.into_iter();
        found.extend(values.map(|(name, value)| (name, value.secret().clone())));
    }
    for source in &spec.from {
        // One that is gone holds no value.
        let values = cx.refs.secret_values(&source.secret_ref.name);
        let values = values.unwrap_or_default().into_iter();
        found.extend(values.map(|(name, value)| (name.to_owned(), value.clone())));
    }
    if names.contains(DATABASE_URL) {
        let url = database_url(cx).await?;
        found.extend(url.map(|url| (DATABASE_URL.to_owned(), url)));
    }
    if names.contains(REDIS_URL) {
        let url = redis::url(cx).await?;
        found.extend(url.map(|url| (REDIS_URL.to_owned(), url)));
    }
    Ok(found)
}

/// The URL of the database of the release.
async fn database_url(cx: &Cx) -> Result<Option<SecretString>> {
    fallback::observe(cx);
    if let Ok(Some(declared)) = fallback::declared_url(cx) {
        return Ok(Some(declared));
    }
    let Some(spec) = fallback::spec(&cx.target).filter(|spec| spec.external.is_none()) else {
        return Ok(None);
    };
    let attachment = if spec.fly_postgres.is_some() {
        let cluster = names::postgres(&cx.target.app);
        attach_fly_postgres::observe(cx, &cluster).await?
    } else {
        let mut recorded = cx.recorded.external.iter();
        match recorded.find(|object| object.kind == MANAGED_POSTGRES) {
            Some(cluster) => attach_managed::observe(cx, &cluster.id).await?,
            None => return Ok(None),
        }
    };
    Ok(match attachment {
        Attachment::Complete(url) => Some(url),
        Attachment::Incomplete(_) => None,
    })
}

/// Where the values of the release were, for people.
fn places(cx: &Cx) -> String {
    let spec = &cx.target.provision.secrets;
    let generated = (!spec.generate.is_empty()).then(|| store(cx).name());
    let from = spec
        .from
        .iter()
        .map(|source| source.secret_ref.name.clone());
    let names: Vec<String> = from.chain(generated).collect();
    match names.as_slice() {
        [] => "Kubernetes".to_owned(),
        [one] => format!("the Secret {one}"),
        many => format!("the Secrets {}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn next(known: &[&str], unknown: &[&str]) -> Verdict<SetAgain> {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let observed = Observed {
            known: set(known),
            unknown: set(unknown),
            places: "the Secret keys".to_owned(),
        };
        KeptSecrets.diff(&target(""), &observed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_known_is_set_again_and_what_is_not_is_told() {
        assert_eq!(next(&[], &[]), Verdict::Done);
        assert!(
            matches!(next(&["A"], &["B"]), Verdict::Change(SetAgain(names)) if names.len() == 1)
        );
        let Verdict::Blocked(why) = next(&[], &["A", "B"]) else {
            unreachable!("blocked")
        };
        assert_eq!(why.reason, Reason::ServingSecretLost);
        assert!(
            why.message.contains("secrets A, B at Fly.io"),
            "{}",
            why.message
        );
        assert!(
            why.action.contains("fly secrets set A=VALUE -a shop"),
            "{}",
            why.action
        );
    }
}
