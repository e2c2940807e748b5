//! Image registries (Docker's API, version 2): from a tag to a digest and its platforms.
//!
//! Fly.io's own registry is the configured base URL and takes the token as a password. Any
//! other is asked anonymously, by HTTPS only and only on the public Internet, since its name
//! comes from a user. Content is believed only if its hash is right. Sources: fly-api.md J; the
//! OCI distribution specification.

use http::header::{LOCATION, WWW_AUTHENTICATE};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use url::Url;

use super::call::{Auth, Endpoint, Reply, encode};
use super::client::Client;
use super::error::{Class, Result};
use super::image::{ImageReference, is_digest};
use super::public_address::may_be_public;
use super::token::Surface::Registry;

/// What a registry knows about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Digest of what the reference names: an index or a single image.
    pub digest: String,
    /// Platforms it can run on; empty when the registry does not tell.
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

/// Kinds of manifests that are understood.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Redirects of a blob that are followed.
const REDIRECTS: usize = 3;

const MANIFEST: Endpoint = Endpoint::read(Registry, "GET /v2/{repository}/manifests/{reference}")
    .expects(&[401])
    .list();
const BLOB: Endpoint = Endpoint::read(Registry, "GET /v2/{repository}/blobs/{digest}")
    .expects(&[301, 302, 303, 307, 308, 401]);
const TOKEN: Endpoint = Endpoint::read(Registry, "GET /token");

/// A registry, and how we show who we are.
struct Access<'c> {
    client: &'c Client,
    base: Url,
    /// Ours or the operator's choice, not a user's.
    trusted: bool,
    auth: Auth,
}

impl Client {
    /// Asks the registry what a reference names. `None`: there is no such image.
    pub async fn resolve_image(&self, image: &ImageReference) -> Result<Option<ResolvedImage>> {
        let mut access = match self.access(image) {
            Ok(access) => access,
            Err(reason) => return Err(self.call(&TOKEN, &[]).refused(Class::Invalid, &reason)),
        };
        let found = access
            .get(&MANIFEST, image, "manifests", image.wanted())
            .await;
        let Some(reply) = super::answer::optional(found)? else {
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

    fn access(&self, image: &ImageReference) -> std::result::Result<Access<'_>, String> {
        let shared = &self.shared;
        if image.is_fly() {
            let auth = Auth::Value(basic("x", self.token.password().expose_secret()));
            let base = shared.bases.of(Registry).clone();
            return Ok(Access {
                client: self,
                base,
                trusted: true,
                auth,
            });
        }
        let (base, trusted) = match shared.registries.get(&image.domain) {
            Some(base) => (base.clone(), true),
            None => {
                let base = Url::parse(&format!("https://{}/", image.host()))
                    .map_err(|source| source.to_string())?;
                (base, false)
            }
        };
        if !trusted && !base.host().is_some_and(|host| may_be_public(&host)) {
            return Err(format!(
                "registry {} is not on the public Internet",
                image.domain
            ));
        }
        Ok(Access {
            client: self,
            base,
            trusted,
            auth: Auth::None,
        })
    }
}

impl Access<'_> {
    /// One request; when the registry wants a token first, gets it and asks again.
    async fn get(
        &mut self,
        endpoint: &'static Endpoint,
        image: &ImageReference,
        kind: &str,
        reference: &str,
    ) -> Result<Reply> {
        let repository: Vec<String> = image.repository.split('/').map(encode).collect();
        let path = format!("/v2/{}/{kind}/{reference}", repository.join("/"));
        let Ok(url) = self.base.join(&path) else {
            return Err(self
                .client
                .call(&TOKEN, &[])
                .refused(Class::Invalid, "no usable address"));
        };
        let reply = self.send(endpoint, &url, &self.auth, image).await?;
        if reply.status != 401 {
            return Ok(reply);
        }
        let challenge = reply
            .headers
            .get(WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok());
        if let Some(challenge) = challenge.and_then(Challenge::parse)
            && let Some(auth) = self.authorize(&challenge, image).await?
        {
            self.auth = auth;
            let again = self.send(endpoint, &url, &self.auth, image).await?;
            if again.status != 401 {
                return Ok(again);
            }
        }
        let call = self.client.call(endpoint, &["-", "-"]);
        Err(if image.is_fly() {
            call.unauthorized(&reply)
        } else {
            let domain = &image.domain;
            let text = format!("{domain} does not give this image to everybody, or has none");
            call.refused(Class::Invalid, &text)
        })
    }

    /// Gets a bearer token. Our own credentials go to the registry's own origin only.
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
        let auth = if own && image.is_fly() {
            self.auth.clone()
        } else {
            Auth::None
        };
        let call = self
            .client
            .call_at(&TOKEN, realm, auth, !(own && self.trusted));
        let answer: Value = call.counted_by(&image.domain).read().await?;
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
        self.client
            .call_at(endpoint, url.clone(), auth.clone(), !self.trusted)
            .counted_by(&image.domain)
            .header("accept", ACCEPT)
            .send()
            .await
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
        let mut reply = self.get(&BLOB, image, "blobs", digest).await?;
        for _ in 0..REDIRECTS {
            if !(300..400).contains(&reply.status) {
                break;
            }
            let to = reply.headers.get(LOCATION).and_then(|to| to.to_str().ok());
            let Some(to) = to.and_then(|to| self.base.join(to).ok()) else {
                break;
            };
            // Storage elsewhere: without credentials, and only on the public Internet.
            let own = self.trusted && to.origin() == self.base.origin();
            let public =
                to.scheme() == "https" && to.host().is_some_and(|host| may_be_public(&host));
            if !(own || public) {
                break;
            }
            let call = self.client.call_at(&BLOB, to, Auth::None, !own);
            reply = call.counted_by(&image.domain).send().await?;
        }
        if format!("sha256:{}", hex(&Sha256::digest(&reply.body))) != digest {
            return Ok(Vec::new());
        }
        let config: Value = reply.json(&BLOB)?;
        Ok(platform(&config).into_iter().collect())
    }
}

/// The platforms of an index; attestations call themselves `unknown`.
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
