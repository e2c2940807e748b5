//! Migrations: forward for each version, back where a way back exists, one at a time.

use cabanas::migrate::{MigrateError, down, up};
use cabanas::schema::NEWEST;

use crate::world::World;

const NOTES: &str = "select count(*)::text from information_schema.columns \
                     where table_name = 'reservation' and column_name = 'notes'";

#[tokio::test]
async fn a_version_gets_the_schema_that_it_needs_and_a_second_run_changes_nothing() {
    let world = World::start().await;
    let old = world.database_config(&[("CABANAS_VERSION", "1.4.0")]);

    let first = up(&old).await.unwrap();
    let second = up(&old).await.unwrap();

    assert_eq!((first.from, first.to), (None, Some(2)));
    assert_eq!((second.from, second.to), (Some(2), Some(2)));
}

#[tokio::test]
async fn a_later_version_migrates_on_and_an_older_one_never_back() {
    let world = World::start().await;
    let (old, new) = (
        world.database_config(&[("CABANAS_VERSION", "1.4.0")]),
        world.database_config(&[("CABANAS_VERSION", "1.5.0")]),
    );
    up(&old).await.unwrap();

    let on = up(&new).await.unwrap();
    let again = up(&old).await.unwrap();

    assert_eq!((on.from, on.to), (Some(2), Some(NEWEST)));
    assert_eq!((again.from, again.to), (Some(NEWEST), Some(NEWEST)));
    assert_eq!(world.scalar(NOTES).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_reversible_migration_is_taken_back_and_applied_again() {
    let world = World::migrated().await;
    let config = world.database_config(&[]);

    let back = down(&config, 2).await.unwrap();
    assert_eq!((back.from, back.to), (Some(NEWEST), Some(2)));
    assert_eq!(world.scalar(NOTES).await.as_deref(), Some("0"));

    let forward = up(&config).await.unwrap();
    assert_eq!(forward.to, Some(NEWEST));
    assert_eq!(world.scalar(NOTES).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_migration_without_a_way_back_is_refused() {
    let world = World::migrated().await;

    let error = down(&world.database_config(&[]), 0).await.unwrap_err();

    assert!(matches!(error, MigrateError::Irreversible(2)), "{error:?}");
}

#[tokio::test]
async fn migrations_that_start_together_wait_for_each_other() {
    let world = World::start().await;
    let config = world.database_config(&[]);

    let all = futures::future::join_all((0..5).map(|_| up(&config))).await;

    assert!(
        all.iter()
            .all(|one| one.as_ref().is_ok_and(|m| m.to == Some(NEWEST))),
        "{all:?}"
    );
    assert_eq!(all.iter().flatten().filter(|m| m.from.is_none()).count(), 1);
}

#[tokio::test]
async fn migration_fails_leaves_the_schema_as_it_was() {
    let world = World::start().await;
    let broken = world.database_config(&[("CABANAS_FAULT", "migration-fails")]);

    let error = up(&broken).await.unwrap_err();

    let text = cabanas::database::chain(&error);
    assert!(text.contains("\"reservations\" does not exist"), "{text}");
    let tables = "select count(*)::text from pg_tables where tablename = 'reservation'";
    assert_eq!(world.scalar(tables).await.as_deref(), Some("0"));
    let mended = up(&world.database_config(&[])).await.unwrap();
    assert_eq!(mended.to, Some(NEWEST));
}
