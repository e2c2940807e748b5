//! What a machine that is not well means for the rollout and for the release.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::{
    flytoml::{self, Strategy},
    phase::{
        deploy::{
            assessment::CrashLoop,
            fleet::wanted::{self, FleetSpec},
            machine_checks::Checks,
            release::{
                record::{Migration, Outcome, Record},
                records::{
                    Records,
                    tests::{record, records},
                },
                targets::{Effective, RolledBack},
                wanted::WantedRelease,
            },
            rollout::{DesiredFleet, Patience},
        },
        evidence::cause::{Finding, declared},
        evidence::listening::Listening,
    },
    pipeline::Owner,
    store::image::Image,
};

const TOML: &str = "app = 'a'\n[http_service]\ninternal_port = 8080\n\
    [[http_service.checks]]\npath = '/up'\ngrace_period = '5s'\n";
const MIGRATES: &str = "app = 'a'\n[deploy]\nrelease_command = 'migrate'\n\
    [http_service]\ninternal_port = 8080\n";
const CHECK: &str = "servicecheck-00-http-8080";

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

fn target(spec: &str) -> Target {
    crate::phase::testing::target(spec, &[])
}

/// The rollout of the release `b`, number 2, after `a`, which serves: of three machines two exist,
/// and they are well.
fn assessment(toml: &str) -> Assessment {
    let records = records(&[("a", Outcome::Succeeded)]);
    let config = flytoml::parse(toml).unwrap().config;
    let owner = Owner {
        namespace: "n".to_owned(),
        name: "a".to_owned(),
        uid: "u".to_owned(),
        generation: 1,
    };
    let machines = wanted::machines(&FleetSpec {
        scale: &[("app".to_owned(), 3)].into(),
        regions: &BTreeMap::new(),
        region: "eze",
        owner: &owner,
        config: &config,
        image: "r/a@sha256:2",
        secrets: "s",
        release: "b",
        size: None,
    })
    .unwrap();
    let rollout = Rollout {
        targets: Targets {
            serving: records.serving(),
            wanted: WantedRelease {
                number: 2,
                key: "b".to_owned(),
                image: Image {
                    asked: String::new(),
                    reference: "r/a:2".to_owned(),
                    pinned: "r/a@sha256:2".to_owned(),
                    digest: "sha256:2".to_owned(),
                    runs_on_fly: Some(true),
                },
                config_hash: String::new(),
                env: Vec::new(),
                migrates: false,
            },
            keeps_serving: false,
            records,
        },
        effective: Effective {
            key: "b".to_owned(),
            pinned: "r/a@sha256:2".to_owned(),
            digest: "sha256:2".to_owned(),
            config: Arc::new(config),
            rollback: None,
        },
        machines: Vec::new(),
        desired: DesiredFleet {
            machines,
            canaries: Vec::new(),
            strategy: Strategy::Rolling,
            pools: BTreeMap::new(),
            fallback: None,
        },
        others: Vec::new(),
        written: BTreeSet::new(),
        reverted: BTreeSet::new(),
        patience: Patience {
            watch: Duration::from_secs(10),
            wait_timeout: Duration::from_secs(60),
            pause: Duration::from_secs(1),
            drain: Duration::ZERO,
        },
        doubt: None,
    };
    let mut of = Assessment {
        rollout,
        checks: Checks::default(),
        evidence: BTreeMap::new(),
        is_serving_gone: false,
        unconfirmed: BTreeMap::new(),
        is_unrecorded: true,
        crash_loop: None,
    };
    for at in 0..2 {
        is(
            &mut of,
            at,
            &json!({"state": "started", "checks": [{"name": CHECK, "status": "passing"}]}),
        );
    }
    of
}

/// The machine of this slot is so, and has the wanted configuration.
fn is(assessment: &mut Assessment, at: usize, what: &Value) {
    let wanted = &assessment.rollout.desired.machines[at];
    let mut whole = json!({"id": format!("m{at}"), "name": wanted.name, "host_status": "ok"});
    for (key, value) in what.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let mut machine: Machine = serde_json::from_value(whole).unwrap();
    machine.config = Some(wanted.config.clone());
    let machines = &mut assessment.rollout.machines;
    machines.retain(|other| other.id != machine.id);
    machines.push(machine);
}

fn exited(assessment: &mut Assessment, at: usize) {
    let exit = json!({"exit_event": {"exit_code": 3, "restarting": true}});
    let events = json!([{"id": "e", "type": "exit", "timestamp": 1, "request": exit}]);
    is(
        assessment,
        at,
        &json!({"state": "started", "events": events}),
    );
}

/// Its check has this status since these seconds after its start, a hundred seconds ago.
fn checked(assessment: &mut Assessment, at: usize, status: &str, seconds: i64) {
    let start = json!([{"id": "e", "type": "start", "timestamp": ago(100).as_millisecond()}]);
    let check = json!([{"name": CHECK, "status": status, "output": "connect: connection refused",
        "updated_at": ago(100 - seconds).to_string()}]);
    let what = json!({"state": "started", "events": start, "checks": check,
        "updated_at": ago(100).to_string()});
    is(assessment, at, &what);
}

fn verdict(assessment: &Assessment) -> Verdict<()> {
    health(assessment, "shop", now(), |_| true)
}

fn said(verdict: Verdict<()>) -> (bool, Reason, String) {
    match verdict {
        Verdict::Blocked(why) => (true, why.reason, why.message),
        Verdict::Wait { why, .. } => (false, why.reason, why.message),
        other => panic!("{other:?}"),
    }
}

fn why() -> Why {
    Why::new(Reason::MachineExited, "golive-app-0 exited with code 3")
}

/// What a failure of the release means.
fn means(assessment: &Assessment, spec: &str) -> std::result::Result<FailedRelease, Why> {
    failure(assessment, &target(spec), why())
}

#[test]
fn a_rollout_is_as_well_as_the_worst_machine_that_it_is_asked_about() {
    let mut of = assessment(TOML);
    assert!(matches!(verdict(&of), Verdict::Done));
    is(&mut of, 0, &json!({"state": "starting"}));
    assert_eq!(said(verdict(&of)).1, Reason::MachineStarting);
    // What has failed for certain is told before what is waited for, whichever comes first.
    exited(&mut of, 1);
    let (blocked, reason, message) = said(verdict(&of));
    assert_eq!((blocked, reason), (true, Reason::MachineExited));
    assert!(message.contains("golive-app-1 (m1)"), "{message}");
    let first = health::<()>(&of, "shop", now(), |wanted| wanted.slot == "app-0");
    assert_eq!(
        said(first).1,
        Reason::MachineStarting,
        "the other is not asked about"
    );
    // A standby does not run until it is needed.
    for wanted in &mut of.rollout.desired.machines {
        wanted.standby = true;
    }
    assert!(matches!(verdict(&of), Verdict::Done));
}

#[test]
fn each_state_is_worse_than_those_that_may_still_become_well() {
    let mut of = assessment(TOML);
    let told = |of: &mut Assessment, worst: &Value, better: &Value| {
        for (at, what) in [(0, better), (1, worst)] {
            is(of, at, what);
        }
        let (_, _, message) = said(verdict(of));
        assert!(message.contains("golive-app-1 "), "{message}");
    };
    let exit = json!({"exit_event": {"exit_code": 3}});
    let events = json!([{"id": "e", "type": "exit", "timestamp": 1, "request": exit}]);
    let states = [
        json!({"state": "started", "events": events}),
        json!({"state": "failed"}),
        json!({"state": "started", "checks": [{"name": CHECK, "status": "critical"}]}),
        json!({"state": "starting"}),
    ];
    for (worst, better) in states.iter().zip(&states[1..]) {
        told(&mut of, worst, better);
    }
}

#[test]
fn a_machine_may_take_its_wait_timeout_and_not_longer() {
    let mut of = assessment(TOML);
    for (seconds, late) in [(59, false), (60, false), (61, true)] {
        let what = json!({"state": "starting", "updated_at": ago(seconds).to_string()});
        is(&mut of, 0, &what);
        assert_eq!(said(verdict(&of)).0, late, "{seconds}");
    }
    is(&mut of, 0, &json!({"state": "starting"}));
    assert!(!said(verdict(&of)).0, "since when is not known");
}

#[test]
fn one_look_is_no_proof_of_a_failure() {
    let mut of = assessment(TOML);
    exited(&mut of, 0);
    let again = Duration::from_secs(7);
    of.unconfirmed.insert("m0".to_owned(), again);
    let Verdict::Wait { why, wake } = verdict(&of) else {
        panic!("judged at the first look")
    };
    assert!(
        matches!(wake, Wake::After(after) if after == again),
        "{wake:?}"
    );
    assert!(
        why.message
            .ends_with("looks again before it judges the release"),
        "{}",
        why.message
    );
    // A release that ran well counts as such until the second look.
    of.rollout.targets.keeps_serving = true;
    assert!(matches!(verdict(&of), Verdict::Holds(after) if after == again));
    // A restored one has not shown yet that it runs.
    let failed = record(2, "b", Outcome::Failed);
    let serving = record(1, "a", Outcome::Succeeded);
    of.rollout.effective.rollback = Some(RolledBack { failed, serving });
    assert!(matches!(verdict(&of), Verdict::Wait { .. }));
    of.unconfirmed.clear();
    assert!(said(verdict(&of)).0);
}

#[test]
fn a_program_that_fails_again_and_again_is_no_start_though_it_runs_now() {
    let mut of = assessment("app = 'a'\n[http_service]\ninternal_port = 8080\n");
    let start = json!([{"id": "e", "type": "start", "timestamp": ago(2).as_millisecond()}]);
    let runs = json!({"state": "started", "events": start});
    for at in 0..2 {
        is(&mut of, at, &runs);
    }
    let (blocked, reason, _) = said(verdict(&of));
    assert_eq!((blocked, reason), (false, Reason::MachineStarting));

    let looping = |machine: &str| CrashLoop {
        machine: machine.to_owned(),
        why: Why::new(Reason::CrashLooping, "it exits again and again"),
    };
    of.crash_loop = Some(looping("m1"));
    let (blocked, reason, message) = said(verdict(&of));
    assert_eq!((blocked, reason), (true, Reason::MachineExited));
    assert!(message.contains("again and again"), "{message}");
    let first = health::<()>(&of, "shop", now(), |wanted| wanted.slot == "app-0");
    assert!(!said(first).0, "the other is not asked about");
    // Another one that has ended just now is looked at again, which does not hold this up.
    exited(&mut of, 0);
    of.unconfirmed
        .insert("m0".to_owned(), Duration::from_secs(7));
    let (blocked, _, message) = said(verdict(&of));
    assert!(blocked && message.contains("again and again"), "{message}");
    // One whose checks decide is judged by them.
    let mut of = assessment(TOML);
    is(&mut of, 0, &json!({"state": "starting"}));
    of.crash_loop = Some(looping("m1"));
    assert!(!said(verdict(&of)).0);
}

#[test]
fn a_release_without_checks_that_serves_and_fails_again_and_again_is_not_well_at_any_look() {
    let mut of = assessment("app = 'a'\n[http_service]\ninternal_port = 8080\n");
    of.rollout.targets.keeps_serving = true;
    of.rollout.patience.watch = Duration::ZERO;
    let start = json!([{"id": "e", "type": "start", "timestamp": ago(2).as_millisecond()}]);
    for at in 0..2 {
        is(&mut of, at, &json!({"state": "started", "events": start}));
    }
    assert!(
        matches!(verdict(&of), Verdict::Done),
        "nothing is known of ends"
    );
    of.crash_loop = Some(CrashLoop {
        machine: "m1".to_owned(),
        why: Why::new(Reason::CrashLooping, "it exits again and again"),
    });
    // It runs; it has ended, by one look; it has ended, by two.
    let runs = said(verdict(&of));
    exited(&mut of, 1);
    of.unconfirmed
        .insert("m1".to_owned(), Duration::from_secs(7));
    let once = said(verdict(&of));
    of.unconfirmed.clear();
    let twice = said(verdict(&of));
    assert_eq!((runs.0, runs.1), (true, Reason::CrashLooping));
    assert_eq!((&once, &twice), (&runs, &runs));
    // One whose checks decide is judged by them.
    let mut of = assessment(TOML);
    of.rollout.targets.keeps_serving = true;
    of.crash_loop = Some(CrashLoop {
        machine: "m1".to_owned(),
        why: why(),
    });
    assert!(matches!(verdict(&of), Verdict::Done));
}

#[test]
fn a_late_machine_is_compared_with_the_slowest_other_one_that_passes_the_same_check() {
    let mut of = assessment(TOML);
    checked(&mut of, 0, "critical", 100);
    let machine = of.rollout.machines.iter().find(|m| m.id == "m0").unwrap();
    let declared = declared(machine.config.as_ref().unwrap());
    let known = Evidence {
        findings: vec![Finding::of(
            &declared[0],
            &machine.checks.0[0],
            &Listening::Nowhere,
        )],
        failure: String::new(),
    };
    of.evidence.insert("m0".to_owned(), known);
    let told = |of: &Assessment| said(verdict(of)).2;
    let alone = told(&of);
    assert!(
        alone.contains("if it only needs longer to start"),
        "{alone}"
    );
    checked(&mut of, 1, "passing", 20);
    let compared = told(&of);
    assert!(
        compared.contains("golive-app-1 passed it 20 s after its start"),
        "{compared}"
    );
    checked(&mut of, 2, "passing", 40);
    assert!(
        told(&of).contains("passed it 40 s after its start"),
        "{}",
        told(&of)
    );
}

#[test]
fn a_start_that_outlasts_the_grace_period_is_told_until_the_release_is_good() {
    let mut of = assessment(TOML);
    assert_eq!(slow_start(&of), None, "its start is not known");
    checked(&mut of, 0, "passing", 10);
    assert_eq!(slow_start(&of), None);
    checked(&mut of, 0, "passing", 12);
    checked(&mut of, 1, "passing", 42);
    let why = slow_start(&of).unwrap();
    assert_eq!(why.reason, Reason::SlowStart);
    assert_eq!(
        why.message,
        "the machine golive-app-1 passed servicecheck-00-http-8080 42 s after its start, and `grace_period` of the check is 5s: set `grace_period = \"1m15s\"` in fly.toml"
    );
    of.rollout.targets.keeps_serving = true;
    assert_eq!(slow_start(&of), None);
}

#[test]
fn a_failed_release_is_rolled_back_to_the_one_that_serves() {
    let failed = means(&assessment(TOML), "").unwrap();
    assert!(failed.is_rolled_back());
    assert!(
        failed.to_string().starts_with("roll back to release 1"),
        "{failed}"
    );
}

#[test]
fn the_failure_of_a_release_that_ran_well_is_no_failed_release() {
    let mut of = assessment(TOML);
    of.rollout.targets.keeps_serving = true;
    assert_eq!(means(&of, ""), Err(why()));
    of.rollout.targets.keeps_serving = false;
    of.rollout.targets.records = records(&[("b", Outcome::Succeeded)]);
    assert_eq!(means(&of, ""), Err(why()), "it is good by its record");
    of.rollout.targets.records.list[0].proven = false;
    assert!(
        means(&of, "").is_ok(),
        "all machines ran it, and it did not pass its SmokeTest"
    );
}

#[test]
fn the_failure_of_a_restored_release_is_never_rolled_back_again() {
    let mut of = assessment(TOML);
    let failed = record(2, "b", Outcome::Failed);
    let serving = record(1, "a", Outcome::Succeeded);
    of.rollout.effective.rollback = Some(RolledBack { failed, serving });
    let why = means(&of, "").unwrap_err();
    assert_eq!(why.reason, Reason::RestoreFailed);
    assert!(
        why.message
            .ends_with("this is the last good release, which was restored")
    );
}

/// A release that is not rolled back is recorded once, and then told with this reason and text.
fn left(of: &mut Assessment, spec: &str, reason: Reason, text: &str) {
    of.is_unrecorded = true;
    let recorded = means(of, spec).unwrap();
    assert!(!recorded.is_rolled_back(), "{text}");
    of.is_unrecorded = false;
    let told = means(of, spec).unwrap_err();
    assert_eq!(told.reason, reason, "{text}");
    assert!(told.message.starts_with(&why().message), "{}", told.message);
    assert!(told.message.contains(text), "{}", told.message);
}

#[test]
fn what_keeps_a_failed_release_from_being_rolled_back_is_recorded_and_told() {
    let (left_as_it_is, held) = (Reason::MachineExited, Reason::RollbackHeld);
    for (choice, text) in [
        ("Pause", "everything stays as it is (`onFailure: Pause`)"),
        ("Leave", "the rollout continues (`onFailure: Leave`)"),
    ] {
        let spec = format!("deploy: {{onFailure: {choice}}}");
        left(&mut assessment(TOML), &spec, left_as_it_is, text);
    }
    let mut first = assessment(TOML);
    first.rollout.targets.serving = None;
    left(
        &mut first,
        "",
        left_as_it_is,
        "there is no earlier release to go back to",
    );
    let mut gone = assessment(TOML);
    gone.is_serving_gone = true;
    left(
        &mut gone,
        "",
        held,
        "not rolled back: the image of release 1",
    );
}

#[test]
fn a_database_that_an_earlier_release_may_not_fit_holds_the_rollback() {
    let reversible = "deploy: {migrations: {reversible: true}}";
    let irreversible = "deploy: {migrations: {reversible: false}}";
    let held = Reason::RollbackHeld;
    let mut of = assessment(MIGRATES);
    left(
        &mut of,
        irreversible,
        held,
        "its release command has run, and `migrations.reversible` is false",
    );
    assert!(means(&of, reversible).unwrap().is_rolled_back());
    assert!(
        means(&assessment(TOML), irreversible)
            .unwrap()
            .is_rolled_back(),
        "no command ran"
    );

    // One between that has failed, and whose command had run.
    let between = |key: &str, migrated, reversible| Record {
        migration: Migration {
            migrated,
            reversible,
        },
        ..record(2, key, Outcome::Failed)
    };
    let with = |record| {
        let mut of = assessment(TOML);
        let records: Records = of.rollout.targets.records.with(record);
        of.rollout.targets.records = records;
        of
    };
    let text = "has run its release command since, and its `migrations.reversible` was false";
    left(
        &mut with(between("other", true, false)),
        reversible,
        held,
        text,
    );
    for record in [
        between("other", true, true),
        between("other", false, false),
        // For the wanted release itself the spec decides.
        between("b", true, false),
    ] {
        assert!(means(&with(record), reversible).unwrap().is_rolled_back());
    }
}
