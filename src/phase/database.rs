//! Which database the app uses, and its URL: facts that several steps read.

use secrecy::SecretString;

/// Which database the app uses. A fact of the step `Postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// One outside Fly.io or outside Golive's care: its URL is in a Secret.
    External,
    /// A managed Postgres cluster.
    Managed {
        /// Its id.
        id: String,
    },
    /// A Fly Postgres cluster: an app whose machines run PostgreSQL.
    FlyPostgres {
        /// The app that is the cluster.
        app: String,
        /// Id of the machine that is the primary.
        primary: String,
    },
}

impl Database {
    /// True when both are the same database, which has one URL. A Fly Postgres cluster keeps its
    /// URL when another machine becomes the primary.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::FlyPostgres { app, .. }, Self::FlyPostgres { app: other, .. }) => app == other,
            _ => self == other,
        }
    }
}

/// `DATABASE_URL` of the cluster. A fact of the step `Attach`, cleared by the step `Postgres` when
/// the app uses another database.
#[derive(Clone, Debug)]
pub struct DatabaseUrl(pub SecretString);
