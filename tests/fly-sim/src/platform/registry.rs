//! The image registry: Docker's registry API, version 2, read only.
//!
//! Manifests are made from `images.toml`, and every digest is the SHA-256 of what is served under
//! it, as clients check. Repositories of other registries are found by the `Host` header, or when
//! registry.fly.io does not have them; those may be private (`super::private`). Source: OCI distribution and image specifications.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::core::{Core, Shared};
use crate::images::{Image, Reference, Resolved};
use crate::state::Caller;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Fly's own registry.
pub const FLY: &str = "registry.fly.io";
/// Where names without a registry are.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// What the registry serves for one image.
#[derive(Debug)]
pub struct Served {
    config: Vec<u8>,
    manifest: Vec<u8>,
    index: Vec<u8>,
}

fn digest(bytes: &[u8]) -> String {
    format!(
        "sha256:{}",
        data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
    )
}

impl Served {
    fn of(image: &Image, tag: &str) -> Self {
        let env: Vec<String> = image
            .env
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let program = image
            .program
            .as_ref()
            .and_then(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned());
        let layer = digest(format!("{}:{tag}", image.name).as_bytes());
        let config = json!({
            "architecture": image.architecture,
            "os": "linux",
            "config": {
                "Env": env,
                "Entrypoint": program.iter().chain(&image.entrypoint).collect::<Vec<_>>(),
                "Cmd": image.args,
                "Labels": image.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [layer]},
            "history": [{"created_by": format!("{}:{tag}", image.name)}],
        })
        .to_string()
        .into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": layer, "size": 1_048_576}],
        })
        .to_string()
        .into_bytes();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{
                "mediaType": MANIFEST,
                "digest": digest(&manifest),
                "size": manifest.len(),
                "platform": {"architecture": image.architecture, "os": "linux"},
            }],
        })
        .to_string()
        .into_bytes();
        Self {
            config,
            manifest,
            index,
        }
    }
}

/// The digest of an image under a tag: that of its index.
pub fn digest_of(image: &Image, tag: &str) -> String {
    digest(&Served::of(image, tag).index)
}

/// Tags on one page of a list, whatever the client asks for: registries have their own mind too.
const PAGE: usize = 50;

/// Finds an image as a host would pull it: not if it was removed from its registry, nor if it is
/// private elsewhere, since hosts have no credentials.
pub fn resolve(core: &Core, text: &str) -> Option<Resolved> {
    let found = find(core, text)?;
    let name = found.reference.name();
    let private = core.read(|world| {
        let private = world.platform.private_images.get(&name);
        private.is_some_and(|private| !private.public_pull)
    });
    (!private).then_some(found)
}

/// Finds an image as its registry has it.
fn find(core: &Core, text: &str) -> Option<Resolved> {
    let asked = Reference::parse(text)?;
    let moved = core.read(|world| {
        let tags = &world.platform.moved_tags;
        let name = format!("{}:{}", asked.name(), asked.tag);
        tags.get(&name).cloned().filter(|_| asked.digest.is_none())
    });
    let asked_for = format!("{}:{}", asked.name(), asked.tag);
    let found = core
        .options
        .images
        .resolve(moved.as_deref().unwrap_or(text))?;
    let gone = core.read(|world| world.platform.removed_images.contains(&asked_for));
    if gone && asked.digest.is_none() {
        return None;
    }
    let removed = core.read(|world| {
        let name = found.reference.name();
        let removed = &world.platform.removed_images;
        removed.contains(&name)
            || removed.contains(&format!("{name}:{}", found.reference.tag))
            || removed.contains(&found.digest)
    });
    (!removed).then_some(found)
}

/// As GraphQL's `app{image(ref)}` shows it.
pub fn graph(found: &Resolved, text: &str) -> Value {
    json!({
        "__typename": "Image",
        "id": found.digest,
        "digest": found.digest,
        "ref": text,
        "compressedSize": 1_048_576,
        "compressedSizeFull": "1048576",
        "manifest": serde_json::from_slice::<Value>(
            &Served::of(&found.image, &found.reference.tag).index).unwrap_or_default(),
        "config": serde_json::from_slice::<Value>(
            &Served::of(&found.image, &found.reference.tag).config).unwrap_or_default(),
    })
}

/// The routes of the registry.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/open/registry/token", get(super::private::token))
        .route("/v2/", get(version))
        .route("/v2/{*rest}", get(serve))
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": message, "detail": null}]});
    (status, axum::Json(body)).into_response()
}

fn unauthorized() -> Response {
    let mut response = refuse(
        StatusCode::UNAUTHORIZED,
        "UNAUTHORIZED",
        "authentication required",
    );
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"registry.fly.io\""),
    );
    response
}

/// The caller by its bearer token, or by the password of basic authentication.
fn caller(core: &Core, headers: &HeaderMap) -> Caller {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let tokens = match value.split_once(' ') {
        Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => STANDARD
            .decode(encoded.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|pair| {
                pair.split_once(':')
                    .map(|(_, password)| password.to_owned())
            })
            .map(|password| {
                let password = password.trim();
                let bare = password
                    .strip_prefix("FlyV1 ")
                    .or_else(|| password.strip_prefix("Bearer "))
                    .unwrap_or(password);
                bare.split(',').map(|item| item.trim().to_owned()).collect()
            })
            .unwrap_or_default(),
        _ => crate::http::tokens(headers),
    };
    core.caller(&tokens)
}

fn host_of(headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    host.split(':').next().unwrap_or_default().to_owned()
}

/// The registry of a request, when its `Host` names one.
fn registry_of(host: &str) -> Option<&str> {
    match host {
        "docker.io" | "index.docker.io" | DOCKER_HUB => Some(DOCKER_HUB),
        name if name.parse::<std::net::IpAddr>().is_ok() || name == "localhost" => None,
        "" => None,
        name => Some(name),
    }
}

async fn version(State(core): State<Shared>, headers: HeaderMap) -> Response {
    let open = registry_of(&host_of(&headers)).is_some_and(|name| name != FLY);
    if !open && caller(&core, &headers).tokens.is_empty() {
        return unauthorized();
    }
    let mut response = axum::Json(json!({})).into_response();
    response.headers_mut().insert(
        "docker-distribution-api-version",
        HeaderValue::from_static("registry/2.0"),
    );
    response
}

async fn serve(
    State(core): State<Shared>,
    method: Method,
    headers: HeaderMap,
    Path(rest): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let Some((repository, what, name)) = split(&rest) else {
        return refuse(
            StatusCode::NOT_FOUND,
            "UNSUPPORTED",
            "unsupported operation",
        );
    };
    let host = host_of(&headers);
    let fixed = registry_of(&host);
    let has = |registry: &str| {
        let name = format!("{registry}/{repository}");
        core.options
            .images
            .iter()
            .any(|image| Reference::parse(&image.name).is_some_and(|known| known.name() == name))
    };
    // A mirror is asked by its own name, so that the repository says which registry is meant.
    let others = || {
        let names = core.options.images.iter();
        let mut names = names.filter_map(|image| Reference::parse(&image.name));
        names
            .find(|known| known.repository == repository)
            .map(|known| known.registry)
    };
    let registry = match fixed {
        Some(registry) => registry.to_owned(),
        None if has(FLY) => FLY.to_owned(),
        None => others().unwrap_or_else(|| FLY.to_owned()),
    };
    if registry == FLY {
        let caller = caller(&core, &headers);
        if caller.tokens.is_empty() {
            return unauthorized();
        }
        // The repository is the app's; one that does not exist yet is nobody's.
        let app = repository.split('/').next().unwrap_or_default();
        let allowed = core.read(|world| world.apps.get(app).is_none_or(|app| caller.sees(app)));
        if !allowed {
            return refuse(
                StatusCode::FORBIDDEN,
                "DENIED",
                "requested access to the resource is denied",
            );
        }
    }
    let full = format!("{registry}/{repository}");
    if let Some(refusal) = super::private::refusal(&core, &headers, &full, what) {
        return refusal;
    }
    match what {
        "manifests" => manifests(&core, &method, &headers, &full, name),
        "blobs" => blobs(&core, &method, &full, name),
        _ => tags(&core, &full, repository, &query),
    }
}

/// `<repository>/manifests/<reference>`, `<repository>/blobs/<digest>`, `<repository>/tags/list`.
fn split(rest: &str) -> Option<(&str, &str, &str)> {
    let (head, name) = rest.rsplit_once('/')?;
    let (repository, what) = head.rsplit_once('/')?;
    let known = matches!(what, "manifests" | "blobs") || (what == "tags" && name == "list");
    (known && !repository.is_empty()).then_some((repository, what, name))
}

fn content(method: &Method, bytes: Vec<u8>, media_type: &'static str, digest: &str) -> Response {
    let length = bytes.len();
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        Body::from(Bytes::from(bytes))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(value) = HeaderValue::from_str(digest) {
        headers.insert("docker-content-digest", value);
    }
    headers.insert(
        "docker-distribution-api-version",
        HeaderValue::from_static("registry/2.0"),
    );
    response
}

fn unknown_manifest() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "MANIFEST_UNKNOWN",
        "manifest unknown",
    )
}

/// Every image of a repository, with its tag, that can still be pulled.
fn all(core: &Core, full: &str) -> Vec<(String, Image)> {
    let images = core.options.images.iter();
    images
        .filter_map(|image| {
            let parsed = Reference::parse(&image.name)?;
            let tag = image.own_tag()?;
            let text = format!("{full}:{tag}");
            (parsed.name() == full && find(core, &text).is_some()).then(|| (tag, image.clone()))
        })
        .collect()
}

fn manifests(
    core: &Core,
    method: &Method,
    headers: &HeaderMap,
    full: &str,
    name: &str,
) -> Response {
    let text = if name.starts_with("sha256:") {
        format!("{full}@{name}")
    } else {
        format!("{full}:{name}")
    };
    if let Some(found) = find(core, &text) {
        let tag = tag_of(core, full, &found);
        let served = Served::of(&found.image, &tag);
        // A client that knows no index gets the manifest itself, as of old.
        let accepts: Vec<&str> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let accepts = accepts.join(",");
        let only_manifest = accepts.contains("manifest.v")
            && !["index.v1", "manifest.list", "*/*"]
                .iter()
                .any(|kind| accepts.contains(kind));
        if only_manifest && !name.starts_with("sha256:") {
            let digest = digest(&served.manifest);
            return content(method, served.manifest, MANIFEST, &digest);
        }
        return content(method, served.index, INDEX, &found.digest);
    }
    // By the digest of one platform's manifest.
    for (tag, image) in all(core, full) {
        let served = Served::of(&image, &tag);
        if digest(&served.manifest) == name {
            return content(method, served.manifest, MANIFEST, name);
        }
    }
    unknown_manifest()
}

/// The tag of an image found by digest.
fn tag_of(core: &Core, full: &str, found: &Resolved) -> String {
    if !found.reference.tag.is_empty() {
        return found.reference.tag.clone();
    }
    all(core, full)
        .into_iter()
        .find(|(tag, image)| image.digest(tag) == found.digest)
        .map(|(tag, _)| tag)
        .unwrap_or_default()
}

fn blobs(core: &Core, method: &Method, full: &str, name: &str) -> Response {
    for (tag, image) in all(core, full) {
        let served = Served::of(&image, &tag);
        if digest(&served.config) == name {
            return content(method, served.config, CONFIG, name);
        }
    }
    refuse(
        StatusCode::NOT_FOUND,
        "BLOB_UNKNOWN",
        "blob unknown to registry",
    )
}

fn tags(core: &Core, full: &str, repository: &str, query: &BTreeMap<String, String>) -> Response {
    let own = all(core, full).into_iter().map(|(tag, _)| tag);
    let moved: Vec<String> = core.read(|world| {
        let names = world.platform.moved_tags.keys();
        names
            .filter_map(|name| name.strip_prefix(full)?.strip_prefix(':'))
            .map(str::to_owned)
            .collect()
    });
    let there = |tag: &String| find(core, &format!("{full}:{tag}")).is_some();
    let tags: BTreeSet<String> = own.chain(moved).filter(there).collect();
    if tags.is_empty() {
        return refuse(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            "repository name not known to registry",
        );
    }
    let asked = query.get("n").and_then(|n| n.parse().ok());
    let size = asked.unwrap_or(PAGE).min(PAGE);
    let last = query.get("last");
    let mut rest = tags
        .into_iter()
        .filter(|tag| last.is_none_or(|last| tag > last));
    let page: Vec<String> = rest.by_ref().take(size).collect();
    let more = rest.next().is_some();
    let end = page.last().cloned().unwrap_or_default();
    let mut response = axum::Json(json!({"name": repository, "tags": page})).into_response();
    let link = format!("</v2/{repository}/tags/list?last={end}&n={size}>; rel=\"next\"");
    if let (true, Ok(link)) = (more, HeaderValue::from_str(&link)) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
