//! The database server: managed Postgres, Fly Postgres, or one that exists elsewhere.
//!
//! The step chooses the kind. What each kind observes, decides and does is in `managed_postgres`
//! and `fly_postgres`; the switch to the declared fallback is in `fallback`.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use super::{
    fallback::{self, spec},
    fly_postgres, managed_postgres,
};
use crate::{
    api::{Reason, status::ExternalObject},
    error::Error,
    fly,
    phase::{
        absence,
        app_lookup::{AppLookup, look_up},
        app_name::OwnClaim,
        clusters::{MANAGED_POSTGRES, by_id, find_all},
        database::{Database, DatabaseUrl},
        left_behind::{LeftBehind, why},
    },
    pipeline::{
        ChangeVerb, Cx, Note, PlannedChange, Removal, Slot, Step, StepChange, StepId, Verdict, Why,
        step::Result,
    },
    plan::{Target, cost::Billed, target},
    store::claim,
};

/// Creates the database server.
pub struct Postgres;

/// The state of the database server, by its kind.
#[derive(Debug)]
pub enum Server {
    /// The spec requests none.
    NotRequested,
    /// It exists elsewhere.
    External,
    /// The declared fallback is in use, for this reason.
    Fallback(String),
    /// Managed Postgres.
    Managed(managed_postgres::Clusters),
    /// Fly Postgres.
    FlyPostgres(Box<fly_postgres::ClusterState>),
}

impl Server {
    /// Whether the cluster that works does not record the app as attached.
    fn is_detached(&self, app: &str) -> bool {
        let Self::Managed(managed_postgres::Clusters::One(cluster)) = self else {
            return false;
        };
        let mut attached = cluster.attached_apps.iter();
        cluster.status == fly::ClusterStatus::Ready && !attached.any(|known| known.name == app)
    }
}

/// The database server, and former ones that are left behind.
#[derive(Debug)]
pub struct Observed {
    server: Server,
    left: LeftBehind,
}

/// What to do about the database server.
#[derive(Debug)]
pub enum ServerChange {
    /// Switch to the declared fallback, for this reason.
    FallBack(String),
    /// Managed Postgres.
    Managed(managed_postgres::CreateCluster),
    /// Fly Postgres.
    FlyPostgres(fly_postgres::ClusterChange),
}

impl fmt::Display for ServerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FallBack(reason) => write!(f, "use `postgres.fallback`: {reason}"),
            Self::Managed(change) => change.fmt(f),
            Self::FlyPostgres(change) => change.fmt(f),
        }
    }
}

impl StepChange for ServerChange {
    fn planned(&self) -> Vec<PlannedChange> {
        vec![match self {
            Self::FallBack(reason) => {
                let fallback = PlannedChange::new(ChangeVerb::Update, "Postgres", "");
                fallback
                    .set("instead", "`postgres.fallback`")
                    .set("because", reason)
            }
            Self::Managed(create) => create.planned(),
            Self::FlyPostgres(change) => change.planned(),
        }]
    }
}

/// The creation of the server of this target, as data; `None`: it asks for none at Fly.io.
fn creation(target: &Target) -> Option<PlannedChange> {
    let spec = spec(target).filter(|spec| spec.external.is_none())?;
    Some(match &spec.fly_postgres {
        Some(legacy) => fly_postgres::ClusterChange::creation(target, legacy),
        None => managed_postgres::CreateCluster::of(target),
    })
}

impl Step for Postgres {
    type Observed = Observed;
    type Change = ServerChange;

    fn id(&self) -> StepId {
        StepId::Postgres
    }

    /// A database costs money and keeps data: none is created for an app that is not ours.
    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    fn expected_creates(&self, cx: &Cx) -> Vec<Slot> {
        let managed =
            spec(&cx.target).filter(|spec| spec.external.is_none() && spec.fly_postgres.is_none());
        managed
            .map(|_| managed_postgres::slot(&cx.target.app))
            .into_iter()
            .collect()
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let server = observe_server(cx).await?;
        let left = LeftBehind::new(cx, left(cx, &server).await?);
        Ok(Observed { server, left })
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<ServerChange> {
        observed.left.hold(decide(target, &observed.server))
    }

    fn plan(&self, target: &Target, _: &Observed, change: &ServerChange) -> Vec<PlannedChange> {
        match change {
            ServerChange::FlyPostgres(first) if first.is_first() => {
                creation(target).into_iter().collect()
            }
            change => change.planned(),
        }
    }

    fn billed(&self, cx: &Cx) -> Vec<Billed> {
        let target = &cx.target;
        match target.database() {
            None | Some(target::Database::External(_)) => Vec::new(),
            Some(target::Database::Managed(managed)) => vec![Billed::ManagedPostgres {
                plan: managed.plan.clone(),
                gb: managed.volume_size_gb,
            }],
            Some(target::Database::FlyPostgres(legacy)) => fly_postgres::billed(target, legacy),
        }
    }

    fn expected(&self, cx: &Cx) -> Vec<PlannedChange> {
        creation(&cx.target).into_iter().collect()
    }

    fn intent(&self, target: &Target, change: &ServerChange) -> Option<Slot> {
        match change {
            ServerChange::FallBack(_) => None,
            ServerChange::Managed(_) => Some(managed_postgres::slot(&target.app)),
            ServerChange::FlyPostgres(change) => fly_postgres::intent(change),
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        let mut notes = match &observed.server {
            Server::NotRequested | Server::External => Vec::new(),
            Server::Fallback(reason) => vec![fallback::note(target, reason)],
            Server::Managed(clusters) => managed_postgres::notes(target, clusters),
            Server::FlyPostgres(state) => fly_postgres::notes(target, state),
        };
        notes.extend(observed.left.notes());
        notes
    }

    async fn act(&self, cx: &Cx, change: ServerChange) -> Result<()> {
        let acted = match change {
            ServerChange::FallBack(reason) => {
                fallback::switch(cx, reason);
                return Ok(());
            }
            ServerChange::Managed(change) => managed_postgres::act(cx, change).await,
            ServerChange::FlyPostgres(change) => {
                let spec = spec(&cx.target).and_then(|spec| spec.fly_postgres.as_ref());
                match spec {
                    Some(spec) => fly_postgres::act(cx, spec, change).await,
                    None => return Ok(()),
                }
            }
        };
        acted.or_else(|error| fall_back_for_lack_of_room(cx, error))
    }

    /// Removes, or reports as retained, what was created, also when the spec names another database
    /// by now.
    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        let managed = managed_postgres::remove(cx).await?;
        if matches!(managed, Removal::Pending { .. } | Removal::Blocked(_)) {
            return Ok(managed);
        }
        Ok(match (managed, fly_postgres::remove(cx).await?) {
            (Removal::Retained(one), Removal::Retained(other)) => {
                Removal::Retained(format!("{one}, {other}"))
            }
            (Removal::Gone, other) => other,
            (managed, Removal::Gone) => managed,
            (_, other) => other,
        })
    }
}

/// Reads the server that the spec asks for.
async fn observe_server(cx: &Cx) -> Result<Server> {
    let Some(spec) = spec(&cx.target) else {
        return Ok(Server::NotRequested);
    };
    fallback::observe(cx);
    if let Some(reason) = fallback::reason(cx) {
        return Ok(Server::Fallback(reason));
    }
    if spec.external.is_some() {
        cx.facts.set(Database::External);
        return Ok(Server::External);
    }
    let before = cx.facts.get::<Database>();
    let server = match &spec.fly_postgres {
        Some(legacy) => Server::FlyPostgres(Box::new(fly_postgres::observe(cx, legacy).await?)),
        None => Server::Managed(managed_postgres::observe(cx).await?),
    };
    forget_url_of_another(cx, before);
    if server.is_detached(&cx.target.app) {
        // Attach observes again what there is of the app in the cluster.
        cx.facts.clear::<DatabaseUrl>();
    }
    Ok(server)
}

/// Decides what comes next. Pure.
fn decide(target: &Target, observed: &Server) -> Verdict<ServerChange> {
    let Some(spec) = spec(target) else {
        return not_requested();
    };
    match observed {
        Server::NotRequested => not_requested(),
        Server::External | Server::Fallback(_) => Verdict::Done,
        Server::Managed(clusters) => match clusters.failure() {
            Some(failure) if fallback::is_declared(target) => {
                Verdict::Change(ServerChange::FallBack(failure))
            }
            _ => map_change(
                managed_postgres::decide(target, clusters),
                ServerChange::Managed,
            ),
        },
        Server::FlyPostgres(state) => {
            let Some(legacy) = &spec.fly_postgres else {
                return Verdict::Done;
            };
            match fly_postgres::decide(target, legacy, state) {
                Verdict::Blocked(why)
                    if why.reason == Reason::DatabaseFailed && fallback::is_declared(target) =>
                {
                    Verdict::Change(ServerChange::FallBack(why.message))
                }
                verdict => map_change(verdict, ServerChange::FlyPostgres),
            }
        }
    }
}

/// What is left of database servers that the spec does not ask for any more, as far as the status or
/// the claim has them on record.
async fn left(cx: &Cx, server: &Server) -> Result<Vec<ExternalObject>> {
    let instead = match server {
        Server::Fallback(_) => Some("the declared fallback is used instead"),
        _ => None,
    };
    let recorded = |kind: &'static str| {
        let all = cx.recorded.external.iter();
        all.filter(move |object| object.kind == kind)
    };
    let still_there = |object: &ExternalObject, command: &str| ExternalObject {
        retained: Some(why(instead, command)),
        ..object.clone()
    };
    let mut left = Vec::new();
    if !matches!(server, Server::Managed(_)) {
        let reading = |source| Error::fly("read the former database cluster", source);
        let mut clusters = Vec::new();
        for object in recorded(MANAGED_POSTGRES) {
            let found = by_id(cx, &object.id).await.map_err(reading)?;
            let is_there =
                absence::counts_as_there(cx, MANAGED_POSTGRES, &object.id, found.is_some());
            match found {
                Some(cluster) => clusters.push(cluster),
                None if is_there => left.push(still_there(
                    object,
                    &format!("fly mpg destroy {}", object.id),
                )),
                None => {}
            }
        }
        let claim = cx.facts.get::<OwnClaim>();
        let made = claim.is_some_and(|claim| claim.0.made.contains(claim::DATABASE));
        if clusters.is_empty() && left.is_empty() && made {
            clusters = find_all(cx).await.map_err(reading)?;
        }
        left.extend(clusters.into_iter().map(|cluster| ExternalObject {
            kind: MANAGED_POSTGRES.to_owned(),
            retained: Some(why(instead, &format!("fly mpg destroy {}", cluster.id))),
            id: cluster.id,
            name: cluster.name,
            ..ExternalObject::default()
        }));
    }
    if !matches!(server, Server::FlyPostgres(_)) {
        for object in recorded(fly_postgres::KIND) {
            let found = matches!(look_up(cx, &object.name).await?, AppLookup::Found(_));
            if absence::counts_as_there(cx, fly_postgres::KIND, &object.id, found) {
                left.push(still_there(
                    object,
                    &format!("fly apps destroy {}", object.name),
                ));
            }
        }
    }
    Ok(left)
}

fn not_requested() -> Verdict<ServerChange> {
    Verdict::Skipped(Why::new(Reason::NotRequested, "no `postgres`"))
}

/// The same verdict, with the change of one kind of server as a change of this step.
fn map_change<C>(verdict: Verdict<C>, of: fn(C) -> ServerChange) -> Verdict<ServerChange> {
    match verdict {
        Verdict::Change(change) => Verdict::Change(of(change)),
        Verdict::Done => Verdict::Done,
        Verdict::Holds(again) => Verdict::Holds(again),
        Verdict::Skipped(why) => Verdict::Skipped(why),
        Verdict::Wait { why, wake } => Verdict::Wait { why, wake },
        Verdict::Blocked(why) => Verdict::Blocked(why),
    }
}

/// Forgets `DATABASE_URL` when the app uses another database than before.
fn forget_url_of_another(cx: &Cx, before: Option<Arc<Database>>) {
    let now = cx.facts.get::<Database>();
    let same = match (&before, &now) {
        (Some(before), Some(now)) => before.is_same(now),
        (None, _) => true,
        (Some(_), None) => false,
    };
    if !same {
        cx.facts.clear::<DatabaseUrl>();
    }
}

/// Switches to the declared fallback when Fly.io has no room or quota for the database; otherwise
/// returns the error.
fn fall_back_for_lack_of_room(cx: &Cx, error: Error) -> Result<()> {
    let no_room = match &error {
        Error::Fly { source, .. } => {
            let conflict = source.conflict();
            !source.is_ambiguous()
                && matches!(
                    conflict,
                    Some(fly::Conflict::Quota | fly::Conflict::Capacity(_))
                )
        }
        _ => false,
    };
    if no_room && fallback::is_declared(&cx.target) {
        fallback::switch(cx, crate::causes::chain(&error));
        return Ok(());
    }
    Err(error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{managed_postgres::Clusters, *};
    use crate::plan::testing::target;

    const MANAGED_ONLY: &str = "provision: {postgres: {managed: {plan: launch}}}";
    const WITH_FALLBACK: &str =
        "provision: {postgres: {managed: {}, fallback: {urlSecretRef: {name: db, key: url}}}}";

    fn cluster(status: &str) -> Server {
        let json = serde_json::json!({"id": "c1", "name": "shop-db", "status": status});
        Server::Managed(Clusters::One(serde_json::from_value(json).unwrap()))
    }

    fn next(spec: &str, observed: &Server) -> Verdict<ServerChange> {
        decide(&target(spec), observed)
    }

    #[test]
    fn a_cluster_is_announced_and_created_as_the_spec_says() {
        let Verdict::Change(change) = next(MANAGED_ONLY, &Server::Managed(Clusters::None)) else {
            unreachable!("a change")
        };
        assert_eq!(
            change.to_string(),
            "create managed Postgres shop-db (launch, 10 GB, PostgreSQL 16) in eze"
        );
        let slot = Postgres.intent(&target(MANAGED_ONLY), &change).unwrap();
        assert_eq!(slot.name, "shop-db");
    }

    #[test]
    fn a_cluster_is_awaited_in_every_state_but_ready_and_failed() {
        for status in ["creating", "initializing", "unheard-of"] {
            let verdict = next(MANAGED_ONLY, &cluster(status));
            assert!(matches!(verdict, Verdict::Wait { .. }), "{status}");
        }
        assert!(matches!(
            next(MANAGED_ONLY, &cluster("ready")),
            Verdict::Done
        ));
    }

    #[test]
    fn a_failed_cluster_stops_unless_a_fallback_is_declared() {
        let Verdict::Blocked(why) = next(MANAGED_ONLY, &cluster("error")) else {
            unreachable!("blocked")
        };
        assert_eq!(why.reason, Reason::DatabaseFailed);
        let verdict = next(WITH_FALLBACK, &cluster("failed"));
        assert!(matches!(
            verdict,
            Verdict::Change(ServerChange::FallBack(_))
        ));
    }

    #[test]
    fn one_of_several_is_never_guessed() {
        let several = Server::Managed(Clusters::Several(vec!["c1".into(), "c2".into()]));
        let Verdict::Blocked(why) = next(MANAGED_ONLY, &several) else {
            unreachable!("blocked")
        };
        assert!(why.message.contains("c1, c2"));
    }
}
