//! The application as it is seen from outside: requests through Fly.io's edge, each with the mark of a probe.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use crate::{
    net::{
        deliver::Delivery,
        probe::{Answer, Keep, Probe, ProbeError},
    },
    phase::probe_mark,
};

/// The request header that names the machine.
///
/// Source: superfly/docs, `networking/dynamic-request-routing.html.markerb`: "Forces routing to a specific
/// Machine. The Fly Proxy will attempt to reach the Machine multiple times if the Machine is unhealthy. No
/// fallback if Machine is ultimately unavailable."
const FORCE: &str = "fly-force-instance-id";

/// The application, as it is seen from outside.
#[derive(Clone, Debug)]
pub struct Application {
    probe: Probe,
    host: String,
    mark: String,
}

impl Application {
    /// At this host; the mark is `<activation>/<release>`.
    #[must_use]
    pub fn new(probe: Probe, host: String, mark: String) -> Self {
        Self { probe, host, mark }
    }

    /// Reads a page, of this machine if one is named: at most `limit` bytes in at most `timeout`. Redirects are
    /// not followed.
    ///
    /// # Errors
    /// When there is no answer, with the cause.
    pub async fn get(
        &self,
        path: &str,
        machine: Option<&str>,
        (accept, limit): (&str, usize),
        timeout: Duration,
    ) -> Result<Answer, ProbeError> {
        let mark = format!("{}/observe", self.mark);
        let mut headers = vec![
            ("User-Agent", probe_mark::AGENT),
            (probe_mark::HEADER, mark.as_str()),
            ("Accept", accept),
            // Without it a server may compress as it likes (RFC 9110, section 12.5.3).
            ("Accept-Encoding", "identity"),
            ("Cache-Control", "no-cache"),
        ];
        headers.extend(machine.map(|id| (FORCE, id)));
        let delivery = Delivery {
            method: Method::GET,
            path,
            headers: &headers,
            body: Bytes::new(),
            limit,
            keep: Keep::Body,
        };
        self.probe.deliver(&self.host, &delivery, timeout).await
    }
}
