//! The Fly app itself: claimed, there, and in our organization. Never renamed, never moved.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{
        Reason,
        policy::{Adoption, Deletion},
        status::ExternalObject,
    },
    error::Error,
    fly,
    pipeline::{Cx, Note, Owner, Removal, Step, StepChange, StepId, Verdict, Why, step::Result},
    plan::Target,
    store::claim::{self, Claim, Terms},
};

/// The app.
pub struct App;

/// What an app is called in `status`.
const APP: &str = "App";

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
    /// Kinds of what is asked for and does not exist under our names: it will be ours. Looked at
    /// only while the app is not claimed.
    free: BTreeSet<String>,
}

/// What to do about the app.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Claim the name for this Activation.
    Claim {
        /// The name.
        app: String,
        /// Whose it was.
        before: Option<Box<Claim>>,
        /// The app exists already.
        adopt: bool,
        /// Kinds of what will be ours beside the app.
        made: BTreeSet<String>,
    },
    /// Create the app at Fly.io.
    Create {
        /// Its name.
        app: String,
        /// Slug of the organization.
        organization: String,
    },
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

impl StepChange for Change {}

/// How long a name that was seen free counts as free. One that is taken meanwhile is refused when
/// the app is created, which is when it matters; and a read of an app is limited to one a second
/// (fly-api.md B.1), of which a first pass would need four.
const FREE_FOR: Duration = Duration::from_millis(500);

/// How long an app that was seen counts as there: the check on its name looks in the same pass.
const THERE_FOR: Duration = Duration::from_secs(1);

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
        StepId::App
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let app = &cx.target.app;
        let free_before = cx.facts.app_free.get();
        let free_before = free_before.filter(|known| known.0.elapsed() < FREE_FOR);
        let there_before = cx.facts.app_there.get();
        let there_before = there_before.filter(|known| known.0.elapsed() < THERE_FOR);
        let claim = claim::read(&cx.kube, &cx.installation.own_namespace, app);
        let (seen, claim, fresh) = match (&free_before, &there_before) {
            (Some(_), _) => (Seen::Nothing, claim.await?, false),
            (None, Some(known)) => {
                // Of an app that is not ours the claim may go together with the app.
                let claim = claim.await?;
                match &claim {
                    Some(found) if found.is_of(&cx.owner) => {
                        (Seen::There(Box::new(known.1.clone())), claim, false)
                    }
                    _ => (look(cx, app).await?, claim, true),
                }
            }
            (None, None) => {
                let (seen, claim) = futures::try_join!(look(cx, app), claim)?;
                (seen, claim, true)
            }
        };
        match &seen {
            Seen::There(app) => {
                if fresh {
                    cx.facts.app_there.set((Instant::now(), (**app).clone()));
                }
                cx.facts.app.set((**app).clone());
            }
            _ => cx.facts.app.clear(),
        }
        let ours = claim.as_ref().filter(|claim| claim.is_of(&cx.owner));
        match ours {
            Some(claim) => cx.facts.claim.set(claim.clone()),
            None => cx.facts.claim.clear(),
        }
        let free = match (ours, &free_before) {
            (Some(_), _) => BTreeSet::new(),
            (None, Some(known)) => known.1.clone(),
            (None, None) => free(cx).await,
        };
        if matches!(seen, Seen::Nothing) && free_before.is_none() {
            cx.facts.app_free.set((Instant::now(), free.clone()));
        }
        Ok(Observed {
            app: seen,
            claim,
            owner: cx.owner.clone(),
            free,
        })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        let app = target.app.clone();
        let ours = observed
            .claim
            .as_ref()
            .is_some_and(|claim| claim.is_of(&observed.owner));
        let namesake = observed
            .claim
            .as_ref()
            .is_some_and(|claim| claim.left_by_namesake(&observed.owner));
        if let Some(claim) = &observed.claim
            && !ours
            && !namesake
            && !claim.retained
        {
            return Verdict::Blocked(Why::new(
                Reason::AppClaimed,
                format!(
                    "the app {app} belongs to the Activation {}/{}: choose another app, or delete that Activation (if it is gone already, delete the ConfigMap {} in the namespace of the operator)",
                    claim.namespace,
                    claim.name,
                    claim::name(&app)
                ),
            ));
        }
        let made = || {
            // What bears the same name in another organization is somebody's else.
            let before = observed.claim.as_ref().filter(|_| namesake);
            let before = before.filter(|claim| claim.organization == target.organization);
            let kept = before.map(|claim| claim.made.clone()).unwrap_or_default();
            &kept | &observed.free
        };
        match &observed.app {
            Seen::Foreign => Verdict::Blocked(taken(&app)),
            Seen::There(found) => {
                if let Some(slug) = elsewhere(found, target) {
                    return Verdict::Blocked(Why::new(
                        Reason::NameTaken,
                        format!(
                            "the app {app} belongs to the organization {slug}, not to {}: choose another app",
                            target.organization
                        ),
                    ));
                }
                if ours {
                    return Verdict::Done;
                }
                let allowed = match target.adoption {
                    Adoption::Always => true,
                    Adoption::IfOwned => namesake,
                    Adoption::Never => false,
                };
                if allowed {
                    return Verdict::Change(Change::Claim {
                        app,
                        before: observed.claim.clone().map(Box::new),
                        adopt: true,
                        made: made(),
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
                before: observed.claim.clone().map(Box::new),
                adopt: false,
                made: made(),
            }),
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        match &observed.app {
            Seen::There(app) => vec![Note::External(ExternalObject {
                kind: APP.to_owned(),
                id: app.id.clone(),
                name: target.app.clone(),
                last_observed_time: None,
            })],
            _ => Vec::new(),
        }
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        match change {
            Change::Claim {
                app, before, made, ..
            } => {
                claim::take(
                    &cx.kube,
                    &cx.installation.own_namespace,
                    &app,
                    &cx.owner,
                    before.as_deref(),
                    &Terms {
                        organization: &cx.target.organization,
                        taken: Some(cx.now()),
                        made: &made,
                    },
                )
                .await
            }
            Change::Create { app, organization } => {
                let new = fly::NewApp {
                    name: app.clone(),
                    org_slug: organization,
                    ..fly::NewApp::default()
                };
                let created = cx.fly.create_app(&new).await;
                cx.facts.app_free.clear();
                match created {
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
        let Some(claim) = claim::read(&cx.kube, &cx.installation.own_namespace, app).await? else {
            return Ok(Removal::Gone);
        };
        if !claim.is_of(&cx.owner) {
            return Ok(Removal::Gone);
        }
        let kept = kept(&claim, &cx.target);
        let there = match presence(cx, app).await? {
            Presence::Elsewhere(slug) => {
                leave(cx, &claim, &kept).await?;
                return Ok(Removal::Retained(format!(
                    "the Fly app {app}, which belongs to the organization {slug} by now"
                )));
            }
            Presence::Nowhere if may_be_too_new(cx, &claim) => {
                return Ok(Removal::Pending {
                    why: Why::new(
                        Reason::OutcomeUnknown,
                        format!(
                            "Fly.io does not show the app {app}, which may have been made a moment ago"
                        ),
                    ),
                    again: cx.installation.timing.settle / 4,
                });
            }
            Presence::Nowhere => false,
            Presence::Here => true,
        };
        if there && cx.target.deletion.app == Deletion::Retain {
            leave(cx, &claim, &kept).await?;
            return Ok(Removal::Retained(format!("the Fly app {app}")));
        }
        if there {
            cx.fly
                .delete_app(app, true)
                .await
                .map_err(|source| Error::fly(format!("delete the app {app}"), source))?;
            if is_there(cx, app).await? {
                return Ok(Removal::Pending {
                    why: Why::new(Reason::Deleting, format!("the app {app} is being deleted")),
                    again: Duration::from_secs(1),
                });
            }
        }
        if kept.is_empty() {
            claim::give_back(&cx.kube, &cx.installation.own_namespace, app, &claim).await?;
        } else {
            // So that the next Activation of this name still knows whose the data is.
            leave(cx, &claim, &kept).await?;
        }
        Ok(Removal::Gone)
    }
}

async fn leave(cx: &Cx, claim: &Claim, kept: &BTreeSet<String>) -> Result<()> {
    let app = &cx.target.app;
    claim::retain(
        &cx.kube,
        &cx.installation.own_namespace,
        app,
        &cx.owner,
        claim,
        kept,
    )
    .await
}

/// What was made for the app and stays after it.
fn kept(claim: &Claim, target: &Target) -> BTreeSet<String> {
    let stays = |kind: &str| match kind {
        claim::DATABASE => target.deletion.database == Deletion::Retain,
        claim::REDIS => target.deletion.redis == Deletion::Retain,
        _ => true,
    };
    let made = claim.made.iter();
    made.filter(|kind| stays(kind)).cloned().collect()
}

/// The organization of an app that is not in the one that the spec names: then it is not ours, or not
/// any more.
pub fn elsewhere<'a>(found: &'a fly::App, target: &Target) -> Option<&'a str> {
    let slug = found.organization.as_ref()?.slug.as_str();
    (slug != target.organization).then_some(slug)
}

/// A new app is not shown everywhere for up to a minute (fly-api.md B.2), six times as long as other
/// things are given to settle. One that was seen is shown.
fn may_be_too_new(cx: &Cx, claim: &Claim) -> bool {
    let seen = cx.recorded.external.iter().any(|object| object.kind == APP);
    let shown =
        SignedDuration::try_from(cx.installation.timing.settle * 6).unwrap_or(SignedDuration::MAX);
    !seen
        && claim
            .taken
            .is_some_and(|taken| cx.now().duration_since(taken) < shown)
}

/// Where an app of ours is.
#[derive(Debug, PartialEq, Eq)]
pub enum Presence {
    /// In our organization.
    Here,
    /// In this other one.
    Elsewhere(String),
    /// There is none that we could mean.
    Nowhere,
}

/// Whether our app still exists.
///
/// # Errors
/// When Fly.io does not say.
pub async fn is_there(cx: &Cx, app: &str) -> Result<bool> {
    Ok(presence(cx, app).await? == Presence::Here)
}

/// Where our app is. A name that the token may not see is another organization's
/// only if ours has no such app; otherwise the token has lost its rights, and nothing is known.
///
/// # Errors
/// When Fly.io does not say.
pub async fn presence(cx: &Cx, app: &str) -> Result<Presence> {
    match look(cx, app).await? {
        Seen::There(found) => Ok(match elsewhere(&found, &cx.target) {
            Some(slug) => Presence::Elsewhere(slug.to_owned()),
            None => Presence::Here,
        }),
        Seen::Nothing => Ok(Presence::Nowhere),
        Seen::Foreign => {
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

/// Kinds of what is asked for and does not exist yet. What cannot be looked at is not among them:
/// then it is noted when it is made.
async fn free(cx: &Cx) -> BTreeSet<String> {
    let provision = &cx.target.provision;
    let database = async {
        let asked = provision.postgres.as_ref();
        if asked.is_none_or(|postgres| postgres.managed.is_none()) {
            return false;
        }
        matches!(super::postgres::find(cx).await, Ok(None))
    };
    let redis = async {
        let asked = provision.redis.as_ref();
        if asked.is_none_or(|redis| redis.upstash.is_none()) {
            return false;
        }
        let name = super::redis::name(&cx.target.app);
        matches!(cx.fly.redis(&name).await, Ok(None))
    };
    let (database, redis) = futures::join!(database, redis);
    [(claim::DATABASE, database), (claim::REDIS, redis)]
        .into_iter()
        .filter(|(_, free)| *free)
        .map(|(kind, _)| kind.to_owned())
        .collect()
}

/// Notes before a create that what is going to be made is ours. The caller has just observed that
/// it does not exist.
///
/// # Errors
/// When the claim cannot be written.
pub async fn note_made(cx: &Cx, kind: &str) -> Result<()> {
    let Some(claim) = cx.facts.claim.get() else {
        return Err(Error::NotKnown("the claim on the app"));
    };
    if claim.made.contains(kind) {
        return Ok(());
    }
    claim::note_made(
        &cx.kube,
        &cx.installation.own_namespace,
        &cx.target.app,
        &claim,
        kind,
    )
    .await?;
    cx.facts.claim.change(|claim| {
        claim.made.insert(kind.to_owned());
    });
    Ok(())
}

/// Whether the claim says that this was made for us.
///
/// # Errors
/// When the claim cannot be read.
pub async fn was_made(cx: &Cx, kind: &str) -> Result<bool> {
    let claim = claim::read(&cx.kube, &cx.installation.own_namespace, &cx.target.app).await?;
    Ok(claim.is_some_and(|claim| claim.is_of(&cx.owner) && claim.made.contains(kind)))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{plan::testing::target, store::claim::tests::claim};

    fn there(organization: &str) -> Seen {
        let app = serde_json::json!({
            "id": "shop", "name": "shop", "organization": {"slug": organization},
        });
        Seen::There(Box::new(serde_json::from_value(app).unwrap()))
    }

    fn next(adoption: &str, app: Seen, claim: Option<Claim>) -> Verdict<Change> {
        let owner = Owner {
            namespace: "cabanas".into(),
            name: "shop".into(),
            uid: "uid-1".into(),
            generation: 1,
        };
        let free = BTreeSet::from([claim::DATABASE.to_owned()]);
        let observed = Observed {
            app,
            claim,
            owner,
            free,
        };
        let target = target(&format!("adoption: {adoption}"));
        App.diff(&target, &observed, Timestamp::UNIX_EPOCH)
    }

    fn blocked(verdict: Verdict<Change>) -> Reason {
        match verdict {
            Verdict::Blocked(why) => why.reason,
            other => unreachable!("{other:?}"),
        }
    }

    fn adopts(verdict: &Verdict<Change>) -> bool {
        matches!(verdict, Verdict::Change(Change::Claim { adopt: true, .. }))
    }

    #[test]
    fn a_name_is_claimed_before_the_app_is_created() {
        let ours = claim("uid-1", "cabanas", "shop", false);
        let first = next("Never", Seen::Nothing, None);
        assert!(matches!(
            &first,
            Verdict::Change(Change::Claim { adopt: false, before: None, made, .. }) if made.contains("database")
        ));
        let second = next("Never", Seen::Nothing, Some(ours.clone()));
        assert!(matches!(second, Verdict::Change(Change::Create { .. })));
        assert_eq!(next("Never", there("cabanas"), Some(ours)), Verdict::Done);
    }

    #[test]
    fn an_app_of_somebody_else_is_left_alone() {
        let theirs = claim("uid-9", "other", "shop", false);
        for seen in [Seen::Nothing, there("cabanas")] {
            assert_eq!(
                blocked(next("Always", seen, Some(theirs.clone()))),
                Reason::AppClaimed
            );
        }
        assert_eq!(
            blocked(next("Always", Seen::Foreign, None)),
            Reason::NameTaken
        );
        assert_eq!(
            blocked(next("Always", there("acme"), None)),
            Reason::NameTaken
        );
    }

    #[test]
    fn an_existing_app_is_taken_over_as_far_as_adoption_allows() {
        let namesake = claim("uid-0", "cabanas", "shop", true);
        let stranger = claim("uid-0", "other", "shop", true);
        let refused = Reason::AdoptionRefused;
        let look = |adoption: &str, claim: Option<&Claim>| {
            next(adoption, there("cabanas"), claim.cloned())
        };
        assert_eq!(blocked(look("Never", Some(&namesake))), refused);
        assert_eq!(blocked(look("IfOwned", None)), refused);
        assert_eq!(blocked(look("IfOwned", Some(&stranger))), refused);
        assert!(adopts(&look("IfOwned", Some(&namesake))));
        assert!(adopts(&look("Always", None)));
        assert!(adopts(&look("Always", Some(&stranger))));
    }

    #[test]
    fn what_an_earlier_activation_of_this_name_made_stays_known_and_anothers_does_not() {
        for (namespace, known) in [("cabanas", true), ("other", false)] {
            let mut left = claim("uid-0", namespace, "shop", true);
            left.made.insert("redis".to_owned());
            let Verdict::Change(Change::Claim { made, .. }) =
                next("Never", Seen::Nothing, Some(left))
            else {
                unreachable!("a claim")
            };
            assert_eq!(made.contains("redis"), known);
            assert!(made.contains("database"));
        }
    }

    #[test]
    fn data_that_stays_keeps_the_claim() {
        let mut ours = claim("uid-1", "cabanas", "shop", false);
        ours.made
            .extend(["database".to_owned(), "redis".to_owned()]);
        let names = |spec: &str| kept(&ours, &target(spec)).into_iter().collect::<Vec<_>>();
        assert_eq!(names(""), ["database", "redis"]);
        assert_eq!(names("deletionPolicy: {database: Delete}"), ["redis"]);
        let all = "deletionPolicy: {database: Delete, redis: Delete}";
        assert!(names(all).is_empty());
    }
}
