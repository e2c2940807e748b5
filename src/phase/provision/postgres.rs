//! The database: managed Postgres, legacy Fly Postgres, or one that exists elsewhere.

use std::{fmt, time::Duration};

use jiff::Timestamp;

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
    phase::{
        Cx, Note, Removal, Slot, Step, StepId, Verdict, Wake, Why, facts::Database, step::Result,
    },
    target::Target,
};

/// The database.
pub struct Postgres;

/// Name of the step.
pub const ID: StepId = "Postgres";

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
}

/// What to do.
#[derive(Debug)]
pub enum Change {
    /// Create the cluster.
    Create(NewCluster),
    /// Go on with the declared fallback, for this reason.
    FallBack(String),
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
        }
    }
}

/// Name of the cluster, and of the app of legacy Fly Postgres.
pub fn name(app: &str) -> String {
    format!("{app}-db")
}

fn spec(target: &Target) -> Option<&Spec> {
    target.provision.postgres.as_ref()
}

impl Step for Postgres {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        ID
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let Some(spec) = spec(&cx.target) else {
            return Ok(Observed::NotAsked);
        };
        super::attach::recall_fallback(cx).await?;
        if let Some(reason) = cx.facts.database_fallback.get() {
            return Ok(Observed::Fallback((*reason).clone()));
        }
        if spec.external.is_some() {
            cx.facts.database.set(Database::External);
            return Ok(Observed::External);
        }
        if spec.fly_postgres.is_some() {
            return Err(Error::Blocked {
                reason: Reason::NotImplemented,
                message: "this version of Golive does not create legacy Fly Postgres: use `managed` or `external`".to_owned(),
            });
        }
        let known = match cx.facts.database.get().as_deref() {
            Some(Database::Managed { id }) => Some(id.clone()),
            _ => None,
        };
        // By id once it is known: a list may lag.
        let cluster = match known {
            Some(id) => cx
                .fly
                .postgres_cluster(&id)
                .await
                .map(|found| found.map(|details| details.cluster)),
            None => find(cx).await,
        };
        let cluster = cluster
            .map_err(|source| Error::fly("read the managed Postgres cluster", source))?
            .filter(|cluster| !cluster.status.is_over());
        match &cluster {
            Some(cluster) => cx.facts.database.set(Database::Managed {
                id: cluster.id.clone(),
            }),
            None => cx.facts.database.clear(),
        }
        Ok(Observed::Managed(cluster.map(Box::new)))
    }

    fn diff(&self, target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        let Some(spec) = spec(target) else {
            return Verdict::Skipped(Why::new(Reason::NotRequested, "no `postgres`"));
        };
        match observed {
            Observed::NotAsked => Verdict::Skipped(Why::new(Reason::NotRequested, "no `postgres`")),
            Observed::External | Observed::Fallback(_) => Verdict::Done,
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
                use fly::postgres::ClusterStatus::Ready;
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
                            "managed Postgres {} is {}",
                            cluster.name,
                            cluster.status.as_str()
                        ),
                    ),
                    wake: Wake::Poll,
                }
            }
        }
    }

    fn intent(&self, _target: &Target, change: &Change) -> Option<Slot> {
        match change {
            Change::Create(new) => Some(Slot {
                kind: "ManagedPostgres".to_owned(),
                name: new.name.clone(),
            }),
            Change::FallBack(_) => None,
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        match observed {
            Observed::Managed(Some(cluster)) => vec![Note::External(ExternalObject {
                kind: "ManagedPostgres".to_owned(),
                id: cluster.id.clone(),
                name: cluster.name.clone(),
                last_observed_time: None,
            })],
            Observed::Fallback(reason) => vec![fallback_note(target, reason)],
            _ => Vec::new(),
        }
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        match change {
            Change::Create(new) => match cx.fly.create_postgres_cluster(&new).await {
                // The id is the fact that a lagging list must not contradict.
                Ok(cluster) => {
                    cx.facts.database.set(Database::Managed { id: cluster.id });
                    Ok(())
                }
                Err(error) => no_room(cx, error, &new.name),
            },
            Change::FallBack(reason) => {
                cx.facts.database_fallback.set(reason);
                Ok(())
            }
        }
    }

    async fn remove(&self, cx: &Cx) -> Result<Removal> {
        let Some(spec) = spec(&cx.target) else {
            return Ok(Removal::Gone);
        };
        if spec.external.is_some() || spec.fly_postgres.is_some() {
            return Ok(Removal::Gone);
        }
        let found = find(cx)
            .await
            .map_err(|source| Error::fly("look for the managed Postgres cluster", source))?;
        let Some(cluster) = found.filter(|cluster| !cluster.status.is_over()) else {
            return Ok(Removal::Gone);
        };
        let what = format!("managed Postgres {} ({})", cluster.name, cluster.id);
        if cx.target.deletion.database == Deletion::Retain {
            return Ok(Removal::Retained(what));
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
}

/// The cluster of our name in our region. Names are not unique, so more than one is an error for
/// a person, never a guess.
async fn find(cx: &Cx) -> fly::Result<Option<Cluster>> {
    let wanted = name(&cx.target.app);
    let clusters = cx.fly.postgres_clusters(&cx.target.organization).await?;
    Ok(clusters
        .into_iter()
        .find(|cluster| cluster.name == wanted && !cluster.status.is_over()))
}

/// Without room or quota the declared fallback takes over; without one the error stands.
fn no_room(cx: &Cx, error: fly::Error, name: &str) -> Result<()> {
    let no_room = matches!(
        error.conflict(),
        Some(fly::Conflict::Quota | fly::Conflict::Capacity(_))
    );
    let declared = spec(&cx.target).is_some_and(|spec| spec.fallback.is_some());
    if no_room && declared {
        cx.facts.database_fallback.set(format!(
            "managed Postgres {name} could not be created: {}",
            error.message()
        ));
        return Ok(());
    }
    Err(Error::fly(format!("create managed Postgres {name}"), error))
}

/// What the status tells about a fallback that is in use.
pub fn fallback_note(target: &Target, reason: &str) -> Note {
    let to = spec(target)
        .and_then(|spec| spec.fallback.as_ref())
        .map(|source| format!("Secret {}", source.url_secret_ref.name))
        .unwrap_or_default();
    Note::Fallback(FallbackUsed {
        what: "provision.postgres".to_owned(),
        from: name(&target.app),
        to,
        reason: reason.to_owned(),
        time: None,
    })
}
