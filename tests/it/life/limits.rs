//! Fly.io's rate limits with the number of objects that one operator is designed for.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fly_sim::{Image, Images, Options};
use futures::StreamExt;
use golive::fly::{HttpOptions, MachineConfig, NewMachine, TimeLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::fly::World;

const IMAGE: &str = "registry.fly.io/shop:1";

/// Activations that one operator is designed for.
const THOUSAND: usize = 1_000;

/// Concurrent calls.
const AT_ONCE: usize = 300;

/// Creates an app without our client, whose rate limiter would delay it.
async fn make_app(address: &str, token: &str, name: &str) {
    let body = format!(r#"{{"name":"{name}","org_slug":"cabanas"}}"#);
    let request = format!(
        "POST /v1/apps HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// A thousand activations read and change at once, each within the burst of its app and machine: no
/// call is refused or repeated. That more calls than that wait is tested in `client/machines.rs` and
/// `src/fly/call/limit.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_activations_never_make_the_platform_say_429() {
    let options = Options {
        rate_limits: true,
        images: Images::new([Image::new(IMAGE, "/bin/sleep").args(["600"])]),
        ..Options::default()
    };
    let http = HttpOptions {
        limits: TimeLimits {
            read: Duration::from_secs(60),
            read_deadline: Duration::from_secs(90),
            ..TimeLimits::default()
        },
        ..HttpOptions::default()
    };
    let world = World::with(options, http).await;
    let base = world.sim.base_url();
    let address = base.trim_start_matches("http://").to_owned();
    let token = world.sim.token("cabanas").unwrap();
    let names: Vec<String> = (0..THOUSAND).map(|n| format!("shop-{n}")).collect();
    world.sim.core().limits.enforce(false);
    futures::stream::iter(&names)
        .for_each_concurrent(64, |name| make_app(&address, &token, name))
        .await;
    world.sim.core().limits.enforce(true);

    let begun = Instant::now();
    let (calls, client) = (AtomicUsize::new(0), &world.client);
    let counted = &calls;
    futures::stream::iter(&names)
        .for_each_concurrent(AT_ONCE, |name| async move {
            let new = NewMachine {
                name: "golive-app-0".into(),
                region: "eze".into(),
                // Not started: the test needs no thousand processes.
                skip_launch: true,
                config: MachineConfig {
                    image: IMAGE.into(),
                    ..MachineConfig::default()
                },
                ..NewMachine::default()
            };
            let made = client.create_machine(name, &new).await.unwrap();
            let looks = (0..3).map(|_| client.machines(name, &[]));
            for look in futures::future::join_all(looks).await {
                assert_eq!(look.unwrap().len(), 1);
            }
            assert!(client.machine(name, &made.id).await.unwrap().is_some());
            counted.fetch_add(5, Ordering::Relaxed);
        })
        .await;

    let seen = world.seen.lock().unwrap();
    let refused = seen.iter().filter(|call| call.status == Some(429)).count();
    let waited = seen
        .iter()
        .filter(|call| call.limited > Duration::from_millis(500))
        .count();
    println!(
        "{} calls for {THOUSAND} apps in {:?}; {waited} waited for their turn, {refused} refused",
        calls.load(Ordering::Relaxed),
        begun.elapsed()
    );
    assert_eq!(refused, 0);
    assert_eq!(seen.len(), 5 * THOUSAND, "none was tried twice");
}
