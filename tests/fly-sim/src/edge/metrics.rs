//! What the edge has seen, in the names that Fly's Prometheus has.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the latency buckets in seconds.
const BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// A time series: its name with its labels, and its value now.
pub type Sample = (String, BTreeMap<String, String>, f64);

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; 13],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (at, bound) in BUCKETS.iter().enumerate() {
            if seconds <= *bound {
                self.buckets[at] += 1;
            }
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<Sample> {
        let bucket = |bound: String, count: u64| {
            let mut labels = owned(labels);
            labels.insert("le".to_owned(), bound);
            (format!("{name}_bucket"), labels, count as f64)
        };
        let bounds = BUCKETS.iter().map(ToString::to_string);
        let mut samples: Vec<Sample> = bounds
            .zip(self.buckets)
            .map(|(bound, count)| bucket(bound, count))
            .collect();
        samples.push(bucket("+Inf".to_owned(), self.count));
        samples.push((format!("{name}_sum"), owned(labels), self.sum));
        samples.push((format!("{name}_count"), owned(labels), self.count as f64));
        samples
    }
}

fn owned(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let labels = labels.iter();
    labels
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Counters of the edge.
#[derive(Debug, Default)]
pub struct EdgeMetrics {
    /// By app, host and status.
    responses: Mutex<BTreeMap<(String, String, u16), u64>>,
    /// By app and status.
    times: Mutex<BTreeMap<(String, u16), Histogram>>,
    /// By app, machine and status: what the machines answered.
    machines: Mutex<BTreeMap<(String, String, u16), Histogram>>,
    handshake_errors: AtomicU64,
}

impl EdgeMetrics {
    /// Counts an answer.
    pub fn response(&self, app: &str, host: &str, status: u16, took: Duration) {
        *self
            .responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((app.to_owned(), host.to_owned(), status))
            .or_default() += 1;
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = times.entry((app.to_owned(), status)).or_default();
        histogram.observe(took);
    }

    /// Counts an answer of a machine.
    pub fn machine(&self, app: &str, machine: &str, status: u16, took: Duration) {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (app.to_owned(), machine.to_owned(), status);
        machines.entry(key).or_default().observe(took);
    }

    /// What Fly's Prometheus has of one organization's apps now. Source: fly.io/docs/monitoring/metrics, "Fly
    /// Proxy".
    pub fn samples(&self, is_of: impl Fn(&str) -> bool) -> Vec<Sample> {
        let mut samples = Vec::new();
        let responses = self
            .responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ((app, host, status), count) in responses.iter().filter(|((app, ..), _)| is_of(app)) {
            let status = status.to_string();
            let labels = [
                ("app", app.as_str()),
                ("region", "eze"),
                ("host", host),
                ("status", &status),
            ];
            let name = "fly_edge_http_responses_count".to_owned();
            samples.push((name, owned(&labels), *count as f64));
        }
        drop(responses);
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        for ((app, status), histogram) in times.iter().filter(|((app, _), _)| is_of(app)) {
            let status = status.to_string();
            let labels = [("app", app.as_str()), ("status", &status)];
            samples.extend(histogram.samples("fly_edge_http_response_time_seconds", &labels));
        }
        drop(times);
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        for ((app, machine, status), histogram) in
            machines.iter().filter(|((app, ..), _)| is_of(app))
        {
            let status = status.to_string();
            let labels = [
                ("app", app.as_str()),
                ("region", "eze"),
                ("instance", machine),
                ("status", &status),
            ];
            let count = histogram.count as f64;
            samples.push((
                "fly_app_http_responses_count".to_owned(),
                owned(&labels),
                count,
            ));
            samples.extend(histogram.samples("fly_app_http_response_time_seconds", &labels));
        }
        samples
    }

    /// Counts a handshake that failed.
    pub fn handshake_failed(&self) {
        self.handshake_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of answers of an app by status.
    pub fn responses(&self, app: &str) -> BTreeMap<u16, u64> {
        let mut by_status = BTreeMap::new();
        let responses = self
            .responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ((name, _, status), count) in responses.iter() {
            if name == app {
                *by_status.entry(*status).or_default() += count;
            }
        }
        by_status
    }

    /// All of it in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut out = String::from("# TYPE fly_edge_http_responses_count counter\n");
        let responses = self
            .responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ((app, host, status), count) in responses.iter() {
            let _ = writeln!(
                out,
                "fly_edge_http_responses_count{{app=\"{app}\",region=\"eze\",host=\"{host}\",\
                 status=\"{status}\"}} {count}"
            );
        }
        out.push_str("# TYPE fly_edge_http_response_time_seconds histogram\n");
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        for ((app, status), histogram) in times.iter() {
            let labels = format!("app=\"{app}\",status=\"{status}\"");
            let name = "fly_edge_http_response_time_seconds";
            for (bound, count) in BUCKETS.iter().zip(histogram.buckets) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let count = histogram.count;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum);
            let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
        }
        let errors = self.handshake_errors.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "# TYPE fly_edge_tls_handshake_errors counter\nfly_edge_tls_handshake_errors {errors}"
        );
        out
    }
}
