//! `DATABASE_URL`: a user and a database of the app's own, and the URL pushed to the app.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{app, postgres, push};
use crate::{
    api::Reason,
    error::Error,
    fly,
    phase::{Cx, Note, Step, StepId, Verdict, Why, facts::Database, step::Result},
    target::Target,
};

/// The attachment of the database to the app.
pub struct Attach;

/// Name of the step.
pub const ID: StepId = "Attach";

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
        compared: push::Compared,
        fallback: Option<String>,
    },
}

/// What the cluster lacks for this app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    cluster: String,
    user: Option<String>,
    database: Option<String>,
    record: bool,
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

/// Name of the user and of the database: the app's, as PostgreSQL takes it without quotes.
fn role(app: &str) -> String {
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

/// A fallback that was taken stays taken: the application has written there. It is known by the
/// digest at Fly.io being that of the fallback's URL.
///
/// # Errors
/// When Fly.io does not answer.
pub async fn recall_fallback(cx: &Cx) -> Result<()> {
    let Some(source) = cx
        .target
        .provision
        .postgres
        .as_ref()
        .and_then(|spec| spec.fallback.as_ref())
    else {
        cx.facts.database_fallback.clear();
        return Ok(());
    };
    if cx.facts.database_fallback.get().is_some() || !cx.pushed.contains_key(VARIABLE) {
        return Ok(());
    }
    let Ok(url) = named(cx, source) else {
        return Ok(());
    };
    let print = crate::target::fingerprint(&cx.fingerprint_key, &url);
    if cx
        .pushed
        .get(VARIABLE)
        .is_some_and(|record| record.fingerprint == print)
    {
        cx.facts.database_fallback.set(String::new());
    }
    Ok(())
}

impl Step for Attach {
    type Observed = Observed;
    type Change = Change;

    fn id(&self) -> StepId {
        ID
    }

    fn needs(&self) -> &'static [StepId] {
        &[app::ID, postgres::ID]
    }

    async fn observe(&self, cx: &Cx) -> Result<Observed> {
        let Some(spec) = &cx.target.provision.postgres else {
            return Ok(Observed::NotAsked);
        };
        let fallback = cx
            .facts
            .database_fallback
            .get()
            .map(|reason| (*reason).clone());
        let url = match (&fallback, &spec.fallback, &spec.external) {
            (Some(_), Some(source), _) | (_, _, Some(source)) => Some(named(cx, source)?),
            _ => cx.facts.database_url.get().map(|url| (*url).clone()),
        };
        if let Some(url) = url {
            let compared = push::look(cx, &one(url.clone())).await?;
            cx.facts.database_url.set(url);
            return Ok(Observed::Known { compared, fallback });
        }
        let Some(Database::Managed { id }) = cx.facts.database.get().as_deref().cloned() else {
            return Err(Error::NotKnown("the database cluster"));
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
        let compared = push::look(cx, &one(url.clone())).await?;
        cx.facts.database_url.set(url);
        Ok(Observed::Known { compared, fallback })
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
                let Some(url) = cx.facts.database_url.get() else {
                    return Err(Error::NotKnown("the URL of the database"));
                };
                let value = BTreeMap::from([(VARIABLE.to_owned(), Some((*url).clone()))]);
                push::push(cx, value).await
            }
        }
    }
}

/// Creates what is missing. Every part is unique by name, so a second try finds the first.
async fn attach(cx: &Cx, missing: &Missing) -> fly::Result<()> {
    let exists_already = |result: fly::Result<()>| match result {
        Err(error) if app::is_name_taken(&error) => Ok(()),
        other => other,
    };
    let id = &missing.cluster;
    if let Some(user) = &missing.user {
        // The role that may create tables, which migrations do.
        exists_already(cx.fly.create_postgres_user(id, user, "schema_admin").await)?;
    }
    if let Some(database) = &missing.database {
        exists_already(cx.fly.create_postgres_database(id, database).await)?;
    }
    if missing.record {
        exists_already(cx.fly.attach_postgres(id, &cx.target.app).await)?;
    }
    Ok(())
}

/// Counts the failure; after the third the declared fallback takes over.
fn failed(cx: &Cx, missing: &Missing, error: fly::Error) -> Result<()> {
    let counts = !matches!(
        error.class(),
        fly::Class::Throttled { .. } | fly::Class::Auth { .. }
    );
    let failures = cx.facts.attach_failures.get().map_or(0, |count| *count) + u32::from(counts);
    cx.facts.attach_failures.set(failures);
    if failures < TRIES {
        return Err(Error::fly(
            format!(
                "attach the database cluster {} (try {failures} of {TRIES})",
                missing.cluster
            ),
            error,
        ));
    }
    let text = format!(
        "attaching {} failed {failures} times: {}",
        missing.cluster,
        error.message()
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
            "{text}: look at the cluster with `fly mpg status {}`, or declare `postgres.fallback` with a URL of your own",
            missing.cluster
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
