//! The Fly app itself: claimed, created, and in our organization. It is never renamed or moved.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    added_by_hand,
    emptying::{self, Emptying},
    ours::{Presence, presence},
};
use crate::{
    api::{Reason, policy::Deletion, status::ExternalObject},
    error::Error,
    fly,
    phase::{
        absence,
        app_lookup::{AppLookup, is_name_taken, look_up},
        app_marks,
        app_name::{self, APP, AppChange, AppObservation},
        releases::store as records,
        roster,
        wanted_secrets::store,
    },
    pipeline::{
        Cx, Note, PlannedChange, Removal, Step, StepChange, StepId, Verdict, Why, step::Result,
    },
    plan::Target,
    store::claim::{self, Claim, TakenOver, Terms},
};

/// Pause before the removal of an app goes on whose claim was made again.
const CLAIMED_AGAIN: Duration = Duration::from_millis(50);

/// Creates the app, or takes it over.
pub struct App;

/// The app, and what was added to it by hand.
#[derive(Debug)]
pub struct AppState {
    name: AppObservation,
    added: Vec<String>,
}

impl Step for App {
    type Observed = AppState;
    type Change = AppChange;

    fn id(&self) -> StepId {
        StepId::App
    }

    fn reads(&self) -> u32 {
        0
    }

    fn reads_overview(&self) -> bool {
        true
    }

    async fn observe(&self, cx: &Cx) -> Result<AppState> {
        let name = app_name::observe(cx).await?;
        let added = added_by_hand::observe(cx).await;
        Ok(AppState { name, added })
    }

    fn diff(&self, target: &Target, observed: &AppState, _now: Timestamp) -> Verdict<AppChange> {
        app_name::decide(target, &observed.name)
    }

    /// A name that is claimed for a new app is that of an app that is created.
    fn plan(&self, target: &Target, _: &AppState, change: &AppChange) -> Vec<PlannedChange> {
        match change {
            AppChange::Claim { adopt: None, .. } => vec![AppChange::creation(target)],
            change => change.planned(),
        }
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        vec![AppChange::creation(&cx.target)]
    }

    fn is_foundation(&self) -> bool {
        true
    }

    fn notes(&self, target: &Target, observed: &AppState) -> Vec<Note> {
        let app = observed.name.id_on_record(&target.app).map(|id| {
            Note::External(ExternalObject {
                kind: APP.to_owned(),
                id,
                name: target.app.clone(),
                ..ExternalObject::default()
            })
        });
        let added = observed.added.iter().cloned().map(Note::Drift);
        app.into_iter().chain(added).collect()
    }

    async fn act(&self, cx: &Cx, change: AppChange) -> Result<()> {
        match change {
            AppChange::Claim {
                app,
                before,
                made,
                taken_over,
                adopt,
            } => {
                let before = before.as_deref();
                let former = before.filter(|before| before.passes_to(&cx.owner));
                if let Some(former) = former {
                    inherit(cx, former, adopt.is_some()).await?;
                }
                let (kube, namespace) = (&cx.kube, &cx.installation.own_namespace);
                claim::take(
                    kube,
                    namespace,
                    &app,
                    &cx.owner,
                    before,
                    &Terms {
                        organization: &cx.target.organization,
                        taken: Some(cx.fly_now()),
                        made: &made,
                        taken_over: &taken_over,
                    },
                )
                .await?;
                let taken = claim::read(kube, namespace, &app).await?;
                if let Some(former) = former
                    && taken.is_some_and(|taken| taken.is_of(&cx.owner))
                {
                    records::delete_all(kube, namespace, &former.uid).await?;
                }
                Ok(())
            }
            AppChange::Reclaim { app, before, made } => {
                let terms = Terms {
                    organization: &cx.target.organization,
                    taken: Some(cx.now()),
                    made: &made,
                    taken_over: &TakenOver::default(),
                };
                let (kube, namespace) = (&cx.kube, &cx.installation.own_namespace);
                claim::take(kube, namespace, &app, &cx.owner, before.as_deref(), &terms).await
            }
            AppChange::Create { app, organization } => create(cx, app, organization).await,
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        let app = &cx.target.app;
        let Some(claim) = claim::read(&cx.kube, &cx.installation.own_namespace, app).await? else {
            return without_claim(cx).await;
        };
        if !claim.is_of(&cx.owner) {
            return Ok(Removal::Gone);
        }
        cx.facts.claimed.set(app);
        let retained = retained(&claim, &cx.target);
        match presence(cx, app).await? {
            Presence::Unclear(removal) => Ok(removal),
            Presence::Elsewhere(slug) => {
                retain(cx, &claim, &retained).await?;
                Ok(Removal::Retained(format!(
                    "the Fly app {app}, which belongs to the organization {slug} by now"
                )))
            }
            Presence::Nowhere if may_be_too_new(cx, &claim) => Ok(Removal::Pending {
                why: Why::new(
                    Reason::OutcomeUnknown,
                    format!(
                        "Fly.io does not show the app {app}, which may have been created a moment ago"
                    ),
                ),
                again: cx.installation.timing.settle / 4,
            }),
            Presence::Nowhere => release(cx, &claim, &retained).await,
            Presence::Here if cx.target.deletion.app == Deletion::Retain => {
                retain(cx, &claim, &retained).await?;
                Ok(Removal::Retained(format!("the Fly app {app}")))
            }
            Presence::Here => delete(cx, &claim, &retained).await,
        }
    }
}

/// Claims our app again before its deletion, when the claim is lost: without one nothing of it would be
/// removed or told. `false`: there is a claim, or the app is not ours by the status and its marks.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer.
pub async fn reclaim_lost(cx: &Cx) -> Result<bool> {
    let (kube, namespace) = (&cx.kube, &cx.installation.own_namespace);
    let on_record = cx.recorded.external.iter().any(|object| object.kind == APP);
    if !on_record
        || claim::read(kube, namespace, &cx.target.app)
            .await?
            .is_some()
    {
        return Ok(false);
    }
    let observed = app_name::observe(cx).await?;
    match app_name::decide(&cx.target, &observed) {
        Verdict::Change(change @ AppChange::Reclaim { .. }) => {
            App.act(cx, change).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Takes over what Golive keeps in Kubernetes for a former Activation: the records of its releases if
/// its app still exists, and the generated values. Safe to repeat; the originals of the records stay
/// until the claim is ours.
async fn inherit(cx: &Cx, former: &Claim, app_exists: bool) -> Result<()> {
    if app_exists {
        records::inherit(cx, &former.uid).await?;
    }
    if former.name != cx.owner.name {
        store(cx).inherit(&former.name).await?;
    }
    Ok(())
}

/// Creates the app.
async fn create(cx: &Cx, app: String, organization: String) -> Result<()> {
    let new = fly::NewApp {
        name: app.clone(),
        org_slug: organization,
        ..fly::NewApp::default()
    };
    let created = cx.fly.create_app(&new).await;
    app_name::record_create(cx);
    match created {
        Ok(_) => {
            roster::note_app_created(cx);
            Ok(())
        }
        // Either our own first request, whose reply was lost, or somebody else's app: the next
        // observation shows which. Until Fly.io shows the app, neither is known.
        Err(error) if is_name_taken(&error) => match look_up(cx, &app).await? {
            AppLookup::Found(_) => Ok(()),
            AppLookup::Forbidden => {
                let taken = app_name::taken(&app);
                Err(Error::Blocked {
                    reason: taken.reason,
                    message: taken.message,
                    action: taken.action,
                })
            }
            AppLookup::NotFound => Err(Error::fly(
                format!("create the app {app}, whose name is in use though it cannot be seen"),
                error,
            )),
        },
        Err(source) => Err(Error::fly(format!("create the app {app}"), source)),
    }
}

/// The removal of an app whose claim is lost, or was given back when the app was gone. One that is on record as ours, or
/// whose machines carry our marks, is claimed again before anything is deleted: otherwise it would go on serving, and
/// nobody would know of it.
async fn without_claim(cx: &Cx) -> Result<Removal> {
    let app = &cx.target.app;
    let mut recorded = cx.recorded.external.iter();
    if !recorded.any(|object| object.kind == APP && object.name == *app) {
        return Ok(Removal::Gone);
    }
    match presence(cx, app).await? {
        Presence::Unclear(removal) => return Ok(removal),
        Presence::Nowhere | Presence::Elsewhere(_) => return Ok(Removal::Gone),
        Presence::Here => {}
    }
    if !reclaim_lost(cx).await? {
        return Ok(Removal::Gone);
    }
    Ok(Removal::Pending {
        why: Why::new(
            Reason::Deleting,
            format!(
                "the claim on the app {app} was lost, and is made again before the app is deleted"
            ),
        ),
        again: CLAIMED_AGAIN,
    })
}

/// Deletes the app, then releases its name. An app with volumes that stay is kept with them.
async fn delete(cx: &Cx, claim: &Claim, retained: &BTreeSet<String>) -> Result<Removal> {
    let app = &cx.target.app;
    let marks = app_marks::read(cx, app, &claim.taken_over.former).await?;
    if marks.of_another {
        return yield_to_owner(cx, claim).await;
    }
    let kept = match emptying::advance(cx, claim).await? {
        Emptying::Whole => Vec::new(),
        Emptying::Pending(removal) => return Ok(removal),
        Emptying::Kept(volumes) => volumes,
    };
    if !kept.is_empty() {
        retain(cx, claim, retained).await?;
        return Ok(Removal::Retained(emptying::kept(app, &kept)));
    }
    cx.fly
        .delete_app(app, true)
        .await
        .map_err(|source| Error::fly(format!("delete the app {app}"), source))?;
    absence::deletion_accepted(cx, APP, app);
    match presence(cx, app).await? {
        Presence::Here => Ok(Removal::Pending {
            why: Why::new(Reason::Deleting, format!("the app {app} is being deleted")),
            again: Duration::from_secs(1),
        }),
        Presence::Unclear(removal) => Ok(removal),
        Presence::Nowhere | Presence::Elsewhere(_) => release(cx, claim, retained).await,
    }
}

/// Gives back the claim on an app that carries the marks of another Activation, which exists: the app
/// is not deleted, and its owner claims it again.
async fn yield_to_owner(cx: &Cx, claim: &Claim) -> Result<Removal> {
    let app = &cx.target.app;
    let (kube, namespace) = (&cx.kube, &cx.installation.own_namespace);
    records::delete_all(kube, namespace, &cx.owner.uid).await?;
    claim::give_back(kube, namespace, app, claim).await?;
    Ok(Removal::Retained(format!(
        "the Fly app {app}, which carries the marks of another Activation"
    )))
}

/// Deletes the claim of an app that no longer exists. While a resource of the app is retained the
/// claim stays, marked as retained, so that the next Activation of this name knows whose it is.
async fn release(cx: &Cx, claim: &Claim, retained: &BTreeSet<String>) -> Result<Removal> {
    let app = &cx.target.app;
    let (kube, namespace) = (&cx.kube, &cx.installation.own_namespace);
    records::delete_all(kube, namespace, &cx.owner.uid).await?;
    let mut retained = retained.clone();
    // They are gone with the app.
    retained.retain(|kind| !claim::is_volume(kind));
    if retained.is_empty() {
        claim::give_back(kube, namespace, app, claim).await?;
    } else {
        retain(cx, claim, &retained).await?;
    }
    Ok(Removal::Gone)
}

/// Marks the claim as retained.
async fn retain(cx: &Cx, claim: &Claim, retained: &BTreeSet<String>) -> Result<()> {
    let app = &cx.target.app;
    claim::retain(
        &cx.kube,
        &cx.installation.own_namespace,
        app,
        &cx.owner,
        claim,
        retained,
    )
    .await
}

/// Kinds of what was created for the app and stays when the app is deleted.
fn retained(claim: &Claim, target: &Target) -> BTreeSet<String> {
    let stays = |kind: &str| match kind {
        claim::DATABASE => target.deletion.database == Deletion::Retain,
        claim::REDIS => target.deletion.redis == Deletion::Retain,
        _ => true,
    };
    let made = claim.made.iter();
    made.filter(|kind| stays(kind)).cloned().collect()
}

/// Whether the app may exist although Fly.io does not show it. A new app is shown everywhere within
/// a minute, six times as long as other changes take. An app that was observed before is shown.
fn may_be_too_new(cx: &Cx, claim: &Claim) -> bool {
    let observed = cx.recorded.external.iter().any(|object| object.kind == APP);
    let shown =
        SignedDuration::try_from(cx.installation.timing.settle * 6).unwrap_or(SignedDuration::MAX);
    !observed
        && claim
            .taken
            .is_some_and(|taken| cx.fly_now().duration_since(taken) < shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::testing::target, store::claim::tests::claim};

    #[test]
    fn retained_data_keeps_the_claim() {
        let mut ours = claim("uid-1", "cabanas", "shop", false);
        ours.made
            .extend(["database".to_owned(), "redis".to_owned()]);
        let names = |spec: &str| {
            retained(&ours, &target(spec))
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["database", "redis"]);
        assert_eq!(names("deletionPolicy: {database: Delete}"), ["redis"]);
        let all = "deletionPolicy: {database: Delete, redis: Delete}";
        assert!(names(all).is_empty());
    }
}
