//! Whether an app of a given name exists at Fly.io, and who holds the name.
//!
//! Names of apps are global at Fly.io, and an app carries no mark of its owner. So the claim, a
//! ConfigMap in the operator's namespace, says which Activation holds a name. The same rule
//! applies to every app that Golive creates: the application's and that of a Fly Postgres cluster.

use crate::{
    error::Error,
    fly,
    pipeline::{Cx, Owner, step::Result},
    plan::Target,
    store::claim::Claim,
};

/// What Fly.io answers when an app is read by its name.
#[derive(Clone, Debug, PartialEq)]
pub enum AppLookup {
    /// There is no such app, or it was created so recently that Fly.io does not show it yet.
    NotFound,
    /// The token may not read it: it belongs to another organization.
    Forbidden,
    /// The app.
    Found(Box<fly::App>),
}

/// Reads an app by its name.
///
/// # Errors
/// When Fly.io cannot be reached, or answers with something else than the app, "not found" or
/// "forbidden".
pub async fn look_up(cx: &Cx, app: &str) -> Result<AppLookup> {
    match cx.fly.app(app).await {
        Ok(Some(app)) => Ok(AppLookup::Found(Box::new(app))),
        Ok(None) => Ok(AppLookup::NotFound),
        Err(error) if error.is_forbidden() => Ok(AppLookup::Forbidden),
        Err(source) => Err(Error::fly(format!("read the app {app}"), source)),
    }
}

/// The organization of an app, if it is not the one of the spec: then the app is not ours, or no
/// longer ours.
pub fn other_organization<'a>(found: &'a fly::App, target: &Target) -> Option<&'a str> {
    let slug = found.organization.as_ref()?.slug.as_str();
    (slug != target.organization).then_some(slug)
}

/// True when Fly.io refuses to create something because the name is in use.
pub fn is_name_taken(error: &fly::Error) -> bool {
    matches!(
        error.conflict(),
        Some(fly::Conflict::NameTaken { .. } | fly::Conflict::Exists)
    )
}

/// Who holds the name of an app that exists, as far as its claim says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This Activation.
    Us,
    /// An earlier Activation of our namespace, which left it to us.
    Predecessor,
    /// Nobody: there is no claim, or its Activation was deleted and retained the app.
    Nobody,
}

/// The state of an app's name.
#[derive(Debug, PartialEq)]
pub enum NameStatus<'a> {
    /// Another Activation holds the claim.
    ClaimedByAnother(&'a Claim),
    /// Another organization has an app of this name.
    Forbidden,
    /// No app has the name.
    Free {
        /// This Activation holds the claim.
        claimed: bool,
    },
    /// An app has the name.
    Exists {
        /// The app.
        app: &'a fly::App,
        /// Who holds the claim.
        holder: Holder,
    },
}

impl<'a> NameStatus<'a> {
    /// Decides from what Fly.io and the claim say. Pure.
    pub fn of(lookup: &'a AppLookup, claim: Option<&'a Claim>, owner: &Owner) -> Self {
        let ours = claim.is_some_and(|claim| claim.is_of(owner));
        let namesake = claim.is_some_and(|claim| claim.left_by_namesake(owner));
        if let Some(claim) = claim
            && !ours
            && !namesake
            && !claim.retained
        {
            return Self::ClaimedByAnother(claim);
        }
        match lookup {
            AppLookup::Forbidden => Self::Forbidden,
            AppLookup::NotFound => Self::Free { claimed: ours },
            AppLookup::Found(app) => Self::Exists {
                app,
                holder: match claim {
                    Some(_) if ours => Holder::Us,
                    Some(claim) if claim.passes_to(owner) => Holder::Predecessor,
                    _ => Holder::Nobody,
                },
            },
        }
    }
}
