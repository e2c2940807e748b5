//! Image registries (Docker's API, version 2): from a tag to a digest and its platforms.
//!
//! Fly.io's own registry is the configured base URL and takes the token as a password. Any other
//! registry is named by a user, so it is queried by HTTPS only, only on the public Internet, and
//! anonymously or with credentials of its own. Content must match its digest. Source: the OCI
//! distribution specification.

use http::header::{LINK, LOCATION, WWW_AUTHENTICATE};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use super::call::endpoint::encode;
use super::call::{Auth, Call, Endpoint, Reply};
use super::error::{Class, Result};
use super::image::{ImageReference, is_digest, is_tag};
use super::token::Surface::Registry;
use crate::fly::call::client::Client;
use crate::net::public_address::may_be_public;

/// A resolved image reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Digest of what the reference names: an index or a single image.
    pub digest: String,
    /// Platforms it can run on; empty when unknown.
    pub platforms: Vec<Platform>,
}

/// A platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Operating system, `linux`.
    pub os: String,
    /// Architecture, `amd64` on Fly.io.
    pub architecture: String,
}

impl ResolvedImage {
    /// Whether Fly.io's machines (linux/amd64) can run it; `None` when it is not known.
    pub fn runs_on_fly(&self) -> Option<bool> {
        let fits = |p: &Platform| p.os == "linux" && p.architecture == "amd64";
        (!self.platforms.is_empty()).then(|| self.platforms.iter().any(fits))
    }
}

/// Supported media types of manifests.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Redirects of a blob that are followed.
const REDIRECTS: usize = 3;

/// Largest number of pages of tags that are read. The registry decides how many tags a page has,
/// usually up to a thousand.
const PAGES: usize = 50;

/// Largest number of tags that are read. With more, a pattern of tags is needed.
pub const MAX_TAGS: usize = 20_000;

const TAGS: Endpoint = Endpoint::read(Registry, "GET /v2/{repository}/tags/list")
    .expects(&[401])
    .list();
const MANIFEST: Endpoint = Endpoint::read(Registry, "GET /v2/{repository}/manifests/{reference}")
    .expects(&[401])
    .list();
const DIGEST: Endpoint =
    Endpoint::read(Registry, "HEAD /v2/{repository}/manifests/{reference}").expects(&[401]);
const BLOB: Endpoint = Endpoint::read(Registry, "GET /v2/{repository}/blobs/{digest}")
    .expects(&[301, 302, 303, 307, 308, 401]);
const TOKEN: Endpoint = Endpoint::read(Registry, "GET /token").expects(&[401, 403]);

/// Credentials for one registry. Sent to it and to its token service.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: SecretString,
}

impl Credentials {
    fn basic(&self) -> SecretString {
        basic(&self.username, self.password.expose_secret())
    }
}

/// A registry and how to authenticate there.
struct Access<'c> {
    client: &'c Client,
    base: Url,
    /// Whether its address is configured, not named by a user.
    trusted: bool,
    auth: Auth,
    /// Credentials of the user for this registry.
    credentials: Option<&'c Credentials>,
}

impl Client {
    /// Resolves a reference, with the Fly token at registry.fly.io and anonymously elsewhere, as
    /// Fly.io pulls images. `None`: there is no such image.
    pub async fn resolve_image(&self, image: &ImageReference) -> Result<Option<ResolvedImage>> {
        self.resolve_image_as(image, None).await
    }

    /// The same, with credentials for this registry.
    pub async fn resolve_image_as(
        &self,
        image: &ImageReference,
        credentials: Option<&Credentials>,
    ) -> Result<Option<ResolvedImage>> {
        let mut access = self.access(image, credentials)?;
        let found = access
            .get(
                &MANIFEST,
                image,
                &format!("manifests/{}", image.wanted()),
                &[],
            )
            .await;
        let Some(reply) = crate::fly::call::answer::optional(found)? else {
            return Ok(None);
        };
        let digest = format!("sha256:{}", hex(&Sha256::digest(&reply.body)));
        let named = reply
            .headers
            .get("docker-content-digest")
            .and_then(|d| d.to_str().ok());
        let wanted = image.digest.as_deref();
        if [named, wanted]
            .into_iter()
            .flatten()
            .any(|other| is_digest(other) && other != digest)
        {
            return Err(reply.unreadable(&MANIFEST, "its content does not have its digest"));
        }
        let manifest: Value = reply.json(&MANIFEST)?;
        let platforms = if manifest.get("manifests").is_some() {
            platforms(&manifest)
        } else {
            access.platform(image, &manifest).await?
        };
        Ok(Some(ResolvedImage { digest, platforms }))
    }

    /// The digest of a reference, without its content. It is not verified: use it only to detect
    /// that nothing has changed. Registries limit the number of pulls, which reading content counts
    /// as.
    pub async fn image_digest(
        &self,
        image: &ImageReference,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>> {
        let mut access = self.access(image, credentials)?;
        let what = format!("manifests/{}", image.wanted());
        let found = access.get(&DIGEST, image, &what, &[]).await;
        let reply = crate::fly::call::answer::optional(found)?;
        let named = reply.as_ref().and_then(|reply| {
            let named = reply.headers.get("docker-content-digest");
            named.and_then(|digest| digest.to_str().ok())
        });
        Ok(named.filter(|digest| is_digest(digest)).map(str::to_owned))
    }

    /// The tags of an image, in no particular order. `None`: there is no such image.
    pub async fn image_tags(
        &self,
        image: &ImageReference,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Vec<String>>> {
        let mut access = self.access(image, credentials)?;
        let mut tags: Vec<String> = Vec::new();
        let mut query = vec![("n".to_owned(), "1000".to_owned())];
        for _ in 0..PAGES {
            let page = access.get(&TAGS, image, "tags/list", &query).await;
            let Some(reply) = crate::fly::call::answer::optional(page)? else {
                return Ok(None);
            };
            let answer: Value = reply.json(&TAGS)?;
            match answer.get("tags") {
                // `null` for an image without tags.
                Some(Value::Null) | None if answer.is_object() => {}
                Some(Value::Array(list)) => {
                    let texts = list.iter().filter_map(Value::as_str);
                    tags.extend(texts.filter(|tag| is_tag(tag)).map(str::to_owned));
                }
                _ => return Err(reply.unreadable(&TAGS, "it holds no list of tags")),
            }
            if tags.len() > MAX_TAGS {
                break;
            }
            query = match next_page(&reply) {
                None => return Ok(Some(tags)),
                Some(next) => next,
            };
        }
        // The newest may be on a page that was not read.
        let text = format!("the image has more tags than the limit, {MAX_TAGS} in {PAGES} pages");
        let call = self.call(&TAGS, &["-"]);
        Err(call
            .refused(Class::Invalid, &text)
            .unsent_to(registry(image)))
    }

    fn access<'c>(
        &'c self,
        image: &ImageReference,
        credentials: Option<&'c Credentials>,
    ) -> Result<Access<'c>> {
        let registry = registry(image);
        let refused = |reason: &str| {
            let call = self.call(&MANIFEST, &["-", "-"]);
            call.refused(Class::Invalid, reason).unsent_to(registry)
        };
        let shared = &self.shared;
        if image.is_fly() {
            let auth = match credentials {
                Some(credentials) => credentials.basic(),
                None => basic("x", self.token.password().expose_secret()),
            };
            let base = shared.bases.of(Registry).clone();
            return Ok(Access {
                client: self,
                base,
                trusted: true,
                auth: Auth::Value(auth),
                credentials,
            });
        }
        let (base, trusted) = match shared.registries.get(&image.domain) {
            Some(base) => (base.clone(), true),
            None => {
                let base = Url::parse(&format!("https://{}/", image.host()))
                    .map_err(|source| refused(&source.to_string()))?;
                (base, false)
            }
        };
        if !trusted && !base.host().is_some_and(|host| may_be_public(&host)) {
            let domain = &image.domain;
            let text = format!("registry {domain} is not on the public Internet");
            return Err(refused(&text));
        }
        Ok(Access {
            client: self,
            base,
            trusted,
            // Sent when the registry requests them.
            auth: Auth::None,
            credentials,
        })
    }
}

impl Access<'_> {
    /// One request. If the registry requires a token first, obtains it and repeats the request.
    async fn get(
        &mut self,
        endpoint: &'static Endpoint,
        image: &ImageReference,
        what: &str,
        query: &[(String, String)],
    ) -> Result<Reply> {
        let repository: Vec<String> = image.repository.split('/').map(encode).collect();
        let path = format!("/v2/{}/{what}", repository.join("/"));
        let Ok(mut url) = self.base.join(&path) else {
            return Err(self
                .client
                .call(&TOKEN, &[])
                .refused(Class::Invalid, "no usable address"));
        };
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let reply = self.send(endpoint, &url, &self.auth, image).await?;
        if reply.status != 401 {
            return Ok(reply);
        }
        let challenge = reply
            .headers
            .get(WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok());
        let auth = match (challenge.and_then(Challenge::parse), self.credentials) {
            (Some(challenge), _) => self.authorize(&challenge, image).await?,
            (None, Some(credentials)) if !image.is_fly() && challenge.is_some_and(is_basic) => {
                Some(Auth::Value(credentials.basic()))
            }
            (None, _) => None,
        };
        if let Some(auth) = auth {
            self.auth = auth;
            let again = self.send(endpoint, &url, &self.auth, image).await?;
            if again.status != 401 {
                return Ok(again);
            }
        }
        let call = self
            .client
            .call_at(endpoint, url.clone(), Auth::None, !self.trusted)
            .of_registry(registry(image));
        let domain = &image.domain;
        Err(match self.credentials {
            Some(_) => call.denied(&reply, &format!("{domain} rejects the credentials")),
            None if image.is_fly() => call.unauthorized(&reply),
            None => {
                let text = format!("{domain} does not have this image, or it is not public");
                call.denied(&reply, &text)
            }
        })
    }

    /// Obtains a bearer token. The Fly token is sent to the registry's own origin only; credentials
    /// for this registry also to its token service, on the public Internet and by HTTPS.
    async fn authorize(
        &self,
        challenge: &Challenge,
        image: &ImageReference,
    ) -> Result<Option<Auth>> {
        let Ok(mut realm) = Url::parse(&challenge.realm) else {
            return Ok(None);
        };
        let own = realm.origin() == self.base.origin();
        let public =
            realm.scheme() == "https" && realm.host().is_some_and(|host| may_be_public(&host));
        if !(public || self.trusted && own) {
            return Ok(None);
        }
        if let Some(service) = &challenge.service {
            realm.query_pairs_mut().append_pair("service", service);
        }
        let scope = format!("repository:{}:pull", image.repository);
        realm.query_pairs_mut().append_pair("scope", &scope);
        let auth = match self.credentials {
            Some(credentials) => Auth::Value(credentials.basic()),
            None if own && image.is_fly() => self.auth.clone(),
            None => Auth::None,
        };
        let host = realm.host_str().unwrap_or_default().to_owned();
        let call = self
            .client
            .call_at(&TOKEN, realm, auth, !(own && self.trusted));
        let call = call.counted_by_token_at(&image.domain);
        let host = (!image.is_fly()).then_some(host.as_str());
        let reply = self.hiding(call.of_registry(host)).send().await?;
        if matches!(reply.status, 401 | 403) {
            return Ok(None);
        }
        let answer: Value = reply.json(&TOKEN)?;
        let token = ["token", "access_token"]
            .into_iter()
            .find_map(|key| answer.get(key).and_then(Value::as_str));
        Ok(token.map(|token| Auth::Value(SecretString::from(format!("Bearer {token}")))))
    }

    async fn send(
        &self,
        endpoint: &'static Endpoint,
        url: &Url,
        auth: &Auth,
        image: &ImageReference,
    ) -> Result<Reply> {
        let call = self
            .client
            .call_at(endpoint, url.clone(), auth.clone(), !self.trusted)
            .of_registry(registry(image))
            .counted_by_token_at(&image.domain);
        let call = if std::ptr::eq(endpoint, &TAGS) {
            call
        } else {
            call.header("accept", ACCEPT)
        };
        self.hiding(call).send().await
    }

    /// Removes the credentials from errors, in case the registry quotes them.
    fn hiding<'a>(&self, call: Call<'a>) -> Call<'a> {
        match self.credentials {
            Some(credentials) => call.hide(&credentials.password).hide(&credentials.basic()),
            None => call,
        }
    }

    /// The platform of a single image, from its configuration.
    async fn platform(
        &mut self,
        image: &ImageReference,
        manifest: &Value,
    ) -> Result<Vec<Platform>> {
        let digest = manifest
            .get("config")
            .and_then(|config| config.get("digest"));
        let Some(digest) = digest
            .and_then(Value::as_str)
            .filter(|digest| is_digest(digest))
        else {
            return Ok(Vec::new());
        };
        let mut reply = self
            .get(&BLOB, image, &format!("blobs/{digest}"), &[])
            .await?;
        for _ in 0..REDIRECTS {
            if !(300..400).contains(&reply.status) {
                break;
            }
            let to = reply.headers.get(LOCATION).and_then(|to| to.to_str().ok());
            let Some(to) = to.and_then(|to| self.base.join(to).ok()) else {
                break;
            };
            // Storage of another host: without credentials, and only on the public Internet.
            let own = self.trusted && to.origin() == self.base.origin();
            let public =
                to.scheme() == "https" && to.host().is_some_and(|host| may_be_public(&host));
            if !(own || public) {
                break;
            }
            let host = to.host_str().unwrap_or_default().to_owned();
            let call = self.client.call_at(&BLOB, to, Auth::None, !own);
            let call = call.of_registry((!image.is_fly()).then_some(host.as_str()));
            reply = call.counted_by_token_at(&image.domain).send().await?;
        }
        if format!("sha256:{}", hex(&Sha256::digest(&reply.body))) != digest {
            return Ok(Vec::new());
        }
        let config: Value = reply.json(&BLOB)?;
        Ok(platform(&config).into_iter().collect())
    }
}

/// The host of a registry that is not Fly.io's, for errors.
fn registry(image: &ImageReference) -> Option<&str> {
    (!image.is_fly()).then(|| image.host())
}

/// The platforms of an index; attestations have the platform `unknown`.
fn platforms(index: &Value) -> Vec<Platform> {
    let entries = index.get("manifests").and_then(Value::as_array);
    entries
        .into_iter()
        .flatten()
        .filter_map(|entry| platform(entry.get("platform")?))
        .filter(|platform| platform.os != "unknown")
        .collect()
}

fn platform(value: &Value) -> Option<Platform> {
    let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(Platform {
        os: text("os")?,
        architecture: text("architecture")?,
    })
}

/// The query of the next page, from the header `Link`. Its host and path are ignored, so
/// credentials go nowhere else.
fn next_page(reply: &Reply) -> Option<Vec<(String, String)>> {
    let links = reply.headers.get_all(LINK).iter();
    let link = links
        .filter_map(|link| link.to_str().ok())
        .flat_map(|links| links.split(','))
        .find(|link| {
            let parts = link.split(';').skip(1);
            parts.into_iter().any(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"') == "next"
            })
        })?;
    let target = link.split_once('<')?.1.split_once('>')?.0;
    let query = target.split_once('?')?.1;
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    Some(pairs.into_owned().collect())
}

/// Whether a challenge requires user and password.
fn is_basic(challenge: &str) -> bool {
    let scheme = challenge.trim_start().get(..5).unwrap_or_default();
    scheme.eq_ignore_ascii_case("basic")
}

fn basic(user: &str, password: &str) -> SecretString {
    let pair = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    SecretString::from(format!("Basic {pair}"))
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// `WWW-Authenticate: Bearer realm="…",service="…",scope="…"`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
}

impl Challenge {
    fn parse(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after;
        }
        Some(Self {
            realm: realm?,
            service,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_bearer_challenge_is_read_and_others_are_not() {
        let challenge = Challenge::parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a,b:pull""#,
        );
        assert_eq!(
            challenge,
            Some(Challenge {
                realm: "https://auth.docker.io/token".into(),
                service: Some("registry.docker.io".into())
            })
        );
        for other in [
            "",
            "Basic realm=\"x\"",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"x",
        ] {
            assert_eq!(Challenge::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_query_of_the_next_page_is_believed() {
        let page = |link: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(LINK, link.parse().unwrap());
            next_page(&Reply::of(200, headers)).map(|pairs| {
                let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
                pairs.join("&")
            })
        };
        let next = "</v2/a/tags/list?last=1.0&n=100>; rel=\"next\"";
        assert_eq!(page(next).as_deref(), Some("last=1.0&n=100"));
        let elsewhere = "<https://evil.example/v2/a?last=x%2B>; rel=next";
        assert_eq!(page(elsewhere).as_deref(), Some("last=x+"));
        for none in [
            "</v2/a?n=1>; rel=\"prev\"",
            "</v2/a>; rel=\"next\"",
            "<>",
            "next",
        ] {
            assert_eq!(page(none), None, "{none}");
        }
    }

    #[test]
    fn platforms_of_an_index_leave_attestations_out() {
        let index = json!({"manifests": [
            {"platform": {"os": "linux", "architecture": "arm64"}},
            {"platform": {"os": "unknown", "architecture": "unknown"}},
            {"digest": "x"},
        ]});
        let image = ResolvedImage {
            digest: "x".into(),
            platforms: platforms(&index),
        };
        assert_eq!(image.platforms.len(), 1);
        assert_eq!(image.runs_on_fly(), Some(false));
        let unknown = ResolvedImage {
            digest: "x".into(),
            platforms: Vec::new(),
        };
        assert_eq!(unknown.runs_on_fly(), None);
    }
}
