//! The Fly client's handling of errors, invalid replies, rejected tokens and time limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fly_sim::{Fault, Kind, Options};
use golive::fly::{Class, HttpOptions, Retry, Token};

use crate::support::fly::{World, impatient};

#[tokio::test]
async fn a_read_is_tried_again_when_the_platform_stumbles() {
    let world = World::start().await;
    world
        .sim
        .fault(Fault::new("GET /v1/apps/*", Kind::status(503)));
    world
        .sim
        .fault(Fault::new("GET /v1/apps/*", Kind::ResetBefore).nth(2));

    let app = world.client.app("nothing-here").await;

    assert_eq!(app, Ok(None));
    assert_eq!(world.tries(), 3);
}

#[tokio::test]
async fn a_read_gives_up_after_three_tries_and_says_why() {
    let world = World::start().await;
    world
        .sim
        .fault(Fault::new("GET /v1/apps/*", Kind::status(503)).always());

    let error = world.client.app("x").await.unwrap_err();

    assert_eq!(
        (error.class(), error.status()),
        (&Class::Transient, Some(503))
    );
    assert!(error.request_id().is_some(), "{error}");
    assert_eq!(world.tries(), 3);
}

#[tokio::test]
async fn bodies_without_end_or_sense_are_errors_and_never_absence() {
    let world = World::with(Options::default(), impatient()).await;
    for kind in [
        Kind::EndlessBody,
        Kind::HugeBody { bytes: 20 << 20 },
        Kind::InvalidUtf8,
        Kind::Status {
            status: 200,
            body: Some(serde_json::json!([])),
            applied: false,
        },
        Kind::Status {
            status: 200,
            body: Some(serde_json::json!({})),
            applied: false,
        },
    ] {
        world.sim.clear_faults();
        world
            .sim
            .fault(Fault::new("GET /v1/apps/*", kind.clone()).always());
        let started = Instant::now();

        let error = world.client.app("x").await.unwrap_err();

        assert_eq!(error.class(), &Class::Transient, "{kind:?}: {error}");
        assert!(!error.is_gone());
        assert!(started.elapsed() < Duration::from_secs(15), "{kind:?}");
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_at_the_deadline() {
    let world = World::with(Options::default(), impatient()).await;
    let hang = Kind::TimeoutNotApplied { hang_ms: 60_000 };
    world.sim.fault(Fault::new("GET /v1/apps/*", hang).always());
    let started = Instant::now();

    let error = world.client.app("x").await.unwrap_err();

    assert_eq!(error.class(), &Class::Transient, "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_429_on_a_read_is_waited_out() {
    let world = World::start().await;
    let retry_after = Some("1".to_owned());
    world.sim.fault(Fault::new(
        "GET /v1/apps/*",
        Kind::RateLimited { retry_after },
    ));
    let started = Instant::now();

    assert_eq!(world.client.app("nothing-here").await, Ok(None));

    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(world.tries(), 2);
}

#[tokio::test]
async fn a_limit_that_graphql_tells_in_a_200_is_waited_out_as_well() {
    let world = World::start().await;
    let told = Kind::Status {
        status: 200,
        body: Some(serde_json::json!({"errors": [{"message": "rate limit exceeded"}]})),
        applied: false,
    };
    world.sim.fault(Fault::new("POST /graphql*", told));
    let started = Instant::now();

    let found = world.client.redis("nothing-here").await;
    assert!(matches!(found, Ok(None)), "{found:?}");

    assert!(started.elapsed() >= Duration::from_millis(900));
    assert_eq!(world.tries(), 2);
}

#[tokio::test]
async fn a_429_that_would_outlast_the_deadline_is_handed_up_with_its_time() {
    let world = World::start().await;
    let retry_after = Some("120".to_owned());
    world
        .sim
        .fault(Fault::new("GET /v1/apps/*", Kind::RateLimited { retry_after }).always());
    let started = Instant::now();

    let error = world.client.app("x").await.unwrap_err();

    let Retry::After(after) = error.retry() else {
        panic!("{error:?}")
    };
    assert!(after > Duration::from_secs(100), "{after:?}");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "no use waiting for it"
    );
}

#[tokio::test]
async fn a_token_that_is_refused_is_soft_first_and_hard_when_it_stays_so() {
    let http = HttpOptions {
        auth_soft_for: Duration::from_millis(200),
        ..HttpOptions::default()
    };
    let world = World::with(Options::default(), http).await;
    let client = world.fly.client(Token::parse("nobody-knows-me").unwrap());
    let mut classes = Vec::new();
    let started = Instant::now();

    while started.elapsed() < Duration::from_secs(10) {
        let error = client.app("x").await.unwrap_err();
        assert!(!error.to_string().contains("nobody-knows-me"));
        classes.push(error.class().clone());
        if classes.last() == Some(&Class::Auth { hard: true }) {
            break;
        }
    }

    assert_eq!(classes.first(), Some(&Class::Auth { hard: false }));
    assert_eq!(classes.last(), Some(&Class::Auth { hard: true }));
    assert!(classes.len() >= 3);
    assert_eq!(
        world.client.app("x").await,
        Ok(None),
        "another token is not concerned"
    );
}

#[tokio::test]
async fn a_platform_that_cannot_be_reached_is_transient_also_for_changes() {
    let world = World::start().await;
    let World { sim, client, .. } = world;
    sim.stop().await;

    let error = client.delete_app("x", true).await.unwrap_err();

    assert_eq!(
        error.class(),
        &Class::Transient,
        "nothing was sent: {error}"
    );
    assert!(!error.is_ambiguous());
}

#[tokio::test]
async fn changes_are_not_sent_when_this_process_may_not_make_any() {
    let gate = Arc::new(|| Err("another replica leads".to_owned()));
    let http = HttpOptions {
        gate: Some(gate),
        ..HttpOptions::default()
    };
    let world = World::with(Options::default(), http).await;

    let error = world.client.delete_app("x", false).await.unwrap_err();

    assert!(error.message().contains("another replica leads"), "{error}");
    assert_eq!(world.sim.mutations(), 0);
    assert_eq!(world.client.app("x").await, Ok(None), "reading goes on");
}

#[tokio::test]
async fn a_change_is_not_sent_so_late_that_its_outcome_would_be_unknown() {
    let world = World::start().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let client = world.client.clone().with_deadline(deadline);

    let error = client.delete_app("x", false).await.unwrap_err();

    assert_eq!(error.class(), &Class::Transient, "{error}");
    assert_eq!(world.sim.mutations(), 0);
}
