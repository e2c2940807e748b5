//! Whether an answer from the public edge is what a check expects. Pure.

use super::question::Way;
use crate::{
    api::smoke_test::{HttpCheck, MetricsCheck},
    net::{
        grpc::{Called, HEALTH},
        probe::Answer,
    },
};

/// Statuses beside 2xx and 3xx that show that the application answers: it refuses strangers, or has
/// nothing at this path or for this method.
const REFUSALS: [u16; 4] = [401, 403, 404, 405];

/// What counts for a default check, for people.
const COUNTS: &str = "2xx, 3xx, 401, 403, 404 and 405 count";

/// Whether an answer shows that the application answers at all, when nobody has said what it should
/// answer; either way with the evidence.
pub fn judge_any(answer: &Answer) -> Result<String, String> {
    let status = answer.status;
    let bytes = answer.body.len();
    if (200..300).contains(&status) {
        return Ok(format!("{status} in {bytes} bytes"));
    }
    if (300..400).contains(&status) || REFUSALS.contains(&status) {
        return Ok(format!(
            "{status} in {bytes} bytes: the application answers ({COUNTS})"
        ));
    }
    let advice = match status {
        400 | 421 => {
            "; an application that checks the name of the host must allow this one (ALLOWED_HOSTS or the like)"
        }
        _ => "",
    };
    Err(format!("answered {status}, and {COUNTS}{advice}"))
}

/// Codes of gRPC: a proxy or the server itself says that nothing serves
/// (github.com/grpc/grpc, doc/statuscodes.md).
const UNAVAILABLE: u32 = 14;

/// Whether the answer to a gRPC call shows that the application answers at all; either way with the
/// evidence.
pub fn judge_call(called: &Called) -> Result<String, String> {
    let status = called.status;
    match (called.code, called.serving) {
        (Some(0), Some(false)) => Err(format!(
            "the health service of gRPC ({HEALTH}) answers that the application is not SERVING"
        )),
        (Some(UNAVAILABLE), _) => Err("the gRPC call is answered UNAVAILABLE (14)".to_owned()),
        (Some(0), _) => Ok("the gRPC server answers that it is SERVING".to_owned()),
        (Some(code), _) => Ok(format!("the gRPC server answers ({HEALTH}: status {code})")),
        (None, _)
            if (200..400).contains(&status) || status == 415 || REFUSALS.contains(&status) =>
        {
            Ok(format!(
                "{status}: the application answers, but not by gRPC"
            ))
        }
        (None, _) => Err(format!("the gRPC call is answered {status}")),
    }
}

/// Whether an answer that passed also shows that the database answers. One that comes from a cache,
/// or is not about a database, shows nothing: it may be the same without a database.
pub fn about_database(way: Way<'_>, answer: &Answer) -> Result<(), &'static str> {
    if is_cached(answer) {
        return Err("the answer comes from a cache");
    }
    let declared = match way {
        Way::Http(check) => check.body_contains.is_some() || check.header.is_some(),
        Way::Metrics(check) => !check.contains.is_empty(),
        Way::Tcp(_) | Way::Grpc | Way::HttpOn(_) => false,
    };
    let is_page = answer
        .headers
        .get(hyper::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/html"));
    if declared || (!is_page && names_a_database(&answer.body)) {
        Ok(())
    } else {
        Err(
            "the answer does not mention the database (say with `bodyContains` or `contains` what it has when the database answers)",
        )
    }
}

/// Whether a cache between here and the application gave the answer (RFC 9111, `Age`; RFC 9211,
/// `Cache-Status`; and the headers of common caches).
fn is_cached(answer: &Answer) -> bool {
    let text = |name: &str| {
        let value = answer.headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_ascii_lowercase()
    };
    let aged = text("age").trim().parse::<u64>().is_ok_and(|age| age > 0);
    let hit = ["cache-status", "x-cache", "cf-cache-status"]
        .iter()
        .any(|name| {
            let value = text(name);
            let mut words = value.split(|c: char| !c.is_ascii_alphanumeric());
            words.any(|word| word == "hit")
        });
    aged || hit
}

/// Whether a text has a word for a database.
fn names_a_database(body: &[u8]) -> bool {
    const WORDS: [&str; 8] = [
        "database",
        "databases",
        "db",
        "postgres",
        "postgresql",
        "pg",
        "sql",
        "datasource",
    ];
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| WORDS.contains(&word))
}

/// Whether an answer is what the check expects; either way with the evidence.
pub fn judge_http(check: &HttpCheck, answer: &Answer) -> Result<String, String> {
    if !check.status.contains(&answer.status) {
        let wanted: Vec<String> = check.status.iter().map(u16::to_string).collect();
        return Err(format!(
            "answered {} where {} is expected",
            answer.status,
            wanted.join(" or ")
        ));
    }
    if let Some(text) = &check.body_contains
        && !contains(&answer.body, text.as_bytes())
    {
        return Err(format!(
            "answered {} with {} bytes that do not contain the expected text",
            answer.status,
            answer.body.len()
        ));
    }
    if let Some(header) = &check.header {
        let value = answer.headers.get(&header.name);
        let fits = value.is_some_and(|value| {
            header
                .contains
                .as_ref()
                .is_none_or(|text| contains(value.as_bytes(), text.as_bytes()))
        });
        if !fits {
            return Err(format!(
                "answered {} without the expected header {}",
                answer.status, header.name
            ));
        }
    }
    Ok(format!("{} in {} bytes", answer.status, answer.body.len()))
}

/// Whether an answer is a page of metrics with the expected names; either way with the evidence.
pub fn judge_metrics(check: &MetricsCheck, answer: &Answer) -> Result<String, String> {
    if answer.status != 200 {
        return Err(format!("answered {} where 200 is expected", answer.status));
    }
    let Ok(text) = std::str::from_utf8(&answer.body) else {
        return Err("answered 200 with something that is no text".to_owned());
    };
    let names = sample_names(text)?;
    if names.is_empty() {
        return Err("answered 200 without a single metric".to_owned());
    }
    let missing: Vec<&str> = check
        .contains
        .iter()
        .map(String::as_str)
        .filter(|wanted| {
            !names.iter().any(|name| {
                name == wanted
                    || ["_bucket", "_sum", "_count", "_total"]
                        .iter()
                        .any(|suffix| name.strip_suffix(suffix) == Some(wanted))
            })
        })
        .collect();
    if missing.is_empty() {
        Ok(format!("{} samples", names.len()))
    } else {
        Err(format!("has no metric {}", missing.join(", ")))
    }
}

/// The names of all samples of a page in the text format
/// (prometheus.io/docs/instrumenting/exposition_formats).
fn sample_names(text: &str) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split(['{', ' ', '\t']).next().unwrap_or_default();
        let fits = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
            && name
                .bytes()
                .next()
                .is_some_and(|byte| !byte.is_ascii_digit());
        let rest = match line.rfind('}') {
            Some(end) => &line[end + 1..],
            None => &line[name.len()..],
        };
        let value = rest.split_whitespace().next().unwrap_or_default();
        if !fits || value.parse::<f64>().is_err() {
            return Err(format!(
                "answered 200, but line {} is not Prometheus text format",
                number + 1
            ));
        }
        names.push(name);
    }
    Ok(names)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty()
        || haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            headers: [(
                hyper::header::CONTENT_TYPE,
                hyper::header::HeaderValue::from_static("text/html"),
            )]
            .into_iter()
            .collect(),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn an_answer_must_have_the_status_the_text_and_the_header() {
        use crate::api::smoke_test::ExpectedHeader;
        let check = HttpCheck {
            body_contains: Some("Reservas".to_owned()),
            header: Some(ExpectedHeader {
                name: "Content-Type".to_owned(),
                contains: Some("html".to_owned()),
            }),
            ..HttpCheck::get("/")
        };
        assert!(judge_http(&check, &answer(200, "<h1>Reservas</h1>")).is_ok());
        let wrong = judge_http(&check, &answer(500, "Reservas canary")).unwrap_err();
        assert!(
            wrong.contains("500") && !wrong.contains("canary"),
            "{wrong}"
        );
        let other = judge_http(&check, &answer(200, "canary")).unwrap_err();
        assert!(
            !other.contains("canary"),
            "no fetched text is reported: {other}"
        );
        let header = HttpCheck {
            header: Some(ExpectedHeader {
                name: "x-version".to_owned(),
                contains: None,
            }),
            ..HttpCheck::get("/")
        };
        assert!(judge_http(&header, &answer(200, "")).is_err());
    }

    #[test]
    fn what_nobody_has_described_must_only_answer_and_not_with_an_error_of_its_own() {
        for status in [200, 204, 301, 302, 308, 401, 403, 404, 405] {
            assert!(judge_any(&answer(status, "")).is_ok(), "{status}");
        }
        for status in [400, 410, 421, 429, 500, 502, 503, 504] {
            let told = judge_any(&answer(status, "canary")).unwrap_err();
            assert!(told.contains(&status.to_string()), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
        let refused = judge_any(&answer(400, "")).unwrap_err();
        assert!(refused.contains("ALLOWED_HOSTS"), "{refused}");
        assert!(judge_any(&answer(404, "")).unwrap().contains("404 and 405"));
    }

    #[test]
    fn a_grpc_server_must_answer_and_not_say_that_it_does_not_serve() {
        let called = |status, code, serving| {
            judge_call(&Called {
                status,
                code,
                serving,
                took: Duration::ZERO,
            })
        };
        assert!(
            called(200, Some(0), Some(true))
                .unwrap()
                .contains("SERVING")
        );
        // It has no health service, or asks for credentials.
        for code in [5, 12, 16] {
            let told = called(200, Some(code), None).unwrap();
            assert!(told.contains(&format!("status {code}")), "{told}");
        }
        for status in [200, 404, 415] {
            assert!(called(status, None, None).is_ok(), "{status}");
        }
        assert!(called(200, Some(0), Some(false)).is_err());
        assert!(called(200, Some(14), None).is_err());
        assert!(called(502, None, None).unwrap_err().contains("502"));
    }

    #[test]
    fn only_an_answer_about_the_database_proves_it() {
        let health = HttpCheck::get("/up");
        let plain = |body: &str, headers: &[(&'static str, &str)]| {
            let mut answer = answer(200, body);
            answer.headers = headers
                .iter()
                .map(|(name, value)| {
                    let value = hyper::header::HeaderValue::from_str(value).unwrap();
                    (hyper::header::HeaderName::from_static(name), value)
                })
                .collect();
            answer
        };
        let proves = |answer: &Answer| about_database(Way::Http(&health), answer).is_ok();
        for about in [
            r#"{"status":"ok","database":"ok"}"#,
            "db: up",
            "pg_stat_activity_count 3",
        ] {
            assert!(proves(&plain(about, &[])), "{about}");
        }
        for silent in ["ok", r#"{"status":"ok"}"#, "", "feedback dbx"] {
            assert!(!proves(&plain(silent, &[])), "{silent}");
        }
        let page = [("content-type", "text/html; charset=utf-8")];
        assert!(!proves(&plain("<p>our database of cabins", &page)));
        for cached in [
            ("age", "12"),
            ("x-cache", "HIT from edge"),
            ("cache-status", "cdn; hit"),
        ] {
            assert!(!proves(&plain("database: ok", &[cached])), "{cached:?}");
        }
        assert!(proves(&plain(
            "database: ok",
            &[("age", "0"), ("x-cache", "MISS")]
        )));
        let declared = HttpCheck {
            body_contains: Some("ok".to_owned()),
            ..HttpCheck::get("/up")
        };
        assert!(about_database(Way::Http(&declared), &plain("ok", &[])).is_ok());
    }

    #[test]
    fn metrics_must_have_the_expected_names() {
        let check = MetricsCheck {
            contains: vec!["http_request_duration_seconds".to_owned()],
            ..MetricsCheck::default()
        };
        let page = "http_request_duration_seconds_bucket{le=\"1\"} 3\n";
        assert!(judge_metrics(&check, &answer(200, page)).is_ok());
        assert!(judge_metrics(&check, &answer(200, "up 1\n")).is_err());
        assert!(
            judge_metrics(&check, &answer(200, "")).is_err(),
            "no sample"
        );
        assert!(judge_metrics(&check, &answer(404, page)).is_err());
    }

    #[test]
    fn a_page_of_html_is_no_page_of_metrics() {
        assert!(sample_names("<html><body>hello</body></html>").is_err());
    }

    #[test]
    fn samples_with_labels_times_and_special_values_are_read() {
        let text = "# HELP x y\n# TYPE http_requests_total counter\n\
            http_requests_total{status=\"200\",path=\"/a b{}\"} 3 1700000000\nup 1\nnan_gauge NaN\ninf +Inf\n";
        assert_eq!(
            sample_names(text).unwrap(),
            ["http_requests_total", "up", "nan_gauge", "inf"]
        );
    }
}
