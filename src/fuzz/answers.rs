//! Any answer of Fly.io and of registries: each call ends with a value or an error, never with a panic,
//! in bounded time, and with few requests.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, response::IntoResponse};

use super::target;
use crate::fly::{
    Client, Endpoints, Fly, HttpOptions, ImageReference, TimeLimits, Token, call::classify,
};

/// Most requests that one call makes, whatever is answered: pages of lists, and retries of reads.
const MOST_REQUESTS: usize = 60;

/// Longest time of one call.
const LONGEST: Duration = Duration::from_secs(10);

/// Statuses that end a call at once: what is retried waits in between.
const STATUSES: [u16; 12] = [200, 200, 200, 200, 200, 201, 202, 204, 400, 404, 409, 422];

type Done<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// The calls that read an answer. Each says whether it succeeded.
const CALLS: &[fn(&Client) -> Done<'_>] = &[
    |c| Box::pin(async { c.addresses("a").await.is_ok() }),
    |c| Box::pin(async { c.release_address("a", "1.2.3.4").await.is_ok() }),
    |c| Box::pin(async { c.limited_tokens("a").await.is_ok() }),
    |c| {
        Box::pin(async {
            c.create_app_token("o", "a", "n", Duration::from_secs(60))
                .await
                .is_ok()
        })
    },
    |c| Box::pin(async { c.apps("o").await.is_ok() }),
    |c| Box::pin(async { c.app("a").await.is_ok() }),
    |c| Box::pin(async { c.delete_app("a", true).await.is_ok() }),
    |c| Box::pin(async { c.certificates("a").await.is_ok() }),
    |c| Box::pin(async { c.certificate("a", "h.example.org").await.is_ok() }),
    |c| Box::pin(async { c.add_certificate("a", "h.example.org").await.is_ok() }),
    |c| Box::pin(async { c.latest_image_tag("flyio/postgres-flex:17").await.is_ok() }),
    |c| Box::pin(async { c.postgres_attachments("a", "p").await.is_ok() }),
    |c| Box::pin(async { c.enable_postgres_consul("a").await.is_ok() }),
    |c| Box::pin(async { c.logs("a", None, Some("1")).await.is_ok() }),
    |c| Box::pin(async { c.start_machine("a", "m", None).await.is_ok() }),
    |c| Box::pin(async { c.metadata("a", "m").await.is_ok() }),
    |c| {
        Box::pin(async {
            c.acquire_lease("a", "m", Duration::from_secs(30), "d")
                .await
                .is_ok()
        })
    },
    |c| Box::pin(async { c.machines("a", &[("k", "v")]).await.is_ok() }),
    |c| Box::pin(async { c.machines_and_destroyed("a", &[]).await.is_ok() }),
    |c| Box::pin(async { c.machine("a", "m").await.is_ok() }),
    |c| Box::pin(async { c.delete_machine("a", "m", true, None).await.is_ok() }),
    |c| Box::pin(async { c.organization("o").await.is_ok() }),
    |c| Box::pin(async { c.overview("a", Some("r")).await.is_ok() }),
    |c| Box::pin(async { c.postgres_regions("o").await.is_ok() }),
    |c| Box::pin(async { c.postgres_clusters("o").await.is_ok() }),
    |c| Box::pin(async { c.postgres_cluster("i").await.is_ok() }),
    |c| Box::pin(async { c.postgres_user_credentials("i", "u").await.is_ok() }),
    |c| Box::pin(async { c.postgres_databases("i").await.is_ok() }),
    |c| Box::pin(async { c.processes("a", "m").await.is_ok() }),
    |c| Box::pin(async { c.redis_plans().await.is_ok() }),
    |c| Box::pin(async { c.redis("r").await.is_ok() }),
    |c| Box::pin(async { c.regions().await.is_ok() }),
    |c| Box::pin(async { c.resolve_image(&image()).await.is_ok() }),
    |c| Box::pin(async { c.image_tags(&image(), None).await.is_ok() }),
    |c| Box::pin(async { c.releases("a", 10).await.is_ok() }),
    |c| Box::pin(async { c.secrets("a", Some(3)).await.is_ok() }),
    |c| Box::pin(async { c.current_tokens().await.is_ok() }),
    |c| Box::pin(async { c.volumes("a").await.is_ok() }),
    |c| Box::pin(async { c.volume("a", "v").await.is_ok() }),
    |c| Box::pin(async { c.extend_volume("a", "v", 3).await.is_ok() }),
];

fn image() -> ImageReference {
    "registry.fly.io/shop:1".parse().unwrap()
}

/// What is answered next, and how often somebody asked.
#[derive(Default)]
struct Script {
    answer: Mutex<(u16, Vec<u8>)>,
    requests: AtomicUsize,
}

async fn serve(script: Arc<Script>) -> String {
    let app = Router::new().fallback(move || {
        let script = script.clone();
        async move {
            script.requests.fetch_add(1, Ordering::Relaxed);
            let (status, body) = script.answer.lock().unwrap().clone();
            let headers = [
                ("content-type", "application/json"),
                ("docker-content-digest", "sha256:0"),
                ("link", "</v2/x?last=1>; rel=\"next\""),
            ];
            (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

#[test]
fn no_answer_of_fly_io_makes_a_call_panic_or_go_on_for_ever() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let script = Arc::new(Script::default());
    let base = runtime.block_on(serve(script.clone()));
    let turn = AtomicUsize::new(0);
    let run = |input: &[u8]| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let call = CALLS[turn % CALLS.len()];
        let status =
            STATUSES[usize::from(input.len() as u8 ^ input.first().unwrap_or(&0)) % STATUSES.len()];
        *script.answer.lock().unwrap() = (status, input.to_vec());
        let before = script.requests.load(Ordering::Relaxed);
        // Rate limits belong to a process: each call has a client of its own.
        let limit = Duration::from_millis(500);
        let limits = TimeLimits {
            connect: limit,
            read: limit,
            read_deadline: limit,
            change: limit,
            change_queue: limit,
        };
        let options = HttpOptions {
            limits,
            ..HttpOptions::default()
        };
        runtime.block_on(async {
            let endpoints = Endpoints {
                machines: base.clone(),
                api: base.clone(),
                uiex: base.clone(),
                registry: base.clone(),
            };
            let fly = Fly::new(endpoints, options).unwrap();
            let client = fly.client(Token::parse("fm2_x").unwrap());
            let _ = tokio::time::timeout(LONGEST, call(&client))
                .await
                .expect("the call ends");
        });
        let requests = script.requests.load(Ordering::Relaxed) - before;
        assert!(
            requests <= MOST_REQUESTS,
            "call {turn}: {requests} requests"
        );
    };
    target!("answer", run);
}

#[test]
fn no_retry_after_is_nonsense() {
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let (value, date) = text.split_once('\n').unwrap_or((&text, ""));
        let after = classify::retry_after(Some(value), Some(date));
        if !value.bytes().any(|byte| byte.is_ascii_digit()) {
            assert_eq!(after, None, "{value:?}");
        }
    };
    target!("retry_after", run);
}
