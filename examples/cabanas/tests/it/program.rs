//! The program as Fly runs it: exit codes, last lines, signals.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use kube_env::process::{Process, Spec};

use crate::http::get;
use crate::world::{LIMIT, World};

fn spawn(world: &World, name: &str, arguments: &[&str], extra: &[(&str, &str)]) -> Process {
    let log = world.dir().join(format!("{name}.log"));
    let spec = Spec::new(name, env!("CARGO_BIN_EXE_cabanas"), log).args(arguments.to_vec());
    world
        .env(extra)
        .into_iter()
        .fold(spec, |spec, (name, value)| spec.env(name, value))
        .spawn()
        .unwrap()
}

async fn wait(process: &mut Process) -> (ExitStatus, String) {
    let started = Instant::now();
    loop {
        if let Some(status) = process.exited() {
            return (status, process.output().unwrap());
        }
        assert!(
            started.elapsed() < LIMIT,
            "still running: {}",
            process.output().unwrap()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn run(world: &World, arguments: &[&str], extra: &[(&str, &str)]) -> (Option<i32>, String) {
    let (status, output) = wait(&mut spawn(world, "run", arguments, extra)).await;
    (status.code(), output)
}

#[tokio::test]
async fn migrate_then_db_check_says_ok_and_before_it_does_not() {
    let world = World::start().await;

    let (code, output) = run(&world, &["db-check"], &[]).await;
    assert_eq!(code, Some(1));
    assert!(output.contains("run: cabanas migrate"), "{output}");

    let (code, output) = run(&world, &["migrate"], &[]).await;
    assert_eq!(code, Some(0), "{output}");

    let (code, output) = run(&world, &["db-check"], &[]).await;
    assert_eq!(
        (code, output.lines().last()),
        (Some(0), Some("ok")),
        "{output}"
    );
}

#[tokio::test]
async fn db_check_fails_with_no_database_and_migrate_with_migration_fails() {
    let world = World::migrated().await;

    let (code, output) = run(&world, &["db-check"], &[("CABANAS_FAULT", "no-database")]).await;
    assert_eq!(code, Some(1));
    assert!(
        output.contains("cannot connect to the database"),
        "{output}"
    );

    let fault = [("CABANAS_FAULT", "migration-fails")];
    let (code, output) = run(&world, &["migrate"], &fault).await;
    assert_eq!(code, Some(1));
    assert!(output.contains("V4__discount"), "{output}");
    let (code, _) = run(&world, &["db-check"], &fault).await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn does_not_start_ends_with_1_and_never_listens_but_lets_the_release_command_pass() {
    let world = World::start().await;
    let fault = [("CABANAS_FAULT", "does-not-start")];

    let (migrated, _) = run(&world, &["migrate"], &fault).await;
    let (code, output) = run(&world, &["serve"], &fault).await;

    assert_eq!((migrated, code), (Some(0), Some(1)));
    let served = output
        .lines()
        .skip_while(|l| !l.contains("does-not-start"))
        .count();
    assert_eq!(served, 1, "{output}");
    assert!(!output.contains("listening"), "{output}");
}

#[tokio::test]
async fn exits_after_listens_first_and_ends_with_1() {
    let world = World::migrated().await;

    let (code, output) = run(&world, &[], &[("CABANAS_FAULT", "exits-after=1")]).await;

    assert_eq!(code, Some(1));
    assert!(output.contains("listening"), "{output}");
    assert!(
        output.lines().last().unwrap().contains("exits-after"),
        "{output}"
    );
}

#[tokio::test]
async fn oom_ends_with_137_and_the_last_line_of_the_kernel() {
    let world = World::migrated().await;

    let (code, output) = run(&world, &[], &[("CABANAS_FAULT", "oom")]).await;

    assert_eq!(code, Some(137));
    assert_eq!(output.lines().last(), Some("Out of memory"), "{output}");
}

#[tokio::test]
async fn a_missing_secret_stops_the_start_and_is_named() {
    let world = World::start().await;

    let (code, output) = run(&world, &[], &[("JWT_SECRET", ""), ("ICS_SALT", "")]).await;

    assert_eq!(code, Some(1));
    assert!(output.contains("JWT_SECRET, ICS_SALT"), "{output}");
}

#[tokio::test]
async fn a_signal_ends_the_service_with_0_and_its_logs_are_json_without_secrets() {
    for signal in ["INT", "TERM"] {
        let world = World::migrated().await;
        let log = world.dir().join("serve.log");
        let spec = Spec::new("serve", env!("CARGO_BIN_EXE_cabanas"), log).stop_with(signal, LIMIT);
        let mut process = world
            .env(&[])
            .into_iter()
            .fold(spec, |spec, (name, value)| spec.env(name, value))
            .spawn()
            .unwrap();
        let line = process.wait_for_line("listening", LIMIT).await.unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = line["address"].as_str().unwrap().parse().unwrap();
        assert_eq!(get(address, "/?token=query-canary").await.status, 200);

        let status = process.stop().unwrap();

        let output = process.output().unwrap();
        assert_eq!(status.code(), Some(0), "{output}");
        assert!(output.contains(&format!("SIG{signal}")), "{output}");
        for line in output.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["level"].is_string() && line["message"].is_string());
        }
        assert!(
            !output.contains("canary") && !output.contains("test-app-secret"),
            "{output}"
        );
    }
}

#[tokio::test]
async fn the_token_of_a_calendar_is_printed_for_its_source() {
    let world = World::start().await;

    let (code, output) = run(&world, &["ical-token", "airbnb-1"], &[]).await;

    let token = cabanas::calendar::import_token(&"ics-canary".into(), "airbnb-1");
    assert_eq!((code, output.trim()), (Some(0), token.as_str()));
}
