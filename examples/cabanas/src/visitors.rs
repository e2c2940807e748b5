//! `cabanas traffic`: requests like those of guests, for rehearsals of the watch.
//!
//! They go to [`crate::rehearsal`], each at its time whatever became of the others, as guests come. What each
//! of them is follows from its number, so that every run is the same: the shares are exact, and the times
//! have the median and the 95th percentile that they are given.

use std::future::Future;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::fault::ErrorShare;
use crate::rehearsal::{LONGEST, ROUTE};

/// Requests that are under way at once. A guest who finds no place is counted as lost.
const AT_ONCE: usize = 512;

/// How long requests take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    median: f64,
    beta: f64,
}

/// What cannot be a shape, or a part of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub struct Wrong(&'static str);

fn numbers<const N: usize>(text: &str, wanted: Wrong) -> Result<[f64; N], Wrong> {
    let parts: Vec<f64> = text
        .split(',')
        .map(|part| part.trim().parse().ok().filter(|n: &f64| n.is_finite()))
        .collect::<Option<_>>()
        .ok_or(wanted)?;
    parts.try_into().map_err(|_| wanted)
}

impl FromStr for Shape {
    type Err = Wrong;

    /// Parses `MEDIAN,P95` in milliseconds.
    fn from_str(text: &str) -> Result<Self, Wrong> {
        let wanted = Wrong("the median and the 95th percentile in milliseconds, such as 80,400");
        let [median, p95] = numbers(text, wanted)?;
        if median <= 0.0 || p95 < median {
            return Err(wanted);
        }
        let ratio = (p95 / median).max(1.001);
        Ok(Self {
            median,
            beta: 19_f64.ln() / ratio.ln(),
        })
    }
}

impl Shape {
    /// The time of the request with this number: log-logistic, spread evenly over its quantiles.
    pub fn time(&self, number: u64) -> Duration {
        // Multiples of the golden ratio fill the interval from 0 to 1 evenly.
        let golden = 0.618_033_988_749_894_9;
        let at = ((number + 1) as f64 * golden).fract().clamp(0.0005, 0.9995);
        let milliseconds = self.median * (at / (1.0 - at)).powf(1.0 / self.beta);
        Duration::from_secs_f64(milliseconds / 1000.0).min(LONGEST)
    }
}

/// A part of the time that comes again and again: `EVERY,LENGTH` in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spell {
    every: f64,
    length: f64,
    /// How many times as many guests come.
    times: f64,
}

impl Spell {
    /// Parses `EVERY,LENGTH,TIMES`: a burst.
    pub fn burst(text: &str) -> Result<Self, Wrong> {
        let wanted =
            Wrong("EVERY,LENGTH,TIMES, such as 60,5,10 for ten times as many in 5 of 60 s");
        let [every, length, times] = numbers(text, wanted)?;
        Self::of(every, length, times).ok_or(wanted)
    }

    /// Parses `EVERY,LENGTH`: a silence.
    pub fn silence(text: &str) -> Result<Self, Wrong> {
        let wanted = Wrong("EVERY,LENGTH, such as 60,10 for nobody in 10 of 60 s");
        let [every, length] = numbers(text, wanted)?;
        Self::of(every, length, 0.0).ok_or(wanted)
    }

    fn of(every: f64, length: f64, times: f64) -> Option<Self> {
        let holds = every > 0.0 && length >= 0.0 && length <= every && times >= 0.0;
        holds.then_some(Self {
            every,
            length,
            times,
        })
    }

    /// Whether it is at this second; it ends each of its periods.
    fn is_at(&self, second: f64) -> bool {
        second.rem_euclid(self.every) >= self.every - self.length
    }
}

/// When guests come.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// How many a second.
    pub per_second: f64,
    /// When there are more.
    pub burst: Option<Spell>,
    /// When there are none.
    pub silence: Option<Spell>,
}

impl Schedule {
    /// How many come a second, at this second.
    pub fn rate(&self, second: f64) -> f64 {
        let spells = [self.burst, self.silence].into_iter().flatten();
        let times = spells.filter(|spell| spell.is_at(second));
        times.fold(self.per_second, |rate, spell| rate * spell.times)
    }
}

/// What guests ask for.
pub struct Guests {
    /// How long text takes.
    pub text: Shape,
    /// How long voice messages take.
    pub audio: Shape,
    /// The share of voice messages, in percent.
    pub audio_percent: u64,
    /// The share of errors, in percent of a percent: 50 is 0.5 %.
    pub errors_per_10_000: u64,
}

/// What became of the requests.
#[derive(Debug, Default, Serialize)]
pub struct Count {
    sent: AtomicU64,
    text: AtomicU64,
    audio: AtomicU64,
    errors: AtomicU64,
    unanswered: AtomicU64,
    lost: AtomicU64,
}

/// Sends requests.
#[derive(Clone)]
pub struct Visitors {
    client: Client<HttpsConnector<HttpConnector<To>>, Empty<Bytes>>,
    base: Uri,
}

/// Where all names lead to, if not to where they lead.
#[derive(Clone, Copy)]
pub struct To(Option<SocketAddr>);

impl tower::Service<Name> for To {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let to = self.0;
        Box::pin(async move {
            Ok(match to {
                Some(to) => vec![to].into_iter(),
                None => {
                    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
                    found.collect::<Vec<_>>().into_iter()
                }
            })
        })
    }
}

impl Visitors {
    /// To this address, by the way of `to` if it is given. Certificates are those of the system, or of
    /// `SSL_CERT_FILE`.
    pub fn new(base: Uri, to: Option<SocketAddr>) -> Result<Self, rustls::Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new_with_resolver(To(to));
        http.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base,
        })
    }

    /// Sends guests until `stop` resolves, and waits for those that are under way.
    pub async fn run(
        self,
        guests: &Guests,
        schedule: &Schedule,
        stop: impl Future<Output = ()>,
    ) -> Arc<Count> {
        let count = Arc::new(Count::default());
        let places = Arc::new(Semaphore::new(AT_ONCE));
        tokio::select! {
            () = stop => {}
            () = self.send_all(guests, schedule, &count, &places) => {}
        }
        let all = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        // Closed by nobody.
        let _ = places.acquire_many(all).await;
        count
    }

    async fn send_all(
        &self,
        guests: &Guests,
        schedule: &Schedule,
        count: &Arc<Count>,
        places: &Arc<Semaphore>,
    ) {
        let begun = Instant::now();
        let (audio, errors) = (
            ErrorShare::new(guests.audio_percent),
            ErrorShare::of(guests.errors_per_10_000, 10_000),
        );
        let (mut number, mut kinds) = (0, [0, 0]);
        loop {
            let second = begun.elapsed().as_secs_f64();
            let rate = schedule.rate(second);
            let pause = if rate > 0.0 { 1.0 / rate } else { 0.05 };
            tokio::time::sleep(Duration::from_secs_f64(pause)).await;
            if rate <= 0.0 {
                continue;
            }
            number += 1;
            let is_audio = audio.next_fails();
            let (shape, kind) = match is_audio {
                true => (guests.audio, "audio"),
                false => (guests.text, "text"),
            };
            let of_kind = &mut kinds[usize::from(is_audio)];
            *of_kind += 1;
            let time = shape.time(*of_kind);
            let status = if errors.next_fails() { 500 } else { 200 };
            let path = format!(
                "{ROUTE}?kind={kind}&milliseconds={}&status={status}",
                time.as_millis()
            );
            let Ok(place) = Arc::clone(places).try_acquire_owned() else {
                count.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            count.sent.fetch_add(1, Ordering::Relaxed);
            let by_kind = if is_audio { &count.audio } else { &count.text };
            by_kind.fetch_add(1, Ordering::Relaxed);
            let (visitors, count) = (self.clone(), Arc::clone(count));
            tokio::spawn(async move {
                match visitors.ask(&path).await {
                    Ok(status) if status < 500 => {}
                    Ok(_) => {
                        count.errors.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        tracing::debug!(%error, number, "no answer");
                        count.unanswered.fetch_add(1, Ordering::Relaxed);
                    }
                }
                drop(place);
            });
        }
    }

    /// One request; its status.
    async fn ask(&self, path: &str) -> Result<u16, Failed> {
        let base = self.base.to_string();
        let uri: Uri = format!("{}{path}", base.trim_end_matches('/')).parse()?;
        let request = Request::get(uri).body(Empty::new())?;
        let answered = self.client.request(request);
        let answer = tokio::time::timeout(LONGEST * 2, answered).await??;
        let status = answer.status().as_u16();
        answer
            .into_body()
            .collect()
            .await
            .map_err(|_| Failed::Body)?;
        Ok(status)
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the address cannot be asked")]
    Uri(#[from] http::uri::InvalidUri),
    #[error("the request cannot be sent")]
    Request(#[from] http::Error),
    #[error("nobody answers")]
    Connect(#[from] Error),
    #[error("no answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the answer was cut off")]
    Body,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_have_the_median_and_the_percentile_that_they_are_given() {
        let shape: Shape = "80,400".parse().unwrap();
        let mut times: Vec<u128> = (0..10_000).map(|n| shape.time(n).as_micros()).collect();
        times.sort_unstable();
        let at = |share: f64| times[(share * 10_000.0) as usize] as f64 / 1000.0;
        assert!((at(0.5) - 80.0).abs() < 2.0, "{}", at(0.5));
        assert!((at(0.95) - 400.0).abs() < 10.0, "{}", at(0.95));
        assert!("400,80".parse::<Shape>().is_err());
        assert!("80".parse::<Shape>().is_err());
    }

    #[test]
    fn bursts_and_silences_come_again_and_again() {
        let schedule = Schedule {
            per_second: 5.0,
            burst: Some(Spell::burst("60,5,10").unwrap()),
            silence: Some(Spell::silence("100,10").unwrap()),
        };
        for (second, rate) in [
            (0.0, 5.0),
            (54.9, 5.0),
            (55.0, 50.0),
            (60.0, 5.0),
            (90.0, 0.0),
            (100.0, 5.0),
            (115.0, 50.0),
        ] {
            assert_eq!(schedule.rate(second), rate, "{second}");
        }
        assert!(Spell::burst("60,5").is_err());
        assert!(Spell::silence("5,60").is_err());
    }
}
