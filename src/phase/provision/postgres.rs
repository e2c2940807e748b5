//! The database: managed Postgres, legacy Fly Postgres, or one that exists elsewhere.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{app, fly_postgres};
use crate::{
    api::{
        Reason,
        policy::Deletion,
        provision::Postgres as Spec,
        status::{ExternalObject, FallbackUsed},
    },
    error::Error,
    fly::{
        self,
        postgres::{Cluster, NewCluster},
    },
    pipeline::{
        Cx, Note, Removal, Slot, Step, StepChange, StepId, Verdict, Wake, Why, facts::Database,
        step::Result,
    },
    plan::Target,
    store::claim,
};

/// The database.
pub struct Postgres;

/// What the status calls the fallback of the database.
pub const FALLBACK: &str = "provision.postgres";

/// Kind of the external object, and of its announcement.
const MANAGED: &str = "ManagedPostgres";

/// What there is.
#[derive(Debug)]
pub enum Observed {
    /// None is asked for.
    NotAsked,
    /// It exists elsewhere.
    External,
    /// The declared fallback is in use, for this reason.
    Fallback(String),
    /// Managed Postgres: the cluster of our name, if there is one.
    Managed(Option<Box<Cluster>>),
    /// Several clusters have our name: their ids.
    Several(Vec<String>),
    /// Legacy Fly Postgres.
    Legacy(Box<fly_postgres::State>),
}

/// What to do.
#[derive(Debug)]
pub enum Change {
    /// Create the cluster.
    Create(NewCluster),
    /// Go on with the declared fallback, for this reason.
    FallBack(String),
    /// Legacy Fly Postgres: its next part.
    Legacy(fly_postgres::Change),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(new) => write!(
                f,
                "create managed Postgres {} ({}, {} GB, PostgreSQL {}) in {}",
                new.name, new.plan, new.storage_in_gb, new.pg_major_version, new.region
            ),
            Self::FallBack(reason) => write!(f, "use `postgres.fallback`: {reason}"),
            Self::Legacy(change) => change.fmt(f),
        }
    }
}

impl StepChange for Change {}

/// Name of the cluster, and of the app of legacy Fly Postgres.
pub fn name(app: &str) -> String {
    format!("{app}-db")
}

fn slot(name: String) -> Slot {
    Slot {
        kind: MANAGED.to_owned(),
        name,
    }
}

fn spec(target: &Target) -> Option<&Spec> {
    target.provision.postgres.as_ref()
}

impl Step for Postgres {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Postgres
    }

    /// A database costs money and keeps data: none is made for an app that is not ours.
    fn needs(&self) -> &'static [StepId] {
        &[StepId::App]
    }

    fn foresees(&self, cx: &Cx) -> Vec<Slot> {
        let managed =
            spec(&cx.target).filter(|spec| spec.external.is_none() && spec.fly_postgres.is_none());
        managed
            .map(|_| slot(name(&cx.target.app)))
            .into_iter()
            .collect()
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let Some(spec) = spec(&cx.target) else {
            return Ok(Observed::NotAsked);
        };
        super::attach::recall_fallback(cx);
        if let Some(reason) = cx.facts.database_fallback.get() {
            return Ok(Observed::Fallback((*reason).clone()));
        }
        if spec.external.is_some() {
            cx.facts.database.set(Database::External);
            return Ok(Observed::External);
        }
        if let Some(legacy) = &spec.fly_postgres {
            let before = cx.facts.database.get();
            let state = fly_postgres::observe(cx, legacy).await?;
            forget_url_unless(cx, before);
            return Ok(Observed::Legacy(Box::new(state)));
        }
        let before = cx.facts.database.get();
        let known = match before.as_deref() {
            Some(Database::Managed { id }) => Some(id.clone()),
            _ => None,
        };
        // By id once it is known: a list may lag.
        let found = match known {
            Some(id) => by_id(cx, &id)
                .await
                .map(|found| found.into_iter().collect()),
            None => find_all(cx).await,
        };
        let mut clusters: Vec<Cluster> =
            found.map_err(|source| Error::fly("read the managed Postgres cluster", source))?;
        if clusters.len() > 1 {
            cx.facts.database.clear();
            let ids = clusters.into_iter().map(|cluster| cluster.id).collect();
            return Ok(Observed::Several(ids));
        }
        let cluster = clusters.pop();
        match &cluster {
            Some(cluster) => cx.facts.database.set(Database::Managed {
                id: cluster.id.clone(),
            }),
            None => cx.facts.database.clear(),
        }
        forget_url_unless(cx, before);
        Ok(Observed::Managed(cluster.map(Box::new)))
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        let Some(spec) = spec(target) else {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no `postgres`"));
        };
        match observed {
            Observed::NotAsked => Verdict::Skipped(Why::new(Reason::NotRequested, "no `postgres`")),
            Observed::External | Observed::Fallback(_) => Verdict::Done,
            Observed::Several(ids) => Verdict::Blocked(Why::new(
                Reason::DatabaseFailed,
                format!(
                    "several managed Postgres clusters are called {} ({}): destroy all but the one with the data with `fly mpg destroy`",
                    name(&target.app),
                    ids.join(", ")
                ),
            )),
            Observed::Legacy(state) => {
                let Some(legacy) = &spec.fly_postgres else {
                    return Verdict::Done;
                };
                match fly_postgres::diff(target, legacy, state) {
                    Verdict::Change(change) => Verdict::Change(Change::Legacy(change)),
                    Verdict::Blocked(why)
                        if why.reason == Reason::DatabaseFailed && spec.fallback.is_some() =>
                    {
                        Verdict::Change(Change::FallBack(why.message))
                    }
                    Verdict::Blocked(why) => Verdict::Blocked(why),
                    Verdict::Wait { why, wake } => Verdict::Wait { why, wake },
                    Verdict::Skipped(why) => Verdict::Skipped(why),
                    Verdict::Holds(why) => Verdict::Holds(why),
                    Verdict::Done => Verdict::Done,
                }
            }
            Observed::Managed(None) => {
                let managed = spec.managed.clone().unwrap_or_default();
                Verdict::Change(Change::Create(NewCluster {
                    name: name(&target.app),
                    region: target.region.clone(),
                    org_slug: target.organization.clone(),
                    plan: managed.plan,
                    pg_major_version: managed.version.to_string(),
                    storage_in_gb: managed.volume_size_gb,
                    postgis_enabled: false,
                }))
            }
            Observed::Managed(Some(cluster)) => {
                use fly::postgres::ClusterStatus::{self, Ready};
                if cluster.status == Ready {
                    return Verdict::Done;
                }
                if cluster.status.is_failed() {
                    let text = format!(
                        "managed Postgres {} ({}) failed at Fly.io",
                        cluster.name, cluster.id
                    );
                    if spec.fallback.is_some() {
                        return Verdict::Change(Change::FallBack(text));
                    }
                    return Verdict::Blocked(Why::new(
                        Reason::DatabaseFailed,
                        format!(
                            "{text}: destroy it with `fly mpg destroy {}` and it is created anew, or declare `postgres.fallback`",
                            cluster.id
                        ),
                    ));
                }
                Verdict::Wait {
                    why: Why::new(
                        Reason::DatabaseCreating,
                        format!(
                            "managed Postgres {} {}",
                            cluster.name,
                            match &cluster.status {
                                ClusterStatus::Creating | ClusterStatus::Initializing => {
                                    "is being created, which takes Fly.io a minute or two"
                                }
                                other => other.as_str(),
                            }
                        ),
                    ),
                    wake: Wake::Poll,
                }
            }
        }
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        match change {
            Change::Create(new) => Some(slot(new.name.clone())),
            Change::FallBack(_) => None,
            Change::Legacy(change) => fly_postgres::intent(change),
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        match observed {
            Observed::Managed(Some(cluster)) => vec![Note::External(ExternalObject {
                kind: MANAGED.to_owned(),
                id: cluster.id.clone(),
                name: cluster.name.clone(),
                last_observed_time: None,
            })],
            Observed::Fallback(reason) => vec![fallback_note(target, reason)],
            Observed::Legacy(state) => match **state {
                fly_postgres::State::Inside { .. } => vec![Note::External(ExternalObject {
                    kind: "FlyPostgres".to_owned(),
                    id: name(&target.app),
                    name: name(&target.app),
                    last_observed_time: None,
                })],
                fly_postgres::State::Outside { .. } => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        match change {
            Change::Create(new) => {
                app::note_made(cx, claim::DATABASE).await?;
                match cx.fly.create_postgres_cluster(&new).await {
                    // The id is the fact that a lagging list must not contradict.
                    Ok(cluster) => {
                        cx.facts.database.set(Database::Managed { id: cluster.id });
                        Ok(())
                    }
                    Err(source) => {
                        let doing = format!("create managed Postgres {}", new.name);
                        no_room(cx, Error::fly(doing, source))
                    }
                }
            }
            Change::Legacy(change) => {
                let Some(legacy) = spec(&cx.target).and_then(|spec| spec.fly_postgres.as_ref())
                else {
                    return Ok(());
                };
                match fly_postgres::act(cx, legacy, change).await {
                    Err(error) => no_room(cx, error),
                    Ok(()) => Ok(()),
                }
            }
            Change::FallBack(reason) => {
                cx.facts.database_fallback.set(reason);
                Ok(())
            }
        }
    }

    /// What was made is removed, or told of, also when the spec names another database by now.
    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        let managed = remove_managed(cx).await?;
        if matches!(managed, Removal::Pending { .. }) {
            return Ok(managed);
        }
        Ok(match (managed, fly_postgres::remove(cx).await?) {
            (Removal::Retained(one), Removal::Retained(other)) => {
                Removal::Retained(format!("{one}, {other}"))
            }
            (Removal::Gone, legacy) => legacy,
            (managed, Removal::Gone) => managed,
            (_, legacy) => legacy,
        })
    }
}

async fn remove_managed(cx: &Cx) -> Result<Removal> {
    let asked = spec(&cx.target).is_some_and(|spec| spec.managed.is_some());
    if !asked && !app::was_made(cx, claim::DATABASE).await? {
        return Ok(Removal::Gone);
    }
    let found = find_all(cx)
        .await
        .map_err(|source| Error::fly("look for the managed Postgres cluster", source))?;
    let [cluster] = found.as_slice() else {
        return Ok(match found.len() {
            0 => Removal::Gone,
            several => Removal::Retained(format!(
                "{several} managed Postgres clusters called {}, of which it is not known which is ours",
                name(&cx.target.app)
            )),
        });
    };
    let what = format!("managed Postgres {} ({})", cluster.name, cluster.id);
    if cx.target.deletion.database == Deletion::Retain {
        return Ok(Removal::Retained(what));
    }
    if !app::was_made(cx, claim::DATABASE).await? {
        return Ok(Removal::Retained(format!(
            "{what}, which was there before this Activation"
        )));
    }
    cx.fly
        .delete_postgres_cluster(&cx.target.organization, &cluster.id)
        .await
        .map_err(|source| Error::fly(format!("delete {what}"), source))?;
    Ok(Removal::Pending {
        why: Why::new(Reason::Deleting, format!("{what} is being deleted")),
        again: Duration::from_secs(1),
    })
}

/// A cluster that is neither gone nor going.
async fn by_id(cx: &Cx, id: &str) -> fly::Result<Option<Cluster>> {
    let found = cx.fly.postgres_cluster(id).await?;
    Ok(found
        .map(|details| details.cluster)
        .filter(|cluster| !cluster.status.is_over()))
}

/// The clusters of our name. Names are not unique: when one of several is attached to our app, it
/// is the one; otherwise a person must say, since a guess could be the one without the data.
async fn find_all(cx: &Cx) -> fly::Result<Vec<Cluster>> {
    let wanted = name(&cx.target.app);
    let all = cx.fly.postgres_clusters(&cx.target.organization).await?;
    let mut clusters: Vec<Cluster> = all
        .into_iter()
        .filter(|cluster| cluster.name == wanted && !cluster.status.is_over())
        .collect();
    if clusters.is_empty() {
        // The list may lag behind what the status names.
        for object in cx.recorded.external.iter() {
            if object.kind == MANAGED
                && let Some(cluster) = by_id(cx, &object.id).await?
                && cluster.name == wanted
            {
                clusters.push(cluster);
            }
        }
    }
    if clusters.len() > 1 {
        let attached = |cluster: &&Cluster| {
            let mut apps = cluster.attached_apps.0.iter();
            apps.any(|attached| attached.name == cx.target.app)
        };
        let mine: Vec<Cluster> = clusters.iter().filter(attached).cloned().collect();
        if mine.len() == 1 {
            return Ok(mine);
        }
    }
    Ok(clusters)
}

/// The first of the clusters of our name.
pub async fn find(cx: &Cx) -> fly::Result<Option<Cluster>> {
    find_all(cx).await.map(|found| found.into_iter().next())
}

/// The URL belongs to one database: with another one it is another.
fn forget_url_unless(cx: &Cx, before: Option<Arc<Database>>) {
    let now = cx.facts.database.get();
    let same = match (&before, &now) {
        // Another primary of the same cluster is reached at the same address.
        (Some(before), Some(now)) => before.is_same(now),
        (None, _) => true,
        (Some(_), None) => false,
    };
    if !same {
        cx.facts.database_url.clear();
    }
}

/// Without room or quota the declared fallback takes over; without one the error stands.
fn no_room(cx: &Cx, error: Error) -> Result<()> {
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
    let declared = spec(&cx.target).is_some_and(|spec| spec.fallback.is_some());
    if no_room && declared {
        cx.facts.database_fallback.set(crate::causes::chain(&error));
        return Ok(());
    }
    Err(error)
}

/// What the status tells about a fallback that is in use.
pub fn fallback_note(target: &Target, reason: &str) -> Note {
    let to = spec(target)
        .and_then(|spec| spec.fallback.as_ref())
        .map(|source| format!("Secret {}", source.url_secret_ref.name))
        .unwrap_or_default();
    Note::Fallback(FallbackUsed {
        what: FALLBACK.to_owned(),
        from: name(&target.app),
        to,
        reason: reason.to_owned(),
        time: None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    const MANAGED_ONLY: &str = "provision: {postgres: {managed: {plan: launch}}}";
    const WITH_FALLBACK: &str =
        "provision: {postgres: {managed: {}, fallback: {urlSecretRef: {name: db, key: url}}}}";

    fn cluster(status: &str) -> Observed {
        let json = serde_json::json!({"id": "c1", "name": "shop-db", "status": status});
        Observed::Managed(Some(serde_json::from_value(json).unwrap()))
    }

    fn next(spec: &str, observed: &Observed) -> Verdict<Change> {
        Postgres.diff(&target(spec), observed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_cluster_is_announced_and_created_as_asked() {
        let Verdict::Change(change) = next(MANAGED_ONLY, &Observed::Managed(None)) else {
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
    fn a_cluster_is_waited_for_through_every_state_that_is_not_the_end() {
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
        assert!(matches!(verdict, Verdict::Change(Change::FallBack(_))));
    }

    #[test]
    fn one_of_several_is_never_guessed() {
        let several = Observed::Several(vec!["c1".into(), "c2".into()]);
        let Verdict::Blocked(why) = next(MANAGED_ONLY, &several) else {
            unreachable!("blocked")
        };
        assert!(why.message.contains("c1, c2"));
    }
}
