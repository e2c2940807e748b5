//! The Fly client's changes: what is known when a reply is lost.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fly_sim::{Fault, Image, Images, Kind, Options};
use golive::fly::{
    Class, Conflict, Error, ExecRequest, HttpOptions, Machine, MachineConfig, MachineState,
    MachineUpdate, NewApp, NewMachine, Result, Scope, WaitFor, Waited,
};

use crate::support::fly::{World, impatient};

const APP: &str = "cabanas-it";
const IMAGE: &str = "registry.fly.io/cabanas-it:1";
const CREATE: &str = "POST /v1/apps/{app}/machines";
const LIST: &str = "GET /v1/apps/{app}/machines";
const GET: &str = "GET /v1/apps/{app}/machines/{id}";

fn options() -> Options {
    let image = Image::new("registry.fly.io/cabanas-it", "/bin/sleep").args(["600"]);
    Options {
        images: Images::new([image]),
        ..Options::default()
    }
}

async fn world(http: HttpOptions) -> World {
    let world = World::with(options(), http).await;
    let app = NewApp {
        name: APP.into(),
        org_slug: "cabanas".into(),
        ..NewApp::default()
    };
    let created = world.client.create_app(&app).await.unwrap();
    assert_eq!(created.name, APP);
    world
}

fn machine(name: &str) -> NewMachine {
    let metadata = BTreeMap::from([("golive_slot".to_owned(), name.to_owned())]);
    let config = MachineConfig {
        image: IMAGE.into(),
        metadata,
        ..MachineConfig::default()
    };
    NewMachine {
        name: name.into(),
        region: "eze".into(),
        config,
        ..NewMachine::default()
    }
}

async fn started(world: &World, id: &str) -> Machine {
    let what = WaitFor {
        state: MachineState::Started,
        version: None,
        timeout: Duration::from_secs(30),
    };
    let waited = world.client.wait_machine(APP, id, &what).await.unwrap();
    assert!(matches!(waited, Waited::Reached { .. }), "{waited:?}");
    world.client.machine(APP, id).await.unwrap().unwrap()
}

/// Attempts whose outcome is unknown although the machine was created.
fn lost_replies() -> Vec<Kind> {
    vec![
        Kind::ResetAfter,
        Kind::CutBody,
        Kind::RequestTimeoutApplied,
        Kind::TimeoutApplied { hang_ms: 60_000 },
        Kind::Status {
            status: 503,
            body: None,
            applied: true,
        },
        Kind::EndlessBody,
    ]
}

#[tokio::test]
async fn a_create_whose_reply_is_lost_is_ambiguous_and_the_second_try_finds_the_first() {
    let world = world(impatient()).await;
    for (number, kind) in lost_replies().into_iter().enumerate() {
        let applied = kind != Kind::EndlessBody;
        let new = machine(&format!("app-{number}"));
        world.sim.clear_faults();
        world.sim.fault(Fault::new(CREATE, kind.clone()));

        let lost = world.client.create_machine(APP, &new).await.unwrap_err();
        let again = world.client.create_machine(APP, &new).await;

        assert_eq!(lost.class(), &Class::Ambiguous, "{kind:?}: {lost}");
        assert!(lost.is_ambiguous());
        if applied {
            let id = taken_by(&again).unwrap_or_else(|| panic!("{kind:?}: {again:?}"));
            let first = world.client.machine(APP, &id).await.unwrap().unwrap();
            assert_eq!(
                first.metadata("golive_slot"),
                Some(new.name.as_str()),
                "{kind:?}"
            );
        } else {
            assert!(again.is_ok(), "{kind:?}: {again:?}");
        }
    }
    assert_eq!(
        world.sim.machines(APP).len(),
        lost_replies().len(),
        "none twice"
    );
}

fn taken_by(result: &Result<Machine>) -> Option<String> {
    match result.as_ref().err()?.conflict()? {
        Conflict::NameTaken { machine_id } => machine_id.clone(),
        _ => None,
    }
}

#[tokio::test]
async fn changes_are_never_repeated_by_themselves() {
    let world = world(impatient()).await;
    world.sim.reset();
    world
        .sim
        .fault(Fault::new(CREATE, Kind::status(503)).always());

    let error = world
        .client
        .create_machine(APP, &machine("app-0"))
        .await
        .unwrap_err();

    assert_eq!(error.class(), &Class::Ambiguous, "{error}");
    assert_eq!(world.sim.calls(CREATE), 1);
}

#[tokio::test]
async fn refusals_of_a_create_have_their_class() {
    let world = world(HttpOptions::default()).await;
    let quota = |error: &Error| error.conflict() == Some(&Conflict::Quota);
    let room = |scope| move |error: &Error| error.conflict() == Some(&Conflict::Capacity(scope));
    #[expect(clippy::type_complexity, reason = "a table of cases")]
    let cases: Vec<(Kind, Box<dyn Fn(&Error) -> bool>)> = vec![
        (Kind::Capacity, Box::new(room(Scope::Region))),
        (Kind::CouldNotReserve, Box::new(room(Scope::Host))),
        (Kind::MachineLimit, Box::new(quota)),
        (
            Kind::RateLimited {
                retry_after: Some("7".into()),
            },
            Box::new(|error| {
                error.class()
                    == &Class::Throttled {
                        after: Some(Duration::from_secs(7)),
                    }
            }),
        ),
    ];
    for (kind, holds) in cases {
        world.sim.clear_faults();
        world.sim.fault(Fault::new(CREATE, kind.clone()));
        let error = world
            .client
            .create_machine(APP, &machine("app-0"))
            .await
            .unwrap_err();
        assert!(holds(&error), "{kind:?}: {error:?}");
        assert!(!error.is_ambiguous(), "{kind:?}");
    }
}

#[tokio::test]
async fn names_of_apps_are_taken_by_us_or_by_somebody_else() {
    let world = world(HttpOptions::default()).await;
    let acme = golive::fly::Token::parse(&world.sim.token("acme").unwrap()).unwrap();
    let acme = world.fly.client(acme);
    let again = NewApp {
        name: APP.into(),
        org_slug: "acme".into(),
        ..NewApp::default()
    };

    let taken = acme.create_app(&again).await.unwrap_err();
    let looked = acme.app(APP).await;

    assert_eq!(
        taken.conflict(),
        Some(&Conflict::NameTaken { machine_id: None }),
        "{taken:?}"
    );
    match looked {
        Err(error) => assert!(error.is_forbidden(), "{error:?}"),
        Ok(app) => assert_eq!(app, None, "somebody else's app must not look like ours"),
    }
    let ours = world.client.app(APP).await.unwrap().unwrap();
    assert_eq!(ours.organization.unwrap().slug, "cabanas");
}

#[tokio::test]
async fn an_update_is_refused_when_the_machine_has_changed_since_it_was_read() {
    let world = world(HttpOptions::default()).await;
    let id = world
        .client
        .create_machine(APP, &machine("app-0"))
        .await
        .unwrap()
        .id;
    let read = started(&world, &id).await;
    let mut config = read.config.clone().unwrap();
    config.env.insert("COLOUR".into(), "green".into());
    let update = MachineUpdate {
        config: config.clone(),
        current_version: Some(read.instance_id.clone()),
        ..MachineUpdate::default()
    };

    let updated = world
        .client
        .update_machine(APP, &id, &update, None)
        .await
        .unwrap();
    let second = world
        .client
        .update_machine(APP, &id, &update, None)
        .await
        .unwrap_err();

    assert_ne!(updated.instance_id, read.instance_id);
    assert_eq!(second.conflict(), Some(&Conflict::Version), "{second:?}");
    let now = started(&world, &id).await;
    assert_eq!(
        now.config.unwrap().env.get("COLOUR").map(String::as_str),
        Some("green")
    );
    assert_eq!(now.name, "app-0");
}

#[tokio::test]
async fn a_lease_keeps_others_out_and_says_until_when() {
    let world = world(HttpOptions::default()).await;
    let id = world
        .client
        .create_machine(APP, &machine("app-0"))
        .await
        .unwrap()
        .id;
    started(&world, &id).await;
    let ttl = Duration::from_secs(13);

    let lease = world
        .client
        .acquire_lease(APP, &id, ttl, "test")
        .await
        .unwrap();
    let second = world
        .client
        .acquire_lease(APP, &id, ttl, "test")
        .await
        .unwrap_err();
    let stop = world
        .client
        .stop_machine(APP, &id, None, None)
        .await
        .unwrap_err();

    for refused in [second, stop] {
        let Some(Conflict::Lease {
            expires_at: Some(until),
        }) = refused.conflict()
        else {
            panic!("{refused:?}");
        };
        assert!((until.as_second() - lease.expires_at.unwrap()).abs() <= 1);
    }
    let longer = world
        .client
        .refresh_lease(APP, &id, &lease.nonce, ttl * 2)
        .await
        .unwrap();
    assert_eq!(longer.nonce, lease.nonce);
    assert!(longer.expires_at > lease.expires_at);
    world
        .client
        .cordon_machine(APP, &id, Some(&lease.nonce))
        .await
        .unwrap();
    world
        .client
        .release_lease(APP, &id, &lease.nonce)
        .await
        .unwrap();
    world
        .client
        .release_lease(APP, &id, &lease.nonce)
        .await
        .unwrap();
    world.client.uncordon_machine(APP, &id, None).await.unwrap();
}

#[tokio::test]
async fn a_wait_ends_when_the_state_is_reached_or_its_time_is_over_or_the_machine_is_not_there() {
    let world = world(HttpOptions::default()).await;
    let id = world
        .client
        .create_machine(APP, &machine("app-0"))
        .await
        .unwrap()
        .id;
    started(&world, &id).await;
    let wait = |state, seconds| WaitFor {
        state,
        version: None,
        timeout: Duration::from_secs(seconds),
    };
    let client = &world.client;

    let not_yet = client
        .wait_machine(APP, &id, &wait(MachineState::Stopped, 1))
        .await;
    let nobody = client
        .wait_machine(APP, "0123456789abcd", &wait(MachineState::Started, 1))
        .await;
    client.stop_machine(APP, &id, None, None).await.unwrap();
    let stopped = client
        .wait_machine(APP, &id, &wait(MachineState::Stopped, 30))
        .await;
    client.start_machine(APP, &id, None).await.unwrap();
    let started = client
        .wait_machine(APP, &id, &wait(MachineState::Started, 30))
        .await;

    assert_eq!(not_yet, Ok(Waited::NotYet));
    assert_eq!(nobody, Ok(Waited::Gone));
    assert!(matches!(stopped, Ok(Waited::Reached { .. })), "{stopped:?}");
    assert!(matches!(started, Ok(Waited::Reached { .. })), "{started:?}");
}

#[tokio::test]
async fn a_command_runs_in_the_machine_and_its_exit_code_is_no_error() {
    let world = world(HttpOptions::default()).await;
    let id = world
        .client
        .create_machine(APP, &machine("app-0"))
        .await
        .unwrap()
        .id;
    started(&world, &id).await;
    let command = |script: &str| ExecRequest {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: Some(10),
        ..ExecRequest::default()
    };

    let good = world
        .client
        .exec(APP, &id, &command("echo out; echo err >&2"), None)
        .await
        .unwrap();
    let bad = world
        .client
        .exec(APP, &id, &command("exit 3"), None)
        .await
        .unwrap();

    assert_eq!(good.exit_code.unwrap_or_default(), 0);
    assert_eq!(
        (good.stdout.as_deref(), good.stderr.as_deref()),
        (Some("out\n"), Some("err\n"))
    );
    assert_eq!(bad.exit_code, Some(3));
}

#[tokio::test]
async fn marks_are_set_found_and_removed_without_a_new_version() {
    let world = world(HttpOptions::default()).await;
    let id = world
        .client
        .create_machine(APP, &machine("app-0"))
        .await
        .unwrap()
        .id;
    world
        .client
        .create_machine(APP, &machine("app-1"))
        .await
        .unwrap();
    let before = started(&world, &id).await;
    let client = &world.client;

    let colour = BTreeMap::from([("colour".to_owned(), Some("blue".to_owned()))]);
    client
        .patch_metadata(APP, &id, &colour, None)
        .await
        .unwrap();
    let marks = BTreeMap::from([
        ("golive_release".to_owned(), Some("7".to_owned())),
        ("colour".to_owned(), None),
    ]);
    client.patch_metadata(APP, &id, &marks, None).await.unwrap();

    let found = client
        .machines(APP, &[("golive_slot", "app-0"), ("golive_release", "7")])
        .await;
    assert_eq!(
        found
            .unwrap()
            .iter()
            .map(|m| m.id.as_str())
            .collect::<Vec<_>>(),
        [id.as_str()]
    );
    assert_eq!(client.metadata(APP, &id).await.unwrap().get("colour"), None);
    let release = BTreeMap::from([("golive_release".to_owned(), None)]);
    client
        .patch_metadata(APP, &id, &release, None)
        .await
        .unwrap();
    let after = client.machine(APP, &id).await.unwrap().unwrap();
    assert_eq!(after.instance_id, before.instance_id);
    assert_eq!(after.metadata("golive_release"), None);
}

#[tokio::test]
async fn a_destroyed_machine_is_gone_from_the_list_but_can_be_read() {
    let world = world(HttpOptions::default()).await;
    let id = world
        .client
        .create_machine(APP, &machine("app-0"))
        .await
        .unwrap()
        .id;
    started(&world, &id).await;

    world
        .client
        .delete_machine(APP, &id, true, None)
        .await
        .unwrap();
    let what = WaitFor {
        state: MachineState::Destroyed,
        version: None,
        timeout: Duration::from_secs(30),
    };
    world.client.wait_machine(APP, &id, &what).await.unwrap();

    assert_eq!(world.client.machines(APP, &[]).await, Ok(vec![]));
    let dead = world.client.machine(APP, &id).await.unwrap().unwrap();
    assert!(dead.state.is_over(), "{:?}", dead.state);
    world
        .client
        .delete_machine(APP, &id, true, None)
        .await
        .unwrap();
    world.client.delete_app(APP, true).await.unwrap();
    world.client.delete_app(APP, true).await.unwrap();
    assert_eq!(world.client.app(APP).await, Ok(None));
}

#[tokio::test]
async fn words_that_nobody_knows_do_not_disturb_reading() {
    let world = world(HttpOptions::default()).await;
    let id = world
        .client
        .create_machine(APP, &machine("app-0"))
        .await
        .unwrap()
        .id;
    started(&world, &id).await;
    world
        .sim
        .fault(Fault::new("GET *", Kind::UnknownEnum).always());

    let list = world.client.machines(APP, &[]).await.unwrap();
    let one = world.client.machine(APP, &id).await.unwrap().unwrap();

    assert_eq!(list.len(), 1);
    assert!(
        matches!(one.state, MachineState::Other(_)),
        "{:?}",
        one.state
    );
    assert!(world.client.app(APP).await.unwrap().is_some());
}

#[tokio::test]
async fn many_callers_never_make_the_platform_say_429() {
    let options = Options {
        rate_limits: true,
        ..options()
    };
    let world = World::with(options, HttpOptions::default()).await;
    let app = NewApp {
        name: APP.into(),
        org_slug: "cabanas".into(),
        ..NewApp::default()
    };
    world.client.create_app(&app).await.unwrap();
    let id = world
        .client
        .create_machine(APP, &machine("app-0"))
        .await
        .unwrap()
        .id;
    let (begun, begun_ms) = (Instant::now(), world.sim.now_ms());

    let gets = futures::future::join_all((0..30).map(|_| world.client.machine(APP, &id)));
    let lists = futures::future::join_all((0..6).map(|_| world.client.machines(APP, &[])));
    let (gets, lists) = futures::future::join(gets, lists).await;

    assert!(gets.into_iter().all(|get| get.is_ok()));
    assert!(lists.into_iter().all(|list| list.is_ok()));
    // 30 reads at 5/s after a burst of 10, and 6 lists at 1/s after a burst of 3.
    let reads = sent(&world, GET, begun);
    let lists = sent(&world, LIST, begun);
    assert!(reads.len() >= 30 && lists.len() >= 6);
    assert_within(&reads, 10, Duration::from_millis(200));
    assert_within(&lists, 3, Duration::from_secs(1));
    // The platform counts requests when they arrive: on a computer that stalls, they may arrive closer
    // together than they were sent.
    let in_time = arrive_in_time(&world, GET, begun_ms, &reads)
        && arrive_in_time(&world, LIST, begun_ms, &lists);
    let seen = world.seen.lock().unwrap();
    let refused = seen.iter().any(|try_| try_.status == Some(429));
    assert!(!(refused && in_time), "{seen:?}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// When the attempts of a call were sent, oldest first.
fn sent(world: &World, endpoint: &str, begun: Instant) -> Vec<Duration> {
    let (seen, sent) = (world.seen.lock().unwrap(), world.sent.lock().unwrap());
    let tries = seen.iter().zip(sent.iter());
    let mut sent: Vec<Duration> = tries
        .filter(|(try_, sent)| try_.endpoint == endpoint && **sent >= begun)
        .map(|(_, sent)| sent.duration_since(begun))
        .collect();
    sent.sort_unstable();
    sent
}

/// Asserts at most `burst` at once, then one per `period`.
fn assert_within(sent: &[Duration], burst: usize, period: Duration) {
    for (number, at) in (1..).zip(&sent[burst..]) {
        assert!(*at - sent[0] >= period * number, "{number}: {sent:?}");
    }
}

/// Whether no request arrived later than the margin that the client keeps after a burst.
fn arrive_in_time(world: &World, endpoint: &str, begun_ms: u64, sent: &[Duration]) -> bool {
    let calls = world.sim.call_list().into_iter();
    let calls = calls.filter(|call| call.endpoint == endpoint && call.at_ms >= begun_ms);
    let arrived: Vec<u64> = calls.map(|call| call.at_ms - begun_ms).collect();
    assert_eq!(arrived.len(), sent.len(), "every try arrives");
    let late = |(arrived, sent): (&u64, &Duration)| {
        Duration::from_millis(*arrived).saturating_sub(*sent) >= Duration::from_millis(200)
    };
    !arrived.iter().zip(sent).any(late)
}
