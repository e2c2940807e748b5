//! The names of what Golive creates for an app, and of the variables that carry URLs.
//!
//! Each name follows from the app's name, so that a restarted process finds what was created.

/// The secret of the app with the URL of its database.
pub const DATABASE_URL: &str = "DATABASE_URL";

/// The secret of the app with the URL of its Redis.
pub const REDIS_URL: &str = "REDIS_URL";

/// Kind of an address of the app in `status.external[]` and `status.intents[]`.
pub const ADDRESS: &str = crate::api::status::ExternalKind::Address.as_str();

/// Name of the managed Postgres cluster, and of the app that is a Fly Postgres cluster.
pub fn postgres(app: &str) -> String {
    format!("{app}-db")
}

/// Name of the Upstash Redis database.
pub fn redis(app: &str) -> String {
    format!("{app}-redis")
}

/// Name of the app's user and database in PostgreSQL: the app's name, as an identifier that needs
/// no quotes.
pub fn role(app: &str) -> String {
    app.replace('-', "_")
}

/// Begins the name of a token for one app alone; the UID of the Activation follows.
const APP_TOKEN: &str = "golive-";

/// Name of the tokens for the app alone that an Activation makes.
pub fn app_token(uid: &str) -> String {
    format!("{APP_TOKEN}{uid}")
}

/// The UID in the name of a token for one app alone; `None`: Golive did not make it.
pub fn uid_of_app_token(name: &str) -> Option<&str> {
    name.strip_prefix(APP_TOKEN)
}

/// The public host of the app.
pub fn public_host(app: &str) -> String {
    format!("{app}.fly.dev")
}
