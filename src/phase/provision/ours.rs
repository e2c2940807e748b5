//! What at Fly.io was created by this Activation, so that it may be deleted.

use crate::{
    api::{ANNOTATION_DELETE_DATA, Reason},
    error::Error,
    phase::{
        app_lookup::{AppLookup, look_up, other_organization},
        app_name::OwnClaim,
    },
    pipeline::{Cx, Owner, Removal, StepId, Why, step::Result},
    store::claim,
};

/// The deletion of data that nobody has confirmed: it waits for a person. `what` names the data.
pub fn unconfirmed(cx: &Cx, what: &str) -> Removal {
    let Owner {
        name, namespace, ..
    } = &cx.owner;
    let app = &cx.target.app;
    Removal::Blocked(Why::new(
        Reason::DeletionBlocked,
        format!(
            "`deletionPolicy` deletes {what} with all data, which needs a second consent: `kubectl annotate activation {name} -n {namespace} {ANNOTATION_DELETE_DATA}={app}`, or set the policy to Retain"
        ),
    ))
}

/// Where an app of ours is.
#[derive(Debug, PartialEq, Eq)]
pub enum Presence {
    /// In our organization.
    Here,
    /// In this other one.
    Elsewhere(String),
    /// No app of this name is ours.
    Nowhere,
}

/// Whether our app still exists.
///
/// # Errors
/// See [`presence`].
pub async fn exists(cx: &Cx, app: &str) -> Result<bool> {
    Ok(presence(cx, app).await? == Presence::Here)
}

/// Where our app is. An app that the token may not read belongs to another organization only if our
/// organization lists no such app; otherwise the token has lost its rights.
///
/// # Errors
/// When Fly.io does not answer, or the token may not read an app of our organization.
pub async fn presence(cx: &Cx, app: &str) -> Result<Presence> {
    match look_up(cx, app).await? {
        AppLookup::Found(found) => Ok(match other_organization(&found, &cx.target) {
            Some(slug) => Presence::Elsewhere(slug.to_owned()),
            None => Presence::Here,
        }),
        AppLookup::NotFound => Ok(Presence::Nowhere),
        AppLookup::Forbidden => {
            let apps = cx.fly.apps(&cx.target.organization).await;
            let apps = apps.map_err(|source| Error::fly("list the apps", source))?;
            if apps.iter().any(|found| found.name == app) {
                return Err(Error::Blocked {
                    reason: Reason::TokenScopeMissing,
                    message: format!(
                        "the token may not read the app {app} of the organization {}: use a token of the organization",
                        cx.target.organization
                    ),
                });
            }
            Ok(Presence::Nowhere)
        }
    }
}

/// Records in the claim, before a create is sent, that a resource of this kind will be ours. The
/// caller has just observed that it does not exist. Safe to repeat.
///
/// # Errors
/// When the claim cannot be written.
pub async fn record_creation(cx: &Cx, kind: &str) -> Result<()> {
    let Some(claim) = cx.facts.get::<OwnClaim>() else {
        return Err(Error::NotKnown("the claim on the app"));
    };
    if claim.0.made.contains(kind) {
        return Ok(());
    }
    claim::note_made(
        &cx.kube,
        &cx.installation.own_namespace,
        &cx.target.app,
        &claim.0,
        kind,
    )
    .await
}

/// Whether the claim says that a resource of this kind was created for us.
///
/// # Errors
/// When the claim cannot be read.
pub async fn was_created(cx: &Cx, kind: &str) -> Result<bool> {
    let claim = claim::read(&cx.kube, &cx.installation.own_namespace, &cx.target.app).await?;
    Ok(claim.is_some_and(|claim| claim.is_of(&cx.owner) && claim.made.contains(kind)))
}

/// Whether something of a step may exist: the claim says that it was created for us, the status records
/// it, or its create was announced. Otherwise a removal has nothing to ask Fly.io about.
///
/// # Errors
/// When the claim cannot be read.
pub async fn may_exist(cx: &Cx, step: StepId, made: &str, kind: &str) -> Result<bool> {
    let recorded = cx
        .recorded
        .external
        .iter()
        .any(|object| object.kind == kind);
    let announced = cx.intents.open().iter().any(|(owner, _)| *owner == step);
    Ok(recorded || announced || was_created(cx, made).await?)
}

/// Whether the claim on the app is ours.
///
/// # Errors
/// When the claim cannot be read.
pub async fn has_claim(cx: &Cx) -> Result<bool> {
    let claim = claim::read(&cx.kube, &cx.installation.own_namespace, &cx.target.app).await?;
    Ok(claim.is_some_and(|claim| claim.is_of(&cx.owner)))
}
