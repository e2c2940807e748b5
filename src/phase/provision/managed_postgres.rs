//! Managed Postgres: the cluster of our name at Fly.io.

use std::{fmt, time::Duration};

use super::{
    fallback::spec,
    ours::{gone, may_exist, record_creation, unconfirmed, was_created},
};
use crate::{
    api::{Reason, policy::Deletion, status::ExternalObject},
    error::Error,
    fly::{Cluster, ClusterStatus, NewCluster},
    phase::{
        absence::{self, Doubt},
        clusters::{MANAGED_POSTGRES, by_id, find_all},
        database::Database,
        lost::{self, Lost},
        names::{self, DATABASE_URL},
    },
    pipeline::{
        ChangeVerb, Cx, Note, PlannedChange, Removal, Slot, StepId, Verdict, Wake, Why,
        step::Result,
    },
    plan::Target,
    store::claim,
};

/// The clusters of our name.
#[derive(Debug)]
pub enum Clusters {
    /// There is none.
    None,
    /// The one that the app has used is not found.
    Lost(Lost),
    /// The cluster is on record and this look does not show it, which is no proof: pause until the next
    /// look.
    Unseen {
        /// The pause.
        again: Duration,
        /// This process has seen it ready.
        known: bool,
        /// Its id.
        id: String,
    },
    /// The cluster.
    One(Box<Cluster>),
    /// Several clusters have our name: their ids.
    Several(Vec<String>),
}

impl Clusters {
    /// That the cluster has failed, if it has.
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::One(cluster) if cluster.status.is_failed() => Some(format!(
                "managed Postgres {} ({}) failed at Fly.io",
                cluster.name, cluster.id
            )),
            _ => None,
        }
    }
}

/// Create this cluster.
#[derive(Debug)]
pub struct CreateCluster(NewCluster);

impl CreateCluster {
    /// The creation of the cluster of this target, as data.
    pub fn of(target: &Target) -> PlannedChange {
        Self(new_cluster(target)).planned()
    }

    /// The same as data.
    pub fn planned(&self) -> PlannedChange {
        let new = &self.0;
        PlannedChange::new(ChangeVerb::Create, MANAGED_POSTGRES, &new.name)
            .set("plan", &new.plan)
            .set("storage", format!("{} GB", new.storage_in_gb))
            .set("version", &new.pg_major_version)
            .set("region", &new.region)
    }
}

impl fmt::Display for CreateCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let new = &self.0;
        write!(
            f,
            "create managed Postgres {} ({}, {} GB, PostgreSQL {}) in {}",
            new.name, new.plan, new.storage_in_gb, new.pg_major_version, new.region
        )
    }
}

/// Journal: the id of the cluster that this process created. A list may lag behind it.
#[derive(Debug)]
struct CreatedCluster(String);

/// The slot under which the create is announced.
pub fn slot(app: &str) -> Slot {
    Slot {
        kind: MANAGED_POSTGRES.to_owned(),
        name: names::postgres(app),
    }
}

/// Fact: the cluster was ready when it was last seen. One that was not, and is not found now, is no
/// database to go on with until the second look.
#[derive(Debug)]
struct Usable;

/// Reads the cluster: by its id once that is known, because a list may lag.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn observe(cx: &Cx) -> Result<Clusters> {
    let created = cx.journal.get::<CreatedCluster>();
    let id = match cx.facts.get::<Database>().as_deref() {
        Some(Database::Managed { id }) => Some(id.clone()),
        _ => created.map(|created| created.0.clone()),
    };
    let found = match &id {
        Some(id) => by_id(cx, id).await.map(|found| found.into_iter().collect()),
        None => find_all(cx).await,
    };
    let mut clusters =
        found.map_err(|source| Error::fly("read the managed Postgres cluster", source))?;
    if clusters.is_empty()
        && let Some(lost) = lost(cx)
    {
        if lost.is_sure() {
            cx.facts.clear::<Database>();
        }
        return Ok(Clusters::Lost(lost));
    }
    let name = names::postgres(&cx.target.app);
    if clusters.is_empty() {
        lost::not_missed(cx, StepId::Postgres);
        let mut recorded = cx.recorded.external.iter();
        let recorded = recorded.find(|object| object.kind == MANAGED_POSTGRES);
        let known = cx.facts.get::<Usable>().is_some();
        let id = id.or_else(|| recorded.map(|object| object.id.clone()));
        if let Some(id) = id
            && let Some(again) = absence::seen(cx, Doubt::Gone, MANAGED_POSTGRES, &name)
        {
            return Ok(Clusters::Unseen { again, known, id });
        }
    } else {
        lost::found(cx, StepId::Postgres);
        absence::cleared(cx, Doubt::Gone, MANAGED_POSTGRES, &name);
    }
    // From here on the fact holds the id, or the cluster is gone.
    cx.journal.clear::<CreatedCluster>();
    if clusters.len() > 1 {
        cx.facts.clear::<Database>();
        let ids = clusters.into_iter().map(|cluster| cluster.id).collect();
        return Ok(Clusters::Several(ids));
    }
    Ok(match clusters.pop() {
        Some(cluster) => {
            cx.facts.set(Database::Managed {
                id: cluster.id.clone(),
            });
            match cluster.status {
                ClusterStatus::Ready => cx.facts.set(Usable),
                _ => cx.facts.clear::<Usable>(),
            }
            Clusters::One(Box::new(cluster))
        }
        None => {
            cx.facts.clear::<Database>();
            Clusters::None
        }
    })
}

/// The cluster that is on record, if the application has got its URL: then it has held data. One that
/// failed before may be created anew.
fn lost(cx: &Cx) -> Option<Lost> {
    let recorded = lost::recorded(cx, MANAGED_POSTGRES)?.clone();
    lost::pushed(cx, DATABASE_URL)?;
    let what = format!("managed Postgres {} ({})", recorded.name, recorded.id);
    let marks = vec![recorded.id.clone()];
    let records = vec![Note::External(recorded)];
    Some(Lost::new(cx, StepId::Postgres, what, (marks, records)))
}

/// Decides what comes next. Pure.
pub fn decide(target: &Target, clusters: &Clusters) -> Verdict<CreateCluster> {
    let cluster = match clusters {
        Clusters::None => return Verdict::Change(CreateCluster(new_cluster(target))),
        Clusters::Lost(lost) => {
            let name = names::postgres(&target.app);
            return lost.verdict(
                target,
                |what, command| {
                    Why::new(
                        Reason::DatabaseLost,
                        format!(
                            "{what}, which the app has used, is gone at Fly.io with its data"
                        ),
                    )
                    .next(format!(
                        "restore it from a backup as a cluster of the name {name}; or have a new, empty one created: `{command}`"
                    ))
                },
                || Verdict::Change(CreateCluster(new_cluster(target))),
            );
        }
        Clusters::Unseen {
            again, known: true, ..
        } => return Verdict::Holds(*again),
        Clusters::Unseen { again, .. } => {
            return Verdict::Wait {
                why: Why::new(
                    Reason::ObservationUnknown,
                    format!(
                        "Fly.io does not show the managed Postgres cluster {}, which is on record; Golive checks again before it creates another one",
                        names::postgres(&target.app)
                    ),
                ),
                wake: Wake::After(*again),
            };
        }
        Clusters::Several(ids) => {
            return Verdict::Blocked(Why::new(
                Reason::DatabaseFailed,
                format!(
                    "several managed Postgres clusters are called {} ({}): destroy all but the one with the data with `fly mpg destroy`",
                    names::postgres(&target.app),
                    ids.join(", ")
                ),
            ));
        }
        Clusters::One(cluster) => cluster,
    };
    if cluster.status == ClusterStatus::Ready {
        return Verdict::Done;
    }
    if let Some(failure) = clusters.failure() {
        return Verdict::Blocked(Why::new(
            Reason::DatabaseFailed,
            format!(
                "{failure}: destroy it with `fly mpg destroy {}` and it is created anew, or declare `postgres.fallback`",
                cluster.id
            ),
        ));
    }
    let progress = match &cluster.status {
        ClusterStatus::Creating | ClusterStatus::Initializing => {
            "is being created, which takes Fly.io a minute or two"
        }
        other => other.as_str(),
    };
    Verdict::Wait {
        why: Why::new(
            Reason::DatabaseCreating,
            format!("managed Postgres {} {progress}", cluster.name),
        ),
        wake: Wake::Poll,
    }
}

fn new_cluster(target: &Target) -> NewCluster {
    let managed = spec(target).and_then(|spec| spec.managed.clone());
    let managed = managed.unwrap_or_default();
    NewCluster {
        name: names::postgres(&target.app),
        region: target.region.clone(),
        org_slug: target.organization.clone(),
        plan: managed.plan,
        pg_major_version: managed.version.to_string(),
        storage_in_gb: managed.volume_size_gb,
        postgis_enabled: false,
    }
}

/// The notes for the status.
pub fn notes(target: &Target, clusters: &Clusters) -> Vec<Note> {
    match clusters {
        // It counts as there until a second look.
        Clusters::Unseen { id, .. } => vec![Note::External(ExternalObject {
            kind: MANAGED_POSTGRES.to_owned(),
            id: id.clone(),
            name: names::postgres(&target.app),
            ..ExternalObject::default()
        })],
        Clusters::One(cluster) => vec![Note::External(ExternalObject {
            kind: MANAGED_POSTGRES.to_owned(),
            id: cluster.id.clone(),
            name: cluster.name.clone(),
            ..ExternalObject::default()
        })],
        Clusters::Lost(lost) => lost.notes(),
        Clusters::None | Clusters::Several(_) => Vec::new(),
    }
}

/// Creates the cluster.
///
/// # Errors
/// When Fly.io or Kubernetes refuses or does not answer.
pub async fn act(cx: &Cx, CreateCluster(new): CreateCluster) -> Result<()> {
    record_creation(cx, claim::DATABASE).await?;
    let created = cx.fly.create_postgres_cluster(&new).await;
    let cluster = created
        .map_err(|source| Error::fly(format!("create managed Postgres {}", new.name), source))?;
    cx.journal.set(CreatedCluster(cluster.id));
    Ok(())
}

/// Deletes the cluster with its data, or retains it, as the deletion policy says.
///
/// # Errors
/// When Fly.io or Kubernetes refuses or does not answer.
pub async fn remove(cx: &Cx) -> Result<Removal> {
    if !may_exist(cx, StepId::Postgres, claim::DATABASE, MANAGED_POSTGRES).await? {
        return Ok(Removal::Gone);
    }
    let found = find_all(cx)
        .await
        .map_err(|source| Error::fly("look for the managed Postgres cluster", source))?;
    let [cluster] = found.as_slice() else {
        return Ok(match found.len() {
            0 => gone(cx, MANAGED_POSTGRES, &names::postgres(&cx.target.app)),
            several => Removal::Retained(format!(
                "{several} managed Postgres clusters called {}, of which it is not known which is ours",
                names::postgres(&cx.target.app)
            )),
        });
    };
    absence::cleared(cx, Doubt::Gone, MANAGED_POSTGRES, &cluster.name);
    let what = format!("managed Postgres {} ({})", cluster.name, cluster.id);
    if cx.target.deletion.database == Deletion::Retain {
        return Ok(Removal::Retained(what));
    }
    if !was_created(cx, claim::DATABASE).await? {
        return Ok(Removal::Retained(format!(
            "{what}, which is not on record as created by this Activation"
        )));
    }
    if !cx.target.data_deletion_confirmed {
        return Ok(unconfirmed(cx, &what));
    }
    cx.fly
        .delete_postgres_cluster(&cx.target.organization, &cluster.id)
        .await
        .map_err(|source| Error::fly(format!("delete {what}"), source))?;
    absence::deletion_accepted(cx, MANAGED_POSTGRES, &cluster.name);
    Ok(Removal::Pending {
        why: Why::new(Reason::Deleting, format!("{what} is being deleted")),
        again: Duration::from_secs(1),
    })
}
