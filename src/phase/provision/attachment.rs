//! What attaches an app to a database cluster.

use secrecy::SecretString;

/// Whether the app is attached.
#[derive(Debug)]
pub enum Attachment {
    /// Something is missing in the cluster.
    Incomplete(MissingParts),
    /// It is complete, and this is the app's URL.
    Complete(SecretString),
}

/// What the cluster lacks for this app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingParts {
    /// Id of the managed cluster, or the app that is the Fly Postgres cluster.
    pub cluster: String,
    /// The user, if there is none.
    pub user: Option<String>,
    /// The database, if there is none.
    pub database: Option<String>,
    /// Fly.io has no record that the app uses the cluster.
    pub record: bool,
    /// The database is missing, and `DATABASE_URL` is on record as that of this very database.
    pub was_used: bool,
}
