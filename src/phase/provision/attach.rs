//! `DATABASE_URL`: a user and a database of the app's own, and the URL pushed to the app.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{app, legacy_attach as legacy, postgres};
use crate::phase::app_secrets as push;
use crate::{
    api::Reason,
    error::Error,
    fly,
    pipeline::{Cx, Note, Step, StepChange, StepId, Verdict, Why, facts::Database, step::Result},
    plan::Target,
};

/// The attachment of the database to the app.
pub struct Attach;

/// The variable that carries the URL.
pub const VARIABLE: &str = "DATABASE_URL";

/// Failures in a row after which the declared fallback is used.
const TRIES: u32 = 3;

/// What there is.
#[derive(Debug)]
pub enum Observed {
    /// No database is asked for.
    NotAsked,
    /// Something of the attachment is missing in the cluster.
    Incomplete(Missing),
    /// The URL is known; is it at Fly.io?
    Known {
        /// What Fly.io has of it.
        compared: push::Compared,
        /// Why the declared fallback is in use.
        fallback: Option<String>,
    },
}

/// What the cluster lacks for this app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Id of the cluster, or the app of a legacy one.
    pub cluster: String,
    /// The user, if there is none.
    pub user: Option<String>,
    /// The database, if there is none.
    pub database: Option<String>,
    /// Fly.io does not know that the app uses the cluster.
    pub record: bool,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Create what is missing in the cluster.
    Attach(Missing),
    /// Set `DATABASE_URL`.
    Push,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(missing) => {
                write!(f, "attach the database cluster {}", missing.cluster)?;
                if let Some(user) = &missing.user {
                    write!(f, ", with user {user}")?;
                }
                if let Some(database) = &missing.database {
                    write!(f, ", with database {database}")?;
                }
                Ok(())
            }
            Self::Push => write!(f, "set the secret {VARIABLE}"),
        }
    }
}

impl StepChange for Change {}

/// Name of the user and of the database: the app's, as PostgreSQL takes it without quotes.
pub fn role(app: &str) -> String {
    app.replace('-', "_")
}

fn one(value: SecretString) -> BTreeMap<String, SecretString> {
    BTreeMap::from([(VARIABLE.to_owned(), value)])
}

/// The URL in a Secret that the spec names.
fn named(cx: &Cx, source: &crate::api::reference::UrlSource) -> Result<SecretString> {
    let reference = &source.url_secret_ref;
    cx.refs
        .secret(&reference.name, &reference.key)
        .cloned()
        .map_err(|missing| Error::Blocked {
            reason: missing.reason(),
            message: missing.to_string(),
        })
}

/// The URL of a database that is not the cluster's: the external one, or the fallback while it is used.
fn declared(cx: &Cx) -> Result<Option<SecretString>> {
    let spec = cx.target.provision.postgres.as_ref();
    let falls_back = cx.facts.database_fallback.get().is_some();
    let source = spec.and_then(|spec| match (&spec.fallback, &spec.external) {
        (Some(source), _) if falls_back => Some(source),
        (_, external) => external.as_ref(),
    });
    source.map(|source| named(cx, source)).transpose()
}

/// A fallback that was taken stays taken: the application has written there. The status says so,
/// or the digest at Fly.io being that of the fallback's URL.
pub fn recall_fallback(cx: &Cx) {
    let Some(source) = cx
        .target
        .provision
        .postgres
        .as_ref()
        .and_then(|spec| spec.fallback.as_ref())
    else {
        cx.facts.database_fallback.clear();
        return;
    };
    if cx.facts.database_fallback.get().is_some() {
        return;
    }
    let told = cx
        .recorded
        .fallbacks
        .iter()
        .any(|used| used.what == postgres::FALLBACK);
    let pushed = || {
        let url = named(cx, source).ok()?;
        let print = crate::plan::fingerprint(&cx.installation.fingerprint_key, &url);
        Some(cx.recorded.secrets.get(VARIABLE)?.fingerprint == print)
    };
    if told || pushed() == Some(true) {
        cx.facts.database_fallback.set(String::new());
    }
}

impl Step for Attach {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        StepId::Attach
    }

    fn needs(&self) -> &'static [StepId] {
        &[StepId::App, StepId::Postgres]
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        if cx.target.provision.postgres.is_none() {
            return Ok(Observed::NotAsked);
        }
        let fallback = cx
            .facts
            .database_fallback
            .get()
            .map(|reason| (*reason).clone());
        if let Some(url) = declared(cx)? {
            return known(cx, url, fallback).await;
        }
        if let Some(url) = cx.facts.database_url.get() {
            return known(cx, (*url).clone(), fallback).await;
        }
        let id = match cx.facts.database.get().as_deref().cloned() {
            Some(Database::Managed { id }) => id,
            Some(Database::FlyPostgres { app, .. }) => {
                return match legacy::look(cx, &app).await? {
                    Err(missing) => Ok(Observed::Incomplete(missing)),
                    Ok(url) => {
                        cx.facts.database_url.set(url.clone());
                        known(cx, url, fallback).await
                    }
                };
            }
            _ => return Err(Error::NotKnown("the database cluster")),
        };
        let role = role(&cx.target.app);
        let doing = |source| Error::fly("read the database cluster", source);
        let (details, user, databases) = futures::try_join!(
            cx.fly.postgres_cluster(&id),
            cx.fly.postgres_user_credentials(&id, &role),
            cx.fly.postgres_databases(&id),
        )
        .map_err(doing)?;
        let Some(details) = details else {
            return Err(Error::NotKnown("the database cluster"));
        };
        let missing = Missing {
            user: user.is_none().then(|| role.clone()),
            database: (!databases.iter().any(|found| found.name == role)).then(|| role.clone()),
            record: !details
                .cluster
                .attached_apps
                .0
                .iter()
                .any(|attached| attached.name == cx.target.app),
            cluster: id,
        };
        if missing.user.is_some() || missing.database.is_some() || missing.record {
            return Ok(Observed::Incomplete(missing));
        }
        let base = details
            .credentials
            .and_then(|credentials| credentials.pgbouncer_uri);
        let password = user.and_then(|user| user.password);
        let (Some(base), Some(password)) = (base, password) else {
            return Err(Error::NotKnown("the URL of the database cluster"));
        };
        let Some(url) = url_for(&base, &role, &password) else {
            return Err(Error::Blocked {
                reason: Reason::AttachFailed,
                message: "Fly.io gave a database URL that is none: look at the cluster with `fly mpg status`".to_owned(),
            });
        };
        cx.facts.database_url.set(url.clone());
        known(cx, url, fallback).await
    }

    fn diff(&self, _target: &Target, observed: &Observed, _now: Timestamp) -> Verdict<Change> {
        match observed {
            Observed::NotAsked => Verdict::Skipped(Why::new(Reason::NotRequested, "no `postgres`")),
            Observed::Incomplete(missing) => Verdict::Change(Change::Attach(missing.clone())),
            Observed::Known { compared, .. } if compared.stale.is_empty() => Verdict::Done,
            Observed::Known { .. } => Verdict::Change(Change::Push),
        }
    }

    fn notes(&self, target: &Target, observed: &Observed) -> Vec<Note> {
        let Observed::Known { compared, fallback } = observed else {
            return Vec::new();
        };
        let mut notes = compared.notes();
        notes.extend(
            fallback
                .iter()
                .map(|reason| postgres::fallback_note(target, reason)),
        );
        notes
    }

    async fn act(&self, cx: &Cx, change: Change) -> Result<()> {
        match change {
            Change::Attach(missing) => match attach(cx, &missing).await {
                Ok(()) => {
                    cx.facts.attach_failures.clear();
                    Ok(())
                }
                Err(error) => failed(cx, &missing, error),
            },
            Change::Push => {
                let of_cluster = || cx.facts.database_url.get().map(|url| (*url).clone());
                let Some(url) = declared(cx)?.or_else(of_cluster) else {
                    return Err(Error::NotKnown("the URL of the database"));
                };
                let value = BTreeMap::from([(VARIABLE.to_owned(), Some(url))]);
                push::push(cx, value).await
            }
        }
    }
}

/// The URL is known: is it at Fly.io?
async fn known(cx: &Cx, url: SecretString, fallback: Option<String>) -> Result<Observed> {
    let compared = push::look(cx, &one(url)).await?;
    Ok(Observed::Known { compared, fallback })
}

/// Creates what is missing. Every part is unique by name, so a second try finds the first.
async fn attach(cx: &Cx, missing: &Missing) -> Result<()> {
    if let Some(Database::FlyPostgres { app, primary }) = cx.facts.database.get().as_deref() {
        return legacy::attach(cx, app, primary).await;
    }
    let exists_already = |result: fly::Result<()>| match result {
        Err(error) if app::is_name_taken(&error) => Ok(()),
        other => other.map_err(|source| {
            Error::fly(
                format!("attach the database cluster {}", missing.cluster),
                source,
            )
        }),
    };
    let id = &missing.cluster;
    let user = async {
        match &missing.user {
            // The role that may create tables, which migrations do.
            Some(user) => {
                exists_already(cx.fly.create_postgres_user(id, user, "schema_admin").await)
            }
            None => Ok(()),
        }
    };
    let database = async {
        match &missing.database {
            Some(database) => exists_already(cx.fly.create_postgres_database(id, database).await),
            None => Ok(()),
        }
    };
    // Both run to their end, also when one fails: a call that is cut off is one more unknown.
    let (user, database) = futures::join!(user, database);
    user.and(database)?;
    if missing.record {
        exists_already(cx.fly.attach_postgres(id, &cx.target.app).await)?;
    }
    Ok(())
}

/// True for a failure of the attachment itself, and not of the way to it.
fn counts(error: &Error) -> bool {
    match error {
        Error::Fly { source, .. } => !matches!(
            source.class(),
            fly::Class::Throttled { .. } | fly::Class::Auth { .. }
        ),
        Error::Blocked { .. } => true,
        _ => false,
    }
}

/// Counts the failure; after the third the declared fallback takes over.
fn failed(cx: &Cx, missing: &Missing, error: Error) -> Result<()> {
    if !counts(&error) {
        return Err(error);
    }
    let failures = cx.facts.attach_failures.get().map_or(0, |count| *count) + 1;
    cx.facts.attach_failures.set(failures);
    if failures < TRIES {
        return Err(error);
    }
    let text = format!(
        "attaching {} failed {failures} times: {}",
        missing.cluster,
        crate::causes::chain(&error)
    );
    let declared = cx
        .target
        .provision
        .postgres
        .as_ref()
        .is_some_and(|spec| spec.fallback.is_some());
    if declared {
        cx.facts.database_fallback.set(text);
        return Ok(());
    }
    Err(Error::Blocked {
        reason: Reason::AttachFailed,
        message: format!(
            "{text}: look at the cluster with {}, or declare `postgres.fallback` with a URL of your own",
            match cx.facts.database.get().as_deref() {
                Some(Database::FlyPostgres { app, .. }) => format!("`fly status -a {app}`"),
                _ => format!("`fly mpg status {}`", missing.cluster),
            }
        ),
    })
}

/// The pooler's URL with this user, password and database.
fn url_for(base: &SecretString, role: &str, password: &SecretString) -> Option<SecretString> {
    let mut url = url::Url::parse(base.expose_secret()).ok()?;
    url.set_username(role).ok()?;
    url.set_password(Some(password.expose_secret())).ok()?;
    url.set_path(role);
    Some(SecretString::from(url.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plan::testing::target;

    fn next(observed: &Observed) -> Verdict<Change> {
        Attach.diff(&target(""), observed, Timestamp::UNIX_EPOCH)
    }

    fn known(stale: bool) -> Observed {
        let stale = stale.then(|| VARIABLE.to_owned());
        Observed::Known {
            compared: push::Compared {
                stale: stale.into_iter().collect(),
                settled: Vec::new(),
            },
            fallback: None,
        }
    }

    #[test]
    fn what_the_cluster_lacks_is_made_before_the_url_is_pushed() {
        let missing = Missing {
            cluster: "c1".into(),
            user: Some("shop".into()),
            ..Missing::default()
        };
        let Verdict::Change(change) = next(&Observed::Incomplete(missing)) else {
            unreachable!("a change")
        };
        assert_eq!(
            change.to_string(),
            "attach the database cluster c1, with user shop"
        );
        assert_eq!(next(&known(true)), Verdict::Change(Change::Push));
        assert_eq!(next(&known(false)), Verdict::Done);
        assert!(matches!(next(&Observed::NotAsked), Verdict::Skipped(_)));
    }

    #[test]
    fn a_failure_on_the_way_is_no_failure_to_attach() {
        let blocked = Error::Blocked {
            reason: Reason::AttachFailed,
            message: String::new(),
        };
        assert!(counts(&blocked));
        assert!(!counts(&Error::NotKnown("the database cluster")));
    }

    #[test]
    fn the_url_keeps_host_and_options_and_gets_user_password_and_database() {
        let base = SecretString::from(
            "postgresql://fly-user:old@pgbouncer.x.flympg.net/fly-db?sslmode=disable",
        );
        let url = url_for(&base, "cabanas", &SecretString::from("p@ss/word")).unwrap();
        assert_eq!(
            url.expose_secret(),
            "postgresql://cabanas:p%40ss%2Fword@pgbouncer.x.flympg.net/cabanas?sslmode=disable"
        );
    }
}
