//! The release command: brings the schema to what this version needs, and back on request.

use std::time::Duration;

use refinery::Target;
use tokio_postgres::{Client, error::SqlState};

use crate::config::DatabaseConfig;
use crate::database::{Database, DatabaseError};
use crate::schema;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// How long `migrate` waits for a database that does not answer yet.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Undoing a migration: its number and the SQL that takes it back. Those without an entry cannot
/// be undone without losing reservations.
const UNDO: [(i32, &str); 1] = [(3, include_str!("../undo/U3__reservation_notes.sql"))];

/// Key of the lock that lets one migration run at a time; any fixed number that nobody else uses.
const LOCK: i64 = 0x6361_6261_6e61_7301;

/// Why the schema is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database did not answer, or refused a statement.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A migration failed; PostgreSQL rolled it back.
    #[error("migration failed, the schema is as it was before it")]
    Migration(#[source] Box<refinery::Error>),
    /// Another migration did not end in time.
    #[error(
        "another migration is running and did not end within 60 s; look for it with: select * from pg_stat_activity"
    )]
    Locked,
    /// There is no way back from this migration.
    #[error("migration {0} cannot be undone; restore a backup, or write a migration that leads on")]
    Irreversible(i32),
}

/// What `migrate` did.
#[derive(Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Schema before, `None` for an empty database.
    pub from: Option<i32>,
    /// Schema now.
    pub to: Option<i32>,
}

/// Applies what is missing for the version in `config`. Never goes back: a newer schema serves an
/// older version.
pub async fn up(config: &DatabaseConfig) -> Result<Migrated, MigrateError> {
    let database = Database::new(&config.database_url, false)?;
    let lock = lock(&database).await?;
    let from = database.applied_schema().await?;
    let mut client = database.connect().await?;
    if config.faults.migration_fails {
        broken(&client).await?;
    }
    embedded::migrations::runner()
        .set_target(Target::Version(schema::wanted(&config.version)))
        .run_async(&mut client)
        .await
        .map_err(|error| MigrateError::Migration(Box::new(error)))?;
    let to = database.applied_schema().await?;
    drop(lock);
    Ok(Migrated { from, to })
}

/// Takes migrations back, newest first, until the schema is at `target`.
pub async fn down(config: &DatabaseConfig, target: i32) -> Result<Migrated, MigrateError> {
    let database = Database::new(&config.database_url, false)?;
    let lock = lock(&database).await?;
    let from = database.applied_schema().await?;
    let client = database.connect().await?;
    let mut to = from;
    while let Some(version) = to.filter(|version| *version > target) {
        let undo = UNDO
            .iter()
            .find(|(number, _)| *number == version)
            .ok_or(MigrateError::Irreversible(version))?;
        let sql = format!(
            "begin; {} delete from refinery_schema_history where version = {version}; commit;",
            undo.1
        );
        client
            .batch_execute(&sql)
            .await
            .map_err(|source| DatabaseError::Statement {
                doing: "undo a migration",
                source,
            })?;
        to = database.applied_schema().await?;
    }
    drop(lock);
    Ok(Migrated { from, to })
}

/// Waits until no other migration runs, and keeps others out until the result is dropped.
///
/// The lock lives in an open transaction, not in the session: behind a pooler a session outlives
/// its client, and its lock would stay for ever.
async fn lock(database: &Database) -> Result<Client, MigrateError> {
    let client = database.connect_patiently(PATIENCE).await?;
    let sql =
        format!("begin; set local lock_timeout = '60s'; select pg_advisory_xact_lock({LOCK});");
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(client),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Err(MigrateError::Locked)
        }
        Err(source) => Err(DatabaseError::Statement {
            doing: "lock the schema",
            source,
        }
        .into()),
    }
}

/// The switch `migration-fails`: SQL with the kind of mistake that a review overlooks.
async fn broken(client: &Client) -> Result<(), DatabaseError> {
    client
        .batch_execute("alter table reservations add column discount integer not null")
        .await
        .map_err(|source| DatabaseError::Statement {
            doing: "apply migration V4__discount (the switch migration-fails is on)",
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_schema_is_the_highest_migration_in_the_folder() {
        let highest = embedded::migrations::runner()
            .get_migrations()
            .iter()
            .map(refinery::Migration::version)
            .max();
        assert_eq!(highest, Some(schema::NEWEST));
    }
}
