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

/// A user or a database of the app in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// It is there.
    #[default]
    There,
    /// The cluster was asked, and the one of this name is not there.
    Missing(String),
    /// The cluster was not asked for the one of this name. To create it is harmless if it is there.
    NotAsked(String),
}

impl Part {
    /// The name of the one to create.
    pub fn to_create(&self) -> Option<&str> {
        match self {
            Self::There => None,
            Self::Missing(name) | Self::NotAsked(name) => Some(name),
        }
    }

    /// Whether the cluster was asked, and it is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// What the cluster lacks for this app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingParts {
    /// Id of the managed cluster, or the app that is the Fly Postgres cluster.
    pub cluster: String,
    /// The user.
    pub user: Part,
    /// The database.
    pub database: Part,
    /// Fly.io has no record that the app uses the cluster.
    pub record: bool,
    /// The database is missing, and the app has used it: `DATABASE_URL` is on record as that of this very
    /// database, or it is on record and Fly.io has recorded that the app uses the cluster.
    pub was_used: bool,
}

impl MissingParts {
    /// Whether data is lost: a database that was used, or that this process has seen (`was_seen`), is not there.
    /// Of one that the cluster was not asked for, nothing of the kind is known.
    pub fn is_data_lost(&self, was_seen: bool) -> bool {
        self.database.is_missing() && (self.was_used || was_seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_lost_only_when_a_cluster_that_was_asked_lacks_a_database_that_was_used() {
        let with = |database, was_used| MissingParts {
            database,
            was_used,
            ..MissingParts::default()
        };
        let name = || "shop".to_owned();
        assert!(with(Part::Missing(name()), true).is_data_lost(false));
        assert!(with(Part::Missing(name()), false).is_data_lost(true));
        // A first go-live.
        assert!(!with(Part::Missing(name()), false).is_data_lost(false));
        // Of a Fly Postgres cluster only Fly.io's record is missing, or the stored password.
        assert!(!with(Part::NotAsked(name()), false).is_data_lost(true));
        // The user alone is missing.
        assert!(!with(Part::There, false).is_data_lost(true));
    }

    #[test]
    fn what_was_not_asked_for_is_created_and_what_is_there_is_not() {
        assert_eq!(Part::There.to_create(), None);
        assert_eq!(Part::Missing("shop".to_owned()).to_create(), Some("shop"));
        assert_eq!(Part::NotAsked("shop".to_owned()).to_create(), Some("shop"));
    }
}
