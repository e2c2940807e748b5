//! Whether this Activation may use its app's name: what Fly.io and the claim say, and what follows.
//!
//! The check `AppNameAvailable` and the step `App` share this observation and this decision, so
//! that they never disagree.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use super::{
    absence::{self, Doubt},
    app_lookup::{AppLookup, Holder, NameStatus, look_up, other_organization},
    app_marks::{self, AppMarks},
    app_overview, app_secrets, clusters, names, roster,
};
use crate::{
    api::{Reason, policy::Adoption},
    error::Error,
    fly,
    pipeline::{
        ChangeKind, ChangeVerb, Cx, Owner, PlannedChange, StepChange, Verdict, Wake, Why,
        step::Result,
    },
    plan::Target,
    store::claim::{self, Claim, TakenOver},
};

/// How long a name that was observed to be free counts as free. Fly.io takes one read of an app a
/// second (fly.io/docs/machines/api/working-with-machines-api/, "Rate limits"), and a first pass
/// would need four. A name that is taken in the meantime is refused when the app is created.
const FREE_FOR: Duration = Duration::from_millis(500);

/// Kind of an app in `status.external[]`.
pub const APP: &str = crate::api::status::ExternalKind::App.as_str();

/// How long an observed app counts as existing: the check on its name reads it in the same pass.
const FOUND_FOR: Duration = Duration::from_secs(1);

/// The app and its claim.
#[derive(Debug)]
pub struct AppObservation {
    /// What Fly.io says.
    pub lookup: AppLookup,
    /// Who holds the name.
    pub claim: Option<Claim>,
    /// This Activation.
    pub owner: Owner,
    /// Kinds of the requested resources that do not exist under our names yet, so that they will be
    /// ours. Observed only while the app is not claimed.
    pub absent: BTreeSet<String>,
    /// What is in an app that may be taken over.
    pub contents: Option<Contents>,
    /// Whose marks an app carries that is not claimed by us.
    pub marks: AppMarks,
    /// Pause before the second look at an app that carries no marks: a list may be empty without a
    /// reason.
    pub look_again: Option<Duration>,
    /// The ID of the app that our status has on record as ours. Nobody but Golive writes it.
    pub recorded: Option<String>,
    /// The app is on record as ours and this look does not show it so, which is no proof: pause until
    /// the next look.
    pub doubt: Option<Duration>,
}

impl AppObservation {
    /// The ID under which our status lists the app: of one that is claimed by us, or was until the
    /// claim was lost. An app that is merely looked at is on no record, or the record would prove that
    /// it is ours.
    pub fn id_on_record(&self, name: &str) -> Option<String> {
        let claim = self.claim.as_ref();
        let ours = claim.is_some_and(|claim| claim.is_of(&self.owner));
        match &self.lookup {
            AppLookup::Found(app) => (ours || self.is_recorded()).then(|| app.id.clone()),
            // It counts as it was until a second look.
            AppLookup::NotFound | AppLookup::Forbidden => {
                let before = self.recorded.clone();
                self.doubt
                    .map(|_| before.unwrap_or_else(|| name.to_owned()))
            }
        }
    }

    /// Whether the app that was found is the one on record.
    fn is_recorded(&self) -> bool {
        match &self.lookup {
            AppLookup::Found(app) => self.recorded.as_ref() == Some(&app.id),
            AppLookup::NotFound | AppLookup::Forbidden => false,
        }
    }
}

/// What is in an app that exists and is not ours yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its machines, each with name and id.
    pub machines: Vec<String>,
    /// Its volumes, each with name and id.
    pub volumes: Vec<String>,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |list: &[String], one: &str| match list.len() {
            0 => format!("no {one}s"),
            1 => format!("the {one} {}", list[0]),
            2..=3 => format!("the {one}s {}", list.join(", ")),
            many => format!("{many} {one}s"),
        };
        write!(f, "{}", count(&self.machines, "machine"))?;
        write!(f, " and {}", count(&self.volumes, "volume"))?;
        f.write_str("; they stay, and a machine that differs from the spec is updated in place")
    }
}

/// What to do about the app.
#[derive(Debug, PartialEq)]
pub enum AppChange {
    /// Claim the name for this Activation.
    Claim {
        /// The name.
        app: String,
        /// The claim that is replaced.
        before: Option<Box<Claim>>,
        /// What is in the app, if it exists already.
        adopt: Option<Contents>,
        /// What is taken over with it.
        taken_over: TakenOver,
        /// Kinds of what will be ours beside the app.
        made: BTreeSet<String>,
    },
    /// Claim our app again, whose claim is lost.
    Reclaim {
        /// Its name.
        app: String,
        /// The claim that is replaced: of an Activation that is gone.
        before: Option<Box<Claim>>,
        /// Kinds of what does not exist yet beside the app, and will be ours.
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

impl fmt::Display for AppChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim {
                app,
                adopt: Some(contents),
                ..
            } => write!(f, "take over the Fly app {app} with {contents}"),
            Self::Claim { app, .. } => write!(f, "claim the name {app} for a new Fly app"),
            Self::Reclaim { app, .. } => {
                write!(
                    f,
                    "claim the Fly app {app} again, because the claim was lost"
                )
            }
            Self::Create { app, organization } => {
                write!(
                    f,
                    "create the Fly app {app} in the organization {organization}"
                )
            }
        }
    }
}

impl AppChange {
    /// The creation of the app, as data.
    pub fn creation(target: &Target) -> PlannedChange {
        let create = PlannedChange::new(ChangeVerb::Create, APP, &target.app);
        create.set("organization", &target.organization)
    }
}

impl StepChange for AppChange {
    fn planned(&self) -> Vec<PlannedChange> {
        let claim = |app: &str| PlannedChange::new(ChangeVerb::Claim, APP, app);
        vec![match self {
            Self::Claim {
                app,
                adopt: Some(contents),
                ..
            } => {
                let stay = |all: &[String]| match all.is_empty() {
                    true => "none".to_owned(),
                    false => format!("{}, which stay", all.join(", ")),
                };
                let claim = claim(app).set("machines", stay(&contents.machines));
                claim.set("volumes", stay(&contents.volumes))
            }
            Self::Claim { app, .. } => claim(app),
            Self::Reclaim { app, .. } => claim(app).set("again", "the claim was lost"),
            Self::Create { app, organization } => {
                let create = PlannedChange::new(ChangeVerb::Create, APP, app);
                create.set("organization", organization)
            }
        }]
    }

    fn kind(&self) -> ChangeKind {
        match self {
            Self::Reclaim { .. } => ChangeKind::Housekeeping,
            Self::Claim { .. } | Self::Create { .. } => ChangeKind::Ordinary,
        }
    }
}

/// Fact: the app, and when it was read.
#[derive(Clone, Debug)]
pub struct FoundApp {
    /// The app.
    pub app: fly::App,
    at: Instant,
}

/// Fact: since when the app was observed without any marks.
#[derive(Debug)]
struct Unmarked(Instant);

/// Fact: our claim on the app, as it was read last.
#[derive(Clone, Debug)]
pub struct OwnClaim(pub Claim);

/// Fact: the name was free at this time, and these kinds of resources were absent.
#[derive(Clone, Debug)]
struct NameFree {
    at: Instant,
    absent: BTreeSet<String>,
}

/// Journal: Fly.io's numeric id of the app. It is another one when the app was created anew.
#[derive(Debug)]
struct AppIdentity(u64);

/// Journal: when the request to create the app was sent.
#[derive(Debug)]
struct CreateSent(Instant);

/// Records that the request to create the app was sent: the name no longer counts as free.
pub fn record_create(cx: &Cx) {
    cx.journal.set(CreateSent(Instant::now()));
    forget_former_app(cx);
}

/// Forgets what this process remembers of an app of this name that no longer exists.
fn forget_former_app(cx: &Cx) {
    app_secrets::forget(cx);
}

/// Notes which app has the name. An app that was created anew counts its secrets from the start.
fn note_identity(cx: &Cx, app: &fly::App) {
    let Some(id) = app.internal_numeric_id else {
        return;
    };
    let before = cx.journal.get::<AppIdentity>();
    if before.as_ref().is_some_and(|before| before.0 != id) {
        forget_former_app(cx);
    }
    if before.is_none_or(|before| before.0 != id) {
        cx.journal.set(AppIdentity(id));
    }
}

/// Kinds of absent resources, if the name was observed to be free a moment ago.
fn recently_free(cx: &Cx) -> Option<BTreeSet<String>> {
    let free = cx.facts.get::<NameFree>()?;
    let sent = cx.journal.get::<CreateSent>();
    let outdated = sent.is_some_and(|sent| sent.0 >= free.at);
    (!outdated && free.at.elapsed() < FREE_FOR).then(|| free.absent.clone())
}

/// Reads the app and its claim.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer.
pub async fn observe(cx: &Cx) -> Result<AppObservation> {
    let free_before = recently_free(cx);
    let (lookup, claim) = match &free_before {
        Some(_) => (AppLookup::NotFound, read_claim(cx).await?),
        None => read_both(cx).await?,
    };
    let ours = claim.as_ref().filter(|claim| claim.is_of(&cx.owner));
    let doubt = ours.and_then(|_| doubt(cx, &lookup));
    if !matches!(lookup, AppLookup::Found(_)) && doubt.is_none() {
        cx.facts.clear::<FoundApp>();
    }
    match ours {
        Some(claim) => {
            cx.facts.set(OwnClaim(claim.clone()));
            cx.facts.claimed.set(&cx.target.app);
        }
        None => {
            cx.facts.clear::<OwnClaim>();
            cx.facts.claimed.clear();
        }
    }
    if ours.is_some() && matches!(lookup, AppLookup::NotFound) && doubt.is_none() {
        roster::note_app_gone(cx);
    }
    let is_new = free_before.is_none();
    let absent = match (ours, free_before) {
        (Some(_), _) => BTreeSet::new(),
        (None, Some(absent)) => absent,
        (None, None) if is_of_another(claim.as_ref(), &cx.owner) => BTreeSet::new(),
        (None, None) => absent_resources(cx).await,
    };
    if matches!(lookup, AppLookup::NotFound) && is_new && doubt.is_none() {
        cx.facts.set(NameFree {
            at: Instant::now(),
            absent: absent.clone(),
        });
    }
    let contents = match &lookup {
        AppLookup::Found(app)
            if ours.is_none()
                && cx.target.adoption != Adoption::Never
                && other_organization(app, &cx.target).is_none() =>
        {
            Some(contents(cx).await?)
        }
        _ => None,
    };
    let marks = match &lookup {
        AppLookup::Found(app)
            if ours.is_none() && other_organization(app, &cx.target).is_none() =>
        {
            app_marks::read(cx, &cx.target.app, &BTreeSet::new()).await?
        }
        _ => AppMarks::default(),
    };
    let mut recorded = cx.recorded.external.iter();
    let recorded = recorded.find(|object| object.kind == APP);
    let recorded = recorded.map(|object| object.id.clone());
    let unmarked = contents.is_some() && claim.is_none() && !marks.any;
    Ok(AppObservation {
        lookup,
        claim,
        owner: cx.owner.clone(),
        absent,
        contents,
        look_again: look_again(cx, unmarked),
        marks,
        recorded,
        doubt,
    })
}

/// The pause before the second look at an app that carries no marks.
fn look_again(cx: &Cx, unmarked: bool) -> Option<Duration> {
    if !unmarked {
        cx.facts.clear::<Unmarked>();
        return None;
    }
    let known = cx.facts.get::<Unmarked>();
    let since = known.map_or_else(Instant::now, |known| known.0);
    cx.facts.set(Unmarked(since));
    let settle = cx.installation.timing.settle;
    let left = settle.checked_sub(since.elapsed());
    left.filter(|left| !left.is_zero())
}

/// Whether the app is on record as ours and one look says otherwise: the pause until the next look.
fn doubt(cx: &Cx, lookup: &AppLookup) -> Option<Duration> {
    let app = cx.target.app.as_str();
    let doubt = match lookup {
        AppLookup::Found(found) if other_organization(found, &cx.target).is_none() => {
            absence::cleared(cx, Doubt::Gone, APP, app);
            absence::cleared(cx, Doubt::NotOurs, APP, app);
            return None;
        }
        AppLookup::NotFound => Doubt::Gone,
        AppLookup::Found(_) | AppLookup::Forbidden => Doubt::NotOurs,
    };
    let mut recorded = cx.recorded.external.iter();
    let on_record =
        cx.journal.get::<AppIdentity>().is_some() || recorded.any(|object| object.kind == APP);
    on_record.then(|| absence::seen(cx, doubt, APP, app))?
}

/// What is in an app that may be taken over.
async fn contents(cx: &Cx) -> Result<Contents> {
    let app = &cx.target.app;
    let read = futures::try_join!(cx.fly.machines(app, &[]), cx.fly.volumes(app));
    let (machines, volumes) =
        read.map_err(|source| Error::fly("read what is in the app that is taken over", source))?;
    let machines = machines.iter().filter(|machine| !machine.state.is_over());
    let volumes = volumes.iter().filter(|volume| !volume.state.is_over());
    Ok(Contents {
        machines: machines.map(|m| format!("{} ({})", m.name, m.id)).collect(),
        volumes: volumes.map(|v| format!("{} ({})", v.name, v.id)).collect(),
    })
}

async fn read_claim(cx: &Cx) -> Result<Option<Claim>> {
    claim::read(&cx.kube, &cx.installation.own_namespace, &cx.target.app).await
}

/// Reads the app, unless it was read a moment ago and is ours, and its claim.
async fn read_both(cx: &Cx) -> Result<(AppLookup, Option<Claim>)> {
    let known = cx.facts.get::<FoundApp>();
    let Some(known) = known.filter(|known| known.at.elapsed() < FOUND_FOR) else {
        let claim = read_claim(cx).await?;
        if is_of_another(claim.as_ref(), &cx.owner) {
            // Whatever Fly.io says, the name is not to be had, and the app's owner needs its calls.
            return Ok((AppLookup::Forbidden, claim));
        }
        return Ok((read_app(cx).await?, claim));
    };
    // An app that is not ours may be deleted together with its claim.
    let claim = read_claim(cx).await?;
    if is_of_another(claim.as_ref(), &cx.owner) {
        return Ok((AppLookup::Forbidden, claim));
    }
    if claim.as_ref().is_some_and(|claim| claim.is_of(&cx.owner)) {
        return Ok((AppLookup::Found(Box::new(known.app.clone())), claim));
    }
    Ok((read_app(cx).await?, claim))
}

/// Whether another Activation holds the app, so that this one has nothing to ask Fly.io about it.
fn is_of_another(claim: Option<&Claim>, owner: &Owner) -> bool {
    let status = NameStatus::of(&AppLookup::NotFound, claim, owner);
    matches!(status, NameStatus::ClaimedByAnother(_))
}

async fn read_app(cx: &Cx) -> Result<AppLookup> {
    let lookup = app_overview::read(cx, look_up(cx, &cx.target.app)).await?;
    if let AppLookup::Found(app) = &lookup {
        note_identity(cx, app);
        cx.facts.set(FoundApp {
            app: (**app).clone(),
            at: Instant::now(),
        });
    }
    Ok(lookup)
}

/// Kinds of the requested resources that do not exist yet. One that cannot be read is left out;
/// then it is recorded when it is created.
async fn absent_resources(cx: &Cx) -> BTreeSet<String> {
    let provision = &cx.target.provision;
    let database = async {
        let requested = provision.postgres.as_ref();
        if requested.is_none_or(|postgres| postgres.managed.is_none()) {
            return false;
        }
        matches!(clusters::find_all(cx).await, Ok(found) if found.is_empty())
    };
    let redis = async {
        let requested = provision.redis.as_ref();
        if requested.is_none_or(|redis| redis.upstash.is_none()) {
            return false;
        }
        let name = names::redis(&cx.target.app);
        matches!(cx.fly.redis(&name).await, Ok(None))
    };
    let (database, redis) = futures::join!(database, redis);
    [(claim::DATABASE, database), (claim::REDIS, redis)]
        .into_iter()
        .filter(|(_, absent)| *absent)
        .map(|(kind, _)| kind.to_owned())
        .collect()
}

/// Decides whether the app can be created or taken over. Pure.
pub fn decide(target: &Target, observed: &AppObservation) -> Verdict<AppChange> {
    let app = &target.app;
    if let Some(again) = observed.doubt {
        return Verdict::Holds(again);
    }
    match NameStatus::of(&observed.lookup, observed.claim.as_ref(), &observed.owner) {
        NameStatus::ClaimedByAnother(claim) => Verdict::Blocked(
            Why::new(
                Reason::AppClaimed,
                format!("the app {app} belongs to {}", holder(claim, &observed.owner)),
            )
            .next(format!(
                "create another Activation with another `app`, or delete that Activation (if it is gone already, delete the ConfigMap {} in the namespace of the operator)",
                claim::name(app)
            )),
        ),
        NameStatus::Forbidden => Verdict::Blocked(taken(app)),
        NameStatus::Free { claimed: true } => Verdict::Change(AppChange::Create {
            app: app.clone(),
            organization: target.organization.clone(),
        }),
        NameStatus::Free { claimed: false } => take(target, observed, None),
        NameStatus::Exists { app: found, holder } => existing(target, observed, found, holder),
    }
}

/// Who holds a claim, as far as this owner may know: the objects of other namespaces have no names
/// here.
pub fn holder(claim: &Claim, owner: &Owner) -> String {
    match claim.namespace == owner.namespace {
        true => format!("the Activation {}/{}", claim.namespace, claim.name),
        false => "an Activation of another namespace".to_owned(),
    }
}

/// Decides about an app that exists.
fn existing(
    target: &Target,
    observed: &AppObservation,
    found: &fly::App,
    holder: Holder,
) -> Verdict<AppChange> {
    let app = &target.app;
    if let Some(slug) = other_organization(found, target) {
        return Verdict::Blocked(
            Why::new(
                Reason::NameTaken,
                format!(
                    "the app {app} belongs to the organization {slug}, not to {}",
                    target.organization
                ),
            )
            .next("create another Activation with another `app`"),
        );
    }
    if holder == Holder::Us {
        return Verdict::Done;
    }
    if observed.marks.of_another {
        return Verdict::Blocked(
            Why::new(
                Reason::AppClaimed,
                format!(
                    "the app {app} carries the marks of another Activation of this cluster, which exists"
                ),
            )
            .next("create another Activation with another `app`, or delete that Activation"),
        );
    }
    // The claim is lost, and what names the owner at Fly.io is not.
    let claim = observed.claim.as_ref();
    let reclaims = match claim {
        None => observed.marks.ours || observed.is_recorded(),
        Some(claim) => observed.marks.ours && claim.retained,
    };
    if reclaims {
        return Verdict::Change(AppChange::Reclaim {
            app: app.clone(),
            before: claim.cloned().map(Box::new),
            made: observed.absent.clone(),
        });
    }
    let may_adopt = match target.adoption {
        Adoption::Always => true,
        Adoption::IfOwned => holder == Holder::Predecessor,
        Adoption::Never => false,
    };
    if let Some(again) = observed.look_again.filter(|_| may_adopt) {
        return Verdict::Wait {
            why: Why::new(
                Reason::OutcomeUnknown,
                format!("the app {app} carries no marks; looking again before it is taken over"),
            ),
            wake: Wake::After(again),
        };
    }
    if may_adopt {
        let contents = observed.contents.clone().unwrap_or_default();
        return take(target, observed, Some(contents));
    }
    Verdict::Blocked(
        Why::new(
            Reason::AdoptionRefused,
            format!("the app {app} exists already and this Activation did not create it"),
        )
        .next("create another Activation with another `app`, or set `adoption` to Always (or IfOwned, for one that an earlier Activation of this namespace left behind)"),
    )
}

fn take(target: &Target, observed: &AppObservation, adopt: Option<Contents>) -> Verdict<AppChange> {
    let claim = observed.claim.as_ref();
    let predecessor = claim.filter(|claim| claim.passes_to(&observed.owner));
    // A resource of the same name in another organization belongs to somebody else.
    let before = predecessor.filter(|claim| claim.organization == target.organization);
    let mut made = before.map(|claim| claim.made.clone()).unwrap_or_default();
    if adopt.is_none() {
        // The volumes are gone with the app.
        made.retain(|kind| !claim::is_volume(kind));
    }
    let taken_over = match &adopt {
        None => TakenOver::default(),
        Some(contents) => {
            let mut former = before.map_or_else(BTreeSet::new, |claim| {
                claim.taken_over.former.iter().cloned().collect()
            });
            former.extend(before.map(|claim| claim.uid.clone()));
            TakenOver {
                former,
                everything: target.adoption == Adoption::Always,
                served: !contents.machines.is_empty() || !contents.volumes.is_empty(),
            }
        }
    };
    Verdict::Change(AppChange::Claim {
        app: target.app.clone(),
        before: observed.claim.clone().map(Box::new),
        adopt,
        taken_over,
        made: &made | &observed.absent,
    })
}

/// Why an app cannot be created: another organization has its name.
pub fn taken(app: &str) -> Why {
    Why::new(
        Reason::NameTaken,
        format!(
            "the name {app} is taken by another organization on Fly.io, where names are global"
        ),
    )
    .next("create another Activation with another `app`")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
