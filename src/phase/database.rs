//! Which database the app uses, and its URL: facts that several steps read.

use secrecy::SecretString;

use crate::pipeline::{Care, Cx};

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

/// Journal: for what serves and for what is wanted, whether a check that may depend on the database has
/// failed since the step `Attach` last found everything of the app in the cluster. Both have the same
/// database, and each has facts of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Doubted {
    wanted: bool,
    serving: bool,
}

/// A check has failed: somebody may have dropped the app's user or its database, so `Attach` looks again.
pub fn doubt(cx: &Cx) {
    cx.journal.set(Doubted {
        wanted: true,
        serving: true,
    });
}

/// Whether `Attach` has to look again.
pub fn is_doubted(cx: &Cx) -> bool {
    let doubted = cx.journal.get::<Doubted>();
    doubted.is_some_and(|doubted| match cx.care {
        Care::Wanted => doubted.wanted,
        Care::Serving => doubted.serving,
    })
}

/// `Attach` has found everything.
pub fn is_complete(cx: &Cx) {
    if is_doubted(cx) {
        cx.journal
            .change_or_default::<Doubted>(|doubted| match cx.care {
                Care::Wanted => doubted.wanted = false,
                Care::Serving => doubted.serving = false,
            });
    }
}
