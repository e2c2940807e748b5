//! The application as the sender of a webhook or the reader of a calendar sees it: requests to its own
//! host, each with the mark by which the application can leave probes out of its data and objectives.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use super::{
    calendar,
    probe::{Expect, Probe, Reply},
};
use crate::{
    net::{
        self,
        deliver::Delivery,
        probe::{Answer, Keep, MAX_BODY, ProbeError},
    },
    phase::probe_mark::{AGENT, HEADER},
};

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
            // A set of checks has hundreds of answers: what nobody judges is not kept.
            keep: match probe.expect {
                Expect::Challenge(_) | Expect::NoChallenge(_) => Keep::Body,
                Expect::Accepted | Expect::Refused | Expect::NotAccepted => Keep::Head,
            },
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
            keep: Keep::Body,
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
        let mut headers = vec![("User-Agent", AGENT), (HEADER, mark.as_str())];
        headers.extend(delivery.headers);
        let delivery = Delivery {
            headers: &headers,
            ..delivery
        };
        self.probe.deliver(&self.host, &delivery, timeout).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsAcceptor;

    use super::{super::probe, *};
    use crate::{
        clock::ServerClock,
        net::resolve::Resolve,
        phase::integrations::probe::{Expect, Special},
    };

    /// A name that the certificate of the stand-in is good for.
    const HOST: &str = "www.airbnb.com";

    #[tokio::test]
    async fn every_request_says_whose_probe_it_is_and_goes_out_byte_for_byte() {
        let ca = vendors::ca::Ca::new().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &ca.pem).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rule = format!("{HOST}:443={}", listener.local_addr().unwrap());
        let rule = Resolve::parse(&rule).unwrap();
        let clock = ServerClock::of_kubernetes();
        let net = net::probe::Probe::new(&[rule], Some(file.path()), &clock).unwrap();
        let application = Application::new(net, HOST.to_owned(), "shop", 7);
        let body = r#"{"text":"caba\u00f1as" ,"b":1}"#;
        let probe = Probe {
            check: "W3",
            variant: "",
            special: Special::Plain,
            expect: Expect::Accepted,
            request: probe::Request {
                method: Method::POST,
                path: "/hooks?a=1".to_owned(),
                headers: vec![("X-Hub-Signature-256".to_owned(), "sha256=00".to_owned())],
                body: Bytes::from_static(body.as_bytes()),
            },
        };
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(ca.tls.clone());
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut got = String::new();
            while !got.ends_with(body) {
                let mut some = [0; 4096];
                let count = stream.read(&mut some).await.unwrap();
                assert!(count > 0, "{got}");
                got.push_str(std::str::from_utf8(&some[..count]).unwrap());
            }
            let answer = b"HTTP/1.1 302 Found\r\nlocation: https://elsewhere.example/\r\ncontent-length: 5\r\n\r\nmoved";
            stream.write_all(answer).await.unwrap();
            got
        };
        let limit = Duration::from_secs(30);
        let (reply, got) = tokio::join!(application.send(&probe, limit), server);
        assert_eq!(reply.status(), Some(302), "a redirect is an answer");
        // A set of checks has hundreds of answers, and an application may make each as long as it is read.
        let kept = matches!(&reply, Reply::Answered { body, .. } if !body.is_empty());
        assert!(!kept, "nobody judges this body: {reply:?}");
        let got = got.to_lowercase();
        assert!(got.starts_with("post /hooks?a=1 http/1.1\r\n"), "{got}");
        for header in [
            format!("host: {HOST}"),
            format!("user-agent: golive-probe/{}", env!("CARGO_PKG_VERSION")),
            "x-golive-probe: shop/7/w3".to_owned(),
            "x-hub-signature-256: sha256=00".to_owned(),
        ] {
            assert_eq!(
                got.matches(&format!("\r\n{header}\r\n")).count(),
                1,
                "{got}"
            );
        }
        assert!(!got.contains("accept-encoding"), "{got}");
    }
}
