//! Attaches the app to its managed Postgres cluster: a user, a database, and Fly.io's record.

use secrecy::{ExposeSecret, SecretString};

use super::attachment::{Attachment, MissingParts, Part};
use crate::{
    api::Reason,
    error::Error,
    fly,
    phase::{already, lost, names},
    pipeline::{Cx, step::Result},
    plan::fingerprint,
};

/// Reads what there is of the attachment in the cluster of this id.
///
/// # Errors
/// When Fly.io does not answer, or does not show the cluster or its URL.
pub async fn observe(cx: &Cx, id: &str) -> Result<Attachment> {
    read(cx, id, false).await
}

/// The URL for the app, if user and database are in the cluster; also when Fly.io's record of the
/// attachment went with a former app of the name.
///
/// # Errors
/// As [`observe`].
pub async fn url(cx: &Cx, id: &str) -> Result<Option<SecretString>> {
    Ok(match read(cx, id, true).await? {
        Attachment::Complete(url) => Some(url),
        Attachment::Incomplete(_) => None,
    })
}

async fn read(cx: &Cx, id: &str, without_record: bool) -> Result<Attachment> {
    let role = names::role(&cx.target.app);
    let doing = |source| Error::fly("read the database cluster", source);
    let (details, user, databases) = futures::try_join!(
        cx.fly.postgres_cluster(id),
        cx.fly.postgres_user_credentials(id, &role),
        cx.fly.postgres_databases(id),
    )
    .map_err(doing)?;
    let Some(details) = details else {
        return Err(Error::NotKnown("the database cluster"));
    };
    let mut attached = details.cluster.attached_apps.0.iter();
    let base = details
        .credentials
        .and_then(|credentials| credentials.pgbouncer_uri);
    let has_user = user.is_some();
    let password = user.and_then(|user| user.password);
    let url = match (&base, &password) {
        (Some(base), Some(password)) => Some(url_for(base, &role, password)),
        _ => None,
    };
    let has_database = databases.iter().any(|found| found.name == role);
    let is_recorded = attached.any(|attached| attached.name == cx.target.app);
    let pushed = lost::pushed(cx, names::DATABASE_URL).map(|pushed| pushed.fingerprint);
    let print = url.iter().flatten().next();
    let print = print.map(|url| fingerprint(&cx.installation.fingerprint_key, url));
    let part = |is_there: bool| match is_there {
        true => Part::There,
        false => Part::Missing(role.clone()),
    };
    let missing = MissingParts {
        was_used: !has_database && was_used(pushed.as_deref(), print.as_deref(), is_recorded),
        user: part(has_user),
        database: part(has_database),
        record: !is_recorded,
        cluster: id.to_owned(),
    };
    if !has_user || !has_database || (missing.record && !without_record) {
        return Ok(Attachment::Incomplete(missing));
    }
    let Some(url) = url else {
        return Err(Error::NotKnown("the URL of the database cluster"));
    };
    match url {
        Some(url) => Ok(Attachment::Complete(url)),
        None => Err(Error::Blocked {
            reason: Reason::AttachFailed,
            message: "Fly.io returned a database URL that cannot be parsed".to_owned(),
            action: "look at the cluster with `fly mpg status`".to_owned(),
        }),
    }
}

/// Whether the app has used its database in this cluster, which is not there now. The application has got an
/// address (`pushed`: its fingerprint), and that is the one in this cluster (`url`: its fingerprint, if the user
/// is there), or Fly.io has recorded that the app uses the cluster: that is done last, after user and database
/// were created. Pure.
fn was_used(pushed: Option<&str>, url: Option<&str>, is_recorded: bool) -> bool {
    pushed.is_some_and(|pushed| is_recorded || url == Some(pushed))
}

/// Creates what is missing. Every part is unique by name, so a second request finds the first; what
/// is refused twice is reported.
///
/// # Errors
/// When Fly.io refuses or does not answer.
pub async fn attach(cx: &Cx, missing: &MissingParts) -> Result<()> {
    let exists_already = |part: &str, result: fly::Result<()>| {
        let doing = format!(
            "create the {part} in the database cluster {}",
            missing.cluster
        );
        already::exists_once(cx, doing, result)
    };
    let id = &missing.cluster;
    let user = async {
        match missing.user.to_create() {
            // The role that may create tables, which migrations do.
            Some(user) => {
                let created = cx.fly.create_postgres_user(id, user, "schema_admin").await;
                exists_already(&format!("user {user}"), created)
            }
            None => Ok(()),
        }
    };
    let database = async {
        match missing.database.to_create() {
            Some(database) => {
                let created = cx.fly.create_postgres_database(id, database).await;
                exists_already(&format!("database {database}"), created)
            }
            None => Ok(()),
        }
    };
    // Both run to their end, also when one fails: the outcome of a cancelled call is unknown.
    let (user, database) = futures::join!(user, database);
    user.and(database)?;
    if missing.record {
        let attached = cx.fly.attach_postgres(id, &cx.target.app).await;
        exists_already(&format!("record of the app {}", cx.target.app), attached)?;
    }
    Ok(())
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
    fn a_database_was_used_also_when_its_user_is_gone_with_it_or_has_another_password() {
        // The user is gone too, or was created anew: Fly.io's record of the app remains.
        assert!(was_used(Some("a"), None, true));
        assert!(was_used(Some("a"), Some("b"), true));
        // The record went with a former app of the name: the address is that of this database.
        assert!(was_used(Some("a"), Some("a"), false));
        // The address of an external database, which a cluster replaces.
        assert!(!was_used(Some("a"), None, false));
        assert!(!was_used(Some("a"), Some("b"), false));
        // The application has got no address yet.
        assert!(!was_used(None, Some("a"), true));
        assert!(!was_used(None, None, true));
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
