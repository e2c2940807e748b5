//! Which database the app uses, and its URL: facts that several steps read.

use secrecy::SecretString;

use crate::pipeline::Cx;

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

/// Journal: a check that may depend on the database has failed since the step `Attach` last found everything of the
/// app in the cluster. That of the spec alone looks: what serves has the same database, and its address is kept
/// by its fingerprint.
#[derive(Clone, Copy, Debug)]
struct Doubted;

/// A check has failed: somebody may have dropped the app's user or its database, so `Attach` looks again.
pub fn doubt(cx: &Cx) {
    cx.journal.set(Doubted);
}

/// Whether `Attach` has to look again.
pub fn is_doubted(cx: &Cx) -> bool {
    cx.journal.get::<Doubted>().is_some()
}

/// `Attach` has found everything.
pub fn is_complete(cx: &Cx) {
    cx.journal.clear::<Doubted>();
}
