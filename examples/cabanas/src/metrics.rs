//! What `/metrics` shows, in Prometheus' text format.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{
    EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, prometheus_text,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use prometheus_text::CONTENT_TYPE;

use crate::effects::Effects;
use crate::fault::Faults;
use crate::mistake::Mistake;

/// Upper bounds of the buckets of `http_request_duration_seconds`.
///
/// Unit: seconds. 3 and 15 are the objectives for text and audio: an objective that is a bound can
/// be judged exactly, any other only up to the width of a bucket.
pub const BUCKETS: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0,
];

/// What a request carries: voice messages take longer and have an objective of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Everything that is not a voice message.
    #[default]
    Text,
    /// A WhatsApp voice message.
    Audio,
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::Text => "text",
            Self::Audio => "audio",
        }
        .encode(encoder)
    }
}

/// Labels of `http_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// HTTP status code.
    pub status: u16,
    /// Route as declared, never the path as sent: its values must be few.
    pub route: String,
    /// See [`Kind`].
    pub kind: Kind,
}

/// Labels of `http_request_duration_seconds`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DurationLabels {
    /// See [`Kind`].
    pub kind: Kind,
    /// See [`RequestLabels::route`].
    pub route: String,
}

/// Labels of `http_probes_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProbeLabels {
    /// HTTP status code.
    pub status: u16,
    /// Route as declared.
    pub route: String,
}

/// Labels of `webhook_events_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WebhookLabels {
    /// `whatsapp` or `mercadopago`.
    pub provider: &'static str,
    /// `processed`, `duplicate`, `rejected`, or `probe` for what Golive delivered.
    pub outcome: &'static str,
}

/// Labels of `webhook_effects_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EffectLabels {
    /// `whatsapp` or `mercadopago`.
    pub provider: &'static str,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    probes: Family<ProbeLabels, Counter>,
    webhooks: Family<WebhookLabels, Counter>,
    effects: Family<EffectLabels, Counter<u64, AtomicU64>>,
    /// Imported events, and nights that are booked twice.
    ical_events: Option<(Gauge, Gauge)>,
    in_flight: Gauge,
    ical_age: Option<Gauge<f64, AtomicU64>>,
    /// When the calendars were last in order; seconds since 1970, 0 = never.
    ical_synced_at: AtomicU64,
    ical_at_least_minutes: u32,
    ical_age_is_zero: bool,
}

impl Metrics {
    /// Registers everything. `calendars` adds the gauges of the calendars, which `faults` may break.
    pub fn new(calendars: bool, faults: &Faults) -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        registry.register(
            "http_requests",
            "Requests answered, probes of the platform not counted",
            requests.clone(),
        );
        let durations: Family<DurationLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register(
            "http_request_duration_seconds",
            "Time from the head of the request to the head of the answer, probes not counted",
            durations.clone(),
        );
        let probes = Family::default();
        registry.register(
            "http_probes",
            "Requests to the health, readiness and metrics endpoints, and those of Golive",
            probes.clone(),
        );
        let webhooks = Family::default();
        registry.register(
            "webhook_events",
            "Events delivered by webhooks; only those processed had an effect",
            webhooks.clone(),
        );
        let effects = Family::default();
        registry.register(
            "webhook_effects",
            "Events that had an effect, counted in the database for all machines; probes included",
            effects.clone(),
        );
        let in_flight: Gauge = Gauge::default();
        registry.register(
            "http_requests_in_flight",
            "Requests being worked on, probes not counted",
            in_flight.clone(),
        );
        let started: Gauge<f64, AtomicU64> = Gauge::default();
        started.set(epoch_seconds());
        registry.register(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970",
            started,
        );
        let ical_age = calendars.then(|| {
            let gauge = Gauge::default();
            registry.register(
                "ical_last_sync_age_minutes",
                "Minutes since the calendar that was imported longest ago was imported",
                Gauge::clone(&gauge),
            );
            gauge
        });
        let ical_events = calendars.then(|| {
            let gauge = |registry: &mut Registry, name: &str, help: &str| {
                let gauge = Gauge::default();
                registry.register(name, help, Gauge::clone(&gauge));
                gauge
            };
            (
                gauge(
                    &mut registry,
                    "ical_imported_events",
                    "Events in the calendars of other channels, as last imported",
                ),
                gauge(
                    &mut registry,
                    "ical_double_booked_nights",
                    "Nights that both a guest of ours and another channel have",
                ),
            )
        });
        // A series that appears with its first error hides that error from a rate, and a series
        // that is absent looks like no service at all.
        drop(requests.get_or_create(&RequestLabels {
            status: 200,
            route: "/".to_owned(),
            kind: Kind::Text,
        }));
        for kind in [Kind::Text, Kind::Audio] {
            let route = if kind == Kind::Audio {
                crate::webhooks::whatsapp::ROUTE
            } else {
                "/"
            };
            drop(durations.get_or_create(&DurationLabels {
                kind,
                route: route.to_owned(),
            }));
        }
        Self {
            registry,
            requests,
            durations,
            probes,
            webhooks,
            effects,
            ical_events,
            in_flight,
            ical_age,
            ical_synced_at: AtomicU64::new(0),
            ical_at_least_minutes: faults.ical_stale_minutes.unwrap_or(0),
            ical_age_is_zero: faults.has(Mistake::AgeAlwaysZero),
        }
    }

    /// Counts a request as being worked on until the result is dropped, however it ends.
    pub fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts one request and its time.
    pub fn request(&self, route: &str, kind: Kind, status: u16, took: Duration) {
        self.requests
            .get_or_create(&RequestLabels {
                status,
                route: route.to_owned(),
                kind,
            })
            .inc();
        self.durations
            .get_or_create(&DurationLabels {
                kind,
                route: route.to_owned(),
            })
            .observe(took.as_secs_f64());
    }

    /// Counts one probe.
    pub fn probe(&self, route: &str, status: u16) {
        let route = route.to_owned();
        self.probes
            .get_or_create(&ProbeLabels { status, route })
            .inc();
    }

    /// Counts one webhook event.
    pub fn webhook(&self, provider: &'static str, outcome: &'static str) {
        self.webhooks
            .get_or_create(&WebhookLabels { provider, outcome })
            .inc();
    }

    /// What webhooks have caused, for all machines; `None` leaves the counter out.
    pub fn effects(&self, read: Option<[(&'static str, Effects); 2]>) {
        // Only then: another request may be about to write the numbers out.
        if read.is_none() {
            self.effects.clear();
        }
        for (provider, effects) in read.into_iter().flatten() {
            self.effects
                .get_or_create(&EffectLabels { provider })
                .inner()
                .store(effects.all, Ordering::Relaxed);
        }
    }

    /// Number of the events that were imported, and of the nights that are booked twice.
    pub fn calendar_events(&self, events: i64, double_booked: i64) {
        if let Some((imported, twice)) = &self.ical_events {
            imported.set(events);
            twice.set(double_booked);
        }
    }

    /// Notes when the calendar that was imported longest ago was imported, in seconds since 1970.
    pub fn calendars_synced_at(&self, epoch_seconds: u64) {
        self.ical_synced_at.store(epoch_seconds, Ordering::Relaxed);
    }

    /// The text for `/metrics`.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        if let Some(gauge) = &self.ical_age {
            let at = self.ical_synced_at.load(Ordering::Relaxed);
            let minutes = if at == 0 {
                f64::NAN
            } else {
                ((epoch_seconds() - at as f64) / 60.0).max(0.0)
            };
            // `max` would turn NaN into a number, and "never" into "just now".
            let least = f64::from(self.ical_at_least_minutes);
            gauge.set(if self.ical_age_is_zero {
                0.0
            } else if minutes < least {
                least
            } else {
                minutes
            });
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// One request that is being worked on.
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The wall clock, in seconds since 1970.
pub fn epoch_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |age| age.as_secs_f64())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_objectives_are_bounds_of_buckets() {
        assert!(BUCKETS.contains(&3.0) && BUCKETS.contains(&15.0));
        assert!(BUCKETS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_request_is_counted_once_in_each_family_with_its_labels() {
        let metrics = Metrics::new(true, &Faults::default());
        metrics.request("/a", Kind::Audio, 503, Duration::from_millis(2500));
        let text = metrics.encode().unwrap();
        for line in [
            "# TYPE http_requests_total counter",
            "http_requests_total{status=\"503\",route=\"/a\",kind=\"audio\"} 1",
            "# TYPE http_request_duration_seconds histogram",
            "http_request_duration_seconds_bucket{kind=\"audio\",route=\"/a\",le=\"2\"} 0",
            "http_request_duration_seconds_bucket{kind=\"audio\",route=\"/a\",le=\"3\"} 1",
            "http_request_duration_seconds_bucket{kind=\"audio\",route=\"/a\",le=\"+Inf\"} 1",
            "http_request_duration_seconds_count{kind=\"audio\",route=\"/a\"} 1",
            "# TYPE process_start_time_seconds gauge",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn the_age_of_calendars_is_unknown_before_the_first_sync_and_counts_minutes_after_it() {
        let age = |metrics: &Metrics| -> String {
            let text = metrics.encode().unwrap();
            let line = text
                .lines()
                .find(|l| l.starts_with("ical_last_sync_age_minutes "));
            line.unwrap().split(' ').nth(1).unwrap().to_owned()
        };
        let metrics = Metrics::new(true, &Faults::default());
        assert_eq!(age(&metrics), "NaN");
        metrics.calendars_synced_at(epoch_seconds() as u64 - 600);
        assert!((9.9..10.2).contains(&age(&metrics).parse().unwrap()));
        let stale = Metrics::new(true, &"ical-stale=90".parse().unwrap());
        stale.calendars_synced_at(epoch_seconds() as u64);
        assert!(age(&stale).parse::<f64>().unwrap() >= 90.0);
    }

    #[test]
    fn effects_that_cannot_be_counted_are_left_out() {
        let metrics = Metrics::new(true, &Faults::default());
        let three = Effects {
            all: 3,
            to_handle: 1,
        };
        metrics.effects(Some([
            ("whatsapp", three),
            ("mercadopago", Effects::default()),
        ]));
        let text = metrics.encode().unwrap();
        assert!(
            text.contains("webhook_effects_total{provider=\"whatsapp\"} 3"),
            "{text}"
        );
        assert!(
            text.contains("webhook_effects_total{provider=\"mercadopago\"} 0"),
            "{text}"
        );
        metrics.effects(None);
        assert!(!metrics.encode().unwrap().contains("webhook_effects_total{"));
    }

    #[test]
    fn a_service_without_calendars_has_no_gauge_for_them() {
        let text = Metrics::new(false, &Faults::default()).encode().unwrap();
        assert!(!text.contains("ical_"));
    }
}
