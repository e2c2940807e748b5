//! What at Fly.io was created by this Activation, so that it may be deleted.

use std::time::Duration;

use crate::{
    api::{ANNOTATION_DELETE_DATA, Reason},
    error::Error,
    phase::{
        absence::{self, Doubt},
        app_lookup::{AppLookup, look_up, other_organization},
        app_name::{APP, OwnClaim},
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
    /// One look says that it is gone or somebody else's, which is no proof: it is removed no further
    /// until the next look.
    Unclear(Removal),
}

/// Where our app is. One look is not believed: an app that is not found, that the token may not read
/// or that is shown in another organization counts as gone only when our organization does not list
/// it, and when a second look a settling window later shows the same. After a deletion that Fly.io
/// accepted one look is enough.
///
/// # Errors
/// When Fly.io does not answer, or the token cannot tell whether the app exists.
pub async fn presence(cx: &Cx, app: &str) -> Result<Presence> {
    let lookup = look_up(cx, app).await?;
    let elsewhere = match &lookup {
        AppLookup::Found(found) => match other_organization(found, &cx.target) {
            None => {
                absence::cleared(cx, Doubt::Gone, APP, app);
                absence::cleared(cx, Doubt::NotOurs, APP, app);
                return Ok(Presence::Here);
            }
            Some(slug) => Some(slug.to_owned()),
        },
        AppLookup::NotFound | AppLookup::Forbidden => {
            if is_listed(cx, app).await? {
                absence::cleared(cx, Doubt::Gone, APP, app);
                return match lookup {
                    AppLookup::Forbidden => Err(blind(
                        cx,
                        &format!("the token may not read the app {app}, which it lists"),
                    )),
                    _ => Ok(Presence::Here),
                };
            }
            None
        }
    };
    let doubt = match &elsewhere {
        Some(_) => Doubt::NotOurs,
        None => Doubt::Gone,
    };
    Ok(match (absence::seen(cx, doubt, APP, app), elsewhere) {
        (None, None) => Presence::Nowhere,
        (None, Some(slug)) => Presence::Elsewhere(slug),
        (Some(again), elsewhere) => {
            let what = match elsewhere {
                Some(slug) => format!("Fly.io shows the app {app} in the organization {slug}"),
                None => format!("Fly.io does not show the app {app}"),
            };
            Presence::Unclear(unclear(&what, again))
        }
    })
}

/// The removal of something that one look did not find; `what` is what it showed.
pub fn unclear(what: &str, again: Duration) -> Removal {
    Removal::Pending {
        why: Why::new(
            Reason::OutcomeUnknown,
            format!("{what}; Golive checks again before it treats it as gone"),
        ),
        again,
    }
}

/// The removal of something on record that was not found: it is gone when a second look a settling
/// window later does not find it either, or the first one after its deletion.
pub fn gone(cx: &Cx, kind: &'static str, name: &str) -> Removal {
    match absence::seen(cx, Doubt::Gone, kind, name) {
        None => Removal::Gone,
        Some(again) => unclear(&format!("Fly.io does not show the {kind} {name}"), again),
    }
}

/// Whether the organization lists the app. A token of another organization cannot tell, and says so.
async fn is_listed(cx: &Cx, app: &str) -> Result<bool> {
    let organization = &cx.target.organization;
    match cx.fly.apps(organization).await {
        Ok(apps) => Ok(apps.iter().any(|found| found.name == app)),
        Err(error) if error.is_forbidden() || error.is_gone() => Err(blind(
            cx,
            &format!(
                "the token may not read the organization {organization} ({error}), so it cannot tell whether the app {app} exists"
            ),
        )),
        Err(source) => Err(Error::fly("list the apps", source)),
    }
}

/// The token cannot see what it is to remove.
fn blind(cx: &Cx, what: &str) -> Error {
    Error::Blocked {
        reason: Reason::TokenScopeMissing,
        message: what.to_owned(),
        action: format!("use a token of the organization {}", cx.target.organization),
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
    let announced = cx.intents.has_open(step);
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
