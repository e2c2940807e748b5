//! A simulator and a Fly client of it, without an operator.

#![allow(clippy::unwrap_used, reason = "a helper fails its test by a panic")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fly_sim::{Options, Sim};
use golive::fly::{Client, Endpoints, Fly, HttpOptions, Observation, TimeLimits, Token};

/// A simulator and a client of it.
pub struct World {
    pub sim: Sim,
    pub fly: Fly,
    pub client: Client,
    pub seen: Arc<Mutex<Vec<Observation>>>,
    /// When each try of `seen` was sent.
    pub sent: Arc<Mutex<Vec<Instant>>>,
}

impl World {
    pub async fn start() -> Self {
        Self::with(Options::default(), HttpOptions::default()).await
    }

    pub async fn with(sim: Options, mut http: HttpOptions) -> Self {
        let sim = Sim::start(sim).await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (observer, times) = (seen.clone(), sent.clone());
        http.observer = Some(Arc::new(move |seen: &Observation| {
            let sent = Instant::now().checked_sub(seen.duration).unwrap();
            times.lock().unwrap().push(sent);
            observer.lock().unwrap().push(seen.clone());
        }));
        let base = sim.base_url();
        let endpoints = Endpoints {
            machines: base.clone(),
            api: base.clone(),
            uiex: base.clone(),
            registry: base,
        };
        let fly = Fly::new(endpoints, http).unwrap();
        let token = Token::parse(&sim.token("cabanas").unwrap()).unwrap();
        let client = fly.client(token);
        Self {
            sim,
            fly,
            client,
            seen,
            sent,
        }
    }

    pub fn tries(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// Time limits for tests in which an answer never comes.
pub fn impatient() -> HttpOptions {
    HttpOptions {
        limits: TimeLimits {
            read: Duration::from_secs(1),
            read_deadline: Duration::from_secs(6),
            change: Duration::from_secs(2),
            ..TimeLimits::default()
        },
        ..HttpOptions::default()
    }
}
