//! A platform that others use too: checks that flap (F40), a rate limit that is shared with other
//! clients (F44), and connections that cannot be made or end when they are used again (F47).

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fly_sim::Options;
use golive::fly::{Class, Endpoints, Fly, HttpOptions, Token};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    crash::{never_two, nothing_left},
    env::{Env, is},
    fly::impatient,
    service,
    trouble::{CREATE_MACHINE, options, recovered, serving, world},
};

const APP: &str = "hola-cabanas";

/// How long something goes wrong while a test looks.
const WHILE: Duration = Duration::from_secs(6);

/// Turns the checks of an app's machines to critical again and again; the simulator finds them passing
/// each time.
fn flap(env: &Env, until: Instant) -> tokio::task::JoinHandle<usize> {
    let core = env.sim.core().clone();
    tokio::spawn(async move {
        let mut turns = 0;
        while Instant::now() < until {
            core.write(|world| {
                let machines = world.apps.get_mut(APP).map(|app| app.machines.values_mut());
                for check in machines.into_iter().flatten().flat_map(|m| &mut m.checks) {
                    check.status = "critical";
                    "connect: connection refused".clone_into(&mut check.output);
                }
            });
            turns += 1;
            tokio::time::sleep(Duration::from_millis(170)).await;
        }
        turns
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_flaps_costs_neither_the_release_nor_a_storm_of_writes_and_events() {
    let env = world(&["--recheck-interval", "1s"]).await;
    let spec = json!({
        "deploy": {"config": {"inline": service::toml("rolling")}, "scale": {"app": 2}},
        "deletionPolicy": {"app": "Delete"},
    });
    env.activation("hola", spec).await;
    recovered(&env, "hola").await;
    let machines = serving(&env, APP);
    let written = || -> usize { env.record().histories().values().map(Vec::len).sum() };
    let (writes, changes) = (written(), env.sim.mutations());

    let turns = flap(&env, Instant::now() + WHILE).await.unwrap();

    assert!(turns > 10);
    assert_eq!(serving(&env, APP), machines, "no machine is given up");
    assert_eq!(env.sim.mutations(), changes, "{:?}", env.sim.call_counts());
    // Two for each recheck at most: what was lost, and what is back.
    let writes = written() - writes;
    assert!(writes <= 14, "{writes} status writes in {WHILE:?}");
    let status = env.wait_live("hola").await;
    let outcomes: Vec<&str> = status.history.iter().map(|h| h.outcome.as_str()).collect();
    assert_eq!(outcomes, ["Succeeded"]);
    let warnings = env.events("hola").await;
    let warnings = warnings.iter().filter(|(type_, ..)| type_ == "Warning");
    assert!(warnings.count() <= 3, "{:?}", env.events("hola").await);
    env.delete("hola").await;
    nothing_left(&env).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_limit_that_others_use_up_an_application_goes_live_all_the_same() {
    let options = Options {
        rate_limits: true,
        ..options()
    };
    let mut env = Env::without_operator(options).await;
    env.start_operator(&[]).await;
    let core = env.sim.core().clone();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let others = tokio::spawn(async move {
        loop {
            for (action, object) in [
                (CREATE_MACHINE, APP),
                ("GET /v1/apps/{app}/machines", APP),
                ("GET /v1/apps/{app}", APP),
                ("POST /v1/apps/{app}/ip_assignments", APP),
                ("POST /v1/apps/{app}/secrets", APP),
                ("POST /v1/apps", "cabanas"),
            ] {
                if core.limits.take(action, object, Instant::now()) {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            }
            tokio::time::sleep(Duration::from_millis(1_300)).await;
        }
    });
    let spec = json!({
        "provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}]}},
        "deletionPolicy": {"app": "Delete", "secrets": "Delete"},
    });
    env.activation("hola", spec).await;
    let status = recovered(&env, "hola").await;
    assert!(is(&status, "Live", "True"));
    others.abort();
    let calls = env.sim.call_list();
    let refused = calls.iter().filter(|call| call.status == Some(429)).count();
    assert!(taken.load(Ordering::SeqCst) > 4);
    assert!(
        refused * 2 < calls.len(),
        "{refused} of {} calls were refused: it waits too little",
        calls.len()
    );
    env.sim.core().limits.enforce(false);
    env.delete("hola").await;
    never_two(&env.sim).unwrap();
    nothing_left(&env).await.unwrap();
}

/// A client of one address.
fn client(base: &str, http: HttpOptions) -> golive::fly::Client {
    let endpoints = Endpoints {
        machines: base.to_owned(),
        api: base.to_owned(),
        uiex: base.to_owned(),
        registry: base.to_owned(),
    };
    let token = Token::parse("sim-token-cabanas").unwrap();
    Fly::new(endpoints, http).unwrap().client(token)
}

/// Answers the first request of each connection with `{}` and 404, and ends the connection when another
/// comes. Says how many requests it has read.
async fn ends_on_reuse() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                for number in 0..2 {
                    let read = stream.read(&mut buffer).await.unwrap_or_default();
                    if read == 0 {
                        return;
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    if number == 0 {
                        let answer = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\n\
                            content-length: 2\r\n\r\n{}";
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (base, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_when_it_is_used_again_costs_a_read_nothing_and_repeats_no_change() {
    let (base, requests) = ends_on_reuse().await;
    let client = client(&base, impatient());
    for _ in 0..4 {
        assert_eq!(client.app("shop").await, Ok(None));
    }
    let before = requests.load(Ordering::SeqCst);
    let mut ambiguous = 0;
    for _ in 0..4 {
        let error = client.delete_app("shop", true).await;
        ambiguous += usize::from(error.is_err_and(|error| error.is_ambiguous()));
    }
    let sent = requests.load(Ordering::SeqCst) - before;
    assert_eq!(sent, 4, "a change is sent once, whatever becomes of it");
    assert!(
        ambiguous > 0,
        "one whose connection ended may have happened"
    );
}

/// Requests that a connection of [`seldom_reused`] carries.
const CARRIES: usize = 4;

/// A way to this server on which each connection ends when it has carried a few requests and another one
/// comes, before the server has seen that request. Says how many ended so.
async fn seldom_reused(server: &str) -> (String, Arc<AtomicUsize>) {
    let server = server.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = ended.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, counted) = (server.clone(), counted.clone());
            tokio::spawn(async move {
                let Ok(upstream) = TcpStream::connect(&server).await else {
                    return;
                };
                let answered = AtomicBool::new(false);
                let (mut from, mut to) = client.into_split();
                let (mut answers, mut requests) = upstream.into_split();
                let there = async {
                    let mut buffer = vec![0; 64 * 1024];
                    let mut carried = 0;
                    loop {
                        let read = from.read(&mut buffer).await.unwrap_or_default();
                        if read == 0 {
                            return;
                        }
                        // What comes after an answer is the next request.
                        carried += usize::from(answered.swap(false, Ordering::SeqCst));
                        if carried >= CARRIES {
                            counted.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        if requests.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                let back = async {
                    let mut buffer = vec![0; 64 * 1024];
                    loop {
                        let read = answers.read(&mut buffer).await.unwrap_or_default();
                        answered.store(true, Ordering::SeqCst);
                        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! { () = there => {}, () = back => {} }
            });
        }
    });
    (base, ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_connections_that_end_when_they_are_used_again_an_application_goes_live_once() {
    let mut env = Env::without_operator(options()).await;
    let (base, ended) = seldom_reused(&env.sim.base_url()).await;
    env.start_operator(&[
        "--fly-machines-url",
        &base,
        "--fly-api-url",
        &base,
        "--fly-uiex-url",
        &base,
        "--fly-registry-url",
        &base,
    ])
    .await;
    let spec = json!({
        "provision": {"secrets": {"generate": [{"name": "JWT_SECRET"}]}},
        "deletionPolicy": {"app": "Delete", "secrets": "Delete"},
    });
    env.activation("hola", spec).await;
    let status = recovered(&env, "hola").await;
    assert!(is(&status, "Live", "True"));
    assert!(
        ended.load(Ordering::SeqCst) > 0,
        "no connection was used again"
    );
    assert_eq!(serving(&env, APP).len(), 2);
    env.delete("hola").await;
    never_two(&env.sim).unwrap();
    nothing_left(&env).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_found_and_a_certificate_of_another_are_failures_that_pass() {
    let sim = fly_sim::Sim::start(Options::default()).await.unwrap();
    let other = format!("https://localhost:{}", sim.edge().port());
    for base in ["https://nowhere.invalid", other.as_str()] {
        let client = client(base, impatient());
        let read = client.app("shop").await.unwrap_err();
        assert_eq!(read.class(), &Class::Transient, "{base}: {read}");
        // Nothing was sent: there is nothing that may have happened.
        let change = client.delete_app("shop", true).await.unwrap_err();
        assert!(!change.is_ambiguous(), "{base}: {change}");
        assert!(!change.is_gone(), "{base}: {change}");
    }
}
