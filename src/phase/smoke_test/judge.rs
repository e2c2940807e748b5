//! Whether an answer from the public edge is what a check expects. Pure.

use crate::{
    api::smoke_test::{HttpCheck, MetricsCheck},
    net::probe::Answer,
};

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
