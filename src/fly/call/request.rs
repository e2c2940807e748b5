//! A call under construction: endpoint, arguments, headers, body and credentials.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use http_body_util::Full;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use url::Url;

use super::client::Client;
use super::endpoint::Endpoint;
use super::limit::{Key, Spends};
use crate::fly::token::{Surface, Token};

/// `User-Agent` of every request.
const AGENT: &str = concat!("golive/", env!("CARGO_PKG_VERSION"));

/// A call under construction.
pub(crate) struct Call<'c> {
    pub(super) client: &'c Client,
    pub(super) endpoint: &'static Endpoint,
    /// Where it goes, or why it cannot be sent.
    pub(super) url: Result<Url, String>,
    /// Whose rate limit it spends.
    pub(super) spends: Spends,
    headers: HeaderMap,
    body: Option<Bytes>,
    /// Values that are removed from error messages.
    pub(super) hidden: Vec<SecretString>,
    /// Time limit of one attempt, if it differs from the default.
    pub(super) timeout: Option<Duration>,
    auth: Auth,
    /// The app-scoped token that is used in place of the client's own.
    pub(super) narrow: Option<Token>,
    /// The host is named by a user: only public addresses are connected to.
    pub(super) guarded: bool,
    /// The registry that is called, if it is not Fly.io's.
    pub(super) registry: Option<String>,
}

/// The `Authorization` header of a call.
#[derive(Clone)]
pub(crate) enum Auth {
    /// The client's token, to Fly.io.
    Token,
    /// This value.
    Value(SecretString),
    /// None.
    None,
}

impl Client {
    /// Starts a call; `args` fill the placeholders of the endpoint's path in order.
    pub(crate) fn call(&self, endpoint: &'static Endpoint, args: &[&str]) -> Call<'_> {
        let url = endpoint.path(args).and_then(|path| {
            let base = self.shared.bases.of(endpoint.surface);
            base.join(&path).map_err(|_| unusable("the address"))
        });
        let object = match endpoint.surface {
            Surface::Machines if endpoint.name.contains("/machines/{id}") => args.get(1),
            Surface::Machines => args.first(),
            _ => None,
        };
        Call {
            client: self,
            endpoint,
            url,
            spends: match object {
                Some(object) => self.spends(endpoint, object, args),
                // Fly.io publishes no limit per object for the other APIs; ours is per token.
                None => Spends::of(Key::new(endpoint.name, self.token.fingerprint())),
            },
            headers: HeaderMap::new(),
            body: None,
            hidden: Vec::new(),
            timeout: None,
            auth: Auth::Token,
            narrow: self
                .app_token
                .as_ref()
                .and_then(|cell| cell.of(endpoint, args)),
            guarded: false,
            registry: None,
        }
    }

    /// Whose rate limit a call about this app or machine spends.
    fn spends(&self, endpoint: &Endpoint, object: &str, args: &[&str]) -> Spends {
        let owner = Key::new(endpoint.name, object);
        let token = Key::new(
            endpoint.name,
            &format!("{object} {}", self.token.fingerprint()),
        );
        let app = args.first().copied().unwrap_or_default();
        match self.claimed.as_ref().is_some_and(|claimed| claimed.is(app)) {
            true => Spends::owner(owner, token),
            false => Spends::stranger(token, owner),
        }
    }

    /// Starts a call to an address outside the configured base URLs.
    pub(crate) fn call_at(
        &self,
        endpoint: &'static Endpoint,
        url: Url,
        auth: Auth,
        guarded: bool,
    ) -> Call<'_> {
        // Our own limit per token: what one tenant asks a registry delays no other.
        let host = url.host_str().unwrap_or_default();
        let object = format!("{host} {}", self.token.fingerprint());
        Call {
            client: self,
            endpoint,
            url: Ok(url),
            spends: Spends::of(Key::new(endpoint.name, &object)),
            headers: HeaderMap::new(),
            body: None,
            hidden: Vec::new(),
            timeout: None,
            auth,
            narrow: None,
            guarded,
            registry: None,
        }
    }
}

fn unusable(what: &str) -> String {
    format!("{what} is not usable")
}

impl Call<'_> {
    pub(crate) fn endpoint(&self) -> &'static Endpoint {
        self.endpoint
    }

    /// Adds a query parameter.
    pub(crate) fn query(mut self, key: &str, value: &str) -> Self {
        if let Ok(url) = &mut self.url {
            url.query_pairs_mut().append_pair(key, value);
        }
        self
    }

    /// Adds a query parameter if there is a value.
    pub(crate) fn query_if(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Sets the body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body = Some(bytes.into()),
            Err(source) => self.url = Err(format!("the request cannot be written: {source}")),
        }
        self
    }

    /// Adds a header whose value is secret.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(HeaderName::from_static(name), value);
            }
            Err(_) => self.url = Err(format!("the header {name} has an invalid value")),
        }
        self
    }

    /// Removes this value from error messages, in case Fly.io quotes it.
    pub(crate) fn hide(mut self, secret: &SecretString) -> Self {
        self.hidden.push(secret.clone());
        self
    }

    /// Sets the time limit of one attempt.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Says in errors that this registry is called, and not Fly.io.
    pub(crate) fn of_registry(mut self, host: Option<&str>) -> Self {
        self.registry = host.map(str::to_owned);
        self
    }

    /// Sets what the rate limit counts by.
    pub(crate) fn counted_by(mut self, object: &str) -> Self {
        self.spends = Spends::of(Key::new(self.endpoint.name, object));
        self
    }

    /// Has the rate limit count by this host and the token: what one tenant asks a registry delays no
    /// other.
    pub(crate) fn counted_by_token_at(self, host: &str) -> Self {
        let object = format!("{host} {}", self.client.token.fingerprint());
        self.counted_by(&object)
    }

    /// The key under which the response is remembered: the token, the endpoint and the request.
    pub(super) fn memo_key(&self) -> String {
        let url = self.url.as_ref().map_or("", |url| url.as_str());
        let body = self.body.as_deref().map(String::from_utf8_lossy);
        format!(
            "{} {} {url} {}",
            self.client.token.fingerprint(),
            self.endpoint.name,
            body.unwrap_or_default()
        )
    }

    /// The HTTP request.
    ///
    /// # Errors
    /// What is not usable.
    pub(super) fn request(&self) -> Result<Request<Full<Bytes>>, String> {
        let url = self.url.as_ref().map_err(Clone::clone)?;
        let mut request = Request::builder()
            .method(self.endpoint.method())
            .uri(url.as_str())
            .body(Full::new(self.body.clone().unwrap_or_default()))
            .map_err(|_| unusable("the request"))?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        if self.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let authorization = match &self.auth {
            Auth::Token => {
                let token = self.narrow.as_ref().unwrap_or(&self.client.token);
                Some(token.authorization(self.endpoint.surface))
            }
            Auth::Value(value) => Some(value.clone()),
            Auth::None => None,
        };
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(authorization.expose_secret())
                .map_err(|_| unusable("the token"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}
