//! Fetching the calendars of other channels over HTTP and HTTPS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

/// Longest time for one feed, from the connection to the last byte.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// One calendar to import.
#[derive(Clone)]
pub struct Feed {
    /// Name of the channel; unique per cabin.
    pub source: String,
    /// Number of our cabin.
    pub cabin: i32,
    /// Address. Carries a token, so it is never logged.
    pub url: Uri,
}

/// Why a feed could not be read. No variant shows the address.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// `ICAL_FEEDS` cannot be understood.
    #[error(
        "ICAL_FEEDS must be a list like airbnb-1/1=https://…, separated by spaces; entry number {0} is not"
    )]
    List(usize),
    /// No trust anchors, or TLS cannot start.
    #[error("cannot prepare TLS for calendar feeds")]
    Tls(#[source] rustls::Error),
    /// The server could not be reached.
    #[error("cannot reach the feed")]
    Connect(#[source] hyper_util::client::legacy::Error),
    /// An answer other than 200; redirects are not followed.
    #[error("the feed answered {0}")]
    Status(StatusCode),
    /// Cut off, too long, or not UTF-8.
    #[error("the feed's answer cannot be read: {0}")]
    Body(String),
    /// Not within [`TIMEOUT`].
    #[error("the feed did not answer within {TIMEOUT:?}")]
    Timeout,
}

impl Feed {
    /// Parses `SOURCE/CABIN=URL SOURCE/CABIN=URL …`.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, FeedError> {
        let parse = |item: &str| {
            let (name, url) = item.split_once('=')?;
            let (source, cabin) = name.split_once('/')?;
            let url: Uri = url.parse().ok()?;
            let known = matches!(url.scheme_str(), Some("http" | "https"));
            (known && !source.is_empty()).then_some(Self {
                source: source.to_owned(),
                cabin: cabin.parse().ok()?,
                url,
            })
        };
        text.split_whitespace()
            .enumerate()
            .map(|(at, item)| parse(item).ok_or(FeedError::List(at + 1)))
            .collect()
    }
}

/// An HTTP client for feeds.
#[derive(Clone)]
pub struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Fetcher {
    /// Loads the trust anchors of the system.
    pub fn new() -> Result<Self, FeedError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(FeedError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Fetches a text of at most `limit` bytes.
    pub async fn fetch(&self, url: &Uri, limit: usize) -> Result<String, FeedError> {
        tokio::time::timeout(TIMEOUT, self.fetch_now(url, limit))
            .await
            .map_err(|_| FeedError::Timeout)?
    }

    async fn fetch_now(&self, url: &Uri, limit: usize) -> Result<String, FeedError> {
        let request = Request::get(url.clone())
            .header(http::header::ACCEPT, "text/calendar")
            .header(
                http::header::USER_AGENT,
                concat!("cabanas/", env!("CARGO_PKG_VERSION")),
            )
            .body(Empty::new())
            .map_err(|error| FeedError::Body(error.to_string()))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(FeedError::Connect)?;
        if response.status() != StatusCode::OK {
            return Err(FeedError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), limit)
            .collect()
            .await
            .map_err(|error| FeedError::Body(error.to_string()))?;
        String::from_utf8(body.to_bytes().into()).map_err(|e| FeedError::Body(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_of_feeds_is_separated_by_spaces() {
        let feeds =
            Feed::parse_list("airbnb-1/1=https://a.example/c.ics?s=x  booking-2/2=http://b/")
                .unwrap();
        let names: Vec<_> = feeds.iter().map(|f| (f.source.as_str(), f.cabin)).collect();
        assert_eq!(names, [("airbnb-1", 1), ("booking-2", 2)]);
    }

    #[test]
    fn a_wrong_entry_is_named_by_its_number_and_not_by_its_address() {
        for text in [
            "a/1=https://a b",
            "a/1=https://ok b/x=https://canary-4711",
            "x a/1=ftp://canary-4711",
        ] {
            let error = Feed::parse_list(text).err().map(|e| e.to_string()).unwrap();
            assert!(error.contains("entry number"), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
