//! The Fly app itself: claimed, there, and in our organization. Never renamed, never moved.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use crate::{
    api::{
        Reason,
        policy::{Adoption, Deletion},
        status::ExternalObject,
    },
    claim::{self, Claim},
    error::Error,
    fly,
    phase::{Cx, Note, Owner, Removal, Step, StepId, Verdict, Why, step::Result},
    target::Target,
};

/// The app.
pub struct App;

/// Name of the step.
pub const ID: StepId = "App";

/// What Fly.io says about an app's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// There is no such app, or it is too new to be told.
    Nothing,
    /// The token may not see it: it belongs to somebody else.
    Foreign,
    /// It is there.
    There(Box<fly::App>),
}

/// The app and its claim.
#[derive(Debug)]
pub struct Observed {
    app: Seen,
    claim: Option<Claim>,
    owner: Owner,
}

/// What to do about the app.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Claim the name for this Activation.
    Claim {
        app: String,
        before: Option<Claim>,
        adopt: bool,
    },
    /// Create the app at Fly.io.
    Create { app: String, organization: String },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim {
                app, adopt: true, ..
            } => write!(f, "take over the Fly app {app}"),
            Self::Claim { app, .. } => write!(f, "claim the name {app}"),
            Self::Create { app, organization } => {
                write!(
                    f,
                    "create the Fly app {app} in the organization {organization}"
                )
            }
        }
    }
}

/// Asks Fly.io about an app's name.
///
/// # Errors
/// When Fly.io does not say.
pub async fn look(cx: &Cx, app: &str) -> Result<Seen> {
    match cx.fly.app(app).await {
        Ok(Some(app)) => Ok(Seen::There(Box::new(app))),
        Ok(None) => Ok(Seen::Nothing),
        Err(error) if error.is_forbidden() => Ok(Seen::Foreign),
        Err(source) => Err(Error::fly(format!("read the app {app}"), source)),
    }
}

impl Step for App {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        ID
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let app = &cx.target.app;
        let (seen, claim) =
            futures::try_join!(look(cx, app), claim::read(&cx.kube, &cx.own_namespace, app))?;
        match &seen {
            Seen::There(app) => cx.facts.app.set((**app).clone()),
            _ => cx.facts.app.clear(),
        }
        Ok(Observed {
            app: seen,
            claim,
            owner: cx.owner.clone(),
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        let app = target.app.clone();
        let ours = observed
            .claim
            .as_ref()
            .is_some_and(|claim| claim.is_of(&observed.owner));
        if let Some(claim) = &observed.claim
            && !ours
            && !claim.left_by_namesake(&observed.owner)
        {
            return Verdict::Blocked(Why::new(
                Reason::AppClaimed,
                format!(
                    "the app {app} belongs to the Activation {}/{}: choose another app, or delete that Activation",
                    claim.namespace, claim.name
                ),
            ));
        }
        match &observed.app {
            Seen::Foreign => Verdict::Blocked(taken(&app)),
            Seen::There(found) => {
                let slug = found.organization.as_ref().map(|org| org.slug.as_str());
                if slug.is_some_and(|slug| slug != target.organization) {
                    return Verdict::Blocked(Why::new(
                        Reason::NameTaken,
                        format!(
                            "the app {app} belongs to the organization {}, not to {}: choose another app",
                            slug.unwrap_or_default(),
                            target.organization
                        ),
                    ));
                }
                if ours {
                    return Verdict::Done;
                }
                let allowed = match target.adoption {
                    Adoption::Always => true,
                    Adoption::IfOwned => observed.claim.is_some(),
                    Adoption::Never => false,
                };
                if allowed {
                    return Verdict::Change(Change::Claim {
                        app,
                        before: observed.claim.clone(),
                        adopt: true,
                    });
                }
                Verdict::Blocked(Why::new(
                    Reason::AdoptionRefused,
                    format!(
                        "the app {app} exists already and this Activation did not create it: choose another app, or set `adoption` to Always (or IfOwned, for one that an earlier Activation of this name left behind)"
                    ),
                ))
            }
            Seen::Nothing if ours => Verdict::Change(Change::Create {
                app,
                organization: target.organization.clone(),
            }),
            Seen::Nothing => Verdict::Change(Change::Claim {
                app,
                before: observed.claim.clone(),
                adopt: false,
            }),
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        match &observed.app {
            Seen::There(app) => vec![Note::External(ExternalObject {
                kind: "App".to_owned(),
                id: app.id.clone(),
                name: target.app.clone(),
                last_observed_time: None,
            })],
            _ => Vec::new(),
        }
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        match change {
            Change::Claim { app, before, .. } => {
                claim::take(
                    &cx.kube,
                    &cx.own_namespace,
                    &app,
                    &cx.owner,
                    before.as_ref(),
                )
                .await
            }
            Change::Create { app, organization } => {
                let new = fly::NewApp {
                    name: app.clone(),
                    org_slug: organization,
                    ..fly::NewApp::default()
                };
                match cx.fly.create_app(&new).await {
                    Ok(_) => Ok(()),
                    // Our own first try, whose reply was lost, or somebody else: the next look
                    // tells, and until Fly.io shows the app there is no knowing.
                    Err(error) if is_name_taken(&error) => match look(cx, &app).await? {
                        Seen::There(_) => Ok(()),
                        Seen::Foreign => Err(Error::Blocked {
                            reason: Reason::NameTaken,
                            message: taken(&app).message,
                        }),
                        Seen::Nothing => Err(Error::fly(
                            format!(
                                "create the app {app}, whose name is in use though it cannot be seen"
                            ),
                            error,
                        )),
                    },
                    Err(source) => Err(Error::fly(format!("create the app {app}"), source)),
                }
            }
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        let app = &cx.target.app;
        let Some(claim) = claim::read(&cx.kube, &cx.own_namespace, app).await? else {
            return Ok(Removal::Gone);
        };
        if !claim.is_of(&cx.owner) {
            return Ok(Removal::Gone);
        }
        if cx.target.deletion.app == Deletion::Retain {
            claim::retain(&cx.kube, &cx.own_namespace, app, &cx.owner, &claim).await?;
            return Ok(Removal::Retained(format!("the Fly app {app}")));
        }
        if let Seen::There(_) = look(cx, app).await? {
            cx.fly
                .delete_app(app, true)
                .await
                .map_err(|source| Error::fly(format!("delete the app {app}"), source))?;
            if let Seen::There(_) = look(cx, app).await? {
                return Ok(Removal::Pending {
                    why: Why::new(Reason::Deleting, format!("the app {app} is being deleted")),
                    again: Duration::from_secs(1),
                });
            }
        }
        claim::give_back(&cx.kube, &cx.own_namespace, app, &claim).await?;
        Ok(Removal::Gone)
    }
}

/// True when Fly.io says that the name is in use.
pub fn is_name_taken(error: &fly::Error) -> bool {
    matches!(
        error.conflict(),
        Some(fly::Conflict::NameTaken { .. } | fly::Conflict::Exists)
    )
}

fn taken(app: &str) -> Why {
    Why::new(
        Reason::NameTaken,
        format!(
            "the name {app} is taken by another organization on Fly.io, where names are global: choose another `app`"
        ),
    )
}
