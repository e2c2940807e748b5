//! Attaches the app to its Fly Postgres cluster, as `fly postgres attach` does: a user and a
//! database through the cluster's own API, then Fly.io's record. That API listens in the private
//! network only, so it is called from within the primary machine. Source: fly-apps/postgres-flex.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{
    attachment::{Attachment, MissingParts, Part},
    stored_values,
};
use crate::{
    api::Reason,
    error::Error,
    fly::{Client, ExecRequest, fly_postgres::NewPostgresAttachment},
    phase::{
        names::{DATABASE_URL, role},
        wanted_secrets::store,
    },
    pipeline::{Cx, step::Result},
    plan::fingerprint,
};

/// The key under which the password of the app's user is stored.
const PASSWORD: &str = "golive_postgres_app";

/// The cluster's API in its machine.
const API: &str = "http://localhost:5500/commands";

/// Longest time of one call of that API, in seconds.
const LONGEST: u32 = 30;

/// The name of what is asked outside of the workers.
const QUESTION: &str = "attach";

/// Reads whether the app is attached with the stored password.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer.
pub async fn observe(cx: &Cx, cluster: &str) -> Result<Attachment> {
    let app = &cx.target.app;
    let attached = cx.fly.postgres_attachments(app, cluster).await;
    let attached = attached.map_err(|source| Error::fly("read what is attached", source))?;
    let stored = store(cx).read().await?.unwrap_or_default();
    let password = stored.values.get(PASSWORD);
    if let Some(password) = password {
        let user = user(cx, password.secret());
        let ours = attached.iter().any(|found| {
            found.database_user.as_deref() == Some(&user)
                && found.database_name.as_deref() == Some(&role(app))
        });
        if ours {
            let url = url(cluster, &user, password.secret(), &role(app));
            return Ok(Attachment::Complete(url));
        }
    }
    Ok(Attachment::Incomplete(MissingParts {
        cluster: cluster.to_owned(),
        // Only its own API knows, which creates neither a second time.
        user: Part::NotAsked(role(app)),
        database: Part::NotAsked(role(app)),
        record: true,
        was_used: false,
    }))
}

/// Creates the user and the database, and records the attachment. Parts that exist are left as they
/// are.
///
/// # Errors
/// When Fly.io, Kubernetes or the cluster refuses or does not answer, and while the cluster has not
/// answered yet.
pub async fn attach(cx: &Cx, cluster: &str, primary: &str) -> Result<()> {
    // Stored before it is used: a password that is lost locks the user out.
    let stored = stored_values::ensure_passwords(cx, &[PASSWORD]).await?;
    let Some(password) = stored.get(PASSWORD) else {
        return Err(Error::NotKnown("the password of the database's user"));
    };
    let (app, user) = (&cx.target.app, user(cx, password));
    let database = role(app);
    let create = InCluster {
        fly: cx.fly.clone(),
        cluster: cluster.to_owned(),
        machine: primary.to_owned(),
    };
    let question = format!("{cluster} {primary} {user} {database}");
    let parts = (database.clone(), user.clone(), password.clone());
    // A command in a machine may take as long as the machine likes.
    let work = || async move { create.user_and_database(parts).await };
    let created = cx.outside.ask(QUESTION, &question, work).await;
    created.ok_or_else(|| Error::Awaited(format!("the database machine {primary}")))??;
    let doing = |source| Error::fly(format!("record that {app} uses {cluster}"), source);
    let attached = cx.fly.postgres_attachments(app, cluster).await;
    for old in attached.map_err(doing)? {
        let same = old.database_user.as_deref() == Some(&user);
        if old.variable.as_deref() == Some(DATABASE_URL) && same {
            return Ok(());
        }
        if old.variable.as_deref() == Some(DATABASE_URL) {
            // Its password is lost. Its user stays, because it may own tables.
            let gone = cx.fly.detach_fly_postgres(app, cluster, &old.id).await;
            gone.map_err(doing)?;
        }
    }
    let attachment = NewPostgresAttachment {
        app,
        postgres_app: cluster,
        database: &database,
        user: &user,
        variable: DATABASE_URL,
    };
    cx.fly.attach_fly_postgres(&attachment).await.map_err(doing)
}

/// The machine in which the cluster's API is called.
struct InCluster {
    fly: Client,
    cluster: String,
    machine: String,
}

impl InCluster {
    /// Creates the database and the user with its password.
    async fn user_and_database(
        self,
        (database, user, password): (String, String, SecretString),
    ) -> Result<()> {
        self.post("databases/create", json!({"name": database}))
            .await?;
        let new = json!({
            "username": user,
            "password": password.expose_secret(),
            // As with `fly postgres attach`: migrations create extensions and schemas.
            "superuser": true,
        });
        self.post("users/create", new).await
    }

    /// One call of the cluster's API. Creating what exists already succeeds.
    async fn post(&self, what: &str, body: Value) -> Result<()> {
        let (cluster, machine) = (&self.cluster, &self.machine);
        let command = [
            "curl",
            "--silent",
            "--show-error",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "--header",
            "Content-Type: application/json",
            // The body holds the password, so it is passed on the standard input.
            "--data-binary",
            "@-",
        ];
        let mut command: Vec<String> = command.into_iter().map(str::to_owned).collect();
        command.push(format!("{API}/{what}"));
        let request = ExecRequest {
            command,
            timeout: Some(LONGEST),
            stdin: Some(body.to_string()),
            container: None,
        };
        let outcome = self.fly.exec(cluster, machine, &request, None).await;
        let outcome = outcome.map_err(|source| {
            Error::fly(
                format!("run {what} in the database machine {machine}"),
                source,
            )
        })?;
        let status = outcome.stdout.as_deref().unwrap_or_default().trim();
        let exit = outcome.exit_code.unwrap_or(0);
        match (exit, status) {
            (0, "200" | "201" | "409") => Ok(()),
            _ => Err(Error::Blocked {
                reason: Reason::AttachFailed,
                message: format!(
                    "{what} in the database machine {machine} of {cluster} ended with exit code {exit} and HTTP status {}",
                    status.parse::<u16>().unwrap_or_default()
                ),
                action: format!("look at `fly logs -a {cluster}`"),
            }),
        }
    }
}

/// Name of the user. It changes with the password, because the API cannot change a password: if the
/// stored one is lost, another user is created.
fn user(cx: &Cx, password: &SecretString) -> String {
    let print = fingerprint(&cx.installation.fingerprint_key, password);
    let role: String = role(&cx.target.app).chars().take(50).collect();
    format!("{role}_{}", print.get(..8).unwrap_or_default())
}

fn url(cluster: &str, user: &str, password: &SecretString, database: &str) -> SecretString {
    // The password consists of letters and digits, so it needs no escaping.
    SecretString::from(format!(
        "postgres://{user}:{}@top2.nearest.of.{cluster}.internal:5432/{database}?sslmode=disable",
        password.expose_secret()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_the_one_that_fly_postgres_attach_sets() {
        let url = url("shop-db", "shop_1", &SecretString::from("abc"), "shop");
        assert_eq!(
            url.expose_secret(),
            "postgres://shop_1:abc@top2.nearest.of.shop-db.internal:5432/shop?sslmode=disable"
        );
    }
}
