//! The application as the sender of a webhook or the reader of a calendar sees it: requests to its own
//! host, each with the mark by which the application can leave probes out of its data and objectives.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use crate::net::{
    deliver::Delivery,
    probe::{Answer, Probe, ProbeError},
};

/// Begins every id that a probe makes up: of a message, a payment, an event.
pub const ID_PREFIX: &str = "golive-probe-";

/// The header that says whose probe it is: `<activation>/<release>/<check>`.
pub const MARK: &str = "X-Golive-Probe";

/// The value of `User-Agent` of every probe.
pub const AGENT: &str = concat!("golive-probe/", env!("CARGO_PKG_VERSION"));

/// Most bytes of an answer to a webhook. More is no answer that a sender reads.
const ANSWER: usize = 64 << 10;

/// One request of a probe. The mark and `User-Agent` are added.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// Headers: names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, byte for byte.
    pub body: Bytes,
}

/// The application of one Activation, at one release.
#[derive(Clone, Debug)]
pub struct Application {
    probe: Probe,
    host: String,
    mark: String,
}

impl Application {
    /// The application at this host, of this Activation and release.
    pub fn new(probe: Probe, host: String, activation: &str, release: u64) -> Self {
        Self {
            probe,
            host,
            mark: format!("{activation}/{release}"),
        }
    }

    /// Its host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends one request for a check, such as `W4`, in at most `timeout`. Redirects are not followed.
    ///
    /// # Errors
    /// When there is no answer, with the cause.
    pub async fn send(
        &self,
        check: &str,
        request: &Request<'_>,
        timeout: Duration,
    ) -> Result<Answer, ProbeError> {
        self.ask(check, request, ANSWER, timeout).await
    }

    /// Reads a page for a check: at most `limit` bytes of it.
    ///
    /// # Errors
    /// When there is no answer, with the cause.
    pub async fn page(
        &self,
        check: &str,
        path: &str,
        (accept, limit): (&str, usize),
        timeout: Duration,
    ) -> Result<Answer, ProbeError> {
        let request = Request {
            method: Method::GET,
            path,
            headers: &[("Accept", accept)],
            body: Bytes::new(),
        };
        self.ask(check, &request, limit, timeout).await
    }

    async fn ask(
        &self,
        check: &str,
        request: &Request<'_>,
        limit: usize,
        timeout: Duration,
    ) -> Result<Answer, ProbeError> {
        let mark = format!("{}/{check}", self.mark);
        let mut headers = vec![("User-Agent", AGENT), (MARK, mark.as_str())];
        headers.extend(request.headers);
        let delivery = Delivery {
            method: request.method.clone(),
            path: request.path,
            headers: &headers,
            body: request.body.clone(),
            limit,
        };
        self.probe.deliver(&self.host, &delivery, timeout).await
    }
}
