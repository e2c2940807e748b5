//! The formats as their documents show them, faults, and bounds.

#![allow(clippy::unwrap_used)]

use super::*;

/// The example of prometheus/docs, `exposition_formats.md`.
const EXAMPLE: &str = r##"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045

# A histogram, which has a pretty complex representation in the text format:
# HELP http_request_duration_seconds A histogram of the request duration.
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320

# Finally a summary, which has a complex representation, too:
# TYPE rpc_duration_seconds summary
rpc_duration_seconds{quantile="0.01"} 3102
rpc_duration_seconds_sum 1.7560473e+07
"##;

const NONE: &[(&str, &str)] = &[];

fn entries(page: &str, format: Format) -> Result<Vec<Entry<'_>>, Problem> {
    Reader::new(page.as_bytes(), format).collect()
}

fn fault(page: &str, format: Format) -> Option<Fault> {
    let found = entries(page, format);
    // After a problem the reader ends.
    let mut reader = Reader::new(page.as_bytes(), format);
    if reader.by_ref().any(|entry| entry.is_err()) {
        assert!(reader.next().is_none());
    }
    found.err().map(|problem| problem.fault)
}

fn one(line: &str) -> Sample<'_> {
    match entries(line, Format::Text).unwrap().remove(0) {
        Entry::Sample(sample) => sample,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn the_example_of_the_text_format_is_read_as_it_is_meant() {
    let page = EXAMPLE.as_bytes();
    let of = |name: &str, selector: &[(&str, &str)]| value(page, Format::Text, name, selector);
    let requests = of("http_requests_total", NONE).unwrap().unwrap();
    assert_eq!((requests.sum, requests.samples), (1030.0, 2));
    let bad = of("http_requests_total", &[("code", "400")]);
    assert_eq!(bad.unwrap().unwrap().sum, 3.0);
    assert_eq!(of("http_requests_total", &[("code", "500")]), Ok(None));
    let path = [
        ("path", r"C:\DIR\FILE.TXT"),
        ("error", "Cannot find file:\n\"FILE.TXT\""),
    ];
    assert_eq!(
        of("msdos_file_access_time_seconds", &path)
            .unwrap()
            .unwrap()
            .sum,
        1.458_255_915e9
    );
    let weird = of("something_weird", NONE).unwrap().unwrap();
    assert_eq!(weird.sum, f64::INFINITY);
    assert_eq!(one("something_weird +Inf -3982045").time, Some(-3_982_045));
    let count = of("http_request_duration_seconds_count", NONE);
    assert_eq!(count.unwrap().unwrap().sum, 144_320.0);
}

#[test]
fn a_histogram_a_summary_or_a_text_has_no_single_value() {
    let summary = value(
        EXAMPLE.as_bytes(),
        Format::Text,
        "rpc_duration_seconds",
        NONE,
    );
    assert_eq!(summary.unwrap_err().fault, Fault::NoSingleValue);
    let info = "# TYPE build info\nbuild_info 1\nbuild 1\n# EOF\n";
    let info = value(info.as_bytes(), Format::OpenMetrics, "build", NONE);
    assert_eq!(
        info,
        Err(Problem {
            line: 3,
            fault: Fault::NoSingleValue
        })
    );
}

#[test]
fn the_value_of_several_samples_is_their_sum_and_their_maximum() {
    let page = "age{source=\"a\"} 3\nage{source=\"b\"} 40.5\nage{source=\"c\"} 0\nages 99\n";
    let found = value(page.as_bytes(), Format::Text, "age", NONE)
        .unwrap()
        .unwrap();
    assert_eq!(
        found,
        Found {
            sum: 43.5,
            max: 40.5,
            samples: 3
        }
    );
    let page = "age 3\nage{source=\"b\"} NaN\nage{source=\"c\"} 7\n";
    let found = value(page.as_bytes(), Format::Text, "age", NONE)
        .unwrap()
        .unwrap();
    assert!(found.sum.is_nan() && found.max.is_nan(), "{found:?}");
    // As in Prometheus, an empty value matches a sample without the label.
    let found = value(page.as_bytes(), Format::Text, "age", &[("source", "")])
        .unwrap()
        .unwrap();
    assert_eq!(found.sum, 3.0);
}

#[test]
fn names_in_utf_8_are_quoted() {
    for line in [
        r#"{"http.status",region="eu"} 5"#,
        r#"{"http.status", "region"="eu",} 5"#,
        r#"{ "http.status" , region = "eu" } 5"#,
    ] {
        let sample = one(line);
        assert_eq!(sample.name, "http.status", "{line}");
        assert_eq!(sample.labels.get("region").unwrap(), "eu", "{line}");
    }
    let sample = one(r#"{"cabañas \"x\"\n"} 5"#);
    assert_eq!(sample.name, "cabañas \"x\"\n");
    let typed = entries("# TYPE \"http.status\" gauge\n", Format::Text).unwrap();
    let family = "http.status".into();
    assert_eq!(
        typed,
        [Entry::Type {
            family,
            kind: Kind::Gauge
        }]
    );
}

#[test]
fn numbers_are_read_as_prometheus_reads_them() {
    for (text, number) in [
        ("0", 0.0),
        ("-0", 0.0),
        ("007", 7.0),
        ("12.47", 12.47),
        ("1e3", 1000.0),
        ("999999999999999", 999_999_999_999_999.0),
        ("18446744073709551616", 18_446_744_073_709_551_616.0),
        ("1.7560473e+07", 1.756_047_3e7),
        ("-Inf", f64::NEG_INFINITY),
        ("+Inf", f64::INFINITY),
        ("1e999", f64::INFINITY),
    ] {
        assert_eq!(one(&format!("x {text}")).value, number, "{text}");
    }
    assert!(one("x NaN").value.is_nan());
    for text in ["", "abc", "1,5", "0x", "1_000", "--1", "1.2.3", "٣"] {
        assert_eq!(
            fault(&format!("x {text}\n"), Format::Text),
            Some(Fault::Value),
            "{text}"
        );
    }
}

#[test]
fn openmetrics_has_exemplars_times_in_seconds_and_an_end() {
    let page = "# TYPE req counter\n# UNIT req requests\n# HELP req Some \\\"text\\\" # EOF\n\
        req_total{path=\"/a,b}{\"} 17 1520879607.789 # {trace_id=\"KOO5S4vxi0o\"} 0.67\n\
        req_created 1.5\nreq_bucket{le=\"1\"} 3 # {} 0.5 1520879607.7\n# EOF\n";
    let found = entries(page, Format::OpenMetrics).unwrap();
    let samples: Vec<_> = found
        .iter()
        .filter_map(|entry| match entry {
            Entry::Sample(sample) => Some(sample),
            Entry::Type { .. } => None,
        })
        .collect();
    assert_eq!(samples.len(), 3);
    assert_eq!(samples[0].time, Some(1_520_879_607_789));
    assert_eq!(samples[0].labels.get("path").unwrap(), "/a,b}{");
    for (page, problem) in [
        ("req_total 1\n", Fault::NoEnd),
        ("", Fault::NoEnd),
        ("# EOF\nreq_total 1\n", Fault::AfterEnd),
        ("\n# EOF\n", Fault::Comment),
        ("# a comment\n# EOF\n", Fault::Comment),
        ("a 1 2 3\n# EOF\n", Fault::Trailing),
        ("a 1 # {x=\"y\"} z\n# EOF\n", Fault::Value),
        ("a 1 # {x=\"y\"} 1 2 3\n# EOF\n", Fault::Trailing),
        ("a 1 Inf\n# EOF\n", Fault::Time),
        ("# TYPE a untyped\n# EOF\n", Fault::Type),
    ] {
        assert_eq!(fault(page, Format::OpenMetrics), Some(problem), "{page}");
    }
    assert_eq!(fault("# EOF", Format::OpenMetrics), None);
    // In the text format it is a comment.
    assert_eq!(fault("# EOF\nreq_total 1\n", Format::Text), None);
}

#[test]
fn what_is_no_sample_is_refused_with_its_line() {
    for (line, wanted) in [
        ("{} 1", Fault::Name),
        ("{a=\"b\"} 1", Fault::Name),
        ("{\"\"} 1", Fault::Name),
        ("1abc 1", Fault::Name),
        ("lonely", Fault::Name),
        ("<html>", Fault::Name),
        ("x{a=\"b\" 1", Fault::Labels),
        ("x{a=\"b} 1", Fault::Labels),
        ("x{a=b} 1", Fault::Labels),
        ("x{a} 1", Fault::Labels),
        ("x{,} 1", Fault::Labels),
        ("x{a=\"b\",,} 1", Fault::Labels),
        ("x{a=\"b\"c=\"d\"} 1", Fault::Labels),
        ("x{\"y\"} 1", Fault::Labels),
        ("x{a=\"b\\\"} 1", Fault::Labels),
        ("x{a=\"b\"}", Fault::Value),
        ("x 1 2 3", Fault::Trailing),
        ("x 1 1.5", Fault::Time),
        ("x 1\r", Fault::Value),
        ("# TYPE x counters", Fault::Type),
        ("# TYPE x", Fault::Name),
    ] {
        let page = format!("ok 1\n\n# hi\n{line}\n");
        let problem = entries(&page, Format::Text).unwrap_err();
        assert_eq!(
            problem,
            Problem {
                line: 4,
                fault: wanted
            },
            "{line}"
        );
    }
    assert_eq!(fault("x{a=\"b\",}1\n\t y { } 2 \n", Format::Text), None);
    let problem = Reader::new(b"x 1\n\xff 1\n", Format::Text).next().unwrap();
    assert_eq!(problem.unwrap_err().fault, Fault::NotUtf8);
}

#[test]
fn lines_labels_and_samples_are_bounded() {
    let long = format!("x{{a=\"{}\"}} 1\n", "y".repeat(MAX_LINE));
    assert_eq!(fault(&long, Format::Text), Some(Fault::LongLine));
    let labels = |count: usize| -> String { (0..count).map(|n| format!("l{n}=\"\",")).collect() };
    let most = format!("x{{{}}} 1\n", labels(MAX_LABELS));
    assert_eq!(fault(&most, Format::Text), None);
    let many = format!("x{{{}}} 1\n", labels(MAX_LABELS + 1));
    assert_eq!(fault(&many, Format::Text), Some(Fault::TooManyLabels));
    let most = "x 1\n".repeat(MAX_SAMPLES);
    assert_eq!(
        Reader::new(most.as_bytes(), Format::Text).count(),
        MAX_SAMPLES
    );
    let problem = value(format!("{most}x 1\n").as_bytes(), Format::Text, "x", NONE).unwrap_err();
    assert_eq!(problem.fault, Fault::TooManySamples);
}

#[test]
fn the_content_type_says_which_format_it_is() {
    for (header, format) in [
        (None, Some(Format::Text)),
        (Some("text/plain"), Some(Format::Text)),
        (
            Some("text/plain; version=0.0.4; charset=utf-8"),
            Some(Format::Text),
        ),
        (
            Some("Text/Plain;version=1.0.0;escaping=allow-utf-8"),
            Some(Format::Text),
        ),
        (
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8"),
            Some(Format::OpenMetrics),
        ),
        (Some("text/html; charset=utf-8"), None),
        (Some("application/json"), None),
        (Some("application/vnd.google.protobuf"), None),
    ] {
        assert_eq!(Format::of(header), format, "{header:?}");
    }
}

/// Writes a sample as the format demands, for the property below.
fn written(name: &str, labels: &[(String, String)], value: f64) -> String {
    let escaped = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        text.replace('\n', "\\n")
    };
    let mut out = format!("{{\"{}\"", escaped(name));
    for (name, value) in labels {
        out += &format!(",\"{}\"=\"{}\"", escaped(name), escaped(value));
    }
    out + &format!("}} {value:?}\n")
}

#[test]
fn every_sample_reads_back_as_it_was_written() {
    bolero::check!()
        .with_type::<(String, Vec<(String, String)>, f64)>()
        .with_test_time(std::time::Duration::from_millis(500))
        .for_each(|(name, labels, value)| {
            let name = format!("n{name}");
            let labels = &labels[..labels.len().min(8)];
            let page = written(&name, labels, *value);
            let read = entries(&page, Format::Text).unwrap();
            let [Entry::Sample(sample)] = &read[..] else {
                unreachable!("{read:?}")
            };
            assert_eq!(sample.name, name);
            assert!(sample.value == *value || (sample.value.is_nan() && value.is_nan()));
            let found: Vec<_> = sample
                .labels
                .into_iter()
                .map(|label| (label.name.into_owned(), label.value.into_owned()))
                .collect();
            assert_eq!(found, labels);
        });
}

fn number(pointer: &str, body: &str) -> Result<f64, JsonFault> {
    Pointer::parse(pointer).unwrap().number(body.as_bytes())
}

/// RFC 6901 section 5.
#[test]
fn the_pointers_of_the_rfc_find_their_numbers() {
    let body = r#"{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4,
        "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8}"#;
    for (pointer, found) in [
        ("", Err(JsonFault::NotANumber)),
        ("/foo", Err(JsonFault::NotANumber)),
        ("/foo/0", Err(JsonFault::NotANumber)),
        ("/", Ok(0.0)),
        ("/a~1b", Ok(1.0)),
        ("/c%d", Ok(2.0)),
        ("/e^f", Ok(3.0)),
        ("/g|h", Ok(4.0)),
        ("/i\\j", Ok(5.0)),
        ("/k\"l", Ok(6.0)),
        ("/ ", Ok(7.0)),
        ("/m~0n", Ok(8.0)),
        ("/foo/2", Err(JsonFault::Missing)),
        ("/foo/-", Err(JsonFault::Missing)),
        ("/foo/00", Err(JsonFault::Missing)),
        ("/foo/0/x", Err(JsonFault::Missing)),
        ("/nothing", Err(JsonFault::Missing)),
    ] {
        assert_eq!(number(pointer, body), found, "{pointer}");
    }
    assert_eq!(number("", "42"), Ok(42.0));
    assert_eq!(number("/1/0", "[1,[-2.5e1],3]"), Ok(-25.0));
}

#[test]
fn a_text_at_the_place_is_no_number() {
    let body = br#"{"at":"2026-11-30T12:00:00Z","n":"5"}"#;
    let scalar = |pointer: &str| Pointer::parse(pointer).unwrap().scalar(body);
    let at = Scalar::Text("2026-11-30T12:00:00Z".to_owned());
    assert_eq!(scalar("/at"), Ok(at));
    assert_eq!(scalar("/at/0"), Err(JsonFault::Missing));
    let number = Pointer::parse("/n").unwrap().number(body);
    assert_eq!(number, Err(JsonFault::NotANumber));
}

#[test]
fn a_text_is_a_pointer_or_says_why_not() {
    assert_eq!(Pointer::parse("a"), Err(PointerFault::NoSlash));
    for text in ["/~", "/~2", "/a~"] {
        assert_eq!(Pointer::parse(text), Err(PointerFault::Escape), "{text}");
    }
    assert_eq!(Pointer::parse(&"/a".repeat(129)), Err(PointerFault::Long));
    assert_eq!(Pointer::parse(&"/".repeat(65)), Err(PointerFault::Long));
    assert!(Pointer::parse(&"/".repeat(64)).is_ok());
}

#[test]
fn a_document_must_be_json_flat_enough_and_clear() {
    for body in [
        "",
        "{",
        "{\"a\":1}x",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":1e999}",
        "<html>",
        "\u{feff}{\"a\":1}",
    ] {
        assert_eq!(number("/a", body), Err(JsonFault::Malformed), "{body}");
    }
    for body in [
        "{\"a\":\"1\"}",
        "{\"a\":null}",
        "{\"a\":true}",
        "{\"a\":{}}",
        "{\"a\":[1]}",
    ] {
        assert_eq!(number("/a", body), Err(JsonFault::NotANumber), "{body}");
    }
    let twice = r#"{"a":1,"b":{"a":2,"a":3},"a":1}"#;
    assert_eq!(number("/a", twice), Err(JsonFault::Ambiguous));
    assert_eq!(number("/b/a", twice), Err(JsonFault::Ambiguous));
    // Twice elsewhere does not matter.
    assert_eq!(number("/c", r#"{"a":1,"a":2,"c":3}"#), Ok(3.0));
    let nested = |depth: usize| {
        format!(
            "{{\"x\":{}{},\"a\":1}}",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert_eq!(number("/a", &nested(MAX_DEPTH - 1)), Ok(1.0));
    assert_eq!(number("/a", &nested(MAX_DEPTH)), Err(JsonFault::Deep));
    assert_eq!(number("/a", &nested(1_000_000)), Err(JsonFault::Deep));
    assert_eq!(number("/a", r#"{"x":"[[[[\"[[","a":1}"#), Ok(1.0));
}
