//! The application as the sender of a webhook or the reader of a calendar sees it: requests to its own
//! host, each with the mark by which the application can leave probes out of its data and objectives.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use super::{
    calendar,
    probe::{Probe, Reply},
};
use crate::net::{
    self,
    deliver::Delivery,
    probe::{Answer, MAX_BODY, ProbeError},
};

/// The header that says whose probe it is: `<activation>/<release>/<check>`.
const MARK: &str = "X-Golive-Probe";

/// The value of `User-Agent` of every probe.
const AGENT: &str = concat!("golive-probe/", env!("CARGO_PKG_VERSION"));

/// Longest time of one page.
const PAGE: Duration = Duration::from_secs(30);

/// The application of one Activation, at one release.
#[derive(Clone, Debug)]
pub struct Application {
    probe: net::probe::Probe,
    host: String,
    mark: String,
}

impl Application {
    /// The application at this host, of this Activation and release.
    pub fn new(probe: net::probe::Probe, host: String, activation: &str, release: u64) -> Self {
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

    /// Sends a probe, and waits for the answer for at most `limit`. Redirects are not followed.
    pub async fn send(&self, probe: &Probe, limit: Duration) -> Reply {
        let request = &probe.request;
        let pairs = request.headers.iter();
        let headers = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
        let delivery = Delivery {
            method: request.method.clone(),
            path: &request.path,
            headers: &headers.collect::<Vec<_>>(),
            body: request.body.clone(),
            limit: MAX_BODY,
        };
        match self.deliver(probe.check, delivery, limit).await {
            Ok(answer) => Reply::Answered {
                status: answer.status,
                body: answer.body,
                took: answer.took,
            },
            Err(ProbeError::TimedOut(after)) => Reply::Silent { after },
            Err(error) => Reply::Unreachable {
                why: error.to_string(),
            },
        }
    }

    /// Reads a page for a check: at most `limit` bytes of it. Redirects are not followed. Without
    /// `Accept-Encoding` a server may compress as it likes (RFC 9110, section 12.5.3), so none is asked for.
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
        let delivery = Delivery {
            method: Method::GET,
            path,
            headers: &[
                ("Accept", accept),
                ("Accept-Encoding", "identity"),
                ("Cache-Control", "no-cache"),
            ],
            body: Bytes::new(),
            limit,
        };
        self.deliver(check, delivery, timeout).await
    }

    /// Reads what a check of calendars asks for.
    ///
    /// # Errors
    /// When there is no answer, with the cause.
    pub async fn read(&self, request: &calendar::Request) -> Result<Answer, ProbeError> {
        let of = (request.accept, request.limit);
        self.page(request.check, &request.path, of, PAGE).await
    }

    /// Sends a request with the mark of a probe.
    async fn deliver(
        &self,
        check: &str,
        delivery: Delivery<'_>,
        timeout: Duration,
    ) -> Result<Answer, ProbeError> {
        let mark = format!("{}/{check}", self.mark);
        let mut headers = vec![("User-Agent", AGENT), (MARK, mark.as_str())];
        headers.extend(delivery.headers);
        let delivery = Delivery {
            headers: &headers,
            ..delivery
        };
        self.probe.deliver(&self.host, &delivery, timeout).await
    }
}
