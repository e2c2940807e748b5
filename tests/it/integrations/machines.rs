//! The example as it runs in production: two machines on one PostgreSQL and one Redis, which import the
//! calendars of two channels.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use golive::net::probe::{Answer, ProbeError};
use golive::phase::integrations::probe::{Effect, Probe, Reply, Request, World};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use kube_env::process::{Process, Spec};
use kube_env::{Postgres, Redis};
use tempfile::TempDir;
use vendors::channels::Channel;
use vendors::{Options, Vendors};

use crate::support::service::{cabanas, generated};

/// Longest wait for a program.
const LIMIT: Duration = Duration::from_secs(60);

/// The verify token of the handshake.
pub const VERIFY_TOKEN: &str = "verify-canary";

/// What several applications share.
pub struct Ground {
    postgres: Postgres,
    redis: Redis,
    vendors: Vendors,
    dir: TempDir,
    number: AtomicUsize,
}

impl Ground {
    /// PostgreSQL, Redis and the vendors.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (postgres, redis, vendors) = tokio::join!(
            Postgres::start(dir.path()),
            Redis::start(dir.path()),
            Vendors::start(Options::default()),
        );
        let vendors = vendors.unwrap();
        std::fs::write(dir.path().join("ca.pem"), vendors.ca_pem()).unwrap();
        Self {
            postgres: postgres.unwrap(),
            redis: redis.unwrap(),
            vendors,
            dir,
            number: AtomicUsize::new(0),
        }
    }

    /// Meta's app secret.
    pub fn app_secret(&self) -> String {
        self.vendors.state().world().meta.app_secret.clone()
    }

    /// Mercado Pago's secret signature.
    pub fn signing_secret(&self) -> String {
        self.vendors.state().world().mercado_pago.secret.clone()
    }

    /// An application with this switch and a database of its own, with three bookings.
    pub async fn application(&self, switch: &str, sync_seconds: u32) -> Machines {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let name = format!("mutant_{number}");
        self.create_database(&name).await;
        let env = self.env(&name, switch, sync_seconds);
        let spawn = |part: &str, command: &str| {
            let log = self.dir.path().join(format!("{name}-{part}.log"));
            let spec = Spec::new(part, cabanas(), log).arg(command);
            let spec = env
                .iter()
                .fold(spec, |spec, (name, value)| spec.env(name, value));
            spec.stop_with("KILL", Duration::from_secs(5))
                .spawn()
                .unwrap()
        };
        let mut migration = spawn("migrate", "migrate");
        let began = Instant::now();
        let migrated = loop {
            match migration.exited() {
                Some(status) => break status,
                None => assert!(began.elapsed() < LIMIT, "the migration does not end"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(migrated.success(), "{}", migration.output().unwrap());
        let mut processes = [spawn("one", "serve"), spawn("two", "serve")];
        let mut addresses = Vec::new();
        for process in &mut processes {
            let line = process.wait_for_line("listening", LIMIT).await.unwrap();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            addresses.push(line["address"].as_str().unwrap().parse().unwrap());
        }
        let machines = Machines {
            addresses,
            next: AtomicUsize::new(0),
            client: Client::builder(TokioExecutor::new()).build_http(),
            _processes: processes,
        };
        for (cabin, from, until) in [
            (1, "2027-03-01", "2027-03-02"),
            (2, "2027-03-01", "2027-03-06"),
            (3, "2027-04-10", "2027-04-17"),
        ] {
            machines.book(cabin, from, until).await;
        }
        machines
    }

    async fn create_database(&self, name: &str) {
        let url = self.postgres.url();
        let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.unwrap();
        let driver = tokio::spawn(connection);
        let sql = format!("create database {name}");
        client.batch_execute(&sql).await.unwrap();
        drop(client);
        driver.await.unwrap().unwrap();
    }

    fn env(&self, database: &str, switch: &str, sync_seconds: u32) -> Vec<(String, String)> {
        let base = self.vendors.channels_url();
        let feed = |name: &str, channel, listing| {
            let path = self.vendors.state().world().channels.path(channel, listing);
            format!("{name}={base}{}", path.unwrap())
        };
        let feeds = [
            feed("airbnb-1/1", Channel::Airbnb, "1001"),
            feed("booking-2/2", Channel::Booking, "2002"),
        ];
        let ca = self.dir.path().join("ca.pem");
        [
            (
                "DATABASE_URL",
                self.postgres
                    .url()
                    .replace("/postgres?", &format!("/{database}?")),
            ),
            ("REDIS_URL", self.redis.url()),
            ("FLY_SIM_BIND_IP", "127.0.0.1".to_owned()),
            ("PORT", "0".to_owned()),
            ("FLY_APP_NAME", "sist-cabanas-mvp".to_owned()),
            ("CABANAS_VERSION", "1.5.0".to_owned()),
            ("CABANAS_FAULT", switch.to_owned()),
            ("WHATSAPP_VERIFY_TOKEN", VERIFY_TOKEN.to_owned()),
            ("WHATSAPP_APP_SECRET", self.app_secret()),
            ("MERCADOPAGO_WEBHOOK_SECRET", self.signing_secret()),
            ("ICAL_FEEDS", feeds.join(" ")),
            ("ICAL_SYNC_SECONDS", sync_seconds.to_string()),
            ("SSL_CERT_FILE", ca.display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .chain(generated_names().map(|name| (name, "generated".to_owned())))
        .collect()
    }
}

/// The names of the secrets that the example has generated.
fn generated_names() -> impl Iterator<Item = String> {
    let generated = generated();
    let names = generated.as_array().into_iter().flatten();
    let names = names.filter_map(|secret| secret["name"].as_str().map(str::to_owned));
    names.collect::<Vec<_>>().into_iter()
}

/// One application.
pub struct Machines {
    addresses: Vec<SocketAddr>,
    next: AtomicUsize,
    client: Client<HttpConnector, Full<Bytes>>,
    _processes: [Process; 2],
}

/// An answer of a machine.
struct Got {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
    took: Duration,
}

impl Machines {
    /// Sends a request to the machine whose turn it is, as Fly.io's proxy spreads them.
    async fn exchange(&self, request: &Request, limit: Duration) -> Result<Got, String> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        let uri = format!("http://{}{}", self.addresses[turn], request.path);
        let mut built = http::Request::builder()
            .method(request.method.clone())
            .uri(uri);
        for (name, value) in &request.headers {
            built = built.header(name, value);
        }
        let built = built.body(Full::new(request.body.clone())).unwrap();
        let started = Instant::now();
        let exchange = async {
            let response = self
                .client
                .request(built)
                .await
                .map_err(|e| e.to_string())?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|e| e.to_string())?;
            Ok(Got {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.to_bytes(),
                took: started.elapsed(),
            })
        };
        let timed = tokio::time::timeout(limit, exchange).await;
        timed.unwrap_or_else(|_| Err(String::new()))
    }

    /// A page, for the checks of calendars.
    pub async fn fetch(&self, path: &str, accept: &str) -> Result<Answer, ProbeError> {
        let request = Request {
            method: http::Method::GET,
            path: path.to_owned(),
            headers: vec![("Accept".to_owned(), accept.to_owned())],
            body: Bytes::new(),
        };
        let got = self.exchange(&request, LIMIT).await;
        let got = got.map_err(|_| ProbeError::TimedOut(LIMIT))?;
        Ok(Answer {
            status: got.status,
            headers: got.headers,
            body: got.body,
            took: got.took,
        })
    }

    async fn book(&self, cabin: u32, from: &str, until: &str) {
        let body = format!(
            r#"{{"cabin":{cabin},"check_in":"{from}","check_out":"{until}","guest_name":"Ana Núñez","guest_phone":"+54 9 294 4001234"}}"#
        );
        let request = Request {
            method: http::Method::POST,
            path: "/api/v1/reservations".to_owned(),
            headers: vec![(
                "Idempotency-Key".to_owned(),
                format!("{}-{cabin}", self.addresses[0]),
            )],
            body: Bytes::from(body),
        };
        let got = self.exchange(&request, LIMIT).await.unwrap();
        assert_eq!(got.status, 201);
    }
}

/// The application as the sets of checks of one webhook see it.
pub struct Webhook<'a> {
    /// The application.
    pub machines: &'a Machines,
    /// Where the page of effects has the number, as a JSON pointer.
    pub effect: &'static str,
}

impl World for Webhook<'_> {
    async fn send(&self, probe: &Probe, limit: Duration) -> Reply {
        let mut request = probe.request.clone();
        let mark = format!("sist-cabanas-mvp/1/{}", probe.check);
        request.headers.push(("X-Golive-Probe".to_owned(), mark));
        match self.machines.exchange(&request, limit).await {
            Ok(got) => Reply::Answered {
                status: got.status,
                body: got.body,
                took: got.took,
            },
            Err(why) if why.is_empty() => Reply::Silent { after: limit },
            Err(why) => Reply::Unreachable { why },
        }
    }

    async fn effect(&self) -> Effect {
        let page = self.machines.fetch("/api/v1/webhooks/effects", "*/*").await;
        let Ok(answer) = page else {
            return Effect::Unread("no answer".to_owned());
        };
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match json
            .pointer(self.effect)
            .and_then(serde_json::Value::as_f64)
        {
            Some(number) => Effect::Counted(number),
            None => Effect::Unread(format!("answered {}", answer.status)),
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn now(&self) -> Timestamp {
        golive::clock::wall()
    }
}
