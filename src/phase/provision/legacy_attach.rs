//! Attaching legacy Fly Postgres, as `fly postgres attach` does it: a user and a database through
//! the cluster's own API, then Fly.io's record. That API listens in the private network only, so
//! it is called from within the primary machine. Sources: fly-api.md E.2, E.3, I.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{
    attach::{Missing, VARIABLE, role},
    fly_postgres, secrets,
};
use crate::{
    api::Reason,
    error::Error,
    fly::{ExecRequest, fly_postgres::NewPostgresAttachment},
    pipeline::{Cx, step::Result},
    plan::fingerprint,
};

/// Where the password of the app's user is kept.
const PASSWORD: &[(&str, &str)] = &[("", "golive_postgres_app")];

/// The cluster's API in its machine.
const API: &str = "http://localhost:5500/commands";

/// Longest time of one call of that API, in seconds.
const LONGEST: u32 = 30;

/// The URL, if the app is attached with the password that is kept.
///
/// # Errors
/// When Fly.io or Kubernetes does not answer.
pub async fn look(cx: &Cx, cluster: &str) -> Result<std::result::Result<SecretString, Missing>> {
    let app = &cx.target.app;
    let attached = cx.fly.postgres_attachments(app, cluster).await;
    let attached = attached.map_err(|source| Error::fly("read what is attached", source))?;
    let stored = secrets::store(cx).read().await?.unwrap_or_default();
    let password = stored.values.get(PASSWORD[0].1);
    if let Some(password) = password {
        let user = user(cx, password.secret());
        let ours = attached.iter().any(|found| {
            found.database_user.as_deref() == Some(&user)
                && found.database_name.as_deref() == Some(&role(app))
        });
        if ours {
            return Ok(Ok(url(cluster, &user, password.secret(), &role(app))));
        }
    }
    Ok(Err(Missing {
        cluster: cluster.to_owned(),
        user: Some(role(app)),
        database: Some(role(app)),
        record: true,
    }))
}

/// Makes the user and the database, and records the attachment. Every part is found when it is
/// there already.
///
/// # Errors
/// When Fly.io, Kubernetes or the cluster refuses or does not answer.
pub async fn attach(cx: &Cx, cluster: &str, primary: &str) -> Result<()> {
    // Kept before it is used: a password that nobody knows any more locks the user out.
    let kept = fly_postgres::keep(cx, PASSWORD).await?;
    let Some(password) = kept.get(PASSWORD[0].1) else {
        return Err(Error::NotKnown("the password of the database's user"));
    };
    let (app, user) = (&cx.target.app, user(cx, password));
    let database = role(app);
    let call = |what: &'static str, body: Value| post(cx, cluster, primary, what, body);
    call("databases/create", json!({"name": database})).await?;
    let new = json!({
        "username": user,
        "password": password.expose_secret(),
        // As `fly postgres attach` makes it: migrations create extensions and schemas.
        "superuser": true,
    });
    call("users/create", new).await?;
    let doing = |source| Error::fly(format!("record that {app} uses {cluster}"), source);
    let attached = cx.fly.postgres_attachments(app, cluster).await;
    for old in attached.map_err(doing)? {
        let same = old.database_user.as_deref() == Some(&user);
        if old.variable.as_deref() == Some(VARIABLE) && same {
            return Ok(());
        }
        if old.variable.as_deref() == Some(VARIABLE) {
            // Of a password that is lost. Its user stays: it may own tables.
            let gone = cx.fly.detach_fly_postgres(app, cluster, &old.id).await;
            gone.map_err(doing)?;
        }
    }
    let attachment = NewPostgresAttachment {
        app,
        postgres_app: cluster,
        database: &database,
        user: &user,
        variable: VARIABLE,
    };
    cx.fly.attach_fly_postgres(&attachment).await.map_err(doing)
}

/// One call of the cluster's API. What exists already is fine.
async fn post(cx: &Cx, cluster: &str, machine: &str, what: &str, body: Value) -> Result<()> {
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
        // The body has the password, so it goes in by the standard input.
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
    let outcome = cx.fly.exec(cluster, machine, &request, None).await;
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
                "{what} in the database machine {machine} of {cluster} ended with exit code {exit} and HTTP status {}: look at `fly logs -a {cluster}`",
                status.parse::<u16>().unwrap_or_default()
            ),
        }),
    }
}

/// Name of the user. It changes with the password, since the API cannot set another one: should
/// the kept password be lost, another user takes over.
fn user(cx: &Cx, password: &SecretString) -> String {
    let print = fingerprint(&cx.installation.fingerprint_key, password);
    let role: String = role(&cx.target.app).chars().take(50).collect();
    format!("{role}_{}", print.get(..8).unwrap_or_default())
}

fn url(cluster: &str, user: &str, password: &SecretString, database: &str) -> SecretString {
    // The password has letters and digits only.
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
