//! One check from the edge: what is requested, and what the answer must be.

use std::time::Duration;

use hyper::Method;

use crate::{
    api::{
        Reason,
        smoke_test::{Check, Fallback, HttpCheck, Method as Verb, MetricsCheck, TcpCheck},
    },
    probe::{Answer, MAX_BODY, MAX_METRICS, Probe, ProbeError},
};

/// What one try found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// The way that passed or failed, such as `http /api/v1/healthz`.
    pub path: String,
    /// Whether it passed.
    pub passed: bool,
    /// Why it failed.
    pub reason: Reason,
    /// What was found: status, length, class of error; never the text of a page.
    pub message: String,
    /// How long it took.
    pub took: Duration,
}

/// One way to check.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// An HTTP request.
    Http(&'a HttpCheck),
    /// A page of metrics.
    Metrics(&'a MetricsCheck),
    /// A TCP connection.
    Tcp(&'a TcpCheck),
}

/// The ways of a check in order: its own, then its fallbacks.
pub fn ways(check: &Check) -> Vec<Way<'_>> {
    let own = way(
        check.http.as_ref(),
        check.metrics.as_ref(),
        check.tcp.as_ref(),
    );
    let fallbacks = check
        .fallbacks
        .iter()
        .flatten()
        .filter_map(|fallback: &Fallback| {
            way(
                fallback.http.as_ref(),
                fallback.metrics.as_ref(),
                fallback.tcp.as_ref(),
            )
        });
    own.into_iter().chain(fallbacks).collect()
}

fn way<'a>(
    http: Option<&'a HttpCheck>,
    metrics: Option<&'a MetricsCheck>,
    tcp: Option<&'a TcpCheck>,
) -> Option<Way<'a>> {
    http.map(Way::Http)
        .or(metrics.map(Way::Metrics))
        .or(tcp.map(Way::Tcp))
}

/// Tries the ways of a check in order until one passes; the last failure counts otherwise.
pub async fn attempt(probe: &Probe, host: &str, ways: &[Way<'_>], timeout: Duration) -> Try {
    let mut first_failure: Option<Try> = None;
    for way in ways {
        let tried = one(probe, host, *way, timeout).await;
        if tried.passed {
            return match first_failure {
                None => tried,
                Some(failure) => Try {
                    message: format!(
                        "{} (before that, {}: {})",
                        tried.message, failure.path, failure.message
                    ),
                    ..tried
                },
            };
        }
        first_failure.get_or_insert(tried);
    }
    first_failure.unwrap_or_else(|| Try {
        path: "nothing".to_owned(),
        passed: false,
        reason: Reason::InvalidSpec,
        message: "the check says nothing to request".to_owned(),
        took: Duration::ZERO,
    })
}

/// The name of a way, for the report.
pub fn name(way: Way<'_>) -> String {
    match way {
        Way::Http(check) => format!("http {}", check.path),
        Way::Metrics(check) => format!("metrics {}", check.path),
        Way::Tcp(check) => format!("tcp {}", check.port),
    }
}

async fn one(probe: &Probe, host: &str, way: Way<'_>, timeout: Duration) -> Try {
    let result = match way {
        Way::Http(check) => {
            let method = match check.method {
                Verb::Get => Method::GET,
                Verb::Head => Method::HEAD,
            };
            probe
                .request(method, host, &check.path, timeout, MAX_BODY)
                .await
                .map(|answer| (judge_http(check, &answer), answer.took))
        }
        Way::Metrics(check) => probe
            .request(Method::GET, host, &check.path, timeout, MAX_METRICS)
            .await
            .map(|answer| (judge_metrics(check, &answer), answer.took)),
        Way::Tcp(check) => {
            let began = std::time::Instant::now();
            probe
                .connect(host, check.port, timeout)
                .await
                .map(|()| (Ok(format!("port {} is open", check.port)), began.elapsed()))
        }
    };
    let path = name(way);
    match result {
        Ok((Ok(message), took)) => Try {
            path,
            passed: true,
            reason: Reason::Succeeded,
            message,
            took,
        },
        Ok((Err(message), took)) => Try {
            path,
            passed: false,
            reason: Reason::SmokeCheckFailed,
            message,
            took,
        },
        Err(error) => Try {
            path,
            passed: false,
            reason: match error {
                ProbeError::NotResolved(_) | ProbeError::NotPublic(_) => Reason::DnsNotResolved,
                ProbeError::Tls(_) => Reason::TlsFailed,
                _ => Reason::SmokeCheckFailed,
            },
            message: error.to_string(),
            took: timeout,
        },
    }
}

fn judge_http(check: &HttpCheck, answer: &Answer) -> Result<String, String> {
    if !check.status.contains(&answer.status) {
        let wanted: Vec<String> = check.status.iter().map(u16::to_string).collect();
        return Err(format!(
            "answered {} where {} is wanted",
            answer.status,
            wanted.join(" or ")
        ));
    }
    if let Some(text) = &check.body_contains
        && !contains(&answer.body, text.as_bytes())
    {
        return Err(format!(
            "answered {} with {} bytes that do not contain the wanted text",
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
                "answered {} without the wanted header {}",
                answer.status, header.name
            ));
        }
    }
    Ok(format!("{} in {} bytes", answer.status, answer.body.len()))
}

fn judge_metrics(check: &MetricsCheck, answer: &Answer) -> Result<String, String> {
    if answer.status != 200 {
        return Err(format!("answered {} where 200 is wanted", answer.status));
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
    use super::*;

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
