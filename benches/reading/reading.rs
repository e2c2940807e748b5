//! How fast calendars, metrics and JSON are read, and how much memory that takes. `make bench`.
//!
//! `max alloc` is the peak of memory beside the input. The objectives: calendars at least 100 MB/s and at
//! most ten times the input, metrics at least 200 MB/s.

#![allow(clippy::unwrap_used, reason = "a bench ends with a panic")]

use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use reading::{
    exposition::{Format, Pointer, Reader, value},
    ical,
};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A calendar with these lines in each event.
fn calendar(events: usize, more: impl Fn(usize) -> String) -> String {
    let event = |n: usize| {
        let (day, more) = (n % 28 + 1, more(n));
        format!(
            "BEGIN:VEVENT\r\nUID:{n:032x}@cabanas\r\nDTSTAMP:20261101T120000Z\r\n\
             DTSTART;VALUE=DATE:202611{day:02}\r\nDTEND;VALUE=DATE:202612{day:02}\r\n{more}END:VEVENT\r\n"
        )
    };
    let events: String = (0..events).map(event).collect();
    format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//cabanas//Cabanas//ES\r\n{events}END:VCALENDAR\r\n"
    )
}

fn read(bencher: Bencher<'_, '_>, text: &str) {
    let size = BytesCount::of_str(text);
    let bencher = bencher.counter(size);
    bencher.bench_local(|| ical::read(black_box(text.as_bytes())));
}

#[divan::bench]
fn calendar_of_the_example(bencher: Bencher<'_, '_>) {
    let more = |n| format!("SUMMARY:Reservada: Cabaña {}\r\nTRANSP:OPAQUE\r\n", n % 9);
    read(bencher, &calendar(5_000, more));
}

#[divan::bench]
fn calendar_of_airbnb(bencher: Bencher<'_, '_>) {
    let more = |n| {
        format!(
            "DESCRIPTION:Reservation URL: https://www.airbnb.com/hosting/reservations/de\r\n \
             tails/HM{n:08}\\nPhone Number (Last 4 Digits): 1234\r\nSUMMARY:Reserved\r\n"
        )
    };
    read(bencher, &calendar(5_000, more));
}

#[divan::bench]
fn calendar_of_texts_that_all_differ(bencher: Bencher<'_, '_>) {
    let more = |n| {
        format!(
            "SUMMARY:Guest {n:x} and {n:o} Friends\r\n\
             DESCRIPTION:Order {n} of a guest with \\, commas\\n and {n}-{n} numbers\r\n"
        )
    };
    read(bencher, &calendar(5_000, more));
}

#[divan::bench]
fn calendar_of_shortest_events(bencher: Bencher<'_, '_>) {
    let event = |n| format!("BEGIN:VEVENT\r\nUID:{n}\r\nEND:VEVENT\r\n");
    let events: String = (0..ical::MAX_EVENTS).map(event).collect();
    read(bencher, &format!("BEGIN:VCALENDAR\r\n{events}"));
}

#[divan::bench]
fn calendar_of_empty_lines(bencher: Bencher<'_, '_>) {
    read(bencher, &"\n".repeat(1 << 20));
}

/// A page of counters and buckets.
fn metrics() -> String {
    let counter = |n: usize| {
        format!("http_requests_total{{status=\"200\",route=\"/api/v1/{n}\",kind=\"Text\"}} {n}\n")
    };
    let bucket = |n: usize| {
        format!(
            "http_request_duration_seconds_bucket{{kind=\"Text\",route=\"/{n}\",le=\"0.25\"}} {n}.5e-3\n"
        )
    };
    let samples = (0..20_000).map(|n| counter(n) + &bucket(n));
    format!(
        "# TYPE http_requests_total counter\n{}",
        samples.collect::<String>()
    )
}

#[divan::bench]
fn metrics_all_samples(bencher: Bencher<'_, '_>) {
    let page = metrics();
    let bencher = bencher.counter(BytesCount::of_str(&page));
    bencher.bench_local(|| Reader::new(black_box(page.as_bytes()), Format::Text).count());
}

#[divan::bench]
fn metrics_one_value(bencher: Bencher<'_, '_>) {
    let page = metrics();
    let selector = [("status", "200")];
    let name = "http_requests_total";
    let bencher = bencher.counter(BytesCount::of_str(&page));
    bencher
        .bench_local(|| value(black_box(page.as_bytes()), Format::Text, name, &selector).unwrap());
}

#[divan::bench]
fn json_number(bencher: Bencher<'_, '_>) {
    let item = "{\"id\":12,\"name\":\"Arrayán\",\"nights\":[1,2,3]}";
    let items = vec![item; 20_000].join(",");
    let text = format!("{{\"items\":[{items}],\"last\":{{\"minutes\":3}}}}");
    let pointer = Pointer::parse("/last/minutes").unwrap();
    let bencher = bencher.counter(BytesCount::of_str(&text));
    bencher.bench_local(|| pointer.number(black_box(text.as_bytes())).unwrap());
}
