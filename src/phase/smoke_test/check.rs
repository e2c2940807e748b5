//! One check from the edge: what is requested, and what the answer must be.

use std::time::Duration;

use hyper::Method;

use crate::{
    api::{
        Reason,
        smoke_test::{Check, Fallback, HttpCheck, Method as Verb, MetricsCheck, TcpCheck},
    },
    error::Error,
    net::probe::{Answer, Ask, MAX_BODY, MAX_METRICS, Probe, ProbeError},
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
    /// Whether the way could be gone at all: a fallback stands in for what cannot be carried
    /// out, never for what fails.
    pub carried_out: bool,
}

impl Try {
    /// A try that passed.
    pub fn passed(path: String, message: String, took: Duration) -> Self {
        Self {
            path,
            passed: true,
            reason: Reason::Succeeded,
            message,
            took,
            carried_out: true,
        }
    }

    /// A try that failed.
    pub fn failed(path: String, reason: Reason, message: String) -> Self {
        Self {
            path,
            passed: false,
            reason,
            message,
            took: Duration::ZERO,
            carried_out: true,
        }
    }
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

/// Tries the ways of a check in order until one can be carried out; that one decides.
///
/// # Errors
/// When none could be, and the resolver of this process is why: that says nothing of the application.
pub async fn attempt(
    probe: &Probe,
    host: &str,
    ways: &[Way<'_>],
    timeout: Duration,
) -> Result<Try, Error> {
    let mut before: Vec<String> = Vec::new();
    let mut last = None;
    let mut unknown = false;
    for way in ways {
        let tried = match one(probe, host, *way, timeout).await {
            Ok(tried) => tried,
            Err(ProbeError::NoResolver(_)) => {
                unknown = true;
                continue;
            }
            Err(error) => refused(name(*way), &error),
        };
        if tried.carried_out {
            return Ok(tried.after(&before));
        }
        before.push(format!("{}: {}", tried.path, tried.message));
        last = Some(tried);
    }
    if unknown {
        return Err(Error::Resolver(host.to_owned()));
    }
    // The last one's own words stand in it already.
    before.pop();
    Ok(match last {
        Some(tried) => tried.after(&before),
        None => Try::failed(
            "nothing".to_owned(),
            Reason::InvalidSpec,
            "the check says nothing to request".to_owned(),
        ),
    })
}

impl Try {
    /// The same, with what could not be carried out before it.
    fn after(self, before: &[String]) -> Self {
        if before.is_empty() {
            return self;
        }
        Self {
            message: format!("{} (before that, {})", self.message, before.join("; ")),
            ..self
        }
    }
}

/// The name of a way, for the report.
pub fn name(way: Way<'_>) -> String {
    match way {
        Way::Http(check) => format!("http {}", check.path),
        Way::Metrics(check) => format!("metrics {}", check.path),
        Way::Tcp(check) => format!("tcp {}", check.port),
    }
}

async fn one(
    probe: &Probe,
    host: &str,
    way: Way<'_>,
    timeout: Duration,
) -> Result<Try, ProbeError> {
    let (found, took) = match way {
        Way::Http(check) => {
            let method = match check.method {
                Verb::Get => Method::GET,
                Verb::Head => Method::HEAD,
            };
            let ask = Ask {
                method,
                path: &check.path,
                limit: MAX_BODY,
                wanted: &check.status,
            };
            probe
                .request(host, &ask, timeout)
                .await
                .map(|answer| (judge_http(check, &answer), answer.took))
        }
        Way::Metrics(check) => {
            let ask = Ask {
                method: Method::GET,
                path: &check.path,
                limit: MAX_METRICS,
                wanted: &[200],
            };
            probe
                .request(host, &ask, timeout)
                .await
                .map(|answer| (judge_metrics(check, &answer), answer.took))
        }
        Way::Tcp(check) => {
            let began = std::time::Instant::now();
            probe
                .connect(host, check.port, timeout)
                .await
                .map(|()| (Ok(format!("port {} is open", check.port)), began.elapsed()))
        }
    }?;
    Ok(match found {
        Ok(message) => Try::passed(name(way), message, took),
        Err(message) => Try {
            took,
            ..Try::failed(name(way), Reason::SmokeCheckFailed, message)
        },
    })
}

/// A try that got no answer.
fn refused(path: String, error: &ProbeError) -> Try {
    let reason = match error {
        ProbeError::NotResolved(_) | ProbeError::NotPublic(_) => Reason::DnsNotResolved,
        ProbeError::Tls(_) => Reason::TlsFailed,
        _ => Reason::SmokeCheckFailed,
    };
    Try {
        carried_out: !error.is_ours(),
        ..Try::failed(path, reason, error.to_string())
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
            "nothing fetched is told: {other}"
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
    fn metrics_must_have_the_names_that_are_asked_for() {
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
