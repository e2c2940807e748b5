//! Native histograms: what a real Prometheus scraped and answers is what was observed.
//!
//! They are scraped in Protocol Buffers, which the text formats have no place for. Sources: prometheus/client_model,
//! `io/prometheus/client/metrics.proto`, and the encoding guide of Protocol Buffers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper fails its test by a panic"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kube_env::Prometheus;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reading::promql::answer::Bounds;
use reading::promql::query::Shape;
use reading::promql::{Answer, Query, Request, read, tally};
use reading::slo::{Range, Selector};

/// Longest time until the server has scraped a few times.
const LIMIT: Duration = Duration::from_secs(120);

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A field with a number.
fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

/// A field with a number that may be negative.
fn signed(out: &mut Vec<u8>, field: u64, value: i64) {
    number(out, field, ((value << 1) ^ (value >> 63)) as u64);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend(value.to_le_bytes());
}

/// A field with a text or a message.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// `times` times: 2 observations of nothing, 5 in (0.5, 1], 3 in (1, 2] and 2 in (2, 4].
fn family(times: u64) -> Vec<u8> {
    let count = |n: i64| n * times as i64;
    let mut histogram = Vec::new();
    number(&mut histogram, 1, 12 * times);
    double(&mut histogram, 2, 14.5 * times as f64);
    signed(&mut histogram, 5, 0);
    double(&mut histogram, 6, 0.001);
    number(&mut histogram, 7, 2 * times);
    let mut span = Vec::new();
    signed(&mut span, 1, 0);
    number(&mut span, 2, 3);
    bytes(&mut histogram, 12, &span);
    for delta in [count(5), count(-2), count(-1)] {
        signed(&mut histogram, 13, delta);
    }
    let mut metric = Vec::new();
    bytes(&mut metric, 7, &histogram);
    let mut family = Vec::new();
    bytes(&mut family, 1, b"seconds");
    number(&mut family, 3, 4);
    bytes(&mut family, 4, &metric);
    let mut out = Vec::new();
    varint(&mut out, family.len() as u64);
    out.extend(family);
    out
}

/// An application that has observed more at each scrape. Ends with the test.
fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (times, stream) in (1..).zip(listener.incoming()) {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                request.push(byte[0]);
            }
            let body = family(times);
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\nContent-Type: \
                 application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited\r\n\r\n",
                body.len()
            );
            // Whoever does not read it misses it.
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
    });
    address
}

fn ask(server: &Prometheus, promql: &str, at: i64) -> Answer {
    let query = utf8_percent_encode(promql, NON_ALPHANUMERIC);
    let form = format!("query={query}&time={}.{:03}", at / 1000, at % 1000);
    let (_, body) = server.post("/api/v1/query", &form).unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    read(&body).unwrap_or_else(|fault| panic!("{promql}: {fault}: {text}"))
}

/// The time at which the query first has an answer with a number of its own.
async fn wait(server: &Prometheus, query: &Query<'_>) -> i64 {
    let started = Instant::now();
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_millis()).unwrap();
        let request = Request::instant(query, now, 10);
        let found = tally::number(&ask(server, &request.fields[0].1, now)).unwrap();
        if found.is_some_and(|found| found > 0.0) {
            return now;
        }
        assert!(started.elapsed() < LIMIT, "nothing was scraped: {found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_native_histogram_is_read_and_asked_for_as_it_was_observed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Prometheus::scraping(dir.path(), application())
        .await
        .unwrap();
    let of = Selector::default();
    let (metric, window) = ("seconds", 600);
    let count = Query::NativeCount {
        metric,
        of: &of,
        window,
    };
    let now = wait(&server, &count).await;

    let raw = ask(&server, "seconds", now);
    let series = raw.data.series();
    let histogram = &series[0].histograms[0].value;
    let times = histogram.count / 12.0;
    assert!(times >= 2.0 && times.fract() == 0.0, "{histogram:?}");
    assert!((histogram.sum - 14.5 * times).abs() < 1e-9);
    assert_eq!(histogram.buckets[0].bounds, Bounds::ClosedBoth);
    assert_eq!(histogram.at_most(0.5), Range::exact(2.0 * times));
    assert_eq!(histogram.at_most(1.0), Range::exact(7.0 * times));
    assert_eq!(histogram.at_most(2.0), Range::exact(10.0 * times));
    let between = Range {
        low: 10.0 * times,
        high: 12.0 * times,
    };
    assert_eq!(histogram.at_most(3.0), between);

    // The server's own answers are of the same histogram.
    let number = |query: Query<'_>| {
        let answer = ask(&server, &query.promql(), now);
        tally::number(&answer).unwrap().unwrap()
    };
    let fraction = number(Query::Fraction {
        metric,
        of: &of,
        below: 2.0,
        window,
    });
    assert!((fraction - 10.0 / 12.0).abs() < 1e-9, "{fraction}");
    let quantile = number(Query::Quantile {
        metric,
        of: &of,
        quantile: 0.9,
        window,
        shape: Shape::Native,
    });
    assert!((2.0..=4.0).contains(&quantile), "{quantile}");
}
